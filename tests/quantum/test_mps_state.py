"""Matrix product operators and states against dense matrices."""

import functools

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import MatrixProductGroundState, MatrixProductState
from qeqprop.quantum.mps_operator import letters_of, matrix_product_operator, string_sum
from qeqprop.quantum.mps_residual import residual_norm
from qeqprop.quantum.mps_start import chain_order

from .chains import chain, lattice, uniform
from .mps_cases import SOLVER, random_operators, random_params, random_state


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


# --- manners ----------------------------------------------------------------------------------------------------------


def test_letters():
    letters = letters_of([(0b001, 0b100), (0b010, 0b010)], [2, 0, 1])
    assert letters.tolist() == [[3, 1, 0], [0, 0, 2]]
