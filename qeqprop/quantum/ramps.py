"""How a control is switched on: s(t) from 0 at t = 0 to 1 at t = T, with all its derivatives.

An excitation of energy D that the ramp leaves behind has the amplitude |int s'(t) exp(i D t) dt| to first order. Partial
integration gives one factor 1/(D T) for every derivative that is continuous at both ends:

    sudden   s = 1                        amplitude ~ 1
    linear   s = t/T                      amplitude ~ 1/(D T)
    smooth   s = (1 - cos(pi t/T)) / 2    amplitude ~ 1/(D T)^2
    quintic  s = x^3 (10 - 15 x + 6 x^2)  amplitude ~ 1/(D T)^3,    x = t/T
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Derivatives = Callable[[float, float, int], np.ndarray]


def sudden(t: float, duration: float, order: int) -> np.ndarray:
    """s = 1 from t = 0 on."""
    values = np.zeros(order + 1)
    values[0] = 1.0
    return values


def linear(t: float, duration: float, order: int) -> np.ndarray:
    """s = t/T."""
    values = np.zeros(order + 1)
    values[:2] = t / duration, 1 / duration
    return values


def smooth(t: float, duration: float, order: int) -> np.ndarray:
    """s = (1 - cos(pi t/T)) / 2."""
    j, rate = np.arange(order + 1), np.pi / duration
    values = -0.5 * rate**j * np.cos(rate * t + j * np.pi / 2)
    values[0] = np.sin(rate * t / 2) ** 2
    return values


def quintic(t: float, duration: float, order: int) -> np.ndarray:
    """s = x^3 (10 - 15 x + 6 x^2), x = t/T: the least polynomial with s' = s'' = 0 at both ends."""
    polynomial = np.polynomial.Polynomial([0.0, 0.0, 0.0, 10.0, -15.0, 6.0])
    values = np.zeros(order + 1)
    for j in range(min(order, 5) + 1):
        values[j] = polynomial(t / duration) / duration**j
        polynomial = polynomial.deriv()
    return values


RAMPS: dict[str, Derivatives] = {"sudden": sudden, "linear": linear, "smooth": smooth, "quintic": quintic}
"""Name -> function of (t, T, order) that returns s, s', ..., s^(order) at time t."""


def check_ramp(ramp: Any, name: str = "ramp", among: tuple[str, ...] = tuple(RAMPS)) -> str:
    """`ramp` as one of the known names."""
    if ramp not in among:
        raise ValueError(f"Argument `{name}` must be one of {', '.join(map(repr, among))}, but is {ramp!r}.")
    return ramp
