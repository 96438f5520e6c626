"""Classical systems: an energy of coordinates, and what a minimiser needs to know of it.

A state is a point s. `AbstractEnergySystem` gives value, slope and curvature of the energy (nudges included) by the *free*
coordinates, and the derivatives by the parameters. `AbstractPotentialSystem` takes all of them from one function written in
JAX, of whole batches too; `EnergySystem` is the one that takes your function.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.module import AbstractModule
from ..core.precision import jax_float64
from ..core.system import AbstractSystem, Params, real_array, replaced
from .derivatives import Derivatives, Potential, batch_derivatives, derivatives
from .domains import AbstractDomain, RealSpace
from .state_cost import AbstractStateTerm, Coordinates, StateTerm

if TYPE_CHECKING:
    from ..core.solver import AbstractSolver
    from .newton import Curvature

Nudge = tuple[StateTerm, float]
Matrix = Any  # a dense array, or a sparse one in CSC format


class PointState(AbstractModule):
    """A point in configuration space, or a batch of them.

    Attributes:
        position: the coordinates, their node axis first; of a batch behind the batch axis.
        curvature: the factorised second derivative at (or near) it, where the solver made one.
        batched: whether the first axis is a batch axis.
    """

    position: np.ndarray
    curvature: Any = None
    batched: bool = eqx.field(static=True, default=False)

    def expect(self, observable: Any) -> Estimate:
        """The value of an observable at this point, e.g. of `Coordinates([0, 3])`."""
        return self.expect_all((observable,))

    def expect_all(self, observables: Sequence[Any]) -> Estimate:
        """The coordinates that the observables read, in one row (of every sample of a batch)."""
        for observable in observables:
            if not isinstance(observable, Coordinates):
                raise TypeError(f"A classical state shows `Coordinates`, not {type(observable).__name__}.")
        if self.batched:
            rows = [np.reshape(o.of_batch(self.position), (len(self.position), -1)) for o in observables]
            return Estimate.exact(np.concatenate(rows, axis=1))
        return Estimate.exact(np.concatenate([np.ravel(o.of(self.position)) for o in observables]))

    def to_storage(self) -> dict[str, Any]:
        """All but the curvature, which can be factorised again."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return own | {"curvature": None}

    def __repr__(self) -> str:
        return f"PointState(coordinates {self.position.shape})"


class AbstractEnergySystem(AbstractSystem):
    """An energy of coordinates, of which some are free. Vectors of free coordinates have shape (n_free,)."""

    nudges: eqx.AbstractVar[tuple[Nudge, ...]]

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
        whole = np.zeros(self.state_shape)
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

    def energy(self, params: Params, state: Any) -> Estimate:
        """The energy of a state, nudges included; of a batch, which only potentials have, of every sample."""
        if isinstance(self, AbstractPotentialSystem) and getattr(state, "batched", False):
            return Estimate.exact(self.values(params, state.position))
        return Estimate.exact(np.asarray(self.value(params, state.position)))

    def param_grad(self, params: Params, state: Any) -> Estimate:
        """dE/dtheta at a fixed state; of a batch, of every sample."""
        if isinstance(self, AbstractPotentialSystem) and getattr(state, "batched", False):
            return Estimate.exact(_arrays(self.batched().forces(params, state.position, self.inputs)))
        return Estimate.exact(self.forces(params, state.position))

    def nudged(self, term: Any, strength: complex) -> "AbstractEnergySystem":
        """The system with energy E + strength * term, or with the nodes of a `Clamp` held that part of the way."""
        if not isinstance(term, AbstractStateTerm):
            raise TypeError(
                "A classical system is nudged by a `StateCost` or a `Clamp`, but not by quantum observables."
            )
        return term.applied(self, float(np.real(strength)))

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

    @abc.abstractmethod
    def starts(self) -> np.ndarray:
        """`start` of every sample, batch axis first (of length 1 for a single system)."""

    @property
    def batch_size(self) -> int | None:
        if self.inputs is None or self.inputs.ndim == len(self.input_shape or ()):
            return None
        return len(self.inputs)

    def start(self) -> np.ndarray:
        return self.starts()[0]

    def bare_value(self, params: Params, position: np.ndarray) -> float:
        return float(derivatives(self.potential).value(params, position, self.inputs))

    def bare_slope(self, params: Params, position: np.ndarray) -> np.ndarray:
        return np.asarray(derivatives(self.potential).slope(params, position, self.inputs)).ravel()[self.free]

    def bare_curvature(self, params: Params, position: np.ndarray) -> Matrix:
        matrix = np.asarray(derivatives(self.potential).curvature(params, position, self.inputs))
        return matrix.reshape(position.size, position.size)[np.ix_(self.free, self.free)]

    def forces(self, params: Params, position: np.ndarray) -> Params:
        return _arrays(derivatives(self.potential).forces(params, position, self.inputs))

    def force_change(self, params: Params, position: np.ndarray, step: np.ndarray) -> Params:
        along = np.zeros(position.shape)
        along.flat[self.free] = step
        return _arrays(derivatives(self.potential).force_change(params, position, self.inputs, along))

    def batched(self) -> Derivatives:
        """The derivatives of a batch; `inputs` must be the system's."""
        return batch_derivatives(self.potential, self.batch_size is not None)

    def values(self, params: Params, positions: np.ndarray) -> np.ndarray:
        """The energies of a batch, nudges included."""
        bare = np.asarray(self.batched().value(params, positions, self.inputs))
        return bare + sum(beta * term.values(positions) for term, beta in self.nudges)


class EnergySystem(AbstractPotentialSystem):
    """Any smooth energy of real coordinates: bring your own potential.

    Args:
        potential: `potential(params, state, inputs) -> scalar`, written with `jax.numpy`; `params` is a dict of arrays,
            `state` an array of shape `shape`, `inputs` an array or None. Forces and Hessians come from autodiff.
        shape: of the state, node axis first.
        params: name -> shape of the parameters.
        inputs: shape of one sample's inputs, None for none.
        start: where minimisations start, and where coordinates are held; None takes zeros.
        domain: where the coordinates live: `RealSpace()` (None), `Box(low, high)` or `Torus(period)`.
        held: a mask of shape `shape` of coordinates that keep their start: clamped nodes, or one that fixes a gauge (an
            energy that does not change under a common phase has a flat direction; hold one phase).

    Raises:
        TypeError, ValueError: bad shapes; a start outside the domain; a potential that does not return a scalar, before
            anything is solved.

    Example:
        >>> import jax.numpy as jnp, qeqprop as qp
        >>> well = qp.classical.EnergySystem(
        ...     lambda p, s, x: (s**4).sum() / 4 + p["k"] @ s**2 / 2 - p["f"] @ s, (2,), {"k": (2,), "f": (2,)})
        >>> params = {"k": [1.0, 2.0], "f": [0.5, -1.0]}
        >>> out = qp.ep_gradient(well, params, qp.classical.StateCost(lambda s, y: (s[0] - y) ** 2), 1.0)
        >>> print(out.grad["f"][:1].round(6))
        [-0.748749]
    """

    potential: Potential = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)
    sample_shape: tuple[int, ...] | None = eqx.field(static=True)
    domain: AbstractDomain
    origin: np.ndarray
    held: np.ndarray
    inputs: np.ndarray | None
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        potential: Potential,
        shape: tuple[int, ...],
        params: Mapping[str, tuple[int, ...]],
        *,
        inputs: tuple[int, ...] | None = None,
        start: ArrayLike | None = None,
        domain: AbstractDomain | None = None,
        held: ArrayLike | None = None,
    ):
        if not callable(potential):
            raise TypeError(f"Argument `potential` must be callable, but is {type(potential).__name__}.")
        if not isinstance(params, Mapping) or not params:
            raise TypeError("Argument `params` must be a non-empty dict {name: shape}.")
        self.potential = potential
        self.shape = _check_shape(shape, "shape")
        self.shapes = tuple((str(name), _check_shape(s, f"params[{name!r}]")) for name, s in params.items())
        self.sample_shape = None if inputs is None else _check_shape(inputs, "inputs")
        self.domain = RealSpace() if domain is None else domain
        self.origin = _check_start(start, self.shape, self.domain)
        self.held = _check_mask(held, self.shape)
        self.inputs = None if self.sample_shape is None else np.zeros(self.sample_shape)
        self.nudges = ()
        self._check_scalar()

    def _check_scalar(self) -> None:
        jax = jax_float64()
        zeros = {name: np.zeros(shape) for name, shape in self.shapes}
        out = jax.eval_shape(self.potential, zeros, self.origin, self.inputs)
        if getattr(out, "shape", None) != ():
            raise ValueError(f"Argument `potential` must return a scalar, but returns {out}.")

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(self.shapes)

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return self.sample_shape

    @property
    def state_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def free(self) -> np.ndarray:
        return np.flatnonzero(~self.held)

    def starts(self) -> np.ndarray:
        return np.repeat(self.origin[None], self.batch_size or 1, axis=0)

    def with_inputs(self, inputs: ArrayLike) -> "EnergySystem":
        """The system with its inputs set; a leading axis is the batch axis."""
        if self.sample_shape is None:
            raise ValueError("Argument `inputs` must be None: this system takes no inputs.")
        return replaced(self, inputs=check_inputs(inputs, self.sample_shape))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Normal random numbers."""
        rng = np.random.default_rng(rng)
        return {name: rng.normal(size=shape) for name, shape in self.shapes}

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.shapes)
        return f"EnergySystem(coordinates {self.shape}, parameters {shapes})"


def _check_start(start: ArrayLike | None, shape: tuple[int, ...], domain: AbstractDomain) -> np.ndarray:
    if not isinstance(domain, AbstractDomain):
        raise TypeError(f"Argument `domain` must be RealSpace(), Box(...) or Torus(...), but is {domain!r}.")
    low, high = domain.bounds(shape)
    if start is None:
        return np.clip(np.zeros(shape), low, high)
    origin = real_array(start, "start", shape)
    if np.any((origin < low) | (origin > high)):
        raise ValueError(f"Argument `start` must lie in the domain {domain}, but is {origin.tolist()}.")
    return origin


def _check_mask(held: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool) if held is None else np.asarray(held)
    if mask.dtype != bool or mask.shape != shape:
        raise ValueError(
            f"Argument `held` must be a mask (bool) of shape {shape}, but is {mask.dtype} of shape {mask.shape}."
        )
    return mask


def check_inputs(inputs: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """`inputs` as finite float64 numbers of the shape of one sample, or with a batch axis in front."""
    array = real_array(inputs, "inputs")
    if array.shape not in (shape, (*array.shape[:1], *shape)):
        raise ValueError(
            f"Argument `inputs` must have shape {shape}, or that with a batch axis in front, but has shape {array.shape}."
        )
    return array


def _arrays(tree: Mapping[str, Any]) -> Params:
    return {name: np.asarray(value) for name, value in tree.items()}


def _check_shape(shape: Any, name: str) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise TypeError(f"Argument `{name}` must be a tuple of sizes, but is {shape!r}.")
    return shape
