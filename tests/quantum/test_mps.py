"""Matrix product states against dense matrices, exact diagonalisation, free fermions and finite differences."""

import functools
import logging
import sys

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import MatrixProductGroundState, MatrixProductState, heisenberg, xxz
from qeqprop.quantum.mps_operator import letters_of, matrix_product_operator, string_sum
from qeqprop.quantum.mps_residual import residual_norm
from qeqprop.quantum.mps_start import chain_order
from qeqprop.quantum.spins import AbstractSpinSystem

from ..registry import CASES, deviation, name_of, norm
from .chains import chain, lattice, uniform

SOLVER = MatrixProductGroundState()
SLOW = ("input sites, batch", "phase sensor batch")
SPIN_CASES = [
    case
    for case in CASES
    if isinstance(case.system, AbstractSpinSystem) and case.system.n_sites >= 3 and case.name not in SLOW
]


def random_params(network, *, seed: int, h: float, g: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = network.n_sites
    J = rng.uniform(0.8, 1.2, len(network.edges))
    return {"J": J, "h": h * rng.normal(size=n), "g": g * rng.uniform(0.8, 1.2, n)}


def random_operators(n: int, count: int, *, real: bool, seed: int) -> list[qp.PauliSum]:
    """Strings of any letters and any length at any distance."""
    rng = np.random.default_rng(seed)
    made = []
    while len(made) < count:
        x, z = (int(mask) for mask in rng.integers(1 << n, size=2))
        if x | z and not (real and (x & z).bit_count() % 2):
            made.append(qp.PauliSum([(x, z, 1.0)]))
    return made


def random_state(n: int, bond: int, order: list[int], *, seed: int) -> MatrixProductState:
    rng = np.random.default_rng(seed)
    bonds = [1, *([bond] * (n - 1)), 1]
    shapes = [(bonds[k], 2, bonds[k + 1]) for k in range(n)]
    return MatrixProductState.canonical([rng.normal(size=s) + 1j * rng.normal(size=s) for s in shapes], order)


def dense(tensors: list[np.ndarray]) -> np.ndarray:
    """The matrix of a matrix product operator, first position most significant."""

    def extend(left: np.ndarray, W: np.ndarray) -> np.ndarray:
        joined = np.einsum("aij,abkl->bikjl", left, W)
        return joined.reshape(W.shape[1], 2 * left.shape[1], -1)

    return functools.reduce(extend, tensors[1:], tensors[0][0])[0]


# --- the operator -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [True, False])
def test_operator_is_the_hamiltonian(real):
    n, order = 6, [3, 1, 5, 0, 2, 4]
    operators = [*random_operators(n, 40, real=real, seed=1), 2.0 + 0.5 * qp.Z(1) * qp.Z(5)]
    strengths = np.random.default_rng(2).normal(size=len(operators))
    h = string_sum(operators, strengths, order)
    tensors = matrix_product_operator(h, shift=0.7)
    total = sum((float(c) * o for c, o in zip(strengths, operators, strict=True)), qp.PauliSum())
    expected = total.permuted([order.index(site) for site in range(n)]).to_dense(n) - h.constant * np.eye(64)
    assert h.is_real == real
    assert np.iscomplexobj(tensors[0]) != real
    np.testing.assert_allclose(dense(tensors), expected + 0.7 * np.eye(64), atol=1e-13)


def bonds_of(network, params) -> list[int]:
    h = string_sum(network.operators(), network.strengths(params), range(network.n_sites))
    return [W.shape[1] for W in matrix_product_operator(h)]


def test_operator_is_as_small_as_can_be():
    net = lattice(4, 3)
    assert max(bonds_of(net, random_params(net, seed=0, h=1, g=1))) == 3 + 2
    n = 12
    full = qp.TransverseFieldIsing(n, [(i, j) for j in range(n) for i in range(j)])
    params = random_params(full, seed=0, h=1, g=1)
    assert max(bonds_of(full, params)) == n // 2 + 2
    params["J"] = np.array([0.5 ** (j - i) for i, j in full.edges])  # one exponential: one channel
    assert max(bonds_of(full, params)) == 3


def test_order_of_sites():
    width, length = 3, 6
    rows = [(y * length + x, y * length + x + 1) for y in range(width) for x in range(length - 1)]
    columns = [(y * length + x, y * length + x + length) for y in range(width - 1) for x in range(length)]
    order = chain_order([qp.Z(i) * qp.Z(j) for i, j in rows + columns], width * length)
    position = np.argsort(order)
    assert max(abs(position[i] - position[j]) for i, j in rows + columns) <= width + 1
    assert chain_order([qp.Z(i) * qp.Z((i + 1) % 8) for i in range(8)], 8) == tuple(range(8))


# --- the state --------------------------------------------------------------------------------------------------------


def test_expectation_values_of_any_strings():
    n, order = 6, [3, 1, 5, 0, 2, 4]
    state = random_state(n, 5, order, seed=3)
    observables = [0.3 * o + 0.2 for o in random_operators(n, 60, real=False, seed=4)]
    observables += [qp.X(0), qp.Y(3) * qp.Z(4), qp.PauliSum(), qp.Z(0) * qp.Z(5) - 2 * qp.X(2)]
    exact = state.to_pure_state().expect_all(observables).mean
    assert np.count_nonzero(np.abs(exact - 0.2) > 0.01) > 20
    np.testing.assert_allclose(state.expect_all(observables).mean, exact, atol=1e-13)
    assert float(state.expect(observables[0])) == pytest.approx(exact[0], abs=1e-13)
    one_site = [[float(state.expect(letter(site))) for letter in (qp.X, qp.Y, qp.Z)] for site in range(n)]
    np.testing.assert_allclose(state.bloch_vectors(), one_site, atol=1e-13)


def test_many_strings_are_measured_in_pieces(monkeypatch):
    state = random_state(6, 5, list(range(6)), seed=3)
    pairs = [qp.Z(i) * qp.Z(j) for i in range(6) for j in range(i)]
    whole = state.expect_all(pairs).mean
    monkeypatch.setattr("qeqprop.quantum.mps_state.ENVIRONMENT_BYTES", 1)
    np.testing.assert_array_equal(state.expect_all(pairs).mean, whole)


def test_canonical_form_entropy_and_overlap():
    state, other = (random_state(7, 4, list(range(7)), seed=seed) for seed in (5, 6))
    vector = state.to_pure_state().amplitudes
    for k, tensor in enumerate(state.tensors):
        np.testing.assert_allclose(np.einsum("asb,csb->ac", tensor, tensor.conj()), np.eye(len(tensor)), atol=1e-13)
        schmidt = np.linalg.svd(vector.reshape(2**k, -1), compute_uv=False)
        np.testing.assert_allclose(state.schmidt[k], schmidt[: len(state.schmidt[k])], atol=1e-13)
    weights = np.linalg.svd(vector.reshape(8, -1), compute_uv=False) ** 2
    assert state.entanglement_entropy()[2] == pytest.approx(-np.sum(weights * np.log(weights)), abs=1e-12)
    assert list(state.bond_dimensions) == [2, 4, 4, 4, 4, 2]
    exact = state.to_pure_state().overlap(other.to_pure_state())
    assert float(state.overlap(other)) == pytest.approx(float(exact), abs=1e-14)
    assert 0.01 < exact < 0.9


@pytest.mark.parametrize("real", [True, False])
def test_residual_of_any_state(real):
    n, order = 6, [3, 1, 5, 0, 2, 4]
    operators = random_operators(n, 30, real=real, seed=7)
    strengths = np.random.default_rng(8).normal(size=30)
    tensors = matrix_product_operator(string_sum(operators, strengths, order))
    state = random_state(n, 3, order, seed=9)
    vector = state.to_pure_state().amplitudes
    total = sum((float(c) * o for c, o in zip(strengths, operators, strict=True)), qp.PauliSum())
    applied = total.to_dense(n) @ vector
    expected = applied - (vector.conj() @ applied) * vector
    assert residual_norm(state, tensors) == pytest.approx(np.linalg.norm(expected), rel=1e-12)


def test_residual_has_no_floor_at_the_root_of_rounding():
    """<H^2> - <H>^2 of this state is rounding, 1e-14; its residual is known to 1e-12 all the same."""
    network, params = chain(8), random_params(chain(8), seed=0, h=0.2, g=1.0)
    state = qp.equilibrate(network, params, solver=MatrixProductGroundState(tolerance=1e-12)).state
    exact = qp.equilibrate(network, params).state
    moved = MatrixProductState.canonical(state.tensors, state.order)
    tensors = matrix_product_operator(string_sum(network.operators(), network.strengths(params), range(8)))
    assert residual_norm(moved, tensors) < 1e-11
    assert abs(state.to_pure_state().overlap(exact) - 1) < 1e-14


def test_state_prints_and_saves(tmp_path):
    ground = qp.equilibrate(chain(5), uniform(5, h=0.3, g=1.0), solver=SOLVER)
    loaded = qp.load(qp.save(tmp_path / "ground", ground))
    np.testing.assert_array_equal(loaded.state.expect(qp.Z(2)).mean, ground.state.expect(qp.Z(2)).mean)
    assert repr(loaded) == repr(ground)
    assert repr(ground.state).startswith("MatrixProductState(5 spins, bond dimension 4, entanglement entropy 0.")
    assert repr(qp.load(qp.save(tmp_path / "solver", SOLVER))) == repr(SOLVER)


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SPIN_CASES, ids=name_of)
def test_registry(case):
    out = qp.ep_gradient(*case.problem, solver=SOLVER, inputs=case.inputs)
    assert out.status is qp.Status.OK
    assert float(out.loss) == pytest.approx(case.exact.loss, abs=1e-11)
    assert float(out.free.gap) == pytest.approx(case.exact.gaps[-1], rel=1e-6)
    assert deviation(out.grad, case.exact.grad) < 1e-7
    error = norm({name: value - case.exact.grad[name] for name, value in out.grad.items()})
    assert error <= 3 * norm(out.truncation) + out.residual * np.sqrt(sum(g.size for g in out.grad.values()))


def test_chain_equals_free_fermions():
    network = chain(20)
    params = random_params(network, seed=1, h=0.0, g=1.0)
    cost = qp.ObservableCost(qp.X(9) - 0.5 * qp.Z(3) * qp.Z(4))
    out = qp.ep_gradient(network, params, cost, solver=MatrixProductGroundState(gap_bond=8))
    exact = qp.linear_response(network, params, cost, solver=qp.FreeFermions())
    assert out.status is qp.Status.OK
    assert min(norm({k: exact.grad[k]}) for k in ("J", "g")) > 0.1
    for name in ("J", "g"):
        np.testing.assert_allclose(out.grad[name], exact.grad[name], atol=1e-8)


def test_chain_with_fields_equals_exact_diagonalisation():
    network = chain(12)
    params = random_params(network, seed=2, h=0.3, g=0.9)
    cost = qp.ExpectationCost([qp.Z(3), qp.X(8), qp.Z(0) * qp.Z(11)])
    target = [0.2, -0.4, 0.1]
    out = qp.ep_gradient(network, params, cost, target, solver=SOLVER)
    exact = qp.linear_response(network, params, cost, target)
    assert norm(exact.grad) > 0.1
    assert deviation(out.grad, exact.grad) < 1e-8


def test_square_lattice_equals_exact_diagonalisation():
    network = lattice(4, 4)
    params = random_params(network, seed=3, h=0.1, g=3.5)
    cost = qp.ObservableCost(qp.Z(8) + 0.5 * qp.Z(3) * qp.Z(4))
    out = qp.ep_gradient(network, params, cost, solver=MatrixProductGroundState(gap_bond=8))
    exact = qp.linear_response(network, params, cost)
    assert norm(exact.grad) > 0.1
    assert deviation(out.grad, exact.grad) < 1e-8


def test_finite_differences_agree():
    """Without a gap the energy per site sets the scale of the nudge."""
    network = chain(6)
    params = random_params(network, seed=4, h=0.2, g=1.1)
    cost = qp.ObservableCost(qp.Z(2) * qp.Z(5))
    solver = MatrixProductGroundState(gap_bond=None)
    check = qp.check_gradient(network, params, cost, solver=solver, components={"h": [3]})
    assert check.agrees
    assert check.ep.free.gap is None
    assert abs(check.ep.grad["h"][3]) > 1e-3
    assert check.deviations["finite differences"] < 1e-7


def test_the_order_of_sites_does_not_matter():
    network = chain(6)
    params = random_params(network, seed=5, h=0.2, g=1.0)
    cost = qp.ObservableCost(qp.Z(2) - qp.Y(4) * qp.Y(5))
    order = [3, 0, 1, 2, 5, 4]
    numbered = qp.ep_gradient(network, params, cost, solver=SOLVER)
    shuffled = qp.ep_gradient(network, params, cost, solver=MatrixProductGroundState(order=order))
    assert shuffled.free.state.order == tuple(order)
    assert (numbered.free.stats["order"], shuffled.free.stats["order"]) == ("as numbered", "given")
    assert deviation(shuffled.grad, numbered.grad) < 1e-8


def test_truncated_states_are_wrong_in_second_order():
    """Forces err like the variance, not like its root: `residual` bounds them."""
    network = chain(12)
    params = random_params(network, seed=6, h=0.05, g=1.0)
    exact = qp.equilibrate(network, params)
    force = network.param_grad(params, exact.state).mean
    for tolerance in (1e-4, 1e-6):
        rough = qp.equilibrate(network, params, solver=MatrixProductGroundState(tolerance=tolerance, gap_bond=8))
        error = max(np.abs(value - force[k]).max() for k, value in network.param_grad(params, rough.state).mean.items())
        distance = np.sqrt(rough.stats["energy_variance"])
        assert 0.01 * tolerance < distance / abs(float(rough.energy)) <= tolerance
        assert 1e-4 * distance**2 < error <= 2 * float(rough.residual) / float(rough.gap)
        assert error < 1e-2 * distance
        assert -1e-12 < float(rough.energy) - float(exact.energy) <= float(rough.residual)


def test_runs_are_reproducible_and_warm_starts_agree():
    network, params = chain(8), uniform(8, h=0.1, g=1.1)
    once, again = (qp.equilibrate(network, params, solver=SOLVER) for _ in range(2))
    np.testing.assert_array_equal(once.state.tensors[4], again.state.tensors[4])
    nearby = uniform(8, h=0.12, g=1.1)
    warm = qp.equilibrate(network, nearby, solver=SOLVER, init=once)
    cold = qp.equilibrate(network, nearby, solver=SOLVER)
    assert float(warm.energy) == pytest.approx(float(cold.energy), abs=1e-12)
    assert float(warm.gap) == pytest.approx(float(cold.gap), rel=1e-6)


# --- traps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10, 12])
def test_ferromagnet_is_degenerate(n):
    """Each half of the broken symmetry and each superposition is a perfect state: only the search for another one tells.

    Of 10 spins it is a half that is found, of 12 a superposition.
    """
    params = uniform(n, h=0.0, g=0.1 if n == 10 else 0.2)
    ground = qp.equilibrate(chain(n), params, solver=SOLVER, throw=False)
    assert ground.status is qp.Status.DEGENERATE
    assert np.sqrt(ground.stats["energy_variance"]) < 1e-7
    assert (abs(float(ground.state.expect(qp.Z(3)))) > 0.9) == (n == 10)
    with pytest.raises(qp.EquilibriumError, match="degenerate"):
        qp.ep_gradient(chain(n), params, qp.ObservableCost(qp.Z(5)), solver=SOLVER)
    assert qp.equilibrate(chain(n), params, solver=MatrixProductGroundState(gap_bond=None)).gap is None


@pytest.mark.parametrize("h", [0.01, -0.01])
def test_false_vacuum_is_left(h):
    """The best product state may have the wrong sign; it is stable against everything that two sites can do."""
    network, params = chain(12), uniform(12, h=h, g=0.3)
    ground, exact = qp.equilibrate(network, params, solver=SOLVER), qp.equilibrate(network, params)
    assert float(ground.energy) == pytest.approx(float(exact.energy), abs=1e-12)
    assert float(ground.gap) == pytest.approx(float(exact.gap), rel=1e-6)
    assert np.sign(float(ground.state.expect(qp.Z(3)))) == np.sign(h)


def test_metastable_state_is_the_second():
    """Turning all spins costs less than turning one, but is far from it."""
    n, h = 20, -0.01
    ground = qp.equilibrate(chain(n), uniform(n, h=h, g=0.1), solver=SOLVER)
    assert float(ground.gap) == pytest.approx(2 * n * abs(h), rel=0.01)


def test_rugged_landscapes():
    n = 10
    network = qp.TransverseFieldIsing(n, [(i, j) for i in range(n) for j in range(i)])
    for seed in range(3):
        rng = np.random.default_rng(seed)
        params = {"J": rng.normal(size=45) / np.sqrt(n), "h": 0.1 * rng.normal(size=n), "g": np.full(n, 0.15)}
        ground, exact = qp.equilibrate(network, params, solver=SOLVER), qp.equilibrate(network, params)
        assert float(ground.energy) == pytest.approx(float(exact.energy), abs=1e-12)
        assert float(ground.gap) >= float(exact.gap) * (1 - 1e-6)  # a bound from above


def test_level_crossing_is_a_branch_jump():
    """The nudge outweighs the field that chose the state."""
    network, params = chain(6), uniform(6, h=0.02, g=0.2)
    cost = qp.ObservableCost(sum((qp.Z(i) for i in range(6)), qp.PauliSum()))
    out = qp.ep_gradient(network, params, cost, solver=SOLVER, scheme=qp.one_sided(2.0), throw=False)
    assert max(phase.status for _, phase in out.nudged) is qp.Status.BRANCH_JUMP
    assert out.status.failed


def test_too_small_a_bond_is_unconverged():
    solver = MatrixProductGroundState(max_bond=3, gap_bond=None)
    params = uniform(10, h=0.0, g=1.0)
    ground = qp.equilibrate(chain(10), params, solver=solver, throw=False)
    assert ground.status is qp.Status.UNCONVERGED
    assert ground.stats["bond_dimension"] == 3
    assert ground.stats["truncation_error"] > 1e-8
    with pytest.raises(qp.EquilibriumError, match="unconverged"):
        qp.ep_gradient(chain(10), params, qp.ObservableCost(qp.X(4)), solver=solver)


def test_classical_spins_and_no_hamiltonian():
    network = chain(6)
    up = qp.equilibrate(network, uniform(6, h=0.1, g=0.0), solver=SOLVER)
    assert float(up.energy) == pytest.approx(-5 - 0.6, abs=1e-12)
    nothing = {"J": np.zeros(5), "h": np.zeros(6), "g": np.zeros(6)}
    assert qp.equilibrate(network, nothing, solver=SOLVER, throw=False).status is qp.Status.DEGENERATE


def test_complex_and_isotropic_systems():
    edges = [(i, i + 1) for i in range(7)]
    network = heisenberg(8, edges)
    ground = qp.equilibrate(network, {"J": np.ones(7)}, solver=SOLVER)
    assert ground.state.tensors[0].dtype == float  # Y Y is real
    assert float(ground.energy) == pytest.approx(float(qp.equilibrate(network, {"J": np.ones(7)}).energy), abs=1e-12)
    with_y = qp.SpinNetwork(6, {"a": [qp.Y(i) for i in range(6)], "b": [qp.X(i) * qp.X(i + 1) for i in range(5)]})
    params = {"a": np.linspace(0.5, 1.0, 6), "b": np.full(5, 0.7)}
    out = qp.ep_gradient(with_y, params, qp.ObservableCost(qp.Y(2)), solver=SOLVER)
    assert np.iscomplexobj(out.free.state.tensors[0])
    exact = qp.linear_response(with_y, params, qp.ObservableCost(qp.Y(2)))
    assert norm(exact.grad) > 0.1
    assert deviation(out.grad, exact.grad) < 1e-8


# --- manners ----------------------------------------------------------------------------------------------------------


def test_silence(capfd):
    level = logging.getLogger("tenpy").level
    qp.equilibrate(chain(4), uniform(4, h=0.1, g=1.0), solver=SOLVER)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("tenpy").level == level


def test_batches_go_sample_by_sample():
    network = qp.TransverseFieldIsing(4, [(0, 1), (1, 2), (2, 3)], input_sites=[0])
    params, inputs = uniform(4, h=0.1, g=1.0), np.array([[0.5], [-0.8]])
    cost = qp.ObservableCost(qp.Z(3))
    batch = qp.ep_gradient(network, params, cost, solver=SOLVER, inputs=inputs)
    single = [qp.ep_gradient(network, params, cost, solver=SOLVER, inputs=x) for x in inputs]
    np.testing.assert_allclose(batch.grad["h"], np.mean([out.grad["h"] for out in single], axis=0), atol=1e-12)


def test_refusals():
    params = uniform(4, h=0.1, g=1.0)
    with pytest.raises(ValueError, match="at least 3 spins, but has 2"):
        qp.equilibrate(chain(2), uniform(2, h=0.1, g=1.0), solver=SOLVER)
    with pytest.raises(ValueError, match="`order` must be a permutation"):
        qp.equilibrate(chain(4), params, solver=MatrixProductGroundState(order=[0, 1, 2]))
    with pytest.raises(ValueError, match="no linear response"):
        qp.linear_response(chain(4), params, qp.ObservableCost(qp.Z(0)), solver=SOLVER)
    with pytest.raises(ValueError, match="cannot follow complex nudges"):
        qp.ep_gradient(chain(4), params, qp.ObservableCost(qp.Z(0)), solver=SOLVER, scheme=qp.holomorphic(0.1))
    with pytest.raises(TypeError, match="must hold a MatrixProductState of 4 spins"):
        qp.equilibrate(chain(4), params, solver=SOLVER, init=qp.equilibrate(chain(4), params))
    with pytest.raises(ValueError, match="`tolerance` must lie between"):
        MatrixProductGroundState(tolerance=0.0)
    with pytest.raises(ValueError, match="`max_bond`"):
        MatrixProductGroundState(max_bond=0)
    with pytest.raises(MemoryError, match="Lower `max_bond`"):
        qp.equilibrate(chain(60), uniform(60, h=0.1, g=1.0), solver=MatrixProductGroundState(max_bond=10**6))
    state = MatrixProductState.product([np.array([1.0, 0.0])] * 3)
    with pytest.raises(ValueError, match="acts on site 3"):
        state.expect(qp.Z(3))
    with pytest.raises(TypeError, match="measured by Pauli sums"):
        state.expect(qp.MatrixOperator(np.eye(8)))
    with pytest.raises(ValueError, match="same order"):
        state.overlap(MatrixProductState.product([np.array([1.0, 0.0])] * 3, [2, 1, 0]))


def test_missing_tenpy_says_how_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tenpy", None)
    with pytest.raises(ImportError, match=r'pip install "qeqprop\[mps\]"'):
        qp.equilibrate(chain(4), uniform(4, h=0.1, g=1.0), solver=SOLVER)


def test_letters():
    letters = letters_of([(0b001, 0b100), (0b010, 0b010)], [2, 0, 1])
    assert letters.tolist() == [[3, 1, 0], [0, 0, 2]]


def test_xxz_ring():
    network = xxz(6, [(i, (i + 1) % 6) for i in range(6)])
    params = {"Jxy": np.ones(6), "Jz": np.full(6, 0.4), "h": np.full(6, 0.05)}
    ground, exact = (qp.equilibrate(network, params, solver=s, throw=False) for s in (SOLVER, None))
    assert float(ground.energy) == pytest.approx(float(exact.energy), abs=1e-11)


def test_costs_that_reach_across_the_chain():
    """Two-site sweeps do not find the states in which both ends of the cost are excited: the start must have them."""
    n, rng = 14, np.random.default_rng(5)
    net = qp.TransverseFieldIsing(n, [(i, i + 1) for i in range(n - 1)])
    params = {"J": 0.1 * rng.uniform(0.5, 1, n - 1), "h": rng.normal(size=n), "g": rng.uniform(0.8, 1.2, n)}
    cost = qp.ObservableCost(qp.Z(0) * qp.Z(n - 1) + qp.X(2) * qp.Z(9) * qp.X(12))
    out = qp.ep_gradient(net, params, cost, solver=MatrixProductGroundState(), scheme=qp.richardson(0.05))
    exact = qp.linear_response(net, params, cost)
    assert out.status is qp.Status.OK  # without them a nudged phase does not converge
    for name, value in exact.grad.items():
        assert np.abs(value).max() > 0.1
        np.testing.assert_allclose(out.grad[name], value, atol=1e-7)
