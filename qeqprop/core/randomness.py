"""Seeds: every phase, sample and perturbation of a stochastic solve draws from a branch of its own.

A seed is a `numpy.random.SeedSequence`. Branches depend on the seed and on their path alone, never on the order of the
work, so that the same seed gives the same numbers to the bit. Solvers that want *common* random numbers in the nudged
phases (so that the noise cancels in the difference) take them from the equilibrium that they start from.
"""

from typing import Any

import numpy as np


def seed_sequence(key: Any) -> np.random.SeedSequence:
    """`key` as a seed: a non-negative integer, a `SeedSequence`, or None for fresh entropy.

    Raises:
        TypeError, ValueError: `key` is something else, e.g. a Generator, which would be different at each use.
    """
    if isinstance(key, np.random.SeedSequence):
        return key
    if key is None:
        return np.random.SeedSequence()
    if isinstance(key, bool) or not isinstance(key, int | np.integer):
        raise TypeError(f"Argument `key` must be an integer seed or a SeedSequence, but is {type(key).__name__}.")
    if key < 0:
        raise ValueError(f"Argument `key` must not be negative, but is {key}.")
    return np.random.SeedSequence(int(key))


def branch(key: np.random.SeedSequence | None, *path: int) -> np.random.SeedSequence | None:
    """An independent seed for the part of the work that `path` names; None of None.

    Example:
        >>> seed = np.random.SeedSequence(7)
        >>> a, b = (np.random.default_rng(branch(seed, 0)).random() for _ in range(2))
        >>> a == b != np.random.default_rng(branch(seed, 1)).random()
        True
    """
    return None if key is None else np.random.SeedSequence(key.entropy, spawn_key=(*key.spawn_key, *path))
