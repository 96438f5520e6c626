"""Compiled heat bath: many replicas of a spin network, side by side in the registers.

Arrays have the layout (block, site, lane): a lane is one chain, and the innermost loops run over the lanes of a block.
Every lane has a generator of its own, xoshiro128+ (Blackman and Vigna, ACM Trans. Math. Softw. 47, 36, 2021), whose four
32-bit words are updated by the whole block at once. Numba widens unsigned 32-bit arithmetic to 64 bits, so that every result
goes through `np.uint32`; the tests compare the stream with one in Python integers.
"""

# mypy: allow-untyped-defs, disable-error-code="var-annotated,call-arg"

from typing import Any

import numba
import numpy as np

LANES = 64
"""Chains side by side."""

OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": True, "error_model": "numpy"}
jit = numba.njit(**OPTIONS)
inline = numba.njit(forceinline=True, **OPTIONS)

LOG2E = np.float32(1.4426950408889634)
LARGEST = np.float32(60.0)  # 2^60 is certain enough for 24 random bits
UNIT = np.float32(2.0**-24)
# 2^f on [0, 1] to 2e-7: interpolation at Chebyshev nodes, with 2^0 = 1 and 2^1 = 2 almost exact
_NODES = 0.5 - 0.5 * np.cos(np.pi * np.arange(7) / 6)
C6, C5, C4, C3, C2, C1, C0 = (np.float32(c) for c in np.polyfit(_NODES, 2.0**_NODES, 6))


@inline
def exp2(x):
    """2^x for |x| <= 120, relative error 3e-7."""
    whole = np.floor(x)
    f = np.float32(x - whole)
    mantissa = C0 + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * (C5 + f * C6)))))
    power = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))
    return np.float32(mantissa * power.view(np.float32))


@inline
def draw(rng, block, lane):
    """24 random bits of a lane as a number in (0, 1)."""
    a, b, c, d = rng[block, 0, lane], rng[block, 1, lane], rng[block, 2, lane], rng[block, 3, lane]
    bits = np.uint32(np.uint32(a + d) >> np.uint32(8))
    c, d, shifted = np.uint32(c ^ a), np.uint32(d ^ b), np.uint32(b << np.uint32(9))
    rng[block, 1, lane], rng[block, 0, lane] = np.uint32(b ^ c), np.uint32(a ^ d)
    rng[block, 2, lane] = np.uint32(c ^ shifted)
    rng[block, 3, lane] = np.uint32(np.uint32(d << np.uint32(11)) | np.uint32(d >> np.uint32(21)))
    return np.float32((np.float32(np.int32(bits)) + np.float32(0.5)) * UNIT)


@inline
def add_neighbours(field, spins, block, site, start, neighbour, coupling):
    """field[lane] += sum_j J_ij s_j, four neighbours at a time."""
    e, end = start[site], start[site + 1]
    while e + 4 <= end:
        i, j, k, m = neighbour[e], neighbour[e + 1], neighbour[e + 2], neighbour[e + 3]
        p, q, r, s = coupling[e], coupling[e + 1], coupling[e + 2], coupling[e + 3]
        for lane in range(LANES):
            field[lane] += (
                p * spins[block, i, lane]
                + q * spins[block, j, lane]
                + r * spins[block, k, lane]
                + s * spins[block, m, lane]
            )
        e += 4
    while e < end:
        j, p = neighbour[e], coupling[e]
        for lane in range(LANES):
            field[lane] += p * spins[block, j, lane]
        e += 1


@jit
def sweep(spins, fields, start, neighbour, coupling, inverse, rng):
    """Heat-bath sweeps in place: each spin is drawn anew from its distribution given the others, site after site.

    Args:
        spins: +-1, float32 (n_blocks, n_sites, LANES).
        fields: float32, of the same shape.
        start, neighbour, coupling: the couplings by rows.
        inverse: 1/T of every sweep and lane, float32 (n_sweeps, n_blocks, LANES).
        rng: uint32 (n_blocks, 4, LANES).
    """
    field = np.empty(LANES, np.float32)
    for block in range(spins.shape[0]):
        for k in range(inverse.shape[0]):
            for site in range(spins.shape[1]):
                for lane in range(LANES):
                    field[lane] = fields[block, site, lane]
                add_neighbours(field, spins, block, site, start, neighbour, coupling)
                for lane in range(LANES):  # p(up) = 1 / (1 + exp(-2 f / T))
                    y = np.float32(np.float32(-2.0) * LOG2E * field[lane] * inverse[k, block, lane])
                    odds = exp2(min(max(y, -LARGEST), LARGEST))
                    up = draw(rng, block, lane) * (np.float32(1.0) + odds) < np.float32(1.0)
                    spins[block, site, lane] = np.float32(1.0) if up else np.float32(-1.0)


@jit
def energies(spins, fields, start, neighbour, coupling):
    """-sum_(ij) J_ij s_i s_j - sum_i h_i s_i of every lane, float64 (n_blocks, LANES)."""
    out = np.zeros((spins.shape[0], LANES))
    field = np.empty(LANES, np.float32)
    for block in range(spins.shape[0]):
        for site in range(spins.shape[1]):
            field[:] = np.float32(0.0)
            add_neighbours(field, spins, block, site, start, neighbour, coupling)
            for lane in range(LANES):
                whole = np.float32(0.5) * field[lane] + fields[block, site, lane]
                out[block, lane] -= spins[block, site, lane] * whole
    return out


@jit
def stream(rng, number):
    """The next `number` draws of every lane, for tests: float32 (number, n_blocks, LANES)."""
    out = np.empty((number, rng.shape[0], LANES), np.float32)
    for k in range(number):
        for block in range(rng.shape[0]):
            for lane in range(LANES):
                out[k, block, lane] = draw(rng, block, lane)
    return out
