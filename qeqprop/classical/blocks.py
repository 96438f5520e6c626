"""What the layers of a network do under the others, and what is known of a state of them, traced by JAX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..core.precision import jax_float64
from .activations import AbstractActivation, AbstractClipped
from .architecture import Architecture, Groups, sums
from .block_loop import Overshoot, squares
from .branches import PLACES, RISE
from .output_pull import Pull, Reader
from .over_relaxation import beyond


@dataclass(frozen=True)
class Setting:
    """What a relaxation is compiled for.

    Attributes:
        architecture: of the network.
        groups: of layers, in the order of their updates.
        readers: costs of the nudges, with the outputs they read.
        held: outputs that a clamp holds.
        dtype: of the relaxation.
        phases: how many that differ in their nudges alone are relaxed side by side, sample after sample of each.
        over_relaxed: whether layers go beyond their minima where that cannot raise the energy.
    """

    architecture: Architecture
    groups: Groups
    readers: tuple[Reader, ...] = ()
    held: tuple[int, ...] = ()
    dtype: str = "float64"
    phases: int = 1
    over_relaxed: bool = False


class Scene(NamedTuple):
    """Numbers of a network at rest or not.

    Attributes:
        params: theta.
        sources: what the inputs are, batch axis first.
        strengths: of every nudge one a phase.
        targets: of every nudge, batch axis first; None without.
        values: of the held outputs of all samples of all phases.
        drives: what the inputs send, where that is known.
    """

    params: Mapping[str, Any]
    sources: Any
    strengths: tuple[Any, ...] = ()
    targets: tuple[Any, ...] = ()
    values: Any = None
    drives: Any = None

    def sent(self, net: Architecture) -> Any:
        """What the inputs send, batch axis first."""
        return net.drives(self.params, self.sources) if self.drives is None else self.drives


class Blocks(NamedTuple):
    """The updates of a network's layers, of all phases. `layers` are those it was made at, the inputs first."""

    setting: Setting
    scene: Scene
    layers: tuple[Any, ...]
    drives: Mapping[int, Any]
    stiffness: Sequence[Any]
    pull: Pull
    bend: Any

    @classmethod
    def of(cls, setting: Setting, scene: Scene, start: Sequence[Any]) -> "Blocks":
        net, phases, jnp = setting.architecture, setting.phases, jax_float64().numpy
        sources, drives, start, targets = copies((scene.sources, scene.sent(net), tuple(start), scene.targets), phases)
        strengths = tuple(jnp.repeat(jnp.reshape(beta, -1), len(scene.sources)) for beta in scene.strengths)
        pull = Pull(setting.readers, strengths, targets)
        bend = 0.0
        if setting.readers and net.readout is None:
            curvature = pull.curvature(flat(start[-1])) / net.units[-1]
            bend = jnp.diagonal(curvature, axis1=1, axis2=2).reshape(start[-1].shape)
        return cls(setting, scene, (sources, *start), drives, net.stiffness(scene.params), pull, bend)

    @property
    def weights(self) -> list[Any]:
        """Force per displacement of every layer."""
        activations = self.setting.architecture.activations
        return [0.0, *(a.curvature + k for a, k in zip(activations, self.stiffness[1:], strict=True))]

    def field_and_stiffness(self, layer: int, layers: Sequence[Any]) -> tuple[Any, Any]:
        """Field and stiffness of a layer, nudges included.

        The slope of a cost is that of the present outputs. Its curvature at the start is on both sides, so that a squared
        error settles at once, and others are at rest where they should be.
        """
        net, scene = self.setting.architecture, self.scene
        field, stiffness = net.field(scene.params, layers, self.drives, layer), self.stiffness[layer]
        if layer == net.last and self.setting.readers:
            force = self.pull.force(net, scene.params, layers[layer]) / net.units[layer]
            field, stiffness = field - (force - self.bend * layers[layer]), stiffness + self.bend
        return field, stiffness

    def update(self, layer: int, layers: Sequence[Any]) -> Any:
        """Where a layer comes to rest while the others are held."""
        field, stiffness = self.field_and_stiffness(layer, layers)
        settled = self.setting.architecture.activations[layer - 1].settle(field, stiffness, layers[layer])
        return self.hold(settled, self.scene.values) if layer == self.setting.architecture.last else settled

    @property
    def overshoot(self) -> Overshoot | None:
        """Where a layer ends that goes beyond its minimum; None where none shall, or where the energy might rise."""
        net = self.setting.architecture
        clipped = [activation for activation in net.activations if isinstance(activation, AbstractClipped)]
        if not self.setting.over_relaxed or len(clipped) < len(net.activations):
            return None

        def overshot(layer: int, at: Any, settled: Any, factor: Any) -> Any:
            far = clipped[layer - 1].clip(beyond(at, settled, factor))
            return self.hold(far, self.scene.values) if layer == net.last else far

        return overshot

    def hold(self, last: Any, values: Any) -> Any:
        """The last layer with its held units at `values`."""
        if not self.setting.held:
            return last
        return flat(last).at[:, jax_float64().numpy.asarray(self.setting.held)].set(values).reshape(last.shape)

    def free(self) -> "Blocks":
        """The same without nudges and clamps."""
        setting = Setting(self.setting.architecture, self.setting.groups)
        return self._replace(setting=setting)

    def slope(self, layer: int, layers: Sequence[Any]) -> Any:
        """Derivative of the energy by a layer, in the layer's units, nudges included."""
        activation = self.setting.architecture.activations[layer - 1]
        field, stiffness = self.field_and_stiffness(layer, layers)
        own = jax_float64().grad(lambda s: activation.potential(s).sum())(layers[layer])
        return own + stiffness * layers[layer] - field

    def softest(self) -> Any:
        """Bound from below of the outputs' curvature at the start in units of that without nudges, by Gershgorin's circles.

        Of every sample.
        """
        jnp, net, last = jax_float64().numpy, self.setting.architecture, self.layers[-1]
        if not self.setting.readers or net.readout is not None or net.activations[-1].curved:
            return jnp.ones(len(last))
        total = jnp.broadcast_to(self.weights[-1], last.shape[1:]).ravel()
        relative = self.pull.curvature(flat(last)) / net.units[-1] / jnp.sqrt(total[:, None] * total)
        return 1 - jnp.max(jnp.abs(relative).sum(axis=-1), axis=-1, initial=0.0)

    def reaction(self, layers: Sequence[Any]) -> Any:
        """dE/ds of the outputs that are held, (batch, n)."""
        jnp, net = jax_float64().numpy, self.setting.architecture
        slope = (net.units[-1] * self.slope(net.last, layers)).reshape(len(layers[-1]), -1)
        at = jnp.asarray(self.setting.held, int)
        return jnp.zeros_like(slope).at[:, at].set(slope[:, at])

    def kink_distance(self, layers: Sequence[Any]) -> Any:
        """How far the nearest mean of the neighbours is from a bound of its unit, in every sample."""
        jnp = jax_float64().numpy
        least = jnp.full(len(layers[-1]), jnp.inf)
        for layer, activation in enumerate(self.setting.architecture.activations, 1):
            field, stiffness = self.field_and_stiffness(layer, layers)
            means = (field / (activation.curvature + stiffness)).reshape(len(field), -1)
            for bound in activation.bounds(means.shape[1]):
                least = jnp.minimum(least, jnp.min(jnp.abs(means - bound), axis=1, initial=jnp.inf))
        return least


def jumped(blocks: Blocks, ends: Sequence[Any], rounding: Any) -> Any:
    """Whether a barrier lies between the free state that a nudged phase started from and its end, sample by sample.

    The nudged energy must fall from the start (with held units at their values) to the end, and the free one on the way back.
    Along a line the energy is a parabola, up to the convex energy of the units: where it falls at the start and at the end, it
    falls all the way. Where units are on curves it is looked at in several places of the way. From a start that is not at rest
    without the nudge nothing can be told, and the answer is no.
    """
    jax = jax_float64()
    jnp, free, net = jax.numpy, blocks.free(), blocks.setting.architecture
    begin = (*blocks.layers[:-1], blocks.hold(blocks.layers[-1], blocks.scene.values))

    def climb(of: Blocks, start: Sequence[Any], part: Any) -> Any:
        """The slope of the energy along the way from `start` to the ends."""
        trios = zip(net.activations, start[1:], ends[1:], strict=True)
        ways = [activation.between(begun, end, part) for activation, begun, end in trios]
        at = (start[0], *(place for place, _ in ways))
        parts = enumerate(zip(net.units[1:], ways, strict=True), 1)
        return sum(unit * sums(of.slope(layer, at) * velocity) for layer, (unit, (_, velocity)) in parts)

    if net.curved:
        there = jax.lax.map(lambda part: climb(blocks, begin, part), jnp.asarray(PLACES))
        back = jax.lax.map(lambda part: -climb(free, blocks.layers, part), jnp.asarray(PLACES))
    else:
        there, back = climb(blocks, begin, 0.0)[None], -climb(free, blocks.layers, 1.0)[None]

    def rises(slopes: Any) -> Any:
        return slopes.max(axis=0) > RISE * jnp.abs(slopes).max(axis=0) + 4 * rounding

    left = sum(squares(free.update(m, blocks.layers) - blocks.layers[m]) for m in range(1, net.last + 1))
    moved = sum(squares(end - start) for end, start in zip(ends[1:], blocks.layers[1:], strict=True))
    return (rises(there) | rises(back)) & (left <= RISE**2 * moved)


def at_bounds(activation: AbstractActivation, layer: Any) -> Any:
    """Which units are at a bound, (batch, n)."""
    units = flat(layer)
    low, high = activation.bounds(units.shape[1])
    return (units == low) | (units == high)


def copies(tree: Any, number: int) -> Any:
    """All arrays so many times, one after the other along the batch axis."""
    jax = jax_float64()
    return tree if number == 1 else jax.tree.map(lambda x: jax.numpy.concatenate([x] * number), tree)


def side_by_side(states: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """All layers of states with the same inputs, one state after the other along the batch axis."""
    above = zip(*(state[1:] for state in states), strict=True)
    return copies(states[0][0], len(states)), *(jax_float64().numpy.concatenate(same) for same in above)


def flat(layer: Any) -> Any:
    """A layer with its units on one axis."""
    return layer.reshape(len(layer), -1)
