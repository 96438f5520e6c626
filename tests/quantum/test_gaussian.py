"""The Gaussian solver's parts: operators, poles, sparse factors, stability, and sparse against dense."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp

import qeqprop as qp
from qeqprop.quantum.gaussian_stability import stability_limits
from qeqprop.quantum.quadratic import Quadratic
from qeqprop.quantum.rational import inverse_square_root
from qeqprop.quantum.sparse_cholesky import SparseCholesky

from ..measures import deviation, norm

DENSE, SPARSE = qp.GaussianGroundState(dense_size=10**6), qp.GaussianGroundState(dense_size=0)
each_solver = pytest.mark.parametrize("solver", [DENSE, SPARSE], ids=["dense", "sparse"])


def lattice(side: int, **options):
    """Square lattice with random springs, a centre node as the output."""
    index = np.arange(side**2).reshape(side, side)
    across = np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()], axis=1)
    down = np.stack([index[:-1].ravel(), index[1:].ravel()], axis=1)
    edges = [*across.tolist(), *down.tolist()]
    net = qp.HarmonicNetwork(side**2, edges, trainable=("k", "l", "kappa", "f", "m"), **options)
    rng, shapes = np.random.default_rng(0), net.param_shapes
    params = {
        "k": rng.uniform(0.5, 1.5, shapes["k"]),
        "l": 0.1 * rng.normal(size=shapes["l"]),
        "kappa": rng.uniform(0.05, 0.2, shapes["kappa"]),
        "f": 0.3 * rng.normal(size=shapes["f"]),
        "m": rng.uniform(0.5, 2.0, shapes["m"]),
    }
    return net, params, side**2 // 2 + side // 2


# ---- operators ------------------------------------------------------------------------------------------------------


def test_algebra():
    r, p = qp.R(1), qp.P(0)
    assert (r - 2) ** 2 == r * r - 4 * r + 4 == r**2 - r * 4 - -4
    assert 2 * p**2 / 4 == Quadratic({(("P", 0, 0), ("P", 0, 0)): 0.5})
    assert qp.R(0) * qp.R(1) == qp.R(1) * qp.R(0)
    assert np.float64(2.0) * r == r + r
    assert len(r - r) == 0
    assert repr(r - r) == "0.0"
    assert repr(3 - r) == "3.0 - 1.0 * R1"
    assert hash(r + p) == hash(p + r)
    assert pickle.loads(pickle.dumps(r + p)) == r + p
    assert (r**2 + 5).without_identity() == r**2
    assert (r**2).norm_bound == np.inf
    assert Quadratic({(): -3.0}).norm_bound == 3.0
    assert (r + qp.P(2, 1)).max_site == 2
    assert (r + qp.P(2, 1)).max_component == 1
    assert r.is_hermitian
    assert r != "R1"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: qp.R(0) * qp.P(1), ValueError, "R0 P1 of a position and a momentum is not supported"),
        (lambda: qp.R(0) ** 3, ValueError, "degree must be at most 2, but R0 R0 R0 has degree 3"),
        (lambda: qp.R(0) * 1j, TypeError, "`coefficient` must be real"),
        (lambda: qp.R(0) * float("nan"), ValueError, "must be finite"),
        (lambda: qp.R(-1), ValueError, "`site` must be a non-negative integer"),
        (lambda: qp.R(0.5), TypeError, "`site` must be a non-negative integer"),
        (lambda: qp.P(0, "x"), TypeError, "`component` must be a non-negative integer"),
        (lambda: qp.R(0) + "a", TypeError, "unsupported operand"),
        (lambda: setattr(qp.R(0), "degree", 3), AttributeError, "immutable"),
        (lambda: qp.GaussianGroundState(tolerance=0.0), ValueError, "`tolerance` must lie between"),
        (lambda: qp.GaussianGroundState(dense_size=-1), ValueError, "`dense_size` must be at least 0"),
    ],
    ids=["RP", "cubic", "complex", "nan", "negative", "float", "text", "sum", "immutable", "tolerance", "size"],
)
def test_what_is_no_observable_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ---- numerics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0 + 1e-9), (1e-2, 1.0), (3.0, 3e6)])
@pytest.mark.parametrize("tolerance", [1e-6, 1e-12])
def test_poles_keep_their_bound(low, high, tolerance):
    poles = inverse_square_root(low, high, tolerance)
    x = np.random.default_rng(0).uniform(np.log(low), np.log(high), 4000)
    x = np.exp(x)[:, None]
    value = np.sqrt(x[:, 0]) * np.sum(poles.weights / (x + poles.shifts), axis=1)
    assert poles.error <= tolerance
    assert np.abs(value - 1).max() <= 1.05 * poles.error + 1e-15
    assert len(poles.shifts) <= (4 + 0.55 * -np.log10(tolerance) * np.log10(high / low + 10))


@pytest.mark.parametrize("seed", range(4))
def test_sparse_factors_and_selected_inverse(seed):
    rng, n = np.random.default_rng(seed), 30
    upper = sp.random_array((n, n), density=0.08, rng=rng, data_sampler=lambda size: rng.normal(size=size))
    matrix = sp.csc_array(upper + upper.T + sp.diags_array(np.full(n, 8.0)))
    factors = SparseCholesky(matrix)
    lower = matrix.toarray()[factors.rows, factors.cols]
    for shift in (0.0, 2.5):  # the second factorisation re-uses the first one's memory
        dense = matrix.toarray() + shift * np.eye(n)
        factors.factor(lower, matrix.diagonal() + shift)
        inverse = np.linalg.inv(dense)
        off, on = factors.inverse()
        np.testing.assert_allclose(on, np.diag(inverse), rtol=1e-12)
        np.testing.assert_allclose(off, inverse[factors.rows, factors.cols], rtol=1e-11, atol=1e-16)
        rhs = rng.normal(size=(n, 3))
        np.testing.assert_allclose(factors.solve(rhs), inverse @ rhs, rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(factors.solve(rhs[:, 0]), inverse @ rhs[:, 0], rtol=1e-11, atol=1e-14)
        assert np.prod(factors.pivots) == pytest.approx(np.linalg.det(dense), rel=1e-10)


def test_pattern_survives_cancellation_and_long_chains():
    """The fill of a long chain is found although its products underflow, that of a square although it cancels."""
    n = 3000
    ring = sp.csc_array(sp.diags_array([np.ones(n - 1)] * 2, offsets=[-1, 1]) + sp.eye_array(n))
    chords = sp.coo_array((np.ones(2), ([0, n - 1], [n - 1, 0])), shape=(n, n))
    factors = SparseCholesky(sp.csc_array(ring + chords))
    factors.factor(np.full(n, -1.0), np.full(n, 2.5))
    _, on = factors.inverse()
    np.testing.assert_allclose(on, np.full(n, 1 / np.sqrt(2.5**2 - 4)), rtol=1e-12)
    square = np.array([[4.0, 1, 0, 1], [1, 4, 1, 0], [0, 1, 4, -1], [1, 0, -1, 4]])
    factors = SparseCholesky(sp.csc_array(square))
    factors.factor(square[factors.rows, factors.cols], np.diag(square))
    np.testing.assert_allclose(factors.inverse()[1], np.diag(np.linalg.inv(square)), rtol=1e-14)


# ---- sparse = dense --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("components", [1, 2])
def test_sparse_equals_dense(components):
    net, params, o = lattice(20 if components == 1 else 8, components=components, hbar=0.7)
    cost = qp.ObservableCost((qp.R(o) - 0.5) ** 2 + qp.P(o + 1) ** 2 + qp.R(0) * qp.R(o + 3))
    dense, sparse = (qp.linear_response(net, params, cost, solver=s) for s in (DENSE, SPARSE))
    assert dense.free.stats["method"] == "dense"
    assert sparse.free.stats["method"] == "sparse"
    assert norm(dense.grad) > 0.1
    for name, grad in sparse.grad.items():
        assert norm({name: grad}) > 1e-3
        np.testing.assert_allclose(grad, dense.grad[name], atol=1e-9)
    assert deviation(sparse.grad, dense.grad) < 1e-11
    assert float(sparse.free.energy) == pytest.approx(float(dense.free.energy), rel=1e-12)
    assert float(sparse.free.gap) == pytest.approx(float(dense.free.gap), rel=1e-8)
    far = [qp.R(0) * qp.R(50), qp.R(7) ** 2, qp.P(3) * qp.P(4), qp.P(0) ** 2, qp.R(2) - 3.0]
    ours, theirs = (out.free.state.expect_all(far).mean for out in (sparse, dense))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-13)


def test_costs_on_many_nodes():
    """Above 64 coordinates the default of a large network is two nudges more, not one equation a coordinate."""
    net, params, _ = lattice(15)
    cost = qp.ObservableCost(sum((qp.R(i) - 0.2) ** 2 for i in range(80)))
    ours = qp.ep_gradient(net, params, cost, solver=SPARSE)
    assert isinstance(ours.scheme, qp.Stencil)
    exact = qp.ep_gradient(net, params, cost, solver=DENSE)
    assert isinstance(exact.scheme, qp.LinearResponse)
    assert norm(exact.grad) > 1
    assert deviation(ours.grad, exact.grad) < 1e-8
    assert deviation(qp.linear_response(net, params, cost, solver=SPARSE).grad, exact.grad) < 1e-10
    tight = qp.GaussianGroundState(dense_size=0, memory=10**5)
    with pytest.raises(MemoryError, match="cost on 80 coordinates"):
        qp.linear_response(net, params, cost, solver=tight)
    with pytest.raises(MemoryError, match=r"dense solve of 225 coordinates.*Lower `dense_size`"):
        qp.equilibrate(net, params, solver=qp.GaussianGroundState(dense_size=300, memory=10**5))


def test_springs_of_no_stiffness_keep_their_gradient():
    net, params, o = lattice(5)
    params["k"][:3] = 0.0
    cost = qp.ObservableCost((qp.R(o) - 0.5) ** 2)
    exact = qp.linear_response(net, params, cost, solver=DENSE)
    for scheme in (qp.LinearResponse(), qp.richardson(1e-3)):
        out = qp.ep_gradient(net, params, cost, solver=SPARSE, scheme=scheme)
        assert norm({"k": exact.grad["k"][:3]}) > 1e-4
        assert deviation(out.grad, exact.grad) < 1e-7


def test_large_lattice_runs():
    """2500 nodes: EP and linear response agree, and the covariances are as good as they say."""
    net, params, o = lattice(50)
    cost = qp.ObservableCost((qp.R(o) - 0.5) ** 2)
    out = qp.linear_response(net, params, cost)
    assert out.free.stats["covariance_error"] <= 1e-12
    assert out.free.residual < 1e-10
    nudged = qp.ep_gradient(net, params, cost, scheme=qp.richardson(1e-2))
    assert norm(out.grad) > 0.1
    assert deviation(nudged.grad, out.grad) < 1e-6


# ---- stability ------------------------------------------------------------------------------------------------------


def two(solver, **params):
    net = qp.HarmonicNetwork(3, [(0, 1), (1, 2)], trainable=tuple(params))
    return qp.equilibrate(net, params, solver=solver)


@each_solver
def test_nudges_beyond_stability_are_refused(solver):
    """(r_o - y)^2 is stable for beta > -1 / (2 (K^-1)_oo)."""
    net, params, o = lattice(5)
    cost = qp.ObservableCost((qp.R(o) - 0.5) ** 2)
    inverse = np.linalg.inv(net.hamiltonian(params).stiffness.toarray())
    limit = -1 / (2 * inverse[o, o])
    with pytest.raises(ValueError, match=rf"strength must lie between {limit:.6g} and inf.*LinearResponse"):
        qp.ep_gradient(net, params, cost, solver=solver, scheme=qp.one_sided(1.01 * limit))
    inside = qp.ep_gradient(net, params, cost, solver=solver, scheme=qp.one_sided(0.99 * limit))
    assert inside.status is qp.Status.OK
    with pytest.raises(ValueError, match=rf"between -inf and {-limit:.6g}"):
        qp.ep_gradient(
            net, params, qp.ObservableCost(-(qp.R(o) ** 2)), solver=solver, scheme=qp.one_sided(-1.01 * limit)
        )
    heavy = 0.5 / params["m"][o]
    with pytest.raises(ValueError, match=rf"between {-heavy:.6g} and inf"):
        qp.ep_gradient(net, params, qp.ObservableCost(qp.P(o) ** 2), solver=solver, scheme=qp.centered(1.01 * heavy))


def test_stability_limits_of_large_networks():
    net, params, o = lattice(25)
    cost = qp.ObservableCost((qp.R(o) - 0.5) ** 2 - 3 * qp.R(o + 1) ** 2)
    h = net.hamiltonian(params)
    form = net.term_form(cost.term(qp.equilibrate(net, params).state))
    inverse = np.linalg.inv(h.stiffness.toarray())
    mu = np.linalg.eigvals(inverse[o : o + 2, o : o + 2] @ np.diag([2.0, -6.0]))
    np.testing.assert_allclose(stability_limits(h, form), (-1 / mu.max(), -1 / mu.min()), rtol=1e-6)


def test_complex_nudges():
    net, params, o = lattice(4)
    cost = qp.ObservableCost((qp.R(o) - 0.5) ** 2 + qp.P(1) ** 2)
    exact = qp.linear_response(net, params, cost)
    out = qp.ep_gradient(net, params, cost, scheme=qp.holomorphic(0.1, n_points=16))
    assert deviation(out.grad, exact.grad) < 1e-7
    with pytest.raises(ValueError, match="Complex nudges need the dense method, but this network has 16 coordinates"):
        qp.ep_gradient(net, params, cost, solver=SPARSE, scheme=qp.holomorphic(0.01))
    with pytest.raises(ValueError, match="leaves this network without a ground state"):
        qp.ep_gradient(net, params, cost, scheme=qp.holomorphic(30.0))


@each_solver
def test_floating_nodes_are_named(solver):
    with pytest.raises(ValueError, match=r"nodes 0, 1, 2 float freely, a zero mode.*kappa > 0"):
        two(solver, k=[1.0, 2.0])
    with pytest.raises(ValueError, match="nodes 2 float freely"):
        two(solver, k=[1.0, 0.0], kappa=[1.0, 0.0, 0.0])
    net, params, _ = lattice(5)
    with pytest.raises(ValueError, match=r"nodes 0, 1, 2, 3, 4, 5, 6, 7, ... \(25 nodes\) float"):
        qp.equilibrate(net, params | {"kappa": np.zeros(25)}, solver=solver)
    assert two(solver, k=[1.0, 2.0], kappa=[0.0, 0.0, 0.1]).status is qp.Status.OK


@each_solver
def test_negative_stiffness(solver):
    with pytest.raises(ValueError, match=r"not positive definite.*k\[1\] = -0.8 and kappa\[0\] = -0.1"):
        two(solver, k=[1.0, -0.8], kappa=[-0.1, 1.0, 1.0])
    assert two(solver, k=[1.0, -0.2], kappa=[1.0, 1.0, 1.0]).status is qp.Status.OK  # soft, but bound


def test_momentum_products_need_the_dense_solver():
    net, params, o = lattice(4)
    cost = qp.ObservableCost(qp.P(o) * qp.P(o + 1))
    with pytest.raises(ValueError, match="products of different momenta needs the dense solver"):
        qp.ep_gradient(net, params, cost, solver=SPARSE, scheme=qp.centered(0.01))
    exact = qp.ep_gradient(net, params, cost, solver=DENSE, scheme=qp.richardson(0.01))
    assert deviation(qp.linear_response(net, params, cost, solver=SPARSE).grad, exact.grad) < 1e-5


def test_other_systems_are_refused():
    spins = qp.TransverseFieldIsing(2, [(0, 1)])
    with pytest.raises(TypeError, match="solves harmonic networks, not TransverseFieldIsing"):
        qp.equilibrate(spins, spins.init_params(0), solver=DENSE)
    net, params, _ = lattice(2)
    with pytest.raises(TypeError, match="not HarmonicNetwork"):
        qp.equilibrate(net, params, solver=qp.ExactDiagonalization())
    with pytest.raises(ValueError, match="`key` must be None"):
        qp.equilibrate(net, params, key=1)


@each_solver
def test_results_can_be_saved(tmp_path, solver):
    net, params, o = lattice(4)
    out = qp.ep_gradient(net, params, qp.ObservableCost((qp.R(o) - 1) ** 2), solver=solver, scheme=qp.centered(0.01))
    again = qp.load(qp.save(tmp_path / "gradient", out))
    assert repr(again) == repr(out)
    far = qp.R(0) * qp.R(15) + qp.P(2) ** 2
    assert float(again.free.state.expect(far)) == float(out.free.state.expect(far))


def test_no_warning_and_no_state_is_shared():
    net, params, o = lattice(6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = qp.equilibrate(net, params, solver=SPARSE)
        second = qp.equilibrate(net, params | {"k": 2 * params["k"]}, solver=SPARSE)
    values = first.state.position_entries.copy()
    assert not np.allclose(second.state.position_entries, values)
    first.state.expect(qp.R(0) * qp.R(o))
    np.testing.assert_array_equal(first.state.position_entries, values)
