"""Sparse K = P^T L D L^T P for many matrices of one pattern, and the entries of K^-1 on that pattern.

Left-looking factorisation and Takahashi's recurrence (Erisman & Tinney, Commun. ACM 18, 177 (1975)), which needs of the
inverse only the entries on the pattern of L: with Z = K^-1 in the order of elimination,

    Z_ij = - sum_{k > j} Z_ik L_kj ,      Z_jj = 1/D_j - sum_{k > j} L_kj Z_kj .

One elimination costs O(n^1.5) on a planar graph, and so does the inverse. The pattern of L is a clique beyond each
column's first entry, so every entry that the recurrence asks for is there.
"""

import numba
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla


class SparseCholesky:
    """The factors of symmetric matrices with the sparsity pattern of `pattern`.

    Args:
        pattern: square sparse array with a symmetric pattern; its values do not matter.

    Attributes:
        rows, cols: the strictly lower entries, in the order in which `factor` takes and `inverse` returns them.
        pivots: D of the last factorisation, in the order of elimination; all positive if K is positive definite.
    """

    def __init__(self, pattern: sp.csc_array):
        n = pattern.shape[0]
        coo = sp.coo_array(sp.tril(pattern, -1))
        self.n, self.rows, self.cols = n, coo.coords[0].astype(np.int64), coo.coords[1].astype(np.int64)
        self.perm, self._indptr, self._indices = _symbolic(n, self.rows, self.cols)
        ends = np.stack([self.perm[self.rows], self.perm[self.cols]])
        keys = np.repeat(np.arange(n), np.diff(self._indptr)) * n + self._indices
        self._slots = np.searchsorted(keys, ends.min(axis=0) * n + ends.max(axis=0))
        self._lower = np.zeros(len(keys))
        self.pivots = np.ones(n)

    def factor(self, lower: np.ndarray, diagonal: np.ndarray) -> "SparseCholesky":
        """Factor the matrix with these strictly lower entries and this diagonal. The former factors are lost."""
        self._lower[:] = 0.0
        self._lower[self._slots] = lower
        self.pivots[self.perm] = diagonal
        _factor(self._indptr, self._indices, self._lower, self.pivots)
        return self

    def solve(self, rhs: np.ndarray) -> np.ndarray:
        """K^-1 rhs for one (n,) or several (n, m) right-hand sides."""
        columns = np.empty((self.n, rhs.size // self.n))
        columns[self.perm] = rhs.reshape(self.n, -1)
        _solve(self._indptr, self._indices, self._lower, self.pivots, columns)
        return columns[self.perm].reshape(rhs.shape)

    def inverse(self) -> tuple[np.ndarray, np.ndarray]:
        """The strictly lower entries of K^-1 on the pattern, and its diagonal."""
        lower, diagonal = np.empty_like(self._lower), np.empty(self.n)
        _selected_inverse(self._indptr, self._indices, self._lower, self.pivots, lower, diagonal)
        return lower[self._slots], diagonal[self.perm]


def _symbolic(n: int, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Minimum-degree order (position of every node) and the pattern of L.

    SuperLU eliminates a graph Laplacian of this pattern: its fill consists of conductances, none of which can cancel.
    """
    degree = np.bincount(rows, minlength=n) + np.bincount(cols, minlength=n)
    ones, nodes = -np.ones(len(rows)), np.arange(n)
    data = (np.concatenate([ones, ones, degree + 1e-3]), (np.r_[rows, cols, nodes], np.r_[cols, rows, nodes]))
    laplacian = sp.csc_matrix(data, shape=(n, n))
    options = {"SymmetricMode": True}
    lu = sla.splu(laplacian, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
    assert np.array_equal(lu.perm_r, lu.perm_c)  # all pivots on the diagonal
    lower = sp.csc_array(sp.tril(lu.L, -1))
    lower.eliminate_zeros()
    lower.sort_indices()
    return lu.perm_c.astype(np.int64), lower.indptr.astype(np.int64), lower.indices.astype(np.int64)


@numba.njit(cache=True, nogil=True)
def _factor(indptr: np.ndarray, indices: np.ndarray, lower: np.ndarray, pivots: np.ndarray) -> None:
    """In place: the entries of K on the pattern of L become L and D."""
    n = len(pivots)
    work = np.zeros(n)
    head, following, position = np.full(n, -1), np.full(n, -1), np.zeros(n, np.int64)
    for j in range(n):
        first, last = indptr[j], indptr[j + 1]
        for p in range(first, last):
            work[indices[p]] = lower[p]
        pivot = pivots[j]
        k = head[j]  # the columns whose next entry is in row j
        while k != -1:
            upcoming, start, end = following[k], position[k], indptr[k + 1]
            factor = lower[start] * pivots[k]
            pivot -= lower[start] * factor
            for p in range(start + 1, end):
                work[indices[p]] -= lower[p] * factor
            if start + 1 < end:
                row = indices[start + 1]
                position[k], following[k], head[row] = start + 1, head[row], k
            k = upcoming
        pivots[j] = pivot
        for p in range(first, last):
            lower[p] = work[indices[p]] / pivot if pivot != 0.0 else np.inf
        if first < last:
            row = indices[first]
            position[j], following[j], head[row] = first, head[row], j


@numba.njit(cache=True, nogil=True)
def _solve(indptr: np.ndarray, indices: np.ndarray, lower: np.ndarray, pivots: np.ndarray, x: np.ndarray) -> None:
    """In place, all columns of x at a time."""
    n, m = x.shape
    for j in range(n):
        for p in range(indptr[j], indptr[j + 1]):
            for c in range(m):
                x[indices[p], c] -= lower[p] * x[j, c]
    for j in range(n - 1, -1, -1):
        for c in range(m):
            x[j, c] /= pivots[j]
        for p in range(indptr[j], indptr[j + 1]):
            for c in range(m):
                x[j, c] -= lower[p] * x[indices[p], c]


@numba.njit(cache=True, nogil=True)
def _selected_inverse(
    indptr: np.ndarray,
    indices: np.ndarray,
    lower: np.ndarray,
    pivots: np.ndarray,
    inverse: np.ndarray,
    diagonal: np.ndarray,
) -> None:
    """Takahashi's recurrence from the last column to the first; Z is symmetric, each entry serves both ways."""
    n = len(pivots)
    column, total = np.zeros(n), np.zeros(n)
    for j in range(n - 1, -1, -1):
        first, last = indptr[j], indptr[j + 1]
        for p in range(first, last):
            column[indices[p]] = lower[p]
            total[indices[p]] = 0.0
        for p in range(first, last):
            k, factor = indices[p], lower[p]
            own = diagonal[k] * factor
            for q in range(indptr[k], indptr[k + 1]):
                i = indices[q]  # where i is not in column j, column[i] is 0 and total[i] is never read
                own += inverse[q] * column[i]
                total[i] += inverse[q] * factor
            total[k] += own
        value = 1.0 / pivots[j]
        for p in range(first, last):
            i = indices[p]
            inverse[p] = -total[i]
            value += lower[p] * total[i]
            column[i] = 0.0
        diagonal[j] = value
