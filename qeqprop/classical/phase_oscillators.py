"""Networks of phase oscillators: the XY model, Kuramoto's model, and oscillator Ising machines."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.graph import Edges
from ..core.module import AbstractModule
from ..core.precision import jax_float64
from ..core.system import Params, real_array
from .domains import Torus
from .energy import Nudge
from .oscillator_layout import AbstractOscillators, Layout, driven_at


class _PhasePotential(AbstractModule):
    """The energy of phases; equal networks are equal, so that they share one compilation."""

    edges: Edges = eqx.field(static=True)
    driven: tuple[int, ...] = eqx.field(static=True)
    common: bool = eqx.field(static=True)
    injection: float = eqx.field(static=True)

    def __call__(self, params: Any, phases: Any, inputs: Any) -> Any:
        import jax.numpy as jnp

        phases = driven_at(phases, self.driven, inputs)
        i, j = np.array(self.edges, dtype=int).reshape(-1, 2).T
        energy = -jnp.sum(params["J"] * jnp.cos(phases[i] - phases[j]))
        if "h" in params:
            energy -= jnp.sum(params["h"] * jnp.cos(phases - params.get("psi", 0.0)))
        if "omega" in params:
            pull = params["omega"] - jnp.mean(params["omega"]) if self.common else params["omega"]
            energy -= jnp.sum(pull * phases)
        return energy - self.injection * jnp.sum(jnp.cos(2 * phases))


class PhaseOscillators(AbstractOscillators):
    r"""Oscillators locked in phase, on any graph:

    .. math:: E = -\sum_{(ij)} J_{ij} \cos(\phi_i - \phi_j) - \sum_i h_i \cos(\phi_i - \psi_i) - \sum_i \omega_i \phi_i ,

    each edge once. The dynamics d(phi)/dt = -dE/d(phi) is Kuramoto's model (with omega = 0 the relaxation of an XY model),
    and a minimum of E is a stable phase-locked state. Without fields and driven oscillators the common phase is free:
    oscillator 0 then keeps its start, and phases are those relative to it. Frequencies whose mean is not zero then have no
    fixed point but in the frame that rotates with the mean, and there they count: the mean itself moves nothing, and its
    gradient is zero. With fields or driven oscillators frequencies are those relative to the reference signals.

    There are many minima as soon as couplings compete. Gradients are those of the branch that the start leads to.

    Args:
        n_nodes: number of oscillators.
        edges: list of pairs or a graph.
        fields: whether there are reference signals of strength h and phase psi, both trained.
        frequencies: whether there are natural frequencies omega.
        driven: oscillators whose phase is an input, one number each.
        start: phases where a minimisation starts, shape (n_nodes,); None takes zeros.

    Parameters: "J" (n_edges,); with fields "h" and "psi" (n_nodes,); with frequencies "omega" (n_nodes,).

    Source: Wang, Wanjura and Marquardt, arXiv:2402.08579; Kuramoto, Chemical Oscillations, Waves, and Turbulence (1984).

    Example:
        >>> import qeqprop as qp
        >>> pair = qp.classical.PhaseOscillators(2, [(0, 1)], frequencies=True)
        >>> locked = qp.equilibrate(pair, {"J": [2.0], "omega": [0.0, 2.0]}).state
        >>> print(locked.position.round(6))  # sin(phi) = 1 / 2
        [0.       0.523599]
    """

    potential: _PhasePotential = eqx.field(static=True)
    domain: Torus
    layout: Layout
    fields: bool = eqx.field(static=True)
    frequencies: bool = eqx.field(static=True)
    inputs: np.ndarray | None
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        n_nodes: int,
        edges: Any,
        *,
        fields: bool = False,
        frequencies: bool = False,
        driven: Sequence[int] = (),
        start: ArrayLike | None = None,
    ):
        jax_float64()
        self.fields, self.frequencies = bool(fields), bool(frequencies)
        self.layout = Layout.of(n_nodes, edges, driven, start, np.zeros(()), None if self.fields else (0,))
        common = bool(self.layout.gauge)
        self.potential = _PhasePotential(self.layout.edges, self.layout.driven, common, 0.0)
        self.domain = Torus()
        self.inputs = None if self.input_shape is None else np.zeros(self.input_shape)
        self.nudges = ()

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        nodes = (self.n_nodes,)
        fields = {"h": nodes, "psi": nodes} if self.fields else {}
        return {"J": (len(self.edges),), **fields, **({"omega": nodes} if self.frequencies else {})}

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Normal couplings and fields of width 1/sqrt(mean degree), uniform reference phases, frequencies of width 0.1."""
        rng = np.random.default_rng(rng)
        drawn = self._drawn(rng)
        if self.fields:
            drawn["psi"] = rng.uniform(-np.pi, np.pi, self.n_nodes)
        if self.frequencies:
            drawn["omega"] = 0.1 * rng.normal(size=self.n_nodes)
        return drawn

    def _settings(self) -> list[str]:
        return [name for name in ("fields", "frequencies") if getattr(self, name)]


class OscillatorIsing(AbstractOscillators):
    r"""An oscillator Ising machine: phases that an injected second harmonic drives to 0 or pi,

    .. math:: E = -\sum_{(ij)} J_{ij} \cos(\phi_i - \phi_j) - \sum_i h_i \cos\phi_i - K_s \sum_i \cos 2\phi_i .

    At phases 0 and pi, spins s = cos(phi), it is the energy of `Ising` less n K_s.

    Args:
        n_nodes: number of oscillators.
        edges: list of pairs or a graph.
        injection: K_s, 0 or above. 4 K_s above the largest sum of |J| and |h| at a node makes all spin states minima.
        driven: oscillators whose phase is an input, one number each.
        start: phases where a minimisation starts, shape (n_nodes,); None takes zeros.

    Parameters: "J" (n_edges,) and "h" (n_nodes,).

    Source: Wang and Roychowdhury, UCNC 2019, arXiv:1903.07163.

    Example:
        >>> import qeqprop as qp
        >>> pair = qp.classical.OscillatorIsing(2, [(0, 1)], injection=0.5, start=[0.1, 3.0])
        >>> found = qp.equilibrate(pair, {"J": [-1.0], "h": [0.2, 0.0]})
        >>> print(found.energy, (found.state.position / 3.141592653589793).round(6) + 0.0)
        -2.2 [0. 1.]
    """

    potential: _PhasePotential = eqx.field(static=True)
    domain: Torus
    layout: Layout
    inputs: np.ndarray | None
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        n_nodes: int,
        edges: Any,
        *,
        injection: float,
        driven: Sequence[int] = (),
        start: ArrayLike | None = None,
    ):
        strength = float(real_array(injection, "injection", ()))
        if strength < 0:
            raise ValueError(f"Argument `injection` must be 0 or above, but is {injection}.")
        jax_float64()
        self.layout = Layout.of(n_nodes, edges, driven, start, np.zeros(()), None)
        self.potential = _PhasePotential(self.layout.edges, self.layout.driven, False, strength)
        self.domain = Torus()
        self.inputs = None if self.input_shape is None else np.zeros(self.input_shape)
        self.nudges = ()

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"J": (len(self.edges),), "h": (self.n_nodes,)}

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Normal couplings and fields of width 1/sqrt(mean degree)."""
        return self._drawn(np.random.default_rng(rng))

    def _settings(self) -> list[str]:
        return [f"injection {self.potential.injection:g}"]


def log_alignment(phases: Any, target: Any) -> Any:
    """The cost -sum log((1 + cos(phase - target))/2): it grows without bound towards the opposite phase, and so does its
    slope, so that a phase there still feels it."""
    import jax.numpy as jnp

    return -jnp.sum(jnp.log((1 + jnp.cos(phases - target)) / 2))


def misalignment(phases: Any, target: Any) -> Any:
    """The cost sum 1 - cos(phase - target). Its slope vanishes at the opposite phase too: outputs that are entirely wrong
    are not corrected. Choose targets such that phases need not pass there (0 and pi/2 rather than +-pi/2), or take
    `log_alignment`.

    Example:
        >>> import qeqprop as qp
        >>> node = qp.classical.PhaseOscillators(1, [], fields=True)
        >>> wrong = {"h": [1.0], "psi": [3.0], "J": []}
        >>> for cost in (qp.classical.misalignment, qp.classical.log_alignment):
        ...     print(qp.ep_gradient(node, wrong, qp.classical.StateCost(cost), [0.0]).grad["psi"].round(3))
        [0.141]
        [14.101]
    """
    import jax.numpy as jnp

    return jnp.sum(1 - jnp.cos(phases - target))
