"""Forward and backward passes through a predictive coding network, compiled by JAX, the batch axis first.

Layers are numbered from the inputs, 0; `layers` are all of them. What arrives at layer l from those before it is a_l, and it
predicts f_l(a_l). `signals` are errors times the slopes of the activations, by layer.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.module import AbstractModule
from ..core.precision import jax_float64
from .architecture import Architecture
from .block_loop import squares
from .blocks import copies, flat, side_by_side
from .branches import PLACES, RISE
from .output_pull import Pull, Reader

ACTIVATIONS = ("tanh", "sigmoid", "hard_sigmoid", "relu", "gelu", "linear")
"""Names of the activations."""
RUNAWAY = 1e6
"""Violation of stationarity, in units of the force that a nudge starts with, at which the sweeps end: they lead away."""


class Net(NamedTuple):
    """What passes are compiled for: layers with what joins them, and activations of layers 1 to L."""

    architecture: Architecture
    activations: tuple[str, ...]


class Passes(AbstractModule):
    """The passes of one network.

    Attributes:
        forward: (params, inputs) -> what the inputs send, layers 1 to L of the free state.
        activities: (params, all layers) -> energies of every sample, signals of any activities.
        forces: (params, all layers of states with the same inputs, their signals, weights) -> forces (of a batch their mean),
            added up.
    """

    forward: Callable[..., Any]
    activities: Callable[..., Any]
    forces: Callable[..., Any]


@functools.lru_cache(maxsize=64)
def passes(net: Net) -> Passes:
    """The passes of a network, compiled once."""
    jax = jax_float64()

    def forward(params: Any, inputs: Any) -> Any:
        drives = net.architecture.drives(params, inputs)
        return drives, _predicted(net, params, drives, inputs, None)[0][1:]

    def activities(params: Any, layers: Any) -> Any:
        predictions, slopes = _at(net, params, net.architecture.drives(params, layers[0]), layers)
        errors = {k: layers[k] - p for k, p in predictions.items()}
        return _energies(errors), {k: e * slopes[k] for k, e in errors.items()}

    def forces(params: Any, states: Any, signals: Any, weights: Any) -> Any:
        return _forces(net, params, states, signals, weights)

    return Passes(*map(jax.jit, (forward, activities, forces)))


@functools.lru_cache(maxsize=64)
def response(net: Net, reader: Reader) -> Callable[..., Any]:
    """The compiled backward pass: (params, what the inputs send, all layers, target) -> forces per unit of the nudge."""

    def backward(params: Any, drives: Any, layers: Any, target: Any) -> Any:
        slopes = _at(net, params, drives, layers)[1]
        top = -_signal(Pull((reader,), (1.0,), (target,)), layers[-1])
        return _forces(net, params, (layers,), (_sent_back(net, params, layers, slopes, top)[1],), (1.0,))

    return jax_float64().jit(backward)  # type: ignore[no-any-return]


class Settled(NamedTuple):
    """Where the sweeps ended: all samples of the first phase, then of the second.

    Attributes:
        layers: 1 to L.
        signals: errors times slopes, by layer.
        energies: of every sample, nudges included.
        residual: violated stationarity of every sample.
        facts: the numbers of `Facts`, phase first, as one array: each array that leaves JAX takes as long as a pass of a small
            network.
    """

    layers: Any
    signals: Any
    energies: Any
    residual: Any
    facts: Any


class Facts(NamedTuple):
    """What is known of a whole batch, phase by phase.

    Attributes:
        relative: violated stationarity in units of the nudging force, the largest of the batch.
        sweeps: how many, of all phases together.
        displacement: from the start.
        softest: bound from below, by Gershgorin's circles, of the curvature 1 + beta d2C/ds2 by the outputs at the start.
        finite: 1 where all activities are.
        jumped: samples in which a barrier lies between the start, a free state, and the end.
    """

    relative: float
    sweeps: float
    displacement: float
    softest: float
    finite: float
    jumped: float


@functools.lru_cache(maxsize=64)
def sweeps(net: Net, readers: tuple[Reader, ...], phases: int) -> Callable[..., Settled]:
    """The compiled loop of sweeps under the nudges beta_j C_j: backwards the errors, forwards the activities.

    A function of (params, what the inputs send, all layers to start from, strengths of every phase, targets, tolerance, most
    sweeps).
    """
    jax = jax_float64()
    jnp = jax.numpy

    def by_phase(values: Any) -> Any:
        return values.reshape(phases, -1)

    def settle(
        params: Any, drives: Any, start: Any, strengths: Any, targets: Any, tolerance: Any, most: Any
    ) -> Settled:
        size = len(start[0])
        each = Pull(readers, strengths, targets).curvatures(flat(start[-1]))  # one start for all phases
        bend = jnp.abs(sum(beta.reshape(-1, 1, 1, 1) * of for beta, of in zip(strengths, each, strict=True)))
        drives, start, targets = copies((drives, start, targets), phases)
        pull = Pull(readers, tuple(jnp.repeat(beta, size) for beta in strengths), targets)
        inner = range(1, len(start))

        def unsettled(at: Any) -> Any:
            *_, violated, scale, count = at
            return (count < most) & jnp.any(violated > tolerance * scale) & jnp.all(violated <= RUNAWAY * first)

        def sweep(at: Any) -> Any:
            layers, _, slopes, force, *_, count = at
            return look(_sent_back(net, params, layers, slopes, -force)[0], count + 1)

        def look(errors: Any, count: Any) -> Any:
            layers, slopes = _predicted(net, params, drives, start[0], errors)
            force = _signal(pull, layers[-1])
            wanted = _wanted(net, params, layers, {k: errors[k] * slopes[k] for k in inner}, -force)
            violated = sum(squares(errors[k] - wanted[k]) for k in inner)
            return layers, errors, slopes, force, jnp.sqrt(violated), jnp.sqrt(squares(force)), count

        force = _signal(pull, start[-1])
        first = jnp.sqrt(jnp.sum(squares(force)))
        errors, _ = _sent_back(net, params, start, _at(net, params, drives, start)[1], -force)
        layers, errors, slopes, _, violated, scale, count = jax.lax.while_loop(unsettled, sweep, look(errors, 1))
        bare = _energies(errors)
        moved = sum(squares(a - b) for a, b in zip(layers[1:], start[1:], strict=True))
        facts = Facts(
            relative=jnp.max(by_phase(violated / jnp.maximum(scale, 1e-300)), axis=1),
            sweeps=count,
            displacement=jnp.sqrt(jnp.sum(by_phase(moved), axis=1)),
            softest=1 - jnp.max(by_phase(bend.sum(axis=-1)), axis=1, initial=0.0),
            finite=jnp.all(by_phase(jnp.isfinite(violated) & jnp.isfinite(bare)), axis=1),
            jumped=jnp.sum(by_phase(_jumped(net, params, drives, pull, start, layers, errors)), axis=1),
        )
        return Settled(
            layers=layers[1:],
            signals={k: errors[k] * slopes[k] for k in inner},
            energies=bare + pull.costs(flat(layers[-1])),
            residual=violated,
            facts=jnp.stack([jnp.broadcast_to(jnp.asarray(fact, float), phases) for fact in facts], axis=1),
        )

    return jax.jit(settle)


def _jumped(
    net: Net, params: Any, drives: Any, pull: Pull, start: Sequence[Any], ends: Sequence[Any], errors: Mapping[int, Any]
) -> Any:
    """Whether a barrier lies between free states and nudged ones, sample by sample: see `branches`.

    Looked for on the way on which all errors grow alike, whose energy without nudges is half a square; with them it must fall
    all along. From a start that is not free nothing can be told, and the answer is no.
    """
    jax = jax_float64()
    jnp = jax.numpy

    def energy(part: Any) -> Any:
        layers, _ = _predicted(net, params, drives, start[0], {k: part * error for k, error in errors.items()})
        return part**2 * _energies(errors) + pull.costs(flat(layers[-1]))

    slopes = jax.lax.map(lambda part: jax.jvp(energy, (part,), (jnp.ones_like(part),))[1], jnp.asarray(PLACES))
    predictions, _ = _at(net, params, drives, start)
    wrong = sum(squares(start[k] - prediction) for k, prediction in predictions.items())
    moved = sum(squares(end - begun) for end, begun in zip(ends[1:], start[1:], strict=True))
    return (slopes.max(axis=0) > RISE * jnp.abs(slopes).max(axis=0)) & (wrong <= RISE**2 * moved)


def _activation(name: str) -> Callable[[Any], Any]:
    nn = jax_float64().nn
    if name == "linear":
        return lambda a: a
    if name == "hard_sigmoid":
        return lambda a: jax_float64().numpy.clip(a, 0.0, 1.0)
    return getattr(nn, name)  # type: ignore[no-any-return]


def _with_slope(name: str, a: Any) -> Any:
    jax = jax_float64()
    return jax.jvp(_activation(name), (a,), (jax.numpy.ones_like(a),))


def _predicted(net: Net, params: Any, drives: Any, inputs: Any, errors: Mapping[int, Any] | None) -> Any:
    """All layers, wrong by `errors` (None: not at all), and the slopes of the activations."""
    layers, slopes = [inputs], {}
    for k, name in enumerate(net.activations, 1):
        layer, slopes[k] = _with_slope(name, net.architecture.arriving(params, layers, drives, k))
        layers.append(layer if errors is None else layer + errors[k])
    return tuple(layers), slopes


def _at(net: Net, params: Any, drives: Any, layers: Sequence[Any]) -> Any:
    """What is predicted of every layer, and the slopes of the activations."""
    pairs = {
        k: _with_slope(name, net.architecture.arriving(params, layers, drives, k))
        for k, name in enumerate(net.activations, 1)
    }
    return {k: p for k, (p, _) in pairs.items()}, {k: slope for k, (_, slope) in pairs.items()}


def _sent_back(net: Net, params: Any, layers: Sequence[Any], slopes: Mapping[int, Any], top: Any) -> Any:
    """Errors that balance the one of the outputs, and signals."""
    last = net.architecture.last
    errors, signals = {last: top}, {last: top * slopes[last]}
    for k in range(last - 1, 0, -1):
        errors[k] = net.architecture.returned(params, layers[k], signals, k)
        signals[k] = errors[k] * slopes[k]
    return errors, signals


def _wanted(net: Net, params: Any, layers: Sequence[Any], signals: Mapping[int, Any], top: Any) -> Any:
    """Errors that would balance these signals."""
    last = net.architecture.last
    return {last: top} | {k: net.architecture.returned(params, layers[k], signals, k) for k in range(1, last)}


def _forces(net: Net, params: Any, states: Sequence[Any], signals: Sequence[Any], weights: Any) -> Any:
    """dE/dtheta at fixed activities, minus signals times what arrives there by the parameters: the mean over the batch.

    Added up over states with the same inputs, with weights, before the inputs are multiplied.
    """
    jnp, number, size = jax_float64().numpy, len(states), len(states[0][0])
    layers = side_by_side(states)
    parts = jnp.repeat(jnp.asarray(weights) / -size, size)

    def arriving(at: Any) -> Any:
        drives = copies(net.architecture.drives(at, states[0][0]), number)
        return {k: net.architecture.arriving(at, layers, drives, k) for k in signals[0]}

    back = jax_float64().vjp(arriving, dict(params))[1]
    joined = {k: jnp.concatenate([signal[k] for signal in signals]) for k in signals[0]}
    return back({k: s * parts.reshape(-1, *[1] * (s.ndim - 1)) for k, s in joined.items()})[0]


def _energies(errors: Mapping[int, Any]) -> Any:
    return 0.5 * sum(squares(error) for error in errors.values())


def _signal(pull: Pull, last: Any) -> Any:
    """The pull on the last layer."""
    return pull.signal(flat(last)).reshape(last.shape)
