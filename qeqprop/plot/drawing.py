"""The drawing of a network: edges with colour and width, nodes with colour and a marker for their role."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .palette import DIVERGING, DIVERGING_NODES, centred

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = {"hidden": "o", "input": "s", "output": "D"}
_READABLE = 12.0  # points: nodes of this diameter have their numbers written


class Values(NamedTuple):
    """Numbers to be shown, what they are called, the end of their scale, and which of them are grey."""

    shown: np.ndarray
    label: str
    largest: float
    grey: np.ndarray


def draw(
    ax: "Axes",
    positions: np.ndarray,
    paths: Sequence[np.ndarray],
    bonds: Values,
    sites: Values | None,
    roles: Mapping[str, Sequence[int]],
) -> "Axes":
    """All of it, with a colour bar for the edges and, where nodes have values, for the nodes."""
    lines = _edges(ax, paths, bonds)
    nodes = _nodes(ax, positions, sites, roles)
    _frame(ax, np.concatenate([positions, *paths]))
    if sites is not None:
        ax.figure.colorbar(nodes, ax=ax, label=sites.label, shrink=0.75, pad=0.02, location="left")
    ax.figure.colorbar(lines, ax=ax, label=bonds.label, shrink=0.75, pad=0.02)
    return ax


def _frame(ax: "Axes", points: np.ndarray) -> None:
    """Everything in sight, with room for the nodes at the rim."""
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    room = 0.1 * max(*(high - low), 1e-9)
    ax.set(xlim=(low[0] - room, high[0] + room), ylim=(low[1] - room, high[1] + room), aspect="equal")
    ax.axis("off")


def _diameter(positions: np.ndarray) -> float:
    """Of a node in points: about half the distance to the next one."""
    from scipy.spatial import cKDTree

    if len(positions) == 1:
        return 17.0
    nearest = cKDTree(positions).query(positions, k=2)[0][:, 1]
    spacing = np.median(nearest) / max(*np.ptp(positions, axis=0), 1e-9)
    return float(np.clip(120 * spacing, 3.5, 17))


def _edges(ax: "Axes", paths: Sequence[np.ndarray], bonds: Values) -> Any:
    from matplotlib.collections import LineCollection

    strength = np.abs(bonds.shown) / bonds.largest
    order = np.argsort(strength)  # strong couplings are drawn on top
    order = order[np.argsort(~bonds.grey[order], kind="stable")]
    lines = LineCollection(
        [paths[k] for k in order],
        linewidths=0.4 + 5.0 * np.minimum(strength[order], 1.0),
        cmap=_with_grey(DIVERGING),
        norm=centred(bonds.largest),
        capstyle="round",
        zorder=1,
    )
    lines.set_array(np.ma.array(bonds.shown[order], mask=bonds.grey[order]))
    ax.add_collection(lines)
    return lines


def _nodes(ax: "Axes", positions: np.ndarray, sites: Values | None, roles: Mapping[str, Sequence[int]]) -> Any:
    """The nodes, a marker for each role; returns a collection for the colour bar."""
    count = len(positions)
    diameter = _diameter(positions)
    special = {site for chosen in roles.values() for site in chosen}
    groups = {"hidden": [site for site in range(count) if site not in special], **roles}
    norm = None if sites is None else centred(sites.largest)
    drawn = None
    for role, chosen in groups.items():
        if not chosen:
            continue
        style: dict[str, Any] = {"color": "white"}
        if sites is not None:
            shown = np.ma.array(sites.shown[chosen], mask=sites.grey[chosen])
            style = {"c": shown, "cmap": _with_grey(DIVERGING_NODES), "norm": norm, "plotnonfinite": True}
        drawn = ax.scatter(
            positions[chosen, 0],
            positions[chosen, 1],
            s=diameter**2 * (0.8 if role == "output" else 1.0),
            marker=_MARKERS[role],
            edgecolors="black",
            linewidths=1.0 if role == "hidden" else 1.8,
            label=role,
            zorder=2,
            **style,
        )
    for site, (x, y) in enumerate(positions) if diameter >= _READABLE else ():
        dark = (
            sites is not None and not sites.grey[site] and abs(centred(sites.largest)(sites.shown[site]) - 0.5) > 0.33
        )
        colour = "white" if dark else "black"
        ax.annotate(str(site), (x, y), ha="center", va="center", fontsize=8, color=colour, zorder=3)
    if special:
        _legend(ax, [role for role, chosen in groups.items() if chosen])
    return drawn


def _legend(ax: "Axes", roles: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"ls": "none", "mfc": "white", "mec": "black"}
    handles = [Line2D([], [], marker=_MARKERS[role], label=role, **style) for role in roles]
    ax.legend(handles=handles, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncol=3)


def _with_grey(name: str) -> Any:
    """A colour map whose colour of masked values is grey."""
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad="0.7")
