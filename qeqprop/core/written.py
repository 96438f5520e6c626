"""Functions that users write with `jax.numpy`: tried on shapes before anything is computed with them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .precision import jax_float64


def called(value: Any) -> str:
    """What was given for something else, in words; of a class or a function, that it should have been called.

    Example:
        >>> print(called(dict), "|", called("exact"), "|", called([1, 2]))
        `dict` itself: call it, `dict(...)` | 'exact' | list
    """
    if callable(value) and hasattr(value, "__name__"):
        return f"`{value.__name__}` itself: call it, `{value.__name__}(...)`"
    return repr(value) if isinstance(value, str | int | float) else type(value).__name__


def check_function(function: Any, name: str) -> Callable[..., Any]:
    """`function`, if it can be called."""
    if not callable(function):
        raise TypeError(f"Argument `{name}` must be callable, but is {type(function).__name__}.")
    return function  # type: ignore[no-any-return]


def check_scalar(function: Callable[..., Any], name: str, *arguments: Any) -> None:
    """Refuse a function that is no real scalar function of arguments like these (arrays, or `jax.ShapeDtypeStruct`s).

    Raises:
        TypeError: it is not written with `jax.numpy`. ValueError: it does not return a scalar, or reads what is not there.
    """
    out = traced(function, name, *arguments)
    if getattr(out, "shape", None) != ():
        raise ValueError(f"Argument `{name}` must return a scalar, but returns {out}.")
    if out.dtype.kind != "f":
        raise ValueError(f"Argument `{name}` must return a real number with a slope, but its dtype is {out.dtype}.")


def traced(function: Callable[..., Any], name: str, *arguments: Any) -> Any:
    """What a function returns for arguments like these, as `jax.ShapeDtypeStruct`s.

    Raises:
        TypeError: it is not written with `jax.numpy`. ValueError: it reads what is not there.
    """
    jax = jax_float64()
    try:
        out = jax.eval_shape(function, *arguments)
    except KeyError as error:
        raise ValueError(f"Argument `{name}` looks up {error}, which its arguments do not have.") from error
    except jax.errors.JAXTypeError as error:
        raise TypeError(
            f"Argument `{name}` must be written with `jax.numpy` instead of `numpy`, and without branches on values: it is "
            "differentiated by JAX."
        ) from error
    _check_indices(function, name, *arguments)
    return out


def _check_indices(function: Callable[..., Any], name: str, *arguments: Any) -> None:
    """Refuse a function that reads beyond the end of its arguments, where JAX silently takes the last entry.

    NumPy's arrays complain of it: the function is tried on some, while what it does by `jax.numpy` is only traced.

    Raises:
        ValueError: with the message of NumPy.
    """
    jax = jax_float64()
    plain = jax.tree.map(lambda like: np.ones(like.shape, like.dtype), arguments)
    try:
        with np.errstate(all="ignore"):
            jax.eval_shape(lambda: function(*plain))
    except IndexError as error:
        raise ValueError(f"Argument `{name}` reads beyond the end of its arguments: {error}.") from error
    except Exception:
        pass
