"""The loop of all relaxations of layered networks: layers set one group after the other, until nothing moves any more."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.precision import jax_float64
from .architecture import Groups, sums
from .over_relaxation import Pace

STALLED = 20
"""Sweeps without a smaller residual after which a relaxation ends: it is at rounding, or does not converge."""
ESCAPE = 1000
"""The same above rounding, of states: residuals grow for many sweeps while one of the batch leaves a saddle point behind."""
ROUNDING = 1e3
"""A residual within this many units of rounding counts as being at it."""
RUNAWAY = 1e6
"""Growth of the residual at which a relaxation ends: there is no minimum."""


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
        pace: how far beyond their minima the units go.
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
    pace: Pace


Update = Callable[[int, Sequence[Any]], Any]
Overshoot = Callable[[int, Any, Any, Any], Any]


def relax(
    update: Update,
    weights: Sequence[Any],
    layers: Sequence[Any],
    groups: Groups,
    tolerance: Any,
    max_sweeps: Any,
    patience: int = STALLED,
    overshoot: Overshoot | None = None,
) -> Loop:
    """Update group after group until no layer moves by more than `tolerance`, or the residual stalls or runs away.

    Args:
        update: `update(layer, layers)`: where a layer comes to rest while the others are held.
        weights: force per displacement of every layer.
        layers: to start from.
        tolerance: bound on the displacements, relative to the largest norm of the layer in the batch.
        patience: sweeps without a smaller residual, above rounding, that are borne.
        overshoot: `overshoot(layer, where it is, where it comes to rest, factor)`: where it ends when it goes beyond that, in
            groups that are not joined in themselves; None: exactly there.
    """
    jax = jax_float64()
    jnp = jax.numpy
    first, *others = groups
    overshoot = overshoot if others else None  # layers that all move at once do not even bear the whole way
    # After a sweep the minima of the last group are known; without overshoot it is there. With two groups, what is out of
    # balance is in the first one then.
    measured = [layer for group in groups[: max(1, len(groups) - 1)] for layer in group]
    precision = jnp.finfo(layers[-1].dtype)
    tiny, rounding = precision.tiny, ROUNDING * float(precision.eps)

    def unsettled(at: Loop) -> Any:  # not a number ends it as well
        borne = jnp.where(at.best <= rounding, STALLED, patience)
        ended = (at.stalled >= borne) | (at.sweeps >= max_sweeps) | (at.growth > RUNAWAY)
        return (at.relative > tolerance) & ~ended

    def moved(at: Loop, layers: tuple[Any, ...], settled: Mapping[int, Any]) -> tuple[Any, ...]:
        if overshoot is None:
            return replaced_layers(layers, settled)
        return replaced_layers(layers, {m: overshoot(m, layers[m], new, at.pace.factor) for m, new in settled.items()})

    def sweep(at: Loop) -> Loop:
        layers, settled = moved(at, at.layers, dict(zip(first, at.proposed, strict=True))), {}
        for group in others:
            settled = {layer: update(layer, layers) for layer in group}
            layers = moved(at, layers, settled)
        proposed = {layer: update(layer, layers) for layer in measured}
        total, relative = jnp.zeros_like(at.residual), jnp.zeros_like(at.relative)
        for layer, new in (proposed | ({} if overshoot is None else settled)).items():
            step, weight = new - layers[layer], weights[layer]
            moved_by = squares(step)
            total += weight**2 * moved_by if np.ndim(weight) == 0 else squares(weight * step)
            far, size = (jnp.sqrt(jnp.max(x, initial=0.0)) for x in (moved_by, squares(new)))
            relative = jnp.maximum(relative, far / jnp.maximum(size, tiny))
        residual = jnp.sqrt(total)
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
            pace=at.pace if overshoot is None else at.pace.adapted(at.residual, residual),
        )

    # Sweep 0 proposes what there is, so that it is traced and compiled as all others are.
    none, zero = jnp.zeros(len(layers[-1]), layers[-1].dtype), jnp.zeros((), layers[-1].dtype)
    begin = Loop(
        tuple(layers), tuple(layers[m] for m in first), none, zero + jnp.inf, zero, -1, zero + jnp.inf, 0, zero,
        Pace.plain(none),
    )  # fmt: skip
    return jax.lax.while_loop(unsettled, sweep, begin)  # type: ignore[no-any-return]


def replaced_layers(layers: tuple[Any, ...], moved: Mapping[int, Any]) -> tuple[Any, ...]:
    """The layers with some of them moved."""
    return tuple(moved.get(k, layer) for k, layer in enumerate(layers))


def squares(values: Any) -> Any:
    """Squared norms of every sample."""
    return sums(values**2)
