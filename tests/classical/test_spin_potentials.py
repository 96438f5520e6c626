"""Potentials of spins, exactly: against Ising networks, loops over configurations, and finite differences of free energies."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import (
    Coordinates,
    EnergySystem,
    ExactEnumeration,
    Ising,
    Minimizer,
    Spins,
    StateCost,
    spin_distribution,
)

EDGES = [(0, 1), (1, 2), (2, 3), (3, 0)]
TRIPLES = [(0, 1, 2), (1, 3, 4)]
COLD = ExactEnumeration(0.7)


def pairs(p, s, x):
    return -sum(p["J"][k] * s[i] * s[j] for k, (i, j) in enumerate(EDGES)) - p["h"] @ s


def triples(p, s, x):
    """A system that no Ising network is: triple products, a threshold, and inputs as fields."""
    products = sum(p["K"][k] * s[i] * s[j] * s[m] for k, (i, j, m) in enumerate(TRIPLES))
    return -products - p["h"] @ s - x @ s[:2] + p["a"] * jnp.maximum(s.sum() - 1, 0) ** 2


def network(**options):
    net = EnergySystem(triples, (5,), {"K": (2,), "h": (5,), "a": ()}, inputs=(2,), domain=Spins(), **options)
    return net.with_inputs([0.3, -0.5]), net.init_params(3)


def misfit(s, y):
    return (s[0] * s[1] + 0.5 * s[2] - y) ** 2


COST, TARGET = StateCost(misfit, nodes=[0, 3, 4]), 0.4


def brute_force(params, temperature, function, held=()):
    """The mean of a function over all configurations, by a loop; spins in `held` are up."""
    total = norm = 0.0
    for s in itertools.product([1.0, -1.0], repeat=5):
        s = np.array(s)
        if np.any(s[list(held)] < 0):
            continue
        energy = -sum(k * s[i] * s[j] * s[m] for k, (i, j, m) in zip(params["K"], TRIPLES, strict=True))
        energy += -params["h"] @ s - 0.3 * s[0] + 0.5 * s[1] + params["a"] * max(s.sum() - 1, 0) ** 2
        weight = np.exp(-energy / temperature)
        total, norm = total + weight * function(s), norm + weight
    return total / norm


def loss(params, held=()):
    return brute_force(params, 0.7, lambda s: misfit(s[[0, 3, 4]], TARGET), held)


def slopes(params, held=()):
    """The gradient of the loss by finite differences of fourth order."""
    grad = {}
    for name, value in params.items():
        grad[name] = np.zeros(np.shape(value))
        for place in np.ndindex(np.shape(value)):
            moved = []
            for step in (-2e-3, -1e-3, 1e-3, 2e-3):
                changed = {n: np.array(v, float) for n, v in params.items()}
                changed[name][place] += step
                moved.append(loss(changed, held))
            grad[name][place] = (moved[0] - 8 * moved[1] + 8 * moved[2] - moved[3]) / 12e-3
    return grad


def test_pair_potential_is_an_ising_network():
    ours, net = EnergySystem(pairs, (4,), {"J": (4,), "h": (4,)}, domain=Spins()), Ising(4, EDGES)
    params = net.init_params(0)
    a = qp.ep_gradient(ours, params, StateCost(lambda s, y: s[0] * s[2] + s[1]), solver=COLD)
    b = qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(0) * qp.Z(2) + qp.Z(1)), solver=COLD)
    assert a.free.energy.mean == pytest.approx(float(b.free.energy.mean), rel=1e-13)
    assert a.free.stats["lowest_energy"] == pytest.approx(b.free.stats["lowest_energy"], rel=1e-13)
    assert a.loss.mean == pytest.approx(float(b.loss.mean), rel=1e-12)
    np.testing.assert_allclose(
        a.free.state.expect(Coordinates([3, 1])).mean, [b.free.state.expect(qp.Z(k)).mean for k in (3, 1)], rtol=1e-12
    )
    for name in params:
        np.testing.assert_allclose(a.grad[name], b.grad[name], rtol=1e-11)


def test_means_are_loops_over_configurations():
    net, params = network()
    free = qp.equilibrate(net, params, solver=COLD)
    np.testing.assert_allclose(free.state.expect(Coordinates()).mean, brute_force(params, 0.7, lambda s: s), rtol=1e-12)
    forces = net.param_grad(params, free.state).mean
    excess = brute_force(params, 0.7, lambda s: max(s.sum() - 1, 0) ** 2)
    assert forces["a"] == pytest.approx(excess, rel=1e-12)
    triple = brute_force(params, 0.7, lambda s: s[1] * s[3] * s[4])
    assert forces["K"][1] == pytest.approx(-triple, rel=1e-12)
    assert COST.cost(free.state, TARGET).mean == pytest.approx(loss(params), rel=1e-12)
    entropy = -np.sum(free.state.probabilities * np.log(free.state.probabilities))
    assert free.energy.mean == pytest.approx(float(net.energy(params, free.state).mean) - 0.7 * entropy, rel=1e-12)


@pytest.mark.parametrize("block_bits", [2, 12])
@pytest.mark.parametrize("held", [(), (2,)])
def test_covariance_and_two_phases_give_the_gradient_of_the_loss(monkeypatch, block_bits, held):
    monkeypatch.setattr(spin_distribution, "BLOCK_BITS", block_bits)
    net, params = network(held=np.isin(np.arange(5), held))
    expected = slopes(params, held)
    covariance = qp.ep_gradient(net, params, COST, TARGET, solver=COLD)
    phases = qp.ep_gradient(net, params, COST, TARGET, solver=COLD, scheme=qp.richardson(0.02))
    assert covariance.scheme == qp.LinearResponse()
    assert min(np.abs(expected["K"]).min(), abs(expected["a"])) > 3e-3  # nothing is zero by symmetry
    for name in params:
        np.testing.assert_allclose(covariance.grad[name], expected[name], atol=1e-9)
        np.testing.assert_allclose(phases.grad[name], expected[name], atol=1e-5)


def test_batch_is_the_mean_of_samples():
    net, params = network()
    inputs, targets = np.array([[0.3, -0.5], [1.0, 0.2]]), np.array([0.4, -1.0])
    whole = qp.ep_gradient(net, params, COST, targets, inputs=inputs)  # T = 1 is the default
    parts = [
        qp.ep_gradient(net, params, COST, y, inputs=x, solver=ExactEnumeration(1.0))
        for x, y in zip(inputs, targets, strict=True)
    ]
    np.testing.assert_allclose(whole.grad["K"], np.mean([part.grad["K"] for part in parts], axis=0), rtol=1e-12)


def test_zero_temperature_is_the_lowest_configuration():
    net, params = network()
    cold = qp.equilibrate(net, params, solver=ExactEnumeration(0))
    warm = qp.equilibrate(net, params, solver=ExactEnumeration(1e-3))
    np.testing.assert_allclose(cold.state.expect(Coordinates()).mean, warm.state.expect(Coordinates()).mean, atol=1e-12)
    assert cold.energy.mean == pytest.approx(float(warm.energy.mean), abs=1e-12)
    assert cold.stats["gap"] > 1e-2
    assert not np.any(qp.linear_response(net, params, COST, TARGET, solver=ExactEnumeration(0)).grad["K"])


def test_distributions_survive_the_disk(tmp_path):
    free = qp.equilibrate(*network())
    again = qp.load(qp.save(tmp_path / "free", free))
    assert repr(again.state) == "SpinDistribution(5 spins)"
    np.testing.assert_array_equal(again.state.probabilities, free.state.probabilities)


def solved(solver, system=None):
    net, params = network()
    return lambda: qp.equilibrate(net if system is None else system, params, solver=solver)


def gradient(cost, target):
    net, params = network()
    return lambda: qp.ep_gradient(net, params, cost, target)


MANY = EnergySystem(lambda p, s, x: p["h"] @ s, (21,), {"h": (21,)}, domain=Spins())
SMOOTH = EnergySystem(lambda p, s, x: s @ s - p["h"] @ s, (2,), {"h": (2,)})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (solved(Minimizer()), TypeError, "Spins have no forces .* use ExactEnumeration"),
        (solved(qp.classical.RandomStarts(2)), TypeError, "Spins have no forces"),
        (solved(qp.classical.GradientFlow()), TypeError, "Spins have no forces"),
        (solved(qp.classical.DiscreteTime(dt=0.1, free_steps=5, nudged_steps=5)), TypeError, "Spins have no forces"),
        (solved(qp.classical.HeatBath(1.0)), TypeError, "HeatBath solves Ising networks.* is ExactEnumeration"),
        (solved(qp.classical.SimulatedAnnealing()), TypeError, "is ExactEnumeration"),
        (lambda: qp.equilibrate(MANY, {"h": [0.0] * 21}), ValueError, "at most 20 spins, but the network has 21"),
        (lambda: qp.equilibrate(SMOOTH, {"h": [0.0] * 2}, solver=COLD), TypeError, "`domain=Spins"),
        (lambda: network(start=[1.0, 0.0, 1.0, 1.0, 1.0]), ValueError, "must lie in the domain Spins"),
        (gradient(qp.classical.Clamp([0]), [1.0]), ValueError, "take a StateCost"),
        (gradient(qp.ObservableCost(qp.Z(0)), None), TypeError, "use a StateCost"),
    ],
)
def test_what_spins_cannot_do_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
