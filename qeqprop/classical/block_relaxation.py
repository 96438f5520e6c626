"""Relaxation of layered networks, compiled by JAX: blocks that are not joined are set to their minima, group after group.

One loop serves free and nudged states of every layered network, and their linear response.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..core.precision import jax_float64
from .architecture import Architecture, Groups
from .branches import PLACES, RISE
from .output_pull import Pull, Reader

STALLED = 20
"""Sweeps without a smaller residual after which a relaxation ends: it is at rounding, or does not converge."""
ESCAPE = 1000
"""The same above rounding, of states: residuals grow for many sweeps while one of the batch leaves a saddle point behind."""
ROUNDING = 1e3
"""A residual within this many units of rounding counts as being at it."""
RUNAWAY = 1e6
"""Growth of the residual at which a relaxation ends: there is no minimum."""


@dataclass(frozen=True)
class Setting:
    """What a relaxation is compiled for.

    Attributes:
        architecture: of the network.
        groups: of layers, in the order of their updates.
        readers: costs of the nudges, with the outputs they read.
        held: outputs that a clamp holds.
        dtype: of the relaxation.
    """

    architecture: Architecture
    groups: Groups
    readers: tuple[Reader, ...] = ()
    held: tuple[int, ...] = ()
    dtype: str = "float64"


class Scene(NamedTuple):
    """Numbers of a network at rest or not: parameters, inputs (batch first), nudges, and values of the held outputs."""

    params: Mapping[str, Any]
    sources: Any
    strengths: tuple[Any, ...] = ()
    targets: tuple[Any, ...] = ()
    values: Any = None


class Loop(NamedTuple):
    """Where the loop is, and where it ended.

    Attributes:
        layers: all of them, the inputs first.
        proposed: where the layers of the first group would go next.
        residual: norm of the forces out of balance, of every sample.
        relative: largest displacement of a layer that one more update would make, in units of the layer.
        growth: of the residual since the start: above 1 where there is no minimum.
        sweeps: over the layers.
        best, stalled, first: what the stop criterion remembers.
    """

    layers: tuple[Any, ...]
    proposed: tuple[Any, ...]
    residual: Any
    relative: Any
    growth: Any
    sweeps: Any
    best: Any
    stalled: Any
    first: Any


Update = Callable[[int, Sequence[Any]], Any]


def relax(
    update: Update,
    weights: Sequence[Any],
    layers: Sequence[Any],
    groups: Groups,
    tolerance: Any,
    max_sweeps: Any,
    patience: int = STALLED,
) -> Loop:
    """Update group after group until no layer moves by more than `tolerance`, or the residual stalls or runs away.

    Args:
        update: `update(layer, layers)`: where a layer comes to rest while the others are held.
        weights: force per displacement of every layer.
        layers: to start from.
        tolerance: bound on the displacements, relative to the largest norm of the layer in the batch.
        patience: sweeps without a smaller residual, above rounding, that are borne.
    """
    jax = jax_float64()
    jnp = jax.numpy
    first, *others = groups
    # After a sweep the last group is at rest. What is out of balance is in the others: with two groups in the first.
    measured = [layer for group in groups[: max(1, len(groups) - 1)] for layer in group]
    precision = jnp.finfo(layers[-1].dtype)
    tiny, rounding = precision.tiny, ROUNDING * float(precision.eps)

    def unsettled(at: Loop) -> Any:  # not a number ends it as well
        borne = jnp.where(at.best <= rounding, STALLED, patience)
        ended = (at.stalled >= borne) | (at.sweeps >= max_sweeps) | (at.growth > RUNAWAY)
        return (at.relative > tolerance) & ~ended

    def sweep(at: Loop) -> Loop:
        layers = _replaced(at.layers, dict(zip(first, at.proposed, strict=True)))
        for group in others:
            layers = _replaced(layers, {layer: update(layer, layers) for layer in group})
        proposed = {layer: update(layer, layers) for layer in measured}
        squares, relative = jnp.zeros_like(at.residual), jnp.zeros_like(at.relative)
        for layer, new in proposed.items():
            step = new - layers[layer]
            squares += _squares(weights[layer] * step)
            moved, size = (jnp.sqrt(jnp.max(_squares(x), initial=0.0)) for x in (step, new))
            relative = jnp.maximum(relative, moved / jnp.maximum(size, tiny))
        residual = jnp.sqrt(squares)
        worst = jnp.max(residual, initial=0.0)
        start = jnp.where(at.sweeps < 0, worst, at.first)
        return Loop(
            layers=layers,
            proposed=tuple(proposed[layer] for layer in first),
            residual=residual,
            relative=relative,
            growth=worst / jnp.maximum(start, tiny),
            sweeps=at.sweeps + 1,
            best=jnp.minimum(at.best, relative),
            stalled=jnp.where(relative < at.best, 0, at.stalled + 1),
            first=start,
        )

    # Sweep 0 proposes what there is, so that it is traced and compiled as all others are.
    none, zero = jnp.zeros(len(layers[-1]), layers[-1].dtype), jnp.zeros((), layers[-1].dtype)
    begin = Loop(
        tuple(layers), tuple(layers[m] for m in first), none, zero + jnp.inf, zero, -1, zero + jnp.inf, 0, zero
    )
    return jax.lax.while_loop(unsettled, sweep, begin)  # type: ignore[no-any-return]


class Relaxed(NamedTuple):
    """An equilibrium: `Loop` without its memory, and what is known of the state.

    Attributes:
        outputs: what is read.
        signal: derivative of the nudges by it.
        energies: of every sample, nudges included.
        softest: bound from below of the outputs' curvature at the start, in units of that without nudges.
        reaction: forces on the outputs that a clamp holds; 0 elsewhere.
        kink_distance: distance of the nearest unit from a bound (while it has not reached it: from leaving it).
        bound_changes: units that reached or left a bound since the start.
        displacement: from the start.
        jumped: of every sample, whether a barrier lies between the start, a state at rest without nudges, and the end.
    """

    layers: tuple[Any, ...]
    outputs: Any
    signal: Any
    residual: Any
    relative: Any
    growth: Any
    sweeps: Any
    energies: Any
    softest: Any
    reaction: Any
    kink_distance: Any
    bound_changes: Any
    displacement: Any
    jumped: Any


@functools.lru_cache(maxsize=256)
def relaxed(setting: Setting) -> Callable[..., Relaxed]:
    """The compiled relaxation: (scene, layers 1 to L to start from, tolerance, most sweeps) -> `Relaxed`."""
    jax = jax_float64()
    jnp, net = jax.numpy, setting.architecture
    inner, nudged = range(1, net.last + 1), bool(setting.readers or setting.held)

    def solve(scene: Scene, start: Sequence[Any], tolerance: Any, max_sweeps: Any) -> Relaxed:
        low = jax.tree.map(lambda x: jnp.asarray(x, setting.dtype), (scene, tuple(start)))
        blocks = Blocks.of(setting, *low)
        found = relax(blocks.update, blocks.weights, blocks.layers, setting.groups, tolerance, max_sweeps, ESCAPE)
        # differences of nudged forces are made of these: they get all digits that there are
        blocks, ends = Blocks.of(setting, scene, start), tuple(jnp.asarray(x, float) for x in found.layers)
        pairs = [(ends[m], blocks.layers[m]) for m in inner]
        bounds = [_at_bounds(net.activations[m - 1], ends[m]) != _at_bounds(net.activations[m - 1], begun)
                  for m, (_, begun) in zip(inner, pairs, strict=True)]  # fmt: skip
        displacement = sum(_squares(end - begun) for end, begun in pairs)
        outputs = net.read(scene.params, ends[-1])
        return Relaxed(
            layers=ends[1:],
            outputs=outputs,
            signal=blocks.pull.signal(outputs),
            residual=jnp.asarray(found.residual, float),
            relative=found.relative,
            growth=found.growth,
            sweeps=found.sweeps,
            energies=net.energies(scene.params, ends, blocks.drives) + blocks.pull.costs(outputs),
            softest=blocks.softest(),
            reaction=blocks.reaction(ends),
            kink_distance=blocks.kink_distance(ends),
            bound_changes=sum(jnp.sum(changed) for changed in bounds),
            displacement=jnp.sqrt(jnp.sum(displacement)),
            jumped=_jumped(blocks, ends, jnp.sqrt(displacement) * found.residual) if nudged else jnp.zeros((), bool),
        )

    return jax.jit(solve)


@functools.lru_cache(maxsize=64)
def forward_pass(net: Architecture) -> Callable[..., Any]:
    """The compiled forward pass: (scene, zeros of layers 1 to L) -> these layers, each at rest with those before it."""
    jax = jax_float64()

    def forward(scene: Scene, zeros: Sequence[Any]) -> Any:
        blocks = Blocks.of(Setting(net, ()), scene._replace(strengths=(), targets=(), values=None), zeros)
        layers = blocks.layers
        for layer in range(1, net.last + 1):  # those behind it are zero and send nothing back
            layers = _replaced(layers, {layer: blocks.update(layer, layers)})
        return layers[1:]

    return jax.jit(forward)


@functools.lru_cache(maxsize=256)
def response(setting: Setting, term: Reader | None) -> Callable[..., Any]:
    """The compiled linear response at an equilibrium: changes of layers 1 to L per unit of the nudge `term`.

    (scene, layers 1 to L, target, tolerance, most sweeps) -> `Loop` of the changes. Units at a bound stay there. Without a
    `term` the target is the change of the held outputs.
    """
    jax = jax_float64()
    net = setting.architecture

    def respond(scene: Scene, at: Sequence[Any], target: Any, tolerance: Any, max_sweeps: Any) -> Loop:
        blocks = Blocks.of(setting, scene, at)
        injected = None
        if term is not None:
            injected = -Pull((term,), (1.0,), (target,)).force(net, scene.params, at[-1]) / net.units[-1]

        def change(layer: int, changes: Sequence[Any]) -> Any:
            field, stiffness = blocks.field_and_stiffness(layer, blocks.layers)
            moved = jax.jvp(
                lambda layers: blocks.field_and_stiffness(layer, layers)[0], (blocks.layers,), (tuple(changes),)
            )[1]
            if layer == net.last and injected is not None:
                moved = moved + injected
            step = net.activations[layer - 1].response(field, stiffness, blocks.layers[layer], moved)
            return blocks.hold(step, target) if layer == net.last and term is None else step

        start = [jax.numpy.zeros_like(layer) for layer in blocks.layers]
        return relax(change, blocks.weights, start, setting.groups, tolerance, max_sweeps)

    return jax.jit(respond)


class Blocks(NamedTuple):
    """The updates of a network's layers. `layers` are those it was made at, the inputs first."""

    setting: Setting
    scene: Scene
    layers: tuple[Any, ...]
    drives: Mapping[int, Any]
    stiffness: Sequence[Any]
    pull: Pull
    bend: Any

    @classmethod
    def of(cls, setting: Setting, scene: Scene, start: Sequence[Any]) -> "Blocks":
        net = setting.architecture
        params, sources, strengths, targets, _ = scene
        pull = Pull(setting.readers, strengths, targets)
        bend = 0.0
        if setting.readers and net.readout is None:
            curvature = pull.curvature(_flat(start[-1])) / net.units[-1]
            bend = jax_float64().numpy.diagonal(curvature, axis1=1, axis2=2).reshape(start[-1].shape)
        drives = net.drives(params, sources)
        return cls(setting, scene, (sources, *start), drives, net.stiffness(params), pull, bend)

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

    def hold(self, last: Any, values: Any) -> Any:
        """The last layer with its held units at `values`."""
        if not self.setting.held:
            return last
        flat = last.reshape(len(last), -1)
        return flat.at[:, jax_float64().numpy.asarray(self.setting.held)].set(values).reshape(last.shape)

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
        """Bound from below of the outputs' curvature at the start in units of that without nudges, by Gershgorin's circles."""
        jnp, net, last = jax_float64().numpy, self.setting.architecture, self.layers[-1]
        if not self.setting.readers or net.readout is not None or net.activations[-1].curved:
            return jnp.ones(())
        total = jnp.broadcast_to(self.weights[-1], last.shape[1:]).ravel()
        relative = self.pull.curvature(_flat(last)) / net.units[-1] / jnp.sqrt(total[:, None] * total)
        return 1 - jnp.max(jnp.abs(relative).sum(axis=-1), initial=0.0)

    def reaction(self, layers: Sequence[Any]) -> Any:
        """dE/ds of the outputs that are held, (batch, n)."""
        jnp, net = jax_float64().numpy, self.setting.architecture
        slope = (net.units[-1] * self.slope(net.last, layers)).reshape(len(layers[-1]), -1)
        at = jnp.asarray(self.setting.held, int)
        return jnp.zeros_like(slope).at[:, at].set(slope[:, at])

    def kink_distance(self, layers: Sequence[Any]) -> Any:
        """How far the nearest mean of the neighbours is from a bound of its unit."""
        jnp, least = jax_float64().numpy, jax_float64().numpy.inf
        for layer, activation in enumerate(self.setting.architecture.activations, 1):
            field, stiffness = self.field_and_stiffness(layer, layers)
            means = (field / (activation.curvature + stiffness)).reshape(len(field), -1)
            for bound in activation.bounds(means.shape[1]):
                least = jnp.minimum(least, jnp.min(jnp.abs(means - bound), initial=jnp.inf))
        return least


def _jumped(blocks: Blocks, ends: Sequence[Any], rounding: Any) -> Any:
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
        return sum(unit * _sums(of.slope(layer, at) * velocity) for layer, (unit, (_, velocity)) in parts)

    there = jax.lax.map(lambda part: climb(blocks, begin, part), jnp.asarray(PLACES if net.curved else (0.0,)))
    back = jax.lax.map(lambda part: -climb(free, blocks.layers, part), jnp.asarray(PLACES if net.curved else (1.0,)))

    def rises(slopes: Any) -> Any:
        return slopes.max(axis=0) > RISE * jnp.abs(slopes).max(axis=0) + 4 * rounding

    left = sum(_squares(free.update(m, blocks.layers) - blocks.layers[m]) for m in range(1, net.last + 1))
    moved = sum(_squares(end - start) for end, start in zip(ends[1:], blocks.layers[1:], strict=True))
    return (rises(there) | rises(back)) & (left <= RISE**2 * moved)


def _at_bounds(activation: Any, layer: Any) -> Any:
    flat = layer.reshape(len(layer), -1)
    low, high = activation.bounds(flat.shape[1])
    return (flat == low) | (flat == high)


def _replaced(layers: tuple[Any, ...], moved: Mapping[int, Any]) -> tuple[Any, ...]:
    return tuple(moved.get(k, layer) for k, layer in enumerate(layers))


def _flat(layer: Any) -> Any:
    return layer.reshape(len(layer), -1)


def _squares(values: Any) -> Any:
    return _sums(values**2)


def _sums(values: Any) -> Any:
    return values.reshape(len(values), -1).sum(axis=1)
