"""What classical states show: the coordinates of some nodes."""

import abc
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np

from ..core import display
from ..core.estimate import Estimate
from ..core.module import AbstractModule


class Coordinates(AbstractModule):
    """What is read from a classical state: the coordinates of some nodes (None: of all), flattened.

    It is the observable of a `StateCost`, so that `predict` returns the output nodes' coordinates.
    """

    nodes: tuple[int, ...] | None = eqx.field(static=True, default=None)

    def of(self, position: np.ndarray) -> np.ndarray:
        """The coordinates of the nodes, their axis first."""
        self.check(len(position))
        return position if self.nodes is None else position[np.asarray(self.nodes, int)]

    def of_batch(self, positions: np.ndarray) -> np.ndarray:
        """The same of a batch of points, batch axis first."""
        self.check(positions.shape[1])
        return positions if self.nodes is None else positions[:, np.asarray(self.nodes, int)]

    def check(self, n_nodes: int) -> None:
        """Raise ValueError for nodes that a system of `n_nodes` does not have."""
        if self.nodes is not None and max(self.nodes) >= n_nodes:
            raise ValueError(
                f"Argument `nodes` of the cost has node {max(self.nodes)}, but the system has {n_nodes} nodes "
                f"(0 to {n_nodes - 1})."
            )


class AbstractCoordinateState(AbstractModule):
    """A state that shows `Coordinates`."""

    _repr_html_ = display.of_state

    @abc.abstractmethod
    def read(self, observable: Coordinates) -> np.ndarray:
        """The coordinates that an observable reads; of many points (`has_many_points`), the axis of the points first."""

    @abc.abstractmethod
    def _estimate(self, rows: np.ndarray) -> Estimate:
        """What has been read, all in one row (of every point), as an estimate."""

    def expect(self, observable: Any) -> Estimate:
        """What an observable reads, e.g. `Coordinates([0, 3])`, in one row (of every sample of a batch)."""
        return self.expect_all((observable,))

    def expect_all(self, observables: Sequence[Any]) -> Estimate:
        """What the observables read, side by side in one row (of every sample of a batch).

        TypeError: something else than `Coordinates`, such as a Pauli sum.
        """
        for observable in observables:
            if not isinstance(observable, Coordinates):
                name = type(observable).__name__
                raise TypeError(f"A classical state shows `Coordinates`, but not a {name}: use a StateCost.")
        read = [self.read(observable) for observable in observables]
        lead = slice(has_many_points(self))
        return self._estimate(np.concatenate([part.reshape(*part.shape[lead], -1) for part in read], axis=-1))


class AbstractExactState(AbstractCoordinateState):
    """A state whose coordinates are known without a statistical error."""

    def _estimate(self, rows: np.ndarray) -> Estimate:
        return Estimate.exact(rows)


class AbstractLayeredState(AbstractExactState):
    """The activities of all units of a layered network.

    Attributes:
        layers: one array a layer, the inputs first, what is read out last; each of the layer's shape, of a batch behind its
            axis.
        batched: whether the first axis is a batch axis.
    """

    layers: eqx.AbstractVar[tuple[np.ndarray, ...]]
    batched: eqx.AbstractVar[bool]

    @property
    def rows(self) -> list[np.ndarray]:
        """The layers with their units on one axis."""
        lead = slice(self.batched)
        return [layer.reshape(*layer.shape[lead], -1) for layer in self.layers]

    @property
    def position(self) -> np.ndarray:
        """All activities in the order of the unit numbers, shape (n_units,) or (batch, n_units)."""
        return np.concatenate(self.rows, axis=-1)

    def read(self, observable: Coordinates) -> np.ndarray:
        """The activities that an observable reads, on the last axis: mostly some of the last layer."""
        rows, nodes = self.rows, observable.nodes
        before = sum(row.shape[-1] for row in rows[:-1])
        if nodes is None or min(nodes) < before:
            return observable.of(np.concatenate(rows, axis=-1).T).T
        observable.check(before + rows[-1].shape[-1])
        return rows[-1][..., np.asarray(nodes, int) - before]

    def __repr__(self) -> str:
        sizes = ["x".join(map(str, layer.shape[self.batched :])) for layer in self.layers]
        return f"{type(self).__name__}({'-'.join(sizes)})"


def has_starts(state: Any) -> bool:
    """Whether a state is a `PointEnsemble`: every sample has come to rest from several starts."""
    return hasattr(state, "starts")


def is_distribution(state: Any) -> bool:
    """Whether a state is a `SpinDistribution`: every configuration has a probability."""
    return hasattr(state, "probabilities")


def has_many_points(state: Any) -> bool:
    """Whether the position of a state has an axis of points in front."""
    return getattr(state, "batched", False) or has_starts(state)
