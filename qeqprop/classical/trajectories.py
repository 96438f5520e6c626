r"""How a network approaches its nudged equilibrium: in its velocities, the errors that recurrent backpropagation computes.

At the free equilibrium s_0 a small nudge beta C is switched on, and the state follows its gradient flow,
ds/dt = -d(E + beta C)/ds. To first order in beta the velocity obeys dv/dt = -H v from v(0) = -beta dC/ds on, with
H = d2E/ds2 at s_0: up to the factor -beta the equation by which recurrent backpropagation (Almeida 1987; Pineda 1987)
propagates the error e from e(0) = dC/ds. Hence at *every* time

    -v(t) / beta = e(t) ,    d/dt dE/dtheta(s(t)) / beta = -(d2E/dtheta ds) e(t) ,                         (RBP)

and the force change since the start is the gradient, truncated at that time. Source: Scellier and Bengio, "Equivalence of
equilibrium propagation and recurrent backpropagation", Neural Computation 31, 312 (2019), arXiv:1711.08416.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..core.graph import check_count
from ..core.memory import check_memory
from ..core.module import AbstractModule
from ..core.nudge import AbstractNudge
from ..core.precision import jax_float64
from ..core.real import check_positive
from ..core.scheme import Stencil, centered
from ..core.solver import AbstractSolver, Equilibrium, describe, prepare
from ..core.status import EquilibriumError
from ..core.system import Params
from .energy import AbstractPotentialSystem, arrays
from .state_cost import StateTerm
from .time_steps import (
    RUNGE_KUTTA,
    Motion,
    Scene,
    check_moving,
    check_stability,
    motion_of,
    runge_kutta_step,
)


class ErrorProcess(AbstractModule):
    """How an error spreads through a network, and what gradient it leaves behind. The first axis is time.

    Attributes:
        times: shape (n,), from 0 on.
        errors: e(t), the derivative of the loss by the state a time t before its end; shape (n, *state_shape).
        rates: dict like the parameters, shape (n, ...): the gradient that arises per unit of time at t.
        gradient: dict like the parameters, shape (n, ...): all that has arisen until then (of a process in discrete time
            with the step that begins at t); dL/dtheta in the end.
        residual: norm of the slope dE/ds at the free state, which a difference quotient amplifies by 1/beta.

    Example:
        >>> import qeqprop as qp
        >>> well = qp.classical.EnergySystem(lambda p, s, x: p["k"] @ s**2 / 2 - s.sum(), (1,), {"k": (1,)})
        >>> cost = qp.classical.StateCost(lambda s, y: (s[0] - y) ** 2 / 2)
        >>> out = qp.classical.recurrent_backpropagation(well, {"k": [2.0]}, cost, 1.0, dt=0.01, steps=500)
        >>> print(out.errors[[0, 50], 0].round(6), out.gradient["k"][-1].round(5))  # exp(-2t) (0.5 - 1)
        [-0.5      -0.18394] [0.12499]
    """

    times: np.ndarray
    errors: np.ndarray
    rates: Params
    gradient: Params
    residual: float

    def deviation(self, other: "ErrorProcess") -> float:
        """The largest distance of the two at any time: of `errors`, of `rates` or of `gradient`, each in units of the
        largest norm that the other one's has at any time."""
        parts = [(self.errors, other.errors)]
        parts += [(getattr(self, f)[n], getattr(other, f)[n]) for f in ("rates", "gradient") for n in other.rates]
        return max(float(_norms(a - b).max() / max(_norms(b).max(), 1e-300)) for a, b in parts)

    def __repr__(self) -> str:
        names = ", ".join(f"{name} {value.shape[1:]}" for name, value in self.rates.items())
        left = _norms(self.errors)[-1] / max(_norms(self.errors)[0], 1e-300)
        return f"ErrorProcess({len(self.times)} times to {self.times[-1]:g}, error down to {left:.1e}, {names})"


class MovingProblem(NamedTuple):
    """A system at its free equilibrium, and what is to be differentiated there by nudges and time steps."""

    system: AbstractPotentialSystem
    params: Params
    free: Equilibrium
    term: StateTerm
    dt: float
    steps: int

    @property
    def position(self) -> np.ndarray:
        return np.asarray(self.free.state.position)

    @property
    def residual(self) -> float:
        return float(np.linalg.norm(self.system.slope(self.params, self.position)))


def nudged_velocities(
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
    r"""The errors as a network shows them: minus the velocity of its nudged gradient flow, per unit of nudge.

    .. math:: e(t) = -\frac{d}{d\beta} \dot s_\beta(t) , \qquad
              \mathrm{gradient}(t) = \frac{d}{d\beta} \left[ \frac{\partial E}{\partial\theta}(s_\beta(t))
              - \frac{\partial E}{\partial\theta}(s_0) \right]

    with the derivative in beta taken by the stencil, at every time. The state moves by Runge-Kutta steps of fourth order.

    Args:
        system: an `EnergySystem`, or another system with a potential written in JAX.
        params: dict of arrays with the names and shapes of `system.param_shapes`.
        nudge: a `StateCost`.
        target: what it compares with.
        dt: time of a step.
        steps: how many.
        scheme: a real `Stencil`; None takes `centered(1e-4)`.
        solver: of the free equilibrium; None takes `system.default_solver()`.
        inputs: one sample.
        init: an equilibrium to start the free solve from.

    Raises:
        EquilibriumError: no free equilibrium.
        ValueError, TypeError: bad arguments; a `dt` at which the steps blow up, with the limit.

    Example:
        >>> import qeqprop as qp
        >>> well = qp.classical.EnergySystem(lambda p, s, x: p["k"] @ (s**2 + s**4) / 2 - s.sum(), (1,), {"k": (1,)})
        >>> cost = qp.classical.StateCost(lambda s, y: (s[0] - y) ** 2 / 2)
        >>> problem, time = (well, {"k": [2.0]}, cost, 1.0), {"dt": 0.02, "steps": 200}
        >>> seen = qp.classical.nudged_velocities(*problem, **time)
        >>> computed = qp.classical.recurrent_backpropagation(*problem, **time)
        >>> seen.deviation(computed) < 1e-6
        True
    """
    scheme = checked_stencil(scheme)
    problem = moving_problem(
        "`nudged_velocities`", system, params, nudge, target, dt, steps, RUNGE_KUTTA, solver, inputs, init
    )

    def phase(beta: float) -> tuple[np.ndarray, Params, Params]:
        motion, scene = motion_of(problem.system, (problem.term, beta))
        return _observed(motion)(problem.params, problem.position, scene, problem.dt, problem.steps)

    velocities, rates, forces = derivative(scheme, phase)
    gained = {name: value - value[0] for name, value in forces.items()}
    times = problem.dt * np.arange(problem.steps + 1)
    return ErrorProcess(times, -velocities, rates, gained, problem.residual)


def recurrent_backpropagation(
    system: AbstractPotentialSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None = None,
    *,
    dt: float,
    steps: int,
    solver: AbstractSolver | None = None,
    inputs: ArrayLike | None = None,
    init: Equilibrium | None = None,
) -> ErrorProcess:
    r"""The errors as a side network computes them: no nudge, but the Hessian of the energy.

    .. math:: \dot e = -H e , \quad e(0) = \frac{\partial C}{\partial s} , \qquad
              \dot g = -\frac{\partial^2 E}{\partial\theta \partial s} e , \quad g(0) = 0

    by Runge-Kutta steps of fourth order at the free equilibrium; g becomes dL/dtheta. This is what `nudged_velocities`
    is compared with; the arguments are the same.

    Source: L. B. Almeida (1987); F. J. Pineda, Phys. Rev. Lett. 59, 2229 (1987).

    Example:
        >>> import qeqprop as qp
        >>> well = qp.classical.EnergySystem(lambda p, s, x: p["k"] @ (s**2 + s**4) / 2 - s.sum(), (1,), {"k": (1,)})
        >>> cost = qp.classical.StateCost(lambda s, y: (s[0] - y) ** 2 / 2)
        >>> out = qp.classical.recurrent_backpropagation(well, {"k": [2.0]}, cost, 1.0, dt=0.1, steps=100)
        >>> print(out.gradient["k"][-1].round(5), qp.ep_gradient(well, {"k": [2.0]}, cost, 1.0).grad["k"].round(5))
        [0.08123] [0.08123]
    """
    problem = moving_problem(
        "`recurrent_backpropagation`", system, params, nudge, target, dt, steps, RUNGE_KUTTA, solver, inputs, init
    )
    motion, scene = motion_of(problem.system)
    kick = np.zeros(problem.position.shape)
    kick.flat[problem.system.free] = problem.system.term_slope(problem.term, problem.position)
    errors, rates, gained = _propagated(motion)(
        problem.params, problem.position, scene, kick, problem.dt, problem.steps
    )
    times = problem.dt * np.arange(problem.steps + 1)
    return ErrorProcess(times, np.asarray(errors), arrays(rates), arrays(gained), problem.residual)


def moving_problem(
    purpose: str,
    system: Any,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None,
    dt: float,
    steps: int,
    limit: float,
    solver: AbstractSolver | None,
    inputs: ArrayLike | None,
    init: Equilibrium | None = None,
) -> MovingProblem:
    """Check everything, and find the free equilibrium."""
    system, cost = check_moving(system, nudge, purpose)
    dt, steps = check_positive(dt, "dt"), check_count(steps, "steps")
    system, checked, solver, seed = prepare(system, params, solver, inputs)
    if system.batch_size is not None:
        raise ValueError(
            f"Argument `inputs` must be one sample, but has a batch axis of length {system.batch_size}: {purpose} follows one "
            "network in time."
        )
    if np.any(np.isfinite(system.domain.bounds(system.state_shape))):
        raise ValueError(
            f"{purpose} needs coordinates without bounds: where one is pushed against its bound, the network shows no error."
        )
    goal = cost.check_target(target, None)
    numbers = sum(int(np.prod(shape)) for shape in system.param_shapes.values())
    check_memory(64 * (steps + 1) * numbers, f"{purpose} over {steps} steps", "Take fewer steps.")
    free = solver.solve(system, checked, init=init, key=seed)
    if free.status.failed:
        raise EquilibriumError(free.status, f"free phase, {describe(free)}")
    term = cost.term(free.state, goal)
    system.nudged(term, 0.0)  # refuses nodes that are not there
    check_stability(system, checked, free.state.position, dt, limit)
    return MovingProblem(system, checked, free, term, dt, steps)


def checked_stencil(scheme: Stencil | None) -> Stencil:
    """A stencil of real nudges; None is `centered(1e-4)`."""
    scheme = centered(1e-4) if scheme is None else scheme
    if not isinstance(scheme, Stencil) or scheme.is_complex:
        raise TypeError(f"Argument `scheme` must be a real Stencil such as centered(1e-4), but is {scheme!r}.")
    return scheme


def derivative(scheme: Stencil, phase: Callable[[float], Any]) -> Any:
    """d/dbeta at beta = 0 of a tree of arrays, by the stencil."""
    jax = jax_float64()
    total = None
    for strength, weight in zip(scheme.strengths, scheme.weights, strict=True):
        part = jax.tree.map(lambda x, w=weight: w * np.asarray(x), phase(complex(strength).real))
        total = part if total is None else jax.tree.map(np.add, total, part)
    return total


@functools.lru_cache(maxsize=64)
def _observed(motion: Motion) -> Callable[..., Any]:
    """Velocities, rates of the forces, and forces, along a flow."""
    jax = jax_float64()

    def observed(params: Any, position: Any, scene: Scene, dt: Any, steps: int) -> Any:
        def look(at: Any) -> Any:
            velocity = -motion.slope(params, at, scene)
            forces, rates = jax.jvp(lambda s: motion.forces(params, s, scene), (at,), (velocity,))
            return velocity, rates, forces

        return jax.vmap(look)(motion.flow(params, position, scene, dt, steps))

    return jax.jit(observed, static_argnums=4)


@functools.lru_cache(maxsize=64)
def _propagated(motion: Motion) -> Callable[..., Any]:
    """Errors, rates and gradient of recurrent backpropagation."""
    jax = jax_float64()

    def propagated(params: Any, position: Any, scene: Scene, kick: Any, dt: Any, steps: int) -> Any:
        def bent(error: Any) -> Any:
            return jax.jvp(lambda s: motion.slope(params, s, scene), (position,), (error,))[1]

        def rates(error: Any) -> Any:
            return jax.grad(lambda p: -jax.numpy.vdot(motion.slope(p, position, scene), error))(params)

        def advance(at: Any, _: Any) -> Any:
            return runge_kutta_step(lambda u: (-bent(u[0]), rates(u[0])), at, dt), at

        start = (kick, jax.tree.map(jax.numpy.zeros_like, params))
        _, (errors, gained) = jax.lax.scan(advance, start, None, length=steps + 1)
        return errors, jax.vmap(rates)(errors), gained

    return jax.jit(propagated, static_argnums=5)


def _norms(values: np.ndarray) -> np.ndarray:
    """Euclidean norms at every time."""
    return np.linalg.norm(np.asarray(values).reshape(len(values), -1), axis=1)
