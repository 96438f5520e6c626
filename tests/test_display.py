"""What Jupyter shows: the facts, escaped, from shapes and sizes alone."""

import re
import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import qeqprop as qp

CHAIN = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)], input_sites=[0])
PARAMS = {"J": [1.0, 0.8], "h": [0.1, 0.2, 0.3], "g": [1.0, 1.0, 1.0]}


def shown(value: object) -> dict[str, str]:
    """The table as a dict, from markup that parses."""
    root = ET.fromstring(value._repr_html_())  # type: ignore[attr-defined]
    return {str(row[0].text): str(row[1].text) for row in root.iter("tr")}


def test_a_system_shows_sites_parameters_and_inputs():
    rows = shown(CHAIN)
    assert rows["sites"] == "3"
    assert rows["parameters"] == "J (2,), h (3,), g (3,)"
    assert rows["memory of the parameters"] == "64.0 B"
    assert rows["inputs"] == "(1,)"
    assert "batch" not in rows
    assert shown(CHAIN.with_inputs(np.zeros((5, 1))))["batch"] == "5"


@pytest.mark.parametrize(
    "system",
    [
        qp.HarmonicNetwork(3, [(0, 1), (1, 2)]),
        qp.SpinNetwork(2, {"a": [qp.Z(0) * qp.X(1)]}),
        qp.OperatorSystem({"a": [np.diag([1.0, -1.0])]}),
        qp.classical.Ising(3, [(0, 1)]),
    ],
    ids=lambda system: type(system).__name__,
)
def test_every_kind_of_system_shows_itself(system: object):
    assert type(system).__name__ in system._repr_html_()  # type: ignore[attr-defined]
    assert shown(system)["parameters"]


def test_a_large_network_is_shown_at_once():
    net = qp.TransverseFieldIsing(40, [(i, j) for i in range(40) for j in range(i)])
    times = []
    for _ in range(5):
        began = time.perf_counter()
        net._repr_html_()
        times.append(time.perf_counter() - began)
    assert min(times) < 0.01


def test_results_show_status_and_memory():
    ground = qp.equilibrate(CHAIN, PARAMS)
    rows = shown(ground)
    assert rows["status"] == "ok"
    assert float(rows["gap"]) == pytest.approx(float(ground.gap), rel=1e-5)
    assert rows["energy"] == str(ground.energy)
    assert re.fullmatch(r"[\d.]+ [KMG]?i?B", rows["memory of the state"])
    out = shown(qp.ep_gradient(CHAIN, PARAMS, qp.ObservableCost(qp.Z(2)), scheme=qp.centered(1e-3)))
    assert (out["status"], out["scheme"], out["solver"]) == ("ok", "centered(0.001)", "ExactDiagonalization")
    assert float(out["beta*||C||/gap"]) > 0


def test_a_batch_shows_its_length():
    batch = qp.equilibrate(CHAIN, PARAMS, inputs=np.zeros((4, 1)))
    assert shown(batch)["energy"] == "of a batch of 4"


def test_a_training_shows_where_it_began_and_ended():
    data = (np.array([[0.5], [-0.5]]), np.array([[1.0], [-1.0]]))
    cost = qp.ExpectationCost([qp.Z(2)], qp.squared_error)
    history = qp.fit(CHAIN, CHAIN.init_params(0), cost, data, epochs=2, progress=False)
    rows = shown(history)
    assert rows["loss"].startswith(f"{history.loss[0]:.4g} -> ")
    assert rows["steps"] == str(history.loss.size)
    assert "metric" not in rows
