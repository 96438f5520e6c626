"""What commands write: netCDF tables and JSON summaries, each put in place at once."""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..storage import write_atomically
from .info import versions

if TYPE_CHECKING:
    import xarray as xr


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """A summary with the versions that made it. NaN and infinity, which JSON lacks, become null."""
    document = {**content, "versions": versions()}
    return write_atomically(path, (json.dumps(_plain(document), indent=2, allow_nan=False) + "\n").encode())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_netcdf(path: Path, table: "xr.Dataset") -> Path:
    """An xarray data set as netCDF 4, stamped with the version."""
    stamped = table.assign_attrs(qeqprop_version=versions()["qeqprop"])
    with tempfile.TemporaryDirectory() as folder:
        draft = os.path.join(folder, path.name)
        stamped.to_netcdf(draft, engine="h5netcdf")
        return write_atomically(path, Path(draft).read_bytes())
