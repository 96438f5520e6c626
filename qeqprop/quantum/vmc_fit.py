r"""Nudged states on the samples of the free one: the literal equilibrium propagation with common random numbers.

The free state theta_0 is known through samples s of |psi_0|^2. With w = |psi_theta/psi_0|^2 and the test functions
B = dE_loc/dtheta at theta_0, the nudged state solves on the same samples

.. math:: G(\theta, \beta) = \sum_s w_s\, (B_s - \bar B)\, (E_{loc} + \beta C_{loc} - \ldots)_s(\theta) = G(\theta_0, 0) ,

by Newton steps with the matrix of theta_0. The right-hand side is the force that noise and ansatz have left in the free
state: balanced, it leaves no drift that 1/beta would amplify. Where the ansatz holds the nudged state exactly, E_loc is a
constant there and the fit has no noise of its own. Every fit is repeated without one block of samples after the other,
so that the jackknife over these replicas sees fits and averages alike.
"""

from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from ..core.precision import jax_float64
from ..core.system import replaced
from .vmc_energy import Hamiltonian
from .vmc_state import VariationalState, blocks, chunk_size, log_amplitudes

RIDGE = 1e-2
"""Added to the normal matrix, relative to its mean diagonal: directions that move psi little are taken slowly."""
STEPS, REPLICA_STEPS = 40, 4
CONVERGED = 1e-4
LARGEST_STEP = 0.3
"""Standard deviation of log psi over the samples that one step may change."""


def nudged_state(
    free: VariationalState, start: Any, h: Hamiltonian, unnudged: np.ndarray
) -> tuple[VariationalState, float]:
    """The nudged state on the samples of `free`.

    Args:
        free: the free state; its samples are drawn from itself.
        start: a copy of its NetKet state, to hold the new variables.
        h: the nudged Hamiltonian.
        unnudged: coefficients of the same strings without the nudge.

    Returns:
        The state, and the share of its distance from the free one (rms of log psi) that the last step made.
    """
    jax = jax_float64()
    from jax.flatten_util import ravel_pytree

    sigma, block = free.samples.reshape(-1, free.n_sites), blocks(*free.samples.shape[:2])
    theta_0, unravel = ravel_pytree(free.variables["params"])
    reference = log_amplitudes(free.log_psi, free.variables, sigma)
    free_h = Hamiltonian(h.table, unnudged, h.constant)
    chunk = max(1, chunk_size(h.table) // 8)
    free_energies, tests = map(np.asarray, free_h.local_jacobian(free.log_psi, free.variables, sigma, chunk))

    def variables(theta: np.ndarray) -> Any:
        return {**free.variables, "params": unravel(jax.numpy.asarray(theta))}

    second, first = tests.T @ tests, tests.sum(axis=0)

    def fit(theta: np.ndarray, kept: np.ndarray, steps: int) -> tuple[np.ndarray, float]:
        """Variables that balance the samples `kept`, and the share of the whole change that the last step made."""
        out, count = tests[~kept], kept.sum()  # the moments of all samples less those of the few left out
        mean = (first - out.sum(axis=0)) / count
        matrix = (second - out.T @ out) / count - np.outer(mean, mean)
        matrix[np.diag_indices_from(matrix)] += RIDGE * np.trace(matrix) / len(matrix)
        factor = cho_factor(matrix)

        def covariance(values: np.ndarray) -> np.ndarray:
            """sum_s (B_s - mean) v_s."""
            return tests.T @ values - mean * values.sum()

        balance = covariance(np.where(kept, free_energies, 0.0) / count)
        start, weights = reweighted(theta, kept)
        logs, left = start, 0.0
        for _ in range(steps):
            energies = np.asarray(h.local_energies(free.log_psi, variables(theta), sigma))
            force = covariance(weights * (energies - weights @ energies)) - balance
            if not np.all(np.isfinite(force)):
                return theta, np.nan
            step = cho_solve(factor, force)
            before, (logs, weights) = logs, reweighted(theta - step, kept)
            while np.std((logs - before)[kept]) > LARGEST_STEP:
                step = step / 2
                logs, weights = reweighted(theta - step, kept)
            theta = theta - step
            whole = np.std((logs - start)[kept])
            left = float(np.std((logs - before)[kept]) / whole) if whole else 0.0
            if left < CONVERGED:
                break
        return theta, left

    def reweighted(theta: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log psi/psi_0 at the samples, and the weights of those kept."""
        logs = log_amplitudes(free.log_psi, variables(theta), sigma) - reference
        weights = np.where(kept, np.exp(2 * (logs - logs.max())), 0.0)
        return logs, weights / weights.sum()

    theta, left = fit(np.asarray(theta_0), np.ones(len(sigma), dtype=bool), STEPS)
    replicas = np.stack([fit(theta, block != r, REPLICA_STEPS)[0] for r in range(block.max() + 1)])
    start.variables = variables(theta)
    fits = jax.vmap(lambda row: {**free.variables, "params": unravel(row)})(jax.numpy.asarray(replicas))
    return replaced(free, vstate=start, reference=reference, fits=fits), left
