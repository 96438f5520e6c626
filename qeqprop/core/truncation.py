"""How far is a difference quotient from the derivative? Two answers, the larger of which is reported.

1. The embedded formula, of order q <= p. Where both have the same order, the leading error terms are known multiples of
   one another and the error follows from the difference d = |G - G'|. Where q < p, d is the error of the *embedded*
   formula. The series in beta is geometric in t = beta/R: the two errors are m t^p and m' t^q with the first moments
   that do not vanish, m and m'. So ||d|| / ||G|| = m' t^q gives t, and with it the error of G.
2. The thermodynamic identity. The energies and their slopes, e(b) and <C>_b = de/db, are known at every phase. A Hermite
   interpolation through both gives e''(0), to about twice the order that the stencil reaches on <C>_b alone; the
   difference is the stencil's relative error on the cost's own response. It costs nothing, and it sees what (1) cannot: a
   force odd in beta, for which one-sided and centered formulas agree and are equally wrong.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from .estimate import Estimate, batch_mean, combine
from .scheme import Stencil
from .solver import Equilibrium


def truncation_error(
    stencil: Stencil,
    grad: Mapping[str, np.ndarray],
    forces: Mapping[complex, Estimate],
    phases: Mapping[complex, Equilibrium],
    costs: Mapping[complex, Estimate],
) -> dict[str, np.ndarray]:
    """Estimated |error| of `grad` by the finite nudge, a dict like the parameters; NaN where there is no embedded row.

    Args:
        stencil: the formula.
        grad: its result; of a batched system the mean over the batch.
        forces: F(b) of every phase.
        phases: the equilibria, for their energies.
        costs: <C>_b of every phase.
    """
    if stencil.embedded is None:
        return {name: np.full_like(value, np.nan) for name, value in grad.items()}
    step = combine_phases(stencil, tuple(w - v for w, v in zip(stencil.weights, stencil.embedded, strict=True)), forces)
    step = batch_mean(step) if np.ndim(next(iter(phases.values())).energy.mean) else step
    change, noise = step.mean, step.stderr
    # what two standard errors explain is no truncation: the standard error of the gradient covers it
    difference = {name: np.sqrt(np.maximum(change[name] ** 2 - (2 * noise[name]) ** 2, 0.0)) for name in change}
    shrink = shrinkage(stencil, _norm(difference), _norm(grad))
    thermodynamic = _thermodynamic_error(stencil, phases, costs)
    return {name: np.maximum(difference[name] * shrink, np.abs(grad[name]) * thermodynamic) for name in grad}


def combine_phases(stencil: Stencil, weights: Sequence[complex], forces: Mapping[complex, Estimate]) -> Estimate:
    """Re sum_j w_j F(b_j) over the strengths of the stencil; phases without weight are left out, with their noise."""
    used = [(w, forces[b]) for b, w in zip(stencil.strengths, weights, strict=True) if w != 0]
    return combine(*zip(*used, strict=True))


def _norm(tree: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(value**2) for value in tree.values())))


def shrinkage(stencil: Stencil, difference: float, size: float) -> float:
    """Factor between |G - G'| and the error of G, at most 1 where the embedded formula is of lower order."""
    p, q = stencil.order, stencil.embedded_order or stencil.order
    ours, theirs = stencil.moment(p + 1), stencil.moment(q + 1, stencil.embedded)
    if p == q:
        return abs(ours / (ours - theirs))
    relative = difference / (abs(theirs) * size) if size > 0 else 1.0
    return min(1.0, abs(ours / theirs) * relative ** ((p - q) / q))


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
