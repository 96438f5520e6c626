"""The error of a gradient against the nudge strength."""

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .canvas import axes_or_new
from .palette import COLOURS, GREY, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ORDERS = {"one_sided": 1, "centered": 2, "richardson": 4}
_BESIDE = 2.2  # factor by which a triangle stands off its curve
_WIDTH, _HEIGHT = 0.5, 2.0  # decades at most


def error_vs_beta(
    betas: ArrayLike,
    errors_by_scheme: Mapping[str, ArrayLike],
    ax: "Axes | None" = None,
    *,
    floor: ArrayLike | None = None,
    orders: Mapping[str, int] | None = None,
) -> "Axes":
    """Error of the gradient against the nudge strength, log-log, with a triangle of slope `order` beside every curve.

    Args:
        betas: nudge strengths, shape (n,).
        errors_by_scheme: scheme name -> relative errors, one for every beta.
        ax: where to draw.
        floor: what the solver's residual can add: one number, or one for every beta.
        orders: scheme name -> order of its triangle; by default those of `one_sided`, `centered` and `richardson`.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> betas = np.geomspace(1e-3, 1e-1, 5)
        >>> ax = qp.plot.error_vs_beta(betas, {"centered": betas**2}, qp.plot.new_axes())
    """
    ax, betas = axes_or_new(ax), np.asarray(betas, dtype=float)
    known = _ORDERS if orders is None else orders
    curves = {name: np.asarray(values, dtype=float) for name, values in errors_by_scheme.items()}
    highest = max(curves, key=lambda name: curves[name][np.argmax(betas)]) if len(curves) > 1 else None
    for (name, errors), colour, marker in zip(curves.items(), cycle(COLOURS), cycle(MARKERS), strict=False):
        ax.loglog(betas, errors, marker=marker, color=colour, label=name.replace("_", "-"), lw=1.5, ms=5)
        if name in known:
            _slope_triangle(ax, betas, errors, known[name], colour, above=name == highest)
    if floor is not None:
        ax.loglog(betas, np.broadcast_to(floor, betas.shape), color=GREY, ls=":", label="solver's residual")
    ax.set(xlabel=r"nudge strength $\beta$", ylabel="relative error of the gradient")
    if highest in known:
        ax.set_ylim(top=2.5 * ax.get_ylim()[1])  # room for its triangle
    ax.grid(which="major", color="0.92", lw=0.8)
    ax.set_axisbelow(True)
    ax.legend(frameon=False)
    return ax


def _slope_triangle(ax: "Axes", betas: np.ndarray, errors: np.ndarray, order: int, colour: str, *, above: bool) -> None:
    """A right triangle whose long side has the slope `order`, beside the upper end of a curve: 1 across, `order` up."""
    rows = np.argsort(betas)[-max(2, len(betas) // 2) :]
    b, e = betas[rows], errors[rows]
    if not np.all(np.isfinite(e) & (e > 0)) or b[0] <= 0:
        return
    width = min(0.4 * np.log10(b[-1] / b[0]), _WIDTH, _HEIGHT / order)
    middle = 10 ** (np.log10(b[-1]) - 0.9 * width)
    left, right = middle / 10 ** (width / 2), middle * 10 ** (width / 2)
    curve = np.exp(np.interp(np.log(right), np.log(b), np.log(e)))
    top = curve * _BESIDE if above else curve / _BESIDE
    bottom = top * (left / right) ** order
    corner = (left, top) if above else (right, bottom)
    ax.fill(
        *zip((left, bottom), corner, (right, top), strict=True), fc=colour, ec=colour, alpha=0.25, lw=1, gid="slope"
    )
    style: dict[str, Any] = {"textcoords": "offset points", "color": colour, "fontsize": 9}
    sign = 1 if above else -1
    vertical: dict[str, Any] = {"xytext": (-4 * sign, 0), "ha": "right" if above else "left", "va": "center"}
    ax.annotate("1", (middle, corner[1]), xytext=(0, 3 * sign), ha="center", va="bottom" if above else "top", **style)
    ax.annotate(f"{order}", (corner[0], np.sqrt(top * bottom)), **vertical, **style)
