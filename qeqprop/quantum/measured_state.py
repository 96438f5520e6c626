"""A spin state as an experiment knows it: bit strings, a few settings, nothing else."""

import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np

from ..core import display
from ..core.estimate import Estimate
from ..core.module import AbstractModule
from .commuting import String, basis_of, covers, read_table
from .conversion import sites_of, write_label
from .jackknife import block_sizes, block_sums, leave_one_out
from .pauli import PauliSum
from .readout import corrected


class MeasuredState(AbstractModule):
    """Shots of a state (or of a batch of states) in a few settings; see `Measured`.

    A string is estimated from all settings that read it. Sums of strings that are read in the same shots have joint
    errors: every estimate carries its jackknife replicas. An outcome that never varies has the standard error 0.

    Attributes:
        n_sites: number of spins.
        bases: the settings, a letter X, Y, Z (I: not read) for every site.
        outcomes: what was read, (n_settings, ..., shots) integers: site 0 is the most significant bit, 0 is +1.
        rates: flip probabilities (n_sites, 2) that the estimators undo; None where they do not.
        prepared: the state that was measured; an experiment does not know it.
        exact_outputs: whether error signals are taken from `prepared` instead of the shots.
    """

    n_sites: int = eqx.field(static=True)
    bases: tuple[str, ...] = eqx.field(static=True)
    outcomes: np.ndarray
    rates: np.ndarray | None
    prepared: Any
    exact_outputs: bool = eqx.field(static=True)

    _repr_html_ = display.of_state

    @property
    def shots(self) -> int:
        """Number of shots of every setting."""
        return self.outcomes.shape[-1]

    @property
    def signal_state(self) -> Any:
        """Where a cost takes its error signal from."""
        return self.prepared if self.exact_outputs else self

    def expect(self, observable: Any) -> Estimate:
        """Mean and standard error over the shots.

        Raises:
            ValueError: none of the settings reads a string of the observable.

        Example:
            >>> import qeqprop as qp
            >>> net = qp.TransverseFieldIsing(2, [(0, 1)])
            >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
            >>> solver = qp.Measured(qp.ExactDiagonalization(), shots=10_000)
            >>> state = qp.equilibrate(net, params, solver=solver, key=1).state
            >>> state.expect(qp.Z(0) * qp.Z(1)), state.prepared.expect(qp.Z(0) * qp.Z(1))
            (0.475(8), 0.472031)
        """
        values = self.expect_all((observable,))
        assert values.replicas is not None
        return Estimate(values.mean[..., 0], values.stderr[..., 0], values.replicas[..., 0])

    def expect_all(self, observables: Sequence[Any]) -> Estimate:
        """Estimates of K observables from the same shots, shape (..., K), with their replicas."""
        for observable in observables:
            if not isinstance(observable, PauliSum):
                raise TypeError(f"Shots of spins show Pauli sums, not a {type(observable).__name__}.")
        table = read_table(tuple(observables))
        outcomes, rates = self.outcomes, self.rates
        sums = np.empty((len(block_sizes(self.shots)), *outcomes.shape[1:-1], len(table.strings)))
        for k, (sites, settings) in enumerate(_readers(table.strings, self.bases)):
            sums[..., k] = _string_sums(outcomes[settings], sites, self.n_sites, rates)
        flat = (table.coefficients @ sums.reshape(-1, len(table.strings)).T).T
        sums = flat.reshape(*sums.shape[:-1], len(observables))
        return Estimate.jackknife(sums.sum(axis=0) / self.shots, leave_one_out(sums, self.shots))

    def readings(self, basis: str) -> np.ndarray:
        """What was read in one setting: +1 or -1, shape (..., shots, n_sites); 0 where a site was not read.

        Example:
            >>> import qeqprop as qp
            >>> net = qp.TransverseFieldIsing(2, [(0, 1)])
            >>> params = {"J": [5.0], "h": [9.0, 0.0], "g": [0.1, 0.1]}
            >>> out = qp.equilibrate(net, params, solver=qp.Measured(qp.ExactDiagonalization(), shots=3), key=0)
            >>> out.state.readings("ZZ")
            array([[1, 1],
                   [1, 1],
                   [1, 1]])
        """
        if basis not in self.bases:
            raise ValueError(f"Argument `basis` must be one of the settings {list(self.bases)}, but is {basis!r}.")
        places = np.arange(self.n_sites - 1, -1, -1)
        bits = self.outcomes[self.bases.index(basis)].astype(np.int64)[..., None] >> places & 1
        return (1 - 2 * bits) * np.array([letter != "I" for letter in basis])

    def __repr__(self) -> str:
        batch = "".join(f", batch of {size}" for size in self.outcomes.shape[1:-1])
        shown = ", ".join(self.bases[:4]) + (", ..." if len(self.bases) > 4 else "")
        return f"MeasuredState({self.n_sites} spins{batch}, {self.shots} shots in each of {len(self.bases)}: {shown})"


@functools.lru_cache(maxsize=256)
def _readers(strings: tuple[String, ...], bases: tuple[str, ...]) -> list[tuple[tuple[int, ...], list[int]]]:
    """The sites of every string, and the settings that read it."""
    found = []
    for string in strings:
        settings = [k for k, basis in enumerate(bases) if covers(basis, string)]
        if not settings:
            missing = basis_of([string], len(bases[0]), rest="Z")
            raise ValueError(
                f"{write_label(*string)} is read in none of the settings {list(bases)}. Measure it as well: "
                f"Measured(..., bases={[*bases, missing]})."
            )
        found.append((sites_of(string[0] | string[1]), settings))
    return found


def _string_sums(outcomes: np.ndarray, sites: tuple[int, ...], n_sites: int, rates: np.ndarray | None) -> np.ndarray:
    """Sums over the blocks of shots (settings, ..., shots) of one string, mean over the settings; (blocks, ...)."""
    if rates is not None:
        return block_sums(corrected(outcomes, sites, rates)).mean(axis=1)
    mask = outcomes.dtype.type(sum(1 << (n_sites - 1 - site) for site in sites))
    odd = block_sums(np.bitwise_count(outcomes & mask) & 1).mean(axis=1)
    return block_sizes(outcomes.shape[-1]).reshape(-1, *[1] * (odd.ndim - 1)) - 2 * odd
