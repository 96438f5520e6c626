"""Deep Hopfield networks: dense, convolutional, with skips, with a softmax readout."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.graph import check_count
from ..core.precision import jax_float64
from ..core.system import Params
from .activations import ACTIVATIONS
from .architecture import Architecture, layer_shapes
from .energy import Nudge
from .interactions import AbstractInteraction, Dense, check_links
from .layered import AbstractLayeredNetwork
from .state_cost import check_alike


class DeepHopfield(AbstractLayeredNetwork):
    r"""Layers of continuous units with symmetric couplings, driven by clamped inputs s_0 = x:

    .. math:: E = \sum_l G(s_l) - \sum_l b_l \cdot s_l - \sum_{(l, m)} s_m \cdot (w_{lm} \star s_l) ,

    where * is a matrix product, or a convolution with pooling. At rest every layer is s_l = rho(b_l + sum of what its
    neighbours send), with rho the activation whose inverse is G': G = s^2/2 on [0, 1] makes the hard sigmoid.

    Units are numbered layer by layer, the inputs first; `outputs` are the last ones. With a `readout` the outputs are
    W s_L + b, which are no units: a cost of them (`softmax_cross_entropy`) pulls on the last layer, and nothing of them
    enters the energy else.

    Source: J. J. Hopfield, PNAS 81, 3088 (1984); Scellier and Bengio, Front. Comput. Neurosci. 11, 24 (2017), arXiv:1602.05179;
    convolutions, symmetric nudging and the readout: Laborieux et al., Front. Neurosci. 15, 633674 (2021), arXiv:2006.03824.

    Args:
        sizes: of the layers from the inputs to the outputs: n, or (channels, rows, columns).
        interactions: what joins them, "w0", "w1", ... in this order; None: `Dense` from each layer to the next.
        activation: of the hidden layers: "hard_sigmoid", "hard_tanh", "tanh", "sigmoid", "relu" or "linear".
        outputs: of the last layer. The energy of linear and rectified units has a minimum for weak couplings only.
        readout: number of outputs W s_L + b; None: the last layer is the outputs.

    Parameters: weights "w0", ...; biases "b0", ... of layers 1, ..., of the units or of the channels; last the readout's.

    Raises:
        TypeError, ValueError: fewer than two layers, layers that no interaction reaches, shapes that do not fit.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.classical.DeepHopfield((1, 1, 1))
        >>> params = {"w0": [[0.5]], "b0": [0.1], "w1": [[0.4]], "b1": [0.0]}
        >>> cost = qp.classical.StateCost(lambda s, y: ((s - y) ** 2).sum() / 2, net.outputs)
        >>> out = qp.ep_gradient(net, params, cost, [1.0], inputs=[0.74], scheme=qp.centered(1e-3))
        >>> state = out.free.state                       # h = 0.1 + 0.5 * 0.74 + 0.4 s and s = 0.4 h
        >>> print(state.layers[1].round(4), state.layers[2].round(4), out.grad["w1"].round(4))
        [0.5595] [0.2238] [[-0.5997]]
    """

    architecture: Architecture = eqx.field(static=True)
    names: tuple[str, str] = eqx.field(static=True)
    inputs: np.ndarray
    nudges: tuple[Nudge, ...]
    held: tuple[tuple[int, ...], np.ndarray] | None

    def __init__(
        self,
        sizes: Sequence[int | Sequence[int]],
        *,
        interactions: Sequence[AbstractInteraction] | None = None,
        activation: str = "hard_sigmoid",
        outputs: str = "linear",
        readout: int | None = None,
    ):
        shapes = layer_shapes(sizes)
        for name, value in (("activation", activation), ("outputs", outputs)):
            if value not in ACTIVATIONS:
                raise ValueError(f"Argument `{name}` must be one of {', '.join(ACTIVATIONS)}, but is {value!r}.")
        links = [Dense(k, k + 1) for k in range(len(shapes) - 1)] if interactions is None else list(interactions)
        check_links(links, len(shapes))
        last = activation if readout is not None else outputs
        activations = [ACTIVATIONS[activation]] * (len(shapes) - 2) + [ACTIVATIONS[last]]
        n_outputs = None if readout is None else check_count(readout, "readout")
        self.architecture = Architecture(shapes, tuple(activations), tuple(links), biased=True, readout=n_outputs)
        self.architecture.param_shapes  # refuses layers that do not fit  # noqa: B018
        self.names = activation, last
        self.inputs = np.zeros(shapes[0])
        self.nudges = ()
        self.held = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.architecture.shapes[0]

    def sources(self) -> np.ndarray:
        """The inputs."""
        return self.inputs

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Uniform weights of variance 1/n, n the number of units that send to one unit; no biases."""
        rng, net, params = np.random.default_rng(rng), self.architecture, {}
        shapes = net.param_shapes
        fans = {f"w{k}": link.fan_in(net.shapes[link.pre]) for k, link in enumerate(net.interactions)}
        fans |= {net.readout_names[0]: int(np.prod(net.shapes[-1]))}
        for name, shape in shapes.items():
            reach = np.sqrt(3 / fans[name]) if name in fans else 0.0
            params[name] = rng.uniform(-reach, reach, shape)
        return params

    def __repr__(self) -> str:
        shapes = "-".join("x".join(map(str, shape)) for shape in self.architecture.shapes)
        read = "" if self.architecture.readout is None else f", readout {self.architecture.readout}"
        return f"DeepHopfield({shapes}, {', '.join(self.names)}{read})"


def softmax_cross_entropy(outputs: Any, target: ArrayLike) -> Any:
    """-sum_k y_k log softmax(outputs)_k, for targets y that are probabilities (or one of them 1).

    Raises:
        ValueError: a target of another shape than the outputs, such as class labels.

    Example:
        >>> import numpy as np
        >>> print(softmax_cross_entropy(np.zeros(4), np.eye(4)[0]).round(4), np.log(4).round(4))
        1.3863 1.3863
    """
    check_alike(outputs, target)
    return -(target * jax_float64().nn.log_softmax(outputs)).sum()
