"""The graph of a system, and where its nodes are drawn."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Layout = str | tuple[int, int] | ArrayLike | None
_LAYOUTS = ("circle", "spring", "lattice")
_CURVED = 24  # points of a bent edge


class Graph(NamedTuple):
    """Edges (m, 2), number of nodes, input nodes."""

    edges: np.ndarray
    n_nodes: int
    inputs: tuple[int, ...]


def graph_of(system: Any) -> Graph:
    """The graph of any system that has edges between its sites (or nodes).

    Raises:
        TypeError: the system has none, as a `SpinNetwork` of arbitrary Pauli sums.
    """
    count = next((getattr(system, name) for name in ("n_sites", "n_nodes") if hasattr(system, name)), None)
    count = len(system.reference) if count is None and hasattr(system, "reference") else count
    if count is None or not hasattr(system, "edges"):
        raise TypeError(
            f"Argument `system` must be a network with edges between its sites, but is {type(system).__name__}."
        )
    held = next((getattr(system, name) for name in ("input_sites", "driven", "sources") if hasattr(system, name)), ())
    terms = getattr(system, "input_terms", ())
    inputs = tuple(held) or tuple(sorted({site for term in terms for site in term.support}))
    return Graph(np.array(system.edges, dtype=int).reshape(-1, 2), int(count), inputs)


def place(system: Any, graph: Graph, layout: Layout) -> np.ndarray:
    """Positions of the nodes, shape (n_nodes, 2).

    Raises:
        ValueError: an unknown layout, a lattice too small, or positions of another shape.
    """
    n = graph.n_nodes
    if layout is None:
        own = getattr(system, "reference", None)
        layout = own if own is not None and own.shape[1] == 2 else "circle"
    if isinstance(layout, str):
        if layout not in _LAYOUTS:
            raise ValueError(f"Argument `layout` must be 'circle', 'spring' or 'lattice', but is {layout!r}.")
        if layout == "circle":
            angles = math.pi / 2 - 2 * math.pi * np.arange(n) / n
            return np.stack([np.cos(angles), np.sin(angles)], axis=1)
        if layout == "spring":
            return _by_springs(graph)
        layout = (math.ceil(n / math.ceil(math.sqrt(n))), math.ceil(math.sqrt(n)))
    if isinstance(layout, tuple) and len(layout) == 2 and all(isinstance(k, int) for k in layout):
        rows, columns = layout
        if rows * columns < n:
            raise ValueError(f"Argument `layout` must have room for {n} sites, but {rows} x {columns} is too small.")
        return np.stack([np.arange(n) % columns, -(np.arange(n) // columns)], axis=1).astype(float)
    positions = np.asarray(layout, dtype=float)
    if positions.shape != (n, 2):
        raise ValueError(f"Argument `layout` must have shape (n_nodes, 2) = ({n}, 2), but has {positions.shape}.")
    return positions


def _by_springs(graph: Graph) -> np.ndarray:
    import networkx as nx

    drawn = nx.Graph(graph.edges.tolist())
    drawn.add_nodes_from(range(graph.n_nodes))
    placed = nx.spring_layout(drawn, seed=0)
    return np.array([placed[site] for site in range(graph.n_nodes)])


def edge_paths(system: Any, graph: Graph, positions: np.ndarray) -> list[np.ndarray]:
    """What to draw for every edge: a straight line; an arc where a line would run through a third node (the closing
    edge of a ring drawn as a row); two stubs where an edge of an elastic network leaves its periodic cell."""
    if getattr(system, "cell", None) is not None and positions.shape[1] == 2:
        springs = system.springs(positions)
        vectors = springs.length[:, None] * springs.unit
        return [_stubs(positions[i], positions[j], v) for (i, j), v in zip(graph.edges, vectors, strict=True)]
    return [_line(positions, i, j) for i, j in graph.edges]


def _line(positions: np.ndarray, i: int, j: int) -> np.ndarray:
    start, along = positions[i], positions[j] - positions[i]
    length = float(np.hypot(*along))
    if length == 0:
        return positions[[i, j]]
    normal = np.array([-along[1], along[0]]) / length
    fraction = (positions - start) @ along / length**2
    passed = (np.abs((positions - start) @ normal) < 0.02 * length) & (fraction > 0.01) & (fraction < 0.99)
    if not np.any(passed):
        return positions[[i, j]]
    s = np.linspace(0, 1, _CURVED)[:, None]
    return start + s * along + 0.6 * length * s * (1 - s) * normal


def _stubs(a: np.ndarray, b: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The edge from a to b = a - vector, cut in the middle where b is the image of a node elsewhere."""
    if np.allclose(a - b, vector):
        return np.array([a, b])
    return np.array([a, a - vector / 2, [np.nan, np.nan], b + vector / 2, b])


def check_marked(nodes: Sequence[int], name: str, n_nodes: int) -> list[int]:
    """Nodes to be marked, which must exist."""
    marked = [int(node) for node in nodes]
    if bad := [node for node in marked if not 0 <= node < n_nodes]:
        raise ValueError(f"Argument `{name}` must hold nodes 0 to {n_nodes - 1}, but has {bad[0]}.")
    return marked
