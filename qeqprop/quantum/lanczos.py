r"""Ground states and linear response of a large real symmetric H known only by its products H x.

With matrix-free products the vector work is as expensive as the products, so methods with short recurrences win:

- `lowest_eigenpair`: three-term Lanczos without reorthogonalisation (Paige 1971: it converges to the extreme pairs,
  loss of orthogonality only delays). Its vector is assembled from the stored basis where that fits in memory. Where it
  does not, repeating the recurrence would double the cost; instead only a rough state is assembled this way, and
  Newton's correction finishes it (Jacobi-Davidson: Sleijpen, van der Vorst, SIAM J. Matrix Anal. Appl. 17, 401, 1996),

      Q (H - E) Q delta = -(H - E) psi,      Q = 1 - psi psi^T,

  solved by conjugate gradients. It converges cubically, so two solves do, and nothing has to be repeated.
- `solve_complement`: the same conjugate gradients for linear response, (H - E_0) x = Q b.
- `certified_gap`: Lanczos from a random start on the complement of the states already found. It reveals a second copy
  of the ground state, which no single Lanczos run can see.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

from qeqprop.quantum.vectors import VectorWork, add_noise

Float1D = NDArray[np.float64]

STATE_ERROR = 1e-2
"""Accuracy at which Newton's correction takes over from Lanczos."""

FEW_VECTORS = 60
"""If at least this many basis vectors fit in memory, one Lanczos run goes all the way."""


class SymmetricOperator(Protocol):
    """What the solvers need of H. `PauliKernel` is one; `threads` (default 1) and `matvecs` are optional."""

    dim: int
    norm_bound: float

    def apply_lanczos(self, x: Float1D, previous: Float1D, beta: float, out: Float1D) -> tuple[float, float]:
        """out = H x - beta previous; returns (<x, out>, <out, out>). `previous` may be `out` or `x`."""
        ...


class LanczosResult(NamedTuple):
    """A ground state. `residual` is the true ||H psi - E psi||, `converged` whether it is within the tolerance.

    `ritz` holds the lowest one or two Ritz values: the second is an upper bound of the first excited level *of the
    symmetry sector of the start*; see `certified_gap`. `iterations` counts recurrence steps, `matvecs` all products.
    """

    energy: float
    vector: Float1D
    residual: float
    iterations: int
    converged: bool
    ritz: tuple[float, ...]
    matvecs: int


class ComplementSolution(NamedTuple):
    """Solution of (H - E) x = Q b. `relative_residual` is the true ||Q b - Q (H - E) x|| / ||Q b||.

    `negative_curvature`: E is not the lowest level left on the complement, so the equation has no minimum there; the
    solve stopped and `converged` is False. `lowest` is the smallest Ritz value of Q (H - E) Q seen, about the gap.
    """

    vector: Float1D
    relative_residual: float
    iterations: int
    converged: bool
    negative_curvature: bool
    lowest: float
    matvecs: int


class GapResult(NamedTuple):
    """Distance from the energy to the lowest level on the complement: an upper bound, to about the tolerance squared."""

    gap: float
    matvecs: int


def lowest_eigenpair(
    kernel: SymmetricOperator,
    start: Float1D,
    *,
    tol: float = 1e-10,
    max_iterations: int = 2000,
    basis_bytes: int = 1 << 25,
    warm: bool = False,
    seed: int = 0,
) -> LanczosResult:
    """Lowest eigenvalue and eigenvector of H.

    Args:
        kernel: the operator, see `SymmetricOperator`.
        start: approximate ground state of shape (dim,), any norm; it is not modified.
        tol: the residual ||H psi - E psi|| wanted, in units of energy. Raised to 4 eps norm_bound, where rounding stops.
        max_iterations: bound on the number of recurrence steps.
        basis_bytes: memory for basis vectors, beyond the five vectors that are always needed.
        warm: `start` is the ground state of a nearby H. It is then refined as it is, and returned after one product if
            it is already converged. Otherwise a small random vector is added to it, because a start without any
            component along the ground state (another symmetry sector) would lead to an excited one.
        seed: of that random vector.
    """
    work = VectorWork(kernel)
    psi = np.array(start, dtype=np.float64)
    if psi.shape != (kernel.dim,):
        raise ValueError(f"Argument `start` must have shape ({kernel.dim},), but has shape {psi.shape}.")
    if not warm:
        add_noise(work, psi, seed)
    norm = np.sqrt(work.dot(psi, psi))
    if not (np.isfinite(norm) and norm > 0.0):
        raise ValueError(f"Argument `start` must be finite and not zero, but has norm {norm}.")
    psi *= 1.0 / norm
    threshold = max(tol, 4.0 * np.finfo(float).eps * kernel.norm_bound)
    rows = 1 + basis_bytes // psi.nbytes
    return _refine(work, psi, threshold, max_iterations, rows, newton=warm)


def _refine(
    work: VectorWork, psi: Float1D, threshold: float, max_iterations: int, rows: int, *, newton: bool
) -> LanczosResult:
    """Alternate Lanczos runs and Newton corrections until the residual is small or stops falling."""
    rough = rows < FEW_VECTORS
    buffers = [np.empty_like(psi), np.empty_like(psi)]
    iterations, last, ritz, gap, target = 0, np.inf, (), 0.0, 0.3 * threshold
    run_first = not newton
    while True:
        if run_first and iterations < max_iterations:
            run = _lanczos_run(work, psi, target, STATE_ERROR if rough else 0.0, max_iterations - iterations, rows, buffers)
            psi, ritz, iterations = run.vector, run.ritz, iterations + run.iterations
        energy, residual = work.residual(psi, buffers[0])
        ritz = (energy, *ritz[1:])
        if residual <= threshold or iterations >= max_iterations or not np.isfinite(residual):
            break
        gap = ritz[1] - energy if len(ritz) > 1 else gap
        ...
    return LanczosResult(energy, psi, residual, iterations, bool(residual <= threshold), ritz, work.matvecs)
