"""Classical systems: an energy of coordinates, and what a minimiser needs to know of it.

A state is a point s. `AbstractEnergySystem` gives value, slope and curvature of the energy (nudges included) by the *free*
coordinates, and the derivatives by the parameters. `AbstractPotentialSystem` takes all of them from one function written in
JAX, of whole batches too.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.graph import Edges
from ..core.system import AbstractSystem, Params, real_array, replaced
from .coordinates import AbstractExactState, Coordinates, has_many_points, has_starts, is_distribution
from .curvature_pattern import curvature_pattern
from .derivatives import Derivatives, Potential, batch_derivatives, derivatives
from .domains import AbstractDomain
from .factorization import DENSE
from .state_cost import AbstractStateTerm, StateTerm, number, other_nudge, repeated

if TYPE_CHECKING:
    from ..core.solver import AbstractSolver
    from .newton import Curvature

Nudge = tuple[StateTerm, Any]
"""A term of the energy with its strength, a float; complex for solvers that are `analytic`."""
Matrix = Any  # a dense array, or a sparse one in CSC format


class PointState(AbstractExactState):
    """A point in configuration space, or a batch of them.

    Attributes:
        position: the coordinates, their node axis first; of a batch behind the batch axis.
        curvature: the factorised second derivative at (or near) it, where the solver made one.
        batched: whether the first axis is a batch axis.
    """

    position: np.ndarray
    curvature: Any = None
    batched: bool = eqx.field(static=True, default=False)

    def read(self, observable: Coordinates) -> np.ndarray:
        """The coordinates that an observable reads, node axis first; of a batch behind its axis."""
        return (observable.of_batch if self.batched else observable.of)(self.position)

    def to_storage(self) -> dict[str, Any]:
        """All but the curvature, which can be factorised again."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return own | {"curvature": None}

    def __repr__(self) -> str:
        return f"PointState(coordinates {self.position.shape})"


class AbstractEnergySystem(AbstractSystem):
    """An energy of coordinates, of which some are free. Vectors of free coordinates have shape (n_free,)."""

    nudges: eqx.AbstractVar[tuple[Nudge, ...]]

    stiffnesses: ClassVar[tuple[str, ...]] = ()
    """Parameters that leave the energy without a minimum where they are too negative."""

    @property
    @abc.abstractmethod
    def state_shape(self) -> tuple[int, ...]:
        """Shape of a state's coordinates, the node axis first."""

    @property
    @abc.abstractmethod
    def free(self) -> np.ndarray:
        """Flat indices of the free coordinates."""

    @abc.abstractmethod
    def start(self) -> np.ndarray:
        """Where a minimisation starts; the coordinates that are not free have their values here."""

    @abc.abstractmethod
    def bare_value(self, params: Params, position: np.ndarray) -> float:
        """The energy without nudges."""

    @abc.abstractmethod
    def bare_slope(self, params: Params, position: np.ndarray) -> np.ndarray:
        """Its derivative by the free coordinates."""

    @abc.abstractmethod
    def bare_curvature(self, params: Params, position: np.ndarray) -> Matrix:
        """Its second derivative by the free coordinates, dense or sparse."""

    @abc.abstractmethod
    def forces(self, params: Params, position: np.ndarray) -> Params:
        """dE/dtheta at a fixed point."""

    @abc.abstractmethod
    def force_change(self, params: Params, position: np.ndarray, step: np.ndarray) -> Params:
        """The derivative of `forces` along a displacement of the free coordinates."""

    def value(self, params: Params, position: np.ndarray) -> float:
        """The energy, nudges included."""
        return self.bare_value(params, position) + sum(beta * term.value(position) for term, beta in self.nudges)

    def slope(self, params: Params, position: np.ndarray) -> np.ndarray:
        """Its derivative by the free coordinates."""
        return self.bare_slope(params, position) + sum(
            (beta * self.term_slope(term, position) for term, beta in self.nudges), np.zeros(len(self.free))
        )

    def curvature(self, params: Params, position: np.ndarray) -> Matrix:
        """Its second derivative by the free coordinates."""
        matrix = self.bare_curvature(params, position)
        for term, beta in self.nudges:
            block, rows = self.term_block(term, position)
            i, j = (index.ravel() for index in np.meshgrid(rows, rows, indexing="ij"))
            whole = beta * sp.csc_array((block.ravel(), (i, j)), shape=matrix.shape)
            matrix = matrix + (whole if sp.issparse(matrix) else whole.toarray())
        return matrix

    def term_slope(self, term: StateTerm, position: np.ndarray) -> np.ndarray:
        """The derivative of a nudging term by the free coordinates."""
        whole = np.zeros(self.state_shape, position.dtype)
        nodes = slice(None) if term.coordinates.nodes is None else np.asarray(term.coordinates.nodes, int)
        whole[nodes] = term.slope(position)
        return whole.ravel()[self.free]

    def term_block(self, term: StateTerm, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The second derivative of a nudging term by the free coordinates that it reads, and which these are."""
        rows = np.ravel(term.coordinates.of(self.free_places()))
        return term.curvature(position)[np.ix_(rows >= 0, rows >= 0)], rows[rows >= 0]

    def free_places(self) -> np.ndarray:
        """The place of every coordinate among the free ones, -1 where it is not free. Shape of a state."""
        place = np.full(self.state_shape, -1)
        place.flat[self.free] = np.arange(len(self.free))
        return place

    def _state_at(self, params: Params, position: np.ndarray, curvature: "Curvature | None") -> PointState:
        """The state at an equilibrium, with the factorised curvature of the free coordinates."""
        return PointState(position, curvature)

    def _inherited(self, known: "Curvature") -> "Curvature":
        """The factorised curvature of this system from that of the free one."""
        return known

    def _approached(self, params: Params, position: np.ndarray) -> np.ndarray:
        """Where Newton's method had better start than at `position`, if the system knows."""
        return position

    def energy(self, params: Params, state: Any) -> Estimate:
        """The energy of a state, nudges included; of many points of every sample, of a distribution the mean."""
        if isinstance(self, AbstractPotentialSystem) and has_many_points(state):
            many, mean = self._of_points(state)
            return mean(many.values(params, state.position))
        if isinstance(self, AbstractPotentialSystem) and is_distribution(state):
            return Estimate.exact(np.asarray(state.mean(lambda positions: self.over_points(params, positions))))
        return Estimate.exact(np.asarray(self.value(params, state.position)))

    def param_grad(self, params: Params, state: Any) -> Estimate:
        """dE/dtheta at a fixed state; of many points, of every sample; of a distribution the mean."""
        if isinstance(self, AbstractPotentialSystem) and has_many_points(state):
            many, mean = self._of_points(state)
            return mean(arrays(many.batched().forces(params, state.position, many.inputs)))
        if isinstance(self, AbstractPotentialSystem) and is_distribution(state):
            return Estimate.exact(state.mean_forces(self, params, state.probabilities))
        return Estimate.exact(self.forces(params, state.position))

    def nudged(self, term: Any, strength: complex) -> "AbstractEnergySystem":
        """The system with energy E + strength * term, or with the nodes of a `Clamp` held that part of the way."""
        if not isinstance(term, AbstractStateTerm):
            raise other_nudge(self, term, clamps=True)
        strength = complex(strength)
        return term.applied(self, strength if strength.imag else strength.real)

    def default_solver(self) -> "AbstractSolver":
        return self._solver_of_kind()

    def _solver_of_kind(self) -> "AbstractSolver":
        """A minimiser; systems whose equilibria are no minima name another solver."""
        from .minimize import Minimizer

        return Minimizer()


class AbstractPotentialSystem(AbstractEnergySystem):
    """An energy system whose potential is a JAX function: its derivatives come from autodiff, of whole batches at once.

    Attributes:
        potential: `potential(params, state, inputs) -> scalar`; hashable.
        domain: where the coordinates live.
        inputs: of one sample, or with a batch axis in front; None for a system without.
    """

    potential: eqx.AbstractVar[Potential]
    domain: eqx.AbstractVar[AbstractDomain]
    inputs: eqx.AbstractVar[np.ndarray | None]

    @property
    @abc.abstractmethod
    def interactions(self) -> Edges | None:
        """Pairs of nodes that interact, where they are few: their curvature is sparse. None: it is dense."""

    @abc.abstractmethod
    def starts(self) -> np.ndarray:
        """`start` of every sample, batch axis first (of length 1 for a single system)."""

    @property
    def batch_size(self) -> int | None:
        return batch_length(self.inputs, self.input_shape)

    def start(self) -> np.ndarray:
        return self.starts()[0]

    def bare_value(self, params: Params, position: np.ndarray) -> Any:
        return number(derivatives(self.potential).value(params, position, self.inputs))

    def bare_slope(self, params: Params, position: np.ndarray) -> np.ndarray:
        return np.asarray(derivatives(self.potential).slope(params, position, self.inputs)).ravel()[self.free]

    def bare_curvature(self, params: Params, position: np.ndarray) -> Matrix:
        """Dense; of a large system whose interactions are declared sparse, from a few products with displacements."""
        if self.interactions is not None and len(self.free) > DENSE:
            held = np.delete(np.arange(position.size), self.free)
            pattern = curvature_pattern(self.interactions, self.state_shape, tuple(held.tolist()))
            along = derivatives(self.potential).curvature_along
            return pattern.assemble(np.asarray(along(params, position, self.inputs, pattern.displacements)))
        matrix = np.asarray(derivatives(self.potential).curvature(params, position, self.inputs))
        return matrix.reshape(position.size, position.size)[np.ix_(self.free, self.free)]

    def forces(self, params: Params, position: np.ndarray) -> Params:
        return arrays(derivatives(self.potential).forces(params, position, self.inputs))

    def force_change(self, params: Params, position: np.ndarray, step: np.ndarray) -> Params:
        along = np.zeros(position.shape)
        along.flat[self.free] = step
        return arrays(derivatives(self.potential).force_change(params, position, self.inputs, along))

    def _copied(self, number: int) -> Self:
        """The system with all of its samples so many times, one after the other. A single system becomes a batch."""
        batched, inputs = self.batch_size is not None, self.inputs
        nudges = tuple((term.copied(number, batched), beta) for term, beta in self.nudges)
        return replaced(self, inputs=repeated(inputs, number, batched), nudges=nudges)  # type: ignore[no-any-return]

    def _of_points(self, state: Any) -> tuple[Self, Callable[[Any], Estimate]]:
        """The system with one sample for every point of a state, and what makes one value of theirs."""
        if has_starts(state):
            return self._copied(state.starts), state.mean
        return self, Estimate.exact

    def _points_at(self, params: Params, positions: np.ndarray, single: bool) -> PointState:
        """The state of a batch at its equilibria, or of one system whose position has an axis of length 1 in front."""
        return PointState(positions[0] if single else positions, batched=not single)

    def batched(self) -> Derivatives:
        """The derivatives of a batch; `inputs` must be the system's."""
        return batch_derivatives(self.potential, self.batch_size is not None)

    def over_points(self, params: Params, positions: np.ndarray) -> np.ndarray:
        """The energies of many points of one sample, nudges included."""
        bare = np.asarray(batch_derivatives(self.potential, False).value(params, positions, self.inputs))
        return bare + sum(beta * term.over_points(positions) for term, beta in self.nudges)

    def values(self, params: Params, positions: np.ndarray) -> np.ndarray:
        """The energies of a batch, nudges included."""
        bare = np.asarray(self.batched().value(params, positions, self.inputs))
        return bare + sum(beta * term.values(positions) for term, beta in self.nudges)


def batch_length(inputs: np.ndarray | None, shape: tuple[int, ...] | None) -> int | None:
    """Length of the batch axis in front of the inputs of one sample, which have this shape; None without."""
    return None if inputs is None or inputs.shape == shape else len(inputs)


def check_inputs(inputs: ArrayLike, shape: tuple[int, ...] | None) -> np.ndarray:
    """`inputs` as finite float64 numbers of the shape of one sample (None: it has none), or with a batch axis in front."""
    if shape is None:
        raise ValueError("Argument `inputs` must be None: this system takes no inputs.")
    array = real_array(inputs, "inputs")
    if array.shape not in (shape, (*array.shape[:1], *shape)) or len(array) < bool(array.ndim > len(shape)):
        raise ValueError(
            f"Argument `inputs` must have shape {shape}, or that with a batch axis in front, but has shape {array.shape}."
        )
    return array


def arrays(tree: Mapping[str, Any]) -> Params:
    """What JAX returned as arrays of NumPy."""
    return {name: np.asarray(value) for name, value in tree.items()}
