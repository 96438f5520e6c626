"""Pauli sums as matrices, kernel strings and operators of other packages: there, back, and what is refused."""

import sys

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given

from qeqprop.quantum import conversion
from qeqprop.quantum.pauli import PauliSum, X, Y, Z, identity

from .pauli_sums import N_SITES, dense, random_sum, sums

# --- matrices and kernels ---------------------------------------------------------------------------------------------


@given(sums)
def test_matrices_agree_with_kronecker_products(a):
    np.testing.assert_array_equal(a.to_dense(N_SITES), dense(a))
    sparse = a.to_scipy(N_SITES)
    assert isinstance(sparse, sp.csr_array)
    assert sparse.has_sorted_indices
    assert not (sparse.data == 0).any()
    np.testing.assert_array_equal(sparse.toarray(), dense(a))


@given(sums)
def test_decomposition_inverts_the_matrices(a):
    assert PauliSum.from_matrix(a.to_dense(N_SITES)) == a
    assert PauliSum.from_matrix(a.to_scipy(N_SITES)) == a


def test_decomposition_of_a_large_random_matrix():
    rng = np.random.default_rng(3)
    half = rng.normal(size=(64, 64)) + 1j * rng.normal(size=(64, 64))
    matrix = half + half.conj().T
    operator = PauliSum.from_matrix(matrix)
    assert operator.is_hermitian
    assert len(operator) == 4**6
    np.testing.assert_allclose(operator.to_dense(6), matrix, atol=1e-12)
    np.testing.assert_allclose(operator.to_scipy(6).toarray(), matrix, atol=1e-12)


def test_decomposition_drops_rounding_only():
    matrix = (Z(0) + 1e-9 * X(1)).to_dense(2) + 1e-15
    assert [(x, z) for x, z, _ in PauliSum.from_matrix(matrix)] == [(0, 1), (2, 0)]
    assert len(PauliSum.from_matrix(matrix, tolerance=1e-6)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_kernel_strings_act_as_documented(seed):
    rng = np.random.default_rng(seed)
    a, psi = random_sum(rng, n_strings=10), rng.normal(size=8) + 1j * rng.normal(size=8)
    out = np.zeros(8, dtype=complex)
    for x, z, c in zip(*a.kernel_strings(N_SITES), strict=True):
        for s in range(8):
            out[s ^ x] += c * (-1) ** (int(s & z).bit_count()) * psi[s]
    np.testing.assert_allclose(out, dense(a) @ psi, atol=1e-13)


def test_kernel_strings_are_typed_and_real_where_the_matrix_is():
    x, z, c = (Y(0) * Y(2) + Z(1)).kernel_strings(4)
    assert x.dtype == z.dtype == np.int64
    assert c.dtype == np.float64
    assert (x.tolist(), z.tolist(), c.tolist()) == ([0, 0b1010], [0b0100, 0b1010], [1.0, -1.0])
    assert (Y(0)).kernel_strings(1)[2].tolist() == [1j]
    assert [len(part) for part in PauliSum().kernel_strings(2)] == [0, 0, 0]


def test_the_zero_operator_has_a_matrix():
    for matrix in (PauliSum().to_scipy(2).toarray(), PauliSum().to_dense(2), PauliSum().to_qutip(2).full()):
        np.testing.assert_array_equal(matrix, np.zeros((4, 4)))
    assert PauliSum.from_matrix(np.zeros((4, 4))) == PauliSum()
    assert PauliSum().to_quspin(2) == []
    np.testing.assert_array_equal(PauliSum().to_netket(2).to_dense(), np.zeros((4, 4)))


# --- other packages (the conventions are in test_conventions.py) ------------------------------------------------------


def test_qutip_round_trip():
    a = random_sum(np.random.default_rng(1))
    qobj = a.to_qutip(N_SITES)
    assert qobj.dims == [[2] * 3, [2] * 3]
    back = PauliSum.from_qutip(qobj)
    np.testing.assert_allclose(dense(back), dense(a), atol=1e-13)
    assert PauliSum.from_qutip((X(0) * Y(1)).to_qutip(2).to("dense")) == X(0) * Y(1)


def test_netket_round_trip_keeps_tiny_coefficients():
    a = random_sum(np.random.default_rng(2)) + 1e-11 * X(0) * X(1) * X(2)
    np.testing.assert_allclose(a.to_netket(N_SITES).to_dense(), dense(a), atol=1e-15)
    assert PauliSum.from_netket(a.to_netket(N_SITES)) == a
    np.testing.assert_array_equal((Z(0) + 1e-9 * X(0)).to_netket(1).to_dense(), [[1, 1e-9], [1e-9, -1]])


def test_netket_operators_of_each_kind():
    nk = pytest.importorskip("netket")
    space, chain = nk.hilbert.Spin(0.5, 3), nk.graph.Chain(3, pbc=False)
    ising = nk.operator.Ising(space, chain, h=0.75, J=0.5)
    assert PauliSum.from_netket(ising) == 0.5 * (Z(0) * Z(1) + Z(1) * Z(2)) - 0.75 * (X(0) + X(1) + X(2))
    local = nk.operator.spin.sigmay(space, 2) @ nk.operator.spin.sigmaz(space, 0) + 0.5
    assert PauliSum.from_netket(local) == Z(0) * Y(2) + 0.5
    foreign = (1j * Z(0) + 0.25 * X(0)).to_netket(1)
    assert PauliSum.from_netket(foreign, tolerance=0.5) == 1j * Z(0)
    np.testing.assert_array_equal(foreign.to_dense(), [[1j, 0.25], [0.25, -1j]])  # left as it was
    qubits = nk.hilbert.Qubit(2)
    assert PauliSum.from_netket((X(0) + 2 * Z(1)).to_netket(2, qubits)) == X(0) + 2 * Z(1)


# --- what is refused --------------------------------------------------------------------------------------------------


CONVERSIONS = ["kernel_strings", "to_scipy", "to_dense", "to_qutip", "to_netket", "to_quspin"]


@pytest.mark.parametrize("method", CONVERSIONS)
def test_sites_beyond_the_system(method):
    message = r"Argument `operator` acts on site 10, but the system has n_sites=10 \(sites 0 to 9\)\."
    with pytest.raises(ValueError, match=message):
        getattr(X(10), method)(10)


@pytest.mark.parametrize("method", CONVERSIONS)
@pytest.mark.parametrize("n_sites", [0, -1, 63, 2.0, True, None])
def test_number_of_sites(method, n_sites):
    with pytest.raises(ValueError, match=rf"Argument `n_sites` must be an integer from 1 to 62, but is {n_sites}\."):
        getattr(identity(), method)(n_sites)


def test_absurd_matrices_are_refused_before_they_are_made():
    with pytest.raises(ValueError, match=r"a dense matrix to fit into 16 GiB, but n_sites=20 needs 8.19e\+03 GiB"):
        X(0).to_dense(20)
    with pytest.raises(ValueError, match=r"a sparse matrix with 1 entries per row to fit .* n_sites=40 needs"):
        Z(0).to_scipy(40)
    with pytest.raises(ValueError, match="a sparse matrix"):
        Z(0).to_qutip(40)


def test_the_memory_limit_can_be_raised(monkeypatch):
    monkeypatch.setattr(conversion, "MEMORY_LIMIT_GIB", 1e-7)
    with pytest.raises(ValueError, match="needs"):
        X(0).to_dense(4)
    monkeypatch.setattr(conversion, "MEMORY_LIMIT_GIB", 1e-5)
    assert X(0).to_dense(4).shape == (16, 16)


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (1, 1), (2**13, 2**13)])
def test_decomposition_needs_qubits(shape):
    with pytest.raises(
        ValueError, match=rf"must have shape \(2\^n, 2\^n\) with n = 1, ..., 12, but has shape \({shape[0]}"
    ):
        PauliSum.from_matrix(sp.csr_array(shape))


def test_decomposition_refuses_nonsense(monkeypatch):
    with pytest.raises(ValueError, match="Argument `matrix` must be finite"):
        PauliSum.from_matrix([[1.0, np.nan], [0.0, 1.0]])
    with pytest.raises(ValueError, match="Argument `matrix` must have shape"):
        PauliSum.from_matrix([1.0, 2.0])
    with pytest.raises(ValueError, match="Argument `tolerance` must be non-negative"):
        PauliSum.from_matrix(np.eye(2), tolerance=-1.0)
    monkeypatch.setattr(conversion, "_MAX_DECOMPOSED_STRINGS", 2)
    with pytest.raises(ValueError, match="must have at most 2 strings above the tolerance, but has 4"):
        PauliSum.from_matrix([[1, 2], [3, 5j]])


def test_foreign_operators_are_checked():
    qutip = pytest.importorskip("qutip")
    nk = pytest.importorskip("netket")
    with pytest.raises(TypeError, match=r"Argument `qobj` must be a qutip.Qobj, but is ndarray"):
        PauliSum.from_qutip(np.eye(2))
    for qobj in (qutip.qeye(4), qutip.basis(2, 0), qutip.qeye(3)):
        with pytest.raises(ValueError, match="Argument `qobj` must have dims"):
            PauliSum.from_qutip(qobj)
    with pytest.raises(TypeError, match="Argument `operator` must be a discrete NetKet operator, but is ndarray"):
        PauliSum.from_netket(np.eye(2))
    with pytest.raises(ValueError, match="Argument `hilbert` must have n_sites=2 sites, but has 3"):
        X(0).to_netket(2, nk.hilbert.Spin(0.5, 3))
    for space in (nk.hilbert.Spin(0.5, 2, inverted_ordering=True), nk.hilbert.Spin(1, 2), nk.hilbert.Fock(2)):
        with pytest.raises(ValueError, match="must have two states a site, spin up first"):
            X(0).to_netket(space.size, space)
    with pytest.raises(ValueError, match=r"must have a coefficient above 1e-06, since NetKet .* largest is 2e-24"):
        (1e-24 * X(0) - 2e-24 * Z(0)).to_netket(1)
    down_first = nk.operator.spin.sigmaz(nk.hilbert.Spin(0.5, 2, inverted_ordering=True), 0)
    with pytest.raises(ValueError, match=r"Argument `operator.hilbert` must have two states a site, spin up first"):
        PauliSum.from_netket(down_first)


@pytest.mark.parametrize("package", ["qutip", "netket"])
def test_missing_packages_are_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"This conversion needs {package}: `pip install {package}`"):
        getattr(X(0), f"to_{package}")(1)
