"""Systems some of whose coordinates a clamp holds: what `ClampTerm` makes of a system."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.graph import Edges
from ..core.system import Params, replaced
from .derivatives import Potential
from .domains import AbstractDomain
from .energy import AbstractEnergySystem, AbstractPotentialSystem, Matrix, Nudge, PointState

if TYPE_CHECKING:
    from .newton import Curvature


class ClampedState(PointState):
    """A point some of whose coordinates are held.

    Attributes:
        position: all coordinates.
        curvature: None: that of the coordinates left free does not serve other phases.
        reaction: the forces dE/ds on the held coordinates, 0 elsewhere; the shape of `position`.
    """

    reaction: Any = None

    def __repr__(self) -> str:
        return f"ClampedState(coordinates {self.position.shape})"


class AbstractClampedSystem(AbstractEnergySystem):
    """A system that is another one but for the coordinates that are held."""

    inner: eqx.AbstractVar[AbstractEnergySystem]
    held: eqx.AbstractVar[np.ndarray]

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return self.inner.param_shapes

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return self.inner.input_shape

    @property
    def state_shape(self) -> tuple[int, ...]:
        return self.inner.state_shape

    @property
    def free(self) -> np.ndarray:
        return np.delete(self.inner.free, self.held)

    def init_params(self, rng: np.random.Generator | int) -> Params:
        return self.inner.init_params(rng)

    def _check_domain(self, params: Params) -> None:
        self.inner._check_domain(params)

    def _inherited(self, known: "Curvature") -> "Curvature":
        return _clamped_curvature(self.inner._inherited(known), len(self.inner.free), self.held)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.held)} coordinates held, {self.inner})"


class ClampedSystem(AbstractClampedSystem):
    """An energy system some of whose free coordinates are held at given values.

    Attributes:
        inner: the system, with its nudges.
        held: places of the held coordinates among `inner.free`.
        values: where they are held.
    """

    inner: AbstractEnergySystem
    held: np.ndarray
    values: np.ndarray
    nudges: tuple[Nudge, ...]

    def __init__(self, inner: AbstractEnergySystem, held: np.ndarray, values: np.ndarray):
        self.inner, self.held, self.values, self.nudges = inner, held, values, ()

    @property
    def kept(self) -> np.ndarray:
        """Places of the coordinates that stay free among `inner.free`."""
        return np.delete(np.arange(len(self.inner.free)), self.held)

    @property
    def batch_size(self) -> int | None:
        return self.inner.batch_size

    def start(self) -> np.ndarray:
        position = self.inner.start().copy()
        position.flat[self.inner.free[self.held]] = self.values
        return position

    def with_inputs(self, inputs: ArrayLike) -> "ClampedSystem":
        return replaced(self, inner=self.inner.with_inputs(inputs))

    def bare_value(self, params: Params, position: np.ndarray) -> float:
        return self.inner.value(params, position)

    def bare_slope(self, params: Params, position: np.ndarray) -> np.ndarray:
        return self.inner.slope(params, position)[self.kept]

    def bare_curvature(self, params: Params, position: np.ndarray) -> Matrix:
        return self.inner.curvature(params, position)[self.kept][:, self.kept]

    def forces(self, params: Params, position: np.ndarray) -> Params:
        return self.inner.forces(params, position)

    def force_change(self, params: Params, position: np.ndarray, step: np.ndarray) -> Params:
        whole = np.zeros(len(self.inner.free))
        whole[self.kept] = step
        return self.inner.force_change(params, position, whole)

    def _state_at(self, params: Params, position: np.ndarray, curvature: "Curvature | None") -> ClampedState:
        """The state with the forces that hold it, dE/ds of the inner system."""
        force = np.zeros(self.state_shape)
        force.flat[self.inner.free[self.held]] = self.inner.slope(params, position)[self.held]
        return ClampedState(position, reaction=force)


class ClampedPotential(AbstractClampedSystem, AbstractPotentialSystem):
    """A potential system, single or a batch, some of whose free coordinates are held at given values.

    Attributes:
        inner: the system; its potential, inputs and nudges are those of this one.
        held: places of the held coordinates among `inner.free`.
        places: where they are held, shape (batch, n_held), with a batch of 1 for a single system.
    """

    inner: AbstractPotentialSystem
    held: np.ndarray
    places: np.ndarray
    potential: Potential = eqx.field(static=True)
    domain: AbstractDomain
    inputs: np.ndarray | None
    nudges: tuple[Nudge, ...]

    def __init__(self, inner: AbstractPotentialSystem, held: np.ndarray, places: np.ndarray):
        self.inner, self.held, self.places, self.nudges = inner, held, places, inner.nudges
        self.potential, self.domain, self.inputs = inner.potential, inner.domain, inner.inputs

    @property
    def interactions(self) -> Edges | None:
        return self.inner.interactions

    def starts(self) -> np.ndarray:
        whole = self.inner.starts().reshape(len(self.places), -1)
        whole[:, self.inner.free[self.held]] = self.places
        return whole.reshape(-1, *self.state_shape)

    def _copied(self, number: int) -> "ClampedPotential":
        return ClampedPotential(self.inner._copied(number), self.held, np.concatenate([self.places] * number))

    def with_inputs(self, inputs: ArrayLike) -> "ClampedPotential":
        inner: Any = self.inner.with_inputs(inputs)
        return ClampedPotential(inner, self.held, self.places)

    def _state_at(self, params: Params, position: np.ndarray, curvature: "Curvature | None") -> ClampedState:
        return ClampedState(position, reaction=self._reaction(self.inner.slope(params, position)[None])[0])

    def _points_at(self, params: Params, positions: np.ndarray, single: bool) -> ClampedState:
        from .landscape import Landscape

        land = Landscape.of(self.inner, params)
        reaction = self._reaction(land.slopes(land.coordinates(positions)))
        if single:
            return ClampedState(positions[0], reaction=reaction[0])
        return ClampedState(positions, batched=True, reaction=reaction)

    def _reaction(self, slopes: np.ndarray) -> np.ndarray:
        """dE/ds on the held coordinates, shape (batch, *state_shape), from slopes by those of the inner system."""
        force = np.zeros((len(slopes), int(np.prod(self.state_shape))))
        force[:, self.inner.free[self.held]] = slopes[:, self.held]
        return force.reshape(-1, *self.state_shape)


def _clamped_curvature(known: "Curvature", n_free: int, held: np.ndarray) -> "Curvature":
    """The factor of the coordinates left free from that of all, by a Schur complement of the held ones."""
    from .factorization import Factor

    response = known.factor.solve(unit_forces(n_free, held))
    stiffness, kept = np.linalg.inv(response[held]), np.delete(np.arange(n_free), held)

    def solve(right: np.ndarray) -> np.ndarray:
        whole = np.zeros((n_free, *right.shape[1:]))
        whole[kept] = right
        loose = known.factor.solve(whole)
        return (loose - response @ (stiffness @ loose[held]))[kept]

    return replaced(known, factor=Factor(solve, definite=True))  # type: ignore[no-any-return]


def unit_forces(size: int, rows: np.ndarray) -> np.ndarray:
    """A unit force on each of some coordinates, shape (size, len(rows))."""
    units = np.zeros((size, len(rows)))
    units[rows, np.arange(len(rows))] = 1.0
    return units
