"""Gaussian states of oscillators: means and covariances, and what polynomials of degree two are expected to show."""

import abc
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
import scipy.sparse as sp

from ..core import display
from ..core.estimate import Estimate
from ..core.module import AbstractModule
from .quadratic import Half, Quadratic, halves
from .rational import Poles
from .sparse_cholesky import SparseCholesky


class AbstractGaussianState(AbstractModule):
    """A Gaussian in position and momentum, uncorrelated with one another. Coordinates: site * components + component.

    Attributes:
        n_sites, components: the nodes.
        mean: <r>, shape (..., n_sites * components), the batch axis first where there is one.
        momentum: <p>, the same shape; 0 unless a nudge is linear in a momentum.
    """

    n_sites: eqx.AbstractVar[int]
    components: eqx.AbstractVar[int]
    mean: eqx.AbstractVar[np.ndarray]
    momentum: eqx.AbstractVar[np.ndarray]

    _repr_html_ = display.of_state

    @abc.abstractmethod
    def position_covariances(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Cov(r_i, r_j) of pairs of coordinates, shape (..., pairs); without batch axis where all samples share it."""

    @abc.abstractmethod
    def momentum_covariances(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Cov(p_i, p_j) of pairs of coordinates, in the same way."""

    def expect(self, observable: Any) -> Estimate:
        """<O>, exact, of a polynomial of degree 2 in R and P.

        Example:
            >>> import qeqprop as qp
            >>> one = qp.HarmonicNetwork(1, [], hbar=0.2)
            >>> ground = qp.equilibrate(one, {"k": [], "l": [], "kappa": [4.0], "f": [2.0]})
            >>> ground.state.expect(qp.R(0)), ground.state.expect(qp.R(0) ** 2), ground.state.expect(qp.P(0) ** 2)
            (0.5, 0.3, 0.2)
        """
        values = self.expect_all((observable,))
        return Estimate(values.mean[..., 0], values.stderr[..., 0])

    def expect_all(self, observables: Sequence[Any]) -> Estimate:
        """Expectation values of K observables, shape (..., K)."""
        for observable in observables:
            if not isinstance(observable, Quadratic):
                raise TypeError(
                    "An observable of oscillators must be a polynomial in R(i) and P(i), not "
                    f"{type(observable).__name__}."
                )
        parts = [halves(observable, self.n_sites, self.components) for observable in observables]
        constants = np.array([constant for constant, _, _ in parts])
        positions = _expected([r for _, r, _ in parts], self.mean, self.position_covariances)
        momenta = _expected([p for _, _, p in parts], self.momentum, self.momentum_covariances)
        return Estimate.exact(constants + positions + momenta)


def _expected(parts: list[Half], mean: np.ndarray, covariances: Any) -> np.ndarray:
    """Expectation of every part, with one call for all covariances."""
    left, right = (np.concatenate([getattr(part, side) for part in parts]) for side in ("left", "right"))
    second = mean[..., left] * mean[..., right] + (covariances(left, right) if len(left) else 0.0)
    ends = np.cumsum([len(part.left) for part in parts])[:-1]
    values = [
        mean[..., part.at] @ part.values + square @ part.products
        for part, square in zip(parts, np.split(second, ends, axis=-1), strict=True)
    ]
    return np.stack(values, axis=-1)


class GaussianState(AbstractGaussianState):
    """A Gaussian state, or a batch of them, with full covariance matrices.

    With n = n_sites * components the covariances have shape (n, n) where all samples share them (the stiffness does not
    depend on the sample), else (batch, n, n).
    """

    n_sites: int = eqx.field(static=True)
    components: int = eqx.field(static=True)
    mean: np.ndarray
    momentum: np.ndarray
    position_covariance: np.ndarray
    momentum_covariance: np.ndarray

    def position_covariances(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return self.position_covariance[..., i, j]

    def momentum_covariances(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return self.momentum_covariance[..., i, j]

    def __repr__(self) -> str:
        batch = f", batch of {len(self.mean)}" if self.mean.ndim > 1 else ""
        return f"GaussianState({self.n_sites} nodes, components={self.components}{batch})"


class SparseGaussianState(AbstractGaussianState):
    """A Gaussian state that stores its covariances on the springs only; others are solved for when asked for.

    Attributes:
        hbar: Planck's constant.
        masses: one a coordinate.
        stiffness: data, indices and indptr of K in compressed columns; the covariances are known on its pattern.
        position_entries: Cov(r_i, r_j) in the order of `stiffness`.
        momentum_variances: Var(p_i).
        shifts, weights: poles of x^(-1/2): Cov(r, r) = (hbar/2) sum_j weights_j (K + shifts_j M)^-1.
    """

    n_sites: int = eqx.field(static=True)
    components: int = eqx.field(static=True)
    hbar: float = eqx.field(static=True)
    mean: np.ndarray
    momentum: np.ndarray
    masses: np.ndarray
    stiffness: tuple[np.ndarray, np.ndarray, np.ndarray]
    position_entries: np.ndarray
    momentum_variances: np.ndarray
    shifts: np.ndarray
    weights: np.ndarray

    def position_covariances(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Looked up on the springs; elsewhere one linear equation a pole and a coordinate."""
        i, j = np.asarray(i), np.asarray(j)
        _, indices, indptr = self.stiffness
        n = len(self.mean)
        keys, wanted = np.repeat(np.arange(n), np.diff(indptr)) * n + indices, j * n + i
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        values = self.position_entries[at]
        if np.any(missing := keys[at] != wanted):
            columns, which = np.unique(j[missing], return_inverse=True)
            values[missing] = self._columns(columns, np.ones(n))[i[missing], which]
        return values

    def momentum_covariances(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Variances are stored; Cov(p, p) = K Cov(r, r) M elsewhere."""
        i, j = np.asarray(i), np.asarray(j)
        values = self.momentum_variances[i]
        if np.any(missing := i != j):
            columns, which = np.unique(j[missing], return_inverse=True)
            values[missing] = (self._matrix() @ self._columns(columns, self.masses))[i[missing], which]
        return values

    def _matrix(self) -> sp.csc_array:
        n = len(self.mean)
        return sp.csc_array(self.stiffness, shape=(n, n))

    def _columns(self, columns: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Columns of Cov(r, r) diag(scale)."""
        rhs = np.zeros((len(self.mean), len(columns)))
        rhs[columns, np.arange(len(columns))] = scale[columns]
        total = np.zeros_like(rhs)
        poles = Poles(self.shifts, self.weights, 0.0)
        for weight, _, factors in shifted(SparseCholesky(self._matrix()), self._matrix(), self.masses, poles):
            total += weight * factors.solve(rhs)
        return 0.5 * self.hbar * total

    def __repr__(self) -> str:
        return f"SparseGaussianState({self.n_sites} nodes, components={self.components}, {len(self.shifts)} poles)"


def shifted(factors: SparseCholesky, stiffness: sp.csc_array, masses: np.ndarray, poles: Poles) -> Any:
    """Weight, shift and factors of K + shift * M, pole by pole."""
    lower, diagonal = lower_entries(factors, stiffness), stiffness.diagonal()
    for weight, shift in zip(poles.weights, poles.shifts, strict=True):
        yield weight, shift, factors.factor(lower, diagonal + shift * masses)


def lower_entries(factors: SparseCholesky, matrix: sp.csc_array) -> np.ndarray:
    """The strictly lower entries of a matrix in the order of its factors."""
    coo = sp.coo_array(sp.tril(matrix, -1))
    assert np.array_equal(coo.coords[0], factors.rows)
    return coo.data
