"""Elastic networks: nodes in space, joined by central-force springs."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from ..core.graph import Edges, check_edges, check_nodes
from ..core.system import Params, real_array, replaced
from .energy import AbstractEnergySystem, Matrix, Nudge, check_inputs
from .sparsity import EdgePattern


class Springs(NamedTuple):
    """The geometry of all springs: index arrays of their ends, vectors from j to i, lengths, unit vectors."""

    i: np.ndarray
    j: np.ndarray
    length: np.ndarray
    unit: np.ndarray


class ElasticNetwork(AbstractEnergySystem):
    r"""Nodes joined by linear springs, in any dimension:

    .. math:: E = \tfrac12 \sum_{(ij)} k_{ij} (|r_i - r_j| - l_{ij})^2 + \tfrac{\kappa}{2} \sum_i |r_i - R_i|^2 ,

    with dE/dk = (|r| - l)^2/2 and dE/dl = -k (|r| - l). Pinned and driven nodes stay where they are put; the inputs are the
    displacements of the driven ones from their reference positions R_i.

    In a periodic `cell` a spring joins the images of its nodes that are nearest in the reference positions (fractional
    coordinates differ by at most 1/2), and the applied strain is an input too: a displacement gradient gamma takes the cell
    and every reference position to (1 + gamma) times itself; pinned and driven nodes and the on-site springs go along.

    Args:
        edges: list of pairs or a graph.
        positions: reference positions R, shape (n_nodes, dimension): where a minimisation starts.
        pinned: nodes that never move (but with the cell).
        driven: nodes whose displacement is an input, one row each.
        stiffness: kappa >= 0 of an on-site spring on every free node.
        cell: edge lengths of a periodic box, shape (dimension,), or its edge vectors as rows, (dimension, dimension).

    Inputs, shape (len(driven), dimension), with a cell (len(driven) + dimension, dimension): displacements of the driven
    nodes, then the rows of gamma. Simple shear by s in two dimensions is gamma = [[0, s], [0, 0]].

    Parameters: "k" (n_edges,) and "l" (n_edges,).

    Raises:
        TypeError, ValueError: bad graph, shapes, coinciding ends of a spring, nodes both pinned and driven, a flat cell.

    Example:
        >>> import qeqprop as qp
        >>> corners = [[0.0, 0.0], [2.0, 0.0], [1.0, 1.5]]
        >>> arch = qp.classical.ElasticNetwork([(0, 2), (1, 2)], corners, pinned=[0, 1])
        >>> apex = qp.classical.StateCost(lambda r, y: (r[0, 1] - y) ** 2, nodes=[2])
        >>> out = qp.ep_gradient(arch, {"k": [1.0, 2.0], "l": [1.5, 1.5]}, apex, 1.0)
        >>> print(out.loss, out.grad["l"].round(6))
        0.013932 [0.158359 0.158359]
        >>> ring = qp.classical.ElasticNetwork([(0, 1), (1, 2), (2, 0)], [[0.0], [1.0], [2.0]], pinned=[0], cell=[3.0])
        >>> state = qp.equilibrate(ring, {"k": [1.0, 1.0, 1.0], "l": [1.0, 1.0, 1.0]}, inputs=[[0.3]]).state
        >>> print(state.position.ravel())  # stretched by 30 %
        [0.  1.3 2.6]
    """

    edges: Edges = eqx.field(static=True)
    fixed: tuple[int, ...] = eqx.field(static=True)
    driven: tuple[int, ...] = eqx.field(static=True)
    stiffness: float = eqx.field(static=True)
    reference: np.ndarray
    ends: tuple[np.ndarray, np.ndarray]
    cell: np.ndarray | None
    wrap: np.ndarray | None
    pattern: EdgePattern
    inputs: np.ndarray
    nudges: tuple[Nudge, ...]

    stiffnesses: ClassVar[tuple[str, ...]] = ("k",)

    def __init__(
        self,
        edges: Any,
        positions: ArrayLike,
        *,
        pinned: Sequence[int] = (),
        driven: Sequence[int] = (),
        stiffness: float = 0.0,
        cell: ArrayLike | None = None,
    ):
        self.reference = real_array(positions, "positions")
        if self.reference.ndim != 2 or not self.reference.size:
            raise ValueError(
                f"Argument `positions` must have shape (n_nodes, dimension), but has shape {self.reference.shape}."
            )
        n_nodes, dim = self.reference.shape
        self.edges = check_edges(edges, n_nodes)
        self.fixed = check_nodes(pinned, "pinned", n_nodes)
        self.driven = check_nodes(driven, "driven", n_nodes)
        if both := sorted(set(self.fixed) & set(self.driven)):
            raise ValueError(f"Arguments `pinned` and `driven` must have no node in common, but both have {both}.")
        self.stiffness = float(real_array(stiffness, "stiffness", ()))
        if self.stiffness < 0:
            raise ValueError(f"Argument `stiffness` must not be negative, but is {stiffness}.")
        pairs = np.array(self.edges, dtype=int).reshape(-1, 2)
        self.ends = (pairs[:, 0].copy(), pairs[:, 1].copy())
        self.cell = None if cell is None else _check_cell(cell, dim)
        self.wrap = None if self.cell is None else _wraps(self.reference, self.ends, self.cell)
        self.pattern = EdgePattern.of(*self.ends, (n_nodes, dim), [*self.fixed, *self.driven])
        self.inputs = np.zeros(self.input_shape or (0, dim))
        self.nudges = ()
        if len(short := np.flatnonzero(self.springs(self.reference).length == 0)):
            raise ValueError(f"The ends of spring {self.edges[short[0]]} coincide: its direction is not defined.")

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"k": (len(self.edges),), "l": (len(self.edges),)}

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        dim = self.reference.shape[1]
        rows = len(self.driven) + (0 if self.cell is None else dim)
        return (rows, dim) if rows else None

    @property
    def batch_size(self) -> int | None:
        return len(self.inputs) if self.inputs.ndim == 3 else None

    @property
    def state_shape(self) -> tuple[int, ...]:
        return self.reference.shape

    @property
    def free(self) -> np.ndarray:
        return self.pattern.free

    @property
    def deformation(self) -> np.ndarray:
        """1 + gamma: what the applied strain does to the cell and the reference positions, shape (dimension, dimension)."""
        identity = np.eye(self.reference.shape[1])
        return identity if self.cell is None else identity + self.inputs[len(self.driven) :]

    @property
    def anchors(self) -> np.ndarray:
        """The reference positions, deformed with the cell."""
        return self.reference if self.cell is None else self.reference @ self.deformation.T

    def start(self) -> np.ndarray:
        position = self.anchors.copy()
        position[list(self.driven)] += self.inputs[: len(self.driven)]
        return position

    def with_inputs(self, inputs: ArrayLike) -> "ElasticNetwork":
        """The network with its driven nodes displaced and its cell strained; a leading axis is the batch axis."""
        if self.input_shape is None:
            raise ValueError("Argument `inputs` must be None: this network has no driven nodes and no cell.")
        return replaced(self, inputs=check_inputs(inputs, self.input_shape))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Stiffnesses around 1 (log-normal, width 0.3), rest lengths as in the reference positions."""
        rng = np.random.default_rng(rng)
        return {"k": np.exp(0.3 * rng.normal(size=len(self.edges))), "l": self.springs(self.reference).length}

    def springs(self, position: np.ndarray) -> Springs:
        """Lengths and directions of all springs."""
        i, j = self.ends
        between = position[i] - position[j]
        if self.cell is not None:
            between -= self.wrap @ self.cell @ self.deformation.T
        length = np.linalg.norm(between, axis=1)
        return Springs(i, j, length, between / np.where(length > 0, length, 1.0)[:, None])

    def bare_value(self, params: Params, position: np.ndarray) -> float:
        stretch = self.springs(position).length - params["l"]
        on_site = self.stiffness * np.sum((position - self.anchors).flat[self.free] ** 2)
        return float(0.5 * (params["k"] @ stretch**2 + on_site))

    def bare_slope(self, params: Params, position: np.ndarray) -> np.ndarray:
        s = self.springs(position)
        pull = (params["k"] * (s.length - params["l"]))[:, None] * s.unit
        total = self.stiffness * (position - self.anchors)
        for axis, component in enumerate(pull.T):
            total[:, axis] += np.bincount(s.i, component, len(position)) - np.bincount(s.j, component, len(position))
        return total.flat[self.free]

    def bare_curvature(self, params: Params, position: np.ndarray) -> Matrix:
        s, dim = self.springs(position), position.shape[1]
        along = s.unit[:, :, None] * s.unit[:, None, :]
        slack = (1 - params["l"] / np.where(s.length > 0, s.length, 1.0))[:, None, None]
        blocks = params["k"][:, None, None] * (slack * (np.eye(dim) - along) + along)
        matrix = self.pattern.assemble(blocks)
        return matrix + self.stiffness * sp.identity(matrix.shape[0], format="csc")

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
        held += ", periodic" if self.cell is not None else ""
        return f"ElasticNetwork({nodes} nodes in {dim} dimensions, {len(self.edges)} springs{held})"


def _check_cell(cell: ArrayLike, dim: int) -> np.ndarray:
    """Edge vectors of the periodic box, as rows."""
    array = real_array(cell, "cell")
    if array.shape not in ((dim,), (dim, dim)):
        raise ValueError(f"Argument `cell` must have shape {(dim,)} or {(dim, dim)}, but has shape {array.shape}.")
    vectors = np.diag(array) if array.ndim == 1 else array
    if abs(np.linalg.det(vectors)) <= 1e-12 * np.prod(np.linalg.norm(vectors, axis=1)):
        raise ValueError(f"Argument `cell` must span a volume, but is {array.tolist()}.")
    return vectors


def _wraps(reference: np.ndarray, ends: tuple[np.ndarray, np.ndarray], cell: np.ndarray) -> np.ndarray:
    """By how many cells the two ends of every spring are apart, subtracted to join nearest images."""
    fractional = np.linalg.solve(cell.T, reference.T).T
    return np.round(fractional[ends[0]] - fractional[ends[1]])
