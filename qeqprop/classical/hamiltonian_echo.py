"""Hamiltonian-echo learning: a motion is reversed and nudged on its way back."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.estimate import Estimate
from ..core.real import check_fraction
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .hamiltonian import EchoState, HamiltonianSystem
from .leapfrog import Way, leapfrog


class HamiltonianEcho(AbstractSolver):
    r"""Trajectories of a `HamiltonianSystem`, and their nudged echoes.

    The free phase runs forwards. A nudged phase runs forwards, reverses all momenta, and runs back under the reversed drive
    with kicks of -beta dC/dq_k, where dC/dq_k is the error signal of the forward trajectory. The difference quotient of
    dH/dtheta along the echoes is the gradient of backpropagation through time to the order of the scheme; `LinearResponse` is
    the limit.

    An echo without nudges retraces the way, to rounding. `stats["echo_error"]` is its largest deviation relative to
    the largest coordinate, and the residual its norm: in chaotic motion rounding grows exponentially, the echo is lost, and
    with it the gradient (status `UNCONVERGED`).

    Args:
        tolerance: bound on the echo error.

    Raises (from `solve`):
        ValueError: a kinetic energy that is not an even function of the momentum: its motion is not reversible.

    Example:
        >>> import jax.numpy as jnp, qeqprop as qp
        >>> pendulum = qp.classical.HamiltonianSystem(
        ...     lambda p, q, x: p["g"] * (1 - jnp.cos(q[0])), 1, {"g": ()}, dt=0.1, steps=50, start=[[0.1], [0.2]])
        >>> free = qp.equilibrate(pendulum, {"g": 1.0}, solver=qp.classical.HamiltonianEcho())
        >>> print(free.status, free.stats["echo_error"] < 1e-13)
        ok True
    """

    tolerance: float = eqx.field(static=True)

    name: ClassVar[str] = "HamiltonianEcho"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, *, tolerance: float = 1e-8):
        self.tolerance = check_fraction(tolerance, "tolerance", 1e-15)

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The trajectory from the system's start; with nudges, its echo. `init` is not needed: the start is given."""
        motion = _checked(system)
        way, last = _forward(motion, params)
        _check_even(motion, params, way.momentum)
        retraced, _ = _echo(motion, params, way, last, np.zeros(motion.state_shape))
        missed = np.abs(retraced.position - way.position).max()
        stats: dict[str, Any] = {"echo_error": float(missed / max(np.abs(way.position).max(), 1e-300))}
        residual = np.asarray(np.linalg.norm(retraced.position - way.position))
        echo, impulse = way, motion.origin[1]
        if motion.nudges:
            echo, reverse = _echo(motion, params, way, last, motion.pull(way.position))
            impulse = -reverse
            stats["displacement"] = float(np.linalg.norm(echo.position - way.position))
        state = EchoState(echo.position, echo.momentum, way.position, np.stack([motion.origin[1], impulse]))
        status = Status.OK if stats["echo_error"] <= self.tolerance else Status.UNCONVERGED
        if not np.all(np.isfinite(echo.position)):
            status = Status.NOT_FINITE
        return Equilibrium(state, motion.energy(params, state), residual, None, status, stats)

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """The forces along the echo, differentiated by the nudge at 0."""
        motion = _checked(system)
        if motion.nudges:
            raise ValueError("The linear response is known of a motion without nudges: use a stencil.")
        way, last = _forward(motion, params)
        kicks = motion.nudged(term, 1.0).pull(way.position)
        passes = leapfrog(motion.potential, motion.kinetic)
        change = passes.responds(params, way, last, motion.inputs, kicks, motion.dt)
        grad = {name: np.asarray(value) for name, value in change.items()}
        error = np.asarray(equilibrium.stats["echo_error"])
        return Response(Estimate.exact(grad), error, Status.OK if error <= self.tolerance else Status.UNCONVERGED, {})

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """Linear response: one tangent echo."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free trajectory."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """One drive at a time."""
        return False

    def __repr__(self) -> str:
        return f"HamiltonianEcho(tolerance={self.tolerance:g})"


def _checked(system: AbstractSystem) -> HamiltonianSystem:
    if not isinstance(system, HamiltonianSystem):
        raise wrong_system(system, "HamiltonianEcho", "a HamiltonianSystem")
    return system


def _check_even(motion: HamiltonianSystem, params: Params, momenta: np.ndarray) -> None:
    there, back = (np.array([motion.kinetic(params, sign * p) for p in momenta[:3]]) for sign in (1, -1))
    if not np.allclose(there, back, rtol=1e-10, equal_nan=True):
        raise ValueError(
            f"Argument `kinetic` must be an even function of the momentum, or the motion has no echo, but at p = "
            f"{momenta[0]} it is {there[0]:.6g}, and at -p {back[0]:.6g}."
        )


def _forward(motion: HamiltonianSystem, params: Params) -> tuple[Way, np.ndarray]:
    return _run(motion, params, motion.origin, motion.inputs, np.zeros(motion.state_shape))


def _echo(
    motion: HamiltonianSystem, params: Params, way: Way, last: np.ndarray, kicks: np.ndarray
) -> tuple[Way, np.ndarray]:
    """The way back, in the order of time; and the momentum with which it arrives."""
    drives = None if motion.inputs is None else motion.inputs[::-1]
    turned = np.stack([way.position[-1], -last])
    back, arriving = _run(motion, params, turned, drives, kicks[::-1])
    return Way(back.position[::-1], -back.momentum[::-1]), arriving


def _run(
    motion: HamiltonianSystem, params: Params, start: np.ndarray, drives: np.ndarray | None, kicks: np.ndarray
) -> tuple[Way, np.ndarray]:
    way, last = leapfrog(motion.potential, motion.kinetic).run(params, start, drives, kicks, motion.dt)
    return Way(*map(np.asarray, way)), np.asarray(last)
