r"""Ground states and linear response of a large real symmetric H known only by its products H x.

With matrix-free products the vector work costs as much as the products, so methods with short recurrences win:

- `lowest_eigenpair`: three-term Lanczos without reorthogonalisation (Paige 1971: the extreme pairs converge all the
  same, lost orthogonality only delays). The vector is assembled from the stored basis where that fits in memory. Where
  it does not, repeating the whole recurrence would double the cost; instead only a rough state is assembled this way,
  and Newton's correction finishes it (Sleijpen and van der Vorst, SIAM J. Matrix Anal. Appl. 17, 401, 1996),

      (H - E) delta = -(H - E) psi,      <psi, delta> = 0,

  by conjugate gradients, which need no second pass. Each correction squares the error of the state.
- `solve_complement`: the same conjugate gradients for linear response, (H - E_0) x = Q b.
- `certified_gap`: Lanczos from a random start on the complement of the states already found. It reveals a second copy
  of the ground state, which no single Lanczos run can see.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh_tridiagonal

from .vectors import Float1D, SymmetricOperator, Workspace, add, advance, advance_and_add, cg_update

PROJECT_EVERY = 8
"""Conjugate gradients remove the known states from residual and direction every so many steps: they hardly grow."""

FLAT = 1e-12
"""A direction with a curvature below this fraction of norm_bound is treated as not bound from below."""

STATE_ERROR = 1e-2
"""A Lanczos run whose basis is not kept stops at this error of the state: Newton's correction is cheaper from here."""

NEWTON_ERROR = 5e-2
"""Above this error of the state Newton's correction need not converge to the ground state: Lanczos is used."""

TYPICAL_GAP = 0.02
"""First guess of gap / norm_bound, for a warm start; it only decides how far the first correction goes."""

UNRESOLVED = 1e-4
"""A right-hand side below this fraction of its part along the known states is solved for relative to that fraction: where
they are eigenstates of the perturbation, what is left is nothing but their error."""

SMALLEST_GAP = 1e-6
"""Gaps above this fraction of the spectrum's width are resolved by `certified_gap` to its relative tolerance."""

FEW_VECTORS = 60
"""If at least this many basis vectors fit in memory, one Lanczos run goes all the way."""


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
    """Distance from the energy to the lowest level on the complement: an upper bound, good to about tol^2."""

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
        tol: the residual ||H psi - E psi|| wanted, in units of energy; at least 4 eps norm_bound, the rounding errors.
        max_iterations: bound on the number of recurrence steps.
        basis_bytes: memory for basis vectors, beyond the five vectors that are always needed.
        warm: `start` is the ground state of a nearby H. It is then refined as it is, and returned after one product if
            it is already converged. Otherwise a small random vector is added to it, because a start without any
            component along the ground state (another symmetry sector) would lead to an excited one.
        seed: of that random vector.
    """
    work = Workspace(kernel)
    psi = np.array(start, dtype=np.float64)
    if psi.shape != (kernel.dim,):
        raise ValueError(f"Argument `start` must have shape ({kernel.dim},), but has shape {psi.shape}.")
    if not warm:
        work.add_noise(psi, 2 * seed)
    norm = np.sqrt(work.dot(psi, psi))
    if not (np.isfinite(norm) and norm > 0.0):
        raise ValueError(f"Argument `start` must be finite and not zero, but has norm {norm}.")
    psi *= 1.0 / norm
    threshold = max(tol, 4.0 * np.finfo(float).eps * kernel.norm_bound)
    rows = 1 + basis_bytes // psi.nbytes
    return _refine(work, psi, threshold, max_iterations, rows, newton=warm)


def certified_gap(
    kernel: SymmetricOperator,
    energy: float,
    vectors: Sequence[Float1D],
    *,
    tol: float = 1e-2,
    seed: int = 0,
    max_iterations: int = 300,
) -> GapResult:
    """Distance from `energy` to the lowest level on the complement of the orthonormal `vectors`.

    Near zero: the level is (almost) degenerate beyond `vectors`. Negative: `energy` is not the lowest. The random start
    has a component along every state, so no symmetry can hide a level from it. It stops when the residual of the
    lowest Ritz pair is below tol times the gap, or below tol * SMALLEST_GAP times the width of the
    spectrum: by then an exactly degenerate level is known to about 1e-13 of the width.
    """
    work = Workspace(kernel)
    v, w = np.zeros(kernel.dim), np.zeros(kernel.dim)
    # Another stream than in `lowest_eigenpair`: if only its noise reached a degenerate level, the same noise minus the
    # state found would have no component left in that level, and the degeneracy would stay hidden.
    work.add_noise(v, 2 * seed + 1)
    beta, recurrence, theta = 0.0, _Tridiagonal(), np.inf
    work.project(v, vectors)
    v *= 1.0 / np.sqrt(work.dot(v, v))
    for step in range(1, min(max_iterations, kernel.dim - len(vectors)) + 1):
        alpha, _ = work.apply(v, w, beta, w)
        work.combine(add, w, v, -alpha)
        work.project(w, vectors)  # at every step: the recurrence amplifies what rounding leaves of the lowest states
        beta = float(np.sqrt(work.dot(w, w)))
        recurrence.append(alpha, beta)
        exhausted = beta <= 1e-12 * kernel.norm_bound
        if step % 4 == 0 or exhausted or step == kernel.dim - len(vectors):
            ritz, _, estimate, width = recurrence.lowest()
            theta = ritz[0] - energy
            if exhausted or estimate <= tol * max(theta, SMALLEST_GAP * width):
                break
        w *= 1.0 / beta
        v, w = w, v
    return GapResult(float(recurrence.lowest()[0][0] - energy), work.matvecs)


def solve_complement(
    kernel: SymmetricOperator,
    energy: float,
    vectors: Sequence[Float1D],
    rhs: Float1D,
    *,
    tol: float = 1e-10,
    max_iterations: int = 2000,
) -> ComplementSolution:
    """Solve Q (H - E) Q x = Q rhs by conjugate gradients, Q the projector on the complement of orthonormal `vectors`.

    Positive definite there if `vectors` span all states at or below E. The solution has no component along `vectors`;
    `tol` bounds the residual relative to |Q rhs|, or to `UNRESOLVED` |rhs| where that is larger.
    """
    if len(vectors) == 0:
        raise ValueError("Argument `vectors` must hold at least the ground state, but is empty.")
    work = Workspace(kernel)
    r = np.array(rhs, dtype=np.float64)
    whole = np.sqrt(work.dot(r, r))
    work.project(r, vectors)
    size = np.sqrt(work.dot(r, r))
    scale = max(size, UNRESOLVED * whole)
    x, p, out = np.zeros_like(r), np.empty_like(r), np.empty_like(r)
    if size == 0.0:
        return ComplementSolution(x, 0.0, 0, True, False, np.inf, 0)
    run = _conjugate_gradients(work, energy, vectors, x, r, p, out, 0.9 * tol * scale / size, max_iterations)
    work.project(x, vectors)
    work.apply(x, x, energy, out)
    np.subtract(rhs, out, out=out)
    work.project(out, vectors)
    residual = float(np.sqrt(work.dot(out, out)) / scale)
    converged = bool(residual <= tol) and not run.negative_curvature
    return ComplementSolution(x, residual, run.iterations, converged, run.negative_curvature, run.lowest, work.matvecs)


# --- the algorithms ---------------------------------------------------------------------------------------------------


def _refine(
    work: "Workspace", psi: Float1D, threshold: float, max_iterations: int, rows: int, *, newton: bool
) -> LanczosResult:
    """One Lanczos run, then Newton corrections; a full Lanczos run whenever a correction did not help."""
    loose = STATE_ERROR if rows < FEW_VECTORS else 0.0
    r, out = np.empty_like(psi), np.empty_like(psi)
    x = p = np.empty(0)
    ritz: tuple[float, ...] = ()
    iterations, failures, best = 0, 0, np.inf
    while True:
        if not newton and iterations < max_iterations:
            state, steps, ritz = _lanczos(
                work, psi, 0.3 * threshold, loose, max_iterations - iterations, rows, (r, out)
            )
            psi[:] = state  # the caller holds psi: a second state kept alive would cost a vector
            del state
            iterations += steps
        energy, residual = work.residual(psi, r)
        failures = 0 if residual <= 0.5 * best else failures + 1
        best = min(best, residual)
        if residual <= threshold or iterations >= max_iterations or failures > 2 or not np.isfinite(residual):
            break
        gap = ritz[1] - energy if len(ritz) > 1 else TYPICAL_GAP * work.kernel.norm_bound
        error = residual / gap if gap > 0.0 else np.inf
        newton = failures == 0 and error <= NEWTON_ERROR
        if not newton:
            loose = loose if failures == 0 and not ritz else 0.0
            continue
        if x.size == 0:
            x, p = np.empty_like(psi), np.empty_like(psi)
        # Conjugate gradients see psi, not the ground state, as known: they stall at the state error (times the gap).
        accuracy = max(0.3 * threshold / residual, error)
        run = _conjugate_gradients(work, energy, [psi], x, r, p, out, accuracy, max_iterations - iterations)
        iterations += run.iterations
        if run.negative_curvature:  # another state is lower than this one: only Lanczos can find it
            newton, loose = False, 0.0
            continue
        ritz = (energy, min((energy + run.lowest, *ritz[1:])))
        work.combine(add, psi, x, -1.0)
        psi *= 1.0 / np.sqrt(work.dot(psi, psi))
    return LanczosResult(
        energy, psi, residual, iterations, bool(residual <= threshold), (energy, *ritz[1:]), work.matvecs
    )


def _lanczos(
    work: "Workspace",
    start: Float1D,
    target: float,
    loose: float,
    max_iterations: int,
    rows: int,
    buffers: tuple[Float1D, Float1D],
) -> tuple[Float1D, int, tuple[float, ...]]:
    """Ritz vector of the Krylov space of `start`, number of steps, lowest Ritz values.

    Stops when the estimated residual is below `target`, or the estimated state error below `loose`. The first `rows`
    basis vectors are kept; the others live in two buffers, each written over the one before last, and are made again
    for the sum that is the Ritz vector. With rows = 1 this is two-pass Lanczos.
    """
    basis, recurrence, beta = [start], _Tridiagonal(), 0.0

    def place(step: int) -> Float1D:
        return basis[step] if step < len(basis) else buffers[step % 2]

    limit = min(max_iterations, start.size)
    for step in range(limit):
        if step + 1 < rows:
            basis.append(np.empty_like(start))
        v, w = place(step), place(step + 1)
        alpha, norm2 = work.apply(v, place(step - 1) if step else v, beta, w)
        beta = float(np.sqrt(max(norm2 - alpha * alpha, 0.0)))
        # The difference above loses half of the digits when v is almost an eigenvector: correct by the true norm.
        scale = beta if beta > 1e-6 * abs(alpha) else 1.0
        norm = float(np.sqrt(work.combine(advance, w, v, alpha, 1.0 / scale)))
        beta = scale * norm
        recurrence.append(alpha, beta)
        exhausted = not beta > 1e-14 * work.kernel.norm_bound
        m = step + 1
        if m % max(4, m // 16) == 0 or m == limit or exhausted:
            ritz, coefficients, estimate, _ = recurrence.lowest()
            done = len(ritz) > 1 and estimate <= loose * (ritz[1] - ritz[0])
            if exhausted or done or estimate <= target:
                break
        if abs(norm - 1.0) > 1e-12:
            w *= 1.0 / norm
    return _ritz_vector(work, place, min(rows, m), recurrence, coefficients), m, ritz


def _ritz_vector(
    work: "Workspace",
    place: Callable[[int], Float1D],
    kept: int,
    recurrence: "_Tridiagonal",
    coefficients: Float1D,
) -> Float1D:
    """sum_j coefficients[j] v_j; vectors from number `kept` on are computed a second time."""
    psi = np.zeros_like(place(0))
    for step, c in enumerate(coefficients):
        v = place(step)
        if step + 1 < kept or step + 1 == len(coefficients):
            work.combine(add, psi, v, c)
            continue
        w = place(step + 1)
        beta = recurrence.offdiagonal[step - 1] if step else 0.0
        work.apply(v, place(step - 1) if step else v, beta, w)
        work.combine(advance_and_add, w, v, recurrence.diagonal[step], 1.0 / recurrence.offdiagonal[step], c, psi)
    psi *= 1.0 / np.sqrt(work.dot(psi, psi))
    return psi


class _CGRun(NamedTuple):
    iterations: int
    negative_curvature: bool
    lowest: float


def _conjugate_gradients(
    work: "Workspace",
    energy: float,
    vectors: Sequence[Float1D],
    x: Float1D,
    r: Float1D,
    p: Float1D,
    out: Float1D,
    accuracy: float,
    max_iterations: int,
) -> _CGRun:
    """Solve Q (H - E) Q x = r to a relative accuracy from x = 0; r (orthogonal to `vectors`) becomes the residual.

    The coefficients are those of a Lanczos recurrence (Golub and Van Loan, section 11.3), whose lowest Ritz value comes
    with the solution.
    """
    x.fill(0.0)
    p[:] = r
    rr = pp = first = work.dot(r, r)
    recurrence, step, ratio, last_length = _Tridiagonal(), 0, 0.0, 1.0
    while step < max_iterations and rr > accuracy**2 * first:
        curvature, norm2 = work.apply(p, p, energy, out)
        if not curvature > FLAT * work.kernel.norm_bound * pp:
            return _CGRun(step, True, float(curvature / pp))
        length = rr / curvature
        recurrence.append(1.0 / length + ratio / last_length, 0.0)
        # <r, out> = <p, out> in exact arithmetic, so the next <r, r> is known before r: one pass updates everything.
        ratio, last_length = max(length * length * norm2 / rr - 1.0, 0.0), length
        recurrence.offdiagonal[-1] = float(np.sqrt(ratio)) / length
        rr, pp = work.combine2(cg_update, x, p, r, out, length, ratio)
        step += 1
        if step in (1, 2, 4) or step % PROJECT_EVERY == 0:
            work.project(p, vectors)
            work.project(r, vectors)
            rr = work.dot(r, r)
    return _CGRun(step, False, recurrence.lowest()[0][0] if step else np.inf)


class _Tridiagonal:
    """The projection of H on a Krylov space; offdiagonal[j] couples vectors j and j + 1."""

    def __init__(self) -> None:
        self.diagonal: list[float] = []
        self.offdiagonal: list[float] = []

    def append(self, alpha: float, beta: float) -> None:
        self.diagonal.append(alpha)
        self.offdiagonal.append(beta)

    def lowest(self) -> tuple[tuple[float, ...], Float1D, float, float]:
        """The lowest one or two Ritz values, the vector of the first, its estimated residual, the width of all."""
        a, b = np.array(self.diagonal), np.array(self.offdiagonal)
        values, vectors = eigh_tridiagonal(a, b[:-1], select="i", select_range=(0, min(1, a.size - 1)))
        width = float(np.max(a + np.abs(b)) - values[0])
        return tuple(values.tolist()), vectors[:, 0], float(b[-1] * abs(vectors[-1, 0])), width
