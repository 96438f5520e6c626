"""Networks of phase oscillators: the XY model, Kuramoto's model, and oscillator Ising machines."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.graph import Edges, check_count, check_edges, check_nodes
from ..core.module import AbstractModule
from ..core.precision import jax_float64
from ..core.system import Params, real_array, replaced
from .domains import Torus
from .energy import AbstractPotentialSystem, Nudge, check_inputs


class _PhasePotential(AbstractModule):
    """The energy of phases; equal networks are equal, so that they share one compilation."""

    edges: Edges = eqx.field(static=True)
    driven: tuple[int, ...] = eqx.field(static=True)
    common: bool = eqx.field(static=True)
    injection: float = eqx.field(static=True)

    def __call__(self, params: Any, phases: Any, inputs: Any) -> Any:
        import jax.numpy as jnp

        if self.driven:
            phases = phases.at[np.asarray(self.driven)].set(inputs)
        i, j = np.array(self.edges, dtype=int).reshape(-1, 2).T
        energy = -jnp.sum(params["J"] * jnp.cos(phases[i] - phases[j]))
        if "h" in params:
            energy -= jnp.sum(params["h"] * jnp.cos(phases - params.get("psi", 0.0)))
        if "omega" in params:
            pull = params["omega"] - jnp.mean(params["omega"]) if self.common else params["omega"]
            energy -= jnp.sum(pull * phases)
        return energy - self.injection * jnp.sum(jnp.cos(2 * phases))


class PhaseOscillators(AbstractPotentialSystem):
    r"""Oscillators locked in phase, on any graph:

    .. math:: E = -\sum_{(ij)} J_{ij} \cos(\phi_i - \phi_j) - \sum_i h_i \cos(\phi_i - \psi_i) - \sum_i \omega_i \phi_i ,

    each edge once. The dynamics d(phi)/dt = -dE/d(phi) is Kuramoto's model (with omega = 0 the relaxation of an XY model),
    and a minimum of E is a stable phase-locked state. Without fields and driven oscillators the common phase is free:
    oscillator 0 then keeps its start, and the frequencies count in the frame that rotates with their mean.

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
    n_nodes: int = eqx.field(static=True)
    fields: bool = eqx.field(static=True)
    frequencies: bool = eqx.field(static=True)
    origin: np.ndarray
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
        self.n_nodes = check_count(n_nodes, "n_nodes")
        held = check_nodes(driven, "driven", self.n_nodes)
        jax_float64()
        common = not fields and not held
        self.potential = _PhasePotential(check_edges(edges, self.n_nodes), held, common, 0.0)
        self.domain = Torus()
        self.fields, self.frequencies = bool(fields), bool(frequencies)
        self.origin = np.zeros(self.n_nodes) if start is None else real_array(start, "start", (self.n_nodes,))
        self.inputs = np.zeros(len(held)) if held else None
        self.nudges = ()

    @property
    def edges(self) -> Edges:
        """Pairs of coupled oscillators."""
        return self.potential.edges

    @property
    def driven(self) -> tuple[int, ...]:
        """Oscillators whose phases are the inputs."""
        return self.potential.driven

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        nodes = (self.n_nodes,)
        fields = {"h": nodes, "psi": nodes} if self.fields else {}
        return {"J": (len(self.edges),), **fields, **({"omega": nodes} if self.frequencies else {})}

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return (len(self.driven),) if self.driven else None

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.n_nodes,)

    @property
    def free(self) -> np.ndarray:
        held = [0] if self.potential.common else list(self.driven)
        return np.delete(np.arange(self.n_nodes), held)

    def starts(self) -> np.ndarray:
        return _driven_starts(self.origin, self.driven, self.inputs, self.batch_size)

    def with_inputs(self, inputs: ArrayLike) -> "PhaseOscillators":
        """The network with the phases of its driven oscillators set; a leading axis is the batch axis."""
        return replaced(self, inputs=_driving(inputs, self.input_shape))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Normal couplings and fields of width 1/sqrt(mean degree), uniform reference phases, frequencies of width 0.1."""
        rng = np.random.default_rng(rng)
        width = 1 / np.sqrt(max(2 * len(self.edges) / self.n_nodes, 1.0))
        drawn = {name: width * rng.normal(size=shape) for name, shape in self.param_shapes.items()}
        if self.fields:
            drawn["psi"] = rng.uniform(-np.pi, np.pi, self.n_nodes)
        if self.frequencies:
            drawn["omega"] = 0.1 * rng.normal(size=self.n_nodes)
        return drawn

    def __repr__(self) -> str:
        extras = [name for name in ("fields", "frequencies") if getattr(self, name)]
        extras += [f"{len(self.driven)} driven"] if self.driven else []
        return f"PhaseOscillators({', '.join([f'{self.n_nodes} oscillators', f'{len(self.edges)} edges', *extras])})"


class OscillatorIsing(AbstractPotentialSystem):
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
    n_nodes: int = eqx.field(static=True)
    origin: np.ndarray
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
        self.n_nodes = check_count(n_nodes, "n_nodes")
        held = check_nodes(driven, "driven", self.n_nodes)
        strength = float(real_array(injection, "injection", ()))
        if strength < 0:
            raise ValueError(f"Argument `injection` must be 0 or above, but is {injection}.")
        jax_float64()
        self.potential = _PhasePotential(check_edges(edges, self.n_nodes), held, False, strength)
        self.domain = Torus()
        self.origin = np.zeros(self.n_nodes) if start is None else real_array(start, "start", (self.n_nodes,))
        self.inputs = np.zeros(len(held)) if held else None
        self.nudges = ()

    @property
    def edges(self) -> Edges:
        """Pairs of coupled oscillators."""
        return self.potential.edges

    @property
    def driven(self) -> tuple[int, ...]:
        """Oscillators whose phases are the inputs."""
        return self.potential.driven

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"J": (len(self.edges),), "h": (self.n_nodes,)}

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return (len(self.driven),) if self.driven else None

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.n_nodes,)

    @property
    def free(self) -> np.ndarray:
        return np.delete(np.arange(self.n_nodes), list(self.driven))

    def starts(self) -> np.ndarray:
        return _driven_starts(self.origin, self.driven, self.inputs, self.batch_size)

    def with_inputs(self, inputs: ArrayLike) -> "OscillatorIsing":
        """The machine with the phases of its driven oscillators set; a leading axis is the batch axis."""
        return replaced(self, inputs=_driving(inputs, self.input_shape))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Normal couplings and fields of width 1/sqrt(mean degree)."""
        rng = np.random.default_rng(rng)
        width = 1 / np.sqrt(max(2 * len(self.edges) / self.n_nodes, 1.0))
        return {name: width * rng.normal(size=shape) for name, shape in self.param_shapes.items()}

    def __repr__(self) -> str:
        return (
            f"OscillatorIsing({self.n_nodes} oscillators, {len(self.edges)} edges, "
            f"injection {self.potential.injection:g})"
        )


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


def _driving(inputs: ArrayLike, shape: tuple[int, ...] | None) -> np.ndarray:
    if shape is None:
        raise ValueError("Argument `inputs` must be None: this network has no driven oscillators.")
    return check_inputs(inputs, shape)


def _driven_starts(
    origin: np.ndarray, driven: tuple[int, ...], inputs: np.ndarray | None, batch_size: int | None
) -> np.ndarray:
    positions = np.repeat(origin[None], batch_size or 1, axis=0)
    if inputs is not None:
        positions[:, list(driven)] = inputs
    return positions
