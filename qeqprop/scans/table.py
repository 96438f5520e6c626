"""The points of a scan as one `xarray.Dataset`."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .collected import Column, collect
from .grid import Grid
from .ledger import DONE, FAILED, MISSING, SCHEMA, Ledger

if TYPE_CHECKING:
    import xarray as xr

ERRORS = ("_stderr", "_truncation")


def build_table(grid: Grid, ledger: Ledger, manifest: Mapping[str, Any]) -> "xr.Dataset":
    """The outcome of every point; `status` says which values are there: 0 missing, 1 ok, 2 failed."""
    import xarray as xr

    found = collect(grid.points, ledger)
    dims = tuple(grid.axes)
    variables: dict[str, Any] = {
        name: ((*dims, *_own_dims(name, column)), _filled(grid.shape, column)) for name, column in found.columns.items()
    }
    errors = np.full(len(grid.points), "", object)
    for place, text in found.errors.items():
        errors[place] = text
    variables["status"] = (dims, found.status.reshape(grid.shape))
    variables["error"] = (dims, errors.astype(str).reshape(grid.shape))
    variables["seconds"] = (dims, found.seconds.reshape(grid.shape))
    table = xr.Dataset(variables, coords={name: (name, np.asarray(v)) for name, v in grid.axes.items()})
    table["status"].attrs = {"flag_values": [MISSING, DONE, FAILED], "flag_meanings": "missing ok failed"}
    table["seconds"].attrs = {"units": "s"}
    return table.assign_attrs(_attributes(manifest))


def _own_dims(name: str, column: Column) -> list[str]:
    """A value and its errors share their dimensions."""
    for ending in ERRORS:
        name = name.removesuffix(ending)
    return [f"{name}_{k}" for k in range(column.values.ndim - 1)]


def _filled(shape: tuple[int, ...], column: Column) -> np.ndarray:
    """One variable; where a point has no value, NaN."""
    values = column.values
    if not column.present.all():
        values = values.astype(np.result_type(values.dtype, float))
        values[~column.present] = np.nan
    return values.reshape(*shape, *values.shape[1:])


def _attributes(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Netcdf attributes are numbers and text: what is nested goes in as JSON, None as an empty text."""
    plain = {k: json.dumps(v) if isinstance(v, dict | list) else ("" if v is None else v) for k, v in manifest.items()}
    return {**{name: value for name, value in plain.items() if name not in ("axes", "format")}, "schema": SCHEMA}
