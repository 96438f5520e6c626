"""Allostery: networks that learn to answer at one place to what is done at another.

A source is driven, and some pairs of nodes are to answer with given responses. The stiffnesses (conductances) of all edges
learn by equilibrium propagation, and stay within what can be built.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial import Delaunay

from ..core.graph import check_count
from ..core.history import History
from ..core.precision import jax_float64
from ..core.scheme import AbstractScheme, centered
from ..core.solver import equilibrate
from ..core.system import Params
from ..core.training import fit
from .elastic import ElasticNetwork
from .flow import FlowNetwork
from .state_cost import StateCost

LEAST_STIFFNESS, LARGEST_STIFFNESS = 0.02, 10.0
"""Bounds on the trained stiffnesses: at zero a network comes apart, and its equilibrium is not unique any more."""


@dataclasses.dataclass(frozen=True)
class Allostery:
    """An allosteric task: what drives the network, which pairs shall answer, and how.

    The loss is 1/2 sum_p ((response_p - wanted_p) / scale_p)^2, a response being what a pair does in units of what the
    source does.

    Attributes:
        network, params: with its initial parameters.
        points: where the nodes are in the plane, shape (n_nodes, 2).
        inputs: the driven source.
        source: the pair of nodes that is driven.
        pairs: the pairs that shall answer, shape (n_pairs, 2).
        measure: `measure(coordinates of all nodes) -> responses`, shape (n_pairs,).
        wanted, scale: shape (n_pairs,).
        learning_rate: of Adam, falling a thousandfold over the training.
        steps: of the training.
    """

    network: FlowNetwork | ElasticNetwork
    params: Params
    points: np.ndarray
    inputs: np.ndarray
    source: tuple[int, int]
    pairs: np.ndarray
    measure: Callable[[Any], Any]
    wanted: np.ndarray
    scale: np.ndarray
    learning_rate: float
    steps: int

    def response(self, params: Params) -> np.ndarray:
        """What the pairs do, in units of what the source does, shape (n_pairs,)."""
        state = equilibrate(self.network, params, inputs=self.inputs).state
        return np.asarray(self.measure(state.position))

    @property
    def nudge(self) -> StateCost:
        """The cost; it reads the nodes of the pairs, and its target are the wanted responses."""
        nodes = np.unique(self.pairs)
        inverse = np.zeros(self.network.state_shape[0], int)
        inverse[nodes] = np.arange(len(nodes))
        measure, scale = self.measure, self.scale
        return StateCost(lambda x, y: 0.5 * (((measure(x[inverse]) - y) / scale) ** 2).sum(), [int(n) for n in nodes])

    def train(
        self, *, scheme: AbstractScheme | None = None, steps: int | None = None, progress: bool | None = False
    ) -> "AllosteryResult":
        """Train the stiffnesses.

        Args:
            scheme: None takes `centered(1e-5)`, the free and two nudged equilibria a step.
            steps: None takes the task's own number.
            progress: as in `qp.fit`.

        Raises:
            EquilibriumError: a step met an equilibrium that cannot be trusted.
        """
        count = self.steps if steps is None else check_count(steps, "steps")
        history = fit(
            self.network, self.params, self.nudge, (self.inputs[None], self.wanted[None]),
            scheme=centered(1e-5) if scheme is None else scheme, optimizer=self.optimizer(count), epochs=count,
            frozen=tuple(name for name in self.params if name != "k"), progress=progress,
        )  # fmt: skip
        return AllosteryResult(self, history, self.response(self.params), self.response(history.params))

    def optimizer(self, steps: int) -> Any:
        """Adam with an exponentially falling rate, within the bounds of the stiffnesses.

        Its `eps` lies far below the gradients of small strains and drops, so that their units do not matter.
        """
        import optax

        adam = optax.adam(optax.exponential_decay(self.learning_rate, steps, 1e-3), eps=1e-16)
        chain = optax.chain(adam, _kept_between(LEAST_STIFFNESS, LARGEST_STIFFNESS))
        return optax.GradientTransformation(chain.init, jax_float64().jit(chain.update))

    def __repr__(self) -> str:
        return f"Allostery({self.network}, {len(self.pairs)} answering pairs, Adam {self.learning_rate:g}, {self.steps} steps)"


@dataclasses.dataclass(frozen=True)
class AllosteryResult:
    """How well a network learnt to answer. Prints a table.

    Attributes:
        task: what was learnt.
        history: of the training.
        before, after: responses of the pairs, in units of what the source does.
    """

    task: Allostery
    history: History
    before: np.ndarray
    after: np.ndarray

    def loss(self, response: np.ndarray) -> float:
        """1/2 sum_p ((response_p - wanted_p) / scale_p)^2."""
        return float(0.5 * np.sum(((response - self.task.wanted) / self.task.scale) ** 2))

    @property
    def reduction(self) -> float:
        """The loss of the trained network over that of the untrained one."""
        return self.loss(self.after) / self.loss(self.before)

    def __repr__(self) -> str:
        rows = [f"Allostery  {self.task.network}, {self.history.loss.size} steps"]
        rows.append(
            f"  loss {self.loss(self.before):.4g} -> {self.loss(self.after):.4g}, a factor {self.reduction:.1e}"
        )
        rows.append(f"  {'pair':<12}{'wanted':>12}{'before':>12}{'after':>12}")
        columns = zip(self.task.pairs, self.task.wanted, self.before, self.after, strict=True)
        rows += [f"  {f'{i}-{j}':<12}{y:>12.6f}{a:>12.6f}{b:>12.6f}" for (i, j), y, a, b in columns]
        return "\n".join(rows)


def flow_allostery(n_nodes: int = 256, *, n_pairs: int = 3, change: float = 0.5, seed: int = 0) -> Allostery:
    """Potential drops across some edges are to grow or shrink when two nodes elsewhere are driven.

    A disordered planar network with the source at two random nodes, one at potential 1, one grounded. The pairs are random
    edges whose free response is at least 0.01 of the source's; each shall change by +-`change` of itself. The scale of the
    loss is the root mean square of the free responses.

    Source: Rocks et al., PNAS 116, 2506 (2019); Stern et al., Phys. Rev. X 11, 021045 (2021).

    Args:
        n_nodes: at least 16.
        n_pairs: number of answering edges.
        change: relative change of their potential drops, signs at random.
        seed: of network, conductances, source and pairs.

    Raises:
        ValueError: fewer edges respond than are asked for.

    Example:
        >>> result = flow_allostery(25, n_pairs=1, seed=1).train(steps=100)
        >>> result.reduction < 1e-2
        True
    """
    rng = np.random.default_rng(seed)
    points, edges = planar_network(n_nodes, rng)
    driven, ground = (int(node) for node in rng.choice(len(points), 2, replace=False))
    network = FlowNetwork(len(points), [(int(i), int(j)) for i, j in edges], driven=[driven], grounded=[ground])
    params, inputs = network.init_params(rng), np.array([1.0])
    u = equilibrate(network, params, inputs=inputs).state.position
    response = u[edges[:, 0]] - u[edges[:, 1]]
    away = ~np.any(np.isin(edges, [driven, ground]), axis=1)
    chosen = _drawn(np.flatnonzero(away & (np.abs(response) >= 0.01)), n_pairs, rng)
    i, j = edges[chosen].T
    free, signs = response[chosen], rng.choice([-1.0, 1.0], len(chosen))
    return Allostery(
        network, params, points, inputs, (driven, ground), edges[chosen],
        measure=lambda u: u[i] - u[j], wanted=free * (1 + change * signs), scale=np.full(len(free), np.sqrt(np.mean(free**2))),
        learning_rate=0.05, steps=500,
    )  # fmt: skip


def elastic_allostery(n_nodes: int = 64, *, strain: float = 0.05, response: float = 0.2, seed: int = 0) -> Allostery:
    """A pair of nodes at one end is pulled apart, and a distant pair is to follow, far more than by itself.

    A disordered planar network at rest, floating freely. The source are the ends of a spring in the middle of the left side,
    the answering pair the ends of a random spring farther than half of the network's width, whose free response is at least
    0.002 of the source strain: where it is zero, the gradient is as well. Its strain shall be `response` times that of the
    source, with the sign that it has by itself. The stiffnesses learn, the rest lengths are kept: unstrained, the trained
    network has the shape of the untrained one.

    Source: Rocks et al., PNAS 114, 2520 (2017); Stern et al., Phys. Rev. X 11, 021045 (2021).

    Args:
        n_nodes: at least 16.
        strain: of the source.
        response: wanted strain of the answering pair, in units of the source's.
        seed: of network, stiffnesses and pair.

    Raises:
        ValueError: no distant spring responds.
    """
    rng = np.random.default_rng(seed)
    points, edges = planar_network(n_nodes, rng)
    middles = points[edges].mean(axis=1)
    left = np.array([points[:, 0].min() + 0.5, middles[:, 1].mean()])
    source = edges[np.argmin(np.abs(middles - left).sum(axis=1))]
    ends = (int(source[0]), int(source[1]))
    network = ElasticNetwork([(int(i), int(j)) for i, j in edges], points, driven=ends)
    params, apart = network.init_params(rng), points[ends[1]] - points[ends[0]]
    inputs = 0.5 * strain * np.array([-apart, apart])
    at = equilibrate(network, params, inputs=inputs).state.position
    alone = (network.springs(at).length / params["l"] - 1) / strain
    far = np.linalg.norm(middles - points[list(ends)].mean(axis=0), axis=1) > 0.5 * np.ptp(points[:, 0])
    chosen = _drawn(np.flatnonzero(far & (np.abs(alone) >= 2e-3)), 1, rng)
    (i, j), rest = edges[chosen].T, params["l"][chosen]
    return Allostery(
        network, params, points, inputs, ends, edges[chosen],
        measure=lambda r: ((((r[i] - r[j]) ** 2).sum(axis=-1)) ** 0.5 / rest - 1) / strain,
        wanted=response * np.sign(alone[chosen]), scale=np.ones(1), learning_rate=0.05, steps=300,
    )  # fmt: skip


def planar_network(n_nodes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A jittered triangular lattice and its Delaunay edges, without the slivers at the rim.

    Returns:
        Points (n_nodes, 2), nearest neighbours about 1 apart, and edges (n_edges, 2).
    """
    side = int(np.ceil(np.sqrt(check_count(n_nodes, "n_nodes", 16))))
    rows, columns = np.divmod(np.arange(n_nodes), side)
    points = np.stack([columns + 0.5 * (rows % 2), rows * np.sqrt(0.75)], axis=1)
    points += rng.uniform(-0.2, 0.2, size=points.shape)
    corners = np.sort(Delaunay(points).simplices, axis=1)
    edges = np.unique(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]]]), axis=0)
    return points, edges[np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1) < 1.8]


def _drawn(candidates: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    if len(candidates) < check_count(count, "n_pairs"):
        raise ValueError(
            f"Only {len(candidates)} pairs respond by themselves, but {count} are asked for: take another `seed` or more nodes."
        )
    return rng.choice(candidates, count, replace=False)


def _kept_between(low: float, high: float) -> Any:
    """An optax transformation: updates that leave every parameter within [low, high]."""
    import optax

    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        return {name: (params[name] + u).clip(low, high) - params[name] for name, u in updates.items()}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
