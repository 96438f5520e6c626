"""Relaxation of layered networks, compiled by JAX: blocks that are not joined are set to their minima, group after group.

One loop serves free and nudged states of every layered network, and their linear response.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..core.precision import jax_float64
from .architecture import Architecture
from .block_loop import ESCAPE, Loop, relax, replaced_layers, squares
from .blocks import Blocks, Scene, Setting, at_bounds, jumped
from .output_pull import Pull, Reader
from .over_relaxation import beyond


class Relaxed(NamedTuple):
    """An equilibrium: the layers, and what is known of them.

    Of all samples of the first phase, then of the second.

    Attributes:
        layers: 1 to L.
        outputs: what a readout reads; None without.
        signal: of a nudged network with a readout, the derivative of the nudges by it; None without.
        residual: norm of the forces out of balance, of every sample.
        energies: of every sample, nudges included.
        reaction: forces on the outputs that a clamp holds, 0 elsewhere; None without.
        drives: what the inputs send, where it was not known before.
        facts: the numbers of `Facts`, phase first, as one array: each array that leaves JAX takes as long as a sweep of a small
            network.
    """

    layers: tuple[Any, ...]
    outputs: Any
    signal: Any
    residual: Any
    energies: Any
    reaction: Any
    drives: Any
    facts: Any

    def mapped(self, change: Callable[[Any], Any]) -> "Relaxed":
        """The same with all arrays changed."""
        return Relaxed._make(
            x if x is None else tuple(map(change, x)) if isinstance(x, tuple) else change(x) for x in self
        )


class Facts(NamedTuple):
    """What is known of a whole batch, phase by phase.

    Attributes:
        relative, growth, sweeps: see `Loop`; of all phases together.
        softest: bound from below of the outputs' curvature at the start, in units of that without nudges.
        kink_distance: distance of the nearest unit from a bound (while it has not reached it: from leaving it).
        bound_changes: units that reached or left a bound since the start.
        displacement: from the start.
        jumped: samples in which a barrier lies between the start, a state at rest without nudges, and the end.
    """

    relative: float
    growth: float
    sweeps: float
    softest: float
    kink_distance: float
    bound_changes: float
    displacement: float
    jumped: float


@functools.lru_cache(maxsize=256)
def relaxed(setting: Setting) -> Callable[..., Relaxed]:
    """The compiled relaxation: (scene, layers 1 to L to start from, tolerance, most sweeps) -> `Relaxed`."""
    jax = jax_float64()
    jnp, net = jax.numpy, setting.architecture
    inner, nudged = range(1, net.last + 1), bool(setting.readers or setting.held)

    def by_phase(values: Any) -> Any:
        return values.reshape(setting.phases, -1)

    def solve(scene: Scene, start: Sequence[Any], tolerance: Any, max_sweeps: Any) -> Relaxed:
        low = jax.tree.map(lambda x: jnp.asarray(x, setting.dtype), (scene, tuple(start)))
        blocks = Blocks.of(setting, *low)
        found = relax(
            blocks.update,
            blocks.weights,
            blocks.layers,
            setting.groups,
            tolerance,
            max_sweeps,
            ESCAPE,
            blocks.overshoot,
        )
        # differences of nudged forces are made of these: they get all digits that there are
        blocks = blocks if setting.dtype == "float64" else Blocks.of(setting, scene, start)
        ends = tuple(jnp.asarray(x, float) for x in found.layers)
        pairs = [(ends[m], blocks.layers[m]) for m in inner]
        bounds = [at_bounds(net.activations[m - 1], ends[m]) != at_bounds(net.activations[m - 1], begun)
                  for m, (_, begun) in zip(inner, pairs, strict=True)]  # fmt: skip
        displacement = sum(squares(end - begun) for end, begun in pairs)
        outputs = net.read(scene.params, ends[-1])
        left = jumped(blocks, ends, jnp.sqrt(displacement) * found.residual) if nudged else jnp.zeros(len(ends[-1]))
        facts = Facts(
            relative=found.relative,
            growth=found.growth,
            sweeps=found.sweeps,
            softest=jnp.min(by_phase(blocks.softest()), axis=1),
            kink_distance=jnp.min(by_phase(blocks.kink_distance(ends)), axis=1),
            bound_changes=jnp.sum(by_phase(sum(jnp.sum(changed, axis=1) for changed in bounds)), axis=1),
            displacement=jnp.sqrt(jnp.sum(by_phase(displacement), axis=1)),
            jumped=jnp.sum(by_phase(left), axis=1),
        )
        return Relaxed(
            layers=ends[1:],
            outputs=None if net.readout is None else outputs,
            signal=None if net.readout is None or not setting.readers else blocks.pull.signal(outputs),
            residual=jnp.asarray(found.residual, float),
            energies=net.energies(scene.params, ends, blocks.drives) + blocks.pull.costs(outputs),
            reaction=blocks.reaction(ends) if setting.held else None,
            drives=blocks.drives if scene.drives is None else None,
            facts=jnp.stack([jnp.broadcast_to(jnp.asarray(fact, float), setting.phases) for fact in facts], axis=1),
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
            layers = replaced_layers(layers, {layer: blocks.update(layer, layers)})
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

        def overshot(layer: int, changes: Any, settled: Any, factor: Any) -> Any:
            far = beyond(changes, settled, factor)  # a quadratic energy of the units that are free to move
            return blocks.hold(far, target) if layer == net.last and term is None else far

        start = [jax.numpy.zeros_like(layer) for layer in blocks.layers]
        return relax(
            change,
            blocks.weights,
            start,
            setting.groups,
            tolerance,
            max_sweeps,
            overshoot=overshot if setting.over_relaxed else None,
        )

    return jax.jit(respond)
