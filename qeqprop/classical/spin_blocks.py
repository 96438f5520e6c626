"""All configurations of a few spins, block by block: the spins of the high sites are fixed in a block, those of the low ones
run through all their configurations in a table that stays in the processor's cache."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .ising import SpinModel

TABLE_BITS = 14
"""Spins in the table of a block: 128 KiB."""


class Block(NamedTuple):
    """Configurations that share the spins of the high sites.

    Attributes:
        high: their number, bit i set where high site i is down.
        energies: (2^low,); bit i of the index is set where site i is down.
    """

    high: int
    energies: np.ndarray


def blocks(n_sites: int, model: SpinModel) -> Iterator[Block]:
    """All 2^n configurations of a model, its constant left out."""
    low = min(n_sites, TABLE_BITS)
    couplings = np.zeros((n_sites, n_sites))
    for (i, j), coupling in zip(model.pairs, model.couplings, strict=True):
        couplings[min(i, j), max(i, j)] += coupling
    inner = _pair_energies(couplings[:low, :low])
    for high in range(1 << (n_sites - low)):
        spins = 1.0 - 2.0 * (high >> np.arange(n_sites - low) & 1)
        own = -model.fields[low:] @ spins - spins @ couplings[low:, low:] @ spins
        yield Block(high, inner + _field_energies(model.fields[:low] + couplings[:low, low:] @ spins) + own)


def product_sums(
    n_sites: int, model: SpinModel, weights: Callable[[np.ndarray], np.ndarray], masks: np.ndarray
) -> np.ndarray:
    """sum_s weights(E(s)) prod_{i in A} s_i for many sets A of sites.

    Args:
        masks: (k,) integers, bit i set where site i is in A. 0 gives the sum of the weights.
    """
    low = min(n_sites, TABLE_BITS)
    right = low // 2
    low_part, high_part = masks & ((1 << low) - 1), masks >> low
    columns, of_column = np.unique(low_part & ((1 << right) - 1), return_inverse=True)
    rows, of_row = np.unique(low_part >> right, return_inverse=True)
    left_signs, right_signs = parity_signs(rows, low - right), parity_signs(columns, right).T
    total = np.zeros(len(masks))
    for high, energies in blocks(n_sites, model):
        table = left_signs @ weights(energies).reshape(1 << (low - right), 1 << right) @ right_signs
        total += (1 - 2.0 * (np.bitwise_count(high_part & high) & 1)) * table[of_row, of_column]
    return total


def parity_signs(masks: np.ndarray, n_bits: int) -> np.ndarray:
    """(-1)^popcount(mask & s) for all s of so many bits, shape (len(masks), 2^n_bits).

    Example:
        >>> parity_signs(np.array([0, 1, 3]), 2)
        array([[ 1.,  1.,  1.,  1.],
               [ 1., -1.,  1., -1.],
               [ 1., -1., -1.,  1.]])
    """
    return 1 - 2.0 * (np.bitwise_count(masks[:, None] & np.arange(1 << n_bits)) & 1)


def _field_energies(fields: np.ndarray) -> np.ndarray:
    """-sum_i f_i s_i of all configurations: an outer sum of two halves."""
    half = len(fields) // 2
    halves = []
    for part in (fields[half:], fields[:half]):
        table = np.zeros(1)
        for field in part:
            table = np.concatenate([table - field, table + field])
        halves.append(table)
    return np.add.outer(*halves).ravel()


def _pair_energies(couplings: np.ndarray) -> np.ndarray:
    """-sum_{i<j} J_ij s_i s_j of all configurations, from the upper triangle: one site after the other."""
    table = np.zeros(1)
    for site in range(len(couplings)):
        field = -_field_energies(couplings[:site, site])  # site up: -s_site sum_i J_i s_i
        table = np.concatenate([table - field, table + field])
    return table
