"""What is read back from the axes."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from qeqprop import plot


def curve(ax: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def edges_of(ax: Axes) -> LineCollection:
    (lines,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    return lines


def rendered(ax: Axes, tmp_path: Path) -> bytes:
    return plot.save(ax, tmp_path / "picture.png").read_bytes()
