"""Functions that users write with `jax.numpy`: tried on shapes before anything is computed with them."""

from collections.abc import Callable
from typing import Any

from .precision import jax_float64


def check_function(function: Any, name: str) -> Callable[..., Any]:
    """`function`, if it can be called."""
    if not callable(function):
        raise TypeError(f"Argument `{name}` must be callable, but is {type(function).__name__}.")
    return function  # type: ignore[no-any-return]


def check_scalar(function: Callable[..., Any], name: str, *arguments: Any) -> None:
    """Refuse a function that is no scalar function of arguments like these (arrays, or `jax.ShapeDtypeStruct`s).

    Raises:
        TypeError: it is not written with `jax.numpy`. ValueError: it does not return a scalar.
    """
    jax = jax_float64()
    try:
        out = jax.eval_shape(function, *arguments)
    except jax.errors.JAXTypeError as error:
        raise TypeError(
            f"Argument `{name}` must be written with `jax.numpy` instead of `numpy`, and without branches on values: it is "
            "differentiated by JAX."
        ) from error
    if getattr(out, "shape", None) != ():
        raise ValueError(f"Argument `{name}` must return a scalar, but returns {out}.")
