"""Where pictures are drawn, and how they come to a file."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (6.0, 4.2)
"""Inches: as wide as a notebook's text, with letters of its size."""


def save(ax: "Axes", path: str | os.PathLike[str], *, dpi: int = 150) -> Path:
    """Write the figure of `ax` to `path` (the suffix names the format), at once: nobody ever sees half a picture."""
    figure, buffer = ax.get_figure(root=True), io.BytesIO()
    if figure is None:
        raise ValueError("Argument `ax` must belong to a figure, but was removed from it.")
    figure.savefig(buffer, dpi=dpi, format=Path(path).suffix.lstrip(".") or "png", bbox_inches="tight")
    return write_atomically(path, buffer.getvalue())


def new_axes(size: tuple[float, float] = SIZE) -> "Axes":
    """Axes of a figure that no window and no notebook shows, for files: needs no display and leaves nothing behind."""
    from matplotlib.figure import Figure

    return Figure(figsize=size).add_subplot()


def axes_or_new(ax: "Axes | None", size: tuple[float, float] = SIZE) -> "Axes":
    """`ax`, or axes of a new figure that notebooks show."""
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=size)[1]
