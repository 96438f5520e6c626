"""Costs of the outputs of a layered network as forces on its last layer, traced by JAX."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.precision import jax_float64
from .architecture import Architecture

Reader = tuple[Callable[[Any, Any], Any], tuple[int, ...]]
"""A cost, and the outputs that it reads."""


class Pull(NamedTuple):
    """The nudges sum_j beta_j C_j of the outputs."""

    net: Architecture
    readers: tuple[Reader, ...]
    strengths: tuple[Any, ...]
    targets: tuple[Any, ...]

    def costs(self, outputs: Any) -> Any:
        """Their sum, of every sample."""
        jax = jax_float64()
        total = jax.numpy.zeros(len(outputs), outputs.dtype)
        for (cost, rows), strength, target in zip(self.readers, self.strengths, self.targets, strict=True):
            over = jax.vmap(cost, in_axes=(0, None if target is None else 0))
            total = total + strength * over(outputs[:, jax.numpy.asarray(rows)], target)
        return total

    def signal(self, outputs: Any) -> Any:
        """The derivative by the outputs."""
        return jax_float64().grad(lambda at: self.costs(at).sum())(outputs)

    def force(self, params: Any, last: Any) -> Any:
        """The derivative by the last layer."""
        return jax_float64().grad(lambda at: self.costs(self.net.read(params, at)).sum())(last)

    def curvature(self, last: Any) -> Any:
        """The second derivative by the units of the last layer, (batch, n, n), where these are themselves the outputs."""
        jax = jax_float64()
        flat = last.reshape(len(last), -1)
        total = jax.numpy.zeros((*flat.shape, flat.shape[1]), last.dtype)
        for (cost, rows), strength, target in zip(self.readers, self.strengths, self.targets, strict=True):
            at = jax.numpy.asarray(rows)
            matrix = jax.vmap(jax.hessian(cost), in_axes=(0, None if target is None else 0))(flat[:, at], target)
            total = total.at[:, at[:, None], at].add(strength * matrix)
        return total
