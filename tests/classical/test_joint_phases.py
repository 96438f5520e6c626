"""Nudged phases that are relaxed side by side are those relaxed one by one, and so are the sums of their forces."""

import pickle

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import (
    BlockDescent,
    Clamp,
    Convolution,
    DeepHopfield,
    DeepResistiveNetwork,
    Dense,
    LayeredPhaseOscillators,
    PredictiveCodingNetwork,
    StateCost,
    aligned_misalignment,
    softmax_cross_entropy,
)
from qeqprop.core.truncation import truncation_error

STRENGTHS = (0.06, -0.02, 0.03)


def _error(s, y):
    return ((s - y) ** 2).sum() / 2


def _hopfield():
    rng = np.random.default_rng(7)
    net = DeepHopfield((3, 6, 5, 2))
    return net, StateCost(_error, net.outputs), rng.random((4, 3)), rng.random((4, 2))


def _convolutional():
    rng = np.random.default_rng(7)
    links = [Convolution(0, 1, 3, padding=1), Dense(1, 2)]
    net = DeepHopfield(((1, 4, 4), (2, 4, 4), 4), interactions=links, readout=3)
    return net, StateCost(softmax_cross_entropy, net.outputs), rng.random((2, 1, 4, 4)), np.eye(3)[:2]


def _clamped():
    rng = np.random.default_rng(7)
    net = DeepResistiveNetwork((2, 4, 2))
    return net, Clamp(net.outputs), rng.normal(size=(3, 2)), 0.1 * rng.normal(size=(3, 2))


def _phases():
    rng = np.random.default_rng(7)
    net = LayeredPhaseOscillators((2, 4, 2))
    return net, StateCost(aligned_misalignment, net.outputs), rng.normal(size=(3, 2)), rng.normal(size=(3, 2))


def _coding():
    rng = np.random.default_rng(7)
    net = PredictiveCodingNetwork((3, 6, 5, 2))
    return net, StateCost(softmax_cross_entropy, net.outputs), rng.normal(size=(4, 3)), np.eye(2)[[0, 1, 1, 0]]


CASES = {
    "clipped units": _hopfield,
    "convolution and readout": _convolutional,
    "clamped circuit": _clamped,
    "phases": _phases,
    "predictive coding": _coding,
}


def _posed(case, single=False):
    net, cost, inputs, targets = CASES[case]()
    params = net.check_params(net.init_params(3))
    system, solver = net.with_inputs(inputs[0] if single else inputs), net.default_solver()
    free = solver.solve(system, params)
    return system, solver, params, free, cost.term(free.state, targets[0] if single else targets)


@pytest.mark.parametrize(
    ("case", "single"), [*((case, False) for case in CASES), ("clipped units", True), ("predictive coding", True)]
)
def test_phases_are_those_relaxed_one_by_one(case, single):
    system, solver, params, free, term = _posed(case, single)
    together = solver.solve_nudged(system, params, term, STRENGTHS, free)
    for strength, found in zip(STRENGTHS, together, strict=True):
        alone = solver.solve(system.nudged(term, strength), params, init=free)
        scale = np.abs(alone.state.position - free.state.position).max()
        assert scale > 1e-5
        np.testing.assert_allclose(found.state.position, alone.state.position, atol=1e-8 * scale + 1e-13)
        np.testing.assert_allclose(found.energy.mean, alone.energy.mean, atol=1e-12)
        assert found.residual.shape == alone.residual.shape
        assert found.status is alone.status is qp.Status.OK
        assert found.stats["displacement"] == pytest.approx(alone.stats["displacement"], rel=1e-6)
        assert found.stats.get("bound_changes") == alone.stats.get("bound_changes")
        assert found.stats.get("kink_distance") == pytest.approx(alone.stats.get("kink_distance"), abs=1e-10)


@pytest.mark.parametrize(
    ("case", "single"), [*((case, False) for case in CASES), ("clipped units", True), ("predictive coding", True)]
)
def test_summed_forces_are_sums_of_forces(case, single):
    system, solver, params, free, term = _posed(case, single)
    states = [free.state, *(found.state for found in solver.solve_nudged(system, params, term, STRENGTHS, free))]
    weights = (0.5, -2.0, 1.5, 3.0)
    summed = system.summed_force(params, states, weights).mean
    each = [system.param_grad(params, state).mean for state in states]
    for name, value in summed.items():
        expected = sum(w * force[name] for w, force in zip(weights, each, strict=True))
        assert np.abs(expected).max() > 1e-6
        np.testing.assert_allclose(value, expected, atol=1e-13 * max(1, np.abs(expected).max()))


def test_large_batches_are_relaxed_phase_by_phase(monkeypatch):
    """Each phase stops when it is at rest itself; the states are the same."""
    system, solver, params, free, term = _posed("clipped units")
    strengths = (0.5, 1e-7)
    together = solver.solve_nudged(system, params, term, strengths, free)
    monkeypatch.setattr("qeqprop.classical.block_descent.SIDE_BY_SIDE", 0)
    alone = solver.solve_nudged(system, params, term, strengths, free)
    assert len({found.stats["sweeps"] for found in together}) == 1
    assert alone[1].stats["sweeps"] < together[1].stats["sweeps"]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.state.position, other.state.position, atol=1e-12)


def test_one_phase_that_jumps_is_the_one_flagged():
    """A strong nudge leaves the branch, a weak one at its side does not."""
    net = DeepHopfield((1, 1, 1), outputs="hard_sigmoid")
    params = net.check_params(
        {"w0": np.zeros((1, 1)), "b0": np.array([-0.4]), "w1": np.array([[2.0]]), "b1": np.array([-0.4])}
    )
    system, solver = net.with_inputs(np.zeros((1, 1))), BlockDescent()
    free = solver.solve(system, params)
    term = StateCost(_error, net.outputs).term(free.state, np.ones((1, 1)))
    weak, strong = solver.solve_nudged(system, params, term, (0.1, 2.0), free)
    assert weak.status is qp.Status.OK
    assert strong.status is qp.Status.BRANCH_JUMP
    assert weak.stats["displacement"] < 0.2 < strong.stats["displacement"]


def test_truncation_waits_until_it_is_read(monkeypatch):
    calls = []

    def counted(*args):
        calls.append(1)
        return truncation_error(*args)

    monkeypatch.setattr("qeqprop.core.gradient.truncation_error", counted)
    net, cost, inputs, targets = _coding()
    params = net.init_params(3)
    out = qp.ep_gradient(net, params, cost, targets, inputs=inputs, scheme=qp.centered(0.05))
    assert not calls
    first = out.truncation
    assert len(calls) == 1
    assert out.truncation is first
    assert len(calls) == 1
    exact = qp.ep_gradient(net, params, cost, targets, inputs=inputs)
    for name, value in out.grad.items():
        error = np.abs(value - exact.grad[name]).max()
        assert error < 10 * first[name].max() + 1e-12
    again = qp.ep_gradient(net, params, cost, targets, inputs=inputs, scheme=qp.centered(0.05))
    sent = pickle.loads(pickle.dumps(again.__dict__["truncation"]))
    for name, value in first.items():
        np.testing.assert_array_equal(sent[name], value)
