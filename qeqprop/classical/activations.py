r"""Activations of layered networks: what a unit does in the field of its neighbours, and the energy that makes it do so.

A unit has an energy G(s) of its own, convex, and its neighbours add k s^2/2 - F s. Where they are held it comes to rest at

    s = argmin G(s) + k s^2/2 - F s ,        with k = 0:  s = rho(F), the activation.

A box with G = s^2/2 makes the hard sigmoid, an entropy the sigmoid. Source: Scellier and Bengio, arXiv:1602.05179 (2017), for
the box; Zhang and Brand, NeurIPS 30 (2017), for the energy of an activation, G = integral of its inverse.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..core.precision import jax_float64
from .interactions import Shape


class AbstractActivation(abc.ABC):
    """The own energy G of the units of a layer; hashable. Fields F and states are arrays, batch axis first."""

    curvature: float
    """The least second derivative of G; of units on a curve the unit of their residuals."""
    curved: ClassVar[bool]
    """Whether the units live on a curve, so that no straight way leads from one state to another."""

    @abc.abstractmethod
    def settle(self, field: Any, stiffness: Any, at: Any) -> Any:
        """The minimum of G(s) + stiffness s^2/2 - field s; where that has no closed form, a Newton step from `at` to it."""

    @abc.abstractmethod
    def response(self, field: Any, stiffness: Any, at: Any, change: Any) -> Any:
        """How that minimum, which is `at`, moves with a change of the field."""

    @abc.abstractmethod
    def potential(self, at: Any) -> Any:
        """G of every unit."""

    @abc.abstractmethod
    def bounds(self, size: int) -> tuple[Any, Any]:
        """Lowest and highest values of the units, shapes (size,), at which their equilibrium has a kink; infinite if none."""

    @abc.abstractmethod
    def rest(self, shape: Shape) -> np.ndarray:
        """Where the units of a layer start."""

    @abc.abstractmethod
    def bias_shape(self, shape: Shape) -> Shape:
        """Shape of the biases of a layer: the first axes of its own."""

    @abc.abstractmethod
    def between(self, start: Any, end: Any, part: Any) -> tuple[Any, Any]:
        """The way from one state to another: where it is after a part of it (0 to 1), and the velocity there."""


class AbstractScalar(AbstractActivation):
    """Units that are numbers: they start at zero, and have one bias each, or one a channel."""

    curved: ClassVar[bool] = False

    @abc.abstractmethod
    def slope(self, field: Any, stiffness: Any, at: Any) -> Any:
        """The derivative of the minimum, which is `at`, by the field."""

    def response(self, field: Any, stiffness: Any, at: Any, change: Any) -> Any:
        return self.slope(field, stiffness, at) * change

    def rest(self, shape: Shape) -> np.ndarray:
        return np.zeros(shape)

    def bias_shape(self, shape: Shape) -> Shape:
        return shape[:1]

    def between(self, start: Any, end: Any, part: Any) -> tuple[Any, Any]:
        return start + part * (end - start), end - start


class AbstractClipped(AbstractScalar):
    """G(s) = curvature s^2/2 between bounds: the activation clips its field."""

    def settle(self, field: Any, stiffness: Any, at: Any) -> Any:
        return self.clip(field / (self.curvature + stiffness))

    def clip(self, at: Any) -> Any:
        """The nearest states within the bounds."""
        low, high = _bounds(self, at)
        return jax_float64().numpy.clip(at, low, high)

    def slope(self, field: Any, stiffness: Any, at: Any) -> Any:
        low, high = _bounds(self, field)
        total = self.curvature + stiffness
        return ((field > low * total) & (field < high * total)) / total

    def potential(self, at: Any) -> Any:
        return 0.5 * self.curvature * at**2


@dataclass(frozen=True)
class Interval(AbstractClipped):
    """G(s) = s^2/2 for low <= s <= high: rho(F) = clip(F, low, high)."""

    low: float = -np.inf
    high: float = np.inf
    curvature: float = 1.0

    def bounds(self, size: int) -> tuple[Any, Any]:
        return np.full(size, self.low), np.full(size, self.high)


@dataclass(frozen=True)
class Diodes(AbstractClipped):
    """Ideal diodes that hold units 0, 2, 4, ... at s >= 0 (excitatory) and 1, 3, 5, ... at s <= 0; G = 0 where they allow."""

    curvature: float = 0.0

    def bounds(self, size: int) -> tuple[Any, Any]:
        excitatory = np.arange(size) % 2 == 0
        return np.where(excitatory, 0.0, -np.inf), np.where(excitatory, np.inf, 0.0)


@dataclass(frozen=True)
class Smooth(AbstractScalar):
    """A smooth increasing rho, with its derivative as a function of s = rho(F), and G = integral of its inverse."""

    rho: Callable[[Any], Any]
    steepness: Callable[[Any], Any]
    energy: Callable[[Any], Any]
    curvature: float

    def settle(self, field: Any, stiffness: Any, at: Any) -> Any:
        wanted = self.rho(field - stiffness * at)
        return at - (at - wanted) / (1 + stiffness * self.steepness(wanted))

    def slope(self, field: Any, stiffness: Any, at: Any) -> Any:
        return self.steepness(at) / (1 + stiffness * self.steepness(at))

    def potential(self, at: Any) -> Any:
        return self.energy(at)

    def bounds(self, size: int) -> tuple[Any, Any]:
        return np.full(size, -np.inf), np.full(size, np.inf)


def _tanh(field: Any) -> Any:
    return jax_float64().numpy.tanh(field)


def _sigmoid(field: Any) -> Any:
    return jax_float64().nn.sigmoid(field)


def _entropy(share: Any) -> Any:
    """p log p + (1 - p) log(1 - p)."""
    xlogy = jax_float64().scipy.special.xlogy
    return xlogy(share, share) + xlogy(1 - share, 1 - share)


ACTIVATIONS: dict[str, AbstractActivation] = {
    "linear": Interval(),
    "hard_sigmoid": Interval(0.0, 1.0),
    "hard_tanh": Interval(-1.0, 1.0),
    "relu": Interval(low=0.0),
    "tanh": Smooth(_tanh, lambda s: 1 - s**2, lambda s: _entropy((1 + s) / 2) + np.log(2), 1.0),
    "sigmoid": Smooth(_sigmoid, lambda s: s * (1 - s), _entropy, 4.0),
}
"""Name -> activation of the units of a layer. `diodes` of `DeepResistiveNetwork` are not among them."""


def _bounds(activation: AbstractActivation, like: Any) -> list[np.ndarray]:
    """Bounds in the shape and precision of a layer, for a batch."""
    return [np.reshape(b, like.shape[1:]).astype(like.dtype) for b in activation.bounds(like[0].size)]
