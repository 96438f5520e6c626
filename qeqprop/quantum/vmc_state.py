"""The state of a variational Monte Carlo solve: a NetKet state, its samples, and what they say about observables."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import numpy as np

from ..core import display
from ..core.estimate import Estimate
from ..core.precision import jax_float64
from ..core.system import replaced
from . import vmc_devices
from .pauli import PauliSum
from .vmc_controls import LEAST_SAMPLES, Controls
from .vmc_operator import SpinOperator, spin_operator

MOST_BLOCKS, FEWEST_CHAINS = 32, 16
CHUNK_NUMBERS = 1 << 23
"""Numbers of connected configurations evaluated at a time (64 MiB)."""


class VariationalState(eqx.Module):
    r"""A positive wave function psi(s) = exp(log_psi(variables, s)) in the Z basis, known through samples of |psi|^2.

    A NetKet `MCState` gives estimates with standard errors and jackknife replicas (without one chain, or block of chains,
    each; at most 32); a `FullSumState` gives exact expectation values of the same ansatz. Nudged states may share the
    samples of the free one (`reference` is their log psi where they were drawn): every average is then reweighted by
    |psi/psi_0|^2, and the noise that both have in common cancels in differences, replica by replica.

    Attributes:
        n_sites: number of spins.
        vstate: the NetKet state.
        gauge: (n_sites,), +1 or -1: the physical state is prod Z_i psi over the sites with -1 (`sign_gauge`).
        samples: (n_chains, n_per_chain, n_sites) of +1 (up) and -1; of a `FullSumState` all states, (1, 2^n, n_sites).
        reference: log psi_0 at the samples of the state that they were drawn from; None: this one.
        fits: variables fitted without one block of samples each, stacked on a leading axis; None where nothing was
            fitted to these samples.
        controls: what makes the errors of expectation values small; None: plain sample means. States on common samples
            have common controls, so that nothing of them is left in differences.
    """

    n_sites: int = eqx.field(static=True)
    vstate: Any
    gauge: np.ndarray
    samples: Any
    reference: Any = None
    fits: Any = None
    controls: Controls | None = None

    _repr_html_ = display.of_state

    @property
    def log_psi(self) -> Callable[[Any, Any], Any]:
        """f(variables, sigma (..., n_sites)) -> log psi (...), for `jax.jit` and `jax.grad`."""
        return self.vstate._apply_fun

    @property
    def variables(self) -> Any:
        """The variables of the ansatz, a pytree with the entry "params"."""
        return self.vstate.variables

    @property
    def is_exact(self) -> bool:
        """Whether averages are sums over all configurations."""
        return not hasattr(self.vstate, "sampler")

    @property
    def weights(self) -> np.ndarray | None:
        """Normalised weights of the samples: probabilities of a `FullSumState`, reweighting; None: all equal."""
        if not self.is_exact and self.reference is None:
            return None
        log_weights = 2 * log_amplitudes(self.log_psi, self.variables, self._flat)
        log_weights = log_weights if self.reference is None else log_weights - 2 * np.asarray(self.reference)
        weights = np.exp(log_weights - log_weights.max())
        return weights / weights.sum()

    @property
    def effective_samples(self) -> float:
        """(sum w)^2 / sum w^2: how many of the samples the reweighting leaves."""
        weights = self.weights
        return float(len(self._flat)) if weights is None else float(1 / np.sum(weights**2))

    @property
    def _flat(self) -> Any:
        return self.samples.reshape(-1, self.n_sites)

    def table(self, operators: Sequence[PauliSum]) -> SpinOperator:
        """Operators as functions of the samples, in the sign gauge of this state."""
        for operator in operators:
            if not isinstance(operator, PauliSum):
                raise TypeError(f"A variational state is measured with Pauli sums, not with {type(operator).__name__}.")
        return spin_operator(operators, self.n_sites, self.gauge)

    def expect(self, observable: PauliSum) -> Estimate:
        """Expectation value, with its standard error unless it is a full sum."""
        values = self.expect_all((observable,))
        replicas = None if values.replicas is None else values.replicas[..., 0]
        return Estimate(values.mean[..., 0], values.stderr[..., 0], replicas)

    def expect_all(self, observables: Sequence[PauliSum]) -> Estimate:
        """Expectation values of K observables, shape (K,), from one pass over the samples."""
        table = self.table(observables)
        weights = self.weights
        values = local_strings(self.log_psi, self.variables, table, self._flat)
        if self.is_exact:
            return Estimate.exact(table.matrix @ (weights @ values))
        block = blocks(*self.samples.shape[:2])
        if self.fits is None:
            sums, norms = _block_sums(values, weights, block)
            mean = sums.sum(axis=0) / norms.sum()
            replicas = (sums.sum(axis=0) - sums) / (norms.sum() - norms)[:, None]
        else:
            mean = weights @ values
            replicas = np.stack([self._left_out(table, r, block) for r in range(block.max() + 1)])
        mean, replicas = table.matrix @ mean, replicas @ table.matrix.T
        if self.controls is not None:
            drawn = self.log_psi, self.controls.variables, table, self._flat
            local = (values if self.reference is None else local_strings(*drawn)) @ table.matrix.T
            sums, norms = _block_sums(self.controls.values(local), None, block)
            mean = mean - sums.sum(axis=0)
            replicas = replicas - (sums.sum(axis=0) - sums) / (1 - norms)[:, None]
        return Estimate.jackknife(mean, replicas)

    def controlled(self, hamiltonian: PauliSum) -> "VariationalState":
        """The same sampled state with zero-variance controls for its expectation values; see `vmc_controls`.

        Raises:
            ValueError: fewer than 128 samples.
        """
        if len(self._flat) < LEAST_SAMPLES:
            raise ValueError(
                f"Zero-variance controls need {LEAST_SAMPLES} samples or more, but there are {len(self._flat)}."
            )
        return replaced(self, controls=self._controls(hamiltonian, self.variables))

    def _controls(self, hamiltonian: PauliSum, variables: Any) -> Controls:
        block = blocks(*self.samples.shape[:2])
        return Controls(hamiltonian, self.log_psi, variables, self.gauge, self._flat, block)

    def _left_out(self, table: SpinOperator, r: int, block: np.ndarray) -> np.ndarray:
        """Means of the strings in the state fitted without block `r`, over the samples of the others."""
        jax = jax_float64()
        fitted = jax.tree.map(lambda leaf: leaf[r], self.fits)
        log_weights = log_amplitudes(self.log_psi, fitted, self._flat) - np.asarray(self.reference)
        weights = np.where(block == r, 0.0, np.exp(2 * (log_weights - log_weights.max())))
        return weights @ local_strings(self.log_psi, fitted, table, self._flat) / weights.sum()

    def statistics(self, observable: PauliSum) -> Any:
        """NetKet's statistics of the local estimator: mean +- error [variance, R-hat, correlation time]."""
        import netket

        table = self.table((observable,))
        local = local_strings(self.log_psi, self.variables, table, self._flat) @ table.matrix[0]
        if self.is_exact or self.reference is not None:
            estimate, weights = self.expect(observable), self.weights
            mean = float(estimate)
            variance = float(weights @ (local - mean) ** 2)
            return netket.stats.Stats(mean=mean, error_of_mean=float(estimate.stderr), variance=variance)
        return netket.stats.statistics(local.reshape(self.samples.shape[:2]))

    def to_storage(self) -> dict[str, Any]:
        """What `qp.save` keeps: everything but code."""
        from .vmc_saved import plain_state

        kept = {name: getattr(self, name) for name in ("gauge", "samples", "reference", "fits")}
        controls = None
        if self.controls is not None:
            controls = {"hamiltonian": self.controls.hamiltonian, "variables": self.controls.variables}
        return {"state": plain_state(self.vstate), **kept, "controls": controls}

    @classmethod
    def from_storage(cls, fields: dict[str, Any]) -> "VariationalState":
        """The inverse of `to_storage`."""
        from .vmc_saved import restored_state

        vstate = restored_state(fields.pop("state"))
        controls = fields.pop("controls")
        made = cls(vstate.hilbert.size, vstate, **fields)
        return made if controls is None else replaced(made, controls=made._controls(**controls))

    def __repr__(self) -> str:
        n_params = self.vstate.n_parameters
        if self.is_exact:
            how = f"full sum over {self.samples.shape[1]} states"
        else:
            how = f"{self.samples.shape[0]} chains x {self.samples.shape[1]} samples"
            if self.reference is not None:
                how += f" of the free state, {self.effective_samples:.0f} effective"
        return (
            f"VariationalState({self.n_sites} spins, {type(self.vstate._model).__name__}, {n_params} parameters, {how})"
        )


def blocks(n_chains: int, n_per_chain: int) -> np.ndarray:
    """The jackknife block of every sample (chain by chain): whole chains, or pieces of them where chains are few."""
    if n_chains >= FEWEST_CHAINS:
        count = min(n_chains, MOST_BLOCKS)
        return np.repeat(np.arange(n_chains) * count // n_chains, n_per_chain)
    total = n_chains * n_per_chain
    return np.arange(total) * min(total, MOST_BLOCKS) // total


def _block_sums(values: np.ndarray, weights: np.ndarray | None, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sums of (n_samples, K) values, and sums of the weights, over every block."""
    weights = np.full(len(values), 1 / len(values)) if weights is None else weights
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    return np.add.reduceat(weights[:, None] * values, starts, axis=0), np.add.reduceat(weights, starts)


def log_amplitudes(log_psi: Any, variables: Any, sigma: Any) -> np.ndarray:
    """log psi at configurations (..., n_sites), compiled: a model that is applied step by step takes a hundred times longer."""
    return np.asarray(_compiled_log_psi()(log_psi, variables, sigma))


@functools.cache
def _compiled_log_psi() -> Any:
    return jax_float64().jit(lambda log_psi, variables, sigma: log_psi(variables, sigma), static_argnums=0)


def local_strings(log_psi: Any, variables: Any, table: SpinOperator, sigma: Any) -> np.ndarray:
    """<s|P|psi>/<s|psi> of every string at every sample, shape (n_samples, n_strings)."""
    return np.asarray(_compiled_strings()(log_psi, chunk_size(table), variables, table, sigma))


def chunk_size(table: SpinOperator) -> int:
    """Samples whose connected configurations fit into `CHUNK_NUMBERS` numbers, or into less where memory is short."""
    return vmc_devices.chunk_size(max(table.n_flips, 1) * table.n_sites, CHUNK_NUMBERS)


@functools.cache
def _compiled_strings() -> Any:
    jax = jax_float64()
    return jax.jit(_local_strings, static_argnums=(0, 1))


def _local_strings(log_psi: Any, chunk: int, variables: Any, table: SpinOperator, sigma: Any) -> Any:
    def of_sample(s: Any) -> Any:
        return table.local_strings(ratios(log_psi, variables, table, s), s)

    return vmc_devices.sample_map(of_sample, sigma, chunk)


def ratios(log_psi: Any, variables: Any, table: SpinOperator, s: Any) -> Any:
    """psi(s^x)/psi(s) of one configuration, shape (n_flips,)."""
    jax = jax_float64()
    if not table.n_flips:
        return jax.numpy.zeros(0)
    return jax.numpy.exp(log_psi(variables, table.connected(s)) - log_psi(variables, s))
