"""Thermal states as a handful of evolved vectors: what `ThermalPureStates` finds."""

from collections.abc import Sequence

import equinox as eqx
import numpy as np

from ..core import display
from ..core.estimate import Estimate, combine
from ..core.module import AbstractModule
from .pauli import PauliSum
from .split_trace import Probes, Trace, jackknifed
from .states import PureState

MEASURED_BITS = 22
"""Vectors are measured in groups of about this many amplitudes: what they are converted to stays small."""


class SampledThermalState(AbstractModule):
    r"""The thermal state by the vectors exp(-H/2T) |v>, for v in an exactly traced basis and for random v:

    .. math:: \langle A \rangle = \frac{\sum_v w_v \langle v| e^{-H/2T} A e^{-H/2T} |v\rangle}{\sum_v w_v \langle v|
              e^{-H/T} |v\rangle} , \qquad w_v = 1 \text{ (basis)},\; 1/R \text{ (random)} .

    Every value is an `Estimate` with its delete-one replicas over the R random vectors; the bias of the ratio, of order
    1/R, is removed.

    Attributes:
        n_sites: number of spins.
        temperature: T, with k_B = 1.
        floor: the energy that the exponentials are measured from.
        kets: the evolved vectors, shape (number, 2^n_sites); site 0 is the most significant bit, spin up comes first.
        norms: their squared norms.
        energies: <ket|H|ket>, nudges included.
        basis: the vectors traced exactly, before evolution: those of the first kets.
        seed: what the random vectors are made of.
    """

    n_sites: int = eqx.field(static=True)
    temperature: float = eqx.field(static=True)
    floor: float = eqx.field(static=True)
    kets: np.ndarray
    norms: np.ndarray
    energies: np.ndarray
    basis: np.ndarray
    seed: np.ndarray

    _repr_html_ = display.of_state

    def probes(self) -> Probes:
        """The vectors before evolution."""
        return Probes(self.n_sites, self.basis, len(self.kets) - len(self.basis), self.seed)

    def expect(self, observable: PauliSum) -> Estimate:
        """tr(rho O), sampled.

        Example:
            >>> import qeqprop as qp
            >>> spin = qp.TransverseFieldIsing(1, [])
            >>> solver = qp.ThermalPureStates(2.0, samples=4, deflated=0)
            >>> state = qp.equilibrate(spin, {"J": [], "h": [1.0], "g": [0.0]}, solver=solver).state
            >>> state.expect(qp.Z(0))  # tanh(1/2); without a transverse field random signs are exact
            0.462117
        """
        values = self.expect_all((observable,))
        return Estimate(values.mean[0], values.stderr[0], values.replicas[..., 0])

    def expect_all(self, observables: Sequence[PauliSum]) -> Estimate:
        """Expectation values of K observables, shape (K,), with their replicas (R, K)."""
        return jackknifed(np.divide, self.trace(self.elements(observables)), self.trace(self.norms[:, None]))

    def elements(self, observables: Sequence[PauliSum]) -> np.ndarray:
        """<ket|O_k|ket> of every vector, shape (number, K)."""
        for observable in observables:
            if not isinstance(observable, PauliSum):
                raise TypeError(f"A sampled state is measured with Pauli sums, not with a {type(observable).__name__}.")
        step = max(1, (1 << MEASURED_BITS) >> self.n_sites)
        groups = (self.kets[first : first + step] for first in range(0, len(self.kets), step))
        return np.concatenate([PureState(self.n_sites, kets).expect_all(tuple(observables)).mean for kets in groups])

    def trace(self, values: np.ndarray) -> Trace:
        """The trace of which `values` are the elements, one a vector on axis 0."""
        return Trace.of(values, len(self.basis))

    def mean_energy(self) -> Estimate:
        """<H>, nudges included."""
        return jackknifed(np.divide, self.trace(self.energies), self.trace(self.norms))

    def free_energy(self) -> Estimate:
        """F = E - T S = -T ln tr exp(-H/T)."""
        return jackknifed(lambda z: self.floor - self.temperature * np.log(z), self.trace(self.norms))

    def entropy(self) -> Estimate:
        """S = (E - F) / T."""
        weights = (1 / self.temperature, -1 / self.temperature)
        return combine(weights, (self.mean_energy(), self.free_energy()))

    def sampled_fraction(self) -> float:
        """The part of the partition function that random vectors stand for."""
        whole = float(self.trace(self.norms).value)
        return 1.0 - float(self.norms[: len(self.basis)].sum()) / whole

    def __repr__(self) -> str:
        vectors = f"{len(self.kets) - len(self.basis)} random vectors, {len(self.basis)} traced exactly"
        return f"SampledThermalState({self.n_sites} spins, temperature {self.temperature:g}, {vectors})"
