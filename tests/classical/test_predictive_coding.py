"""Predictive coding: the free state is a forward pass, nudged states are at rest, and EP is backpropagation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import qeqprop as qp
from qeqprop.classical import PredictionSweeps, PredictiveCodingNetwork, StateCost
from qeqprop.core.precision import jax_float64

from ..measures import deviation


def squared_error(s, y):
    return ((s - y) ** 2).sum() / 2


def cross_entropy(s, y):
    return -(y * jax.nn.log_softmax(s)).sum()


FUNCTIONS = {
    "tanh": jnp.tanh,
    "sigmoid": lambda a: 1 / (1 + jnp.exp(-a)),
    "hard_sigmoid": lambda a: jnp.minimum(jnp.maximum(a, 0), 1),
    "relu": lambda a: jnp.maximum(a, 0),
    "gelu": jax.nn.gelu,
    "linear": lambda a: a,
}


def feedforward(net, params, x):
    for k, name in enumerate(net.activations):
        x = FUNCTIONS[name](x @ params[f"w{k}"] + params[f"b{k}"])
    return x


def backpropagated(net, params, cost, inputs, targets):
    """An independent program: the mean loss of a feedforward network, differentiated by JAX."""
    jax_float64()

    def loss(p):
        return jnp.mean(jax.vmap(lambda x, y: cost(feedforward(net, p, x), y))(inputs, targets))

    return jax.value_and_grad(loss)(params)


def case(activation="tanh", readout="linear", cost=squared_error, sizes=(4, 7, 6, 3), batch=5, seed=0):
    net = PredictiveCodingNetwork(sizes, activation=activation, readout=readout)
    rng = np.random.default_rng(seed)
    params = {name: value + 0.1 * rng.normal(size=value.shape) for name, value in net.init_params(rng).items()}
    inputs, targets = rng.normal(size=(batch, sizes[0])), rng.normal(size=(batch, sizes[-1]))
    if cost is cross_entropy:
        targets = np.eye(sizes[-1])[rng.integers(sizes[-1], size=batch)]
    return net, params, StateCost(cost, net.outputs), targets, inputs


CASES = {
    **{name: case(name) for name in FUNCTIONS},
    "sigmoid readout": case(readout="sigmoid"),
    "cross-entropy": case("relu", cost=cross_entropy),
    "no hidden layer": case(sizes=(4, 3), readout="tanh"),
}


@pytest.mark.parametrize("name", CASES)
def test_ep_is_backpropagation(name):
    net, params, cost, targets, inputs = CASES[name]
    loss, exact = backpropagated(net, params, cost.function, inputs, targets)
    assert min(float(np.linalg.norm(value)) for value in exact.values()) > 1e-3
    limit = qp.ep_gradient(net, params, cost, targets, inputs=inputs)
    np.testing.assert_allclose(float(limit.loss), loss, rtol=1e-13)
    assert deviation(limit.grad, exact) < 1e-13
    large = 1e-4 if name in ("relu", "hard_sigmoid") else 1e-2  # a larger one takes units across their kinks
    for scheme, bound in ((qp.centered(1e-4), 1e-6), (qp.richardson(large), 1e-5), (qp.one_sided(1e-5), 1e-3)):
        out = qp.ep_gradient(net, params, cost, targets, inputs=inputs, scheme=scheme)
        assert deviation(out.grad, exact) < bound
        assert out.status is qp.Status.OK


def test_nudged_states_are_at_rest_after_few_sweeps():
    net, params, cost, targets, inputs = case()
    solver = PredictionSweeps(tolerance=1e-10)
    out = qp.ep_gradient(net, params, cost, targets, inputs=inputs, scheme=qp.centered(0.03), solver=solver)
    np.testing.assert_allclose(out.free.state.layers[-1], feedforward(net, params, inputs), atol=1e-14)
    assert np.all(out.free.energy.mean == 0)
    splits = np.cumsum(net.layer_sizes[1:])[:-1]

    for strength, phase in out.nudged:
        assert phase.stats["sweeps"] <= 16
        assert phase.stats["displacement"] > 0.1

        def energy(s, sample, strength=strength):
            layers = [inputs[sample], *jnp.split(s, splits)]
            errors = [
                after - FUNCTIONS[name](before @ params[f"w{k}"] + params[f"b{k}"])
                for k, (name, before, after) in enumerate(zip(net.activations, layers[:-1], layers[1:], strict=True))
            ]
            return sum(jnp.sum(e**2) for e in errors) / 2 + strength * squared_error(layers[-1], targets[sample])

        for sample in range(len(inputs)):
            s = phase.state.position[sample, net.layer_sizes[0] :]
            slope = jax.grad(energy)(s, sample)
            np.testing.assert_allclose(np.linalg.norm(slope), phase.residual[sample], rtol=0, atol=2e-15)
            assert np.linalg.norm(slope) < 1e-10
            np.testing.assert_allclose(energy(s, sample), phase.energy.mean[sample], rtol=1e-10)
        minimum = scipy.optimize.minimize(energy, np.zeros(s.size), (sample,), jac=jax.grad(energy), tol=1e-9)
        np.testing.assert_allclose(minimum.x, s, atol=1e-6)


def test_centered_ep_at_a_large_nudge_is_the_gradient_of_the_difference_of_energies():
    net, params, cost, targets, inputs = case(batch=2)
    beta, step = 0.05, 1e-4
    out = qp.ep_gradient(net, params, cost, targets, inputs=inputs, scheme=qp.centered(beta))

    def difference(p):
        nudged = qp.ep_gradient(net, p, cost, targets, inputs=inputs, scheme=qp.centered(beta)).nudged
        energies = {strength: phase.energy.mean.mean() for strength, phase in nudged}
        return (energies[beta] - energies[-beta]) / (2 * beta)

    for name, index in (("w0", (1, 2)), ("b1", (3,)), ("w2", (0, 1))):
        ends = []
        for sign in (1, -1):
            moved = {n: np.array(v) for n, v in params.items()}
            moved[name][index] += sign * step
            ends.append(difference(moved))
        assert abs(out.grad[name][index]) > 1e-3
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), out.grad[name][index], rtol=1e-6, atol=1e-9)


def test_a_batch_is_the_mean_of_its_samples_and_forces_are_of_the_given_parameters():
    net, params, cost, targets, inputs = case()
    scheme = qp.centered(1e-2)
    whole = qp.ep_gradient(net, params, cost, targets, inputs=inputs, scheme=scheme)
    singles = [
        qp.ep_gradient(net, params, cost, y, inputs=x, scheme=scheme) for x, y in zip(inputs, targets, strict=True)
    ]
    mean = {name: np.mean([one.grad[name] for one in singles], axis=0) for name in params}
    assert deviation(whole.grad, mean) < 1e-10
    state = singles[0].nudged[0][1].state
    driven = net.with_inputs(inputs[0])
    moved = {n: v + 0.1 for n, v in params.items()}  # not those that the solver knew
    slope = scipy.optimize.approx_fprime(moved["b0"], lambda b: float(driven.energy(moved | {"b0": b}, state)), 1e-7)
    np.testing.assert_allclose(driven.param_grad(moved, state).mean["b0"], slope, rtol=1e-5, atol=1e-6)


def test_nudges_without_a_minimum_are_refused():
    net, params, cost, targets, inputs = case()
    with pytest.raises(ValueError, match=r"beta = -1.2 .* must be below 1, where"):
        qp.ep_gradient(net, params, cost, targets, inputs=inputs, scheme=qp.one_sided(-1.2 * 2))
    doubled = StateCost(lambda s, y: ((s - y) ** 2).sum(), net.outputs)
    with pytest.raises(ValueError, match=r"must be below 0\.5"):
        qp.ep_gradient(net, params, doubled, targets, inputs=inputs, scheme=qp.centered(0.6))
    with pytest.raises(qp.EquilibriumError, match=r"nudge too large|unconverged"):
        qp.ep_gradient(
            net, {n: 4 * v for n, v in params.items()}, cost, targets, inputs=inputs, scheme=qp.centered(0.9)
        )
    with pytest.raises(ValueError, match="must be one of tanh"):
        PredictiveCodingNetwork((2, 2), activation="step")
    with pytest.raises(ValueError, match="must be outputs of the network, 11 to 13"):
        qp.ep_gradient(
            case(sizes=(4, 7, 3))[0], case(sizes=(4, 7, 3))[1], StateCost(squared_error, [0]), targets, inputs=inputs
        )


def test_training_separates_a_ring_from_its_centre():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 2))
    targets = np.where(np.linalg.norm(inputs, axis=1, keepdims=True) > 1.2, 1.0, -1.0)
    net = PredictiveCodingNetwork((2, 16, 1))
    history = qp.fit(
        net, net.init_params(0), StateCost(squared_error, net.outputs), (inputs, targets), scheme=qp.centered(0.01),
        solver=PredictionSweeps(tolerance=1e-6), optimizer=optax.adam(0.03), epochs=30, progress=False,
    )  # fmt: skip
    outputs = feedforward(net, history.params, inputs)
    assert np.mean(np.sign(outputs) == targets) > 0.95


def test_a_gradient_is_saved_and_loaded(tmp_path):
    net, params, cost, targets, inputs = case()
    out = qp.ep_gradient(net, params, cost, targets, inputs=inputs, scheme=qp.centered(1e-3))
    qp.save(tmp_path / "gradient.npz", out)
    state = qp.load(tmp_path / "gradient.npz").nudged[0][1].state
    nudged = net.with_inputs(inputs)
    # without what the solver knew, the errors are differences of activities: 1e-16 of one, in forces of 1e-3
    for name, force in nudged.param_grad(params, out.nudged[0][1].state).mean.items():
        np.testing.assert_allclose(nudged.param_grad(params, state).mean[name], force, atol=1e-15)


@pytest.mark.parametrize(("beta", "status"), [(0.002, qp.Status.OK), (0.05, qp.Status.BRANCH_JUMP)])
def test_sweeps_that_leap_over_a_barrier_are_flagged(beta, status):
    net = PredictiveCodingNetwork((1, 1, 2, 1))
    params = {"w0": [[1.0]], "b0": [0.0], "w1": [[1.0, -7.0]], "b1": [0.0, -1.0], "w2": [[3.0], [1.0]], "b2": [6.0]}
    cost = StateCost(squared_error, net.outputs)
    inputs, targets = [[0.4], [2.0]], [[-7.0], [7.0]]  # the second sample has a small error, and stays
    out = qp.ep_gradient(net, params, cost, targets, inputs=inputs, scheme=qp.one_sided(beta), throw=False)
    strength, nudged = out.nudged[-1]
    assert strength == beta
    assert nudged.status is status

    # with the other layers at their minima, the energy is one of s_1 alone: (s - t)^2/2 + k (f(s) - y)^2/2
    free = np.tanh(0.4)

    def slope(s):
        u, v = np.tanh(s), np.tanh(-7 * s - 1)
        return s - free + beta / (1 + 11 * beta) * (3 * u + v + 13) * (3 * (1 - u**2) - 7 * (1 - v**2))

    end, other = nudged.state.layers[1].ravel()
    assert abs(slope(end)) < 1e-9
    uphill = slope(np.linspace(free, end, 1001)[1:-1]) * (end - free) > 0
    assert np.any(uphill) == (status is qp.Status.BRANCH_JUMP)
    assert abs(other - np.tanh(2.0)) < 0.03
