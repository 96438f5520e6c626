"""Ground states, gaps and linear response against dense diagonalisation."""

import numpy as np
import pytest

from qeqprop.quantum.kernels import PauliKernel
from qeqprop.quantum.lanczos import _lanczos, certified_gap, lowest_eigenpair, solve_complement
from qeqprop.quantum.vectors import Workspace


def all_to_all_tfim(n, seed=0, extra=()):
    rng = np.random.default_rng(seed)
    i, j = np.triu_indices(n, 1)
    sites = np.left_shift(1, np.arange(n))
    x = np.concatenate([0 * i, 0 * sites, sites])
    z = np.concatenate([(1 << i) | (1 << j), sites, 0 * sites])
    c = np.concatenate([rng.normal(size=i.size) / np.sqrt(n), 0.5 * rng.normal(size=n), -0.5 - rng.random(n)])
    for a, b, value in extra:
        x, z, c = np.append(x, a), np.append(z, b), np.append(c, value)
    return PauliKernel(n, x, z, c)


def chain(n, coupling, field):
    """-J sum Z Z - g sum X, open, without longitudinal fields: two almost equal ground states for small g."""
    bonds, sites = np.left_shift(3, np.arange(n - 1)), np.left_shift(1, np.arange(n))
    x, z = np.concatenate([0 * bonds, sites]), np.concatenate([bonds, 0 * sites])
    return PauliKernel(n, x, z, -np.concatenate([np.full(n - 1, coupling), np.full(n, field)]))


def dense(kernel):
    return np.array([kernel.apply(row, np.empty(kernel.dim)) for row in np.eye(kernel.dim)]).T


@pytest.fixture(scope="module")
def ten():
    kernel = all_to_all_tfim(10)
    values, vectors = np.linalg.eigh(dense(kernel))
    return kernel, values, vectors


def true_residual(kernel, result):
    image = kernel.apply(result.vector, np.empty(kernel.dim))
    return np.linalg.norm(image - result.energy * result.vector)


@pytest.mark.parametrize("basis_bytes", [0, 5 * 8 << 10, 1 << 25], ids=["two-pass", "five rows", "kept"])
def test_ground_state(ten, basis_bytes):
    kernel, values, vectors = ten
    start = np.ones(kernel.dim)
    result = lowest_eigenpair(kernel, start, basis_bytes=basis_bytes)
    assert result.converged
    assert result.energy == pytest.approx(values[0], abs=1e-12)
    assert abs(result.vector @ vectors[:, 0]) == pytest.approx(1.0, abs=1e-12)
    assert result.residual <= 1e-10
    assert result.residual == pytest.approx(true_residual(kernel, result), abs=1e-12)
    assert result.ritz[0] == result.energy
    assert result.ritz[1] >= values[1] - 1e-9
    np.testing.assert_array_equal(start, 1.0)


def test_two_pass_makes_the_same_vector_as_a_kept_basis(ten):
    kernel = ten[0]
    work, start = Workspace(kernel), np.random.default_rng(2).normal(size=kernel.dim)
    start /= np.linalg.norm(start)

    def run(rows):
        buffers = np.empty_like(start), np.empty_like(start)
        return _lanczos(work, start.copy(), 0.0, 0.0, 25, rows, buffers)

    kept, steps, ritz = run(100)
    assert steps == 25
    assert kept @ kernel.apply(kept, np.empty(kernel.dim)) == pytest.approx(ritz[0], abs=1e-12)
    for rows in (1, 2, 3, 24, 25, 26):
        vector, _, again = run(rows)
        np.testing.assert_allclose(vector, kept, atol=1e-13)
        assert again == ritz


@pytest.mark.parametrize("budget", [1, 2, 7])
def test_a_run_out_of_iterations_says_so(ten, budget):
    kernel, values, _ = ten
    for basis_bytes in (0, 1 << 25):
        result = lowest_eigenpair(kernel, np.ones(kernel.dim), max_iterations=budget, basis_bytes=basis_bytes)
        assert not result.converged
        assert result.iterations == budget
        assert result.residual == pytest.approx(true_residual(kernel, result), rel=1e-6)
        assert result.residual > 1e-3
        assert values[0] < result.energy < 0.0


def test_matvecs_are_counted(ten):
    kernel = ten[0]
    before = kernel.matvecs
    result = lowest_eigenpair(kernel, np.ones(kernel.dim), basis_bytes=0)
    assert kernel.matvecs - before == result.matvecs > result.iterations


def test_a_warm_start_that_has_converged_costs_one_product(ten):
    kernel = ten[0]
    cold = lowest_eigenpair(kernel, np.ones(kernel.dim), tol=1e-11)
    again = lowest_eigenpair(kernel, 3.0 * cold.vector, warm=True)
    assert again.converged
    assert (again.matvecs, again.iterations) == (1, 0)


@pytest.mark.parametrize(("beta", "at_most"), [(1e-3, 0.9), (1e-6, 0.6), (0.3, 1.6)])
def test_a_warm_start_follows_a_nudge(ten, beta, at_most):
    free = lowest_eigenpair(ten[0], np.ones(1 << 10), tol=1e-11)
    nudged = all_to_all_tfim(10, extra=[(0, 3, beta), (0, 9, -beta)])
    cold = lowest_eigenpair(nudged, np.ones(1 << 10), basis_bytes=0)
    warm = lowest_eigenpair(nudged, free.vector, warm=True, basis_bytes=0)
    assert warm.converged
    assert warm.energy == pytest.approx(np.linalg.eigvalsh(dense(nudged))[0], abs=1e-12)
    assert warm.matvecs <= at_most * cold.matvecs


def test_a_start_in_another_symmetry_sector_still_finds_the_ground_state():
    kernel = chain(8, 1.0, 1.2)
    values, vectors = np.linalg.eigh(dense(kernel))
    odd = vectors[:, 1]  # an eigenvector, odd under the flip of all spins; the ground state is even
    result = lowest_eigenpair(kernel, odd)
    assert result.converged
    assert result.energy == pytest.approx(values[0], abs=1e-10)


def test_gap(ten):
    kernel, values, _ = ten
    ground = lowest_eigenpair(kernel, np.ones(kernel.dim))
    result = certified_gap(kernel, ground.energy, [ground.vector])
    assert result.gap == pytest.approx(values[1] - values[0], rel=1e-2)
    assert result.matvecs < 80


def test_a_long_gap_run_does_not_fall_back_to_the_known_state(ten):
    kernel, values, vectors = ten
    gap = certified_gap(kernel, values[0], [np.ascontiguousarray(vectors[:, 0])], tol=0.0, max_iterations=200).gap
    assert gap == pytest.approx(values[1] - values[0], rel=1e-9)


def test_the_gap_reveals_an_almost_degenerate_ground_state():
    kernel = chain(10, 1.0, 0.1)  # gap about g^10
    ground = lowest_eigenpair(kernel, np.ones(kernel.dim))
    assert ground.converged
    assert abs(certified_gap(kernel, ground.energy, [ground.vector]).gap) < 1e-4


def test_the_random_start_of_the_gap_is_not_that_of_the_ground_state():
    """`start` has no component in the 16-fold lowest level, so the state found there is the noise projected on it."""
    kernel = PauliKernel(6, [3, 0], [0, 3], [0.3, 1.0])  # lowest on the odd states of bits 0 and 1, 16 times
    start = np.where(np.isin(np.arange(64) % 4, (0, 3)), 1.0, 0.0)
    ground = lowest_eigenpair(kernel, start)
    assert ground.energy == pytest.approx(-1.3, abs=1e-10)
    assert certified_gap(kernel, ground.energy, [ground.vector]).gap == pytest.approx(0.0, abs=1e-6)


def test_an_excited_state_has_a_negative_gap(ten):
    kernel, values, vectors = ten
    gap = certified_gap(kernel, values[1], [np.ascontiguousarray(vectors[:, 1])]).gap
    assert gap == pytest.approx(values[0] - values[1], rel=1e-2)


def test_an_exactly_doubled_spectrum():
    """Complex states as real ones on one more bit: every level twice, psi and J psi."""
    n = 8
    i, j = np.triu_indices(n, 1)
    rng = np.random.default_rng(4)
    bonds, sites = (1 << i) | (1 << j), np.left_shift(1, np.arange(n))
    x, z = np.concatenate([0 * bonds, sites]), np.concatenate([bonds, 0 * sites])
    c = np.concatenate([rng.normal(size=i.size) / np.sqrt(n), -0.5 - rng.random(n)])
    x, z, c = np.append(x, 1 | 1 << n), np.append(z, 1 | 1 << n), np.append(c, 0.4)  # 0.4 Y_0 as (XZ)_0 (XZ)_n
    x, z, c = np.append(x, 0), np.append(z, 3), np.append(c, 0.3)
    kernel = PauliKernel(n + 1, x, z, c)
    values = np.linalg.eigvalsh(dense(kernel))
    assert values[1] - values[0] < 1e-12 < values[2] - values[1]

    ground = lowest_eigenpair(kernel, rng.normal(size=kernel.dim))
    psi = ground.vector
    partner = np.concatenate([-psi[1 << n :], psi[: 1 << n]])
    assert abs(certified_gap(kernel, ground.energy, [psi]).gap) < 1e-4
    gap = certified_gap(kernel, ground.energy, [psi, partner]).gap
    assert gap == pytest.approx(values[2] - values[0], rel=1e-2)

    rhs = rng.normal(size=kernel.dim)
    solution = solve_complement(kernel, ground.energy, [psi, partner], rhs)
    assert solution.converged
    assert abs(solution.vector @ psi) + abs(solution.vector @ partner) < 1e-11
    projected = rhs - psi * (psi @ rhs) - partner * (partner @ rhs)
    image = kernel.apply(solution.vector, np.empty(kernel.dim)) - ground.energy * solution.vector
    np.testing.assert_allclose(image, projected, atol=1e-8)


def test_linear_response(ten):
    kernel, values, vectors = ten
    ground = lowest_eigenpair(kernel, np.ones(kernel.dim))
    rhs = np.random.default_rng(1).normal(size=kernel.dim)
    solution = solve_complement(kernel, ground.energy, [ground.vector], rhs, tol=1e-10)
    weights = vectors[:, 1:].T @ rhs / (values[1:] - values[0])
    assert solution.converged
    assert solution.relative_residual <= 1e-10
    assert solution.lowest == pytest.approx(values[1] - values[0], rel=1e-6)
    np.testing.assert_allclose(solution.vector, vectors[:, 1:] @ weights, atol=1e-7)


@pytest.mark.parametrize("error", [1e-4, 1e-6])
def test_linear_response_of_a_rough_ground_state(ten, error):
    kernel, _, vectors = ten
    rng = np.random.default_rng(5)
    psi = vectors[:, 0] + error * vectors[:, 1:] @ (rng.normal(size=kernel.dim - 1) / np.sqrt(kernel.dim))
    psi /= np.linalg.norm(psi)
    energy = psi @ kernel.apply(psi, np.empty(kernel.dim))
    solution = solve_complement(kernel, energy, [psi], rng.normal(size=kernel.dim), tol=100 * error**2)
    assert solution.converged
    assert solution.iterations < 60


def test_linear_response_reports_what_it_did_not_reach(ten):
    kernel, values, vectors = ten
    ground = np.ascontiguousarray(vectors[:, 0])
    rhs = np.random.default_rng(1).normal(size=kernel.dim)
    short = solve_complement(kernel, values[0], [ground], rhs, max_iterations=3)
    assert not short.converged
    assert short.iterations == 3
    assert short.relative_residual > 1e-3
    excited = solve_complement(kernel, values[5], [np.ascontiguousarray(vectors[:, 5])], rhs)
    assert excited.negative_curvature
    assert not excited.converged


def test_wrong_starts_are_refused(ten):
    kernel = ten[0]
    with pytest.raises(ValueError, match="must have shape"):
        lowest_eigenpair(kernel, np.ones(7))
    with pytest.raises(ValueError, match="finite and not zero"):
        lowest_eigenpair(kernel, np.full(kernel.dim, np.nan))
    with pytest.raises(ValueError, match="finite and not zero"):
        lowest_eigenpair(kernel, np.zeros(kernel.dim), warm=True)
    with pytest.raises(ValueError, match="at least the ground state"):
        solve_complement(kernel, 0.0, [], np.ones(kernel.dim))
