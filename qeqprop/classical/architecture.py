"""The layout of a layered network, and its energy: sums over layers and interactions, batch axis first, traced by JAX."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from ..core.graph import check_count
from ..core.precision import jax_float64
from .activations import AbstractActivation
from .interactions import AbstractInteraction, Shape

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Architecture:
    """Layers 0 (the inputs) to L, what joins them, and what is read from the last; hashable.

    Attributes:
        shapes: of the layers, (n,) or (channels, rows, columns).
        activations: of layers 1 to L.
        interactions: "w0", "w1", ... are their weights.
        biased: whether layer l has biases "b{l-1}", one a unit or a channel.
        readout: number of outputs W s_L + b that are no units but functions of the last layer; None: the last layer is read.
    """

    shapes: tuple[Shape, ...]
    activations: tuple[AbstractActivation, ...]
    interactions: tuple[AbstractInteraction, ...]
    biased: bool
    readout: int | None = None

    @functools.cached_property
    def last(self) -> int:
        """L."""
        return len(self.shapes) - 1

    @property
    def curved(self) -> bool:
        """Whether some units live on curves."""
        return any(activation.curved for activation in self.activations)

    @property
    def output_shape(self) -> Shape:
        """Shape of what is read."""
        return self.shapes[-1] if self.readout is None else (self.readout,)

    @functools.cached_property
    def layer_sizes(self) -> tuple[int, ...]:
        """Numbers of units of the layers, and of what is read out."""
        shapes = self.shapes if self.readout is None else (*self.shapes, self.output_shape)
        return tuple(int(np.prod(shape)) for shape in shapes)

    @functools.cached_property
    def outputs(self) -> tuple[int, ...]:
        """Numbers of the units that are read, the units numbered layer by layer."""
        n_units = sum(self.layer_sizes)
        return tuple(range(n_units - self.layer_sizes[-1], n_units))

    @functools.cached_property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters."""
        shapes = {
            f"w{k}": link.weight_shape(self.shapes[link.pre], self.shapes[link.post])
            for k, link in enumerate(self.interactions)
        }
        if self.biased:
            pairs = enumerate(zip(self.activations, self.shapes[1:], strict=True))
            shapes |= {f"b{k}": activation.bias_shape(shape) for k, (activation, shape) in pairs}
        if self.readout is not None:
            weights, biases = self.readout_names
            shapes |= {weights: (int(np.prod(self.shapes[-1])), self.readout), biases: (self.readout,)}
        return shapes

    @property
    def readout_names(self) -> tuple[str, str]:
        """Names of the weights and biases of the readout."""
        return f"w{len(self.interactions)}", f"b{self.last}"

    @functools.cached_property
    def units(self) -> tuple[float, ...]:
        """What one unit of a layer's field counts in the energy: 1, but behind amplifiers."""
        units = [1.0] * len(self.shapes)
        for link in sorted(self.interactions, key=lambda link: link.post):
            if link.pre:
                units[link.post] = units[link.pre] * link.reciprocity
        return tuple(units)

    def drives(self, params: Mapping[str, Any], sources: Any) -> dict[int, Any]:
        """What the inputs send, for every interaction that starts from them."""
        return {k: self._sent(k, params, sources) for k, link in enumerate(self.interactions) if link.pre == 0}

    def arriving(self, params: Mapping[str, Any], layers: Sequence[Any], drives: Mapping[int, Any], layer: int) -> Any:
        """What a layer receives from those before it, biases included."""
        sent = [
            drives[k] if link.pre == 0 else self._sent(k, params, layers[link.pre])
            for k, link in enumerate(self.interactions)
            if link.post == layer
        ]
        total = sum(sent[1:], start=sent[0])
        return total + _spread(params[f"b{layer - 1}"], total) if self.biased else total

    def returned(
        self, params: Mapping[str, Any], at: Any, senders: Mapping[int, Any] | Sequence[Any], layer: int
    ) -> Any:
        """What flows back to a layer, which is `at`, from those behind it: the transpose of what it sends."""
        jax = jax_float64()
        total = jax.numpy.zeros_like(at)
        for k, link in enumerate(self.interactions):
            if link.pre == layer:
                send_back = jax.vjp(lambda u, k=k: self._sent(k, params, u), at)[1]
                total = total + link.reciprocity * send_back(senders[link.post])[0]
        return total

    def field(self, params: Mapping[str, Any], layers: Sequence[Any], drives: Mapping[int, Any], layer: int) -> Any:
        """What a layer receives from the others: minus the slope of their energy by it, where it has no stiffness."""
        return self.arriving(params, layers, drives, layer) + self.returned(params, layers[layer], layers, layer)

    def stiffness(self, params: Mapping[str, Any]) -> list[Any]:
        """What the interactions add to the curvature by the units of every layer."""
        total: list[Any] = [0.0] * len(self.shapes)
        for k, link in enumerate(self.interactions):
            pre, post = link.stiffness(params[f"w{k}"])
            total[link.pre] = total[link.pre] + link.reciprocity * pre
            total[link.post] = total[link.post] + post
        return total

    def energies(self, params: Mapping[str, Any], layers: Sequence[Any], drives: Mapping[int, Any]) -> Any:
        """The energy of every sample, without nudges."""
        total, units = 0.0, self.units
        for layer in range(1, self.last + 1):
            own = self.activations[layer - 1].potential(layers[layer])
            if self.biased:
                own = own - _spread(params[f"b{layer - 1}"], own) * layers[layer]
            total = total + units[layer] * sums(own)
        for k, link in enumerate(self.interactions):
            u, v = layers[link.pre], layers[link.post]
            sent = drives[k] if link.pre == 0 else self._sent(k, params, u)
            a, b = link.stiffness(params[f"w{k}"])
            total = total + units[link.post] * (_parabolas(a, u) + _parabolas(b, v) - sums(v * sent))
        return total

    def read(self, params: Mapping[str, Any], last: Any) -> Any:
        """What is read from the last layer, (batch, n)."""
        flat = last.reshape(len(last), -1)
        if self.readout is None:
            return flat
        weights, biases = self.readout_names
        return flat @ params[weights] + params[biases]

    def _sent(self, k: int, params: Mapping[str, Any], u: Any) -> Any:
        link = self.interactions[k]
        return link.send(params[f"w{k}"], u).reshape(len(u), *self.shapes[link.post])


def _spread(bias: Any, layer: Any) -> Any:
    """Biases over the axes of a layer that share them."""
    return bias.reshape(*bias.shape, *[1] * (layer.ndim - 1 - bias.ndim))


def _parabolas(stiffness: Any, at: Any) -> Any:
    """The sums of stiffness/2 s^2 over the units of every sample; nothing is read of units without one."""
    return 0.0 if isinstance(stiffness, float) and stiffness == 0 else sums(0.5 * stiffness * at**2)


def sums(values: Any) -> Any:
    """Sums over the units of every sample."""
    return values.reshape(len(values), -1).sum(axis=1)


def layer_shapes(sizes: Sequence[int | Sequence[int]]) -> tuple[Shape, ...]:
    """The shapes of layers, (n,) or (channels, rows, columns), that a user calls n or so, the inputs' first.

    Raises:
        TypeError, ValueError: numbers of another kind, or fewer than two layers.
    """
    shapes = tuple(_layer_shape(size) for size in sizes) if isinstance(sizes, list | tuple) else ()
    if len(shapes) < 2:
        raise ValueError(
            f"Argument `sizes` must name the inputs and the outputs at least, as a tuple, but is {sizes!r}."
        )
    return shapes


def _layer_shape(size: int | Sequence[int]) -> Shape:
    shape = tuple(size) if isinstance(size, list | tuple) else (size,)
    if len(shape) not in (1, 3):
        raise ValueError(f"Argument `sizes` must hold numbers or (channels, rows, columns), but has {size!r}.")
    return tuple(check_count(n, "sizes") for n in shape)


def even_odd(architecture: Architecture) -> Groups:
    """As few groups as a greedy colouring finds, of layers that are not joined: odd and even ones, of a plain chain."""
    group_of: dict[int, int] = {}
    for layer in range(1, architecture.last + 1):
        joined = {link.pre for link in architecture.interactions if link.post == layer}
        taken = {group_of[other] for other in joined if other in group_of}
        group_of[layer] = next(k for k in count() if k not in taken)
    n_groups = max(group_of.values()) + 1
    return tuple(tuple(layer for layer, k in group_of.items() if k == group) for group in range(n_groups))


def asynchronous(architecture: Architecture) -> Groups:
    """One layer after the other, from the inputs to the outputs."""
    return tuple((layer,) for layer in range(1, architecture.last + 1))


def synchronous(architecture: Architecture) -> Groups:
    """All layers at once: their joint energy may rise, and the states may alternate."""
    return (tuple(range(1, architecture.last + 1)),)


SCHEDULES: dict[str, Callable[[Architecture], Groups]] = {
    "even_odd": even_odd,
    "asynchronous": asynchronous,
    "synchronous": synchronous,
}
"""Name -> groups of layers that are updated at once, in their order. Layers of a group should not be joined."""
