"""Pauli sums: algebra against dense Kronecker products, properties, values, and what is refused."""

import copy
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given

from qeqprop.quantum.pauli import PauliSum, X, Y, Z, identity, projector

from .pauli_sums import MATRICES, N_SITES, dense, random_sum, sums

# --- algebra ----------------------------------------------------------------------------------------------------------


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


# --- properties -------------------------------------------------------------------------------------------------------


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


# --- values -----------------------------------------------------------------------------------------------------------


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


# --- what is refused --------------------------------------------------------------------------------------------------


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


def test_import_is_light():
    heavy = {"jax", "netket", "qutip", "quspin", "matplotlib"}
    script = f"import sys, qeqprop.quantum.pauli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
