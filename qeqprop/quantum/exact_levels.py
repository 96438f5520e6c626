"""Eigenstates by their number, and the branches that they follow under a nudge.

The identity dL/dtheta = d/dbeta <dH/dtheta>_beta needs a stationary state, not a lowest one: it holds on the branch of
any non-degenerate eigenstate (Scellier 2024, arXiv:2406.00879). A *free* solve finds level k by its number. A *nudged*
one belongs to the branch of its start, whatever number it has by then: it is the eigenstate whose overlap with the
start has a square above 1/2, and there is at most one such state.

- Up to dimension `DENSE_DIM` all levels come from one diagonalisation.
- Above it, level after level: Lanczos on H with the levels found so far lifted out of the way, so that exact copies of a
  level are found as well; a last run on the complement certifies that none was missed. Branches are followed by Newton's
  method, (H - E) d = -(H - E) psi on the complement of psi. H - E is indefinite there: MINRES (Paige and Saunders 1975).
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import LinearOperator, minres

from ..core.estimate import Estimate
from ..core.memory import check_memory
from ..core.nudge import WeightedObservables
from ..core.solver import Equilibrium, Response
from ..core.status import Status
from ..core.system import Params
from .eigen_kernels import DENSE_DIM, EigenKernel, Lifted, kernel_of, term_kernel
from .exact_spins import ADVICE, status_of
from .lanczos import UNRESOLVED, certified_gap, lowest_eigenpair
from .operators import OperatorSystem
from .spins import AbstractSpinSystem
from .states import PureState, transition_moments
from .strings import real_form
from .vectors import Float1D

if TYPE_CHECKING:
    from .exact import ExactDiagonalization

VECTORS = 12
"""State vectors held at a time, besides the levels below: Lanczos, MINRES."""
EXTRA_LEVELS = 4
"""Levels missed by the runs from below that are looked for before giving up."""
NEWTON_STEPS = 8
NEWTON_ACCURACY = 1e-4
"""Relative residual of one Newton step: every step gains as many digits."""
REFINEMENTS, LEAST_GAIN = 6, 1e-4
"""Restarts of MINRES, which stops at a backward error ||r|| / ||A|| ||x|| rather than at a residual, and the least gain
of each: a looser one need not reduce the residual of an ill-conditioned equation at all."""


class Eigenpair(NamedTuple):
    """One level. `gap` is the distance to its nearest neighbour, above or below; None where it was not computed."""

    energy: float
    amplitudes: np.ndarray
    gap: float | None
    matvecs: int
    method: str


def solve(
    solver: "ExactDiagonalization",
    system: AbstractSpinSystem | OperatorSystem,
    params: Params,
    init: Equilibrium | None,
) -> Equilibrium:
    """Level `solver.level`, or the eigenstate on the branch of `init`."""
    kernel = kernel_of(system, params, solver.threads)
    if solver.level >= kernel.levels:
        raise ValueError(
            f"Argument `level` must be below the dimension {kernel.levels} of the system, but is {solver.level}."
        )
    start = None if init is None else init.state.amplitudes
    if kernel.levels <= DENSE_DIM:
        found = _diagonalised(kernel, solver.level, start)
    elif start is not None and system.nudges:
        found = _followed(solver, kernel, start)
    else:
        found = _from_below(solver, kernel, start)
    product = kernel.product(found.amplitudes)
    residual = np.asarray(np.linalg.norm(product - found.energy * found.amplitudes))
    rounding = 1e2 * np.finfo(float).eps * kernel.norm_bound
    state = PureState(getattr(system, "n_sites", 0), found.amplitudes)
    gap = None if found.gap is None else np.asarray(found.gap)
    overlap = None if init is None else state.overlap(init.state)
    return Equilibrium(
        state=state,
        energy=Estimate.exact(np.asarray(found.energy)),
        residual=residual,
        gap=gap,
        status=status_of(residual, max(solver.tolerance, rounding), gap, kernel.scale, overlap),
        stats={"method": found.method, "matvecs": found.matvecs, "energy_variance": residual**2},
    )


def _diagonalised(kernel: EigenKernel, level: int, start: np.ndarray | None) -> Eigenpair:
    energies, vectors = scipy.linalg.eigh(kernel.dense)
    index = level if start is None else int(np.argmax(np.abs(vectors.conj().T @ start)))
    return Eigenpair(
        float(energies[index]), np.ascontiguousarray(vectors[:, index]), _nearest(energies, index), 0, "dense"
    )


def _nearest(energies: np.ndarray, index: int) -> float:
    """Distance of one level to its nearest neighbour; infinite where there is no other."""
    return float(np.min(np.abs(np.diff(energies))[max(index - 1, 0) : index + 1], initial=np.inf))


def _from_below(solver: "ExactDiagonalization", kernel: EigenKernel, start: np.ndarray | None) -> Eigenpair:
    """All levels up to the one wanted; with a start one more, and of them the one that is most like it."""
    wanted = solver.level + (1 if start is None else 2)
    what = f"Exact diagonalisation of dimension {kernel.levels} up to level {solver.level}"
    copies = kernel.dim // kernel.levels
    check_memory((VECTORS + copies * (wanted + EXTRA_LEVELS)) * 8 * kernel.dim, what, ADVICE, solver.memory)
    pairs: list[tuple[float, Float1D]] = []
    matvecs, top = 0, -np.inf
    for number in range(wanted + EXTRA_LEVELS):
        lifted = Lifted(kernel, pairs)
        out = lowest_eigenpair(
            lifted,
            np.zeros(kernel.dim),  # a random start: products of spins are nearly orthogonal to most excited states
            tol=0.1 * solver.tolerance,
            max_iterations=solver.max_iterations,
            seed=number,
        )
        pairs.append((out.energy, out.vector))
        pairs.sort(key=lambda pair: pair[0])
        matvecs += out.matvecs
        if len(pairs) < wanted:
            continue
        highest = pairs[-1][0]
        certificate = certified_gap(kernel, highest, [v for _, vector in pairs for v in kernel.doublet(vector)])
        matvecs, top = matvecs + certificate.matvecs, highest + certificate.gap
        if certificate.gap > -10 * solver.tolerance * max(1.0, abs(highest)):
            break
    energies = np.array([energy for energy, _ in pairs])
    states = [kernel.to_amplitudes(vector) for _, vector in pairs]
    index = solver.level if start is None else int(np.argmax([abs(np.vdot(state, start)) for state in states]))
    gap = _nearest(np.append(energies, top), index)
    return Eigenpair(float(energies[index]), states[index], gap, matvecs, "Lanczos, level by level")


def _followed(solver: "ExactDiagonalization", kernel: EigenKernel, start: np.ndarray) -> Eigenpair:
    """Newton's method on the Rayleigh quotient, until the tolerance is met or rounding stops it."""
    check_memory(VECTORS * 8 * kernel.dim, f"A state of dimension {kernel.levels}", ADVICE, solver.memory)
    psi = kernel.to_real(start)
    psi /= np.linalg.norm(psi)
    best, matvecs = (0.0, psi, np.inf), 0
    for _ in range(NEWTON_STEPS):
        product = np.empty_like(psi)
        energy, _ = kernel.apply_lanczos(psi, psi, 0.0, product)
        defect = product - energy * psi
        residual, matvecs = float(np.linalg.norm(defect)), matvecs + 1
        if residual >= best[2]:
            break
        best = (energy, psi, residual)
        if residual <= 0.5 * solver.tolerance:
            break
        accuracy = max(NEWTON_ACCURACY, 0.1 * solver.tolerance / residual)
        step, _, count = _indefinite(kernel, energy, psi, -defect, accuracy, solver.max_iterations)
        psi, matvecs = psi + step, matvecs + count
        psi /= np.linalg.norm(psi)
    return Eigenpair(best[0], kernel.to_amplitudes(best[1]), None, matvecs, "Newton with MINRES")


def respond(
    solver: "ExactDiagonalization",
    system: AbstractSpinSystem | OperatorSystem,
    params: Params,
    equilibrium: Equilibrium,
    term: WeightedObservables,
    tolerance: float,
) -> Response:
    """(H - E) x = -(C - <C>) psi on the complement of psi: a bordered solve when small, MINRES above."""
    psi, energy = equilibrium.state.amplitudes, float(equilibrium.energy.mean)
    cost = term_kernel(system, term, solver.threads, realified=np.iscomplexobj(psi))
    kernel = kernel_of(system, params, solver.threads, realified=cost.realified)
    rhs = -cost.product(psi)
    whole = float(np.linalg.norm(rhs))
    rhs = rhs - psi * np.vdot(psi, rhs)
    scale = max(float(np.linalg.norm(rhs)), UNRESOLVED * whole)
    products = 0
    if scale == 0.0 or np.linalg.norm(rhs) <= 8 * np.finfo(float).eps * cost.norm_bound:
        x, residual = np.zeros_like(rhs), 0.0  # psi is an eigenvector of the cost: it moves nothing
    elif kernel.levels <= DENSE_DIM:
        shifted = kernel.dense - energy * np.eye(kernel.levels)
        x = np.linalg.solve(np.block([[shifted, psi[:, None]], [psi.conj()[None], 0.0]]), np.append(rhs, 0.0))[:-1]
        defect = shifted @ x - rhs
        residual = float(np.linalg.norm(defect - psi * np.vdot(psi, defect))) / scale
    else:
        goal = tolerance * scale / float(np.linalg.norm(rhs))
        vector, residual, products = _indefinite(
            kernel, energy, kernel.to_real(psi), kernel.to_real(rhs), goal, solver.max_iterations
        )
        x, residual = kernel.to_amplitudes(vector), residual * float(np.linalg.norm(rhs)) / scale
    status = Status.OK if residual <= max(10 * tolerance, 1e-9) else Status.UNCONVERGED
    if not np.isfinite(residual):
        status = Status.NOT_FINITE
    return Response(Estimate.exact(_forces(system, psi, x)), np.asarray(residual), status, {"matvecs": products})


def _forces(system: AbstractSpinSystem | OperatorSystem, psi: np.ndarray, x: np.ndarray) -> Params:
    """2 Re <psi|dH/dtheta|x>."""
    if isinstance(system, OperatorSystem):
        return system.transition_forces(psi, x)
    forces = system.force_table()
    n_bits = max(forces.n_bits, system.n_sites + int(np.iscomplexobj(psi) or np.iscomplexobj(x)))
    bra, ket = real_form(psi, n_bits), real_form(x, n_bits)
    return system.contract(2 * transition_moments(n_bits, forces.x, forces.z, bra, ket))


def _indefinite(
    kernel: EigenKernel, energy: float, psi: Float1D, rhs: Float1D, accuracy: float, max_iterations: int
) -> tuple[Float1D, float, int]:
    """(H - E) x = rhs on the complement of psi, to a relative residual: x, the residual reached, products."""
    known, image, products = kernel.doublet(psi), np.empty_like(psi), 0

    def project(vector: Float1D) -> Float1D:
        for v in known:
            vector = vector - v * (v @ vector)
        return vector

    def shifted(vector: Float1D) -> Float1D:
        nonlocal products
        products += 1
        inside = np.ascontiguousarray(project(vector))
        kernel.apply_lanczos(inside, inside, energy, image)
        return project(image)

    operator = LinearOperator((kernel.dim, kernel.dim), matvec=shifted, dtype=np.float64)
    rhs = project(rhs)
    size, x, defect, residual = float(np.linalg.norm(rhs)), np.zeros_like(rhs), rhs, 1.0
    if size == 0.0:
        return x, 0.0, 0
    for _ in range(REFINEMENTS):
        left = max_iterations - products
        if residual <= accuracy or left <= 0 or not np.isfinite(residual):
            break
        x = x + minres(operator, defect, rtol=min(0.1 * accuracy / residual, LEAST_GAIN), maxiter=left)[0]
        defect = rhs - shifted(x)
        residual = float(np.linalg.norm(defect)) / size
    return project(x), residual, products
