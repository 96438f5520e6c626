"""The nudge that a number of shots is worth, and simultaneous perturbation."""

from typing import Any

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.core.budget import NudgeChoice, _square

EXACT = qp.ExactDiagonalization()
NET = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)], input_sites=[0])
PARAMS = {"J": np.array([1.0, 0.7]), "h": np.array([0.3, -0.2, 0.5]), "g": np.array([0.9, 1.1, 0.8])}
COST = qp.ObservableCost(qp.Z(2))
PROBLEM = (NET, PARAMS, COST)


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(tree[name]) for name in sorted(tree)])


def forces(beta: float) -> np.ndarray:
    nudged = NET.nudged(COST.term(EXACT.solve(NET, PARAMS).state), beta)
    return flat(NET.param_grad(PARAMS, EXACT.solve(nudged, PARAMS).state).mean)


@pytest.mark.parametrize("formula", [qp.centered, qp.one_sided], ids=lambda f: f.__name__)
def test_curvature_noise_and_nudge_are_those_of_the_exact_states(formula):
    order, bends = formula(1.0).order, []
    for step in (0.25, 1e-2):  # as the pilot sees it, and in the limit
        f = {k: forces(k * step) for k in (-2, -1, 0, 1, 2)}
        cubic = (f[2] - 2 * f[1] + 2 * f[-1] - f[-2]) / (12 * step**3)
        square = (-f[2] + 16 * f[1] - 30 * f[0] + 16 * f[-1] - f[-2]) / (24 * step**2)
        bends.append(np.sqrt(np.mean((cubic if order == 2 else square) ** 2)))
    solver = qp.Measured(EXACT, 400_000)
    choice = qp.optimal_nudge(*PROBLEM, solver=solver, formula=formula, shots=1000, pilot=0.25, key=2)
    assert np.isclose(float(choice.curvature), bends[0], rtol=0.1)
    assert np.isclose(float(choice.curvature), bends[1], rtol=0.3)
    bend = float(choice.curvature)
    a = np.mean(1 - f[0] ** 2) / 1000 * (0.5 if order == 2 else 2)
    assert np.isclose(choice.beta, (a / (order * bend**2)) ** (1 / (2 * order + 2)), rtol=0.01)
    assert np.isclose(choice.noise, np.sqrt(a) / choice.beta, rtol=0.03)
    assert np.isclose(choice.truncation, choice.noise / np.sqrt(order), rtol=1e-6)  # balanced
    assert np.isclose(choice.scheme.max_strength, choice.beta, rtol=5e-3)
    assert not choice.limited


def test_noise_is_no_curvature():
    """The mean square of noisy coefficients is too large by their variance, which is taken out."""
    rng, errors = np.random.default_rng(0), np.array([0.5, 1.0, 2.0])
    found = [float(_square(qp.Estimate({"a": x}, {"a": errors})).mean) for x in rng.normal(1.0, errors, (4000, 3))]
    assert abs(np.mean(found) - 1.0) < 4 * np.std(found) / np.sqrt(4000)
    assert np.mean(errors**2) > 20 * np.std(found) / np.sqrt(4000)


def test_the_predicted_error_is_met():
    solver = qp.Measured(EXACT, 2000)
    choice = qp.optimal_nudge(*PROBLEM, solver=qp.Measured(EXACT, 50_000), shots=2000, key=0)
    exact = flat(qp.linear_response(*PROBLEM).grad)
    outs = [qp.ep_gradient(*PROBLEM, solver=solver, scheme=choice.scheme, key=k, throw=False) for k in range(60)]
    rms = np.sqrt(np.mean([(flat(out.grad) - exact) ** 2 for out in outs]))
    assert np.isclose(rms, choice.rms, rtol=0.15)
    for factor in (0.4, 2.0):  # weaker or stronger nudges do worse
        scheme = qp.centered(factor * choice.beta)
        others = [qp.ep_gradient(*PROBLEM, solver=solver, scheme=scheme, key=k, throw=False) for k in range(40)]
        assert np.sqrt(np.mean([(flat(out.grad) - exact) ** 2 for out in others])) > 1.2 * rms


def test_the_powers_of_the_shots():
    solver, key = qp.Measured(EXACT, 20_000), 4
    for formula, power in ((qp.centered, 1 / 6), (qp.one_sided, 1 / 4)):
        few, many = (
            qp.optimal_nudge(*PROBLEM, solver=solver, formula=formula, shots=m, pilot=0.2, key=key)
            for m in (10**4, 10**6)
        )
        assert np.isclose(few.beta / many.beta, 100**power)
        assert np.isclose(few.rms / many.rms, 100 ** (0.5 - power))


def test_a_pilot_that_resolves_nothing_says_so_and_stays_safe():
    choice = qp.optimal_nudge(*PROBLEM, solver=qp.Measured(EXACT, 100), pilot=0.02, shots=10**6, key=0)
    assert float(choice.curvature) < 2 * choice.curvature.stderr
    assert "did not resolve the curvature" in repr(choice)
    resolved = qp.optimal_nudge(*PROBLEM, solver=qp.Measured(EXACT, 100_000), shots=10**6, key=0)
    assert choice.beta < resolved.beta


def test_a_gap_limits_the_nudge():
    choice = qp.optimal_nudge(*PROBLEM, solver=qp.Measured(EXACT, 20_000), shots=2, key=0)
    gap = float(EXACT.solve(NET, PARAMS).gap)
    assert choice.limited
    assert np.isclose(choice.beta, 0.45 * gap)
    assert "limited by the gap" in repr(choice)


def test_batches_and_oscillators_and_temperatures():
    inputs = np.array([[0.0], [0.0]])
    one, two = (
        qp.optimal_nudge(*PROBLEM, inputs=x, solver=qp.Measured(EXACT, 20_000), key=1) for x in (inputs[:1], inputs)
    )
    assert np.isclose(two.noise * two.beta, one.noise * one.beta / np.sqrt(2), rtol=0.02)
    gibbs = qp.Measured(qp.GibbsState(0.5), 1000)
    with pytest.raises(ValueError, match="`inputs` must be a single sample: Measured solves this batch one by one"):
        qp.optimal_nudge(*PROBLEM, inputs=inputs, solver=gibbs, pilot=0.1)
    with pytest.raises(ValueError, match="`pilot` must be given"):
        qp.optimal_nudge(*PROBLEM, solver=gibbs)
    assert qp.optimal_nudge(*PROBLEM, solver=gibbs, pilot=0.3, key=0).beta > 0
    springs = qp.HarmonicNetwork(2, [(0, 1)], trainable=("k", "kappa"))
    problem = (springs, {"k": [1.0], "kappa": [1.0, 0.5]}, qp.ObservableCost((qp.R(1) - 0.5) ** 2))
    solver = qp.Measured(qp.GaussianGroundState(), 10_000)
    assert 0.01 < qp.optimal_nudge(*problem, solver=solver, pilot=0.1, key=0).beta < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": EXACT}, "must draw random numbers, but is ExactDiagonalization"),
        ({"formula": qp.richardson}, r"must be qp\.centered or qp\.one_sided, but gives richardson\(1\)"),
        ({"formula": qp.holomorphic}, r"must be qp\.centered or qp\.one_sided"),
        ({"shots": 0}, "`shots` must be at least 2"),
        ({"pilot": 0.0}, "`pilot` must be finite and not 0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        qp.optimal_nudge(*PROBLEM, **({"solver": qp.Measured(EXACT, 100), "key": 0} | options))


def test_choices_come_back(tmp_path):
    choice = qp.optimal_nudge(*PROBLEM, solver=qp.Measured(EXACT, 100), key=0)
    again = qp.load(qp.save(tmp_path / "choice", choice))
    assert isinstance(again, NudgeChoice)
    assert repr(again) == repr(choice)


# --- simultaneous perturbation ----------------------------------------------------------------------------------------


def test_spsa_is_unbiased_and_its_variance_is_that_of_the_other_components():
    exact = flat(qp.linear_response(*PROBLEM).grad)
    out = qp.spsa_gradient(*PROBLEM, step=1e-4, directions=600, key=0)
    grad, stderr = flat(out.grad), flat(out.stderr)
    assert np.all(np.abs(grad - exact) < 4.5 * stderr)
    predicted = np.sqrt((np.sum(exact**2) - exact**2) / 600)
    assert np.allclose(stderr / predicted, 1, atol=0.15)
    assert np.array_equal(grad, flat(qp.spsa_gradient(*PROBLEM, step=1e-4, directions=600, key=0).grad))
    assert np.all(np.isnan(flat(out.truncation)))


def test_spsa_with_shots_carries_their_noise():
    solver, step, shots = qp.Measured(EXACT, 100), 0.2, 100
    exact = flat(qp.linear_response(*PROBLEM).grad)
    out = qp.spsa_gradient(*PROBLEM, solver=solver, step=step, directions=150, key=1)
    variance = 1 - float(EXACT.solve(NET, PARAMS).state.expect(qp.Z(2))) ** 2
    predicted = np.sqrt((np.sum(exact**2) - exact**2 + variance / (2 * shots * step**2)) / 150)
    assert np.allclose(flat(out.stderr) / predicted, 1, atol=0.3)
    assert not np.array_equal(flat(out.grad), flat(qp.spsa_gradient(*PROBLEM, solver=solver, step=step, key=2).grad))


def test_spsa_of_a_batch_is_that_of_its_mean():
    inputs, targets = np.array([[0.3], [-0.5]]), np.array([[0.2], [0.1]])
    cost = qp.ExpectationCost([qp.Z(1)])
    exact = qp.linear_response(NET, PARAMS, cost, targets, inputs=inputs)
    out = qp.spsa_gradient(NET, PARAMS, cost, targets, inputs=inputs, step=1e-4, directions=200, key=3)
    assert np.all(np.abs(flat(out.grad) - flat(exact.grad)) < 4.5 * flat(out.stderr))
    assert np.isclose(float(out.loss), float(exact.loss))


def test_spsa_refuses_what_has_no_scatter():
    with pytest.raises(ValueError, match="`directions` must be at least 2"):
        qp.spsa_gradient(*PROBLEM, directions=1)
    with pytest.raises(ValueError, match="`step` must be finite and not 0"):
        qp.spsa_gradient(*PROBLEM, step=0.0)
