"""Harmonic networks against an oracle that shares no code: loops, `scipy.linalg.sqrtm` and differences of the loss."""

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import qutip
import scipy.linalg

import qeqprop as qp

from ..measures import deviation, norm
from ..oracle import difference_quotient

ALL = ("k", "l", "kappa", "f", "m")
DENSE, SPARSE = qp.GaussianGroundState(), qp.GaussianGroundState(dense_size=0)
each_solver = pytest.mark.parametrize("solver", [DENSE, SPARSE], ids=["dense", "sparse"])


@dataclass(frozen=True)
class Cost:
    """Quadratic forms c + a.r + r.B.r + u.p + p.V.p, one a row, beside the observables; and a loss of their values."""

    name: str
    nudge: Any
    forms: Any  # n, d -> list of (c, a, B, u, V)
    loss: Any = lambda o: o[0]
    target: Any = None


def form(n: int, d: int, c: float = 0.0, a: Any = None, b: Any = None, u: Any = None, v: Any = None) -> tuple:
    """Entries {(site, component): value} and {((site, component), (site, component)): value} as arrays."""

    def vector(entries: Any) -> np.ndarray:
        out = np.zeros(n * d)
        for (site, component), value in (entries or {}).items():
            out[site * d + component] += value
        return out

    def matrix(entries: Any) -> np.ndarray:
        out = np.zeros((n * d, n * d))
        for ((i, x), (j, y)), value in (entries or {}).items():
            out[i * d + x, j * d + y] += value / 2
            out[j * d + y, i * d + x] += value / 2
        return out

    return c, vector(a), matrix(b), vector(u), matrix(v)


def one(site: int, component: int = 0) -> tuple[tuple[int, int], tuple[int, int]]:
    return ((site, component), (site, component))


COSTS = [
    Cost(
        "displacement",
        qp.ObservableCost(qp.R(2)),
        lambda n, d: [form(n, d, a={(2, 0): 1})],
    ),
    Cost(
        "squared error with variance",
        qp.ObservableCost((qp.R(2) - 0.5) ** 2),
        lambda n, d: [form(n, d, 0.25, {(2, 0): -1}, {one(2): 1})],
    ),
    Cost(
        "distant pair and momentum",
        qp.ObservableCost(qp.R(0) * qp.R(3) + 0.7 * qp.P(1) ** 2 + qp.R(2)),
        lambda n, d: [form(n, d, 0.0, {(2, 0): 1}, {((0, 0), (3, 0)): 1}, None, {one(1): 0.7})],
    ),
    Cost(
        "energy of a part",
        qp.ObservableCost(qp.P(0) ** 2 / 2 + 0.4 * (qp.R(0) - qp.R(1) - 0.5) ** 2),
        lambda n, d: [
            form(
                n,
                d,
                0.1,
                {(0, 0): -0.4, (1, 0): 0.4},
                {one(0): 0.4, one(1): 0.4, ((0, 0), (1, 0)): -0.8},
                None,
                {one(0): 0.5},
            )
        ],
    ),
    Cost(
        "function of expectations",
        qp.ExpectationCost([qp.R(1), qp.R(2) ** 2], lambda o, y: (o[0] * o[1] - y) ** 2 + o[1]),
        lambda n, d: [form(n, d, a={(1, 0): 1}), form(n, d, b={one(2): 1})],
        lambda o: (o[0] * o[1] - 0.3) ** 2 + o[1],
        0.3,
    ),
]
EDGES = [(0, 1), (1, 2), (2, 3), (3, 0), (3, 1)]


def network(d: int, hbar: float, trainable: tuple[str, ...] = ALL, **options: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """A ring of four with a chord, every value different."""
    net = qp.HarmonicNetwork(4, EDGES, components=d, hbar=hbar, trainable=trainable, **options)
    return net, {name: value for name, value in net.init_params(7).items() if name in trainable}


def matrices(p: Any, d: int, edges: Any = EDGES) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """K, M, f and the constant, spring by spring."""
    n = len(p["kappa"])
    k, f, constant = np.diag(np.repeat(p["kappa"], d)).astype(float), np.array(p["f"], float).reshape(-1).copy(), 0.0
    for e, (i, j) in enumerate(edges):
        for a in range(d):
            rest = np.reshape(p["l"], (-1, d))[e, a]
            x = np.zeros(n * d)
            x[i * d + a], x[j * d + a] = 1, -1
            k += p["k"][e] * np.outer(x, x)
            f += p["k"][e] * rest * x
            constant += 0.5 * p["k"][e] * rest**2
    return k, np.diag(np.repeat(p["m"], d)), f, constant


def covariances(k: np.ndarray, inverse_mass: np.ndarray, hbar: float) -> tuple[np.ndarray, np.ndarray]:
    """(hbar/2) (A K)^(-1/2) A and (hbar/2) A^-1 (A K)^(1/2)."""
    root = scipy.linalg.sqrtm(inverse_mass @ k).real
    return 0.5 * hbar * np.linalg.inv(root) @ inverse_mass, 0.5 * hbar * np.linalg.inv(inverse_mass) @ root


def oracle_loss(p: Any, cost: Cost, d: int, hbar: float) -> float:
    k, m, f, _ = matrices(p, d)
    r = np.linalg.solve(k, f)
    rr, pp = covariances(k, np.linalg.inv(m), hbar)
    values = [c + a @ r + r @ b @ r + np.trace(b @ rr) + np.trace(v @ pp) for c, a, b, _, v in cost.forms(4, d)]
    return float(cost.loss(values))


def oracle_energy(p: Any, cost: Cost, d: int, hbar: float, beta: float) -> float:
    """Ground-state energy of H + beta * C, C one quadratic form."""
    k, m, f, constant = matrices(p, d)
    c, a, b, _, v = cost.forms(4, d)[0]
    k, inverse_mass, f = k + 2 * beta * b, np.linalg.inv(m) + 2 * beta * v, f - beta * a
    omega = np.sqrt(np.linalg.eigvals(inverse_mass @ k).real)
    return 0.5 * hbar * omega.sum() - 0.5 * f @ np.linalg.solve(k, f) + constant + beta * c


def gradient(fn: Any, params: Any) -> dict[str, np.ndarray]:
    """Differences of fn(params) in every component."""
    out = {}
    for name, value in params.items():
        flat = difference_quotient(lambda x, n=name, v=value: fn(params | {n: x.reshape(v.shape)}), value.ravel())
        out[name] = flat.reshape(value.shape)
    return out


cases = pytest.mark.parametrize(
    ("cost", "d", "hbar"),
    [(cost, d, hbar) for cost in COSTS for d, hbar in ((1, 1.0), (2, 0.6), (1, 0.0))],
    ids=lambda value: value.name if isinstance(value, Cost) else str(value),
)


@cases
@each_solver
def test_linear_response_and_loss(cost, d, hbar, solver):
    net, params = network(d, hbar)
    out = qp.linear_response(net, params, cost.nudge, cost.target, solver=solver)
    exact = gradient(lambda p: oracle_loss(p, cost, d, hbar), params)
    assert norm(exact) > 0.1
    assert float(out.loss) == pytest.approx(oracle_loss(params, cost, d, hbar), abs=1e-11)
    assert deviation(out.grad, exact) < 1e-9
    assert out.status is qp.Status.OK


@cases
@each_solver
def test_every_stencil_is_right_within_its_error(cost, d, hbar, solver):
    net, params = network(d, hbar)
    exact = qp.linear_response(net, params, cost.nudge, cost.target, solver=solver).grad
    for scheme, worst in ((qp.one_sided, 0.2), (qp.centered, 1e-2), (qp.richardson, 1e-4)):
        out = qp.ep_gradient(net, params, cost.nudge, cost.target, solver=solver, scheme=scheme(0.02))
        error = norm({name: out.grad[name] - exact[name] for name in exact})
        assert error < worst * norm(exact)
        assert error <= 3 * norm(out.truncation) + 1e-10


@cases
def test_holomorphic(cost, d, hbar):
    net, params = network(d, hbar)
    exact = qp.linear_response(net, params, cost.nudge, cost.target).grad
    out = qp.ep_gradient(net, params, cost.nudge, cost.target, scheme=qp.holomorphic(0.03, n_points=8))
    assert deviation(out.grad, exact) < 1e-7


@pytest.mark.parametrize("hbar", [0.0, 1.0])
@each_solver
def test_finite_differences_and_verdict(hbar, solver):
    net, params = network(1, hbar)
    check = qp.check_gradient(net, params, qp.ObservableCost((qp.R(2) - 0.5) ** 2), solver=solver)
    assert check.agrees, check


@pytest.mark.parametrize("beta", [0.3, -0.02])
@pytest.mark.parametrize("cost", COSTS[1:4], ids=lambda cost: cost.name)
@each_solver
def test_finite_nudge_is_the_exact_gradient_of_energy_differences(beta, cost, solver):
    """One-sided EP at any beta is the gradient of [e(beta) - e(0)]/beta: no limit is involved."""
    net, params = network(2, 0.8)
    out = qp.ep_gradient(net, params, cost.nudge, solver=solver, scheme=qp.one_sided(beta))
    exact = gradient(
        lambda p: (oracle_energy(p, cost, 2, 0.8, beta) - oracle_energy(p, cost, 2, 0.8, 0.0)) / beta, params
    )
    assert norm(exact) > 0.1
    assert deviation(out.grad, exact) < 1e-8
    for strength, phase in (*out.nudged, (0.0, out.free)):
        assert float(phase.energy) == pytest.approx(oracle_energy(params, cost, 2, 0.8, strength), abs=1e-11)


@pytest.mark.parametrize("trainable", [("k",), ("l", "m"), ("f", "kappa"), ("m",)], ids="-".join)
def test_subsets_of_the_parameters(trainable):
    full, params = network(2, 1.0)
    fixed = {name: value for name, value in params.items() if name not in trainable}
    part = qp.HarmonicNetwork(4, EDGES, components=2, trainable=trainable, fixed=fixed)
    cost = qp.ObservableCost((qp.R(2, 1) - 0.5) ** 2)
    expected = qp.linear_response(full, params, cost).grad
    grad = qp.linear_response(part, {name: params[name] for name in trainable}, cost).grad
    assert set(grad) == set(trainable)
    assert norm(grad) > 1e-3
    assert deviation(grad, {name: expected[name] for name in trainable}) < 1e-12


def test_two_oscillators_in_closed_form():
    """Modes (r_0 +- r_1)/sqrt(2) at w_+^2 = kappa, w_-^2 = kappa + 2k: Var(r_0) = hbar (1/w_+ + 1/w_-)/4."""
    hbar, k, kappa = 0.7, 1.3, 0.9
    soft, stiff = np.sqrt(kappa), np.sqrt(kappa + 2 * k)
    pair = qp.HarmonicNetwork(2, [(0, 1)], hbar=hbar, trainable=("k", "kappa"))
    params = {"k": [k], "kappa": [kappa, kappa]}
    out = qp.linear_response(pair, params, qp.ObservableCost(qp.R(0) ** 2))
    assert float(out.loss) == pytest.approx(hbar * (1 / soft + 1 / stiff) / 4, abs=1e-14)
    assert float(out.free.energy) == pytest.approx(hbar * (soft + stiff) / 2, abs=1e-14)
    assert float(out.free.gap) == pytest.approx(hbar * soft, abs=1e-14)
    assert out.grad["k"][0] == pytest.approx(-hbar / (4 * stiff**3), abs=1e-14)
    assert out.grad["kappa"].sum() == pytest.approx(-hbar * (soft**-3 + stiff**-3) / 8, abs=1e-14)
    state = out.free.state
    assert float(state.expect(qp.P(0) ** 2)) == pytest.approx(hbar * (soft + stiff) / 4, abs=1e-14)
    assert float(state.expect(qp.R(0) * qp.R(1))) == pytest.approx(hbar * (1 / soft - 1 / stiff) / 4, abs=1e-14)


def test_fock_space():
    """The same two oscillators as matrices in a truncated number basis."""
    cutoff, params = 18, {"k": np.array([0.4]), "kappa": np.array([1.1, 0.8]), "f": np.array([0.3, -0.2])}
    lower, unit = qutip.destroy(cutoff), qutip.qeye(cutoff)
    ladder = [qutip.tensor(lower, unit), qutip.tensor(unit, lower)]
    r = [(a + a.dag()) / np.sqrt(2) for a in ladder]
    p = [(a - a.dag()) / (1j * np.sqrt(2)) for a in ladder]
    fock = qp.OperatorSystem(
        {"k": [(r[0] - r[1]) ** 2 / 2], "kappa": [x**2 / 2 for x in r], "f": [-x for x in r]},
        fixed=sum(x**2 / 2 for x in p),
    )
    net = qp.HarmonicNetwork(2, [(0, 1)], trainable=("k", "kappa", "f"))
    costs = (qp.ObservableCost((qp.R(1) - 0.5) ** 2), qp.ObservableCost(qp.MatrixOperator((r[1] - 0.5) ** 2)))
    for scheme in (qp.LinearResponse(), qp.centered(0.05)):
        ours, theirs = (
            qp.ep_gradient(system, params, cost, scheme=scheme, throw=False)
            for system, cost in zip((net, fock), costs, strict=True)
        )
        top = np.abs(theirs.free.state.amplitudes.reshape(cutoff, cutoff)) ** 2
        assert top[-2:].sum() + top[:, -2:].sum() < 1e-12
        assert norm(ours.grad) > 0.1
        assert deviation(ours.grad, theirs.grad) < 1e-7
        assert float(ours.free.energy) == pytest.approx(float(theirs.free.energy), abs=1e-8)
        assert float(ours.free.gap) == pytest.approx(float(theirs.free.gap), abs=1e-6)


def classical_gradient(params: Any, out: int, y: float) -> dict[str, np.ndarray]:
    """Of (r_o - y)^2 at the minimum of the elastic energy, by the adjoint z = K^-1 2 (r_o - y) e_o."""
    k, _, f, _ = matrices(params | {"m": np.ones(4)}, 1)
    r = np.linalg.solve(k, f)
    z = np.linalg.solve(k, 2 * (r[out] - y) * np.eye(4)[out])
    i, j = np.array(EDGES).T
    return {
        "k": -(z[i] - z[j]) * (r[i] - r[j] - params["l"]),
        "l": params["k"] * (z[i] - z[j]),
        "kappa": -z * r,
        "f": z,
    }


@each_solver
def test_classical_limit(solver):
    """hbar = 0 is the elastic network; hbar -> 0 goes there linearly; the means never depend on hbar."""
    cost, names = qp.ObservableCost((qp.R(2) - 0.5) ** 2), ("k", "l", "kappa", "f")
    grads, means = [], []
    for hbar in (0.0, 1e-12, 1.0):
        net, params = network(1, hbar, names)
        out = qp.linear_response(net, params, cost, solver=solver)
        grads.append(out.grad)
        means.append(out.free.state.mean)
    exact = classical_gradient(params, 2, 0.5)
    assert norm(exact) > 0.1
    assert deviation(grads[0], exact) < 1e-13
    assert deviation(grads[1], exact) < 1e-10
    assert deviation(grads[2], exact) > 0.02
    np.testing.assert_allclose(means[1], means[0], rtol=1e-12)
    np.testing.assert_allclose(means[2], means[0], rtol=1e-12)
    net, params = network(1, 0.0, names)
    nudged = qp.ep_gradient(net, params, cost, solver=solver, scheme=qp.richardson(1e-2))
    assert deviation(nudged.grad, exact) < 1e-6
    assert nudged.free.gap is None


@each_solver
def test_batch_is_the_mean_of_single_calls(solver):
    net = qp.HarmonicNetwork(4, EDGES, input_sites=[0, 3])
    params, rng = net.init_params(1), np.random.default_rng(0)
    inputs, targets = rng.normal(size=(3, 2)), rng.normal(size=(3, 1))
    cost = qp.ExpectationCost([qp.R(1)])
    whole = qp.ep_gradient(net, params, cost, targets, inputs=inputs, solver=solver)
    singles = [
        qp.ep_gradient(net, params, cost, y, inputs=x, solver=solver) for x, y in zip(inputs, targets, strict=True)
    ]
    assert norm(whole.grad) > 0.1
    assert deviation(whole.grad, {n: np.mean([s.grad[n] for s in singles], axis=0) for n in params}) < 1e-13
    force = np.zeros(4)
    force[[0, 3]] = inputs[1]
    shifted = qp.ep_gradient(net, params | {"f": params["f"] + force}, cost, targets[1], solver=solver)
    assert deviation(singles[1].grad, shifted.grad) < 1e-13


def test_components_are_independent():
    """Springs act on every component alike: what acts on one alone is the one-component network."""
    net, params = network(1, 1.0)
    plane = qp.HarmonicNetwork(4, EDGES, components=2, trainable=ALL, input_sites=[1])
    both = {n: np.stack([0.3 * v, v], axis=1) if n in ("l", "f") else v for n, v in params.items()}
    grad = qp.linear_response(net, params, qp.ObservableCost((qp.R(2) - 0.5) ** 2)).grad
    out = qp.linear_response(plane, both, qp.ObservableCost((qp.R(2, 1) - 0.5) ** 2))
    kept = {n: v[:, 1] if n in ("l", "f") else v for n, v in out.grad.items()}
    assert deviation(kept, grad) < 1e-12
    assert norm({n: out.grad[n][:, 0] for n in ("l", "f")}) < 1e-14
    pulled = qp.linear_response(plane, both, qp.ObservableCost(qp.R(2, 1)), inputs=[[0.7, -0.2]])
    moved = both | {"f": both["f"] + np.outer(np.eye(4)[1], [0.7, -0.2])}
    same = qp.linear_response(plane, moved, qp.ObservableCost(qp.R(2, 1)))
    assert deviation(pulled.grad, same.grad) < 1e-13


def test_uniform_ring():
    """E_0 = (hbar/2) sum_q sqrt(kappa + 4 k sin^2(q/2)) at 500 nodes, sparse."""
    n, k, kappa = 500, 1.7, 0.2
    ring = qp.HarmonicNetwork(n, [(i, (i + 1) % n) for i in range(n)], trainable=("k", "kappa"))
    ground = qp.equilibrate(ring, {"k": np.full(n, k), "kappa": np.full(n, kappa)})
    omega = np.sqrt(kappa + 4 * k * np.sin(np.pi * np.arange(n) / n) ** 2)
    assert ground.stats["method"] == "sparse"
    assert float(ground.energy) == pytest.approx(omega.sum() / 2, rel=1e-12)
    assert float(ground.gap) == pytest.approx(np.sqrt(kappa), rel=1e-10)
    assert float(ground.state.expect(qp.R(3) ** 2)) == pytest.approx(np.mean(0.5 / omega), rel=1e-12)
    far = np.mean(0.5 / omega * np.cos(2 * np.pi * np.arange(n) * 40 / n))
    assert float(ground.state.expect(qp.R(3) * qp.R(43))) == pytest.approx(far, rel=1e-6, abs=1e-14)
    assert float(ground.state.expect(qp.P(3) * qp.P(4))) == pytest.approx(
        np.mean(0.5 * omega * np.cos(2 * np.pi * np.arange(n) / n)), rel=1e-11
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hbar": -1.0}, ValueError, "`hbar` must be 0 or above"),
        ({"components": 0}, ValueError, "`components` must be at least 1"),
        ({"trainable": ("k", "mass")}, ValueError, "distinct names among"),
        ({"trainable": ()}, ValueError, "distinct names among"),
        ({"fixed": {"k": 2.0}}, ValueError, "must not have the trainable names"),
        ({"fixed": {"mass": 2.0}}, ValueError, "must have names among"),
        ({"fixed": {"m": [1.0, 2.0]}}, ValueError, r"`fixed\['m'\]` must have shape \(4,\)"),
        ({"input_sites": [4]}, ValueError, "distinct nodes 0 to 3"),
        ({"input_sites": [1, 1]}, ValueError, "distinct nodes 0 to 3"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        qp.HarmonicNetwork(4, EDGES, **options)


def test_bad_inputs_are_refused():
    net = qp.HarmonicNetwork(2, [(0, 1)], components=2, input_sites=[0])
    assert net.input_shape == (1, 2)
    with pytest.raises(ValueError, match=r"must have shape \(1, 2\) or \(batch, 1, 2\), but has shape \(2,\)"):
        net.with_inputs([1.0, 2.0])
    with pytest.raises(ValueError, match="has no input sites"):
        qp.HarmonicNetwork(2, [(0, 1)]).with_inputs([1.0])
    with pytest.raises(ValueError, match=r"`m` must be positive, but is -1\.0 at site 1"):
        qp.equilibrate(
            qp.HarmonicNetwork(2, [(0, 1)], trainable=("k", "m"), fixed={"kappa": 1}), {"k": [1.0], "m": [1.0, -1.0]}
        )
    with pytest.raises(TypeError, match=r"must be a polynomial in R\(i\) and P\(i\), not PauliSum"):
        qp.ep_gradient(net, net.init_params(0), qp.ObservableCost(qp.Z(0)))
    with pytest.raises(ValueError, match="acts on site 5"):
        qp.ep_gradient(net, net.init_params(0), qp.ObservableCost(qp.R(5)))
    with pytest.raises(ValueError, match="acts on component 2"):
        qp.ep_gradient(net, net.init_params(0), qp.ObservableCost(qp.R(0, 2)))


@pytest.mark.parametrize("operation", ["__add__", "__sub__", "__mul__"])
def test_sums_of_different_algebras_do_not_mix(operation):
    act = getattr(operator, operation)
    for pair in ((qp.R(0), qp.Z(0)), (qp.Z(0), qp.R(0)), (qp.R(0), "1"), ("1", qp.Z(0)), (qp.Z(0), [1.0])):
        with pytest.raises(TypeError, match=r"unsupported operand|can't multiply|can only concatenate|must be str"):
            act(*pair)
