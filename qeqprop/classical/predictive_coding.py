"""Predictive coding networks: every layer predicts the next one, and its energy is the squared error of the predictions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate, zeros
from ..core.joint import AbstractSummingSystem
from ..core.system import Params, replaced
from .activations import Interval
from .architecture import Architecture, layer_shapes
from .convolution import Convolution
from .coordinates import AbstractLayeredState
from .energy import Nudge, check_inputs
from .interactions import AbstractInteraction, Dense, check_links
from .known import Known
from .layered import as_forces
from .prediction_passes import ACTIVATIONS, Net, passes
from .state_cost import StateTerm, other_nudge

if TYPE_CHECKING:
    from .prediction_sweeps import PredictionSweeps


class LayeredActivities(AbstractLayeredState):
    """Activities of all units.

    Attributes:
        layers: one array a layer, the inputs first; each of the layer's shape, of a batch behind its axis.
        batched: whether the first axis is a batch axis.
        known: what the solver knows besides.
    """

    layers: tuple[np.ndarray, ...]
    batched: bool = eqx.field(static=True)
    known: Known | None = None

    def to_storage(self) -> dict[str, Any]:
        """The activities; what else is known can be computed again."""
        return {"layers": self.layers, "batched": self.batched, "known": None}


class PredictiveCodingNetwork(AbstractSummingSystem):
    r"""Layers of units, each predicted by the layer before:

    .. math:: E = \tfrac12 \sum_l \Big\| s_l - f_l\Big(b_l + \sum_k W_{kl} \star s_k\Big) \Big\|^2 ,

    with the inputs as s_0; * is a matrix product, or a convolution with pooling, from the layer before or (skips) from any
    below. The free state is the forward pass of a feedforward network, and its energy is 0. A nudge beta C of the outputs
    spreads backwards: to first order in beta the error of layer l, s_l - f_l(...), is -beta dC/ds_l, what backpropagation
    computes. So EP gives the gradient of backpropagation, from a state at rest. The energy falls without bound where beta is
    below -1/c, with c the largest curvature of the cost: |beta| < 1 for a cost |s - y|^2/2.

    Units are numbered layer by layer, the inputs first; `outputs` are the last ones.

    Source: J. C. R. Whittington and R. Bogacz, Neural Computation 29, 1229 (2017); with nudges of both signs Kerjan, Hoier
    and Scellier, arXiv:2606.03584 (2026).

    Args:
        sizes: of the layers from the inputs to the outputs: n, or (channels, rows, columns).
        interactions: `Dense` and `Convolution` between them, "w0", "w1", ... in this order; None: `Dense` from each layer to
            the next.
        activation: of the hidden layers: "tanh", "sigmoid", "hard_sigmoid", "relu", "gelu" or "linear".
        readout: of the outputs.

    Parameters: weights "w0", ...; biases "b0", ... of layers 1, ..., one a unit or a channel.

    Raises:
        TypeError, ValueError: fewer than two layers, an unknown activation, shapes that do not fit.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.classical.PredictiveCodingNetwork((1, 1, 1))
        >>> params = {"w0": [[1.0]], "b0": [0.0], "w1": [[2.0]], "b1": [0.0]}
        >>> cost = qp.classical.StateCost(lambda s, y: ((s - y) ** 2).sum() / 2, net.outputs)
        >>> out = qp.ep_gradient(net, params, cost, [1.0], inputs=[0.5], scheme=qp.centered(1e-3))
        >>> print(out.grad["w1"].round(6), out.loss)  # (2 tanh(0.5) - 1) tanh(0.5)
        [[-0.035013]] 0.00287022
    """

    architecture: Architecture = eqx.field(static=True)
    activations: tuple[str, ...] = eqx.field(static=True)
    inputs: np.ndarray
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        sizes: Sequence[int | Sequence[int]],
        *,
        interactions: Sequence[AbstractInteraction] | None = None,
        activation: str = "tanh",
        readout: str = "linear",
    ):
        shapes = layer_shapes(sizes)
        for name, value in (("activation", activation), ("readout", readout)):
            if value not in ACTIVATIONS:
                raise ValueError(f"Argument `{name}` must be one of {', '.join(ACTIVATIONS)}, but is {value!r}.")
        links = [Dense(k, k + 1) for k in range(len(shapes) - 1)] if interactions is None else list(interactions)
        check_links(links, len(shapes))
        if strange := [link for link in links if not isinstance(link, Dense | Convolution)]:
            raise TypeError(f"Argument `interactions` must hold `Dense` or `Convolution`, but has {strange[0]!r}.")
        self.architecture = Architecture(shapes, (Interval(),) * (len(shapes) - 1), tuple(links), biased=True)
        self.architecture.param_shapes  # refuses layers that do not fit  # noqa: B018
        self.activations = (*[activation] * (len(shapes) - 2), readout)
        self.inputs = np.zeros(shapes[0])
        self.nudges = ()

    @property
    def net(self) -> Net:
        """What its passes are compiled for."""
        return Net(self.architecture, self.activations)

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return self.architecture.param_shapes

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Numbers of units of the layers."""
        return self.architecture.layer_sizes

    @property
    def outputs(self) -> tuple[int, ...]:
        """Unit numbers of the outputs, for `StateCost(..., nodes=net.outputs)`."""
        return self.architecture.outputs

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.architecture.shapes[0]

    @property
    def batch_size(self) -> int | None:
        return None if self.inputs.shape == self.input_shape else len(self.inputs)

    def energy(self, params: Params, state: LayeredActivities) -> Estimate:
        """E and the nudges, of every sample."""
        bare = np.asarray(passes(self.net).activities(params, with_batch_axis(state))[0])
        pulled = sum(beta * term.expect(state).mean for term, beta in self.nudges)
        return Estimate.exact(np.asarray((bare if state.batched else bare[0]) + pulled))

    def param_grad(self, params: Params, state: LayeredActivities) -> Estimate:
        """dE/dW = -s_{l-1} (error * slope)_l; of a batch its mean already, on a leading axis of length 1."""
        return self.summed_force(params, (state,), (1.0,))

    def summed_force(self, params: Params, states: Sequence[LayeredActivities], weights: Sequence[float]) -> Estimate:
        """The same, added up over states that have their inputs in common."""
        known = [self._signals(params, state) for state in states]
        wrong = [(with_batch_axis(s), k, w) for s, k, w in zip(states, known, weights, strict=True) if k is not None]
        if not wrong:
            lead = (1,) if states[0].batched else ()
            return Estimate.exact({name: zeros((*lead, *shape)) for name, shape in self.param_shapes.items()})
        layers, signals, used = zip(*wrong, strict=True)
        return as_forces(passes(self.net).forces(params, layers, signals, np.array(used)), states[0].batched)

    def _signals(self, params: Params, state: LayeredActivities) -> Any:
        """Errors times slopes by layer, batch axis first; none of a free state, where all of them are 0."""
        if state.known is not None and state.known.belongs_to(params):
            return state.known.signals
        return passes(self.net).activities(params, with_batch_axis(state))[1]

    def nudged(self, term: Any, strength: complex) -> "PredictiveCodingNetwork":
        """The network with energy E + strength * term."""
        if not isinstance(term, StateTerm):
            raise other_nudge(self, term)
        nodes = term.coordinates.nodes
        if nodes is None or not set(nodes) <= set(self.outputs):
            raise ValueError(
                f"Argument `nodes` of the cost must be outputs of the network, {self.outputs[0]} to {self.outputs[-1]}: use "
                "`StateCost(..., nodes=net.outputs)`."
            )
        return replaced(self, nudges=(*self.nudges, (term, float(np.real(strength)))))

    def with_inputs(self, inputs: ArrayLike) -> "PredictiveCodingNetwork":
        """The network with these inputs; a leading axis is the batch axis."""
        return replaced(self, inputs=check_inputs(inputs, self.input_shape))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Normal weights of variance 1/n, n the number of units that send to one unit, 2/n into rectified units; no biases."""
        rng, net = np.random.default_rng(rng), self.architecture
        params = {name: np.zeros(shape) for name, shape in net.param_shapes.items()}
        for k, link in enumerate(net.interactions):
            gain = 2 if self.activations[link.post - 1] in ("relu", "gelu") else 1
            shape = params[f"w{k}"].shape
            params[f"w{k}"] = np.sqrt(gain / link.fan_in(net.shapes[link.pre])) * rng.normal(size=shape)
        return params

    def default_solver(self) -> "PredictionSweeps":
        from .prediction_sweeps import PredictionSweeps

        return PredictionSweeps()

    def __repr__(self) -> str:
        shapes = "-".join("x".join(map(str, shape)) for shape in self.architecture.shapes)
        return f"PredictiveCodingNetwork({shapes}, {', '.join(self.activations)})"


def with_batch_axis(state: LayeredActivities) -> tuple[np.ndarray, ...]:
    """All layers, batch axis first."""
    return state.layers if state.batched else tuple(layer[None] for layer in state.layers)
