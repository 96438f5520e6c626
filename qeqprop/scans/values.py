"""What a point returns, as named arrays: `<name>`, and `<name>_stderr` where the value has an error."""

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .grid import RESERVED

if TYPE_CHECKING:
    from ..core.gradient import EPGradient
    from ..core.solver import Equilibrium

Arrays = dict[str, np.ndarray]

ESTIMATE, GRADIENT, EQUILIBRIUM = ("estimate", "Estimate"), ("gradient", "EPGradient"), ("solver", "Equilibrium")
"""Results that are known, by module of the core and class: importing them would load JAX into workers that need none."""


def is_a(value: Any, kind: tuple[str, str]) -> bool:
    """isinstance by name: where its module was never imported, there is no object of a class."""
    module = sys.modules.get(f"qeqprop.core.{kind[0]}")
    return module is not None and isinstance(value, getattr(module, kind[1]))


def named_arrays(result: Any, taken: Iterable[str] = ()) -> Arrays:
    """A function's result as arrays by name; a bare number or array is named `value`.

    Raises:
        TypeError: something that is neither a number, an array, an `Estimate`, an `EPGradient`, an `Equilibrium` nor a
            dict of these. ValueError: two values of one name, or a name of an axis (`taken`) or of the scan itself.

    Example:
        >>> from qeqprop import Estimate
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
    if is_a(value, ESTIMATE):
        if isinstance(value.mean, Mapping):
            parts = {key: type(value)(mean, value.stderr[key]) for key, mean in value.mean.items()}
            return _flatten(name, parts)
        return [(name or "value", value.mean), (_join(name or "value", "stderr"), value.stderr)]
    if is_a(value, GRADIENT):
        return _flatten(name, _gradient(value))
    if is_a(value, EQUILIBRIUM):
        return _flatten(name, _equilibrium(value))
    return [(name, value)]


def _gradient(out: "EPGradient") -> dict[str, Any]:
    from ..core.estimate import Estimate

    grad: dict[str, Any] = {}
    for key, value in out.grad.items():
        grad[f"grad_{key}"] = Estimate(value, out.stderr[key])
        grad[f"grad_{key}_truncation"] = out.truncation[key]
    gap = {} if out.free.gap is None else {"gap": out.free.gap}
    return {"loss": out.loss, **grad, **gap, "residual": out.residual, "ep_status": int(out.status)}


def _equilibrium(found: "Equilibrium") -> dict[str, Any]:
    gap = {} if found.gap is None else {"gap": found.gap}
    return {"energy": found.energy, **gap, "residual": found.residual, "ep_status": int(found.status)}


def _join(name: str, part: str) -> str:
    return f"{name}_{part}" if name else part


def _real_parts(name: str, array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Complex numbers as two variables: netCDF has none."""
    if array.dtype.kind == "c":
        return [(f"{name}_real", array.real), (f"{name}_imag", array.imag)]
    return [(name, array)]
