"""One entry a classical system: whatever is here is tested by `test_registry.py` under the same `ep_gradient`.

A new system is a function that returns a `Case`, and a line in `CASES`.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

import qeqprop as qp
from qeqprop.classical import (
    DeepHopfield,
    DeepResistiveNetwork,
    Diode,
    DiodeModel,
    ElasticNetwork,
    EnergySystem,
    ExactEnumeration,
    FlowNetwork,
    HarmonicOscillators,
    Ising,
    LayeredPhaseOscillators,
    OscillatorIsing,
    PhaseOscillators,
    ResistiveNetwork,
    ShockleyNetwork,
    StateCost,
    StuartLandau,
    aligned_misalignment,
    misalignment,
)
from qeqprop.classical.predictive_coding import PredictiveCodingNetwork
from qeqprop.classical.rules import half_squared_error

Params = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A problem, and what is known of it.

    Attributes:
        step: of the finite differences in the parameters.
        beta: a nudge of the size that trainings use, for the identity at finite beta.
        across: of a network with kinks a nudge at which diodes switch; None of a smooth one.
        least: every parameter's gradient must be larger, or its zeros could come from a symmetry.
        agnostic: whether the test of agnostic EP takes it as well (small enough, one sample).
    """

    name: str
    system: Any
    params: Params
    nudge: Any
    target: Any = None
    inputs: Any = None
    solver: Any = None
    step: float = 3e-3
    beta: float = 0.05
    across: float | None = None
    least: float = 1e-2
    agnostic: bool = False

    @property
    def problem(self) -> tuple[Any, ...]:
        """The positional arguments of `ep_gradient`."""
        return self.system, self.params, self.nudge, self.target

    @property
    def given(self) -> dict[str, Any]:
        """Its named ones."""
        return {"inputs": self.inputs, "solver": self.solver or self.system.default_solver()}

    @property
    def some(self) -> dict[str, list[Any]]:
        """The first components of every parameter, for what must be computed one by one."""
        return {name: list(np.ndindex(value.shape))[:4] for name, value in self.params.items()}


def hopfield(p: Any, s: Any, x: Any) -> Any:
    """A continuous Hopfield network, Scellier & Bengio 2016: couplings between all units, inputs through u."""
    rho = jnp.tanh(s)
    return s @ s / 2 - rho @ p["w"] @ rho / 2 - p["b"] @ rho - x @ p["u"] @ rho


def phases(p: Any, s: Any, x: Any) -> Any:
    """Phase oscillators on a ring, each with a reference phase that is an input."""
    return -(p["k"] * jnp.cos(s - jnp.roll(s, 1))).sum() - (p["h"] * jnp.cos(s - x)).sum()


def springs(p: Any, s: Any, x: Any) -> Any:
    """Four nodes in the plane, each tied to its place x, joined all to all by springs with rest lengths."""
    i, j = np.triu_indices(4, 1)
    stretch = jnp.sqrt(((s[i] - s[j]) ** 2).sum(axis=1)) - p["l"]
    return (p["k"] * stretch**2).sum() / 2 + ((s - x) ** 2).sum() / 2


def _ising() -> Case:
    rng = np.random.default_rng(0)
    edges = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (1, 3)]
    params = {"J": rng.normal(size=6), "h": rng.normal(size=5)}
    cost = qp.ObservableCost(qp.Z(4) * qp.Z(1) + 0.5 * qp.Z(2))
    return Case("Ising at a temperature", Ising(5, edges), params, cost, solver=ExactEnumeration(0.8), agnostic=True)


def _clamped_ising() -> Case:
    rng = np.random.default_rng(1)
    net = Ising(4, [(0, 1), (1, 2), (2, 3)], input_edges=[(0, 0), (1, 0), (0, 2), (1, 3)])
    params = {"J": rng.normal(size=3), "h": rng.normal(size=4), "W": rng.normal(size=4)}
    cost = qp.ObservableCost(qp.Z(3))
    return Case("Ising with clamped inputs", net, params, cost, inputs=rng.normal(size=2), solver=ExactEnumeration(1.0))


def _elastic() -> Case:
    rng = np.random.default_rng(2)
    grid = np.stack(np.meshgrid(np.arange(3.0), np.arange(3.0), indexing="ij"), axis=-1).reshape(-1, 2)
    grid += 0.1 * rng.normal(size=grid.shape)
    edges = [(i, j) for i in range(9) for j in range(i) if np.linalg.norm(grid[i] - grid[j]) < 1.7]
    net = ElasticNetwork(edges, grid, pinned=[0, 3, 6], driven=[8])
    params = net.init_params(rng)
    params["l"] *= 1 + 0.1 * rng.normal(size=len(edges))
    cost = StateCost(half_squared_error, [5, 7])
    return Case("elastic", net, params, cost, grid[[5, 7]] + 0.3, 0.1 * np.ones((1, 2)), agnostic=True)


def _sheared() -> Case:
    rng = np.random.default_rng(3)
    sites = np.stack(np.meshgrid(np.arange(3.0), np.arange(3.0), indexing="ij"), axis=-1).reshape(-1, 2)
    sites += 0.1 * rng.normal(size=sites.shape)
    edges = [(i, j) for i in range(9) for j in range(i) if i // 3 != j // 3 or i % 3 != j % 3]
    net = ElasticNetwork(edges, sites, pinned=[0], cell=[3.0, 3.0], stiffness=0.3)
    params = net.init_params(rng)
    params["l"] *= 1 + 0.1 * rng.normal(size=len(edges))
    cost = StateCost(half_squared_error, [4])
    return Case("elastic in a sheared cell", net, params, cost, sites[[4]] + 0.4, [[0.0, 0.1], [0.0, 0.0]])


def _flow() -> Case:
    rng = np.random.default_rng(4)
    edges = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (1, 3), (2, 4), (0, 5), (5, 3)]
    net = FlowNetwork(6, edges, driven=[0], injected=[5], grounded=[4])
    params = {"k": rng.uniform(0.5, 2.0, len(edges))}
    cost = StateCost(half_squared_error, [1, 3])
    return Case("flow", net, params, cost, np.array([-1.0, 1.5]), np.array([1.0, 0.5]), agnostic=True)


def _circuit(rng: np.random.Generator) -> tuple[ResistiveNetwork, Params, StateCost]:
    edges = [(0, 3), (1, 3), (1, 4), (2, 4), (3, 4), (3, 5), (4, 6), (5, 6), (5, 7), (6, 7), (4, 5)]
    diodes = [Diode(4, None, 0.1), Diode(None, 5, 0.0), Diode(6, 7, 0.0)]
    net = ResistiveNetwork(8, edges, sources=[0, 1], grounded=[2], diodes=diodes, currents=[6])
    params = {"g": rng.uniform(0.5, 2.0, len(edges)), "i": np.array([-0.4])}
    return net, params, StateCost(half_squared_error, [5, 7])


def _resistive() -> Case:
    net, params, cost = _circuit(np.random.default_rng(5))
    return Case(
        "resistive with diodes", net, params, cost, np.array([4.0, -4.0]), np.array([1.0, -0.8]),
        step=1e-4, across=0.2, agnostic=True,
    )  # fmt: skip


def _shockley() -> Case:
    ideal, params, cost = _circuit(np.random.default_rng(14))
    net = ShockleyNetwork(ideal, DiodeModel(2.0, 1e-6))
    return Case("Shockley diodes", net, params, cost, np.array([4.0, -4.0]), np.array([1.0, -0.8]), agnostic=True)


def _deep_resistive() -> Case:
    rng = np.random.default_rng(6)
    net = DeepResistiveNetwork((3, 6, 5, 2), input_gain=2.0)
    inputs, targets = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    cost = StateCost(half_squared_error, net.outputs)
    return Case("deep resistive", net, net.init_params(rng), cost, targets, inputs, step=1e-4, across=0.2)


def _deep_hopfield() -> Case:
    rng = np.random.default_rng(12)
    net = DeepHopfield((3, 6, 5, 2))
    params = {name: 0.6 * value + 0.1 for name, value in net.init_params(rng).items()}
    inputs, targets = rng.uniform(size=(4, 3)), rng.uniform(size=(4, 2))
    cost = StateCost(half_squared_error, net.outputs)
    return Case("deep Hopfield", net, params, cost, targets, inputs, step=1e-4, across=0.4)


def _smooth_hopfield() -> Case:
    rng = np.random.default_rng(13)
    net = DeepHopfield((3, 5, 2), activation="tanh", outputs="sigmoid")
    params = {name: value / 2 for name, value in net.init_params(rng).items()}
    cost, target, inputs = StateCost(half_squared_error, net.outputs), rng.uniform(size=2), rng.normal(size=3)
    return Case("smooth deep Hopfield", net, params, cost, target, inputs, least=3e-3, agnostic=True)


def _harmonic() -> Case:
    rng = np.random.default_rng(7)
    edges = [(1, 0), (2, 1), (3, 2), (3, 1)]
    net = qp.HarmonicNetwork(4, edges, hbar=0.0, trainable=("k", "l", "kappa", "f"))
    params = {"k": rng.uniform(0.5, 2, 4), "l": rng.normal(size=4), "kappa": np.ones(4), "f": rng.normal(size=4)}
    return Case("harmonic at hbar = 0", net, params, qp.ObservableCost((qp.R(2) - 0.5) ** 2))


RING = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (0, 2), (1, 4)]


def _harmonic_oscillators() -> Case:
    rng = np.random.default_rng(14)
    net = HarmonicOscillators(5, RING, components=2, input_sites=[1])
    inputs, target = rng.normal(size=(3, 1, 2)), rng.normal(size=(3, 2, 2))
    return Case(
        "harmonic oscillators", net, net.init_params(rng), StateCost(half_squared_error, [3, 4]), target, inputs
    )


def _kuramoto() -> Case:
    rng = np.random.default_rng(15)
    net = PhaseOscillators(5, RING, fields=True, frequencies=True, driven=[0])
    params = net.init_params(rng) | {"h": rng.uniform(1, 2, 5)}
    inputs, target = rng.normal(size=(3, 1)), rng.uniform(-1, 1, (3, 2))
    return Case("phase oscillators", net, params, StateCost(misalignment, [3, 4]), target, inputs)


def _layered_phases() -> Case:
    rng = np.random.default_rng(18)
    net = LayeredPhaseOscillators((3, 5, 2))
    params = {
        n: (0.5 if n[0] == "w" else 2.0) * v + 0.1 * rng.normal(size=v.shape) for n, v in net.init_params(rng).items()
    }
    cost, inputs = StateCost(aligned_misalignment, net.outputs), rng.uniform(-1, 1, (3, 3))
    return Case("layered phase oscillators", net, params, cost, rng.uniform(-1, 1, (3, 2)), inputs)


def _oscillator_ising() -> Case:
    rng = np.random.default_rng(16)
    machine = OscillatorIsing(5, RING, injection=0.5, driven=[0], start=[0, 0.1, 3.0, 3.2, 0.2])
    params = {"J": 0.3 * rng.normal(size=7), "h": 0.3 * rng.normal(size=5)}
    cost, target = StateCost(misalignment, [3, 4]), np.array([2.0, 1.0])
    return Case("oscillator Ising machine", machine, params, cost, target, np.array([0.7]), agnostic=True)


def _stuart_landau() -> Case:
    rng = np.random.default_rng(17)
    net = StuartLandau(5, RING, fields=True, driven=[0])
    params = net.init_params(rng)
    params["J"], params["f"] = 0.3 * params["J"], params["f"] + [1.5, 0.0]
    cost, inputs = StateCost(half_squared_error, [3, 4]), rng.normal(size=(1, 2))
    return Case("Stuart-Landau", net, params, cost, 0.5 * rng.normal(size=(2, 2)), inputs, agnostic=True)


def _predictive_coding() -> Case:
    rng = np.random.default_rng(11)
    net = PredictiveCodingNetwork((3, 5, 4, 2))
    cost = StateCost(half_squared_error, net.outputs)
    target, inputs = rng.normal(size=2), rng.normal(size=3)
    return Case("predictive coding", net, net.init_params(rng), cost, target, inputs, agnostic=True)


def _hopfield() -> Case:
    rng = np.random.default_rng(8)
    net = EnergySystem(hopfield, (6,), {"w": (6, 6), "b": (6,), "u": (3, 6)}, inputs=(3,))
    params = {"w": 0.3 * rng.normal(size=(6, 6)), "b": rng.normal(size=6), "u": rng.normal(size=(3, 6))}
    cost = StateCost(half_squared_error, [4, 5])
    return Case("Hopfield", net, params, cost, rng.normal(size=2), rng.normal(size=3), agnostic=True)


def _phases() -> Case:
    rng = np.random.default_rng(9)
    ring = EnergySystem(phases, (5,), {"k": (5,), "h": (5,)}, inputs=(5,))
    params = {"k": rng.uniform(0.5, 1.5, 5), "h": rng.uniform(0.5, 1.5, 5)}
    return Case("phases", ring, params, StateCost(lambda s, y: 1 - jnp.cos(s[0] - y), [2]), 1.2, rng.normal(size=5))


def _springs() -> Case:
    rng = np.random.default_rng(10)
    places = np.array([[0.0, 0.0], [1.0, 0.1], [0.0, 1.2], [1.1, 1.0]])
    plane = EnergySystem(springs, (4, 2), {"k": (6,), "l": (6,)}, inputs=(4, 2), start=places)
    params = {"k": rng.uniform(0.5, 1.5, 6), "l": rng.uniform(0.8, 1.2, 6)}
    return Case("springs", plane, params, StateCost(half_squared_error, [3]), places[[3]] + 0.3, places)


CASES = [
    make()
    for make in (
        _ising,
        _clamped_ising,
        _elastic,
        _sheared,
        _flow,
        _resistive,
        _shockley,
        _deep_resistive,
        _deep_hopfield,
        _smooth_hopfield,
        _harmonic,
        _harmonic_oscillators,
        _kuramoto,
        _layered_phases,
        _oscillator_ising,
        _stuart_landau,
        _predictive_coding,
        _hopfield,
        _phases,
        _springs,
    )
]
SMOOTH = [case for case in CASES if case.across is None]
KINKED = [case for case in CASES if case.across is not None]
AGNOSTIC = [case for case in CASES if case.agnostic]
MOVING = [case for case in CASES if isinstance(case.system, EnergySystem)]
"""Those that the tests of time steps take: a potential written in JAX, and one sample."""


def name_of(case: Case) -> str:
    """A readable test id."""
    return case.name.replace(" ", "_")
