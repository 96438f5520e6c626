r"""Matrix product states of spins, and all their expectation values in one sweep.

The tensors B_k (left, spin, right) are right-canonical, sum_s B^s B^s+ = 1, with the Schmidt values s_k on the bond left
of each: psi = diag(s_k) B_k B_(k+1) ... in the Schmidt basis of the sites left of k. A string that begins at site i and
ends at site j is then measured by the sites i .. j alone,

    <P> = tr( E_j ) ,   E_(i-1) = diag(s_i^2) ,   E_k = sum_st P_k[s, t] B_k^s+ E_(k-1) B_k^t ,

and strings that begin alike share their environments E.
"""

from collections.abc import Sequence

import equinox as eqx
import numpy as np

from ..core import display
from ..core.estimate import Estimate
from ..core.memory import check_memory
from ..core.module import AbstractModule
from .mps_operator import IDENTITY, LETTERS, letters_of
from .pauli import PauliSum
from .states import PureState

ENVIRONMENT_BYTES = 256 * 2**20
"""Memory that the environments of strings measured together may take."""


class MatrixProductState(AbstractModule):
    """A normalised matrix product state of spins.

    Attributes:
        order: the site at each position of the chain.
        tensors: at each position (left, 2, right), right-canonical; spin up comes first.
        schmidt: the Schmidt values on the bond left of each position, descending; [1] at the first.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> up, mixed = np.array([1.0, 0.0]), np.array([0.6, 0.8])
        >>> state = qp.quantum.MatrixProductState.product([up, mixed, mixed])
        >>> state.expect(qp.Z(0) * qp.X(1)), state.expect(qp.Z(2))
        (0.96, -0.28)
        >>> state
        MatrixProductState(3 spins, bond dimension 1, entanglement entropy 0)
    """

    order: tuple[int, ...] = eqx.field(static=True)
    tensors: tuple[np.ndarray, ...]
    schmidt: tuple[np.ndarray, ...]

    _repr_html_ = display.of_state

    @classmethod
    def product(cls, spins: Sequence[np.ndarray], order: Sequence[int] | None = None) -> "MatrixProductState":
        """The product of normalised spinors, one for each *position* of the chain."""
        order = tuple(range(len(spins))) if order is None else tuple(int(site) for site in order)
        tensors = tuple(np.asarray(spin).reshape(1, 2, 1) for spin in spins)
        return cls(order, tensors, tuple(np.ones(1) for _ in spins))

    @classmethod
    def canonical(cls, tensors: Sequence[np.ndarray], order: Sequence[int]) -> "MatrixProductState":
        """The right-canonical form of any product of tensors (left, 2, right), normalised; small weights are kept."""
        work = [np.asarray(tensor) for tensor in tensors]
        for k in range(len(work) - 1):  # left-canonical first, so that what the second pass cuts are Schmidt values
            left, _, right = work[k].shape
            q, r = np.linalg.qr(work[k].reshape(left * 2, right))
            work[k], work[k + 1] = q.reshape(left, 2, -1), np.tensordot(r, work[k + 1], axes=1)
        schmidt = [np.ones(1)] * len(work)
        for k in range(len(work) - 1, 0, -1):
            left, _, right = work[k].shape
            u, s, v = np.linalg.svd(work[k].reshape(left, 2 * right), full_matrices=False)
            schmidt[k] = s / np.linalg.norm(s)
            work[k], work[k - 1] = v.reshape(-1, 2, right), np.tensordot(work[k - 1], u * schmidt[k], axes=1)
        work[0] = work[0] / np.linalg.norm(work[0])
        return cls(tuple(int(site) for site in order), tuple(work), tuple(schmidt))

    def applied(self, operator: Sequence[np.ndarray]) -> "MatrixProductState":
        """O psi, normalised, for an operator as made by `matrix_product_operator`."""
        tensors = []
        for W, B in zip(operator, self.tensors, strict=True):
            product = np.tensordot(W, B, axes=([3], [1])).transpose(0, 3, 2, 1, 4)
            tensors.append(product.reshape(W.shape[0] * B.shape[0], 2, -1))
        return MatrixProductState.canonical(tensors, self.order)

    def plus(self, other: "MatrixProductState") -> "MatrixProductState":
        """The sum of two states, normalised."""
        tensors = []
        for k, (a, b) in enumerate(zip(self.tensors, other.tensors, strict=True)):
            rows, cols = (0, b.shape[2]) if k == 0 else (b.shape[0], b.shape[2])
            cols = 0 if k == self.n_sites - 1 else cols
            joined = np.zeros((a.shape[0] + rows, 2, a.shape[2] + cols), dtype=np.result_type(a, b))
            joined[: a.shape[0], :, : a.shape[2]] = a
            joined[joined.shape[0] - b.shape[0] :, :, joined.shape[2] - b.shape[2] :] += b
            tensors.append(joined)
        return MatrixProductState.canonical(tensors, self.order)

    def truncated(self, bond: int) -> "MatrixProductState":
        """The largest Schmidt values of each bond, at most so many, normalised."""
        return MatrixProductState.canonical([tensor[:bond, :, :bond] for tensor in self.tensors], self.order)

    @property
    def n_sites(self) -> int:
        return len(self.order)

    @property
    def bond_dimensions(self) -> np.ndarray:
        """Of the n - 1 bonds between neighbouring positions."""
        return np.array([tensor.shape[2] for tensor in self.tensors[:-1]], dtype=int)

    def entanglement_entropy(self) -> np.ndarray:
        """S = - sum_a p_a ln p_a with p = (Schmidt values)^2, for each of the n - 1 bonds."""
        weights = [values**2 for values in self.schmidt[1:]]
        return np.array([-np.sum(p[p > 0] * np.log(p[p > 0])) for p in weights])

    def bloch_vectors(self) -> np.ndarray:
        """<X>, <Y> and <Z> of every site, shape (n_sites, 3)."""
        vectors = np.empty((self.n_sites, 3))
        for site, tensor, schmidt in zip(self.order, self.tensors, self.schmidt, strict=True):
            weighted = schmidt[:, None, None] * tensor
            density = np.tensordot(weighted.conj(), weighted, axes=([0, 2], [0, 2]))
            vectors[site] = np.tensordot(LETTERS[1:], density, axes=([1, 2], [0, 1])).real
        return vectors

    def expect(self, observable: PauliSum) -> Estimate:
        """<psi|O|psi>, exact.

        Raises:
            TypeError: the observable is not a Pauli sum. ValueError: it acts beyond the last site.
        """
        return Estimate.exact(self.expect_all((observable,)).mean[0])

    def expect_all(self, observables: Sequence[PauliSum]) -> Estimate:
        """Expectation values of K Pauli sums, shape (K,), from one measurement of all their strings."""
        column: dict[tuple[int, int], int] = {}
        for observable in observables:
            if not isinstance(observable, PauliSum):
                raise TypeError(
                    f"A matrix product state is measured by Pauli sums, not by a {type(observable).__name__}."
                )
            if observable.max_site >= self.n_sites:
                raise ValueError(
                    f"An observable acts on site {observable.max_site}, but the state has n_sites={self.n_sites}."
                )
            for x, z, _ in observable:
                column.setdefault((x, z), len(column))
        moments = self.string_moments(letters_of(list(column), self.order))
        values = [sum((c.real * moments[column[x, z]] for x, z, c in o), 0.0) for o in observables]
        return Estimate.exact(np.array(values, dtype=float))

    def string_moments(self, letters: np.ndarray) -> np.ndarray:
        """Expectation values of strings given by their letters (0 .. 3: I, X, Y, Z) at each position, (n_strings,)."""
        rows = np.lexsort(letters.T[::-1])  # strings that begin alike stand together
        widest = max(tensor.shape[0] for tensor in self.tensors)
        bytes_each = 4 * self.tensors[0].dtype.itemsize * widest**2
        chunk = max(ENVIRONMENT_BYTES // bytes_each, 1)
        values = np.empty(len(letters))
        for start in range(0, len(rows), chunk):
            some = rows[start : start + chunk]
            values[some] = self._sweep(letters[some])
        return values

    def _sweep(self, letters: np.ndarray) -> np.ndarray:
        values = np.ones(len(letters))
        acts = letters != IDENTITY
        remaining = acts.sum(axis=1)
        begins = np.where(remaining > 0, np.argmax(acts, axis=1), self.n_sites)
        prefix = np.zeros(len(letters), dtype=np.int64)  # which environment each string has reached
        environments = np.zeros((0, 1, 1))
        for k, (B, schmidt) in enumerate(zip(self.tensors, self.schmidt, strict=True)):
            active = np.flatnonzero((begins <= k) & (remaining > 0))
            if not len(active):
                continue
            prefix[begins == k] = len(environments)
            stack = np.concatenate([environments.reshape(-1, *2 * (len(schmidt),)), [np.diag(schmidt**2)]])
            keys, where = np.unique(4 * prefix[active] + letters[active, k], return_inverse=True)
            stack = _transfer(stack, keys // 4, keys % 4, B)
            remaining[active] -= acts[active, k]
            done = remaining[active] == 0
            values[active[done]] = np.trace(stack, axis1=1, axis2=2)[where[done]].real
            kept, renamed = np.unique(where[~done], return_inverse=True)
            environments, prefix[active[~done]] = stack[kept], renamed
        return values

    def overlap(self, other: "MatrixProductState") -> np.ndarray:
        """|<self|other>|."""
        if self.order != other.order:
            raise ValueError("Argument `other` must have the same order of sites as the state itself.")
        environment = np.ones((1, 1))
        for bra, ket in zip(self.tensors, other.tensors, strict=True):
            environment = np.einsum("apc,apd->cd", bra.conj(), np.tensordot(environment, ket, axes=1), optimize=True)
        return np.abs(environment[0, 0])

    def to_pure_state(self) -> PureState:
        """The full vector of 2^n amplitudes, in the package's order of sites.

        Raises:
            MemoryError: it does not fit.
        """
        itemsize = self.tensors[0].dtype.itemsize
        check_memory(3 * itemsize << self.n_sites, f"The vector of {self.n_sites} spins", "Measure the state instead.")
        vector = np.ones((1, 1))
        for tensor in self.tensors:
            vector = np.tensordot(vector, tensor, axes=1).reshape(-1, tensor.shape[2])
        axes = np.argsort(self.order)
        amplitudes = vector.reshape((2,) * self.n_sites).transpose(axes).reshape(-1)
        return PureState(self.n_sites, np.ascontiguousarray(amplitudes))

    def __repr__(self) -> str:
        bond, entropy = max(self.bond_dimensions, default=1), max(self.entanglement_entropy(), default=0.0)
        return (
            f"MatrixProductState({self.n_sites} spins, bond dimension {bond}, entanglement entropy {abs(entropy):.3g})"
        )


def _transfer(stack: np.ndarray, parents: np.ndarray, letters: np.ndarray, B: np.ndarray) -> np.ndarray:
    """sum_st P[s, t] B^s+ E B^t for pairs (environment, letter), shape (n_pairs, right, right)."""
    left, _, right = B.shape
    used, parents = np.unique(parents, return_inverse=True)
    half = (stack[used] @ B.reshape(left, 2 * right)).reshape(len(used), left, 2, right)
    bra = B.conj().reshape(2 * left, right).T
    out = np.empty((len(parents), right, right), dtype=np.result_type(half, complex if 2 in letters else half))
    for letter in np.unique(letters):
        pairs = np.flatnonzero(letters == letter)
        matrix = LETTERS[letter] if letter == 2 else LETTERS[letter].real
        acted = np.einsum("st,matc->masc", matrix, half[parents[pairs]])
        out[pairs] = bra @ acted.reshape(len(pairs), 2 * left, right)
    return out
