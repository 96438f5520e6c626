"""Convolutional predictive coding networks, VGG-like and with skips: EP is backpropagation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import Convolution, Dense, PredictionSweeps, PredictiveCodingNetwork, StateCost
from qeqprop.classical.hopfield import softmax_cross_entropy
from qeqprop.classical.interactions import Resistors
from qeqprop.core.precision import jax_float64

from ..measures import deviation

ACTIVATIONS = {"relu": lambda a: jnp.maximum(a, 0), "tanh": jnp.tanh}


def vgg(activation, pooling):
    """Two convolutions with pooling, two dense layers."""
    links = [Convolution(0, 1, pooling=pooling), Convolution(1, 2, pooling=pooling), Dense(2, 3), Dense(3, 4)]
    sizes = ((2, 8, 8), (3, 4, 4), (4, 2, 2), 7, 5)
    return PredictiveCodingNetwork(sizes, interactions=links, activation=activation)


def convolved(u, weights, pooling):
    """An independent program: XLA's convolution and its windows."""
    out = jax.lax.conv_general_dilated(u, weights, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))
    tile = (1, 1, 2, 2)
    if pooling == "max":
        return jax.lax.reduce_window(out, -jnp.inf, jax.lax.max, tile, tile, "VALID")
    return jax.lax.reduce_window(out, 0.0, jax.lax.add, tile, tile, "VALID") / 4


def feedforward(activation, pooling, params, x):
    f = ACTIVATIONS[activation]
    for k in range(2):
        x = f(convolved(x, params[f"w{k}"], pooling) + params[f"b{k}"][:, None, None])
    return f(x.reshape(len(x), -1) @ params["w2"] + params["b2"]) @ params["w3"] + params["b3"]


def case(activation, pooling):
    jax_float64()
    net, rng = vgg(activation, pooling), np.random.default_rng(1)
    params = {name: value + 0.05 * rng.normal(size=value.shape) for name, value in net.init_params(rng).items()}
    return net, params, rng.normal(size=(4, 2, 8, 8)), np.eye(5)[rng.integers(5, size=4)]


@pytest.mark.parametrize(("activation", "pooling", "beta"), [("relu", "max", 1e-5), ("tanh", "average", 3e-4)])
def test_ep_is_backpropagation(activation, pooling, beta):
    net, params, inputs, targets = case(activation, pooling)
    cost = StateCost(softmax_cross_entropy, net.outputs)

    def loss(p):
        return jnp.mean(jax.vmap(softmax_cross_entropy)(feedforward(activation, pooling, p, inputs), targets))

    exact = jax.grad(loss)(params)
    assert min(float(np.linalg.norm(value)) for value in exact.values()) > 1e-3
    out = qp.ep_gradient(
        net, params, cost, targets, inputs=inputs, scheme=qp.centered(beta), solver=PredictionSweeps(tolerance=1e-10)
    )
    np.testing.assert_allclose(
        out.free.state.layers[-1], feedforward(activation, pooling, params, inputs), rtol=0, atol=1e-13
    )
    assert np.all(out.free.energy.mean == 0)
    assert deviation(out.grad, exact) < 1e-6
    assert deviation(qp.ep_gradient(net, params, cost, targets, inputs=inputs).grad, exact) < 1e-13
    for _, phase in out.nudged:
        assert phase.stats["sweeps"] <= 16
        assert phase.stats["relative_residual"] <= 1e-10
    single = qp.ep_gradient(net, params, cost, targets[1], inputs=inputs[1])
    assert single.grad["w0"].shape == (3, 2, 3, 3)
    assert single.free.state.layers[1].shape == (3, 4, 4)


@pytest.mark.parametrize(("pooling", "beta"), [("max", 3e-3), ("average", 0.03)])
def test_nudged_states_are_at_rest(pooling, beta):
    net, params, inputs, targets = case("tanh", pooling)
    cost = StateCost(lambda s, y: ((s - y) ** 2).sum() / 2, net.outputs)
    out = qp.ep_gradient(net, params, cost, targets, inputs=inputs, scheme=qp.centered(beta))
    shapes = net.architecture.shapes

    for strength, phase in out.nudged:

        def energy(layers, x, y, strength=strength):
            s1, s2, s3, s4 = layers
            first = jnp.tanh(convolved(x[None], params["w0"], pooling)[0] + params["b0"][:, None, None])
            second = jnp.tanh(convolved(s1[None], params["w1"], pooling)[0] + params["b1"][:, None, None])
            errors = [s1 - first, s2 - second, s3 - jnp.tanh(s2.ravel() @ params["w2"] + params["b2"]),
                      s4 - (s3 @ params["w3"] + params["b3"])]  # fmt: skip
            return sum(jnp.sum(e**2) for e in errors) / 2 + strength * ((s4 - y) ** 2).sum() / 2

        for sample in range(len(inputs)):
            layers = [layer[sample] for layer in phase.state.layers[1:]]
            assert [layer.shape for layer in layers] == list(shapes[1:])
            value, slope = jax.value_and_grad(energy)(layers, inputs[sample], targets[sample])
            assert np.sqrt(sum(float(jnp.sum(part**2)) for part in slope)) < 1e-11
            np.testing.assert_allclose(value, phase.energy.mean[sample], rtol=1e-12)


def test_a_skip_is_another_prediction_of_the_same_layer():
    net = PredictiveCodingNetwork((3, 4, 2), interactions=[Dense(0, 1), Dense(1, 2), Dense(0, 2)])
    rng = np.random.default_rng(0)
    params, x, y = net.init_params(rng), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))

    def loss(p):
        outputs = jnp.tanh(x @ p["w0"] + p["b0"]) @ p["w1"] + x @ p["w2"] + p["b1"]
        return jnp.mean(((outputs - y) ** 2).sum(axis=1)) / 2

    jax_float64()
    exact = jax.grad(loss)(params)
    cost = StateCost(lambda s, t: ((s - t) ** 2).sum() / 2, net.outputs)
    out = qp.ep_gradient(net, params, cost, y, inputs=x, scheme=qp.centered(1e-4))
    assert deviation(out.grad, exact) < 1e-6
    assert min(float(np.linalg.norm(value)) for value in exact.values()) > 1e-2


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"makes a layer 1 of shape \(3, 4, 4\)"):
        PredictiveCodingNetwork(((1, 8, 8), (3, 8, 8), 5), interactions=[Convolution(0, 1, pooling="max"), Dense(1, 2)])
    with pytest.raises(TypeError, match="must hold `Dense` or `Convolution`, but has Resistors"):
        PredictiveCodingNetwork((2, 3), interactions=[Resistors(0, 1)])
    with pytest.raises(ValueError, match="must reach every layer from below"):
        PredictiveCodingNetwork((2, 3, 2), interactions=[Dense(0, 2)])
    net, params, inputs, targets = case("relu", "max")
    cost = StateCost(lambda s, y: ((s - y) ** 2).sum() / 2, net.outputs)
    with pytest.raises(ValueError, match=r"must be below 1, where the curvature"):
        qp.ep_gradient(net, params, cost, targets, inputs=inputs, scheme=qp.centered(1.2))
