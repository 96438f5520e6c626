"""How far is a difference quotient from the derivative? Two answers, the larger of which is reported.

1. The embedded formula, of order q <= p. Where both have the same order, the leading error terms are known multiples of
   one another, the error follows from the difference d = |G - G'| component by component, and nothing is left to guess.
   Where q < p, d is the error of the *embedded* formula. The series in beta is geometric in t = beta/R: the two errors
   are m t^p and m' t^q with the first moments that do not vanish, m and m'. So ||d|| / ||G|| = m' t^q gives t, and with it
   the error of every component twice: from its own d, as (m / m') t^(p - q) d, and from its own derivative, as m t^p |G|.
   Of a single component either may vanish by accident (a force whose second derivative passes through zero looks exact
   to a centered formula and is not); it is rare that both do, so the error is the root of the sum of their squares.
2. The thermodynamic identity. The energies and their slopes, e(b) and <C>_b = de/db, are known at every phase. A Hermite
   interpolation through both gives e''(0), to about twice the order that the stencil reaches on <C>_b alone; the
   difference is the stencil's relative error on the cost's own response. It costs nothing, and it sees what (1) cannot: a
   force odd in beta, for which one-sided and centered formulas agree and are equally wrong. Other responses may be
   straighter than the cost's: its error is scaled by the ratio of their relative differences d where that is below 1.

Both are estimates and no bounds. Over the systems of the tests the reported error of a component, where it can be seen, is
0.97 to 1.05 times the true one for formulas with q = p (`one_sided`; nine in ten), and 0.6 to 60 times for `centered` (median
1.7), too small by more than a factor of 3 for one component in a hundred. It is widest where the second-order term is large and
the third is not, as in the echoes of motions: three forces cannot tell.
"""

from collections.abc import Mapping

import numpy as np

from .estimate import Estimate, batch_mean, is_zero
from .joint import Forces
from .scheme import Stencil
from .solver import Equilibrium

PIECE = 8192
"""Numbers that are worked on at once: they stay in the cache."""
HUGE = 1e30
"""Differences beyond this many times a vanishing gradient say no more, and their powers overflow."""


def truncation_error(
    stencil: Stencil,
    grad: Mapping[str, np.ndarray],
    forces: Forces,
    phases: Mapping[complex, Equilibrium],
    costs: Mapping[complex, Estimate],
) -> dict[str, np.ndarray]:
    """Estimated |error| of `grad` by the finite nudge, a dict like the parameters; NaN where there is no embedded row.

    Args:
        stencil: the formula.
        grad: its result; of a batched system the mean over the batch.
        forces: those of every phase.
        phases: the equilibria, for their energies.
        costs: <C>_b of every phase.
    """
    if stencil.embedded is None:
        return {name: np.full_like(value, np.nan) for name, value in grad.items()}
    step = forces.summed(stencil, tuple(w - v for w, v in zip(stencil.weights, stencil.embedded, strict=True)))
    step = batch_mean(step) if np.ndim(next(iter(phases.values())).energy.mean) else step
    # what two standard errors explain is no truncation: the standard error of the gradient covers it
    difference = {name: _beyond_noise(change, step.stderr[name]) for name, change in step.mean.items()}
    relative = _norm(difference) / max(_norm(grad), 1e-300)
    shrink = shrinkage(stencil, relative)
    if stencil.order == stencil.embedded_order:
        return {name: np.abs(value) * shrink for name, value in difference.items()}
    straight = geometric_error(stencil, relative)
    thermodynamic = _thermodynamic_error(stencil, phases, costs)
    thermodynamic *= _straighter(relative, _relative_difference(stencil, costs), thermodynamic)
    return {name: _joined(difference[name], grad[name], shrink, straight, thermodynamic) for name in grad}


def _beyond_noise(change: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The change (of either sign) less what two standard errors explain."""
    return change if is_zero(noise) else np.sqrt(np.maximum(change**2 - (2 * noise) ** 2, 0.0))


def _joined(
    difference: np.ndarray, grad: np.ndarray, shrink: float, straight: float, thermodynamic: float
) -> np.ndarray:
    """max(sqrt((shrink d)^2 + (straight grad)^2), thermodynamic |grad|).

    By squares, and piece by piece: of large arrays fresh memory is what costs time.
    """
    own, slope, result = np.ravel(difference), np.ravel(grad), np.empty(np.size(grad))
    for start in range(0, result.size, PIECE):
        part = slice(start, start + PIECE)
        squares, joined = np.square(slope[part]), np.square(own[part])
        joined *= shrink**2
        joined += straight**2 * squares
        squares *= thermodynamic**2
        np.sqrt(np.maximum(joined, squares, out=joined), out=result[part])
    return result.reshape(np.shape(grad))


def _norm(tree: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.vdot(value, value) for value in tree.values())))


def shrinkage(stencil: Stencil, relative: float) -> float:
    """Factor between |G - G'| and the error of G, at most 1 where the embedded formula is of lower order.

    Args:
        stencil: with an embedded formula.
        relative: ||G - G'|| / ||G||.
    """
    p, q = stencil.order, stencil.embedded_order or stencil.order
    ours, theirs = stencil.moment(p + 1), stencil.moment(q + 1, stencil.embedded)
    if p == q:
        return abs(ours / (ours - theirs))
    return min(1.0, abs(ours / theirs) * (relative / abs(theirs)) ** ((p - q) / q))


def geometric_error(stencil: Stencil, relative: float) -> float:
    """Relative error of G where the series in beta is geometric: m t^p, with t from ||G - G'|| / ||G|| = m' t^q."""
    p, q = stencil.order, stencil.embedded_order or stencil.order
    ours, theirs = stencil.moment(p + 1), stencil.moment(q + 1, stencil.embedded)
    step = min(relative / abs(theirs), HUGE)
    return min(1.0, abs(ours) * step ** (p / q))


def _straighter(relative: float, of_cost: float, thermodynamic: float) -> float:
    """How much less the forces bend than the cost, by their relative differences; between 1/10 and 1.

    Where the cost's third-order term exceeds its second-order one, a symmetry took the latter away, and it says nothing.
    """
    return 1.0 if of_cost <= thermodynamic else min(1.0, max(0.1, relative / of_cost))


def _relative_difference(stencil: Stencil, costs: Mapping[complex, Estimate]) -> float:
    """|G - G'| / |G| of the cost's own response, summed over a batch."""
    means = [np.asarray(costs[b].mean) for b in stencil.strengths]
    ours, theirs = (
        sum(w * mean for w, mean in zip(weights or stencil.weights, means, strict=True)).real
        for weights in (stencil.weights, stencil.embedded)
    )
    return float(np.sum(np.abs(ours - theirs)) / max(np.sum(np.abs(ours)), 1e-300))


def _thermodynamic_error(
    stencil: Stencil, phases: Mapping[complex, Equilibrium], costs: Mapping[complex, Estimate]
) -> float:
    """Relative error of the stencil on d<C>/dbeta = e''(0), beyond what rounding and statistics explain."""
    if stencil.is_complex:
        return 0.0  # its embedded formula has the parity of the formula itself: (1) misses nothing
    scale = stencil.max_strength
    strengths = sorted(phases, key=lambda b: complex(b).real)
    nodes = np.array([complex(b).real for b in strengths]) / scale
    energies = np.array([phases[b].energy.mean for b in strengths]).reshape(len(nodes), -1)
    slopes = np.array([costs[b].mean for b in strengths]).reshape(len(nodes), -1)
    powers = np.arange(2 * len(nodes))
    values = nodes[:, None] ** powers
    derivatives = np.where(powers > 0, powers * nodes[:, None] ** np.maximum(powers - 1, 0), 0.0)
    inverse = np.linalg.inv(np.vstack([values, derivatives]))
    reference = 2 * (inverse @ np.vstack([energies, scale * slopes]))[2] / scale**2
    weights = np.array(
        [complex(dict(zip(stencil.strengths, stencil.weights, strict=True)).get(b, 0)).real for b in strengths]
    )
    ours = weights @ slopes
    errors = np.concatenate(
        [_uncertainty(phases[b].energy) for b in strengths] + [scale * _uncertainty(costs[b]) for b in strengths]
    ).reshape(2 * len(nodes), -1)
    noise = 2 * np.abs(inverse[2]) @ errors / scale**2
    excess = np.maximum(np.abs(ours - reference) - 2 * noise, 0.0)
    return float(min(1.0, np.sum(excess) / max(np.sum(np.abs(reference)), 1e-300)))


def _uncertainty(value: Estimate) -> np.ndarray:
    rounding = 8 * np.finfo(float).eps * np.abs(value.mean)
    return np.atleast_1d(np.asarray(value.stderr) + rounding)
