"""Training curves show the numbers they were given."""

import numpy as np

from qeqprop import plot
from qeqprop.core.history import History

from .figures import curve


def history(seed: int, *, epochs: int = 5, steps: int = 4, measured: bool = True) -> History:
    rng = np.random.default_rng(seed)
    loss, held_out = rng.random(epochs * steps), rng.random(epochs)
    none = np.empty(0)
    validation, metric = (held_out, 1 - held_out) if measured else (none, none)
    return History({}, {}, loss, loss, validation, metric, 0, {"ok": loss.size}, False, seed, 1.0)


def test_training_curves_of_one_run():
    run = history(0)
    ax = plot.training_curves(run, plot.new_axes(), references={"base line": 0.25}, held_out="test")
    np.testing.assert_allclose(curve(ax, "training loss")[1], run.loss.reshape(5, 4).mean(axis=1))
    np.testing.assert_array_equal(curve(ax, "test loss")[1], run.validation_loss)
    right = next(other for other in ax.figure.axes if other is not ax)
    np.testing.assert_array_equal(curve(right, "accuracy")[1], run.metric)
    assert set(curve(right, "base line: 0.25")[1]) == {0.25}
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert shown == ["training loss", "test loss", "accuracy", "base line: 0.25"]


def test_training_curves_of_several_seeds_are_a_median_in_a_band():
    runs = [history(seed) for seed in range(3)]
    ax = plot.training_curves(runs, plot.new_axes())
    values = np.array([run.validation_loss for run in runs])
    np.testing.assert_allclose(curve(ax, "validation loss")[1], np.median(values, axis=0))
    band = ax.collections[1].get_paths()[0].vertices
    assert band[:, 1].min() == values.min()
    assert band[:, 1].max() == values.max()


def test_training_curves_without_held_out_data_go_by_steps():
    run = history(0, measured=False)
    ax = run.plot()
    np.testing.assert_array_equal(curve(ax, "training loss")[1], run.loss)
    assert ax.get_xlabel() == "step"
    assert len(ax.figure.axes) == 1


def test_runs_of_different_length_are_cut_to_the_shortest():
    ax = plot.training_curves([history(0, epochs=3), history(1, epochs=5)], plot.new_axes())
    assert curve(ax, "validation loss")[0].tolist() == [1, 2, 3]
