"""Where a tensor network begins: the order of the sites along the chain, and product states."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import reverse_cuthill_mckee

from .mps_operator import LETTERS, StringSum
from .pauli import PauliSum

TILT = 0.2
"""How far a start leans away from the best product state, which may be an eigenstate that no sweep would leave."""


def chain_order(operators: Sequence[PauliSum], n_sites: int) -> tuple[int, ...]:
    """The order of the sites that fewer strings cross: as they are numbered, or by reverse Cuthill-McKee.

    Judged by the bond that most strings cross, on which the entanglement depends exponentially; then by all bonds.

    Example:
        >>> import qeqprop as qp
        >>> chain_order([qp.Z(0) * qp.Z(3), qp.Z(3) * qp.Z(1), qp.Z(1) * qp.Z(2)], 4)
        (2, 1, 3, 0)
    """
    groups = [sites for operator in operators for sites in _groups(operator)]
    rows = [i for sites in groups for i in sites for _ in sites]
    cols = [j for sites in groups for _ in sites for j in sites]
    graph = sp.csr_array((np.ones(len(rows)), (rows, cols)), shape=(n_sites, n_sites))
    numbered = tuple(range(n_sites))
    narrow = tuple(int(site) for site in reverse_cuthill_mckee(sp.csr_matrix(graph), symmetric_mode=True))
    return min((numbered, narrow), key=lambda order: crossings(groups, order))


def crossings(groups: Sequence[tuple[int, ...]], order: Sequence[int]) -> tuple[int, int]:
    """Most and all crossings of a bond by groups of sites."""
    position = np.argsort(order)
    counts = np.zeros(len(order) + 1, dtype=int)
    for sites in set(groups):
        where = position[list(sites)]
        counts[where.min()] += 1
        counts[where.max()] -= 1
    return int(np.cumsum(counts).max()), int(np.cumsum(counts).sum())


def _groups(operator: PauliSum) -> list[tuple[int, ...]]:
    return [PauliSum([(x, z, 1.0)]).support for x, z, c in operator if x | z]


def product_start(h: StringSum, *, sweeps: int = 50) -> np.ndarray:
    """Bloch vectors (n, 3), close to those of the best product state.

    The energy of a product state is linear in the Bloch vector of each spin, which therefore turns against its field,
    spin by spin. A real H keeps the vectors in the plane of X and Z.
    """
    n = h.letters.shape[1]
    generic = np.array([np.sqrt(3) / 2, 0.0 if h.is_real else 0.3, 0.5])  # along no axis: no symmetric point
    bloch = np.tile(generic / np.linalg.norm(generic), (n, 1))
    touching = [np.flatnonzero(h.letters[:, site]) for site in range(n)]
    columns = np.arange(n)
    for _ in range(sweeps):
        previous = bloch.copy()
        for site, strings in enumerate(touching):
            letters = h.letters[strings]
            extended = np.concatenate([np.ones((n, 1)), bloch], axis=1)
            extended[site] = 1.0
            others = h.coefficients[strings] * np.prod(extended[columns, letters], axis=1)
            field = np.bincount(letters[:, site] - 1, weights=others, minlength=3)
            if h.is_real:
                field[1] = 0.0
            if (strength := np.linalg.norm(field)) > 0:
                bloch[site] = -field / strength
        if np.max(np.abs(bloch - previous)) < 1e-3:
            break
    return bloch


def local_operator(vectors: np.ndarray) -> StringSum:
    """sum_k vectors[k] . (X, Y, Z) at position k."""
    positions, components = np.nonzero(vectors)
    letters = np.zeros((len(positions), len(vectors)), dtype=np.uint8)
    letters[np.arange(len(positions)), positions] = components + 1
    return StringSum(letters, vectors[positions, components], 0.0)


def spinors(bloch: np.ndarray, *, real: bool) -> list[np.ndarray]:
    """Spin states along the Bloch vectors, leaning a little towards a generic direction."""
    generic = np.array([0.6, 0.0 if real else 0.48, 0.8 if real else 0.64])
    leaning = bloch + TILT * generic
    states = []
    for vector in leaning:
        density = LETTERS[0] + np.tensordot(vector / np.linalg.norm(vector), LETTERS[1:], axes=1)
        state = density[:, np.argmax(np.diag(density).real)]
        state = state / np.linalg.norm(state)
        states.append(state.real if real else state)
    return states
