"""What networks of conductors have in common: conductances that are not negative, and a path from every node to a held one."""

from collections.abc import Iterable, Sequence

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components


def check_conductances(values: np.ndarray, name: str, edges: Sequence[tuple[int, int]] | None = None) -> None:
    """Raise ValueError for negative conductances, naming the lowest one, and the edge that it is of.

    Example:
        >>> check_conductances(np.array([1.0, -2.0]), "k", [(0, 1), (1, 2)])
        Traceback (most recent call last):
        ...
        ValueError: Argument `k` must not have negative conductances, but is -2 at index 1 (edge (1, 2)). In a ...
    """
    if not values.size or values.min() >= 0:
        return
    at = tuple(map(int, np.unravel_index(values.argmin(), values.shape)))
    index = at[0] if len(at) == 1 else at
    edge = "" if edges is None else f" (edge {edges[at[0]]})"
    raise ValueError(
        f"Argument `{name}` must not have negative conductances, but is {values[at]:g} at index {index}{edge}. In a training, "
        "chain the optimizer with `optax.keep_params_nonnegative()`."
    )


def check_not_held(nodes: Iterable[int], name: str, held: Iterable[int], quantity: str) -> None:
    """Raise ValueError for nodes of which something is set whose potential, or so, is held already."""
    if both := sorted(set(nodes) & set(held)):
        raise ValueError(f"Argument `{name}` must not have nodes whose {quantity} is held already, but has {both}.")


def loose_nodes(
    ends: tuple[np.ndarray, np.ndarray], conductances: np.ndarray, n_nodes: int, held: Sequence[int]
) -> np.ndarray:
    """The nodes that no path of positive conductances joins to a held one.

    Example:
        >>> print(loose_nodes((np.array([0, 2]), np.array([1, 3])), np.ones(2), 4, [0]))
        [2 3]
    """
    i, j = (end[conductances > 0] for end in ends)
    graph = sp.coo_array((np.ones(len(i)), (i, j)), shape=(n_nodes, n_nodes))
    _, part = connected_components(graph, directed=False)
    return np.flatnonzero(~np.isin(part, part[list(held)]))
