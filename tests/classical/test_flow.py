"""Flow networks: Kirchhoff's laws, and gradients in closed form."""

import networkx as nx
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import ActiveSet, FlowNetwork, Minimizer, ResistiveNetwork, StateCost


def mesh(seed=0):
    """A random graph with two driven nodes, one grounded and two with injected currents."""
    graph = nx.connected_watts_strogatz_graph(20, 4, 0.3, seed=seed)
    net = FlowNetwork(20, graph, driven=[0, 7], grounded=[12], injected=[3, 15])
    return net, net.init_params(seed), np.array([1.0, -0.4, 0.6, -0.2])


def squared_error(u, y):
    return 0.5 * ((u - y) ** 2).sum()


COST, TARGET = StateCost(squared_error, nodes=[5, 9, 18]), np.array([0.3, -0.1, 0.5])


def dense_laplacian(net, k):
    matrix = np.zeros((net.n_nodes, net.n_nodes))
    for (i, j), value in zip(net.edges, k, strict=True):
        matrix[[i, j], [i, j]] += value
        matrix[[i, j], [j, i]] -= value
    return matrix


def test_potentials_obey_kirchhoff():
    net, params, inputs = mesh()
    u = qp.equilibrate(net, params, inputs=inputs).state.position
    np.testing.assert_array_equal(u[[0, 7, 12]], [1.0, -0.4, 0.0])
    free = np.setdiff1d(np.arange(20), [0, 7, 12])
    out = dense_laplacian(net, params["k"]) @ u
    np.testing.assert_allclose(out[free], 0.6 * (free == 3) - 0.2 * (free == 15), atol=1e-14)
    flows = np.zeros(20)
    for (i, j), current in zip(net.edges, net.currents(params, u), strict=True):
        flows[[i, j]] += [current, -current]
    np.testing.assert_allclose(flows, out, atol=1e-14)


def test_one_factorisation_serves_everything():
    net, params, inputs = mesh()
    out = qp.ep_gradient(net, params, COST, TARGET, inputs=inputs, scheme=qp.centered(1e-3))
    assert out.free.stats["newton_steps"] == 1
    assert [phase.stats["newton_steps"] for _, phase in out.nudged] == [0, 0]


def test_gradient_is_tellegens_theorem():
    net, params, inputs = mesh()
    u = qp.equilibrate(net, params, inputs=inputs).state.position
    free = np.setdiff1d(np.arange(20), [0, 7, 12])
    slope, w = np.zeros(20), np.zeros(20)
    slope[[5, 9, 18]] = u[[5, 9, 18]] - TARGET
    w[free] = np.linalg.solve(dense_laplacian(net, params["k"])[np.ix_(free, free)], slope[free])
    i, j = np.array(net.edges).T
    known = -(u[i] - u[j]) * (w[i] - w[j])
    assert np.abs(known).max() > 0.01
    ours = {
        "response": qp.linear_response(net, params, COST, TARGET, inputs=inputs),
        "centered": qp.ep_gradient(net, params, COST, TARGET, inputs=inputs, scheme=qp.centered(1e-4)),
    }
    np.testing.assert_allclose(ours["response"].grad["k"], known, atol=1e-13)
    np.testing.assert_allclose(ours["centered"].grad["k"], known, rtol=1e-5, atol=1e-9)
    differences = qp.finite_difference(net, params, COST, TARGET, inputs=inputs, step=3e-3)
    np.testing.assert_allclose(differences.grad["k"], known, atol=1e-8)


def test_finite_nudges_are_exact_gradients_of_energy_differences():
    net, params, inputs = mesh()
    out, driven = (
        qp.ep_gradient(net, params, COST, TARGET, inputs=inputs, scheme=qp.centered(0.3)),
        net.with_inputs(inputs),
    )

    def loss(k):
        free = qp.equilibrate(driven, {"k": k})
        term = COST.term(free.state, TARGET)
        up, down = (float(qp.equilibrate(driven.nudged(term, b), {"k": k}, init=free).energy) for b in (0.3, -0.3))
        return (up - down) / 0.6

    slopes = [(loss(params["k"] + e) - loss(params["k"] - e)) / 2e-4 for e in 1e-4 * np.eye(len(net.edges))[:5]]
    assert np.abs(slopes).max() > 1e-3
    np.testing.assert_allclose(out.grad["k"][:5], slopes, rtol=1e-5, atol=1e-9)


def test_it_is_the_resistive_network_without_diodes():
    net, params, inputs = mesh()
    twin = ResistiveNetwork(20, net.edges, sources=[0, 7], grounded=[12], currents=[3, 15])
    theirs = qp.linear_response(
        twin, {"g": params["k"], "i": inputs[2:]}, COST, TARGET, inputs=inputs[:2], solver=ActiveSet()
    )
    ours = qp.linear_response(net, params, COST, TARGET, inputs=inputs, solver=Minimizer())
    np.testing.assert_allclose(ours.grad["k"], theirs.grad["g"], atol=1e-13)


def test_batches_are_means():
    net, params, inputs = mesh()
    batch, targets = np.stack([inputs, 2 * inputs]), np.stack([TARGET, -TARGET])
    singles = [
        qp.linear_response(net, params, COST, y, inputs=x).grad["k"] for x, y in zip(batch, targets, strict=True)
    ]
    whole = qp.linear_response(net, params, COST, targets, inputs=batch)
    np.testing.assert_allclose(whole.grad["k"], np.mean(singles, axis=0), atol=1e-12)


def test_a_current_alone_needs_only_a_ground():
    line = FlowNetwork(4, [(0, 1), (1, 2), (2, 3)], injected=[0], grounded=[3])
    found = qp.equilibrate(line, {"k": [1.0, 2.0, 4.0]}, inputs=[2.0])
    np.testing.assert_allclose(found.state.position, [3.5, 1.5, 0.5, 0.0])


def test_training_keeps_conductances_positive():
    import optax

    net, params, inputs = mesh()
    adam = optax.chain(optax.adam(0.05), optax.keep_params_nonnegative())
    history = qp.fit(net, params, COST, (inputs[None], TARGET[None]), epochs=60, optimizer=adam, progress=False)
    assert history.loss[-1] < 0.01 * history.loss[0]
    assert history.params["k"].min() >= 0


PAIR = [(0, 1)]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FlowNetwork(2, PAIR), ValueError, "Ground any node"),
        (lambda: FlowNetwork(2, [(0, 1), (1, 0)], driven=[0]), ValueError, "each pair once"),
        (
            lambda: FlowNetwork(4, [(0, 1), (2, 3)], driven=[0]),
            ValueError,
            "2 nodes are not defined, the first of which is 2",
        ),
        (
            lambda: FlowNetwork(2, PAIR, driven=[0], grounded=[0]),
            ValueError,
            r"`grounded`.*held already, but has \[0\]",
        ),
        (lambda: FlowNetwork(2, PAIR, driven=[0], injected=[0]), ValueError, r"`injected`.*held already"),
        (
            lambda: FlowNetwork(2, PAIR, driven=[2]),
            ValueError,
            r"`driven` must hold distinct nodes 0 to 1, but is \[2\]",
        ),
        (lambda: FlowNetwork(2, PAIR, driven=[0]).with_inputs([1.0, 2.0]), ValueError, r"must have shape \(1,\)"),
        (lambda: FlowNetwork(2, PAIR, grounded=[0]).with_inputs([1.0]), ValueError, "no driven node"),
        (
            lambda: qp.equilibrate(FlowNetwork(2, PAIR, driven=[0]), {"k": [-1.0]}),
            ValueError,
            r"negative conductances, but is -1 at index 0 \(edge \(0, 1\)\)",
        ),
        (
            lambda: qp.equilibrate(FlowNetwork(2, PAIR, driven=[0]), {"k": [0.0]}),
            ValueError,
            "`k` must join every node",
        ),
        (lambda: qp.equilibrate(FlowNetwork(2, PAIR, driven=[0]), {"k": [np.nan]}), ValueError, "must be finite"),
    ],
)
def test_errors_teach(make, error, message):
    with pytest.raises(error, match=message):
        make()
