"""What networks of oscillators have in common: a graph, oscillators that inputs drive, and a common phase."""

import abc
from collections.abc import Sequence
from typing import Any, Self

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.graph import Edges, check_count, check_edges, check_nodes
from ..core.module import AbstractModule
from ..core.system import Params, real_array, replaced
from .energy import AbstractPotentialSystem, check_inputs


class Layout(AbstractModule):
    """Who is joined, who is driven, and where relaxations start.

    Attributes:
        edges: pairs of oscillators.
        driven: oscillators whose coordinates are the inputs.
        gauge: flat indices of coordinates that keep their start because nothing else fixes a common phase.
        origin: the start, oscillator axis first.
    """

    edges: Edges = eqx.field(static=True)
    driven: tuple[int, ...] = eqx.field(static=True)
    gauge: tuple[int, ...] = eqx.field(static=True)
    origin: np.ndarray

    @classmethod
    def of(
        cls,
        n_nodes: int,
        edges: Any,
        driven: Sequence[int],
        start: ArrayLike | None,
        default: np.ndarray,
        gauge: tuple[int, ...] | None,
    ) -> "Layout":
        """The checked layout.

        Args:
            default: start of one oscillator where `start` is None.
            gauge: what to hold if no oscillator is driven; None where something else fixes a common phase.
        """
        count = check_count(n_nodes, "n_nodes")
        held, shape = check_nodes(driven, "driven", count), (count, *default.shape)
        origin = np.broadcast_to(default, shape).copy() if start is None else real_array(start, "start", shape)
        return cls(check_edges(edges, count), held, () if held or gauge is None else gauge, origin)

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The coordinates of the driven oscillators."""
        return (len(self.driven), *self.origin.shape[1:]) if self.driven else None

    @property
    def degree(self) -> float:
        """Mean number of neighbours, or 1 where that is less."""
        return max(2 * len(self.edges) / len(self.origin), 1.0)

    def free(self) -> np.ndarray:
        """Flat indices of the coordinates that move."""
        free = np.ones(self.origin.shape, bool)
        free[list(self.driven)] = False
        free.flat[list(self.gauge)] = False
        return np.flatnonzero(free)

    def starts(self, inputs: np.ndarray | None, batch_size: int | None) -> np.ndarray:
        """The start of every sample, with the driven oscillators at their inputs."""
        positions = np.repeat(self.origin[None], batch_size or 1, axis=0)
        if inputs is not None:
            positions[:, list(self.driven)] = inputs
        return positions


class AbstractOscillators(AbstractPotentialSystem):
    """A network of oscillators on a graph, some of them driven. The potential gets the inputs and the state.

    Attributes:
        layout: graph, driven oscillators and start.
    """

    layout: eqx.AbstractVar[Layout]

    @property
    def n_nodes(self) -> int:
        """Number of oscillators."""
        return len(self.layout.origin)

    @property
    def edges(self) -> Edges:
        """Pairs of coupled oscillators, in the order of their couplings."""
        return self.layout.edges

    @property
    def driven(self) -> tuple[int, ...]:
        """Oscillators whose coordinates are the inputs."""
        return self.layout.driven

    @property
    def interactions(self) -> Edges:
        return self.layout.edges

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return self.layout.input_shape

    @property
    def state_shape(self) -> tuple[int, ...]:
        return self.layout.origin.shape

    @property
    def free(self) -> np.ndarray:
        return self.layout.free()

    def starts(self) -> np.ndarray:
        return self.layout.starts(self.inputs, self.batch_size)

    def with_inputs(self, inputs: ArrayLike) -> Self:
        """The network with its driven oscillators set; a leading axis is the batch axis."""
        if (shape := self.input_shape) is None:
            raise ValueError("Argument `inputs` must be None: this network has no driven oscillators.")
        return replaced(self, inputs=check_inputs(inputs, shape))  # type: ignore[no-any-return]

    def _drawn(self, rng: np.random.Generator) -> Params:
        """Normal random parameters of width 1/sqrt(mean degree)."""
        width = 1 / np.sqrt(self.layout.degree)
        return {name: width * rng.normal(size=shape) for name, shape in self.param_shapes.items()}

    def __repr__(self) -> str:
        facts = [f"{self.n_nodes} oscillators", f"{len(self.edges)} edges", *self._settings()]
        facts += [f"{len(self.driven)} driven"] if self.driven else []
        return f"{type(self).__name__}({', '.join(facts)})"

    @abc.abstractmethod
    def _settings(self) -> list[str]:
        """What `repr` says of the network besides its size."""


def driven_at(state: Any, driven: tuple[int, ...], inputs: Any) -> Any:
    """The state with the driven oscillators at their inputs, in a potential that JAX traces."""
    return state.at[np.asarray(driven)].set(inputs) if driven else state
