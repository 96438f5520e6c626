"""Training with variational Monte Carlo: states are carried from step to step, also through a checkpoint."""

import numpy as np
import optax
import pytest

import qeqprop as qp

NET = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)])
PARAMS = {"J": np.array([1.0, 0.7]), "h": np.array([0.3, 0.2, 0.1]), "g": np.array([1.0, 1.2, 0.8])}
COST = qp.ObservableCost(qp.Z(0) * qp.Z(2))


def train(epochs, folder=None, **options):
    solver = qp.VariationalMonteCarlo(n_samples=256, n_chains=32, v_score=1e-3, progress=False)
    seen = []
    history = qp.fit(
        NET, PARAMS, COST, solver=solver, optimizer=optax.adam(0.02), epochs=epochs, seed=4, progress=False,
        tolerate=qp.Status.INACCURATE, checkpoint=folder, callback=lambda step, out, params: seen.append(out.free), **options,
    )  # fmt: skip
    return history, seen


@pytest.fixture(scope="module")
def whole():
    return train(4)


def test_later_steps_start_from_the_state_of_the_step_before(whole):
    history, seen = whole
    first, *later = (int(free.stats["steps"]) for free in seen)
    assert first >= 10
    assert sum(later) < 2 * first, "three cold starts would take three times as many"
    exact = qp.ep_gradient(NET, history.params, COST)
    assert abs(float(exact.loss) - history.loss[-1]) < 0.15  # 256 samples, and one step further


def test_a_resumed_training_goes_on_with_the_state_to_the_bit(tmp_path, whole):
    train(2, tmp_path)
    kept = qp.load(tmp_path / "checkpoint.npz")["free"]
    np.testing.assert_array_equal(kept.state.vstate.samples, whole[1][1].state.vstate.samples)
    resumed, seen = train(4, tmp_path, resume=True)
    assert len(seen) == 2
    np.testing.assert_array_equal(resumed.loss, whole[0].loss)
    for name in PARAMS:
        np.testing.assert_array_equal(resumed.params[name], whole[0].params[name])


def test_samples_of_a_batch_start_from_one_another(whole):
    net = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)], input_sites=[0])
    solver = qp.VariationalMonteCarlo(full_sum=True, v_score=1e-6, progress=False)
    inputs = np.array([[0.1], [0.12]])
    cold = qp.ep_gradient(net, PARAMS, COST, solver=solver, inputs=inputs, key=1)
    warm = qp.ep_gradient(net, PARAMS, COST, solver=solver, inputs=inputs, key=1, init=cold.free)
    assert warm.free.stats["steps"] < cold.free.stats["steps"]
    exact = qp.ep_gradient(net, PARAMS, COST, inputs=inputs)
    for out in (cold, warm):
        assert max(np.abs(out.grad[name] - exact.grad[name]).max() for name in PARAMS) < 1e-2
    with pytest.raises(ValueError, match="one sample at a time"):
        qp.ep_gradient(net, PARAMS, COST, inputs=inputs, solver=qp.quantum.MatrixProductGroundState(), init=whole[1][0])
