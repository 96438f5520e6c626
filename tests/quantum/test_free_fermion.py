"""Free fermions against dense matrices at small sizes, against closed forms and against themselves at large ones."""

import dataclasses
import itertools
import time

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import FermionState, OpenChainState, heisenberg
from qeqprop.quantum.fermion_states import cofactors, fermion_state
from qeqprop.quantum.jordan_wigner import fermion_table

from ..free_cases import FREE_CASES
from ..measures import deviation, norm
from ..oracle import Case, name_of, on
from ..spin_cases import tfim_matrix
from .chains import chain

SOLVER = qp.FreeFermions()
each_case = pytest.mark.parametrize("case", FREE_CASES, ids=name_of)


def ring(n: int) -> qp.TransverseFieldIsing:
    return qp.TransverseFieldIsing(n, [(i, (i + 1) % n) for i in range(n)])


def uniform(network: qp.TransverseFieldIsing, J: float = 1.0, g: float = 1.0) -> dict[str, np.ndarray]:
    n = network.n_sites
    return {"J": np.full(len(network.edges), J), "h": np.zeros(n), "g": np.full(n, g)}


def random_case(n: int, *, closed: bool, seed: int) -> Case:
    """Couplings and fields of any sign along a path or ring in random labels; a cost of both kinds."""
    rng = np.random.default_rng(seed)
    labels = [int(site) for site in rng.permutation(n)]
    edges = [(labels[i], labels[(i + 1) % n]) for i in range(n if closed else n - 1)]
    o, (i, j) = labels[n // 2], edges[-1]
    return Case(
        f"random {n}",
        qp.TransverseFieldIsing(n, edges),
        {"J": rng.normal(size=len(edges)), "h": np.zeros(n), "g": rng.choice([-1, 1], n) * rng.uniform(0.6, 1.6, n)},
        qp.ObservableCost(qp.X(o) - 0.7 * qp.Z(i) * qp.Z(j)),
        tfim_matrix(n, edges),
        (on(n, f"X{o}") - 0.7 * on(n, f"Z{i} Z{j}"),),
    )


# --- against dense matrices -------------------------------------------------------------------------------------------


@each_case
def test_energy_gap_and_linear_response(case):
    out = qp.linear_response(*case.problem, solver=SOLVER)
    assert out.status is qp.Status.OK
    assert float(out.loss) == pytest.approx(case.exact.loss, abs=1e-12)
    assert float(out.free.energy) == pytest.approx(case.exact.energies[0], abs=1e-12)
    assert min(float(out.free.gap), out.free.stats["parity_gap"]) == pytest.approx(case.exact.gaps[0], abs=1e-12)
    assert deviation(out.grad, case.exact.grad) < 1e-11


@each_case
@pytest.mark.parametrize("scheme", [None, qp.one_sided(1e-3), qp.centered(1e-2), qp.richardson(5e-2)], ids=str)
def test_scheme_is_right_within_the_error_it_reports(case, scheme):
    out = qp.ep_gradient(*case.problem, solver=SOLVER, scheme=scheme)
    error = norm({name: value - case.exact.grad[name] for name, value in out.grad.items()})
    assert out.status is qp.Status.OK
    assert error < 1e-2 * norm(case.exact.grad)
    assert error <= 3 * norm(out.truncation) + 3 * out.residual * np.sqrt(sum(g.size for g in out.grad.values()))


@each_case
def test_finite_differences_and_verdict(case):
    trained = {name: list(np.ndindex(value.shape)) for name, value in case.params.items() if name != "h"}
    check = qp.check_gradient(*case.problem, solver=SOLVER, components=trained)
    assert check.agrees
    assert deviation(check.references["finite differences"].grad, case.exact.grad) < 1e-6


@pytest.mark.parametrize("closed", [False, True], ids=["open", "ring"])
@pytest.mark.parametrize("n", [3, 4, 5, 8])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_chains(n, closed, seed):
    case = random_case(n, closed=closed, seed=seed)
    out = qp.linear_response(*case.problem, solver=SOLVER)
    assert isinstance(out.free.state, FermionState if closed else OpenChainState)
    assert norm(case.exact.grad) > 0.05
    assert float(out.free.energy) == pytest.approx(case.exact.energies[0], abs=1e-12)
    assert min(float(out.free.gap), out.free.stats["parity_gap"]) == pytest.approx(case.exact.gaps[0], abs=1e-12)
    assert deviation(out.grad, case.exact.grad) < 1e-9
    nudged = qp.ep_gradient(*case.problem, solver=SOLVER)
    assert deviation(nudged.grad, case.exact.grad) < 1e-6


@pytest.mark.parametrize("n", [4, 5])
@pytest.mark.parametrize("sign", [1, -1])
def test_frustrated_rings(n, sign):
    """Strong bonds that cannot all be satisfied: neither sector has its vacuum, one mode is occupied."""
    couplings, fields = np.array([1.0, 0.8, 1.1, -0.9, 1.2][:n]), np.array([0.5, 0.4, 0.3, 0.6, 0.45][:n])
    fields[1] *= sign
    case = random_case(n, closed=True, seed=0)
    case = dataclasses.replace(case, params={"J": couplings, "h": np.zeros(n), "g": fields})
    out = qp.linear_response(*case.problem, solver=SOLVER)
    assert out.free.state.values[0] < 0
    assert out.free.state.parity == sign
    assert float(out.free.energy) == pytest.approx(case.exact.energies[0], abs=1e-12)
    assert min(float(out.free.gap), out.free.stats["parity_gap"]) == pytest.approx(case.exact.gaps[0], abs=1e-12)
    assert norm(case.exact.grad) > 0.05
    assert deviation(out.grad, case.exact.grad) < 1e-9


@pytest.mark.parametrize("closed", [False, True], ids=["open", "ring"])
def test_every_pauli_string(closed):
    """All 4^5 strings: elements of Q, determinants, complements by the parity, and zeros by symmetry."""
    n = 5
    case = random_case(n, closed=closed, seed=4)
    labels = [
        " ".join(f"{p}{i}" for i, p in enumerate(word) if p != "I") for word in itertools.product("IXYZ", repeat=n)
    ]
    strings = [qp.PauliSum.from_labels({label or "I": 1.0}) for label in labels]
    ground = np.linalg.eigh(case.hamiltonian(case.params, None))[1][:, 0]
    expected = [np.vdot(ground, s.to_dense(n) @ ground).real for s in strings]
    values = qp.equilibrate(case.system, case.params, solver=SOLVER).state.expect_all(strings).mean
    np.testing.assert_allclose(values, expected, atol=1e-12)
    assert np.sum(np.abs(expected) > 1e-3) > 100


def test_one_and_two_spins():
    lone = qp.ep_gradient(chain(1), {"J": [], "h": [0.0], "g": [-0.7]}, qp.ObservableCost(qp.X(0)), solver=SOLVER)
    assert (float(lone.free.energy), float(lone.loss), lone.free.stats["parity_gap"]) == pytest.approx(
        (-0.7, -1.0, 1.4)
    )
    assert norm(lone.grad) < 1e-15
    pair = qp.linear_response(
        chain(2), {"J": [1.0], "h": [0, 0], "g": [1, 0.7]}, qp.ObservableCost(qp.X(0)), solver=SOLVER
    )
    dense = qp.linear_response(chain(2), {"J": [1.0], "h": [0, 0], "g": [1, 0.7]}, qp.ObservableCost(qp.X(0)))
    assert deviation(pair.grad, dense.grad) < 1e-9


def test_disjoint_chains_are_one_chain():
    network = qp.TransverseFieldIsing(6, [(0, 3), (1, 4)])
    params = {"J": np.array([0.8, -0.5]), "h": np.zeros(6), "g": np.linspace(0.7, 1.2, 6)}
    cost = qp.ObservableCost(qp.X(3) + qp.X(5) + qp.Z(1) * qp.Z(4))
    ours, exact = qp.linear_response(network, params, cost, solver=SOLVER), qp.linear_response(network, params, cost)
    assert norm(exact.grad) > 0.1
    assert deviation(ours.grad, exact.grad) < 1e-8


@pytest.mark.parametrize("closed", [False, True], ids=["open", "ring"])
def test_costs_of_longer_strings_by_linear_response(closed):
    case = random_case(7, closed=closed, seed=1)
    far = qp.Z(0) * qp.Z(4) - 0.5 * qp.X(1) * qp.X(2) + 0.3 * qp.Y(3) * qp.Y(6)
    cost = qp.ExpectationCost([far, qp.X(5)])
    ours = qp.ep_gradient(case.system, case.params, cost, [0.5, 0.1], solver=SOLVER)
    exact = qp.linear_response(case.system, case.params, cost, [0.5, 0.1])
    assert isinstance(ours.scheme, qp.LinearResponse), "no chain is nudged by longer strings"
    assert norm(exact.grad) > 0.1
    assert float(ours.loss) == pytest.approx(float(exact.loss), abs=1e-9)
    assert deviation(ours.grad, exact.grad) < 1e-7
    with pytest.raises(ValueError, match=r"needs nudges quadratic in fermions .* LinearResponse\(\) also takes"):
        qp.ep_gradient(case.system, case.params, cost, [0.5, 0.1], solver=SOLVER, scheme=qp.centered(1e-3))


def test_cofactors_of_regular_and_singular_matrices():
    regular = np.random.default_rng(0).normal(size=(4, 4))
    np.testing.assert_allclose(cofactors(regular), np.linalg.det(regular) * np.linalg.inv(regular).T, atol=1e-12)
    np.testing.assert_allclose(cofactors(np.diag([3.0, 2.0, 0.0])), np.diag([0.0, 0.0, 6.0]), atol=1e-12)


def test_a_spin_network_with_shared_parameters():
    """Any spin network will do, if its terms are quadratic: here YY bonds, a fixed part and driven fields."""
    n = 5
    network = qp.SpinNetwork(
        n,
        {"zz": [sum(qp.Z(i) * qp.Z(i + 1) for i in range(n - 1))], "yy": [qp.Y(i) * qp.Y(i + 1) for i in range(n - 1)]},
        fixed=-0.9 * qp.X(2) + 0.4,
        inputs=[qp.X(0) + qp.X(4)],
    )
    params = {"zz": np.array([-1.0]), "yy": np.array([0.3, -0.2, 0.4, 0.1])}
    cost = qp.ExpectationCost([qp.X(2), qp.Z(0) * qp.Z(1)])
    inputs, target = np.array([[0.8], [-1.1]]), np.array([[0.5, 0.1], [-0.5, 0.2]])
    ours = qp.linear_response(network, params, cost, target, inputs=inputs, solver=SOLVER)
    exact = qp.linear_response(network, params, cost, target, inputs=inputs)
    assert norm(exact.grad) > 0.1
    np.testing.assert_allclose(ours.losses, exact.losses, atol=1e-9)
    assert deviation(ours.grad, exact.grad) < 1e-7
    single = network.with_inputs(inputs[0])
    phase = qp.equilibrate(single, params, solver=SOLVER)
    assert float(single.energy(params, phase.state)) == pytest.approx(float(phase.energy), abs=1e-12)


# --- large sizes ------------------------------------------------------------------------------------------------------


def test_critical_chain_in_closed_form():
    network = chain(1000)
    ground = qp.equilibrate(network, uniform(network), solver=SOLVER)
    assert float(ground.energy) == pytest.approx(1 - 1 / np.sin(np.pi / 4002), rel=1e-14)
    lowest = 2 * np.sin(np.pi / 4002 * np.array([1, 3]))
    assert ground.stats["parity_gap"] == pytest.approx(2 * lowest[0], rel=1e-10)
    assert float(ground.gap) == pytest.approx(2 * lowest.sum(), rel=1e-10)


@pytest.mark.parametrize("g", [0.5, 1.0, 1.6])
def test_periodic_chain_in_closed_form(g):
    n = 100
    network = ring(n)
    ground = qp.equilibrate(network, uniform(network, g=g), solver=SOLVER)
    k = (2 * np.arange(n) + 1) * np.pi / n
    assert float(ground.energy) == pytest.approx(-np.sum(np.sqrt(1 + g**2 + 2 * g * np.cos(k))), rel=1e-13)
    assert ground.state.parity == 1 or ground.stats["parity_gap"] < 1e-12


@pytest.mark.parametrize("g", [0.3, 1.0, 3.0])
def test_continued_fractions_equal_singular_values(g):
    """Where the smallest singular value is 1e-105, 1e-2 or 2: the same accuracy, for states and responses."""
    n = 200
    rng = np.random.default_rng(2)
    network = chain(n)
    signs = rng.choice([-1, 1], size=2 * n - 1)
    params = {"J": signs[: n - 1] * rng.uniform(0.8, 1.2, n - 1), "h": np.zeros(n), "g": signs[n - 1 :] * np.full(n, g)}
    out = qp.linear_response(network, params, qp.ObservableCost(qp.X(90) + qp.Z(3) * qp.Z(4)), solver=SOLVER)
    matrix = np.diag(params["g"]) + np.diag(params["J"], -1)
    state, modes = out.free.state, fermion_state(tuple(range(n)), matrix, None)
    rows, cols = np.arange(60, 90), np.arange(50, 80)
    np.testing.assert_allclose(state.block(rows, cols), modes.block(rows, cols), atol=1e-12)
    observables = [qp.X(0), qp.X(90), qp.Z(50) * qp.Z(51), qp.Z(20) * qp.Z(60), qp.X(3) * qp.X(4)]
    np.testing.assert_allclose(state.expect_all(observables).mean, modes.expect_all(observables).mean, atol=1e-11)
    nudge = (np.array([90, 4]), np.array([90, 3]), np.ones(2))
    pairs = fermion_table(tuple(op for _, ops in network.terms for op in ops), state.order)
    expected = network.forces(pairs.linear(modes.response(nudge, pairs.bilinears), state.parity))
    assert norm(expected) > 0.1 / max(g, 1) ** 4
    assert deviation(out.grad, expected) < 1e-10


@pytest.mark.parametrize("g", [0.3, 1.0])
def test_a_thousand_sites_in_a_second(g):
    n = 1000
    network = chain(n)
    params = uniform(network, g=g) | {"J": 1 + 0.1 * np.sin(np.arange(n - 1.0))}
    cost = qp.ObservableCost(qp.X(500) + qp.Z(500) * qp.Z(501))
    qp.ep_gradient(network, params, cost, solver=SOLVER)  # compiled, and the strings read, once
    started = time.process_time()
    nudged = qp.ep_gradient(network, params, cost, solver=SOLVER)
    assert time.process_time() - started < 2
    exact = qp.linear_response(network, params, cost, solver=SOLVER)
    assert norm(exact.grad) > 0.1
    assert deviation(nudged.grad, exact.grad) < 1e-6
    assert nudged.status is exact.status is qp.Status.OK
    differences = qp.finite_difference(network, params, cost, components={"J": [499], "g": [490]}, solver=SOLVER)
    assert deviation(differences.grad, exact.grad) < 1e-6


# --- parity, degeneracy, refusals -------------------------------------------------------------------------------------


def test_nudged_phases_stay_in_their_sector():
    """A field of 0.01 under a nudge of 0.05: the other parity becomes the lower one, the branch goes on."""
    params = {"J": [1.0, 1.0], "h": [0.0] * 3, "g": [1.0, 0.01, 1.0]}
    cost = qp.ObservableCost(qp.X(1))
    exact = qp.linear_response(chain(3), params, cost, solver=SOLVER)
    out = qp.ep_gradient(chain(3), params, cost, scheme=qp.centered(0.05), solver=SOLVER)
    jumped = qp.equilibrate(chain(3), params | {"g": [1.0, -0.04, 1.0]}, solver=SOLVER)
    assert {phase.state.parity for _, phase in out.nudged} == {out.free.state.parity} == {-jumped.state.parity}
    assert norm(exact.grad) > 0.3
    assert deviation(out.grad, exact.grad) < 5e-3
    assert norm({name: out.grad[name] - exact.grad[name] for name in out.grad}) <= 3 * norm(out.truncation)


def test_the_ordered_phase_has_a_gradient():
    """Both parities have one energy and the same correlations: no level is crossed by a parity-conserving nudge."""
    network = chain(60)
    params = uniform(network, g=0.2)
    out = qp.ep_gradient(network, params, qp.ObservableCost(qp.X(30)), solver=SOLVER)
    assert out.free.stats["parity_gap"] < 1e-12
    assert float(out.free.gap) == pytest.approx(1.6, rel=1e-2)
    step = 1e-3
    shifted = {s: {**params, "g": params["g"] + s * step * (np.arange(60) == 30)} for s in (-1, 1)}
    value = {s: float(qp.equilibrate(network, p, solver=SOLVER).state.expect(qp.X(30))) for s, p in shifted.items()}
    assert out.grad["g"][30] == pytest.approx((value[1] - value[-1]) / (2 * step), rel=1e-5)
    assert out.grad["g"][30] > 0.4


@pytest.mark.parametrize(
    ("network", "params"),
    [
        (chain(3), {"J": [1, 1], "h": [0, 0, 0], "g": [1, 0, 1]}),
        (chain(1), {"J": [], "h": [0], "g": [0]}),
        (ring(4), {"J": [1, 1, 1, -1], "h": [0] * 4, "g": [1e-12] * 4}),
    ],
    ids=["a spin without field", "nothing", "frustrated ring"],
)
def test_degenerate_ground_states_are_refused(network, params):
    with pytest.raises(qp.EquilibriumError, match="The ground state is degenerate") as error:
        qp.equilibrate(network, params, solver=SOLVER)
    assert error.value.status is qp.Status.DEGENERATE
    cost = qp.ObservableCost(qp.X(0))
    for scheme in (qp.LinearResponse(), qp.centered(1e-3)):
        out = qp.ep_gradient(network, params, cost, solver=SOLVER, scheme=scheme, throw=False)
        assert out.status.failed


@pytest.mark.parametrize("scale", [1e-160, 1e-60, 1e60, 1e160])
def test_the_gradient_scales_with_the_couplings(scale):
    """<C> depends on ratios only: its gradient is inversely proportional to the scale."""
    network, cost = chain(4), qp.ObservableCost(qp.X(1))
    grad = qp.linear_response(network, uniform(network), cost, solver=SOLVER).grad
    scaled = qp.linear_response(network, uniform(network, J=scale, g=scale), cost, solver=SOLVER).grad
    assert deviation({name: value * scale for name, value in scaled.items()}, grad) < 1e-10


def test_refusals():
    network, params = chain(3), uniform(chain(3))
    cost = qp.ObservableCost(qp.X(0))
    with pytest.raises(ValueError, match=r"has 0\.1 \* \(-1\.0 \* Z1\)\. Use ExactDiag.*`components`"):
        qp.ep_gradient(network, params | {"h": [0, 0.1, 0]}, cost, solver=SOLVER)
    for scheme in (None, qp.LinearResponse()):
        with pytest.raises(ValueError, match=r"needs nudges quadratic in fermions .* the cost has 1\.0 \* Z1"):
            qp.ep_gradient(network, params, qp.ObservableCost(qp.Z(1)), solver=SOLVER, scheme=scheme)
    with pytest.raises(ValueError, match=r"cannot follow complex nudges.*use centered or richardson"):
        qp.ep_gradient(network, params, cost, solver=SOLVER, scheme=qp.holomorphic(0.1))
    star = qp.TransverseFieldIsing(4, [(0, 1), (0, 2), (0, 3)])
    with pytest.raises(ValueError, match=r"form chains or one ring, but site 0 has 3 neighbours\. Use Exact"):
        qp.equilibrate(star, uniform(star), solver=SOLVER)
    apart = qp.TransverseFieldIsing(4, [(0, 1), (1, 2), (2, 0)])
    with pytest.raises(ValueError, match="site 0 lies on a ring beside other sites: solve each part by itself"):
        qp.equilibrate(apart, uniform(apart), solver=SOLVER)
    with pytest.raises(ValueError, match=r"needs a Hamiltonian quadratic in fermions .* but it has"):
        qp.equilibrate(heisenberg(4, [(0, 1), (1, 2), (2, 3)]), {"J": [1.0] * 3}, solver=SOLVER)
    with pytest.raises(TypeError, match="FreeFermions solves spin networks, not OperatorSystem"):
        qp.equilibrate(qp.OperatorSystem({"a": [np.diag([1.0, -1.0])]}), {"a": [1.0]}, solver=SOLVER)
    state = qp.equilibrate(network, params, solver=SOLVER).state
    with pytest.raises(TypeError, match="measured with Pauli sums, not MatrixOperator"):
        state.expect(qp.MatrixOperator(np.eye(8)))
    with pytest.raises(ValueError, match="acts beyond the last site of a chain of 3"):
        state.expect(qp.X(3))


def test_modes_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr("qeqprop.core.memory.available_memory", lambda: 10_000)
    with pytest.raises(MemoryError, match=r"The modes of a chain of 50 spins .* Open transverse-field chains"):
        qp.equilibrate(ring(50), uniform(ring(50)), solver=SOLVER)
    assert qp.equilibrate(chain(50), uniform(chain(50)), solver=SOLVER).status is qp.Status.OK


@pytest.mark.parametrize("network", [chain(6), ring(6)], ids=["open", "ring"])
def test_results_are_saved(network, tmp_path):
    out = qp.ep_gradient(network, uniform(network, g=0.9), qp.ObservableCost(qp.X(2)), solver=SOLVER)
    loaded = qp.load(qp.save(tmp_path / "gradient", out))
    assert repr(loaded) == repr(out)
    assert float(loaded.free.state.expect(qp.Z(1) * qp.Z(4))) == float(out.free.state.expect(qp.Z(1) * qp.Z(4)))
