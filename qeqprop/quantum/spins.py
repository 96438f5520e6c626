"""Spin networks: H = fixed + sum_k theta_k * (sum of Pauli strings), driven by inputs and bent by nudges."""

import abc
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.nudge import WeightedObservables, check_observables
from ..core.system import AbstractSystem, Params, real_array, replaced
from .pauli import PauliSum
from .strings import StringTable, string_table

if TYPE_CHECKING:
    from .exact import ExactDiagonalization

Terms = tuple[tuple[str, tuple[PauliSum, ...]], ...]
Drives = tuple[tuple[str, tuple[int, ...]], ...]
Nudge = tuple[WeightedObservables, complex]


class SpinHamiltonian(NamedTuple):
    """A Hamiltonian in numbers: sum_s coefficients[..., s] * string s. The leading axis is the batch axis."""

    n_sites: int
    n_bits: int
    x: np.ndarray
    z: np.ndarray
    coefficients: np.ndarray

    @property
    def realified(self) -> bool:
        return self.n_bits > self.n_sites


class AbstractSpinSystem(AbstractSystem):
    """What all spin systems share: they differ in how their terms are made, and in nothing else.

    Attributes:
        n_sites: number of spins.
        terms: name -> operators; parameter `name`[k] multiplies operator k.
        fixed: the part of H that no parameter multiplies.
        input_terms: operators multiplied by the inputs' components.
        drives: name -> for every parameter the index of the input that scales it (-1: none): a coupling to a clamped,
            classical input node.
        inputs: the inputs in force, shape (..., n_inputs).
        nudges: the cost terms in force, each with its strength.
    """

    n_sites: eqx.AbstractVar[int]
    terms: eqx.AbstractVar[Terms]
    fixed: eqx.AbstractVar[PauliSum]
    input_terms: eqx.AbstractVar[tuple[PauliSum, ...]]
    drives: eqx.AbstractVar[Drives]
    inputs: eqx.AbstractVar[np.ndarray]
    nudges: eqx.AbstractVar[tuple[Nudge, ...]]

    @abc.abstractmethod
    def init_params(self, rng: np.random.Generator | int) -> Params: ...

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: (len(operators),) for name, operators in self.terms}

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return (n,) if (n := _n_inputs(self.input_terms, self.drives)) else None

    @property
    def batch_size(self) -> int | None:
        axes = [self.inputs.shape[:-1], *(term.weights.shape[:-1] for term, _ in self.nudges)]
        return max((shape[0] for shape in axes if shape), default=None)

    def with_inputs(self, inputs: ArrayLike) -> "AbstractSpinSystem":
        """The network with its inputs set; a leading axis is the batch axis."""
        n_inputs = _n_inputs(self.input_terms, self.drives)
        if not n_inputs:
            raise ValueError("Argument `inputs` must be None: this network has no input sites and no input terms.")
        array = real_array(inputs, "inputs")
        if array.ndim not in (1, 2) or array.shape[-1] != n_inputs or array.size == 0:
            raise ValueError(
                f"Argument `inputs` must have shape ({n_inputs},) or (batch, {n_inputs}), but has shape {array.shape}."
            )
        return replaced(self, inputs=array)

    def nudged(self, term: WeightedObservables, strength: complex) -> "AbstractSpinSystem":
        """The network with energy E + strength * term."""
        check_observables(term, "A spin network")
        for observable in term.observables:
            if not isinstance(observable, PauliSum):
                raise TypeError(
                    f"A spin network is nudged by Pauli sums, but not by {type(observable).__name__}: make one by "
                    "`PauliSum.from_matrix` or `PauliSum.from_qutip`."
                )
        return replaced(self, nudges=(*self.nudges, (term, strength)))

    def default_solver(self) -> "ExactDiagonalization":
        from .exact import ExactDiagonalization

        return ExactDiagonalization()

    def operators(self) -> tuple[PauliSum, ...]:
        """What H is made of: the terms, the fixed part, the inputs' operators and the nudges' observables."""
        observables = tuple(observable for term, _ in self.nudges for observable in term.observables)
        return (*_flat(self.terms), self.fixed, *self.input_terms, *observables)

    def strengths(self, params: Params) -> np.ndarray:
        """What H(theta) multiplies each of `operators()` by, shape (..., n_operators)."""
        flat = np.concatenate([[], *(params[name] for name, _ in self.terms)])
        weights = [flat * self._drive_factors(), np.ones(1)]
        if self.input_terms:
            weights.append(self.inputs[..., : len(self.input_terms)])
        weights.extend(strength * term.weights for term, strength in self.nudges)
        batch = () if self.batch_size is None else (self.batch_size,)
        return np.concatenate([np.broadcast_to(w, (*batch, w.shape[-1])) for w in weights], axis=-1)

    def hamiltonian(self, params: Params) -> SpinHamiltonian:
        """H(theta) + nudges as a table of strings with one coefficient (per sample) each."""
        table = string_table(self.operators(), self.n_sites)
        coefficients = (table.coefficients.T @ self.strengths(params).T).T
        return SpinHamiltonian(self.n_sites, table.n_bits, table.x, table.z, np.ascontiguousarray(coefficients))

    def pauli_sum(self, params: Mapping[str, ArrayLike]) -> PauliSum:
        """H(theta), nudges included, as one operator, which has converters: `to_netket`, `to_qutip`, `to_scipy`, ...

        Raises:
            ValueError: the inputs are a batch: there are many operators.

        Example:
            >>> import qeqprop as qp
            >>> net = qp.TransverseFieldIsing(2, [(0, 1)])
            >>> net.pauli_sum({"J": [1.0], "h": [0.5, 0.0], "g": [1.0, 2.0]})
            -0.5 * Z0 - 1.0 * Z0 Z1 - 1.0 * X0 - 2.0 * X1
        """
        if self.batch_size is not None:
            raise ValueError(f"Argument `inputs` must be those of one sample, but the network has {self.batch_size}.")
        strengths = self.strengths(self.check_params(params)).tolist()
        return PauliSum(
            (x, z, c * w) for operator, w in zip(self.operators(), strengths, strict=True) for x, z, c in operator
        )

    @property
    def n_bits(self) -> int:
        """Bits of the real vectors that H acts on: n_sites, or one more where H is complex."""
        return string_table(self.operators(), self.n_sites).n_bits

    def energy(self, params: Params, state: Any) -> Estimate:
        """<H>, nudges included."""
        return state.expect_all(self.operators()).weighted_sum(self.strengths(params))

    def param_grad(self, params: Params, state: Any) -> Estimate:
        """<dH/dtheta>: one measurement of all terms, whatever the state is."""
        values = state.expect_all(_flat(self.terms))
        if values.replicas is not None:
            return Estimate.jackknife(self.forces(values.mean), self.forces(values.replicas))
        return Estimate(self.forces(values.mean), {n: np.abs(v) for n, v in self.forces(values.stderr).items()})

    def force_table(self) -> StringTable:
        """The strings that the forces are made of."""
        return string_table(_flat(self.terms), self.n_sites)

    def contract(self, moments: np.ndarray) -> dict[str, np.ndarray]:
        """Expectation values of the strings of `force_table` (..., n_strings) -> forces like the parameters."""
        return self.forces((self.force_table().coefficients @ moments.T).T)

    def forces(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Expectation values of the terms (..., n_terms) -> <dH/dtheta>, scaled by the drives, like the parameters."""
        ends = np.cumsum([len(operators) for _, operators in self.terms])
        parts = np.split(values * self._drive_factors(), ends[:-1], axis=-1)
        return {name: part for (name, _), part in zip(self.terms, parts, strict=True)}

    def _drive_factors(self) -> np.ndarray:
        """The input that scales each parameter; 1 where none does."""
        if not self.drives:
            return np.ones(1)
        index = _drive_index(self.terms, self.drives)
        return np.where(index >= 0, self.inputs[..., index], 1.0)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.param_shapes.items())
        extra = f", {n} inputs" if (n := _n_inputs(self.input_terms, self.drives)) else ""
        batch = f", batch of {self.batch_size}" if self.batch_size is not None else ""
        nudge = ", nudged" if self.nudges else ""
        return f"{type(self).__name__}({self.n_sites} spins, parameters {shapes}{extra}{batch}{nudge})"


@functools.lru_cache(maxsize=64)
def _flat(terms: Terms) -> tuple[PauliSum, ...]:
    return tuple(operator for _, operators in terms for operator in operators)


@functools.lru_cache(maxsize=64)
def _drive_index(terms: Terms, drives: Drives) -> np.ndarray:
    by_name = dict(drives)
    return np.concatenate([by_name.get(name, (-1,) * len(operators)) for name, operators in terms]).astype(int)


def _n_inputs(input_terms: tuple[PauliSum, ...], drives: Drives) -> int:
    return max([len(input_terms), *(index + 1 for _, indices in drives for index in indices)])


class SpinNetwork(AbstractSpinSystem):
    """H = fixed + sum_(name, k) params[name][k] * s_(name, k) * terms[name][k] + sum_m inputs[m] * inputs_m

    with any sums of Pauli strings. s = 1, or the input that `drives` names (a coupling to a clamped classical node).

    Args:
        n_sites: number of spins.
        terms: name -> list of Hermitian operators; the sign is yours: nothing is negated.
        fixed: the untrained part.
        inputs: operators scaled by the components of the inputs.
        drives: name -> list of input indices (-1: none), one for every parameter of that name.

    Raises:
        TypeError, ValueError: an operator that is not a Hermitian Pauli sum or acts beyond the last site.

    Example:
        >>> import qeqprop as qp
        >>> xxz = qp.SpinNetwork(3, {"D": [qp.Z(i) * qp.Z(i + 1) for i in range(2)]},
        ...                      fixed=sum(qp.X(i) * qp.X(i + 1) + qp.Y(i) * qp.Y(i + 1) for i in range(2)))
        >>> xxz
        SpinNetwork(3 spins, parameters D (2,))
    """

    n_sites: int = eqx.field(static=True)
    terms: Terms = eqx.field(static=True)
    fixed: PauliSum = eqx.field(static=True)
    input_terms: tuple[PauliSum, ...] = eqx.field(static=True)
    drives: Drives = eqx.field(static=True)
    inputs: np.ndarray
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        n_sites: int,
        terms: Mapping[str, Sequence[PauliSum]],
        fixed: PauliSum | None = None,
        *,
        inputs: Sequence[PauliSum] = (),
        drives: Mapping[str, Sequence[int]] | None = None,
    ):
        self.n_sites = check_count(n_sites, "n_sites")
        if not isinstance(terms, Mapping) or not terms:
            raise TypeError("Argument `terms` must be a non-empty dict {name: [operator, ...]}.")
        self.terms = tuple(
            (str(name), check_operators(ops, f"terms[{name!r}]", n_sites)) for name, ops in terms.items()
        )
        self.fixed = PauliSum({}) if fixed is None else check_operators([fixed], "fixed", n_sites)[0]
        self.input_terms = check_operators(inputs, "inputs", n_sites)
        self.drives = check_drives(drives or {}, dict(self.terms))
        self.inputs = np.zeros(_n_inputs(self.input_terms, self.drives))
        self.nudges = ()

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Normal random numbers of width 1/sqrt(number of terms of that name)."""
        rng = np.random.default_rng(rng)
        return {name: rng.normal(size=shape) / np.sqrt(max(shape[0], 1)) for name, shape in self.param_shapes.items()}


def check_operators(operators: Any, name: str, n_sites: int) -> tuple[PauliSum, ...]:
    """A tuple of Hermitian Pauli sums that act on sites 0 .. n_sites - 1."""
    if not isinstance(operators, list | tuple):
        raise TypeError(f"Argument `{name}` must be a list of Pauli sums, but is {type(operators).__name__}.")
    for k, operator in enumerate(operators):
        if not isinstance(operator, PauliSum):
            raise TypeError(f"Argument `{name}[{k}]` must be a Pauli sum, but is {type(operator).__name__}.")
        if not operator.is_hermitian:
            raise ValueError(f"Argument `{name}[{k}]` must be Hermitian, but is {operator}.")
        if operator.max_site >= n_sites:
            raise ValueError(
                f"Argument `{name}[{k}]` acts on site {operator.max_site}, but the system has n_sites={n_sites} "
                f"(sites 0 to {n_sites - 1})."
            )
    return tuple(operators)


def check_drives(drives: Mapping[str, Sequence[int]], terms: Mapping[str, tuple[PauliSum, ...]]) -> Drives:
    """One input index (or -1) for every parameter of the names given."""
    if unknown := [name for name in drives if name not in terms]:
        raise ValueError(f"Argument `drives` must have names among {list(terms)}, but has {unknown}.")
    for name, indices in drives.items():
        if len(indices) != len(terms[name]):
            raise ValueError(
                f"Argument `drives[{name!r}]` must have one input index for each of the {len(terms[name])} terms, "
                f"but has {len(indices)}."
            )
        if any(check_count(index, f"drives[{name!r}]", -1) < -1 for index in indices):
            raise ValueError(f"Argument `drives[{name!r}]` must hold input indices from 0, or -1 for none.")
    return tuple((name, tuple(int(i) for i in indices)) for name, indices in drives.items())
