"""What Jupyter shows: the facts, escaped, from shapes and sizes alone."""

import re
import time
import tracemalloc
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


LARGE = qp.TransverseFieldIsing(40, [(i, j) for i in range(40) for j in range(i)])
MANY = {"J": np.linspace(0.1, 1.0, 780), "h": np.full(40, 0.3), "g": np.ones(40)}


@pytest.mark.parametrize("what", [LARGE, LARGE.pauli_sum(MANY)], ids=["network", "Hamiltonian"])
def test_what_has_2_to_the_40_levels_is_shown_at_once(what: object):
    """At most 10 ms of this process and 1 MB: no array over the levels, no solve."""
    times = []
    for _ in range(5):
        began = time.process_time()
        what._repr_html_()  # type: ignore[attr-defined]
        times.append(time.process_time() - began)
    assert min(times) < 0.01
    tracemalloc.start()
    try:
        what._repr_html_()  # type: ignore[attr-defined]
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_a_long_hamiltonian_is_a_table_and_a_short_one_its_formula():
    rows = shown(LARGE.pauli_sum(MANY))
    assert (rows["strings"], rows["sites"]) == ("860", "40")
    assert rows["memory of a state vector"] == "8.0 TiB"
    assert rows["terms"].startswith("-0.3 * Z0 - 0.3 * Z1 - 0.1 * Z0 Z1")
    assert rows["terms"].endswith(" + 854 more")
    assert qp.Z(0)._repr_html_() is None
    assert "Z" in qp.Z(0)._repr_latex_()


def test_states_show_what_they_hold_and_how_much_of_it():
    ground = qp.equilibrate(CHAIN, PARAMS)
    rows = shown(ground.state)
    assert (rows["sites"], rows["amplitudes"], rows["memory"]) == ("3", "(8,) float64", "64.0 B")
    chain = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)])
    thermal = shown(qp.equilibrate(chain, PARAMS, solver=qp.GibbsState(1.0)).state)
    assert (thermal["temperature"], thermal["vectors"]) == ("1.0", "(8, 8) float64")
    springs = qp.HarmonicNetwork(2, [(0, 1)])
    assert float(shown(qp.equilibrate(springs, springs.init_params(0)).state)["memory"].split()[0]) > 0
    net = qp.classical.FlowNetwork(3, [(0, 1), (1, 2)], driven=[0], grounded=[2])
    resting = qp.equilibrate(net, {"k": [1.0, 2.0]}, inputs=[1.0], solver=net.default_solver())
    assert shown(resting.state)["memory"].endswith(" B")


def test_every_state_that_can_be_saved_shows_itself():
    from importlib import import_module

    from qeqprop.storage import _CLASSES

    classes = {name: getattr(import_module(f"qeqprop.{module}"), name) for name, module in _CLASSES.items()}
    states = {name: cls for name, cls in classes.items() if hasattr(cls, "expect_all")}
    assert len(states) > 12
    assert [name for name, cls in states.items() if not hasattr(cls, "_repr_html_")] == []


def test_checks_and_response_matrices_show_their_verdict_and_size():
    chain = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)])
    check = shown(qp.check_gradient(chain, PARAMS, qp.ObservableCost(qp.Z(2))))
    assert (check["verdict"], check["status"], check["parameters"]) == ("agrees", "ok", "J (2,), h (3,), g (3,)")
    assert float(check["distance from linear response"].split()[0]) < 1e-5
    matrix = qp.response_matrix(chain, PARAMS, [qp.Z(0), qp.Z(2)])
    rows = shown(matrix)
    assert (rows["observables"], rows["parameters"], rows["status"]) == ("2", "J (2,), h (3,), g (3,)", "ok")
    assert rows["memory"] == f"{3 * 2 * 8 * 8:.1f} B"


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
