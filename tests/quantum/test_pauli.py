"""Pauli sums: algebra against dense Kronecker products, text, matrices, and what is refused."""

import copy
import functools
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from qeqprop.quantum import conversion
from qeqprop.quantum.pauli import PauliSum, X, Y, Z, identity, projector

MATRICES = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}
N_SITES = 3


def dense(operator: PauliSum, n_sites: int = N_SITES) -> np.ndarray:
    """The matrix from Kronecker products of the letters, site 0 first."""
    matrix = np.zeros((2**n_sites, 2**n_sites), dtype=complex)
    for x, z, c in operator:
        letters = ("IXZY"[(x >> i & 1) + 2 * (z >> i & 1)] for i in range(n_sites))
        matrix += c * functools.reduce(np.kron, (MATRICES[letter] for letter in letters))
    return matrix


def random_sum(
    rng: np.random.Generator, n_sites: int = N_SITES, n_strings: int = 20, hermitian: bool = False
) -> PauliSum:
    masks = rng.integers(0, 2**n_sites, size=(n_strings, 2)).tolist()
    coefficients = rng.normal(size=n_strings) + (0 if hermitian else 1j * rng.normal(size=n_strings))
    return PauliSum((x, z, c) for (x, z), c in zip(masks, coefficients.tolist(), strict=True))


# Multiples of 1/8 make products and sums exact, so that algebraic identities hold with `==`.
eighths = st.integers(-40, 40).map(lambda k: k / 8)
masks = st.integers(0, 2**N_SITES - 1)
sums = st.lists(st.tuples(masks, masks, st.builds(complex, eighths, eighths)), max_size=6).map(PauliSum)
any_coefficients = st.complex_numbers(max_magnitude=1e100, allow_nan=False, allow_infinity=False)
wild_sums = st.lists(st.tuples(masks, masks, any_coefficients), max_size=6).map(PauliSum)


# Algebra


def test_each_pauli_matrix():
    for letter, make in (("X", X), ("Y", Y), ("Z", Z)):
        np.testing.assert_array_equal(make(0).to_dense(1), MATRICES[letter])
    np.testing.assert_array_equal(identity().to_dense(1), np.eye(2))


@pytest.mark.parametrize(("a", "b", "c"), [(X, Y, Z), (Y, Z, X), (Z, X, Y)])
def test_phases_of_products_on_one_site(a, b, c):
    assert a(2) * b(2) == 1j * c(2)
    assert b(2) * a(2) == -1j * c(2)
    assert a(2) * a(2) == identity()


@pytest.mark.parametrize("seed", range(5))
def test_algebra_against_dense_matrices(seed):
    rng = np.random.default_rng(seed)
    a, b = random_sum(rng), random_sum(rng)
    for result, expected in [
        (a + b, dense(a) + dense(b)),
        (a - b, dense(a) - dense(b)),
        (a * b, dense(a) @ dense(b)),
        (a @ b, dense(a) @ dense(b)),
        (-a, -dense(a)),
        (+a, dense(a)),
        ((2 - 1j) * a, (2 - 1j) * dense(a)),
        (a * np.float32(0.5), dense(a) / 2),
        (np.complex128(2j) * a, 2j * dense(a)),
        (a / (1 + 1j), dense(a) / (1 + 1j)),
        (a + 2, dense(a) + 2 * np.eye(8)),
        (2 - a, 2 * np.eye(8) - dense(a)),
        (a - 2j, dense(a) - 2j * np.eye(8)),
        (a**3, dense(a) @ dense(a) @ dense(a)),
        (a**0, np.eye(8)),
        (a.dagger(), dense(a).conj().T),
    ]:
        assert isinstance(result, PauliSum)
        np.testing.assert_allclose(dense(result), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@given(sums, sums, sums)
def test_products_are_associative_and_distribute(a, b, c):
    assert (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c


@given(sums, sums)
def test_dagger_reverses_products(a, b):
    assert (a * b).dagger() == b.dagger() * a.dagger()
    assert a.dagger().dagger() == a


@given(sums, sums)
def test_trace_is_the_constant(a, b):
    assert np.trace(a.to_dense(N_SITES)) == 8 * a.constant
    assert (a * b).constant == (b * a).constant
    assert a.without_identity() + a.constant == a
    assert a.without_identity().constant == 0


@pytest.mark.parametrize("seed", range(3))
def test_rounding_does_not_break_hermiticity(seed):
    a = random_sum(np.random.default_rng(seed), n_sites=6, n_strings=60, hermitian=True)
    assert (a * a).is_hermitian
    assert (a * a).constant > 0


def test_powers_of_projectors_and_sums_of_lists():
    assert (Z(0) - 1) ** 2 == 2 - 2 * Z(0)
    assert sum([X(0), X(1), X(0)]) == 2 * X(0) + X(1)
    assert X(0) - X(0) == PauliSum()
    assert len(X(0) - X(0)) == 0


@pytest.mark.parametrize("outcome", [(1, 1, 1), (1, -1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_projector_selects_one_basis_state(outcome):
    index = sum(1 << 2 - site for site, s in enumerate(outcome) if s == -1)
    np.testing.assert_array_equal(projector(range(3), outcome).to_dense(3), np.diag(np.eye(8)[index]))
    p = projector([2, 0], outcome[:2])
    assert p * p == p
    assert Z(2) * p == outcome[0] * p
    assert projector([], []) == identity()


def test_permuted_moves_each_site():
    rng = np.random.default_rng(7)
    a, perm = random_sum(rng), [2, 0, 1]
    # Axis i of the state becomes axis perm[i].
    tensor = dense(a).reshape([2] * 6)
    moved = np.moveaxis(tensor, range(6), [*perm, *(3 + p for p in perm)]).reshape(8, 8)
    np.testing.assert_allclose(a.permuted(perm).to_dense(3), moved, atol=1e-14)
    assert a.permuted(perm).permuted([1, 2, 0]) == a


# Properties


def test_properties():
    a = 3 - 2 * Z(1) * Z(4) + 0.5 * Y(1) * X(4) * Z(7)
    assert a.max_site == 7
    assert a.support == (1, 4, 7)
    assert a.weight == 3
    assert a.norm_bound == 5.5
    assert a.constant == 3
    assert len(a) == 3
    assert list(2 * Y(1)) == [(2, 2, 2.0)]
    assert PauliSum().max_site == identity().max_site == -1
    assert PauliSum().weight == PauliSum().constant == PauliSum().norm_bound == 0
    assert PauliSum().support == ()


@pytest.mark.parametrize(
    ("operator", "hermitian", "real", "diagonal"),
    [
        (X(0) + Z(1), True, True, False),
        (Y(0), True, False, False),
        (1j * Y(0), False, True, False),
        (Y(0) * Y(1), True, True, False),
        (1j * Z(0), False, False, True),
        (Z(0) * Z(2) + 1, True, True, True),
        ((1 + 1j) * X(0), False, False, False),
        (PauliSum(), True, True, True),
    ],
)
def test_kinds_of_matrices(operator, hermitian, real, diagonal):
    matrix = dense(operator)
    assert operator.is_hermitian == hermitian == np.array_equal(matrix, matrix.conj().T)
    assert operator.is_real == real == np.array_equal(matrix, matrix.conj())
    assert operator.is_diagonal == diagonal == np.array_equal(matrix, np.diag(np.diag(matrix)))
    dtype = np.float64 if real else np.complex128
    assert operator.to_dense(N_SITES).dtype == operator.to_scipy(N_SITES).dtype == dtype


@given(sums)
def test_norm_bound_bounds_the_norm(a):
    assert np.linalg.norm(dense(a), 2) <= a.norm_bound * (1 + 1e-12)


@given(sums, sums)
def test_commutes_with_agrees_with_the_commutator(a, b):
    assert a.commutes_with(b) == (a * b == b * a)


def test_commutes_with_forgives_rounding():
    a = random_sum(np.random.default_rng(0), hermitian=True)
    assert a.commutes_with(a * a * a)
    assert not a.commutes_with(a + 1e-6 * X(0))
    total_z = Z(0) + Z(1)
    assert total_z.commutes_with(X(0) * X(1) + Y(0) * Y(1))
    assert not total_z.commutes_with(X(0) * X(1) - Y(0) * Y(1))


# Values


def test_equal_sums_have_equal_hashes_whatever_the_order():
    a, b = 2 * X(0) + 3j * Z(1), 3j * Z(1) + X(0) + X(0)
    assert a == b
    assert hash(a) == hash(b)
    assert len({a, b, X(0)}) == 2
    assert X(0) != Z(0)
    assert identity() != 1


def test_coefficients_are_floats_where_real():
    assert [type(c) for _, _, c in X(0) * Y(0) / 1j + (1 + 2j) * X(3)] == [float, complex]
    assert math.copysign(1, next(iter(PauliSum([(1, 0, complex(2, -0.0))])))[2].imag) == 1


def test_immutable_and_copied_by_value():
    a = X(0) + 1j * Z(1)
    with pytest.raises(AttributeError, match="PauliSum is immutable: attribute `x` cannot be set"):
        a.x = 1
    with pytest.raises(AttributeError, match="immutable"):
        a._terms = ()
    assert pickle.loads(pickle.dumps(a)) == copy.deepcopy(a) == a


def test_mapping_and_triples_make_the_same_sum():
    assert PauliSum({(1, 0): 2.0, (0, 3): 0.0}) == PauliSum([(1, 0, 1.5), (1, 0, 0.5)]) == 2 * X(0)


# Text


@pytest.mark.parametrize(
    ("operator", "text"),
    [
        (-1.0 * Z(0) * Z(1) + 0.5 * X(2), "-1.0 * Z0 Z1 + 0.5 * X2"),
        (identity() - 0.1 * Y(12), "1.0 * I - 0.1 * Y12"),
        (-1e-20j * Z(0), "-1e-20j * Z0"),
        ((0.5 - 2j) * Z(0) + X(0), "(0.5-2j) * Z0 + 1.0 * X0"),
        (PauliSum(), "0"),
    ],
)
def test_text(operator, text):
    assert str(operator) == repr(operator) == text
    assert PauliSum.from_string(text) == operator


@given(wild_sums)
def test_text_round_trip_is_exact(a):
    assert PauliSum.from_string(str(a)) == a


def test_text_by_hand():
    by_hand = PauliSum.from_string(" - Z0Z1+ .5X2 -1 + 2j Y3 - (1 + 2j)*I")
    assert by_hand == -Z(0) * Z(1) + 0.5 * X(2) - 1 + 2j * Y(3) - (1 + 2j)
    assert PauliSum.from_labels({"Z0 Z1": -1.0, "Y2": 0.5, "I": 2}) == -Z(0) * Z(1) + 0.5 * Y(2) + 2


def test_long_sums_are_shown_short():
    chain = sum((Z(i) * Z(i + 1) for i in range(230)), PauliSum())
    assert repr(chain).endswith("... (230 strings)")
    assert len(repr(chain)) < 250
    assert PauliSum.from_string(str(chain)) == chain
    assert r"\dots \text{ (230 strings)}" in chain._repr_latex_()


def test_latex():
    operator = -1e-5 * Z(0) * Z(12) + 0.5j * X(2)
    assert operator._repr_latex_() == r"$-1 \times 10^{-5}\,Z_{0} Z_{12} + 0.5\mathrm{i}\,X_{2}$"
    assert PauliSum()._repr_latex_() == "$0$"


# Matrices and kernels


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


# Other packages (the conventions are in test_conventions.py)


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


# What is refused


@pytest.mark.parametrize("make", [X, Y, Z])
@pytest.mark.parametrize(("site", "error"), [(-1, ValueError), (1.0, TypeError), (True, TypeError), ("0", TypeError)])
def test_sites_must_be_non_negative_integers(make, site, error):
    with pytest.raises(error, match=rf"Argument `site` must be a non-negative integer, but is {site!r}\."):
        make(site)


def test_numpy_integers_are_sites():
    assert X(np.int32(3)) == X(3)
    assert hash(X(np.int64(3))) == hash(X(3))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, complex(0, math.nan)])
def test_coefficients_must_be_finite(value):
    with pytest.raises(ValueError, match="Argument `coefficient` must be finite, but is"):
        PauliSum([(0, 1, value)])
    with pytest.raises(ValueError, match="Argument `other` must be finite, but is"):
        value * X(0)
    with pytest.raises(ValueError, match="Argument `other` must be finite, but is"):
        X(0) + value


def test_overflow_is_refused():
    with pytest.raises(ValueError, match="The coefficient of X0 must be finite, but overflows"):
        1e200 * X(0) * 1e200
    with pytest.raises(ValueError, match="The coefficient of X0 must be finite, but overflows"):
        1.7e308 * X(0) + 1.7e308 * X(0)
    with pytest.raises(ZeroDivisionError):
        X(0) / 0


@pytest.mark.parametrize("value", ["2", None, [1.0], np.ones(2)])
def test_scalars_must_be_numbers(value):
    for operation in (
        lambda: X(0) * value,
        lambda: value * X(0),
        lambda: X(0) + value,
        lambda: value - X(0),
        lambda: X(0) - value,
        lambda: X(0) / value,
        lambda: X(0) @ value,
    ):
        with pytest.raises(TypeError):
            operation()
    with pytest.raises(TypeError, match="Argument `coefficient` must be a number"):
        PauliSum([(0, 1, value)])


def test_booleans_are_not_numbers():
    for operation in (lambda: X(0) * True, lambda: X(0) + True, lambda: X(0) - True, lambda: X(0) / True):
        with pytest.raises(TypeError, match="Argument `other` must be a number, but is True"):
            operation()


@pytest.mark.parametrize(("exponent", "error"), [(-1, ValueError), (0.5, TypeError)])
def test_exponents_must_be_non_negative_integers(exponent, error):
    with pytest.raises(error, match="Argument `exponent` must be a non-negative integer"):
        X(0) ** exponent


@pytest.mark.parametrize(
    "text",
    ["", "Z0 +", "1.0 *", "* Z0", "Q0", "Z", "Z0 X", "1.0 Z0 2.0 Z1", "(1+) * Z0", "1 ** X0", "--X0", "X0 # comment"],
)
def test_unreadable_text(text):
    with pytest.raises(ValueError, match="Argument `text` must be a sum such as"):
        PauliSum.from_string(text)


def test_labels_that_cannot_be_read():
    for label in ("Z0 X0", "z0", "", "Z0 I", "X-1"):
        with pytest.raises(ValueError, match="A label must name different sites"):
            PauliSum.from_labels({label: 1.0})
    with pytest.raises(ValueError, match="A label must name different sites"):
        PauliSum.from_string("Z0 Z0")


def test_projectors_need_one_outcome_for_each_site():
    with pytest.raises(ValueError, match="Argument `sites` must hold at most 16 different sites"):
        projector([0, 0], [1, 1])
    with pytest.raises(ValueError, match="Argument `sites` must hold at most 16 different sites"):
        projector(range(17), [1] * 17)
    for outcome in ([1], [1, 0], [1, True]):
        with pytest.raises(ValueError, match=r"Argument `outcome` must hold \+1 or -1 for each of the 2 sites"):
            projector([0, 1], outcome)


@pytest.mark.parametrize("perm", [[0, 1], [0, 0, 1], [1, 2, 3]])
def test_permutations_must_cover_the_operator(perm):
    with pytest.raises(ValueError, match=r"Argument `perm` must be a permutation of 0, ..., n-1 with n > 2"):
        Z(2).permuted(perm)


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


def test_import_is_light():
    heavy = {"jax", "netket", "qutip", "quspin", "matplotlib"}
    script = f"import sys, qeqprop.quantum.pauli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
