"""Gibbs states against matrix exponentials: values, gradients in every way, limits, and what they are not."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import qeqprop as qp
from qeqprop.quantum import thermal

from ..measures import deviation, norm
from ..oracle import Case, difference_quotient, name_of, on
from ..registry import BATCHED_CASES, BY_NAME, CASES

each_case = pytest.mark.parametrize("case", CASES, ids=name_of)
each_temperature = pytest.mark.parametrize("temperature", [0.4, 2.0])


def density(matrix: np.ndarray, temperature: float) -> np.ndarray:
    """exp(-H/T) / Z by the matrix exponential."""
    shifted = matrix - np.eye(len(matrix)) * np.linalg.eigvalsh(matrix)[0]
    weights = scipy.linalg.expm(-shifted / temperature)
    return weights / np.trace(weights)


def exact_loss(case: Case, params: dict[str, np.ndarray], temperature: float) -> float:
    losses = []
    for x, y in [(None, case.target)] if case.inputs is None else case._samples():
        rho = density(case.hamiltonian(params, x), temperature)
        losses.append(case.loss(np.array([np.trace(rho @ o).real for o in case.observables]), y))
    return float(np.mean(losses))


def exact_grad(case: Case, temperature: float, most: int = 6) -> dict[str, np.ndarray]:
    """Differences of the loss of matrix exponentials; the first components of each name, NaN beyond."""
    grad = {name: np.full(value.shape, np.nan) for name, value in case.params.items()}
    for name, value in case.params.items():

        def loss(head: np.ndarray, name: str = name, value: np.ndarray = value) -> float:
            moved = np.concatenate([head, value[most:]])
            return exact_loss(case, case.params | {name: moved}, temperature)

        grad[name][:most] = difference_quotient(loss, value[:most], step=2e-3 * min(temperature, 1.0))
    return grad


# --- gradients --------------------------------------------------------------------------------------------------------


@each_case
@each_temperature
def test_every_scheme_is_right(case, temperature):
    solver = qp.GibbsState(temperature)
    expected = exact_grad(case, temperature)
    assert norm({name: np.nan_to_num(value) for name, value in expected.items()}) > 0.01

    response = qp.linear_response(*case.problem, inputs=case.inputs, solver=solver)
    assert response.status is qp.Status.OK
    assert float(response.loss) == pytest.approx(exact_loss(case, case.params, temperature), abs=1e-10)
    assert deviation(expected, response.grad) < 1e-8

    beta = 0.01 * temperature / max(np.linalg.norm(o, 2) for o in case.observables)
    nudged = qp.ep_gradient(*case.problem, inputs=case.inputs, solver=solver, scheme=qp.centered(beta))
    error = norm({name: value - response.grad[name] for name, value in nudged.grad.items()})
    residual = nudged.residual * np.sqrt(sum(value.size for value in nudged.grad.values()))
    assert error < 1e-2 * norm(response.grad)
    assert (
        error <= 10 * norm(nudged.truncation) + 3 * residual
    )  # measured: up to 5, where the cost itself responds more linearly
    default = qp.ep_gradient(*case.problem, inputs=case.inputs, solver=solver)
    assert deviation(default.grad, response.grad) < 1e-7


@pytest.mark.parametrize("name", ["chain with fields", "complex, with Y", "QuTiP spins", "a loss of one's own"])
def test_ep_response_and_finite_differences_agree(name):
    case = BY_NAME[name]
    solver = qp.GibbsState(0.5)
    response = qp.linear_response(*case.problem, solver=solver)
    assert deviation(qp.finite_difference(*case.problem, solver=solver, step=5e-3).grad, response.grad) < 1e-8
    assert (
        deviation(qp.ep_gradient(*case.problem, solver=solver, scheme=qp.richardson(5e-3)).grad, response.grad) < 1e-8
    )
    assert qp.check_gradient(*case.problem, solver=solver).agrees


@pytest.mark.parametrize(("scheme", "order"), [(qp.one_sided, 1), (qp.centered, 2), (qp.richardson, 4)])
def test_order_of_truncation(scheme, order):
    case, solver = BY_NAME["chain with fields"], qp.GibbsState(0.5)
    exact = qp.linear_response(*case.problem, solver=solver).grad
    betas = np.array([0.08, 0.04, 0.02]) * (4 if order == 4 else 1)
    errors = [deviation(qp.ep_gradient(*case.problem, solver=solver, scheme=scheme(b)).grad, exact) for b in betas]
    assert np.polyfit(np.log(betas), np.log(errors), 1)[0] == pytest.approx(order, abs=0.1), f"errors {errors}"


@pytest.mark.parametrize("case", BATCHED_CASES, ids=name_of)
def test_batch_is_the_mean_of_single_calls(case):
    solver = qp.GibbsState(0.7)
    batch = qp.linear_response(*case.problem, inputs=case.inputs, solver=solver)
    singles = [
        qp.linear_response(*case.problem[:3], y, inputs=x, solver=solver)
        for x, y in zip(case.inputs, case.target, strict=True)
    ]
    mean = {name: np.mean([out.grad[name] for out in singles], axis=0) for name in batch.grad}
    assert deviation(batch.grad, mean) < 1e-12


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chain with fields", "complex, with Y", "driven Jaynes-Cummings"])
@pytest.mark.parametrize("temperature", [1e-2, 1e-6])
def test_low_temperature_is_the_ground_state(name, temperature):
    case = BY_NAME[name]
    out = qp.linear_response(*case.problem, solver=qp.GibbsState(temperature))
    assert float(out.free.energy) == pytest.approx(case.exact.energies[0], abs=1e-9)
    assert out.free.stats["entropy"] < 1e-9
    assert deviation(out.grad, case.exact.grad) < 1e-9
    default = qp.ep_gradient(*case.problem, solver=qp.GibbsState(temperature))
    assert deviation(default.grad, case.exact.grad) < 1e-6


def test_high_temperature_expansion():
    """d<C>/dtheta_k -> -tr(C O_k) / (T dim)."""
    case, temperature = BY_NAME["chain with fields"], 1e4
    out = qp.linear_response(*case.problem, solver=qp.GibbsState(temperature))
    assert out.grad["g"][1] * temperature == pytest.approx(0.5, rel=1e-3)
    assert out.free.stats["entropy"] == pytest.approx(4 * np.log(2), rel=1e-6)


def test_one_spin_in_closed_form():
    """<Z> = (h/w) tanh(w/T), w = sqrt(h^2 + g^2); its derivative by h."""
    h, g, temperature = 0.6, 0.8, 0.5
    problem = qp.TransverseFieldIsing(1, []), {"J": [], "h": [h], "g": [g]}, qp.ObservableCost(qp.Z(0))
    out = qp.linear_response(*problem, solver=qp.GibbsState(temperature))
    t = np.tanh(1 / temperature)
    assert float(out.loss) == pytest.approx(h * t, rel=1e-14)
    assert out.grad["h"][0] == pytest.approx(g**2 * t + h**2 / temperature * (1 - t**2), rel=1e-13)
    assert out.grad["g"][0] == pytest.approx(-h * g * t + h * g / temperature * (1 - t**2), rel=1e-13)
    assert float(out.free.energy) == pytest.approx(-temperature * np.log(2 * np.cosh(1 / temperature)), rel=1e-14)


def test_degenerate_levels_are_no_obstacle():
    """A ring of three antiferromagnetic bonds without fields: six ground states, no gradient at T = 0, one at T > 0."""
    network = qp.TransverseFieldIsing(3, [(0, 1), (1, 2), (2, 0)])
    params = {"J": [-1.0, -1.0, -1.0], "h": [0.0, 0.0, 0.0], "g": [0.0, 0.0, 0.0]}
    cost = qp.ObservableCost(qp.Z(0) * qp.Z(1) + qp.X(0) + qp.Z(2))
    with pytest.raises(qp.EquilibriumError, match="degenerate"):
        qp.linear_response(network, params, cost)
    out = qp.linear_response(network, params, cost, solver=qp.GibbsState(0.3))
    differences = qp.finite_difference(network, params, cost, solver=qp.GibbsState(0.3), step=1e-3)
    assert norm(out.grad) > 1
    assert all(norm({name: value}) > 0.1 for name, value in out.grad.items())
    assert deviation(out.grad, differences.grad) < 1e-8


# --- what the response is not -----------------------------------------------------------------------------------------


def symmetrised_covariance(case: Case, temperature: float) -> dict[str, np.ndarray]:
    """-[<(A C + C A)/2> - <A><C>] / T: the classical rule, taken literally."""
    rho, (C,) = density(case.hamiltonian(case.params, None), temperature), case.observables
    zero = {name: np.zeros_like(value) for name, value in case.params.items()}
    grad = {name: np.zeros_like(value) for name, value in case.params.items()}
    for name, value in grad.items():
        for k in range(value.size):
            unit = {n: v.copy() for n, v in zero.items()}
            unit[name][k] = 1.0
            A = case.hamiltonian(unit, None) - case.hamiltonian(zero, None)
            symmetrised = np.trace(rho @ (A @ C + C @ A)).real / 2
            value[k] = -(symmetrised - np.trace(rho @ A).real * np.trace(rho @ C).real) / temperature
    return grad


def test_the_symmetrised_covariance_is_wrong():
    """By tens of per cent at T = 1, by an order of magnitude at low temperature; right where everything commutes."""
    case = BY_NAME["chain with fields"]
    for temperature, least in ((1.0, 0.1), (0.05, 10.0)):
        exact = qp.linear_response(*case.problem, solver=qp.GibbsState(temperature)).grad
        assert deviation(symmetrised_covariance(case, temperature), exact) > least
    classical = dataclasses.replace(
        case,
        params=case.params | {"g": np.zeros(4)},
        nudge=qp.ObservableCost(qp.Z(0) * qp.Z(3)),
        observables=(on(4, "Z0 Z3"),),
    )
    exact = qp.linear_response(*classical.problem, solver=qp.GibbsState(1.0)).grad
    assert norm({"J": exact["J"], "h": exact["h"]}) > 0.1
    assert deviation(symmetrised_covariance(classical, 1.0), exact) < 1e-12


# --- states and thermodynamics ----------------------------------------------------------------------------------------


@each_temperature
def test_free_energy_entropy_and_energy(temperature):
    case = BY_NAME["complex, with Y"]
    matrix = case.hamiltonian(case.params, None)
    rho = density(matrix, temperature)
    p = np.linalg.eigvalsh(rho)
    phase = qp.equilibrate(case.system, case.params, solver=qp.GibbsState(temperature))
    np.testing.assert_allclose(phase.state.density, rho, atol=1e-12)
    assert phase.stats["mean_energy"] == pytest.approx(np.trace(rho @ matrix).real, abs=1e-12)
    assert float(case.system.energy(case.params, phase.state)) == pytest.approx(phase.stats["mean_energy"], abs=1e-12)
    assert phase.stats["entropy"] == pytest.approx(-np.sum(p * np.log(p)), abs=1e-11)
    free = phase.stats["mean_energy"] - temperature * phase.stats["entropy"]
    assert float(phase.energy) == pytest.approx(free, abs=1e-12)
    assert float(phase.energy) == pytest.approx(
        -temperature * np.log(np.trace(scipy.linalg.expm(-matrix / temperature)).real), abs=1e-11
    )


def test_the_energy_of_an_equilibrium_is_the_functional_that_it_minimises():
    """dF/dbeta = <C>_beta, and dF/dtheta = <dE/dtheta>: what the truncation error rests on."""
    case, solver, step = BY_NAME["chain with fields"], qp.GibbsState(0.7), 1e-3
    free = qp.equilibrate(case.system, case.params, solver=solver)
    term = case.nudge.term(free.state, None)

    def slope(function: Any) -> float:
        return float(difference_quotient(lambda b: float(function(b[0])), np.zeros(1), step)[0])

    by_nudge = slope(lambda b: solver.solve(case.system.nudged(term, b), case.params).energy)
    assert by_nudge == pytest.approx(float(term.expect(free.state)), abs=1e-10)
    shift = np.eye(4)[2]
    by_field = slope(lambda b: solver.solve(case.system, case.params | {"g": case.params["g"] + b * shift}).energy)
    assert by_field == pytest.approx(case.system.param_grad(case.params, free.state).mean["g"][2], abs=1e-10)
    assert abs(by_field) > 0.1


def test_susceptibility_of_close_and_equal_levels():
    levels = np.array([0.0, 0.0, 1e-9, 1.0, 800.0])
    p = np.exp(-levels / 0.5)
    state = thermal.ThermalState(0, 0.5, levels, np.eye(5), p / p.sum(), np.diag(p / p.sum()))
    K = state.susceptibility()
    assert np.all(K <= 0)
    np.testing.assert_array_equal(K, K.T)
    np.testing.assert_allclose(np.diag(K), -state.probabilities / 0.5)
    assert K[0, 2] == pytest.approx(K[0, 0], rel=1e-8)
    assert K[0, 3] == pytest.approx((p[0] - p[3]) / p.sum() / -1.0, rel=1e-14)
    assert K[0, 4] == pytest.approx(-p[0] / p.sum() / 800, rel=1e-14)


def test_results_are_saved(tmp_path):
    out = qp.ep_gradient(*BY_NAME["complex, with Y"].problem, solver=qp.GibbsState(0.5))
    loaded = qp.load(qp.save(tmp_path / "gradient", out))
    assert repr(loaded) == repr(out)
    assert "GibbsState" in repr(out)
    assert float(loaded.free.state.expect(qp.Y(1))) == float(out.free.state.expect(qp.Y(1)))


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_refusals():
    with pytest.raises(ValueError, match=r"`temperature` must be positive and finite, but is 0\. At T = 0 use Exact"):
        qp.GibbsState(0)
    with pytest.raises(ValueError, match="must be positive and finite, but is nan"):
        qp.GibbsState(float("nan"))
    with pytest.raises(TypeError, match="`temperature` must be a real number, but is '1'"):
        qp.GibbsState("1")  # type: ignore[arg-type]
    solver = qp.GibbsState(1.0)
    large = qp.TransverseFieldIsing(13, [])
    params = {"J": [], "h": np.zeros(13), "g": np.ones(13)}
    with pytest.raises(ValueError, match=r"up to 12 spins .* has 13 spins: that would need 6\.0 GiB\. Use fewer sites"):
        qp.equilibrate(large, params, solver=solver)
    wide = qp.OperatorSystem({"a": [scipy.sparse.eye_array(5000)]})
    with pytest.raises(ValueError, match="but this system has dimension 5000"):
        qp.equilibrate(wide, {"a": [1.0]}, solver=solver)
    case = BY_NAME["two-spin TFIM"]
    with pytest.raises(ValueError, match=r"GibbsState cannot follow complex nudges.*use centered or richardson"):
        qp.ep_gradient(*case.problem, solver=solver, scheme=qp.holomorphic(0.1))
    state = qp.equilibrate(case.system, case.params, solver=solver).state
    with pytest.raises(TypeError, match="must be a Pauli sum or a MatrixOperator, not int"):
        state.expect(3)
    matrices = qp.equilibrate(BY_NAME["QuTiP spins"].system, BY_NAME["QuTiP spins"].params, solver=solver).state
    with pytest.raises(TypeError, match="has no sites: measure it with a MatrixOperator"):
        matrices.expect(qp.X(0))


def test_matrices_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr("qeqprop.core.memory.available_memory", lambda: 10_000)
    case = BY_NAME["all-to-all random"]
    with pytest.raises(MemoryError, match=r"The Gibbs state of a system of dimension 64 needs 384\.0 KiB"):
        qp.equilibrate(case.system, case.params, solver=qp.GibbsState(1.0))
