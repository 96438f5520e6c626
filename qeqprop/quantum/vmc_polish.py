r"""Implicit polish of a sampled state: inverse iteration in the tangent space of the ansatz.

The positive function psi is the exact ground state of H - W, W = E_loc - E, so first-order perturbation theory names the
ground state of H: psi (1 - u) with L u = W, L the generator of `zero_variance`. With u = J x in the tangent space and x
from least squares of W on B = L J, one step is

.. math:: \theta \to \theta - \eta\, x , \qquad x = \arg\min \overline{(W - B x)^2} + \lambda |x|^2 .

It removes all slow modes at once where stochastic reconfiguration, an imaginary-time evolution, takes 1/gap of time. Near
the end the least squares of several steps, which are measurements of the same optimum, are added up: the noise of a few
thousand samples then does not stop the descent. A step may change log psi by a standard deviation of 0.3 at most; one
after which the variance has grown is taken back and tried with a larger lambda.
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
and 1e-6 follows the noise of the samples and diverges."""
MEMORY = 0.8
"""What a fit counts one step later, once the steps at the first lambda gain nothing more: the samples of about five steps
bear the smaller lambda that finds what is left in the soft directions, another factor of two in the V-score. Earlier the
old fits would only hold back the descent."""
SHARE = 0.5
"""eta: a fit to as many samples as it has parameters is half noise, and half steps average over it."""
LARGEST_CHANGE = 0.3
"""Standard deviation of log psi over the samples that one step may make."""
GROWTH = 2.0
"""V-scores that grew by more than their own noise: the step is taken back."""
GAIN, PATIENCE, WARM_PATIENCE = 0.9, 5, 2
"""Stagnation: the best V-score has not fallen to `GAIN` of itself in so many steps."""


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
    ridge, patience = RIDGE, WARM_PATIENCE if warm else PATIENCE
    best, since, floor = np.inf, 0, RIDGE
    known = _Knowledge(np.flatnonzero(moving))
    accepted = None
    for step in range(max_steps + 1):
        point = _measure(vstate, h, theta, report)
        if accepted is None and not np.isfinite(point.v_score):
            return Polish(step, point.v_score, False)
        if accepted is not None and not point.v_score <= GROWTH * accepted.v_score:
            ridge *= 10
            point = accepted
        else:
            ridge = max(ridge / 2, floor)
            known.add(point, MEMORY if floor < RIDGE else 0.0)
        since = 0 if point.v_score < GAIN * best else since + 1
        best = min(best, point.v_score)
        stagnant = since >= patience and ridge == floor
        settled = point.v_score <= target or (stagnant and floor <= LEAST_RIDGE)
        if settled or step == max_steps or ridge > LARGEST_RIDGE:
            break
        if stagnant:
            since, floor = 0, max(floor / 10, LEAST_RIDGE)
            ridge = floor
        accepted = point
        theta = point.theta - known.step(point, ridge)
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
    """sum_k w_k |W_k - B_k (theta_k - theta)|^2 of the points k seen so far, as a function of theta."""

    def __init__(self, moving: np.ndarray):
        self.moving = moving
        self.matrix, self.vector = np.zeros((len(moving),) * 2), np.zeros(len(moving))

    def add(self, point: _Point, memory: float) -> None:
        """Remember a point; `memory` is the share that is kept of the earlier ones."""
        design, values = (np.asarray(part) for part in (point.feats.generated, point.feats.values[:, -1]))
        design = design[:, self.moving] - design[:, self.moving].mean(axis=0)
        gram, slope = (design.T @ part / len(design) for part in (design, values - values.mean()))
        self.matrix = memory * self.matrix + gram
        self.vector = memory * self.vector + gram @ np.asarray(point.theta)[self.moving] - slope

    def step(self, point: _Point, ridge: float) -> np.ndarray:
        """eta x from the point, within the trust region."""
        shifted = self.matrix + ridge * np.trace(self.matrix) / len(self.matrix) * np.eye(len(self.matrix))
        force = self.matrix @ np.asarray(point.theta)[self.moving] - self.vector
        x = np.zeros(len(point.theta))
        x[self.moving] = scipy.linalg.solve(shifted, force, assume_a="pos")
        change = float(np.std(np.asarray(point.feats.gradients) @ x))
        return x * min(SHARE, LARGEST_CHANGE / max(change, 1e-300))


def _indicator(frozen: Any, parameters: Any) -> Any:
    """1 for parameters that move and 0 for those that are frozen, as a tree like the parameters."""
    jax = jax_float64()
    return jax.tree.map(lambda still, leaf: jax.numpy.full(leaf.shape, 0.0 if still else 1.0), frozen, parameters)
