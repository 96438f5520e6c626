"""The classical Ising network: the transverse-field one at g = 0."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.graph import Edges, check_count, check_counts, check_edges, check_input_edges, check_nodes
from ..core.nudge import WeightedObservables
from ..core.system import AbstractSystem, Params, replaced
from .energy import check_inputs
from .spin_products import Product, product_table

if TYPE_CHECKING:
    from .enumeration import ExactEnumeration
    from .heat_bath import HeatBath

Nudge = tuple[WeightedObservables, float]

DEFAULT_ENUMERATED = 16
"""Spins up to which all states are enumerated where no solver is named."""


class SpinModel(NamedTuple):
    """E = constant - sum_p couplings[p] s_i s_j - sum_i fields[..., i] s_i with pairs[p] = (i, j), nudges included."""

    pairs: np.ndarray
    couplings: np.ndarray
    fields: np.ndarray
    constant: np.ndarray

    def energies(self, spins: np.ndarray) -> np.ndarray:
        """Of configurations (..., n); of a batched model the batch axis comes first."""
        fields = self.fields.reshape(self.fields.shape[:-1] + (1,) * (spins.ndim - self.fields.ndim) + (-1,))
        constant = self.constant.reshape(fields.shape[:-1])
        signs = spins.astype(np.float64)
        bonds = signs[..., self.pairs[:, 0]] * signs[..., self.pairs[:, 1]]
        return constant - bonds @ self.couplings - np.sum(fields * signs, axis=-1)


class Ising(AbstractSystem):
    r"""Classical Ising network

    .. math:: E = - \sum_{(ij)} J_{ij} s_i s_j - \sum_i h_i s_i - \sum_{(mj)} W_{mj} x_m s_j , \qquad s_i = \pm 1 ,

    each edge once: `qp.TransverseFieldIsing` at g = 0. Positive J is ferromagnetic (dimod has the opposite signs: use
    `to_bqm`). Observables are the Pauli sums of the quantum network, `qp.Z(0) * qp.Z(3)`, and so are the costs.

    Its thermal equilibria are differentiable and EP gives the gradient. At T = 0 the state jumps where two levels cross and
    stays the same elsewhere, so the gradient is zero almost everywhere: what a finite nudge then gives (`ExactEnumeration(0)`,
    `SimulatedAnnealing`, `Annealer`) is a *contrastive* learning rule, not the gradient of the loss.

    Args:
        n_sites: number of spins.
        edges: pairs of spins: an edge list, a networkx graph or a NetKet graph.
        input_sites: spins on which the inputs act as extra fields, h_i -> h_i + x_m.
        input_edges: pairs (m, j): input m is a clamped node coupled to spin j by the trained W. Give one of
            `input_sites` and `input_edges`, or neither.

    Parameters: `{"J": (n_edges,), "h": (n_sites,)}`, and `"W": (n_input_edges,)` with `input_edges`.

    Where no solver is named, T = 1: `ExactEnumeration` up to 16 spins, else `HeatBath`.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.classical.Ising(3, [(0, 1), (1, 2)])
        >>> out = qp.ep_gradient(net, {"J": [1.0, 1.0], "h": [0.3, 0.0, 0.0]}, qp.ObservableCost(qp.Z(2)))
        >>> print(out.grad["J"].round(4))
        [0.0932 0.0932]
    """

    n_sites: int = eqx.field(static=True)
    edges: Edges = eqx.field(static=True)
    input_sites: tuple[int, ...] = eqx.field(static=True)
    input_edges: Edges = eqx.field(static=True)
    pairs: np.ndarray
    drives: np.ndarray
    inputs: np.ndarray
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        n_sites: int,
        edges: Any,
        *,
        input_sites: Sequence[int] = (),
        input_edges: Sequence[tuple[int, int]] = (),
    ):
        self.n_sites = check_count(n_sites, "n_sites")
        self.edges = check_edges(edges, self.n_sites)
        if check_counts(input_sites, "input_sites") and len(input_edges):
            raise ValueError("Arguments `input_sites` and `input_edges` exclude one another: give one of them.")
        self.input_sites = check_nodes(input_sites, "input_sites", self.n_sites)
        self.input_edges = check_input_edges(input_edges, self.n_sites)
        self.pairs = np.array(self.edges, dtype=np.int64).reshape(-1, 2)
        self.drives = np.array(self.input_edges, dtype=np.int64).reshape(-1, 2)
        n_inputs = max([len(self.input_sites), *(m + 1 for m, _ in self.input_edges)])
        self.inputs = np.zeros(n_inputs)
        self.nudges = ()

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"J": (len(self.edges),), "h": (self.n_sites,)}
        return shapes | ({"W": (len(self.input_edges),)} if self.input_edges else {})

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return self.inputs.shape[-1:] if self.inputs.shape[-1] else None

    @property
    def batch_size(self) -> int | None:
        axes = [self.inputs.shape[:-1], *(term.weights.shape[:-1] for term, _ in self.nudges)]
        return max((shape[0] for shape in axes if shape), default=None)

    def with_inputs(self, inputs: ArrayLike) -> "Ising":
        """The network with its inputs set; a leading axis is the batch axis."""
        if self.input_shape is None:
            raise ValueError("Argument `inputs` must be None: this network has no input sites and no input edges.")
        return replaced(self, inputs=check_inputs(inputs, self.input_shape))

    def nudged(self, term: Any, strength: complex) -> "Ising":
        """The network with energy E + strength * term, whose products have at most two spins."""
        if not isinstance(term, WeightedObservables):
            raise TypeError("An Ising network is nudged by Pauli sums of Z's (`ObservableCost`, `ExpectationCost`).")
        for product in product_table(term.observables).products:
            if len(product) > 2:
                raise ValueError(f"An Ising network is nudged by products of at most two spins, but not by {product}.")
            if max(product, default=0) >= self.n_sites:
                raise ValueError(f"The cost reads site {max(product)}, but the network has n_sites={self.n_sites}.")
        return replaced(self, nudges=(*self.nudges, (term, float(np.real(strength)))))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """J ~ N(0, 1/degree), h ~ N(0, 0.1^2), W ~ N(0, 1/n_inputs)."""
        rng = np.random.default_rng(rng)
        degree = max(2 * len(self.edges) / self.n_sites, 1.0)
        params = {"J": rng.normal(size=len(self.edges)) / np.sqrt(degree), "h": 0.1 * rng.normal(size=self.n_sites)}
        if self.input_edges:
            params["W"] = rng.normal(size=len(self.input_edges)) / np.sqrt(self.inputs.shape[-1])
        return params

    def default_solver(self) -> "ExactEnumeration | HeatBath":
        from .enumeration import ExactEnumeration
        from .heat_bath import HeatBath

        return ExactEnumeration(1.0) if self.n_sites <= DEFAULT_ENUMERATED else HeatBath(1.0)

    def model(self, params: Params) -> SpinModel:
        """Couplings and fields, with inputs and nudges added up.

        Raises:
            ValueError: a batch in which a nudge couples pairs of spins, with a weight of its own for every sample.
        """
        batch = () if self.batch_size is None else (self.batch_size,)
        fields = np.broadcast_to(params["h"] + self._input_fields(params), (*batch, self.n_sites)).copy()
        constant, bonds = np.zeros(batch), []
        for term, strength in self.nudges:
            table = product_table(term.observables)
            for product, weight in zip(table.products, (strength * term.weights @ table.coefficients).T, strict=True):
                if len(product) == 0:
                    constant += weight
                elif len(product) == 1:
                    fields[..., product[0]] -= weight
                elif np.ndim(weight):
                    raise ValueError(
                        f"A nudge that couples the spins {product} is another one for every sample of a batch: call once a "
                        "sample, or let the cost read single spins."
                    )
                else:
                    bonds.append((product, -float(weight)))
        pairs, couplings = self._with_bonds(params["J"], bonds) if bonds else (self.pairs, params["J"])
        return SpinModel(pairs, couplings, fields, constant)

    def _with_bonds(self, couplings: np.ndarray, bonds: list[tuple[Product, float]]) -> tuple[np.ndarray, np.ndarray]:
        """The couplings with those of the nudges added, on edges of their own where the network has none."""
        whole = dict(zip((frozenset(edge) for edge in self.edges), couplings, strict=True))
        for product, coupling in bonds:
            whole[frozenset(product)] = whole.get(frozenset(product), 0.0) + coupling
        return np.array([sorted(pair) for pair in whole]), np.array(list(whole.values()))

    def _input_fields(self, params: Params) -> np.ndarray:
        fields = np.zeros((*self.inputs.shape[:-1], self.n_sites))
        if self.input_sites:
            fields[..., list(self.input_sites)] = self.inputs
        if self.input_edges:
            inputs, sites = self.drives.T
            weights = np.zeros((self.inputs.shape[-1], self.n_sites))
            weights[inputs, sites] = params["W"]
            fields += self.inputs @ weights
        return fields

    def force_products(self) -> tuple[np.ndarray, np.ndarray]:
        """Sites (i, j) of the products that the forces are made of: the edges, then single spins (j = -1)."""
        sites = np.arange(self.n_sites)
        return np.concatenate([self.pairs[:, 0], sites]), np.concatenate([self.pairs[:, 1], np.full(self.n_sites, -1)])

    def forces(self, products: np.ndarray) -> Params:
        """Mean products (..., n_edges + n_sites) -> dE/dtheta, a dict like the parameters."""
        bonds, spins = np.split(products, [len(self.edges)], axis=-1)
        forces = {"J": -bonds, "h": -spins}
        if self.input_edges:
            inputs, sites = self.drives.T
            forces["W"] = -self.inputs[..., inputs] * spins[..., sites]
        return forces

    def force_estimate(self, products: Estimate) -> Estimate:
        """The same of an estimate."""
        if products.replicas is not None:
            return Estimate.jackknife(self.forces(products.mean), self.forces(products.replicas))
        return Estimate.exact(self.forces(products.mean))

    def param_grad(self, params: Params, state: Any) -> Estimate:
        """dE/dtheta, averaged over the state."""
        return self.force_estimate(state.products(*self.force_products()))

    def energy(self, params: Params, state: Any) -> Estimate:
        """The mean energy, nudges included."""
        model = self.model(params)
        sites = np.arange(self.n_sites)
        first, second = np.concatenate([model.pairs[:, 0], sites]), np.concatenate([model.pairs[:, 1], -1 - 0 * sites])
        couplings = np.broadcast_to(model.couplings, (*model.fields.shape[:-1], len(model.couplings)))
        found = state.products(first, second).weighted_sum(-np.concatenate([couplings, model.fields], axis=-1))
        shifted = None if found.replicas is None else found.replicas + model.constant
        return Estimate(found.mean + model.constant, found.stderr, shifted)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {shape}" for name, shape in self.param_shapes.items())
        extra = f", {self.input_shape[0]} inputs" if self.input_shape else ""
        batch = f", batch of {self.batch_size}" if self.batch_size is not None else ""
        return f"Ising({self.n_sites} spins, parameters {shapes}{extra}{batch}{', nudged' if self.nudges else ''})"
