"""Variational Monte Carlo: relaxation, and the schemes with full sums and with samples."""

import netket as nk
import numpy as np
import pytest
from flax import linen as nn

import qeqprop as qp
from qeqprop.core.nudge import WeightedObservables
from qeqprop.core.status import Status
from qeqprop.core.system import replaced
from qeqprop.quantum.vmc_energy import Hamiltonian, moments, reflected_variance
from qeqprop.quantum.vmc_operator import spin_operator
from qeqprop.quantum.vmc_state import VariationalState, blocks

N = 5
EDGES = [(i, i + 1) for i in range(N - 1)]
NET = qp.TransverseFieldIsing(N, EDGES)
PARAMS = {
    "J": np.array([1.0, 0.8, 1.2, 0.9]),
    "h": np.array([0.4, 0.5, 0.3, 0.6, 0.5]),
    "g": np.array([1.0, 1.1, 0.9, 1.2, 1.0]),
}
COST = qp.ObservableCost(qp.Z(2))
SAMPLED = qp.VariationalMonteCarlo(n_samples=512, n_chains=32)


class MeanField(nn.Module):
    """log psi = a.s: a product state, the poorest ansatz."""

    @nn.compact
    def __call__(self, s):
        return s @ self.param("a", nn.initializers.normal(0.1), (s.shape[-1],), float)


def flat(tree):
    return np.concatenate([np.ravel(value) for value in tree.values()])


def shifted(params, name, index, step):
    value = params[name].copy()
    value[index] += step
    return {**params, name: value}


@pytest.fixture(scope="module")
def free():
    """The free phase that the sampled tests share."""
    return qp.equilibrate(NET, PARAMS, solver=SAMPLED, key=3)


# full sums: the exact oracle


def test_full_sum_energy_agrees_with_exact_diagonalization_in_any_gauge():
    sites = range(3)
    frustrating = {"J": [-qp.Z(i) * qp.Z(i + 1) for i in range(2)], "h": [-qp.Z(0)], "g": [qp.X(i) for i in sites]}
    net = qp.SpinNetwork(3, frustrating)  # + g X: a gauge is needed
    params = {"J": np.array([1.0, 0.7]), "h": np.array([0.5]), "g": np.array([1.0, 0.8, 1.2])}
    exact = qp.equilibrate(net, params)
    ground = qp.equilibrate(net, params, solver=qp.VariationalMonteCarlo(full_sum=True), key=0)
    assert ground.state.gauge.tolist() == [-1, -1, -1]
    assert abs(float(ground.energy) - float(exact.energy)) < 1e-7
    for observable in (qp.X(1), qp.Z(2), qp.Y(0) * qp.Y(1)):
        assert abs(float(ground.state.expect(observable)) - float(exact.state.expect(observable))) < 1e-5
    assert float(exact.state.expect(qp.X(1))) < -0.5


def test_full_sum_gradient_is_that_of_the_variational_loss_however_poor_the_ansatz():
    solver = qp.VariationalMonteCarlo(full_sum=True, model=MeanField(), v_score=1.0)
    out = qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=qp.richardson(0.05), key=0)

    def loss(params):
        phase = solver.solve(NET, params, init=out.free)
        return float(COST.cost(phase.state))

    exact = qp.linear_response(NET, PARAMS, COST)
    for name, index in (("J", 1), ("h", 2), ("g", 3)):
        quotient = (loss(shifted(PARAMS, name, index, 1e-4)) - loss(shifted(PARAMS, name, index, -1e-4))) / 2e-4
        assert abs(out.grad[name][index] - quotient) < 1e-6
        assert abs(quotient) > 0.01
        assert abs(quotient - exact.grad[name][index]) > 1e-3, "a product state is not exact: the test compares nothing"


def test_linear_response_of_a_full_sum_is_the_gradient_of_its_own_loss():
    """A restricted Boltzmann machine that is not exact, against finite differences of its relaxed loss."""
    edges = [(i, j) for i in range(4) for j in range(i)]
    net, rng = qp.TransverseFieldIsing(4, edges), np.random.default_rng(2)
    params = {"J": rng.normal(size=6) / 2, "h": rng.normal(size=4) / 2, "g": rng.uniform(0.7, 1.3, 4)}
    model = nk.models.RBM(alpha=1, param_dtype=float)
    solver = qp.VariationalMonteCarlo(full_sum=True, model=model, v_score=1e-3)
    out = qp.ep_gradient(net, params, COST, solver=solver, key=0)
    assert out.status is Status.OK

    def loss(moved):
        return float(COST.cost(solver.solve(net, moved, init=out.free).state))

    step, exact = 1e-3, qp.linear_response(net, params, COST)
    for name, index in (("J", 1), ("h", 2), ("g", 3)):
        by = [loss(shifted(params, name, index, k * step)) for k in (-2, -1, 1, 2)]
        assert abs(out.grad[name][index] - (by[0] - 8 * by[1] + 8 * by[2] - by[3]) / (12 * step)) < 1e-6
        assert abs(out.grad[name][index]) > 0.01
    relative = np.linalg.norm(flat(out.grad) - flat(exact.grad)) / np.linalg.norm(flat(exact.grad))
    assert relative < 2e-3


def test_a_finite_nudge_gives_the_exact_gradient_of_the_finite_nudge_loss():
    solver, beta = qp.VariationalMonteCarlo(full_sum=True, model=MeanField(), v_score=1.0), 0.5
    out = qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=qp.centered(beta), key=0, throw=False)
    term = COST.term(out.free.state)

    def quotient(params):
        plus, minus = (float(solver.solve(NET.nudged(term, b), params, init=out.free).energy) for b in (beta, -beta))
        return (plus - minus) / (2 * beta)

    step = 1e-4
    for name, index in (("J", 1), ("g", 3)):
        slope = quotient(shifted(PARAMS, name, index, step)) - quotient(shifted(PARAMS, name, index, -step))
        assert abs(out.grad[name][index] - slope / (2 * step)) < 1e-6


# samples


def test_the_sampled_energy_is_right_within_its_error(free):
    exact = float(qp.equilibrate(NET, PARAMS).energy)
    assert free.status is Status.OK
    assert free.stats["v_score"] < 5e-4
    variational = free.stats["v_score"] * exact**2 / N  # what the ansatz may lie above the ground state, generously
    assert -4 * free.energy.stderr < float(free.energy) - exact < 4 * free.energy.stderr + variational
    assert 0 < free.energy.stderr < 0.01


def test_expectation_values_have_true_errors(free):
    """Against the full sum over the same wave function, in fresh draws: z-scores neither large nor small."""
    full = nk.vqs.FullSumState(free.state.vstate.hilbert, free.state.vstate.model, variables=free.state.variables)
    oracle = VariationalState(N, full, free.state.gauge, full.hilbert.all_states()[None])
    observables = [p(i) for i in range(N) for p in (qp.X, qp.Z)] + [qp.Z(i) * qp.Z(i + 1) for i in range(N - 1)]
    exact = oracle.expect_all(observables)
    draws = [SAMPLED.solve(NET, PARAMS, init=free, key=np.random.SeedSequence(seed)).state for seed in range(12)]
    z = np.array(
        [(sampled.mean - exact.mean) / sampled.stderr for sampled in (d.expect_all(observables) for d in draws)]
    )
    assert 0.45 < np.median(np.abs(z)) < 1.0  # 0.67 of a normal distribution; 512 samples miss what is rare: tails
    assert np.all(exact.stderr == 0)
    sampled, statistics = free.state.expect_all(observables), free.state.statistics(qp.Z(0))
    plain = replaced(free.state, controls=None).expect(qp.Z(0))  # NetKet knows no controls
    assert abs(float(np.real(statistics.mean)) - float(plain)) < 1e-12
    assert sampled.stderr[1] < plain.stderr / 2
    assert free.stats["expectations"] == "zero variance"


def test_warm_restarts_start_where_they_are(free):
    again = qp.equilibrate(NET, PARAMS, solver=SAMPLED, init=free, key=5)
    assert again.stats["steps"] <= 1.5 * free.stats["steps"]  # those that it had before count
    assert float(again.energy) != float(free.energy)  # other samples
    moved = qp.equilibrate(NET, {**PARAMS, "g": 1.02 * PARAMS["g"]}, solver=SAMPLED, init=free, key=5)
    exact = float(qp.equilibrate(NET, {**PARAMS, "g": 1.02 * PARAMS["g"]}).energy)
    assert abs(float(moved.energy) - exact) < 5 * moved.energy.stderr + 1e-3


def test_what_was_relaxed_is_not_relaxed_again():
    """Where the target is out of reach: a gradient of an equilibrium takes it as it is, and no `max_steps` more."""
    taken = []

    def solver(max_steps):
        return qp.VariationalMonteCarlo(
            n_samples=512, n_chains=32, v_score=1e-12, max_steps=max_steps, polish_steps=0,
            callbacks=[lambda *_: not taken.append(1)],
        )  # fmt: skip

    free = qp.equilibrate(NET, PARAMS, solver=solver(5), key=3, throw=False)
    assert (len(taken), free.stats["steps"], free.stats["settled"]) == (5, 5, False)
    assert free.stats["v_score"] > 1e-5
    out = qp.ep_gradient(NET, PARAMS, COST, solver=solver(5), init=free, key=3, throw=False)
    assert (len(taken), out.free.stats["steps"]) == (5, 5)
    assert float(out.free.energy) != float(free.energy)  # other samples of the same state
    longer = qp.equilibrate(NET, PARAMS, solver=solver(8), init=free, key=3, throw=False)
    assert (len(taken), longer.stats["steps"]) == (8, 8)
    moved = qp.equilibrate(NET, {**PARAMS, "g": 1.02 * PARAMS["g"]}, solver=solver(5), init=free, key=3, throw=False)
    assert (len(taken), moved.stats["steps"]) == (13, 5)


def test_the_same_key_gives_the_same_numbers(free):
    again = qp.equilibrate(NET, PARAMS, solver=SAMPLED, key=3)
    assert float(again.energy) == float(free.energy)


def test_common_samples_give_a_gradient_with_true_errors(free):
    exact = flat(qp.ep_gradient(NET, PARAMS, COST, scheme=qp.centered(0.05)).grad)
    out = qp.ep_gradient(NET, PARAMS, COST, solver=SAMPLED, scheme=qp.centered(0.05), init=free, key=3)
    grad, stderr = flat(out.grad), flat(out.stderr)
    assert np.linalg.norm(grad - exact) < 0.4 * np.linalg.norm(exact)
    z = (grad - exact) / stderr
    assert np.all(np.abs(z) < 4.5)
    assert np.sqrt(np.mean(z**2)) > 0.2
    assert out.nudged[0][1].stats["effective"] > 0.99 * 512
    # one phase alone is noisier by far than the difference: the noise is common
    alone = out.nudged[0][1].state.expect(qp.Z(2)).stderr / 0.05
    assert np.linalg.norm(stderr) < 0.5 * alone * np.sqrt(len(stderr))


def test_without_a_nudge_the_fitted_state_stays_where_it_is(free):
    """The force that noise has left in the free state is balanced: it would be amplified by 1/beta."""
    term = COST.term(free.state)
    phase = SAMPLED.solve(NET.nudged(term, 1e-9), PARAMS, init=free)
    assert abs(float(phase.state.expect(qp.Z(2))) - float(free.state.expect(qp.Z(2)))) < 1e-7
    assert phase.state.expect(qp.Z(2)).replicas == pytest.approx(free.state.expect(qp.Z(2)).replicas, abs=1e-7)


def test_independent_phases_have_the_noise_of_their_averages(free):
    solver = qp.VariationalMonteCarlo(n_samples=512, n_chains=32, correlated=False)
    out = qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=qp.centered(0.5), init=free, key=3, throw=False)
    exact = flat(qp.ep_gradient(NET, PARAMS, COST, scheme=qp.centered(0.5), throw=False).grad)
    z = (flat(out.grad) - exact) / flat(out.stderr)
    assert np.all(np.abs(z) < 5)
    assert [phase.stats["steps"] >= 50 for _, phase in out.nudged] == [True, True]


def test_saved_states_load_and_continue_with_the_same_numbers(free, tmp_path):
    loaded = qp.load(qp.save(tmp_path / "free", free))
    assert repr(loaded.state) == repr(free.state)
    observable = qp.Z(0) * qp.Z(1)
    assert float(loaded.state.expect(observable)) == float(free.state.expect(observable))
    moved = {**PARAMS, "g": 1.02 * PARAMS["g"]}
    here, there = (qp.equilibrate(NET, moved, solver=SAMPLED, init=start, key=5) for start in (free, loaded))
    assert float(here.energy) == float(there.energy)


def test_only_our_own_models_are_saved(tmp_path):
    solver = qp.VariationalMonteCarlo(full_sum=True, model=MeanField(), v_score=1.0)
    ground = qp.equilibrate(NET, PARAMS, solver=solver, key=0)
    with pytest.raises(TypeError, match="of a MeanField cannot be saved"):
        qp.save(tmp_path / "x", ground)
    assert list(tmp_path.iterdir()) == []


def test_several_processes_do_not_save(free, tmp_path, monkeypatch):
    import jax

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(RuntimeError, match="cannot be saved from 2 processes joined by"):
        qp.save(tmp_path / "free", free)


def test_an_inaccurate_gradient_warns_with_its_reason():
    poor = qp.VariationalMonteCarlo(n_samples=512, n_chains=32, model=MeanField(), v_score=1.0)
    with pytest.warns(qp.AccuracyWarning, match="V-score .* enlarge the ansatz"):
        out = qp.ep_gradient(NET, PARAMS, COST, solver=poor, key=1)
    assert out.status is Status.INACCURATE


# collapse and failure


def test_a_state_that_collapsed_to_a_configuration_is_seen_from_its_neighbours(free):
    vstate = nk.vqs.MCState(free.state.vstate.sampler, MeanField(), n_samples=512, seed=0, sampler_seed=1)
    vstate.variables = {"params": {"a": np.full(N, 9.0)}}
    vstate.sample(chain_length=50)
    vstate.sample()
    state = VariationalState(N, vstate, np.ones(N), vstate.samples)
    table = spin_operator(NET.operators(), N)
    h = Hamiltonian(table, table.coefficients(NET.strengths(PARAMS)), 0.0)
    seen = moments(h, state)
    assert seen.stderr < 1e-6
    assert h.v_score(seen.energy, seen.variance) < 1e-6, "nothing collapsed"
    hidden = reflected_variance(h, state, seen.energy, np.random.default_rng(0))
    assert h.v_score(seen.energy, hidden) > 1e-2
    solver = qp.VariationalMonteCarlo(state=vstate, max_steps=0)
    assert qp.equilibrate(NET, PARAMS, solver=solver, key=0, throw=False).status is Status.UNCONVERGED


def test_the_reflected_variance_of_a_healthy_state_is_its_variance(free):
    table = spin_operator(NET.operators(), N)
    h = Hamiltonian(table, table.coefficients(NET.strengths(PARAMS)), 0.0)
    hidden = reflected_variance(h, free.state, float(free.energy), np.random.default_rng(0))
    assert 0.2 < hidden / free.stats["energy_variance"] < 10


def test_a_poor_ansatz_is_unconverged_and_refused():
    solver = qp.VariationalMonteCarlo(full_sum=True, model=MeanField())
    with pytest.raises(qp.EquilibriumError, match="unconverged"):
        qp.equilibrate(NET, PARAMS, solver=solver, key=0)


def test_nan_is_not_finite():
    vstate = nk.vqs.FullSumState(nk.hilbert.Spin(0.5, N), MeanField(), seed=0)
    vstate.variables = {"params": {"a": np.full(N, np.nan)}}
    solver = qp.VariationalMonteCarlo(state=vstate, max_steps=5)
    assert qp.equilibrate(NET, PARAMS, solver=solver, key=0, throw=False).status is Status.NOT_FINITE


def test_a_response_is_linear_in_the_cost(free):
    """Error signals with replicas are answered output by output; replicas that agree change nothing."""
    observables, weights = (qp.Z(1) * qp.Z(2), qp.Z(4) + 0.5 * qp.X(0)), np.array([0.7, -1.3])
    at_once, by_output = (
        SAMPLED.respond(NET, PARAMS, free, WeightedObservables(observables, weights, replicas), tolerance=1e-8)
        for replicas in (None, np.tile(weights, (64, 1)))
    )
    for name in PARAMS:
        for found, wanted in zip(
            *((r.grad.mean, r.grad.stderr, r.truncation) for r in (by_output, at_once)), strict=True
        ):
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-8, atol=1e-12)
    assert np.linalg.norm(at_once.grad.mean["h"]) > 0.1


# arguments


def test_a_memory_budget_is_kept(free):
    """Relaxing and responding ask before they allocate; what they refuse names the sizes."""
    small = qp.VariationalMonteCarlo(n_samples=512, n_chains=32, memory=100_000)
    with pytest.raises(MemoryError, match=r"Relaxing 45 parameters on 512 samples needs .* only 87.9 KiB may be used"):
        qp.equilibrate(NET, PARAMS, solver=small, key=0)
    term = COST.term(free.state)
    with pytest.raises(MemoryError, match="The response from 512 samples of an ansatz with 45 parameters needs"):
        small.respond(NET, PARAMS, free, term, tolerance=1e-8)
    enough = qp.VariationalMonteCarlo(n_samples=512, n_chains=32, memory=10_000_000)
    out, same = (solver.respond(NET, PARAMS, free, term, tolerance=1e-8) for solver in (enough, SAMPLED))
    np.testing.assert_allclose(flat(out.grad.mean), flat(same.grad.mean), rtol=1e-8)


def test_new_parameters_compile_nothing(free):
    """Relaxation, energies, response: couplings are arguments, as JAX's own reports of compilations tell."""
    import jax

    compiled = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.jit(lambda x: x * 3.7 + 1)(1.0)
    assert compiled, "nobody listens"

    def gradient(scale):
        moved = {name: scale * value for name, value in PARAMS.items() if name != "g"} | {"g": PARAMS["g"]}
        return qp.ep_gradient(NET, moved, COST, solver=SAMPLED, init=free, key=1, throw=False)

    first = gradient(1.01)
    compiled.clear()
    second = gradient(0.97)
    assert first.grad["J"][0] != second.grad["J"][0]
    assert second.free.stats["polish_steps"] > 0, "nothing was relaxed"
    assert not compiled


def test_bad_systems_and_states_are_refused(free):
    solver = qp.VariationalMonteCarlo(full_sum=True)
    with pytest.raises(TypeError, match="solves spin networks"):
        qp.equilibrate(qp.HarmonicNetwork(2, [(0, 1)]), qp.HarmonicNetwork(2, [(0, 1)]).init_params(0), solver=solver)
    with pytest.raises(ValueError, match="is diagonal"):
        qp.equilibrate(NET, {**PARAMS, "g": np.zeros(N)}, solver=solver)
    big = qp.TransverseFieldIsing(21, [(0, 1)])
    with pytest.raises(ValueError, match="must be False above 20 spins"):
        qp.equilibrate(big, big.init_params(0), solver=solver)
    wrong = qp.VariationalMonteCarlo(full_sum=True, model=nk.models.RBM(param_dtype=complex))
    with pytest.raises(TypeError, match="must give a real log psi"):
        qp.equilibrate(NET, PARAMS, solver=wrong)
    two = qp.TransverseFieldIsing(2, [(0, 1)])
    with pytest.raises(ValueError, match="must be a state of 2 sites, but has 5"):
        qp.equilibrate(two, two.init_params(0), solver=SAMPLED, init=free)
    with pytest.raises(TypeError, match="measured with Pauli sums"):
        free.state.expect(qp.R(0))


def test_blocks_are_whole_chains_or_pieces_of_them():
    assert np.unique(blocks(64, 3)).tolist() == list(range(32))
    assert (np.diff(blocks(64, 3).reshape(64, 3), axis=1) == 0).all()
    assert np.unique(blocks(2, 40)).tolist() == list(range(32))
    assert blocks(1, 5).tolist() == list(range(5))
