"""Costs of classical states: any JAX function of the coordinates of some nodes."""

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any, Self

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.graph import check_counts
from ..core.module import AbstractModule
from ..core.nudge import AbstractNudge, finite_target
from ..core.precision import jax_float64
from ..core.system import replaced
from ..core.written import check_function, check_scalar
from .coordinates import Coordinates, has_many_points, has_starts, is_distribution
from .derivatives import curvature_of, slope_of

StateFunction = Callable[[Any, Any], Any]


class AbstractStateTerm(AbstractModule):
    """What a nudge of some nodes does to a classical system."""

    @abc.abstractmethod
    def expect(self, state: Any) -> Estimate:
        """The derivative of the equilibrium energy by the strength, at this state."""

    @abc.abstractmethod
    def applied(self, system: Any, strength: complex) -> Any:
        """The nudged system."""

    @abc.abstractmethod
    def copied(self, number: int, batched: bool) -> Self:
        """The term of so many times all samples; of a single system (not `batched`) that of a batch."""

    @abc.abstractmethod
    def loads(self, system: Any, positions: np.ndarray, solve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """`load` of a batch, shape (batch, n_free); `solve` applies every sample's H^-1 to (batch, n_free, k)."""

    @abc.abstractmethod
    def load(self, system: Any, position: np.ndarray, solve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The force on the free coordinates per unit of strength, as strength -> 0; `solve` applies H^-1."""

    def norm_bound(self) -> np.ndarray:
        """A function of coordinates has no bound."""
        return np.asarray(np.inf)


def other_nudge(system: Any, term: Any, *, clamps: bool = False) -> TypeError:
    """The error of a system that is nudged by a `StateCost`, or (`clamps`) a `Clamp`, and not by this term."""
    given = "a `Clamp`" if isinstance(term, AbstractStateTerm) else "quantum observables"
    takes = "a `StateCost` or a `Clamp`" if clamps else "a `StateCost`"
    return TypeError(f"{type(system).__name__} is nudged by {takes}, but not by {given}.")


class StateTerm(AbstractStateTerm):
    """The energy term cost(s[nodes], target), whole and not linearised."""

    cost: StateFunction = eqx.field(static=True)
    coordinates: Coordinates
    target: np.ndarray | None

    def applied(self, system: Any, strength: complex) -> Any:
        """The system with energy E + strength * cost."""
        self.coordinates.check(system.state_shape[0])
        width = int(np.prod(system.state_shape[1:]))
        check_reach(self.coordinates.nodes, system.free // width)
        nodes = system.state_shape[:1] if self.coordinates.nodes is None else (len(self.coordinates.nodes),)
        target = None if self.target is None else self.target.shape[system.batch_size is not None :]
        _check_cost(self.cost, (*nodes, *system.state_shape[1:]), target)
        return replaced(system, nudges=(*system.nudges, (self, strength)))

    def load(self, system: Any, position: np.ndarray, solve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """-dC/ds."""
        return -system.term_slope(self, position)

    def loads(self, system: Any, positions: np.ndarray, solve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """-dC/ds."""
        whole = np.zeros(positions.shape)
        whole[:, slice(None) if self.coordinates.nodes is None else list(self.coordinates.nodes)] = -self.slopes(
            positions
        )
        return whole.reshape(len(whole), -1)[:, system.free]

    def copied(self, number: int, batched: bool) -> "StateTerm":
        return replaced(self, target=repeated(self.target, number, batched))  # type: ignore[no-any-return]

    def expect(self, state: Any) -> Estimate:
        """The cost of a state; of many points, of every sample; of a distribution the mean."""
        if is_distribution(state):
            return Estimate.exact(np.asarray(state.mean(self.over_points)))
        if has_starts(state):
            many = self.copied(state.starts, state.batched)
            return state.mean(many.values(state.position))  # type: ignore[no-any-return]
        if has_many_points(state):
            values = compiled_batch(self.cost).value(state.read(self.coordinates), self.target)
            return Estimate.exact(np.asarray(values))
        return Estimate.exact(np.asarray(self.value(state.position)))

    def values(self, positions: np.ndarray) -> np.ndarray:
        """The costs at a batch of points, shape (batch,)."""
        return np.asarray(compiled_batch(self.cost).value(self.coordinates.of_batch(positions), self.target))

    def over_points(self, positions: np.ndarray) -> np.ndarray:
        """The costs of many points of one sample."""
        return self.copied(len(positions), False).values(positions)

    def slopes(self, positions: np.ndarray) -> np.ndarray:
        """`slope` at a batch of points, batch axis first."""
        return np.asarray(compiled_batch(self.cost).slope(self.coordinates.of_batch(positions), self.target))

    def curvatures(self, positions: np.ndarray) -> np.ndarray:
        """`curvature` at a batch of points, shape (batch, n_read, n_read)."""
        read = self.coordinates.of_batch(positions)
        n_read = read[0].size
        return np.asarray(compiled_batch(self.cost).curvature(read, self.target)).reshape(-1, n_read, n_read)

    def value(self, position: np.ndarray) -> Any:
        """The cost at a point, a number."""
        return number(compiled(self.cost).value(self.coordinates.of(position), self.target))

    def slope(self, position: np.ndarray) -> np.ndarray:
        """Its derivative by the coordinates it reads."""
        return np.asarray(compiled(self.cost).slope(self.coordinates.of(position), self.target))

    def curvature(self, position: np.ndarray) -> np.ndarray:
        """Its second derivative by the coordinates it reads, flattened to a matrix."""
        at = self.coordinates.of(position)
        return np.asarray(compiled(self.cost).curvature(at, self.target)).reshape(at.size, at.size)


def check_alike(outputs: Any, target: Any) -> None:
    """Refuse a target that would only be spread over the outputs. ValueError: another shape than theirs."""
    if np.shape(target) != np.shape(outputs):
        advice = f"; of class labels make `np.eye({len(outputs)})[labels]`" if np.shape(target) == () else ""
        raise ValueError(
            f"Argument `target` must have the shape of the outputs, {np.shape(outputs)}, for every sample, but has "
            f"{np.shape(target)}{advice}."
        )


def number(value: Any) -> Any:
    """A scalar as a Python number, float or complex."""
    return np.asarray(value).item()


def repeated(array: np.ndarray | None, number: int, batched: bool) -> np.ndarray | None:
    """An array of all samples (or, not `batched`, of one) so many times, one after the other."""
    return None if array is None else np.concatenate([array if batched else array[None]] * number)


class StateCost(AbstractNudge):
    """L = cost(s[nodes], target): any JAX function of the coordinates of a classical state.

    The nudge adds beta * cost itself to the energy, so that finite nudges are exact for [e(beta) - e(-beta)]/(2 beta).

    Args:
        cost: `cost(coordinates, target) -> scalar`, written with `jax.numpy` (plain arithmetic works as well).
        nodes: the nodes it reads (the first axis of the state); None for all. A large network is solved faster where the
            cost reads few nodes.

    Example:
        >>> import qeqprop as qp
        >>> cost = qp.classical.StateCost(lambda r, y: ((r[0] - y) ** 2).sum(), nodes=[3])
    """

    function: StateFunction = eqx.field(static=True)
    observables: tuple[Any, ...] = eqx.field(static=True)

    def __init__(self, cost: StateFunction, nodes: Sequence[int] | None = None):
        self.function = check_function(cost, "cost")
        self.observables = (Coordinates(None if nodes is None else distinct_nodes(nodes)),)

    def cost(self, state: Any, target: ArrayLike | None = None) -> Estimate:
        return self.term(state, target).expect(state)

    def term(self, free_state: Any, target: ArrayLike | None) -> Any:
        return StateTerm(self.function, self.observables[0], None if target is None else np.asarray(target, float))

    def check_target(self, target: ArrayLike | None, batch_size: int | None) -> np.ndarray | None:
        return None if target is None else finite_target(target, batch_size)


def distinct_nodes(nodes: Sequence[int]) -> tuple[int, ...]:
    """`nodes` as a tuple. TypeError, ValueError: not integers, none, or one of them twice."""
    chosen = check_counts(nodes, "nodes")
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"Argument `nodes` must hold distinct nodes, at least one, but is {list(chosen)}.")
    return chosen


def check_reach(nodes: Sequence[int] | None, free: np.ndarray) -> None:
    """Refuse a cost of nodes none of which can move: no nudge would do anything, and every gradient would be zero.

    Args:
        nodes: that the cost reads; None for all.
        free: nodes with a free coordinate.
    """
    if nodes is not None and not np.any(np.isin(nodes, free)):
        raise ValueError(
            f"Argument `nodes` of the cost must have a node that is free to move, but {sorted(nodes)} are all held (pinned, "
            "driven, grounded or sources): every gradient would be zero."
        )


@functools.lru_cache(maxsize=128)
def _check_cost(cost: StateFunction, read: tuple[int, ...], target: tuple[int, ...] | None) -> None:
    """Refuse a cost that is no scalar function of coordinates and a target of these shapes."""
    jax = jax_float64()
    arguments = (None if shape is None else jax.ShapeDtypeStruct(shape, np.float64) for shape in (read, target))
    try:
        check_scalar(cost, "cost", *arguments)
    except (TypeError, ValueError) as error:
        given = "no target" if target is None else f"a target of shape {target}"
        raise type(error)(f"{error} (The cost was tried on coordinates of shape {read} and {given}.)") from error


class _Compiled(AbstractModule):
    """A scalar function of coordinates with its derivatives, compiled once."""

    value: Any
    slope: Any
    curvature: Any


@functools.lru_cache(maxsize=128)
def compiled(function: StateFunction) -> _Compiled:
    """`function` with its first and second derivative, compiled."""
    jax = jax_float64()
    return _Compiled(*map(jax.jit, (function, slope_of(function), curvature_of(slope_of(function)))))


@functools.lru_cache(maxsize=128)
def compiled_batch(function: StateFunction) -> _Compiled:
    """The same over a leading batch axis of coordinates and target."""
    jax = jax_float64()
    slope = slope_of(function)
    return _Compiled(*(jax.jit(jax.vmap(f)) for f in (function, slope, curvature_of(slope))))
