"""Lanczos for many small Hamiltonians: the lowest state of each, or the lowest orthogonal to given states.

Three-term recurrence with the basis kept and no reorthogonalisation: orthogonality is lost only towards a Ritz vector
that has converged, which for the lowest state is the moment to stop. Given states are projected out of every new
vector, so that one routine finds ground states (nothing deflated) and gaps (the ground state deflated).
"""

# mypy: allow-untyped-defs, disable-error-code="var-annotated,call-arg"

from typing import Any, NamedTuple

import numpy as np

from .batch_kernels import (
    Groups,
    aligned,
    allocate,
    apply,
    build,
    copy,
    dot,
    entry,
    flips_only,
    jit,
    load_tile,
    project_out,
    scale,
    store_tile,
)
from .batch_tridiagonal import lowest_pair
from .simd import TILE, add, fma, splat, total, with_parity_sign

KRYLOV_DIMENSION = 64
FIRST_CHECK = 8
GOLDEN_RATIO = 0.6180339887498949
GIVEN, PERTURBATIVE, EXCITATION = 0, 1, 2  # kinds of start


class LanczosWork(NamedTuple):
    """Workspace of one thread."""

    h: Any
    basis: Any  # (KRYLOV_DIMENSION + 1, N)
    tridiagonal: Any  # (4, KRYLOV_DIMENSION + 1): diagonal, off-diagonal, Ritz vector, pivots
    states: Any  # (2, N), deflated
    x: Any


def allocate_lanczos(groups: Groups, n_bits: int) -> LanczosWork:
    """Workspace for `n_bits` spins."""
    size = 1 << n_bits
    rows = aligned(KRYLOV_DIMENSION + 4, size)
    tridiagonal = np.empty((4, KRYLOV_DIMENSION + 1))
    return LanczosWork(allocate(groups, n_bits), rows[3:], tridiagonal, rows[:2], rows[2])


@entry
def lowest_range(groups, coefs, active, deflated, kind, atol, rtol, reference, budget, work, x, theta, products):
    """Lowest Ritz pair of the active samples orthogonal to `deflated (S, B, N)`, S <= 2: `theta (B,)`, `x (B, N)`.

    Each stops at a residual of `max(atol, rtol * (theta - reference))`, `atol (B,)`, or after `budget (B,)` products.
    """
    count = deflated.shape[0]
    for b in range(coefs.shape[0]):
        if active[b]:
            build(groups, coefs[b], work.h)
            for i in range(count):
                copy(deflated[i, b], work.states[i])
            if kind == PERTURBATIVE:
                perturbative_start(work.h, work.x)
            elif kind == EXCITATION:
                excitation_start(work.states[0], work.x)
            else:
                copy(x[b], work.x)
            theta[b], products[b] = lanczos(work, count, atol[b], rtol, reference[b], budget[b])
            copy(work.x, x[b])


@jit
def lanczos(work, count, atol, rtol, reference, budget):
    """Lowest Ritz pair on the complement of `work.states[:count]`, from `work.x`, which becomes the unit Ritz vector.

    Stops at a residual estimate of `max(atol, rtol * (theta - reference))`, or when the Krylov space closes or is full.
    """
    h, x, basis, states = work.h, work.x, work.basis, work.states
    alpha, beta, ritz = work.tridiagonal[0], work.tridiagonal[1], work.tridiagonal[2]
    limit = min(budget, KRYLOV_DIMENSION)
    project_out(states, count, x)
    project_out(states, count, x)
    copy(x, basis[0])
    scale(1.0 / np.sqrt(dot(x, x)), basis[0])
    theta, guess = np.inf, -np.inf
    check, last_check, last_residual = 1, 0, np.inf
    size = 0
    while size < limit:
        alpha[size] = apply(h, basis[size], basis[size + 1])
        beta[size] = next_krylov_vector(basis, size, alpha[size], beta[size - 1] if size > 0 else 0.0, states, count)
        size += 1
        closed = not beta[size - 1] > 1e-13 * (abs(alpha[size - 1]) + abs(alpha[0]) + beta[0])
        if size in (check, limit) or closed:
            theta = lowest_pair(alpha, beta, size, guess, ritz, work.tridiagonal[3])
            residual = beta[size - 1] * abs(ritz[size - 1])
            goal = max(atol, rtol * (theta - reference))
            if closed or not residual > goal:
                break
            check = FIRST_CHECK if size == 1 else size + steps_to_goal(size - last_check, last_residual, residual, goal)
            guess, last_check, last_residual = theta - residual, size, residual
        scale(1.0 / beta[size - 1], basis[size])
    combine(basis, ritz, size, x)
    project_out(states, count, x)
    scale(1.0 / np.sqrt(dot(x, x)), x)
    return theta, size


@jit
def next_krylov_vector(basis, last, a, b, states, count):
    """`basis[last + 1] -= a basis[last] + b basis[last - 1]`, deflated; returns its norm."""
    w, v, u = basis[last + 1], basis[last], basis[max(last - 1, 0)]
    minus_a, minus_b = splat(-a), splat(-b)
    sum0 = sum1 = splat(0.0)
    for s in range(0, w.size, TILE):
        wa, wb, wc, wd = load_tile(w, s)
        va, vb, vc, vd = load_tile(v, s)
        wa, wb, wc, wd = fma(minus_a, va, wa), fma(minus_a, vb, wb), fma(minus_a, vc, wc), fma(minus_a, vd, wd)
        va, vb, vc, vd = load_tile(u, s)
        wa, wb, wc, wd = fma(minus_b, va, wa), fma(minus_b, vb, wb), fma(minus_b, vc, wc), fma(minus_b, vd, wd)
        store_tile(w, s, wa, wb, wc, wd)
        sum0, sum1 = fma(wc, wc, fma(wa, wa, sum0)), fma(wd, wd, fma(wb, wb, sum1))
    square = total(add(sum0, sum1))
    if count > 0:
        project_out(states, count, w)
        square = dot(w, w)
    return np.sqrt(square)


@jit
def combine(basis, weights, size, x):
    """`x = sum_i weights[i] basis[i]`: every tile of x is stored once."""
    for s in range(0, x.size, TILE):
        a = b = c = d = splat(0.0)
        for i in range(size):
            weight = splat(weights[i])
            va, vb, vc, vd = load_tile(basis[i], s)
            a, b, c, d = fma(weight, va, a), fma(weight, vb, b), fma(weight, vc, c), fma(weight, vd, d)
        store_tile(x, s, a, b, c, d)


@jit
def steps_to_goal(distance, previous, residual, goal):
    """Steps until the next check: most of those that the last rate of decay still needs."""
    if not residual < previous:
        return 4
    rate = np.log(previous / residual) / distance
    return max(1, min(int(0.8 * np.log(residual / goal) / rate) + 1, 12))


@jit
def noise(s):
    """A number in (-1, 1), the same each time for the index s (a multiplicative hash): in no symmetry sector."""
    word = np.uint64(s + 1) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return np.float64(np.int64(word >> np.uint64(11))) * 2.0**-52 - 1.0


@jit
def lowest_entry(v, scratch):
    """The smallest entry of v, by halving: unlike a running minimum this is done with whole registers."""
    half = v.size // 2
    fold(v[:half], v[half:], scratch[:half])
    while half > 1:
        half //= 2
        fold(scratch[:half], scratch[half : 2 * half], scratch[:half])
    return scratch[0]


@jit
def fold(x, y, out):
    """`out = min(x, y)`, entry by entry."""
    for s in range(out.size):
        out[s] = x[s] if x[s] < y[s] else y[s]


@jit
def perturbative_start(h, x):
    """Perturbation theory in the flips around the classical minimum, with the signs that the flips prefer.

    A random part keeps it out of symmetry sectors; with other groups than flips it is all there is of signs.
    """
    width, signs = 0.0, 0
    for bit in range(h.flip.size):
        width += abs(h.flip[bit])
        if h.flip[bit] > 0.0:
            signs |= 1 << bit
    if not width > 0.0:
        width = 1.0
    lowest = lowest_entry(h.diagonal, x)
    share = 0.1 if flips_only(h) else 1.0
    for s in range(x.size):
        ratio = width / (h.diagonal[s] - lowest + width)
        x[s] = with_parity_sign(ratio * ratio * (1.0 + share * noise(s)), s & signs)


@jit
def excitation_start(psi, x):
    """Single-spin excitations of psi (an irregular field acting on it), and as much noise for those of other kinds."""
    x[0] = 0.0
    filled, field = 1, 0.0
    while filled < x.size:
        field = (field + GOLDEN_RATIO) % 1.0
        for s in range(filled):
            x[filled + s] = x[s] + field - 0.5  # a constant does not matter: psi itself is projected out
        filled *= 2
    share = 1.0 / np.sqrt(x.size)
    for s in range(x.size):
        x[s] = x[s] * psi[s] + share * noise(s)
