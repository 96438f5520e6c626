"""Layered resistive networks with diodes and amplifiers: the analog neural network of Kendall et al. (2020)."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np

from ..core.graph import check_counts
from ..core.system import Params, real_array
from .activations import Diodes, Interval
from .architecture import Architecture
from .conductors import check_conductances
from .energy import Nudge
from .interactions import Resistors
from .layered import AbstractLayeredNetwork


class DeepResistiveNetwork(AbstractLayeredNetwork):
    r"""Layers of nodes, joined by resistors, with an ideal diode at every hidden node and amplifiers between the layers.

    At its equilibrium the currents into every node add to zero. Node j of layer l receives, from a layer of resistors
    driven by amplifiers of voltage gain A, and loses to the amplifier that drives the next, of current gain c,

    .. math:: \sum_i w^{l-1}_{ij} (A v^{l-1}_i - v^l_j) - c \sum_k w^l_{jk} (A v^l_j - v^{l+1}_k) + \text{diode} = 0 .

    These are the stationarity conditions of an energy, a co-content with weighted layers,

    .. math:: E = \tfrac12 \sum_l s_l \sum_{ij} w^l_{ij} (A v^l_i - v^{l+1}_j)^2 , \qquad s_l = (c/A)^l ,

    so that EP gives the gradient by the physical conductances: dE/dw = s_l (A v_i - v_j)^2 / 2 (the first layer is driven by
    the sources, without A). A nudge beta C injects the current -beta C'(v)/s into an output node: behind many amplifiers s
    is small, and so must beta be (`symmetrizer`).

    The inputs x are applied twice, as +x and -x, for conductances cannot be negative. The diodes hold hidden nodes
    0, 2, 4, ... at v >= 0 (excitatory) and 1, 3, 5, ... at v <= 0 (inhibitory); the outputs have none. Nodes are numbered
    layer by layer, the doubled inputs first; `outputs` are the last ones.

    Source: Kendall, Pantone, Manickavasagam, Bengio, Scellier, arXiv:2006.01981; Scellier, arXiv:2402.11674.

    Args:
        sizes: numbers of inputs, hidden nodes of every layer, outputs, e.g. (784, 100, 10): a 1568-100-10 network.
        voltage_gain: A > 0. The default 1 is a plain wire: an unbuffered network.
        current_gain: c >= 0; None takes 1/A. With c = 0 nothing flows back: such a network predicts, but EP refuses it.
        input_gain: the sources stand at this times x. Many resistors average, and averages are small.

    Parameters: "w0" (2 sizes[0], sizes[1]), "w1" (sizes[1], sizes[2]), ...: conductances >= 0 in siemens, voltages in volts.

    Raises:
        TypeError, ValueError: fewer than two layers, gains out of range.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> net = qp.classical.DeepResistiveNetwork((1, 2, 1))
        >>> params = {"w0": [[2.0, 1.0], [1.0, 2.0]], "w1": [[1.0], [1.0]]}
        >>> cost = qp.classical.StateCost(lambda v, y: ((v - y) ** 2).sum(), net.outputs)
        >>> out = qp.ep_gradient(net, params, cost, [0.2], inputs=[0.9])
        >>> print(out.loss, out.grad["w1"].ravel().round(6))  # the voltages are 0.225, -0.225 and 0
        0.04 [-0.045  0.045]
    """

    sizes: tuple[int, ...] = eqx.field(static=True)
    voltage_gain: float = eqx.field(static=True)
    current_gain: float = eqx.field(static=True)
    input_gain: float = eqx.field(static=True)
    architecture: Architecture = eqx.field(static=True)
    inputs: np.ndarray
    nudges: tuple[Nudge, ...]
    held: tuple[tuple[int, ...], np.ndarray] | None

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        voltage_gain: float = 1.0,
        current_gain: float | None = None,
        input_gain: float = 1.0,
    ):
        self.sizes = check_counts(sizes, "sizes", 1)
        if len(self.sizes) < 2:
            raise ValueError(f"Argument `sizes` must name the inputs and the outputs at least, but is {tuple(sizes)}.")
        self.voltage_gain = _positive(voltage_gain, "voltage_gain")
        self.input_gain = _positive(input_gain, "input_gain")
        gain = 1 / self.voltage_gain if current_gain is None else float(real_array(current_gain, "current_gain", ()))
        if gain < 0:
            raise ValueError(f"Argument `current_gain` must not be negative, but is {gain:g}.")
        self.current_gain = gain
        inner = len(self.sizes) - 2
        self.architecture = Architecture(
            shapes=((2 * self.sizes[0],), *((size,) for size in self.sizes[1:])),
            activations=(*[Diodes()] * inner, Interval(curvature=0.0)),
            interactions=(
                Resistors(0, 1, doubled=True),
                *(Resistors(layer, layer + 1, self.voltage_gain, gain) for layer in range(1, inner + 1)),
            ),
            biased=False,
        )
        self.inputs = np.zeros(self.sizes[0])
        self.nudges = ()
        self.held = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.sizes[0],)

    def symmetrizer(self, layer: int) -> float:
        """s_l: what the currents of a layer of resistors count in the energy."""
        return self.architecture.units[layer + 1]

    def sources(self) -> np.ndarray:
        """Voltages of the doubled inputs, shape (n,) or (batch, n)."""
        return self.input_gain * np.concatenate([self.inputs, -self.inputs], axis=-1)

    def _check_domain(self, params: Params) -> None:
        """Refuse negative conductances, and nodes that no resistor reaches."""
        for name, w in params.items():
            check_conductances(w, name)
            if len(dead := np.flatnonzero(w.max(axis=0) == 0)):
                raise ValueError(
                    f"Argument `{name}` must join every node to its previous layer, but column {dead[0]} is all zero: the "
                    "node is disconnected. Start with larger conductances, or train with a lower rate."
                )

    def _check_reach(self) -> None:
        if self.current_gain == 0:
            raise ValueError(
                "The network has `current_gain` 0: nothing flows back through its amplifiers, and no nudge can reach the "
                "conductances before them. EP needs bidirectional amplifiers, e.g. `current_gain=1/voltage_gain`."
            )

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Exponentially distributed conductances of mean 1/n_pre: many are small, so that a node can prefer few inputs."""
        rng = np.random.default_rng(rng)
        return {name: rng.exponential(1 / shape[0], shape) for name, shape in self.param_shapes.items()}

    def __repr__(self) -> str:
        gains = f", A = {self.voltage_gain:g}, c = {self.current_gain:g}" if self.voltage_gain != 1 else ""
        return f"DeepResistiveNetwork({'-'.join(map(str, self.layer_sizes))}{gains})"


def _positive(value: Any, name: str) -> float:
    number = float(real_array(value, name, ()))
    if number <= 0:
        raise ValueError(f"Argument `{name}` must be positive, but is {number:g}.")
    return number
