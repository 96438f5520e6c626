"""Spins with any potential: all their configurations, and means over them, block by block."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..core.system import Params
from .coordinates import AbstractExactState, Coordinates
from .derivatives import weighted_forces
from .state_cost import StateTerm

BLOCK_BITS = 12
"""Spins that run through all their configurations in a block: a potential is computed of 4096 states at once."""


def configurations(frame: np.ndarray, free: np.ndarray) -> Iterator[np.ndarray]:
    """All states whose free coordinates are +-1, in blocks (block, *frame.shape).

    Bit i of the number of a state is set where its free spin i is down.

    Args:
        frame: a state, for the coordinates that are not free.
        free: flat places of the spins.

    Example:
        >>> [block.tolist() for block in configurations(np.ones(3), np.array([0, 2]))]
        [[[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [-1.0, 1.0, -1.0]]]
    """
    size = 1 << min(len(free), BLOCK_BITS)
    for first in range(0, 1 << len(free), size):
        states = np.repeat(frame.reshape(1, -1), size, axis=0)
        states[:, free] = 1.0 - 2.0 * (np.arange(first, first + size)[:, None] >> np.arange(len(free)) & 1)
        yield states.reshape(size, *frame.shape)


class SpinDistribution(AbstractExactState):
    """A Boltzmann distribution over all configurations of an `EnergySystem` of `Spins`. Every value is a mean over it.

    Attributes:
        probabilities: shape (2^n_free,); bit i of the index is set where free spin i is down.
        frame: a state with the spins that are held.
        free: flat places of the others.
    """

    probabilities: np.ndarray
    frame: np.ndarray
    free: np.ndarray

    def read(self, observable: Coordinates) -> np.ndarray:
        """The means of the spins that an observable reads."""
        return observable.of(self.mean(lambda states: states))

    def mean(self, function: Callable[[np.ndarray], np.ndarray]) -> Any:
        """The mean of a function of states, batch axis first."""
        return sum(np.tensordot(part, function(states), 1) for states, part in self._weighted(self.probabilities))

    def mean_forces(self, system: Any, params: Params, weights: np.ndarray) -> Params:
        """sum_s weights_s dE/dtheta(s) of a potential system; with the probabilities as weights, the mean."""
        forces = weighted_forces(system.potential)
        total = {name: np.zeros(shape) for name, shape in system.param_shapes.items()}
        for states, part in self._weighted(weights):
            found = forces(params, states, system.inputs, part)
            total = {name: total[name] + np.asarray(found[name]) for name in total}
        return total

    def covariance(self, system: Any, params: Params, term: StateTerm) -> Params:
        """<C dE/dtheta> - <C> <dE/dtheta> of a cost C."""
        costs = np.concatenate([term.over_points(states) for states in configurations(self.frame, self.free)])
        return self.mean_forces(system, params, self.probabilities * (costs - self.probabilities @ costs))

    def _weighted(self, weights: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        first = 0
        for states in configurations(self.frame, self.free):
            yield states, weights[first : first + len(states)]
            first += len(states)

    def __repr__(self) -> str:
        return f"SpinDistribution({len(self.free)} spins)"
