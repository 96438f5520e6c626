"""Means over shots with their delete-one-block replicas.

Shots are independent, so any partition into blocks will do; a hundred blocks know a standard error to 7 %, and replicas
keep the covariances of everything that was read in the same shots: sums, losses and gradients inherit true errors.
"""

import functools

import numpy as np

BLOCKS = 100


@functools.lru_cache(maxsize=64)
def block_sizes(shots: int) -> np.ndarray:
    """Sizes of at most `BLOCKS` blocks, equal to within one shot.

    Example:
        >>> block_sizes(250)[:4], len(block_sizes(7))
        (array([2, 3, 2, 3]), 7)
    """
    count = min(shots, BLOCKS)
    return np.diff(np.arange(count + 1) * shots // count)


def block_sums(values: np.ndarray) -> np.ndarray:
    """(..., shots) -> sums over the blocks, shape (blocks, ...)."""
    sizes = block_sizes(values.shape[-1])
    kind = np.float64 if values.dtype.kind == "f" else np.int64
    sums = np.add.reduceat(values, np.cumsum(sizes) - sizes, axis=-1, dtype=kind)
    return np.moveaxis(sums, -1, 0)


def leave_one_out(sums: np.ndarray, shots: int) -> np.ndarray:
    """Means of all shots but those of one block, for every block; shape of `sums` (blocks, ...)."""
    sizes = block_sizes(shots).reshape(-1, *[1] * (sums.ndim - 1))
    return (sums.sum(axis=0) - sums) / (shots - sizes)
