"""States that are many points: where a system came to rest from different starts. Values are means over the starts."""

from typing import Any

import equinox as eqx
import numpy as np

from ..core.estimate import Estimate
from .coordinates import AbstractCoordinateState, Coordinates


class PointEnsemble(AbstractCoordinateState):
    """Points that a system has reached from several starts, all of equal weight.

    Every value is the mean over the starts, with its standard error and delete-one replicas (`Estimate.jackknife`), so that
    differences of two phases that began in the same places have their true error.

    Attributes:
        position: coordinates, shape (starts * batch, *state_shape): all samples of the first start, then of the second, ...
        starts: their number.
        batched: whether the system has a batch axis of its own.
    """

    position: np.ndarray
    starts: int = eqx.field(static=True)
    batched: bool = eqx.field(static=True)

    def read(self, observable: Coordinates) -> np.ndarray:
        """The coordinates that an observable reads, of all points, shape (starts * batch, ...)."""
        return observable.of_batch(self.position)

    def _estimate(self, rows: np.ndarray) -> Estimate:
        return self.mean(rows)

    def each(self, observable: Coordinates) -> np.ndarray:
        """The coordinates that an observable reads, of every start: shape (starts, batch, ...), or (starts, ...)."""
        return self._by_start(self.read(observable))

    def mean(self, values: Any) -> Estimate:
        """The mean over the starts of an array, or a dict of arrays, with one value for every point on the first axis."""
        if isinstance(values, dict):
            means = {name: self._by_start(value).mean(axis=0) for name, value in values.items()}
            return Estimate.jackknife(means, {name: self._left_out(value) for name, value in values.items()})
        return Estimate.jackknife(self._by_start(values).mean(axis=0), self._left_out(values))

    def _by_start(self, values: np.ndarray) -> np.ndarray:
        batch = (len(self.position) // self.starts,) if self.batched else ()
        return values.reshape(self.starts, *batch, *values.shape[1:])

    def _left_out(self, values: np.ndarray) -> np.ndarray:
        apart = self._by_start(values)
        return (apart.sum(axis=0) - apart) / (self.starts - 1)

    def __repr__(self) -> str:
        return f"PointEnsemble({self.starts} starts, coordinates {self.position.shape[1:]})"
