"""The points of a scan as one `xarray.Dataset`."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .grid import Grid
from .ledger import DONE, FAILED, MISSING, SCHEMA, Ledger, Outcome

if TYPE_CHECKING:
    import xarray as xr

Outcomes = dict[tuple[int, ...], Outcome]

ERRORS = ("_stderr", "_truncation")


def build_table(grid: Grid, ledger: Ledger, manifest: Mapping[str, Any]) -> "xr.Dataset":
    """Read every point; `status` says which values are there: 0 missing, 1 ok, 2 failed."""
    import xarray as xr

    outcomes = _of_one_form({point.place: ledger.read(point) for point in grid.points})
    dims = tuple(grid.axes)
    variables: dict[str, Any] = {
        name: ((*dims, *_own_dims(name, shape)), _filled(grid.shape, outcomes, name, shape))
        for name, shape in _shapes(outcomes).items()
    }
    variables["status"] = (dims, _column(grid, outcomes, lambda o: o.status, np.int8))
    variables["error"] = (dims, _column(grid, outcomes, lambda o: o.error, object).astype(str))
    variables["seconds"] = (dims, _column(grid, outcomes, lambda o: o.seconds, float))
    table = xr.Dataset(variables, coords={name: (name, np.asarray(v)) for name, v in grid.axes.items()})
    table["status"].attrs = {"flag_values": [MISSING, DONE, FAILED], "flag_meanings": "missing ok failed"}
    table["seconds"].attrs = {"units": "s"}
    return table.assign_attrs(_attributes(manifest))


def _of_one_form(outcomes: Outcomes) -> Outcomes:
    """Points whose arrays have other shapes than the first point's count as failed: a table needs one shape."""
    form: dict[str, tuple[int, ...]] | None = None
    for place, outcome in outcomes.items():
        if outcome.status != DONE:
            continue
        own = {name: value.shape for name, value in outcome.values.items()}
        form = form or own
        if any(form.get(name, shape) != shape for name, shape in own.items()):
            error = f"returned shapes {own}, but the first point of the scan has {form}"
            outcomes[place] = outcome._replace(status=FAILED, values={}, error=error)
    return outcomes


def _shapes(outcomes: Outcomes) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for outcome in outcomes.values() for name, value in outcome.values.items()}


def _own_dims(name: str, shape: tuple[int, ...]) -> list[str]:
    """A value and its errors share their dimensions."""
    for ending in ERRORS:
        name = name.removesuffix(ending)
    return [f"{name}_{k}" for k in range(len(shape))]


def _filled(shape: tuple[int, ...], outcomes: Outcomes, name: str, own: tuple[int, ...]) -> np.ndarray:
    """One variable; where a point has no value, NaN."""
    values = {place: o.values[name] for place, o in outcomes.items() if name in o.values}
    kinds = [value.dtype for value in values.values()]
    dtype = np.result_type(*set(kinds), *([] if len(values) == len(outcomes) else [float]))
    array = np.full((*shape, *own), np.nan if dtype.kind == "f" else 0, dtype)
    for place, value in values.items():
        array[place] = value
    return array


def _column(grid: Grid, outcomes: Outcomes, take: Any, dtype: Any) -> np.ndarray:
    array = np.empty(grid.shape, dtype)
    for place, outcome in outcomes.items():
        array[place] = take(outcome)
    return array


def _attributes(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Netcdf attributes are numbers and text: what is nested goes in as JSON, None as an empty text."""
    plain = {k: json.dumps(v) if isinstance(v, dict | list) else ("" if v is None else v) for k, v in manifest.items()}
    return {**{name: value for name, value in plain.items() if name not in ("axes", "format")}, "schema": SCHEMA}
