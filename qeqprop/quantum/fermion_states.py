r"""Gaussian states of fermions on a chain, for H = - sum_rc M_rc G_rc (see `jordan_wigner`).

The correlations Q = <G> are the orthogonal polar factor of M. Two ways lead to them:

- `FermionState`, for any M: the singular values M = U S V^T, so that Q = U V^T and E = - sum S. It costs n^3.
- `OpenChainState`, for the bidiagonal M of an open transverse-field chain: with u_0 v_0 u_1 v_1 ... in one row, M is
  the symmetric tridiagonal K of 2n rows with zeros on its diagonal and the bonds e = (g_0, J_0, g_1, J_1, ...) beside
  it, and

      Q = sign(K) = (2/pi) int_0^inf dt Re (K - i t)^-1 .

  The resolvent is a continued fraction of *positive* numbers: with a_0 = t, a_(k+1) = t + e_k^2 / a_k from the left and
  the same b from the right, Re (K - i t)^-1 at bond k is e_k / (e_k^2 + a_k b_(k+1)). Nothing cancels, so every
  correlation has full relative accuracy however small the singular values are, at a cost of n. In ln t the integrand is
  a sum of 1/cosh, which the trapezoidal rule integrates to rounding with four nodes per factor e.
"""

import abc
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numba
import numpy as np
import scipy.linalg

from ..core import display
from ..core.estimate import Estimate
from ..core.module import AbstractModule
from .jordan_wigner import Bilinears, fermion_table
from .pauli import PauliSum

NODE_SPACING = 0.25
"""Of ln t: the error of the trapezoidal rule is 2 exp(-pi^2 / spacing) = 1e-17."""
TAIL = 37.0
"""exp(-TAIL) = 1e-16: how far beyond the singular values the nodes reach."""
CHUNK = 1 << 22
"""Numbers gathered at a time."""


class AbstractFermionState(AbstractModule):
    """A pure Gaussian state of definite parity on a chain.

    Attributes:
        order: order[p] is the site at position p of the chain.
        parity: the value of X_0 X_1 ... X_(n-1).
    """

    order: eqx.AbstractVar[tuple[int, ...]]
    parity: eqx.AbstractVar[int]

    _repr_html_ = display.of_state

    @property
    def n_sites(self) -> int:
        """Number of spins."""
        return len(self.order)

    @abc.abstractmethod
    def correlations(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Q[rows[k], cols[k]] for every k."""

    @abc.abstractmethod
    def block(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """The submatrix Q[rows, :][:, cols]."""

    def expect(self, observable: PauliSum) -> Estimate:
        """<O>, exact.

        Example:
            >>> import qeqprop as qp
            >>> chain = qp.TransverseFieldIsing(100, [(i, i + 1) for i in range(99)])
            >>> params = {"J": [1.0] * 99, "h": [0.0] * 100, "g": [1.0] * 100}
            >>> state = qp.equilibrate(chain, params, solver=qp.FreeFermions()).state
            >>> print(f"{float(state.expect(qp.Z(20) * qp.Z(80))):.6f}")
            0.120776
        """
        return Estimate.exact(self.expect_all((observable,)).mean[0])

    def expect_all(self, observables: Sequence[PauliSum]) -> Estimate:
        """Expectation values of K observables, shape (K,): elements of Q, and determinants for longer strings."""
        for observable in observables:
            if not isinstance(observable, PauliSum):
                raise TypeError(f"A chain of spins is measured with Pauli sums, not {type(observable).__name__}.")
        table = fermion_table(tuple(observables), self.order)
        pairs = table.bilinears
        values = table.constant + table.linear(self.correlations(pairs.row, pairs.col), self.parity)
        for product in table.products:
            sign = self.parity if product.wraps else 1
            values[product.operator] += (
                sign * product.coefficient * np.linalg.det(self.block(product.rows, product.cols))
            )
        return Estimate.exact(values)


class OpenChainState(AbstractFermionState):
    """The ground state of an open transverse-field chain, in memory proportional to its length.

    Attributes:
        bonds: e = (g_0, J_0, g_1, ...), shape (2n - 1,).
        local: (<X_0>, <Z_0 Z_1>, <X_1>, ...), shape (2n - 1,).
        nodes: the quadrature nodes t.
    """

    order: tuple[int, ...] = eqx.field(static=True)
    parity: int = eqx.field(static=True)
    bonds: np.ndarray
    local: np.ndarray
    nodes: np.ndarray

    def correlations(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        values = np.empty(len(rows))
        near = on_bond(rows, cols)
        values[near] = self.local[bond_of(rows[near], cols[near])]
        if not np.all(near):
            values[~near] = self._far(rows[~near], cols[~near])
        return values

    def block(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        mesh = np.meshgrid(rows, cols, indexing="ij")
        return self.correlations(*(part.reshape(-1) for part in mesh)).reshape(len(rows), len(cols))

    def response(self, weights: np.ndarray) -> np.ndarray:
        """d local/dbeta for bonds e - beta * weights: the derivative of the continued fractions."""
        return _bond_responses(self.bonds, -weights, self.nodes) * (2 / np.pi * NODE_SPACING)

    def _far(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """sign(K)_jk = (-1)^m (2/pi) int dt prod_(l=j)^(k-1) (e_l / a_l) / (a_k + b_k - t) with k - j = 2 m + 1."""
        first, last = np.minimum(2 * rows, 2 * cols + 1), np.maximum(2 * rows, 2 * cols + 1)
        sizes = np.log(np.maximum(np.abs(self.bonds), np.finfo(float).tiny))
        negative = np.concatenate([[0], np.cumsum(self.bonds < 0)])
        flips = negative[last] - negative[first] + (last - first) // 2
        values = np.zeros(len(rows))
        a, b = np.empty((2, len(self.bonds) + 1))
        for t in self.nodes:
            _continued_fractions(self.bonds, t, a, b)
            ratio = np.concatenate([[0.0], np.cumsum(sizes - np.log(a[:-1]))])
            values += t * np.exp(ratio[last] - ratio[first]) / (a + b - t)[last]
        return values * (2 / np.pi * NODE_SPACING) * (-1.0) ** flips

    def __repr__(self) -> str:
        return f"OpenChainState({self.n_sites} spins)"


class FermionState(AbstractFermionState):
    """The lowest state of a given parity, by its modes: M = U S V^T.

    Attributes:
        left, right: U and V, shape (n, n).
        values: S, ascending. The smallest is negative where the state of lowest energy has the other parity: this
            mode is occupied. Energy - sum S, next level of the same parity 2 (S_0 + S_1) above.
    """

    order: tuple[int, ...] = eqx.field(static=True)
    parity: int = eqx.field(static=True)
    left: np.ndarray
    values: np.ndarray
    right: np.ndarray

    def correlations(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        return self._dot(self.right, rows, cols)

    def block(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        return self.left[rows] @ self.right[cols].T

    def response(self, nudge: tuple[np.ndarray, np.ndarray, np.ndarray], pairs: Bilinears) -> np.ndarray:
        """dQ/dbeta at `pairs` for M - beta W, with W given by its rows, columns and values.

        dQ = -U R V^T with R_kl = (A - A^T)_kl / (S_k + S_l) and A = U^T W V: R has no diagonal, so that the smallest
        singular value may vanish. Only S_0 + S_1, half the gap, must not.
        """
        rows, cols, weights = nudge
        used, index = np.unique(rows, return_inverse=True)
        kicked = np.zeros((len(used), len(self.values)))
        np.add.at(kicked, index, weights[:, None] * self.right[cols])
        A = self.left[used].T @ kicked
        sums = self.values[:, None] + self.values
        np.fill_diagonal(sums, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):  # a closed gap makes NaNs, and a status
            R = (A - A.T) / sums
        return -self._dot(self.right @ R.T, pairs.row, pairs.col)

    def _dot(self, right: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        step = max(CHUNK // len(self.order), 1)
        parts = [
            np.einsum("ek,ek->e", self.left[rows[k : k + step]], right[cols[k : k + step]])
            for k in range(0, len(rows), step)
        ]
        return np.concatenate([np.zeros(0), *parts])

    def __repr__(self) -> str:
        return f"FermionState({self.n_sites} spins, parity {self.parity:+d})"


def cofactors(matrix: np.ndarray) -> np.ndarray:
    """d det(matrix) / d matrix, also of a singular matrix."""
    left, values, right = np.linalg.svd(matrix)
    before, after = np.cumprod(np.append(1.0, values[:-1])), np.cumprod(np.append(1.0, values[:0:-1]))[::-1]
    sign = np.linalg.slogdet(left)[0] * np.linalg.slogdet(right)[0]
    return sign * (left * (before * after)) @ right


def on_bond(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Whether G_rc is X_p or Z_p Z_(p+1)."""
    return (rows == cols) | (rows == cols + 1)


def bond_of(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """The place of X_p and Z_p Z_(p+1) among the bonds of an open chain."""
    return rows + cols


def open_chain_state(order: tuple[int, ...], bonds: np.ndarray) -> tuple[OpenChainState, np.ndarray]:
    """The ground state of H = - sum_p g_p X_p - sum_p J_p Z_p Z_(p+1), and its one or two smallest singular values."""
    n, scale = len(order), 2 * np.abs(bonds).max()
    smallest = np.abs(
        scipy.linalg.eigvalsh_tridiagonal(np.zeros(2 * n), bonds, select="i", select_range=(n, min(n + 1, 2 * n - 1)))
    )
    smallest[0] = max(smallest[0], 1e-15 * scale)
    nodes = np.exp(np.arange(np.log(smallest[0]) - TAIL, np.log(scale) + TAIL, NODE_SPACING))
    local = _bond_values(bonds, nodes) * (2 / np.pi * NODE_SPACING)
    parity = -1 if np.sum(bonds[::2] < 0) % 2 else 1
    return OpenChainState(order, parity, bonds, local, nodes), smallest


def edge_mode(bonds: np.ndarray, smallest: np.ndarray) -> float:
    """Largest share |u_r v_c| that the mode of the smallest singular value has in the correlations at the bonds.

    For S_0 << t << S_1, t / (a_k + b_k - t) is the mode's weight on row k of K, up to (t / S_1)^2 of all other modes.
    """
    t = max(10 * smallest[0], 1e-12 * smallest[-1])
    a, b = np.empty((2, len(bonds) + 1))
    _continued_fractions(bonds, t, a, b)
    weight = t / (a + b - t)
    share = np.sqrt(weight[:-1] * weight[1:])
    return float(np.max(np.maximum(share - 4 * t / smallest[-1], 0.0)))


def fermion_state(order: tuple[int, ...], matrix: np.ndarray, parity: int | None) -> FermionState:
    """The lowest state of H = - sum M_rc G_rc; where `parity` is given, the lowest of that parity."""
    left, values, right = scipy.linalg.svd(matrix, check_finite=False)
    left, values, right = left[:, ::-1].copy(), values[::-1].copy(), right[::-1].T.copy()
    vacuum = int(np.linalg.slogdet(left)[0] * np.linalg.slogdet(right)[0])  # <prod X> = det Q
    state = FermionState(order, vacuum, left, values, right)
    return state if parity in (None, vacuum) else flipped(state)


def flipped(state: FermionState) -> FermionState:
    """The lowest state of the other parity: the lowest mode is occupied."""
    signs = np.where(np.arange(state.n_sites) == 0, -1.0, 1.0)
    return FermionState(state.order, -state.parity, state.left * signs, state.values * signs, state.right)


@numba.njit(cache=True, nogil=True)
def _continued_fractions(bonds: Any, t: float, a: Any, b: Any) -> None:
    a[0] = t
    for k in range(len(bonds)):
        a[k + 1] = t + bonds[k] * bonds[k] / a[k]
    b[-1] = t
    for k in range(len(bonds) - 1, -1, -1):
        b[k] = t + bonds[k] * bonds[k] / b[k + 1]


@numba.njit(cache=True, nogil=True)
def _bond_values(bonds: Any, nodes: Any) -> Any:
    """sum over the nodes of t * e_k / (e_k^2 + a_k b_(k+1))."""
    total = np.zeros(len(bonds))
    a, b = np.empty(len(bonds) + 1), np.empty(len(bonds) + 1)
    for t in nodes:
        _continued_fractions(bonds, t, a, b)
        for k in range(len(bonds)):
            total[k] += t * bonds[k] / (bonds[k] * bonds[k] + a[k] * b[k + 1])
    return total


@numba.njit(cache=True, nogil=True)
def _bond_responses(bonds: Any, changes: Any, nodes: Any) -> Any:
    """The derivative of `_bond_values` along `changes` of the bonds.

    Carried along are la = dln(a) and lb = dln(b): their recursions contract.
    """
    total = np.zeros(len(bonds))
    a, b = np.empty(len(bonds) + 1), np.empty(len(bonds) + 1)
    la, lb = np.zeros(len(bonds) + 1), np.zeros(len(bonds) + 1)
    for t in nodes:
        _continued_fractions(bonds, t, a, b)
        for k in range(len(bonds)):
            la[k + 1] = bonds[k] * (2 * changes[k] - bonds[k] * la[k]) / (a[k] * a[k + 1])
        for k in range(len(bonds) - 1, -1, -1):
            lb[k] = bonds[k] * (2 * changes[k] - bonds[k] * lb[k + 1]) / (b[k + 1] * b[k])
        for k in range(len(bonds)):
            e, ab = bonds[k], a[k] * b[k + 1]
            size = e * e + ab
            total[k] += t * (changes[k] * (ab - e * e) - e * ab * (la[k] + lb[k + 1])) / (size * size)
    return total
