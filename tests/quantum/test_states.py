"""States: expectation values of real, complex, batched and bilinear states against dense matrices."""

import numpy as np
import pytest
import qutip
from hypothesis import given
from hypothesis import strategies as st

import qeqprop as qp
from qeqprop.quantum import BilinearState
from qeqprop.quantum.strings import complex_form, real_form, string_table

N = 4
LABELS = ["Z0", "X1", "Y2", "Z0 Z3", "X0 X2", "Y0 Y1", "Y1 Z2", "X0 Y1 Z3", "Y0 Y1 Y2", "I"]
OPERATORS = [qp.PauliSum.from_labels({label: 1.0}) for label in LABELS] + [0.3 * qp.Z(1) - 2 * qp.X(0) * qp.X(3) + 0.7]


def amplitudes(seed: int, *batch: int, real: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    psi = rng.normal(size=(*batch, 2**N)) + (0 if real else 1j * rng.normal(size=(*batch, 2**N)))
    return psi / np.linalg.norm(psi, axis=-1, keepdims=True)


@pytest.mark.parametrize("real", [True, False], ids=["real", "complex"])
@pytest.mark.parametrize("batch", [(), (3,)], ids=["single", "batch"])
def test_expectation_values(real, batch):
    psi = amplitudes(1, *batch, real=real)
    state = qp.PureState(N, psi)
    expected = np.stack([np.einsum("...i,ij,...j->...", psi.conj(), op.to_dense(N), psi).real for op in OPERATORS], -1)
    together = state.expect_all(OPERATORS)
    assert together.mean.shape == (*batch, len(OPERATORS))
    np.testing.assert_allclose(together.mean, expected, atol=1e-13)
    assert not np.any(together.stderr)
    for k, operator in enumerate(OPERATORS):
        np.testing.assert_allclose(state.expect(operator).mean, expected[..., k], atol=1e-13)
        np.testing.assert_allclose(
            state.expect(qp.MatrixOperator(operator.to_dense(N))).mean, expected[..., k], atol=1e-13
        )


@given(seed=st.integers(0, 999), phase=st.floats(0, 6.28))
def test_global_phase_changes_nothing(seed, phase):
    psi = amplitudes(seed)
    one, two = qp.PureState(N, psi), qp.PureState(N, psi * np.exp(1j * phase))
    np.testing.assert_allclose(one.expect_all(OPERATORS).mean, two.expect_all(OPERATORS).mean, atol=1e-12)
    assert one.overlap(two) == pytest.approx(1.0)


@given(seed=st.integers(0, 999))
def test_bilinear_values_have_no_conjugate(seed):
    """psi^T O psi for real symmetric O; of a real state it is the expectation value."""
    psi = amplitudes(seed)
    psi = psi / np.sqrt(psi @ psi)
    real = [op for op in OPERATORS if op.is_real]
    assert len(real) >= 6
    values = BilinearState(N, psi).expect_all(real).mean
    np.testing.assert_allclose(values, [psi @ op.to_dense(N).real @ psi for op in real], atol=1e-11)
    plain = amplitudes(seed, real=True)
    np.testing.assert_allclose(
        BilinearState(N, plain.astype(complex)).expect_all(real).mean,
        qp.PureState(N, plain).expect_all(real).mean,
        atol=1e-12,
    )


@given(seed=st.integers(0, 999))
def test_realified_vectors_are_the_complex_ones(seed):
    psi = amplitudes(seed, 2)
    vectors = real_form(psi, N + 1)
    assert vectors.shape == (2, 2 ** (N + 1))
    np.testing.assert_array_equal(complex_form(vectors, N), psi)
    plain = amplitudes(seed, real=True)
    np.testing.assert_array_equal(real_form(plain, N), plain)


@pytest.mark.parametrize("realified", [None, True], ids=["as needed", "realified"])
def test_table_of_strings_is_the_operator(realified):
    """sum_s coefficients * string as a real matrix: O itself, or [[re O, -im O], [im O, re O]] on the extra bit."""
    for operator in OPERATORS:
        table = string_table((operator,), N, realified)
        assert table.n_bits == N + int(bool(realified) or not operator.is_real)
        index = np.arange(2**table.n_bits)
        matrix = np.zeros((len(index), len(index)))
        for x, z, c in zip(table.x, table.z, table.coefficients.toarray()[0], strict=True):
            matrix[index ^ x, index] += c * (1.0 - 2.0 * (np.bitwise_count(index & z) % 2))
        dense = operator.to_dense(N).astype(complex)
        block = np.block([[dense.real, -dense.imag], [dense.imag, dense.real]])
        np.testing.assert_allclose(matrix, block if table.n_bits > N else dense.real, atol=1e-15)


def test_probabilities_and_qutip():
    psi = amplitudes(4)
    state = qp.PureState(N, psi)
    np.testing.assert_allclose(state.probabilities(), np.abs(psi) ** 2)
    ket = state.to_qutip()
    assert ket.dims == [[2] * N, [1] * N] or ket.isket
    z2 = qutip.tensor([qutip.qeye(2), qutip.qeye(2), qutip.sigmaz(), qutip.qeye(2)])
    assert qutip.expect(z2, ket) == pytest.approx(float(state.expect(qp.Z(2))), abs=1e-12)


def test_wrong_observables_are_refused():
    state = qp.PureState(N, amplitudes(0))
    with pytest.raises(TypeError, match="must be a Pauli sum or a MatrixOperator, not ndarray"):
        state.expect(np.eye(16))
    with pytest.raises(ValueError, match="dimension 4 cannot act on a state of 16"):
        state.expect(qp.MatrixOperator(np.eye(4)))
    with pytest.raises(ValueError, match="site 4"):
        state.expect(qp.Z(4))
    with pytest.raises(TypeError, match="has no sites"):
        qp.PureState(0, np.ones(1)).expect(qp.Z(0))


def test_prints():
    assert repr(qp.PureState(N, amplitudes(0))) == "PureState(4 spins, amplitudes (16,) complex128)"
