"""Resistive networks on any graph: linear resistors, voltage sources, injected currents and ideal diodes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.graph import Edges, check_count, check_edges, check_nodes
from ..core.system import AbstractSystem, Params, real_array, replaced
from .conductors import check_conductances, check_not_held, loose_nodes
from .energy import Nudge, PointState, check_inputs
from .state_cost import StateTerm, check_reach, other_nudge

if TYPE_CHECKING:
    from .active_set import ActiveSet


class Diode(NamedTuple):
    """An ideal diode with a battery in series: v[anode] - v[cathode] <= drop. `None` is ground.

    Example:
        >>> Diode(3, None, drop=0.5)  # v[3] <= 0.5
        Diode(anode=3, cathode=None, drop=0.5)
        >>> Diode(None, 3)  # v[3] >= 0
        Diode(anode=None, cathode=3, drop=0.0)
    """

    anode: int | None
    cathode: int | None
    drop: float = 0.0


class ResistiveNetwork(AbstractSystem):
    r"""Resistors, sources and ideal diodes on any graph. The voltages minimise the co-content

    .. math:: E = \tfrac12 \sum_{(ij)} g_{ij} (v_i - v_j)^2 - \sum_k I_k v_k
              \quad \text{subject to} \quad v_a - v_c \le d \text{ for every diode } (a, c, d) ,

    with dE/dg = (v_i - v_j)^2/2 and dE/dI = -v. The multipliers of the bounds are the currents through the diodes. Units:
    siemens, volts, amperes.

    Source: Millar, Phil. Mag. 42, 1150 (1951); Scellier, arXiv:2402.11674.

    Args:
        n_nodes: number of nodes.
        edges: the resistors, a list of pairs or a graph.
        sources: nodes held at the input voltages.
        grounded: nodes held at 0 V.
        diodes: ideal diodes, as `Diode` or triples (anode, cathode, drop): from a node to a potential, or between two nodes.
        currents: nodes with an injected current, the parameter "i".

    Parameters: "g" (n_edges,), conductances >= 0; with `currents` also "i" (len(currents),).

    Raises:
        TypeError, ValueError: a duplicated edge, a node that is held twice, a part of the network that no resistor joins to
            a held node (its voltage would be undefined while its diodes block), a diode between held nodes.

    Example:
        >>> import qeqprop as qp
        >>> divider = qp.classical.ResistiveNetwork(3, [(0, 1), (1, 2)], sources=[0], grounded=[2], diodes=[(1, None, 0.7)])
        >>> params = {"g": [2.0, 1.0]}
        >>> print(qp.equilibrate(divider, params, inputs=[0.9]).state.position)
        [0.9 0.6 0. ]
        >>> print(qp.equilibrate(divider, params, inputs=[3.0]).state.position)  # the diode conducts
        [3.  0.7 0. ]
    """

    edges: Edges = eqx.field(static=True)
    n_nodes: int = eqx.field(static=True)
    sources: tuple[int, ...] = eqx.field(static=True)
    grounded: tuple[int, ...] = eqx.field(static=True)
    diodes: tuple[Diode, ...] = eqx.field(static=True)
    currents: tuple[int, ...] = eqx.field(static=True)
    ends: tuple[np.ndarray, np.ndarray]
    free: np.ndarray
    inputs: np.ndarray
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        n_nodes: int,
        edges: Any,
        *,
        sources: Sequence[int] = (),
        grounded: Sequence[int] = (),
        diodes: Sequence[Diode | tuple[int | None, int | None, float]] = (),
        currents: Sequence[int] = (),
    ):
        self.n_nodes = check_count(n_nodes, "n_nodes")
        self.edges = check_edges(edges, self.n_nodes)
        self.sources = check_nodes(sources, "sources", self.n_nodes)
        self.grounded = check_nodes(grounded, "grounded", self.n_nodes)
        self.currents = check_nodes(currents, "currents", self.n_nodes)
        held = self.sources + self.grounded
        check_not_held(self.grounded, "grounded", self.sources, "voltage")
        check_not_held(self.currents, "currents", held, "voltage")
        self.diodes = tuple(self._check_diode(diode, held) for diode in diodes)
        if len({diode[:2] for diode in self.diodes}) != len(self.diodes):
            raise ValueError(
                "Argument `diodes` must have each pair (anode, cathode) once: keep the one of lowest drop."
            )
        pairs = np.array(self.edges, dtype=int).reshape(-1, 2)
        self.ends = (pairs[:, 0].copy(), pairs[:, 1].copy())
        self.free = np.setdiff1d(np.arange(self.n_nodes), held)
        self.inputs = np.zeros(len(self.sources))
        self.nudges = ()
        self._check_paths(np.ones(len(self.edges)), "edges")

    def _check_diode(self, diode: Any, held: tuple[int, ...]) -> Diode:
        try:
            checked = Diode(*diode)
        except TypeError:
            raise TypeError(f"Argument `diodes` must hold triples (anode, cathode, drop), but has {diode!r}.") from None
        ends = [end for end in checked[:2] if end is not None]
        check_nodes(ends, "diodes", self.n_nodes)
        if set(ends) <= set(held):
            raise ValueError(f"Argument `diodes` must touch a node whose voltage is not held, but has {diode!r}.")
        return checked._replace(drop=float(real_array(checked.drop, "diodes", ())))

    def _check_paths(self, conductances: np.ndarray, name: str) -> None:
        """Refuse parts of the network that no resistor joins to a source or the ground."""
        loose = loose_nodes(self.ends, conductances, self.n_nodes, self.sources + self.grounded)
        if len(loose):
            node = int(loose[0])
            diodes = [tuple(diode) for diode in self.diodes if node in diode[:2]]
            advice = f" A diode such as {diodes[0]} does not define it while it blocks." if diodes else ""
            raise ValueError(
                f"Argument `{name}` must join every node to a source or to the ground, but the network is disconnected: "
                f"the voltage of node {node} is not defined.{advice} Add a resistor, however weak."
            )

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        injected = {"i": (len(self.currents),)} if self.currents else {}
        return {"g": (len(self.edges),), **injected}

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return (len(self.sources),) if self.sources else None

    @property
    def batch_size(self) -> int | None:
        return len(self.inputs) if self.inputs.ndim == 2 else None

    def _check_domain(self, params: Params) -> None:
        """Refuse negative conductances, and zero ones that cut the network."""
        check_conductances(params["g"], "g", self.edges)
        self._check_paths(params["g"], "g")

    def with_inputs(self, inputs: ArrayLike) -> "ResistiveNetwork":
        """The network with its sources at these voltages; a leading axis is the batch axis."""
        if self.input_shape is None:
            raise ValueError("Argument `inputs` must be None: this network has no sources.")
        return replaced(self, inputs=check_inputs(inputs, self.input_shape))

    def start(self) -> np.ndarray:
        """Zero volts where nothing is held."""
        v = np.zeros(self.n_nodes)
        v[list(self.sources)] = self.inputs
        return v

    def laplacian(self, params: Params) -> sp.csc_array:
        """The conductance matrix of all nodes: currents out of the nodes per volt."""
        (i, j), g = self.ends, params["g"]
        rows, columns = np.concatenate([i, j, i, j]), np.concatenate([i, j, j, i])
        shape = (self.n_nodes, self.n_nodes)
        return sp.csc_array((np.concatenate([g, g, -g, -g]), (rows, columns)), shape=shape)

    def injected(self, params: Params) -> np.ndarray:
        """Currents injected into all nodes."""
        total = np.zeros(self.n_nodes)
        if self.currents:
            total[list(self.currents)] = params["i"]
        return total

    def diode_matrix(self) -> tuple[sp.csr_array, np.ndarray]:
        """(B, d): the diodes demand B v <= d, one row a diode, for the voltages of all nodes."""
        rows = [k for k, diode in enumerate(self.diodes) for end in diode[:2] if end is not None]
        columns = [end for diode in self.diodes for end in diode[:2] if end is not None]
        signs = [s for diode in self.diodes for end, s in zip(diode[:2], (1.0, -1.0), strict=True) if end is not None]
        shape = (len(self.diodes), self.n_nodes)
        return sp.csr_array((signs, (rows, columns)), shape=shape), np.array([diode.drop for diode in self.diodes])

    def drops(self, v: np.ndarray) -> np.ndarray:
        """Voltages across the resistors, v_i - v_j."""
        return v[self.ends[0]] - v[self.ends[1]]

    def energy(self, params: Params, state: Any) -> Estimate:
        """The co-content of a state, nudges included."""
        v = state.position
        value = 0.5 * params["g"] @ self.drops(v) ** 2 - self.injected(params) @ v
        return Estimate.exact(np.asarray(value + sum(beta * term.value(v) for term, beta in self.nudges)))

    def param_grad(self, params: Params, state: Any) -> Estimate:
        """dE/dg = (v_i - v_j)^2 / 2 and dE/di = -v at a fixed state."""
        return Estimate.exact(self._by_current({"g": 0.5 * self.drops(state.position) ** 2}, state.position))

    def force_change(self, params: Params, v: np.ndarray, change: np.ndarray) -> Params:
        """The derivative of `param_grad` along a change of all voltages."""
        return self._by_current({"g": self.drops(v) * self.drops(change)}, change)

    def _by_current(self, forces: Params, v: np.ndarray) -> Params:
        return {**forces, "i": -v[list(self.currents)]} if self.currents else forces

    def nudged(self, term: Any, strength: complex) -> "ResistiveNetwork":
        """The network with energy E + strength * term."""
        if not isinstance(term, StateTerm):
            raise other_nudge(self, term)
        nodes = term.coordinates.nodes
        if nodes is not None and max(nodes) >= self.n_nodes:
            raise ValueError(
                f"Argument `nodes` of the cost has node {max(nodes)}, but the network has nodes 0 to {self.n_nodes - 1}."
            )
        check_reach(nodes, self.free)
        return replaced(self, nudges=(*self.nudges, (term, float(np.real(strength)))))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Conductances around 1 (log-normal, width 0.3), no currents."""
        rng = np.random.default_rng(rng)
        zeros = {"i": np.zeros(len(self.currents))} if self.currents else {}
        return {"g": np.exp(0.3 * rng.normal(size=len(self.edges))), **zeros}

    def default_solver(self) -> "ActiveSet":
        from .active_set import ActiveSet

        return ActiveSet()

    def __repr__(self) -> str:
        held = f"{len(self.sources)} sources, " if self.sources else ""
        return f"ResistiveNetwork({self.n_nodes} nodes, {len(self.edges)} resistors, {held}{len(self.diodes)} diodes)"


class CircuitState(PointState):
    """Voltages of all nodes with the currents through the diodes.

    Attributes:
        position: voltages, shape (n_nodes,).
        curvature: the factorised conductances at the last step.
        diode_currents: >= 0, shape (n_diodes,).
    """

    diode_currents: np.ndarray = eqx.field(default_factory=lambda: np.zeros(0))

    def __repr__(self) -> str:
        return f"CircuitState({self.position.size} nodes, {self.diode_currents.size} diodes)"
