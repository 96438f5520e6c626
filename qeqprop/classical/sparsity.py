"""The sparse matrix of energies that are sums over the edges of a graph."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp


class EdgePattern(NamedTuple):
    """Where the blocks of the edges go in the matrix of the free coordinates: sorted once, filled at every point.

    Attributes:
        free: flat indices of the free coordinates.
        kept: which entries of the stacked blocks touch free coordinates only.
        slot: the place of each of these in the data of the matrix.
        indices, indptr: of the matrix in CSC format.
    """

    free: np.ndarray
    kept: np.ndarray
    slot: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray

    @classmethod
    def of(cls, i: np.ndarray, j: np.ndarray, shape: tuple[int, int], held: list[int]) -> "EdgePattern":
        """The pattern of edges (i, j) between nodes with coordinates of `shape`, those of the nodes `held` being fixed."""
        n_nodes, dim = shape
        place = np.ones(shape, bool)
        place[held] = False
        free = np.flatnonzero(place)
        number = np.full(n_nodes * dim, -1)
        number[free] = np.arange(len(free))
        of_node = number.reshape(n_nodes, dim)
        heads = np.concatenate([of_node[i], of_node[j], of_node[i], of_node[j]])
        tails = np.concatenate([of_node[i], of_node[j], of_node[j], of_node[i]])
        rows = np.repeat(heads, dim, axis=1).ravel()
        columns = np.tile(tails, (1, dim)).ravel()
        kept = np.flatnonzero((rows >= 0) & (columns >= 0))
        size = max(len(free), 1)
        flat, slot = np.unique(columns[kept] * size + rows[kept], return_inverse=True)
        counts = np.bincount(flat // size, minlength=len(free))
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return cls(free, kept, slot, flat % size, indptr)

    def assemble(self, blocks: np.ndarray, gains: np.ndarray | float = 1.0) -> sp.csc_array:
        """The matrix of sum_e 1/2 (a_e s_i - s_j)^T B_e (a_e s_i - s_j), with blocks B of shape (n_edges, dim, dim).

        Args:
            gains: a_e, broadcast against the blocks.
        """
        mixed = gains * blocks
        entries = np.concatenate([gains * mixed, blocks, -mixed, -mixed]).ravel()[self.kept]
        data = np.bincount(self.slot, entries, len(self.indices))
        return sp.csc_array((data, self.indices, self.indptr), shape=(len(self.free),) * 2)
