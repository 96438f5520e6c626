"""Circuits with exponential diodes: against ngspice, finite differences, the diode law itself, and ideal diodes."""

import shutil

import numpy as np
import optax
import pytest
import scipy.constants
import scipy.optimize

import qeqprop as qp
from qeqprop.classical import (
    Clamp,
    DeepResistiveNetwork,
    Diode,
    DiodeModel,
    ResistiveNetwork,
    ShockleyNetwork,
    StateCost,
    check_with_ngspice,
    to_spice,
)

from ..measures import computed, deviation, norm
from .registry import half_squared_error
from .test_resistive import random_network
from .test_spice import layered

needs_ngspice = pytest.mark.skipif(
    shutil.which("ngspice") is None, reason="ngspice is not installed: apt-get install ngspice"
)
SILICON = DiodeModel(emission=1.0, saturation=1e-14)


def any_graph(seed, diode=SILICON):
    net, params, inputs = random_network(seed)
    return ShockleyNetwork(net, diode), params, 4 * inputs


def amplified(diode=SILICON, **gains):
    net, params, inputs = layered(**gains)
    return ShockleyNetwork(net, diode), params, inputs


CIRCUITS = {
    "any graph": lambda **model: any_graph(1, **model),
    "any graph, other": lambda **model: any_graph(4, **model),
    "unbuffered": amplified,
    "amplified": lambda **model: amplified(voltage_gain=4.0, **model),
    "other current gain": lambda **model: amplified(voltage_gain=3.0, current_gain=0.5, **model),
}


@needs_ngspice
def test_a_comparison_survives_a_file(tmp_path):
    net, params, inputs = any_graph(1)
    check = check_with_ngspice(net, params, inputs=inputs)
    qp.save(tmp_path / "check.npz", check)
    back = qp.load(tmp_path / "check.npz")
    assert back.diode == SILICON
    assert repr(back) == repr(check)


@needs_ngspice
@pytest.mark.parametrize("diode", [SILICON, DiodeModel(1.7, 1e-9), DiodeModel(1e-3, 1e-12)])
@pytest.mark.parametrize("name", CIRCUITS)
def test_voltages_are_those_of_ngspice_to_a_microvolt(name, diode):
    net, params, inputs = CIRCUITS[name](diode=diode)
    check = check_with_ngspice(net, params, inputs=inputs)
    assert check.diode == diode
    assert np.abs(check.ours).max() > 0.5
    found = qp.equilibrate(net, params, inputs=inputs)
    assert np.sum(net.diode_currents(found.state) > 1e-3) >= 1  # some conduct
    assert np.abs(check.ours - check.theirs).max() < 1e-8


def test_a_diode_follows_its_law_and_the_current_is_conserved():
    net = ShockleyNetwork(ResistiveNetwork(2, [(0, 1)], sources=[0], diodes=[Diode(1, None, 0.2)]))
    thermal = scipy.constants.k * 300.15 / scipy.constants.e
    for volts in (-3.0, 0.3, 0.9, 40.0):
        v = scipy.optimize.brentq(
            lambda u, volts=volts: 1e-14 * np.expm1((u - 0.2) / thermal) - 1e-3 * (volts - u), -4.0, 1.2, xtol=1e-15
        )
        found = qp.equilibrate(net, {"g": [1e-3]}, inputs=[volts])
        assert found.state.position[1] == pytest.approx(v, abs=1e-12)
        assert net.diode_currents(found.state)[0] == pytest.approx(1e-3 * (volts - v), abs=1e-15, rel=1e-9)
        assert found.stats["newton_steps"] <= 2


def test_content_is_the_integral_of_the_current_and_conductance_its_slope():
    model = DiodeModel(1.2, 1e-12)
    for u in (-1.0, 0.3, 0.7, 1.2 * 201 * 0.02586, 7.0):  # the last two where the exponential has ended
        points = np.array([u - 1e-5, u + 1e-5])
        assert np.diff(model.content(points))[0] / 2e-5 == pytest.approx(float(model.current(u)), rel=1e-6)
        assert np.diff(model.current(points))[0] / 2e-5 == pytest.approx(
            float(model.conductance(u)), rel=1e-6, abs=1e-18
        )
    assert model.voltage(model.current(0.65)) == pytest.approx(0.65, rel=1e-14)


@pytest.mark.parametrize("name", CIRCUITS)
def test_ep_is_implicit_differentiation_is_finite_differences(name):
    net, params, inputs = CIRCUITS[name]()
    nodes = getattr(net.net, "outputs", (5, 10, 12))
    cost, target = StateCost(half_squared_error, nodes), np.array([0.3, -0.2, 0.1])
    given = {"inputs": inputs}
    exact = qp.linear_response(net, params, cost, target, **given)
    some = {name: list(np.ndindex(value.shape))[:6] for name, value in params.items()}
    known = qp.finite_difference(net, params, cost, target, **given, step=2e-4, components=some)
    assert all(norm(computed({name: grad})) > 1e-4 for name, grad in known.grad.items())
    assert deviation(known.grad, exact.grad) < 1e-7
    found = qp.ep_gradient(net, params, cost, target, **given, scheme=qp.centered(1e-6))
    assert deviation(found.grad, exact.grad) < 1e-6
    assert max(phase.stats["newton_steps"] for _, phase in found.nudged) <= 2


def test_as_the_diodes_become_ideal_so_do_voltages_and_gradients():
    ideal, params, inputs = layered(voltage_gain=4.0)
    cost, target = StateCost(half_squared_error, ideal.outputs), np.zeros(3)
    limit = qp.linear_response(ideal, params, cost, target, inputs=inputs)
    emissions, apart = np.array([1e-1, 1e-2, 1e-3]), []
    for emission in emissions:
        real = ShockleyNetwork(ideal, DiodeModel(emission, 1e-12))
        found = qp.linear_response(real, params, cost, target, inputs=inputs)
        volts = np.abs(found.free.state.position - limit.free.state.position).max()
        apart.append([volts, deviation(found.grad, limit.grad)])
    slopes = np.polyfit(np.log(emissions), np.log(apart), 1)[0]
    np.testing.assert_allclose(slopes, 1, atol=0.1)


def test_output_nodes_can_be_clamped():
    net, params, inputs = CIRCUITS["amplified"]()
    clamp, target = Clamp(net.outputs), np.array([0.5, -0.5, 0.2])
    limit = qp.linear_response(net, params, clamp, target, inputs=inputs)
    found = qp.ep_gradient(net, params, clamp, target, inputs=inputs, scheme=qp.centered(1e-4))
    assert deviation(found.grad, limit.grad) < 1e-5


def test_a_real_circuit_learns():
    deep = DeepResistiveNetwork((2, 8, 1), voltage_gain=4.0, input_gain=3.0)
    net, cost = ShockleyNetwork(deep), StateCost(half_squared_error, deep.outputs)
    inputs, targets = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) - 0.5, np.array([[0.0], [0.4], [0.4], [0.0]])
    chain = optax.chain(optax.adam(0.1), optax.keep_params_nonnegative())
    history = qp.fit(
        net, net.init_params(1), cost, (inputs, targets), optimizer=chain, epochs=25, batch_size=4, progress=False
    )
    assert history.loss[-1] < 0.3 * history.loss[0]


def test_a_hundred_real_diodes_on_a_grid_take_a_handful_of_factorisations():
    side = 30
    edges = [(k, k + 1) for k in range(side * side) if k % side < side - 1]
    edges += [(k, k + side) for k in range(side * (side - 1))]
    diodes = [(k, k + 1, 0.0) for k in range(31, 800, 7)]
    net = ShockleyNetwork(ResistiveNetwork(side * side, edges, sources=[0, 899], grounded=[29], diodes=diodes))
    params = {name: 1e-3 * value for name, value in net.init_params(0).items()}
    found = qp.equilibrate(net, params, inputs=[200.0, -150.0])
    assert np.sum(net.diode_currents(found.state) > 1e-5) > 20
    assert found.stats["newton_steps"] <= 2
    assert float(found.residual) < 1e-12


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ShockleyNetwork(qp.TransverseFieldIsing(2, [(0, 1)])), TypeError, "must be a ResistiveNetwork"),
        (lambda: ShockleyNetwork(layered()[0], 0.7), TypeError, "must be a DiodeModel"),
        (lambda: ShockleyNetwork(layered()[0], DiodeModel(emission=-1.0)), ValueError, "positive, finite `emission`"),
        (lambda: ShockleyNetwork(layered(voltage_gain=2.0, current_gain=0.0)[0]), ValueError, "has no energy"),
        (
            lambda: ShockleyNetwork(layered()[0].nudged(StateCost(half_squared_error, [22]).term(None, [0.0]), 0.1)),
            ValueError,
            "must not be nudged or clamped",
        ),
        (lambda: qp.equilibrate(any_graph(1)[0], {"g": -np.ones(28), "i": np.zeros(3)}), ValueError, "negative"),
        (lambda: any_graph(1)[0].outputs, AttributeError, "Only layered networks"),
        (lambda: to_spice(*any_graph(1)[:2], "x.cir", diode=SILICON), ValueError, "diodes of its own"),
    ],
)
def test_errors_teach(make, error, message):
    with pytest.raises(error, match=message):
        make()
