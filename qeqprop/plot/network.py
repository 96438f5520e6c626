"""Numbers of edges and nodes on the graph of a network: its parameters, the forces on them, the gradient of a loss."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike

from .canvas import axes_or_new
from .drawing import Values, draw
from .layout import Graph, Layout, check_marked, edge_paths, graph_of, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..core.gradient import EPGradient
    from ..core.solver import Equilibrium

_SIZE = (6.2, 5.0)
_EDGE_NAMES = ("J", "k", "g")
_NODE_NAMES = ("h", "f", "omega", "kappa")
_WORDS = {"J": "coupling ", "h": "field "}


class View(TypedDict, total=False):
    """How a network is drawn; described in `network`."""

    edge: str | None
    node: str | None
    layout: Layout
    inputs: Sequence[int] | None
    outputs: Sequence[int]
    max_coupling: float | None
    max_field: float | None


def network(system: Any, params: Mapping[str, ArrayLike], ax: "Axes | None" = None, **view: Unpack[View]) -> "Axes":
    """A network with its parameters: couplings as edges, fields as nodes.

    Colour and width of an edge are its coupling, on a scale centred on zero (red positive, blue negative: in an Ising
    network ferromagnetic and antiferromagnetic); the colour of a node is its field (purple positive, brown negative).
    An edge that would run through a third node is bent.

    Args:
        system: any system with edges: `TransverseFieldIsing`, `HarmonicNetwork`, and of `qp.classical` `Ising`,
            `ElasticNetwork`, `FlowNetwork`, `ResistiveNetwork`, `PhaseOscillators`, `OscillatorIsing`.
        params: its parameters.
        ax: where to draw.
        edge, node: which parameters to show; by default "J", "k" or "g" of the edges, and "h", "f", "omega" or "kappa"
            of the nodes, which stay white where there is none.
        layout: "circle", "spring", "lattice" (about as many rows as columns), a pair (rows, columns), or positions of
            shape (n_nodes, 2). None takes the reference positions of an elastic network, else "circle".
        inputs: sites marked as inputs (squares); None takes the system's own.
        outputs: sites marked as outputs (diamonds).
        max_coupling, max_field: ends of the colour scales, to make several pictures comparable.

    Raises:
        TypeError: a system without edges, an unknown option.
        ValueError: an unknown layout, parameter or site.

    Example:
        >>> import qeqprop as qp
        >>> ring = qp.TransverseFieldIsing(6, [(i, (i + 1) % 6) for i in range(6)], input_sites=[0, 1])
        >>> ax = qp.plot.network(ring, ring.init_params(0), qp.plot.new_axes(), outputs=[4])
    """
    graph = graph_of(system)
    return _show(system, graph, system.check_params(params), "{}", ax, **view)


def gradient(system: Any, out: "EPGradient", ax: "Axes | None" = None, **view: Unpack[View]) -> "Axes":
    """The gradient of the loss on the network: which couplings and fields matter, and in which direction.

    Components that are not larger than their own reported error (truncation, two standard errors, residual) are drawn
    in grey: their sign is not known.

    Args:
        system: the network whose gradient it is.
        out: what `qp.ep_gradient` returns.
        ax: where to draw.
        view: edge, node, layout, inputs, outputs, max_coupling, max_field, as for `network`.

    Raises:
        TypeError, ValueError: as for `network`.

    Example:
        >>> import qeqprop as qp
        >>> ring = qp.TransverseFieldIsing(6, [(i, (i + 1) % 6) for i in range(6)])
        >>> out = qp.ep_gradient(ring, ring.init_params(0), qp.ObservableCost(qp.Z(4)))
        >>> ax = qp.plot.gradient(ring, out, qp.plot.new_axes(), outputs=[4])
    """
    errors = {name: out.truncation[name] + 2 * out.stderr[name] + out.residual for name in out.grad}
    unknown = {name: np.abs(value) <= errors[name] for name, value in out.grad.items()}
    return _show(system, graph_of(system), out.grad, r"$\partial L/\partial {}$", ax, unknown, **view)


def forces(
    system: Any,
    params: Mapping[str, ArrayLike],
    equilibrium: "Equilibrium",
    ax: "Axes | None" = None,
    *,
    since: "Equilibrium | None" = None,
    **view: Unpack[View],
) -> "Axes":
    r"""The forces $\langle\partial E/\partial\theta\rangle$ on the parameters, at an equilibrium, on the network.

    With `since`, the change of the forces from that equilibrium on: between the free and a nudged one it is, to first
    order, beta times the gradient.

    Args:
        system: the network.
        params: its parameters.
        equilibrium: of one sample, from `qp.equilibrate` or from `EPGradient.free` and `.nudged`.
        ax: where to draw.
        since: subtract the forces at this equilibrium.
        view: edge, node, layout, inputs, outputs, max_coupling, max_field, as for `network`.

    Raises:
        TypeError, ValueError: as for `network`; a batch of equilibria.

    Example:
        >>> import qeqprop as qp
        >>> ring = qp.TransverseFieldIsing(6, [(i, (i + 1) % 6) for i in range(6)])
        >>> params = ring.init_params(0)
        >>> out = qp.ep_gradient(ring, params, qp.ObservableCost(qp.Z(4)), scheme=qp.centered(0.1))
        >>> beta, nudged = out.nudged[0]
        >>> ax = qp.plot.forces(ring, params, nudged, qp.plot.new_axes(), since=out.free, outputs=[4])
    """
    graph, checked = graph_of(system), system.check_params(params)
    seen, label = _forces(system, checked, equilibrium, "equilibrium"), r"$\langle\partial E/\partial {}\rangle$"
    if since is not None:
        before = _forces(system, checked, since, "since")
        seen, label = {name: value - before[name] for name, value in seen.items()}, f"change of {label}"
    return _show(system, graph, seen, label, ax, **view)


def _forces(system: Any, params: Mapping[str, np.ndarray], phase: "Equilibrium", name: str) -> dict[str, np.ndarray]:
    if np.ndim(phase.energy.mean):
        raise ValueError(f"Argument `{name}` must be of one sample, but holds {len(phase.energy.mean)}.")
    return system.param_grad(params, phase.state).mean


def _show(
    system: Any,
    graph: Graph,
    values: Mapping[str, np.ndarray],
    label: str,
    ax: "Axes | None",
    unknown: Mapping[str, np.ndarray] | None = None,
    *,
    edge: str | None = None,
    node: str | None = None,
    layout: Layout = None,
    inputs: Sequence[int] | None = None,
    outputs: Sequence[int] = (),
    max_coupling: float | None = None,
    max_field: float | None = None,
) -> "Axes":
    """Draw one array of the edges and one of the nodes; all views of a network end here."""
    edge = _choose(values, "edge", edge, _EDGE_NAMES, len(graph.edges))
    node = _choose(values, "node", node, [name for name in _NODE_NAMES if name != edge], graph.n_nodes)
    if edge is None:
        raise ValueError(f"Argument `edge` must name a parameter of the edges: none of {list(values)} was recognised.")
    bonds = _values(values, edge, label, "ij", max_coupling, unknown)
    sites = None if node is None else _values(values, node, label, "i", max_field, unknown)
    positions = place(system, graph, layout)
    roles = {
        "input": check_marked(graph.inputs if inputs is None else inputs, "inputs", graph.n_nodes),
        "output": check_marked(outputs, "outputs", graph.n_nodes),
    }
    return draw(axes_or_new(ax, _SIZE), positions, edge_paths(system, graph, positions), bonds, sites, roles)


def _choose(
    values: Mapping[str, np.ndarray], argument: str, name: str | None, known: Sequence[str], count: int
) -> str | None:
    """The parameter to show, by its name or else by those that systems give it."""
    if name is None:
        return next((n for n in known if n in values and values[n].shape == (count,)), None)
    if name not in values or values[name].shape != (count,):
        shapes = {n: value.shape for n, value in values.items()}
        raise ValueError(
            f"Argument `{argument}` must name a parameter of shape ({count},), one of {shapes}, but is {name!r}."
        )
    return name


def _values(
    values: Mapping[str, np.ndarray],
    name: str,
    label: str,
    index: str,
    largest: float | None,
    unknown: Mapping[str, np.ndarray] | None,
) -> Values:
    greek = "\\" if len(name) > 1 else ""
    symbol = f"{greek}{name}_{{{index}}}"
    text = f"{_WORDS.get(name, '')}${symbol}$" if label == "{}" else label.replace("{}", symbol)
    shown = values[name]
    grey = np.zeros(shown.shape, dtype=bool) if unknown is None else unknown[name]
    return Values(shown, text, float(largest or np.max(np.abs(shown), initial=1e-12)), grey)
