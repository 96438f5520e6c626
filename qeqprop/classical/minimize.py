"""The solver of smooth classical energies: Newton's method, and implicit differentiation as its linear response."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .energy import AbstractEnergySystem
from .factorization import factorize, refined_solve, smallest_eigenvalue
from .newton import Minimum, minimize, moved
from .stability import check_nudge

FLAT = 1e-11
"""Smallest over largest curvature below which a minimum counts as flat: a floppy mode, or a symmetry."""


class Minimizer(AbstractSolver):
    """Minima of smooth energies, to the rounding level of the slope.

    Newton's method, positive-definite by a shift where the curvature is not, with a backtracking line search; saddle
    points are left downhill. Nudged states start from the free one with its factorised curvature. `stats` report the
    steps, the smallest curvature (eigenvalue of the Hessian) and, of nudged states, the displacement from the free one.

    Args:
        tolerance: bound on ||slope|| relative to || |H| |s| ||, the forces that cancel in it.
        max_iterations: bound on the factorisations of one solve.

    Raises (from `solve`):
        ValueError: a nudge that makes the free minimum unstable, with the limits.

    Example:
        >>> import qeqprop as qp
        >>> rod = qp.classical.ElasticNetwork([(0, 1)], [[0.0, 0.0], [1.0, 0.0]], pinned=[0], stiffness=0.5)
        >>> state = qp.equilibrate(rod, {"k": [1.0], "l": [1.3]}, solver=qp.classical.Minimizer()).state
        >>> print(state.position[1].round(6))  # (1.3 + 0.5) / 1.5
        [1.2 0. ]
    """

    tolerance: float = eqx.field(static=True)
    max_iterations: int = eqx.field(static=True)

    name: ClassVar[str] = "Minimizer"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, *, tolerance: float = 1e-14, max_iterations: int = 200):
        if not 1e-15 <= tolerance < 1:
            raise ValueError(f"Argument `tolerance` must lie between 1e-15 and 1, but is {tolerance}.")
        self.tolerance = float(tolerance)
        self.max_iterations = check_count(max_iterations, "max_iterations")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The minimum downhill from `init` (or from the system's start)."""
        if not isinstance(system, AbstractEnergySystem):
            raise TypeError(f"Minimizer solves classical energies, not {type(system).__name__}.")
        position, known = system.start(), None
        if init is not None:
            position, known = _carried(system, init.state.position), init.state.curvature
            if known is not None:
                known = system._inherited(known)
                check_nudge(system, position, known)
        found = minimize(system, params, position, known, self.tolerance, self.max_iterations)
        energy = system.value(params, found.position)
        stats: dict[str, Any] = {"newton_steps": found.newton_steps, "chord_steps": found.chord_steps}
        status = _status(system, params, found, stats)
        if init is not None:
            stats["displacement"] = float(np.linalg.norm(found.position - init.state.position))
        return Equilibrium(
            state=system._state_at(params, found.position, found.curvature if found.definite else None),
            energy=Estimate.exact(np.asarray(energy)),
            residual=np.asarray(np.linalg.norm(found.slope)),
            gap=None,
            status=status,
            stats=stats,
        )

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Implicit differentiation: H ds = -dC/ds, then the change of the forces along ds."""
        assert isinstance(system, AbstractEnergySystem)  # `solve` has refused the others
        position, known = equilibrium.state.position, equilibrium.state.curvature
        matrix = system.curvature(params, position)
        if known is None:
            undefined = {name: np.full(shape, np.nan) for name, shape in system.param_shapes.items()}
            return Response(Estimate.exact(undefined), np.asarray(np.inf), Status.DEGENERATE, {})
        factor = known.factor
        load = term.load(system, position, lambda b: refined_solve(matrix, b, factor, tolerance)[0])
        step, residual = refined_solve(matrix, load, factor, tolerance)
        if residual > tolerance:  # the factor is of a point too far away
            factor = factorize(matrix)
            load = term.load(system, position, factor.solve) if factor.definite else load
            step, residual = refined_solve(matrix, load, factor, tolerance)
        status = Status.OK if residual <= max(tolerance, 1e-8) else Status.UNCONVERGED
        return Response(Estimate.exact(system.force_change(params, position, step)), np.asarray(residual), status, {})

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """Linear response: it is implicit differentiation, and costs one triangular solve."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free state, whose factor serves the nudged ones."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """One sample at a time."""
        return False

    def __repr__(self) -> str:
        return f"Minimizer(tolerance={self.tolerance:g})"


def _carried(system: AbstractEnergySystem, position: np.ndarray) -> np.ndarray:
    """The free coordinates of `position`; the driven ones as the system has them now."""
    if position.shape != system.state_shape:
        raise ValueError(f"Argument `init` must have a state of shape {system.state_shape}, but has {position.shape}.")
    start = system.start()
    return moved(system, start, (position - start).flat[system.free])


def _status(system: AbstractEnergySystem, params: Params, found: Minimum, stats: dict[str, Any]) -> Status:
    """What is known of the minimum; where its curvature was factorised, how soft the softest direction is."""
    if not np.all(np.isfinite(found.slope)):
        return Status.NOT_FINITE
    if not found.converged:
        return Status.UNCONVERGED
    if not found.definite:
        return Status.DEGENERATE
    if found.newton_steps and len(system.free):
        matrix = system.curvature(params, found.position)
        stats["smallest_curvature"] = smallest_eigenvalue(matrix, found.curvature.factor)
        if stats["smallest_curvature"] <= FLAT * np.abs(matrix.diagonal()).max():
            return Status.DEGENERATE
    return Status.OK
