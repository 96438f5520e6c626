"""Forward and backward passes through a predictive coding network, compiled by JAX, the batch axis first."""

import functools
from collections.abc import Callable
from typing import Any

from ..core.module import AbstractModule
from ..core.precision import jax_float64

ACTIVATIONS = ("tanh", "sigmoid", "hard_sigmoid", "relu", "gelu", "linear")
"""Names of the activations."""
RUNAWAY = 1e6
"""Violation of stationarity, in units of the force that a nudge starts with, at which the sweeps end: they lead away."""
Reader = tuple[Callable[[Any, Any], Any], tuple[int, ...]]
"""A cost, and the rows of the outputs that it reads."""


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


@functools.lru_cache(maxsize=64)
def sweeps(activations: tuple[str, ...], readers: tuple[Reader, ...]) -> Callable[..., Any]:
    """The compiled loop of sweeps under the nudges beta_j C_j: backwards the errors, forwards the activities.

    A function of (params, drive, layers to start from, strengths, targets, tolerance, largest number of sweeps) that
    returns layers, errors, signals, violated stationarity of every sample, the same in units of the nudging force (the
    largest of the batch), and the number of sweeps.
    """
    jax = jax_float64()
    jnp = jax.numpy

    def pull(outputs: Any, strengths: Any, targets: Any) -> Any:
        total = jnp.zeros_like(outputs)
        for (cost, rows), strength, target in zip(readers, strengths, targets, strict=True):
            at = jnp.asarray(rows)
            slope = jax.vmap(jax.grad(cost), in_axes=(0, None if target is None else 0))(outputs[:, at], target)
            total = total.at[:, at].add(strength * slope)
        return total

    def settle(params: Any, drive: Any, layers: Any, strengths: Any, targets: Any, tolerance: Any, most: Any) -> Any:
        def unsettled(at: Any) -> Any:
            *_, violated, scale, count = at
            return (count < most) & jnp.any(violated > tolerance * scale) & jnp.all(violated <= RUNAWAY * first)

        def sweep(at: Any) -> Any:
            errors, slopes, force, *_, count = at
            errors, _ = _sent_back(params, slopes, -force)
            return look(errors, count + 1)

        def look(errors: Any, count: Any) -> Any:
            layers, slopes = _predicted(activations, params, drive, errors)
            force = pull(layers[-1], strengths, targets)
            wanted = [*(_back(params, k, errors[k] * slopes[k]) for k in range(1, len(errors))), -force]
            violated = sum(jnp.sum((e - w) ** 2, axis=-1) for e, w in zip(errors, wanted, strict=True))
            return errors, slopes, force, jnp.sqrt(violated), jnp.linalg.norm(force, axis=-1), count

        force = pull(layers[-1], strengths, targets)
        first = jnp.linalg.norm(force)
        errors, _ = _sent_back(params, _at(activations, params, drive, layers)[1], -force)
        errors, slopes, _, violated, scale, count = jax.lax.while_loop(unsettled, sweep, look(errors, 1))
        settled, _ = _predicted(activations, params, drive, errors)
        signals = [e * slope for e, slope in zip(errors, slopes, strict=True)]
        return settled, errors, signals, violated, jnp.max(violated / jnp.maximum(scale, 1e-300)), count

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
