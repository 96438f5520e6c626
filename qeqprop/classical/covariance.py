r"""The nudge-free gradient of sampled spins: the covariance of cost and forces, with the cost's spins averaged over.

.. math:: \frac{d\langle F \rangle}{d\beta} = -\frac{1}{T} \mathrm{Cov}(C, F)

C is a sum of products s_a or s_a s_b. Given all other spins, the mean of s_a is m_a = tanh(f_a / T) with its local field
f_a, and by the law of total covariance (Rao-Blackwell: the same mean, a smaller variance)

.. math:: \mathrm{Cov}(s_a s_b, F) = \mathrm{Cov}(m_a s_b, \tilde F) + \left\langle (1 - m_a^2) s_b \,
          \partial F / \partial s_a \right\rangle ,

where F~ has m_a in the place of s_a.
"""

from typing import NamedTuple

import numpy as np

from ..core.estimate import Estimate
from ..core.nudge import WeightedObservables
from .ising import SpinModel
from .spin_chains import coupling_matrix
from .spin_ensemble import SpinEnsemble
from .spin_products import Product, product_table


class _Cost(NamedTuple):
    """One product of the cost in all records: s_a, averaged, times the rest; arrays (n_chains, n_records)."""

    site: int
    mean: np.ndarray
    rest: np.ndarray

    @property
    def value(self) -> np.ndarray:
        return self.mean * self.rest


def covariances(
    state: SpinEnsemble,
    model: SpinModel,
    temperature: float,
    term: WeightedObservables,
    first: np.ndarray,
    second: np.ndarray,
) -> Estimate:
    """d<s_i s_j>/dbeta (j = -1: d<s_i>/dbeta) of a single system under the nudge beta * `term`.

    Delete-one estimates over the chains give the standard error, and take the bias of order 1/n_chains out. They have the
    noise of the error signal in them where the term has replicas.
    """
    table = product_table(term.observables)
    moving = [k for k, product in enumerate(table.products) if product]
    costs = [_cost(state, model, temperature, table.products[k]) for k in moving]
    chains = len(state.spins)
    full, single = np.zeros(len(first)), np.zeros((chains, len(first)))
    weights = (term.weights @ table.coefficients)[moving]
    signals = term.weights if term.replicas is None else term.replicas
    each = np.broadcast_to((signals @ table.coefficients)[..., moving], (chains, len(moving)))
    for part, values in state.product_chunks(first, second):
        products = values.astype(np.float64)
        for k, cost in enumerate(costs):
            joint = np.einsum("rs,rsp->rp", cost.value, products) / products.shape[1]
            means = products.mean(axis=1)
            touched, partner = _touched(cost.site, first[part], second[part])
            others = np.where(partner >= 0, state.spins[..., partner], 1).astype(np.float64)
            smooth = cost.mean[..., None] * others
            slope = ((1 - cost.mean**2) * cost.rest)[..., None] * others
            joint[:, touched] = (cost.value[..., None] * smooth + slope).mean(axis=1)
            means[:, touched] = smooth.mean(axis=1)
            level = cost.value.mean(axis=1)[:, None]
            full[part] -= weights[k] / temperature * (joint.mean(0) - level.mean(0) * means.mean(0))
            without = [(len(x) * x.mean(0) - x) / (len(x) - 1) for x in (joint, level, means)]
            single[:, part] -= each[:, k, None] / temperature * (without[0] - without[1] * without[2])
    return Estimate.jackknife(chains * full - (chains - 1) * single.mean(axis=0), single)


def _cost(state: SpinEnsemble, model: SpinModel, temperature: float, product: Product) -> _Cost:
    site, others = product[0], product[1:]
    spins = state.spins.astype(np.float64)
    row = coupling_matrix(model)[[site]]
    field = model.fields[site] + spins[..., row.indices] @ row.data
    return _Cost(site, np.tanh(field / temperature), np.prod(spins[..., list(others)], axis=-1))


def _touched(site: int, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which products contain the site, and the sites that they multiply it by (-1: none)."""
    touched = np.flatnonzero((first == site) | (second == site))
    return touched, np.where(first[touched] == site, second[touched], first[touched])
