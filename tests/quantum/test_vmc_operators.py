"""What variational Monte Carlo is built of: operators as functions of samples, sign gauges and models."""

import netket as nk
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.core.nudge import WeightedObservables
from qeqprop.quantum.vmc_gauge import gauged, sign_gauge
from qeqprop.quantum.vmc_models import LocalNetwork, default_model, graph_distances, odd_parameters
from qeqprop.quantum.vmc_netket import JaxSpinOperator, compilations
from qeqprop.quantum.vmc_operator import spin_operator


def real_operator(n, seed):
    """Every real string on n sites, Y's included, with random coefficients."""
    rng = np.random.default_rng(seed)
    masks = [(x, z) for x in range(1 << n) for z in range(1 << n) if (x & z).bit_count() % 2 == 0]
    return qp.PauliSum((x, z, rng.normal()) for x, z in masks)


# operators


def test_our_operator_equals_dense_matrices_and_pauli_strings():
    operator = real_operator(3, 0)
    hilbert = nk.hilbert.Spin(0.5, 3)
    ours = JaxSpinOperator.from_operators(hilbert, [operator])
    np.testing.assert_allclose(ours.to_dense(), operator.to_dense(3), atol=1e-12)
    np.testing.assert_allclose(ours.to_pauli_strings().to_dense(), ours.to_dense(), atol=1e-12)
    back = JaxSpinOperator.from_netket(operator.to_netket(3))
    np.testing.assert_allclose(back.to_dense(), operator.to_dense(3), atol=1e-12)


def test_a_gauged_table_is_the_rotated_operator():
    operator, gauge = real_operator(3, 1), np.array([-1, 1, -1])
    table = spin_operator((operator,), 3, gauge)
    assert table.pauli_sum(table.matrix[0]) == gauged(operator, gauge)


def test_tables_have_no_limit_of_sites():
    operator = -(qp.Z(0) * qp.Z(99)) - qp.X(70)
    table = spin_operator((operator,), 100)
    up = np.ones(100)
    assert float(table.diagonal(table.matrix[0], up)) == -1
    assert np.flatnonzero(np.asarray(table.connected(up))[0] < 0).tolist() == [70]


def test_the_hamiltonian_of_a_network_is_netkets_own():
    graph = nk.graph.Chain(3, pbc=False)
    net = qp.TransverseFieldIsing(3, graph)
    mine = net.pauli_sum({"J": np.full(2, 0.7), "h": np.zeros(3), "g": np.full(3, 1.3)})
    theirs = nk.operator.IsingJax(nk.hilbert.Spin(0.5, 3), graph=graph, h=1.3, J=-0.7)
    np.testing.assert_allclose(mine.to_netket(3).to_dense(), theirs.to_dense(), atol=1e-12)
    assert JaxSpinOperator.from_netket(theirs).to_pauli_sum() == mine
    params = {"J": np.ones(2), "h": np.zeros(3), "g": np.ones(3)}
    nudged = net.nudged(WeightedObservables((qp.Z(0),), np.ones(1)), 0.25)
    assert nudged.pauli_sum(params) - net.pauli_sum(params) == 0.25 * qp.Z(0)
    with pytest.raises(ValueError, match=r"`J` must have shape \(2,\)"):
        net.pauli_sum({"J": [1.0], "h": np.zeros(3), "g": np.zeros(3)})


def test_new_couplings_and_graphs_of_equal_size_do_not_recompile():
    hilbert = nk.hilbert.Spin(0.5, 4)
    sigma = hilbert.all_states()
    chain = JaxSpinOperator.from_operators(hilbert, [qp.Z(i) * qp.Z(i + 1) + qp.X(i) for i in range(3)])
    chain.get_conn_padded(sigma)
    before = compilations()
    for seed in range(3):
        chain.with_strengths(np.random.default_rng(seed).normal(size=3)).get_conn_padded(sigma)
    star = JaxSpinOperator.from_operators(hilbert, [qp.Z(0) * qp.Z(i + 1) + qp.X(i) for i in range(3)])
    star.get_conn_padded(sigma)
    assert compilations() == before


def test_operators_with_complex_strings_are_refused():
    with pytest.raises(ValueError, match="odd number of Y's"):
        spin_operator((qp.Y(0),), 2)


# the sign gauge


@pytest.mark.parametrize("seed", range(4))
def test_a_hidden_gauge_is_found(seed):
    rng = np.random.default_rng(seed)
    hidden = rng.choice([-1, 1], size=4)
    stoquastic = -sum(qp.X(i) for i in range(2)) - qp.X(1) * qp.X(2) * (1 + 0.5 * qp.Z(0)) - qp.X(2) * qp.X(3)
    turned = gauged(stoquastic, hidden)
    matrix = gauged(turned, sign_gauge(turned, 4)).to_dense(4)
    assert (matrix - np.diag(np.diag(matrix))).max() <= 0


def test_the_heisenberg_antiferromagnet_is_stoquastic_on_a_chain_and_not_on_a_triangle():
    def heisenberg(edges):
        return sum(p(i) * p(j) for i, j in edges for p in (qp.X, qp.Y, qp.Z))

    assert sign_gauge(heisenberg([(0, 1), (1, 2)]), 3).tolist() == [1, -1, 1]
    with pytest.raises(ValueError, match=r"X0 X1.*frustrated"):
        sign_gauge(heisenberg([(0, 1), (1, 2), (0, 2)]), 3)


@pytest.mark.parametrize(
    ("operator", "reason"),
    [(qp.X(0) * qp.Z(1), r"\+1 X0 Z1 changes its sign"), (qp.Y(0), "Y0 is complex")],
)
def test_what_no_gauge_mends_is_refused_with_its_terms(operator, reason):
    with pytest.raises(ValueError, match=reason):
        sign_gauge(operator, 2)


# the ansatz


@pytest.mark.parametrize(
    "model", [default_model(4, [(0, 1)]), LocalNetwork(((0, 1), (1, 2), (2, 0)), (), width=0.7, layers=3, order=True)]
)
def test_the_models_are_even_without_their_odd_parameters(model):
    import jax

    n = len(model.neighbourhoods)
    sigma = nk.hilbert.Spin(0.5, n).all_states()
    variables = model.init(jax.random.key(0), sigma)  # field and biases start at 0
    np.testing.assert_array_equal(model.apply(variables, sigma), model.apply(variables, -sigma))
    moved = jax.tree.map(lambda odd, leaf: leaf + 0.3 * odd, odd_parameters(variables["params"]), variables["params"])
    odd = model.apply({"params": moved}, sigma) - model.apply({"params": moved}, -sigma)
    assert np.ptp(odd) > 0.1


def test_a_network_of_two_layers_and_an_order_spin_is_its_formula():
    import jax

    model = LocalNetwork(((0, 1), (1, 2), (2, -1)), ((1, 0), (2, 0)), alpha=2, width=0.5, layers=2, order=True)
    sigma = nk.hilbert.Spin(0.5, 3).all_states()
    start = model.init(jax.random.key(0), sigma)["params"]
    p = jax.tree.map(lambda leaf: leaf + 0.1 * np.cos(np.arange(leaf.size)).reshape(leaf.shape), start)

    def log_psi(s):
        lower = p["lower_weights"][0, :, 0]
        x = np.tanh(p["lower_bias"][0] + np.array([lower[0] @ s[:2], lower[1] @ s[1:], lower[2, 0] * s[2]]))
        seen = np.array([p["weights"][0] @ x[:2], p["weights"][1] @ x[1:], p["weights"][2, :, 0] * x[2]])
        branches = [
            np.exp(tau * p["order_field"] @ s) * np.prod(np.cosh(p["bias"] + tau * p["order_bias"] + seen))
            for tau in (1, -1)
        ]
        return p["field"] @ s + p["jastrow"] @ (s[0] * s[1:]) + np.log(sum(branches))

    np.testing.assert_allclose(model.apply({"params": p}, sigma), [log_psi(s) for s in sigma], rtol=1e-12)


def test_large_graphs_get_local_neighbourhoods():
    ring = [(i, (i + 1) % 40) for i in range(40)]
    model = default_model(40, ring)
    assert (model.layers, model.order) == (2, True)
    assert {len(ball) for ball in model.neighbourhoods} == {7}
    assert len(model.pairs) == 40 * 5
    assert graph_distances(40, ring, 10)[0, [0, 3, 35, 20]].tolist() == [0, 3, 5, 11]


def test_padded_neighbourhoods_see_nothing_more():
    import jax

    padded, plain = LocalNetwork(((0, 1, -1),), ()), LocalNetwork(((0, 1),), ())
    sigma = nk.hilbert.Spin(0.5, 3).all_states()
    params = padded.init(jax.random.key(0), sigma)["params"]
    short = {**params, "weights": params["weights"][..., :2]}
    np.testing.assert_allclose(padded.apply({"params": params}, sigma), plain.apply({"params": short}, sigma))
