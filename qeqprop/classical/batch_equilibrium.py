"""What is reported of the equilibria of a batch of potentials, whichever solver has found them."""

from typing import Any

import numpy as np

from ..core.solver import Equilibrium, Response, check_start
from ..core.status import Status
from .branches import jumped
from .coordinates import AbstractCoordinateState
from .energy import AbstractPotentialSystem
from .factorization import DENSE
from .landscape import Landscape
from .relax import FLAT, smallest_curvatures, solve_masked
from .runaway import explained, ran_away
from .state_cost import AbstractStateTerm


@np.errstate(over="ignore", invalid="ignore")  # of an energy without a minimum, which the status will tell
def equilibrium_at(
    land: Landscape,
    start: np.ndarray,
    free: np.ndarray,
    converged: np.ndarray,
    init: Equilibrium | None,
    stats: dict[str, Any],
) -> Equilibrium:
    """The equilibrium of a landscape at free coordinates (batch, n_free), with its status.

    Args:
        start: where its search started.
        converged: whether it has ended, sample by sample.
        init: the equilibrium it started from, if there was one: then the displacement from it is reported, and a nudged state
            with a barrier between the two has the status `BRANCH_JUMP`.
        stats: of the search. The smallest curvature of states without nudges is added: a root of the slope that is no
            minimum has the status `DEGENERATE`.
    """
    system, slopes = land.system, land.slopes(free)
    held = land.held(free, slopes)
    residual = np.linalg.norm(np.where(held, 0.0, slopes), axis=1)
    status = Status.OK if np.all(converged) else Status.UNCONVERGED
    if not system.nudges and free.shape[1] <= DENSE and np.all(np.isfinite(residual)):
        softest, largest = smallest_curvatures(land.curvatures(free), held)
        stats["smallest_curvature"] = float(softest.min())
        if status is Status.OK and np.any(softest <= FLAT * largest):
            status = Status.DEGENERATE
    if init is not None:
        step = system.domain.between(start, free)
        stats["displacement"] = float(np.linalg.norm(step))
        stats["bound_changes"] = int(np.sum(held != land.free().held(start)))
        if system.nudges and np.any(jumped(land.free().slopes, land.slopes, start, step)):
            status = max(status, Status.BRANCH_JUMP)
    values = land.values(free)
    finite = np.isfinite(residual) & np.isfinite(values)
    if not np.all(finite):
        status = Status.NOT_FINITE
    if np.any(~(converged & finite) & ran_away(start, free, land.values(start), values)):
        status = Status.UNBOUNDED
    stats |= explained(system, land.params, status)
    return Equilibrium(land.state(free), land.mean(values), land.worst(residual), None, status, stats)


def batch_positions(system: AbstractPotentialSystem, known: Equilibrium) -> np.ndarray:
    """The positions of an equilibrium of the same system, batch axis first.

    Raises:
        ValueError: it is of another system or batch.
    """
    check_start(known, AbstractCoordinateState, "a classical system")
    positions = known.state.position if system.batch_size is not None else known.state.position[None]
    expected = (system.batch_size or 1, *system.state_shape)
    if positions.shape != expected:
        raise ValueError(f"Argument `init` must have states of shape {expected}, but has {positions.shape}.")
    return np.asarray(positions)


def batch_response(land: Landscape, free: np.ndarray, term: AbstractStateTerm, tolerance: float) -> Response:
    """Implicit differentiation of every sample at free coordinates (batch, n_free); those that a bound holds do not move."""
    term = land.of_batch(term)
    curvature, held = land.curvatures(free), land.held(free)

    def solve(right: np.ndarray) -> np.ndarray:
        return solve_masked(curvature, held, right)

    load = term.loads(land.system, land.positions(free), solve)
    step = solve(load[..., None])[..., 0]
    missed = np.where(held, 0.0, load - np.einsum("bij,bj->bi", curvature, step))
    scale = np.maximum(np.linalg.norm(np.where(held, 0.0, load), axis=1), 1e-300)
    residual = np.linalg.norm(missed, axis=1) / scale
    status = Status.OK if np.all(residual <= max(tolerance, 1e-8)) else Status.UNCONVERGED
    if not np.all(np.isfinite(step)):  # a singular curvature
        status = Status.DEGENERATE
    grad = land.mean(land.force_changes(free, step))
    return Response(grad, land.worst(residual), status, {})
