"""Shots and their standard errors, against exact probabilities and variances."""

from itertools import product
from typing import Any

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.core.estimate import combine
from qeqprop.quantum import ThermalState
from qeqprop.quantum.jackknife import block_sizes, block_sums, leave_one_out
from qeqprop.quantum.shots import draw, probabilities

from .measured import COST, EXACT, NET, PARAMS, assert_standard_normal, copies, flat, forces

PAULI = {
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}


# --- samples ----------------------------------------------------------------------------------------------------------


def random_state(kind: str) -> Any:
    rng = np.random.default_rng(4)
    vectors, _ = np.linalg.qr(rng.normal(size=(8, 8)) + 1j * rng.normal(size=(8, 8)))
    if kind == "pure":
        return qp.PureState(3, vectors[:, 0])
    p = rng.dirichlet(np.ones(8))
    return ThermalState(3, 1.0, np.arange(8.0), vectors, p, (vectors * p) @ vectors.conj().T)


@pytest.mark.parametrize("kind", ["pure", "thermal"])
@pytest.mark.parametrize("basis", ["ZXY", "YYX", "XZZ", "YXI"])
def test_probabilities_are_those_of_projectors(kind, basis):
    state = random_state(kind)
    density = np.outer(state.amplitudes, state.amplitudes.conj()) if kind == "pure" else state.density
    expected = []
    for signs in product((1, -1), repeat=3):
        projector = np.eye(1)
        for letter, sign in zip(basis, signs, strict=True):
            projector = np.kron(projector, (np.eye(2) + sign * PAULI["Z" if letter == "I" else letter]) / 2)
        expected.append(np.trace(projector @ density).real)
    assert np.allclose(probabilities(state, basis), expected, atol=1e-14)
    assert np.ptp(expected) > 0.05


def test_draws_follow_their_probabilities():
    p = np.array([[0.5, 0.0, 0.3, 0.2], [0.0, 0.0, 0.0, 1.0]])
    outcomes = draw(p, 200_000, np.random.default_rng(0))
    assert outcomes.shape == (2, 200_000)
    assert outcomes.dtype == np.uint8
    counts = np.bincount(outcomes[0], minlength=4)
    assert counts[1] == 0
    assert np.all(np.abs(counts / 2e5 - p[0]) <= 4 * np.sqrt(p[0] * (1 - p[0]) / 2e5))
    assert np.all(outcomes[1] == 3)


@pytest.mark.parametrize("shots", [7, 100, 250, 1003])
def test_jackknife_over_blocks(shots):
    values = np.random.default_rng(shots).normal(1.0, 2.0, (60, shots))
    sums = block_sums(values)
    replicas = leave_one_out(sums, shots)
    assert block_sizes(shots).sum() == shots
    first = block_sizes(shots)[0]
    assert np.allclose(replicas[0], values[:, first:].mean(axis=1))
    stderr = qp.Estimate.jackknife(values.mean(axis=1), replicas).stderr
    plain = values.std(axis=1, ddof=1) / np.sqrt(shots)
    tolerance = 4 / np.sqrt(2 * 60 * (len(replicas) - 1)) + 0.02
    assert abs(np.sqrt(np.mean(stderr**2) / np.mean(plain**2)) - 1) < tolerance


def test_the_same_key_gives_the_same_bits_and_another_key_others():
    solver, scheme = qp.Measured(EXACT, shots=100), qp.centered(0.1)
    a, again, other = (qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=scheme, key=k) for k in (5, 5, 6))
    assert np.array_equal(a.free.state.outcomes, again.free.state.outcomes)
    assert np.array_equal(flat(a.grad), flat(again.grad))
    assert not np.array_equal(flat(a.grad), flat(other.grad))
    phases = [a.free, *(phase for _, phase in a.nudged)]
    assert not any(np.array_equal(phases[0].state.outcomes, p.state.outcomes) for p in phases[1:])
    assert not np.array_equal(*a.free.state.outcomes)


# --- standard errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [qp.centered(0.1), qp.one_sided(0.1)], ids=str)
def test_gradients_have_true_standard_errors(scheme):
    exact = flat(qp.ep_gradient(NET, PARAMS, COST, scheme=scheme).grad)
    assert np.abs(exact).min() > 1e-2
    solver = qp.Measured(EXACT, shots=400)
    z = []
    for key in range(80):
        out = qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=scheme, key=key)
        z.append((flat(out.grad) - exact) / flat(out.stderr))
    assert_standard_normal(np.array(z), effective=80 * 3)  # the components share their shots


@pytest.mark.parametrize("kind", ["centered", "one_sided"])
def test_variance_formulas(kind):
    """[Var_b + Var_-b]/(4 M b^2) and [Var_b + Var_0]/(M b^2), with Var = 1 - <A>^2 of the exact states, to 5 %."""
    beta, shots, count = 0.1, 300, 3000
    solver, many = qp.Measured(EXACT, shots=shots), copies(count)
    ends, weights = (
        ((beta, -beta), (0.5 / beta, -0.5 / beta)) if kind == "centered" else ((beta, 0.0), (1 / beta, -1 / beta))
    )
    exact = [flat(forces(NET, EXACT, b).mean) for b in ends]
    predicted = sum(w**2 * (1 - e**2) for w, e in zip(weights, exact, strict=True)) / shots
    measured = [forces(many, solver, b) for b in ends]
    out = combine(weights, measured)
    values = np.concatenate([out.mean[name] for name in sorted(out.mean)], axis=1)
    errors = np.concatenate([out.stderr[name] for name in sorted(out.stderr)], axis=1)
    assert np.allclose(values.var(axis=0) / predicted, 1, atol=4 * np.sqrt(2 / count))
    assert abs(np.mean(values.var(axis=0) / predicted) - 1) < 0.05
    assert np.allclose(np.mean(errors**2, axis=0) / predicted, 1, atol=0.02)
    z = (values - np.dot(weights, exact)) / errors
    assert_standard_normal(z, effective=3 * count)


def test_sums_read_in_the_same_shots_have_joint_errors():
    """Z0 + Z1 of an antiferromagnet hardly fluctuates: errors that are added in quadrature would be far too large."""
    net = qp.TransverseFieldIsing(2, [(0, 1)])
    params = {"J": np.array([-2.0]), "h": np.array([0.3, 0.1]), "g": np.array([0.5, 0.5])}
    state = qp.equilibrate(net, params, solver=qp.Measured(EXACT, shots=20_000), key=0).state
    exact = state.prepared
    total = qp.Z(0) + qp.Z(1)
    variance = float(exact.expect(total * total)) - float(exact.expect(total)) ** 2
    apart = np.hypot(*(float(state.expect(qp.Z(i)).stderr) for i in (0, 1)))
    assert state.expect(total).stderr < 0.6 * apart
    together = state.expect_all((qp.Z(0), qp.Z(1))).weighted_sum(np.ones(2)).stderr
    assert np.allclose([state.expect(total).stderr, together], np.sqrt(variance / 20_000), rtol=4 / np.sqrt(2 * 99))


def test_errors_of_the_two_formulas_fall_with_their_powers_of_the_shots():
    """At the best beta the error falls like M^(-1/3) (centered) and M^(-1/4) (one-sided)."""
    exact = flat(qp.linear_response(NET, PARAMS, COST).grad)
    step = 1e-2
    f = {b: flat(forces(NET, EXACT, b * step).mean) for b in (-2, -1, 0, 1, 2)}
    cubic = (f[2] - 2 * f[1] + 2 * f[-1] - f[-2]) / (12 * step**3)
    square = (f[1] - 2 * f[0] + f[-1]) / (2 * step**2)
    variance = np.mean(1 - f[0] ** 2)
    shots = np.array([1000, 8000, 64000])
    for formula, order, a, c in ((qp.centered, 2, variance / 2, cubic), (qp.one_sided, 1, 2 * variance, square)):
        rms = []
        for m in shots:
            beta = (a / m / (order * np.mean(c**2))) ** (1 / (2 * order + 2))
            count, weights = 16_000 // int(np.sqrt(m)), (0.5, -0.5) if order == 2 else (1.0, -1.0)
            ends = (beta, -beta) if order == 2 else (beta, 0.0)
            solver, many = qp.Measured(EXACT, shots=int(m)), copies(count)
            out = combine(np.array(weights) / beta, [forces(many, solver, b) for b in ends]).mean
            values = np.concatenate([out[name] for name in sorted(out)], axis=1)
            rms.append(np.sqrt(np.mean((values - exact) ** 2)))
            if m == shots[-1]:
                assert np.isclose(rms[-1], np.sqrt((1 + 1 / order) * a / m) / beta, rtol=0.06)
        slope = np.polyfit(np.log(shots), np.log(rms), 1)[0]
        assert abs(slope + (1 / 3 if order == 2 else 1 / 4)) < 0.03, formula
