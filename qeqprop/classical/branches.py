"""Is a nudged equilibrium on the branch of the free one?

Equilibria of one branch are joined by a valley. On the straight way from the free state to the nudged one the nudged energy
then falls all along, and on the way back the free energy does. Where one of them rises, a barrier lies between: the nudge has
moved the state into another basin, and a difference of forces is no derivative.
"""

from collections.abc import Callable

import numpy as np

PLACES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
"""Where on the way the slopes are looked at."""
RISE = 0.05
"""Slope in the wrong direction, relative to the largest on the same way, above which it is called a barrier."""

Slope = Callable[[np.ndarray], np.ndarray]


def jumped(free_slope: Slope, nudged_slope: Slope, start: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Whether a barrier lies between a free equilibrium and the nudged one at `start` + `step`, sample by sample.

    Args:
        free_slope, nudged_slope: slopes (batch, n) at states (batch, n), without and with the nudge.
        start: the free equilibria, shape (batch, n). From a start that is not at rest without the nudge (a phase that goes
            on from another nudged one) nothing can be told, and the answer is no.
        step: displacement to the nudged ones.

    Example:
        >>> wells = lambda s: 4 * s * (s**2 - 1)                       # minima at -1 and 1
        >>> tilted = lambda s: wells(s) - 0.2
        >>> jumped(wells, tilted, np.array([[-1.0], [-1.0]]), np.array([[0.026], [2.024]]))
        array([False,  True])
    """

    def along(slope: Slope) -> np.ndarray:
        return np.array([np.sum(slope(start + t * step) * step, axis=1) for t in PLACES])

    def rises(fall: np.ndarray) -> np.ndarray:
        return -fall.min(axis=0) > RISE * np.abs(fall).max(axis=0)

    left, remains = (np.linalg.norm(free_slope(at), axis=1) for at in (start, start + step))
    barrier = rises(-along(nudged_slope)) | rises(along(free_slope))
    return barrier & (left <= RISE * remains)
