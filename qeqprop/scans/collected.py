"""The outcomes of all points as arrays, kept in one file beside the points, so that the table of many points opens fast.

`collected.npz` is made from the point files and may be deleted at any time. One of its rows is used while the file of its
point is the one that it was made from (number, size, time of change); every other point is read again. A file that is
torn or does not fit together counts as none.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..storage import StorageError, load, save
from .grid import Point
from .ledger import DONE, FAILED, MISSING, Ledger, Outcome

Shapes = dict[str, tuple[int, ...]]


class Column(NamedTuple):
    """One value of all points: whether a point has it, and the values stacked, zero where it has not."""

    present: np.ndarray
    values: np.ndarray


class Collected(NamedTuple):
    """Outcomes of `n` points in their order.

    Attributes:
        status, seconds: shape (n,).
        errors: place in the order -> text, of the failed points.
        columns: name -> the values of the finished points.
    """

    status: np.ndarray
    seconds: np.ndarray
    errors: dict[int, str]
    columns: dict[str, Column]


def collect(points: Sequence[Point], ledger: Ledger) -> Collected:
    """The outcomes of `points`; what is new among them is kept for the next time where the folder can be written.

    A finished point whose arrays have other shapes than those of the points before it counts as failed: a table needs
    one shape.
    """
    files = ledger.files()
    keys = np.array([point.key for point in points], "S64")
    stamps = np.array([files[point.key][1] if point.key in files else (0, 0, 0) for point in points], np.int64)
    kept, rows = _kept(ledger), np.full(len(points), -1)
    if kept is not None:
        where = {key: row for row, key in enumerate(kept["keys"].tolist())}
        rows = np.array([where.get(key, -1) for key in keys.tolist()])
        same = (rows >= 0) & np.all(kept["stamps"][rows] == stamps, axis=1)
        rows[~same] = -1
    fresh = _recalled(points, ledger, stamps, (rows < 0) & stamps.any(axis=1))
    shapes, misfits = _one_form(fresh, rows, kept)
    if misfits is None:  # what is kept has another form than a point before it: judge all files afresh
        rows[:] = -1
        fresh = _recalled(points, ledger, stamps, stamps.any(axis=1))
        shapes, misfits = _one_form(fresh, rows, kept)
    assert misfits is not None
    found = _joined(len(points), rows, kept, fresh, shapes)
    if fresh and not misfits:
        _keep(ledger, keys, stamps, found, fresh)
    for i, error in misfits.items():
        found.status[i], found.errors[i] = FAILED, error
    return found


def _recalled(points: Sequence[Point], ledger: Ledger, stamps: np.ndarray, which: Any) -> dict[int, Outcome]:
    found = {}
    for i in np.flatnonzero(which).tolist():
        inode, size, changed = stamps[i].tolist()
        found[i] = ledger.recall(points[i], (inode, size, changed))
    return found


def _one_form(
    fresh: dict[int, Outcome], rows: np.ndarray, kept: dict[str, Any] | None
) -> tuple[Shapes, dict[int, str] | None]:
    """The shape of every value, and which fresh outcomes do not have it; None where the kept ones do not."""
    shapes: Shapes = {}
    misfits: dict[int, str] = {}
    used = np.flatnonzero(rows >= 0)
    first = int(used[0]) if used.size else len(rows)
    own_of_kept = {} if kept is None else {name: column.values.shape[1:] for name, column in kept["columns"].items()}
    for i in sorted([*fresh, first]):
        if i == first and used.size:
            if any(shapes.get(name, shape) != shape for name, shape in own_of_kept.items()):
                return shapes, None
            shapes |= own_of_kept
        outcome = fresh.get(i)
        if outcome is None or outcome.status != DONE:
            continue
        own = {name: value.shape for name, value in outcome.values.items()}
        if any(shapes.get(name, shape) != shape for name, shape in own.items()):
            misfits[i] = f"returned shapes {own}, but the first point of the scan has {shapes}"
            fresh[i] = outcome._replace(values={})
        else:
            shapes |= own
    return shapes, misfits


def _joined(
    n: int, rows: np.ndarray, kept: dict[str, Any] | None, fresh: dict[int, Outcome], shapes: Shapes
) -> Collected:
    """Kept rows and fresh outcomes in the order of the points."""
    status, seconds, errors = np.full(n, MISSING, np.int8), np.full(n, np.nan), {}
    columns: dict[str, Column] = {}
    used = rows >= 0
    if kept is not None:
        status[used], seconds[used] = kept["status"][rows[used]], kept["seconds"][rows[used]]
        place = {int(row): int(i) for i, row in enumerate(rows) if row >= 0} if kept["errors"] else {}
        errors = {place[row]: text for row, text in kept["errors"] if row in place}
    for i, outcome in fresh.items():
        status[i], seconds[i] = outcome.status, outcome.seconds
        if outcome.status == FAILED:
            errors[i] = outcome.error
    for name, shape in shapes.items():
        own = {i: outcome.values[name] for i, outcome in fresh.items() if name in outcome.values}
        known = None if kept is None else kept["columns"].get(name)
        kinds = {value.dtype for value in own.values()}
        present = np.zeros(n, bool)
        if known is not None:
            present[used] = known.present[rows[used]]
            kinds |= {known.values.dtype} if present.any() else set()
        if not kinds:
            continue
        values = np.zeros((n, *shape), np.result_type(*kinds))
        if known is not None and present.any():
            values[used] = known.values[rows[used]]
        for i, value in own.items():
            present[i], values[i] = True, value
        columns[name] = Column(present, values)
    return Collected(status, seconds, errors, columns)


FILE = "collected.npz"


def _kept(ledger: Ledger) -> dict[str, Any] | None:
    """What the file holds, None where there is none that fits together."""
    try:
        content = load(ledger.folder / FILE)
        content["columns"] = {name: Column(*pair) for name, pair in content["columns"].items()}
        n = len(content["keys"])
        lengths = [content["stamps"].shape == (n, 3), content["status"].shape == content["seconds"].shape == (n,)]
        for column in content["columns"].values():
            lengths.append(column.present.shape == (n,) and len(column.values) == n)
        return content if n and all(lengths) and isinstance(content["errors"], list) else None
    except (FileNotFoundError, StorageError, KeyError, TypeError, AttributeError, ValueError):
        return None


def _keep(ledger: Ledger, keys: np.ndarray, stamps: np.ndarray, found: Collected, fresh: dict[int, Outcome]) -> None:
    """Write all rows whose numbers are of the columns' own types: to them nothing is lost by the stacking."""
    plain = found.status != MISSING
    for i, outcome in fresh.items():
        plain[i] &= all(value.dtype == found.columns[name].values.dtype for name, value in outcome.values.items())
    chosen = np.flatnonzero(plain)
    row = {int(i): k for k, i in enumerate(chosen)}
    content = {
        "keys": keys[chosen],
        "stamps": stamps[chosen],
        "status": found.status[chosen],
        "seconds": found.seconds[chosen],
        "errors": [[row[i], text] for i, text in found.errors.items() if i in row],
        "columns": {name: [column.present[chosen], column.values[chosen]] for name, column in found.columns.items()},
    }
    with contextlib.suppress(OSError):  # a folder that can only be read
        save(ledger.folder / FILE, content)
