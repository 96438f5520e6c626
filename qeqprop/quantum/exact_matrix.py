"""Exact ground states and linear responses of operator systems: dense when small, Lanczos on the sparse matrix above."""

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from ..core.estimate import Estimate
from ..core.memory import check_memory
from ..core.nudge import WeightedObservables
from ..core.solver import Equilibrium, Response
from ..core.status import Status
from ..core.system import Params
from .eigen_kernels import DENSE_DIM, MatrixKernel
from .exact_spins import ADVICE, LARGE_VECTORS, status_of
from .lanczos import certified_gap, lowest_eigenpair, solve_complement
from .operators import OperatorSystem
from .states import PureState

if TYPE_CHECKING:
    from .exact import ExactDiagonalization


def solve(
    solver: "ExactDiagonalization", system: OperatorSystem, params: Params, init: Equilibrium | None
) -> Equilibrium:
    """The ground state of the summed matrix."""
    matrix = system.matrix(params)
    dense = system.dim <= DENSE_DIM
    found = _solve_dense(matrix) if dense else _solve_sparse(solver, system, matrix, init)
    energy, amplitudes, gap, bound, matvecs = found
    residual = np.asarray(np.linalg.norm(matrix @ amplitudes - energy * amplitudes))
    state = PureState(0, amplitudes)
    overlap = None if init is None or not system.nudges else state.overlap(init.state)
    known = None if gap is None else np.asarray(gap)
    scale = float(abs(matrix).max()) if matrix.nnz else 0.0
    return Equilibrium(
        state=state,
        energy=Estimate.exact(np.asarray(energy)),
        residual=residual,
        gap=known,
        status=status_of(residual, max(bound, solver.tolerance), known, scale, overlap),
        stats={"method": "dense" if dense else "sparse Lanczos", "matvecs": matvecs, "energy_variance": residual**2},
    )


def _solve_dense(matrix: sp.csr_array) -> tuple[float, np.ndarray, float | None, float, int]:
    full = matrix.toarray()
    upper = min(1, len(full) - 1)
    values, vectors = scipy.linalg.eigh(full, subset_by_index=[0, upper])
    gap = float(values[1] - values[0]) if upper else np.inf
    rounding = 1e-13 * len(full) * float(np.abs(full).max())
    return float(values[0]), np.ascontiguousarray(vectors[:, 0]), gap, rounding, 0


def _solve_sparse(
    solver: "ExactDiagonalization", system: OperatorSystem, matrix: sp.csr_array, init: Equilibrium | None
) -> tuple[float, np.ndarray, float | None, float, int]:
    check_memory(LARGE_VECTORS * 16 * system.dim, f"A system of dimension {system.dim}", ADVICE, solver.memory)
    kernel = MatrixKernel(matrix)
    start = np.ones(kernel.dim) if init is None else kernel.to_real(init.state.amplitudes)
    out = lowest_eigenpair(
        kernel, start, tol=solver.tolerance, max_iterations=solver.max_iterations, warm=init is not None
    )
    gap, matvecs = None, out.matvecs
    if not system.nudges or init is None:
        certificate = certified_gap(kernel, out.energy, kernel.doublet(out.vector))
        gap, matvecs = certificate.gap, matvecs + certificate.matvecs
    rounding = 1e2 * np.finfo(float).eps * kernel.norm_bound
    return out.energy, kernel.to_amplitudes(out.vector), gap, rounding, matvecs


def respond(
    solver: "ExactDiagonalization",
    system: OperatorSystem,
    params: Params,
    equilibrium: Equilibrium,
    term: WeightedObservables,
    tolerance: float,
) -> Response:
    """The Sternheimer equation: a bordered dense solve when small, conjugate gradients above."""
    matrix, psi, energy = system.matrix(params), equilibrium.state.amplitudes, float(equilibrium.energy.mean)
    rhs = -sum(w * (op.matrix @ psi) for w, op in zip(term.weights, term.observables, strict=True))
    rhs = rhs - psi * np.vdot(psi, rhs)
    size = np.abs(term.weights) @ [op.norm_bound for op in term.observables]
    if np.linalg.norm(rhs) <= 8 * np.finfo(float).eps * size:  # psi is an eigenvector of the cost: it moves nothing
        rhs = np.zeros_like(rhs)
    products = 0
    if system.dim <= DENSE_DIM:
        bordered = np.block([[matrix.toarray() - energy * np.eye(system.dim), psi[:, None]], [psi.conj()[None], 0.0]])
        x = np.linalg.solve(bordered, np.append(rhs, 0.0))[:-1]
        norm = np.linalg.norm(rhs)
        residual = np.linalg.norm(matrix @ x - energy * x - rhs) / norm if norm else 0.0
    else:
        kernel = MatrixKernel(matrix, realified=np.iscomplexobj(rhs))
        level = kernel.doublet(kernel.to_real(psi))
        out = solve_complement(
            kernel, energy, level, kernel.to_real(rhs), tol=tolerance, max_iterations=solver.max_iterations
        )
        x, residual, products = kernel.to_amplitudes(out.vector), out.relative_residual, out.matvecs
    status = Status.OK if residual <= max(10 * tolerance, 1e-9) else Status.UNCONVERGED
    grad = system.transition_forces(psi, x)
    return Response(Estimate.exact(grad), np.asarray(residual), status, {"matvecs": products})
