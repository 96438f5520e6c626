"""Where gradients go wrong in silence: each trap, and the error, status or warning that the user sees."""

import os
import subprocess
import sys
from typing import ClassVar

import equinox as eqx
import numpy as np
import pytest
import qutip

import qeqprop as qp
from qeqprop.core.memory import available_memory
from qeqprop.core.solver import AbstractSolver, Equilibrium
from qeqprop.quantum import heisenberg, xxz

from ..registry import BY_NAME, deviation, norm
from .chains import chain, uniform

Z0 = qp.ObservableCost(qp.Z(0))
QUBIT = qp.OperatorSystem({"a": [np.array([[0, 1], [1, 0]]), np.diag([1.0, -1.0])]})

# --- vacuous zeros ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "params", "cost"),
    [
        (chain(4), uniform(4, h=0.1), qp.Y(0)),
        (xxz(3, [(0, 1)]), {"Jxy": [0.5], "Jz": [0.2], "h": [1.0, 0.7, 0.4]}, qp.Z(0) + qp.Z(1) + qp.Z(2)),
        (chain(6), uniform(6, h=0.2), 3.0 * qp.identity()),
    ],
    ids=["time reversal", "conserved", "constant"],
)
@pytest.mark.parametrize("scheme", [None, qp.centered(1e-3)], ids=["default", "centered"])
def test_vanishing_gradient_never_agrees(system, params, cost, scheme):
    """Every estimator finds zeros where a symmetry makes them."""
    check = qp.check_gradient(system, params, qp.ObservableCost(cost), scheme=scheme)
    assert norm(check.ep.grad) < 1e-6
    assert check.vanishes
    assert not check.agrees
    assert "VANISHES within its errors" in repr(check)
    assert "AGREES" not in repr(check)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_cost_that_has_the_ground_state_as_eigenvector(n):
    """The energy itself as a cost: the response is zero and found, not an unconverged equation."""
    params = uniform(n, h=0.2)
    energy = sum((-0.2 * qp.Z(i) - qp.X(i) for i in range(n)), qp.PauliSum())
    energy = energy - sum((qp.Z(i) * qp.Z(i + 1) for i in range(n - 1)), qp.PauliSum())
    out = qp.linear_response(chain(n), params, qp.ObservableCost(energy + 5.0))
    assert float(out.loss) == pytest.approx(float(out.free.energy) + 5.0, abs=1e-9)
    assert norm(out.grad) < 1e-8


def test_parity_hides_couplings_not_fields():
    """Without a longitudinal field d<Z>/dJ = 0 by parity, d<Z>/dh is not."""
    check = qp.check_gradient(chain(4), uniform(4), Z0)
    assert norm({"J": check.ep.grad["J"], "g": check.ep.grad["g"]}) < 1e-8
    assert norm({"h": check.ep.grad["h"]}) > 1
    assert check.agrees


def test_check_gradient_tells_a_wrong_gradient():
    """A nudge far too large for its declared formula, and a stencil that reports no error: disagreement."""
    case = BY_NAME["two-spin TFIM"]
    bare = qp.Stencil("bare", strengths=(0.05, 0.0), weights=(20.0, -20.0), order=1)
    check = qp.check_gradient(*case.problem, scheme=bare)
    assert not check.agrees
    assert "DISAGREES" in repr(check)
    assert set(check.references) == {"linear response", "finite differences"}
    assert qp.check_gradient(*case.problem).agrees


def test_check_gradient_on_some_components():
    case = BY_NAME["all-to-all random"]
    check = qp.check_gradient(*case.problem, components={"J": [0, 14], "g": [(3,)]})
    differences = check.references["finite differences"].grad
    assert check.agrees
    assert np.flatnonzero(~np.isnan(differences["J"])).tolist() == [0, 14]
    assert np.all(np.isnan(differences["h"]))
    with pytest.raises(ValueError, match=r"must have names among \['J', 'h', 'g'\], but also has \['K'\]"):
        qp.check_gradient(*case.problem, components={"K": [0]})


# --- small gap, large nudge, degeneracy -------------------------------------------------------------------------------


def test_small_gap():
    """8 spins at g = 0.5: the gap is 5.9e-3, the response is hundreds, and beta = 0.1 sees a few per cent of it."""
    network, params, cost = chain(8), uniform(8, g=0.5), qp.ObservableCost(qp.Z(3))
    response = qp.linear_response(network, params, cost)
    assert float(response.free.gap) == pytest.approx(5.86e-3, rel=1e-2)
    step = 1e-5
    moved = {sign: {**params, "h": params["h"] + sign * step * np.eye(8)[3]} for sign in (1, -1)}
    expect = {sign: float(qp.equilibrate(network, p).state.expect(qp.Z(3))) for sign, p in moved.items()}
    assert response.grad["h"][3] == pytest.approx((expect[1] - expect[-1]) / (2 * step), rel=1e-3)
    assert response.grad["h"][3] > 250
    with pytest.raises(qp.EquilibriumError, match=r"beta\*\|\|C\|\|/gap = 17.*above 0.5.*Use a smaller beta") as error:
        qp.ep_gradient(network, params, cost, scheme=qp.centered(0.1))
    assert error.value.status is qp.Status.NUDGE_TOO_LARGE
    out = qp.ep_gradient(network, params, cost, scheme=qp.centered(0.1), throw=False)
    assert out.status is qp.Status.NUDGE_TOO_LARGE
    assert out.nudge_ratio == pytest.approx(0.1 / float(response.free.gap), rel=1e-6)
    assert deviation(out.grad, response.grad) > 0.9, "this nudge is too large to see the response"
    default = qp.ep_gradient(network, params, cost)
    assert default.status is qp.Status.OK
    assert deviation(default.grad, response.grad) < 1e-5


def test_warning_band():
    network, params = chain(4), uniform(4, h=0.1)
    gap = float(qp.equilibrate(network, params).gap)
    with pytest.warns(qp.NudgeWarning, match=r"beta\*\|\|C\|\|/gap = 0.3.*linear_response"):
        out = qp.ep_gradient(network, params, Z0, scheme=qp.centered(0.3 * gap))
    assert out.status is qp.Status.LARGE_NUDGE
    assert not out.status.failed
    assert qp.ep_gradient(network, params, Z0, scheme=qp.centered(0.09 * gap)).status is qp.Status.OK


def test_identity_part_of_the_cost_does_not_count_as_a_nudge():
    """(Z - y)^2 = 1 + y^2 - 2 y Z: only the Z moves the state."""
    network, params = chain(3), uniform(3, h=0.3)
    plain, shifted = (
        qp.ep_gradient(network, params, qp.ObservableCost(cost), scheme=qp.centered(0.02))
        for cost in (qp.Z(0), qp.Z(0) + 100.0)
    )
    assert shifted.nudge_ratio == pytest.approx(plain.nudge_ratio)
    assert deviation(shifted.grad, plain.grad) < 1e-9


@pytest.mark.parametrize(
    ("system", "params"),
    [
        (chain(4), uniform(4, g=1e-3)),
        (chain(8), uniform(8, g=1e-2)),
        (chain(4), uniform(4, g=0.0)),
        (heisenberg(3, [(0, 1), (1, 2)]), {"J": [1.0, 0.7]}),
        (heisenberg(5, [(i, i + 1) for i in range(4)]), {"J": [1.0, 0.7, 0.9, 1.2]}),
        (qp.SpinNetwork(3, {"a": [qp.X(0) * qp.Y(1), qp.Y(1) * qp.Z(2), qp.Z(0) * qp.X(2)]}), {"a": [1.0, 0.7, 0.5]}),
        (chain(6), uniform(6, 0.0, 0.0, 0.0)),
        (QUBIT, {"a": [0.0, 0.0]}),
    ],
    ids=["two-fold", "two-fold 8", "classical", "Kramers", "Kramers 5", "Kramers complex", "zero", "matrix"],
)  # fmt: skip
def test_degenerate_ground_state_is_refused(system, params):
    with pytest.raises(qp.EquilibriumError, match="symmetry-breaking field") as error:
        qp.equilibrate(system, params)
    assert error.value.status is qp.Status.DEGENERATE
    assert qp.equilibrate(system, params, throw=False).status is qp.Status.DEGENERATE
    cost = Z0 if system is not QUBIT else qp.ObservableCost(qp.MatrixOperator(np.diag([1.0, -1.0])))
    for scheme in (None, qp.LinearResponse(), qp.centered(1e-3)):
        with pytest.raises(qp.EquilibriumError, match="degenerate"):
            qp.ep_gradient(system, params, cost, scheme=scheme)


def test_a_small_field_lifts_the_degeneracy():
    assert qp.equilibrate(chain(4), uniform(4, g=1e-3, h=0.05)).status is qp.Status.OK


def test_one_degenerate_sample_is_the_status_of_the_batch():
    network = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)], input_sites=[0])
    params = uniform(3, g=1e-4)
    assert qp.equilibrate(network, params, inputs=[[0.5], [0.0], [0.4]], throw=False).status is qp.Status.DEGENERATE
    assert qp.equilibrate(network, params, inputs=[[0.5], [0.3], [0.4]]).status is qp.Status.OK


def test_level_crossing_between_the_phases_is_seen():
    """Z is conserved: at beta > h - J the nudged ground state is another one, with zero overlap."""
    network = qp.SpinNetwork(2, {"h": [-qp.Z(0), -qp.Z(1)]})
    out = qp.ep_gradient(network, {"h": [0.5, 1.0]}, Z0, scheme=qp.one_sided(2.0), throw=False)
    assert out.status >= qp.Status.NUDGE_TOO_LARGE
    jumped = qp.equilibrate(network, {"h": [0.5, 1.0]})
    term = Z0.term(jumped.state, None)
    nudged = qp.equilibrate(network.nudged(term, 2.0), {"h": [0.5, 1.0]}, init=jumped, throw=False)
    assert nudged.status is qp.Status.BRANCH_JUMP


# --- unconverged, not finite ------------------------------------------------------------------------------------------


def test_unconverged_solve_is_refused():
    network, params, lazy = chain(8), uniform(8, h=0.1), qp.ExactDiagonalization(max_iterations=1)
    with pytest.raises(qp.EquilibriumError, match="Raise `max_iterations`") as error:
        qp.ep_gradient(network, params, Z0, solver=lazy)
    assert error.value.status is qp.Status.UNCONVERGED
    with pytest.raises(qp.EquilibriumError, match="unconverged: residual = "):
        qp.equilibrate(network, params, solver=lazy)
    for scheme in (None, qp.LinearResponse(), qp.centered(1e-3)):
        out = qp.ep_gradient(network, params, Z0, solver=lazy, scheme=scheme, throw=False)
        assert out.status is qp.Status.UNCONVERGED
        assert out.residual > 0.1
    check = qp.equilibrate(network, params, solver=lazy, throw=False)
    assert float(check.residual) > 0.1
    assert np.all(np.isfinite(check.state.amplitudes))


def test_huge_numbers_are_not_finite():
    with pytest.raises(qp.EquilibriumError, match="Check the scale of the parameters") as error:
        qp.equilibrate(chain(6), uniform(6, 1e200, 1e200, 1e200))
    assert error.value.status is qp.Status.NOT_FINITE


@pytest.mark.parametrize("n", [3, 6])
def test_large_units_converge_to_rounding(n):
    """A residual of 1e-10 cannot be had at couplings of 1e6: rounding is the bound, not the tolerance."""
    plain, scaled = (qp.linear_response(chain(n), uniform(n, c, 0.1 * c, c), Z0) for c in (1.0, 1e6))
    assert scaled.status is qp.Status.OK
    assert deviation({k: 1e6 * v for k, v in scaled.grad.items()}, plain.grad) < 1e-7


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
        (("chain", uniform(2), Z0), {}, TypeError, "`system` must be a qeqprop system, but is str"),
        ((chain(2), uniform(2), qp.Z(0)), {}, TypeError, "`nudge` must be a qeqprop nudge, but is PauliSum"),
        ((chain(2), uniform(2), Z0), {"scheme": "centered"}, TypeError, "`scheme` must be a qeqprop scheme"),
        ((chain(2), uniform(2), Z0), {"scheme": qp.centered}, TypeError, "`scheme` must be a qeqprop scheme"),
        ((chain(2), uniform(2), Z0), {"solver": "exact"}, TypeError, "`solver` must be a qeqprop solver, but is str"),
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


# --- what an observable of a square is --------------------------------------------------------------------------------


def test_square_of_the_operator_is_not_square_of_the_expectation():
    """C = (Z - y)^2 is linear in Z, because Z^2 = 1; (<Z> - y)^2 is not. Both exist and differ by tens of per cent."""
    network, params, y = chain(3), uniform(3, h=0.2), 0.9
    linear = qp.linear_response(network, params, qp.ObservableCost((qp.Z(0) - y) ** 2))
    square = qp.linear_response(network, params, qp.ExpectationCost([qp.Z(0)]), [y])
    z = qp.linear_response(network, params, Z0)
    assert deviation(linear.grad, {n: -2 * y * v for n, v in z.grad.items()}) < 1e-9
    assert deviation(square.grad, {n: 2 * (float(z.loss) - y) * v for n, v in z.grad.items()}) < 1e-9
    assert deviation(linear.grad, square.grad) > 0.1


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


# --- solvers that cannot ----------------------------------------------------------------------------------------------


class RealOnly(AbstractSolver):
    """Exact diagonalisation without linear response, complex nudges and batches."""

    exact: qp.ExactDiagonalization = eqx.field(default_factory=qp.ExactDiagonalization)
    name: ClassVar[str] = "RealOnly"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def solve(self, system, params, *, init=None, key=None) -> Equilibrium:
        return self.exact.solve(system, params, init=init)

    def respond(self, system, params, equilibrium, term, *, tolerance):
        raise NotImplementedError

    def default_scheme(self, free, term):
        return qp.centered(1e-3)

    def extrapolate(self, phases, strength):
        return phases[0.0]

    def accepts_batch(self, system):
        return False


def test_capabilities_are_checked_before_any_work():
    case = BY_NAME["two-spin TFIM"]
    with pytest.raises(
        ValueError, match=r"RealOnly cannot follow complex nudges, which holomorphic\(0.1, n_points=8\)"
    ):
        qp.ep_gradient(*case.problem, solver=RealOnly(), scheme=qp.holomorphic(0.1))
    with pytest.raises(ValueError, match="RealOnly has no linear response"):
        qp.linear_response(*case.problem, solver=RealOnly())
    cost = qp.ObservableCost(qp.MatrixOperator(np.diag([1.0, -1.0])))
    with pytest.raises(ValueError, match="cannot be nudged by a complex strength"):
        qp.ep_gradient(QUBIT, {"a": [1.0, 1.0]}, cost, scheme=qp.holomorphic(0.1))


def test_minimal_solver_works_with_everything_else():
    case = BY_NAME["input sites, batch"]
    out = qp.ep_gradient(*case.problem, inputs=case.inputs, solver=RealOnly())
    assert deviation(out.grad, case.exact.grad) < 1e-5
    assert out.losses.shape == (4,)
    check = qp.check_gradient(*case.problem, inputs=case.inputs, solver=RealOnly())
    assert check.agrees
    assert set(check.references) == {"finite differences"}
    with pytest.raises(ValueError, match="one sample at a time"):
        qp.equilibrate(case.system, case.params, inputs=case.inputs, solver=RealOnly())


@pytest.mark.parametrize("operator", ["X0", qp.X(0), np.eye(4)], ids=["text", "Pauli", "matrix"])
def test_exact_diagonalization_refuses_other_systems(operator):
    with pytest.raises((TypeError, ValueError)):
        qp.ExactDiagonalization().solve(operator, {})


# --- precision --------------------------------------------------------------------------------------------------------


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join(p for p in [os.getcwd(), os.environ.get("PYTHONPATH", "")] if p)
    env = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


def test_single_precision_is_refused():
    code = """
import qeqprop as qp
net = qp.TransverseFieldIsing(1, [])
params = {"J": [], "h": [0.6], "g": [0.8]}
qp.ep_gradient(net, params, qp.ExpectationCost([qp.Z(0)]), [0.0])
"""
    refused = run(code, JAX_ENABLE_X64="0")
    assert refused.returncode != 0
    assert "JAX_ENABLE_X64=0 forbids it" in refused.stderr
    assert run(code, JAX_ENABLE_X64="1").returncode == 0
