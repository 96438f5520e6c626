"""Forward and backward passes through a predictive coding network, compiled by JAX, the batch axis first."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.module import AbstractModule
from ..core.precision import jax_float64
from .output_pull import Pull, Reader

ACTIVATIONS = ("tanh", "sigmoid", "hard_sigmoid", "relu", "gelu", "linear")
"""Names of the activations."""
RUNAWAY = 1e6
"""Violation of stationarity, in units of the force that a nudge starts with, at which the sweeps end: they lead away."""


class Passes(AbstractModule):
    """The passes of one architecture. `drive` is W_0 x + b_0; signals are errors times the slopes of the activations.

    Attributes:
        forward: (params, drive) -> layers, the free state.
        backward: (params, drive, layers, error of the outputs) -> signals that this error sends back.
        errors: (params, drive, layers) -> errors and signals of any activities.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    errors: Callable[..., Any]


@functools.lru_cache(maxsize=64)
def passes(activations: tuple[str, ...]) -> Passes:
    """The passes of an architecture, compiled once."""
    jax = jax_float64()

    def forward(params: Any, drive: Any) -> Any:
        return _predicted(activations, params, drive, None)[0]

    def backward(params: Any, drive: Any, layers: Any, top: Any) -> Any:
        return _sent_back(params, _at(activations, params, drive, layers)[1], top)[1]

    def errors(params: Any, drive: Any, layers: Any) -> Any:
        predictions, slopes = _at(activations, params, drive, layers)
        wrong = [s - p for s, p in zip(layers, predictions, strict=True)]
        return wrong, [e * slope for e, slope in zip(wrong, slopes, strict=True)]

    return Passes(jax.jit(forward), jax.jit(backward), jax.jit(errors))


class Settled(NamedTuple):
    """Where the sweeps ended; arrays have their batch axis first.

    Attributes:
        layers: above the inputs.
        signals: errors times the slopes of the activations.
        energies: of every sample, nudges included.
        residual: violated stationarity of every sample.
        facts: the numbers of `Facts`, as one array: each array that leaves JAX takes as long as a pass of a small network.
    """

    layers: Any
    signals: Any
    energies: Any
    residual: Any
    facts: Any


class Facts(NamedTuple):
    """What is known of a whole batch.

    Attributes:
        relative: violated stationarity in units of the nudging force, the largest of the batch.
        sweeps: how many.
        displacement: from the start.
        softest: bound from below, by Gershgorin's circles, of the curvature 1 + beta d2C/ds2 by the outputs at the start.
        finite: 1 where all activities are.
    """

    relative: float
    sweeps: float
    displacement: float
    softest: float
    finite: float


@functools.lru_cache(maxsize=64)
def sweeps(activations: tuple[str, ...], readers: tuple[Reader, ...]) -> Callable[..., Settled]:
    """The compiled loop of sweeps under the nudges beta_j C_j: backwards the errors, forwards the activities.

    A function of (params, drive, layers to start from, strengths, targets, tolerance, largest number of sweeps).
    """
    jax = jax_float64()
    jnp = jax.numpy

    def settle(params: Any, drive: Any, start: Any, strengths: Any, targets: Any, tolerance: Any, most: Any) -> Settled:
        pull = Pull(readers, strengths, targets)

        def unsettled(at: Any) -> Any:
            *_, violated, scale, count = at
            return (count < most) & jnp.any(violated > tolerance * scale) & jnp.all(violated <= RUNAWAY * first)

        def sweep(at: Any) -> Any:
            errors, slopes, force, *_, count = at
            errors, _ = _sent_back(params, slopes, -force)
            return look(errors, count + 1)

        def look(errors: Any, count: Any) -> Any:
            layers, slopes = _predicted(activations, params, drive, errors)
            force = pull.signal(layers[-1])
            wanted = [*(_back(params, k, errors[k] * slopes[k]) for k in range(1, len(errors))), -force]
            violated = sum(jnp.sum((e - w) ** 2, axis=-1) for e, w in zip(errors, wanted, strict=True))
            return errors, slopes, force, jnp.sqrt(violated), jnp.linalg.norm(force, axis=-1), count

        force = pull.signal(start[-1])
        first = jnp.linalg.norm(force)
        errors, _ = _sent_back(params, _at(activations, params, drive, start)[1], -force)
        errors, slopes, _, violated, scale, count = jax.lax.while_loop(unsettled, sweep, look(errors, 1))
        settled, _ = _predicted(activations, params, drive, errors)
        bare = 0.5 * sum(jnp.sum(e**2, axis=-1) for e in errors)
        moved = sum(jnp.sum((a - b) ** 2) for a, b in zip(settled, start, strict=True))
        return Settled(
            layers=settled,
            signals=[e * slope for e, slope in zip(errors, slopes, strict=True)],
            energies=bare + pull.costs(settled[-1]),
            residual=violated,
            facts=jnp.stack(
                [
                    jnp.max(violated / jnp.maximum(scale, 1e-300)),
                    count * 1.0,
                    jnp.sqrt(moved),
                    1 - jnp.max(jnp.abs(pull.curvature(start[-1])).sum(axis=-1), initial=0.0),
                    jnp.all(jnp.isfinite(violated) & jnp.isfinite(bare)) * 1.0,
                ]
            ),
        )

    return jax.jit(settle)


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


def _predicted(activations: tuple[str, ...], params: Any, drive: Any, errors: Any) -> Any:
    """Layers that are wrong by `errors` (None: not at all), and the slopes of the activations."""
    layers: list[Any] = []
    slopes = []
    for k, name in enumerate(activations):
        layer, slope = _with_slope(name, layers[-1] @ params[f"w{k}"] + params[f"b{k}"] if k else drive)
        layers.append(layer if errors is None else layer + errors[k])
        slopes.append(slope)
    return layers, slopes


def _at(activations: tuple[str, ...], params: Any, drive: Any, layers: Any) -> Any:
    """What every layer predicts of the next, and the slopes of the activations."""
    arriving = [drive, *(s @ params[f"w{k}"] + params[f"b{k}"] for k, s in enumerate(layers[:-1], 1))]
    pairs = [_with_slope(name, a) for name, a in zip(activations, arriving, strict=True)]
    return [p for p, _ in pairs], [slope for _, slope in pairs]


def _sent_back(params: Any, slopes: Any, top: Any) -> Any:
    """Errors that balance the one of the outputs, and signals, in the order of the layers."""
    errors, signals = [top], [top * slopes[-1]]
    for k in range(len(slopes) - 1, 0, -1):
        errors.insert(0, _back(params, k, signals[0]))
        signals.insert(0, errors[0] * slopes[k - 1])
    return errors, signals


def _back(params: Any, k: int, signal: Any) -> Any:
    return signal @ params[f"w{k}"].T
