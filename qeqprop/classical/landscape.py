"""The energy of a whole batch as its minimisation sees it: functions of the free coordinates, shape (batch, n_free)."""

from typing import Any

import numpy as np

from ..core.estimate import Estimate
from ..core.module import AbstractModule
from ..core.system import Params, replaced
from .energy import AbstractPotentialSystem
from .point_ensemble import PointEnsemble
from .state_cost import AbstractStateTerm, StateTerm


class Landscape(AbstractModule):
    """A potential system at its parameters. A single system is a batch of one.

    Attributes:
        system: with its batch axis and its nudges.
        params: where its energy is looked at.
        frame: positions (batch, *state_shape) that hold what is not free.
        low, high: bounds of the free coordinates, shape (n_free,).
        starts: how often every sample is there, one after the other.
        single: whether the system has no batch axis of its own.
    """

    system: AbstractPotentialSystem
    params: Params
    frame: np.ndarray
    low: np.ndarray
    high: np.ndarray
    starts: int
    single: bool

    @classmethod
    def of(cls, system: AbstractPotentialSystem, params: Params, starts: int = 1) -> "Landscape":
        """The landscape of a single or a batched system, with all of its samples once for every start."""
        low, high = (np.ravel(bound)[system.free] for bound in system.domain.bounds(system.state_shape))
        frame, single = np.concatenate([system.starts()] * starts), system.batch_size is None
        return cls(system._copied(starts), params, frame, low, high, starts, single)

    def free(self) -> "Landscape":
        """The same without nudges."""
        return replaced(self, system=replaced(self.system, nudges=()))

    def held(self, free: np.ndarray, slopes: np.ndarray | None = None) -> np.ndarray:
        """Which coordinates their slope pushes against a bound."""
        slopes = self.slopes(free) if slopes is None else slopes
        return ((free <= self.low) & (slopes > 0)) | ((free >= self.high) & (slopes < 0))

    def of_batch(self, term: AbstractStateTerm) -> AbstractStateTerm:
        """A term of the system as one of the batch."""
        return term.copied(self.starts, not self.single)

    def coordinates(self, positions: np.ndarray) -> np.ndarray:
        """The free coordinates of positions (batch, *state_shape)."""
        return positions.reshape(len(positions), -1)[:, self.system.free]

    def positions(self, free: np.ndarray) -> np.ndarray:
        """The positions with these free coordinates."""
        whole = self.frame.reshape(len(free), -1).copy()
        whole[:, self.system.free] = free
        return whole.reshape(self.frame.shape)

    def state(self, free: np.ndarray) -> Any:
        """The state with these free coordinates: of the single system, of the batch, or an ensemble over the starts."""
        positions = self.positions(free)
        if self.starts > 1:
            return PointEnsemble(positions, self.starts, batched=not self.single)
        return self.system._points_at(self.params, positions, self.single)

    def mean(self, values: Any) -> Estimate:
        """What the single system or each sample of the batch has of values, or of a dict of them, with the batch axis first."""
        if self.starts > 1:
            return PointEnsemble(self.frame, self.starts, batched=not self.single).mean(values)
        if not self.single:
            return Estimate.exact(values)
        return Estimate.exact({n: v[0] for n, v in values.items()} if isinstance(values, dict) else values[0])

    def worst(self, residual: np.ndarray) -> np.ndarray:
        """The largest number, shape (batch,), of the starts of every sample; of a single system one number."""
        largest = residual.reshape(self.starts, -1).max(axis=0)
        return np.asarray(largest[0] if self.single else largest)

    def steps(self, free: np.ndarray) -> np.ndarray:
        """Displacements of the free coordinates, as displacements of positions."""
        whole = np.zeros((len(free), self.frame[0].size))
        whole[:, self.system.free] = free
        return whole.reshape(self.frame.shape)

    def values(self, free: np.ndarray) -> np.ndarray:
        """Energies, shape (batch,)."""
        return self.system.values(self.params, self.positions(free))

    def slopes(self, free: np.ndarray) -> np.ndarray:
        """Their derivatives, shape (batch, n_free)."""
        at = self.positions(free)
        total = np.array(self.system.batched().slope(self.params, at, self.system.inputs))
        for term, beta in self.system.nudges:
            total[_read(term, total)] += beta * term.slopes(at)
        return self.coordinates(total)

    def curvatures(self, free: np.ndarray) -> np.ndarray:
        """Their second derivatives, shape (batch, n_free, n_free)."""
        at, places = self.positions(free), self.system.free
        size = at[0].size
        total = np.array(self.system.batched().curvature(self.params, at, self.system.inputs)).reshape(-1, size, size)
        for term, beta in self.system.nudges:
            rows = np.ravel(term.coordinates.of(np.arange(size).reshape(self.system.state_shape)))
            total[:, rows[:, None], rows] += beta * term.curvatures(at)
        return total[:, places[:, None], places]

    def force_changes(self, free: np.ndarray, step: np.ndarray) -> Params:
        """The derivatives of the forces along displacements of the free coordinates, batch axis first."""
        change = self.system.batched().force_change
        changed = change(self.params, self.positions(free), self.system.inputs, self.steps(step))
        return {name: np.asarray(value) for name, value in changed.items()}


def _read(term: StateTerm, batch: np.ndarray) -> Any:
    """The index of what a cost reads in an array (batch, *state_shape)."""
    nodes = term.coordinates.nodes
    term.coordinates.check(batch.shape[1])
    return (slice(None), slice(None) if nodes is None else np.asarray(nodes, int))
