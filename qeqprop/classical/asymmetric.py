"""States at rest of vector fields, and equilibrium propagation through Jacobians that are not symmetric."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.real import check_fraction
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response, check_start, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .coordinates import AbstractCoordinateState
from .root import displacement, find_root
from .vector_field import FieldState, VectorField


class AbstractFixedPoint(AbstractSolver):
    """Newton's method for states at rest, on the branch of the free one where there is a nudge."""

    tolerance: eqx.AbstractVar[float]
    max_iterations: eqx.AbstractVar[int]

    @abc.abstractmethod
    def correction(self, jacobian: np.ndarray) -> np.ndarray:
        """The matrix B of the force B (s - s_0) that a nudged phase has besides; `jacobian` is that of the free state s_0."""

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The state at rest that Newton's method finds from `init`, or from the system's start."""
        net = _checked(system, self.name)
        check_start(init, AbstractCoordinateState, self.name)
        position = net.origin if init is None else np.asarray(init.state.position)
        if position.shape != net.state_shape:
            raise ValueError(f"Argument `init` must have a state of shape {net.state_shape}, but has {position.shape}.")
        anchor = position
        extra = np.zeros((net.size, net.size))
        if net.nudges and init is not None:
            anchor = np.asarray(init.state.origin)
            extra = self.correction(net.jacobian(params, anchor))
        root = find_root(
            lambda at: net.velocity(params, at) + extra @ (at - anchor),
            lambda at: net.nudged_jacobian(params, at) + extra,
            position,
            self.tolerance,
            self.max_iterations,
        )
        position = root.place
        state = FieldState(position, anchor if net.nudges and init is not None else position)
        stats: dict[str, Any] = {"newton_steps": root.steps}
        status = Status.OK if root.converged else Status.UNCONVERGED
        if not np.all(np.isfinite(position)):
            status = Status.NOT_FINITE
        elif root.converged:
            growth = float(np.linalg.eigvals(net.nudged_jacobian(params, position) + extra).real.max())
            stats["growth_rate"] = growth
            if growth >= 0:  # the dynamics would leave this state
                status = Status.DEGENERATE if init is None else Status.BRANCH_JUMP
        if init is not None:
            stats["displacement"] = float(np.linalg.norm(position - init.state.position))
        return Equilibrium(state, net.energy(params, state), np.asarray(root.left), None, status, stats)

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """The displacement per unit of nudge, (J + B) ds = dC/ds, and the change of the forces along it."""
        net = _checked(system, self.name)
        position = np.asarray(equilibrium.state.position)
        jacobian = net.nudged_jacobian(params, position)
        matrix, load = jacobian + self.correction(jacobian), net.term_slope(term, position)
        step, residual, status = displacement(matrix, load, tolerance)
        return Response(Estimate.exact(net.force_change(params, position, step)), residual, status, {})

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """Linear response: one linear system."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free state."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """One sample at a time."""
        return False

    def __repr__(self) -> str:
        return f"{self.name}(tolerance={self.tolerance:g})"


class FixedPoint(AbstractFixedPoint):
    """States at rest of a `VectorField`, nudged as they are.

    With it `ep_gradient` is the rule of Scellier et al. (2018), arXiv:1808.04873: the gradient where the Jacobian is
    symmetric, and the less so the less it is. `stats`: Newton steps, and `growth_rate`, the largest real part of the
    Jacobian's eigenvalues, which is negative where the dynamics comes to rest.

    Args:
        tolerance: bound on ||F|| relative to || |J| |s| ||, the forces that cancel in it.
        max_iterations: bound on the Newton steps.

    Example:
        >>> import jax.numpy as jnp, qeqprop as qp
        >>> net = qp.classical.VectorField(lambda p, s, x: jnp.array([1.0, p["w"] * s[0]]) - s, 2, {"w": ()})
        >>> cost = qp.classical.StateCost(lambda s, y: s[0] ** 2 / 2, nodes=[1])
        >>> solver = qp.classical.FixedPoint()
        >>> print(qp.equilibrate(net, {"w": 2.0}, solver=solver).state.position)
        [1. 2.]
    """

    tolerance: float = eqx.field(static=True)
    max_iterations: int = eqx.field(static=True)

    name: ClassVar[str] = "FixedPoint"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, *, tolerance: float = 1e-14, max_iterations: int = 100):
        self.tolerance, self.max_iterations = _checked_bounds(tolerance, max_iterations)

    def correction(self, jacobian: np.ndarray) -> np.ndarray:
        """None."""
        return np.zeros_like(jacobian)


class AsymEP(AbstractFixedPoint):
    """States at rest of a `VectorField`, nudged with a force that turns the Jacobian J of the free state s_0 into J^T.

    The nudged phase has the force (J^T - J)(s - s_0) besides, twice the antisymmetric part: it vanishes at the free state,
    and lets the nudge spread against the direction of the weights. Equilibrium propagation then gives the gradient of the loss,
    however asymmetric the Jacobian. J^T has the eigenvalues of J: a small nudge leaves the state stable.

    Source: A. E. Scurria, D. Vanden Abeele, B. M. Mognetti and S. Massar, "Equilibrium propagation for non-conservative
    systems", arXiv:2602.03670 (2026).

    Args and `stats` as of `FixedPoint`.

    Example:
        >>> import jax.numpy as jnp, qeqprop as qp
        >>> net = qp.classical.VectorField(lambda p, s, x: jnp.array([p["a"], 2 * s[0]]) - s, 2, {"a": ()})
        >>> cost = qp.classical.StateCost(lambda s, y: s[0] ** 2 / 2, nodes=[1])
        >>> for solver in (qp.classical.AsymEP(), qp.classical.FixedPoint()):  # L = (2 a)^2 / 2
        ...     out = qp.ep_gradient(net, {"a": 1.0}, cost, scheme=qp.centered(1e-3), solver=solver)
        ...     print(out.grad["a"].round(4) + 0.0)
        4.0
        0.0
    """

    tolerance: float = eqx.field(static=True)
    max_iterations: int = eqx.field(static=True)

    name: ClassVar[str] = "AsymEP"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, *, tolerance: float = 1e-14, max_iterations: int = 100):
        self.tolerance, self.max_iterations = _checked_bounds(tolerance, max_iterations)

    def correction(self, jacobian: np.ndarray) -> np.ndarray:
        """J^T - J."""
        return jacobian.T - jacobian


def _checked(system: AbstractSystem, solver: str) -> VectorField:
    if not isinstance(system, VectorField):
        raise wrong_system(system, solver, "a VectorField")
    return system


def _checked_bounds(tolerance: float, max_iterations: int) -> tuple[float, int]:
    return check_fraction(tolerance, "tolerance", 1e-15), check_count(max_iterations, "max_iterations")
