"""Gaussian equilibria by one diagonalisation, at any temperature: covariances, linear response, complex nudges.

Batches: every array may have the batch axis first. Samples that share K and A share modes and covariances.
"""

import numpy as np
import scipy.linalg

from .gaussian_hamiltonian import QuadraticHamiltonian
from .gaussian_occupation import Occupation
from .gaussian_state import GaussianState
from .oscillators import HarmonicNetwork, Moments

MATRICES = 8
"""Matrices of full size held at a time, of every sample."""


class Modes:
    """Normal coordinates x, pi of H = p.A.p/2 + r.K.r/2: r = B x, p = C pi with H = sum (pi^2 + omega^2 x^2)/2.

    With A = L L^T and L^T K L = V omega^2 V^T: B = L V and C = B^-T. None of K and A need be diagonal.
    """

    def __init__(self, h: QuadraticHamiltonian):
        factor = np.linalg.cholesky(h.inverse_mass.toarray())
        self.squares, vectors = np.linalg.eigh(factor.mT @ h.stiffness.toarray() @ factor)
        self.position = factor @ vectors
        self.momentum = np.linalg.solve(factor.mT, vectors)

    @property
    def omega(self) -> np.ndarray:
        return np.sqrt(self.squares)

    def displacement(self, force: np.ndarray) -> np.ndarray:
        """K^-1 force."""
        return _apply(self.position, _apply(self.position.mT, force) / self.squares)

    def momentum_of(self, drift: np.ndarray) -> np.ndarray:
        """-A^-1 drift."""
        return -_apply(self.momentum, _apply(self.momentum.mT, drift))


def bytes_needed(network: HarmonicNetwork) -> int:
    """Memory of a dense solve, of all samples at a time."""
    return 8 * MATRICES * network.n_coordinates**2 * (network.batch_size or 1)


def is_bound(h: QuadraticHamiltonian) -> np.ndarray:
    """Whether (the real parts of) K and A are positive definite, beyond rounding; of every sample that has its own."""
    bound = np.asarray(True)
    for entries in (h.stiffness, h.inverse_mass):
        values = np.linalg.eigvalsh(entries.toarray().real)
        bound = bound & (values[..., 0] > 1e-14 * values.shape[-1] * np.abs(values[..., -1]))
    return bound


def equilibrium_state(
    network: HarmonicNetwork, h: QuadraticHamiltonian, modes: Modes, occupation: Occupation
) -> GaussianState:
    """<r> = K^-1 f, <p> = -A^-1 drift, Cov(r, r) = B <x^2> B^T, Cov(p, p) = C <pi^2> C^T."""
    energy = occupation.energy(modes.omega)
    return GaussianState(
        network.n_sites,
        network.components,
        modes.displacement(h.force),
        modes.momentum_of(h.drift),
        (modes.position * (energy / modes.squares)[..., None, :]) @ modes.position.mT,
        (modes.momentum * energy[..., None, :]) @ modes.momentum.mT,
    )


def complex_state(network: HarmonicNetwork, h: QuadraticHamiltonian) -> GaussianState:
    """The analytic continuation to complex K and A: with the principal root of A K, which is analytic while Re K > 0,

    Cov(r, r) = (hbar/2) (A K)^(-1/2) A ,      Cov(p, p) = (hbar/2) A^-1 (A K)^(1/2) .
    """
    k, a = (entries.toarray().astype(np.complex128) for entries in (h.stiffness, h.inverse_mass))
    product = a @ k
    flat = product.reshape(-1, *product.shape[-2:])
    root = np.stack([scipy.linalg.sqrtm(matrix) for matrix in flat]).reshape(product.shape)
    half = 0.5 * network.hbar
    return GaussianState(
        network.n_sites,
        network.components,
        np.linalg.solve(k, h.force[..., None])[..., 0],
        -np.linalg.solve(a, h.drift[..., None])[..., 0],
        half * np.linalg.solve(root, a),
        half * np.linalg.solve(a, root),
    )


def response(
    network: HarmonicNetwork,
    h: QuadraticHamiltonian,
    state: GaussianState,
    bent: QuadraticHamiltonian,
    occupation: Occupation,
) -> Moments:
    """d(moments)/dbeta under H + beta * bent, in closed form.

    With u = B^T K' B, v = C^T A' C and the divided differences F[a, b] of F(omega^2) = <x^2> and G(omega^2) = <pi^2>,
    the derivatives of Cov(r, r) = F(A K) A and Cov(p, p) = G(K A) A^-1 (Daleckii and Krein) are

        d<x_a x_b> = F[a, b] u_ab + G[a, b] v_ab ,      d<pi_a pi_b> = G[a, b] u_ab + w_a^2 w_b^2 F[a, b] v_ab .
    """
    modes = Modes(h)
    b, c, squares = modes.position, modes.momentum, modes.squares
    u, v = b.mT @ bent.stiffness.toarray() @ b, c.mT @ bent.inverse_mass.toarray() @ c
    spread, motion = occupation.divided_differences(modes.omega)
    position = b @ (spread * u + motion * v) @ b.mT
    momentum = c @ (motion * u + squares[..., :, None] * squares[..., None, :] * spread * v) @ c.mT
    i, j = network.pairs()
    return Moments(
        mean=-modes.displacement(bent.stiffness.apply(state.mean) - bent.force),
        momentum=modes.momentum_of(bent.inverse_mass.apply(state.momentum) + bent.drift),
        position_covariance=position[..., i, j],
        momentum_variance=np.diagonal(momentum, axis1=-2, axis2=-1),
    )


def _apply(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return (matrix @ vector[..., None])[..., 0]
