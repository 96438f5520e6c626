"""What nudges do to the outputs of a batch: costs, their slopes and curvatures, traced by JAX, the batch axis first."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.precision import jax_float64
from .architecture import Architecture

Reader = tuple[Callable[[Any, Any], Any], tuple[int, ...]]
"""A cost, and the outputs that it reads."""


class Pull(NamedTuple):
    """The nudges sum_j beta_j C_j of the outputs, an array (batch, n); each strength a number, or one a sample."""

    readers: tuple[Reader, ...]
    strengths: tuple[Any, ...]
    targets: tuple[Any, ...]

    def costs(self, outputs: Any) -> Any:
        """Their sum, of every sample."""
        jax = jax_float64()
        total = jax.numpy.zeros(len(outputs), outputs.dtype)
        for (cost, rows), strength, target in zip(self.readers, self.strengths, self.targets, strict=True):
            over = jax.vmap(cost, in_axes=(0, None if target is None else 0))
            total = total + strength * over(_picked(outputs, rows), target)
        return total

    def signal(self, outputs: Any) -> Any:
        """The derivative by the outputs."""
        return jax_float64().grad(lambda at: self.costs(at).sum())(outputs)

    def force(self, net: Architecture, params: Any, last: Any) -> Any:
        """The derivative by the last layer of a network whose outputs these are."""
        outputs, back = jax_float64().vjp(lambda at: net.read(params, at), last)
        return back(self.signal(outputs))[0]

    def curvature(self, outputs: Any) -> Any:
        """The second derivative by the outputs, (batch, n, n)."""
        jnp = jax_float64().numpy
        total = jnp.zeros((*outputs.shape, outputs.shape[1]), outputs.dtype)
        for strength, each in zip(self.strengths, self.curvatures(outputs), strict=True):
            total = total + jnp.reshape(strength, (-1, 1, 1)) * each
        return total

    def curvatures(self, outputs: Any) -> list[Any]:
        """The same of every cost, per unit of its strength."""
        jax, found = jax_float64(), []
        for (cost, rows), target in zip(self.readers, self.targets, strict=True):
            over = jax.vmap(jax.hessian(cost), in_axes=(0, None if target is None else 0))
            found.append(_spread(over(_picked(outputs, rows), target), rows, outputs.shape[1]))
        return found


def _adjacent(rows: tuple[int, ...]) -> bool:
    return rows == tuple(range(rows[0], rows[0] + len(rows)))


def _picked(outputs: Any, rows: tuple[int, ...]) -> Any:
    """Some of the outputs: a slice where they are adjacent, whose transpose is no scatter, which is slow on a CPU."""
    if _adjacent(rows):
        return outputs[:, rows[0] : rows[0] + len(rows)]
    return outputs[:, jax_float64().numpy.asarray(rows)]


def _spread(matrix: Any, rows: tuple[int, ...], n: int) -> Any:
    """A matrix over some of the outputs as one over all of them."""
    jnp = jax_float64().numpy
    if _adjacent(rows):
        around = (rows[0], n - rows[0] - len(rows))
        return jnp.pad(matrix, ((0, 0), around, around))
    at = jnp.asarray(rows)
    return jnp.zeros((len(matrix), n, n), matrix.dtype).at[:, at[:, None], at].set(matrix)
