"""The transverse-field Ising network."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np

from ..core.graph import Edges, check_count, check_counts, check_edges, check_input_edges, check_nodes
from ..core.system import Params
from .pauli import PauliSum, X, Z
from .spins import AbstractSpinSystem, Drives, Nudge, Terms


class TransverseFieldIsing(AbstractSpinSystem):
    r"""Transverse-field Ising network

    .. math:: H = - \sum_{(ij)} J_{ij} Z_i Z_j - \sum_i h_i Z_i - \sum_i g_i X_i - \sum_{(mj)} W_{mj} x_m Z_j

    with Pauli matrices and each edge once. Positive J is ferromagnetic.

    Args:
        n_sites: number of spins, 0 .. n_sites - 1; site 0 is the most significant bit of the basis.
        edges: pairs of spins: an edge list, a networkx graph or a NetKet graph.
        input_sites: spins on which the inputs act as extra longitudinal fields, h_i -> h_i + x_m.
        input_edges: pairs (m, j): input m is a clamped, classical node coupled to spin j by the trained W.
            Give one of `input_sites` and `input_edges`, or neither.

    Parameters: `{"J": (n_edges,), "h": (n_sites,), "g": (n_sites,)}`, and `"W": (n_input_edges,)` with `input_edges`.

    Example:
        >>> import qeqprop as qp
        >>> qp.TransverseFieldIsing(n_sites=3, edges=[(0, 1), (1, 2)], input_sites=[0])
        TransverseFieldIsing(3 spins, parameters J (2,), h (3,), g (3,), 1 inputs)
    """

    n_sites: int = eqx.field(static=True)
    edges: Edges = eqx.field(static=True)
    terms: Terms = eqx.field(static=True)
    fixed: PauliSum = eqx.field(static=True)
    input_terms: tuple[PauliSum, ...] = eqx.field(static=True)
    drives: Drives = eqx.field(static=True)
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
        sites = range(self.n_sites)
        terms = {
            "J": tuple(-(Z(i) * Z(j)) for i, j in self.edges),
            "h": tuple(-Z(i) for i in sites),
            "g": tuple(-X(i) for i in sites),
        }
        if len(input_edges):
            pairs = check_input_edges(input_edges, self.n_sites)
            terms["W"] = tuple(-Z(j) for _, j in pairs)
            self.drives = (("W", tuple(m for m, _ in pairs)),)
        else:
            self.drives = ()
        self.terms = tuple(terms.items())
        self.fixed = PauliSum({})
        self.input_terms = tuple(-Z(site) for site in check_nodes(input_sites, "input_sites", self.n_sites))
        n_inputs = 1 + max((m for m, _ in input_edges), default=-1) if len(input_edges) else len(self.input_terms)
        self.inputs = np.zeros(n_inputs)
        self.nudges = ()

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """J ~ N(0, 1/degree), h ~ N(0, 0.1^2), g = 1, W ~ N(0, 1/n_inputs): a paramagnet with an open gap."""
        rng = np.random.default_rng(rng)
        degree = max(2 * len(self.edges) / self.n_sites, 1.0)
        params = {
            "J": rng.normal(size=len(self.edges)) / np.sqrt(degree),
            "h": 0.1 * rng.normal(size=self.n_sites),
            "g": np.ones(self.n_sites),
        }
        if self.drives:
            params["W"] = rng.normal(size=len(self.drives[0][1])) / np.sqrt(len(self.inputs))
        return params
