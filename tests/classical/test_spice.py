"""Resistive networks against ngspice, an independent circuit simulator."""

import re
import shutil

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import DeepResistiveNetwork, DiodeModel, ResistiveNetwork, check_with_ngspice, to_spice
from qeqprop.classical.spice import circuit_of

from .test_resistive import random_network

needs_ngspice = pytest.mark.skipif(
    shutil.which("ngspice") is None, reason="ngspice is not installed: apt-get install ngspice"
)


def layered(**gains):
    net = DeepResistiveNetwork((4, 8, 6, 3), input_gain=50.0, **gains)
    rng = np.random.default_rng(0)
    return net, net.init_params(rng), rng.normal(size=4)


def any_graph(seed):
    net, params, inputs = random_network(seed)
    return net, params, 4 * inputs


NETWORKS = {
    "unbuffered": lambda: layered(),
    "amplified": lambda: layered(voltage_gain=4.0),
    "other current gain": lambda: layered(voltage_gain=3.0, current_gain=0.5),
    "one way": lambda: layered(voltage_gain=3.0, current_gain=0.0),
    "any graph": lambda: any_graph(1),
    "any graph, other": lambda: any_graph(4),
}


@needs_ngspice
@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_voltages_are_those_of_ngspice(name, reduced):
    net, params, inputs = NETWORKS[name]()
    check = check_with_ngspice(net, params, inputs=inputs, reduced=reduced)
    assert np.abs(check.ours).max() > 0.5
    assert check.error < 1e-4
    assert "error" in repr(check)


def test_some_diodes_of_these_networks_conduct():
    for make in NETWORKS.values():
        net, params, inputs = make()
        found = qp.equilibrate(net, params, inputs=inputs)
        held = found.stats.get("conducting", np.sum(found.state.position == 0))
        assert 0 < held < 14


@needs_ngspice
@pytest.mark.parametrize("name", ["amplified", "any graph"])
def test_the_error_is_linear_in_the_emission_coefficient(name):
    net, params, inputs = NETWORKS[name]()
    emissions = [1e-4, 1e-3, 1e-2]
    errors = [check_with_ngspice(net, params, inputs=inputs, diode=DiodeModel(n)).error for n in emissions]
    slope = np.polyfit(np.log(emissions), np.log(errors), 1)[0]
    assert slope == pytest.approx(1, abs=0.1)


@needs_ngspice
def test_a_circuit_without_operating_point_is_an_error(monkeypatch):
    net, params, inputs = NETWORKS["any graph"]()
    monkeypatch.setattr("qeqprop.classical.spice.Circuit.netlist", lambda *_: "nothing\n.end\n")
    with pytest.raises(RuntimeError, match="no operating point"):
        check_with_ngspice(net, params, inputs=inputs)


def test_missing_ngspice_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(RuntimeError, match="apt-get install ngspice"):
        check_with_ngspice(*layered()[:2])


def test_netlists_hold_every_element(tmp_path):
    net, params, inputs = layered(voltage_gain=4.0)
    text = to_spice(net, params, tmp_path / "net.cir", inputs=inputs).read_text()
    counts = {kind: len(re.findall(rf"^{kind}\d", text, re.M)) for kind in ("VS", "R", "D", "E", "VP", "F")}
    assert counts == {"VS": 8, "R": 8 * 8 + 8 * 6 + 6 * 3, "D": 14, "E": 14, "VP": 14, "F": 14}
    reduced = circuit_of(net, params, inputs, reduced=True)
    assert len(reduced.resistors) == 8 + 8 * 6 + 6 * 3
    assert len(reduced.sources) == 8


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda path: to_spice(qp.TransverseFieldIsing(2, [(0, 1)]), {}, path),
            TypeError,
            "must be a ResistiveNetwork",
        ),
        (lambda path: to_spice(*layered()[:2], path, inputs=np.ones((2, 4))), ValueError, "of one sample"),
        (lambda path: to_spice(*layered()[:2], path, diode=DiodeModel(emission=0.0)), ValueError, "positive, finite"),
        (
            lambda path: to_spice(ResistiveNetwork(2, [(0, 1)], sources=[0]), {"g": [-1.0]}, path),
            ValueError,
            "negative",
        ),
    ],
)
def test_errors_teach(make, error, message, tmp_path):
    with pytest.raises(error, match=message):
        make(tmp_path / "net.cir")
