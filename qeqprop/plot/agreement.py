"""EP beside its references."""

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from .canvas import axes_or_new
from .palette import COLOURS, GREY, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.gradient import EPGradient
    from ..core.reference import GradientCheck


def agreement(
    estimate: "GradientCheck | EPGradient",
    ax: "Axes | None" = None,
    *,
    references: "Mapping[str, EPGradient] | None" = None,
) -> "Axes":
    """A gradient against its references, component by component, with the deviations in a panel below.

    Bars in the upper panel are two standard errors of both. Bars in the lower panel are the error that the gradient
    itself reports (truncation, two standard errors, residual): where a point lies below its bar, the gradient knew how
    wrong it was.

    Args:
        estimate: what `qp.check_gradient` returns, or any gradient together with `references`.
        ax: upper panel; the lower one is cut off from it.
        references: name -> gradient of the same parameters.

    Raises:
        ValueError: a gradient alone, or references with other parameters.

    Example:
        >>> import qeqprop as qp
        >>> pair = qp.TransverseFieldIsing(2, [(0, 1)])
        >>> params, cost = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}, qp.ObservableCost(qp.Z(1))
        >>> seen = qp.ep_gradient(pair, params, cost, solver=qp.Measured(qp.ExactDiagonalization(), 9999), key=0)
        >>> exact = {"exact": qp.linear_response(pair, params, cost)}
        >>> ax = qp.plot.agreement(seen, qp.plot.new_axes((6, 6)), references=exact)
    """
    from mpl_toolkits.axes_grid1 import make_axes_locatable

    ep, references, title = _unpacked(estimate, references)
    ax = axes_or_new(ax, (6.0, 6.0))
    lower = make_axes_locatable(ax).append_axes("bottom", size="50%", pad=0.6)
    own, component = _flat(ep.grad), np.arange(sum(value.size for value in ep.grad.values()))
    bar = 2 * _flat(ep.stderr)
    reported = _flat(ep.truncation) + bar + ep.residual
    shown = [reported]
    for (name, reference), colour, marker in zip(references.items(), cycle(COLOURS), cycle(MARKERS), strict=False):
        values, other = _flat(reference.grad), 2 * _flat(reference.stderr)
        size = 6 if marker == "o" else 3.5  # the first and the second reference stay visible where they coincide
        style: dict[str, Any] = {"ls": "none", "marker": marker, "mfc": "none", "color": colour, "ms": size}
        ax.plot(own, values, label=name, **style)
        vertical, horizontal = (error if np.any(error > 0) else None for error in (other, bar))
        ax.errorbar(own, values, vertical, horizontal, fmt="none", ecolor=colour, elinewidth=0.8)
        lower.plot(component, np.abs(own - values), label=name, **style)
        shown.append(np.abs(own - values))
    lower.plot(component, reported, ls="none", marker="_", color="black", ms=8, mew=1.5, label="error reported by EP")
    ends = [min(0.0, np.nanmin(own)), max(0.0, np.nanmax(own))]
    ax.plot(ends, ends, color=GREY, lw=1, zorder=0)
    _fit_scale(lower, np.concatenate(shown))
    _name_components(lower, ep.grad)
    ax.set(xlabel=f"EP gradient, {ep.scheme}", ylabel="reference gradient", title=title)
    ax.legend(*lower.get_legend_handles_labels(), frameon=False)
    return ax


def _unpacked(
    estimate: "GradientCheck | EPGradient", references: "Mapping[str, EPGradient] | None"
) -> "tuple[EPGradient, Mapping[str, EPGradient], str]":
    from ..core.gradient import EPGradient
    from ..core.reference import GradientCheck

    if isinstance(estimate, GradientCheck):
        return estimate.ep, {**estimate.references, **(references or {})}, f"check_gradient: {estimate.verdict}"
    if not isinstance(estimate, EPGradient):
        raise TypeError(
            f"Argument `estimate` must be a GradientCheck or an EPGradient, but is {type(estimate).__name__}."
        )
    if not references:
        raise ValueError("Argument `references` must name gradients to compare with, but is empty.")
    shapes = {name: value.shape for name, value in estimate.grad.items()}
    for name, reference in references.items():
        if (other := {n: value.shape for n, value in reference.grad.items()}) != shapes:
            raise ValueError(f"Argument `references` must have parameters {shapes}, but {name!r} has {other}.")
    return estimate, references, ""


def _fit_scale(ax: "Axes", values: np.ndarray) -> None:
    """Logarithmic, from the smallest to the largest positive number."""
    positive = values[np.isfinite(values) & (values > 0)]
    ax.set(yscale="log", ylabel="|EP $-$ reference|")
    if positive.size:
        ax.set_ylim(max(positive.min(), 1e-17) / 4, positive.max() * 6)


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
