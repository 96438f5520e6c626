"""Thousands of small real spin Hamiltonians at once: ground states, linear responses and moments.

Sample `b` has `H_b = sum_k coefs[b, k] P_k`; all samples share the Pauli strings
`P_k |s> = (-1)^popcount(s & zmasks[k]) |s ^ xmasks[k]>`, basis index `s`, bit 0 least significant. `H` is real symmetric:
`popcount(x & z)` must be even (the factor of `i` of each `Y` is part of the coefficient: `Y Y` is `x = z = 0b11` with
sign -1). One thread takes one sample at a time and keeps all of its vectors in cache. Results do not depend on the
number of threads.

Fewer than `DENSE_BITS` bits are diagonalised densely; above, Lanczos and conjugate gradients without a matrix.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qeqprop.quantum import batch_dense
from qeqprop.quantum.batch_kernels import Groups
from qeqprop.quantum.batch_solvers import ground_states_range, moments_range, responses_range

Array = NDArray[np.float64]

DENSE_BITS = 5  # from here up the matrix-free path is faster, and its registers are full
MAX_BITS = 14  # a sample's Krylov basis (64 vectors) is 8 MiB
MAX_ITERATIONS = 2000
MIN_SAMPLES_PER_TASK = 4


class BatchResult(NamedTuple):
    """Ground states of `B` samples. `gap` is NaN where it was not asked for."""

    energy: Array
    vector: Array
    residual: Array
    gap: Array
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]


class BatchPlan:
    """The Pauli strings that all samples share, sorted by what they cost; made once and reused.

    Args:
        n_bits: number of spins, 1 to 14.
        xmasks: integers of shape `(K,)`, the bits each string flips.
        zmasks: integers of shape `(K,)`, the bits whose sign it reads. `popcount(x & z)` must be even.
    """

    def __init__(self, n_bits: int, xmasks: ArrayLike, zmasks: ArrayLike) -> None:
        if not 1 <= n_bits <= MAX_BITS:
            raise ValueError(f"Argument `n_bits` must be in 1..{MAX_BITS}, but is {n_bits}.")
        x, z = _masks("xmasks", xmasks, n_bits), _masks("zmasks", zmasks, n_bits)
        if x.shape != z.shape:
            raise ValueError(f"Arguments `xmasks` and `zmasks` must have one shape, but have {x.shape} and {z.shape}.")
        odd = np.flatnonzero(np.bitwise_count(x & z) % 2)
        if odd.size:
            raise ValueError(
                "Arguments `xmasks` and `zmasks` must have an even number of common bits (an even number of Y), "
                f"but string {odd[0]} has x={x[odd[0]]:#b}, z={z[odd[0]]:#b}."
            )
        self.n_bits = n_bits
        self.xmasks, self.zmasks = x, z
        self.groups = _group(x, z)

    @property
    def n_terms(self) -> int:
        """Number of strings `K`."""
        return self.xmasks.size

    @property
    def dimension(self) -> int:
        """Length of a state vector, `2^n_bits`."""
        return 1 << self.n_bits

    def __repr__(self) -> str:
        return f"BatchPlan(n_bits={self.n_bits}, n_terms={self.n_terms})"


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
    coefs = _coefficients("coefs", coefs, plan)
    batch = coefs.shape[0]
    first = _start(start, batch, plan)
    result = BatchResult(
        np.empty(batch),
        np.empty((batch, plan.dimension)),
        np.empty(batch),
        np.full(batch, np.nan),
        np.zeros(batch, dtype=np.int64),
        np.empty(batch, dtype=np.bool_),
    )
    energy, vector, residual, gap, iterations, converged = result
    if plan.n_bits < DENSE_BITS:
        batch_dense.ground_states(plan, coefs, certify_gap, realified, energy, vector, residual, gap)
    else:

        def solve(part: slice) -> None:
            cold = first is None
            begin = np.empty((1, 0)) if first is None else first if first.shape[0] == 1 else first[part]
            ground_states_range(
                plan.groups,
                plan.n_bits,
                coefs[part],
                begin,
                cold,
                float(tol),
                int(max_iterations),
                bool(certify_gap),
                bool(realified),
                energy[part],
                vector[part],
                residual[part],
                gap[part],
                iterations[part],
            )

        _deal(solve, batch, threads)
    converged[:] = residual <= tol
    return result


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
        tol: bound on the residual relative to `|Q C psi|`.
        max_iterations: bound on the products `H p` per sample.
        threads: samples are dealt out to this many threads (default: all cores).

    Returns:
        `x (B, 2^n)`, true relative residuals `(B,)`, iterations `(B,)`.
    """
    coefs = _coefficients("coefs", coefs, plan)
    term_coefs = _coefficients("term_coefs", term_coefs, term_plan)
    batch = coefs.shape[0]
    if term_plan.n_bits != plan.n_bits:
        raise ValueError(f"Argument `term_plan` must have n_bits={plan.n_bits}, but has {term_plan.n_bits}.")
    level = _finite("energy", energy, (batch,))
    psi = _finite("vector", vector, (batch, plan.dimension))
    term_coefs = _finite("term_coefs", term_coefs, (batch, term_plan.n_terms))
    other = None if partner is None else _finite("partner", partner, (batch, plan.dimension))
    x = np.empty((batch, plan.dimension))
    residual = np.empty(batch)
    products = np.zeros(batch, dtype=np.int64)
    if plan.n_bits < DENSE_BITS:
        batch_dense.responses(plan, coefs, level, psi, other, term_plan, term_coefs, x, residual)
        return x, residual, products

    def solve(part: slice) -> None:
        responses_range(
            plan.groups,
            term_plan.groups,
            plan.n_bits,
            coefs[part],
            term_coefs[part],
            level[part],
            psi[part],
            psi[part] if other is None else other[part],
            1 if other is None else 2,
            float(tol),
            int(max_iterations),
            x[part],
            residual[part],
            products[part],
        )

    _deal(solve, batch, threads)
    return x, residual, products


def batch_moments(
    n_bits: int, xmasks: ArrayLike, zmasks: ArrayLike, bra: ArrayLike, ket: ArrayLike, threads: int | None = None
) -> Array:
    """`<bra_b| P_k |ket_b> = sum_s bra[b, s ^ x_k] (-1)^popcount(s & z_k) ket[b, s]`, of shape `(B, K)`."""
    plan = BatchPlan(n_bits, xmasks, zmasks)
    left = np.ascontiguousarray(bra, dtype=np.float64)
    batch = left.shape[0]
    left = _finite("bra", left, (batch, plan.dimension))
    right = _finite("ket", ket, (batch, plan.dimension))
    if n_bits < DENSE_BITS:
        return batch_dense.moments(plan, left, right)
    out = np.empty((batch, plan.n_terms))

    def solve(part: slice) -> None:
        moments_range(plan.groups, left[part], right[part], out[part])

    _deal(solve, batch, threads)
    return out


def _deal(solve: Callable[[slice], None], batch: int, threads: int | None) -> None:
    """Run `solve` on slices of the batch, in this thread if one is enough (compiled code releases the GIL)."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = max(1, min(available if threads is None else threads, batch // MIN_SAMPLES_PER_TASK))
    if workers == 1:
        solve(slice(0, batch))
        return
    # Several tasks a thread: samples near a level crossing take many times longer than the others.
    tasks = min(8 * workers, batch // MIN_SAMPLES_PER_TASK)
    edges = np.linspace(0, batch, tasks + 1).astype(int)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(solve, [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]))


def _group(x: NDArray[np.int64], z: NDArray[np.int64]) -> Groups:
    """Sort strings into diagonal, single flips without sign, other groups without sign, and groups with signs."""
    term = np.arange(x.size)
    diagonal = x == 0
    flip = (np.bitwise_count(x) == 1) & (z == 0)
    field_x = np.unique(x[~diagonal & (z != 0)])
    # A single flip without sign stays a flip even where its mask also has strings with signs.
    field = np.isin(x, field_x) & ~diagonal & ~flip
    jump = ~(diagonal | flip | field)
    jump_x = np.unique(x[jump])
    order = term[field][np.argsort(x[field], kind="stable")]
    return Groups(
        diagonal_term=term[diagonal],
        diagonal_z=z[diagonal],
        flip_term=term[flip],
        flip_bit=np.bitwise_count(x[flip] - 1).astype(np.int64),
        jump_term=term[jump],
        jump_group=np.searchsorted(jump_x, x[jump]),
        jump_x=jump_x,
        field_term=order,
        field_start=np.searchsorted(x[order], np.append(field_x, 1 << MAX_BITS)),
        field_z=z[order],
        field_x=field_x,
    )


def _masks(name: str, masks: ArrayLike, n_bits: int) -> NDArray[np.int64]:
    array = np.asarray(masks)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"Argument `{name}` must be a vector of integers, but has {array.shape=}, {array.dtype=}.")
    if array.size and not (array.min() >= 0 and array.max() < 1 << n_bits):
        raise ValueError(f"Argument `{name}` must have entries in 0..2^{n_bits} - 1, but has {array.min()}..{array.max()}.")
    return array.astype(np.int64)


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
    if start is None:
        return None
    array = np.asarray(start, dtype=np.float64)
    array = _finite("start", array, (plan.dimension,) if array.ndim == 1 else (batch, plan.dimension))
    array = array.reshape(-1, plan.dimension)
    if not np.any(array, axis=1).all():
        raise ValueError("Argument `start` must not have a zero vector, but has one.")
    return array
