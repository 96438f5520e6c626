"""Deep Hopfield networks: gradients, learning rules and their bounds, readouts, starts, trainings."""

import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

import qeqprop as qp
from qeqprop.classical import RULES, BlockDescent, Clamp, DeepHopfield, Dense, StateCost, softmax_cross_entropy
from qeqprop.classical.rules import half_squared_error

from ..measures import deviation, norm

SKIPS = [Dense(0, 1), Dense(1, 2), Dense(2, 3), Dense(1, 3)]


def quartic(s, y):
    return ((s - y) ** 4).sum() + s[0] * s[1] / 2


NETWORKS = {
    "hard sigmoid": (DeepHopfield((4, 7, 6, 3)), half_squared_error),
    "tanh and sigmoid": (DeepHopfield((4, 7, 6, 3), activation="tanh", outputs="sigmoid"), half_squared_error),
    "rectified": (DeepHopfield((4, 7, 3), activation="relu"), half_squared_error),
    "bounded outputs": (DeepHopfield((4, 7, 3), activation="sigmoid", outputs="hard_tanh"), half_squared_error),
    "skips": (DeepHopfield((4, 7, 6, 3), interactions=SKIPS), half_squared_error),
    "quartic cost": (DeepHopfield((4, 7, 3), activation="hard_tanh"), quartic),
    "readout": (DeepHopfield((4, 7, 6), activation="tanh", readout=3), softmax_cross_entropy),
}


def case(name, seed=1, batch=5):
    net, cost = NETWORKS[name]
    rng = np.random.default_rng(seed)
    weak = {n: 0.6 * v if n[0] == "w" else rng.uniform(0.1, 0.5, v.shape) for n, v in net.init_params(rng).items()}
    inputs, labels = rng.uniform(size=(batch, 4)), rng.integers(3, size=batch)
    return net, weak, StateCost(cost, net.outputs), np.eye(3)[labels], inputs


@pytest.mark.parametrize("name", NETWORKS)
def test_ep_is_implicit_differentiation_is_finite_differences(name):
    net, params, cost, target, inputs = case(name)
    exact = qp.linear_response(net, params, cost, target, inputs=inputs)
    assert exact.free.stats["kink_distance"] > 1e-3
    assert all(norm({n: grad}) > 1e-2 for n, grad in exact.grad.items())
    components = {n: list(np.ndindex(v.shape))[:2] for n, v in params.items()}
    known = qp.finite_difference(net, params, cost, target, inputs=inputs, components=components, step=1e-4)
    assert deviation(known.grad, exact.grad) < 1e-8
    ep = qp.ep_gradient(net, params, cost, target, inputs=inputs, scheme=qp.centered(1e-4))
    assert deviation(ep.grad, exact.grad) < (1e-4 if name == "quartic cost" else 1e-6)
    assert all(phase.stats["bound_changes"] == 0 for _, phase in ep.nudged)


def test_a_random_sign_of_the_nudge_is_right_on_average():
    problem, inputs = case("tanh and sigmoid")[:4], case("tanh and sigmoid")[4]
    beta = 0.5
    plus, minus, centered = (
        qp.ep_gradient(*problem, inputs=inputs, scheme=scheme).grad
        for scheme in (qp.one_sided(beta), qp.one_sided(-beta), qp.centered(beta))
    )
    mean = {name: (plus[name] + minus[name]) / 2 for name in plus}
    assert deviation(mean, centered) < 1e-10
    exact = qp.linear_response(*problem, inputs=inputs).grad
    assert deviation(mean, exact) < 0.2 * min(deviation(plus, exact), deviation(minus, exact))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_the_gradient_that_it_says(rule):
    net, params, _, target, inputs = case("tanh and sigmoid")
    params = {name: value / 2 for name, value in params.items()}
    target, beta = 0.1 + 0.8 * target, 0.3
    given = {"inputs": inputs, "scheme": RULES[rule].scheme(beta)}
    nudge = RULES[rule].nudge(net.outputs)
    out = qp.ep_gradient(net, params, nudge, target, **given)
    assert out.status is qp.Status.OK
    driven = net.with_inputs(inputs)

    def function(params):
        free = qp.equilibrate(driven, params)
        term = nudge.term(free.state, target)
        phases = {b: qp.equilibrate(driven.nudged(term, b), params, init=free).energy.mean for b in (beta, -beta, 1)}
        if rule == "CL":
            return np.mean(phases[1] - free.energy.mean)
        return {
            "P-EP": np.mean(phases[beta] - free.energy.mean) / beta,
            "N-EP": np.mean(free.energy.mean - phases[-beta]) / beta,
            "C-EP": np.mean(phases[beta] - phases[-beta]) / (2 * beta),
        }[rule]

    if RULES[rule].gradient_of is not None:
        for name, index in (("w0", (1, 2)), ("w2", (3, 1)), ("b1", (4,))):
            values = []
            for sign in (1, -1):
                moved = {n: v.copy() for n, v in params.items()}
                moved[name][index] += sign * 1e-4
                values.append(function(moved))
            assert out.grad[name][index] == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-6, abs=1e-9)
    # clamped, outputs move all the same: at weak nudges coupled learning has the angle of a preconditioned gradient
    exact = qp.linear_response(net, params, RULES["C-EP"].nudge(net.outputs), target, inputs=inputs).grad
    cosine = sum(np.sum(out.grad[n] * exact[n]) for n in exact) / (norm(out.grad) * norm(exact))
    assert cosine > 0.9


def test_clamped_outputs_are_held_and_their_response_is_the_limit():
    net, params, _, target, inputs = case("skips")
    clamp = Clamp(net.outputs)
    held = qp.ep_gradient(net, params, clamp, target, inputs=inputs, scheme=qp.one_sided(1.0)).nudged[-1][1]
    np.testing.assert_array_equal(held.state.layers[-1], target)
    exact = qp.linear_response(net, params, clamp, target, inputs=inputs).grad
    found = qp.ep_gradient(net, params, clamp, target, inputs=inputs, scheme=qp.centered(1e-4)).grad
    assert norm(exact) > 0.1
    assert deviation(found, exact) < 1e-6
    one = qp.ep_gradient(net, params, clamp, target[0], inputs=inputs[0], scheme=qp.centered(0.1))
    assert float(one.loss) == pytest.approx(np.sum((one.free.state.layers[-1] - target[0]) ** 2))


def test_losses_of_nudged_rules_bound_the_loss_and_approach_it_with_their_orders():
    net, params, cost, target, inputs = case("tanh and sigmoid")
    driven = net.with_inputs(inputs)
    free = qp.equilibrate(driven, params)
    term, loss = cost.term(free.state, target), cost.cost(free.state, target).mean

    def energy(beta):
        return qp.equilibrate(driven.nudged(term, beta), params, init=free).energy.mean

    gaps = {"P": [], "N": [], "C": []}
    for beta in (0.2, 0.1, 0.05):
        positive, negative = (energy(beta) - energy(0.0)) / beta, (energy(0.0) - energy(-beta)) / beta
        assert np.all(positive < loss - 1e-6)  # of every sample
        assert np.all(loss + 1e-6 < negative)
        for name, value in (("P", positive), ("N", negative), ("C", (positive + negative) / 2)):
            gaps[name].append(abs(np.mean(value - loss)))
    for name, order in (("P", 1), ("N", 1), ("C", 2)):
        assert np.log2(gaps[name][1] / gaps[name][2]) == pytest.approx(order, abs=0.1)


def test_a_readout_is_a_function_of_the_last_layer():
    net, params, cost, target, inputs = case("readout")
    found = qp.equilibrate(net, params, inputs=inputs).state
    np.testing.assert_allclose(found.layers[-1], found.layers[-2] @ params["w2"] + params["b2"], atol=1e-14)
    np.testing.assert_array_equal(qp.predict(net, params, cost, inputs), found.layers[-1])
    without = DeepHopfield((4, 7, 6), activation="tanh", outputs="tanh")  # nothing flows back from it
    params = {name: value for name, value in params.items() if name in without.param_shapes}
    other = qp.equilibrate(without, params, inputs=inputs).state
    np.testing.assert_allclose(other.layers[-1], found.layers[-2], atol=1e-13)
    with pytest.raises(ValueError, match="no Clamp can hold them"):
        qp.ep_gradient(net, case("readout")[1], Clamp(net.outputs), target, inputs=inputs)
    nudged = net.nudged(cost.term(None, target), 0.1)
    with pytest.raises(ValueError, match="without nudges"):
        qp.linear_response(nudged, case("readout")[1], cost, target, inputs=inputs)


def test_a_forward_pass_is_nearer_to_rest_than_zero():
    net, params, _, _, inputs = case("hard sigmoid")
    weak = {name: value / 2 if name in ("w1", "w2") else value for name, value in params.items()}
    for theta in (params, weak):
        sweeps = [
            qp.equilibrate(net, theta, inputs=inputs, solver=BlockDescent(tolerance=0.02, feedforward=forward)).stats[
                "sweeps"
            ]
            for forward in (False, True)
        ]
        assert sweeps[1] < sweeps[0]


def digits(seed, n):
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))[:n]
    return images[order] / 4 - 1.2, np.eye(10)[labels[order]]


def test_training_on_digits():
    net = DeepHopfield((64, 32, 10), activation="hard_tanh")
    params = net.init_params(0)
    params["w1"] /= 2
    inputs, targets = digits(0, 856)
    optimizer = optax.adam(5e-3)
    history = qp.fit(
        net, params, StateCost(half_squared_error, net.outputs), (inputs[:600], targets[:600]),
        solver=BlockDescent(tolerance=1e-3), scheme=qp.centered(0.5), optimizer=optimizer, epochs=6, batch_size=30,
        validation=(inputs[600:], targets[600:]), metric=qp.accuracy, progress=False,
    )  # fmt: skip
    assert history.metric[-1] > 0.92


def test_agnostic_training_lowers_the_loss_without_a_derivative_by_the_parameters():
    net = DeepHopfield((4, 5, 2), activation="tanh", outputs="tanh")
    rng = np.random.default_rng(0)
    params, inputs = net.init_params(rng), rng.normal(size=(6, 4))
    params = {name: value / 2 for name, value in params.items()}
    targets = 0.5 * np.sign(inputs[:, :2])
    history = qp.fit_agnostic(
        net, params, StateCost(half_squared_error, net.outputs), (inputs, targets), beta=0.2, eps=0.05, epochs=8,
        tolerance=1e-4, progress=False,
    )  # fmt: skip
    assert history.loss[-6:].mean() < 0.6 * history.loss[:6].mean()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DeepHopfield((3,)), ValueError, "inputs and the outputs"),
        (lambda: DeepHopfield((3, 0)), ValueError, "`sizes` must be at least 1"),
        (lambda: DeepHopfield((3, (2, 2))), ValueError, "channels, rows, columns"),
        (lambda: DeepHopfield((3, 2), activation="step"), ValueError, "`activation` must be one of"),
        (lambda: DeepHopfield((3, 2), interactions=[Dense(1, 1)]), ValueError, "layers pre < post of 0 to 1"),
        (lambda: DeepHopfield((3, 2, 2), interactions=[Dense(0, 1)]), ValueError, r"reach every layer .* not \[2\]"),
        (lambda: DeepHopfield((3, 2), interactions=["dense"]), TypeError, "must hold `Dense` or `Convolution`"),
        (lambda: DeepHopfield((3, 2), readout=0), ValueError, "`readout` must be at least 1"),
        (
            lambda: qp.ep_gradient(*case("skips")[:2], StateCost(half_squared_error, [1]), 0.0),
            ValueError,
            "must be output units",
        ),
        (
            lambda: qp.ep_gradient(*case("skips")[:4], inputs=case("skips")[4], scheme=qp.centered(1.01)),
            ValueError,
            r"\|beta\| must be below 1",
        ),
        (
            lambda: qp.ep_gradient(*case("skips")[:3], [1, 0, 2, 1, 1], inputs=case("skips")[4]),
            ValueError,
            r"`target` must have the shape of the outputs, \(3,\), .*`np.eye\(3\)\[labels\]`",
        ),
        (lambda: qp.ep_gradient(*case("skips")[:2], qp.ObservableCost(qp.Z(0))), TypeError, "shows `Coordinates`"),
    ],
)
def test_errors_teach(make, error, message):
    with pytest.raises(error, match=message):
        make()
