"""Products and moments of Pauli strings against dense and sparse matrices made in another way."""

import functools
from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp

from qeqprop.quantum.kernel_tables import BLOCK_BITS
from qeqprop.quantum.kernels import PauliKernel
from qeqprop.quantum.moments import moments


def kronecker(n, x, z):
    """X^x Z^z as a dense matrix; bit 0 is the last factor."""
    identity, pauli_x, pauli_z = np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])
    factors = (
        (pauli_x if x >> b & 1 else identity) @ (pauli_z if z >> b & 1 else identity) for b in reversed(range(n))
    )
    return functools.reduce(np.kron, factors)


def sparse(n, x, z):
    """The same as a sparse matrix with one entry per column."""
    s = np.arange(1 << n)
    values = np.prod([1.0 - 2.0 * (s >> b & 1) for b in range(n) if z >> b & 1], axis=0) * np.ones(1 << n)
    return sp.csr_array((values, (s ^ x, s)), shape=(1 << n, 1 << n))


def hamiltonian(n, xmasks, zmasks, coefs):
    return sum(c * sparse(n, x, z) for x, z, c in zip(xmasks, zmasks, coefs, strict=True))


def all_to_all_tfim(n, rng):
    i, j = np.triu_indices(n, 1)
    sites = np.left_shift(1, np.arange(n))
    x = np.concatenate([0 * i, 0 * sites, sites])
    z = np.concatenate([(1 << i) | (1 << j), sites, 0 * sites])
    return x, z, rng.normal(size=x.size)


def heisenberg_chain(n, rng):
    bonds = np.left_shift(3, np.arange(n - 1))
    c = rng.normal(size=n - 1)
    return (
        np.concatenate([bonds, bonds, 0 * bonds]),
        np.concatenate([0 * bonds, bonds, bonds]),
        np.concatenate([c, -c, c]),
    )


def cluster(n, rng):
    """ZXZ, ZZZ and ZZZZ on neighbours, and a constant."""
    sites = np.arange(n - 3)
    x = np.concatenate([np.left_shift(2, sites), 0 * sites, 0 * sites, [0]])
    z = np.concatenate([np.left_shift(5, sites), np.left_shift(7, sites), np.left_shift(15, sites), [0]])
    return x, z, rng.normal(size=x.size)


def random_strings(n, rng, count=40):
    x, z = rng.integers(0, 1 << n, (2, count))
    z[:5], x[5:10] = 0, 0
    x, z = np.append(x, x[:7]), np.append(z, z[:7])  # repeated strings are added
    real = np.bitwise_count(x & z) % 2 == 0
    return x[real], z[real], rng.normal(size=real.sum())


FAMILIES = {f.__name__: f for f in (all_to_all_tfim, heisenberg_chain, cluster, random_strings)}
SIZES = (5, 6, 7, 9, BLOCK_BITS + 2, BLOCK_BITS + 3)


def test_the_sparse_reference_is_a_kronecker_product():
    for x, z in np.random.default_rng(0).integers(0, 1 << 5, (30, 2)):
        np.testing.assert_array_equal(sparse(5, x, z).toarray(), kronecker(5, x, z))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_products(family, n):
    rng = np.random.default_rng(n)
    strings = FAMILIES[family](n, rng)
    reference, kernel = hamiltonian(n, *strings), PauliKernel(n, *strings)
    v, previous = rng.normal(size=(2, kernel.dim))
    out = np.full(kernel.dim, np.nan)
    np.testing.assert_allclose(kernel.apply(v, out), reference @ v, atol=1e-11)
    np.testing.assert_allclose(kernel.diagonal(out), reference.diagonal(), atol=1e-11)

    expected = reference @ v - 0.7 * previous
    out[:] = previous
    alpha, norm2 = kernel.apply_lanczos(v, out, 0.7, out)
    np.testing.assert_allclose(out, expected, atol=1e-11)
    np.testing.assert_allclose([alpha, norm2], [v @ expected, expected @ expected], rtol=1e-11)
    np.testing.assert_allclose(kernel.apply_lanczos(v, v, 0.7, out)[0], v @ (reference @ v) - 0.7 * v @ v, rtol=1e-9)
    assert kernel.matvecs == 3
    assert abs(v @ (reference @ v)) <= kernel.norm_bound * (v @ v) <= (v @ v) * np.abs(strings[2]).sum() * (1 + 1e-12)


@pytest.mark.parametrize(("family", "n"), [*product(FAMILIES, SIZES), ("random_strings", 1), ("random_strings", 3)])
def test_moments(family, n):
    rng = np.random.default_rng(n)
    x, z, _ = FAMILIES[family](n, rng)
    bra, ket = rng.normal(size=(2, 1 << n))
    expected = [bra @ (sparse(n, a, b) @ ket) for a, b in zip(x, z, strict=True)]
    np.testing.assert_allclose(moments(n, x, z, bra, ket), expected, atol=1e-9)


def test_moments_with_an_odd_number_of_y_are_antisymmetric():
    bra, ket = np.random.default_rng(0).normal(size=(2, 1 << 7))
    x, z = np.array([1, 6, 0b1100100]), np.array([1, 2, 0b1000011])
    np.testing.assert_allclose(moments(7, x, z, bra, ket), -moments(7, x, z, ket, bra), atol=1e-12)
    expected = [bra @ (sparse(7, a, b) @ ket) for a, b in zip(x, z, strict=True)]
    np.testing.assert_allclose(moments(7, x, z, bra, ket), expected, atol=1e-12)


def test_many_long_diagonal_strings_use_the_transform():
    n, rng = BLOCK_BITS + 1, np.random.default_rng(3)
    z = (rng.integers(0, 1 << n, 300) | 1 << BLOCK_BITS | 3).astype(np.int64)  # two low bits and a high one at least
    bra, ket = rng.normal(size=(2, 1 << n))
    every, few = moments(n, 0 * z, z, bra, ket), moments(n, 0 * z[:9], z[:9], bra, ket)
    np.testing.assert_allclose(every[:9], few, atol=1e-10)
    np.testing.assert_allclose(few[0], bra @ (sparse(n, 0, z[0]) @ ket), atol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_threads_do_not_change_a_bit(family):
    n, rng = BLOCK_BITS + 3, np.random.default_rng(1)
    x, z, c = FAMILIES[family](n, rng)
    v, previous = rng.normal(size=(2, 1 << n))
    outs, sums = np.empty((2, 1 << n)), []
    for out, threads in zip(outs, (1, 3), strict=True):
        kernel = PauliKernel(n, x, z, c, threads=threads)
        sums.append(kernel.apply_lanczos(v, previous, 0.3, out))
    np.testing.assert_array_equal(outs[0], outs[1])
    assert sums[0] == sums[1]
    np.testing.assert_array_equal(moments(n, x, z, v, previous, threads=1), moments(n, x, z, v, previous, threads=3))


def test_no_table_has_the_size_of_the_state_for_z_and_zz():
    n = 18
    kernel = PauliKernel(n, *all_to_all_tfim(n, np.random.default_rng(0)))
    assert kernel.nbytes < 0.1 * 8 * kernel.dim


def test_nan_in_the_state_propagates():
    kernel = PauliKernel(6, *all_to_all_tfim(6, np.random.default_rng(0)))
    v = np.ones(64)
    v[17] = np.nan
    bad = np.isnan(kernel.apply(v, np.empty(64)))
    neighbours = np.isin(np.arange(64) ^ 17, [0, 1, 2, 4, 8, 16, 32])
    np.testing.assert_array_equal(bad, neighbours)


@pytest.mark.parametrize(
    ("strings", "message"),
    [
        (([1], [1], [1.0]), "even number of Y"),
        (([0], [1], [np.nan]), "finite"),
        (([64], [0], [1.0]), "no bit beyond"),
        (([1, 2], [0], [1.0]), "same shape"),
    ],
)
def test_wrong_strings_are_refused(strings, message):
    with pytest.raises(ValueError, match=message):
        PauliKernel(6, *strings)


def test_wrong_vectors_are_refused():
    kernel = PauliKernel(6, [1], [0], [1.0])
    v = np.ones(64)
    with pytest.raises(ValueError, match="`out` must not be `x`"):
        kernel.apply(v, v)
    with pytest.raises(ValueError, match="contiguous float64"):
        kernel.apply(np.ones(128)[::2], v)
    with pytest.raises(ValueError, match="contiguous float64"):
        kernel.apply(v.astype(np.float32), v)
    with pytest.raises(ValueError, match="at least 5"):
        PauliKernel(4, [1], [0], [1.0])
    with pytest.raises(ValueError, match="must have shape"):
        moments(6, [1], [0], v, v[:32])
