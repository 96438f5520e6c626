r"""Matrix elements <bra| X^x Z^z |ket> of many Pauli strings at once,

    m_k = sum_s bra[s ^ x_k] (-1)^popcount(s & z_k) ket[s],

with the masks of `kernels`. The number of passes over the states does not grow with the number of strings:

- diagonal strings with at most one bit below `BLOCK_BITS`, or none above: one pass folds bra * ket into its marginal
  over the high bits, and into the sum and first moments of the low bits of every block (the transposes of the tables
  of `PauliKernel`); small Walsh-Hadamard transforms then give all Z and ZZ, and many longer strings;
- single spin flips: one pass, a running scalar product per bit;
- all other strings: one pass over tiles, with the grouping of `PauliKernel`; diagonal ones beyond `MANY_STRINGS` come
  from a single Walsh-Hadamard transform of bra * ket.
"""

import numba
import numpy as np
from numpy.typing import ArrayLike

from .kernel_tables import (
    BLOCK_BITS,
    Float1D,
    Int1D,
    group_strings,
    parity_signs,
    tile_patterns,
    walsh_hadamard,
)
from .simd import (
    FASTMATH,
    TILE,
    TILE_BITS,
    add,
    fma,
    load,
    mul,
    permute_tile,
    splat,
    store,
    total,
    with_parity_sign,
)
from .threads import default_threads, run_blocks

MANY_STRINGS = 64
"""From this number of diagonal strings on, a full Walsh-Hadamard transform is cheaper than summing each."""


def moments(
    n_bits: int, xmasks: ArrayLike, zmasks: ArrayLike, bra: Float1D, ket: Float1D, *, threads: int | None = None
) -> Float1D:
    """<bra| X^x Z^z |ket> for each string.

    Args:
        n_bits: number of spins.
        xmasks, zmasks: integers of shape (K,). Any masks: an odd number of Y is allowed.
        bra, ket: real states of shape (2^n_bits,), not necessarily normalised.
        threads: default one below 21 spins, else what Numba may use.

    Returns:
        The K matrix elements, float64 of shape (K,).
    """
    x, z = np.asarray(xmasks).astype(np.int64), np.asarray(zmasks).astype(np.int64)
    bra, ket = np.ascontiguousarray(bra, dtype=np.float64), np.ascontiguousarray(ket, dtype=np.float64)
    if bra.shape != (1 << n_bits,) or ket.shape != bra.shape:
        raise ValueError(
            f"Arguments `bra` and `ket` must have shape ({1 << n_bits},), but have shapes {bra.shape} and {ket.shape}."
        )
    if not x.shape == z.shape == (x.size,):
        raise ValueError(f"Arguments `xmasks`, `zmasks` must have the same shape (K,), but have {x.shape}, {z.shape}.")
    if np.any((x | z) >> n_bits):
        raise ValueError(f"Arguments `xmasks`, `zmasks` must have no bit beyond n_bits = {n_bits}.")
    if n_bits < TILE_BITS:
        index = np.arange(1 << n_bits)
        return np.array([np.dot(bra[index ^ a], parity_signs(index & b) * ket) for a, b in zip(x, z, strict=True)])

    threads = default_threads(n_bits) if threads is None else threads
    result = np.empty(x.size)
    z_low, z_high = z & ((1 << min(n_bits, BLOCK_BITS)) - 1), z >> min(n_bits, BLOCK_BITS)
    folded = (x == 0) & ((z_high == 0) | (np.bitwise_count(z_low) <= 1))
    transformed = (x == 0) & ~folded
    if transformed.sum() < MANY_STRINGS:
        transformed[:] = False
    flips = (z == 0) & (np.bitwise_count(x) == 1)
    rest = ~(folded | transformed | flips)
    if folded.any():
        result[folded] = _folded_moments(n_bits, z_low[folded], z_high[folded], bra, ket, threads)
    if transformed.any():
        product = bra * ket
        walsh_hadamard(product)
        result[transformed] = product[z[transformed]]
    if flips.any():
        result[flips] = _flip_moments(n_bits, x[flips], bra, ket, threads)
    if rest.any():
        result[rest] = _string_moments(x[rest], z[rest], bra, ket, threads)
    return result


def _folded_moments(n_bits: int, z_low: Int1D, z_high: Int1D, bra: Float1D, ket: Float1D, threads: int) -> Float1D:
    block_bits = min(n_bits, BLOCK_BITS)
    n_blocks = 1 << (n_bits - block_bits)
    parts = min(n_blocks, 64)  # fixed, so that the sum of the marginals does not depend on the number of threads
    marginals = np.zeros((parts, 1 << block_bits))
    firsts = np.empty((n_blocks, block_bits + 1))
    run_blocks(_fold_blocks, parts, threads, bra, ket, marginals, firsts)
    low = marginals.sum(axis=0)
    walsh_hadamard(low)
    columns = np.ascontiguousarray(firsts.T)
    for column in columns:
        walsh_hadamard(column)
    site = np.where(z_low == 0, block_bits, np.bitwise_count(z_low - 1))
    linear = np.bitwise_count(z_low) <= 1
    return np.where(linear, columns[np.where(linear, site, 0), z_high], low[z_low])


def _flip_moments(n_bits: int, x: Int1D, bra: Float1D, ket: Float1D, threads: int) -> Float1D:
    """One slot of eight partial sums per requested bit and block, added up in a fixed order."""
    bits, where = np.unique(x, return_inverse=True)
    parts = min(bra.size // TILE, 64)
    sums = np.zeros((parts, bits.size * 8))
    run_blocks(_flip_blocks, parts, threads, bits, bra, ket, sums)
    return sums.sum(axis=0).reshape(-1, 8).sum(axis=1)[where.ravel()]


def _string_moments(x: Int1D, z: Int1D, bra: Float1D, ket: Float1D, threads: int) -> Float1D:
    order, groups = group_strings(x, z)
    parts = min(bra.size // TILE, 64)
    sums = np.zeros((parts, x.size))
    run_blocks(_string_blocks, parts, threads, groups, tile_patterns(), bra, ket, sums)
    result = np.empty(x.size)
    result[order] = sums.sum(axis=0) * groups.term_sign
    return result


# --- passes over the states -------------------------------------------------------------------------------------------
# Each handles parts first .. last - 1 of `sums`, a part being an equal share of the tiles or blocks.


@numba.njit(cache=True, nogil=True, fastmath=FASTMATH)
def _fold_blocks(first, last, bra, ket, marginals, firsts):  # type: ignore[no-untyped-def]
    """marginals[part] = sum over blocks of bra ket; firsts[block, i] = sum_l bra ket z_i(l), last column the sum."""
    parts, size = marginals.shape
    n_blocks, block_bits = firsts.shape[0], firsts.shape[1] - 1
    share = n_blocks // parts
    tile_sums, lanes = np.empty(size // TILE), np.empty(TILE)
    for part in range(first, last):
        marginal = marginals[part]
        for block in range(part * share, (part + 1) * share):
            s0 = s1 = s2 = s3 = splat(0.0)
            for tile in range(tile_sums.size):
                j = TILE * tile
                k = size * block + j
                q0, q1 = mul(load(bra, k), load(ket, k)), mul(load(bra, k + 8), load(ket, k + 8))
                q2, q3 = mul(load(bra, k + 16), load(ket, k + 16)), mul(load(bra, k + 24), load(ket, k + 24))
                store(marginal, j, add(load(marginal, j), q0))
                store(marginal, j + 8, add(load(marginal, j + 8), q1))
                store(marginal, j + 16, add(load(marginal, j + 16), q2))
                store(marginal, j + 24, add(load(marginal, j + 24), q3))
                s0, s1, s2, s3 = add(s0, q0), add(s1, q1), add(s2, q2), add(s3, q3)
                tile_sums[tile] = total(add(add(q0, q1), add(q2, q3)))
            store(lanes, 0, s0)
            store(lanes, 8, s1)
            store(lanes, 16, s2)
            store(lanes, 24, s3)
            row = firsts[block]
            _fold(lanes, row[:TILE_BITS])
            row[block_bits] = _fold(tile_sums, row[TILE_BITS:block_bits])


@numba.njit(fastmath=FASTMATH)
def _fold(sums, differences):  # type: ignore[no-untyped-def]
    """differences[i] = sum_k sums[k] z_i(k) by halving from the top bit; returns the sum. Destroys `sums`."""
    half = sums.size // 2
    for i in range(differences.size - 1, -1, -1):
        a, b = sums[:half], sums[half : 2 * half]
        difference = 0.0
        for k in range(half):
            difference += a[k] - b[k]
            a[k] += b[k]
        differences[i] = difference
        half //= 2
    return sums[0]


@numba.njit(cache=True, nogil=True, fastmath=FASTMATH)
def _flip_blocks(first, last, masks, bra, ket, sums):  # type: ignore[no-untyped-def]
    """sums[part, 8 i : 8 i + 8] = the eight lanes of sum_s bra[s ^ masks[i]] ket[s]; masks are single bits, rising."""
    share = ket.size // TILE // sums.shape[0]
    inside = 0
    while inside < masks.size and masks[inside] < TILE:
        inside += 1
    for part in range(first, last):
        row = sums[part]
        for tile in range(part * share, (part + 1) * share):
            k = TILE * tile
            x0, x1, x2, x3 = load(ket, k), load(ket, k + 8), load(ket, k + 16), load(ket, k + 24)
            for i in range(inside):
                y0, y1, y2, y3 = load(bra, k), load(bra, k + 8), load(bra, k + 16), load(bra, k + 24)
                y0, y1, y2, y3 = permute_tile(y0, y1, y2, y3, masks[i])
                store(row, 8 * i, fma(x0, y0, fma(x1, y1, fma(x2, y2, fma(x3, y3, load(row, 8 * i))))))
            for i in range(inside, masks.size):
                q = k ^ masks[i]
                s, t = fma(x0, load(bra, q), load(row, 8 * i)), mul(x1, load(bra, q + 8))
                s, t = fma(x2, load(bra, q + 16), s), fma(x3, load(bra, q + 24), t)
                store(row, 8 * i, add(s, t))


@numba.njit(cache=True, nogil=True, fastmath=FASTMATH)
def _string_blocks(first, last, groups, patterns, bra, ket, sums):  # type: ignore[no-untyped-def]
    """sums[part, term] = sum_u bra[u ^ high x] ket[u ^ low x] (-1)^popcount(u & z), see `group_strings`."""
    class_shift, class_offset, group_tile = groups.class_shift, groups.class_offset, groups.group_tile
    group_plain, group_offset = groups.group_plain, groups.group_offset
    term_tile, term_pattern = groups.term_tile, groups.term_pattern
    share = ket.size // TILE // sums.shape[0]
    for part in range(first, last):
        row = sums[part]
        for here in range(part * share, (part + 1) * share):
            k = here << TILE_BITS
            x0, x1, x2, x3 = load(ket, k), load(ket, k + 8), load(ket, k + 16), load(ket, k + 24)
            for i in range(class_shift.size):
                w0, w1, w2, w3 = permute_tile(x0, x1, x2, x3, class_shift[i])
                for group in range(class_offset[i], class_offset[i + 1]):
                    q = (here ^ group_tile[group]) << TILE_BITS
                    y0, y1 = mul(w0, load(bra, q)), mul(w1, load(bra, q + 8))
                    y2, y3 = mul(w2, load(bra, q + 16)), mul(w3, load(bra, q + 24))
                    plain = total(add(add(y0, y1), add(y2, y3)))
                    for term in range(group_offset[group], group_offset[group + 1]):
                        value = plain
                        if not group_plain[group]:
                            p = TILE * term_pattern[term]
                            s = fma(y0, load(patterns, p), mul(y1, load(patterns, p + 8)))
                            value = total(fma(y2, load(patterns, p + 16), fma(y3, load(patterns, p + 24), s)))
                        row[term] += with_parity_sign(value, here & term_tile[term])
