"""States of spins: what they are expected to show."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np

from ..core import display
from ..core.estimate import Estimate
from ..core.module import AbstractModule
from .batch import MAX_BITS, batch_moments
from .operators import MatrixOperator
from .pauli import PauliSum
from .strings import real_form, string_table


def transition_moments(n_bits: int, x: np.ndarray, z: np.ndarray, bra: np.ndarray, ket: np.ndarray) -> np.ndarray:
    """<bra| X^x Z^z |ket> of many strings for real vectors (..., 2^n_bits); shape (..., n_strings)."""
    if n_bits <= MAX_BITS:
        batched = batch_moments(n_bits, x, z, np.atleast_2d(bra), np.atleast_2d(ket))
        return batched if bra.ndim == 2 else batched[0]
    from .moments import moments

    if bra.ndim == 1:
        return moments(n_bits, x, z, bra, ket)
    return np.stack([moments(n_bits, x, z, b, k) for b, k in zip(bra, ket, strict=True)])


class PureState(AbstractModule):
    """A normalised state vector, or a batch of them.

    Attributes:
        n_sites: number of spins; 0 for the state of an `OperatorSystem`, which has no sites.
        amplitudes: (..., dim), float64 or complex128; site 0 is the most significant bit, spin up comes first.
    """

    n_sites: int = eqx.field(static=True)
    amplitudes: np.ndarray

    _repr_html_ = display.of_state

    def expect(self, observable: Any) -> Estimate:
        """<psi|O|psi>, exact; with the batch axis of the state.

        Example:
            >>> import numpy as np, qeqprop as qp
            >>> bell = qp.PureState(2, np.array([1, 0, 0, 1]) / np.sqrt(2))
            >>> bell.expect(qp.Z(0) * qp.Z(1)), bell.expect(qp.X(0) * qp.X(1) - qp.Z(0))
            (1, 1)
        """
        values = self.expect_all((observable,))
        return Estimate(values.mean[..., 0], values.stderr[..., 0])

    def expect_all(self, observables: Sequence[Any]) -> Estimate:
        """Expectation values of K observables, shape (..., K), from one measurement of all their strings."""
        if all(isinstance(observable, PauliSum) for observable in observables):
            if not self.n_sites:
                raise TypeError("This state has no sites: measure it with a MatrixOperator, not with a Pauli sum.")
            table = string_table(tuple(observables), self.n_sites)
            values = (table.coefficients @ self.string_moments(table.n_bits, table.x, table.z).T).T
            return Estimate.exact(np.asarray(values))
        for observable in observables:
            if not isinstance(observable, MatrixOperator):
                raise TypeError(
                    f"An observable must be a Pauli sum or a MatrixOperator, not {type(observable).__name__}."
                )
        return Estimate.exact(
            np.stack([observable.expectation(self.amplitudes) for observable in observables], axis=-1)
        )

    def string_moments(self, n_bits: int, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Expectation values of real strings on n_bits; see `quantum.strings`."""
        if np.iscomplexobj(self.amplitudes) and n_bits == self.n_sites:  # real and imaginary part add up
            u, v = (np.ascontiguousarray(part) for part in (self.amplitudes.real, self.amplitudes.imag))
            return transition_moments(n_bits, x, z, u, u) + transition_moments(n_bits, x, z, v, v)
        vector = self.amplitudes if n_bits == self.n_sites else real_form(self.amplitudes, n_bits)
        return transition_moments(n_bits, x, z, vector, vector)

    def probabilities(self) -> np.ndarray:
        """|psi|^2 in the Z basis."""
        return np.abs(self.amplitudes) ** 2

    def overlap(self, other: "PureState") -> np.ndarray:
        """|<self|other>|, sample by sample."""
        return np.abs(np.sum(np.conj(self.amplitudes) * other.amplitudes, axis=-1))

    def to_qutip(self) -> Any:
        """The state as a QuTiP ket (single states only)."""
        import qutip

        dims = [[2] * self.n_sites, [1] * self.n_sites] if self.n_sites else None
        return qutip.Qobj(self.amplitudes.reshape(-1, 1), dims=dims)

    def __repr__(self) -> str:
        return f"PureState({self.n_sites} spins, amplitudes {self.amplitudes.shape} {self.amplitudes.dtype})"


class BilinearState(AbstractModule):
    """An eigenvector of a complex symmetric H + beta*C, with the bilinear form psi^T O psi, psi^T psi = 1.

    At complex nudges the expectation value that is analytic in beta has no complex conjugate; holomorphic EP needs it.
    """

    n_sites: int = eqx.field(static=True)
    amplitudes: np.ndarray

    _repr_html_ = display.of_state

    def expect(self, observable: PauliSum) -> Estimate:
        """psi^T O psi, complex."""
        return Estimate.exact(self.expect_all((observable,)).mean[..., 0])

    def expect_all(self, observables: Sequence[PauliSum]) -> Estimate:
        """psi^T O_k psi, shape (..., K), complex."""
        table = string_table(tuple(observables), self.n_sites)
        return Estimate.exact((table.coefficients @ self.string_moments(table.n_bits, table.x, table.z).T).T)

    def string_moments(self, n_bits: int, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Bilinear values of real symmetric strings: u^T P u - v^T P v + 2i u^T P v for psi = u + iv."""
        u, v = (np.ascontiguousarray(part) for part in (self.amplitudes.real, self.amplitudes.imag))
        uu, vv, uv = (transition_moments(n_bits, x, z, a, b) for a, b in ((u, u), (v, v), (u, v)))
        return uu - vv + 2j * uv
