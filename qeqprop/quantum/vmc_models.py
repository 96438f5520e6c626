r"""Wave functions for variational Monte Carlo. They live here, so that saved states find their model again."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ..core.precision import jax_float64

SMALL, RADIUS, JASTROW_RADIUS = 32, 5, 10
"""Up to `SMALL` sites everything sees everything; above, hidden units and pairs see a ball of the graph."""
BALL, JASTROW_BALL = 25, 41
"""Most sites of these balls, which grow faster on lattices than on chains: more parameters than samples fit noise."""
SPREAD = 0.75
"""Initial standard deviation of what a hidden unit sees: units that start near 0 are all alike, and learn slowly."""
FACTORS = 512
"""Factors between 1 and 2 whose product does not overflow."""
ODD = ("field", "bias")
"""The parameters that break psi(-s) = psi(s); with all of them 0 the wave function is exactly even."""


class LocalRBM(nn.Module):
    r"""Restricted Boltzmann machine with local receptive fields, times a pair Jastrow factor:

    .. math:: \log\psi(s) = \sum_i a_i s_i + \sum_{(ij)} W_{ij} s_i s_j
        + \sum_{ca} \log\cosh\Bigl(b_{ca} + \sum_{k} w_{cak}\, s_{N(c)_k}\Bigr)

    with `alpha` hidden units at every centre c. Real, so psi > 0. With a = b = 0 it is even under the flip of all spins.

    Args:
        neighbourhoods: for every centre the sites that its units see, all equally long; -1 pads.
        pairs: the pairs (i, j) of the Jastrow factor.
        alpha: hidden units a centre.
        width: standard deviation of the initial weights w.
    """

    neighbourhoods: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[int, int], ...]
    alpha: int = 1
    width: float = 0.05

    @nn.compact
    def __call__(self, s: Any) -> Any:
        s = jnp.asarray(s, dtype=jnp.float64)
        seen = np.array(self.neighbourhoods)
        shape = (seen.shape[0], self.alpha)
        zeros, normal = nn.initializers.zeros, nn.initializers.normal(self.width)
        field = self.param("field", zeros, (s.shape[-1],), jnp.float64)
        bias = self.param("bias", zeros, shape, jnp.float64)
        weights = self.param("weights", normal, (*shape, seen.shape[1]), jnp.float64)
        # one dense product is faster than gathering the neighbourhoods; -1 falls on an extra row that is cut off
        rows, columns = seen[:, None, :], np.arange(shape[0] * self.alpha).reshape(*shape, 1)
        dense = jnp.zeros((s.shape[-1] + 1, columns.size)).at[rows, columns].set(weights)[:-1]
        log_psi = s @ field + sum_log_cosh(bias.reshape(-1) + s @ dense)
        if self.pairs:
            i, j = np.array(self.pairs).T
            jastrow = self.param("jastrow", zeros, (len(self.pairs),), jnp.float64)
            log_psi = log_psi + jnp.sum(s * (s @ jnp.zeros((s.shape[-1],) * 2).at[i, j].set(jastrow)), axis=-1)
        return log_psi


@jax.custom_jvp
def sum_log_cosh(x: Any) -> Any:
    """sum_a log cosh x_a over the last axis, without overflow; even to the last bit.

    A logarithm costs ten times an exponential, so it is taken of products of up to `FACTORS` units. The derivative is written
    down, tanh x, since that of |x| has a jump at 0.
    """
    size = jnp.abs(x)
    factors = 1 + jnp.exp(-2 * size)  # between 1 and 2
    parts = [factors[..., start : start + FACTORS] for start in range(0, x.shape[-1], FACTORS)]
    products = sum(jnp.log(jnp.prod(part, axis=-1)) for part in parts)
    return jnp.sum(size, axis=-1) + products - x.shape[-1] * np.log(2.0)


@sum_log_cosh.defjvp
def _derivative(primals: Any, tangents: Any) -> Any:
    (x,), (moved,) = primals, tangents
    return sum_log_cosh(x), jnp.sum(jnp.tanh(x) * moved, axis=-1)


def default_model(n_sites: int, edges: Sequence[tuple[int, int]], alpha: int = 1) -> LocalRBM:
    """The ansatz for a graph of couplings: all-range up to 32 sites, above hidden units that see a ball of at most 5 steps and
    25 sites (3 steps on a square lattice), and pairs at most 10 steps apart.

    Args:
        n_sites: number of spins.
        edges: pairs of spins that some term of the Hamiltonian couples.
        alpha: hidden units a site.
    """
    jax_float64()
    if n_sites <= SMALL:
        everything = tuple(range(n_sites))
        pairs = tuple((i, j) for i in everything for j in range(i))
        return LocalRBM((everything,) * n_sites, pairs, alpha, SPREAD / n_sites**0.5)
    distance = graph_distances(n_sites, edges, JASTROW_RADIUS)
    radius, jastrow = within(distance, BALL, RADIUS), within(distance, JASTROW_BALL, JASTROW_RADIUS)
    balls = [tuple(np.flatnonzero(row <= radius).tolist()) for row in distance]
    size = max(map(len, balls))
    pairs = tuple((int(i), int(j)) for i, j in np.argwhere(distance <= jastrow) if j < i)
    return LocalRBM(tuple((*ball, *[-1] * (size - len(ball))) for ball in balls), pairs, alpha, SPREAD / size**0.5)


def within(distance: np.ndarray, sites: int, largest: int) -> int:
    """The largest radius, from 1 to `largest`, whose balls have at most so many sites."""
    radii = range(largest, 1, -1)
    return next((radius for radius in radii if np.sum(distance <= radius, axis=1).max() <= sites), 1)


def graph_distances(n_sites: int, edges: Sequence[tuple[int, int]], largest: int) -> np.ndarray:
    """Steps between all sites (n, n); `largest` + 1 where there are more."""
    adjacent = np.zeros((n_sites, n_sites), dtype=bool)
    for i, j in edges:
        adjacent[i, j] = adjacent[j, i] = True
    reached = np.eye(n_sites, dtype=bool)
    distance = np.where(reached, 0, largest + 1)
    for step in range(1, largest + 1):
        reached = reached | (reached.astype(int) @ adjacent.astype(int) > 0)
        distance = np.where(reached & (distance > step), step, distance)
    return distance


def odd_parameters(params: Any) -> Any:
    """A tree like `params`: True for those that break the symmetry under the flip of all spins."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in ODD, params)
