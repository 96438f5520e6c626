"""Spin systems: what they are made of, and the symmetries that every energy and every gradient must have."""

import functools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qeqprop as qp
from qeqprop.core.system import replaced
from qeqprop.quantum import cluster_ising, heisenberg, kitaev_honeycomb, phase_sensor, phase_sensor_cost, xxz

from ..measures import deviation, norm
from ..oracle import Case, name_of
from ..registry import CASES

SPIN_CASES = [case for case in CASES if not isinstance(case.system, qp.OperatorSystem)]
each_spin_case = pytest.mark.parametrize("case", SPIN_CASES, ids=name_of)
seeds = st.integers(0, 10**6)


def driven(case: Case):
    return case.system if case.inputs is None else case.system.with_inputs(case.inputs)


def random_params(system, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in system.param_shapes.items()}


def random_state(system, seed: int) -> qp.PureState:
    rng = np.random.default_rng(seed)
    batch = () if system.batch_size is None else (system.batch_size,)
    psi = rng.normal(size=(*batch, 2**system.n_sites)) + 1j * rng.normal(size=(*batch, 2**system.n_sites))
    return qp.PureState(system.n_sites, psi / np.linalg.norm(psi, axis=-1, keepdims=True))


def network(seed: int, n: int = 5) -> tuple[qp.TransverseFieldIsing, dict[str, np.ndarray]]:
    """A random graph with random couplings and fields, and a gap."""
    graph = nx.gnm_random_graph(n, 6, seed=seed)
    rng = np.random.default_rng(seed)
    params = {"J": rng.normal(size=6) / 2, "h": 0.3 + 0.2 * rng.normal(size=n), "g": rng.uniform(0.8, 1.4, n)}
    return qp.TransverseFieldIsing(n, graph), params


def gradient(system, params, cost) -> dict[str, np.ndarray]:
    out = qp.linear_response(system, params, qp.ObservableCost(cost))
    assert norm(out.grad) > 0.01, "a vanishing gradient tests nothing"
    return out.grad


# --- the energy functional --------------------------------------------------------------------------------------------


@each_spin_case
def test_energy_of_any_state(case):
    """<psi|H|psi> with the dense matrix of the case, for a random complex state and random parameters."""
    system = driven(case)
    params, state = random_params(system, 1), random_state(system, 2)
    samples = [case.inputs] if np.ndim(case.inputs) < 2 else case.inputs
    expected = [
        np.vdot(psi, case.hamiltonian(params, x) @ psi).real
        for x, psi in zip(samples, np.atleast_2d(state.amplitudes), strict=True)
    ]
    np.testing.assert_allclose(np.atleast_1d(system.energy(params, state).mean), expected, rtol=1e-12, atol=1e-12)


@each_spin_case
def test_energy_is_linear_and_param_grad_is_its_derivative(case):
    system, seed = driven(case), 3
    one, two, state = random_params(system, seed), random_params(system, seed + 1), random_state(system, seed)
    zero = {name: np.zeros_like(value) for name, value in one.items()}
    mixed = {name: 0.3 * one[name] - 1.7 * two[name] for name in one}
    energy = {key: system.energy(p, state).mean for key, p in zip("012m", (zero, one, two, mixed), strict=True)}
    np.testing.assert_allclose(energy["m"], 0.3 * energy["1"] - 1.7 * energy["2"] + 2.4 * energy["0"], atol=1e-11)
    forces = system.param_grad(one, state).mean
    slope = sum(np.sum(forces[name] * one[name], axis=-1) for name in one)
    np.testing.assert_allclose(slope, energy["1"] - energy["0"], atol=1e-11)
    for name, shape in system.param_shapes.items():
        assert forces[name].shape == (*np.shape(energy["0"]), *shape)


@each_spin_case
def test_energy_of_the_ground_state_is_the_solvers(case):
    system = driven(case)
    free = qp.equilibrate(system, case.params)
    np.testing.assert_allclose(system.energy(case.params, free.state).mean, free.energy.mean, atol=1e-10)
    term = case.nudge.term(free.state, case.target)
    nudged = qp.equilibrate(system.nudged(term, 0.02), case.params, init=free)
    bent = replaced(system.nudged(term, 0.02))
    np.testing.assert_allclose(bent.energy(case.params, nudged.state).mean, nudged.energy.mean, atol=1e-10)
    assert np.all(nudged.energy.mean != free.energy.mean)


@each_spin_case
def test_nudges_add_up(case):
    system, state = driven(case), random_state(driven(case), 5)
    term = case.nudge.term(state, case.target)
    once = system.nudged(term, 0.3).energy(case.params, state).mean
    twice = system.nudged(term, 0.1).nudged(term, 0.2).energy(case.params, state).mean
    np.testing.assert_allclose(twice, once, atol=1e-12)
    np.testing.assert_allclose(once - system.energy(case.params, state).mean, 0.3 * term.expect(state).mean, atol=1e-12)


@each_spin_case
def test_initial_parameters(case):
    params = case.system.init_params(0)
    assert {name: value.shape for name, value in params.items()} == case.system.param_shapes
    again, other = case.system.init_params(np.random.default_rng(0)), case.system.init_params(1)
    assert all(np.array_equal(params[name], again[name]) for name in params)
    assert any(not np.array_equal(params[name], other[name]) for name in params)
    assert all(value.dtype == np.float64 for value in params.values())


# --- symmetries of the gradient ---------------------------------------------------------------------------------------


@given(seed=seeds)
def test_permutation_of_sites(seed):
    """Renaming the sites renames the gradient."""
    system, params = network(seed)
    perm = np.random.default_rng(seed).permutation(5)
    moved = qp.TransverseFieldIsing(5, [(int(perm[i]), int(perm[j])) for i, j in system.edges])
    back = {"J": params["J"], "h": np.empty(5), "g": np.empty(5)}
    back["h"][perm], back["g"][perm] = params["h"], params["g"]
    grad = gradient(system, params, qp.Z(2) + qp.X(0))
    renamed = gradient(moved, back, qp.Z(int(perm[2])) + qp.X(int(perm[0])))
    assert deviation({"J": renamed["J"], "h": renamed["h"][perm], "g": renamed["g"][perm]}, grad) < 1e-8


@given(seed=seeds)
def test_gauge_invariance(seed):
    """Z_i -> s_i Z_i with J_ij -> s_i s_j J_ij and h_i -> s_i h_i is a rotation of the spins: C(Z) -> C(s Z)."""
    system, params = network(seed)
    s = np.random.default_rng(seed).choice([-1.0, 1.0], size=5)
    bonds = np.array([s[i] * s[j] for i, j in system.edges])
    turned = {"J": bonds * params["J"], "h": s * params["h"], "g": params["g"]}
    grad = gradient(system, params, qp.Z(1) + qp.X(0) * qp.Z(2))
    rotated = gradient(system, turned, s[1] * qp.Z(1) + s[2] * qp.X(0) * qp.Z(2))
    assert deviation({"J": bonds * rotated["J"], "h": s * rotated["h"], "g": rotated["g"]}, grad) < 1e-8


@given(seed=seeds, scale=st.sampled_from([1e-2, 0.37, 25.0, 1e4]))
def test_units_of_energy(seed, scale):
    """H -> c H leaves <C> alone: the gradient scales as 1/c. And by Euler, the sum of theta dL/dtheta vanishes."""
    system, params = network(seed)
    scaled = {name: scale * value for name, value in params.items()}
    grad = gradient(system, params, qp.Z(1))
    out = qp.linear_response(system, scaled, qp.ObservableCost(qp.Z(1)))
    assert deviation({name: scale * value for name, value in out.grad.items()}, grad) < 1e-6
    assert abs(sum(np.sum(params[name] * grad[name]) for name in params)) < 1e-8


@given(seed=seeds)
def test_gradient_is_linear_in_the_cost(seed):
    system, params = network(seed)
    a, b, both = (gradient(system, params, cost) for cost in (qp.Z(0), qp.X(3), 0.4 * qp.Z(0) - 2.0 * qp.X(3) + 7.0))
    assert deviation({name: 0.4 * a[name] - 2.0 * b[name] for name in a}, both) < 1e-8


@given(seed=seeds)
def test_rotation_about_z_leaves_xxz_alone(seed):
    """X -> Y, Y -> -X: the cost X0 X1 and the cost Y0 Y1 have one gradient."""
    rng = np.random.default_rng(seed)
    system = xxz(4, [(0, 1), (1, 2), (2, 3), (0, 3)])
    params = {"Jxy": rng.uniform(0.8, 1.2, 4), "Jz": rng.uniform(0.2, 0.6, 4), "h": 0.1 * rng.normal(size=4)}
    x, y = (gradient(system, params, pauli(0) * pauli(1)) for pauli in (qp.X, qp.Y))
    assert deviation(x, y) < 1e-8


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_input_sites_are_longitudinal_fields():
    plain = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)])
    fed = qp.TransverseFieldIsing(3, plain.edges, input_sites=[2, 0])
    params = {"J": [0.5, -0.8], "h": [0.1, 0.2, 0.3], "g": [1.0, 0.9, 0.8]}
    by_field = gradient(plain, params | {"h": [0.1 - 0.7, 0.2, 0.3 + 0.4]}, qp.Z(1))
    by_input = qp.linear_response(fed, params, qp.ObservableCost(qp.Z(1)), inputs=[0.4, -0.7]).grad
    assert deviation(by_input, by_field) < 1e-10


def test_input_edges_are_couplings_to_clamped_spins():
    """W_mj x_m Z_j: dL/dW = x_m dL/dh_j, and an input of zero has no gradient."""
    ties = [(0, 0), (1, 2), (2, 0)]
    plain = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)])
    fed = qp.TransverseFieldIsing(3, plain.edges, input_edges=ties)
    params = {"J": np.array([0.5, -0.8]), "h": np.array([0.1, 0.2, 0.3]), "g": np.array([1.0, 0.9, 0.8])}
    x, w = np.array([0.6, -0.4, 0.0]), np.array([0.7, 1.1, -0.9])
    fields = params["h"] + [w[0] * x[0] + w[2] * x[2], 0.0, w[1] * x[1]]
    expected = gradient(plain, params | {"h": fields}, qp.Z(1))
    out = qp.linear_response(fed, params | {"W": w}, qp.ObservableCost(qp.Z(1)), inputs=x).grad
    assert deviation({name: out[name] for name in params}, expected) < 1e-10
    np.testing.assert_allclose(out["W"], [x[m] * expected["h"][j] for m, j in ties], atol=1e-10)
    assert out["W"][2] == 0


def test_shared_parameters_are_sums_of_terms():
    """One parameter in front of a sum: its gradient is the sum over the single ones."""
    fixed = -qp.Z(0) * qp.Z(1) - 0.3 * qp.Z(2) * qp.Z(1) - qp.Z(1)
    single = qp.SpinNetwork(3, {"g": [-qp.X(i) for i in range(3)]}, fixed=fixed)
    shared = qp.SpinNetwork(3, {"g": [-qp.X(0) - qp.X(1) - qp.X(2)]}, fixed=single.fixed)
    one, all_of_them = gradient(shared, {"g": [0.8]}, qp.Z(0)), gradient(single, {"g": [0.8] * 3}, qp.Z(0))
    assert one["g"][0] == pytest.approx(all_of_them["g"].sum(), abs=1e-9)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: qp.TransverseFieldIsing(2, [(0, 1)], input_sites=[2]), ValueError, "distinct nodes 0 to 1"),
        (lambda: qp.TransverseFieldIsing(2, [(0, 1)], input_sites=[0, 0]), ValueError, "distinct nodes 0 to 1"),
        (lambda: qp.TransverseFieldIsing(2, [], input_sites=[0.5]), TypeError, "`input_sites` must be an integer"),
        (lambda: qp.TransverseFieldIsing(2, [], input_sites=[0], input_edges=[(0, 1)]), ValueError, "exclude one"),
        (lambda: qp.TransverseFieldIsing(2, [], input_edges=[(0, 2)]), ValueError, r"sites 0 to 1, but has \(0, 2\)"),
        (lambda: qp.TransverseFieldIsing(2, [], input_edges=[(0, 1), (0, 1)]), ValueError, "each pair .* once"),
        (lambda: qp.TransverseFieldIsing(0, []), ValueError, "`n_sites` must be at least 1"),
        (lambda: qp.TransverseFieldIsing(2.0, []), TypeError, "`n_sites` must be an integer"),
        (lambda: qp.SpinNetwork(2, {}), TypeError, "non-empty dict"),
        (lambda: qp.SpinNetwork(2, [qp.Z(0)]), TypeError, "non-empty dict"),
        (lambda: qp.SpinNetwork(2, {"a": qp.Z(0)}), TypeError, "must be a list of Pauli sums"),
        (lambda: qp.SpinNetwork(2, {"a": [np.eye(4)]}), TypeError, r"must be a Pauli sum, but is ndarray"),
        (lambda: qp.SpinNetwork(2, {"a": [1j * qp.Z(0)]}), ValueError, "must be Hermitian"),
        (lambda: qp.SpinNetwork(2, {"a": [qp.Z(2)]}), ValueError, r"acts on site 2, but the system has n_sites=2"),
        (lambda: qp.SpinNetwork(2, {"a": [qp.Z(0)]}, fixed=qp.Z(4)), ValueError, "acts on site 4"),
        (lambda: qp.SpinNetwork(2, {"a": [qp.Z(0)]}, inputs=[1j * qp.X(0)]), ValueError, "must be Hermitian"),
        (lambda: qp.SpinNetwork(2, {"a": [qp.Z(0)]}, drives={"b": [0]}), ValueError, r"names among \['a'\]"),
        (lambda: qp.SpinNetwork(2, {"a": [qp.Z(0)]}, drives={"a": [0, 1]}), ValueError, "one input index for each"),
        (lambda: qp.SpinNetwork(2, {"a": [qp.Z(0)]}, drives={"a": [-2]}), ValueError, "must be at least -1"),
        (lambda: phase_sensor(coupling="X"), ValueError, "must be 'full' or 'Z'"),
        (lambda: phase_sensor(4, sites=(0, 4)), ValueError, "two sites of the ring"),
        (lambda: cluster_ising(2), ValueError, "must be at least 3"),
    ],
)  # fmt: skip
def test_bad_networks_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


# --- the models of the literature -------------------------------------------------------------------------------------


def test_counts_of_parameters():
    assert sum(shape[0] for shape in phase_sensor().param_shapes.values()) == 51
    assert sum(shape[0] for shape in phase_sensor(coupling="Z").param_shapes.values()) == 27
    assert phase_sensor().input_shape == (3,)
    assert len(phase_sensor_cost().observables) == 3
    assert kitaev_honeycomb(2, 3).n_sites == 12
    assert kitaev_honeycomb(2, 3).param_shapes == {"Jx": (6,), "Jy": (6,), "Jz": (6,)}
    assert cluster_ising(5).param_shapes == {"g_ZXZ": (1,), "g_ZZ": (1,), "g_X": (1,)}


def test_the_sensor_that_sees_z_only_is_part_of_the_full_one():
    full, blind = dict(phase_sensor().terms), dict(phase_sensor(coupling="Z").terms)
    assert set(blind["coupling"]) < set(full["coupling"])
    assert all(operator.weight == 2 for operator in full["coupling"])
    outcomes = phase_sensor_cost().observables
    rest = qp.identity() - functools.reduce(lambda a, b: a + b, outcomes)
    assert rest == qp.projector([4, 5], [-1, -1])


def test_honeycomb_is_three_coloured():
    """Every site has one bond of each kind, and the bond operators of a site anticommute."""
    terms = dict(kitaev_honeycomb(3, 2).terms)
    for name in ("Jx", "Jy", "Jz"):
        assert sorted(site for op in terms[name] for site in op.support) == list(range(12))
    for x in terms["Jx"]:
        for y in terms["Jy"]:
            assert x.commutes_with(y) == (not set(x.support) & set(y.support) or x.support == y.support)


def test_open_cluster_chain_has_free_edges():
    """With g_X = g_ZZ = 0 the open chain has n - 2 stabilisers: two free spins, a four-fold ground level."""
    assert len(dict(cluster_ising(6, periodic=False).terms)["g_ZXZ"][0]) == 4
    params = {"g_ZXZ": [1.0], "g_ZZ": [0.0], "g_X": [0.0]}
    assert qp.equilibrate(cluster_ising(6, periodic=False), params, throw=False).status is qp.Status.DEGENERATE
    ring = qp.equilibrate(cluster_ising(6), params)
    assert float(ring.energy) == pytest.approx(-6.0, abs=1e-9)
    assert float(ring.gap) == pytest.approx(2.0, rel=0.02)


def test_heisenberg_singlets():
    """Two dimers: E = -3 (J_1 + J_2); the forces are those of singlets, zero between the dimers."""
    system = heisenberg(4, [(0, 1), (1, 2), (2, 3)])
    params = {"J": np.array([1.0, 0.0, 0.5])}
    free = qp.equilibrate(system, params)
    assert float(free.energy) == pytest.approx(-4.5, abs=1e-9)
    np.testing.assert_allclose(system.param_grad(params, free.state).mean["J"], [-3.0, 0.0, -3.0], atol=1e-9)


@pytest.mark.parametrize(
    ("system", "text"),
    [
        (qp.TransverseFieldIsing(3, [(0, 1)]), "TransverseFieldIsing(3 spins, parameters J (1,), h (3,), g (3,))"),
        (phase_sensor(), "SpinNetwork(6 spins, parameters coupling (36,), field (6,), sensor (9,), 3 inputs)"),
        (phase_sensor().with_inputs(np.zeros((7, 3))), "sensor (9,), 3 inputs, batch of 7)"),
    ],
)
def test_prints(system, text):
    assert repr(system).endswith(text)


def test_graphs_of_other_packages():
    pairs = [(0, 1), (0, 2), (1, 3), (2, 3)]
    assert qp.TransverseFieldIsing(4, nx.Graph(pairs)).edges == qp.TransverseFieldIsing(4, pairs).edges
