"""The points of a scan: every combination of the values of its axes, each known by a hash of its parameters."""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

Value = float | int | bool | str
RESERVED = ("rng", "init", "status", "error", "seconds")
"""Names that a scan uses itself."""


class Point(NamedTuple):
    """One combination of the axes' values.

    Attributes:
        place: its index on every axis.
        params: name -> value, plain Python numbers and strings.
        key: SHA-256 of the canonical JSON of the parameters (names sorted, no blanks): the name of the point's file.
    """

    place: tuple[int, ...]
    params: dict[str, Value]
    key: str


class Grid:
    """The axes of a scan.

    Args:
        axes: name -> values (a 1-D sequence of numbers, booleans or strings, each value once).
        along: the axis that is walked in order (a continuation), None for none.

    Raises:
        TypeError, ValueError: an empty axis, a repeated or non-finite value, a name that cannot be an argument.
    """

    def __init__(self, axes: Mapping[str, Any], along: str | None = None):
        if not isinstance(axes, Mapping) or not axes:
            raise TypeError("Argument `axes` must be a non-empty dict {name: values}.")
        self.axes = {name: _axis(name, values) for name, values in axes.items()}
        if along is not None and along not in self.axes:
            raise ValueError(f"Argument `along` must be one of the axes {list(self.axes)}, but is {along!r}.")
        self.along = along

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(values) for values in self.axes.values())

    @functools.cached_property
    def points(self) -> list[Point]:
        """All points, the last axis running fastest."""
        names, texts = (
            tuple(self.axes),
            [[f"{json.dumps(n)}:{json.dumps(v)}" for v in vs] for n, vs in self.axes.items()],
        )
        order = sorted(range(len(names)), key=names.__getitem__)
        points = []
        for place in itertools.product(*(range(n) for n in self.shape)):
            params = {name: self.axes[name][i] for name, i in zip(names, place, strict=True)}
            text = "{" + ",".join(texts[k][place[k]] for k in order) + "}"
            points.append(Point(place, params, hashlib.sha256(text.encode()).hexdigest()))
        return points

    def rows(self) -> Iterator[list[Point]]:
        """The points in groups that are run in order: rows along `along`, or single points without one."""
        if self.along is None:
            yield from ([point] for point in self.points)
            return
        axis = list(self.axes).index(self.along)
        rows: dict[tuple[int, ...], list[Point]] = {}
        for point in self.points:
            rows.setdefault((*point.place[:axis], *point.place[axis + 1 :]), []).append(point)
        yield from rows.values()


def _axis(name: str, values: Any) -> list[Value]:
    if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
        raise ValueError(
            f"An axis must be named as an argument of the function, other than {', '.join(RESERVED)}, but is {name!r}."
        )
    array = np.asarray(values)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"Axis `{name}` must be a non-empty 1-D sequence, but has shape {array.shape}.")
    if array.dtype.kind not in "biufU":
        raise TypeError(f"Axis `{name}` must hold numbers, booleans or strings, but has dtype {array.dtype}.")
    if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        raise ValueError(f"Axis `{name}` must be finite.")
    if len(np.unique(array)) != len(array):
        raise ValueError(f"Axis `{name}` must have each value once.")
    return array.tolist()
