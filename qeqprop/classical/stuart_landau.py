"""Networks of Stuart-Landau oscillators: complex amplitudes near the onset of oscillation."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.graph import Edges
from ..core.module import AbstractModule
from ..core.precision import jax_float64
from ..core.system import Params
from .domains import RealSpace
from .energy import Nudge
from .oscillator_layout import AbstractOscillators, Layout, driven_at


class _AmplitudePotential(AbstractModule):
    """The energy of amplitudes (n, 2); equal networks are equal, so that they share one compilation."""

    edges: Edges = eqx.field(static=True)
    driven: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, params: Any, amplitudes: Any, inputs: Any) -> Any:
        import jax.numpy as jnp

        z = driven_at(amplitudes, self.driven, inputs)
        i, j = np.array(self.edges, dtype=int).reshape(-1, 2).T
        intensity = jnp.sum(z**2, axis=1)
        energy = jnp.sum(intensity**2 / 4 - params["mu"] * intensity / 2) - params["J"] @ jnp.sum(z[i] * z[j], axis=1)
        return energy - jnp.sum(params["f"] * z) if "f" in params else energy


class StuartLandau(AbstractOscillators):
    r"""Oscillators with amplitude and phase, z_i complex, in the frame that rotates with their common frequency:

    .. math:: E = \sum_i \Bigl( \frac{|z_i|^4}{4} - \mu_i \frac{|z_i|^2}{2} \Bigr) - \sum_{(ij)} J_{ij} \mathrm{Re}(z_i^* z_j)
              - \sum_i \mathrm{Re}(f_i^* z_i) ,

    each edge once. The flow dz_i/dt = (mu_i - |z_i|^2) z_i + sum_j J_ij z_j + f_i goes down this energy, and for large mu it
    is that of `PhaseOscillators` with couplings J sqrt(mu_i mu_j). Different natural frequencies i omega_i z_i are no gradient
    of an energy and are not part of it; one that all share turns into the rotating frame.

    A state is real, shape (n_nodes, 2): real and imaginary parts. Without fields and driven oscillators the common phase is
    free: the imaginary part of oscillator 0 then keeps its start, by default 0, and phases are those relative to it. (Where
    oscillator 0 is at rest, z_0 = 0, that fixes nothing, and where others oscillate the solver finds no minimum and says so:
    number the oscillators such that 0 takes part.)

    There are many minima as soon as couplings compete. Gradients are those of the branch that the start leads to.

    Args:
        n_nodes: number of oscillators.
        edges: list of pairs or a graph.
        fields: whether there are injected signals f, trained.
        driven: oscillators whose amplitude is an input, two numbers each.
        start: where a minimisation starts, shape (n_nodes, 2); None takes z = 1.

    Parameters: "mu" (n_nodes,), distance from the onset of oscillation; "J" (n_edges,); with fields "f" (n_nodes, 2).

    Source: Kuramoto, Chemical Oscillations, Waves, and Turbulence (1984), chapter 2.

    Example:
        >>> import qeqprop as qp
        >>> pair = qp.classical.StuartLandau(2, [(0, 1)])
        >>> locked = qp.equilibrate(pair, {"mu": [1.0, 1.0], "J": [-0.44]}).state
        >>> print(locked.position.round(6) + 0.0)  # opposite phases, |z|^2 = 1 + 0.44
        [[ 1.2  0. ]
         [-1.2  0. ]]
    """

    potential: _AmplitudePotential = eqx.field(static=True)
    domain: RealSpace
    layout: Layout
    fields: bool = eqx.field(static=True)
    inputs: np.ndarray | None
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        n_nodes: int,
        edges: Any,
        *,
        fields: bool = False,
        driven: Sequence[int] = (),
        start: ArrayLike | None = None,
    ):
        jax_float64()
        self.fields = bool(fields)
        self.layout = Layout.of(n_nodes, edges, driven, start, np.array([1.0, 0.0]), None if self.fields else (1,))
        self.potential = _AmplitudePotential(self.layout.edges, self.layout.driven)
        self.domain = RealSpace()
        self.inputs = None if self.input_shape is None else np.zeros(self.input_shape)
        self.nudges = ()

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"mu": (self.n_nodes,), "J": (len(self.edges),)}
        return shapes | {"f": (self.n_nodes, 2)} if self.fields else shapes

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """mu = 1, normal couplings and fields of width 1/sqrt(mean degree)."""
        return self._drawn(np.random.default_rng(rng)) | {"mu": np.ones(self.n_nodes)}

    def _settings(self) -> list[str]:
        return ["fields"] if self.fields else []
