"""Bring your own Hamiltonian: Hermitian terms as QuTiP objects, SciPy sparse matrices or dense arrays."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.nudge import WeightedObservables, check_observables
from ..core.system import AbstractSystem, Params, real_array, replaced

if TYPE_CHECKING:
    from .exact import ExactDiagonalization


class MatrixOperator:
    """A Hermitian matrix as an observable, e.g. `qp.ObservableCost(qp.MatrixOperator(qutip.num(5)))`.

    Args:
        matrix: a QuTiP operator, a SciPy sparse matrix or a dense array, Hermitian to 1e-12 of its largest element.

    Raises:
        TypeError: not a matrix. ValueError: not square, not finite or not Hermitian.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> z, x = np.diag([1.0, -1.0]), np.array([[0.0, 1.0], [1.0, 0.0]])
        >>> print(qp.equilibrate(qp.OperatorSystem({"a": [z, x]}), {"a": [0.6, 0.8]}).state.expect(qp.MatrixOperator(z)))
        -0.6
    """

    __slots__ = ("matrix",)
    matrix: sp.csr_array

    def __init__(self, matrix: Any):
        self.matrix = _as_csr(matrix, "matrix")

    @property
    def dim(self) -> int:
        return self.matrix.shape[0]

    @property
    def is_hermitian(self) -> bool:
        return True  # refused at construction otherwise

    @property
    def norm_bound(self) -> float:
        """Largest absolute row sum, an upper bound of the operator norm."""
        return float(abs(self.matrix).sum(axis=1).max())

    def without_identity(self) -> "MatrixOperator":
        """The traceless part."""
        shift = self.matrix.trace() / self.dim
        return MatrixOperator(self.matrix - shift * sp.eye_array(self.dim, format="csr"))

    def expectation(self, amplitudes: np.ndarray) -> np.ndarray:
        """<psi|A|psi> of (batches of) amplitudes."""
        if amplitudes.shape[-1] != self.dim:
            raise ValueError(f"An operator of dimension {self.dim} cannot act on a state of {amplitudes.shape[-1]}.")
        return np.sum(np.conj(amplitudes) * (self.matrix @ amplitudes.T).T, axis=-1).real

    def __repr__(self) -> str:
        return f"MatrixOperator(dim={self.dim}, {self.matrix.dtype}, {self.matrix.nnz} elements)"


def _as_csr(matrix: Any, name: str) -> sp.csr_array:
    if hasattr(matrix, "data_as"):  # a qutip.Qobj
        matrix = matrix.data_as("csr_matrix") if type(matrix.data).__name__ == "CSR" else matrix.full()
    if isinstance(matrix, MatrixOperator):
        return matrix.matrix
    try:
        csr = sp.csr_array(matrix)
    except (TypeError, ValueError):
        raise TypeError(f"Argument `{name}` must be a matrix, but is {type(matrix).__name__}.") from None
    if csr.ndim != 2 or csr.shape[0] != csr.shape[1] or not csr.shape[0]:
        raise ValueError(f"Argument `{name}` must be a square matrix, but has shape {csr.shape}.")
    if csr.dtype.kind not in "fciu":
        raise TypeError(f"Argument `{name}` must hold numbers, but has dtype {csr.dtype}.")
    if not np.all(np.isfinite(csr.data)):
        raise ValueError(f"Argument `{name}` must be finite, but holds a NaN or an infinity.")
    deviation = abs(csr - csr.conj().T)
    if deviation.nnz and deviation.max() > 1e-12 * max(abs(csr).max(), 1e-300):
        raise ValueError(f"Argument `{name}` must be Hermitian, but differs from its adjoint by {deviation.max():.3g}.")
    if csr.dtype.kind == "c" and not np.any(csr.data.imag):
        csr = csr.real
    return sp.csr_array(csr.astype(np.complex128 if csr.dtype.kind == "c" else np.float64))


class OperatorSystem(AbstractSystem):
    """H = fixed + sum_(name, k) params[name][k] * terms[name][k] + sum_m inputs[m] * inputs_m with your own matrices.

    Args:
        terms: name -> list of Hermitian operators (Qobj, sparse, dense) of one dimension.
        fixed: the untrained part.
        inputs: operators scaled by the components of the inputs.

    Raises:
        ValueError: an operator is not Hermitian, not finite, or of another dimension than the first.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> sx, sz = np.array([[0, 1], [1, 0]]), np.diag([1, -1])
        >>> qubit = qp.OperatorSystem({"field": [-sx, -sz]})
        >>> cost = qp.ObservableCost(qp.MatrixOperator(sz))
        >>> out = qp.linear_response(qubit, {"field": [1.0, 0.5]}, cost)
        >>> print(out.grad["field"].round(6))  # <Z> = b / sqrt(a^2 + b^2)
        [-0.357771  0.715542]
    """

    terms: tuple[tuple[str, tuple[MatrixOperator, ...]], ...] = eqx.field(static=True)
    fixed: MatrixOperator | None = eqx.field(static=True)
    input_terms: tuple[MatrixOperator, ...] = eqx.field(static=True)
    inputs: np.ndarray
    nudges: tuple[tuple[WeightedObservables, complex], ...]

    def __init__(self, terms: Mapping[str, Sequence[Any]], fixed: Any = None, *, inputs: Sequence[Any] = ()):
        if not isinstance(terms, Mapping):
            raise TypeError("Argument `terms` must be a non-empty dict {name: [operator, ...]}.")
        self.terms = tuple((str(name), _listed(listed, f"terms[{name!r}]")) for name, listed in terms.items())
        if not self._operators():
            raise TypeError("Argument `terms` must be a non-empty dict {name: [operator, ...]}.")
        self.fixed = None if fixed is None else _operator(fixed, "fixed")
        self.input_terms = _listed(inputs, "inputs")
        self.inputs = np.zeros(len(self.input_terms))
        self.nudges = ()
        everything = [*self._operators(), *self.input_terms, *([self.fixed] if self.fixed else [])]
        if len(dims := {operator.dim for operator in everything}) > 1:
            raise ValueError(f"All operators must have one dimension, but have {sorted(dims)}.")

    def _operators(self) -> list[MatrixOperator]:
        return [operator for _, operators in self.terms for operator in operators]

    @property
    def dim(self) -> int:
        """Dimension of the Hilbert space."""
        return self._operators()[0].dim

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: (len(operators),) for name, operators in self.terms}

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return (len(self.input_terms),) if self.input_terms else None

    @property
    def batch_size(self) -> int | None:
        return self.inputs.shape[0] if self.inputs.ndim == 2 else None

    def with_inputs(self, inputs: ArrayLike) -> "OperatorSystem":
        """The system with its inputs set; a leading axis is the batch axis."""
        array = real_array(inputs, "inputs")
        n = len(self.input_terms)
        if not n or array.ndim not in (1, 2) or array.shape[-1] != n or not array.size:
            raise ValueError(f"Argument `inputs` must have shape ({n},) or (batch, {n}), but has shape {array.shape}.")
        return replaced(self, inputs=array)

    def nudged(self, term: WeightedObservables, strength: complex) -> "OperatorSystem":
        """The system with energy E + strength * term."""
        check_observables(term, "An operator system")
        for observable in term.observables:
            if not isinstance(observable, MatrixOperator) or observable.dim != self.dim:
                raise TypeError(
                    f"This system is nudged by MatrixOperators of dimension {self.dim}, not by {observable}."
                )
        return replaced(self, nudges=(*self.nudges, (term, strength)))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Normal random numbers of width 1/sqrt(number of terms of that name)."""
        rng = np.random.default_rng(rng)
        return {name: rng.normal(size=shape) / np.sqrt(max(shape[0], 1)) for name, shape in self.param_shapes.items()}

    def default_solver(self) -> "ExactDiagonalization":
        from .exact import ExactDiagonalization

        return ExactDiagonalization()

    def weighted(self, params: Params) -> list[tuple[float, MatrixOperator]]:
        """H(theta) with inputs and nudges as pairs (strength, operator)."""
        pairs = list(zip(np.concatenate([params[name] for name, _ in self.terms]), self._operators(), strict=True))
        pairs += [(1.0, self.fixed)] if self.fixed else []
        pairs += list(zip(self.inputs, self.input_terms, strict=True))
        for term, strength in self.nudges:
            pairs += list(zip(strength * term.weights, term.observables, strict=True))
        return pairs

    def matrix(self, params: Params) -> sp.csr_array:
        """H(theta) with inputs and nudges, as one sparse matrix."""
        total = sp.csr_array((self.dim, self.dim), dtype=np.float64)
        for weight, operator in self.weighted(params):
            total = total + weight * operator.matrix
        return sp.csr_array(total)

    def energy(self, params: Params, state: Any) -> Estimate:
        """<H>, nudges included."""
        weights, operators = zip(*self.weighted(params), strict=True)
        return Estimate.exact(np.asarray(weights) @ state.expect_all(operators).mean)

    def param_grad(self, params: Params, state: Any) -> Estimate:
        """<dH/dtheta>: the expectation value of every term."""
        return Estimate.exact(
            {name: state.expect_all(operators).mean if operators else np.zeros(0) for name, operators in self.terms}
        )

    def transition_forces(self, bra: np.ndarray, ket: np.ndarray) -> dict[str, np.ndarray]:
        """2 Re <bra|dH/dtheta|ket>."""
        return {
            name: np.array([2 * np.vdot(bra, op.matrix @ ket).real for op in operators])
            for name, operators in self.terms
        }

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.param_shapes.items())
        return f"OperatorSystem(dim={self.dim}, parameters {shapes})"


def _listed(operators: Any, name: str) -> tuple[MatrixOperator, ...]:
    """All operators of a list, a tuple or a stack (k, n, n). TypeError: a single one."""
    if not isinstance(operators, list | tuple) and getattr(operators, "ndim", 0) != 3:
        raise TypeError(
            f"Argument `{name}` must be a list of operators, but is {type(operators).__name__}: of one operator write "
            "`[operator]`."
        )
    return tuple(_operator(operator, f"{name}[{k}]") for k, operator in enumerate(operators))


def _operator(operator: Any, name: str) -> MatrixOperator:
    made = object.__new__(MatrixOperator)
    made.matrix = _as_csr(operator, name)
    return made
