"""Factorisations of symmetric matrices that tell whether the matrix is positive definite."""

from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from ..core.module import AbstractModule


class Factor(AbstractModule):
    """A factorised symmetric matrix. `definite`: all its eigenvalues are positive."""

    solve: Any
    definite: bool


def factorize(matrix: Any) -> Factor:
    """Cholesky for dense matrices, SuperLU in symmetric mode for sparse ones.

    Without pivoting off the diagonal the signs of U's diagonal are the inertia of the matrix.
    """
    if sp.issparse(matrix):
        return _sparse(sp.csc_matrix(matrix))
    try:
        factor = scipy.linalg.cho_factor(matrix, check_finite=False)
    except scipy.linalg.LinAlgError:
        return Factor(None, definite=False)
    return Factor(lambda b: scipy.linalg.cho_solve(factor, b, check_finite=False), definite=True)


def _sparse(matrix: sp.csc_matrix) -> Factor:
    try:
        lu = spla.splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    except RuntimeError:  # exactly singular
        return Factor(None, definite=False)
    symmetric = np.array_equal(lu.perm_r, lu.perm_c)
    return Factor(lu.solve, definite=bool(symmetric and np.all(lu.U.diagonal() > 0)))


def refined_solve(matrix: Any, right: np.ndarray, factor: Factor, tolerance: float) -> tuple[np.ndarray, float]:
    """matrix^-1 right with the factor of a nearby matrix, refined while that helps; and the relative residual."""
    solution, rest, size = np.zeros_like(right), right, float(np.linalg.norm(right))
    scale = max(size, 1e-300)
    while factor.definite and size > 0.01 * tolerance * scale:
        trial = solution + factor.solve(rest)
        remainder = right - matrix @ trial
        smaller = float(np.linalg.norm(remainder))
        if not smaller < 0.5 * size:
            break
        solution, rest, size = trial, remainder, smaller
    return solution, size / scale


def shifted(matrix: Any, shift: float) -> Any:
    """matrix + shift * identity."""
    identity = sp.identity(matrix.shape[0], format="csc") if sp.issparse(matrix) else np.eye(matrix.shape[0])
    return matrix + shift * identity


def smallest_eigenvalue(matrix: Any, factor: Factor) -> float:
    """The smallest eigenvalue of a positive definite matrix; of a large one by inverse iteration with its factor."""
    if matrix.shape[0] <= DENSE:
        dense = matrix.toarray() if sp.issparse(matrix) else matrix
        return float(scipy.linalg.eigvalsh(dense, subset_by_index=(0, 0))[0])
    inverse = spla.LinearOperator(matrix.shape, matvec=factor.solve, dtype=float)
    start = np.random.default_rng(0).normal(size=matrix.shape[0])
    return float(1 / spla.eigsh(inverse, k=1, which="LA", v0=start, tol=1e-3, return_eigenvectors=False)[0])


DENSE = 300
"""Coordinates up to which the spectrum is computed densely."""
