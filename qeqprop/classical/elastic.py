"""Elastic networks: nodes in space, joined by central-force springs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from ..core.graph import Edges, check_count, check_edges
from ..core.system import Params, real_array, replaced
from .energy import AbstractEnergySystem, Matrix, Nudge, check_inputs


class Springs(NamedTuple):
    """The geometry of all springs: index arrays of their ends, vectors from j to i, lengths, unit vectors."""

    i: np.ndarray
    j: np.ndarray
    length: np.ndarray
    unit: np.ndarray


class ElasticNetwork(AbstractEnergySystem):
    r"""Nodes joined by linear springs, in any dimension:

    .. math:: E = \\tfrac12 \\sum_{(ij)} k_{ij} (|r_i - r_j| - l_{ij})^2 + \\tfrac{\\kappa}{2} \\sum_i |r_i - R_i|^2 ,

    with dE/dk = (|r| - l)^2/2 and dE/dl = -k (|r| - l). Pinned and driven nodes stay where they are put; the inputs are the
    displacements of the driven ones from their reference positions R_i.

    Args:
        edges: list of pairs or a graph.
        positions: reference positions R, shape (n_nodes, dimension): where a minimisation starts.
        pinned: nodes that never move.
        driven: nodes whose displacement is the input, shape (len(driven), dimension).
        stiffness: kappa >= 0 of an on-site spring on every free node.

    Parameters: "k" (n_edges,) and "l" (n_edges,).

    Raises:
        TypeError, ValueError: bad graph, shapes, coinciding ends of a spring, nodes both pinned and driven.

    Example:
        >>> import qeqprop as qp
        >>> corners = [[0.0, 0.0], [2.0, 0.0], [1.0, 1.5]]
        >>> arch = qp.classical.ElasticNetwork([(0, 2), (1, 2)], corners, pinned=[0, 1])
        >>> apex = qp.classical.StateCost(lambda r, y: (r[0, 1] - y) ** 2, nodes=[2])
        >>> out = qp.ep_gradient(arch, {"k": [1.0, 2.0], "l": [1.5, 1.5]}, apex, 1.0)
        >>> print(out.loss, out.grad["l"].round(6))
        0.013932 [0.158359 0.158359]
    """

    edges: Edges = eqx.field(static=True)
    fixed: tuple[int, ...] = eqx.field(static=True)
    driven: tuple[int, ...] = eqx.field(static=True)
    stiffness: float = eqx.field(static=True)
    reference: np.ndarray
    ends: tuple[np.ndarray, np.ndarray]
    pattern: "_Pattern"
    inputs: np.ndarray
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        edges: Any,
        positions: ArrayLike,
        *,
        pinned: Sequence[int] = (),
        driven: Sequence[int] = (),
        stiffness: float = 0.0,
    ):
        self.reference = real_array(positions, "positions")
        if self.reference.ndim != 2 or not self.reference.size:
            raise ValueError(
                f"Argument `positions` must have shape (n_nodes, dimension), but has shape {self.reference.shape}."
            )
        self.edges = check_edges(edges, len(self.reference))
        self.fixed = self._check_nodes(pinned, "pinned")
        self.driven = self._check_nodes(driven, "driven")
        if both := sorted(set(self.fixed) & set(self.driven)):
            raise ValueError(f"Arguments `pinned` and `driven` must have no node in common, but both have {both}.")
        self.stiffness = float(real_array(stiffness, "stiffness", ()))
        if self.stiffness < 0:
            raise ValueError(f"Argument `stiffness` must not be negative, but is {stiffness}.")
        pairs = np.array(self.edges, dtype=int).reshape(-1, 2)
        self.ends = (pairs[:, 0].copy(), pairs[:, 1].copy())
        self.pattern = _pattern(*self.ends, self.reference.shape, [*self.fixed, *self.driven])
        self.inputs = np.zeros((len(self.driven), self.reference.shape[1]))
        self.nudges = ()
        if len(short := np.flatnonzero(self.springs(self.reference).length == 0)):
            raise ValueError(f"The ends of spring {self.edges[short[0]]} coincide: its direction is not defined.")

    def _check_nodes(self, nodes: Sequence[int], name: str) -> tuple[int, ...]:
        checked = tuple(check_count(node, name, 0) for node in nodes)
        if len(set(checked)) != len(checked) or max(checked, default=0) >= len(self.reference):
            raise ValueError(
                f"Argument `{name}` must hold distinct nodes 0 to {len(self.reference) - 1}, but is {list(checked)}."
            )
        return checked

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"k": (len(self.edges),), "l": (len(self.edges),)}

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return (len(self.driven), self.reference.shape[1]) if self.driven else None

    @property
    def batch_size(self) -> int | None:
        return len(self.inputs) if self.inputs.ndim == 3 else None

    @property
    def state_shape(self) -> tuple[int, ...]:
        return self.reference.shape

    @property
    def free(self) -> np.ndarray:
        return self.pattern.free

    def start(self) -> np.ndarray:
        position = self.reference.copy()
        position[list(self.driven)] += self.inputs
        return position

    def with_inputs(self, inputs: ArrayLike) -> "ElasticNetwork":
        """The network with its driven nodes displaced; a leading axis is the batch axis."""
        if self.input_shape is None:
            raise ValueError("Argument `inputs` must be None: this network has no driven nodes.")
        return replaced(self, inputs=check_inputs(inputs, self.input_shape))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Stiffnesses around 1 (log-normal, width 0.3), rest lengths as in the reference positions."""
        rng = np.random.default_rng(rng)
        return {"k": np.exp(0.3 * rng.normal(size=len(self.edges))), "l": self.springs(self.reference).length}

    def springs(self, position: np.ndarray) -> Springs:
        """Lengths and directions of all springs."""
        i, j = self.ends
        between = position[i] - position[j]
        length = np.linalg.norm(between, axis=1)
        return Springs(i, j, length, between / np.where(length > 0, length, 1.0)[:, None])

    def bare_value(self, params: Params, position: np.ndarray) -> float:
        stretch = self.springs(position).length - params["l"]
        on_site = self.stiffness * np.sum((position - self.reference).flat[self.free] ** 2)
        return float(0.5 * (params["k"] @ stretch**2 + on_site))

    def bare_slope(self, params: Params, position: np.ndarray) -> np.ndarray:
        s = self.springs(position)
        pull = (params["k"] * (s.length - params["l"]))[:, None] * s.unit
        total = self.stiffness * (position - self.reference)
        for axis, component in enumerate(pull.T):
            total[:, axis] += np.bincount(s.i, component, len(position)) - np.bincount(s.j, component, len(position))
        return total.flat[self.free]

    def bare_curvature(self, params: Params, position: np.ndarray) -> Matrix:
        s, dim = self.springs(position), position.shape[1]
        along = s.unit[:, :, None] * s.unit[:, None, :]
        slack = (1 - params["l"] / np.where(s.length > 0, s.length, 1.0))[:, None, None]
        blocks = params["k"][:, None, None] * (slack * (np.eye(dim) - along) + along)
        pattern = self.pattern
        entries = np.concatenate([blocks, blocks, -blocks, -blocks]).ravel()[pattern.kept]
        data = np.bincount(pattern.slot, entries, len(pattern.indices))
        matrix = sp.csc_array((data, pattern.indices, pattern.indptr), shape=(len(pattern.free),) * 2)
        return matrix + self.stiffness * sp.identity(len(pattern.free), format="csc")

    def forces(self, params: Params, position: np.ndarray) -> Params:
        stretch = self.springs(position).length - params["l"]
        return {"k": 0.5 * stretch**2, "l": -params["k"] * stretch}

    def force_change(self, params: Params, position: np.ndarray, step: np.ndarray) -> Params:
        s, whole = self.springs(position), np.zeros(position.shape)
        whole.flat[self.free] = step
        growth = np.sum(s.unit * (whole[s.i] - whole[s.j]), axis=1)
        return {"k": (s.length - params["l"]) * growth, "l": -params["k"] * growth}

    def __repr__(self) -> str:
        nodes, dim = self.reference.shape
        held = f", {len(self.fixed)} pinned" if self.fixed else ""
        held += f", {len(self.driven)} driven" if self.driven else ""
        return f"ElasticNetwork({nodes} nodes in {dim} dimensions, {len(self.edges)} springs{held})"


class _Pattern(NamedTuple):
    """Where the blocks of the springs go in the sparse matrix of the free coordinates."""

    free: np.ndarray
    kept: np.ndarray
    slot: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray


def _pattern(i: np.ndarray, j: np.ndarray, shape: tuple[int, ...], held: list[int]) -> _Pattern:
    n_nodes, dim = shape
    place = np.ones(shape, bool)
    place[held] = False
    free = np.flatnonzero(place)
    number = np.full(n_nodes * dim, -1)
    number[free] = np.arange(len(free))
    of_node = number.reshape(n_nodes, dim)
    heads = np.concatenate([of_node[i], of_node[j], of_node[i], of_node[j]])
    tails = np.concatenate([of_node[i], of_node[j], of_node[j], of_node[i]])
    rows = np.repeat(heads, dim, axis=1).ravel()
    columns = np.tile(tails, (1, dim)).ravel()
    kept = np.flatnonzero((rows >= 0) & (columns >= 0))
    flat, slot = np.unique(columns[kept] * len(free) + rows[kept], return_inverse=True)
    counts = np.bincount(flat // max(len(free), 1), minlength=len(free))
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return _Pattern(free, kept, slot, flat % max(len(free), 1), indptr)
