"""Thousands of small real spin Hamiltonians at once: ground states, linear responses and moments.

Sample `b` has `H_b = sum_k coefs[b, k] P_k`; all samples share the Pauli strings
`P_k |s> = (-1)^popcount(s & zmasks[k]) |s ^ xmasks[k]>`, basis index `s`, bit 0 least significant. `H` is real
symmetric: `popcount(x & z)` must be even (the factor of `i` of each `Y` is part of the coefficient: `Y Y` is
`x = z = 0b11` with sign -1). One thread takes one sample at a time and keeps all of its vectors in cache. Results do
not depend on the number of threads.

Fewer than `DENSE_BITS` bits are diagonalised densely; above, Lanczos and conjugate gradients without a matrix.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import batch_dense
from .batch_ground import GroundStates
from .batch_kernels import aligned, allocate, defect_range, moments_range
from .batch_plan import MAX_BITS, BatchPlan, plan_of
from .batch_response import allocate_response, respond_range, response_scale

__all__ = ["MAX_BITS", "BatchPlan", "BatchResult", "batch_moments", "ground_states", "responses"]

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

DENSE_BITS = 5  # from here up a state fills a tile of registers, and iterations are faster than dense algebra
MAX_ITERATIONS = 2000
MIN_SAMPLES_PER_TASK = 4
SOLVE_PASSES = 64  # a solve reads its vectors about so many times, a moment once
THREADED_WORK = 1 << 21  # amplitudes read: below this (a few ms) starting threads costs more than they save
TASK_AMPLITUDES = 1 << 16  # per task: its vectors stay in the second-level cache


class BatchResult(NamedTuple):
    """Ground states of `B` samples. `gap` is NaN where it was not asked for."""

    energy: Array
    vector: Array
    residual: Array
    gap: Array
    iterations: Counts
    converged: NDArray[np.bool_]


def ground_states(
    plan: BatchPlan,
    coefs: ArrayLike,
    start: ArrayLike | None = None,
    *,
    tol: float = 1e-10,
    max_iterations: int = MAX_ITERATIONS,
    certify_gap: bool = True,
    realified: bool = False,
    threads: int | None = None,
) -> BatchResult:
    """Lowest state of every sample, `H_b psi_b = E_b psi_b`.

    Args:
        plan: the strings.
        coefs: `(B, K)`.
        start: `(B, 2^n)` or `(2^n,)`; by default first-order perturbation theory from the classical minimum.
        tol: bound on the true residual norm `|H psi - E psi|`.
        max_iterations: bound on the products `H psi` spent on a ground state.
        certify_gap: find `E_1 - E_0` (to 1 %) by a second Lanczos run on the complement of psi. Unlike the second Ritz
            value of the first run it sees an exact degeneracy, and a start that was orthogonal to the ground state.
        realified: the top bit tells real from imaginary part of a complex state; every level is then exactly double,
            and the gap is the one above the doublet `psi`, `J psi = concatenate([-psi[half:], psi[:half]])`.
        threads: samples are dealt out to this many threads (default: all cores).
    """
    values = _coefficients("coefs", coefs, plan)
    batch = values.shape[0]
    energy, residual, gap = np.empty(batch), np.empty(batch), np.full(batch, np.nan)
    iterations = np.zeros(batch, dtype=np.int64)
    given = _start(start, batch, plan)
    vector = np.empty((batch, plan.dimension)) if given is None else given
    if plan.n_bits < DENSE_BITS:
        batch_dense.ground_states(plan, values, certify_gap, realified, energy, vector, residual, gap)
    else:

        def solve(part: slice) -> None:
            task = GroundStates(plan, values[part], vector[part], tol, max_iterations)
            task.solve(cold=given is None)
            if certify_gap:
                gap[part] = task.certify(realified)
            energy[part], residual[part], iterations[part] = task.energy, task.residual, task.products

        _deal(solve, batch, plan, threads)
    return BatchResult(energy, vector, residual, gap, iterations, residual <= tol)


def responses(
    plan: BatchPlan,
    coefs: ArrayLike,
    energy: ArrayLike,
    vector: ArrayLike,
    term_plan: BatchPlan,
    term_coefs: ArrayLike,
    *,
    partner: ArrayLike | None = None,
    tol: float = 1e-10,
    max_iterations: int = MAX_ITERATIONS,
    threads: int | None = None,
) -> tuple[Array, Array, NDArray[np.int64]]:
    """First-order change of the ground states under `H -> H + beta C`: the Sternheimer equation of every sample.

    `(H - E) x = -Q C psi`, `Q x = x`, with `Q = 1 - |psi><psi|` and `C_b = sum_k term_coefs[b, k] P'_k`, by conjugate
    gradients (`H - E` is positive definite on the complement of a non-degenerate ground state).

    Args:
        plan: strings of `H`.
        coefs: `(B, K)`.
        energy: `(B,)`, ground-state energies.
        vector: `(B, 2^n)`, normalised ground states.
        term_plan: strings of `C`.
        term_coefs: `(B, K')`.
        partner: `(B, 2^n)`, a second normalised state of the ground level, orthogonal to `vector` and projected out
            as well (a realified complex Hamiltonian has `J psi`).
        tol: bound on the residual relative to `response_scale`.
        max_iterations: bound on the products `H p` per sample.
        threads: samples are dealt out to this many threads (default: all cores).

    Returns:
        `x (B, 2^n)`, true residuals relative to `response_scale` `(B,)`, iterations `(B,)`.
    """
    hamiltonian = _coefficients("coefs", coefs, plan)
    batch = hamiltonian.shape[0]
    if term_plan.n_bits != plan.n_bits:
        raise ValueError(f"Argument `term_plan` must have n_bits={plan.n_bits}, but has {term_plan.n_bits}.")
    level = _finite("energy", energy, (batch,))
    psi = _finite("vector", vector, (batch, plan.dimension))
    cost = _finite("term_coefs", term_coefs, (batch, term_plan.n_terms))
    other = None if partner is None else _finite("partner", partner, (batch, plan.dimension))
    x = np.empty((batch, plan.dimension))
    residual = np.empty(batch)
    products = np.zeros(batch, dtype=np.int64)
    if plan.n_bits < DENSE_BITS:
        batch_dense.responses(plan, hamiltonian, level, psi, other, term_plan, cost, x, residual)
        return x, residual, products

    states = psi[None] if other is None else np.stack([psi, other])

    def solve(part: slice) -> None:
        active = np.ones(x[part].shape[0], dtype=np.bool_)
        nothing, defect = np.empty((0, plan.dimension)), np.empty_like(x[part])
        mean, spread = np.empty((2, active.size))
        work = allocate_response(plan.groups, plan.n_bits)
        costs = term_plan.groups
        h = allocate(costs, plan.n_bits)
        defect_range(costs, cost[part], active, nothing, h, aligned(2, plan.dimension), psi[part], mean, spread, defect)
        scale = response_scale(spread, np.hypot(spread, mean))
        respond_range(
            plan.groups, hamiltonian[part], active, level[part], np.ascontiguousarray(states[:, part]), defect,
            tol * scale, np.full(active.size, max_iterations), work, x[part], residual[part], products[part],
        )  # fmt: skip
        residual[part] /= scale

    _deal(solve, batch, plan, threads)
    return x, residual, products


def batch_moments(
    n_bits: int, xmasks: ArrayLike, zmasks: ArrayLike, bra: ArrayLike, ket: ArrayLike, threads: int | None = None
) -> Array:
    """`<bra_b| P_k |ket_b> = sum_s bra[b, s ^ x_k] (-1)^popcount(s & z_k) ket[b, s]`, of shape `(B, K)`."""
    plan = plan_of(n_bits, xmasks, zmasks)
    left = np.ascontiguousarray(bra, dtype=np.float64)
    batch = left.shape[0]
    left = _finite("bra", left, (batch, plan.dimension))
    right = _finite("ket", ket, (batch, plan.dimension))
    if n_bits < DENSE_BITS:
        return batch_dense.moments(plan, left, right)
    out = np.empty((batch, plan.n_terms))

    def solve(part: slice) -> None:
        moments_range(plan.groups, left[part], right[part], aligned(3, plan.dimension), out[part])

    _deal(solve, batch, plan, threads, passes=1)
    return out


def _deal(
    solve: Callable[[slice], None], batch: int, plan: BatchPlan, threads: int | None, passes: int = SOLVE_PASSES
) -> None:
    """Run `solve` on slices of the batch, in this thread if one is enough (compiled code releases the GIL)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads is None and batch * plan.dimension * passes < THREADED_WORK:
        available = 1
    workers = max(1, min(available if threads is None else threads, batch // MIN_SAMPLES_PER_TASK))
    # Several tasks a thread: samples near a level crossing take many times longer than the others.
    size = min(-(-batch // (8 * workers if workers > 1 else 1)), TASK_AMPLITUDES // plan.dimension)
    size = max(size, MIN_SAMPLES_PER_TASK)
    tasks = [slice(first, min(first + size, batch)) for first in range(0, batch, size)]
    if workers == 1:
        for task in tasks:
            solve(task)
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(solve, tasks))


def _finite(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Array:
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"Argument `{name}` must have shape {shape}, but has shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"Argument `{name}` must be finite, but has NaN or infinite entries.")
    return array


def _coefficients(name: str, values: ArrayLike, plan: BatchPlan) -> Array:
    array = np.asarray(values, dtype=np.float64)
    batch = array.shape[0] if array.ndim == 2 else -1
    if batch < 0:
        raise ValueError(f"Argument `{name}` must have shape (B, {plan.n_terms}), but has shape {array.shape}.")
    return _finite(name, array, (batch, plan.n_terms))


def _start(start: ArrayLike | None, batch: int, plan: BatchPlan) -> Array | None:
    """A copy of the given start, one vector per sample."""
    if start is None:
        return None
    array = np.asarray(start, dtype=np.float64)
    array = _finite("start", array, (plan.dimension,) if array.ndim == 1 else (batch, plan.dimension))
    if not np.any(array, axis=-1).all():
        raise ValueError("Argument `start` must not have a zero vector, but has one.")
    return np.array(np.broadcast_to(array, (batch, plan.dimension)))
