"""Compiled kernels for one small real Pauli Hamiltonian: building it, applying it, and reading all its moments.

Basis index `s`, bit 0 least significant; a string acts as `P|s> = (-1)^popcount(s & z) |s ^ x>`. Strings that share `x`
add up to a *group*, `(H psi)[s] = sum_x d_x[s] psi[s ^ x]`, where `d_x` is the Walsh-Hadamard transform of the
coefficients scattered to their `z`. That one transform is also the whole measurement: the moments of a group are the
transform of `bra[s ^ x] ket[s]`, read at the same `z`.

Vectors hold at least one tile of 32 amplitudes and start at a cache line (`aligned`): a 64-byte load across two lines
costs two.
"""

# mypy: allow-untyped-defs, disable-error-code="var-annotated,call-arg"

from typing import Any, NamedTuple

import numba
import numpy as np

from .simd import FASTMATH, LANES, TILE, TILE_BITS, add, flip_lanes, fma, load, mul, permute_tile, splat, store, total

OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}
INTERNAL: dict[str, Any] = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
entry = numba.njit(**OPTIONS)  # called from Python
jit = numba.njit(**INTERNAL)
# Four registers returned through memory would cost more than the work on a tile.
inline = numba.njit(forceinline=True, **INTERNAL)

# +1 where a lane's bit is clear, -1 where it is set, for bits 0, 1, 2.
_LANE_SIGNS = np.array([1.0 - 2.0 * (lane >> bit & 1) for bit in range(3) for lane in range(LANES)])


class Groups(NamedTuple):
    """Pauli strings sorted by what they cost: int64 arrays, `*_term` points into the user's list of strings.

    `flip`: `X` on one bit. `jump`: any other `z = 0` group, one amplitude each. `field`: groups with signs, a vector
    each; the strings of group `f` are `field_start[f] .. field_start[f + 1]`.
    """

    diagonal_term: Any
    diagonal_z: Any
    flip_term: Any
    flip_bit: Any
    jump_term: Any
    jump_group: Any
    jump_x: Any
    field_term: Any
    field_start: Any
    field_z: Any
    field_x: Any


class Hamiltonian(NamedTuple):
    """One sample: `diagonal (N,)`, `flip (n,)`, `jump (J,)`, `field (F, N)`, and the x-masks of the last two."""

    diagonal: Any
    flip: Any
    jump: Any
    jump_x: Any
    field: Any
    field_x: Any


def aligned(rows: int, size: int) -> np.ndarray:
    """Uninitialised `(rows, size)`, every row at a cache line (`size` a multiple of 8)."""
    storage = np.empty(rows * size + LANES)
    offset = -(storage.ctypes.data // 8) % LANES
    return storage[offset : offset + rows * size].reshape(rows, size)


def allocate(groups: Groups, n_bits: int) -> Hamiltonian:
    """Workspace for the Hamiltonians of one thread."""
    size = 1 << n_bits
    return Hamiltonian(
        diagonal=aligned(1, size)[0],
        flip=np.empty(n_bits),
        jump=np.empty(groups.jump_x.size),
        jump_x=groups.jump_x,
        field=aligned(groups.field_x.size, size),
        field_x=groups.field_x,
    )


@entry
def defect_range(groups, coefs, active, step, h, work, psi, mean, spread, defect):
    """`mean = <psi|A|psi>`, `defect = (A - mean) psi` and its norm, the `spread`, of unit `psi (B, N)`.

    For a Hamiltonian these are energy and residual, for a cost the right-hand side of linear response. A `step (B, N)`
    (or an empty one) is added to psi first, which is normalised again. Samples that are not active stay as they are.
    """
    state, image = work[0], work[1]
    for b in range(coefs.shape[0]):
        if active[b]:
            build(groups, coefs[b], h)
            copy(psi[b], state)
            if step.shape[0] > 0:
                copy(step[b], image)
                scale(1.0 / np.sqrt(axpby(1.0, image, 1.0, state)), state)
                copy(state, psi[b])
            mean[b] = apply(h, state, image)
            spread[b] = np.sqrt(axpby(-mean[b], state, 1.0, image))
            copy(image, defect[b])


@jit
def build(groups, coefs, h):
    """Fill `h` with `sum_k coefs[k] P_k`."""
    clear(h.diagonal)
    for i in range(groups.diagonal_term.size):
        h.diagonal[groups.diagonal_z[i]] += coefs[groups.diagonal_term[i]]
    walsh_hadamard(h.diagonal)
    clear(h.flip)
    for i in range(groups.flip_term.size):
        h.flip[groups.flip_bit[i]] += coefs[groups.flip_term[i]]
    clear(h.jump)
    for i in range(groups.jump_term.size):
        h.jump[groups.jump_group[i]] += coefs[groups.jump_term[i]]
    for group in range(groups.field_x.size):
        field = h.field[group]
        clear(field)
        for i in range(groups.field_start[group], groups.field_start[group + 1]):
            field[groups.field_z[i]] += coefs[groups.field_term[i]]
        walsh_hadamard(field)


@inline
def load_tile(x, s):
    """Registers `x[s : s + 32]`."""
    return load(x, s), load(x, s + 8), load(x, s + 16), load(x, s + 24)


@inline
def store_tile(x, s, a, b, c, d):
    """`x[s : s + 32] = (a, b, c, d)`."""
    store(x, s, a)
    store(x, s + 8, b)
    store(x, s + 16, c)
    store(x, s + 24, d)


@inline
def flip_tile(x, s, g, n_bits):
    """Tile `s .. s + 31` of `sum_(b < n_bits) g[b] X_b x`."""
    a, b, c, d = load_tile(x, s)
    g0, g1, g2, g3, g4 = splat(g[0]), splat(g[1]), splat(g[2]), splat(g[3]), splat(g[4])
    ya, yb, yc, yd = mul(g3, b), mul(g3, a), mul(g3, d), mul(g3, c)
    ya, yb, yc, yd = fma(g4, c, ya), fma(g4, d, yb), fma(g4, a, yc), fma(g4, b, yd)
    ya, yb = fma(g0, flip_lanes(a, 1), ya), fma(g0, flip_lanes(b, 1), yb)
    yc, yd = fma(g0, flip_lanes(c, 1), yc), fma(g0, flip_lanes(d, 1), yd)
    ya, yb = fma(g1, flip_lanes(a, 2), ya), fma(g1, flip_lanes(b, 2), yb)
    yc, yd = fma(g1, flip_lanes(c, 2), yc), fma(g1, flip_lanes(d, 2), yd)
    ya, yb = fma(g2, flip_lanes(a, 4), ya), fma(g2, flip_lanes(b, 4), yb)
    yc, yd = fma(g2, flip_lanes(c, 4), yc), fma(g2, flip_lanes(d, 4), yd)
    for bit in range(TILE_BITS, n_bits):
        a, b, c, d = load_tile(x, s ^ (1 << bit))
        amplitude = splat(g[bit])
        ya, yb, yc, yd = fma(amplitude, a, ya), fma(amplitude, b, yb), fma(amplitude, c, yc), fma(amplitude, d, yd)
    return ya, yb, yc, yd


@inline
def weighted_tile(weight, x, s, a, b, c, d):
    """`(a, b, c, d) + weight x` on one tile."""
    wa, wb, wc, wd = load_tile(weight, s)
    xa, xb, xc, xd = load_tile(x, s)
    return fma(wa, xa, a), fma(wb, xb, b), fma(wc, xc, c), fma(wd, xd, d)


@inline
def dot_tile(x, s, a, b, c, d, sum0, sum1):
    """Two running sums of `x (a, b, c, d)`."""
    xa, xb, xc, xd = load_tile(x, s)
    return fma(xc, c, fma(xa, a, sum0)), fma(xd, d, fma(xb, b, sum1))


@inline
def jump_tile(x, s, mask):
    """Tile `s .. s + 31` of `x[s ^ mask]`."""
    a, b, c, d = load_tile(x, s ^ (mask & -TILE))
    return permute_tile(a, b, c, d, mask & (TILE - 1))


@jit
def apply(h, x, y):
    """`y = H x`; returns `<x|y>`."""
    sum0 = sum1 = splat(0.0)
    for s in range(0, x.size, TILE):
        a, b, c, d = flip_tile(x, s, h.flip, h.flip.size)
        a, b, c, d = weighted_tile(h.diagonal, x, s, a, b, c, d)
        store_tile(y, s, a, b, c, d)
        sum0, sum1 = dot_tile(x, s, a, b, c, d, sum0, sum1)
    expectation = total(add(sum0, sum1))
    if not flips_only(h):
        add_jumps_and_fields(h, x, y)
        expectation = dot(x, y)
    return expectation


@jit
def add_jumps_and_fields(h, x, y):
    """`y[s] += sum_x d_x[s] x[s ^ x]` over the groups that are neither diagonal nor single flips."""
    for group in range(h.jump.size):
        amplitude = splat(h.jump[group])
        for s in range(0, x.size, TILE):
            a, b, c, d = jump_tile(x, s, h.jump_x[group])
            ya, yb, yc, yd = load_tile(y, s)
            store_tile(y, s, fma(amplitude, a, ya), fma(amplitude, b, yb), fma(amplitude, c, yc), fma(amplitude, d, yd))
    for group in range(h.field_x.size):
        field = h.field[group]
        for s in range(0, x.size, TILE):
            a, b, c, d = jump_tile(x, s, h.field_x[group])
            da, db, dc, dd = load_tile(field, s)
            ya, yb, yc, yd = load_tile(y, s)
            store_tile(y, s, fma(da, a, ya), fma(db, b, yb), fma(dc, c, yc), fma(dd, d, yd))


@jit
def flips_only(h):
    """Are single flips the only off-diagonal elements?"""
    return h.jump.size + h.field_x.size == 0


@jit
def walsh_hadamard(v):
    """In place: `v[z] <- sum_s (-1)^popcount(s & z) v[s]`."""
    for s in range(0, v.size, TILE):
        a, b, c, d = load_tile(v, s)
        for bit in range(3):
            sign = load(_LANE_SIGNS, 8 * bit)
            if bit == 0:
                fa, fb, fc, fd = flip_lanes(a, 1), flip_lanes(b, 1), flip_lanes(c, 1), flip_lanes(d, 1)
            elif bit == 1:
                fa, fb, fc, fd = flip_lanes(a, 2), flip_lanes(b, 2), flip_lanes(c, 2), flip_lanes(d, 2)
            else:
                fa, fb, fc, fd = flip_lanes(a, 4), flip_lanes(b, 4), flip_lanes(c, 4), flip_lanes(d, 4)
            a, b, c, d = fma(sign, a, fa), fma(sign, b, fb), fma(sign, c, fc), fma(sign, d, fd)
        minus = splat(-1.0)
        a, b, c, d = add(a, b), fma(minus, b, a), add(c, d), fma(minus, d, c)
        store_tile(v, s, add(a, c), add(b, d), fma(minus, c, a), fma(minus, d, b))
    half = TILE
    while half < v.size:
        for base in range(0, v.size, 2 * half):
            low, high = v[base : base + half], v[base + half : base + 2 * half]
            for k in range(half):
                a_, b_ = low[k], high[k]
                low[k] = a_ + b_
                high[k] = a_ - b_
        half *= 2


@jit
def moments(groups, bra, ket, work, out):
    """`out[k] = <bra| P_k |ket>` for every string; `work (N,)` is overwritten."""
    if groups.diagonal_term.size:
        overlap_transform(bra, ket, 0, work)
        for i in range(groups.diagonal_term.size):
            out[groups.diagonal_term[i]] = work[groups.diagonal_z[i]]
    if groups.flip_term.size:
        flip_overlaps(bra, ket, work)
        for i in range(groups.flip_term.size):
            out[groups.flip_term[i]] = work[groups.flip_bit[i]]
    for i in range(groups.jump_term.size):
        out[groups.jump_term[i]] = jump_overlap(bra, ket, groups.jump_x[groups.jump_group[i]])
    for group in range(groups.field_x.size):
        overlap_transform(bra, ket, groups.field_x[group], work)
        for i in range(groups.field_start[group], groups.field_start[group + 1]):
            out[groups.field_term[i]] = work[groups.field_z[i]]


@jit
def overlap_transform(bra, ket, mask, work):
    """`work[z] = sum_s bra[s ^ mask] (-1)^popcount(s & z) ket[s]`."""
    for s in range(0, ket.size, TILE):
        a, b, c, d = jump_tile(bra, s, mask)
        ka, kb, kc, kd = load_tile(ket, s)
        store_tile(work, s, mul(a, ka), mul(b, kb), mul(c, kc), mul(d, kd))
    walsh_hadamard(work)


@jit
def flip_overlaps(bra, ket, out):
    """`out[b] = sum_s bra[s ^ 2^b] ket[s]` for every bit: bits inside a tile in one pass, a pass for each one above."""
    s0 = s1 = s2 = s3 = s4 = splat(0.0)
    for s in range(0, ket.size, TILE):
        a, b, c, d = load_tile(bra, s)
        ka, kb, kc, kd = load_tile(ket, s)
        s3 = fma(a, kb, fma(b, ka, fma(c, kd, fma(d, kc, s3))))
        s4 = fma(a, kc, fma(c, ka, fma(b, kd, fma(d, kb, s4))))
        s0 = fma(flip_lanes(a, 1), ka, fma(flip_lanes(b, 1), kb, s0))
        s0 = fma(flip_lanes(c, 1), kc, fma(flip_lanes(d, 1), kd, s0))
        s1 = fma(flip_lanes(a, 2), ka, fma(flip_lanes(b, 2), kb, s1))
        s1 = fma(flip_lanes(c, 2), kc, fma(flip_lanes(d, 2), kd, s1))
        s2 = fma(flip_lanes(a, 4), ka, fma(flip_lanes(b, 4), kb, s2))
        s2 = fma(flip_lanes(c, 4), kc, fma(flip_lanes(d, 4), kd, s2))
    out[0], out[1], out[2], out[3], out[4] = total(s0), total(s1), total(s2), total(s3), total(s4)
    bit = TILE_BITS
    while 1 << bit < ket.size:
        sum0 = sum1 = splat(0.0)
        for s in range(0, ket.size, TILE):
            a, b, c, d = load_tile(ket, s)
            sum0, sum1 = dot_tile(bra, s ^ (1 << bit), a, b, c, d, sum0, sum1)
        out[bit] = total(add(sum0, sum1))
        bit += 1


@jit
def jump_overlap(bra, ket, mask):
    """`sum_s bra[s ^ mask] ket[s]`."""
    sum0 = sum1 = splat(0.0)
    for s in range(0, ket.size, TILE):
        a, b, c, d = jump_tile(bra, s, mask)
        sum0, sum1 = dot_tile(ket, s, a, b, c, d, sum0, sum1)
    return total(add(sum0, sum1))


@entry
def moments_range(groups, bra, ket, work, out):
    """Moments of the samples of one thread; `work (3, N)`."""
    for b in range(ket.shape[0]):
        copy(bra[b], work[1])
        copy(ket[b], work[2])
        moments(groups, work[1], work[2], work[0], out[b])


@jit
def clear(x):
    """`x = 0` (a slice assignment costs Numba a tenth of a second of compilation, each)."""
    for s in range(x.size):
        x[s] = 0.0


@jit
def copy(x, y):
    """`y = x`."""
    for s in range(x.size):
        y[s] = x[s]


@jit
def dot(x, y):
    """`<x|y>`."""
    sum0 = sum1 = splat(0.0)
    for s in range(0, x.size, TILE):
        a, b, c, d = load_tile(x, s)
        sum0, sum1 = dot_tile(y, s, a, b, c, d, sum0, sum1)
    return total(add(sum0, sum1))


@jit
def axpby(alpha, x, beta, y):
    """`y = alpha x + beta y`; returns `<y|y>`."""
    va, vb = splat(alpha), splat(beta)
    sum0 = sum1 = splat(0.0)
    for s in range(0, x.size, TILE):
        xa, xb, xc, xd = load_tile(x, s)
        a, b, c, d = load_tile(y, s)
        a, b, c, d = mul(vb, a), mul(vb, b), mul(vb, c), mul(vb, d)
        a, b, c, d = fma(va, xa, a), fma(va, xb, b), fma(va, xc, c), fma(va, xd, d)
        store_tile(y, s, a, b, c, d)
        sum0, sum1 = fma(c, c, fma(a, a, sum0)), fma(d, d, fma(b, b, sum1))
    return total(add(sum0, sum1))


@jit
def scale(alpha, x):
    """`x *= alpha`."""
    axpby(0.0, x, alpha, x)


@jit
def project_out(states, count, v):
    """`v -= sum_i |states[i]><states[i]| v` over the first `count` orthonormal rows."""
    for i in range(count):
        axpby(-dot(states[i], v), states[i], 1.0, v)
