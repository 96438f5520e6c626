r"""Implicit polish of a sampled state: inverse iteration in the tangent space of the ansatz.

The positive function psi is the exact ground state of H - W, W = E_loc - E, so first-order perturbation theory names the
ground state of H: psi (1 - u) with L u = W, L the generator of `zero_variance`. With u = J x in the tangent space and x
from least squares of W on B = L J, one step is

.. math:: \theta \to \theta - \eta\, x , \qquad x = \arg\min \overline{(W - B x)^2} + \lambda |x|^2 .

It removes all slow modes at once where stochastic reconfiguration, an imaginary-time evolution, takes 1/gap of time.

How much of a fit is signal, the samples say themselves. Each half of them is fitted and tried on the other half: the share
a = Cov(W, B x)/Var(B x) of the fit that they confirm sets eta, and the part of Var(W) that it explains there, the *gain*, is
what a step can still bring. Where it is small the ansatz, not the relaxation, is the limit, and the polish ends: no step has
to be taken in vain to find that out. Near the end the least squares of several steps, which are measurements of the same
optimum, are added up: the noise of a few thousand samples then does not stop the descent.

A step may change log psi by a standard deviation of 0.3 at most; one after which the variance has grown is taken back and
tried with a larger lambda.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

from ..core.precision import jax_float64
from .vmc_controls import chunk_size
from .vmc_devices import on_every_process
from .vmc_energy import Hamiltonian
from .zero_variance import Ansatz, Features, features

RIDGE, LEAST_RIDGE, LARGEST_RIDGE = 1e-4, 1e-5, 1.0
"""lambda relative to the mean curvature. From afar 1e-4 is best: 1e-3 takes four times the steps for a decade of the V-score,
and 1e-6 follows the noise of the samples and diverges. The samples of K steps bear K^1.5 times less, which finds what is left
in the soft directions."""
MEMORY, NEAR = 0.8, 0.1
"""What a fit counts one step later, once the gain is below `NEAR`: earlier the old fits would only hold back the descent."""
LEAST_SHARE = 0.01
LEAST_GAIN = 0.03
"""Below it nothing is left to gain but a few per cent of the variance."""
LINEAR, LARGEST_CHANGE = 0.01, 0.3
"""Standard deviations of log psi over the samples: beyond the first, steps are halved, for what they change to second order
was seen to double the variance; no step may make more than the second."""
GROWTH = 2.0
"""V-scores that grew by more than their own noise: the step is taken back."""
FALL, PATIENCE = 0.9, 8
"""Stagnation in spite of promised gains: the best V-score has not fallen to `FALL` of itself in so many steps."""


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


class _Normal(NamedTuple):
    """Least squares of W on B over some samples: centred B (N, P), W (N,), and their averages B^T B and B^T W."""

    design: np.ndarray
    values: np.ndarray
    gram: np.ndarray
    slope: np.ndarray


def implicit_polish(
    vstate: Any,
    h: Hamiltonian,
    *,
    target: float,
    max_steps: int,
    frozen: Any = None,
    report: Callable[[float, float, float], None] = lambda energy, error, v_score: None,
) -> Polish:
    """Lower the energy variance of a NetKet `MCState` in place, to a V-score or until nothing is left to gain.

    Args:
        vstate: the state; near a ground state (V-scores of 1e-2 will do).
        h: the Hamiltonian, in the gauge of the state.
        target: V-score.
        max_steps: bound on the steps, those taken back included.
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
        share, gain = known.confirmed(caution)
        exhausted = (gain < LEAST_GAIN and known.points > 1) or since >= PATIENCE
        settled = point.v_score <= target or (exhausted and caution == 1)
        if settled or step == max_steps or caution * RIDGE > LARGEST_RIDGE:
            break
        accepted = point
        theta = point.theta - known.step(point, share, caution)
        known.memory = MEMORY if gain < NEAR else 0.0
        vstate.parameters = unravel(theta)
    vstate.parameters = unravel(point.theta)
    return Polish(step, point.v_score, settled)


def _measure(vstate: Any, h: Hamiltonian, theta: Any, report: Callable[[float, float, float], None]) -> _Point:
    sigma = np.asarray(on_every_process(vstate.samples), dtype=float).reshape(-1, vstate.hilbert.size)
    none = np.zeros((0, h.table.n_strings))
    chunk = chunk_size(h.table, vstate.variables)
    feats = features(Ansatz(vstate._apply_fun, vstate.variables, h.table, h.coefficients, none, chunk), sigma)
    energies = np.asarray(feats.values[:, -1])
    mean, variance = float(energies.mean()), float(energies.var())
    score = h.v_score(mean, variance)
    report(mean, float(np.sqrt(variance / len(energies))), score)
    return _Point(theta, feats, score)


class _Knowledge:
    """sum_k w_k |W_k - B_k (theta_k - theta)|^2 of the points k seen so far, as a function of theta.

    Attributes:
        points: sum_k w_k, with w = 1 of the last point.
        memory: by how much the weights of the points so far shrink when the next is added.
    """

    def __init__(self, moving: np.ndarray):
        self.moving = moving
        self.matrix, self.vector = np.zeros((len(moving),) * 2), np.zeros(len(moving))
        self.points, self.memory = 0.0, 0.0
        self.halves: list[_Normal] = []

    def add(self, point: _Point) -> None:
        """Take note of the samples of a new point."""
        design, values = (np.asarray(part) for part in (point.feats.generated, point.feats.values[:, -1]))
        middle = len(design) // 2
        self.halves = [
            _normal(design[half][:, self.moving], values[half]) for half in (slice(middle), slice(middle, None))
        ]
        gram, slope = (sum(parts) / 2 for parts in zip(*((half.gram, half.slope) for half in self.halves), strict=True))
        self.matrix = self.memory * self.matrix + gram
        self.vector = self.memory * self.vector + gram @ np.asarray(point.theta)[self.moving] - slope
        self.points = self.memory * self.points + 1

    def confirmed(self, caution: float) -> tuple[float, float]:
        """The share of the fit to half of the last samples that the others confirm, and how much of Var(W) it explains."""
        product = fitted = total = 0.0
        for here, other in zip(self.halves, self.halves[::-1], strict=True):
            found = here.design @ _solve(other.gram, other.slope, self._ridge(caution))
            product += found @ here.values / len(found)
            fitted += found @ found / len(found)
            total += here.values @ here.values / len(found)
        share = product / max(fitted, 1e-300)
        return float(np.clip(share, LEAST_SHARE, 1.0)), float(max(share, 0.0) * product / max(total, 1e-300))

    def step(self, point: _Point, share: float, caution: float) -> np.ndarray:
        """eta x from the point, within the trust region; `share` of a fit to half of the samples of one point is signal."""
        force = self.matrix @ np.asarray(point.theta)[self.moving] - self.vector
        x = np.zeros(len(point.theta))
        x[self.moving] = _solve(self.matrix, force, self._ridge(caution))
        eta = 1 / (1 + (1 / share - 1) / (2 * self.points))
        change = eta * float(np.std(np.asarray(point.feats.gradients) @ x))
        return x * eta * min(1.0 if change < LINEAR else 0.5, LARGEST_CHANGE / max(change, 1e-300))

    def _ridge(self, caution: float) -> float:
        return caution * max(RIDGE / self.points**1.5, LEAST_RIDGE)


def _normal(design: np.ndarray, values: np.ndarray) -> _Normal:
    design, values = design - design.mean(axis=0), values - values.mean()
    return _Normal(design, values, design.T @ design / len(design), design.T @ values / len(design))


def _solve(gram: np.ndarray, slope: np.ndarray, ridge: float) -> np.ndarray:
    shift = ridge * np.trace(gram) / len(gram)
    return np.asarray(scipy.linalg.solve(gram + shift * np.eye(len(gram)), slope, assume_a="pos"))


def _indicator(frozen: Any, parameters: Any) -> Any:
    """1 for parameters that move and 0 for those that are frozen, as a tree like the parameters."""
    jax = jax_float64()
    return jax.tree.map(lambda still, leaf: jax.numpy.full(leaf.shape, 0.0 if still else 1.0), frozen, parameters)
