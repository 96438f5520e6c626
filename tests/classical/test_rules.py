"""The seven learning rules: which of them are gradients, and of what."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import RULES, FlowNetwork
from qeqprop.classical.rules import half_squared_error

EDGES = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (1, 3), (2, 4), (0, 5), (5, 3)]
NET = FlowNetwork(6, EDGES, driven=[0], grounded=[4]).with_inputs([1.0])
THETA = np.random.default_rng(0).uniform(0.5, 2.0, len(EDGES))
OUTPUTS, TARGET, BETA = [1, 3], np.array([0.9, 0.2]), 0.3


def field(name, theta):
    rule = RULES[name]
    return qp.ep_gradient(NET, {"k": theta}, rule.nudge(OUTPUTS), TARGET, scheme=rule.scheme(BETA)).grad["k"]


def jacobian(function, theta, step=1e-4):
    return np.stack([(function(theta + d) - function(theta - d)) / (2 * step) for d in step * np.eye(len(theta))], -1)


def energy(theta, beta=0.0, held=None):
    """min over the free potentials of the energy, with a spring or with the outputs held: dense NumPy."""
    laplacian = np.zeros((6, 6))
    for (i, j), k in zip(EDGES, theta, strict=True):
        laplacian[[i, j], [i, j]] += k
        laplacian[[i, j], [j, i]] -= k
    known = {0: 1.0, 4: 0.0} | ({} if held is None else dict(zip(OUTPUTS, held, strict=True)))
    matrix, right = laplacian.copy(), np.zeros(6)
    matrix[OUTPUTS, OUTPUTS] += beta
    right[OUTPUTS] += beta * TARGET
    free = [i for i in range(6) if i not in known]
    u = np.zeros(6)
    u[list(known)] = list(known.values())
    u[free] = np.linalg.solve(matrix[np.ix_(free, free)], right[free] - (matrix @ u)[free])
    return u @ laplacian @ u / 2 + beta * half_squared_error(u[OUTPUTS], TARGET)


LOSSES = {
    "CL": lambda t: energy(t, held=TARGET) - energy(t),
    "P-EP": lambda t: (energy(t, BETA) - energy(t)) / BETA,
    "N-EP": lambda t: (energy(t) - energy(t, -BETA)) / BETA,
    "C-EP": lambda t: (energy(t, BETA) - energy(t, -BETA)) / (2 * BETA),
}


def test_the_table_says_which_rules_are_gradients():
    assert list(RULES) == ["CL", "P-EP", "N-EP", "C-EP", "P-CpL", "N-CpL", "C-CpL"]
    assert {name for name, rule in RULES.items() if rule.gradient_of} == set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_these_are_exact_gradients_at_finite_strength(name):
    expected = jacobian(LOSSES[name], THETA)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(field(name, THETA), expected, atol=1e-8)


@pytest.mark.parametrize("name", RULES)
def test_a_gradient_has_no_curl_and_coupled_learning_has(name):
    matrix = jacobian(lambda theta: field(name, theta), THETA)
    curl = np.linalg.norm(matrix - matrix.T) / np.linalg.norm(matrix)
    if RULES[name].gradient_of:
        assert curl < 1e-6
    else:
        assert curl > 0.01


def test_contrastive_learning_is_coupled_learning_at_one():
    rule = RULES["P-CpL"]
    out = qp.ep_gradient(NET, {"k": THETA}, rule.nudge(OUTPUTS), TARGET, scheme=rule.scheme(1.0))
    np.testing.assert_allclose(out.grad["k"], field("CL", THETA), atol=1e-13)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_lowers_the_error(name):
    """All have a positive product with the gradient of the squared error, though they differ from it."""
    exact = qp.linear_response(NET, {"k": THETA}, RULES["P-EP"].nudge(OUTPUTS), TARGET).grad["k"]
    ours = field(name, THETA)
    assert ours @ exact / np.linalg.norm(ours) / np.linalg.norm(exact) > 0.5
