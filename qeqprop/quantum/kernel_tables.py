r"""Matrix-free products with a real Hamiltonian of Pauli strings, up to 26 spins.

A string is (x, z, c) with bit masks x, z and a real coefficient c,

    P |s> = c (-1)^popcount(s & z) |s ^ x>,        H = sum_k P_k,

where bit 0 of the basis index s is the least significant one. H is real symmetric if and only if popcount(x & z) is
even for every string (an even number of Y).

Nothing of size (number of strings) x 2^n is stored. With the index split into a block b (high bits) and l (the low
`BLOCK_BITS` bits), a diagonal string belongs to one of three tables,

    D(b, l) = low(l) + fields(b, last) + sum_{i < BLOCK_BITS} fields(b, i) z_i(l),        z_i = +-1,

according to whether it has no high bit, no low bit, or exactly one low bit: all Z and ZZ, and many longer ones. Strings
with two or more low bits and a high one are summed into one stored vector. Off the diagonal, strings are grouped by x;
every group adds its coefficient times one shifted tile (see `simd`) while the sum stays in registers, so the product is
a single pass: each amplitude of the result is written once.
"""

from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .simd import FASTMATH, TILE, TILE_BITS

Float1D = NDArray[np.float64]
Int1D = NDArray[np.int64]

BLOCK_BITS = 11
"""A block of x (16 KiB) and the table `low` share the first-level cache."""


class StringGroups(NamedTuple):
    """Strings sorted by x mask, for loops over tiles. Offsets are as in CSR: entry i spans offset[i]:offset[i + 1].

    Strings with the same five low bits of x form a class (they share one permutation within the tile), those with the
    same x a group (they share one shifted tile), and each string is a term.
    """

    class_shift: Int1D
    class_offset: Int1D
    group_tile: Int1D
    group_plain: NDArray[np.bool_]
    group_offset: Int1D
    term_pattern: Int1D
    term_tile: Int1D
    term_sign: Float1D


class KernelTables(NamedTuple):
    """The compiled Hamiltonian; see the module docstring for `low`, `fields` and `stored` (empty if not needed)."""

    low: Float1D
    fields: NDArray[np.float64]
    stored: Float1D
    tile_flips: Float1D
    flip_masks: Int1D
    flip_amplitudes: Float1D
    groups: StringGroups
    coefficients: Float1D
    patterns: NDArray[np.float64]


def parity_signs(words: ArrayLike) -> Float1D:
    """(-1)^popcount(word) for each word."""
    return 1.0 - 2.0 * (np.bitwise_count(np.asarray(words, np.int64)) & 1).astype(np.float64)


@lru_cache(maxsize=1)
def tile_patterns() -> Float1D:
    """Signs of the 32 amplitudes of a tile for each of the 32 low parts of a z mask, flattened: entry 32 z + s."""
    index = np.arange(TILE)
    return parity_signs(index[:, None] & index[None, :]).ravel()


def group_strings(xmasks: Int1D, zmasks: Int1D) -> tuple[Int1D, StringGroups]:
    """Sort strings into classes, groups and terms; returns the sorting permutation too.

    Loops run over u = s ^ (low bits of x) instead of s, so that only the accumulated class has to be permuted:
    `term_sign` is the sign (-1)^popcount(x & z & 31) that this relabelling costs.
    """
    low = TILE - 1
    order = np.lexsort((zmasks, xmasks >> TILE_BITS, xmasks & low))
    x, z = xmasks[order], zmasks[order]
    group_first = np.flatnonzero(np.diff(x, prepend=-1))
    shifts = x[group_first] & low
    class_first = np.flatnonzero(np.diff(shifts, prepend=-1))
    plain = np.logical_and.reduceat((z & low) == 0, group_first) if x.size else np.zeros(0, np.bool_)
    return order, StringGroups(
        class_shift=shifts[class_first],
        class_offset=np.append(class_first, group_first.size),
        group_tile=x[group_first] >> TILE_BITS,
        group_plain=plain,
        group_offset=np.append(group_first, x.size),
        term_pattern=z & low,
        term_tile=z >> TILE_BITS,
        term_sign=parity_signs(x & z & low),
    )


@numba.njit(cache=True, nogil=True, fastmath=FASTMATH)
def walsh_hadamard(vector):  # type: ignore[no-untyped-def]
    """In place, vector[s] <- sum_z (-1)^popcount(s & z) vector[z]; the length is a power of two."""
    size = vector.size
    chunk = min(size, 1 << BLOCK_BITS)
    for first in range(0, size, chunk):
        _butterflies(vector[first : first + chunk], 1)
    _butterflies(vector, chunk)


@numba.njit(fastmath=FASTMATH)
def _butterflies(vector, half):  # type: ignore[no-untyped-def]
    while half < vector.size:
        for first in range(0, vector.size, 2 * half):
            a, b = vector[first : first + half], vector[first + half : first + 2 * half]
            for k in range(half):
                a[k], b[k] = a[k] + b[k], a[k] - b[k]
        half *= 2


def check_strings(n_bits: int, xmasks: ArrayLike, zmasks: ArrayLike, coefs: ArrayLike) -> tuple[Int1D, Int1D, Float1D]:
    """Check the strings of a real Hamiltonian and add up repeated ones."""
    x, z, c = np.asarray(xmasks).astype(np.int64), np.asarray(zmasks).astype(np.int64), np.asarray(coefs, np.float64)
    if n_bits < TILE_BITS:
        raise ValueError(f"Argument `n_bits` must be at least {TILE_BITS}, but is {n_bits}: use a dense matrix.")
    if not x.shape == z.shape == c.shape == (x.size,):
        raise ValueError(
            "Arguments `xmasks`, `zmasks`, `coefs` must have the same shape (K,), "
            f"but have shapes {x.shape}, {z.shape}, {c.shape}."
        )
    if np.any((x | z) >> n_bits):
        raise ValueError(f"Arguments `xmasks`, `zmasks` must have no bit beyond n_bits = {n_bits}.")
    if not np.all(np.isfinite(c)):
        raise ValueError(f"Argument `coefs` must be finite, but entry {np.flatnonzero(~np.isfinite(c))[0]} is not.")
    odd = np.flatnonzero(np.bitwise_count(x & z) & 1)
    if odd.size:
        raise ValueError(
            "Every string must have an even number of Y (popcount(xmask & zmask) even) for H to be real symmetric, "
            f"but string {odd[0]} has xmask = {x[odd[0]]}, zmask = {z[odd[0]]}."
        )
    unique, inverse = np.unique(np.stack((x, z)), axis=1, return_inverse=True)
    merged = np.zeros(unique.shape[1])
    np.add.at(merged, inverse.ravel(), c)
    return unique[0], unique[1], merged


def tables_of(n_bits: int, x: Int1D, z: Int1D, c: Float1D) -> KernelTables:
    """The tables of strings that `check_strings` has returned."""
    diagonal = x == 0
    flip = (z == 0) & (np.bitwise_count(x) == 1)
    low, fields, stored = _diagonal_tables(n_bits, z[diagonal], c[diagonal])
    amplitudes = np.zeros(n_bits)
    amplitudes[np.bitwise_count(x[flip] - 1)] = c[flip]
    high = TILE_BITS + np.flatnonzero(amplitudes[TILE_BITS:])
    rest = ~(diagonal | flip)
    order, groups = group_strings(x[rest], z[rest])
    return KernelTables(
        low=low,
        fields=fields,
        stored=stored,
        tile_flips=amplitudes[:TILE_BITS],
        flip_masks=np.left_shift(1, high),
        flip_amplitudes=amplitudes[high],
        groups=groups,
        coefficients=c[rest][order] * groups.term_sign,
        patterns=tile_patterns(),
    )


def _diagonal_tables(n_bits: int, z: Int1D, c: Float1D) -> tuple[Float1D, NDArray[np.float64], Float1D]:
    """The tables of the module docstring: coefficients sorted by z mask, then Walsh-Hadamard transforms."""
    block_bits = min(n_bits, BLOCK_BITS)
    z_low, z_high = z & ((1 << block_bits) - 1), z >> block_bits
    low_only = z_high == 0
    linear = ~low_only & (np.bitwise_count(z_low) <= 1)
    mixed = ~(low_only | linear)

    low = np.zeros(1 << block_bits)
    low[z_low[low_only]] = c[low_only]
    walsh_hadamard(low)

    columns = np.zeros((block_bits + 1, 1 << (n_bits - block_bits)))
    site = np.where(z_low == 0, block_bits, np.bitwise_count(z_low - 1))
    columns[site[linear], z_high[linear]] = c[linear]
    for column in columns:
        walsh_hadamard(column)

    stored = np.zeros(1 << n_bits if mixed.any() else 0)
    if stored.size:
        stored[z[mixed]] = c[mixed]
        walsh_hadamard(stored)
    return low, np.ascontiguousarray(columns.T), stored
