"""Over-relaxed block updates: as quick as Young's theory says, downhill all the way, and to the same equilibria."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import BlockDescent, DeepHopfield, DeepResistiveNetwork, StateCost


def _chain(activation: str, sizes=(3, 8, 7, 6, 4), strength: float = 1.0):
    net = DeepHopfield(sizes, activation=activation)
    rng, params = np.random.default_rng(5), net.init_params(5)
    for name in params:
        if name.startswith("w") and name != "w0":
            params[name] *= strength / np.linalg.norm(params[name], 2)
        if name.startswith("b"):
            params[name] = rng.uniform(0, 0.5, params[name].shape)
    return net, params, rng.random((5, sizes[0]))


@pytest.mark.parametrize("coupling", [0.9, 0.99, 0.999])
def test_sweeps_are_as_few_as_the_best_factor_allows(coupling):
    """Two linear units that send w to one another: plain sweeps gain w^2 each, the best ones 2 / (1 + sqrt(1 - w^2)) - 1."""
    net = DeepHopfield((1, 1, 1), activation="linear")
    params = {"w0": [[1.0]], "b0": [0.0], "w1": [[coupling]], "b1": [0.0]}
    found = qp.equilibrate(net, params, inputs=[1.0], solver=BlockDescent(tolerance=1e-10))
    exact = np.array([1.0, coupling]) / (1 - coupling**2)
    np.testing.assert_allclose([found.state.layers[1][0], found.state.layers[2][0]], exact, rtol=1e-6)
    plain = np.log(1e-10) / np.log(coupling**2)
    best = np.log(1e-10) / np.log(2 / (1 + np.sqrt(1 - coupling**2)) - 1)
    assert found.stats["sweeps"] < min(3 * best, 0.6 * plain)


@pytest.mark.parametrize("activation", ["linear", "hard_sigmoid"])
def test_the_energy_falls_with_every_sweep(activation):
    net, params, inputs = _chain(activation, strength=0.6)
    energies = [
        qp.equilibrate(net, params, inputs=inputs, solver=BlockDescent(max_sweeps=n), throw=False).energy.mean
        for n in range(1, 30)
    ]
    falls = np.diff(energies, axis=0)
    assert np.all(falls <= 1e-13)
    assert np.all(falls[:6] < 0)


def test_stationary_points_and_responses_are_those_of_the_network():
    """Every unit is where its neighbours put it; the response is the derivative of these states."""
    net, params, inputs = _chain("hard_sigmoid", strength=0.8)
    state = qp.equilibrate(net, params, inputs=inputs).state
    arrays = [np.asarray(layer) for layer in state.layers]
    for k in range(1, 4):
        field = params[f"b{k - 1}"] + arrays[k - 1] @ params[f"w{k - 1}"] + arrays[k + 1] @ params[f"w{k}"].T
        np.testing.assert_allclose(arrays[k], np.clip(field, 0, 1), atol=1e-13)
    np.testing.assert_allclose(arrays[4], params["b3"] + arrays[3] @ params["w3"], atol=1e-13)
    assert 0.1 < np.mean((arrays[2] > 0) & (arrays[2] < 1)) < 0.99  # some units at their bounds, some not
    cost = StateCost(lambda s, y: ((s - y) ** 2).sum() / 2, net.outputs)
    args = (net, params, cost, np.zeros((5, 4)))
    exact = qp.ep_gradient(*args, inputs=inputs)
    quotient = qp.ep_gradient(*args, inputs=inputs, scheme=qp.centered(1e-4))
    for name, value in exact.grad.items():
        assert np.linalg.norm(value) > 1e-4
        np.testing.assert_allclose(quotient.grad[name], value, atol=1e-7 * np.abs(value).max())


def test_circuits_with_diodes_gain_as_well():
    net = DeepResistiveNetwork((4, 10, 10, 10, 2))
    params, inputs = net.init_params(0), np.random.default_rng(0).normal(size=(6, 4))
    found, plain = (
        qp.equilibrate(net, params, inputs=inputs, solver=BlockDescent(tolerance=1e-12, over_relaxed=over_relaxed))
        for over_relaxed in (True, False)
    )
    assert found.stats["sweeps"] < 0.8 * plain.stats["sweeps"]
    np.testing.assert_allclose(found.state.position, plain.state.position, atol=1e-10)
