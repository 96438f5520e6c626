"""Pictures show the numbers they were given: what is drawn is read back from the axes."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

import qeqprop as qp
from qeqprop import plot
from qeqprop.core.history import History
from qeqprop.core.reference import GradientCheck

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection


@pytest.fixture(autouse=True)
def no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def check() -> GradientCheck:
    net = qp.TransverseFieldIsing(n_sites=4, edges=[(0, 1), (1, 2), (2, 3)])
    params = {"J": np.ones(3), "h": 0.2 * np.ones(4), "g": np.ones(4)}
    return qp.check_gradient(net, params, qp.ObservableCost(qp.Z(3)), scheme=qp.centered(0.02))


def history(seed: int, *, epochs: int = 5, steps: int = 4, measured: bool = True) -> History:
    rng = np.random.default_rng(seed)
    loss, held_out = rng.random(epochs * steps), rng.random(epochs)
    none = np.empty(0)
    validation, metric = (held_out, 1 - held_out) if measured else (none, none)
    return History({}, {}, loss, loss, validation, metric, 0, {"ok": loss.size}, False, seed, 1.0)


def curve(ax: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def rendered(ax: Axes, tmp_path: Path) -> bytes:
    return plot.save(ax, tmp_path / "picture.png").read_bytes()


def test_agreement_shows_gradients_deviations_and_reported_errors(check: GradientCheck, tmp_path: Path):
    ax = check.plot()
    upper, lower = ax, next(other for other in ax.figure.axes if other is not ax)
    ep = np.concatenate([*check.ep.grad.values()])
    exact = np.concatenate([*check.references["linear response"].grad.values()])
    x, y = curve(upper, "linear response")
    np.testing.assert_array_equal(x, ep)
    np.testing.assert_array_equal(y, exact)
    np.testing.assert_array_equal(curve(lower, "linear response")[1], np.abs(ep - exact))
    reported = np.concatenate([*check.ep.truncation.values()]) + check.ep.residual
    np.testing.assert_allclose(curve(lower, "error reported by EP")[1], reported, rtol=1e-12)
    assert [tick.get_text() for tick in lower.get_xticklabels()] == ["J", "h", "g"]
    assert "agrees" in ax.get_title()
    assert rendered(ax, tmp_path).startswith(b"\x89PNG")


def test_agreement_leaves_out_components_that_were_not_compared(tmp_path: Path):
    net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
    params = {"J": [1.0], "h": [0.2, 0.1], "g": [1.0, 1.0]}
    part = qp.check_gradient(net, params, qp.ObservableCost(qp.Z(1)), components={"J": [0]})
    _, y = curve(plot.agreement(part, plot.new_axes()), "finite differences")
    assert np.isfinite(y).sum() == 1


def test_error_vs_beta_draws_curves_guides_and_floor(tmp_path: Path):
    betas = np.geomspace(1e-3, 1e-1, 7)
    ax = plot.error_vs_beta(betas, {"one_sided": betas, "centered": betas**2, "mine": betas}, floor=1e-9)
    np.testing.assert_array_equal(curve(ax, "centered")[1], betas**2)
    assert set(curve(ax, "solver's residual")[1]) == {1e-9}
    guides = [line for line in ax.lines if line.get_linestyle() == "--"]
    slopes = [np.polyfit(np.log(line.get_xdata()), np.log(line.get_ydata()), 1)[0] for line in guides]
    np.testing.assert_allclose(slopes, [1, 2], atol=1e-9)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert rendered(ax, tmp_path)


def test_error_vs_beta_takes_orders_and_survives_zeros(tmp_path: Path):
    ax = plot.error_vs_beta([0.1, 0.2], {"mine": [1e-3, 8e-3], "exact": [0.0, 0.0]}, orders={"mine": 3, "exact": 2})
    assert [text.get_text() for text in ax.texts] == [r"$\propto\beta^3$"]
    assert rendered(ax, tmp_path)


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


@pytest.mark.parametrize("layout", ["circle", "spring", "lattice"])
def test_network_shows_couplings_fields_and_roles(layout: str, tmp_path: Path):
    net = qp.TransverseFieldIsing(n_sites=5, edges=[(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)], input_sites=[0, 1])
    params = net.init_params(0)
    params["J"] = np.array([1.0, -2.0, 0.5, 0.0, 0.1])
    ax = plot.network(net, params, layout=layout, outputs=[4])
    (lines,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert sorted(lines.get_array()) == sorted(params["J"])
    strongest = np.argmax(lines.get_linewidths())
    assert lines.get_array()[strongest] == -2.0
    assert lines.norm(0.0) == 0.5
    assert (lines.norm.vmin, lines.norm.vmax) == (-2.0, 2.0)
    nodes = {c.get_label(): c.get_array().tolist() for c in ax.collections if isinstance(c, PathCollection)}
    h = params["h"].tolist()
    assert nodes == {"hidden": h[2:4], "input": h[:2], "output": h[4:]}
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["hidden", "input", "output"]
    assert rendered(ax, tmp_path)


def test_network_scales_can_be_shared():
    net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
    ax = plot.network(net, net.init_params(0), plot.new_axes(), max_coupling=3.0, max_field=2.0)
    (lines,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert lines.norm.vmax == 3.0
    assert all(c.norm.vmax == 2.0 for c in ax.collections if isinstance(c, PathCollection))


def test_network_of_isolated_spins_without_fields(tmp_path: Path):
    net = qp.TransverseFieldIsing(n_sites=40, edges=[])
    assert rendered(plot.network(net, {"J": [], "h": np.zeros(40), "g": np.ones(40)}), tmp_path)


def test_network_refuses_what_it_cannot_draw():
    net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
    with pytest.raises(ValueError, match="'circle', 'spring' or 'lattice', but is 'star'"):
        plot.network(net, net.init_params(0), layout="star")
    other = qp.SpinNetwork(1, {"h": [qp.Z(0)]})
    with pytest.raises(TypeError, match="but is SpinNetwork"):
        plot.network(other, {"h": [1.0]})


def test_axes_that_are_given_are_used(check: GradientCheck):
    given = plot.new_axes()
    assert plot.error_vs_beta([0.1, 0.2], {"one_sided": [0.1, 0.2]}, given) is given
    assert plot.agreement(check, plot.new_axes()).figure is not given.figure
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_save_writes_the_format_of_the_suffix(suffix: str, magic: bytes, tmp_path: Path):
    path = plot.save(plot.new_axes(), tmp_path / f"new/folder/empty.{suffix}")
    assert path.read_bytes().startswith(magic)
