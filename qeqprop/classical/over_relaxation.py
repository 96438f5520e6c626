r"""Over-relaxation of block updates: each unit goes beyond its minimum, by a factor w between 1 and 2 times the way.

Units that clip a parabola stay below the energy they start from as long as 0 < w < 2, in a box too (C. W. Cryer, SIAM J.
Control 9, 385 (1971)), so that the energy still falls with every block. How far to go is known where the layers fall into
groups that are not joined: an error that plain sweeps (w = 1) shrink by m^2 shrinks by r under w, with

    (r + w - 1)^2 = r w^2 m^2 ,        and fastest, by w - 1, at  w = 2 / (1 + sqrt(1 - m^2)) .

m^2 is read off the sweeps themselves. Source: D. Young, Trans. Amer. Math. Soc. 76, 92 (1954); for the
adaptation L. A. Hageman and D. M. Young, Applied Iterative Methods (1981), ch. 9.
"""

from typing import Any, NamedTuple

from ..core.precision import jax_float64

WAIT = 3
"""Sweeps after a change of the factor before the next: errors that fall fast must be gone first."""
STEADY = 0.3
"""Change of a sweep's shrinking, in units of its distance from 1, below which it is that of the slowest error."""
LARGEST = 1.98
"""Most that a factor becomes."""


class Pace(NamedTuple):
    """How far beyond their minima the units of every sample go, (batch,).

    Attributes:
        factor: w.
        shrinking: r, of the last sweep.
        since: sweeps since the last change.
    """

    factor: Any
    shrinking: Any
    since: Any

    @classmethod
    def plain(cls, like: Any) -> "Pace":
        """No over-relaxation, of samples like these."""
        jnp = jax_float64().numpy
        return cls(jnp.ones_like(like), jnp.full_like(like, jnp.inf), jnp.zeros(like.shape, int))

    def adapted(self, before: Any, residual: Any) -> "Pace":
        """The pace after a sweep that left this residual of the one before it.

        Only upwards: below the best factor the slowest error tells the way there; above it errors turn in the complex plane,
        and their shrinking tells nothing.
        """
        jnp = jax_float64().numpy
        w, shrinking = self.factor, residual / before  # 0/0 of samples that are at rest compares false below
        steady = jnp.abs(shrinking - self.shrinking) <= STEADY * (1 - shrinking)
        squared = (shrinking + w - 1) ** 2 / (shrinking * w**2)
        known = steady & (self.since >= WAIT) & (shrinking > w - 1) & (squared < 1)
        best = 2 / (1 + jnp.sqrt(1 - jnp.where(known, squared, 0)))
        raised = known & (best > w)
        factor = jnp.where(raised, jnp.minimum(best, jnp.maximum(w, LARGEST)), w)
        return Pace(factor, shrinking, jnp.where(raised, 0, self.since + 1))


def beyond(at: Any, settled: Any, factor: Any) -> Any:
    """Where units end that go `factor` (of every sample) times the way from where they are to their minima."""
    return at + factor.reshape(-1, *[1] * (at.ndim - 1)) * (settled - at)
