"""Pictures of results. Every function takes data and an `Axes` (or makes one), draws, and returns the `Axes`.

    ax = qp.plot.agreement(qp.check_gradient(net, params, cost))
    qp.plot.save(ax, "agreement.png")

Colours are told apart with every kind of colour vision (Okabe & Ito 2008). Matplotlib is imported at the first picture.
"""

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .core.reference import GradientCheck
    from .core.training import History

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
_MARKERS = ("o", "s", "D", "^", "v", "P")
_GREY = "0.45"
_ORDERS = {"one_sided": 1, "centered": 2, "richardson": 4}


def save(ax: "Axes", path: str | os.PathLike[str], *, dpi: int = 150) -> Path:
    """Write the figure of `ax` to `path` (the suffix names the format), at once: nobody ever sees half a picture."""
    figure, buffer = ax.get_figure(root=True), io.BytesIO()
    if figure is None:
        raise ValueError("Argument `ax` must belong to a figure, but was removed from it.")
    figure.savefig(buffer, dpi=dpi, format=Path(path).suffix.lstrip(".") or "png", bbox_inches="tight")
    return write_atomically(path, buffer.getvalue())


def new_axes(size: tuple[float, float] = (6.0, 4.2)) -> "Axes":
    """Axes of a figure that no window and no notebook shows, for files: needs no display and leaves nothing behind."""
    from matplotlib.figure import Figure

    return Figure(figsize=size).add_subplot()


def _axes(ax: "Axes | None", size: tuple[float, float] = (6.0, 4.2)) -> "Axes":
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=size)[1]


def agreement(check: "GradientCheck", ax: "Axes | None" = None) -> "Axes":
    """EP against its references, component by component, with the deviations in a panel below.

    Bars in the lower panel are the error that EP itself reports (truncation, standard error, residual): where a point
    lies below its bar, the gradient knew how wrong it was.

    Args:
        check: what `qp.check_gradient` returns.
        ax: upper panel; the lower one is cut off from it.
    """
    from mpl_toolkits.axes_grid1 import make_axes_locatable

    ax = _axes(ax, (6.0, 6.0))
    lower = make_axes_locatable(ax).append_axes("bottom", size="50%", pad=0.6)
    ep, component = _flat(check.ep.grad), np.arange(sum(value.size for value in check.ep.grad.values()))
    reported = _flat(check.ep.truncation) + _flat(check.ep.stderr) + check.ep.residual
    shown = [reported]
    for (name, reference), colour, marker in zip(check.references.items(), _COLOURS, _MARKERS, strict=False):
        values = _flat(reference.grad)
        size = 6 if marker == "o" else 3.5  # the first and the second reference stay visible where they coincide
        for axes, x, y in ((ax, ep, values), (lower, component, np.abs(ep - values))):
            axes.plot(x, y, ls="none", marker=marker, mfc="none", color=colour, ms=size, label=name)
        shown.append(np.abs(ep - values))
    lower.plot(component, reported, ls="none", marker="_", color="black", ms=8, mew=1.5, label="error reported by EP")
    ends = [min(0.0, np.nanmin(ep)), max(0.0, np.nanmax(ep))]
    ax.plot(ends, ends, color=_GREY, lw=1, zorder=0)
    positive = np.concatenate(shown)
    positive = positive[np.isfinite(positive) & (positive > 0)]
    lower.set(yscale="log", ylabel="|EP $-$ reference|")
    if positive.size:
        lower.set_ylim(max(positive.min(), 1e-17) / 4, positive.max() * 6)
    _name_components(lower, check.ep.grad)
    verdict = "agrees" if check.agrees else "vanishes within its errors" if check.vanishes else "DISAGREES"
    ax.set(xlabel=f"EP gradient, {check.ep.scheme}", ylabel="reference gradient", title=f"check_gradient: {verdict}")
    ax.legend(*lower.get_legend_handles_labels(), frameon=False)
    return ax


def _name_components(ax: "Axes", grad: Mapping[str, np.ndarray]) -> None:
    """Parameter names below the axis, each in the middle of its components."""
    ends = np.cumsum([value.size for value in grad.values()])
    starts = ends - [value.size for value in grad.values()]
    for end in ends[:-1]:
        ax.axvline(end - 0.5, color="0.85", lw=0.8, zorder=0)
    ax.set_xticks((starts + ends - 1) / 2, list(grad))
    ax.set_xlim(-0.7, ends[-1] - 0.3)
    ax.tick_params(axis="x", length=0)
    ax.set_xlabel("component of the gradient")


def _flat(tree: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(value) for value in tree.values()])


def error_vs_beta(
    betas: ArrayLike,
    errors_by_scheme: Mapping[str, ArrayLike],
    ax: "Axes | None" = None,
    *,
    floor: ArrayLike | None = None,
    orders: Mapping[str, int] | None = None,
) -> "Axes":
    """Error of the gradient against the nudge strength, log-log, with a guide of slope `order` beside every curve.

    Args:
        betas: nudge strengths.
        errors_by_scheme: scheme name -> relative errors, one for every beta.
        ax: where to draw.
        floor: what the solver's residual can add: one number, or one for every beta.
        orders: scheme name -> order of its guide; by default those of `one_sided`, `centered` and `richardson`.
    """
    ax, betas = _axes(ax), np.asarray(betas, dtype=float)
    known = _ORDERS if orders is None else orders
    for (name, values), colour, marker in zip(errors_by_scheme.items(), _COLOURS, _MARKERS, strict=False):
        errors = np.asarray(values, dtype=float)
        ax.loglog(betas, errors, marker=marker, color=colour, label=name.replace("_", "-"), lw=1.5, ms=5)
        if name in known:
            _guide(ax, betas, errors, known[name], colour)
    if floor is not None:
        ax.loglog(betas, np.broadcast_to(floor, betas.shape), color=_GREY, ls=":", label="solver's residual")
    ax.set(xlabel=r"nudge strength $\beta$", ylabel="relative error of the gradient")
    ax.grid(which="major", color="0.92", lw=0.8)
    ax.set_axisbelow(True)
    ax.legend(frameon=False)
    return ax


def _guide(ax: "Axes", betas: np.ndarray, errors: np.ndarray, order: int, colour: str) -> None:
    """A dashed line of slope `order`, a little above the upper end of a curve."""
    rows = np.argsort(betas)[-max(2, len(betas) // 3) :]
    b, e = betas[rows], errors[rows]
    if not np.all(e > 0):
        return
    line = 2.5 * math.exp(float(np.mean(np.log(e / b**order)))) * b**order
    ax.loglog(b, line, color=colour, ls="--", lw=1)
    power = "" if order == 1 else f"^{order}"
    style: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "center", "color": colour}
    ax.annotate(rf"$\propto\beta{power}$", (b[len(b) // 2], line[len(b) // 2]), xytext=(-6, 5), **style)


def training_curves(
    histories: "History | Sequence[History]",
    ax: "Axes | None" = None,
    *,
    references: Mapping[str, float] | None = None,
    held_out: str = "validation",
    metric: str = "accuracy",
) -> "Axes":
    """Loss of the training and of the validation data, and the metric on a second axis.

    Several histories (seeds) become a line, their median, in a band from the lowest to the highest.

    Args:
        histories: one `History`, or several of the same length.
        ax: where to draw.
        references: name -> value of the metric, drawn as levels to compare with (a base line, an untrained network).
        held_out: what the data of `History.validation_loss` are called.
        metric: what the second axis is called.
    """
    runs: list[Any] = list(histories) if isinstance(histories, list | tuple) else [histories]
    ax = _axes(ax)
    steps = min(run.loss.size for run in runs)
    epochs = min(run.validation_loss.size for run in runs)
    per_epoch = steps / epochs if epochs else 1.0
    if epochs > 1:
        losses = [_means(run.loss[:steps], epochs) for run in runs]
        _band(ax, np.arange(1, epochs + 1), losses, BLUE, "training loss", "o")
        ax.plot((np.arange(steps) + 1) / per_epoch, runs[0].loss[:steps], color=BLUE, alpha=0.25, lw=0.8, zorder=0)
        measured = [run.validation_loss[:epochs] for run in runs]
        _band(ax, np.arange(1, epochs + 1), measured, ORANGE, f"{held_out} loss", "s")
    else:
        _band(ax, np.arange(1, steps + 1), [run.loss[:steps] for run in runs], BLUE, "training loss", None)
    ax.set(xlabel="epoch" if epochs > 1 else "step", ylabel="loss")
    right = _metric_axis(ax, runs, epochs, references or {}, metric)
    handles = [h for axes in (ax, right) if axes is not None for h in axes.get_legend_handles_labels()[0]]
    ax.legend(handles=handles, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=3, fontsize="small")
    return ax


def _means(values: np.ndarray, parts: int) -> np.ndarray:
    return np.array([part.mean() for part in np.array_split(values, parts)])


def _metric_axis(
    ax: "Axes", runs: "Sequence[History]", epochs: int, references: Mapping[str, float], metric: str
) -> "Axes | None":
    if epochs <= 1 or not all(run.metric.size >= epochs for run in runs):
        return None
    right = ax.twinx()
    _band(right, np.arange(1, epochs + 1), [run.metric[:epochs] for run in runs], GREEN, metric, "^")
    for (name, level), dashes in zip(references.items(), ("--", ":", "-.", (0, (1, 4))), strict=False):
        right.axhline(level, color=GREEN, ls=dashes, lw=1.2, label=f"{name}: {level:.3g}")
    right.set_ylabel(metric, color=GREEN)
    right.tick_params(axis="y", colors=GREEN)
    return right


def _band(ax: "Axes", x: np.ndarray, curves: Sequence[np.ndarray], colour: str, label: str, marker: Any) -> None:
    values = np.array(curves)
    ax.plot(x, np.median(values, axis=0), color=colour, label=label, marker=marker, ms=3.5, lw=1.6)
    if len(values) > 1:
        ax.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, lw=0)


def network(
    system: Any,
    params: Mapping[str, ArrayLike],
    ax: "Axes | None" = None,
    *,
    layout: str = "circle",
    inputs: Sequence[int] | None = None,
    outputs: Sequence[int] = (),
    max_coupling: float | None = None,
    max_field: float | None = None,
) -> "Axes":
    """A transverse-field Ising network: couplings J as edges, longitudinal fields h as nodes.

    Colour and width of an edge are its coupling, on a scale centred on zero (red ferromagnetic, blue
    antiferromagnetic); the colour of a node is its field (purple up, brown down). Clamped inputs are not drawn.

    Args:
        system: a `TransverseFieldIsing`.
        params: its parameters.
        ax: where to draw.
        layout: "circle", "spring" or "lattice" (rows of about sqrt(n) sites).
        inputs: sites marked as inputs (squares); None takes the system's input sites.
        outputs: sites marked as outputs (diamonds).
        max_coupling, max_field: ends of the colour scales, to make several pictures comparable.
    """
    from matplotlib.collections import LineCollection

    if not all(hasattr(system, name) for name in ("edges", "n_sites")):
        raise TypeError(f"Argument `system` must be a TransverseFieldIsing, but is {type(system).__name__}.")
    ax = _axes(ax, (6.2, 5.0))
    checked = system.check_params(params)
    couplings, fields = checked["J"], checked["h"]
    positions = _positions(system, layout)
    strongest = max_coupling or float(np.max(np.abs(couplings), initial=1e-12))
    order = np.argsort(np.abs(couplings))  # strong couplings are drawn on top
    edges = np.array(system.edges, dtype=int).reshape(-1, 2)[order]
    lines = LineCollection(
        list(positions[edges]),
        linewidths=0.4 + 5.0 * np.abs(couplings[order]) / strongest,
        cmap="RdBu_r",
        norm=_centred(strongest),
        capstyle="round",
        zorder=1,
    )
    lines.set_array(couplings[order])
    ax.add_collection(lines)
    if inputs is None:
        inputs = sorted({site for term in system.input_terms for site in term.support})
    nodes = _nodes(ax, positions, fields, max_field, {"s": inputs, "D": outputs})
    ax.set_aspect("equal")
    ax.margins(0.12)
    ax.axis("off")
    ax.figure.colorbar(nodes, ax=ax, label="field $h_i$", shrink=0.75, pad=0.02, location="left")
    ax.figure.colorbar(lines, ax=ax, label="coupling $J_{ij}$", shrink=0.75, pad=0.02)
    return ax


def _nodes(
    ax: "Axes",
    positions: np.ndarray,
    fields: np.ndarray,
    max_field: float | None,
    marked: Mapping[str, Sequence[int]],
) -> Any:
    """The sites, with a marker for each role; returns a collection for the colour bar."""
    from matplotlib.lines import Line2D

    size = float(np.clip(4200 / len(positions), 60, 320))
    norm = _centred(max_field or float(np.max(np.abs(fields), initial=1e-12)))
    rest = sorted(set(range(len(positions))) - {site for sites in marked.values() for site in sites})
    groups = {"o": ("hidden", rest), "s": ("input", marked["s"]), "D": ("output", marked["D"])}
    drawn = None
    for marker, (label, sites) in groups.items():
        chosen = list(sites)
        if not chosen:
            continue
        drawn = ax.scatter(
            positions[chosen, 0],
            positions[chosen, 1],
            c=fields[chosen],
            s=size * (0.8 if marker == "D" else 1.0),
            marker=marker,
            cmap="PuOr",
            norm=norm,
            edgecolors="black",
            linewidths=1.0 if marker == "o" else 1.8,
            label=label,
            zorder=2,
        )
    for site, (x, y) in enumerate(positions) if len(positions) <= 30 else ():
        dark = abs(norm(fields[site]) - 0.5) > 0.33
        ax.annotate(str(site), (x, y), ha="center", va="center", fontsize=8, color="white" if dark else "black")
    if any(len(sites) for sites in marked.values()):
        shapes = {label: marker for marker, (label, sites) in groups.items() if len(sites)}
        style: dict[str, Any] = {"ls": "none", "mfc": "white", "mec": "black"}
        handles = [Line2D([], [], marker=marker, label=label, **style) for label, marker in shapes.items()]
        ax.legend(handles=handles, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncol=3)
    return drawn


def _centred(largest: float) -> Any:
    from matplotlib.colors import Normalize

    return Normalize(-largest, largest)


def _positions(system: Any, layout: str) -> np.ndarray:
    n = system.n_sites
    if layout == "circle":
        angles = math.pi / 2 - 2 * math.pi * np.arange(n) / n
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if layout == "lattice":
        columns = math.ceil(math.sqrt(n))
        return np.stack([np.arange(n) % columns, -(np.arange(n) // columns)], axis=1).astype(float)
    if layout == "spring":
        import networkx as nx

        graph = nx.Graph(list(system.edges))
        graph.add_nodes_from(range(n))
        placed = nx.spring_layout(graph, seed=0)
        return np.array([placed[site] for site in range(n)])
    raise ValueError(f"Argument `layout` must be 'circle', 'spring' or 'lattice', but is {layout!r}.")
