r"""Linear systems `(H - E) x = b` with single flips as the only off-diagonal elements: eliminate half of the unknowns.

A flip changes the parity of the number of down spins, so in amplitudes of even and odd parity, both labelled by the
lower `n - 1` bits (the top bit follows from the parity),

    H = [[D_e, M], [M, D_o]],    M = g_(n-1) + sum_(i < n-1) g_i X_i .

`E` is below every diagonal element, so the odd half can be eliminated and what remains is solved by conjugate gradients
with its diagonal as preconditioner:

    K x_e = b_e - M W_o b_o,    K = (D_e - E) - M W_o M,    W = 1 / (D - E),    x_o = W_o (b_o - M x_e) .

With the same preconditioner the full matrix has eigenvalues `1 -+ mu` in pairs and K has `1 - mu^2`: the condition
number falls fourfold and the number of products by more than half (Hageman and Young, Applied Iterative Methods, 1981,
chapter 9).
"""

# mypy: allow-untyped-defs, disable-error-code="var-annotated,call-arg"

from typing import Any, NamedTuple

import numpy as np

from .batch_kernels import aligned, clear, dot, dot_tile, flip_tile, flips_only, inline, jit, load_tile, store_tile
from .simd import TILE, add, fma, mul, splat, total


class Halves(NamedTuple):
    """Workspace of one thread: vectors over one parity, `(N / 2,)`, and the parity of every label."""

    parity: Any
    shifted: Any  # D_e - E
    inverse: Any  # W_e
    inverse_odd: Any  # W_o
    state: Any  # psi_e
    x: Any
    r: Any
    p: Any
    u: Any


def allocate_halves(n_bits: int) -> Halves:
    """Workspace for vectors of `2^n_bits` amplitudes."""
    labels = np.arange(1 << (n_bits - 1))
    return Halves(np.bitwise_count(labels) % 2 == 1, *aligned(8, labels.size))


@jit
def split(parity, full, even, odd):
    """Amplitudes of even and of odd parity."""
    low, high = full[: parity.size], full[parity.size :]
    for s in range(parity.size):
        even[s] = high[s] if parity[s] else low[s]
        odd[s] = low[s] if parity[s] else high[s]


@jit
def join(parity, even, odd, full):
    """Inverse of `split`."""
    low, high = full[: parity.size], full[parity.size :]
    for s in range(parity.size):
        low[s] = odd[s] if parity[s] else even[s]
        high[s] = even[s] if parity[s] else odd[s]


@jit
def shift_and_invert(diagonal, energy, inverse):
    """`diagonal -= energy`, `inverse = 1 / diagonal` (may be the same vector); counts the safely positive entries."""
    floor = 1e-6 * abs(energy)  # closer, 1 / (D - E) loses the digits that the solution needs
    count = 0
    for s in range(diagonal.size):
        value = diagonal[s] - energy
        count += value > floor
        diagonal[s] = value
        inverse[s] = 1.0 / value
    return count


@jit
def prepare(h, energy, psi, halves):
    """Fill the diagonal vectors for `H - energy` and the state to project out; False if that needs another method."""
    if not flips_only(h) or psi.size < 2 * TILE:  # a half must hold a tile
        return False
    split(halves.parity, h.diagonal, halves.shifted, halves.inverse_odd)
    above = shift_and_invert(halves.shifted, energy, halves.inverse)
    above += shift_and_invert(halves.inverse_odd, energy, halves.inverse_odd)
    if above < psi.size:
        return False
    split(halves.parity, psi, halves.state, halves.u)
    return True


@inline
def hop_tile(x, s, g):
    """Tile `s .. s + 31` of `M x`."""
    a, b, c, d = flip_tile(x, s, g, g.size - 1)
    xa, xb, xc, xd = load_tile(x, s)
    last = splat(g[g.size - 1])
    return fma(last, xa, a), fma(last, xb, b), fma(last, xc, c), fma(last, xd, d)


@jit
def hop_to_odd(g, halves):
    """`u = W_o M p`; returns the curvature `<p|K|p> = <p|D_e - E|p> - <p|M W_o M|p>`."""
    plus0 = plus1 = minus0 = minus1 = splat(0.0)
    for s in range(0, halves.p.size, TILE):
        a, b, c, d = hop_tile(halves.p, s, g)
        wa, wb, wc, wd = load_tile(halves.inverse_odd, s)
        ua, ub, uc, ud = mul(wa, a), mul(wb, b), mul(wc, c), mul(wd, d)
        store_tile(halves.u, s, ua, ub, uc, ud)
        minus0, minus1 = fma(ua, a, fma(uc, c, minus0)), fma(ub, b, fma(ud, d, minus1))
        pa, pb, pc, pd = load_tile(halves.p, s)
        wa, wb, wc, wd = load_tile(halves.shifted, s)
        plus0 = fma(mul(wa, pa), pa, fma(mul(wc, pc), pc, plus0))
        plus1 = fma(mul(wb, pb), pb, fma(mul(wd, pd), pd, plus1))
    return total(add(plus0, plus1)) - total(add(minus0, minus1))


@jit
def hop_back(g, step, halves):
    """`r -= step K p`, `x += step p`; returns `<r|r>`, `<r|W_e|r>` and `<psi_e|r>`."""
    forward, back = splat(step), splat(-step)
    rr0 = rr1 = rz0 = rz1 = rs0 = rs1 = splat(0.0)
    for s in range(0, halves.p.size, TILE):
        a, b, c, d = hop_tile(halves.u, s, g)
        ra, rb, rc, rd = load_tile(halves.r, s)
        ra, rb, rc, rd = fma(forward, a, ra), fma(forward, b, rb), fma(forward, c, rc), fma(forward, d, rd)
        pa, pb, pc, pd = load_tile(halves.p, s)
        wa, wb, wc, wd = load_tile(halves.shifted, s)
        ra, rb = fma(mul(back, pa), wa, ra), fma(mul(back, pb), wb, rb)
        rc, rd = fma(mul(back, pc), wc, rc), fma(mul(back, pd), wd, rd)
        store_tile(halves.r, s, ra, rb, rc, rd)
        xa, xb, xc, xd = load_tile(halves.x, s)
        store_tile(halves.x, s, fma(forward, pa, xa), fma(forward, pb, xb), fma(forward, pc, xc), fma(forward, pd, xd))
        rr0, rr1 = fma(ra, ra, fma(rc, rc, rr0)), fma(rb, rb, fma(rd, rd, rr1))
        wa, wb, wc, wd = load_tile(halves.inverse, s)
        rz0 = fma(mul(wa, ra), ra, fma(mul(wc, rc), rc, rz0))
        rz1 = fma(mul(wb, rb), rb, fma(mul(wd, rd), rd, rz1))
        rs0, rs1 = dot_tile(halves.state, s, ra, rb, rc, rd, rs0, rs1)
    return total(add(rr0, rr1)), total(add(rz0, rz1)), total(add(rs0, rs1))


@jit
def turn(ratio, overlap, halves):
    """`r -= overlap psi_e`, `p = W_e r + ratio p`."""
    minus, keep = splat(-overlap), splat(ratio)
    for s in range(0, halves.p.size, TILE):
        a, b, c, d = load_tile(halves.r, s)
        sa, sb, sc, sd = load_tile(halves.state, s)
        a, b, c, d = fma(minus, sa, a), fma(minus, sb, b), fma(minus, sc, c), fma(minus, sd, d)
        store_tile(halves.r, s, a, b, c, d)
        pa, pb, pc, pd = load_tile(halves.p, s)
        pa, pb, pc, pd = mul(keep, pa), mul(keep, pb), mul(keep, pc), mul(keep, pd)
        wa, wb, wc, wd = load_tile(halves.inverse, s)
        store_tile(halves.p, s, fma(wa, a, pa), fma(wb, b, pb), fma(wc, c, pc), fma(wd, d, pd))


@jit
def eliminate(g, rhs, halves):
    """`r = rhs_e - M W_o rhs_o`."""
    split(halves.parity, rhs, halves.r, halves.u)
    for s in range(halves.u.size):
        halves.u[s] *= halves.inverse_odd[s]
    minus = splat(-1.0)
    for s in range(0, halves.r.size, TILE):
        a, b, c, d = hop_tile(halves.u, s, g)
        ra, rb, rc, rd = load_tile(halves.r, s)
        store_tile(halves.r, s, fma(minus, a, ra), fma(minus, b, rb), fma(minus, c, rc), fma(minus, d, rd))


@jit
def restore(g, rhs, halves, x):
    """Full solution: `x_o = W_o (rhs_o - M x_e)`."""
    split(halves.parity, rhs, halves.r, halves.u)
    minus = splat(-1.0)
    for s in range(0, halves.x.size, TILE):
        a, b, c, d = hop_tile(halves.x, s, g)
        ba, bb, bc, bd = load_tile(halves.u, s)
        a, b, c, d = fma(minus, a, ba), fma(minus, b, bb), fma(minus, c, bc), fma(minus, d, bd)
        wa, wb, wc, wd = load_tile(halves.inverse_odd, s)
        store_tile(halves.u, s, mul(wa, a), mul(wb, b), mul(wc, c), mul(wd, d))
    join(halves.parity, halves.x, halves.u, x)


@jit
def solve_bipartite(h, rhs, goal, budget, halves, x):
    """Solve `(H - E) x = rhs` until the residual norm is below `goal`; `rhs` orthogonal to the state of `prepare`.

    Returns the number of iterations, each worth one product `H p`. `x` is determined up to that state.
    """
    eliminate(h.flip, rhs, halves)
    norm = dot(halves.state, halves.state)
    clear(halves.x)
    clear(halves.p)
    # Rounding must not feed the null vector psi_e of K: its component is taken out of every residual.
    overlap = dot(halves.state, halves.r) / norm
    turn(0.0, overlap, halves)
    rz = dot(halves.r, halves.p)
    rr = dot(halves.r, halves.r)
    iterations = 0
    while iterations < budget and np.sqrt(rr) > goal:
        curvature = hop_to_odd(h.flip, halves)
        if not curvature > 0.0:
            break
        rr, next_rz, overlap = hop_back(h.flip, rz / curvature, halves)
        iterations += 1
        turn(next_rz / rz, overlap / norm, halves)
        rr -= overlap * overlap / norm
        rz = next_rz
    restore(h.flip, rhs, halves, x)
    return iterations
