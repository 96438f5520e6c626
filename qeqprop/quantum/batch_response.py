"""Linear systems with `H - E` on the complement of the ground state, for many small Hamiltonians.

`(H - E) x = -d` with `d = (C - <C>) psi` is the linear response to a cost C; with the defect `d = (H - E) psi` of an
approximate state it is a Newton step on the Rayleigh quotient. Conjugate gradients, on half of the amplitudes where
single flips are the only off-diagonal elements.
"""

# mypy: allow-untyped-defs, disable-error-code="var-annotated,call-arg"

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .batch_bipartite import allocate_halves, prepare, solve_bipartite
from .batch_kernels import (
    Groups,
    aligned,
    allocate,
    apply,
    axpby,
    build,
    clear,
    copy,
    dot,
    entry,
    jit,
    project_out,
    scale,
)


class ResponseWork(NamedTuple):
    """Workspace of one thread."""

    h: Any
    halves: Any
    states: Any  # (2, N): psi and its partner
    rhs: Any
    x: Any
    r: Any
    p: Any
    q: Any


def allocate_response(groups: Groups, n_bits: int) -> ResponseWork:
    """Workspace for `n_bits` spins."""
    rows = aligned(7, 1 << n_bits)
    return ResponseWork(allocate(groups, n_bits), allocate_halves(n_bits), rows[:2], *rows[2:])


@entry
def respond_range(groups, coefs, active, energy, states, defect, goal, budget, work, x, residual, products):
    """`(H - E) x = -defect` in the complement of `states (S, B, N)`, S = 1 or 2, for the active samples.

    Each stops at a residual of `goal (B,)` or after `budget (B,)` products. Returns true residuals.
    """
    count = states.shape[0]
    rhs, image = work.rhs, work.q
    for b in range(coefs.shape[0]):
        if active[b]:
            build(groups, coefs[b], work.h)
            for i in range(count):
                copy(states[i, b], work.states[i])
            copy(defect[b], rhs)
            scale(-1.0, rhs)
            project_out(work.states, count, rhs)
            if count == 1 and prepare(work.h, energy[b], work.states[0], work.halves):
                products[b] = solve_bipartite(work.h, rhs, goal[b], budget[b], work.halves, work.x)
            else:
                products[b] = conjugate_gradient(work, energy[b], count, goal[b], budget[b])
            project_out(work.states, count, work.x)
            copy(work.x, x[b])
            apply(work.h, work.x, image)
            axpby(-energy[b], work.x, 1.0, image)
            axpby(-1.0, rhs, 1.0, image)
            project_out(work.states, count, image)
            residual[b] = np.sqrt(dot(image, image))


@jit
def conjugate_gradient(work, energy, count, goal, budget):
    """`(H - E) x = rhs` in the complement of `work.states[:count]`, for any Hamiltonian; returns products."""
    x, r, p, q = work.x, work.r, work.p, work.q
    clear(x)
    copy(work.rhs, r)
    copy(work.rhs, p)
    rr = dot(r, r)
    products = 0
    while products < budget and np.sqrt(rr) > goal:
        apply(work.h, p, q)
        axpby(-energy, p, 1.0, q)
        products += 1
        curvature = dot(p, q)
        if not curvature > 0.0:
            break
        step = rr / curvature
        axpby(step, p, 1.0, x)
        axpby(-step, q, 1.0, r)
        project_out(work.states, count, r)
        previous, rr = rr, dot(r, r)
        axpby(1.0, r, rr / previous, p)
    return products


def response_scale(spread: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a residual of the response is measured by: `spread = |Q C psi|`, but at least 1e-4 of `size = |C psi|`.

    Where psi is an eigenstate of C, `Q C psi` is nothing but the error of psi: it cannot be solved for relative to
    itself.
    """
    return np.maximum(np.maximum(spread, 1e-4 * size), np.finfo(float).tiny)
