r"""i d psi/dt = H(t) psi by the Taylor series of psi in time, of order 30, for H(t) = H(0) + s(t) * change.

With eta_k = i^k d^k psi/dt^k the Leibniz rule gives the derivatives at t_0 one from the other,

    eta_(k+1) = (H(t_0) - E) eta_k + change * sum_(j>=1) binomial(k, j) i^j s^(j)(t_0) eta_(k-j) ,
    psi(t_0 + h) = exp(-i E h) sum_k (-i h)^k / k! eta_k .

E = <H(t_0)>: near an eigenstate the series is then short however large the norm of H is, and steps become long. The step
is chosen *after* its series is known, from the last two terms, so no step is ever rejected. The exact evolution keeps
distances, so local errors add up at most linearly: their sum bounds the distance to the exact state, rounding aside.
Nothing makes the scheme unitary: the drift of the norm is an independent measure of the error.

Reference: A. Jorba and M. Zou, Experimental Mathematics 14, 99 (2005), for the step size.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import binom, gammaln

from .hamiltonian_path import HamiltonianPath
from .ramps import RAMPS

ORDER = 30
"""Best for errors of 1e-8 to 1e-13; the intermediate terms are still too small for rounding to matter."""
VECTORS = ORDER + 6
"""Real vectors of the size of the state that an evolution holds at a time."""

NEGLIGIBLE = 1e-17
"""Contributions of a derivative of s, relative to s, that are left out."""

_ORDERS = np.arange(ORDER + 1)
_LOG_FACTORIALS = gammaln(_ORDERS + 1.0)
_BINOMIALS = binom(_ORDERS[:, None], _ORDERS)
_SIGNS = 1.0 - _ORDERS % 4 // 2 * 2  # i^j = _SIGNS[j] * (i if j is odd else 1)
_CONJUGATE_SIGNS = _SIGNS * (1.0 - _ORDERS % 2 * 2)


class Trajectory(NamedTuple):
    """Where an evolution led to.

    Attributes:
        vectors: the states at the times asked for, in real form.
        final: the last state.
        error: bound on its distance to the exact state, by the sum of the local errors.
        norm_drift: ||final|| - ||initial||.
        steps, products: what it took.
    """

    vectors: list[np.ndarray]
    final: np.ndarray
    error: float
    norm_drift: float
    steps: int
    products: int


def follow(
    path: HamiltonianPath, vector: np.ndarray, ramp: str, duration: float, accuracy: float, times: Sequence[float] = ()
) -> Trajectory:
    """Evolve `vector` along the path for `duration`.

    Args:
        path: H(s).
        vector: the initial state in real form.
        ramp: s(t), see `ramps`.
        duration: positive.
        accuracy: bound on the sum of the local errors.
        times: rising, from 0 to `duration`: where the state is wanted.
    """
    series = Series(path, ramp, duration)
    t, error, steps, psi, seen = 0.0, 0.0, 0, vector, []
    pending = list(times)
    while t < duration:
        series.expand(psi, t)
        step, remaining = series.step(accuracy / duration), duration - t
        last = step >= 0.999999 * remaining  # no tiny last step
        step = remaining if last else step
        end = duration if last else t + step
        while pending and pending[0] <= end:
            seen.append(series.state(pending.pop(0) - t))
        psi = series.state(step)
        error += series.error(step)
        steps, t = steps + 1, end
    drift = float(np.linalg.norm(psi) - np.linalg.norm(vector))
    return Trajectory(seen, psi, error, drift, steps, series.products)


class Series:
    """The Taylor series of psi about one time."""

    def __init__(self, path: HamiltonianPath, ramp: str, duration: float):
        self.path, self.duration, self.ramp = path, duration, RAMPS[ramp]
        self.rows = np.empty((ORDER + 1, path.size))
        self.energy, self.products, self._reach = 0.0, 0, duration
        self._log_norms = np.zeros(2)

    def expand(self, psi: np.ndarray, t: float) -> None:
        """eta_0 .. eta_ORDER at time t."""
        slopes = self.ramp(t, self.duration, ORDER)
        here, change, rows = self.path.at(slopes[0]), self.path.change, self.rows
        rows[0] = psi
        self.energy = here.apply_lanczos(psi, psi, 0.0, rows[1])[0] / float(psi @ psi)
        rows[1] -= self.energy * psi
        depth, signed = self._depth(slopes), _SIGNS * slopes
        norms = [float(rows[1] @ rows[1])]
        for k in range(1, ORDER):
            square = here.apply_lanczos(rows[k], rows[k], self.energy, rows[k + 1])[1]
            if lags := min(k, depth):
                weights = (_BINOMIALS[k] * signed)[lags:0:-1]
                kick = alternating_sum(weights, lags % 2, rows[k - lags : k])
                square = change.apply_lanczos(kick, rows[k + 1], -1.0, rows[k + 1])[1]
            norms.append(square)
            self.products += 1 + bool(lags)
        self.products += 1
        with np.errstate(divide="ignore"):  # an eigenstate has no derivatives
            self._log_norms = 0.5 * np.log(norms[-2:])

    def _depth(self, slopes: np.ndarray) -> int:
        """The highest derivative of s that matters within a step like the last one."""
        size = np.abs(slopes) * np.exp(_ORDERS * math.log(self._reach) - _LOG_FACTORIALS)
        return int(np.max(_ORDERS[size > NEGLIGIBLE], initial=0))

    def step(self, rate: float) -> float:
        """The h at which each of the last two terms is rate * h / 2."""
        k = np.array([ORDER - 1, ORDER])
        steps = np.exp((math.log(rate / 2) + _LOG_FACTORIALS[k] - self._log_norms) / (k - 1))
        self._reach = min(float(steps.min()), self.duration)
        return self._reach

    def error(self, h: float) -> float:
        """The last two terms: what is left out is less than that."""
        k = np.array([ORDER - 1, ORDER])
        return float(np.exp(k * math.log(h) - _LOG_FACTORIALS[k] + self._log_norms).sum())

    def state(self, h: float) -> np.ndarray:
        """psi(t_0 + h)."""
        sizes = np.exp(_ORDERS * math.log(h) - _LOG_FACTORIALS) if h else (_ORDERS == 0).astype(float)
        return turned(alternating_sum(_CONJUGATE_SIGNS * sizes, 0, self.rows), np.exp(-1j * self.energy * h))


def alternating_sum(weights: np.ndarray, odd: int, rows: np.ndarray) -> np.ndarray:
    """sum_m weights[m] * rows[m] with a factor i at every second row, from the first (`odd` = 1) or the second on."""
    real, imaginary = weights[odd::2] @ rows[odd::2], weights[1 - odd :: 2] @ rows[1 - odd :: 2]
    half = rows.shape[1] // 2
    real[:half] -= imaginary[half:]
    real[half:] += imaginary[:half]
    return real


def turned(vector: np.ndarray, phase: complex) -> np.ndarray:
    """phase * vector, of a state in real form."""
    u, v = vector.reshape(2, -1)
    return np.concatenate([phase.real * u - phase.imag * v, phase.real * v + phase.imag * u])
