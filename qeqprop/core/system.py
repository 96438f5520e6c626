"""A system answers two questions: what is the energy of a state, and what is its derivative by the parameters?"""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import display
from .estimate import Estimate
from .module import AbstractModule

if TYPE_CHECKING:
    from .solver import AbstractSolver

Params = dict[str, np.ndarray]


class AbstractSystem(AbstractModule):
    """An energy functional E_theta[state], parametrised by a dict of named arrays.

    The system holds everything that is not trained (graph, inputs, nudges); `params` holds the rest, and every
    parameter derivative has the structure and the shapes of `params`. A leading batch axis on the inputs (or on a
    nudge's weights) makes a *batched system*: its equilibria, energies and derivatives carry that axis first.
    """

    _repr_html_ = display.of_system

    @property
    @abc.abstractmethod
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters."""

    @property
    @abc.abstractmethod
    def input_shape(self) -> tuple[int, ...] | None:
        """Shape of one sample's inputs; None for a system that takes none."""

    @property
    @abc.abstractmethod
    def batch_size(self) -> int | None:
        """Length of the batch axis; None for a single system."""

    @abc.abstractmethod
    def energy(self, params: Params, state: Any) -> Estimate:
        """Mean energy E_theta[state], nudges included."""

    @abc.abstractmethod
    def param_grad(self, params: Params, state: Any) -> Estimate:
        """The force <dE/dtheta> at FIXED state: a dict like `params`."""

    @abc.abstractmethod
    def nudged(self, term: Any, strength: complex) -> "AbstractSystem":
        """The system with energy E + strength * term."""

    @abc.abstractmethod
    def with_inputs(self, inputs: ArrayLike) -> "AbstractSystem":
        """The system with its input degrees of freedom driven by `inputs`."""

    @abc.abstractmethod
    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Random float64 parameters to start a training from."""

    @abc.abstractmethod
    def default_solver(self) -> "AbstractSolver":
        """The solver used where none is named."""

    def check_params(self, params: Mapping[str, ArrayLike]) -> Params:
        """Return `params` as float64 arrays, or say what is wrong with them.

        Raises:
            TypeError: `params` is not a mapping, or holds something that is not real numbers.
            ValueError: a name is missing or unknown, a shape is wrong, or a value is not finite.
        """
        if not isinstance(params, Mapping):
            hint = ": give its `.params`" if hasattr(params, "params") else ""
            raise TypeError(f"Argument `params` must be a dict of arrays, but is {type(params).__name__}{hint}.")
        shapes = self.param_shapes
        if missing := [name for name in shapes if name not in params]:
            raise ValueError(f"Argument `params` must have the names {list(shapes)}, but lacks {missing}.")
        if unknown := [name for name in params if name not in shapes]:
            raise ValueError(f"Argument `params` must have the names {list(shapes)}, but also has {unknown}.")
        checked = {name: real_array(params[name], name, shape) for name, shape in shapes.items()}
        self._check_domain(checked)
        return {name: sealed(value) for name, value in checked.items()}  # what is known of a state at them stays true

    def _check_domain(self, params: Params) -> None:
        """Raise ValueError for numbers that the system cannot have, e.g. negative conductances."""


def replaced(module: Any, **changes: Any) -> Any:
    """A copy of an immutable module with some fields changed (`dataclasses.replace` would call `__init__`)."""
    copy = object.__new__(type(module))
    for field in dataclasses.fields(module):
        object.__setattr__(copy, field.name, changes.get(field.name, getattr(module, field.name)))
    return copy


def unchangeable(array: np.ndarray) -> bool:
    """Whether nobody can change the numbers of an array, so that it may be kept without a copy."""
    base = array.base
    return not array.flags.writeable and (not isinstance(base, np.ndarray) or unchangeable(base))


ALIGNMENT = 64
"""Bytes. JAX takes arrays that begin at a multiple of it as they are, and copies others at every call."""


def aligned_empty(shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """Memory for an array that JAX need not copy.

    Example:
        >>> int(aligned_empty((3, 5)).ctypes.data % ALIGNMENT)
        0
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    room = np.empty(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size].view(kind).reshape(shape)


def sealed(own: np.ndarray) -> np.ndarray:
    """An array that nobody else has, made unchangeable with the memory it lies in."""
    own.flags.writeable = False
    if isinstance(own.base, np.ndarray):
        own.base.flags.writeable = False
    return own


def all_finite(array: np.ndarray) -> bool:
    """Whether no number is infinite or NaN: their sum is finite then, or overflows and one has to look."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.all(np.isfinite(array)))


def number_array(value: ArrayLike, name: str) -> np.ndarray:
    """`value` as an array. ValueError: a list of lists of different lengths, which makes none."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"Argument `{name}` must be an array, all rows of one length, but NumPy says: {error}"
        ) from None


def _kind(value: Any, array: np.ndarray) -> str:
    """What else it is than numbers, in words."""
    return f"has dtype {array.dtype}" if array.dtype.kind != "O" or array.ndim else f"is {type(value).__name__}"


def real_array(value: ArrayLike, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """`value` as a finite float64 array of the given shape, refused with its name otherwise.

    Example:
        >>> real_array([1, 2], "J", (3,))
        Traceback (most recent call last):
        ...
        ValueError: Argument `J` must have shape (3,), but has shape (2,).
    """
    array = number_array(value, name)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"Argument `{name}` must hold real numbers, but {_kind(value, array)}.")
    if array.dtype != np.float64 or not unchangeable(array):
        copy = aligned_empty(array.shape)
        copy[...] = array
        array = copy
    if shape is not None and array.shape != shape:
        raise ValueError(f"Argument `{name}` must have shape {shape}, but has shape {array.shape}.")
    if not all_finite(array):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"Argument `{name}` must be finite, but is {array[where]} at index {where}.")
    return array
