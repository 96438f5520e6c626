"""Which function made a scan: its name, its source, its defaults, and the commit it was at."""

import functools
import hashlib
import inspect
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any


def describe_function(function: Callable[..., Any]) -> dict[str, Any]:
    """Name, hash of the source (None where Python does not keep it) and defaults of a function or `functools.partial`."""
    inner: Any = function
    bound: dict[str, Any] = {}
    while isinstance(inner, functools.partial):
        bound = {**{f"argument {i}": repr(v) for i, v in enumerate(inner.args)}, **inner.keywords, **bound}
        inner = inner.func
    defaults = {
        name: repr(parameter.default)
        for name, parameter in inspect.signature(inner).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return {
        "function": f"{inner.__module__}.{inner.__qualname__}",
        "source": _source_hash(inner),
        "defaults": {**defaults, **{name: repr(value) for name, value in bound.items()}},
    }


def _source_hash(function: Callable[..., Any]) -> str | None:
    try:
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def git_commit(function: Callable[..., Any]) -> str | None:
    """The commit that the function's file is at, None outside of a repository."""
    try:
        folder = Path(inspect.getsourcefile(inspect.unwrap(function)) or ".").absolute().parent
        command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, TypeError, subprocess.SubprocessError):
        return None
