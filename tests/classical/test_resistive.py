"""Resistive networks on any graph: ideal diodes, gradients, and the layered network as a special case."""

import networkx as nx
import numpy as np
import pytest
import scipy.optimize

import qeqprop as qp
from qeqprop.classical import ActiveSet, DeepResistiveNetwork, Diode, Minimizer, ResistiveNetwork, StateCost

from ..measures import deviation, norm


def squared_error(v, y):
    return ((v - y) ** 2).sum()


def random_network(seed=0, n=14, floating=True):
    """A random graph with sources, diodes to potentials and diodes between nodes that move."""
    rng = np.random.default_rng(seed)
    graph = nx.connected_watts_strogatz_graph(n, 4, 0.4, seed=seed)
    diodes = [Diode(5, None, 0.1), Diode(None, 6, 0.0), Diode(7, None, -0.1), Diode(None, 8, 0.2)]
    diodes += [Diode(9, 10, 0.0), Diode(11, 12, 0.05), Diode(4, 13, 0.0)] if floating else []
    net = ResistiveNetwork(n, graph, sources=[0, 1, 2], grounded=[3], diodes=diodes, currents=[4, 9, 11])
    params = net.init_params(rng) | {"i": rng.normal(size=3)}
    return net, params, rng.normal(size=3)


@pytest.mark.parametrize("seed", range(6))
def test_equilibria_are_bounded_minima(seed):
    net, params, inputs = random_network(seed)
    found = qp.equilibrate(net, params, inputs=inputs)
    assert found.status is qp.Status.OK
    assert found.stats["factorizations"] <= 6
    driven = net.with_inputs(inputs)
    bounds, drop = driven.diode_matrix()
    assert np.max(bounds @ found.state.position - drop) < 1e-12
    assert np.all(found.state.diode_currents >= 0)

    def whole(x):
        v = driven.start()
        v[net.free] = x
        return v

    known = scipy.optimize.minimize(
        lambda x: 0.5 * whole(x) @ (net.laplacian(params) @ whole(x)) - net.injected(params) @ whole(x),
        np.zeros(len(net.free)),
        constraints={"type": "ineq", "fun": lambda x: drop - bounds @ whole(x)},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    np.testing.assert_allclose(found.state.position[net.free], known.x, atol=1e-6)
    assert float(found.energy) == pytest.approx(known.fun, abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cost", [squared_error, lambda v, y: ((v - y) ** 4).sum() + v[0] * v[1]])
def test_ep_is_implicit_differentiation_is_finite_differences(seed, cost):
    net, params, inputs = random_network(seed)
    nudge, target = StateCost(cost, [5, 10, 12]), np.array([0.3, -0.2, 0.1])
    exact = qp.linear_response(net, params, nudge, target, inputs=inputs)
    assert exact.free.stats["kink_distance"] > 1e-3
    assert exact.free.stats["conducting"] > 0
    known = qp.finite_difference(net, params, nudge, target, inputs=inputs, step=1e-4)
    assert all(norm({name: exact.grad[name]}) > 1e-3 for name in ("g", "i"))
    assert deviation(known.grad, exact.grad) < 1e-7
    for scheme, bound in ((qp.centered(1e-4), 1e-6), (qp.one_sided(1e-5), 1e-3), (qp.richardson(1e-3), 1e-6)):
        out = qp.ep_gradient(net, params, nudge, target, inputs=inputs, scheme=scheme)
        assert deviation(out.grad, exact.grad) < bound
        assert sum(phase.stats["diode_flips"] for _, phase in out.nudged) == 0


def test_a_kink_between_the_nudges_is_counted_and_the_difference_is_still_exact():
    net = ResistiveNetwork(3, [(0, 1), (1, 2)], sources=[0], grounded=[2], diodes=[(1, None, 0.5)])
    cost, params = StateCost(squared_error, [1]), {"g": np.array([1.0, 1.0])}
    at = 0.998  # the diode conducts above 0.5 V, and stands at 0.499
    out = qp.ep_gradient(net, params, cost, [1.0], inputs=[at], scheme=qp.centered(0.1))
    assert [phase.stats["diode_flips"] for _, phase in out.nudged] == [1, 1]
    step, losses = 1e-5, []
    for shift in (step, -step):
        driven, moved = net.with_inputs([at]), {"g": params["g"] + [shift, 0]}
        term = cost.term(None, np.array([1.0]))
        up, down = (float(qp.equilibrate(driven.nudged(term, b), moved).energy) for b in (0.1, -0.1))
        losses.append((up - down) / 0.2)
    assert out.grad["g"][0] == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-6)
    exact = qp.linear_response(net, params, cost, [1.0], inputs=[at])
    assert deviation(out.grad, exact.grad) > 0.1  # it is not the derivative at beta = 0


def test_layered_networks_agree_with_block_descent():
    deep = DeepResistiveNetwork((2, 4, 3, 2))
    rng = np.random.default_rng(3)
    params, inputs, target = deep.init_params(rng), rng.normal(size=2), rng.normal(size=2)
    starts = np.concatenate([[0], np.cumsum(deep.layer_sizes)])
    edges = [
        (int(starts[layer]) + i, int(starts[layer + 1]) + j)
        for layer, name in enumerate(deep.param_shapes)
        for i, j in np.ndindex(deep.param_shapes[name])
    ]
    hidden = range(int(starts[1]), int(starts[3]))
    sites = [(k, k - starts[1] if k < starts[2] else k - starts[2]) for k in hidden]
    diodes = [Diode(None, k) if place % 2 == 0 else Diode(k, None) for k, place in sites]
    flat = ResistiveNetwork(int(starts[-1]), edges, sources=range(4), diodes=diodes)
    together = {"g": np.concatenate([params[name].ravel() for name in params])}
    cost = StateCost(squared_error, deep.outputs)
    ours = qp.linear_response(deep, params, cost, target, inputs=inputs)
    theirs = qp.linear_response(flat, together, cost, target, inputs=[*inputs, *-inputs])
    np.testing.assert_allclose(ours.free.state.position, theirs.free.state.position, atol=1e-13)
    grads = np.concatenate([ours.grad[name].ravel() for name in params])
    assert np.linalg.norm(grads) > 0.01
    np.testing.assert_allclose(grads, theirs.grad["g"], atol=1e-12)


def test_large_grids_take_a_handful_of_factorisations():
    graph = nx.convert_node_labels_to_integers(nx.grid_2d_graph(60, 60))
    rng = np.random.default_rng(0)
    diodes = [Diode(int(k), int(k) + 1) for k in range(70, 3000, 7)]
    net = ResistiveNetwork(3600, graph, sources=[0, 3599], grounded=[59], diodes=diodes, currents=range(100, 200))
    params = net.init_params(0) | {"i": rng.normal(size=100)}
    found = qp.equilibrate(net, params, inputs=[5.0, -3.0])
    assert found.stats["factorizations"] <= 15
    assert found.stats["conducting"] > 50
    assert float(found.residual) < 1e-11


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ResistiveNetwork(3, [(0, 1), (1, 0)], sources=[0]), ValueError, "each pair once"),
        (lambda: ResistiveNetwork(3, [(0, 1)], sources=[0]), ValueError, "disconnected: the voltage of node 2"),
        (lambda: ResistiveNetwork(3, [(0, 1)], sources=[0], diodes=[(1, 2, 0.0)]), ValueError, "while it blocks"),
        (lambda: ResistiveNetwork(2, [(0, 1)]), ValueError, "disconnected"),
        (lambda: ResistiveNetwork(2, [(0, 1)], sources=[0], grounded=[0]), ValueError, "held already"),
        (lambda: ResistiveNetwork(2, [(0, 1)], sources=[0], currents=[0]), ValueError, "held already"),
        (lambda: ResistiveNetwork(2, [(0, 1)], sources=[0], diodes=[(0, None)]), ValueError, "not held"),
        (lambda: ResistiveNetwork(2, [(0, 1)], sources=[0], diodes=[3]), TypeError, "triples"),
        (lambda: ResistiveNetwork(2, [(0, 1)], sources=[0], diodes=[(1, None, np.nan)]), ValueError, "`diodes` must be finite"),
        (
            lambda: qp.ep_gradient(
                ResistiveNetwork(2, [(0, 1)], sources=[0]), {"g": [1.0]}, StateCost(squared_error, [0]), [0.0], inputs=[1.0]
            ),
            ValueError,
            "every gradient would be zero",
        ),
        (lambda: ResistiveNetwork(2, [(0, 1)], sources=[0], diodes=[(1, None)] * 2), ValueError, "once"),
        (lambda: qp.equilibrate(ResistiveNetwork(2, [(0, 1)], sources=[0]), {"g": [-1.0]}), ValueError, "negative"),
        (lambda: qp.equilibrate(ResistiveNetwork(2, [(0, 1)], sources=[0]), {"g": [0.0]}), ValueError, "disconnected"),
        (
            lambda: qp.equilibrate(ResistiveNetwork(2, [(0, 1)], sources=[0]), {"g": [1.0]}, solver=Minimizer()),
            TypeError,
            "not ResistiveNetwork",
        ),
        (lambda: ActiveSet(tolerance=0), ValueError, "between 1e-16 and 1"),
        (
            lambda: qp.ep_gradient(
                ResistiveNetwork(2, [(0, 1)], sources=[0]), {"g": [1.0]}, StateCost(squared_error, [1]), [0.0],
                inputs=[1.0], scheme=qp.centered(0.6),
            ),
            ValueError,
            "makes the network unstable",
        ),
    ],
)  # fmt: skip
def test_errors_teach(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_loop_of_diodes_that_drives_a_current_without_bound_is_named():
    loop = ResistiveNetwork(3, [(0, 1), (1, 2)], sources=[0], diodes=[(2, 1, -1.0), (1, 2, -1.0)])
    with pytest.raises(qp.EquilibriumError, match=r"form a loop without a resistor .*\(2, 1, -1.0\)"):
        qp.equilibrate(loop, {"g": [1.0, 1.0]}, inputs=[1.0])


def test_batches_go_sample_by_sample():
    net, params, _ = random_network(2)
    nudge, inputs = StateCost(squared_error, [5, 10]), np.random.default_rng(1).normal(size=(3, 3))
    together = qp.linear_response(net, params, nudge, np.zeros((3, 2)), inputs=inputs)
    single = [qp.linear_response(net, params, nudge, np.zeros(2), inputs=x).grad["g"] for x in inputs]
    np.testing.assert_allclose(together.grad["g"], np.mean(single, axis=0))
    outputs = qp.predict(net, params, nudge, inputs)
    assert outputs.shape == (3, 2)


def test_states_survive_a_file(tmp_path):
    net, params, inputs = random_network(2)
    found = qp.equilibrate(net, params, inputs=inputs)
    qp.save(tmp_path / "state.npz", found)
    back = qp.load(tmp_path / "state.npz").state
    np.testing.assert_array_equal(back.position, found.state.position)
    np.testing.assert_array_equal(back.diode_currents, found.state.diode_currents)


@pytest.mark.parametrize("seed", range(3))
def test_smallest_curvature_is_that_of_the_voltages_that_conducting_diodes_leave(seed, monkeypatch):
    """Against the generalised response: the largest eigenvalue of dv/di, by injecting a current into every free node."""
    net, params, inputs = random_network(seed)
    found = qp.equilibrate(net, params, inputs=inputs)
    assert found.stats["conducting"] > 0
    conducting = found.state.diode_currents > 0
    bounds = net.diode_matrix()[0].toarray()[conducting][:, net.free]
    matrix = net.laplacian(params).toarray()[np.ix_(net.free, net.free)]
    zero = np.zeros((len(bounds), len(bounds)))
    response = np.linalg.inv(np.block([[matrix, bounds.T], [bounds, zero]]))[: len(matrix), : len(matrix)]
    expected = 1 / np.linalg.eigvalsh(response)[-1]
    assert expected > 1.001 * np.linalg.eigvalsh(matrix)[0]  # the diodes stiffen the softest mode
    assert found.stats["smallest_curvature"] == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr("qeqprop.classical.active_set.DENSE", 0)
    sparse = qp.equilibrate(net, params, inputs=inputs)
    assert sparse.stats["smallest_curvature"] == pytest.approx(expected, rel=1e-3)


def test_smallest_curvature_without_diodes_is_that_of_the_conductances():
    pair = ResistiveNetwork(3, [(0, 1), (1, 2)], sources=[0], grounded=[2])
    found = qp.equilibrate(pair, {"g": [2.0, 3.0]}, inputs=[1.0])
    assert found.stats["smallest_curvature"] == pytest.approx(5.0)
