"""Harmonic oscillators as classical points: `HarmonicNetwork` at hbar = 0, with all that classical systems can."""

from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.graph import Edges, check_count, check_edges, check_nodes
from ..core.module import AbstractModule
from ..core.precision import jax_float64
from ..core.system import Params, replaced
from .domains import RealSpace
from .energy import AbstractPotentialSystem, Nudge, check_inputs


class _SpringPotential(AbstractModule):
    """The energy of springs; equal networks are equal, so that they share one compilation."""

    edges: Edges = eqx.field(static=True)
    pulled: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, params: Any, positions: Any, inputs: Any) -> Any:
        import jax.numpy as jnp

        i, j = np.array(self.edges, dtype=int).reshape(-1, 2).T
        by_node = (-1, *[1] * (positions.ndim - 1))
        stretch = positions[i] - positions[j] - params["l"]
        energy = jnp.sum(params["k"].reshape(by_node) * stretch**2) / 2 - jnp.sum(params["f"] * positions)
        energy += jnp.sum(params["kappa"].reshape(by_node) * positions**2) / 2
        return energy - jnp.sum(positions[np.asarray(self.pulled)] * inputs) if self.pulled else energy


class HarmonicOscillators(AbstractPotentialSystem):
    r"""Oscillators joined by springs whose force is linear in the displacement,

    .. math:: E = \frac12 \sum_{(ij)} k_{ij} (r_i - r_j - l_{ij})^2 + \frac12 \sum_i \kappa_i r_i^2 - \sum_i f_i r_i .

    It is `HarmonicNetwork` at hbar = 0, with the same names, conventions and equilibria, as a classical system: it takes any
    `StateCost`, the learning rules of `Clamp`, time steps and trajectories. What moves it is the quantum network's mean
    position, at any hbar. For springs that turn in space see `ElasticNetwork`.

    Args:
        n_sites: number of oscillators.
        edges: list of pairs or a graph.
        components: of every position; all move alike.
        input_sites: where inputs pull, one force each (with several components: one vector each).

    Parameters: "k" (n_edges,) and "kappa" (n_sites,), springs and on-site stiffness; "l" (n_edges,) and "f" (n_sites,), with a
    second axis of several components. A state has shape (n_sites,), or (n_sites, components).

    Raises (from `equilibrate`):
        EquilibriumError: the stiffness is not positive definite: nodes without on-site stiffness float freely.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> chain = qp.classical.HarmonicOscillators(3, [(0, 1), (1, 2)])
        >>> params = {"k": np.ones(2), "l": np.zeros(2), "kappa": 0.5 * np.ones(3), "f": np.array([0.3, 0.0, 0.0])}
        >>> cost = qp.classical.StateCost(lambda r, y: ((r - y) ** 2).sum(), nodes=[2])
        >>> print(qp.ep_gradient(chain, params, cost, [0.5]).grad["k"].round(6))
        [-0.020991 -0.020991]
    """

    potential: _SpringPotential = eqx.field(static=True)
    domain: RealSpace
    n_sites: int = eqx.field(static=True)
    components: int = eqx.field(static=True)
    inputs: np.ndarray | None
    nudges: tuple[Nudge, ...]

    stiffnesses: ClassVar[tuple[str, ...]] = ("k", "kappa")

    def __init__(self, n_sites: int, edges: Any, *, components: int = 1, input_sites: Sequence[int] = ()):
        jax_float64()
        self.n_sites = check_count(n_sites, "n_sites")
        self.components = check_count(components, "components")
        pulled = check_nodes(input_sites, "input_sites", self.n_sites)
        self.potential = _SpringPotential(check_edges(edges, self.n_sites), pulled)
        self.domain = RealSpace()
        self.inputs = None if self.input_shape is None else np.zeros(self.input_shape)
        self.nudges = ()

    @property
    def edges(self) -> Edges:
        """Pairs of sites that springs join, in the order of their stiffnesses."""
        return self.potential.edges

    @property
    def interactions(self) -> Edges:
        return self.edges

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        edges, vector = (len(self.edges),), self.state_shape[1:]
        return {"k": edges, "l": edges + vector, "kappa": (self.n_sites,), "f": self.state_shape}

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        pulled = self.potential.pulled
        return (len(pulled), *self.state_shape[1:]) if pulled else None

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.n_sites,) if self.components == 1 else (self.n_sites, self.components)

    @property
    def free(self) -> np.ndarray:
        return np.arange(self.n_sites * self.components)

    def starts(self) -> np.ndarray:
        return np.zeros((self.batch_size or 1, *self.state_shape))

    def with_inputs(self, inputs: ArrayLike) -> "HarmonicOscillators":
        """The network with forces on its input sites; a leading axis is the batch axis."""
        if (shape := self.input_shape) is None:
            raise ValueError("Argument `inputs` must be None: this network has no input sites.")
        return replaced(self, inputs=check_inputs(inputs, shape))  # type: ignore[no-any-return]

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Positive k and kappa around 1 (log-normal, width 0.2); l and f normal of width 0.5."""
        rng = np.random.default_rng(rng)
        return {
            name: 0.5 * rng.normal(size=shape) if name in ("l", "f") else np.exp(0.2 * rng.normal(size=shape))
            for name, shape in self.param_shapes.items()
        }

    def __repr__(self) -> str:
        dimension = f" in {self.components} components" if self.components > 1 else ""
        pulled = f", {len(self.potential.pulled)} input sites" if self.potential.pulled else ""
        return f"HarmonicOscillators({self.n_sites} nodes{dimension}, {len(self.edges)} springs{pulled})"
