"""Exact ground states and linear responses of spin networks: batches of small ones, and single large ones."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.estimate import Estimate
from ..core.memory import check_memory
from ..core.nudge import WeightedObservables
from ..core.solver import Equilibrium, Response
from ..core.status import Status
from ..core.system import Params
from .batch import MAX_BITS, ground_states, responses
from .batch_plan import plan_of
from .eigen_kernels import doublet
from .spins import AbstractSpinSystem, SpinHamiltonian
from .states import PureState, transition_moments
from .strings import complex_form, real_form, string_table

if TYPE_CHECKING:
    from .exact import ExactDiagonalization

LARGE_VECTORS = 8
"""State vectors that a large solve holds at a time."""
ADVICE = "Use fewer sites, or a solver that stores no state vector (variational Monte Carlo, a tensor network)."


def status_of(
    residual: np.ndarray,
    tolerance: float | np.ndarray,
    gap: np.ndarray | None,
    scale: float,
    overlap: np.ndarray | None,
) -> Status:
    """The worst that is wrong with some ground states.

    A state holds a part epsilon = residual/gap of the next one, and its response is wrong by epsilon^2 (scale/gap) of
    what the couplings would give. Where that is above 1e-4 (or the gap vanishes against the couplings) the ground level
    counts as degenerate: Lanczos returns *some* combination with a perfect residual, and no derivative exists.
    """
    if not np.all(np.isfinite(residual)):
        return Status.NOT_FINITE
    if np.any(residual > tolerance):
        return Status.UNCONVERGED
    if gap is not None and np.any(gap <= np.maximum(np.cbrt(1e4 * residual**2 * scale), 1e-9 * max(scale, 1e-300))):
        return Status.DEGENERATE
    if overlap is not None and np.any(overlap**2 < 0.5):
        return Status.BRANCH_JUMP
    return Status.OK


def solve_small(
    solver: "ExactDiagonalization", system: AbstractSpinSystem, h: SpinHamiltonian, init: Equilibrium | None
) -> Equilibrium:
    """Up to 14 bits: the batch kernel, also for a batch of one."""
    batch = np.shape(h.coefficients)[:-1]
    coefficients = np.atleast_2d(h.coefficients)
    certify = not system.nudges or init is None
    start = None if init is None else np.atleast_2d(real_form(init.state.amplitudes, h.n_bits))
    rounding = 32 * np.finfo(float).eps * np.abs(coefficients).sum(axis=-1)
    out = ground_states(
        plan_of(h.n_bits, h.x, h.z),
        coefficients,
        start,
        tol=max(solver.tolerance, float(rounding.min())),
        max_iterations=solver.max_iterations,
        certify_gap=certify,
        realified=h.realified,
        threads=solver.threads,
    )
    state = PureState(h.n_sites, complex_form(out.vector, h.n_sites).reshape(*batch, -1))
    gap = out.gap.reshape(batch) if certify else None
    overlap = None if init is None or not system.nudges else state.overlap(init.state)
    scale = float(np.abs(coefficients).max(initial=0.0))
    bound = np.maximum(solver.tolerance, rounding)
    return Equilibrium(
        state=state,
        energy=Estimate.exact(out.energy.reshape(batch)),
        residual=out.residual.reshape(batch),
        gap=gap,
        status=status_of(out.residual, bound, gap, scale, overlap),
        stats={
            "method": "batched Lanczos" if h.n_bits >= 5 else "dense",
            "matvecs": int(out.iterations.sum()),
            "energy_variance": (out.residual**2).reshape(batch),
        },
    )


def solve_large(
    solver: "ExactDiagonalization", system: AbstractSpinSystem, h: SpinHamiltonian, init: Equilibrium | None
) -> Equilibrium:
    """Above 14 bits: matrix-free Lanczos."""
    from .kernels import PauliKernel
    from .lanczos import certified_gap, lowest_eigenpair
    from .product_state import product_start

    check_large(solver, h.n_sites, h.n_bits)
    if h.coefficients.ndim > 1:
        raise ValueError(f"Batches are solved in one call up to {MAX_BITS} bits, but this system has {h.n_bits}.")
    kernel = PauliKernel(h.n_bits, h.x, h.z, h.coefficients, threads=solver.threads)
    start = product_start(h) if init is None else real_form(init.state.amplitudes, h.n_bits)
    out = lowest_eigenpair(
        kernel, start, tol=solver.tolerance, max_iterations=solver.max_iterations, warm=init is not None
    )
    certify = not system.nudges or init is None
    gap, matvecs = None, out.matvecs
    if certify:
        certificate = certified_gap(kernel, out.energy, doublet(out.vector, h.realified))
        gap, matvecs = np.asarray(certificate.gap), matvecs + certificate.matvecs
    state = PureState(h.n_sites, complex_form(out.vector, h.n_sites))
    overlap = None if init is None or not system.nudges else state.overlap(init.state)
    residual = np.asarray(out.residual)
    bound = solver.tolerance if not out.converged else max(solver.tolerance, out.residual)
    return Equilibrium(
        state=state,
        energy=Estimate.exact(np.asarray(out.energy)),
        residual=residual,
        gap=gap,
        status=status_of(residual, bound, gap, float(np.abs(h.coefficients).max(initial=0.0)), overlap),
        stats={"method": "matrix-free Lanczos", "matvecs": matvecs, "energy_variance": residual**2},
    )


def check_large(solver: "ExactDiagonalization", n_sites: int, n_bits: int) -> None:
    """Refuse a state space that does not fit, with numbers."""
    what = f"Exact diagonalisation of {n_sites} spins ({LARGE_VECTORS} vectors of 2^{n_bits} float64)"
    check_memory(LARGE_VECTORS * 8 << n_bits, what, ADVICE, solver.memory)


def respond(
    solver: "ExactDiagonalization",
    system: AbstractSpinSystem,
    params: Params,
    equilibrium: Equilibrium,
    term: WeightedObservables,
    tolerance: float,
) -> Response:
    """(H - E) x = -(C - <C>) psi on the complement of psi, then 2 <psi|P|x> of every string at once."""
    h = system.hamiltonian(params)
    forces, cost = system.force_table(), string_table(term.observables, system.n_sites)
    n_bits = max(h.n_bits, forces.n_bits, cost.n_bits)
    h = h._replace(n_bits=n_bits)  # a string of fewer bits acts on realified vectors as it stands
    costs = np.asarray((cost.coefficients.T @ term.weights.T).T)
    psi = real_form(equilibrium.state.amplitudes, n_bits)
    if n_bits <= MAX_BITS:
        partner = None
        if h.realified:
            half = psi.shape[-1] // 2
            partner = np.atleast_2d(np.concatenate([-psi[..., half:], psi[..., :half]], axis=-1))
        x, residual, matvecs = responses(
            plan_of(n_bits, h.x, h.z),
            np.atleast_2d(h.coefficients),
            np.atleast_1d(equilibrium.energy.mean),
            np.atleast_2d(psi),
            plan_of(n_bits, cost.x, cost.z),
            np.atleast_2d(costs),
            partner=partner,
            tol=tolerance,
            max_iterations=solver.max_iterations,
            threads=solver.threads,
        )
        x, products = x.reshape(psi.shape), int(matvecs.sum())
    else:
        x, residual, products = _respond_large(solver, h, equilibrium, psi, (cost.x, cost.z, costs), tolerance)
    grad = system.contract(2 * transition_moments(n_bits, forces.x, forces.z, psi, x))
    worst = np.max(residual)
    status = Status.OK if worst <= max(10 * tolerance, 1e-12) else Status.UNCONVERGED
    if not np.isfinite(worst):
        status = Status.NOT_FINITE
    return Response(Estimate.exact(grad), np.asarray(worst), status, {"matvecs": products})


def _respond_large(
    solver: "ExactDiagonalization",
    h: SpinHamiltonian,
    equilibrium: Equilibrium,
    psi: np.ndarray,
    cost: tuple[np.ndarray, np.ndarray, np.ndarray],
    tolerance: float,
) -> tuple[np.ndarray, Any, int]:
    from .kernels import PauliKernel
    from .lanczos import solve_complement

    check_large(solver, h.n_sites, h.n_bits)
    rhs = np.empty_like(psi)
    PauliKernel(h.n_bits, *cost, threads=solver.threads).apply(psi, rhs)
    np.negative(rhs, out=rhs)
    level = doublet(psi, h.realified)
    for vector in level:
        rhs -= (vector @ rhs) * vector
    state_error, gap = equilibrium.worst()
    noise = 8 * np.finfo(float).eps + (min(state_error / gap, 1e-6) if gap else 0.0)
    if np.linalg.norm(rhs) <= noise * np.abs(cost[2]).sum():  # psi is an eigenvector of the cost: it moves nothing
        return np.zeros_like(psi), 0.0, 0
    kernel = PauliKernel(h.n_bits, h.x, h.z, h.coefficients, threads=solver.threads)
    energy = float(equilibrium.energy.mean)
    out = solve_complement(kernel, energy, level, rhs, tol=tolerance, max_iterations=solver.max_iterations)
    return out.vector, out.relative_residual, out.matvecs
