"""Wrong arguments of the entry functions: refused before any work, in words that teach."""

import numpy as np
import pytest
import qutip

import qeqprop as qp
from qeqprop.core.memory import available_memory

from .chains import QUBIT, Z0, chain, uniform

# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"h": [np.nan, 0.0]}, ValueError, r"`h` must be finite, but is nan at index \(0,\)"),
        ({"g": [0.0, -np.inf]}, ValueError, r"`g` must be finite, but is -inf at index \(1,\)"),
        ({"J": [1.0, 2.0]}, ValueError, r"`J` must have shape \(1,\), but has shape \(2,\)"),
        ({"J": 1.0}, ValueError, r"`J` must have shape \(1,\), but has shape \(\)"),
        ({"h": [1j, 0.0]}, TypeError, "`h` must hold real numbers, but has dtype complex128"),
        ({"h": ["a", "b"]}, TypeError, "`h` must hold real numbers, but has dtype <U1"),
        ({"h": [True, False]}, TypeError, "`h` must hold real numbers, but has dtype bool"),
        ({"K": [1.0]}, ValueError, r"must have the names \['J', 'h', 'g'\], but also has \['K'\]"),
        ({"h": None}, ValueError, r"must have the names \['J', 'h', 'g'\], but lacks \['h'\]"),
    ],
    ids=["nan", "inf", "shape", "scalar", "complex", "text", "bool", "unknown", "missing"],
)  # fmt: skip
@pytest.mark.parametrize("entry", [qp.ep_gradient, qp.finite_difference, qp.linear_response, qp.equilibrate, qp.fit])
def test_bad_parameters_are_refused(entry, changes, error, message):
    params = {name: value for name, value in (uniform(2) | changes).items() if value is not None}
    nudge = () if entry is qp.equilibrate else (Z0,)
    with pytest.raises(error, match=message):
        entry(chain(2), params, *nudge)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((chain(2), [1.0], Z0), {}, TypeError, "`params` must be a dict of arrays, but is list"),
        (("chain", uniform(2), Z0), {}, TypeError, "`system` must be a qeqprop system, but is "),
        ((chain(2), uniform(2), qp.Z(0)), {}, TypeError, "`nudge` must be a qeqprop nudge, but is PauliSum"),
        ((chain(2), uniform(2), Z0), {"scheme": "centered"}, TypeError, "`scheme` must be a qeqprop scheme"),
        ((chain(2), uniform(2), Z0), {"scheme": qp.centered}, TypeError, "`scheme` must be a qeqprop scheme"),
        ((chain(2), uniform(2), Z0), {"solver": "exact"}, TypeError, "`solver` must be a qeqprop solver, but is "),
        ((chain(2), uniform(2), Z0), {"beta": 0.1}, TypeError, "beta"),
        ((chain(2), uniform(2), Z0), {"key": 3}, ValueError, "`key` must be None"),
        ((chain(2), uniform(2), Z0, 1.0), {}, ValueError, "`target` must be None for an ObservableCost"),
        ((chain(2), uniform(2), Z0), {"inputs": [1.0]}, ValueError, "`inputs` must be None: this network has no input"),
        ((chain(2), uniform(2), qp.ObservableCost(qp.Z(2))), {}, ValueError, "site 2, but the system has n_sites=2"),
        ((chain(2), uniform(2), qp.ObservableCost(qp.MatrixOperator(np.eye(4)))), {}, TypeError, "Pauli sums"),
        ((QUBIT, {"a": [1.0, 1.0]}, Z0), {}, TypeError, "measure it with a MatrixOperator"),
        ((QUBIT, {"a": [1.0, 1.0]}, qp.ObservableCost(qp.MatrixOperator(np.eye(3)))), {}, ValueError, "dimension 3"),
    ],
    ids=["params", "system", "nudge", "scheme name", "scheme function", "solver", "unknown option", "key", "target",
         "inputs", "site", "matrix on spins", "spins on matrix", "dimension"],
)  # fmt: skip
@pytest.mark.parametrize("scheme", [None, qp.LinearResponse()], ids=["default", "response"])
def test_bad_arguments_are_refused(arguments, options, error, message, scheme):
    with pytest.raises(error, match=message):
        qp.ep_gradient(*arguments, **({"scheme": scheme} | options))


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (None, ValueError, "`target` must be given for an ExpectationCost"),
        ([[0.5]], ValueError, r"batch axis of `inputs` first, of length 2, but has shape \(1, 1\)"),
        (0.5, ValueError, r"batch axis of `inputs` first, of length 2, but has shape \(\)"),
        ([[0.5], [np.nan]], ValueError, "`target` must be finite"),
        ([["a"], ["b"]], TypeError, "`target` must hold numbers"),
    ],
    ids=["missing", "too short", "scalar", "nan", "text"],
)
def test_bad_targets_are_refused(target, error, message):
    network = qp.TransverseFieldIsing(2, [(0, 1)], input_sites=[0])
    with pytest.raises(error, match=message):
        qp.ep_gradient(network, uniform(2), qp.ExpectationCost([qp.Z(1)]), target, inputs=[[0.5], [0.3]])


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([0.1, 0.2, 0.3], ValueError, r"must have shape \(2,\) or \(batch, 2\), but has shape \(3,\)"),
        (np.zeros((3, 1)), ValueError, r"but has shape \(3, 1\)"),
        (np.zeros((2, 2, 2)), ValueError, r"but has shape \(2, 2, 2\)"),
        (np.zeros((0, 2)), ValueError, r"but has shape \(0, 2\)"),
        ([0.1, np.nan], ValueError, "`inputs` must be finite"),
        ([0.1, 1j], TypeError, "`inputs` must hold real numbers"),
    ],
    ids=["length", "width", "axes", "empty", "nan", "complex"],
)
@pytest.mark.parametrize(
    "system",
    [
        qp.TransverseFieldIsing(2, [(0, 1)], input_sites=[0, 1]),
        qp.OperatorSystem({"a": [np.eye(2)]}, inputs=[np.eye(2), np.eye(2)]),
    ],
    ids=["spins", "matrices"],
)
def test_bad_inputs_are_refused(system, inputs, error, message):
    with pytest.raises(error, match=message):
        system.with_inputs(inputs)


@pytest.mark.parametrize(
    ("observable", "error", "message"),
    [
        (1j * qp.Z(0), ValueError, "`observable` must be Hermitian"),
        (np.eye(2), TypeError, "must be an observable such as qp.Z"),
        (qutip.sigmaz(), TypeError, "must be an observable such as qp.Z"),
        ("Z0", TypeError, "must be an observable such as qp.Z"),
    ],
    ids=["imaginary", "array", "Qobj", "text"],
)
def test_bad_observables_are_refused(observable, error, message):
    with pytest.raises(error, match=message):
        qp.ObservableCost(observable)


def test_bad_expectation_costs_are_refused():
    with pytest.raises(TypeError, match="`observables` must be a non-empty list"):
        qp.ExpectationCost(qp.Z(0))
    with pytest.raises(TypeError, match="`observables` must be a non-empty list"):
        qp.ExpectationCost([])
    with pytest.raises(TypeError, match="`loss` must be callable, but is str"):
        qp.ExpectationCost([qp.Z(0)], "squared")


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [40, 60, 62])
def test_too_many_spins_are_refused_before_anything_is_allocated(n):
    before = available_memory()
    with pytest.raises(MemoryError, match=rf"{n} spins .* needs .* but only .* may be used. Use fewer sites"):
        qp.ep_gradient(chain(n), uniform(n, h=0.1), Z0)
    assert available_memory() > before - 2**30


def test_memory_limit_of_the_solver():
    with pytest.raises(MemoryError, match=r"only 1.0 KiB may be used"):
        qp.equilibrate(chain(16), uniform(16), solver=qp.ExactDiagonalization(memory=1024))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tolerance": 0.0}, ValueError, "`tolerance` must lie between 1e-14 and 1"),
        ({"tolerance": 1.5}, ValueError, "`tolerance` must lie between 1e-14 and 1"),
        ({"max_iterations": 0}, ValueError, "`max_iterations` must be at least 1"),
        ({"max_iterations": 10.0}, TypeError, "`max_iterations` must be an integer"),
        ({"memory": -1}, ValueError, "`memory` must be at least 1"),
        ({"threads": 0}, ValueError, "`threads` must be at least 1"),
        ({"tol": 1e-8}, TypeError, "tol"),
    ],
    ids=str,
)
def test_bad_solver_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        qp.ExactDiagonalization(**options)
