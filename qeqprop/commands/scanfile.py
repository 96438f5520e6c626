"""Scans as TOML files, for `qeqprop scan`. Every key is checked, and nothing in the file is evaluated.

function = "gaps.py:gap"        # a file beside this one, or a module: "package.module:name"
out = "runs/gap"
along = "g"                     # optional, as are seed and workers
[axes]
g = { linspace = [0.2, 2.0, 41] }
J = { values = [0.5, 1.0] }     # or { logspace = [-3, 0, 7] }, or just [0.5, 1.0]
"""

import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .modelfile import Table, choose, take

RANGES: dict[str, Callable[..., Any]] = {
    "linspace": np.linspace,
    "logspace": np.logspace,
    "values": lambda *values: list(values),
}


class ScanPlan(NamedTuple):
    """What a scan file says: the arguments of `scan`."""

    function: Callable[..., Any]
    axes: dict[str, Any]
    out: Path | None
    options: dict[str, Any]


def read_plan(path: Path) -> ScanPlan:
    """The plan of a TOML file; paths in it are relative to its folder.

    Raises:
        FileNotFoundError: no such file. ValueError, TypeError: what is wrong with it, and where.
    """
    with open(path, "rb") as file:
        try:
            return _plan(tomllib.load(file), path.absolute().parent)
        except (ValueError, TypeError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{path}: {error}") from None


def _plan(document: Table, folder: Path) -> ScanPlan:
    table = take(document, "the file", ("function", "axes"), ("out", "along", "seed", "workers"))
    if not isinstance(table["axes"], dict):
        raise TypeError(f"`axes` must be a section, [axes], but is {table['axes']!r}.")
    for name in {"out", "along"} & set(table):
        if not isinstance(table[name], str):
            raise TypeError(f"`{name}` must be text, but is {table[name]!r}.")
    axes = {name: _values(name, value) for name, value in table["axes"].items()}
    renamed = {"along": "along", "seed": "rng", "workers": "workers"}
    options = {renamed[key]: value for key, value in table.items() if key in renamed}
    out = folder / table["out"] if "out" in table else None
    return ScanPlan(_function(table["function"], folder), axes, out, options)


def _values(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise TypeError(f"[axes] {name} must be a list or one of {{{', '.join(RANGES)}}}, but is {value!r}.")
    ((kind, arguments),) = value.items()
    make = choose(kind, RANGES, f"range of [axes] {name}:")
    if not isinstance(arguments, list) or (kind != "values" and len(arguments) != 3):
        raise ValueError(f"[axes] {name}: {kind} takes {'a list' if kind == 'values' else '[start, stop, number]'}.")
    return make(*arguments)


def _function(text: Any, folder: Path) -> Callable[..., Any]:
    where, colon, name = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not (where and colon and name):
        raise ValueError(f"`function` must be 'file.py:name' or 'package.module:name', but is {text!r}.")
    module = _module_of_file(folder / where) if where.endswith(".py") else importlib.import_module(where)
    try:
        return getattr(module, name)
    except AttributeError:
        raise ValueError(f"`function`: {where} has no {name!r}.") from None


def _module_of_file(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"`function`: there is no file {path.name} beside the scan's file.")
    sys.path.insert(0, str(path.parent))  # so that it finds its neighbours, and spawned processes find it
    return importlib.import_module(path.stem)
