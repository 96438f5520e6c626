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

from .simd import (
    FASTMATH,
    TILE,
    TILE_BITS,
    add,
    flip_lanes,
    fma,
    load,
    mul,
    permute_tile,
    prefetch,
    splat,
    store,
    total,
    with_parity_sign,
)
from .threads import default_threads, run_blocks

Float1D = NDArray[np.float64]
Int1D = NDArray[np.int64]

BLOCK_BITS = 11
"""A block of x (16 KiB) and the table `low` share the first-level cache."""

STREAM_BITS = 11
"""Flips of these bits and above reach outside the first-level cache: their next tile is prefetched."""


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


# --- loops over blocks ------------------------------------------------------------------------------------------------


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


@numba.njit(fastmath=FASTMATH)
def _sum_of_fields(fields, constant, sums):  # type: ignore[no-untyped-def]
    """sums[k] = constant + sum_i fields[i] z_i(k) by doubling; z_i(k) = -1 if bit i of k is set."""
    for i in range(fields.size):
        constant += fields[i]
    sums[0] = constant
    for i in range(fields.size):
        half = 1 << i
        source, target, shift = sums[:half], sums[half : 2 * half], 2.0 * fields[i]
        for k in range(half):
            target[k] = source[k] - shift


@numba.njit(forceinline=True, fastmath=FASTMATH)
def _add_lane_flips(x, g0, g1, g2, y):  # type: ignore[no-untyped-def]
    """y + sum_b g_b X_b x over the three bits within a vector."""
    return fma(g0, flip_lanes(x, 1), fma(g1, flip_lanes(x, 2), fma(g2, flip_lanes(x, 4), y)))


@numba.njit(forceinline=True, fastmath=FASTMATH)
def _plain_coefficient(tile, first, last, coefficients, tile_masks):  # type: ignore[no-untyped-def]
    """sum_k c_k (-1)^popcount(s & z_k) where no z_k has a bit inside the tile: one number per tile."""
    c = 0.0
    for term in range(first, last):
        c += with_parity_sign(coefficients[term], tile & tile_masks[term])
    return splat(c)


@numba.njit(forceinline=True, fastmath=FASTMATH)
def _tile_coefficients(tile, first, last, coefficients, tile_masks, low_masks, patterns):  # type: ignore[no-untyped-def]
    """The same sum for any z_k: one number per amplitude of the tile."""
    c0 = c1 = c2 = c3 = splat(0.0)
    for term in range(first, last):
        c = splat(with_parity_sign(coefficients[term], tile & tile_masks[term]))
        p = TILE * low_masks[term]
        c0, c1 = fma(c, load(patterns, p), c0), fma(c, load(patterns, p + 8), c1)
        c2, c3 = fma(c, load(patterns, p + 16), c2), fma(c, load(patterns, p + 24), c3)
    return c0, c1, c2, c3


@numba.njit(cache=True, nogil=True, fastmath=FASTMATH)
def _apply_blocks(first, last, tables, x, previous, beta, out, dots):  # type: ignore[no-untyped-def]
    """out = H x - beta previous on blocks first..last - 1; dots[block] = (<x, out>, <out, out>) of that block.

    `previous` may be `out` (or `x`): a tile is read before it is written.
    """
    low, patterns, coefficients, groups = tables.low, tables.patterns, tables.coefficients, tables.groups
    class_shift, class_offset, group_tile = groups.class_shift, groups.class_offset, groups.group_tile
    group_plain, group_offset = groups.group_plain, groups.group_offset
    term_tile, term_pattern = groups.term_tile, groups.term_pattern
    flip_masks, flip_amplitudes, stored = tables.flip_masks, tables.flip_amplitudes, tables.stored
    size, block_bits = low.size, tables.fields.shape[1] - 1
    tile_scalars, tile_pattern = np.empty(size // TILE), np.empty(TILE)
    g = tables.tile_flips
    g0, g1, g2, g3, g4 = splat(g[0]), splat(g[1]), splat(g[2]), splat(g[3]), splat(g[4])
    minus_beta = splat(-beta)
    for block in range(first, last):
        fields = tables.fields[block]
        _sum_of_fields(fields[:TILE_BITS], 0.0, tile_pattern)
        _sum_of_fields(fields[TILE_BITS:block_bits], fields[block_bits], tile_scalars)
        p0, p1, p2, p3 = load(tile_pattern, 0), load(tile_pattern, 8), load(tile_pattern, 16), load(tile_pattern, 24)
        overlap = norm = splat(0.0)
        for tile in range(tile_scalars.size):
            j = TILE * tile
            k = size * block + j
            x0, x1, x2, x3 = load(x, k), load(x, k + 8), load(x, k + 16), load(x, k + 24)
            d = splat(tile_scalars[tile])
            d0, d1 = add(add(d, p0), load(low, j)), add(add(d, p1), load(low, j + 8))
            d2, d3 = add(add(d, p2), load(low, j + 16)), add(add(d, p3), load(low, j + 24))
            if stored.size > 0:
                d0, d1 = add(d0, load(stored, k)), add(d1, load(stored, k + 8))
                d2, d3 = add(d2, load(stored, k + 16)), add(d3, load(stored, k + 24))
            y0 = fma(minus_beta, load(previous, k), mul(d0, x0))
            y1 = fma(minus_beta, load(previous, k + 8), mul(d1, x1))
            y2 = fma(minus_beta, load(previous, k + 16), mul(d2, x2))
            y3 = fma(minus_beta, load(previous, k + 24), mul(d3, x3))
            y0, y1 = _add_lane_flips(x0, g0, g1, g2, y0), _add_lane_flips(x1, g0, g1, g2, y1)
            y2, y3 = _add_lane_flips(x2, g0, g1, g2, y2), _add_lane_flips(x3, g0, g1, g2, y3)
            y0, y1, y2, y3 = fma(g3, x1, y0), fma(g3, x0, y1), fma(g3, x3, y2), fma(g3, x2, y3)
            y0, y1, y2, y3 = fma(g4, x2, y0), fma(g4, x3, y1), fma(g4, x0, y2), fma(g4, x1, y3)
            for i in range(flip_masks.size):
                mask = flip_masks[i]
                q, c = k ^ mask, splat(flip_amplitudes[i])
                if mask >= 1 << STREAM_BITS:
                    prefetch(x, q + 32)
                    prefetch(x, q + 40)
                    prefetch(x, q + 48)
                    prefetch(x, q + 56)
                y0, y1 = fma(c, load(x, q), y0), fma(c, load(x, q + 8), y1)
                y2, y3 = fma(c, load(x, q + 16), y2), fma(c, load(x, q + 24), y3)
            for i in range(class_shift.size):
                w0 = w1 = w2 = w3 = splat(0.0)
                for group in range(class_offset[i], class_offset[i + 1]):
                    here, t0, t1 = k >> TILE_BITS, group_offset[group], group_offset[group + 1]
                    q = (here ^ group_tile[group]) << TILE_BITS
                    if group_plain[group]:
                        c0 = c1 = c2 = c3 = _plain_coefficient(here, t0, t1, coefficients, term_tile)
                    else:
                        c0, c1, c2, c3 = _tile_coefficients(
                            here, t0, t1, coefficients, term_tile, term_pattern, patterns
                        )
                    w0, w1 = fma(c0, load(x, q), w0), fma(c1, load(x, q + 8), w1)
                    w2, w3 = fma(c2, load(x, q + 16), w2), fma(c3, load(x, q + 24), w3)
                w0, w1, w2, w3 = permute_tile(w0, w1, w2, w3, class_shift[i])
                y0, y1, y2, y3 = add(y0, w0), add(y1, w1), add(y2, w2), add(y3, w3)
            overlap = fma(x0, y0, fma(x1, y1, fma(x2, y2, fma(x3, y3, overlap))))
            norm = fma(y0, y0, fma(y1, y1, fma(y2, y2, fma(y3, y3, norm))))
            store(out, k, y0)
            store(out, k + 8, y1)
            store(out, k + 16, y2)
            store(out, k + 24, y3)
        dots[block, 0], dots[block, 1] = total(overlap), total(norm)


# --- the kernel -------------------------------------------------------------------------------------------------------


class PauliKernel:
    """A real symmetric sum of Pauli strings, compiled for products with state vectors of shape (2^n_bits,).

    Args:
        n_bits: number of spins, at least 5.
        xmasks, zmasks: integers of shape (K,), the masks of the strings; repeated strings are added.
        coefs: real coefficients of shape (K,).
        threads: number of threads; default one below 21 spins, else what Numba may use.

    Attributes: `n_bits`, `dim` = 2^n_bits, `norm_bound` = sum_k |c_k| >= ||H||, `nbytes` of the tables, `threads`, and
    `matvecs`, the number of products so far.
    """

    __slots__ = ("_dots", "dim", "matvecs", "n_bits", "norm_bound", "tables", "threads")

    def __init__(
        self, n_bits: int, xmasks: ArrayLike, zmasks: ArrayLike, coefs: ArrayLike, *, threads: int | None = None
    ) -> None:
        x, z, c = check_strings(n_bits, xmasks, zmasks, coefs)
        self.n_bits, self.dim, self.matvecs = n_bits, 1 << n_bits, 0
        self.threads = default_threads(n_bits) if threads is None else threads
        self.norm_bound = float(np.abs(c).sum())
        self.tables = _compile(n_bits, x, z, c)
        self._dots = np.empty((self.tables.fields.shape[0], 2))

    @property
    def nbytes(self) -> int:
        """Bytes held by the tables."""
        return sum(array.nbytes for array in (*self.tables, *self.tables.groups) if isinstance(array, np.ndarray))

    def apply(self, x: Float1D, out: Float1D) -> Float1D:
        """out = H x; `out` must not be `x`. Returns `out`."""
        self.apply_lanczos(x, x, 0.0, out)
        return out

    def apply_lanczos(self, x: Float1D, previous: Float1D, beta: float, out: Float1D) -> tuple[float, float]:
        """out = H x - beta previous; returns (<x, out>, <out, out>). `previous` may be `out` or `x`."""
        for name, vector in (("x", x), ("previous", previous), ("out", out)):
            self._check_vector(name, vector)
        if out is x:
            raise ValueError("Argument `out` must not be `x`, but is the same array.")
        self.matvecs += 1
        run_blocks(
            _apply_blocks, self._dots.shape[0], self.threads, self.tables, x, previous, float(beta), out, self._dots
        )
        alpha, norm2 = self._dots.sum(axis=0)
        return float(alpha), float(norm2)

    def diagonal(self, out: Float1D) -> Float1D:
        """out[s] = <s|H|s>. Returns `out`."""
        self._check_vector("out", out)
        nothing = np.zeros(0, np.int64)
        diagonal_only = self.tables._replace(
            tile_flips=np.zeros(TILE_BITS),
            flip_masks=nothing,
            flip_amplitudes=np.zeros(0),
            groups=group_strings(nothing, nothing)[1],
        )
        out.fill(1.0)  # without flips a tile of the result depends on the same tile only: in place is safe
        run_blocks(_apply_blocks, self._dots.shape[0], self.threads, diagonal_only, out, out, 0.0, out, self._dots)
        return out

    def _check_vector(self, name: str, vector: Float1D) -> None:
        if vector.shape != (self.dim,) or vector.dtype != np.float64 or not vector.flags.c_contiguous:
            raise ValueError(
                f"Argument `{name}` must be a contiguous float64 array of shape ({self.dim},), "
                f"but is {vector.dtype} of shape {vector.shape}."
            )


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


def _compile(n_bits: int, x: Int1D, z: Int1D, c: Float1D) -> KernelTables:
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
