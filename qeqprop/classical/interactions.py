r"""Interactions of layered networks. What joins two layers u and v, of numbers `pre` < `post`, is the energy

    E = 1/2 sum_i a_i u_i^2 + 1/2 sum_j b_j v_j^2 - sum_j v_j send(u)_j ,

with all but v depending on the weights. `send(u)` is what the units of `post` receive, and its transpose what those of `pre`
receive back; a and b add to the stiffness of the units.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int, ...]


class AbstractInteraction(abc.ABC):
    """What joins layer `pre` to layer `post`, one array of weights; hashable. Layers have their batch axis first."""

    pre: int
    post: int

    @abc.abstractmethod
    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        """Shape of the weights between layers of these shapes.

        Raises:
            ValueError: layers that it cannot join.
        """

    @abc.abstractmethod
    def fan_in(self, pre: Shape) -> int:
        """How many units send to one of `post`."""

    @abc.abstractmethod
    def send(self, weights: Any, u: Any) -> Any:
        """What the units of `post` receive, (batch, ...) with as many entries as `post` has units; linear in the weights."""

    @abc.abstractmethod
    def stiffness(self, weights: Any) -> tuple[Any, Any]:
        """a and b, of the units of `pre` and of `post`."""

    @property
    @abc.abstractmethod
    def reciprocity(self) -> float:
        """What flows back in units of the transpose of what is sent: 1 between layers of one energy scale.

        Where it is not 1, the energy counts for layer `post` this times what it counts for layer `pre`.
        """


@dataclass(frozen=True)
class Dense(AbstractInteraction):
    """Every unit with every unit: E = -sum_ij u_i w_ij v_j. Weights (n_pre, n_post); layers of any shape are flattened.

    Args:
        pre, post: numbers of the layers, pre < post; 0 are the inputs.
    """

    pre: int
    post: int

    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        return int(np.prod(pre)), int(np.prod(post))

    def fan_in(self, pre: Shape) -> int:
        return int(np.prod(pre))

    def send(self, weights: Any, u: Any) -> Any:
        return u.reshape(len(u), -1) @ weights

    def stiffness(self, weights: Any) -> tuple[Any, Any]:
        return 0.0, 0.0

    @property
    def reciprocity(self) -> float:
        return 1.0


@dataclass(frozen=True)
class Resistors(AbstractInteraction):
    """Conductances w between amplifiers of voltage gain A on u and the nodes v: E = sum_ij w_ij (A u_i - v_j)^2 / 2.

    The current that flows back is that of amplifiers of current gain c: c/A times the transpose.

    Args:
        pre, post: numbers of the layers.
        voltage_gain, current_gain: A and c.
        doubled: whether `pre` are sources at +x and -x: what they send needs the difference of conductances alone.
    """

    pre: int
    post: int
    voltage_gain: float = 1.0
    current_gain: float = 1.0
    doubled: bool = False

    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        return (*pre, *post)

    def fan_in(self, pre: Shape) -> int:
        return pre[0]

    def send(self, weights: Any, u: Any) -> Any:
        if self.doubled:
            half = len(weights) // 2
            u, weights = u[:, :half], weights[:half] - weights[half:]
        return self.voltage_gain * (u @ weights)

    def stiffness(self, weights: Any) -> tuple[Any, Any]:
        return self.voltage_gain**2 * weights.sum(axis=1), weights.sum(axis=0)

    @property
    def reciprocity(self) -> float:
        return self.current_gain / self.voltage_gain


def check_links(links: Sequence[AbstractInteraction], n_layers: int) -> None:
    """Raise TypeError or ValueError for interactions that make no layered network."""
    for link in links:
        if not isinstance(link, AbstractInteraction):
            raise TypeError(f"Argument `interactions` must hold `Dense` or `Convolution`, but has {link!r}.")
        if not 0 <= link.pre < link.post < n_layers:
            raise ValueError(
                f"Argument `interactions` must join layers pre < post of 0 to {n_layers - 1}, but has {link!r}."
            )
    if missing := set(range(1, n_layers)) - {link.post for link in links}:
        raise ValueError(f"Argument `interactions` must reach every layer from below, but not {sorted(missing)}.")
