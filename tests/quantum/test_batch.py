"""Batches of small spin Hamiltonians against dense linear algebra."""

import numpy as np
import pytest

from qeqprop.quantum.batch import BatchPlan, batch_moments, ground_states, responses


def random_strings(n_bits, count, rng):
    """Random real strings: a few of every kind (diagonal, single flips, jumps, groups with signs)."""
    size = 1 << n_bits
    x, z = [], []
    while len(x) < count:
        a = int(rng.integers(size)) if rng.random() < 0.5 else int(rng.choice([0, 1 << rng.integers(n_bits)]))
        b = int(rng.integers(size)) if rng.random() < 0.7 else 0
        if bin(a & b).count("1") % 2 == 0:
            x.append(a)
            z.append(b)
    return np.array(x), np.array(z)


def ising_strings(n_bits):
    """All-to-all transverse-field Ising: Z, ZZ, X."""
    z = [1 << i for i in range(n_bits)] + [(1 << i) | (1 << j) for i in range(n_bits) for j in range(i)]
    return np.array([0] * len(z) + [1 << i for i in range(n_bits)]), np.array(z + [0] * n_bits)


def ising_coefficients(n_bits, batch, rng):
    pairs = n_bits * (n_bits - 1) // 2
    couplings = rng.normal(size=pairs) / np.sqrt(n_bits)
    flips = 0.5 + rng.random(n_bits)
    fields = 0.5 * rng.normal(size=(batch, n_bits))
    return np.concatenate([-fields, np.tile(-couplings, (batch, 1)), np.tile(-flips, (batch, 1))], axis=1)


def string_matrix(n_bits, x, z):
    """`P|s> = (-1)^popcount(s & z) |s ^ x>` entry by entry."""
    matrix = np.zeros((1 << n_bits, 1 << n_bits))
    for s in range(1 << n_bits):
        matrix[s ^ int(x), s] = (-1.0) ** bin(s & int(z)).count("1")
    return matrix


def dense(plan, coefs):
    matrices = np.zeros((len(coefs), plan.dimension, plan.dimension))
    for k, (x, z) in enumerate(zip(plan.xmasks, plan.zmasks, strict=True)):
        matrices += coefs[:, k, None, None] * string_matrix(plan.n_bits, x, z)
    return matrices


def case(kind, n_bits, batch, seed=0):
    rng = np.random.default_rng([seed, n_bits, batch])
    if kind == "ising":
        return BatchPlan(n_bits, *ising_strings(n_bits)), ising_coefficients(n_bits, batch, rng)
    plan = BatchPlan(n_bits, *random_strings(n_bits, 12, rng))
    return plan, rng.normal(size=(batch, plan.n_terms))


CASES = [(kind, n, 1 + 19 * (n % 2)) for kind in ("ising", "random") for n in range(1, 9)]
CASES += [("ising", 10, 2), ("random", 9, 3), ("random", 10, 1)]


@pytest.mark.parametrize(("kind", "n_bits", "batch"), CASES)
def test_ground_states_and_gaps_equal_dense_diagonalisation(kind, n_bits, batch):
    plan, coefs = case(kind, n_bits, batch)
    levels, states = np.linalg.eigh(dense(plan, coefs))
    result = ground_states(plan, coefs)
    gaps = levels[:, 1] - levels[:, 0]
    assert result.converged.all()
    np.testing.assert_allclose(result.energy, levels[:, 0], atol=1e-9)
    # Random strings share symmetries, so some gaps vanish: any vector of the level is then an answer.
    np.testing.assert_allclose(result.gap, gaps, rtol=2e-2, atol=1e-7)
    level = np.abs(levels - levels[:, :1]) < 1e-7
    weight = np.einsum("bsk,bs->bk", states, result.vector) ** 2
    np.testing.assert_allclose((weight * level).sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(result.vector, axis=1), 1.0, atol=1e-12)
    action = np.einsum("bij,bj->bi", dense(plan, coefs), result.vector)
    true = np.linalg.norm(action - result.energy[:, None] * result.vector, axis=1)
    np.testing.assert_allclose(result.residual, true, atol=1e-12)


@pytest.mark.parametrize("n_bits", [1, 3, 5, 6, 8])
def test_responses_equal_the_dense_pseudo_inverse(n_bits):
    batch = 5
    plan, coefs = case("ising", n_bits, batch)
    costs, cost_coefs = case("random", n_bits, batch, seed=1)
    levels, states = np.linalg.eigh(dense(plan, coefs))
    result = ground_states(plan, coefs, tol=1e-12)
    x, residual, iterations = responses(plan, coefs, result.energy, result.vector, costs, cost_coefs, tol=1e-12)
    cost = dense(costs, cost_coefs)
    for b in range(batch):
        excited = states[b, :, 1:]
        amplitude = excited.T @ cost[b] @ result.vector[b] / (levels[b, 1:] - levels[b, 0])
        np.testing.assert_allclose(x[b], -excited @ amplitude, atol=1e-9)
    assert (residual < 1e-10).all()
    assert n_bits < 5 or (iterations > 0).all()


@pytest.mark.parametrize("n_bits", [1, 2, 5, 6, 7, 10])
def test_moments_equal_dense_expectation_values(n_bits):
    rng = np.random.default_rng(n_bits)
    for x, z in (random_strings(n_bits, 15, rng), ising_strings(n_bits)):
        bra, ket = rng.normal(size=(2, 3, 1 << n_bits))
        expected = [np.einsum("bi,ij,bj->b", bra, string_matrix(n_bits, a, c), ket) for a, c in zip(x, z, strict=True)]
        np.testing.assert_allclose(batch_moments(n_bits, x, z, bra, ket), np.array(expected).T, atol=1e-11)


@pytest.mark.parametrize("flips", [1e-4, 1e-2, 30.0])
def test_weak_and_strong_flips(flips):
    """Weak flips put the ground state next to a diagonal element, where half of the amplitudes cannot be eliminated."""
    plan, coefs = case("ising", 7, 8)
    coefs[:, plan.xmasks > 0] *= flips
    coefs[:4, plan.xmasks > 0] *= np.array([1, -1] * 3 + [0])  # signs, and a spin without a flip
    levels = np.linalg.eigvalsh(dense(plan, coefs))
    result = ground_states(plan, coefs)
    assert result.converged.all()
    np.testing.assert_allclose(result.energy, levels[:, 0], atol=1e-9)
    np.testing.assert_allclose(result.gap, levels[:, 1] - levels[:, 0], rtol=1e-2)
    costs = BatchPlan(7, [0, 1, 3], [1, 0, 3])
    _, residual, _ = responses(plan, coefs, result.energy, result.vector, costs, np.ones((8, 3)))
    assert (residual < 2e-10).all()


def test_units_do_not_matter():
    plan, coefs = case("ising", 7, 4)
    result, large = ground_states(plan, coefs), ground_states(plan, 2.0**20 * coefs, tol=2.0**20 * 1e-10)
    np.testing.assert_allclose(large.energy, 2.0**20 * result.energy, rtol=1e-12)
    np.testing.assert_allclose(large.gap, 2.0**20 * result.gap, rtol=1e-6)


@pytest.mark.parametrize("n_bits", [3, 6, 9])
def test_linear_response_is_the_derivative_of_the_ground_state(n_bits):
    plan, coefs = case("ising", n_bits, 3)
    free = ground_states(plan, coefs, tol=1e-12)
    x, _, _ = responses(plan, coefs, free.energy, free.vector, plan, np.ones_like(coefs))
    step = 1e-4
    plus, minus = (
        ground_states(plan, coefs + sign * step, free.vector, tol=1e-12, certify_gap=False).vector for sign in (1, -1)
    )
    plus, minus = (v * np.sign(np.sum(v * free.vector, axis=1, keepdims=True)) for v in (plus, minus))
    np.testing.assert_allclose(x, (plus - minus) / (2 * step), atol=1e-6)


@pytest.mark.parametrize("n_bits", [2, 5, 8])
def test_exact_degeneracy_has_no_gap(n_bits):
    """Sum of ZZ on a chain without fields or flips: the two ferromagnets."""
    z = [3 << i for i in range(n_bits - 1)]
    plan = BatchPlan(n_bits, [0] * len(z), z)
    result = ground_states(plan, -np.ones((4, plan.n_terms)))
    assert result.converged.all()
    np.testing.assert_allclose(result.energy, 1 - n_bits, atol=1e-9)
    np.testing.assert_allclose(result.gap, 0.0, atol=1e-8)


@pytest.mark.parametrize("n_bits", [5, 7])
def test_a_start_in_the_wrong_sector_is_found_out(n_bits):
    """The fully antisymmetric state under one spin flip never reaches the ground state of `-sum X` by itself."""
    plan = BatchPlan(n_bits, 1 << np.arange(n_bits), np.zeros(n_bits, dtype=int))
    start = np.where(np.arange(1 << n_bits) % 2 == 0, 1.0, -1.0)
    coefs = -np.ones((1, n_bits))
    np.testing.assert_allclose(ground_states(plan, coefs, start, certify_gap=False).energy, 2 - n_bits, atol=1e-9)
    result = ground_states(plan, coefs, start)
    np.testing.assert_allclose(result.energy, -n_bits, atol=1e-9)
    np.testing.assert_allclose(result.gap, 2.0, rtol=1e-2)


def realified_case(n_bits, batch):
    """Complex Hamiltonians A + iB (B from strings with one Y) as real ones on one more bit: [[A, -B], [B, A]]."""
    rng = np.random.default_rng(n_bits)
    x, z = ising_strings(n_bits)
    real = ising_coefficients(n_bits, batch, rng)
    # i Y = Z X in this convention is real and antisymmetric: with the -Y of the top bit it is real symmetric again.
    y = 1 << np.arange(n_bits)
    top = 1 << n_bits
    plan = BatchPlan(n_bits + 1, np.r_[x, y | top], np.r_[z, y | top])
    return plan, np.concatenate([real, rng.normal(size=(batch, n_bits))], axis=1)


@pytest.mark.parametrize("n_bits", [2, 5, 7])
def test_realified_hamiltonians(n_bits):
    plan, coefs = realified_case(n_bits, 3)
    matrices = dense(plan, coefs)
    levels = np.linalg.eigvalsh(matrices)
    np.testing.assert_allclose(levels[:, 1], levels[:, 0], atol=1e-12)  # the case is what it says
    result = ground_states(plan, coefs, realified=True)
    assert result.converged.all()
    np.testing.assert_allclose(result.energy, levels[:, 0], atol=1e-9)
    np.testing.assert_allclose(result.gap, levels[:, 2] - levels[:, 0], rtol=1e-2)
    np.testing.assert_allclose(ground_states(plan, coefs).gap, 0.0, atol=1e-8)

    half = plan.dimension // 2
    partner = np.concatenate([-result.vector[:, half:], result.vector[:, :half]], axis=1)
    # Z of the top bit does not commute with J: this cost couples psi and J psi, which only the deflation removes.
    costs = BatchPlan(plan.n_bits, [0, 3], [half, 0])
    cost_coefs = np.ones((3, 2))
    x, residual, _ = responses(plan, coefs, result.energy, result.vector, costs, cost_coefs, partner=partner)
    assert (residual < 1e-9).all()
    shifted = matrices - levels[:, 0, None, None] * np.eye(plan.dimension)
    q = (
        np.eye(plan.dimension)
        - result.vector[:, :, None] * result.vector[:, None]
        - partner[:, :, None] * partner[:, None]
    )
    rhs = -np.einsum("bij,bjk,bk->bi", q, dense(costs, cost_coefs), result.vector)
    np.testing.assert_allclose(np.einsum("bij,bj->bi", shifted, x), rhs, atol=1e-7)
    np.testing.assert_allclose(np.einsum("bs,bs->b", x, partner), 0.0, atol=1e-10)


@pytest.mark.parametrize("n_bits", [4, 8])
def test_results_are_bitwise_independent_of_threads_and_of_the_rest_of_the_batch(n_bits):
    plan, coefs = case("ising", n_bits, 33)
    one, three = (ground_states(plan, coefs, threads=t) for t in (1, 3))
    for a, b in zip(one, three, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(ground_states(plan, coefs[20:21]).vector[0], one.vector[20])
    response_one, response_three = (
        responses(plan, coefs, one.energy, one.vector, plan, coefs[::-1], threads=t)[0] for t in (1, 3)
    )
    np.testing.assert_array_equal(response_one, response_three)
    arguments = (n_bits, plan.xmasks, plan.zmasks, one.vector, response_one)
    np.testing.assert_array_equal(batch_moments(*arguments, threads=1), batch_moments(*arguments, threads=3))


def test_warm_starts_save_iterations():
    plan, coefs = case("ising", 8, 6)
    cold = ground_states(plan, coefs, certify_gap=False)
    warm = ground_states(plan, coefs + 1e-4, cold.vector, certify_gap=False)
    assert np.isnan(warm.gap).all()
    assert warm.iterations.mean() < 0.8 * cold.iterations.mean()
    shared = ground_states(plan, coefs[:1].repeat(3, axis=0), cold.vector[0], certify_gap=False)
    assert (shared.iterations < cold.iterations.mean() / 2).all()


def test_lack_of_convergence_is_reported():
    plan, coefs = case("ising", 8, 3)
    result = ground_states(plan, coefs, max_iterations=1)
    assert not result.converged.any()
    assert (result.residual > 1e-3).all()
    assert (result.iterations == 1).all()
    _, residual, iterations = responses(plan, coefs, result.energy, result.vector, plan, coefs, max_iterations=1)
    assert (residual > 1e-3).all()
    assert (iterations <= 1).all()


def test_a_cost_that_commutes_has_no_response():
    plan, coefs = case("ising", 6, 2)
    result = ground_states(plan, coefs)
    identity = BatchPlan(6, [0], [0])
    x, residual, _ = responses(plan, coefs, result.energy, result.vector, identity, np.zeros((2, 1)))
    np.testing.assert_array_equal(x, 0.0)
    np.testing.assert_array_equal(residual, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(bad):
    plan, coefs = case("ising", 5, 2)
    coefs[1, 3] = bad
    with pytest.raises(ValueError, match="`coefs` must be finite"):
        ground_states(plan, coefs)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="even number of Y"):
        BatchPlan(3, [1], [1])
    with pytest.raises(ValueError, match="`n_bits` must be in"):
        BatchPlan(15, [0], [1])
    with pytest.raises(ValueError, match="`xmasks` must have entries"):
        BatchPlan(3, [8], [0])
    with pytest.raises(ValueError, match="vector of integers"):
        BatchPlan(3, [0.0], [0])
    with pytest.raises(ValueError, match="one shape"):
        BatchPlan(3, [0, 1], [0])
    plan, coefs = case("ising", 5, 2)
    with pytest.raises(ValueError, match="`coefs` must have shape"):
        ground_states(plan, coefs[:, :-1])
    with pytest.raises(ValueError, match="`start` must have shape"):
        ground_states(plan, coefs, np.ones((3, 32)))
    with pytest.raises(ValueError, match="zero vector"):
        ground_states(plan, coefs, np.zeros(32))
    with pytest.raises(ValueError, match="`term_plan` must have n_bits"):
        responses(plan, coefs, np.zeros(2), np.zeros((2, 32)), BatchPlan(6, [0], [1]), np.ones((2, 1)))
