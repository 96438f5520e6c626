r"""Functions of known mean that take up most of the variance of any observable.

For every positive wave function and every real Hamiltonian E[L u] = 0, L the generator of `zero_variance`. With u = J x in
the tangent space of the ansatz and x from least squares of O_loc on B = L J,

.. math:: \langle O \rangle = E[O_{loc} - a\, B x] ,

without bias for any x and a; x is fitted to the other half of the samples, and a in [0, 1] is the share of the fit that
the samples confirm: a poor fit costs nothing, it only leaves the variance where it was.

With few samples the ratios in B have rare large values: at 512 samples of 5 spins the errors came out 1.3 times too small,
with single outliers of 5 standard errors; at 1024 samples of 6 spins they were right. Take 1000 samples or more.

Reference: R. Assaraf, M. Caffarel, Phys. Rev. Lett. 83, 4682 (1999).
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np

from ..core.memory import check_memory
from ..core.precision import jax_float64
from . import vmc_devices
from .pauli import PauliSum
from .vmc_operator import SpinOperator, spin_operator
from .zero_variance import Ansatz, Features, Fit, coefficients, factorise, features

LEAST_SAMPLES = 128
"""Fewer do not tell a good fit from chance."""
RIDGE = 1e-4
CHUNK_NUMBERS = 1 << 19
"""Numbers of hidden units or spins, over all connected configurations, that are treated at a time."""


class Controls(eqx.Module):
    """The controls of some samples; fitted at the first use and shared by all states that are measured on them.

    Attributes:
        hamiltonian: H, whose ground state the samples come from.
        log_psi, variables: the wave function that they were drawn from.
        gauge: see `VariationalState`.
        sigma: the samples (N, n_sites).
        block: the jackknife block of each, ascending.
    """

    hamiltonian: PauliSum = eqx.field(static=True)
    log_psi: Callable[[Any, Any], Any] = eqx.field(static=True)
    variables: Any
    gauge: np.ndarray
    sigma: Any
    block: np.ndarray

    def values(self, local: np.ndarray) -> np.ndarray:
        """a B x of K observables with the local values (N, K): functions of mean 0, to be subtracted from them."""
        design, fits, middle = self._fitted
        halves = slice(None, middle), slice(middle, None)
        x = [coefficients(fit, local[half]) for fit, half in zip(fits, halves, strict=True)]
        found = np.concatenate([np.asarray(design[half] @ other) for half, other in zip(halves, x[::-1], strict=True)])
        centred = found - found.mean(axis=0)
        spread = np.maximum(np.mean(centred**2, axis=0), 1e-300)
        confirmed = np.mean(centred * local, axis=0) / spread
        return np.clip(confirmed, 0.0, 1.0) * found

    @functools.cached_property
    def _fitted(self) -> tuple[Any, list[Fit], int]:
        """B of all samples, its least squares in both halves, and where the second half begins."""
        jax = jax_float64()
        table = spin_operator((self.hamiltonian,), self.sigma.shape[-1], self.gauge)
        n_params = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.variables["params"]))
        n_samples = len(self.sigma)
        what = f"The zero-variance controls of {n_samples} samples of an ansatz with {n_params} parameters"
        check_memory(32 * n_samples * n_params, what, "Use fewer samples or a smaller ansatz.")
        bare = without_observables(self.log_psi, self.variables, table, table.matrix[0])
        found = features(bare, np.asarray(self.sigma, dtype=float))
        middle = int(np.searchsorted(self.block, (self.block[-1] + 1) // 2))
        parts = [Features(*(leaf[half] for leaf in found)) for half in (slice(None, middle), slice(middle, None))]
        uniform = [np.full(len(part.generated), 1 / len(part.generated)) for part in parts]
        return found.generated, [factorise(part, w, RIDGE) for part, w in zip(parts, uniform, strict=True)], middle


def without_observables(
    log_psi: Callable[[Any, Any], Any], variables: Any, table: SpinOperator, hamiltonian: Any
) -> Ansatz:
    """A wave function and its Hamiltonian alone."""
    none = np.zeros((0, table.n_strings))
    return Ansatz(log_psi, variables, table, hamiltonian, none, chunk_size(table, variables))


def chunk_size(table: SpinOperator, variables: Any) -> int:
    """Configurations at a time: those behind every flip are held together, each with its hidden units."""
    n_params = sum(int(np.size(leaf)) for leaf in jax_float64().tree.leaves(variables["params"]))
    width = 4 * max(table.n_sites, n_params // max(table.n_sites, 1))
    return vmc_devices.chunk_size((table.n_flips + 1) * width, CHUNK_NUMBERS)
