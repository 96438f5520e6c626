"""Ready-made tasks: they learn, beat their references by a margin, and repeat themselves to the bit."""

import dataclasses
import sys

import numpy as np
import pytest

import qeqprop as qp
from qeqprop import tasks
from qeqprop.core.scheme import Stencil


@pytest.fixture(scope="module")
def digits() -> tasks.TaskResult:
    pytest.importorskip("sklearn")
    return tasks.run_task("digits", seed=1, epochs=4, progress=False)


def test_digits_beat_random_couplings(digits: tasks.TaskResult):
    assert digits.trained > 0.9
    assert digits.frozen is not None
    assert digits.logistic is not None
    assert digits.trained > max(digits.frozen, digits.untrained) + 0.15
    assert digits.logistic > 0.95
    assert digits.history.loss[-5:].mean() < 0.5 * digits.history.loss[0]


def test_frozen_couplings_do_not_move(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("sklearn")
    trained = []
    monkeypatch.setattr(tasks, "fit", lambda *args, **options: trained.append(qp.fit(*args, **options)) or trained[-1])
    task = tasks.iris_task()
    tasks.run_task(task, seed=2, epochs=1, progress=False)
    start, (network, reference) = task.make_params(2), trained
    for name, value in start.items():
        assert not np.array_equal(network.params[name], value)
        assert np.array_equal(reference.params[name], value) == (name in task.couplings)


def test_outputs_belong_to_the_trained_network(digits: tasks.TaskResult):
    task = tasks.digits_task()
    samples = task.make_data(digits.seed)
    outputs = qp.predict(task.system, digits.history.params, task.nudge, samples.test_inputs)
    np.testing.assert_allclose(outputs, digits.outputs, atol=1e-9)
    np.testing.assert_array_equal(samples.test_targets, digits.targets)
    assert qp.accuracy(outputs, samples.test_targets) == digits.trained
    confusion = digits.confusion
    np.testing.assert_array_equal(confusion.sum(axis=1), (digits.targets > 0).sum(axis=0))
    assert np.trace(confusion) / confusion.sum() == digits.trained


@pytest.mark.parametrize("name", ["iris", "phases"])
def test_a_seed_gives_the_same_numbers_to_the_bit(name: str):
    pytest.importorskip("sklearn")
    task = tasks.make_task(name)
    task = dataclasses.replace(task, make_data=lambda seed: _first(tasks.make_task(name).make_data(seed), 80))
    first, again = (tasks.run_task(task, seed=5, epochs=1, references=False, progress=False) for _ in range(2))
    other = tasks.run_task(task, seed=6, epochs=1, references=False, progress=False)
    for parameter, value in first.history.params.items():
        np.testing.assert_array_equal(value, again.history.params[parameter])
        assert not np.array_equal(value, other.history.params[parameter])
    np.testing.assert_array_equal(first.history.loss, again.history.loss)
    np.testing.assert_array_equal(first.outputs, again.outputs)


def _first(samples: qp.data.Dataset, size: int) -> qp.data.Dataset:
    return samples._replace(train_inputs=samples.train_inputs[:size], train_targets=samples.train_targets[:size])


def test_phase_sensor_lowers_its_loss():
    task = tasks.phases_task(6)
    small = dataclasses.replace(task, make_data=lambda seed: qp.data.phases(400, n_test=60, seed=seed))
    result = tasks.run_task(small, seed=0, epochs=2, references=False, progress=False)
    assert result.history.loss[-15:].mean() < 0.6 * result.history.loss[:5].mean()
    assert result.trained > 0.7
    assert result.trained > result.untrained + 0.2
    assert result.frozen is None
    assert result.logistic is None


@pytest.mark.parametrize("name", list(tasks.TASKS))
def test_every_task_is_consistent(name: str):
    if name != "phases":
        pytest.importorskip("sklearn")
    task = tasks.make_task(name)
    samples, params = task.make_data(0), task.make_params(0)
    assert samples.train_inputs.shape[1:] == task.system.input_shape
    assert samples.train_targets.shape[1] == len(task.nudge.observables) == len(samples.labels)
    assert {key: value.shape for key, value in params.items()} == task.system.param_shapes
    assert task.n_params == sum(value.size for value in params.values())
    assert set(task.couplings) < set(params)
    assert isinstance(task.scheme, Stencil)
    assert sorted(task.scheme.strengths) == [-task.scheme.max_strength, 0.0, task.scheme.max_strength]
    # the gradient that trains is that of the loss
    few = samples.train_inputs[:6], samples.train_targets[:6]
    ours = qp.ep_gradient(task.system, params, task.nudge, few[1], inputs=few[0], scheme=task.scheme, throw=False)
    exact = qp.linear_response(task.system, params, task.nudge, few[1], inputs=few[0])
    for key in params:
        scale = np.linalg.norm(exact.grad[key])
        assert scale > 1e-6
        assert np.linalg.norm(ours.grad[key] - exact.grad[key]) < 1e-3 * scale


@pytest.mark.parametrize(
    ("make", "n_sites", "n_params"),
    [
        (lambda: tasks.digits_task(), 9, 36 + 18),
        (lambda: tasks.digits_task(11), 11, 55 + 22),
        (lambda: tasks.digits10_task(), 10, 45 + 20 + 400),
        (lambda: tasks.iris_task(5), 5, 10 + 10 + 20),
        (lambda: tasks.phases_task(), 8, 51),
        (lambda: tasks.phases_task(coupling="Z"), 8, 27),
    ],
)
def test_sizes(make, n_sites: int, n_params: int):
    task = make()
    assert task.system.n_sites == n_sites
    assert task.n_params == n_params
    assert max(observable.max_site for observable in task.nudge.observables) == n_sites - 1


def test_a_result_survives_the_disk(digits: tasks.TaskResult, tmp_path):
    loaded = qp.load(qp.save(tmp_path / "digits", digits.to_dict()))
    assert loaded["task"] == "digits"
    assert loaded["trained"] == digits.trained
    np.testing.assert_array_equal(loaded["outputs"], digits.outputs)
    np.testing.assert_array_equal(loaded["history"].params["J"], digits.history.params["J"])


def test_a_result_prints_its_references(digits: tasks.TaskResult):
    text = repr(digits)
    for words in (
        "equilibrium propagation",
        "untrained",
        "fields trained",
        "logistic",
        f"{100 * digits.trained:.1f} %",
    ):
        assert words in text
    bare = dataclasses.replace(digits, frozen=None, logistic=None)
    assert "logistic" not in repr(bare)


def test_errors_are_told():
    with pytest.raises(ValueError, match="must be one of digits, digits10, iris, phases, but is 'chess'"):
        tasks.run_task("chess")
    with pytest.raises(ValueError, match="`epochs` must be at least 1"):
        tasks.run_task("phases", epochs=0)
    with pytest.raises(ValueError, match="`n_sites` must be at least 10"):
        tasks.digits10_task(9)


def test_missing_scikit_learn_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ImportError, match="logistic regression needs scikit-learn"):
        tasks.logistic_accuracy(qp.data.phases(30, n_test=3))
