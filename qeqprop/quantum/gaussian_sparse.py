"""Gaussian ground states of large networks: shifted sparse factorisations, never an n x n matrix.

With the poles of x^(-1/2) ~ sum_j c_j / (x + s_j) on the spectrum of M^(-1/2) K M^(-1/2) and G_j = (K + s_j M)^-1,

    Cov(r, r) = (hbar/2) sum_j c_j G_j ,      Cov(p, p) = K Cov(r, r) M ,

of which only the entries on the springs are computed: enough for the energy and for all forces.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla

from .gaussian_hamiltonian import Entries, QuadraticHamiltonian
from .gaussian_state import SparseGaussianState, lower_entries, shifted
from .oscillators import HarmonicNetwork, Moments
from .rational import Poles, inverse_square_root
from .sparse_cholesky import SparseCholesky


class Factored(NamedTuple):
    """K with the symbolic factorisation of its pattern, the masses and the range of omega^2."""

    matrix: sp.csc_array
    factors: SparseCholesky
    masses: np.ndarray
    low: float
    high: float


def factored(h: QuadraticHamiltonian) -> Factored | None:
    """Factor K; None where it is not positive definite.

    The upper end of the spectrum is Gershgorin's bound, the lower end comes from inverse Lanczos iteration.

    Raises:
        ValueError: the inverse masses are not a diagonal matrix.
    """
    stiffness, inverse_mass = h.stiffness.tosparse(), h.inverse_mass.tosparse()
    inverse = inverse_mass.diagonal()
    if np.any((inverse_mass - sp.diags_array(inverse, format="csc")).data):
        raise ValueError(
            "A nudge by products of different momenta needs the dense solver: raise `dense_size`, or use "
            "LinearResponse()."
        )
    if np.any(inverse <= 0):
        return None
    factors = SparseCholesky(stiffness)
    if not confined(factors, stiffness):
        return None
    root = np.sqrt(inverse)
    scaled = sp.csc_array(sp.diags_array(root) @ stiffness @ sp.diags_array(root))
    high = float(abs(scaled).sum(axis=0).max())
    solve = sla.LinearOperator(scaled.shape, matvec=lambda x: factors.solve(x.ravel() / root) / root, dtype=float)
    start = np.random.default_rng(0).normal(size=scaled.shape[0])
    low = float(sla.eigsh(scaled, k=1, sigma=0.0, OPinv=solve, v0=start, tol=1e-8, return_eigenvectors=False)[0])
    return Factored(stiffness, factors, 1 / inverse, low, high) if low > 1e-13 * high else None


def confined(factors: SparseCholesky, matrix: sp.csc_array) -> bool:
    """Factor `matrix` and say whether it is positive definite, beyond rounding."""
    diagonal = matrix.diagonal()
    factors.factor(lower_entries(factors, matrix), diagonal)
    return bool(np.all(factors.pivots > 1e-13 * np.abs(diagonal[np.argsort(factors.perm)])))


def ground_state(
    network: HarmonicNetwork, h: QuadraticHamiltonian, k: Factored, tolerance: float
) -> tuple[SparseGaussianState, Poles]:
    """Means by the factors of K, covariances on its pattern by selected inverses at every pole."""
    matrix, masses = k.matrix, k.masses
    mean = k.factors.solve(h.force)
    poles = Poles(np.zeros(0), np.zeros(0), 0.0)
    if network.hbar > 0:
        poles = inverse_square_root(0.99 * k.low, k.high, tolerance)
    lower, diagonal = np.zeros(len(k.factors.rows)), np.zeros(k.factors.n)
    for weight, _, factors in shifted(k.factors, matrix, masses, poles):
        off, on = factors.inverse()
        lower += 0.5 * network.hbar * weight * off
        diagonal += 0.5 * network.hbar * weight * on
    rows, cols, every = k.factors.rows, k.factors.cols, np.arange(k.factors.n)
    entries = sp.csc_array(
        sp.coo_array(
            (np.r_[lower, lower, diagonal], (np.r_[rows, cols, every], np.r_[cols, rows, every])), shape=matrix.shape
        )
    )
    momentum_variances = masses * np.bincount(entries.indices, matrix.data * entries.data, minlength=len(masses))
    state = SparseGaussianState(
        n_sites=network.n_sites,
        components=network.components,
        hbar=network.hbar,
        mean=mean,
        momentum=-masses * h.drift,
        masses=masses,
        stiffness=(matrix.data, matrix.indices, matrix.indptr),
        position_entries=entries.data,
        momentum_variances=momentum_variances,
        shifts=poles.shifts,
        weights=poles.weights,
    )
    return state, poles


def response(
    network: HarmonicNetwork,
    h: QuadraticHamiltonian,
    state: SparseGaussianState,
    bent: QuadraticHamiltonian,
) -> Moments:
    """d(moments)/dbeta under H + beta * bent: with X = G_j K', Y = G_j M A' M and the columns that K' and A' touch,

        d Cov(r, r) = (hbar/2) sum_j c_j (- G_j K' G_j + s_j G_j M A' M G_j) ,
        d Cov(p, p) = (hbar/2) sum_j c_j (s_j M G_j K' G_j M - K G_j M A' M G_j K) ,

    one linear equation for every pole and every coordinate of the cost.
    """
    masses, matrix, half = state.masses, h.stiffness.tosparse(), 0.5 * network.hbar
    poles = Poles(state.shifts, state.weights, 0.0)
    factors = SparseCholesky(matrix)
    factors.factor(lower_entries(factors, matrix), matrix.diagonal())
    mean = -factors.solve(bent.stiffness.apply(state.mean) - bent.force)
    momentum = -masses * (bent.inverse_mass.apply(state.momentum) + bent.drift)
    i, j = network.pairs()
    position, kinetic = np.zeros(len(i)), np.zeros(len(masses))
    (bend_r, rhs_r), (bend_p, rhs_p) = (_support(form) for form in (bent.stiffness, bent.inverse_mass))
    rhs_p *= masses[:, None]
    for weight, shift, shifted_factors in shifted(factors, matrix, masses, poles):
        x, y = shifted_factors.solve(rhs_r), shifted_factors.solve(rhs_p)
        xb, yb = x @ bend_r, y @ bend_p
        ky, kyb = matrix @ y, matrix @ yb
        position += half * weight * (shift * _rowwise(yb[i], y[j]) - _rowwise(xb[i], x[j]))
        kinetic += half * weight * (shift * masses**2 * _rowwise(xb, x) - _rowwise(kyb, ky))
    return Moments(mean, momentum, position, kinetic)


def support(form: Entries) -> np.ndarray:
    """The coordinates that a quadratic form touches."""
    return np.unique(form.cols)


def _support(form: Entries) -> tuple[np.ndarray, np.ndarray]:
    """The form on its own coordinates, and the unit vectors of these."""
    sites = support(form)
    unit = np.zeros((form.size, len(sites)))
    unit[sites, np.arange(len(sites))] = 1.0
    rows, cols = np.searchsorted(sites, form.rows), np.searchsorted(sites, form.cols)
    return Entries(len(sites), rows, cols, form.values).toarray(), unit


def _rowwise(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.einsum("ns,ns->n", left, right)
