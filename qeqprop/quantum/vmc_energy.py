r"""Local energies of a variational state, their derivatives by its variables, and what they say about convergence.

.. math:: E_{loc}(s) = \langle s|H|\psi\rangle / \langle s|\psi\rangle, \qquad V = n \, Var(E_{loc}) / (E - E_\infty)^2

V is the V-score (D. Wu et al., Science 386, 296 (2024)): 0 for an eigenstate, whatever the scale of H;
:math:`E_\infty = Tr H/2^n` is the energy at infinite temperature.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from ..core.precision import jax_float64
from .vmc_devices import sample_map
from .vmc_operator import SpinOperator
from .vmc_state import VariationalState, chunk_size, log_amplitudes, ratios

MOST_PAIRS = 512


class Hamiltonian(eqx.Module):
    """H as a function of configurations: a table of strings, their coefficients, and Tr H/2^n."""

    table: SpinOperator
    coefficients: np.ndarray
    constant: float

    def local_energies(self, log_psi: Any, variables: Any, sigma: Any) -> Any:
        """E_loc at configurations (n_samples, n_sites)."""
        return _compiled()[0](log_psi, chunk_size(self.table), variables, self, sigma)

    def local_jacobian(self, log_psi: Any, variables: Any, sigma: Any, chunk: int) -> tuple[Any, Any]:
        """E_loc and its derivative by the parameters (flattened), shapes (n_samples,) and (n_samples, n_params)."""
        return _compiled()[1](log_psi, chunk, variables, self, sigma)

    def v_score(self, energy: float, variance: float) -> float:
        """n Var(H) / (E - E_inf)^2."""
        return float(self.table.n_sites * variance / max((energy - self.constant) ** 2, 1e-300))


class Moments(NamedTuple):
    """Energy, its standard error, and the variance of the local energy."""

    energy: float
    stderr: float
    variance: float


def _local_energy(log_psi: Any, variables: Any, h: Hamiltonian, s: Any) -> Any:
    elements = h.table.matrix_elements(h.coefficients, s)
    return h.table.diagonal(h.coefficients, s) + elements @ ratios(log_psi, variables, h.table, s)


@functools.cache
def _compiled() -> tuple[Any, Any]:
    jax = jax_float64()
    from jax.flatten_util import ravel_pytree

    def energies(log_psi: Any, chunk: int, variables: Any, h: Hamiltonian, sigma: Any) -> Any:
        return sample_map(lambda s: _local_energy(log_psi, variables, h, s), sigma, chunk)

    def jacobian(log_psi: Any, chunk: int, variables: Any, h: Hamiltonian, sigma: Any) -> Any:
        flat, unravel = ravel_pytree(variables["params"])

        def energy(theta: Any, s: Any) -> Any:
            return _local_energy(log_psi, {**variables, "params": unravel(theta)}, h, s)

        return sample_map(lambda s: jax.value_and_grad(energy)(flat, s), sigma, chunk)

    return jax.jit(energies, static_argnums=(0, 1)), jax.jit(jacobian, static_argnums=(0, 1))


def moments(h: Hamiltonian, state: VariationalState) -> Moments:
    """Energy and variance of a state from its samples."""
    local = np.asarray(h.local_energies(state.log_psi, state.variables, state.samples.reshape(-1, state.n_sites)))
    weights = state.weights
    if weights is None:
        weights = np.full(len(local), 1 / len(local))
    energy = float(weights @ local)
    variance = float(weights @ (local - energy) ** 2)
    if state.is_exact:
        return Moments(energy, 0.0, variance)
    per_chain = (local - energy).reshape(state.samples.shape[:2]).mean(axis=1)
    chains = len(per_chain)
    stderr = float(per_chain.std(ddof=1) / np.sqrt(chains)) if chains > 1 else float(np.sqrt(variance / len(local)))
    return Moments(energy, stderr, variance)


def reflected_variance(h: Hamiltonian, state: VariationalState, energy: float, rng: np.random.Generator) -> float:
    r"""The variance of E_loc as seen from neighbours of the samples, which a collapsed state never visits.

    The flip x maps configurations in pairs, and within a pair the weights of |psi|^2 are known. So with r = psi(s^x)/psi(s)

    .. math:: Var = E\left[\frac{f(s) + r^2 f(s^x)}{1 + r^2}\right], \qquad f = (E_{loc} - E)^2

    for any x; here it is a random one for every sample. A state that has collapsed to one configuration has f(s) = 0 and
    r -> 0, but r^2 f(s^x) -> <s|H|s^x>^2.
    """
    sigma = np.asarray(state.samples).reshape(-1, state.n_sites)
    sigma = sigma[rng.permutation(len(sigma))[:MOST_PAIRS]]
    flipped = (sigma * h.table.flips[rng.integers(h.table.n_flips, size=len(sigma))]).astype(sigma.dtype)
    both = np.concatenate([sigma, flipped])
    local = np.asarray(h.local_energies(state.log_psi, state.variables, both))
    logs = log_amplitudes(state.log_psi, state.variables, both)
    with np.errstate(over="ignore", invalid="ignore"):
        here, there = np.split((local - energy) ** 2, 2)
        reflected = 1 / (1 + np.exp(2 * (logs[: len(sigma)] - logs[len(sigma) :])))
        return float(np.mean((1 - reflected) * here + reflected * there))
