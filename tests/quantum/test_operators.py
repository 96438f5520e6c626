"""Operator systems: any Hermitian terms, and nothing that is not Hermitian."""

import numpy as np
import pytest
import qutip
import scipy.sparse as sp

import qeqprop as qp
from qeqprop.quantum import exact_matrix

from ..measures import deviation, norm
from ..registry import BY_NAME

SX, SY, SZ = np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])


@pytest.mark.parametrize(
    "make",
    [np.asarray, sp.csr_array, sp.csr_matrix, sp.coo_array, qutip.Qobj, np.ndarray.tolist, qp.MatrixOperator],
    ids=["dense", "csr array", "csr matrix", "coo", "Qobj", "list", "MatrixOperator"],
)
@pytest.mark.parametrize("matrix", [SX, SY, SZ.astype(float)], ids=["X", "Y", "Z"])
def test_any_kind_of_matrix(make, matrix):
    operator = qp.MatrixOperator(make(matrix))
    np.testing.assert_array_equal(operator.matrix.toarray(), matrix)
    assert operator.matrix.dtype == (complex if np.iscomplexobj(matrix) else float)
    assert operator.norm_bound == 1.0
    assert operator.dim == 2


def test_qobj_in_every_storage():
    for dtype in ("dense", "csr", "dia"):
        np.testing.assert_allclose(qp.MatrixOperator(qutip.num(4).to(dtype)).matrix.toarray(), np.diag(np.arange(4)))


@pytest.mark.parametrize(
    ("matrix", "error", "message"),
    [
        ([[0, 1], [0, 0]], ValueError, "must be Hermitian, but differs from its adjoint by 1"),
        ([[0, 1j], [1j, 0]], ValueError, "must be Hermitian"),
        ([[1j, 0], [0, 1]], ValueError, "must be Hermitian"),
        ([[1, 1e-9], [0, 1]], ValueError, "must be Hermitian"),
        (qutip.destroy(3), ValueError, "must be Hermitian"),
        ([[np.nan, 0], [0, 1]], ValueError, "must be finite, but holds a NaN"),
        ([[1, 0], [0, np.inf]], ValueError, "must be finite, but holds a NaN or an infinity"),
        (np.ones((2, 3)), ValueError, r"must be a square matrix, but has shape \(2, 3\)"),
        (qutip.basis(2), ValueError, r"must be a square matrix, but has shape \(2, 1\)"),
        (np.zeros((0, 0)), ValueError, "must be a square matrix"),
        ("matrix", TypeError, "must be a matrix, but is str"),
        ([["a", "b"], ["c", "d"]], TypeError, "must"),
        (None, TypeError, "must be a matrix, but is NoneType"),
        ([[True, False], [False, True]], TypeError, "must hold numbers"),
    ],
    ids=["real", "complex", "diagonal", "slightly", "ladder", "nan", "inf", "shape", "ket", "empty", "text", "letters",
         "none", "bool"],
)  # fmt: skip
def test_bad_matrices_are_refused(matrix, error, message):
    with pytest.raises(error, match=message):
        qp.MatrixOperator(matrix)
    with pytest.raises(error, match=message):
        qp.OperatorSystem({"a": [SX, matrix]})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: qp.OperatorSystem({}), TypeError, "non-empty dict"),
        (lambda: qp.OperatorSystem([SX]), TypeError, "non-empty dict"),
        (lambda: qp.OperatorSystem({"a": []}), TypeError, "non-empty dict"),
        (lambda: qp.OperatorSystem({"a": [SX, np.eye(3)]}), ValueError, r"one dimension, but have \[2, 3\]"),
        (lambda: qp.OperatorSystem({"a": [SX]}, fixed=np.eye(3)), ValueError, r"one dimension, but have \[2, 3\]"),
        (lambda: qp.OperatorSystem({"a": [SX]}, inputs=[np.eye(3)]), ValueError, r"one dimension, but have \[2, 3\]"),
        (lambda: qp.OperatorSystem({"a": [SX]}).with_inputs([1.0]), ValueError, "`inputs`"),
        (
            lambda: qp.OperatorSystem({"a": SX}),
            TypeError,
            r"`terms\['a'\]` must be a list of operators, but is ndarray",
        ),
        (lambda: qp.OperatorSystem({"a": [SX]}, inputs=SZ), TypeError, r"of one operator write `\[operator\]`"),
    ],
    ids=["empty", "list", "no terms", "dimensions", "fixed", "inputs", "no inputs", "bare", "bare input"],
)
def test_bad_systems_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_traceless_part():
    operator = qp.MatrixOperator(np.diag([3.0, 1.0]))
    np.testing.assert_allclose(operator.without_identity().matrix.toarray(), SZ)
    cost = qp.ObservableCost(qp.MatrixOperator(np.eye(2) * 50 + SZ))
    system, params = qp.OperatorSystem({"a": [-SX, -SZ]}), {"a": [1.0, 0.5]}
    assert qp.ep_gradient(system, params, cost, scheme=qp.centered(0.01)).nudge_ratio == pytest.approx(0.01 / 5**0.5)


def test_spins_as_matrices_are_spins():
    """One network through the Pauli strings and through its matrices: the same gradient, and gap."""
    case = BY_NAME["chain with fields"]
    dense = {name: [op.to_dense(4) for op in operators] for name, operators in case.system.terms}
    system, cost = qp.OperatorSystem(dense), qp.ObservableCost(qp.MatrixOperator(case.observables[0]))
    for scheme in (qp.LinearResponse(), qp.centered(0.01), qp.richardson(0.01)):
        spins, matrices = (
            qp.ep_gradient(s, case.params, c, scheme=scheme) for s, c in ((case.system, case.nudge), (system, cost))
        )
        assert deviation(matrices.grad, spins.grad) < 1e-9
        assert deviation(matrices.truncation, spins.truncation) < 1e-4 if norm(spins.truncation) else True
        assert float(matrices.free.gap) == pytest.approx(float(spins.free.gap), rel=0.02)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_driven_oscillator(sparse, monkeypatch):
    """H = omega n - f x with x = a + a^+: <x> = 2 f / omega, <n> = f^2 / omega^2 (coherent state)."""
    if sparse:
        monkeypatch.setattr(exact_matrix, "DENSE_DIM", 8)
    a = qutip.destroy(40)
    system = qp.OperatorSystem({"omega": [a.dag() * a], "f": [-(a + a.dag())]})
    params, omega, f = {"omega": [1.3], "f": [0.9]}, 1.3, 0.9
    quanta = qp.linear_response(system, params, qp.ObservableCost(qp.MatrixOperator(a.dag() * a)))
    assert float(quanta.loss) == pytest.approx(f**2 / omega**2, abs=1e-9)
    assert quanta.grad["omega"][0] == pytest.approx(-2 * f**2 / omega**3, rel=1e-7)
    assert quanta.grad["f"][0] == pytest.approx(2 * f / omega**2, rel=1e-7)
    scheme = qp.LinearResponse() if sparse else qp.richardson(1e-2)
    place = qp.ep_gradient(system, params, qp.ObservableCost(qp.MatrixOperator(a + a.dag())), scheme=scheme)
    assert place.grad["f"][0] == pytest.approx(2 / omega, rel=1e-5)
    assert place.grad["omega"][0] == pytest.approx(-2 * f / omega**2, rel=1e-5)
    momentum = qp.linear_response(
        system, params, qp.ObservableCost(qp.MatrixOperator(1j * (a.dag() - a) + a.dag() * a))
    )
    assert deviation(momentum.grad, quanta.grad) < 1e-6, "<p> = 0 for real parameters: a complex cost on a real matrix"


def test_large_sparse_system_uses_no_dense_matrix():
    """2000 levels, beyond the dense limit: an oscillator whose ground state is known."""
    levels = 2000
    number = sp.diags_array(np.arange(levels, dtype=float)).tocsr()
    ladder = sp.diags_array(np.sqrt(np.arange(1, levels)), offsets=1).tocsr()
    system = qp.OperatorSystem({"omega": [number], "f": [-(ladder + ladder.T)]})
    out = qp.linear_response(system, {"omega": [1.0], "f": [0.3]}, qp.ObservableCost(qp.MatrixOperator(number)))
    assert out.free.stats["method"] == "sparse Lanczos"
    assert float(out.free.energy) == pytest.approx(-0.09, abs=1e-9)
    assert out.grad["f"][0] == pytest.approx(0.6, rel=1e-6)


def test_cost_that_has_the_ground_state_as_eigenvector():
    """Its gradient is zero and found, not an unconverged equation."""
    system, params = qp.OperatorSystem({"a": [SX, SZ]}), {"a": [0.7, 0.4]}
    for matrix in (0.7 * SX + 0.4 * SZ, 5 * np.eye(2)):
        out = qp.linear_response(system, params, qp.ObservableCost(qp.MatrixOperator(matrix)))
        assert norm(out.grad) < 1e-12


def test_prints():
    assert repr(qp.OperatorSystem({"a": [SX, SZ]})) == "OperatorSystem(dim=2, parameters a (2,))"
    assert repr(qp.MatrixOperator(SZ)) == "MatrixOperator(dim=2, float64, 2 elements)"
