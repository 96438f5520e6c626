"""Temperatures of classical spins, and what takes the place of a gradient where there is none."""

import numpy as np

from ..core.real import check_real
from ..core.scheme import Stencil


def check_temperature(temperature: float, *, zero: bool = False) -> float:
    """`temperature` as a finite number: positive, or also 0.

    Example:
        >>> check_temperature(0)
        Traceback (most recent call last):
        ...
        ValueError: Argument `temperature` must be positive and finite, but is 0. At T = 0 use SimulatedAnnealing ...
    """
    number = check_real(temperature, "temperature")
    if zero and not 0 <= temperature < np.inf:
        raise ValueError(f"Argument `temperature` must be finite and not negative, but is {temperature}.")
    if not zero and not 0 < temperature < np.inf:
        raise ValueError(
            f"Argument `temperature` must be positive and finite, but is {temperature}. At T = 0 use SimulatedAnnealing "
            "or ExactEnumeration(0)."
        )
    return number


def contrast(beta: float) -> Stencil:
    """[F(beta) - F(0)] / beta with two phases, and no error estimate.

    The scheme of spins at T = 0, whose states move in jumps: truncation has no meaning there (it reads NaN), and the
    contrast is a learning rule, not a gradient.
    """
    return Stencil(f"contrast({beta:g})", strengths=(0.0, beta), weights=(-1 / beta, 1 / beta), order=1)
