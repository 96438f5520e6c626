"""Chains of spin configurations, packed into blocks of lanes for the compiled heat bath."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from ..core.memory import check_memory
from .ising import SpinModel
from .spin_kernels import LANES, energies, sweep

BYTES = 8
"""A site's share of a lane: its spin and its field."""


class Couplings(NamedTuple):
    """The symmetric matrix of couplings by rows, as the kernels take it."""

    start: np.ndarray
    neighbour: np.ndarray
    coupling: np.ndarray

    @classmethod
    def of(cls, model: SpinModel) -> "Couplings":
        """From the pairs of a model."""
        matrix = coupling_matrix(model)
        indices = (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64))
        return cls(*indices, matrix.data.astype(np.float32))


def coupling_matrix(model: SpinModel) -> sp.csr_array:
    """J, symmetric, shape (n_sites, n_sites): the field on all spins is fields + J s."""
    n, (i, j) = model.fields.shape[-1], model.pairs.T
    values = np.concatenate([model.couplings, model.couplings])
    return sp.csr_array((values, (np.concatenate([i, j]), np.concatenate([j, i]))), shape=(n, n))


class Chains:
    """Independent chains of one model, `chains` for every sample of its batch.

    Args:
        model: couplings and fields.
        chains: number of chains a sample.
        seed: four or more 32-bit words; the same seed gives the same random numbers, whatever the model.
        spins: what to start from, (..., chains, n_sites); None for random spins.
        records: configurations that will be kept of every chain, for the memory check.
    """

    def __init__(
        self,
        model: SpinModel,
        chains: int,
        seed: tuple[int, ...],
        spins: np.ndarray | None = None,
        *,
        records: int = 1,
    ):
        self.shape = (*model.fields.shape[:-1], chains)
        self.n_sites, self.number = model.fields.shape[-1], int(np.prod(self.shape))
        self.blocks = -(-self.number // LANES)
        check_memory(
            self.n_sites * (self.blocks * LANES * (BYTES + 1) + 2 * self.number * records),
            f"Sampling {self.n_sites} spins with {self.number} chains",
            "Use fewer chains, records or samples at a time.",
        )
        words, begin = np.random.SeedSequence(seed).spawn(2)
        self.rng = words.generate_state(4 * LANES * self.blocks).reshape(self.blocks, 4, LANES)
        if spins is None:
            bits = np.random.default_rng(begin).integers(0, 2, size=(self.number, self.n_sites), dtype=np.int8)
            spins = 2 * bits - 1
        self.couplings = Couplings.of(model)
        self.spins = self._packed(spins)
        self.fields = self._packed(np.repeat(model.fields[..., None, :], chains, axis=-2))
        self.constant = np.repeat(model.constant[..., None], chains, axis=-1)

    def sweep(self, inverse: np.ndarray) -> None:
        """Sweeps at 1/T of shape (n_sweeps,), or (n_sweeps, n_chains) with a value for every chain of a sample."""
        whole = np.ones((len(inverse), self.blocks * LANES), np.float32)
        each = inverse.reshape(len(inverse), *([1] * (len(self.shape) - inverse.ndim + 1)), *inverse.shape[1:])
        whole[:, : self.number] = np.broadcast_to(each, (len(inverse), *self.shape)).reshape(len(inverse), -1)
        sweep(self.spins, self.fields, *self.couplings, whole.reshape(len(inverse), self.blocks, LANES), self.rng)

    def energies(self) -> np.ndarray:
        """Energy of every chain, shape (..., n_chains)."""
        found = energies(self.spins, self.fields, *self.couplings).ravel()[: self.number]
        return found.reshape(self.shape) + self.constant

    def configurations(self) -> np.ndarray:
        """The spins as they are, int8 (..., n_chains, n_sites)."""
        rows = np.moveaxis(self.spins, 1, 2).reshape(-1, self.n_sites)[: self.number]
        return rows.astype(np.int8).reshape(*self.shape, self.n_sites)

    def _packed(self, values: np.ndarray) -> np.ndarray:
        """(..., n_chains, n_sites) -> float32 (n_blocks, n_sites, LANES), with ones in the lanes that are left over."""
        rows = np.ones((self.blocks * LANES, self.n_sites), np.float32)
        rows[: self.number] = values.reshape(self.number, self.n_sites)
        return np.ascontiguousarray(np.moveaxis(rows.reshape(self.blocks, LANES, self.n_sites), 1, 2))


def words(key: np.random.SeedSequence | None) -> tuple[int, ...]:
    """A seed that can be kept with a state, and be used again by the nudged phases."""
    return tuple(int(word) for word in (key or np.random.SeedSequence()).generate_state(4))
