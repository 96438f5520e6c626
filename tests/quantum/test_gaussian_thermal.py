"""Harmonic networks at a temperature against matrix exponentials: values, gradients in every way, and the limits."""

import itertools
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import qeqprop as qp
from qeqprop.quantum import GaussianState
from qeqprop.quantum.gaussian_occupation import Occupation

from ..measures import deviation, norm
from ..oracle import difference_quotient

ALL = ("k", "l", "kappa", "f", "m")
EDGES = [(0, 1), (1, 2), (2, 3), (3, 0), (3, 1)]
COST = qp.ObservableCost((qp.R(2) - 0.5) ** 2 + 0.7 * qp.P(1) ** 2 + qp.R(0) * qp.R(3))
each_state = pytest.mark.parametrize(("hbar", "temperature"), [(1.0, 0.2), (0.3, 1.0), (1.0, 5.0), (0.0, 0.6)])


def network(hbar: float = 1.0, components: int = 1) -> tuple[Any, dict[str, np.ndarray]]:
    net = qp.HarmonicNetwork(4, EDGES, components=components, hbar=hbar, trainable=ALL)
    return net, net.init_params(7)


def stiffness(p: Any) -> np.ndarray:
    """K, spring by spring."""
    k = np.diag(p["kappa"]).astype(float)
    for e, (i, j) in enumerate(EDGES):
        x = np.eye(4)[i] - np.eye(4)[j]
        k += p["k"][e] * np.outer(x, x)
    return k


def covariances(p: Any, hbar: float, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """(hbar/2) S W^-1 coth(hbar W / 2T) S and (hbar/2) S^-1 W coth(hbar W / 2T) S^-1 with S = M^(-1/2)."""
    k, s = stiffness(p), np.diag(p["m"] ** -0.5)
    if not hbar:
        return temperature * np.linalg.inv(k), temperature * np.diag(p["m"])
    w = scipy.linalg.sqrtm(s @ k @ s).real
    grown = scipy.linalg.expm(hbar * w / temperature)
    coth = (grown + np.eye(4)) @ np.linalg.inv(grown - np.eye(4))
    back = np.linalg.inv(s)
    return 0.5 * hbar * s @ np.linalg.inv(w) @ coth @ s, 0.5 * hbar * back @ w @ coth @ back


def mean(p: Any) -> np.ndarray:
    force = np.array(p["f"], float)
    for e, (i, j) in enumerate(EDGES):
        force[[i, j]] += p["k"][e] * p["l"][e] * np.array([1, -1])
    return np.linalg.solve(stiffness(p), force)


def loss(p: Any, hbar: float, temperature: float) -> float:
    r, (rr, pp) = mean(p), covariances(p, hbar, temperature)
    return (r[2] - 0.5) ** 2 + rr[2, 2] + 0.7 * pp[1, 1] + r[0] * r[3] + rr[0, 3]


def exact_gradient(params: Any, hbar: float, temperature: float) -> dict[str, np.ndarray]:
    return {
        name: difference_quotient(lambda x, n=name: loss(params | {n: x}, hbar, temperature), value)
        for name, value in params.items()
    }


# ---- gradients ------------------------------------------------------------------------------------------------------


@each_state
def test_gradients_and_moments(hbar, temperature):
    net, params = network(hbar)
    solver = qp.GibbsState(temperature)
    exact = exact_gradient(params, hbar, temperature)
    assert all(norm({name: value}) > 0.01 for name, value in exact.items())
    out = qp.linear_response(net, params, COST, solver=solver)
    assert deviation(out.grad, exact) < 1e-9
    assert float(out.loss) == pytest.approx(loss(params, hbar, temperature), rel=1e-11)
    rr, pp = covariances(params, hbar, temperature)
    np.testing.assert_allclose(out.free.state.position_covariance, rr, atol=1e-11)
    np.testing.assert_allclose(out.free.state.momentum_covariance, pp, atol=1e-11)
    np.testing.assert_allclose(out.free.state.mean, mean(params), atol=1e-12)
    default = qp.ep_gradient(net, params, COST, solver=solver)
    assert isinstance(default.scheme, qp.LinearResponse)
    assert default.free.gap is None


@pytest.mark.parametrize("components", [1, 2])
@each_state
def test_ep_response_and_finite_differences_agree(hbar, temperature, components):
    net, params = network(hbar, components)
    solver = qp.GibbsState(temperature)
    response = qp.linear_response(net, params, COST, solver=solver).grad
    assert norm(response) > 0.1
    differences = qp.finite_difference(net, params, COST, solver=solver, step=2e-3).grad
    assert deviation(differences, response) < 1e-8
    nudged = qp.ep_gradient(net, params, COST, solver=solver, scheme=qp.richardson(2e-3))
    assert deviation(nudged.grad, response) < 1e-8
    assert nudged.status is qp.Status.OK


@pytest.mark.parametrize(("scheme", "order"), [(qp.one_sided, 1), (qp.centered, 2), (qp.richardson, 4)])
def test_order_of_truncation(scheme, order):
    net, params = network()
    solver = qp.GibbsState(0.5)
    exact = qp.linear_response(net, params, COST, solver=solver).grad
    betas = np.array([0.04, 0.02, 0.01]) * (2 if order == 4 else 1)
    outs = [qp.ep_gradient(net, params, COST, solver=solver, scheme=scheme(b)) for b in betas]
    errors = [deviation(out.grad, exact) for out in outs]
    assert np.polyfit(np.log(betas), np.log(errors), 1)[0] == pytest.approx(order, abs=0.1), f"errors {errors}"
    for out, error in zip(outs, errors, strict=True):
        assert error * norm(exact) <= 3 * norm(out.truncation)


def test_finite_nudge_is_the_exact_gradient_of_free_energy_differences():
    """One-sided EP at any beta is the gradient of [F(beta) - F(0)]/beta, and dF/dbeta = <C>: no limit is involved."""
    net, params = network(0.8)
    solver, beta = qp.GibbsState(0.6), 0.3
    term = COST.term(qp.equilibrate(net, params, solver=solver).state)

    def free_energy(p: Any, b: float) -> float:
        return float(solver.solve(net.nudged(term, b), p).energy)

    out = qp.ep_gradient(net, params, COST, solver=solver, scheme=qp.one_sided(beta))
    for name, value in params.items():
        quotient = difference_quotient(
            lambda x, n=name: (free_energy(params | {n: x}, beta) - free_energy(params | {n: x}, 0.0)) / beta, value
        )
        assert norm({name: quotient}) > 0.01
        np.testing.assert_allclose(out.grad[name], quotient, atol=1e-8)
    slope = difference_quotient(lambda b: free_energy(params, float(b[0])), np.zeros(1))[0]
    assert slope == pytest.approx(float(out.loss), abs=1e-9)


# ---- thermodynamics and limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hbar", "temperature"), [(1.0, 0.2), (0.3, 1.0), (1.0, 5.0)])
def test_free_energy_and_entropy(hbar, temperature):
    """F = T ln det 2 sinh(hbar W / 2T) + the energy of the means, S = -dF/dT."""
    net, params = network(hbar)

    def free(t: float) -> Any:
        return qp.equilibrate(net, params, solver=qp.GibbsState(t))

    k, r = stiffness(params), mean(params)
    omega = np.sqrt(scipy.linalg.eigvalsh(k, np.diag(params["m"])))
    offset = 0.5 * np.sum(params["k"] * params["l"] ** 2) - 0.5 * r @ k @ r
    state = free(temperature)
    exact = temperature * np.log(2 * np.sinh(hbar * omega / (2 * temperature))).sum() + offset
    assert float(state.energy) == pytest.approx(exact, abs=1e-11)
    entropy = -difference_quotient(lambda t: float(free(t[0]).energy), np.array([temperature]), 1e-3 * temperature)[0]
    assert float(state.stats["entropy"]) == pytest.approx(entropy, abs=1e-8)
    assert float(state.stats["mean_energy"]) == pytest.approx(exact + temperature * entropy, abs=1e-7)
    assert float(net.energy(params, state.state)) == pytest.approx(float(state.stats["mean_energy"]), abs=1e-12)


@pytest.mark.parametrize("temperature", [1e-2, 1e-8])
def test_low_temperature_is_the_ground_state(temperature):
    net, params = network()
    cold = qp.linear_response(net, params, COST, solver=qp.GibbsState(temperature))
    ground = qp.linear_response(net, params, COST)
    assert norm(ground.grad) > 0.1
    assert deviation(cold.grad, ground.grad) < 1e-12
    assert float(cold.free.energy) == pytest.approx(float(ground.free.energy), abs=1e-12)
    assert abs(float(cold.free.stats["entropy"])) < 1e-12


def test_high_temperature_is_classical():
    """hbar enters to second order in hbar omega / T; T K^-1 and T M are the classical covariances."""
    classical, params = network(0.0)
    deviations = []
    for temperature in (20.0, 40.0):
        solver = qp.GibbsState(temperature)
        ours = qp.linear_response(network(1.0)[0], params, COST, solver=solver)
        exact = qp.linear_response(classical, params, COST, solver=solver)
        deviations.append(deviation(ours.grad, exact.grad))
        shift = 4 * temperature * np.log(1.0 / 0.5)  # of the unit of phase space, 2 pi hbar
        half = qp.equilibrate(network(0.5)[0], params, solver=solver)
        assert float(half.energy) - float(ours.free.energy) == pytest.approx(-shift, rel=1e-2)
        assert float(ours.free.energy) == pytest.approx(float(exact.free.energy), rel=1e-2)
    assert deviations[0] < 1e-3
    assert deviations[0] / deviations[1] == pytest.approx(4, rel=0.05)


def test_small_hbar_is_classical():
    exact = qp.linear_response(*network(0.0), COST, solver=qp.GibbsState(0.6))
    ours = qp.linear_response(*network(1e-6), COST, solver=qp.GibbsState(0.6))
    assert norm(exact.grad) > 0.1
    assert deviation(ours.grad, exact.grad) < 1e-10


# ---- one mode -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 0.05, 1.0, 1e3])
def test_divided_differences(temperature):
    """Between any two frequencies, close ones and equal ones, against 80-digit arithmetic."""
    omega = np.array([1e-3, 0.7, 0.7 * (1 + 1e-9), 3.0, 3.0])

    def moment(w: Decimal, divided: bool) -> Decimal:
        planck = 1 / ((w / Decimal(temperature)).exp() - 1) if temperature else Decimal(0)
        action = planck + Decimal("0.5")
        return action / w if divided else action * w

    def exact(a: float, b: float, divided: bool) -> float:
        x, y = Decimal(a), Decimal(b) * (1 + Decimal("1e-30") * (a == b))
        return float((moment(x, divided) - moment(y, divided)) / (x**2 - y**2))

    spread, motion = Occupation(1.0, temperature).divided_differences(omega)
    with localcontext(prec=80):
        for (i, a), (j, b) in itertools.product(enumerate(omega), repeat=2):
            assert spread[i, j] == pytest.approx(exact(a, b, True), rel=1e-13)
            # a difference of two numbers of the size T / (w_a w_b), which leave hbar^2 / T
            scale = max(temperature, 1.0) / (a * b)
            assert motion[i, j] == pytest.approx(exact(a, b, False), rel=1e-12, abs=1e-15 * scale)


# ---- states and refusals --------------------------------------------------------------------------------------------


def test_result_is_saved_and_prints(tmp_path):
    net, params = network()
    out = qp.ep_gradient(net, params, COST, solver=qp.GibbsState(0.5), scheme=qp.centered(1e-3))
    again = qp.load(qp.save(tmp_path / "gradient", out))
    assert repr(again) == repr(out)
    assert isinstance(again.free.state, GaussianState)
    assert "entropy" in repr(out.free)


def test_refusals(monkeypatch):
    net, params = network()
    warm = qp.GibbsState(0.5)
    floating = params | {"kappa": np.zeros(4)}
    with pytest.raises(ValueError, match="nodes 0, 1, 2, 3 float freely"):
        qp.equilibrate(net, floating, solver=warm)
    with pytest.raises(ValueError, match=r"leaves this network without a ground state.*must lie between"):
        qp.ep_gradient(net, params, qp.ObservableCost(qp.R(2) ** 2), solver=warm, scheme=qp.one_sided(-30.0))
    with pytest.raises(ValueError, match="GibbsState cannot follow complex nudges"):
        qp.ep_gradient(net, params, COST, solver=warm, scheme=qp.holomorphic(0.01))
    with pytest.raises(TypeError, match=r"must be a polynomial in R\(i\) and P\(i\), not PauliSum"):
        qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(0)), solver=warm)
    monkeypatch.setattr("qeqprop.core.memory.available_memory", lambda: 1000)
    with pytest.raises(MemoryError, match=r"dense solve of 4 coordinates needs 1\.0 KiB.*fewer nodes"):
        qp.equilibrate(net, params, solver=warm)
