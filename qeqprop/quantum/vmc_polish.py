r"""Implicit polish of a sampled state: inverse iteration in the tangent space of the ansatz.

The positive function psi is the exact ground state of H - W, W = E_loc - E, so first-order perturbation theory names the
ground state of H: psi (1 - u) with L u = W, L the generator of `zero_variance`. With u = J x in the tangent space and x
from least squares of W on B = L J, one step is

.. math:: \theta \to \theta - \eta\, x , \qquad x = \arg\min \overline{(W - B x)^2} + \lambda |x|^2 .

It removes all slow modes at once where stochastic reconfiguration, an imaginary-time evolution, takes 1/gap of time.

How much of a fit is signal, the samples say themselves. Each half of them is fitted and tried on the other half: the share
a = Cov(W, B x)/Var(B x) of the fit that they confirm sets eta, and the part of Var(W) that it explains there, the *gain*, is
what a step can still bring. Where it is small in a warm start, the polish ends: no steps have to be taken in vain to find out
that the ansatz is the limit. (From scratch it ends when the variance falls no more: slow gains in curved directions are more
than a linear fit can see.) Near the end the least squares of several steps, which are measurements of the same optimum, are
added up: the noise of a few thousand samples then does not stop the descent.

A step may change log psi by a standard deviation of 0.3 at most; one after which the variance has grown is taken back and
tried with a larger lambda.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

from ..core.precision import jax_float64
from .vmc_controls import without_observables
from .vmc_devices import on_every_process
from .vmc_energy import Hamiltonian
from .zero_variance import Features, features

RIDGE, LEAST_RIDGE, LARGEST_RIDGE = 1e-4, 1e-5, 1.0
"""lambda relative to the mean curvature. From afar 1e-4 is best: 1e-3 takes four times the steps for a decade of the V-score,
and 1e-6 follows the noise of the samples and diverges. The samples of K steps bear K^1.5 times less, which finds what is left
in the soft directions."""
MEMORY, NEAR = 0.8, 0.1
"""What a fit counts one step later, once the descent stalls (in a warm start: once the gain is below `NEAR`); earlier the old
fits would only hold it back."""
SHARE = 0.5
"""Least eta: half steps average over the noise of the fits, and wander on where the samples can confirm no fit."""
LEAST_GAIN, ENOUGH = 0.1, 1.7
"""Below it nothing is left to gain but a tenth of the variance; a fit to so many points (two that were remembered) sees
gains that the noise of one hides."""
LINEAR, LARGEST_CHANGE = 0.01, 0.3
"""Standard deviations of log psi over the samples: beyond the first, steps are halved, for what they change to second order
was seen to double the variance; no step may make more than the second."""
GROWTH = 2.0
"""V-scores that grew by more than their own noise: the step is taken back."""
FALL, PATIENCE = 0.9, 5
"""Stagnation: the best V-score has not fallen to `FALL` of itself in so many steps."""


class Polish(NamedTuple):
    """Steps taken, the last V-score, and whether the steps ended because nothing was left to gain or at the target."""

    steps: int
    v_score: float
    settled: bool


class _Point(NamedTuple):
    """Flat parameters, the features of their samples and the V-score."""

    theta: Any
    feats: Features
    v_score: float


def implicit_polish(
    vstate: Any,
    h: Hamiltonian,
    *,
    target: float,
    max_steps: int,
    warm: bool = False,
    frozen: Any = None,
    report: Callable[[float, float, float], None] = lambda energy, error, v_score: None,
) -> Polish:
    """Lower the energy variance of a NetKet `MCState` in place, to a V-score or until nothing is left to gain.

    Args:
        vstate: the state; near a ground state (V-scores of 1e-2 will do).
        h: the Hamiltonian, in the gauge of the state.
        target: V-score.
        max_steps: bound on the steps, those taken back included.
        warm: the state was polished before, at other parameters: stagnation is noticed sooner.
        frozen: tree like the parameters, True for those that stay at 0; None: none.
        report: called with energy, its standard error and V-score of every point.
    """
    from jax.flatten_util import ravel_pytree

    jnp = jax_float64().numpy
    theta, unravel = ravel_pytree(vstate.parameters)
    moving = jnp.ones_like(theta)
    if frozen is not None:
        moving = ravel_pytree(_indicator(frozen, vstate.parameters))[0]
    known = _Knowledge(np.flatnonzero(moving))
    accepted, caution = None, 1.0
    best, since = np.inf, 0
    for step in range(max_steps + 1):
        point = _measure(vstate, h, theta, report)
        if accepted is None and not np.isfinite(point.v_score):
            return Polish(step, point.v_score, False)
        if accepted is not None and not point.v_score <= GROWTH * accepted.v_score:
            caution *= 10
            point = accepted
        else:
            caution = max(caution / 2, 1.0)
            known.add(point)
        since = 0 if point.v_score < FALL * best else since + 1
        best = min(best, point.v_score)
        share, gain = known.confirmed(point, caution)
        exhausted = warm and gain < LEAST_GAIN and known.points > ENOUGH
        stagnant = since >= PATIENCE and known.memory > 0
        settled = point.v_score <= target or ((exhausted or stagnant) and caution == 1)
        if settled or step == max_steps or caution * RIDGE > LARGEST_RIDGE:
            break
        accepted = point
        theta = point.theta - known.step(point, share, caution)
        if (warm and gain < NEAR) or since >= PATIENCE:
            since = since if known.memory else 0
            known.memory = MEMORY
        vstate.parameters = unravel(theta)
    vstate.parameters = unravel(point.theta)
    return Polish(step, point.v_score, settled)


def _measure(vstate: Any, h: Hamiltonian, theta: Any, report: Callable[[float, float, float], None]) -> _Point:
    sigma = np.asarray(on_every_process(vstate.samples), dtype=float).reshape(-1, vstate.hilbert.size)
    feats = features(without_observables(vstate._apply_fun, vstate.variables, h.table, h.coefficients), sigma)
    energies = np.asarray(feats.values[:, -1])
    mean, variance = float(energies.mean()), float(energies.var())
    score = h.v_score(mean, variance)
    report(mean, float(np.sqrt(variance / len(energies))), score)
    return _Point(theta, feats, score)


class _Quadratic:
    """sum_k w_k |W_k - B_k (theta_k - theta)|^2 of the samples seen so far, as a function of theta."""

    def __init__(self, size: int):
        self.matrix, self.vector = np.zeros((size, size)), np.zeros(size)

    def add(self, theta: np.ndarray, design: np.ndarray, values: np.ndarray, memory: float) -> None:
        """Add centred samples at theta; what was known counts `memory` of what it did."""
        gram, slope = (design.T @ part / len(design) for part in (design, values))
        self.matrix = memory * self.matrix + gram
        self.vector = memory * self.vector + gram @ theta - slope

    def __add__(self, other: "_Quadratic") -> "_Quadratic":
        both = _Quadratic(len(self.vector))
        both.matrix, both.vector = self.matrix + other.matrix, self.vector + other.vector
        return both

    def to_minimum(self, theta: np.ndarray, ridge: float) -> np.ndarray:
        """x: theta minus the minimum, regularised towards theta."""
        shift = ridge * np.trace(self.matrix) / len(self.matrix)
        force = self.matrix @ theta - self.vector
        return np.asarray(scipy.linalg.solve(self.matrix + shift * np.eye(len(force)), force, assume_a="pos"))


class _Knowledge:
    """The least squares of both halves of the samples of all points.

    Attributes:
        points: sum_k w_k, with w = 1 of the last point.
        memory: by how much the weights of the points so far shrink when the next is added.
    """

    def __init__(self, moving: np.ndarray):
        self.moving = moving
        self.halves = [_Quadratic(len(moving)), _Quadratic(len(moving))]
        self.points, self.memory = 0.0, 0.0
        self.last: list[tuple[np.ndarray, np.ndarray]] = []  # B and W of the last point, half by half

    def add(self, point: _Point) -> None:
        """Take note of the samples of a new point."""
        design, values = (np.asarray(part) for part in (point.feats.generated, point.feats.values[:, -1]))
        middle = len(design) // 2
        parts = [(design[half][:, self.moving], values[half]) for half in (slice(middle), slice(middle, None))]
        self.last = [(b - b.mean(axis=0), w - w.mean()) for b, w in parts]
        for quadratic, (b, w) in zip(self.halves, self.last, strict=True):
            quadratic.add(self._theta(point), b, w, self.memory)
        self.points = self.memory * self.points + 1

    def confirmed(self, point: _Point, caution: float) -> tuple[float, float]:
        """The share of a fit to one half that the last samples of the other confirm, and how much of Var(W) it explains."""
        product = fitted = total = 0.0
        for (design, values), other in zip(self.last, self.halves[::-1], strict=True):
            found = design @ other.to_minimum(self._theta(point), self._ridge(caution))
            product += found @ values / len(found)
            fitted += found @ found / len(found)
            total += values @ values / len(found)
        share = product / max(fitted, 1e-300)
        return float(np.clip(share, 1e-3, 1.0)), float(max(share, 0.0) * product / max(total, 1e-300))

    def step(self, point: _Point, share: float, caution: float) -> np.ndarray:
        """eta x from the point, within the trust region; `share` of a fit to half of the samples is signal."""
        x = np.zeros(len(point.theta))
        x[self.moving] = (self.halves[0] + self.halves[1]).to_minimum(self._theta(point), self._ridge(caution))
        eta = max(1 / (1 + (1 / share - 1) / 2), SHARE)
        change = eta * float(np.std(np.asarray(point.feats.gradients) @ x))
        return x * eta * min(1.0 if change < LINEAR else 0.5, LARGEST_CHANGE / max(change, 1e-300))

    def _theta(self, point: _Point) -> np.ndarray:
        return np.asarray(point.theta)[self.moving]

    def _ridge(self, caution: float) -> float:
        return caution * max(RIDGE / self.points**1.5, LEAST_RIDGE)


def _indicator(frozen: Any, parameters: Any) -> Any:
    """1 for parameters that move and 0 for those that are frozen, as a tree like the parameters."""
    jax = jax_float64()
    return jax.tree.map(lambda still, leaf: jax.numpy.full(leaf.shape, 0.0 if still else 1.0), frozen, parameters)
