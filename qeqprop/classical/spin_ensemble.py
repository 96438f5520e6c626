"""States of sampled spins: configurations, in independent chains."""

from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import numpy as np

from ..core import display
from ..core.estimate import Estimate
from ..core.module import AbstractModule
from .spin_products import product_table

CHUNK = 1 << 24
"""Products that are held at a time."""


class SpinEnsemble(AbstractModule):
    """Configurations drawn by independent chains; of a batch with the batch axis first.

    Standard errors are those of a jackknife over the chains. Chains are independent of one another, so that the
    correlations along a chain are in the error, whatever they are. A single configuration (of an annealer) has no error.

    Attributes:
        spins: +-1, int8, shape (..., n_chains, n_records, n_sites).
        seed: of the chains; nudged phases use it again, so that their noise cancels.
    """

    spins: np.ndarray
    seed: tuple[int, ...] = eqx.field(static=True, default=())

    _repr_html_ = display.of_state

    def __check_init__(self) -> None:
        if np.ndim(self.spins) not in (3, 4):
            raise ValueError(
                f"Argument `spins` must have shape ([batch,] n_chains, n_records, n_sites), but has {np.shape(self.spins)}."
            )
        if not np.all(np.abs(self.spins) == 1):
            other = np.asarray(self.spins)[np.abs(self.spins) != 1].flat[0]
            raise ValueError(
                f"Argument `spins` must hold +1 and -1, but has {other}. Bits b are spins 1 - 2*b or 2*b - 1."
            )

    @property
    def n_sites(self) -> int:
        """Number of spins."""
        return self.spins.shape[-1]

    @property
    def batch_size(self) -> int | None:
        """Length of the batch axis; None for a single system."""
        return len(self.spins) if self.spins.ndim == 4 else None

    def expect(self, observable: Any) -> Estimate:
        """<O> of a Pauli sum of Z's."""
        found = self.expect_all((observable,))
        replicas = None if found.replicas is None else found.replicas[..., 0]
        return Estimate(found.mean[..., 0], found.stderr[..., 0], replicas)

    def expect_all(self, observables: Sequence[Any]) -> Estimate:
        """<O_k>, shape (..., K)."""
        table = product_table(tuple(observables))
        table.check(self.n_sites)
        means = [np.prod(self.spins[..., list(product)], axis=-1).mean(axis=-1) for product in table.products]
        chains = np.stack(means, axis=-1) if means else np.zeros((*self.spins.shape[:-2], 0))
        return over_chains(chains @ table.coefficients.T)

    def products(self, first: np.ndarray, second: np.ndarray) -> Estimate:
        """<s_i s_j>; <s_i> where j = -1."""
        chains = np.empty((*self.spins.shape[:-2], len(first)))
        for part, values in self.product_chunks(first, second):
            chains[..., part] = values.mean(axis=-2)
        return over_chains(chains)

    def product_chunks(self, first: np.ndarray, second: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """s_i s_j of all records, some columns at a time, int8 (..., n_chains, n_records, columns)."""
        step = max(CHUNK // int(np.prod(self.spins.shape[:-1])), 1)
        for begin in range(0, len(first), step):
            part = slice(begin, min(begin + step, len(first)))
            partner = np.where(second[part] >= 0, self.spins[..., second[part]], np.int8(1))
            yield part, self.spins[..., first[part]] * partner

    def samples(self) -> Iterator["SpinEnsemble"]:
        """The states of a batch one by one; of a single system itself."""
        for spins in self.spins if self.batch_size is not None else [self.spins]:
            yield SpinEnsemble(spins, self.seed)

    def r_hat(self) -> np.ndarray:
        """Potential scale reduction sqrt(1 + Var(chain means) / Var(within) - 1/n) of every spin; 1 where nothing moves.

        Close to 1 where the chains agree (Gelman and Rubin, Stat. Sci. 7, 457, 1992); shape (..., n_sites).
        """
        means = self.spins.mean(axis=-2)
        within = (1 - means**2).mean(axis=-2)
        between = means.var(axis=-2, ddof=1)
        moved = np.maximum(within, 1e-300)
        stuck = np.where(between > 0, np.inf, 1.0)  # every chain stands still: at the same place, or not
        return np.where(within > 0, np.sqrt(1 - 1 / self.spins.shape[-2] + between / moved), stuck)

    def __repr__(self) -> str:
        batch = "" if self.batch_size is None else f"batch of {self.batch_size}, "
        chains, records = self.spins.shape[-3:-1]
        return f"SpinEnsemble({batch}{self.n_sites} spins, {chains} chains, {records} records each)"


def over_chains(chains: np.ndarray) -> Estimate:
    """Mean and delete-one replicas over the chain axis, the last but one; a single chain is taken as exact."""
    mean, count = chains.mean(axis=-2), chains.shape[-2]
    if count == 1:
        return Estimate.exact(mean)
    replicas = (count * mean[..., None, :] - chains) / (count - 1)
    return Estimate.jackknife(mean, np.moveaxis(replicas, -2, 0))
