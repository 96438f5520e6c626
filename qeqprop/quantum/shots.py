"""Bit strings as an experiment reads them: rotate every site into its basis, then draw from |psi|^2."""

from typing import Any

import numpy as np

from .states import PureState
from .thermal import ThermalState


def n_spins(state: Any) -> int:
    """Number of spins of a state that can be read.

    Raises:
        TypeError: a state without amplitudes or without sites.
    """
    if not isinstance(state, PureState | ThermalState):
        raise TypeError(
            f"Measured reads state vectors, Gibbs states and dense Gaussian states, not a {type(state).__name__}. "
            "For spins use ExactDiagonalization or GibbsState, for large oscillator networks a larger `dense_size`."
        )
    if not state.n_sites:
        raise TypeError("An OperatorSystem has no sites to read in X, Y or Z: build a SpinNetwork.")
    return state.n_sites


def probabilities(state: PureState | ThermalState, basis: str) -> np.ndarray:
    """Of every outcome of a setting, shape (..., 2^n_sites): site 0 is the most significant bit, 0 is spin up.

    Example:
        >>> plus = PureState(1, np.array([1.0, 1.0]) / np.sqrt(2))
        >>> probabilities(plus, "X").round(12), probabilities(plus, "Z").round(12)
        (array([1., 0.]), array([0.5, 0.5]))
    """
    if isinstance(state, ThermalState):
        occupied = state.probabilities > 0
        levels = np.ascontiguousarray(state.vectors[:, occupied].T)
        weights = state.probabilities[occupied] @ np.abs(rotated(levels, basis)) ** 2
    else:
        weights = np.abs(rotated(state.amplitudes, basis)) ** 2
    return weights / weights.sum(axis=-1, keepdims=True)


def rotated(amplitudes: np.ndarray, basis: str) -> np.ndarray:
    """Amplitudes (..., 2^n) in a product basis: one butterfly a site, in place on one copy."""
    out = np.array(amplitudes, dtype=np.complex128 if "Y" in basis else amplitudes.dtype, order="C")
    for site, letter in enumerate(basis):
        if letter in "XY":
            pairs = out.reshape(-1, 2, 1 << (len(basis) - 1 - site))
            up, down = pairs[:, 0], pairs[:, 1]
            if letter == "Y":
                down *= -1j  # <+y| = (<0| - i <1|)/sqrt 2
            difference = up - down
            up += down
            down[...] = difference
    return out / np.sqrt(2.0) ** (basis.count("X") + basis.count("Y"))


def draw(weights: np.ndarray, shots: int, rng: np.random.Generator) -> np.ndarray:
    """Outcomes (..., shots) drawn with probabilities (..., 2^n), as the smallest unsigned integers that hold them."""
    rows = weights.reshape(-1, weights.shape[-1])
    out = np.empty((len(rows), shots), dtype=np.min_scalar_type(rows.shape[1] - 1))
    for row, cumulative in zip(out, np.cumsum(rows, axis=1), strict=True):
        where = np.searchsorted(cumulative, rng.random(shots) * cumulative[-1], side="right")
        row[:] = np.minimum(where, rows.shape[1] - 1)
    return out.reshape(*weights.shape[:-1], shots)
