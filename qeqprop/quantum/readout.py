r"""Read-out errors: bits that flip after the measurement, and estimators that undo them on average.

A site in state 0 (up) is read as 1 with probability p01, in state 1 (down) as 0 with probability p10. The reading
s = +-1 of a true z = +-1 then has the mean

    E[s | z] = d + c z ,   d = p10 - p01 ,   c = 1 - p01 - p10 ,

so that (s - d)/c has the mean z: the inverse of the confusion matrix, site by site. The product over the sites of a
string is an unbiased estimate of the string. Its variance grows like 1/c^2 for every site.
"""

from typing import Any

import numpy as np

from ..core.system import real_array


def check_readout(error: Any, mitigate: bool) -> np.ndarray | None:
    """Flip probabilities (p01, p10) as an array of shape (1, 2) or (n_sites, 2); None where nothing flips.

    Args:
        error: None, one probability for both, a pair (p01, p10), or an array of pairs, one for each site.
        mitigate: whether the inverse must exist.

    Raises:
        ValueError: not probabilities, or readings that say nothing (p01 + p10 >= 1) and are to be mitigated.

    Example:
        >>> check_readout(0.02, True), check_readout((0.01, 0.03), True)
        (array([[0.02, 0.02]]), array([[0.01, 0.03]]))
    """
    if error is None:
        return None
    rates = real_array([error] * 2 if np.ndim(error) == 0 else error, "readout_error")
    rates = np.atleast_2d(rates)
    if rates.ndim != 2 or rates.shape[1] != 2:
        raise ValueError(
            "Argument `readout_error` must be a probability, a pair (p01, p10) or an array of shape (n_sites, 2), "
            f"but has shape {np.shape(error)}."
        )
    if np.any(rates < 0) or np.any(rates > 1):
        raise ValueError(f"Argument `readout_error` must hold probabilities between 0 and 1, but is {error}.")
    if mitigate and np.any(rates.sum(axis=1) >= 1):
        raise ValueError(
            f"Argument `readout_error` must have p01 + p10 < 1 to be mitigated, but is {error}: such a reading says "
            "nothing. Use `mitigate=False` to see the raw readings."
        )
    return rates


def site_rates(rates: np.ndarray, n_sites: int) -> np.ndarray:
    """The rates of every site, shape (n_sites, 2)."""
    if len(rates) not in (1, n_sites):
        raise ValueError(
            f"Argument `readout_error` must have one pair (p01, p10) for each of the {n_sites} sites, "
            f"but has {len(rates)}."
        )
    return np.broadcast_to(rates, (n_sites, 2))


def flipped(outcomes: np.ndarray, rates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Outcomes (basis indices, site 0 the most significant bit) as they are read."""
    read = outcomes.copy()
    n_sites = len(rates)
    for site, (up, down) in enumerate(rates):
        bit = outcomes.dtype.type(1 << (n_sites - 1 - site))
        wrong = rng.random(outcomes.shape) < np.where(outcomes & bit, down, up)
        read ^= np.where(wrong, bit, outcomes.dtype.type(0))
    return read


def corrected(outcomes: np.ndarray, sites: tuple[int, ...], rates: np.ndarray) -> np.ndarray:
    """The product of (s - d)/c over the sites of a string, shot by shot.

    Example:
        >>> corrected(np.array([0b00, 0b01], dtype=np.uint8), (1,), np.array([[0.0, 0.0], [0.1, 0.1]]))
        array([ 1.25, -1.25])
    """
    values = np.ones(outcomes.shape)
    for site in sites:
        up, down = rates[site]
        shift, contrast = down - up, 1 - up - down
        bit = outcomes.dtype.type(1 << (len(rates) - 1 - site))
        values *= np.where(outcomes & bit, (-1 - shift) / contrast, (1 - shift) / contrast)
    return values
