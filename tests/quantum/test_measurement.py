"""The measuring solver: outputs, batches, counts, default scheme, training, saving."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import MeasuredOscillators, MeasuredState, preparations

from .measured import COST, EXACT, NET, PARAMS, SPRING_PARAMS, SPRINGS, assert_standard_normal, flat

# --- outputs ----------------------------------------------------------------------------------------------------------


def test_measured_outputs_add_noise_that_repetitions_see():
    """Far from the target the forces' noise at a given signal is all; with few shots the signal's own noise counts."""
    cost, target = qp.ExpectationCost([qp.Z(1), qp.Z(2)]), np.array([0.35, 0.45])
    problem, scheme = (NET, PARAMS, cost, target), qp.centered(0.3)
    exact = flat(qp.ep_gradient(*problem, scheme=qp.centered(1e-3)).grad)
    solver = qp.Measured(EXACT, shots=60)
    outs = [qp.ep_gradient(*problem, solver=solver, scheme=scheme, key=k, throw=False) for k in range(150)]
    spread, single = (
        np.std([flat(out.grad) for out in outs], axis=0),
        np.mean([flat(out.stderr) for out in outs], axis=0),
    )
    assert np.abs(exact).max() > 0.2
    mean = np.mean([flat(out.grad) for out in outs], axis=0)
    assert np.all(np.abs(mean - exact) < 4.5 * spread / np.sqrt(150) + 0.03 * np.abs(exact).max())  # no bias
    repeated = qp.repeated_gradient(*problem, solver=solver, scheme=scheme, key=1, repetitions=100, throw=False)
    assert np.allclose(flat(repeated.stderr) * 10 / spread, 1, atol=0.3)
    assert np.sqrt(np.mean(spread**2) / np.mean(single**2)) > 1.05


def test_exact_outputs_leave_the_noise_of_the_forces():
    cost, target = qp.ExpectationCost([qp.Z(1), qp.Z(2)]), np.array([-0.2, 0.9])
    solver, scheme = qp.Measured(EXACT, shots=50, outputs="exact"), qp.centered(0.2)
    exact = qp.ep_gradient(NET, PARAMS, cost, target, scheme=scheme, throw=False)
    outs = [
        qp.ep_gradient(NET, PARAMS, cost, target, solver=solver, scheme=scheme, key=k, throw=False) for k in range(60)
    ]
    assert all(np.isclose(out.nudge_ratio, exact.nudge_ratio) for out in outs)  # one and the same signal
    assert outs[0].loss.stderr > 0  # the loss itself is read off the shots
    assert_standard_normal(
        np.array([(flat(out.grad) - flat(exact.grad)) / flat(out.stderr) for out in outs]), effective=60 * 3
    )


def test_repetitions_need_noise_and_number():
    with pytest.raises(ValueError, match="must draw random numbers to be repeated"):
        qp.repeated_gradient(NET, PARAMS, COST, solver=EXACT)
    with pytest.raises(ValueError, match="`repetitions` must be at least 2"):
        qp.repeated_gradient(NET, PARAMS, COST, solver=qp.Measured(EXACT), repetitions=1)


# --- the solver -------------------------------------------------------------------------------------------------------


def test_batches_are_one_call_and_their_samples_independent():
    inputs, targets = np.array([[0.0], [0.4], [-0.3]]), np.zeros((3, 1))
    cost, solver = qp.ExpectationCost([qp.Z(1)]), qp.Measured(EXACT, shots=200)
    out = qp.ep_gradient(NET, PARAMS, cost, targets, inputs=inputs, solver=solver, scheme=qp.centered(0.1), key=0)
    assert out.free.state.outcomes.shape == (2, 3, 200)
    assert preparations(out).total == 3 * 2 * 200 * 3
    assert preparations(out).used == 2 * 2 * 200 * 3
    exact = qp.ep_gradient(NET, PARAMS, cost, targets, inputs=inputs, scheme=qp.centered(0.1))
    assert np.all(np.abs(flat(out.grad) - flat(exact.grad)) < 5 * flat(out.stderr))
    gibbs = qp.ep_gradient(
        NET,
        PARAMS,
        cost,
        targets,
        inputs=inputs,
        solver=qp.Measured(qp.GibbsState(1.0), 200),
        scheme=qp.centered(0.1),
        key=0,
    )  # sample by sample
    assert preparations(gibbs).total == 3 * 2 * 200 * 3
    with pytest.raises(ValueError, match="must come from ep_gradient"):
        preparations(exact)


def test_one_sided_counts_its_free_phase():
    out = qp.ep_gradient(NET, PARAMS, COST, solver=qp.Measured(EXACT, 50), scheme=qp.one_sided(0.1), key=0)
    count = preparations(out)
    assert [phase.used for phase in count.phases] == [True, False, True]
    assert (count.total, count.used) == (300, 200)
    assert "Preparations  300 in all, 200 of them" in repr(count)


def test_default_scheme_follows_the_shots():
    free = EXACT.solve(NET, PARAMS)
    few, many, most = (
        qp.Measured(EXACT, m).default_scheme(free, COST.term(free.state)) for m in (100, 10**6, 64 * 10**6)
    )
    assert np.isclose(few.max_strength, 0.09 * free.gap)  # as far as no warning is due
    assert np.isclose(many.max_strength / most.max_strength, 2.0)
    assert (
        qp.ep_gradient(NET, PARAMS, COST, solver=qp.Measured(EXACT, 100), key=0).scheme.max_strength > 0.08 * free.gap
    )


def test_training_with_shots_repeats_to_the_bit():
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(6, 1)), rng.normal(size=(6, 1)) / 3)
    options = {"solver": qp.Measured(EXACT, 100), "scheme": qp.centered(0.2), "epochs": 2, "batch_size": 3}
    first, second, other = (
        qp.fit(NET, PARAMS, qp.ExpectationCost([qp.Z(1)]), data, seed=seed, progress=False, **options)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first.params["J"], second.params["J"])
    assert not np.array_equal(first.params["J"], other.params["J"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shots": 1}, ValueError, "`shots` must be at least 2"),
        ({"shots": 10.5}, TypeError, "`shots` must be an integer"),
        ({"outputs": "noisy"}, ValueError, "must be 'measured' or 'exact', but is 'noisy'"),
        ({"solver": qp.Measured(EXACT)}, TypeError, "must be a solver that prepares states"),
        ({"solver": "exact"}, TypeError, "must be a solver that prepares states"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        qp.Measured(**({"solver": EXACT} | options))


def test_capabilities_and_memory_are_checked_before_work():
    solver = qp.Measured(EXACT)
    with pytest.raises(ValueError, match="Measured has no linear response"):
        qp.linear_response(NET, PARAMS, COST, solver=solver)
    with pytest.raises(ValueError, match="Measured cannot follow complex nudges"):
        qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=qp.holomorphic(0.1))
    with pytest.raises(MemoryError, match="Use fewer shots"):
        qp.equilibrate(NET, PARAMS, solver=qp.Measured(EXACT, shots=10**13), key=0)


def test_results_print_and_come_back(tmp_path):
    solver = qp.Measured(EXACT, 40, bases=["ZZZ", "XXX"], readout_error=0.01, outputs="exact")
    assert repr(solver) == (
        "Measured(ExactDiagonalization(tolerance=1e-10), shots=40, bases=('ZZZ', 'XXX'), readout_error mitigated, "
        "outputs='exact')"
    )
    out = qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=qp.centered(0.1), key=0)
    again = qp.load(qp.save(tmp_path / "out", out))
    assert isinstance(again.free.state, MeasuredState)
    assert repr(again.solver) == repr(solver)
    assert np.array_equal(again.free.state.outcomes, out.free.state.outcomes)
    assert again.free.state.expect(qp.Z(0)).mean == out.free.state.expect(qp.Z(0)).mean
    moving = qp.equilibrate(SPRINGS, SPRING_PARAMS, solver=qp.Measured(qp.GaussianGroundState(), 20), key=0).state
    back = qp.load(qp.save(tmp_path / "oscillators", moving))
    assert isinstance(back, MeasuredOscillators)
    assert back.expect(qp.R(0)).mean == moving.expect(qp.R(0)).mean
