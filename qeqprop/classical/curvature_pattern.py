"""Sparse second derivatives of potentials: columns that share no row are computed as one, and told apart by the pattern.

Source: Curtis, Powell and Reid, J. Inst. Math. Appl. 13, 117 (1974); Gebremedhin, Manne and Pothen, SIAM Review 47, 629 (2005).
"""

import functools
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from ..core.graph import Edges


class CurvaturePattern(NamedTuple):
    """Which second derivatives of an energy are not zero, and along which displacements they are found.

    Attributes:
        displacements: shape (n_colours * coordinates of a node + 1, *state_shape): every node belongs to one of the colours,
            and no two nodes of a colour share a neighbour. The last one is random, and checks the pattern.
        free: flat indices of the free coordinates.
        colour, row: where the entries of the matrix stand in the products with the displacements.
        indices, indptr: of the matrix of the free coordinates in CSC format.
    """

    displacements: np.ndarray
    free: np.ndarray
    colour: np.ndarray
    row: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray

    def assemble(self, products: np.ndarray) -> sp.csc_array:
        """The matrix from its products with the displacements, shape (n_displacements, *state_shape).

        Raises:
            ValueError: the random displacement shows that the energy has interactions that the pattern lacks.
        """
        flat = products.reshape(len(products), -1)
        size = len(self.free)
        matrix = sp.csc_array((flat[self.colour, self.row], self.indices, self.indptr), shape=(size, size))
        probe = self.displacements[-1].ravel()[self.free]
        missed = np.abs(matrix @ probe - flat[-1, self.free])
        allowed = 1e-9 * (abs(matrix) @ np.abs(probe) + np.abs(flat[:-1]).max(initial=0.0))
        if np.any(missed > allowed):
            per_node = max(int(np.prod(products.shape[2:])), 1)
            node = int(self.free[np.argmax(missed - allowed)]) // per_node
            raise ValueError(
                f"Argument `interactions` must join all pairs of nodes that interact in the potential, but lacks some of "
                f"node {node}."
            )
        return matrix


@functools.lru_cache(maxsize=32)
def curvature_pattern(edges: Edges, shape: tuple[int, ...], held: tuple[int, ...]) -> CurvaturePattern:
    """The pattern of an energy in which the nodes of an edge interact.

    Args:
        edges: pairs of nodes.
        shape: of a state, node axis first.
        held: flat indices of coordinates that are not free.

    Example:
        >>> chain = curvature_pattern(((0, 1), (1, 2), (2, 3), (3, 4)), (5,), ())
        >>> print(chain.displacements[:-1])  # three colours, whatever its length
        [[1. 0. 0. 1. 0.]
         [0. 1. 0. 0. 1.]
         [0. 0. 1. 0. 0.]]
    """
    n_nodes, per_node = shape[0], max(int(np.prod(shape[1:])), 1)
    i, j = np.array(edges, dtype=int).reshape(-1, 2).T
    every = np.arange(n_nodes)
    rows, columns = np.concatenate([i, j, every]), np.concatenate([j, i, every])
    joined = sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=(n_nodes, n_nodes))
    colours = _colours(sp.csr_array(joined @ joined))
    free = np.delete(np.arange(n_nodes * per_node), list(held))

    displacements = np.zeros((colours.max(initial=0) + 1, per_node, n_nodes, per_node))
    for k in range(per_node):
        displacements[colours, k, every, k] = 1.0
    displacements = displacements.reshape(-1, n_nodes * per_node)
    displacements[:, list(held)] = 0.0
    probe = np.zeros(n_nodes * per_node)
    probe[free] = np.random.default_rng(0).normal(size=len(free))
    displacements = np.concatenate([displacements, probe[None]]).reshape(-1, *shape)

    block = np.arange(per_node)
    row = (rows[:, None, None] * per_node + block[:, None]).repeat(per_node, axis=2).ravel()
    column = (columns[:, None, None] * per_node + block).repeat(per_node, axis=1).ravel()
    number = np.full(n_nodes * per_node, -1)
    number[free] = np.arange(len(free))
    kept = (number[row] >= 0) & (number[column] >= 0)
    row, column = row[kept], column[kept]
    order = np.lexsort((number[row], number[column]))
    row, column = row[order], column[order]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(number[column], minlength=len(free)))])
    colour = colours[column // per_node] * per_node + column % per_node
    return CurvaturePattern(displacements, free, colour, row, number[row], indptr)


def _colours(conflicts: Any) -> np.ndarray:
    """A greedy colouring: every node gets the first colour that none of those in conflict with it has."""
    colours = np.full(conflicts.shape[0], -1)
    for node in range(len(colours)):
        taken = set(colours[conflicts.indices[conflicts.indptr[node] : conflicts.indptr[node + 1]]])
        colours[node] = next(c for c in range(len(colours)) if c not in taken)
    return colours
