"""Pictures of gradients and of their errors show the numbers they were given: they are read back from the axes."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

import qeqprop as qp
from qeqprop import plot
from qeqprop.core.reference import GradientCheck

from .figures import curve, rendered


def triangles(ax: Axes) -> list[Any]:
    return [patch for patch in ax.patches if patch.get_gid() == "slope"]


def slope_of(triangle: Any) -> float:
    (x0, y0), _, (x1, y1) = triangle.get_xy()[:3]
    return float(np.log(y1 / y0) / np.log(x1 / x0))


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


def test_agreement_shows_standard_errors_of_sampled_gradients(check: GradientCheck, tmp_path: Path):
    exact = check.references["linear response"]
    stderr = {name: 0.1 + np.abs(value) for name, value in exact.grad.items()}
    sampled = dataclasses.replace(check.ep, stderr=stderr)
    ax = plot.agreement(sampled, plot.new_axes(), references={"exact": exact})
    (across,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    lengths = [np.ptp(path.vertices[:, 0]) for path in across.get_paths()]
    np.testing.assert_allclose(lengths, 4 * np.concatenate([*stderr.values()]))
    lower = next(other for other in ax.figure.axes if other is not ax)
    assert np.all(curve(lower, "error reported by EP")[1] > 2 * np.concatenate([*stderr.values()]))
    assert ax.get_title() == ""
    assert rendered(ax, tmp_path)


def test_agreement_refuses_a_gradient_alone_and_another_network(check: GradientCheck):
    with pytest.raises(ValueError, match="must name gradients to compare with"):
        plot.agreement(check.ep)
    with pytest.raises(TypeError, match="must be a GradientCheck or an EPGradient, but is dict"):
        plot.agreement(check.ep.grad)
    other = qp.linear_response(qp.OperatorSystem({"x": [np.diag([0.0, 1.0])]}), {"x": [1.0]}, pair_cost())
    with pytest.raises(ValueError, match=r"but 'other' has {'x'"):
        plot.agreement(check.ep, references={"other": other})


def pair_cost() -> qp.ObservableCost:
    return qp.ObservableCost(qp.MatrixOperator(np.array([[0.0, 1.0], [1.0, 0.0]])))


def test_error_vs_beta_draws_curves_guides_and_floor(tmp_path: Path):
    betas = np.geomspace(1e-3, 1e-1, 7)
    ax = plot.error_vs_beta(betas, {"one_sided": betas, "centered": betas**2, "mine": betas}, floor=1e-9)
    np.testing.assert_array_equal(curve(ax, "centered")[1], betas**2)
    assert set(curve(ax, "solver's residual")[1]) == {1e-9}
    np.testing.assert_allclose([slope_of(patch) for patch in triangles(ax)], [1, 2], atol=1e-9)
    (x, y), (other_x, other_y) = (patch.get_xy()[1] for patch in triangles(ax))  # the right angles
    assert y > x, "the highest curve has its triangle above"
    assert 0 < other_y < other_x**2, "the others below"
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert rendered(ax, tmp_path)


def test_error_vs_beta_takes_orders_and_survives_zeros(tmp_path: Path):
    ax = plot.error_vs_beta([0.1, 0.2], {"mine": [1e-3, 8e-3], "exact": [0.0, 0.0]}, orders={"mine": 3, "exact": 2})
    assert [text.get_text() for text in ax.texts] == ["1", "3"]
    np.testing.assert_allclose([slope_of(patch) for patch in triangles(ax)], [3])
    assert rendered(ax, tmp_path)


def test_every_scheme_is_drawn_even_when_the_colours_are_used_up():
    ax = plot.error_vs_beta([0.1, 0.2], {f"number {k}": [0.1, 0.2] for k in range(8)}, plot.new_axes())
    assert len(ax.lines) == 8


def test_axes_that_are_given_are_used(check: GradientCheck):
    given = plot.new_axes()
    assert plot.error_vs_beta([0.1, 0.2], {"one_sided": [0.1, 0.2]}, given) is given
    assert plot.agreement(check, plot.new_axes()).figure is not given.figure
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_save_writes_the_format_of_the_suffix(suffix: str, magic: bytes, tmp_path: Path):
    path = plot.save(plot.new_axes(), tmp_path / f"new/folder/empty.{suffix}")
    assert path.read_bytes().startswith(magic)
