r"""Matrix-free products with a real Hamiltonian of Pauli strings, up to 26 spins: one pass over the vector.

The strings are turned into tables first, see `kernel_tables`. Each amplitude of the result is written once, and two dot
products come with it.
"""

import numba
import numpy as np
from numpy.typing import ArrayLike

from .kernel_tables import Float1D, check_strings, group_strings, tables_of
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

STREAM_BITS = 11
"""Flips of these bits and above reach outside the first-level cache: their next tile is prefetched."""


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
        self.tables = tables_of(n_bits, x, z, c)
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
