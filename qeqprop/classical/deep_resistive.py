"""Layered resistive networks with diodes and amplifiers: the analog neural network of Kendall et al. (2020).

No tensor with axes (batch, n_pre, n_post) is ever made: sum_b (u_i - v_j)^2 needs two norms and one matrix product.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.system import AbstractSystem, Params, real_array, replaced
from .energy import Nudge, check_inputs
from .state_cost import Coordinates, StateTerm

if TYPE_CHECKING:
    from .block_descent import BlockDescent


class LayeredVoltages(eqx.Module):
    """Voltages of all nodes.

    Attributes:
        layers: one array a layer, the doubled inputs (+x, -x) first; each (n,), or (batch, n).
    """

    layers: tuple[np.ndarray, ...]

    @property
    def batched(self) -> bool:
        """Whether the first axis is a batch axis."""
        return self.layers[0].ndim == 2

    @property
    def position(self) -> np.ndarray:
        """All voltages in the order of the node numbers, shape (n_nodes,) or (batch, n_nodes)."""
        return np.concatenate(self.layers, axis=-1)

    def expect(self, observable: Any) -> Estimate:
        """The voltages that an observable reads, e.g. `Coordinates(net.outputs)`."""
        return self.expect_all((observable,))

    def expect_all(self, observables: Sequence[Any]) -> Estimate:
        """The voltages that the observables read, side by side on the last axis."""
        if not all(isinstance(observable, Coordinates) for observable in observables):
            raise TypeError("The state of a resistive network shows `Coordinates`: use a StateCost of its voltages.")
        voltages = self.position.T
        return Estimate.exact(np.concatenate([o.of(voltages) for o in observables]).T)

    def __repr__(self) -> str:
        return f"LayeredVoltages({'-'.join(str(layer.shape[-1]) for layer in self.layers)})"


class DeepResistiveNetwork(AbstractSystem):
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
    inputs: np.ndarray
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        voltage_gain: float = 1.0,
        current_gain: float | None = None,
        input_gain: float = 1.0,
    ):
        self.sizes = tuple(check_count(size, "sizes") for size in sizes)
        if len(self.sizes) < 2:
            raise ValueError(f"Argument `sizes` must name the inputs and the outputs at least, but is {tuple(sizes)}.")
        self.voltage_gain = _positive(voltage_gain, "voltage_gain")
        self.input_gain = _positive(input_gain, "input_gain")
        gain = 1 / self.voltage_gain if current_gain is None else float(real_array(current_gain, "current_gain", ()))
        if gain < 0:
            raise ValueError(f"Argument `current_gain` must not be negative, but is {gain:g}.")
        self.current_gain = gain
        self.inputs = np.zeros(self.sizes[0])
        self.nudges = ()

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return {f"w{k}": (pre, post) for k, (pre, post) in enumerate(pairwise(self.layer_sizes))}

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Numbers of nodes, with the doubled inputs."""
        return (2 * self.sizes[0], *self.sizes[1:])

    @property
    def outputs(self) -> tuple[int, ...]:
        """Node numbers of the outputs, for `StateCost(..., nodes=net.outputs)`."""
        n_nodes = sum(self.layer_sizes)
        return tuple(range(n_nodes - self.sizes[-1], n_nodes))

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.sizes[0],)

    @property
    def batch_size(self) -> int | None:
        return len(self.inputs) if self.inputs.ndim == 2 else None

    def symmetrizer(self, layer: int) -> float:
        """s_l: what the currents of a layer of resistors count in the energy."""
        return (self.current_gain / self.voltage_gain) ** layer

    def sources(self) -> np.ndarray:
        """Voltages of the doubled inputs, shape (n,) or (batch, n)."""
        return self.input_gain * np.concatenate([self.inputs, -self.inputs], axis=-1)

    def bounds(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest voltages that the diodes of a layer (1 is the first hidden one) allow."""
        size = self.layer_sizes[layer]
        if layer == len(self.sizes) - 1:
            return np.full(size, -np.inf), np.full(size, np.inf)
        excitatory = np.arange(size) % 2 == 0
        return np.where(excitatory, 0.0, -np.inf), np.where(excitatory, np.inf, 0.0)

    def _check_domain(self, params: Params) -> None:
        """Refuse negative conductances, and nodes that no resistor reaches."""
        for name, w in params.items():
            if w.min() < 0:
                at = tuple(int(i) for i in np.unravel_index(w.argmin(), w.shape))
                raise ValueError(
                    f"Argument `{name}` must not have negative conductances, but is {w[at]:g} at index {at}. In a training, "
                    "chain the optimizer with `optax.keep_params_nonnegative()`."
                )
            if len(dead := np.flatnonzero(w.max(axis=0) == 0)):
                raise ValueError(
                    f"Argument `{name}` must join every node to its previous layer, but column {dead[0]} is all zero: the "
                    "node is disconnected. Start with larger conductances, or train with a lower rate."
                )

    def drive(self, params: Params) -> np.ndarray:
        """Currents from the sources into the first layer at zero volts, shape (batch, n), with a batch of 1 for one sample."""
        w, half = params["w0"], self.sizes[0]
        return self.input_gain * np.atleast_2d(self.inputs) @ (w[:half] - w[half:])

    def energy(self, params: Params, state: LayeredVoltages, drive: np.ndarray | None = None) -> Estimate:
        """E and the nudges, of every sample. A solver that knows `drive` saves its product."""
        total = sum(beta * term.expect(state).mean for term, beta in self.nudges)
        for layer, (u, v, w) in enumerate(self._resistors(params, state)):
            current = np.reshape(drive, v.shape) if layer == 0 and drive is not None else u @ w
            dissipated = u**2 @ w.sum(axis=1) + v**2 @ w.sum(axis=0) - 2 * np.sum(current * v, axis=-1)
            total = total + 0.5 * self.symmetrizer(layer) * dissipated
        return Estimate.exact(np.asarray(total))

    def param_grad(self, params: Params, state: LayeredVoltages) -> Estimate:
        """dE/dw = s_l (u_i - v_j)^2 / 2; of a batch its mean already, on a leading axis of length 1."""
        return self._forces(params, state, state)

    def force_change(self, params: Params, state: LayeredVoltages, change: LayeredVoltages) -> Estimate:
        """The derivative of `param_grad` along a change of the voltages: s_l (u_i - v_j) (du_i - dv_j)."""
        forces = self._forces(params, state, change).mean
        return Estimate.exact({name: 2 * value for name, value in forces.items()})

    def _forces(self, params: Params, left: LayeredVoltages, right: LayeredVoltages) -> Estimate:
        """s_l/2 times the mean of (u_i - v_j) (u'_i - v'_j), as products of the matrices of voltages."""
        ends = self._resistors(params, left)
        pairs = zip(ends, ends if right is left else self._resistors(params, right), strict=True)
        forces = {}
        for layer, ((u, v, _), (du, dv, _)) in enumerate(pairs):
            u, v, du, dv = (part if part.ndim == 2 else part[None] for part in (u, v, du, dv))
            weight = 0.5 * self.symmetrizer(layer) / len(v)
            force = _mixed_products(u, v, du, dv, weight, doubled=layer == 0)
            force += weight * np.einsum("bi,bi->i", u, du)[:, None]
            force += weight * np.einsum("bj,bj->j", v, dv)
            forces[f"w{layer}"] = force[None] if left.batched else force
        return Estimate.exact(forces)

    def _resistors(self, params: Params, state: LayeredVoltages) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Voltages at both ends of every layer of resistors, with their conductances."""
        driving = [state.layers[0], *(self.voltage_gain * layer for layer in state.layers[1:-1])]
        return list(zip(driving, state.layers[1:], [params[name] for name in self.param_shapes], strict=True))

    def nudged(self, term: Any, strength: complex) -> "DeepResistiveNetwork":
        """The network with energy E + strength * term."""
        if not isinstance(term, StateTerm):
            raise TypeError("A classical system is nudged by a `StateCost`, but not by quantum observables.")
        nodes = term.coordinates.nodes
        if nodes is None or not set(nodes) <= set(self.outputs):
            raise ValueError(
                f"Argument `nodes` of the cost must be output nodes of the network, {self.outputs[0]} to "
                f"{self.outputs[-1]}: use `StateCost(..., nodes=net.outputs)`."
            )
        if self.current_gain == 0:
            raise ValueError(
                "The network has `current_gain` 0: nothing flows back through its amplifiers, and no nudge can reach the "
                "conductances before them. EP needs bidirectional amplifiers, e.g. `current_gain=1/voltage_gain`."
            )
        return replaced(self, nudges=(*self.nudges, (term, float(np.real(strength)))))

    def with_inputs(self, inputs: ArrayLike) -> "DeepResistiveNetwork":
        """The network with its sources at +x and -x; a leading axis is the batch axis."""
        return replaced(self, inputs=check_inputs(inputs, self.input_shape))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Exponentially distributed conductances of mean 1/n_pre: many are small, so that a node can prefer few inputs."""
        rng = np.random.default_rng(rng)
        return {name: rng.exponential(1 / shape[0], shape) for name, shape in self.param_shapes.items()}

    def default_solver(self) -> "BlockDescent":
        from .block_descent import BlockDescent

        return BlockDescent()

    def __repr__(self) -> str:
        gains = f", A = {self.voltage_gain:g}, c = {self.current_gain:g}" if self.voltage_gain != 1 else ""
        return f"DeepResistiveNetwork({'-'.join(map(str, self.layer_sizes))}{gains})"


def _mixed_products(
    u: np.ndarray, v: np.ndarray, du: np.ndarray, dv: np.ndarray, weight: float, *, doubled: bool
) -> np.ndarray:
    """-weight (u^T dv + du^T v). Doubled inputs (x, -x) need one product of x alone."""
    if doubled:
        half = u.shape[1] // 2
        top = _mixed_products(u[:, :half], v, du[:, :half], dv, weight, doubled=False)
        return np.concatenate([top, -top])
    product = (-weight * u).T @ dv
    if np.any(du):  # voltages of sources do not change
        product += (-weight * du).T @ v
    return product


def _positive(value: Any, name: str) -> float:
    number = float(real_array(value, name, ()))
    if number <= 0:
        raise ValueError(f"Argument `{name}` must be positive, but is {number:g}.")
    return number
