"""The solver of smooth classical energies: Newton's method, and implicit differentiation as its linear response.

Single systems, also large sparse ones, go through `newton`; batches of potentials and boxes through `relax`, all at once.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
import scipy.sparse as sp

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response
from ..core.status import Status
from ..core.system import AbstractSystem, Params, replaced
from .branches import jumped
from .domains import Torus
from .energy import AbstractEnergySystem, AbstractPotentialSystem, PointState
from .factorization import DENSE, factorize, refined_solve, smallest_eigenvalue
from .fire import Fire
from .landscape import Landscape
from .newton import Minimum, minimize, moved
from .relax import Relaxed, relax, solve_masked
from .stability import check_nudge, check_nudges

FLAT = 1e-11
"""Smallest over largest curvature below which a minimum counts as flat: a floppy mode, or a symmetry."""


class Minimizer(AbstractSolver):
    """Minima of smooth energies, to the rounding level of the slope.

    Newton's method, positive-definite by a shift where the curvature is not, with a backtracking line search; saddle
    points are left downhill. Nudged states start from the free one with its factorised curvature. `stats` report the
    steps, the smallest curvature (eigenvalue of the Hessian) and, of nudged states, the displacement from the free one, and
    in a `Box` how many coordinates have reached or left a bound since. A nudged state with a barrier between it and the free
    one has the status `BRANCH_JUMP`.

    Batches of a system whose potential is a JAX function are minimised at once, with dense curvatures.

    Args:
        tolerance: bound on ||slope|| relative to || |H| |s| ||, the forces that cancel in it.
        max_iterations: bound on the factorisations of one solve.
        fire: relax free states by FIRE first, of such a system: on rugged landscapes it stays in the valley of the start.

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
    fire: Fire | None

    name: ClassVar[str] = "Minimizer"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, *, tolerance: float = 1e-14, max_iterations: int = 200, fire: Fire | None = None):
        if not 1e-15 <= tolerance < 1:
            raise ValueError(f"Argument `tolerance` must lie between 1e-15 and 1, but is {tolerance}.")
        self.tolerance = float(tolerance)
        self.max_iterations = check_count(max_iterations, "max_iterations")
        if fire is not None and not isinstance(fire, Fire):
            raise TypeError(f"Argument `fire` must be a Fire or None, but is {fire!r}.")
        self.fire = fire

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The minimum downhill from `init` (or from the system's start)."""
        if not isinstance(system, AbstractEnergySystem):
            raise TypeError(f"Minimizer solves classical energies, not {type(system).__name__}.")
        if self._relaxes(system):
            return self._relaxed(system, params, init)
        position, known = system.start(), None
        if init is not None:
            position, known = _carried(system, init.state.position), init.state.curvature
            if known is not None:
                known = system._inherited(known)
                check_nudge(system, position, known)
        found = minimize(
            system, params, system._approached(params, position), known, self.tolerance, self.max_iterations
        )
        energy = system.value(params, found.position)
        stats: dict[str, Any] = {"newton_steps": found.newton_steps, "chord_steps": found.chord_steps}
        status = _status(system, params, found, stats)
        if init is not None:
            stats["displacement"] = float(np.linalg.norm(found.position - init.state.position))
            if system.nudges and _left_branch(system, params, position, found.position):
                status = max(status, Status.BRANCH_JUMP)
        return Equilibrium(
            state=system._state_at(params, found.position, found.curvature if found.definite else None),
            energy=Estimate.exact(np.asarray(energy)),
            residual=np.asarray(np.linalg.norm(found.slope)),
            gap=None,
            status=status,
            stats=stats,
        )

    def _relaxes(self, system: AbstractEnergySystem) -> bool:
        """Whether this system takes the way of batches: dense, and all at once."""
        if not isinstance(system, AbstractPotentialSystem):
            return False
        bounded = np.any(np.isfinite(system.domain.bounds(system.state_shape)))
        return bool(system.batch_size is not None or bounded or self.fire is not None)

    def _relaxed(self, system: Any, params: Params, init: Equilibrium | None) -> Equilibrium:
        """The minima of a batch, or of a single system in a box."""
        land = Landscape.of(system, params)
        start = land.coordinates(land.frame if init is None else _batch(system, init))
        if system.nudges and init is not None:
            check_nudges(land, start)
        reach = system.domain.period if isinstance(system.domain, Torus) else 0.0
        fire = None if system.nudges else self.fire
        found = relax(land, start, fire, self.tolerance, self.max_iterations, reach)
        stats: dict[str, Any] = {"newton_steps": found.newton_steps}
        status = _relaxed_status(found)
        if init is not None:
            step = found.free - start
            stats["displacement"] = float(np.linalg.norm(step))
            stats["bound_changes"] = int(np.sum(found.held != land.free().held(start)))
            if system.nudges and np.any(jumped(land.free().slopes, land.slopes, start, step)):
                status = max(status, Status.BRANCH_JUMP)
        batched, positions = system.batch_size is not None, land.positions(found.free)
        state = PointState(positions if batched else positions[0], batched=batched)
        residual = found.residual if batched else found.residual[0]
        return Equilibrium(state, system.energy(params, state), np.asarray(residual), None, status, stats)

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Implicit differentiation: H ds = -dC/ds, then the change of the forces along ds."""
        assert isinstance(system, AbstractEnergySystem)  # `solve` has refused the others
        if self._relaxes(system):
            return _batch_response(system, params, equilibrium, term, tolerance)
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
        """Dense potentials all samples at once; others one at a time."""
        return isinstance(system, AbstractPotentialSystem) and len(system.free) <= DENSE

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
    matrix = system.curvature(params, found.position) if found.newton_steps and len(system.free) else None
    if not found.definite:
        stats |= _flatness(matrix)
        return Status.DEGENERATE
    if matrix is not None:
        stats["smallest_curvature"] = smallest_eigenvalue(matrix, found.curvature.factor)
        if stats["smallest_curvature"] <= FLAT * np.abs(matrix.diagonal()).max():
            stats |= _flatness(matrix)
            return Status.DEGENERATE
    return Status.OK


def _flatness(matrix: Any) -> dict[str, Any]:
    """How many directions of a minimum are flat, in words for the error."""
    if matrix is None or matrix.shape[0] > DENSE:
        return {}
    softness = np.linalg.eigvalsh(matrix.toarray() if sp.issparse(matrix) else matrix)
    count = int(np.sum(np.abs(softness) <= 10 * FLAT * max(np.abs(softness).max(), 1e-300)))
    return {
        "flat_directions": count,
        "advice": f"{count} of {len(softness)} directions of the minimum are flat: floppy modes of a network, or a symmetry. "
        "Pin nodes, add springs or an on-site stiffness; fix a phase.",
    } if count else {}  # fmt: skip


def _left_branch(system: AbstractEnergySystem, params: Params, start: np.ndarray, end: np.ndarray) -> bool:
    """Whether a barrier lies between the free state and the nudged one."""
    free, origin = replaced(system, nudges=()), start.flat[system.free][None]

    def slope(of: AbstractEnergySystem) -> Any:
        return lambda at: of.slope(params, moved(system, start, at[0] - origin[0]))[None]

    return bool(jumped(slope(free), slope(system), origin, end.flat[system.free][None] - origin)[0])


def _batch(system: AbstractEnergySystem, known: Equilibrium) -> np.ndarray:
    """The positions of an equilibrium, batch axis first."""
    positions = known.state.position if system.batch_size is not None else known.state.position[None]
    expected = (system.batch_size or 1, *system.state_shape)
    if positions.shape != expected:
        raise ValueError(f"Argument `init` must have states of shape {expected}, but has {positions.shape}.")
    return positions


def _relaxed_status(found: Relaxed) -> Status:
    if not np.all(np.isfinite(found.residual)):
        return Status.NOT_FINITE
    if not np.all(found.converged):
        return Status.UNCONVERGED
    return Status.OK if np.all(found.definite) else Status.DEGENERATE


def _batch_response(system: Any, params: Params, known: Equilibrium, term: Any, tolerance: float) -> Response:
    """Implicit differentiation of every sample; coordinates that a bound holds do not move."""
    land = Landscape.of(system, params)
    free, term = land.coordinates(_batch(system, known)), land.of_batch(term)
    curvature, held, load = land.curvatures(free), land.held(free), land.loads(term, free)
    step = solve_masked(curvature, held, load)
    missed = np.where(held, 0.0, load - np.einsum("bij,bj->bi", curvature, step))
    scale = np.maximum(np.linalg.norm(np.where(held, 0.0, load), axis=1), 1e-300)
    residual = np.linalg.norm(missed, axis=1) / scale
    status = Status.OK if np.all(residual <= max(tolerance, 1e-8)) else Status.UNCONVERGED
    change = land.force_changes(free, step)
    single = system.batch_size is None
    grad = {name: value[0] if single else value for name, value in change.items()}
    return Response(Estimate.exact(grad), np.asarray(residual[0] if single else residual), status, {})
