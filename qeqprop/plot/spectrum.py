"""The gap along a field, for several sizes."""

from collections.abc import Callable, Mapping
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .canvas import axes_or_new
from .palette import GREY, MARKERS, ordered

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def gap_vs_field(
    fields: ArrayLike,
    gaps_by_size: Mapping[int | str, ArrayLike],
    ax: "Axes | None" = None,
    *,
    theory: Mapping[str, Callable[[np.ndarray], ArrayLike]] | None = None,
    critical: float | None = None,
    unit: str = "J",
    log: bool = False,
) -> "Axes":
    """Gap against the field, with the sizes on top of each other, from light (first) to dark (last).

    Args:
        fields: fields in `unit`, shape (n,).
        gaps_by_size: size -> gaps in `unit`, shape (n,); NaN where there is none.
        ax: where to draw.
        theory: name -> function of the field, drawn as lines.
        critical: field of a transition, marked.
        unit: of energy, as the axes call it.
        log: a logarithmic scale of the gap.

    Raises:
        ValueError: gaps of another length than the fields.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> g = np.linspace(0.2, 1.8, 9)
        >>> def gap(n, g):
        ...     chain = qp.TransverseFieldIsing(n, [(i, i + 1) for i in range(n - 1)])
        ...     params = {"J": np.ones(n - 1), "h": np.zeros(n), "g": g * np.ones(n)}
        ...     return qp.equilibrate(chain, params, throw=False).gap
        >>> gaps = {n: [gap(n, field) for field in g] for n in (4, 8)}
        >>> ax = qp.plot.gap_vs_field(g, gaps, qp.plot.new_axes(), theory={"infinite": lambda g: 2 * np.maximum(g - 1, 0)})
    """
    ax, x = axes_or_new(ax), np.asarray(fields, dtype=float)
    colours = ordered(len(gaps_by_size))
    for (size, values), colour, marker in zip(gaps_by_size.items(), colours, cycle(MARKERS), strict=False):
        gaps = np.asarray(values, dtype=float)
        if gaps.shape != x.shape:
            raise ValueError(f"Argument `gaps_by_size` must hold shape {x.shape}, but {size!r} has shape {gaps.shape}.")
        label = size if isinstance(size, str) else f"{size} spins"
        ax.plot(x, gaps, color=colour, marker=marker, ms=3.5, lw=1.4, label=label)
    fine = np.linspace(x.min(), x.max(), 400)
    for (name, line), dashes in zip((theory or {}).items(), cycle(("--", ":", "-.")), strict=False):
        ax.plot(fine, np.asarray(line(fine), dtype=float), color="black", ls=dashes, lw=1.2, label=name)
    if critical is not None:
        ax.axvline(critical, color=GREY, lw=1, ls=(0, (1, 3)), zorder=0)
    ax.set(xlabel=f"transverse field $g / {unit}$", ylabel=f"gap $(E_1 - E_0) / {unit}$")
    if log:
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    return ax
