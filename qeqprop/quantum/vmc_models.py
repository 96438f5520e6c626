r"""Wave functions for variational Monte Carlo. They live here, so that saved states find their model again."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ..core.precision import jax_float64

SMALL, RADIUS, JASTROW_RADIUS = 32, 3, 5
"""Up to `SMALL` sites everything sees everything; above, units (in two layers) and pairs see a ball of the graph."""
BALL, JASTROW_BALL = 13, 25
"""Most sites of these balls, which grow faster on lattices than on chains: more parameters than samples fit noise."""
SPREAD = 0.75
"""Initial standard deviation of what a hidden unit sees: units that start near 0 are all alike, and learn slowly."""
FACTORS = 512
"""Factors between 1 and 2 whose product does not overflow."""
ODD = ("field", "bias", "lower_bias")
"""The parameters that break psi(-s) = psi(s); with all of them 0 the wave function is exactly even."""


class LocalNetwork(nn.Module):
    r"""Layers of units with local receptive fields and an order spin, times a pair Jastrow factor:

    .. math:: \log\psi(s) = \sum_i a_i s_i + \sum_{(ij)} W_{ij} s_i s_j + \log \sum_{\tau = \pm 1} \exp\Bigl[
        \tau \sum_i A_i s_i + \sum_{ca} \log\cosh\Bigl(b_{ca} + \tau B_{ca} + \sum_{k} w_{cak}\, x_{N(c)_k}\Bigr)\Bigr]

    with `alpha` units at every centre c, which see x = s (one layer: a restricted Boltzmann machine) or the layers below,
    x_c = tanh(b'_c + sum_k w'_ck x'_{N(c)_k}).

    The order spin tau is what a ferromagnet needs: for each tau the units describe the spins about one of the two directions of
    the magnetisation, and psi is the sum of both. Without it, correlations across the whole system are beyond local units.
    Real, so psi > 0. With a = b = b' = 0 psi is even under the flip of all spins.

    Args:
        neighbourhoods: for every centre the sites that its units see, all equally long; -1 pads. With more than one layer
            the centres are the sites.
        pairs: the pairs (i, j) of the Jastrow factor.
        alpha: units a centre in the last layer; one in those below.
        width: standard deviation of the initial w, A and B.
        layers: number of layers.
        order: whether there is an order spin; without, the sum over tau is its term with A = B = 0.
    """

    neighbourhoods: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[int, int], ...]
    alpha: int = 1
    width: float = 0.05
    layers: int = 1
    order: bool = False

    @nn.compact
    def __call__(self, s: Any) -> Any:
        s = jnp.asarray(s, dtype=jnp.float64)
        n_sites, (centres, seen) = s.shape[-1], np.shape(self.neighbourhoods)
        zeros, normal = nn.initializers.zeros, nn.initializers.normal(self.width)
        x = s
        if self.layers > 1:
            biases = self.param("lower_bias", zeros, (self.layers - 1, centres), jnp.float64)
            lower = self.param("lower_weights", normal, (self.layers - 1, centres, 1, seen), jnp.float64)
            for layer in range(self.layers - 1):
                x = jnp.tanh(biases[layer] + x @ self._dense(lower[layer], n_sites))
        bias = self.param("bias", zeros, (centres, self.alpha), jnp.float64)
        weights = self.param("weights", normal, (centres, self.alpha, seen), jnp.float64)
        inputs = bias.reshape(-1) + x @ self._dense(weights, n_sites)
        log_psi = s @ self.param("field", zeros, (n_sites,), jnp.float64)
        if self.order:
            order_bias = self.param("order_bias", normal, bias.shape, jnp.float64).reshape(-1)
            order = s @ self.param("order_field", normal, (n_sites,), jnp.float64)
            up, down = (tau * order + sum_log_cosh(inputs + tau * order_bias) for tau in (1, -1))
            log_psi = log_psi + jnp.logaddexp(up, down)
        else:
            log_psi = log_psi + sum_log_cosh(inputs)
        if self.pairs:
            i, j = np.array(self.pairs).T
            jastrow = self.param("jastrow", zeros, (len(self.pairs),), jnp.float64)
            log_psi = log_psi + jnp.sum(s * (s @ jnp.zeros((n_sites, n_sites)).at[i, j].set(jastrow)), axis=-1)
        return log_psi

    def _dense(self, weights: Any, n_sites: int) -> Any:
        """Weights (centres, units, seen) as a matrix (n_sites, centres * units): one dense product is faster than gathering
        the neighbourhoods. -1 falls on an extra row that is cut off."""
        centres, units, _ = weights.shape
        rows, columns = np.array(self.neighbourhoods)[:, None, :], np.arange(centres * units).reshape(centres, units, 1)
        return jnp.zeros((n_sites + 1, columns.size)).at[rows, columns].set(weights)[:-1]


@jax.custom_jvp
def sum_log_cosh(x: Any) -> Any:
    """sum_a log cosh x_a over the last axis, without overflow; even to the last bit.

    A logarithm costs ten times an exponential, so it is taken of products of up to `FACTORS` units. The derivative is written
    down, tanh x, since that of |x| has a jump at 0; it shares the exponentials.
    """
    return _summed(x, jnp.exp(-2 * jnp.abs(x)))


@sum_log_cosh.defjvp
def _derivative(primals: Any, tangents: Any) -> Any:
    (x,), (moved,) = primals, tangents
    decayed = jnp.exp(-2 * jnp.abs(x))
    tanh = jnp.sign(x) * (1 - decayed) / (1 + decayed)
    return _summed(x, decayed), jnp.sum(tanh * moved, axis=-1)


def _summed(x: Any, decayed: Any) -> Any:
    factors = 1 + decayed  # between 1 and 2
    parts = [factors[..., start : start + FACTORS] for start in range(0, x.shape[-1], FACTORS)]
    products = sum(jnp.log(jnp.prod(part, axis=-1)) for part in parts)
    return jnp.sum(jnp.abs(x), axis=-1) + products - x.shape[-1] * np.log(2.0)


def default_model(n_sites: int, edges: Sequence[tuple[int, int]], alpha: int = 1) -> LocalNetwork:
    """The ansatz for a graph of couplings: one layer of all-range units up to 32 sites; above an order spin and two layers of
    units that see a ball of at most 3 steps and 13 sites (2 steps on a square lattice), and pairs at most 5 steps apart (3).

    Args:
        n_sites: number of spins.
        edges: pairs of spins that some term of the Hamiltonian couples.
        alpha: units a site in the last layer.
    """
    jax_float64()
    if n_sites <= SMALL:
        everything = tuple(range(n_sites))
        pairs = tuple((i, j) for i in everything for j in range(i))
        return LocalNetwork((everything,) * n_sites, pairs, alpha, SPREAD / n_sites**0.5)
    distance = graph_distances(n_sites, edges, JASTROW_RADIUS)
    radius, jastrow = within(distance, BALL, RADIUS), within(distance, JASTROW_BALL, JASTROW_RADIUS)
    balls = [tuple(np.flatnonzero(row <= radius).tolist()) for row in distance]
    size = max(map(len, balls))
    pairs = tuple((int(i), int(j)) for i, j in np.argwhere(distance <= jastrow) if j < i)
    padded = tuple((*ball, *[-1] * (size - len(ball))) for ball in balls)
    return LocalNetwork(padded, pairs, alpha, SPREAD / size**0.5, layers=2, order=True)


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
