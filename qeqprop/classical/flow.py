"""Flow networks: linear resistors, pipes or vessels on any graph."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.graph import Edges, check_count, check_edges, check_nodes
from ..core.system import Params, real_array, replaced
from .conductors import check_conductances, check_not_held, loose_nodes
from .energy import AbstractEnergySystem, Matrix, Nudge, check_inputs
from .sparsity import EdgePattern


class FlowNetwork(AbstractEnergySystem):
    r"""Linear flow on any graph: the potentials (pressures, voltages) minimise half of the dissipated power,

    .. math:: E = \tfrac12 \sum_{(ij)} k_{ij} (u_i - u_j)^2 - \sum_a I_a u_a ,

    with dE/dk = (u_i - u_j)^2/2. The minimum is Kirchhoff's current law, one sparse linear system. A cost C has the
    gradient dC/dk_ij = -(u_i - u_j) (w_i - w_j), where w are the potentials with every driven node at zero and the
    currents dC/du injected (Tellegen's theorem): it is what the difference of the nudged forces tends to.

    Inputs, shape (len(driven) + len(injected),): the potentials of the driven nodes, then the injected currents I_a. Units:
    any consistent ones, e.g. siemens, volts and amperes.

    Source: Rocks, Ronellenfitsch, Liu, Nagel and Katifori, PNAS 116, 2506 (2019); Stern, Hexner, Rocks and Liu,
    Phys. Rev. X 11, 021045 (2021).

    Args:
        n_nodes: number of nodes.
        edges: list of pairs or a graph.
        driven: nodes whose potential is an input.
        injected: nodes with an injected current that is an input.
        grounded: nodes at potential 0. At least one node must be driven or grounded: currents define differences only.

    Parameters: "k" (n_edges,), conductances >= 0.

    Raises:
        TypeError, ValueError: a duplicated edge; a node that is held and has another role; a part of the network that no
            edge, or in a solve no positive conductance, joins to a held node; a negative conductance.

    Example:
        >>> import qeqprop as qp
        >>> divider = qp.classical.FlowNetwork(3, [(0, 1), (1, 2)], driven=[0], grounded=[2])
        >>> cost = qp.classical.StateCost(lambda u, y: 0.5 * ((u - y) ** 2).sum(), nodes=[1])
        >>> out = qp.ep_gradient(divider, {"k": [2.0, 1.0]}, cost, [0.5], inputs=[3.0])
        >>> print(out.free.state.position, out.grad["k"].round(6))
        [3. 2. 0.] [ 0.5 -1. ]
    """

    edges: Edges = eqx.field(static=True)
    n_nodes: int = eqx.field(static=True)
    driven: tuple[int, ...] = eqx.field(static=True)
    injected: tuple[int, ...] = eqx.field(static=True)
    grounded: tuple[int, ...] = eqx.field(static=True)
    ends: tuple[np.ndarray, np.ndarray]
    pattern: EdgePattern
    inputs: np.ndarray
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        n_nodes: int,
        edges: Any,
        *,
        driven: Sequence[int] = (),
        injected: Sequence[int] = (),
        grounded: Sequence[int] = (),
    ):
        self.n_nodes = check_count(n_nodes, "n_nodes")
        self.edges = check_edges(edges, self.n_nodes)
        self.driven = check_nodes(driven, "driven", self.n_nodes)
        self.grounded = check_nodes(grounded, "grounded", self.n_nodes)
        self.injected = check_nodes(injected, "injected", self.n_nodes)
        held = self.driven + self.grounded
        if not held:
            raise ValueError(
                "Arguments `driven` and `grounded` must name at least one node: currents define only differences of "
                "potentials. Ground any node."
            )
        check_not_held(self.grounded, "grounded", self.driven, "potential")
        check_not_held(self.injected, "injected", held, "potential")
        pairs = np.array(self.edges, dtype=int).reshape(-1, 2)
        self.ends = (pairs[:, 0].copy(), pairs[:, 1].copy())
        self.pattern = EdgePattern.of(*self.ends, (self.n_nodes, 1), list(held))
        self.inputs = np.zeros(len(self.driven) + len(self.injected))
        self.nudges = ()
        self._check_paths(np.ones(len(self.edges)), "edges")

    def _check_paths(self, conductances: np.ndarray, name: str) -> None:
        """Refuse parts of the network that nothing joins to a held node."""
        loose = loose_nodes(self.ends, conductances, self.n_nodes, self.driven + self.grounded)
        if len(loose):
            raise ValueError(
                f"Argument `{name}` must join every node to a driven or grounded one, but the network is disconnected: the "
                f"potentials of {len(loose)} nodes are not defined, the first of which is {loose[0]}. Add an edge, however "
                "weak, or ground one node of each part."
            )

    def _check_domain(self, params: Params) -> None:
        """Refuse negative conductances, and zero ones that cut the network."""
        k = params["k"]
        check_conductances(k, "k", self.edges)
        if k.size and k.min() == 0:
            self._check_paths(k, "k")

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"k": (len(self.edges),)}

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        count = len(self.driven) + len(self.injected)
        return (count,) if count else None

    @property
    def batch_size(self) -> int | None:
        return len(self.inputs) if self.inputs.ndim == 2 else None

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.n_nodes,)

    @property
    def free(self) -> np.ndarray:
        return self.pattern.free

    def start(self) -> np.ndarray:
        u = np.zeros(self.n_nodes)
        u[list(self.driven)] = self.inputs[: len(self.driven)]
        return u

    def with_inputs(self, inputs: ArrayLike) -> "FlowNetwork":
        """The network with these potentials and currents; a leading axis is the batch axis."""
        if self.input_shape is None:
            raise ValueError("Argument `inputs` must be None: this network has no driven node and no injected current.")
        return replaced(self, inputs=check_inputs(inputs, self.input_shape))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Conductances around 1 (log-normal, width 0.3)."""
        rng = np.random.default_rng(rng)
        return {"k": np.exp(0.3 * rng.normal(size=len(self.edges)))}

    def currents(self, params: Params, position: ArrayLike) -> np.ndarray:
        """Currents along the edges, k (u_i - u_j) from i to j, shape (n_edges,).

        Example:
            >>> line = FlowNetwork(3, [(0, 1), (1, 2)], injected=[0], grounded=[2])
            >>> line.currents({"k": [2.0, 1.0]}, [1.5, 1.0, 0.0])
            array([1., 1.])
        """
        return self.check_params(params)["k"] * self._drops(real_array(position, "position", self.state_shape))

    def _drops(self, u: np.ndarray) -> np.ndarray:
        return u[self.ends[0]] - u[self.ends[1]]

    def _sources(self) -> np.ndarray:
        total = np.zeros(self.n_nodes)
        total[list(self.injected)] = self.inputs[len(self.driven) :]
        return total

    def bare_value(self, params: Params, position: np.ndarray) -> float:
        return float(0.5 * params["k"] @ self._drops(position) ** 2 - self._sources() @ position)

    def bare_slope(self, params: Params, position: np.ndarray) -> np.ndarray:
        flow, (i, j) = params["k"] * self._drops(position), self.ends
        out = np.bincount(i, flow, self.n_nodes) - np.bincount(j, flow, self.n_nodes)
        return (out - self._sources())[self.free]

    def bare_curvature(self, params: Params, position: np.ndarray) -> Matrix:
        return self.pattern.assemble(params["k"][:, None, None])

    def forces(self, params: Params, position: np.ndarray) -> Params:
        return {"k": 0.5 * self._drops(position) ** 2}

    def force_change(self, params: Params, position: np.ndarray, step: np.ndarray) -> Params:
        whole = np.zeros(self.n_nodes)
        whole[self.free] = step
        return {"k": self._drops(position) * self._drops(whole)}

    def __repr__(self) -> str:
        roles = ("driven", "grounded", "injected")
        held = "".join(f", {len(getattr(self, role))} {role}" for role in roles if getattr(self, role))
        return f"FlowNetwork({self.n_nodes} nodes, {len(self.edges)} edges{held})"
