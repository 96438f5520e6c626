"""Predictive coding networks: every layer predicts the next one, and its energy is the squared error of the predictions."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate, zeros
from ..core.graph import check_count
from ..core.module import AbstractModule
from ..core.system import AbstractSystem, Params, replaced, unchangeable
from .energy import Nudge, check_inputs
from .prediction_passes import ACTIVATIONS, passes
from .state_cost import Coordinates, StateTerm, read_units

if TYPE_CHECKING:
    from .prediction_sweeps import PredictionSweeps


class Known(NamedTuple):
    """What a solver computed at some parameters, and would be dear to compute again.

    Attributes:
        params: these, `frozen`.
        drive: W_0 x + b_0, what the inputs send into the first layer.
        signals: the prediction errors, each times the slope of its activation: minus the force on the bias. None in a free
            state, where nothing is wrong.
    """

    params: Params
    drive: np.ndarray
    signals: tuple[np.ndarray, ...] | None

    def belongs_to(self, params: Params) -> bool:
        """Whether `params` are those at which it was computed."""
        return all(
            value is self.params[name] or np.array_equal(value, self.params[name]) for name, value in params.items()
        )


def frozen(params: Params) -> Params:
    """The parameters themselves where nobody can change them any more, else copies."""
    return {name: value if unchangeable(value) else value.copy() for name, value in params.items()}


class LayeredActivities(AbstractModule):
    """Activities of all units.

    Attributes:
        layers: one array a layer, the inputs first; each (n,), or (batch, n).
        known: what the solver knows besides.
    """

    layers: tuple[np.ndarray, ...]
    known: Known | None = None

    @property
    def batched(self) -> bool:
        """Whether the first axis is a batch axis."""
        return self.layers[0].ndim == 2

    @property
    def position(self) -> np.ndarray:
        """All activities in the order of the unit numbers, shape (n_units,) or (batch, n_units)."""
        return np.concatenate(self.layers, axis=-1)

    def read(self, observable: Coordinates) -> np.ndarray:
        """The activities that an observable reads, on the last axis."""
        return read_units(self.layers, observable)

    def expect(self, observable: Any) -> Estimate:
        """The activities that an observable reads, e.g. `Coordinates(net.outputs)`."""
        return self.expect_all((observable,))

    def expect_all(self, observables: Sequence[Any]) -> Estimate:
        """The activities that the observables read, side by side on the last axis."""
        if not all(isinstance(observable, Coordinates) for observable in observables):
            raise TypeError("The state of a predictive coding network shows `Coordinates`: use a StateCost.")
        return Estimate.exact(np.concatenate([self.read(o) for o in observables], axis=-1))

    def to_storage(self) -> dict[str, Any]:
        """The activities; what else is known can be computed again."""
        return {"layers": self.layers, "known": None}

    def __repr__(self) -> str:
        return f"LayeredActivities({'-'.join(str(layer.shape[-1]) for layer in self.layers)})"


class PredictiveCodingNetwork(AbstractSystem):
    r"""Layers of units, each predicted by the layer before:

    .. math:: E = \tfrac12 \sum_l \| s_l - f_l(s_{l-1} W_{l-1} + b_{l-1}) \|^2 ,

    with the inputs as s_0. The free state is the forward pass of a feedforward network, and its energy is 0. A nudge
    beta C of the outputs spreads backwards: to first order in beta the error of layer l, s_l - f_l(...), is -beta dC/ds_l,
    what backpropagation computes. So EP gives the gradient of backpropagation, from a state at rest. The energy falls
    without bound where beta is below -1/c, with c the largest curvature of the cost: |beta| < 1 for a cost |s - y|^2/2.

    Units are numbered layer by layer, the inputs first; `outputs` are the last ones.

    Source: J. C. R. Whittington and R. Bogacz, Neural Computation 29, 1229 (2017); with nudges of both signs Kerjan, Hoier
    and Scellier, arXiv:2606.03584 (2026).

    Args:
        sizes: numbers of units, from the inputs to the outputs.
        activation: of the hidden layers: "tanh", "sigmoid", "hard_sigmoid", "relu", "gelu" or "linear".
        readout: of the outputs.

    Parameters: "w0" (sizes[0], sizes[1]), "b0" (sizes[1],), "w1", "b1", ...

    Raises:
        TypeError, ValueError: fewer than two layers, an unknown activation.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.classical.PredictiveCodingNetwork((1, 1, 1))
        >>> params = {"w0": [[1.0]], "b0": [0.0], "w1": [[2.0]], "b1": [0.0]}
        >>> cost = qp.classical.StateCost(lambda s, y: ((s - y) ** 2).sum() / 2, net.outputs)
        >>> out = qp.ep_gradient(net, params, cost, [1.0], inputs=[0.5], scheme=qp.centered(1e-3))
        >>> print(out.grad["w1"].round(6), out.loss)  # (2 tanh(0.5) - 1) tanh(0.5)
        [[-0.035013]] 0.00287022
    """

    sizes: tuple[int, ...] = eqx.field(static=True)
    activations: tuple[str, ...] = eqx.field(static=True)
    inputs: np.ndarray
    nudges: tuple[Nudge, ...]

    def __init__(self, sizes: Sequence[int], *, activation: str = "tanh", readout: str = "linear"):
        self.sizes = tuple(check_count(size, "sizes") for size in sizes)
        if len(self.sizes) < 2:
            raise ValueError(f"Argument `sizes` must name the inputs and the outputs at least, but is {tuple(sizes)}.")
        for name, value in (("activation", activation), ("readout", readout)):
            if value not in ACTIVATIONS:
                raise ValueError(f"Argument `{name}` must be one of {', '.join(ACTIVATIONS)}, but is {value!r}.")
        self.activations = (*[activation] * (len(self.sizes) - 2), readout)
        self.inputs = np.zeros(self.sizes[0])
        self.nudges = ()

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for k, (pre, post) in enumerate(pairwise(self.sizes)):
            shapes |= {f"w{k}": (pre, post), f"b{k}": (post,)}
        return shapes

    @property
    def outputs(self) -> tuple[int, ...]:
        """Unit numbers of the outputs, for `StateCost(..., nodes=net.outputs)`."""
        n_units = sum(self.sizes)
        return tuple(range(n_units - self.sizes[-1], n_units))

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.sizes[0],)

    @property
    def batch_size(self) -> int | None:
        return len(self.inputs) if self.inputs.ndim == 2 else None

    def drive(self, params: Params, state: LayeredActivities | None = None) -> np.ndarray:
        """What the inputs send into the first layer, (batch, n), with a batch of 1 for one sample."""
        known = None if state is None else state.known
        if known is not None and known.belongs_to(params) and state.layers[0] is self.inputs:  # type: ignore[union-attr]
            return known.drive
        return np.atleast_2d(self.inputs) @ params["w0"] + params["b0"]

    def energy(self, params: Params, state: LayeredActivities) -> Estimate:
        """E and the nudges, of every sample."""
        drive = np.atleast_2d(state.layers[0]) @ params["w0"] + params["b0"]
        errors = passes(self.activations).errors(params, drive, [np.atleast_2d(s) for s in state.layers[1:]])[0]
        total = 0.5 * sum(np.sum(np.asarray(e) ** 2, axis=-1) for e in errors)
        bare = np.asarray(total if state.batched else total[0])
        return Estimate.exact(bare + sum(beta * term.expect(state).mean for term, beta in self.nudges))

    def param_grad(self, params: Params, state: LayeredActivities) -> Estimate:
        """dE/dW = -s_{l-1} (error * slope)_l; of a batch its mean already, on a leading axis of length 1."""
        known = state.known
        if known is not None and known.belongs_to(params):
            if known.signals is not None:
                return self.forces(state, known.signals)
            lead = (1,) if state.batched else ()
            return Estimate.exact({name: zeros((*lead, *shape)) for name, shape in self.param_shapes.items()})
        drive = np.atleast_2d(state.layers[0]) @ params["w0"] + params["b0"]
        return self.forces(
            state, passes(self.activations).errors(params, drive, [np.atleast_2d(s) for s in state.layers[1:]])[1]
        )

    def forces(self, state: LayeredActivities, signals: Sequence[np.ndarray]) -> Estimate:
        """The forces that belong to errors, each times the slope of its activation, at these activities."""
        forces: Params = {}
        for k, (before, signal) in enumerate(zip(state.layers[:-1], map(np.asarray, signals), strict=True)):
            scaled = signal * (-1.0 / len(signal))
            forces |= {f"w{k}": np.atleast_2d(before).T @ scaled, f"b{k}": scaled.sum(axis=0)}
        return Estimate.exact({name: force[None] for name, force in forces.items()} if state.batched else forces)

    def nudged(self, term: Any, strength: complex) -> "PredictiveCodingNetwork":
        """The network with energy E + strength * term."""
        if not isinstance(term, StateTerm):
            raise TypeError("A classical system is nudged by a `StateCost`, but not by quantum observables.")
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
        """Normal weights of variance 1/n_pre, of 2/n_pre into rectified units, and no biases."""
        rng = np.random.default_rng(rng)
        params: Params = {}
        for k, (pre, post) in enumerate(pairwise(self.sizes)):
            variance = (2 if self.activations[k] in ("relu", "gelu") else 1) / pre
            params |= {f"w{k}": np.sqrt(variance) * rng.normal(size=(pre, post)), f"b{k}": np.zeros(post)}
        return params

    def default_solver(self) -> "PredictionSweeps":
        from .prediction_sweeps import PredictionSweeps

        return PredictionSweeps()

    def __repr__(self) -> str:
        return f"PredictiveCodingNetwork({'-'.join(map(str, self.sizes))}, {', '.join(self.activations)})"
