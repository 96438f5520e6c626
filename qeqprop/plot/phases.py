"""A quantity over two parameters, with the lines that theory draws between the phases."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .canvas import axes_or_new
from .palette import COLOURS, DIVERGING, SEQUENTIAL, centred

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

Line = Callable[[np.ndarray], ArrayLike] | tuple[ArrayLike, ArrayLike]
_SCALES = ("linear", "log", "centred")


def phase_diagram(
    data: "xr.Dataset | xr.DataArray | ArrayLike",
    ax: "Axes | None" = None,
    *,
    x: Any,
    y: Any,
    variable: str | None = None,
    scale: str = "linear",
    classes: Sequence[str] | None = None,
    lines: Mapping[str, Line] | None = None,
    label: str | None = None,
    limits: tuple[float, float] | None = None,
) -> "Axes":
    """A heat map over two parameters. Points that are missing or failed stay hatched.

    Args:
        data: the Dataset of a `scan` (with `variable`), a DataArray, or an array of shape (len(y), len(x)).
        ax: where to draw.
        x, y: names of two dimensions of the table, which must have no other; for an array the values along its axes.
        variable: which variable of a Dataset.
        scale: "linear", "log", or "centred": symmetric about zero.
        classes: names of the phases, where the data are their numbers 0, 1, ...: one colour each.
        lines: name -> function of x (NaN where there is no line), or a pair (x values, y values).
        label: of the colour bar, with its unit; by default the variable.
        limits: ends of the scale, by default those of the data.

    Raises:
        ValueError: an unknown variable, dimension or scale, data of another shape, or no finite value to draw.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> def order(g, J):
        ...     ring = qp.TransverseFieldIsing(4, [(i, (i + 1) % 4) for i in range(4)])
        ...     free = qp.equilibrate(ring, {"J": [J] * 4, "h": [0.0] * 4, "g": [g] * 4}, solver=qp.FreeFermions())
        ...     return {"order": free.state.expect(qp.Z(0) * qp.Z(1))}
        >>> table = qp.scan(order, {"g": [0.5, 1.0, 1.5], "J": [0.5, 1.0]}, workers=0)
        >>> ax = qp.plot.phase_diagram(table, qp.plot.new_axes(), x="g", y="J", variable="order", lines={"g = J": abs})
    """
    from matplotlib.colors import LogNorm, Normalize

    values, xs, ys, names = _grid(data, x, y, variable)
    if scale not in _SCALES:
        raise ValueError(f"Argument `scale` must be one of {_SCALES}, but is {scale!r}.")
    finite = values[np.isfinite(values) & ((values > 0) | (scale != "log"))]
    if not finite.size:
        raise ValueError(f"Argument `data` has no finite{' positive' if scale == 'log' else ''} value to draw.")
    if classes is not None:
        _check_classes(values, classes)
    ax = axes_or_new(ax)
    ax.patch.set(facecolor="0.93", hatch="///", edgecolor="0.7")
    low, high = limits or (finite.min(), finite.max())
    if classes is not None:
        _draw_classes(ax, xs, ys, values, classes)
    else:
        norm: Any = centred(max(abs(low), abs(high))) if scale == "centred" else Normalize(low, high)
        norm = LogNorm(low, high) if scale == "log" else norm
        shown = np.ma.masked_invalid(np.where((values > 0) | (scale != "log"), values, np.nan))
        cmap = DIVERGING if scale == "centred" else SEQUENTIAL
        mesh = ax.pcolormesh(xs, ys, shown, norm=norm, cmap=cmap, shading="nearest", rasterized=True)
        ax.figure.colorbar(mesh, ax=ax, label=label or names[2])
    box = ax.axis()
    _draw_lines(ax, lines or {}, xs, centre_is_light=scale == "centred" or classes is not None)
    ax.axis(box)
    ax.set(xlabel=names[0], ylabel=names[1])
    return ax


def _check_classes(values: np.ndarray, classes: Sequence[str]) -> None:
    known = np.isin(values, range(len(classes))) | ~np.isfinite(values)
    if len(classes) > len(COLOURS) or not np.all(known):
        bad = values[~known][0] if not np.all(known) else len(COLOURS)
        raise ValueError(
            f"Argument `classes` must name the numbers 0 to {len(classes) - 1} of the data, at most {len(COLOURS)} of "
            f"them, but the data have {bad:g}."
        )


def _draw_classes(ax: "Axes", xs: np.ndarray, ys: np.ndarray, values: np.ndarray, classes: Sequence[str]) -> None:
    from matplotlib.colors import ListedColormap

    shades = [_lighter(colour) for colour in COLOURS[: len(classes)]]
    options: dict[str, Any] = {"cmap": ListedColormap(shades), "vmin": -0.5, "vmax": len(classes) - 0.5}
    mesh = ax.pcolormesh(xs, ys, np.ma.masked_invalid(values), shading="nearest", rasterized=True, **options)
    bar = ax.figure.colorbar(mesh, ax=ax)
    bar.set_ticks(range(len(classes)), labels=classes)
    bar.ax.tick_params(length=0)


def _lighter(colour: str) -> Any:
    from matplotlib.colors import to_rgb

    return tuple(0.35 + 0.65 * np.array(to_rgb(colour)))


def _draw_lines(ax: "Axes", lines: Mapping[str, Line], xs: np.ndarray, centre_is_light: bool) -> None:
    """Black on light maps; white with a black rim on dark ones: seen on every colour."""
    from matplotlib import patheffects

    handles = []
    for (name, line), dashes in zip(lines.items(), cycle(("-", "--", ":", "-.")), strict=False):
        at = np.linspace(xs.min(), xs.max(), 400)
        ends = line if isinstance(line, tuple) else (at, line(at))
        colour, rim = ("black", "white") if centre_is_light else ("white", "black")
        (drawn,) = ax.plot(*(np.asarray(end, dtype=float) for end in ends), color=colour, ls=dashes, lw=1.8, label=name)
        drawn.set_path_effects([patheffects.withStroke(linewidth=3.2, foreground=rim)])
        handles.append(drawn)
    if handles:
        ax.legend(handles=handles, loc="best", framealpha=0.8, facecolor="0.75")


def _grid(
    data: Any, x: Any, y: Any, variable: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, str, str]]:
    """Values of shape (len(y), len(x)), the coordinates, and what the three are called."""
    if not hasattr(data, "dims"):
        values, xs, ys = (np.asarray(array, dtype=float) for array in (data, x, y))
        if xs.ndim != 1 or ys.ndim != 1 or values.shape != (len(ys), len(xs)):
            wanted = (ys.size, xs.size)
            raise ValueError(f"Argument `data` must have shape (len(y), len(x)) = {wanted}, but has {values.shape}.")
        return values, xs, ys, ("", "", "")
    table = data
    if hasattr(data, "data_vars"):
        if variable not in data.data_vars:
            known = sorted(data.data_vars)
            raise ValueError(
                f"Argument `variable` must be a variable of the table, one of {known}, but is {variable!r}."
            )
        table = data[variable]
    if set(table.dims) != {x, y}:
        raise ValueError(f"Arguments `x` and `y` must be the dimensions {table.dims}, but are {x!r} and {y!r}: select.")
    table = table.transpose(y, x).astype(float)
    return table.values, table[x].values, table[y].values, (str(x), str(y), str(table.name or ""))
