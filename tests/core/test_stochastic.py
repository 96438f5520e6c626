"""The engine with solvers that sample: seeds, standard errors, replicas, truncation under noise."""

from typing import Any, ClassVar

import equinox as eqx
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.core.estimate import combine
from qeqprop.core.randomness import branch, seed_sequence
from qeqprop.core.scheme import AbstractScheme
from qeqprop.core.solver import AbstractSolver

SIGMA, BLOCKS = 1e-3, 40
NET = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)], input_sites=[0])
PARAMS = {"J": np.array([1.0, 0.7]), "h": np.array([0.3, -0.2, 0.5]), "g": np.array([0.9, 1.1, 0.8])}
COST = qp.ExpectationCost([qp.Z(1), qp.Z(2)])
PROBLEM = (NET, PARAMS, COST, np.array([0.1, -0.4]))


class NoisyState(eqx.Module):
    """An exact state whose expectation values are seen through BLOCKS noisy readings."""

    exact: qp.PureState
    seed: Any
    correlated: bool
    signal: bool = False

    def expect_all(self, observables: Any) -> qp.Estimate:
        values = self.exact.expect_all(observables)
        if observables == COST.observables and not self.signal:
            return values
        readings = np.random.default_rng(self.seed).normal(
            values.mean, SIGMA * BLOCKS**0.5, (BLOCKS, *values.mean.shape)
        )
        mean = readings.mean(axis=0)
        if not self.correlated:
            return qp.Estimate(mean, readings.std(axis=0, ddof=1) / BLOCKS**0.5)
        return qp.Estimate.jackknife(mean, (readings.sum(axis=0) - readings) / (BLOCKS - 1))


class Noisy(AbstractSolver):
    """Exact diagonalisation behind noise: fresh in every phase, or (`common`) the free phase's in all of them."""

    common: bool = False
    signal: bool = False
    name: ClassVar[str] = "Noisy"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = False
    stochastic: ClassVar[bool] = True

    def solve(self, system: Any, params: Any, *, init: Any = None, key: Any = None) -> qp.Equilibrium:
        out = qp.ExactDiagonalization().solve(system, params)
        seed = init.state.seed if self.common and init is not None else key
        return qp.Equilibrium(
            NoisyState(out.state, seed, self.common, self.signal), out.energy, out.residual, out.gap, out.status, {}
        )

    def respond(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError

    def default_scheme(self, free: Any, term: Any) -> AbstractScheme:
        return qp.centered(0.02)

    def extrapolate(self, phases: Any, strength: complex) -> Any:
        return phases[0.0]

    def accepts_batch(self, system: Any) -> bool:
        return False


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([tree[name] for name in sorted(tree)])


def z_scores(solver: Any, scheme: Any, seeds: int = 60, **options: Any) -> np.ndarray:
    exact = flat(qp.ep_gradient(*PROBLEM, scheme=scheme, **options).grad)
    outs = [qp.ep_gradient(*PROBLEM, solver=solver, scheme=scheme, key=seed, **options) for seed in range(seeds)]
    return np.array([(flat(out.grad) - exact) / flat(out.stderr) for out in outs])


@pytest.mark.parametrize("scheme", [qp.centered(0.02), qp.one_sided(0.02), qp.richardson(0.04)], ids=str)
def test_standard_errors_of_independent_phases_are_true(scheme):
    z = z_scores(Noisy(), scheme)
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.std() - 1) < 4 / np.sqrt(2 * z.size)


def test_noise_that_the_phases_share_cancels_replica_by_replica():
    own, shared = (qp.ep_gradient(*PROBLEM, solver=Noisy(common), scheme=qp.centered(0.02), key=3) for common in (0, 1))
    assert np.median(flat(own.stderr)) > 0.5 * SIGMA / 0.02
    assert flat(shared.stderr).max() < 1e-12
    assert np.allclose(flat(shared.grad), flat(qp.ep_gradient(*PROBLEM, scheme=qp.centered(0.02)).grad), atol=1e-9)


def test_phases_samples_and_seeds_draw_different_numbers():
    a, again, other = (flat(qp.ep_gradient(*PROBLEM, solver=Noisy(), key=key).grad) for key in (1, 1, 2))
    assert np.array_equal(a, again)
    assert not np.any(a == other)
    fresh = [flat(qp.ep_gradient(*PROBLEM, solver=Noisy()).grad) for _ in range(2)]
    assert not np.any(fresh[0] == fresh[1])
    # two equal samples: independent noise halves the variance of the mean
    inputs, targets = np.full((2, 1), 0.2), np.tile(PROBLEM[3], (2, 1))
    z = []
    exact = flat(qp.ep_gradient(*PROBLEM[:3], targets, inputs=inputs, scheme=qp.centered(0.02)).grad)
    for seed in range(60):
        out = qp.ep_gradient(*PROBLEM[:3], targets, inputs=inputs, solver=Noisy(), key=seed)
        z.append((flat(out.grad) - exact) / flat(out.stderr))
    assert abs(np.std(z) - 1) < 4 / np.sqrt(2 * np.size(z))


def test_loss_and_finite_differences_carry_errors():
    solver = Noisy(signal=True)
    exact = qp.finite_difference(*PROBLEM, components={"J": [0], "g": [2]})
    outs = [
        qp.finite_difference(*PROBLEM, solver=solver, components={"J": [0], "g": [2]}, step=0.1, key=k)
        for k in range(40)
    ]
    z = np.array(
        [[(out.grad[n][i] - exact.grad[n][i]) / out.stderr[n][i] for n, i in (("J", 0), ("g", 2))] for out in outs]
    )
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.std() - 1) < 4 / np.sqrt(2 * z.size)
    losses = np.array([float(out.loss) for out in outs])
    assert abs(losses.std(ddof=1) / outs[0].loss.stderr - 1) < 4 / np.sqrt(2 * len(outs))
    common = qp.finite_difference(*PROBLEM, solver=Noisy(common=True, signal=True), step=1e-2, key=0)
    assert flat(common.stderr).max() < 0.1  # of independent evaluations: about 0.2


def test_truncation_is_what_noise_does_not_explain():
    quiet, noisy = (
        qp.ep_gradient(*PROBLEM, solver=solver, scheme=qp.centered(0.02), key=key)
        for solver, key in ((None, None), (Noisy(), 5))
    )
    assert flat(noisy.truncation).max() < 0.5 * flat(noisy.stderr).max()
    large = qp.ep_gradient(*PROBLEM, solver=Noisy(), scheme=qp.one_sided(0.6), key=5, throw=False)
    exact = flat(qp.linear_response(*PROBLEM).grad)
    error = np.abs(flat(large.grad) - exact)
    assert np.linalg.norm(error) > 5 * np.linalg.norm(flat(large.stderr))  # truncation dominates, and is seen
    assert 0.3 < np.linalg.norm(flat(large.truncation)) / np.linalg.norm(error) < 3
    assert flat(quiet.truncation).max() > 0


def test_training_with_a_sampling_solver_repeats_to_the_bit():
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(4, 1)), rng.normal(size=(4, 2)))
    options = {"solver": Noisy(), "scheme": qp.centered(0.02), "epochs": 2, "batch_size": 2, "validation": data}
    first, second, other = (qp.fit(NET, PARAMS, COST, data, seed=seed, **options) for seed in (1, 1, 2))
    assert np.array_equal(first.params["J"], second.params["J"])
    assert np.array_equal(first.validation_loss, second.validation_loss)
    assert not np.array_equal(first.params["J"], other.params["J"])


def test_estimates_combine():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(BLOCKS, 1))
    replicas = [mean + (shared + 0.1 * rng.normal(size=(BLOCKS, 1))) / BLOCKS for mean in (1.0, 3.0)]
    pair = [qp.Estimate.jackknife(r.mean(axis=0), r) for r in replicas]
    difference = combine((-1.0, 1.0), pair)
    assert difference.stderr < 0.3 * pair[0].stderr  # the shared noise is gone,
    alone = [qp.Estimate(x.mean, x.stderr) for x in pair]
    assert np.isclose(
        combine((-1.0, 1.0), alone).stderr, np.hypot(*(x.stderr for x in pair))
    )  # but not without replicas
    both = qp.Estimate.jackknife(np.array([1.0, 3.0]), np.hstack(replicas))
    assert np.isclose(both.weighted_sum(np.array([-1.0, 1.0])).stderr, difference.stderr[0])
    assert np.isclose(float(both.weighted_sum(np.array([-1.0, 1.0]))), 2.0)


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (np.random.default_rng(0), TypeError, "integer seed or a SeedSequence, but is Generator"),
        (1.5, TypeError, "but is float"),
        (True, TypeError, "but is bool"),
        (-1, ValueError, "must not be negative, but is -1"),
    ],
)
def test_bad_seeds_are_refused(key, error, message):
    with pytest.raises(error, match=message):
        qp.ep_gradient(*PROBLEM, solver=Noisy(), key=key)


def test_branches_depend_on_their_path_alone():
    root = seed_sequence(11)
    states = [tuple(branch(root, *path).generate_state(2)) for path in ((0,), (1,), (0, 1), (1, 0), ())]
    assert len(set(states)) == 5
    assert states[2] == tuple(branch(branch(root, 0), 1).generate_state(2))
    assert branch(None, 3) is None
