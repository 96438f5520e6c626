"""The solver of smooth classical energies: Newton's method, and implicit differentiation as its linear response.

Single systems, also large sparse ones, go through `newton`; batches of potentials and boxes through `relax`, all at once.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeGuard

import equinox as eqx
import numpy as np

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.real import check_fraction
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response, check_start, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params, replaced
from .batch_equilibrium import batch_positions, batch_response, equilibrium_at
from .branches import jumped
from .coordinates import AbstractCoordinateState
from .domains import RealSpace, Torus
from .energy import AbstractEnergySystem, AbstractPotentialSystem
from .factorization import DENSE, factorize, refined_solve, smallest_eigenvalue
from .fire import Fire
from .flat_directions import flatness, overlap
from .landscape import Landscape
from .newton import Minimum, minimize, moved
from .relax import FLAT, relax
from .runaway import explained, ran_away
from .stability import check_nudge, check_nudges
from .state_cost import StateTerm


class Minimizer(AbstractSolver):
    """Minima of smooth energies, to the rounding level of the slope.

    Newton's method, positive-definite by a shift where the curvature is not, with a backtracking line search; saddle
    points are left downhill. Nudged states start from the free one with its factorised curvature. `stats` report the
    steps, the smallest curvature (eigenvalue of the Hessian) and, of nudged states, the displacement from the free one, and
    in a `Box` how many coordinates have reached or left a bound since. A nudged state with a barrier between it and the free
    one has the status `BRANCH_JUMP`.

    Of a free state with flat directions (`DEGENERATE`) `stats["zero_modes"]` are these, shape (n_free, n_flat); nudged states
    and the linear response then report `zero_mode_overlap`, the part of the cost's slope along them: above 0 the response to
    the cost diverges.

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
        self.tolerance = check_fraction(tolerance, "tolerance", 1e-15)
        self.max_iterations = check_count(max_iterations, "max_iterations")
        if fire is not None and not isinstance(fire, Fire):
            raise TypeError(f"Argument `fire` must be a Fire or None, but is {fire!r}.")
        self.fire = fire

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The minimum downhill from `init` (or from the system's start)."""
        if not isinstance(system, AbstractEnergySystem):
            raise wrong_system(system, "Minimizer", "classical energies")
        check_start(init, AbstractCoordinateState, "a classical system")
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
        status = _status(system, params, position, found, stats)
        if init is not None:
            stats["displacement"] = float(np.linalg.norm(_way(system, init.state.position, found.position)))
            step = _way(system, position, found.position).flat[system.free]
            if system.nudges:
                pull = sum(beta * system.term_slope(term, position) for term, beta in system.nudges)
                stats |= _felt(init, np.asarray(pull))
            if system.nudges and _left_branch(system, params, position, step):
                status = max(status, Status.BRANCH_JUMP)
        stats |= explained(system, params, status)
        return Equilibrium(
            state=system._state_at(params, found.position, found.curvature if found.definite else None),
            energy=Estimate.exact(np.asarray(energy)),
            residual=np.asarray(np.linalg.norm(found.slope)),
            gap=None,
            status=status,
            stats=stats,
        )

    def _relaxes(self, system: AbstractEnergySystem) -> TypeGuard[AbstractPotentialSystem]:
        """Whether this system takes the way of batches: dense, and all at once."""
        if not isinstance(system, AbstractPotentialSystem):
            return False
        bounded = np.any(np.isfinite(system.domain.bounds(system.state_shape)))
        return bool(system.batch_size is not None or bounded or self.fire is not None)

    def _relaxed(self, system: Any, params: Params, init: Equilibrium | None) -> Equilibrium:
        """The minima of a batch, or of a single system in a box."""
        land = Landscape.of(system, params)
        start = land.coordinates(land.frame if init is None else batch_positions(system, init))
        return self.relaxed(land, start, init)

    def relaxed(self, land: Landscape, start: np.ndarray, init: Equilibrium | None) -> Equilibrium:
        """The minima of a landscape downhill from free coordinates (batch, n_free): those of `init` if there is one."""
        system = land.system
        if system.nudges and init is not None:
            check_nudges(land, start)
        reach = system.domain.period if isinstance(system.domain, Torus) else 0.0
        fire = None if system.nudges else self.fire
        with np.errstate(over="ignore", invalid="ignore"):  # of an energy without a minimum, which the status will tell
            found = relax(land, start, fire, self.tolerance, self.max_iterations, reach)
        known = equilibrium_at(land, start, found.free, found.converged, init, {"newton_steps": found.newton_steps})
        degenerate = Status.OK if np.all(found.definite) else Status.DEGENERATE
        return replaced(known, status=max(known.status, degenerate))  # type: ignore[no-any-return]

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Implicit differentiation: H ds = -dC/ds, then the change of the forces along ds."""
        assert isinstance(system, AbstractEnergySystem)  # `solve` has refused the others
        if self._relaxes(system):
            land = Landscape.of(system, params)
            return batch_response(land, land.coordinates(batch_positions(system, equilibrium)), term, tolerance)
        position, known = equilibrium.state.position, equilibrium.state.curvature
        matrix = system.curvature(params, position)
        if known is None:
            undefined = {name: np.full(shape, np.nan) for name, shape in system.param_shapes.items()}
            felt = _felt(equilibrium, system.term_slope(term, position)) if isinstance(term, StateTerm) else {}
            return Response(Estimate.exact(undefined), np.asarray(np.inf), Status.DEGENERATE, felt)
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


def _status(
    system: AbstractEnergySystem, params: Params, start: np.ndarray, found: Minimum, stats: dict[str, Any]
) -> Status:
    """What is known of the minimum; where its curvature was factorised, how soft the softest direction is."""
    if not found.converged:
        before, after = (system.value(params, at) for at in (start, found.position))
        if ran_away(start.reshape(1, -1), found.position.reshape(1, -1), before, after)[0]:
            return Status.UNBOUNDED
    if not np.all(np.isfinite([*found.slope, system.value(params, found.position)])):
        return Status.NOT_FINITE
    if not found.converged:
        return Status.UNCONVERGED
    matrix = system.curvature(params, found.position) if found.newton_steps and len(system.free) else None
    if not found.definite:
        stats |= flatness(matrix)
        return Status.DEGENERATE
    if matrix is not None:
        stats["smallest_curvature"] = smallest_eigenvalue(matrix, found.curvature.factor)
        if stats["smallest_curvature"] <= FLAT * np.abs(matrix.diagonal()).max():
            stats |= flatness(matrix)
            return Status.DEGENERATE
    return Status.OK


def _felt(free: Equilibrium, slope: np.ndarray) -> dict[str, Any]:
    """How much of a cost's slope lies along the flat directions of a free state, where it has any."""
    return {"zero_mode_overlap": overlap(slope, free.stats["zero_modes"])} if "zero_modes" in free.stats else {}


def _way(system: AbstractEnergySystem, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The way from a position to another; of phases the shorter way round."""
    domain = system.domain if isinstance(system, AbstractPotentialSystem) else RealSpace()
    return domain.between(start, end)


def _left_branch(system: AbstractEnergySystem, params: Params, start: np.ndarray, step: np.ndarray) -> bool:
    """Whether a barrier lies between the free state and the nudged one."""
    free, origin = replaced(system, nudges=()), start.flat[system.free][None]

    def slope(of: AbstractEnergySystem) -> Any:
        return lambda at: of.slope(params, moved(system, start, at[0] - origin[0]))[None]

    return bool(jumped(slope(free), slope(system), origin, step[None])[0])
