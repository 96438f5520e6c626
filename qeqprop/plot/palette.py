"""Colours and markers: told apart with every kind of colour vision (Okabe & Ito 2008), and in grey by their markers."""

from typing import Any

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "D", "^", "v", "P")
GREY = "0.45"
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
DIVERGING_NODES = "PuOr"


def ordered(count: int) -> list[Any]:
    """`count` colours that grow darker, for curves with an order (sizes, times): the light end is left out."""
    from matplotlib import colormaps

    return [colormaps[SEQUENTIAL](0.85 * (1 - k / max(count - 1, 1))) for k in range(count)]


def centred(largest: float) -> Any:
    """The scale from -largest to largest, whose middle colour is zero."""
    from matplotlib.colors import Normalize

    return Normalize(-largest, largest)
