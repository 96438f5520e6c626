r"""Traces, exact on a subspace and sampled on its complement:

    tr M = sum_j <q_j| M |q_j> + E <g| M |g>,      g = (1 - sum_j |q_j><q_j|) r,

for *any* orthonormal vectors q_j and random vectors r with E[r r^T] = 1. The variance is that of the complement alone
(Hutch++: Meyer, Musco, Musco and Woodruff, SOSA 2021). r has independent random signs in the Z basis, which leave the
diagonal of M without variance: classical Hamiltonians are traced without any.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..core.estimate import Estimate

DEPENDENT = 1e-11
"""A vector of which less than this part is new is left out of a basis."""


@dataclass(frozen=True, eq=False)
class Probes:
    """The vectors that a trace is taken with: the rows of `basis`, then `samples` random ones made of `seed`."""

    n_sites: int
    basis: np.ndarray
    samples: int
    seed: np.ndarray

    def __len__(self) -> int:
        return len(self.basis) + self.samples

    def rows(self, first: int, last: int) -> np.ndarray:
        """Vectors first .. last - 1 as rows of amplitudes; the random ones are made anew each time."""
        exact = self.basis[first:last]
        signs = [self._random(r - len(self.basis)) for r in range(max(first, len(self.basis)), last)]
        return np.concatenate([exact, *signs])

    def _random(self, number: int) -> np.ndarray:
        vector = random_signs(self.seed, number, 1 << self.n_sites)
        rest = vector - _overlaps(self.basis, vector) @ self.basis
        return rest[None]


def random_signs(seed: np.ndarray, number: int, size: int) -> np.ndarray:
    """Vector `number` of a family of independent ones with entries +-1."""
    return 2.0 * np.random.default_rng([*seed, number]).integers(0, 2, size, dtype=np.int8) - 1.0


def orthonormal_rows(vectors: np.ndarray) -> np.ndarray:
    """An orthonormal basis of what the rows span, made in place (Gram and Schmidt, twice); dependent ones are dropped."""
    kept = 0
    for vector in vectors:
        new = vector / np.linalg.norm(vector)
        for _ in range(2):
            new -= _overlaps(vectors[:kept], new) @ vectors[:kept]
        if (norm := np.linalg.norm(new)) > DEPENDENT:
            new /= norm
            new -= _overlaps(vectors[:kept], new) @ vectors[:kept]
            vectors[kept] = new / np.linalg.norm(new)
            kept += 1
    return vectors[:kept]


def _overlaps(basis: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """<q_j|vector> without a conjugated copy of the basis."""
    return (basis @ vector.conj()).conj()


class Trace(NamedTuple):
    """A trace and its delete-one replicas, on a leading axis; the estimates of several are correlated."""

    value: np.ndarray
    replicas: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, exact: int) -> "Trace":
        """From <v|M|v> of all probes (axis 0), the first `exact` of which span the subspace."""
        known, sampled = values[:exact].sum(axis=0), values[exact:]
        return cls(known + sampled.mean(axis=0), known + (sampled.sum(axis=0) - sampled) / (len(sampled) - 1))


def jackknifed(function: Callable[..., np.ndarray], *traces: Trace) -> Estimate:
    """A function of traces with its standard error, its bias of order 1/samples removed (Quenouille 1956).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = Trace.of(rng.normal(2.0, 0.5, 40), 0)
        >>> jackknifed(np.square, x)  # the square of the mean has the bias 0.5^2/40
        3.9(2)
    """
    value = np.asarray(function(*(trace.value for trace in traces)))
    replicas = np.stack([np.asarray(function(*parts)) for parts in zip(*(t.replicas for t in traces), strict=True)])
    count = len(replicas)
    return Estimate.jackknife(count * value - (count - 1) * replicas.mean(axis=0), replicas)
