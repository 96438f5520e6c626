"""Gaussian ground states by one diagonalisation: all covariances, linear response, complex nudges."""

import numpy as np
import scipy.linalg

from .gaussian_state import GaussianState
from .oscillators import HarmonicNetwork, Moments, QuadraticHamiltonian


class Modes:
    """Normal coordinates x, pi of H = p.A.p/2 + r.K.r/2: r = B x, p = C pi with H = sum (pi^2 + omega^2 x^2)/2.

    With A = L L^T and L^T K L = V omega^2 V^T: B = L V and C = B^-T. None of K and A need be diagonal.
    """

    def __init__(self, h: QuadraticHamiltonian):
        factor = np.linalg.cholesky(h.inverse_mass.toarray())
        self.squares, vectors = np.linalg.eigh(factor.T @ h.stiffness.toarray() @ factor)
        self.position = factor @ vectors
        self.momentum = scipy.linalg.solve_triangular(factor, vectors, trans="T", lower=True)

    @property
    def omega(self) -> np.ndarray:
        return np.sqrt(self.squares)


def is_bound(h: QuadraticHamiltonian) -> bool:
    """Whether (the real parts of) K and A are positive definite, beyond rounding."""
    for matrix in (h.stiffness, h.inverse_mass):
        values = np.linalg.eigvalsh(matrix.real.toarray())
        if values[0] <= 1e-14 * len(values) * abs(values[-1]):
            return False
    return True


def ground_state(network: HarmonicNetwork, h: QuadraticHamiltonian, modes: Modes) -> GaussianState:
    """<r> = K^-1 f, <p> = -A^-1 drift, Cov(r, r) = (hbar/2) B omega^-1 B^T, Cov(p, p) = (hbar/2) C omega C^T."""
    half = 0.5 * network.hbar
    mean = modes.position @ ((modes.position.T @ h.force) / modes.squares)
    return GaussianState(
        network.n_sites,
        network.components,
        mean,
        -modes.momentum @ (modes.momentum.T @ h.drift),
        half * (modes.position / modes.omega) @ modes.position.T,
        half * (modes.momentum * modes.omega) @ modes.momentum.T,
    )


def complex_state(network: HarmonicNetwork, h: QuadraticHamiltonian) -> GaussianState:
    """The analytic continuation to complex K and A: with the principal root of A K, which is analytic while Re K > 0,

    Cov(r, r) = (hbar/2) (A K)^(-1/2) A ,      Cov(p, p) = (hbar/2) A^-1 (A K)^(1/2) .
    """
    k, a = (matrix.toarray().astype(np.complex128) for matrix in (h.stiffness, h.inverse_mass))
    root = scipy.linalg.sqrtm(a @ k)
    half = 0.5 * network.hbar
    return GaussianState(
        network.n_sites,
        network.components,
        np.linalg.solve(k, h.force),
        -np.linalg.solve(a, h.drift),
        half * np.linalg.solve(root, a),
        half * np.linalg.solve(a, root),
    )


def response(
    network: HarmonicNetwork, h: QuadraticHamiltonian, state: GaussianState, bent: QuadraticHamiltonian
) -> Moments:
    """d(moments)/dbeta under H + beta * bent, in closed form.

    With u = B^T K' B and v = C^T A' C, the derivative of the matrix square root (Daleckii and Krein) gives

        d<x_a x_b> = (hbar/2) (-u_ab / (w_a w_b) + v_ab) / (w_a + w_b) ,
        d<pi_a pi_b> = (hbar/2) (u_ab - v_ab w_a w_b) / (w_a + w_b) .
    """
    modes = Modes(h)
    b, c, omega = modes.position, modes.momentum, modes.omega
    u, v = b.T @ (bent.stiffness @ b), c.T @ (bent.inverse_mass @ c)
    product, total = np.outer(omega, omega), np.add.outer(omega, omega)
    half = 0.5 * network.hbar
    position = half * b @ ((v - u / product) / total) @ b.T
    momentum = half * c @ ((u - v * product) / total) @ c.T
    mean = -b @ ((b.T @ (bent.stiffness @ state.mean - bent.force)) / modes.squares)
    shift = -c @ (c.T @ (bent.inverse_mass @ state.momentum + bent.drift))
    return Moments(mean, shift, position[network.pairs()], np.diagonal(momentum))
