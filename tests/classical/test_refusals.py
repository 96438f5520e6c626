"""Plain mistakes with classical systems are refused in words that name the argument."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import (
    DeepHopfield,
    DeepResistiveNetwork,
    ElasticNetwork,
    EnergySystem,
    ExactEnumeration,
    FlowNetwork,
    HarmonicOscillators,
    Ising,
    LagrangianSystem,
    PredictiveCodingNetwork,
    ResistiveNetwork,
    StateCost,
    VectorField,
    half_squared_error,
)

CORNERS = [[0.0, 0.0], [2.0, 0.0], [1.0, 1.5]]
ARCH, SPRINGS = ElasticNetwork([(0, 2), (1, 2)], CORNERS, pinned=[0, 1]), {"k": [1.0, 2.0], "l": [1.5, 1.5]}
NET = DeepHopfield((3, 4, 2))
WEIGHTS, OUTPUTS = NET.init_params(0), StateCost(half_squared_error, NET.outputs)
PC = PredictiveCodingNetwork((3, 4, 2))
CHAIN = Ising(4, [(0, 1), (1, 2), (2, 3)])
SPINS = {"J": np.ones(3), "h": 0.1 * np.ones(4)}


def tip(cost, target=0.0):
    return qp.ep_gradient(ARCH, SPRINGS, StateCost(cost, nodes=[2]), target)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: ElasticNetwork([(0, 1)], CORNERS, pinned=0), "pinned"),
        (lambda: FlowNetwork(2, [(0, 1)], grounded=0), "grounded"),
        (lambda: ResistiveNetwork(2, [(0, 1)], sources=0), "sources"),
        (lambda: HarmonicOscillators(2, [(0, 1)], input_sites=0), "input_sites"),
        (lambda: Ising(2, [(0, 1)], input_sites=0), "input_sites"),
        (lambda: qp.TransverseFieldIsing(2, [(0, 1)], input_sites=0), "input_sites"),
        (lambda: StateCost(half_squared_error, nodes=0), "nodes"),
        (lambda: qp.classical.Clamp(0), "nodes"),
    ],
)
def test_a_number_for_a_list_of_nodes(make, name):
    with pytest.raises(TypeError, match=rf"`{name}` must be a list of integers such as \[0\], but is 0"):
        make()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ElasticNetwork([(0, 1)], [[0.0, 0.0], [1.0]]),
            ValueError,
            "`positions` must be an array, all rows of",
        ),
        (lambda: ElasticNetwork([(0, 1)], {0: [0.0], 1: [1.0]}), TypeError, "`positions` .* numbers, but is dict"),
        (lambda: qp.equilibrate(ARCH, SPRINGS | {"k": [[1.0], 2.0]}), ValueError, "`k` must be an array, all rows of"),
        (lambda: tip(lambda r, y: ((r - y) ** 2).sum(), [1.0, 2.0, 3.0]), ValueError, r"target of shape \(3,\)"),
        (lambda: DeepHopfield(3), ValueError, "`sizes` must name the inputs and the outputs at least, .* but is 3"),
        (lambda: DeepHopfield((3,)), ValueError, r"`sizes` must name the inputs and the outputs at least"),
        (lambda: DeepHopfield((3.0, 4)), TypeError, r"`sizes` must be an integer, but is 3\.0"),
        (lambda: PredictiveCodingNetwork(3), ValueError, "`sizes` must name the inputs and the outputs at least"),
        (lambda: DeepResistiveNetwork(3), TypeError, "`sizes` must be a list of integers"),
        (
            lambda: qp.ep_gradient(NET, WEIGHTS, OUTPUTS, np.zeros((0, 2)), inputs=np.zeros((0, 3))),
            ValueError,
            r"but has shape \(0, 3\)",
        ),
        (lambda: EnergySystem(lambda p, s, x: p["b"] @ s, (2,), {"a": (2,)}), ValueError, "looks up 'b', which its"),
        (lambda: EnergySystem(lambda p, s, x: (1j * s).sum(), (2,), {"a": (2,)}), ValueError, "dtype is complex128"),
        (lambda: tip(lambda r, y: 3), ValueError, "must return a real number with a slope, but its dtype is int"),
        (lambda: VectorField(lambda p, s, x: np.tanh(s), 2, {"a": ()}), TypeError, "`field` must be written with `jax"),
        (
            lambda: qp.ep_gradient(PC, PC.init_params(0), qp.classical.Clamp(PC.outputs), [1.0, 0.0]),
            TypeError,
            "PredictiveCodingNetwork is nudged by a `StateCost`, but not by a `Clamp`",
        ),
        (lambda: qp.classical.ParallelTempering(3.0), TypeError, r"must be a list such as .*, but is 3\.0"),
        (lambda: qp.plot.training_curves(3), TypeError, "must be a `History` or a list of them, but is 3"),
        (lambda: qp.ep_gradient(CHAIN, SPINS, qp.ObservableCost(qp.Z(7))), ValueError, "read site 7, but .* 4 spins"),
        (
            lambda: ExactEnumeration(1.0).solve(CHAIN, SPINS).state.expect(qp.Z(1) * qp.Z(2) * qp.Z(9)),
            ValueError,
            "read site 9, but the state has 4 spins",
        ),
    ],
)
def test_plain_mistakes(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "make",
    [
        lambda: tip(lambda r, y: (r[1, 0] - y) ** 2),
        lambda: EnergySystem(lambda p, s, x: jnp.sum(s**2) + p["k"] * s[2], (2,), {"k": ()}),
        lambda: EnergySystem(lambda p, s, x: jnp.sum(s**2) + p["k"][1], (2,), {"k": (1,)}),
        lambda: EnergySystem(lambda p, s, x: jnp.sum((s - x[2]) ** 2), (2,), {"k": ()}, inputs=(2,)),
        lambda: VectorField(lambda p, s, x: jnp.array([-s[0], p["k"] * s[2]]), 2, {"k": ()}),
        lambda: LagrangianSystem(lambda p, q, v, x: v @ v - p["k"] * q[1], 1, {"k": ()}, steps=4, dt=0.1),
        lambda: qp.ep_gradient(
            CHAIN, SPINS, qp.ExpectationCost([qp.Z(0), qp.Z(1)], lambda z, y: (z[2] - y[0]) ** 2), [0.0, 0.0]
        ),
    ],
)
def test_functions_that_read_beyond_the_end_are_refused(make):
    """JAX would take the last entry, and nothing would be said."""
    with pytest.raises(ValueError, match=r"reads beyond the end of its arguments: index . is out of bounds"):
        make()


@pytest.mark.parametrize("scheme", [qp.LinearResponse(), qp.centered(1e-3)], ids=repr)
@pytest.mark.parametrize("cost", [lambda r, y: jnp.log(y - 9 + 0 * r[0, 0]), lambda r, y: jnp.sqrt(0 * r[0, 0])])
def test_costs_that_are_no_numbers_are_not_finite(cost, scheme):
    with pytest.raises(qp.EquilibriumError, match=r"not finite: .*or in the cost or its slope"):
        qp.ep_gradient(ARCH, SPRINGS, StateCost(cost, nodes=[2]), 0.0, scheme=scheme)


def test_an_energy_that_is_no_number_is_not_finite():
    for inputs, options in ((None, {}), ([[1.0], [-9.0]], {"inputs": (1,)})):
        wall = EnergySystem(
            lambda p, s, x: jnp.sum(jnp.log(s - 5 if x is None else x + 2 + 0 * s)), (1,), {"k": ()}, **options
        )
        with pytest.raises(qp.EquilibriumError, match="not finite"):
            qp.equilibrate(wall, {"k": 1.0}, inputs=inputs)


def test_parts_that_nothing_holds_are_degenerate_and_not_unconverged():
    """Newton's steps are shortened along flat directions: near the minimum the slope alone shows that they still lead on."""
    ring = qp.classical.PhaseOscillators(4, [(0, 1)], driven=[0])
    with pytest.raises(qp.EquilibriumError, match=r"degenerate: .* directions of the minimum are flat"):
        qp.equilibrate(ring, {"J": [1.0]}, inputs=[0.1])


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dimod", None)
    with pytest.raises(ImportError, match=r'A dimod model needs dimod: pip install "qeqprop\[anneal\]"'):
        qp.classical.to_bqm(CHAIN, SPINS)
