r"""Equilibrium propagation in discrete time: its updates, step by step, are the gradients of backpropagation through time.

A network is iterated, s <- s - dt d(E + beta C)/ds: the primitive function of Ernoult et al. (2019) is
Phi = |s|^2/2 - dt E, and their nudge is beta dt. The free state s_T is reached and stays for K steps more; from it K nudged
steps are made. With L = C(s_T), and theta_t the parameters as the step that ends in s_t uses them,

    -(s_{t+1} - s_t) / (beta dt) = dL/ds_{T-t} ,
    [dE/dtheta(s_{t+1}) - dE/dtheta(s_t)] / beta = dL/dtheta_{T-t} ,     t = 0 ... K-1 ,   beta -> 0        (GDU)

so that K nudged steps give the gradient of K steps of backpropagation through time. Source: Ernoult, Grollier, Querlioz,
Bengio and Scellier, "Updates of equilibrium prop match gradients of backprop through time in an RNN with static input",
NeurIPS 32 (2019), arXiv:1905.13633, Theorem 1.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.nudge import AbstractNudge
from ..core.precision import jax_float64
from ..core.real import check_positive
from ..core.scheme import AbstractScheme, Stencil, centered
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .batch_equilibrium import batch_positions
from .energy import AbstractPotentialSystem, PointState
from .time_steps import EULER, Motion, Reader, Scene, cost_at, motion_of, reader
from .trajectories import ErrorProcess, checked_stencil, derivative, moving_problem


class DiscreteTime(AbstractSolver):
    r"""A network that is iterated for a fixed number of steps, s <- s - dt d(E + beta C)/ds.

    With `ep_gradient` it is equilibrium propagation in discrete time: `nudged_steps` K give the gradient of K steps of
    backpropagation through time, truncated where K is small. A step costs one slope and no Hessian. Every step ends within
    the system's domain, so that a `Box` makes units with hard sigmoids. A whole batch moves at once.

    `stats`: `steps`; of nudged states `relaxed`, the residual in units of the force that the nudge starts with (norms
    over the batch).

    Args:
        dt: time of a step; the iteration converges where dt times the largest curvature is below 2.
        free_steps: from the system's start, or from an equilibrium without nudges.
        nudged_steps: from the free state; None takes `free_steps`.
        tolerance: bound on the slope ||dE/ds|| at which a free state counts as at rest; under a nudge, in units of the force
            that the nudge starts with.
        truncation: bound on what may be left of that force after the nudged steps; None takes `tolerance`. Whoever trains on
            truncated gradients raises it, to 1 or so.

    Example:
        >>> import qeqprop as qp
        >>> well = qp.classical.EnergySystem(lambda p, s, x: p["k"] @ (s**2 + s**4) / 2 - s.sum(), (1,), {"k": (1,)})
        >>> cost = qp.classical.StateCost(lambda s, y: (s[0] - y) ** 2 / 2)
        >>> iterated = qp.classical.DiscreteTime(dt=0.1, free_steps=200)
        >>> print(qp.ep_gradient(well, {"k": [2.0]}, cost, 1.0, solver=iterated).grad["k"].round(5))
        [0.08123]
    """

    dt: float = eqx.field(static=True)
    free_steps: int = eqx.field(static=True)
    nudged_steps: int = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)
    truncation: float = eqx.field(static=True)

    name: ClassVar[str] = "DiscreteTime"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def __init__(
        self,
        *,
        dt: float,
        free_steps: int,
        nudged_steps: int | None = None,
        tolerance: float = 1e-6,
        truncation: float | None = None,
    ):
        self.dt = check_positive(dt, "dt")
        self.free_steps = check_count(free_steps, "free_steps")
        self.nudged_steps = check_count(free_steps if nudged_steps is None else nudged_steps, "nudged_steps")
        self.tolerance = check_positive(tolerance, "tolerance")
        self.truncation = self.tolerance if truncation is None else check_positive(truncation, "truncation")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The state after the steps, from `init` or from the system's start."""
        if not isinstance(system, AbstractPotentialSystem):
            raise wrong_system(system, "DiscreteTime", "potentials written in JAX, e.g. an `EnergySystem`")
        single = system.batch_size is None
        motion, scene = motion_of(system)
        starts = system.starts() if init is None else batch_positions(system, init)
        nudged = init is not None and bool(scene.pulls)
        steps = self.nudged_steps if nudged else self.free_steps
        found = motion.settle(params, starts, scene.lifted() if single else scene, self.dt, steps)
        position, energy, force, residual = (np.asarray(x)[0] if single else np.asarray(x) for x in found)
        stats: dict[str, Any] = {"steps": steps}
        converged = residual <= self.tolerance
        if init is not None and nudged:
            kick = max(float(np.linalg.norm(force)), 1e-300)
            stats["relaxed"] = float(np.linalg.norm(residual)) / kick
            at_rest = np.linalg.norm(init.residual) <= self.tolerance * kick
            converged = np.asarray(at_rest and stats["relaxed"] <= self.truncation)
        status = Status.OK if np.all(converged) else Status.UNCONVERGED
        return Equilibrium(
            state=PointState(position, batched=not single),
            energy=Estimate.exact(energy),
            residual=residual,
            gap=None,
            status=status if np.all(np.isfinite(residual)) else Status.NOT_FINITE,
            stats=stats,
        )

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Refused: it has no Hessian."""
        raise ValueError("DiscreteTime has no linear response: use a stencil such as centered(beta).")

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """Centered, at a nudge between truncation and rounding."""
        return centered(1e-4)

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free state: the steps are counted from it."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """All samples at once."""
        return True

    def __repr__(self) -> str:
        return f"DiscreteTime(dt={self.dt:g}, free_steps={self.free_steps}, nudged_steps={self.nudged_steps})"


def nudged_updates(
    system: AbstractPotentialSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None = None,
    *,
    dt: float,
    steps: int,
    scheme: Stencil | None = None,
    solver: AbstractSolver | None = None,
    inputs: ArrayLike | None = None,
    init: Equilibrium | None = None,
) -> ErrorProcess:
    r"""What the nudged steps of a network change, step by step: the left-hand sides of (GDU).

    `errors[t]` is -(s_{t+1} - s_t) per unit of nudge and time, `rates[t]` the same of the forces dE/dtheta, and
    `gradient[t]` their sum over the steps 0 ... t, times dt: what `ep_gradient` with `DiscreteTime` returns after t + 1
    nudged steps. Arguments as of `nudged_velocities`; the steps are Euler's, `steps` of them.

    Raises:
        EquilibriumError: no free equilibrium.
        ValueError, TypeError: bad arguments; a `dt` at which the steps blow up, with the limit.

    Source: Ernoult et al., arXiv:1905.13633 (2019), Theorem 1.

    Example:
        >>> import qeqprop as qp
        >>> well = qp.classical.EnergySystem(lambda p, s, x: p["k"] @ (s**2 + s**4) / 2 - s.sum(), (1,), {"k": (1,)})
        >>> cost = qp.classical.StateCost(lambda s, y: (s[0] - y) ** 2 / 2)
        >>> problem, time = (well, {"k": [2.0]}, cost, 1.0), {"dt": 0.1, "steps": 20}
        >>> updates = qp.classical.nudged_updates(*problem, **time)
        >>> gradients = qp.classical.backpropagation_through_time(*problem, **time, free_steps=200)
        >>> updates.deviation(gradients) < 1e-7
        True
    """
    scheme = checked_stencil(scheme)
    problem = moving_problem("`nudged_updates`", system, params, nudge, target, dt, steps, EULER, solver, inputs, init)

    def phase(beta: float) -> tuple[np.ndarray, Params]:
        motion, scene = motion_of(problem.system, (problem.term, beta))
        return _walked(motion)(problem.params, problem.position, scene, problem.dt, problem.steps)

    positions, forces = derivative(scheme, phase)
    rates = {name: np.diff(value, axis=0) / problem.dt for name, value in forces.items()}
    gained = {name: value[1:] - value[0] for name, value in forces.items()}
    times = problem.dt * np.arange(problem.steps)
    return ErrorProcess(times, -np.diff(positions, axis=0) / problem.dt, rates, gained, problem.residual)


def backpropagation_through_time(
    system: AbstractPotentialSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None = None,
    *,
    dt: float,
    steps: int,
    free_steps: int,
    inputs: ArrayLike | None = None,
) -> ErrorProcess:
    r"""Reverse-mode differentiation through the last steps of the iteration: the right-hand sides of (GDU).

    The network is iterated `free_steps` times from its start, and JAX differentiates L = C(s_T) through the last `steps` of
    them: `errors[t]` is dL/ds_{T-t}, `rates[t]` is dL/dtheta_{T-t} / dt, and `gradient[t]` the sum of dL/dtheta over the last
    t + 1 steps. Nothing in it is nudged.

    Args:
        free_steps: T, at least `steps`.
        system, params, nudge, target, dt, steps, inputs: as of `nudged_updates`.

    Raises:
        EquilibriumError: the state has not come to rest after `free_steps`.
        ValueError, TypeError: bad arguments.

    Example:
        >>> import qeqprop as qp
        >>> well = qp.classical.EnergySystem(lambda p, s, x: p["k"] @ (s**2 + s**4) / 2 - s.sum(), (1,), {"k": (1,)})
        >>> cost = qp.classical.StateCost(lambda s, y: (s[0] - y) ** 2 / 2)
        >>> problem = (well, {"k": [2.0]}, cost, 1.0)
        >>> out = qp.classical.backpropagation_through_time(*problem, dt=0.1, steps=100, free_steps=200)
        >>> print(out.gradient["k"][[0, 99], 0].round(5))
        [0.03073 0.08123]
    """
    if check_count(free_steps, "free_steps") < check_count(steps, "steps"):
        raise ValueError(f"Argument `free_steps` must be at least steps = {steps}, but is {free_steps}.")
    iterated = DiscreteTime(dt=dt, free_steps=free_steps)
    problem = moving_problem(
        "`backpropagation_through_time`", system, params, nudge, target, dt, steps, EULER, iterated, inputs
    )
    motion, scene = motion_of(problem.system)
    start, *_ = motion.settle(problem.params, problem.system.starts(), scene.lifted(), problem.dt, free_steps - steps)
    by_state, by_params = _backpropagated(motion, reader(problem.term))(
        problem.params, start[0], scene, problem.term.target, problem.dt, steps
    )
    errors = scene.mobile * np.asarray(by_state)[::-1]
    given = {name: np.asarray(value)[::-1] for name, value in by_params.items()}
    gained = {name: np.cumsum(value, axis=0) for name, value in given.items()}
    rates = {name: value / problem.dt for name, value in given.items()}
    return ErrorProcess(problem.dt * np.arange(steps), errors, rates, gained, problem.residual)


@functools.lru_cache(maxsize=64)
def _walked(motion: Motion) -> Callable[..., Any]:
    """Positions and forces along the iteration."""
    jax = jax_float64()

    def walked(params: Any, position: Any, scene: Scene, dt: Any, steps: int) -> Any:
        positions = motion.walk(params, position, scene, dt, steps)
        return positions, jax.vmap(lambda s: motion.forces(params, s, scene))(positions)

    return jax.jit(walked, static_argnums=4)


@functools.lru_cache(maxsize=64)
def _backpropagated(motion: Motion, read: Reader) -> Callable[..., Any]:
    """dL/ds after, and dL/dtheta in, every one of the last steps, in the order in which they are made."""
    jax = jax_float64()

    def loss(shifts: Any, copies: Any, position: Any, scene: Scene, target: Any, dt: Any) -> Any:
        def advance(at: Any, step: Any) -> Any:
            shift, params = step
            return motion.euler(params, at, scene, dt) + shift, None

        last, _ = jax.lax.scan(advance, position, (shifts, copies))
        return cost_at(read, last, target)

    def backpropagated(params: Any, position: Any, scene: Scene, target: Any, dt: Any, steps: int) -> Any:
        copies = jax.tree.map(lambda x: jax.numpy.broadcast_to(x, (steps, *np.shape(x))), params)
        shifts = jax.numpy.zeros((steps, *position.shape))
        return jax.grad(loss, argnums=(0, 1))(shifts, copies, position, scene, target, dt)

    return jax.jit(backpropagated, static_argnums=5)
