"""Training curves, of one run or of several seeds."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from .canvas import axes_or_new
from .palette import BLUE, GREEN, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.history import History


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
    if not runs or not all(hasattr(run, "loss") for run in runs):
        raise TypeError(f"Argument `histories` must be a `History` or a list of them, but is {histories!r:.60}.")
    ax = axes_or_new(ax)
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
    for (name, level), dashes in zip(references.items(), cycle(("--", ":", "-.", (0, (1, 4)))), strict=False):
        right.axhline(level, color=GREEN, ls=dashes, lw=1.2, label=f"{name}: {level:.3g}")
    right.set_ylabel(metric, color=GREEN)
    right.tick_params(axis="y", colors=GREEN)
    return right


def _band(ax: "Axes", x: np.ndarray, curves: Sequence[np.ndarray], colour: str, label: str, marker: Any) -> None:
    values = np.array(curves)
    ax.plot(x, np.median(values, axis=0), color=colour, label=label, marker=marker, ms=3.5, lw=1.6)
    if len(values) > 1:
        ax.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, lw=0)
