"""Clamped phases against networks that are driven there, and coupled learning against its definition."""

import jax.numpy as jnp
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import Box, Clamp, ElasticNetwork, EnergySystem, FlowNetwork, StateCost

EDGES = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (1, 3), (2, 4), (0, 5), (5, 3)]
OUTPUTS, TARGET, SOURCE = [1, 3], np.array([0.9, 0.2]), np.array([1.0])
CONDUCTANCES = {"k": np.random.default_rng(0).uniform(0.5, 2.0, len(EDGES))}


def flow(driven=(0,)):
    return FlowNetwork(6, EDGES, driven=list(driven), grounded=[4])


def flow_forces(potentials):
    return np.array([(potentials[i] - potentials[j]) ** 2 / 2 for i, j in EDGES])


def bowl(p, s, x):
    return jnp.sum(jnp.cosh(s)) + 0.5 * s @ (p["w"] @ p["w"].T) @ s - p["b"] @ jnp.tanh(s)


def random_bowl():
    rng = np.random.default_rng(1)
    return EnergySystem(bowl, (4,), {"w": (4, 4), "b": (4,)}), {"w": rng.normal(size=(4, 4)), "b": rng.normal(size=4)}


@pytest.mark.parametrize("eta", [1.0, 0.2, 1e-2, -0.2])
def test_coupled_learning_is_the_difference_to_a_driven_network(eta):
    free = qp.equilibrate(flow(), CONDUCTANCES, inputs=SOURCE).state.position
    held = free[OUTPUTS] + eta * (TARGET - free[OUTPUTS])
    clamped = qp.equilibrate(flow((0, *OUTPUTS)), CONDUCTANCES, inputs=np.concatenate([SOURCE, held])).state.position
    expected = (flow_forces(clamped) - flow_forces(free)) / eta
    assert np.abs(expected).max() > 0.05
    out = qp.ep_gradient(flow(), CONDUCTANCES, Clamp(OUTPUTS), TARGET, inputs=SOURCE, scheme=qp.one_sided(eta))
    np.testing.assert_allclose(out.grad["k"], expected, atol=1e-11)
    np.testing.assert_allclose(out.nudged[-1][1].state.position, clamped, atol=1e-12)
    assert float(out.loss) == pytest.approx(np.sum((free[OUTPUTS] - TARGET) ** 2))


def test_nodes_in_space_are_held_in_every_direction():
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    edges = [(i, j) for i in range(9) for j in range(i) if np.linalg.norm(grid[i] - grid[j]) < 1.5]
    rng = np.random.default_rng(2)
    params = {"k": rng.uniform(0.5, 2, len(edges)), "l": rng.uniform(0.95, 1.05, len(edges))}
    params["l"] *= [np.linalg.norm(grid[i] - grid[j]) for i, j in edges]
    net = ElasticNetwork(edges, grid, pinned=[0, 3, 6])
    out = qp.ep_gradient(net, params, Clamp([5]), grid[[5]] + [[0.1, -0.2]], scheme=qp.one_sided(0.5))
    free, clamped = out.free.state.position, out.nudged[-1][1].state.position
    twin = ElasticNetwork(edges, grid, pinned=[0, 3, 6], driven=[5])
    there = 0.5 * (free[[5]] + grid[[5]] + [[0.1, -0.2]]) - grid[[5]]
    np.testing.assert_allclose(qp.equilibrate(twin, params, inputs=there).state.position, clamped, atol=1e-11)
    lengths = [np.array([np.linalg.norm(r[i] - r[j]) for i, j in edges]) for r in (free, clamped)]
    stretch = [-params["k"] * (lengths_ - params["l"]) for lengths_ in lengths]
    np.testing.assert_allclose(out.grad["l"], (stretch[1] - stretch[0]) / 0.5, atol=1e-11)
    assert np.abs(out.grad["l"]).max() > 0.01


def test_the_limit_is_the_gradient_at_frozen_stiffness():
    system, params = random_bowl()
    target = np.array([0.5, -0.3])
    exact = qp.linear_response(system, params, Clamp([0, 2]), target)
    free = exact.free.state.position
    hessian = system.curvature(params, free)
    stiffness = np.linalg.inv(np.linalg.inv(hessian)[np.ix_([0, 2], [0, 2])])
    frozen = qp.linear_response(
        system, params, StateCost(lambda s, y: 0.5 * (s - y) @ stiffness @ (s - y), [0, 2]), target
    )
    for name in params:
        assert np.abs(exact.grad[name]).max() > 0.01
        np.testing.assert_allclose(exact.grad[name], frozen.grad[name], atol=1e-11)
        small = qp.ep_gradient(system, params, Clamp([0, 2]), target, scheme=qp.centered(1e-4))
        np.testing.assert_allclose(small.grad[name], exact.grad[name], atol=1e-7)


def test_clamped_phases_start_from_the_free_factor():
    out = qp.ep_gradient(flow(), CONDUCTANCES, Clamp(OUTPUTS), TARGET, inputs=SOURCE, scheme=qp.centered(0.1))
    assert [phase.stats["newton_steps"] for _, phase in out.nudged] == [0, 0]
    system, params = random_bowl()
    out = qp.ep_gradient(system, params, Clamp([1]), [0.3], scheme=qp.centered(1e-3))
    assert [phase.stats["newton_steps"] for _, phase in out.nudged] == [0, 0]


def test_the_truncation_covers_the_error():
    system, params = random_bowl()
    exact = qp.linear_response(system, params, Clamp([0, 2]), [0.5, -0.3])
    for scheme in (qp.one_sided(0.05), qp.centered(0.05), qp.richardson(0.1)):
        out = qp.ep_gradient(system, params, Clamp([0, 2]), [0.5, -0.3], scheme=scheme)
        error, said = (
            np.sqrt(sum(np.sum(v**2) for v in tree.values()))
            for tree in ({n: out.grad[n] - exact.grad[n] for n in params}, out.truncation)
        )
        assert 0 < error < 2 * said < 200 * error


def test_a_clamped_state_starts_a_free_solve():
    out = qp.ep_gradient(flow(), CONDUCTANCES, Clamp(OUTPUTS), TARGET, inputs=SOURCE, scheme=qp.one_sided(0.5))
    again = qp.equilibrate(flow(), CONDUCTANCES, inputs=SOURCE, init=out.nudged[-1][1])
    np.testing.assert_allclose(again.state.position, out.free.state.position, atol=1e-12)


def test_coupled_learning_trains():
    import optax

    start = {"k": np.ones(len(EDGES))}
    data = (SOURCE[None], np.array([[0.75, 0.3]]))
    history = qp.fit(flow(), start, Clamp(OUTPUTS), data, scheme=qp.one_sided(0.1), epochs=60, optimizer=optax.sgd(1.0))
    assert history.loss[-1] < 0.05 * history.loss[0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Clamp([]), ValueError, "at least one"),
        (lambda: Clamp([1, 1]), ValueError, "distinct nodes"),
        (lambda: Clamp([0.5]), TypeError, "nodes"),
        (lambda: gradient(Clamp([1]), None), ValueError, "must be given for a Clamp"),
        (lambda: gradient(Clamp([1]), [0.1, 0.2]), ValueError, r"`target` must have shape \(1,\)"),
        (lambda: gradient(Clamp([1]), [np.nan]), ValueError, "finite"),
        (lambda: gradient(Clamp([4]), [0.1]), ValueError, "pinned, driven or grounded"),
        (lambda: gradient(Clamp([9]), [0.1]), ValueError, "has node 9, but the system has 6 nodes"),
    ],
)
def test_errors_teach(make, error, message):
    with pytest.raises(error, match=message):
        make()


def gradient(nudge, target):
    return qp.ep_gradient(flow(), CONDUCTANCES, nudge, target, inputs=SOURCE, scheme=qp.one_sided(0.5))


def driven_bowl(p, s, x):
    return bowl(p, s, x) - 0.5 * (s**2 * x).sum()


@pytest.mark.parametrize("domain", [None, Box([-0.1, -9, -0.1, -9], [0.1, 9, 0.1, 9])])
@pytest.mark.parametrize("eta", [1.0, 0.3, -0.2])
def test_a_clamped_batch_is_the_mean_of_its_samples(domain, eta):
    rng = np.random.default_rng(5)
    system = EnergySystem(driven_bowl, (4,), {"w": (4, 4), "b": (4,)}, inputs=(4,), domain=domain)
    params = {"w": 0.5 * rng.normal(size=(4, 4)), "b": rng.normal(size=4)}
    inputs, targets = 0.3 * rng.normal(size=(3, 4)), rng.uniform(-0.3, 0.3, (3, 2))
    for scheme in (qp.one_sided(eta), qp.centered(eta), qp.LinearResponse()):
        whole = qp.ep_gradient(system, params, Clamp([1, 3]), targets, inputs=inputs, scheme=scheme)
        parts = [
            qp.ep_gradient(system, params, Clamp([1, 3]), y, inputs=x, scheme=scheme)
            for x, y in zip(inputs, targets, strict=True)
        ]
        for name in params:
            assert np.abs(whole.grad[name]).max() > 1e-2
            np.testing.assert_allclose(whole.grad[name], np.mean([p.grad[name] for p in parts], axis=0), atol=1e-10)
        np.testing.assert_allclose(whole.losses, [float(p.loss) for p in parts], atol=1e-12)


def test_a_clamped_batch_is_at_rest_but_for_what_is_held():
    rng = np.random.default_rng(6)
    system = EnergySystem(driven_bowl, (4,), {"w": (4, 4), "b": (4,)}, inputs=(4,))
    params = {"w": 0.5 * rng.normal(size=(4, 4)), "b": rng.normal(size=4)}
    inputs, targets = 0.3 * rng.normal(size=(3, 4)), rng.uniform(-0.3, 0.3, (3, 2))
    out = qp.ep_gradient(system, params, Clamp([1, 3]), targets, inputs=inputs, scheme=qp.one_sided(1.0))
    held = out.nudged[-1][1].state
    np.testing.assert_allclose(held.position[:, [1, 3]], targets, atol=1e-15)
    for x, position, reaction in zip(inputs, held.position, held.reaction, strict=True):
        np.testing.assert_allclose(system.with_inputs(x).bare_slope(params, position), reaction, atol=1e-12)
    assert np.abs(held.reaction[:, [1, 3]]).min() > 1e-2


def test_a_clamp_moves_a_node_off_its_bound_by_finite_steps_alone():
    pushed = EnergySystem(lambda p, s, x: s @ s / 2 - p["f"] @ s, (2,), {"f": (2,)}, domain=Box(0.0, 1.0))
    params = {"f": [-1.0, 0.5]}
    out = qp.ep_gradient(pushed, params, Clamp([0]), [0.4], scheme=qp.one_sided(0.5))
    np.testing.assert_allclose(out.grad["f"], [-0.4, 0.0], atol=1e-12)  # -(0.2 - 0) / 0.5
    with pytest.raises(ValueError, match="rests against a bound"):
        qp.ep_gradient(pushed, params, Clamp([0]), [0.4], scheme=qp.LinearResponse())


def test_clamped_networks_have_no_time_steps():
    system, params = random_bowl()
    steps = qp.classical.DiscreteTime(dt=0.05, free_steps=2000)
    with pytest.raises(TypeError, match="has no time steps"):
        qp.ep_gradient(system, params, Clamp([1, 3]), [0.1, 0.2], solver=steps, scheme=qp.one_sided(1.0))
