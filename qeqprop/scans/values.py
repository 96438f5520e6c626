"""What a point returns, as named arrays: `<name>`, and `<name>_stderr` where the value has an error."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..core.estimate import Estimate
from ..core.gradient import EPGradient
from ..core.solver import Equilibrium
from .grid import RESERVED

Arrays = dict[str, np.ndarray]


def named_arrays(result: Any, taken: Iterable[str] = ()) -> Arrays:
    """A function's result as arrays by name; a bare number or array is named `value`.

    Raises:
        TypeError: something that is neither a number, an array, an `Estimate`, an `EPGradient`, an `Equilibrium` nor a
            dict of these. ValueError: two values of one name, or a name of an axis (`taken`) or of the scan itself.

    Example:
        >>> named_arrays({"gap": 0.5, "m": Estimate(0.25, 0.125)})
        {'gap': array(0.5), 'm': array(0.25), 'm_stderr': array(0.125)}
    """
    arrays: Arrays = {}
    for name, value in _flatten("", result):
        array = np.asarray(value)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"A scan's function returned {value!r} as `{name or 'value'}`; it must be numbers.")
        for part, plain in _real_parts(name or "value", array):
            if part in (*arrays, *taken, *RESERVED):
                raise ValueError(f"A scan's function returned the name `{part}`, which is taken.")
            arrays[part] = plain
    return arrays


def _flatten(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in _flatten(_join(name, str(key)), item)]
    if isinstance(value, Estimate):
        if isinstance(value.mean, Mapping):
            parts = {key: Estimate(mean, value.stderr[key]) for key, mean in value.mean.items()}
            return _flatten(name, parts)
        return [(name or "value", value.mean), (_join(name or "value", "stderr"), value.stderr)]
    if isinstance(value, EPGradient):
        return _flatten(name, _gradient(value))
    if isinstance(value, Equilibrium):
        return _flatten(name, _equilibrium(value))
    return [(name, value)]


def _gradient(out: EPGradient) -> dict[str, Any]:
    grad: dict[str, Any] = {}
    for key, value in out.grad.items():
        grad[f"grad_{key}"] = Estimate(value, out.stderr[key])
        grad[f"grad_{key}_truncation"] = out.truncation[key]
    gap = {} if out.free.gap is None else {"gap": out.free.gap}
    return {"loss": out.loss, **grad, **gap, "residual": out.residual, "ep_status": int(out.status)}


def _equilibrium(found: Equilibrium) -> dict[str, Any]:
    gap = {} if found.gap is None else {"gap": found.gap}
    return {"energy": found.energy, **gap, "residual": found.residual, "ep_status": int(found.status)}


def _join(name: str, part: str) -> str:
    return f"{name}_{part}" if name else part


def _real_parts(name: str, array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Complex numbers as two variables: netCDF has none."""
    if array.dtype.kind == "c":
        return [(f"{name}_real", array.real), (f"{name}_imag", array.imag)]
    return [(name, array)]
