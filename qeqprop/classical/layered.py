"""Layered networks: energies that are sums over the layers and over what joins them, relaxed layer by layer."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.joint import AbstractSummingSystem
from ..core.module import AbstractModule
from ..core.precision import jax_float64
from ..core.system import Params, replaced
from .architecture import Architecture
from .blocks import copies
from .clamp import ClampTerm
from .coordinates import AbstractLayeredState, Coordinates
from .energy import Nudge, check_inputs
from .known import Known
from .state_cost import StateTerm, other_nudge

if TYPE_CHECKING:
    from .block_descent import BlockDescent
    from .predictive_coding import PredictiveCodingNetwork


class LayeredState(AbstractLayeredState):
    """Activities (in circuits: voltages) of all units.

    Attributes:
        layers: one array a layer, the inputs first, what is read out last; each of the layer's shape, of a batch behind its
            axis.
        batched: whether the first axis is a batch axis.
        reaction: forces dE/ds on the units that a clamp holds, 0 elsewhere, of the shape of `position`; None without.
        pull: of a nudged network with a readout, the derivative of the nudges by what is read out; None without.
        known: what the solver knows besides.
    """

    layers: tuple[np.ndarray, ...]
    batched: bool = eqx.field(static=True)
    reaction: np.ndarray | None = None
    pull: np.ndarray | None = None
    known: Known | None = None

    def to_storage(self) -> dict[str, Any]:
        """All but what else is known, which can be computed again."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return own | {"known": None}


class AbstractLayeredNetwork(AbstractSummingSystem):
    """A network with an `Architecture`. Units are numbered layer by layer, the inputs first; `outputs` are the last ones.

    Attributes:
        architecture: layers and interactions.
        inputs: of one sample, or with a batch axis in front.
        nudges: terms of the energy with their strengths.
        held: outputs that a clamp holds, and their values, shape (n,) or (batch, n); None without.
    """

    architecture: eqx.AbstractVar[Architecture]
    inputs: eqx.AbstractVar[np.ndarray]
    nudges: eqx.AbstractVar[tuple[Nudge, ...]]
    held: eqx.AbstractVar[tuple[tuple[int, ...], np.ndarray] | None]

    @abc.abstractmethod
    def sources(self) -> np.ndarray:
        """The activities of layer 0 that belong to the inputs, shape of the layer, behind a batch axis if there is one."""

    @property
    @abc.abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample's inputs."""

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return self.architecture.param_shapes

    @property
    def batch_size(self) -> int | None:
        return None if self.inputs.shape == self.input_shape else len(self.inputs)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Numbers of units of the layers, and of what is read out."""
        return self.architecture.layer_sizes

    @property
    def outputs(self) -> tuple[int, ...]:
        """Unit numbers of the outputs, for `StateCost(..., nodes=net.outputs)`."""
        return self.architecture.outputs

    def energy(self, params: Params, state: LayeredState) -> Estimate:
        """E and the nudges, of every sample."""
        bare = np.asarray(compiled(self.architecture).energies(params, relaxing(self.architecture, state)))
        pulled = sum(beta * term.expect(state).mean for term, beta in self.nudges)
        return Estimate.exact(np.asarray((bare if state.batched else bare[0]) + pulled))

    def param_grad(self, params: Params, state: LayeredState) -> Estimate:
        """dE/dtheta; of a batch its mean already, on a leading axis of length 1.

        A cost of a readout depends on the parameters itself: its derivative is a part of the force on a nudged state.
        """
        return self.summed_force(params, (state,), (1.0,))

    def summed_force(self, params: Params, states: Sequence[LayeredState], weights: Sequence[float]) -> Estimate:
        """The same, added up over states that have their inputs in common."""
        net, batched = self.architecture, states[0].batched
        pulls = [state.pull if state.pull is None or batched else state.pull[None] for state in states]
        layers = tuple(relaxing(net, state) for state in states)
        return as_forces(compiled(net).forces(params, layers, tuple(pulls), np.array(weights)), batched)

    def force_change(self, params: Params, state: LayeredState, changes: Sequence[Any], term: Any) -> Estimate:
        """The derivative of `param_grad` by the strength of the nudge `term`, along the changes of layers 1 to L."""
        architecture, pull = self.architecture, None
        layers = relaxing(architecture, state)
        if architecture.readout is not None:
            at, outputs = at_outputs(self, term), state.layers[-1].reshape(len(layers[0]), -1)
            pull = np.zeros_like(outputs)
            pull[:, at.coordinates.nodes or ()] = at.slopes(outputs)
        moved = compiled(architecture).force_change(params, layers, (np.zeros_like(layers[0]), *changes), pull)
        return as_forces(moved, state.batched)

    def nudged(self, term: Any, strength: complex) -> "AbstractLayeredNetwork":
        """The network with energy E + strength * term, or with outputs held that part of the way by a `Clamp`."""
        if not isinstance(term, StateTerm | ClampTerm):
            raise other_nudge(self, term, clamps=True)
        nodes, outputs = term.coordinates.nodes, self.outputs
        if nodes is None or not set(nodes) <= set(outputs):
            raise ValueError(
                f"Argument `nodes` of the cost must be output units of the network, {outputs[0]} to {outputs[-1]}: use "
                "`StateCost(..., nodes=net.outputs)`."
            )
        self._check_reach()
        beta = float(np.real(strength))
        if isinstance(term, StateTerm):
            return replaced(self, nudges=(*self.nudges, (term, beta)))
        if self.architecture.readout is not None:
            raise ValueError("The outputs of a readout are functions of the last layer: no Clamp can hold them.")
        if self.architecture.activations[-1].curved:
            raise ValueError("The outputs are unit vectors, which no Clamp can hold part of the way: use a StateCost.")
        rows = tuple(node - outputs[0] for node in nodes)
        return replaced(self, held=(rows, term.anchor + beta * (term.target - term.anchor)))

    def _check_reach(self) -> None:
        """Raise ValueError where no nudge can reach the parameters."""

    def with_inputs(self, inputs: ArrayLike) -> "AbstractLayeredNetwork":
        """The network with these inputs; a leading axis is the batch axis."""
        return replaced(self, inputs=check_inputs(inputs, self.input_shape))

    def default_solver(self) -> "BlockDescent":
        from .block_descent import BlockDescent

        return BlockDescent()


def relaxing(net: Architecture, state: LayeredState) -> tuple[np.ndarray, ...]:
    """Layers 0 to L of a state, batch axis first."""
    layers = state.layers[: net.last + 1]
    return layers if state.batched else tuple(layer[None] for layer in layers)


def side_by_side(net: Any, term: Any, strengths: Sequence[float], largest: int) -> list[list[Any]]:
    """A layered network under each of the nudges, in groups that one loop relaxes: all at once, or one by one where the widest
    layer of the batch has more than `largest` units."""
    nets = [net.nudged(term, beta) for beta in strengths]
    together = (net.batch_size or 1) * max(net.layer_sizes[1:]) <= largest
    return [nets] if together else [[each] for each in nets]


def at_outputs(net: "AbstractLayeredNetwork | PredictiveCodingNetwork", term: StateTerm) -> StateTerm:
    """A cost as a function of the outputs, numbered from 0, of a batch."""
    first, target = net.architecture.outputs[0], term.target
    rows = tuple(node - first for node in term.coordinates.nodes or ())
    return StateTerm(
        term.cost, Coordinates(rows), target if net.batch_size is not None or target is None else target[None]
    )


def check_strengths(
    net: "AbstractLayeredNetwork | PredictiveCodingNetwork", outputs: np.ndarray, stiffness: Any
) -> None:
    """Refuse nudges under which the outputs have no minimum while the other layers are held.

    Args:
        outputs: (batch, n); where these or what is made of them are no numbers, the status will say so.
        stiffness: of every output without the nudges, shape (n,), or of all of them.

    Raises:
        ValueError: with the limit.
    """
    bend = np.zeros((*outputs.shape, outputs.shape[1]))
    for original, beta in net.nudges:
        term = at_outputs(net, original)
        rows = np.asarray(term.coordinates.nodes, int)
        bend[:, rows[:, None], rows] += beta * term.curvatures(outputs)
    if not np.all(np.isfinite(bend)):
        return
    root = np.sqrt(np.broadcast_to(stiffness, outputs.shape[1:]))
    lowest = float(np.linalg.eigvalsh(bend / (root[:, None] * root)).min())
    if lowest <= -1:
        betas = ", ".join(f"{beta:g}" for _, beta in net.nudges)
        limit = sum(abs(beta) for _, beta in net.nudges) / -lowest
        raise ValueError(
            f"The nudge beta = {betas} leaves the outputs without a minimum: |beta| must be below {limit:.4g}, where the "
            "curvature of the cost outweighs the stiffness of the outputs. Use a smaller beta, or LinearResponse()."
        )


def as_forces(forces: Any, batched: bool) -> Estimate:
    """Forces of a batch behind an axis of length 1."""
    return Estimate.exact({n: np.asarray(force)[None] if batched else np.asarray(force) for n, force in forces.items()})


class _Compiled(AbstractModule):
    """Energy and forces of an architecture; layers 0 to L, batch axis first, forces of a batch its mean.

    Forces are added up over states that have their inputs in common, with weights. A `pull` on what is read out makes a force
    on the readout's parameters.
    """

    energies: Callable[..., Any]
    forces: Callable[..., Any]
    force_change: Callable[..., Any]


@functools.lru_cache(maxsize=256)
def compiled(net: Architecture) -> _Compiled:
    """The functions of an architecture, compiled once."""
    jax = jax_float64()

    def energies(params: Any, layers: Any) -> Any:
        return net.energies(params, layers, net.drives(params, layers[0]))

    def pulled(params: Any, last: Any, pull: Any) -> Any:
        return 0.0 if pull is None else (pull * net.read(params, last)).sum() / len(pull)

    def total(params: Any, layers: Any) -> Any:
        return energies(params, layers).mean()

    def summed(params: Any, states: Any, pulls: Any, weights: Any) -> Any:
        sources, number = states[0][0], len(states)
        layers = (
            copies(sources, number),
            *(jax.numpy.concatenate(same) for same in zip(*(state[1:] for state in states), strict=True)),
        )
        sent = copies(net.drives(params, sources), number)
        mean = net.energies(params, layers, sent).reshape(number, -1).mean(axis=1)
        return weights @ mean + sum(
            w * pulled(params, state[-1], pull) for w, state, pull in zip(weights, states, pulls, strict=True)
        )

    def force_change(params: Any, layers: Any, changes: Any, pull: Any) -> Any:
        moved = jax.jvp(lambda at: jax.grad(total)(params, at), (layers,), (changes,))[1]
        return jax.tree.map(jax.numpy.add, moved, jax.grad(pulled)(params, layers[-1], pull))

    return _Compiled(*map(jax.jit, (energies, jax.grad(summed), force_change)))
