"""Allosteric tasks: what is asked for was not there before, is learnt, and is measured independently."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import allostery, elastic_allostery, flow_allostery, rigidity_report


@pytest.fixture(scope="module")
def flow():
    return flow_allostery(36, n_pairs=2, seed=3).train(steps=300)


@pytest.fixture(scope="module")
def elastic():
    return elastic_allostery(36, seed=3).train(steps=150)


def test_flow_network_learns_its_drops(flow):
    task = flow.task
    assert flow.reduction < 1e-8
    np.testing.assert_allclose(flow.after, task.wanted, rtol=1e-3)
    np.testing.assert_allclose(np.abs(flow.after / flow.before - 1), 0.5, rtol=1e-3)
    u = qp.equilibrate(task.network, flow.history.params, inputs=[1.0]).state.position
    assert u[task.source[0]] == 1
    assert u[task.source[1]] == 0
    np.testing.assert_array_equal(flow.after, [u[i] - u[j] for i, j in task.pairs])


def test_elastic_network_learns_a_strain_far_above_its_own(elastic):
    task, params = elastic.task, elastic.history.params
    assert elastic.reduction < 1e-5
    assert abs(elastic.before[0]) < 0.05
    assert elastic.before[0] * elastic.after[0] > 0
    assert abs(elastic.after[0]) == pytest.approx(0.2, rel=1e-2)
    r = qp.equilibrate(task.network, params, inputs=task.inputs).state.position

    def strain(pair):
        now, rest = (np.linalg.norm(x[pair[0]] - x[pair[1]]) for x in (r, task.network.reference))
        return now / rest - 1

    assert strain(task.source) == pytest.approx(0.05)
    assert strain(task.pairs[0]) == pytest.approx(0.05 * elastic.after[0])


def test_the_trained_elastic_network_keeps_its_shape_and_its_bounds(elastic):
    task, params = elastic.task, elastic.history.params
    np.testing.assert_array_equal(params["l"], task.params["l"])
    assert params["k"].min() >= allostery.LEAST_STIFFNESS
    assert params["k"].max() <= allostery.LARGEST_STIFFNESS
    unstrained = qp.equilibrate(task.network, params)
    assert float(unstrained.energy) == pytest.approx(0, abs=1e-20)
    assert rigidity_report(task.network, params).rigid


@pytest.mark.parametrize("make", [lambda: flow_allostery(36, seed=1), lambda: elastic_allostery(36, seed=1)])
def test_the_gradient_that_trains_is_that_of_the_loss(make):
    task = make()
    problem = (task.network, task.params, task.nudge, task.wanted)
    exact = qp.linear_response(*problem, inputs=task.inputs)
    ours = qp.ep_gradient(*problem, inputs=task.inputs, scheme=qp.centered(1e-5))
    known = qp.finite_difference(*problem, inputs=task.inputs, components={"k": [(n,) for n in range(8)]}, step=1e-3)
    scale = np.abs(exact.grad["k"]).max()
    assert np.abs(exact.grad["k"][:8]).max() > 1e-3 * scale > 0
    np.testing.assert_allclose(ours.grad["k"], exact.grad["k"], atol=3e-4 * scale)
    np.testing.assert_allclose(known.grad["k"][:8], exact.grad["k"][:8], atol=1e-5 * scale)
    assert float(exact.loss) == pytest.approx(
        0.5 * np.sum(((task.response(task.params) - task.wanted) / task.scale) ** 2)
    )


def test_a_seed_is_a_task():
    one, same, other = (flow_allostery(25, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.pairs, same.pairs)
    np.testing.assert_array_equal(one.params["k"], same.params["k"])
    assert not np.array_equal(one.pairs, other.pairs)


def test_results_print(flow):
    text = repr(flow)
    assert "FlowNetwork(36 nodes" in text
    assert f"{flow.task.wanted[0]:.6f}" in text
    assert "2 answering pairs" in repr(flow.task)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flow_allostery(9), "`n_nodes` must be at least 16"),
        (lambda: flow_allostery(16, n_pairs=0), "`n_pairs` must be at least 1"),
        (lambda: flow_allostery(16, n_pairs=99), "pairs respond by themselves, but 99 are asked for"),
        (lambda: flow_allostery(16, n_pairs=1).train(steps=0), "`steps` must be at least 1"),
    ],
)
def test_errors_teach(make, message):
    with pytest.raises(ValueError, match=message):
        make()
