"""`JaxSpinOperator`: a NetKet operator whose couplings are arguments of the compiled code. NetKet is imported lazily."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.precision import jax_float64
from .pauli import PauliSum
from .vmc_operator import SpinOperator, spin_operator

if TYPE_CHECKING:
    JaxSpinOperator: Any


@functools.cache
def _operator_class() -> type:
    """The class, made at first use: its base class comes from NetKet."""
    jax = jax_float64()
    import netket

    @jax.tree_util.register_pytree_node_class
    class JaxSpinOperator(netket.operator.DiscreteJaxOperator):
        """A Pauli sum as a `netket.operator.DiscreteJaxOperator`, couplings and strings being leaves of the pytree.

        NetKet compiles once for a shape: other couplings, and other graphs with as many strings, cost nothing.

        Args:
            hilbert: `netket.hilbert.Spin(1/2, n_sites)`.
            table: the strings, from `spin_operator`.
            coefficients: of the strings, shape (n_strings,).

        Example:
            >>> import netket as nk, numpy as np, qeqprop as qp
            >>> H = qp.quantum.JaxSpinOperator.from_operators(nk.hilbert.Spin(0.5, 2), [qp.Z(0) * qp.Z(1), qp.X(0)])
            >>> H.with_strengths(np.array([-1.0, -0.5])).to_dense()[0]
            Array([-1. ,  0. , -0.5,  0. ], dtype=float64)
        """

        def __init__(self, hilbert: Any, table: SpinOperator, coefficients: Any):
            super().__init__(hilbert)
            self.table, self.coefficients = table, coefficients

        @classmethod
        def from_operators(
            cls, hilbert: Any, operators: Sequence[PauliSum], strengths: Any = None, gauge: Any = None
        ) -> Any:
            """sum_k strengths[k] * operators[k]; without strengths their plain sum."""
            table = spin_operator(operators, hilbert.size, gauge)
            strengths = np.ones(len(operators)) if strengths is None else np.asarray(strengths)
            return cls(hilbert, table, table.coefficients(strengths))

        @classmethod
        def from_netket(cls, operator: Any) -> Any:
            """Any NetKet operator on spins 1/2 that has a form as real Pauli strings."""
            return cls.from_operators(operator.hilbert, [PauliSum.from_netket(operator)])

        def with_strengths(self, strengths: Any) -> Any:
            """The same strings with other strengths of the operators."""
            return type(self)(self.hilbert, self.table, self.table.coefficients(strengths))

        def to_pauli_sum(self) -> PauliSum:
            """The sum as a qeqprop operator, in the gauge of the table."""
            return self.table.pauli_sum(self.coefficients)

        def to_pauli_strings(self) -> Any:
            """NetKet's `PauliStrings`."""
            return self.to_pauli_sum().to_netket(self.hilbert.size, self.hilbert)

        @property
        def dtype(self) -> Any:
            return np.float64

        @property
        def is_hermitian(self) -> bool:
            return True

        @property
        def max_conn_size(self) -> int:
            return self.table.n_flips + 1

        def get_conn_padded(self, x: Any) -> tuple[Any, Any]:
            return _connections(self.table, self.coefficients, x)

        def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
            return (self.table, self.coefficients), self.hilbert

        @classmethod
        def tree_unflatten(cls, hilbert: Any, leaves: tuple[Any, ...]) -> Any:
            made = object.__new__(cls)
            netket.operator.DiscreteJaxOperator.__init__(made, hilbert)
            made.table, made.coefficients = leaves
            return made

        def __repr__(self) -> str:
            return f"JaxSpinOperator({self.table.n_strings} strings, hilbert={self.hilbert})"

    JaxSpinOperator.__module__, JaxSpinOperator.__qualname__ = __name__, "JaxSpinOperator"
    return JaxSpinOperator


@functools.cache
def _compiled_connections() -> Any:
    jax = jax_float64()

    def connections(table: SpinOperator, coefficients: Any, x: Any) -> tuple[Any, Any]:
        jnp = jax.numpy
        others = jnp.concatenate([x[..., None, :], table.connected(x)], axis=-2)
        elements = [table.diagonal(coefficients, x)[..., None], table.matrix_elements(coefficients, x)]
        return others, jnp.concatenate(elements, axis=-1)

    return jax.jit(connections)


def _connections(table: SpinOperator, coefficients: Any, x: Any) -> tuple[Any, Any]:
    """Configurations (..., n_flips + 1, n_sites) connected with x, itself first, and the matrix elements."""
    return _compiled_connections()(table, coefficients, x)


def compilations() -> int:
    """How often the connected elements were compiled: once for a shape, however often the couplings change."""
    return _compiled_connections()._cache_size()


def __getattr__(name: str) -> Any:
    if name == "JaxSpinOperator":
        return _operator_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
