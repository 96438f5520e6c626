"""Graphs as users have them: an edge list, a networkx graph or a NetKet graph."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Edges = tuple[tuple[int, int], ...]


def check_edges(edges: Any, n_sites: int) -> Edges:
    """`edges` as a tuple of pairs of sites, each pair once.

    Args:
        edges: an iterable of pairs, a `networkx.Graph` with nodes 0 .. n_sites-1, or a NetKet graph.
        n_sites: the sites are 0 .. n_sites - 1.

    Raises:
        TypeError: not a graph. ValueError: a site out of range, an edge twice (in either direction), or a loop.

    Example:
        >>> check_edges([(0, 1), (1, 0)], 2)
        Traceback (most recent call last):
        ...
        ValueError: Argument `edges` must have each pair once, but has (0, 1) and (1, 0).
    """
    pairs = edges.edges() if callable(getattr(edges, "edges", None)) else edges
    try:
        rows = [tuple(pair) for pair in pairs]
    except TypeError:
        raise TypeError(f"Argument `edges` must be a list of pairs or a graph, but is {edges!r}.") from None
    checked: dict[frozenset[int], tuple[int, int]] = {}
    for row in rows:
        if len(row) != 2 or not all(isinstance(site, int | np.integer) and not isinstance(site, bool) for site in row):
            raise TypeError(f"Argument `edges` must hold pairs of integers, but has {row!r}.")
        i, j = int(row[0]), int(row[1])
        if i == j:
            raise ValueError(f"Argument `edges` must not join a site to itself, but has {(i, j)}.")
        if not (0 <= i < n_sites and 0 <= j < n_sites):
            raise ValueError(
                f"Argument `edges` must join sites 0 to {n_sites - 1} (n_sites={n_sites}), but has {(i, j)}."
            )
        if (pair := frozenset((i, j))) in checked:
            raise ValueError(f"Argument `edges` must have each pair once, but has {checked[pair]} and {(i, j)}.")
        checked[pair] = (i, j)
    return tuple(checked.values())


def check_count(value: Any, name: str, least: int = 1) -> int:
    """`value` as an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"Argument `{name}` must be an integer, but is {value!r}.")
    if value < least:
        raise ValueError(f"Argument `{name}` must be at least {least}, but is {value}.")
    return int(value)


def check_counts(values: Sequence[int], name: str, least: int = 0) -> tuple[int, ...]:
    """`values` as a tuple of integers of at least `least`. TypeError, ValueError: they are none.

    Example:
        >>> check_counts(3, "pinned")
        Traceback (most recent call last):
        ...
        TypeError: Argument `pinned` must be a list of integers such as [3], but is 3.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        shown = "[0, 1]" if isinstance(values, str) or values is None else f"[{values}]"
        raise TypeError(f"Argument `{name}` must be a list of integers such as {shown}, but is {values!r}.")
    return tuple(check_count(value, name, least) for value in values)


def check_input_edges(edges: Sequence[tuple[int, int]], n_sites: int) -> Edges:
    """`edges` from inputs to sites as a tuple of different pairs (input, site).

    Raises:
        TypeError: not integers. ValueError: a site out of range, or an edge twice.
    """
    checked = tuple((check_count(m, "input_edges", 0), check_count(site, "input_edges", 0)) for m, site in edges)
    if len(set(checked)) != len(checked):
        raise ValueError("Argument `input_edges` must have each pair (input, site) once.")
    if bad := [pair for pair in checked if pair[1] >= n_sites]:
        raise ValueError(f"Argument `input_edges` must end on sites 0 to {n_sites - 1}, but has {bad[0]}.")
    return checked


def check_nodes(nodes: Sequence[int], name: str, n_nodes: int) -> tuple[int, ...]:
    """`nodes` as a tuple of distinct nodes among 0 .. n_nodes - 1.

    Raises:
        TypeError: not integers. ValueError: a node out of range, or twice.

    Example:
        >>> check_nodes([0, 3], "pinned", 3)
        Traceback (most recent call last):
        ...
        ValueError: Argument `pinned` must hold distinct nodes 0 to 2, but is [0, 3].
    """
    checked = check_counts(nodes, name)
    if len(set(checked)) != len(checked) or max(checked, default=0) >= n_nodes:
        raise ValueError(f"Argument `{name}` must hold distinct nodes 0 to {n_nodes - 1}, but is {list(checked)}.")
    return checked
