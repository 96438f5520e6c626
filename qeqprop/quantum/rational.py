"""x^(-1/2) as a sum of poles, so that a matrix function needs only shifted linear equations.

The substitution of Hale, Higham and Trefethen (SIAM J. Numer. Anal. 46, 2505 (2008), method 3) in
x^(-1/2) = (2/pi) int_0^inf dt / (x + t^2) makes the trapezoidal rule converge geometrically on a whole interval.
"""

import functools
from typing import NamedTuple

import numpy as np
import scipy.special

MAX_POLES = 60


class Poles(NamedTuple):
    """x^(-1/2) ~ sum_j weights_j / (x + shifts_j) on [low, high].

    `error` bounds the relative error of the sum and that of its derivative on the interval; hence, for every symmetric
    X with this spectrum, ||X^(1/2) r(X) - 1|| <= error.
    """

    shifts: np.ndarray
    weights: np.ndarray
    error: float


@functools.lru_cache(maxsize=256)
def inverse_square_root(low: float, high: float, tolerance: float) -> Poles:
    """The smallest number of poles that reaches `tolerance` on [low, high].

    Example:
        >>> poles = inverse_square_root(0.01, 1.0, 1e-10)
        >>> print(len(poles.shifts), abs(0.5 * np.sum(poles.weights / (0.25 + poles.shifts)) - 1) < 1e-10)
        12 True
    """
    best = _poles(low, high, 4)
    for count in range(5, MAX_POLES + 1):
        if best.error <= tolerance:
            break
        best = min(best, _poles(low, high, count), key=lambda poles: poles.error)
    return best


def _poles(low: float, high: float, count: int) -> Poles:
    m = 1.0 - low / high
    quarter = scipy.special.ellipk(m)
    sn, cn, dn, _ = scipy.special.ellipj((np.arange(count) + 0.5) * quarter / count, m)
    shifts = low * (sn / cn) ** 2
    weights = 2 * quarter * np.sqrt(low) / (np.pi * count) * dn / cn**2
    x = np.geomspace(low, high, 40 * count + 1)[:, None]
    terms = weights / (x + shifts)
    value = np.abs(np.sqrt(x[:, 0]) * terms.sum(axis=1) - 1)
    slope = np.abs(2 * x[:, 0] ** 1.5 * (terms / (x + shifts)).sum(axis=1) - 1)
    return Poles(shifts, weights, float(max(value.max(), slope.max())))
