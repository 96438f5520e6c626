"""Systems written as functions of one's own: parameters and inputs are declared by their shapes."""

import abc
from collections.abc import Mapping
from typing import Any, Self

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.system import AbstractSystem, Params, replaced
from .energy import check_inputs

Shape = tuple[int, ...]


class AbstractDeclaredSystem(AbstractSystem):
    """A system of which the user writes the energy, the field or the Lagrangian.

    Attributes:
        shapes: (name, shape) of the parameters.
        inputs: of one sample, or with a batch axis in front; None for a system without.
    """

    shapes: eqx.AbstractVar[tuple[tuple[str, Shape], ...]]
    inputs: eqx.AbstractVar[np.ndarray | None]

    @property
    @abc.abstractmethod
    def input_shape(self) -> Shape | None: ...

    @property
    def param_shapes(self) -> dict[str, Shape]:
        return dict(self.shapes)

    def with_inputs(self, inputs: ArrayLike) -> Self:
        """The system with its inputs set; a leading axis is the batch axis."""
        return replaced(self, inputs=check_inputs(inputs, self.input_shape))  # type: ignore[no-any-return]

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Normal random numbers."""
        rng = np.random.default_rng(rng)
        return {name: rng.normal(size=shape) for name, shape in self.shapes}

    def _zeros(self) -> Params:
        """Parameters to try a function with."""
        return {name: np.zeros(shape) for name, shape in self.shapes}

    def _shapes_text(self) -> str:
        return "parameters " + ", ".join(f"{name} {shape}" for name, shape in self.shapes)


def check_shapes(params: Any) -> tuple[tuple[str, Shape], ...]:
    """The declared names and shapes of the parameters, in their order."""
    if not isinstance(params, Mapping) or not params:
        raise TypeError("Argument `params` must be a non-empty dict {name: shape}.")
    return tuple((str(name), check_shape(shape, f"params[{name!r}]")) for name, shape in params.items())


def check_shape(shape: Any, name: str) -> Shape:
    """A shape as a tuple of sizes.

    Example:
        >>> check_shape(3, "inputs")
        Traceback (most recent call last):
        ...
        TypeError: Argument `inputs` must be a tuple of sizes such as (3,), but is 3.
    """
    if not isinstance(shape, tuple | list) or not all(isinstance(n, int | np.integer) and n >= 0 for n in shape):
        raise TypeError(f"Argument `{name}` must be a tuple of sizes such as (3,), but is {shape!r}.")
    return tuple(int(n) for n in shape)
