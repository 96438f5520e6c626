"""The error bars of sampled thermal gradients are true."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.core.randomness import seed_sequence

from ..registry import BY_NAME
from .typical_cases import COST, flat, network

SQUARED = qp.ExpectationCost([qp.Z(0) * qp.Z(2), qp.X(1)])


@pytest.mark.parametrize(
    ("cost", "target", "deflated", "temperature"),
    [(COST, None, 0, 2.0), (COST, None, 6, 0.8), (SQUARED, np.array([0.1, 0.5]), 0, 2.0),
     (SQUARED, np.array([0.1, 0.5]), 6, 2.0)],
    ids=["random", "deflated", "squared error", "squared error, deflated"],
)  # fmt: skip
def test_error_bars_are_true(cost, target, deflated, temperature):
    system, params = network(6)
    solver = qp.ThermalPureStates(temperature, samples=40, deflated=deflated)
    exact = qp.linear_response(system, params, cost, target, solver=qp.GibbsState(temperature))
    outs = [qp.ep_gradient(system, params, cost, target, solver=solver, key=key) for key in range(40)]
    errors = np.array([flat(out.grad) - flat(exact.grad) for out in outs])
    z = errors / np.array([flat(out.stderr) for out in outs])
    # the components of one gradient share their random vectors: far fewer than z.size are independent
    assert abs(z.mean()) < 0.1
    assert 0.9 < z.std() < 1.15
    assert 0.01 < (np.abs(z) > 2).mean() < 0.09
    spread = np.linalg.norm(errors.std(axis=0)) / np.linalg.norm(flat(exact.grad))
    assert 1e-3 < spread < 0.4
    for value, truth in (
        ([out.loss for out in outs], exact.loss),
        ([out.free.energy for out in outs], exact.free.energy),
        ([out.free.stats["entropy"] for out in outs], exact.free.stats["entropy"]),
    ):
        z = np.array([(float(x) - float(truth)) / float(x.stderr) for x in value])
        assert abs(z.mean()) < 4 / np.sqrt(len(z))
        assert abs(z.std() - 1) < 4 / np.sqrt(2 * len(z))


def test_noise_of_the_error_signal_counts():
    """Near the target the signal 2 (<O> - y) is small, and its noise is most of the gradient's."""
    system, params = network(6)
    observable, solver = qp.Z(0) * qp.Z(2), qp.ThermalPureStates(2.0, samples=40, deflated=0)
    target = np.array(
        [float(qp.equilibrate(system, params, solver=qp.GibbsState(2.0)).state.expect(observable)) + 0.02]
    )
    problem = (system, params, qp.ExpectationCost([observable]), target)
    exact = flat(qp.linear_response(*problem, solver=qp.GibbsState(2.0)).grad)
    outs = [qp.ep_gradient(*problem, solver=solver, key=key) for key in range(40)]
    z = np.array([(flat(out.grad) - exact) / flat(out.stderr) for out in outs])
    assert 0.85 < z.std() < 1.2
    stencil = qp.ep_gradient(*problem, solver=solver, scheme=qp.centered(1e-3), key=0)  # at the signal it found
    assert np.linalg.norm(flat(stencil.stderr)) < 0.5 * np.linalg.norm(flat(outs[0].stderr))


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_exactly_traced_levels_are_worth_more_than_random_vectors(temperature):
    system, params = network(9)
    exact = flat(qp.linear_response(system, params, COST, solver=qp.GibbsState(temperature)).grad)
    errors = []
    for solver in (qp.ThermalPureStates(temperature), qp.ThermalPureStates(temperature, samples=64, deflated=0)):
        outs = [qp.ep_gradient(system, params, COST, solver=solver, key=key, throw=False) for key in range(6)]
        errors.append(np.sqrt(np.mean([np.sum((flat(out.grad) - exact) ** 2) for out in outs])))
    assert errors[0] < 0.1 * errors[1]
    assert errors[0] < 0.02 * np.linalg.norm(exact)


# --- what is refused, said and kept -----------------------------------------------------------------------------------


def test_estimates_of_a_state_are_consistent():
    case, solver = BY_NAME["chain with fields"], qp.ThermalPureStates(2.0, deflated=0)
    state = qp.equilibrate(case.system, case.params, solver=solver, key=seed_sequence(1)).state
    energy, free = state.mean_energy(), state.free_energy()
    assert float(case.system.energy(case.params, state)) == pytest.approx(float(energy), rel=1e-12)
    assert float(state.entropy()) == pytest.approx((float(energy) - float(free)) / 2.0)
    assert float(energy.stderr) > 0
    assert float(case.system.energy(case.params, state).stderr) == pytest.approx(float(energy.stderr), rel=1e-9)
