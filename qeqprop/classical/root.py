"""Newton's method for roots that need not be minima: each step is halved until the norm of the force falls."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from ..core.status import Status

HALVINGS = 30
ROUNDING = 1e2
"""Multiple of the tolerance, in units of the forces that cancel, below which what is left counts as rounding."""


class Root(NamedTuple):
    """Where Newton's method ended: the place, the norm of the force there, whether that is rounding, and the steps."""

    place: np.ndarray
    left: float
    converged: bool
    steps: int


def find_root(
    force: Callable[[np.ndarray], np.ndarray],
    jacobian: Callable[[np.ndarray], Any],
    start: np.ndarray,
    tolerance: float,
    most: int,
) -> Root:
    """The root of `force` that at most so many Newton steps from `start` lead to, to rounding.

    Args:
        force: of places of shape (n,).
        jacobian: its derivative, dense or sparse, shape (n, n).
        tolerance: bound on ||force|| relative to || |J| |place| ||, the forces that cancel in it; a hundredfold is accepted
            where no step leads on.

    Example:
        >>> root = find_root(lambda s: s**2 - 4, lambda s: np.diag(2 * s), np.array([1.0]), 1e-15, 50)
        >>> print(root.place, root.converged)
        [2.] True
    """
    place, left = start, force(start)
    for steps in range(most + 1):
        matrix = jacobian(place)
        size, scale = float(np.linalg.norm(left)), float(np.linalg.norm(abs(matrix) @ np.abs(place)))
        rounded = size <= ROUNDING * tolerance * scale
        if not np.isfinite(size) or size == 0 or steps == most:
            break
        step = solved(matrix, left)
        trials = (place - step / 2**halvings for halvings in range(1 if rounded else HALVINGS))
        better = next(((s, f) for s in trials if np.linalg.norm(f := force(s)) < size), None)
        if better is None:
            break
        place, left = better
    return Root(place, size, rounded or size == 0, steps)


def solved(matrix: Any, right: np.ndarray) -> np.ndarray:
    """matrix^-1 right with pivoting; NaN of a singular matrix."""
    try:
        return np.asarray(
            spla.splu(sp.csc_matrix(matrix)).solve(right) if sp.issparse(matrix) else np.linalg.solve(matrix, right)
        )
    except (RuntimeError, np.linalg.LinAlgError):  # exactly singular: no direction leads on
        return np.full(len(right), np.nan)


def displacement(matrix: Any, load: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray, Status]:
    """How far a state at rest moves under a load: matrix^-1 load, its relative residual, and what became of it.

    Refined once. The status is `DEGENERATE` of a singular matrix.
    """
    step = solved(matrix, load)
    step = step + solved(matrix, load - matrix @ step)
    residual = np.linalg.norm(matrix @ step - load) / max(float(np.linalg.norm(load)), 1e-300)
    if not np.isfinite(residual):
        return step, np.asarray(residual), Status.DEGENERATE
    return step, np.asarray(residual), Status.OK if residual <= max(tolerance, 1e-8) else Status.UNCONVERGED
