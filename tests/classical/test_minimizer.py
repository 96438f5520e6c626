"""Classical energies: minima, their gradients by EP, implicit differentiation and finite differences."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import qeqprop as qp
from qeqprop.classical import ElasticNetwork, EnergySystem, Minimizer, PointState, StateCost
from qeqprop.classical.factorization import factorize, smallest_eigenvalue

from ..measures import deviation, norm


def bowl(p, s, x):
    """A smooth, non-quadratic energy with one minimum; the inputs are forces on it."""
    return jnp.sum(jnp.cosh(s)) + 0.5 * s @ (p["w"] @ p["w"].T) @ s - p["b"] @ jnp.tanh(s) - x @ s


def random_bowl():
    rng = np.random.default_rng(1)
    system = EnergySystem(bowl, (4,), {"w": (4, 4), "b": (4,)}, inputs=(4,))
    return (
        system,
        {"w": rng.normal(size=(4, 4)), "b": rng.normal(size=4)},
        rng.normal(size=(3, 4)),
        rng.normal(size=(3, 2)),
    )


def lattice(dim=2, seed=0, size=4):
    """A braced, disordered lattice, its lowest layer pinned, one corner driven."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(size)] * dim, indexing="ij"), axis=-1).reshape(-1, dim).astype(float)
    edges = [
        (i, j)
        for i in range(len(grid))
        for j in range(i)
        if np.linalg.norm(grid[i] - grid[j]) < (1.5 if dim == 2 else 1.8)
    ]
    net = ElasticNetwork(
        edges, grid + 0.1 * rng.normal(size=grid.shape), pinned=np.flatnonzero(grid[:, -1] == 0), driven=[len(grid) - 1]
    )
    params = net.init_params(rng)
    return net, {**params, "l": params["l"] * (1 + 0.05 * rng.normal(size=len(edges)))}


def squared_distance(r, y):
    return ((r - y) ** 2).sum()


CASES = {}
system, params, inputs, targets = random_bowl()
CASES["bowl"] = (
    system,
    params,
    StateCost(lambda s, y: ((s - y) ** 4).sum() + s[0] * s[1], [1, 3]),
    targets[0],
    inputs[0],
)
CASES["bowl, batch"] = (system, params, StateCost(squared_distance, [0, 2]), targets, inputs)
for dim in (2, 3):
    net, params = lattice(dim, size=4 if dim == 2 else 3)
    node = net.driven[0] - 1
    CASES[f"elastic, {dim}-D"] = (
        net, params, StateCost(squared_distance, [node]), net.reference[[node]] + 0.2, 0.1 * np.ones((1, dim))
    )  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_ep_is_implicit_differentiation_is_finite_differences(name):
    system, params, cost, target, inputs = CASES[name]
    exact = qp.linear_response(system, params, cost, target, inputs=inputs)
    assert norm(exact.grad) > 0.01
    components = {n: list(np.ndindex(v.shape))[:6] for n, v in exact.grad.items()}
    known = qp.finite_difference(system, params, cost, target, inputs=inputs, components=components, step=3e-3)
    picked = {n: np.where(np.isnan(known.grad[n]), 0.0, exact.grad[n]) for n in exact.grad}
    assert norm(picked) > 1e-3
    assert deviation({n: np.nan_to_num(v) for n, v in known.grad.items()}, picked) < 1e-7
    for scheme, bound in ((qp.centered(1e-4), 1e-5), (qp.one_sided(1e-5), 1e-3), (qp.richardson(1e-3), 1e-6)):
        out = qp.ep_gradient(system, params, cost, target, inputs=inputs, scheme=scheme)
        assert deviation(out.grad, exact.grad) < bound
        errors = {n: np.abs(out.grad[n] - exact.grad[n]) for n in out.grad}
        assert norm(errors) < 3 * (norm(out.truncation) + out.residual * np.sqrt(sum(e.size for e in errors.values())))


def test_finite_nudges_are_exact_gradients_of_energy_differences():
    system, params, cost, target, inputs = CASES["bowl"]
    out = qp.ep_gradient(system, params, cost, target, inputs=inputs, scheme=qp.centered(0.05))
    driven, step, slopes = system.with_inputs(inputs), 1e-4, []
    for k in range(4):
        losses = []
        for sign in (1, -1):
            moved = {**params, "b": params["b"] + sign * step * np.eye(4)[k]}
            free = qp.equilibrate(driven, moved)
            term = cost.term(free.state, target)
            up, down = (float(qp.equilibrate(driven.nudged(term, b), moved, init=free).energy) for b in (0.05, -0.05))
            losses.append((up - down) / 0.1)
        slopes.append((losses[0] - losses[1]) / (2 * step))
    np.testing.assert_allclose(out.grad["b"], slopes, rtol=1e-5)


def test_one_dimensional_springs_are_the_harmonic_network_at_hbar_zero():
    rng = np.random.default_rng(3)
    edges = [(1, 0), (2, 1), (3, 2), (3, 1)]  # i to the right of j, so that |r_i - r_j| = r_i - r_j
    k, kappa = rng.uniform(0.5, 2, 4), 0.7
    rest = np.array([1.1, 0.8, 1.2, 2.3])
    chain = ElasticNetwork(edges, np.arange(4.0)[:, None], stiffness=kappa)
    harmonic = qp.HarmonicNetwork(4, edges, hbar=0.0, trainable=("k", "l", "kappa", "f"))
    twin = {"k": k, "l": rest, "kappa": np.full(4, kappa), "f": kappa * np.arange(4.0)}
    ours = qp.linear_response(chain, {"k": k, "l": rest}, StateCost(lambda r, y: (r[0, 0] - y) ** 2, [2]), 1.5)
    theirs = qp.linear_response(harmonic, twin, qp.ExpectationCost([qp.R(2)]), np.array([1.5]))
    for name in ("k", "l"):
        assert np.abs(theirs.grad[name]).max() > 0.01
        np.testing.assert_allclose(ours.grad[name], theirs.grad[name], atol=1e-11)


def test_saddle_points_are_left_downhill():
    well = EnergySystem(lambda p, s, x: (p["a"] * (s**2 - 1) ** 2).sum() + 0.3 * s[0] * s[1], (2,), {"a": (2,)})
    found = qp.equilibrate(well, {"a": [1.0, 2.0]})  # starts on the maximum between four wells
    assert found.stats["smallest_curvature"] > 1
    assert found.state.position[0] * found.state.position[1] < 0


def test_floppy_networks_are_refused():
    square = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
    edges = [(0, 1), (1, 2), (2, 3), (3, 0)]
    ones = {"k": np.ones(4), "l": np.ones(4)}
    with pytest.raises(
        qp.EquilibriumError, match=r"1 of 4 directions of the minimum are flat: floppy modes .* Pin nodes"
    ):
        qp.equilibrate(ElasticNetwork(edges, square, pinned=[0, 1]), ones)
    apart = ElasticNetwork([(0, 1), (2, 3)], square, pinned=[0])
    with pytest.raises(qp.EquilibriumError, match="4 of 6 directions"):  # one spring turns, the other goes anywhere
        qp.equilibrate(apart, {"k": np.ones(2), "l": np.ones(2)})
    braced = ElasticNetwork([*edges, (0, 2)], square, pinned=[0, 1])
    assert qp.equilibrate(braced, {"k": np.ones(5), "l": [1, 1, 1, 1, 2**0.5]}).status is qp.Status.OK


def test_a_cost_of_held_nodes_is_refused():
    triangle = ElasticNetwork([(0, 1), (1, 2), (0, 2)], [[0.0, 0.0], [1.0, 0.0], [0.5, 0.9]], pinned=[0, 1])
    cost = StateCost(lambda r, y: ((r - y) ** 2).sum(), [0, 1])
    with pytest.raises(ValueError, match="every gradient would be zero"):
        qp.ep_gradient(triangle, triangle.init_params(0), cost, np.zeros((2, 2)))


def test_nudges_beyond_stability_are_refused_with_the_limit():
    spring = EnergySystem(lambda p, s, x: 0.5 * (p["k"] * s**2).sum() - s.sum(), (2,), {"k": (2,)})
    params, cost = {"k": np.array([2.0, 3.0])}, StateCost(lambda s, y: 0.5 * (s[0] - y) ** 2, [0])
    with pytest.raises(ValueError, match=r"beta must lie between -2 and inf"):
        qp.ep_gradient(spring, params, cost, 1.0, scheme=qp.one_sided(-2.1))
    assert qp.ep_gradient(spring, params, cost, 1.0, scheme=qp.one_sided(-1.9)).status is qp.Status.OK


def test_nudged_states_reuse_the_free_factor():
    net, params, cost, target, inputs = CASES["elastic, 2-D"]
    out = qp.ep_gradient(net, params, cost, target, inputs=inputs, scheme=qp.centered(1e-3))
    assert [phase.stats["newton_steps"] for _, phase in out.nudged] == [0, 0]
    assert all(0 < phase.stats["displacement"] < 0.01 for _, phase in out.nudged)
    assert out.residual < 1e-10


def test_predictions_are_coordinates():
    system, params, cost, _, inputs = CASES["bowl, batch"]
    outputs = qp.predict(system, params, cost, inputs)
    single = qp.equilibrate(system.with_inputs(inputs[1]), params).state
    np.testing.assert_allclose(outputs[1], single.position[[0, 2]])
    assert isinstance(single, PointState)


def test_training_lowers_the_loss():
    net, params, cost, target, inputs = CASES["elastic, 2-D"]
    import optax

    data = (inputs[None], target[None])
    history = qp.fit(net, params, cost, data, epochs=30, optimizer=optax.adam(0.02))
    assert history.loss[-1] < 0.05 * history.loss[0]


@pytest.mark.parametrize("sparse", [False, True])
def test_factorisation_sees_definiteness(sparse):
    rng = np.random.default_rng(0)
    for lowest in (0.5, 1e-8, -1e-8, -0.5):
        basis = np.linalg.qr(rng.normal(size=(8, 8)))[0]
        levels = np.array([lowest, 1, 2, 3, 4, 5, 6, 7.0])
        matrix = basis * levels @ basis.T
        factor = factorize(sp.csc_array(matrix) if sparse else matrix)
        assert factor.definite == (lowest > 0)
        if lowest == 0.5:
            np.testing.assert_allclose(matrix @ factor.solve(levels), levels, atol=1e-12)
            assert smallest_eigenvalue(matrix, factor) == pytest.approx(0.5)


def test_large_and_small_spectra_agree(monkeypatch):
    net, params, *_, inputs = CASES["elastic, 2-D"]
    small = qp.equilibrate(net, params, inputs=inputs).stats["smallest_curvature"]
    monkeypatch.setattr("qeqprop.classical.factorization.DENSE", 1)
    large = qp.equilibrate(net, params, inputs=inputs).stats["smallest_curvature"]
    assert large == pytest.approx(small, rel=1e-2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ElasticNetwork([(0, 1)], [0.0, 1.0]), ValueError, r"must have shape \(n_nodes, dimension\)"),
        (lambda: ElasticNetwork([(0, 1)], [[0.0], [0.0]]), ValueError, r"spring \(0, 1\) coincide"),
        (lambda: ElasticNetwork([(0, 1)], [[0.0], [1.0]], pinned=[2]), ValueError, "distinct nodes 0 to 1"),
        (lambda: ElasticNetwork([(0, 1)], [[0.0], [1.0]], pinned=[0], driven=[0]), ValueError, "no node in common"),
        (lambda: ElasticNetwork([(0, 1)], [[0.0], [1.0]], stiffness=-1), ValueError, "must not be negative"),
        (lambda: EnergySystem(lambda p, s, x: s, (2,), {"k": (1,)}), ValueError, "must return a scalar"),
        (lambda: StateCost(3), TypeError, "must be callable"),
        (lambda: StateCost(squared_distance, [1, 1]), ValueError, "distinct nodes"),
        (lambda: Minimizer(tolerance=0), ValueError, "between 1e-15 and 1"),
        (
            lambda: qp.ep_gradient(*lattice(), StateCost(squared_distance, [99]), 0.0),
            ValueError,
            r"has node 99, but the system has 16 nodes",
        ),
        (lambda: qp.ep_gradient(*lattice(), qp.ObservableCost(qp.Z(0))), TypeError, "shows `Coordinates`"),
        (lambda: qp.equilibrate(*lattice(), inputs=np.ones(2)), ValueError, r"must have shape \(1, 2\)"),
        (lambda: qp.equilibrate(*lattice(), solver=qp.ExactDiagonalization()), TypeError, "not ElasticNetwork"),
    ],
)
def test_errors_teach(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("cost", "target", "error", "message"),
    [
        (lambda s, y: s - y, 0.0, ValueError, "Argument `cost` must return a scalar"),
        (lambda s, y: np.sum(np.asarray(s) - y), 0.0, TypeError, "`cost` must be written with `jax.numpy`"),
        (lambda s, y: s[0] if s[0] > 0 else y, 0.0, TypeError, "without branches on values"),
        (
            lambda s, y: ((s - y) ** 2).sum(),
            [1.0, 2.0, 3.0],
            TypeError,
            r"of shape \(2,\) and a target of shape \(3,\)",
        ),
        (lambda s, y: ((s - y) ** 2).sum(), None, TypeError, r"of shape \(2,\) and no target"),
    ],
    ids=["vector", "numpy", "branch", "target", "no target"],
)
def test_costs_that_are_none_are_refused_in_words(cost, target, error, message):
    well = EnergySystem(lambda p, s, x: p["k"] @ s**2 / 2 - x.sum() * s.sum(), (2,), {"k": (2,)}, inputs=(1,))
    for inputs, goal in (([0.3], target), ([[0.3], [0.1]], None if target is None else [target, target])):
        with pytest.raises(error, match=message):
            qp.ep_gradient(well, {"k": [1.0, 2.0]}, StateCost(cost), goal, inputs=inputs)
    with pytest.raises(TypeError, match="`potential` must be written with `jax\\.numpy`"):
        EnergySystem(lambda p, s, x: np.sum(np.asarray(s)), (2,), {"k": (2,)})
