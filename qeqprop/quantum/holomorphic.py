"""Eigenvectors at complex nudges, for holomorphic equilibrium propagation.

H + beta*C is complex symmetric for real H and C. Its eigenvector on the branch of the ground state is followed from
beta = 0 by Newton's method on the bordered system

    (H + beta C - e) d - psi de = -r ,   psi^T d = 0 ,     r = (H + beta C) psi - e psi ,

with the bilinear form psi^T psi = 1 (Laborieux & Zenke 2022 for the idea; the branch ends at an exceptional point).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..core.estimate import Estimate
from ..core.solver import Equilibrium
from ..core.status import Status
from ..core.system import Params
from .exact_spins import check_large
from .operators import OperatorSystem
from .spins import AbstractSpinSystem, SpinHamiltonian
from .states import BilinearState

if TYPE_CHECKING:
    from .exact import ExactDiagonalization

NEWTON_STEPS = 30
DENSE_BITS = 8

Apply = Callable[[np.ndarray], np.ndarray]
Correct = Callable[[np.ndarray, complex, np.ndarray], np.ndarray]


def solve(
    solver: "ExactDiagonalization",
    system: AbstractSpinSystem | OperatorSystem,
    params: Params,
    init: Equilibrium | None,
) -> Equilibrium:
    """The eigenvector of a complex symmetric Hamiltonian nearest to `init`; a batch goes sample by sample."""
    if isinstance(system, OperatorSystem):
        raise ValueError("An OperatorSystem cannot be nudged by a complex strength: use centered or richardson.")
    h = system.hamiltonian(params)
    if h.realified:
        raise ValueError(
            "Holomorphic EP needs a Hamiltonian and a cost with an even number of Y's in every string (real matrices): "
            "use centered or richardson."
        )
    if init is None:
        raise ValueError("A complex nudge needs the free equilibrium as `init`: its branch is followed.")
    coefficients = np.atleast_2d(h.coefficients)
    starts = np.atleast_2d(init.state.amplitudes).astype(np.complex128)
    frees = np.atleast_2d(init.state.amplitudes)
    energies, vectors, residuals, steps = [], [], [], 0
    for coefficient, start in zip(coefficients, starts, strict=True):
        energy, vector, error, count = _follow(solver, h._replace(coefficients=coefficient), start)
        energies.append(energy)
        vectors.append(vector)
        residuals.append(error)
        steps += count
    batch = h.coefficients.shape[:-1]
    psi, residual = np.array(vectors), np.array(residuals)
    status = Status.OK if np.all(residual <= solver.tolerance * np.maximum(1, np.abs(energies))) else Status.UNCONVERGED
    overlap = np.abs(np.sum(np.conj(frees) * psi, axis=-1)) / np.linalg.norm(psi, axis=-1)
    if status is Status.OK and np.any(overlap**2 < 0.5):
        status = Status.BRANCH_JUMP
    return Equilibrium(
        state=BilinearState(h.n_sites, psi.reshape(*batch, -1)),
        energy=Estimate.exact(np.array(energies).reshape(batch)),
        residual=residual.reshape(batch),
        gap=None,
        status=status,
        stats={"method": "complex Newton", "matvecs": steps, "energy_variance": residual.reshape(batch) ** 2},
    )


def _follow(
    solver: "ExactDiagonalization", h: SpinHamiltonian, psi: np.ndarray
) -> tuple[complex, np.ndarray, float, int]:
    """Newton's method with the bilinear Rayleigh quotient: quadratic convergence, here to the tolerance or to rounding."""
    apply, correct = _dense_maps(h) if h.n_bits <= DENSE_BITS else _matrix_free_maps(solver, h)
    psi = psi / np.sqrt(psi @ psi)
    best: tuple[complex, np.ndarray, float] = (0j, psi, np.inf)
    steps = 0
    while steps < NEWTON_STEPS:
        steps += 1
        product = apply(psi)
        energy = complex(psi @ product)
        r = product - energy * psi
        residual = float(np.linalg.norm(r) / np.linalg.norm(psi))
        if residual >= best[2]:
            break  # rounding: the last step did not help
        best = (energy, psi, residual)
        if residual <= 0.1 * solver.tolerance:
            break
        psi = psi + correct(psi, energy, -r)
        psi = psi / np.sqrt(psi @ psi)
    return *best, steps


def _dense_maps(h: SpinHamiltonian) -> tuple[Apply, Correct]:
    dim = 1 << h.n_bits
    index = np.arange(dim)
    matrix = np.zeros((dim, dim), dtype=np.complex128)
    for x, z, c in zip(h.x, h.z, h.coefficients, strict=True):
        matrix[index ^ x, index] += c * (1.0 - 2.0 * (np.bitwise_count(index & z) & 1))

    def correct(psi: np.ndarray, energy: complex, rhs: np.ndarray) -> np.ndarray:
        bordered = np.block([[matrix - energy * np.eye(dim), psi[:, None]], [psi[None], np.zeros((1, 1))]])
        return np.linalg.solve(bordered, np.append(rhs, 0.0))[:-1]

    return lambda v: matrix @ v, correct


def _matrix_free_maps(solver: "ExactDiagonalization", h: SpinHamiltonian) -> tuple[Apply, Correct]:
    from .kernels import PauliKernel

    check_large(solver, h.n_sites, h.n_bits + 1)
    parts = [
        PauliKernel(h.n_bits, h.x, h.z, np.ascontiguousarray(part), threads=solver.threads)
        for part in (h.coefficients.real, h.coefficients.imag)
    ]

    def apply(v: np.ndarray) -> np.ndarray:
        out = np.zeros_like(v)
        work = np.empty(len(v))
        for factor, kernel in zip((1, 1j), parts, strict=True):
            for unit, component in ((1, v.real), (1j, v.imag)):
                kernel.apply(np.ascontiguousarray(component), work)
                out += factor * unit * work
        return out

    def correct(psi: np.ndarray, energy: complex, rhs: np.ndarray) -> np.ndarray:
        return _conjugate_orthogonal_gradients(lambda v: apply(v) - energy * v, psi, rhs, solver.max_iterations)

    return apply, correct


def _conjugate_orthogonal_gradients(apply: Apply, psi: np.ndarray, rhs: np.ndarray, most: int) -> np.ndarray:
    """COCG: conjugate gradients in the bilinear form, for complex symmetric matrices; on the complement of psi."""
    r = rhs - psi * (psi @ rhs)
    x, p, rho = np.zeros_like(r), r.copy(), r @ r
    goal = 1e-4 * np.linalg.norm(r)  # an inexact Newton step
    for _ in range(most):
        if np.linalg.norm(r) <= goal:
            break
        q = apply(p)
        q -= psi * (psi @ q)
        alpha = rho / (p @ q)
        x += alpha * p
        r -= alpha * q
        rho, previous = r @ r, rho
        p = r + (rho / previous) * p
    return x
