"""Units that are unit vectors of the plane, layer by layer: phases as (cos, sin), so that blocks have a closed form.

Layers have the shape (2, n), first all cosines and then all sines: what joins two layers is then one matrix product.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..core.precision import jax_float64
from .activations import AbstractActivation
from .interactions import AbstractInteraction, Shape

AXIS = -2
"""Of the two components."""


@dataclass(frozen=True)
class Circle(AbstractActivation):
    """Unit vectors without an energy of their own: in a field F they are at rest along it, s = F/|F|."""

    curvature: float = 1.0
    curved: ClassVar[bool] = True

    def settle(self, field: Any, stiffness: Any, at: Any) -> Any:
        """The minimum where the stiffness is that of a disc; else a step of the linearised energy, that never climbs.

        |s| = 1, so that a stiffness counts only by what the components differ; less its largest value it is concave, and
        lies below its tangent.
        """
        jnp = jax_float64().numpy
        wanted = field
        if jnp.ndim(stiffness):  # it may be another one for each component
            stiffness = jnp.broadcast_to(stiffness, at.shape)
            wanted = field - (stiffness - stiffness.max(axis=AXIS, keepdims=True)) * at
        size = jnp.sqrt((wanted**2).sum(axis=AXIS, keepdims=True))
        return jnp.where(size > 0, wanted / jnp.where(size > 0, size, 1), at)  # without a field it stays

    def response(self, field: Any, stiffness: Any, at: Any, change: Any) -> Any:
        along = _turned(at)
        firmness = _dot(at, field - stiffness * at) + _dot(along, stiffness * along)
        return along * _dot(along, change) / firmness

    def potential(self, at: Any) -> Any:
        return 0.0 * at

    def bounds(self, size: int) -> tuple[Any, Any]:
        return np.full(size, -np.inf), np.full(size, np.inf)

    def rest(self, shape: Shape) -> np.ndarray:
        return np.stack([np.ones(shape[1:]), np.zeros(shape[1:])])

    def bias_shape(self, shape: Shape) -> Shape:
        return shape

    def between(self, start: Any, end: Any, part: Any) -> tuple[Any, Any]:
        """The shorter way round."""
        jnp = jax_float64().numpy
        angle = jnp.arctan2(_dot(_turned(start), end), _dot(start, end))
        place = jnp.cos(part * angle) * start + jnp.sin(part * angle) * _turned(start)
        return place, angle * _turned(place)


@dataclass(frozen=True)
class Alignment(AbstractInteraction):
    """Every phase with every phase: E = -sum_ij w_ij cos(phi_i - phi_j). Weights (n_pre, n_post).

    Args:
        pre, post: numbers of the layers, pre < post; 0 are the inputs.
    """

    pre: int
    post: int

    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        return pre[-1], post[-1]

    def fan_in(self, pre: Shape) -> int:
        return pre[-1]

    def send(self, weights: Any, u: Any) -> Any:
        return u @ weights

    def stiffness(self, weights: Any) -> tuple[Any, Any]:
        return 0.0, 0.0

    @property
    def reciprocity(self) -> float:
        return 1.0


def unit_vectors(phases: np.ndarray) -> np.ndarray:
    """(cos, sin) of phases (..., n), shape (..., 2, n)."""
    return np.stack([np.cos(phases), np.sin(phases)], axis=AXIS)


def _turned(vectors: Any) -> Any:
    """The vectors a right angle further."""
    jnp = jax_float64().numpy
    x, y = jnp.moveaxis(vectors, AXIS, 0)
    return jnp.stack([-y, x], axis=AXIS)


def _dot(a: Any, b: Any) -> Any:
    return (a * b).sum(axis=AXIS, keepdims=True)
