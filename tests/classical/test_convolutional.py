"""Convolutional Hopfield networks: the convolution itself, gradients, pooling, bias of nudges of one sign, training."""

import numpy as np
import optax
import pytest
import scipy.signal
from sklearn.datasets import load_digits

import qeqprop as qp
from qeqprop.classical import BlockDescent, Convolution, DeepHopfield, Dense, StateCost, softmax_cross_entropy
from qeqprop.classical.rules import half_squared_error

from ..measures import deviation, norm

SKIPS = [Convolution(0, 2, pooling="average"), Dense(1, 3)]


def case(pooling, seed=0, readout=None, activation="hard_tanh", skips=()):
    rows = 6 if pooling is None else 3
    sizes = [(1, 6, 6), (2, 6, 6), (3, rows, rows), 4]
    links = [Convolution(0, 1), Convolution(1, 2, pooling=pooling), Dense(2, 3), *skips]
    net = DeepHopfield(sizes, interactions=links, activation=activation, readout=readout)
    rng = np.random.default_rng(seed)
    params = {n: 0.7 * v if n[0] == "w" else rng.uniform(0.1, 0.3, v.shape) for n, v in net.init_params(rng).items()}
    cost = half_squared_error if readout is None else softmax_cross_entropy
    targets = np.eye(4 if readout is None else readout)[rng.integers(3, size=3)]
    return net, params, StateCost(cost, net.outputs), targets, rng.normal(size=(3, 1, 6, 6))


@pytest.mark.parametrize("pooling", [None, "average", "max"])
def test_a_convolution_is_a_sum_of_correlations_and_its_pooling(pooling):
    rng = np.random.default_rng(0)
    link = Convolution(0, 1, kernel=3, pooling=pooling)
    image, kernels = rng.normal(size=(2, 3, 7, 6)), rng.normal(size=(4, 3, 3, 3))
    assert link.weight_shape((3, 7, 6), link.image_shape((3, 7, 6), 4)) == kernels.shape
    known = np.array(
        [[sum(scipy.signal.correlate2d(x[c], k[c], "same") for c in range(3)) for k in kernels] for x in image]
    )
    if pooling is not None:
        tiles = known[:, :, :6].reshape(2, 4, 3, 2, 3, 2)
        known = tiles.mean(axis=(3, 5)) if pooling == "average" else tiles.max(axis=(3, 5))
    np.testing.assert_allclose(link.send(kernels, image), known, atol=1e-12)
    unpadded = Convolution(0, 1, kernel=2, padding=0)
    assert unpadded.send(kernels[:, :, :2, :2], image).shape == (2, *unpadded.image_shape((3, 7, 6), 4)) == (2, 4, 6, 5)


@pytest.mark.parametrize(
    ("pooling", "options"),
    [
        (None, {}),
        ("average", {}),
        ("max", {}),
        ("average", {"skips": SKIPS}),
        ("average", {"readout": 5}),
        ("max", {"readout": 5, "skips": SKIPS, "activation": "hard_sigmoid"}),
    ],
    ids=["no pooling", "average", "max", "average, skips", "average, readout", "max, skips, readout"],
)
def test_ep_is_implicit_differentiation_is_finite_differences(pooling, options):
    net, params, cost, target, inputs = case(pooling, seed=3, **options)
    exact = qp.linear_response(net, params, cost, target, inputs=inputs)
    assert all(norm({n: grad}) > 1e-3 for n, grad in exact.grad.items())
    step = min(1e-4, exact.free.stats["kink_distance"] / 100)
    components = {n: list(np.ndindex(v.shape))[:2] for n, v in params.items()}
    known = qp.finite_difference(net, params, cost, target, inputs=inputs, components=components, step=step)
    assert deviation(known.grad, exact.grad) < 1e-6
    ep = qp.ep_gradient(net, params, cost, target, inputs=inputs, scheme=qp.centered(step))
    assert deviation(ep.grad, exact.grad) < 1e-6
    assert {name: grad.shape for name, grad in ep.grad.items()} == net.param_shapes


def test_average_pooling_is_a_dense_network_of_its_matrices():
    net, params, cost, target, inputs = case("average")
    architecture, dense = net.architecture, {name: value for name, value in params.items() if name[0] == "b"}
    for k, link in enumerate(architecture.interactions):
        before = architecture.shapes[link.pre]
        unit = np.eye(int(np.prod(before))).reshape(-1, *before)
        dense[f"w{k}"] = np.asarray(link.send(params[f"w{k}"], unit)).reshape(len(unit), -1)
    for layer in (1, 2):
        _, rows, columns = architecture.shapes[layer]
        dense[f"b{layer - 1}"] = np.repeat(params[f"b{layer - 1}"], rows * columns)
    flat = DeepHopfield((36, 72, 27, 4), activation="hard_tanh")
    ours = qp.ep_gradient(net, params, cost, target, inputs=inputs, scheme=qp.centered(0.3))
    nudge = StateCost(half_squared_error, flat.outputs)
    theirs = qp.ep_gradient(flat, dense, nudge, target, inputs=inputs.reshape(3, -1), scheme=qp.centered(0.3))
    np.testing.assert_allclose(ours.free.state.position, theirs.free.state.position, atol=1e-12)
    np.testing.assert_allclose(ours.losses, theirs.losses, atol=1e-12)
    np.testing.assert_allclose(ours.grad["w2"], theirs.grad["w2"], atol=1e-10)
    np.testing.assert_allclose(ours.grad["b0"], theirs.grad["b0"].reshape(2, -1).sum(axis=1), atol=1e-10)


def test_schedules_and_starts_do_not_change_the_equilibrium():
    net, params, cost, target, inputs = case("average", skips=SKIPS)
    weak = {name: 0.7 * value for name, value in params.items()}
    exact = qp.ep_gradient(net, weak, cost, target, inputs=inputs, scheme=qp.centered(0.1))
    for schedule in ("asynchronous", "synchronous"):
        solver = BlockDescent(schedule=schedule, feedforward=schedule == "asynchronous")
        out = qp.ep_gradient(net, weak, cost, target, inputs=inputs, scheme=qp.centered(0.1), solver=solver)
        assert 3 < out.free.stats["sweeps"] != exact.free.stats["sweeps"]
        np.testing.assert_allclose(out.free.state.position, exact.free.state.position, atol=1e-12)
        assert deviation(out.grad, exact.grad) < 1e-10


def test_nudges_of_one_sign_are_biased_and_symmetric_ones_less():
    net, params, cost, target, inputs = case("average", activation="tanh")
    problem = net, params, cost, target
    exact = qp.linear_response(*problem, inputs=inputs).grad
    biases = {}
    for scheme in (qp.one_sided, qp.centered):
        biases[scheme] = [
            deviation(qp.ep_gradient(*problem, inputs=inputs, scheme=scheme(beta)).grad, exact) for beta in (0.02, 0.01)
        ]
    for scheme, order in ((qp.one_sided, 1), (qp.centered, 2)):
        assert np.log2(biases[scheme][0] / biases[scheme][1]) == pytest.approx(order, abs=0.2)
    assert biases[qp.centered][1] < 0.1 * biases[qp.one_sided][1]


def test_training_on_digits():
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))[:756]
    inputs, targets = (images[order] / 4 - 1.2).reshape(-1, 1, 8, 8), np.eye(10)[labels[order]]
    links = [Convolution(0, 1, pooling="max"), Dense(1, 2)]
    net = DeepHopfield([(1, 8, 8), (8, 4, 4), 10], interactions=links)
    params = net.init_params(0)
    params["w1"] /= 2
    history = qp.fit(
        net, params, StateCost(half_squared_error, net.outputs), (inputs[:500], targets[:500]),
        solver=BlockDescent(tolerance=1e-3), scheme=qp.centered(0.5), optimizer=optax.adam(0.02), epochs=6, batch_size=20,
        validation=(inputs[500:], targets[500:]), metric=qp.accuracy, progress=False,
    )  # fmt: skip
    assert history.metric[-1] > 0.85


def test_max_pooling_into_units_of_both_signs_may_find_no_rest_and_says_why():
    net, params, *_, inputs = case("max", seed=0)
    params = {name: 3 * value if name[0] == "w" else value for name, value in params.items()}
    with pytest.raises(qp.EquilibriumError, match=r"max pooling Convolution\(.*pixels tie.*average pooling"):
        qp.equilibrate(net, params, inputs=inputs)
    for same, other in (("max", "hard_sigmoid"), ("average", "hard_tanh")):
        calm, _, *_, inputs = case(same, seed=0, activation=other)
        assert qp.equilibrate(calm, params, inputs=inputs).status is qp.Status.OK


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Convolution(0, 1, kernel=2), ValueError, "`padding` must be given for an even kernel"),
        (lambda: Convolution(0, 1, kernel=0), ValueError, "`kernel` must be at least 1"),
        (lambda: Convolution(0, 1, pooling="min"), ValueError, "`pooling` must be None or one of average, max"),
        (lambda: DeepHopfield([(1, 4, 4), 3], interactions=[Convolution(0, 1)]), ValueError, "channels, rows, columns"),
        (
            lambda: DeepHopfield([(1, 4, 4), (2, 4, 4)], interactions=[Convolution(0, 1, pooling="max")]),
            ValueError,
            r"layer 1 of shape \(2, 2, 2\)",
        ),
    ],
)
def test_errors_teach(make, error, message):
    with pytest.raises(error, match=message):
        make()
