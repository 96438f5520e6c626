"""Single numbers that users give: real ones, positive ones, and fractions such as tolerances."""

from typing import Any

import numpy as np


def check_real(value: Any, name: str) -> float:
    """`value` as a float. TypeError: no real number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise TypeError(f"Argument `{name}` must be a real number, but is {value!r}.")
    return float(value)


def check_positive(value: Any, name: str) -> float:
    """`value` as a positive, finite float. TypeError, ValueError: it is none."""
    number = check_real(value, name)
    if not 0 < number < np.inf:
        raise ValueError(f"Argument `{name}` must be positive and finite, but is {value}.")
    return number


def check_fraction(value: Any, name: str, least: float = 0.0) -> float:
    """`value` as a float above 0 and below 1, and not below `least`. TypeError, ValueError: it is none.

    Example:
        >>> check_fraction(2, "tolerance", 1e-15)
        Traceback (most recent call last):
        ...
        ValueError: Argument `tolerance` must lie between 1e-15 and 1, but is 2.
    """
    number = check_real(value, name)
    if not (0 < number < 1 and number >= least):
        raise ValueError(f"Argument `{name}` must lie between {least:g} and 1, but is {value}.")
    return number
