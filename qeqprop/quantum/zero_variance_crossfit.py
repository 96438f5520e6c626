"""Fits on one half of the samples, evaluated on the other half, and errors from the means of independent blocks.

A fit looks better on the samples it was made from than it is: estimates from the same samples are biased and their error
bars too small. So the chains are halved, each half is evaluated with the fits of the other, and the two are averaged.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.estimate import Estimate
from ..core.memory import check_memory
from ..core.precision import jax_float64
from .vmc_state import log_amplitudes
from .zero_variance import Ansatz, Features, Fit, Sampled, coefficients, evaluate, factorise, features, shift_along

BLOCKS = 64
"""Fewest blocks; fewer chains than this are cut into pieces."""
RIDGE = 1e-4
"""Of fits to samples: held-out errors hardly change between 1e-3 and 1e-6."""
FLIPPED, EVEN = 64, 1e-10
"""Samples at which psi(s) = psi(-s) is looked for, and the largest difference of log psi."""


class CrossFit(NamedTuple):
    """The fits of all observables. Lists have one entry for each half; a full sum has one part, fitted to itself.

    Attributes:
        ansatz: the wave function, H and the observables.
        blocks: number of blocks of each half; 0 of a full sum.
        sigma, weights: configurations and their normalised weights.
        feats: features and local values.
        fits: the factorised least squares of each half.
        x: (P, Q + 1): fits of all observables and the energy *for* each half, from the other.
        shifted: what the fit of the energy does to the local values of the observables (`shift_along`), for each half.
        parity: of every observable under the flip of all spins: 0 even, 1 odd, -1 neither, or a state that is not even.
    """

    ansatz: Ansatz
    blocks: int
    sigma: list[Any]
    weights: list[Any]
    feats: list[Features]
    fits: list[Fit]
    x: list[Any]
    shifted: list[Any]
    parity: np.ndarray

    @property
    def n_samples(self) -> int:
        """Number of configurations."""
        return sum(map(len, self.sigma))

    def reduced(self) -> list[np.ndarray]:
        """Local values of all observables and the energy with their zero-variance control, (N, Q + 1)."""
        pairs = zip(self.feats, self.x, strict=True)
        return [np.asarray(feats.values - feats.generated @ x) for feats, x in pairs]

    def local(self) -> list[np.ndarray]:
        """The local values themselves."""
        return [np.asarray(feats.values) for feats in self.feats]

    def respond(self, cost: int, n_forces: int) -> list[Sampled]:
        """Responses of the first `n_forces` observables to the cost, sample by sample.

        In an even state an observable does not respond to one of the other parity; the samples' noise about that 0 would
        be the largest of all, and is left out.

        What is left of the variance is not reduced by one more fit on B: functions B x of mean 0 can look like a constant on
        all configurations but the rarest, and errors then come out far too small where these were not met.
        """
        return [self._evaluate(half, cost, n_forces) for half in range(len(self.sigma))]

    def allowed(self, cost: int, n_forces: int) -> np.ndarray:
        """The forces (K,) that can respond to the cost: not those of the other parity, where the state is even."""
        of_cost, of_forces = self.parity[cost], self.parity[:n_forces]
        return np.asarray((of_forces == of_cost) | (of_forces < 0) | (of_cost < 0))

    def respond_sum(self, costs: Sequence[int], weights: np.ndarray, n_forces: int) -> tuple[list[Sampled], np.ndarray]:
        """The responses to sum_k w_k O_k, and the means (K, n_forces) of those to every O_k: all is linear in the cost."""
        singles = [self.respond(cost, n_forces) for cost in costs]
        means = [self.estimate([part.response for part in parts]).mean for parts in singles]
        total = [
            Sampled(*(np.tensordot(weights, field, 1) for field in zip(*parts, strict=True)))
            for parts in zip(*singles, strict=True)
        ]
        return total, np.stack(means)

    def _evaluate(self, half: int, cost: int, n_forces: int) -> Sampled:
        """One half with the fits that were made from the other."""
        x = self.x[half]
        directions = x[:, np.array([cost, -1])].T
        parts = self.sigma[half], self.feats[half], self.weights[half]
        found = evaluate(self.ansatz, *parts, x[:, :n_forces], np.int64(cost), directions, self.shifted[half])
        return Sampled(*(part * self.allowed(cost, n_forces) for part in found))

    def estimate(self, values: list[Any]) -> Estimate:
        """Mean over all samples of (N, K) values with its error from the blocks; exact for a full sum."""
        means = [np.asarray(w @ v) for w, v in zip(self.weights, values, strict=True)]
        if not self.blocks:
            return Estimate.exact(means[0])
        parts = [np.asarray(v).reshape(self.blocks, -1, v.shape[1]).mean(axis=1) for v in values]
        left_out = [mean + (mean - part) / (self.blocks - 1) for mean, part in zip(means, parts, strict=True)]
        replicas = np.concatenate([(left_out[0] + means[1]) / 2, (means[0] + left_out[1]) / 2])
        return Estimate.jackknife((means[0] + means[1]) / 2, replicas)


def cross_fit(ansatz: Ansatz, samples: Any, weights: Any | None, ridge: float = RIDGE) -> CrossFit:
    """Features and fits of samples (n_chains, n_per_chain, n_sites), or of a full sum with its `weights`.

    Raises:
        ValueError: too few samples to halve, or a Hamiltonian whose ground state is not positive in this basis.
        MemoryError: the features do not fit.
    """
    jnp = jax_float64().numpy
    check_features(ansatz, int(np.prod(samples.shape[:2])))
    if weights is None:
        sigma, blocks = halves(np.asarray(samples, dtype=float))
        parts = [jnp.full(len(part), 1 / len(part)) for part in sigma]
    else:
        sigma, blocks, parts = [np.asarray(samples, dtype=float)[0]], 0, [jnp.asarray(weights).reshape(-1)]
    feats = [features(ansatz, part) for part in sigma]
    check_stoquastic(feats)
    fits = [factorise(part, w, ridge) for part, w in zip(feats, parts, strict=True)]
    x = [coefficients(fit, part.values) for fit, part in zip(fits, feats, strict=True)]
    x = x[::-1]
    shifted = [shift_along(ansatz, part, fitted[:, -1]) for part, fitted in zip(sigma, x, strict=True)]
    parity = parities(ansatz, sigma[0][:FLIPPED])
    return CrossFit(ansatz, blocks, list(sigma), parts, feats, fits, x, shifted, parity)


def parities(ansatz: Ansatz, sigma: np.ndarray) -> np.ndarray:
    """Parity of the observables under the flip of all spins (see `CrossFit`), where H and, as seen in `sigma`, psi are even."""
    table = ansatz.table
    odd = np.sum(table.sites < table.n_sites, axis=1) % 2 == 1
    logs, flipped = (log_amplitudes(ansatz.log_psi, ansatz.variables, sign * sigma) for sign in (1, -1))
    if np.any(np.asarray(ansatz.hamiltonian)[odd] != 0) or not np.allclose(logs, flipped, rtol=0, atol=EVEN):
        return np.full(len(ansatz.observables), -1)
    observables = np.asarray(ansatz.observables) != 0
    has_odd, has_even = observables[:, odd].any(axis=1), observables[:, ~odd].any(axis=1)
    return np.where(has_odd & has_even, -1, has_odd.astype(int))


def halves(samples: np.ndarray) -> tuple[list[np.ndarray], int]:
    """Two halves (N, n_sites) of the chains, and the number of blocks in each.

    Blocks are chains; of fewer than 64 chains they are consecutive pieces of equal length (the first samples of a chain
    that are left over are dropped).

    Raises:
        ValueError: fewer than 64 blocks of two samples.

    Example:
        >>> parts, blocks = halves(np.ones((16, 100, 3)))
        >>> [part.shape for part in parts], blocks
        ([(800, 3), (800, 3)], 32)
    """
    chains, length, n_sites = samples.shape
    pieces = -(-BLOCKS // chains)
    pieces += chains * pieces % 2
    size = length // pieces
    if chains * size * pieces < 2 * BLOCKS:
        raise ValueError(
            f"A response with errors needs {2 * BLOCKS} samples or more in {BLOCKS} blocks, but the state has {chains} "
            f"chains of {length}."
        )
    kept = samples[:, length - size * pieces :].reshape(2, -1, n_sites)
    return [kept[0], kept[1]], chains * pieces // 2


def check_features(ansatz: Ansatz, n_samples: int) -> None:
    """Refuse features that do not fit into the memory, with numbers."""
    n_params = sum(int(np.size(leaf)) for leaf in jax_float64().tree.leaves(ansatz.variables["params"]))
    rows = 5 * n_params + 6 * len(ansatz.observables)
    what = f"The response from {n_samples} samples of an ansatz with {n_params} parameters"
    check_memory(8 * n_samples * rows, what, "Use fewer samples or a smaller ansatz.")


def check_stoquastic(feats: list[Features]) -> None:
    """Refuse a Hamiltonian with positive elements off the diagonal, as the samples see it."""
    least = min(float(part.least_rate.min()) for part in feats)
    if least < -1e-10:
        raise ValueError(
            "The Hamiltonian has positive off-diagonal elements in the basis of this state: its ground state need not be "
            "positive, and the zero-variance response holds for positive states only. Use a sign gauge or a stencil."
        )
