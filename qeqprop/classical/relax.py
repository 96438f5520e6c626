"""Minima of many states at once: FIRE where that is asked for, then Newton's method with dense curvatures.

Newton steps go along |H|^-1, which leaves saddle points downhill; a line search keeps every sample's energy falling. A
coordinate that its slope pushes against a bound is left out of the step.
"""

from typing import NamedTuple

import numpy as np

from .fire import Fire
from .landscape import Landscape

STALLS = 3
"""Newton steps in a row without a lower energy or half the slope in any sample after which the rest is rounding."""
ROUNDING = 1e3
"""A sample that ended so is converged within this many tolerances."""
FLAT = 1e-11
"""Smallest over largest curvature below which a minimum counts as flat: a floppy mode, or a symmetry."""
KICK = 1e-3
"""How far a state is moved along the softest mode of a saddle point on which it sits exactly."""


class Relaxed(NamedTuple):
    """Where a batch ended; arrays have the batch axis first.

    Attributes:
        free: the free coordinates.
        residual: norm of the slope, without what bounds hold.
        converged: whether the slope is at rounding.
        definite: whether the curvature of the coordinates that no bound holds is positive definite: whether it is a minimum.
        held: which coordinates a bound holds.
        newton_steps: of the whole batch.
    """

    free: np.ndarray
    residual: np.ndarray
    converged: np.ndarray
    definite: np.ndarray
    held: np.ndarray
    newton_steps: int


def relax(
    land: Landscape, free: np.ndarray, fire: Fire | None, tolerance: float, max_iterations: int, reach: float
) -> Relaxed:
    """Descend from free coordinates (batch, n).

    Args:
        fire: how far to relax by FIRE first, None for not at all.
        tolerance: bound on the slope relative to the forces that cancel in it.
        max_iterations: bound on the Newton steps.
        reach: size of coordinates to count as such in these forces, where they are smaller.
    """
    free = np.clip(free, land.low, land.high)
    if fire is not None:
        free = fire.relax(land.slopes, free, land.low, land.high)
    best, lowest, stalls, steps = np.full(len(free), np.inf), np.full(len(free), np.inf), 0, 0
    while True:
        slope, curvature = land.slopes(free), land.curvatures(free)
        held = land.held(free, slope)
        slope = np.where(held, 0.0, slope)
        size = np.linalg.norm(slope, axis=1)
        noise = _noise(land, free, curvature, reach)
        definite, saddle = _signs(_masked(curvature, held))
        value = land.values(free)
        advanced = (size < 0.5 * best) | (value < lowest - 1e-13 * np.abs(value))
        stalls = 0 if np.any(advanced & (size > tolerance * noise)) or np.any(saddle) else stalls + 1
        best, lowest = np.minimum(best, size), np.minimum(lowest, value)
        done = ~saddle & (size <= tolerance * noise)
        if np.all(done) or stalls > STALLS or steps == max_iterations or not np.all(np.isfinite(size)):
            return Relaxed(free, size, size <= ROUNDING * tolerance * noise, definite, held, steps)
        free = _step(land, free, value, slope, curvature, held, definite, done)
        steps += 1


def solve_masked(curvature: np.ndarray, held: np.ndarray, right: np.ndarray) -> np.ndarray:
    """curvature^-1 right, (batch, n, k), for the coordinates that no bound holds; the held ones stay.

    NaN for samples whose curvature is singular.
    """
    matrices, right = _masked(curvature, held), np.where(held[..., None], 0.0, right)
    try:
        return np.linalg.solve(matrices, right)
    except np.linalg.LinAlgError:  # which does not say of whom
        found, regular = np.full(right.shape, np.nan), np.linalg.slogdet(matrices).sign != 0
        found[regular] = np.linalg.solve(matrices[regular], right[regular])
        return found


def smallest_curvatures(curvature: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest eigenvalue of every sample's curvature, without what bounds hold, and its largest diagonal entry."""
    if not curvature.shape[1]:
        return np.full(len(curvature), np.inf), np.ones(len(curvature))
    largest = np.abs(np.einsum("bii->bi", curvature)).max(axis=1)
    apart = _masked(curvature, held) + np.where(held, largest[:, None], 0.0)[:, :, None] * np.eye(held.shape[1])
    return np.linalg.eigvalsh(apart)[:, 0], largest


def _masked(curvature: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The curvature with the rows and columns of held coordinates those of the identity, in units of the others."""
    if not held.any():
        return curvature
    apart = np.where(held[:, :, None] | held[:, None, :], 0.0, curvature)
    unit = np.abs(apart).max(axis=(1, 2))
    return apart + np.where(held, np.where(unit > 0, unit, 1.0)[:, None], 0.0)[:, :, None] * np.eye(held.shape[1])


def _signs(curvature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which curvatures are positive definite, and which have a negative direction; flat ones are and have neither."""
    if not curvature.shape[1]:
        return np.ones(len(curvature), bool), np.zeros(len(curvature), bool)
    flat = FLAT * np.abs(np.einsum("bii->bi", curvature)).max(axis=1)
    try:
        np.linalg.cholesky(curvature - flat[:, None, None] * np.eye(curvature.shape[1]))
    except np.linalg.LinAlgError:
        softest = np.linalg.eigvalsh(np.where(np.isfinite(curvature), curvature, 0.0))[:, 0]
        return softest > flat, softest < -flat
    return np.ones(len(curvature), bool), np.zeros(len(curvature), bool)


def _noise(land: Landscape, free: np.ndarray, curvature: np.ndarray, reach: float) -> np.ndarray:
    """|| |H| (|s| + |s - start|) ||, the size of the forces that cancel in the slope."""
    away = np.abs(free) + np.abs(free - land.coordinates(land.frame)) + reach
    return np.linalg.norm(np.einsum("bij,bj->bi", np.abs(curvature), away), axis=1)


def _step(
    land: Landscape,
    free: np.ndarray,
    value: np.ndarray,
    slope: np.ndarray,
    curvature: np.ndarray,
    held: np.ndarray,
    definite: np.ndarray,
    done: np.ndarray,
) -> np.ndarray:
    """The first of the steps 1, 1/2, 1/4, ... that lowers a sample's energy enough, or near its minimum halves its slope."""
    size = np.linalg.norm(slope, axis=1)
    direction = _direction(land, free, slope, curvature, held, definite)
    fall = np.sum(slope * direction, axis=1)
    length, moved, waiting = np.ones(len(free)), free.copy(), ~done
    for _ in range(40):
        if not waiting.any():
            break
        trial = np.clip(free + length[:, None] * direction, land.low, land.high)
        ahead = land.slopes(trial)
        ahead_size = np.linalg.norm(np.where(land.held(trial, ahead), 0.0, ahead), axis=1)
        lower = land.values(trial) <= value + 1e-4 * length * np.minimum(fall, 0.0)
        accepted = waiting & (lower | (definite & (ahead_size <= 0.5 * size)))
        moved[accepted] = trial[accepted]
        waiting &= ~accepted
        length = np.where(waiting, 0.5 * length, length)
    return moved


def _direction(
    land: Landscape, free: np.ndarray, slope: np.ndarray, curvature: np.ndarray, held: np.ndarray, definite: np.ndarray
) -> np.ndarray:
    """-|H|^-1 slope among the coordinates that no bound holds; from a saddle point itself, a little along its softest mode.

    A direction without curvature does not say how far. Where all of it vanishes, and along every such direction in a box, the
    step is as long as the coordinates are large: an energy that is linear there ends at a bound.
    """
    direction, size = np.zeros_like(slope), np.linalg.norm(slope, axis=1)
    if definite.any():
        matrices = _masked(curvature[definite], held[definite])
        direction[definite] = -np.linalg.solve(matrices, slope[definite][..., None])[..., 0]
    bounded = bool(np.all(np.isfinite(land.high - land.low)))
    for b in np.flatnonzero(~definite):
        loose = ~held[b]
        softness, modes = np.linalg.eigh(curvature[b][np.ix_(loose, loose)])
        largest, reach = np.abs(softness).max(initial=0.0), max(np.abs(free[b]).max(), 1.0)
        along = modes.T @ slope[b][loose]
        stiffness = np.maximum(np.abs(softness), 1e-3 * largest or size[b] / reach or 1.0)
        if bounded:
            flat = (np.abs(softness) <= FLAT * largest) & (along != 0)
            stiffness[flat] = np.minimum(stiffness[flat], np.abs(along[flat]) / reach)
        direction[b, loose] = -modes @ (along / stiffness)
        if softness[0] < -FLAT * largest and size[b] <= 1e-9 * largest:
            direction[b, loose] += KICK * modes[:, 0]
    return direction
