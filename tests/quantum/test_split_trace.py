"""Traces, exact on some vectors and sampled on the rest, and functions of them without bias."""

import numpy as np

from qeqprop.quantum.split_trace import Probes, Trace, jackknifed, orthonormal_rows


def test_traces_are_exact_on_the_basis_and_unbiased_on_the_rest():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(16, 16)) + 1j * rng.normal(size=(16, 16))
    matrix = matrix @ matrix.conj().T
    for count, kind in ((0, 1.0), (5, 1.0), (5, 1j), (16, 1j)):
        vectors = rng.normal(size=(count, 16)) + kind * rng.normal(size=(count, 16))
        basis = orthonormal_rows(np.array(vectors))
        probes = Probes(4, basis, 4000, np.array([1, 2]))
        rows = probes.rows(0, len(probes))
        assert np.array_equal(rows[count + 2 : count + 4], probes.rows(count + 2, count + 4))
        assert np.allclose(rows[:count] @ rows.conj().T, np.eye(count, len(rows)), atol=1e-12)
        values = np.einsum("ri,ij,rj->r", rows.conj(), matrix, rows).real
        out = jackknifed(lambda t: t, Trace.of(values, count))
        exact = np.trace(matrix).real
        assert abs(float(out) - exact) < 4 * float(out.stderr) + 1e-11 * exact
        assert float(out.stderr) < (0.02 if count < 16 else 1e-12) * exact


def test_dependent_vectors_are_left_out_of_a_basis():
    vectors = np.array([[1.0, 0, 0], [2.0, 0, 0], [1.0, 1e-6, 0], [0, 1.0, 1.0], [1.0, 2.0, 3.0]])
    basis = orthonormal_rows(vectors)
    assert basis.shape == (3, 3)
    assert np.allclose(basis @ basis.T, np.eye(3), atol=1e-14)


def test_bias_of_ratios_is_removed():
    rng = np.random.default_rng(0)
    plain, corrected = [], []
    for _ in range(2000):
        x, y = rng.normal([1.0, 1.0], 0.4, (12, 2)).T
        out = jackknifed(np.divide, Trace.of(x, 0), Trace.of(y, 0))
        plain.append(x.mean() / y.mean())
        corrected.append(float(out))
    error = np.std(plain) / np.sqrt(len(plain))
    assert np.mean(plain) - 1 > 2 * error
    assert abs(np.mean(corrected) - 1) < 3 * error
