r"""Pauli sums as JAX functions of sampled configurations.

A real string P = X^x Z^z has one element per row, <s|P|s^x> = prod_{i in z} s_i (the number of Y's is even, so the sign
is the same on both sides). All operators of a system share a table of strings; strings with equal x share the connected
configuration s^x. Coefficients are arguments, never constants: new parameters do not recompile anything. Masks are
Python integers, so the number of sites is not bounded by the bits of a machine word.
"""

import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np

from ..core.precision import jax_float64
from .conversion import sites_of, write_label
from .pauli import PauliSum


class SpinOperator(eqx.Module):
    """Some operators over a common table of strings, in a sign gauge; all methods take any leading axes.

    Configurations are arrays (..., n_sites) of +1 (up) and -1. `coefficients` are those of the strings, see
    `coefficients`; the diagonal strings come first.

    Attributes:
        n_sites: number of spins.
        n_diagonal: number of strings without flips.
        flips: (n_flips, n_sites), -1 at the sites that the flip turns and +1 elsewhere.
        sites: (n_strings, largest number of Z's), the sites whose Z's a string multiplies, padded with n_sites.
        flip_of: (n_strings - n_diagonal,), the flip of each other string.
        matrix: (n_operators, n_strings): operator k = sum_s matrix[k, s] * string s.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> H = spin_operator((-(qp.Z(0) * qp.Z(1)), -qp.X(0)), 2)
        >>> c = H.coefficients(np.array([1.0, 0.5]))
        >>> up = np.array([1.0, 1.0])
        >>> float(H.diagonal(c, up)), H.connected(up).tolist(), H.matrix_elements(c, up).tolist()
        (-1.0, [[-1.0, 1.0]], [-0.5])
    """

    n_sites: int = eqx.field(static=True)
    n_diagonal: int = eqx.field(static=True)
    flips: np.ndarray
    sites: np.ndarray
    flip_of: np.ndarray
    matrix: np.ndarray

    @property
    def n_flips(self) -> int:
        """Number of configurations connected with each."""
        return self.flips.shape[0]

    @property
    def n_strings(self) -> int:
        """Number of distinct strings."""
        return self.sites.shape[0]

    def coefficients(self, strengths: Any) -> Any:
        """Coefficients (..., n_strings) of sum_k strengths[..., k] * operator k."""
        return strengths @ self.matrix

    def signs(self, sigma: Any) -> Any:
        """prod_{i in z} s_i of every string, shape (..., n_strings)."""
        jnp = jax_float64().numpy
        sigma = jnp.asarray(sigma, dtype=jnp.float64)
        padded = jnp.concatenate([sigma, jnp.ones((*sigma.shape[:-1], 1))], axis=-1)
        return jnp.prod(padded[..., self.sites], axis=-1)

    def connected(self, sigma: Any) -> Any:
        """The configurations s^x, shape (..., n_flips, n_sites)."""
        jnp = jax_float64().numpy
        return jnp.asarray(sigma)[..., None, :] * jnp.asarray(self.flips, dtype=jnp.asarray(sigma).dtype)

    def diagonal(self, coefficients: Any, sigma: Any) -> Any:
        """<s|H|s>, shape (...)."""
        n = self.n_diagonal
        return self.signs(sigma)[..., :n] @ coefficients[:n]

    def matrix_elements(self, coefficients: Any, sigma: Any) -> Any:
        """<s|H|s^x>, shape (..., n_flips)."""
        jnp = jax_float64().numpy
        values = self.signs(sigma)[..., self.n_diagonal :] * coefficients[self.n_diagonal :]
        return jnp.zeros((*values.shape[:-1], self.n_flips)).at[..., self.flip_of].add(values)

    def local_strings(self, ratios: Any, sigma: Any) -> Any:
        """<s|P|psi>/<s|psi> of every string, shape (..., n_strings), from ratios psi(s^x)/psi(s) (..., n_flips)."""
        jnp = jax_float64().numpy
        factors = jnp.concatenate([jnp.ones((*ratios.shape[:-1], self.n_diagonal)), ratios[..., self.flip_of]], axis=-1)
        return self.signs(sigma) * factors

    def pauli_sum(self, coefficients: Any) -> PauliSum:
        """sum_s coefficients[s] * string s as a Pauli sum, in the gauge of the table."""
        terms = []
        flips = np.concatenate([np.ones((self.n_diagonal, self.n_sites)), self.flips[self.flip_of]])
        for flip, sites, c in zip(flips, self.sites, np.asarray(coefficients).tolist(), strict=True):
            x = sum(1 << int(site) for site in np.flatnonzero(flip < 0))
            z = sum(1 << int(site) for site in sites if site < self.n_sites)
            terms.append((x, z, c * (-1) ** ((x & z).bit_count() // 2)))
        return PauliSum(terms)

    def __repr__(self) -> str:
        return (
            f"SpinOperator({self.n_sites} spins, {self.matrix.shape[0]} operators, {self.n_strings} strings, "
            f"{self.n_flips} flips)"
        )


def spin_operator(
    operators: Sequence[PauliSum], n_sites: int, gauge: Sequence[int] | np.ndarray | None = None
) -> SpinOperator:
    """The common table of some real Pauli sums.

    Args:
        operators: Hermitian and real: every string has an even number of Y's.
        n_sites: number of spins.
        gauge: +1 or -1 for each site; the table is that of U H U with U = prod Z_i over the sites with -1, which turns
            X_i into -X_i there.

    Raises:
        ValueError: a string is complex, or acts beyond the last site.
    """
    signs = (1,) * n_sites if gauge is None else tuple(int(sign) for sign in gauge)
    return _table(tuple(operators), n_sites, signs)


@functools.lru_cache(maxsize=64)
def _table(operators: tuple[PauliSum, ...], n_sites: int, gauge: tuple[int, ...]) -> SpinOperator:
    turned = sum(1 << site for site, sign in enumerate(gauge) if sign < 0)
    entries: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for row, operator in enumerate(operators):
        _check_real(operator, n_sites)
        for x, z, c in operator:
            # P = i^(number of Y's) X^x Z^z, and an even number of Y's gives the sign +1 or -1
            sign = (-1) ** ((x & z).bit_count() // 2 + (x & turned).bit_count())
            entries.setdefault((x, z), []).append((row, sign * c.real))
    strings = sorted(entries, key=lambda string: (string[0] != 0, string))
    masks = sorted({x for x, _ in strings if x})
    supports = [sites_of(z) for _, z in strings]
    weight = max(map(len, supports), default=0)
    matrix = np.zeros((len(operators), len(strings)))
    for column, string in enumerate(strings):
        for row, value in entries[string]:
            matrix[row, column] += value
    index = {x: k for k, x in enumerate(masks)}
    return SpinOperator(
        n_sites=n_sites,
        n_diagonal=sum(x == 0 for x, _ in strings),
        flips=np.array([[-1.0 if x >> i & 1 else 1.0 for i in range(n_sites)] for x in masks]).reshape(
            len(masks), n_sites
        ),
        sites=np.array([[*s, *[n_sites] * (weight - len(s))] for s in supports], dtype=int).reshape(
            len(strings), weight
        ),
        flip_of=np.array([index[x] for x, _ in strings if x], dtype=int),
        matrix=matrix,
    )


def _check_real(operator: PauliSum, n_sites: int) -> None:
    if operator.max_site >= n_sites:
        raise ValueError(
            f"An operator acts on site {operator.max_site}, but the state has {n_sites} sites (0 to {n_sites - 1})."
        )
    if complex_strings := [write_label(x, z) for x, z, _ in operator if (x & z).bit_count() % 2]:
        raise ValueError(
            f"Variational Monte Carlo needs a real Hamiltonian and real observables, but {', '.join(complex_strings[:4])} "
            "has an odd number of Y's. Use ExactDiagonalization."
        )
