"""Checkpoints of trainings: killed and resumed, the numbers are those of an uninterrupted run, to the bit."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import optax
import pytest

import qeqprop as qp
from qeqprop.core import checkpoint

NET = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)], input_sites=[0])
PARAMS = {"J": np.array([0.7, -0.4]), "h": np.array([0.2, 0.1, -0.3]), "g": np.array([1.0, 0.8, 1.2])}
COST = qp.ExpectationCost([qp.Z(2)])
RNG = np.random.default_rng(5)
DATA = (RNG.normal(size=(10, 1)), RNG.uniform(-0.5, 0.5, size=(10, 1)))


def train(epochs, folder=None, **options):
    optimizer = options.pop("optimizer", optax.adam(0.03))
    settings = {"batch_size": 4, "progress": False, "seed": 3, "validation": DATA, "optimizer": optimizer} | options
    return qp.fit(NET, options.pop("params", PARAMS), COST, DATA, epochs=epochs, checkpoint=folder, **settings)


def assert_equal_to_the_bit(a, b):
    for name in ("loss", "grad_norm", "validation_loss"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in PARAMS:
        np.testing.assert_array_equal(a.params[name], b.params[name])
        np.testing.assert_array_equal(a.best_params[name], b.best_params[name])
    assert (a.best_epoch, a.status_counts, a.stopped_early) == (b.best_epoch, b.status_counts, b.stopped_early)


@pytest.fixture(scope="module")
def whole():
    return train(6)


def test_more_epochs_go_on_where_the_training_stopped(tmp_path, whole):
    assert whole.loss[0] != whole.loss[-1]
    train(2, tmp_path)
    assert_equal_to_the_bit(train(6, tmp_path, resume=True), whole)
    assert_equal_to_the_bit(train(6, tmp_path, resume=True), whole)  # nothing is left to do


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("steps", [1, 3, 4, 10])
def test_an_error_in_the_middle_of_an_epoch_loses_nothing(tmp_path, whole, steps):
    def stop(step, out, params):
        if step == steps:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(6, tmp_path, callback=stop)
    seen = []
    resumed = train(6, tmp_path, resume=True, callback=lambda step, out, params: seen.append(step))
    assert seen == list(range(steps + 1, 19))
    assert_equal_to_the_bit(resumed, whole)


def test_patience_is_remembered(tmp_path):
    options = {"optimizer": optax.sgd(-0.5), "patience": 2}  # uphill: the first epoch stays the best
    stopped = train(8, tmp_path, **options)
    assert stopped.stopped_early
    assert_equal_to_the_bit(train(8, tmp_path, resume=True, **options), stopped)


SCRIPT = textwrap.dedent("""
    import sys
    sys.path.insert(0, sys.argv[1])
    import test_checkpoint as t
    t.checkpoint.EVERY = 0.0
    t.train(40, sys.argv[2], resume=True)
""")


def test_a_killed_training_resumes_to_the_same_numbers(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(tmp_path)]
    file = tmp_path / "checkpoint.npz"
    for steps in (5, 17):
        process = subprocess.Popen(command)
        end = time.monotonic() + 60
        while not file.exists() or len(qp.load(file)["records"]["loss"]) < steps:
            assert time.monotonic() < end
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 17 <= len(qp.load(file)["records"]["loss"]) < 120
    assert_equal_to_the_bit(train(40, tmp_path, resume=True), train(40))


def test_checkpoints_are_not_overwritten_nor_mixed(tmp_path):
    train(1, tmp_path)
    with pytest.raises(FileExistsError, match="resume=True"):
        train(2, tmp_path)
    for changed, what in (
        ({"seed": 4}, "seed"),
        ({"batch_size": 5}, "batch_size"),
        ({"frozen": ("J",)}, "frozen"),
        ({"scheme": qp.centered(0.01)}, "scheme"),
    ):
        with pytest.raises(ValueError, match=f"another training, which differs in: {what}"):
            train(2, tmp_path, resume=True, **changed)
    with pytest.raises(ValueError, match="`optimizer`"):
        train(2, tmp_path, resume=True, optimizer=optax.sgd(0.1))
    file = tmp_path / "checkpoint.npz"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match="damaged"):
        train(2, tmp_path, resume=True)


def test_settings_that_the_optimizer_hides_can_be_named(tmp_path):
    train(1, tmp_path, identity={"learning_rate": 0.03})
    with pytest.raises(ValueError, match=r"differs in: learning_rate\. It has learning_rate = 0\.03"):
        train(2, tmp_path, resume=True, identity={"learning_rate": 0.1})


def test_writes_are_rare(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(checkpoint.Checkpoint, "keep", lambda self, content, *, now=False: written.append(now))
    train(2, tmp_path)
    assert written.count(True) == 2
