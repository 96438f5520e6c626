"""The implicit polish of sampled states, and what symmetry says about responses of even states."""

import copy

import jax
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum.vmc_ansatz import frozen_parameters
from qeqprop.quantum.vmc_energy import Hamiltonian
from qeqprop.quantum.vmc_operator import spin_operator
from qeqprop.quantum.vmc_polish import GROWTH, _Knowledge, _Point, implicit_polish
from qeqprop.quantum.zero_variance import Features

N = 8
NET = qp.TransverseFieldIsing(N, [(i, i + 1) for i in range(N - 1)])
PARAMS = {"J": np.linspace(0.7, 1.3, N - 1), "h": np.zeros(N), "g": np.linspace(1.6, 1.1, N)}
CLOSE = qp.VariationalMonteCarlo(n_samples=2048, max_steps=10, polish_steps=0, progress=False)


def hamiltonian():
    table = spin_operator(NET.operators(), N)
    return Hamiltonian(table, table.coefficients(NET.strengths(PARAMS)), 0.0)


@pytest.fixture(scope="module")
def rough():
    """A state after ten steps of stochastic reconfiguration: not converged."""
    return qp.equilibrate(NET, PARAMS, solver=CLOSE, key=0, throw=False)


@pytest.fixture(scope="module")
def polished(rough):
    """The same state, polished."""
    vstate = copy.copy(rough.state.vstate)
    seen = []
    done = implicit_polish(
        vstate, hamiltonian(), target=2e-6, max_steps=40, frozen=frozen_parameters(vstate),
        report=lambda energy, error, score: seen.append(score),
    )  # fmt: skip
    return vstate, done, seen


def test_the_polish_takes_the_v_score_to_its_target(rough, polished):
    vstate, done, seen = polished
    assert rough.stats["v_score"] > 200 * 2e-6
    assert done.settled
    assert done.v_score < 4e-6
    assert len(seen) == done.steps + 1 <= 40
    exact = float(qp.equilibrate(NET, PARAMS).energy)
    energies = np.asarray(
        hamiltonian().local_energies(vstate._apply_fun, vstate.variables, vstate.samples.reshape(-1, N))
    )
    assert abs(energies.mean() - exact) < 2e-4 * abs(exact)


def test_frozen_parameters_stay_where_they_are(polished):
    parameters = polished[0].parameters
    assert np.all(np.asarray(parameters["field"]) == 0)
    assert np.all(np.asarray(parameters["bias"]) == 0)
    assert np.any(np.asarray(parameters["jastrow"]) != 0)


def test_steps_that_make_things_worse_are_taken_back():
    """Far from the ground state first order is no guide; the polish must not leave the state worse than it was."""
    start = qp.VariationalMonteCarlo(n_samples=512, max_steps=0, progress=False)
    vstate = copy.copy(qp.equilibrate(NET, PARAMS, solver=start, key=1, throw=False).state.vstate)
    vstate.parameters = jax.tree.map(lambda leaf: 3 * leaf, vstate.parameters)
    scores = []
    done = implicit_polish(
        vstate, hamiltonian(), target=1e-9, max_steps=6, report=lambda energy, error, score: scores.append(score)
    )
    assert np.isfinite(done.v_score)
    assert done.v_score <= GROWTH * scores[0]
    assert not done.settled or done.v_score < scores[0]


def test_without_steps_a_state_is_left_alone(rough):
    still = qp.VariationalMonteCarlo(state=rough.state.vstate, max_steps=0, progress=False)
    again = qp.equilibrate(NET, PARAMS, solver=still, key=3, throw=False)
    assert again.stats["steps"] == again.stats["polish_steps"] == 0
    for ours, theirs in zip(*map(jax.tree.leaves, (again.state.variables, rough.state.variables)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_has_settled_is_not_polished_again():
    solver = qp.VariationalMonteCarlo(n_samples=1024, v_score=1e-9, progress=False)
    free = qp.equilibrate(NET, PARAMS, solver=solver, key=2)
    assert free.stats["settled"]
    assert 0 < free.stats["polish_steps"] < 60
    again = qp.equilibrate(NET, PARAMS, solver=solver, init=free, key=3)
    assert again.stats["polish_steps"] == free.stats["polish_steps"]
    for ours, theirs in zip(*map(jax.tree.leaves, (again.state.variables, free.state.variables)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("cost", "silent", "moved"),
    [(qp.Z(3) * qp.Z(4), ["h"], ["J", "g"]), (qp.X(2), ["h"], ["J", "g"]), (qp.Z(3), ["J", "g"], ["h"])],
    ids=["ZZ", "X", "Z"],
)
def test_what_symmetry_forbids_to_respond_is_zero_without_an_error(polished, cost, silent, moved):
    solver = qp.VariationalMonteCarlo(state=polished[0], max_steps=0, progress=False)
    nudge = qp.ObservableCost(cost)
    out = qp.ep_gradient(NET, PARAMS, nudge, solver=solver, key=5, throw=False)
    exact = qp.linear_response(NET, PARAMS, nudge)
    for name in silent:
        np.testing.assert_allclose(exact.grad[name], 0, atol=1e-9)
        np.testing.assert_array_equal(out.grad[name], 0)
        np.testing.assert_array_equal(out.stderr[name], 0)
    for name in moved:
        assert np.linalg.norm(exact.grad[name]) > 0.05
        assert np.all(out.stderr[name] > 0)
        z = (out.grad[name] - exact.grad[name]) / np.hypot(out.stderr[name], out.truncation[name])
        assert np.sqrt(np.mean(z**2)) < 2.5
        assert np.linalg.norm(out.stderr[name]) < 0.05 * np.linalg.norm(exact.grad[name])


def test_a_longitudinal_field_makes_everything_respond(polished):
    tilted = {**PARAMS, "h": np.full(N, 0.05)}
    solver = qp.VariationalMonteCarlo(state=polished[0], polish_steps=10, progress=False)
    out = qp.ep_gradient(NET, tilted, qp.ObservableCost(qp.Z(3) * qp.Z(4)), solver=solver, key=6, throw=False)
    assert np.all(out.stderr["h"] > 0)


@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_one_half_confirms_the_share_of_signal_of_the_other(noise):
    """Var(B x) = signal + sigma^2 P/N of a fit of P parameters to N samples; independent samples confirm the signal alone."""
    rng = np.random.default_rng(4)
    samples, size = 4000, 60
    design, x = rng.normal(size=(samples, size)), rng.normal(size=size) / size**0.5
    values = (design @ x + noise * rng.normal(size=samples))[:, None]
    point = _Point(np.zeros(size), Features(design, design, values, np.zeros(samples)), 1.0)
    known = _Knowledge(np.arange(size))
    known.add(point)
    share, gain = known.confirmed(point, caution=1.0)
    signal, fitted = x @ x, x @ x + noise**2 * size / (samples / 2)
    assert share == pytest.approx(signal / fitted, rel=0.05)
    assert gain == pytest.approx(signal**2 / fitted / (signal + noise**2), rel=0.15)
    np.testing.assert_allclose(known.step(point, 1.0, 1.0), 0.3 * x / np.std(design @ x), atol=0.05)


def test_points_that_are_remembered_halve_the_noise():
    rng = np.random.default_rng(5)
    samples, size = 2000, 80
    x = rng.normal(size=size) / size**0.5
    known, errors = _Knowledge(np.arange(size)), []
    for _ in range(4):
        design = rng.normal(size=(samples, size))
        values = (design @ x + 5 * rng.normal(size=samples))[:, None]
        known.add(_Point(np.zeros(size), Features(design, design, values, np.zeros(samples)), 1.0))
        known.memory = 1.0
        errors.append(np.linalg.norm(known.halves[0].to_minimum(np.zeros(size), 1e-6) - x))
    assert errors[3] == pytest.approx(errors[0] / 2, rel=0.2)


def test_a_warm_polish_ends_soon_and_as_low(polished):
    """Parameters move by up to 10 %: a few points lead back to the V-score that the ansatz gave before."""
    vstate, done, _ = polished
    moved = copy.copy(vstate)
    shifted = {name: value * np.linspace(0.9, 1.1, len(value)) for name, value in PARAMS.items()}
    h = hamiltonian()
    h = Hamiltonian(h.table, h.table.coefficients(NET.strengths(shifted)), 0.0)
    seen = []
    warm = implicit_polish(
        moved, h, target=1e-9, max_steps=40, warm=True, frozen=frozen_parameters(moved),
        report=lambda energy, error, score: seen.append(score),
    )  # fmt: skip
    assert seen[0] > 10 * done.v_score
    assert warm.settled
    assert warm.steps < 15
    assert warm.v_score < 3 * done.v_score
