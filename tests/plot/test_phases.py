"""Gaps and phase diagrams show the numbers they were given."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import QuadMesh

import qeqprop as qp
from qeqprop import plot

from .figures import curve, rendered


def test_gaps_of_several_sizes_grow_darker(tmp_path: Path):
    fields = np.linspace(0.5, 1.5, 5)
    gaps = {4: fields, 8: fields**2, "infinite": 2 * np.abs(1 - fields)}
    ax = plot.gap_vs_field(fields, gaps, theory={"free fermions": lambda g: 2 * abs(1 - g)}, critical=1.0)
    np.testing.assert_array_equal(curve(ax, "8 spins")[1], fields**2)
    np.testing.assert_array_equal(curve(ax, "infinite")[0], fields)
    x, y = curve(ax, "free fermions")
    np.testing.assert_allclose(y, 2 * np.abs(1 - x))
    assert set(ax.lines[-1].get_xdata()) == {1.0}
    luminance = [sum(mpl.colors.to_rgb(line.get_color())) for line in ax.lines[:3]]
    assert luminance == sorted(luminance, reverse=True)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("transverse field $g / J$", "gap $(E_1 - E_0) / J$")
    assert rendered(ax, tmp_path)


def test_gaps_on_a_logarithmic_scale_and_of_the_wrong_length():
    assert plot.gap_vs_field([0.1, 1.0], {4: [1e-6, 1.0]}, plot.new_axes(), log=True).get_yscale() == "log"
    with pytest.raises(ValueError, match=r"must hold shape \(2,\), but 4 has shape \(3,\)"):
        plot.gap_vs_field([0.1, 1.0], {4: [1.0, 1.0, 1.0]})


def ladder(g: float, J: float) -> dict[str, float]:
    if g == 2.0 and J == 2.0:
        raise ArithmeticError("this point fails")
    return {"difference": g - 10 * J, "phase": float(g > J)}


@pytest.fixture(scope="module")
def table() -> Any:
    return qp.scan(ladder, {"g": [1.0, 2.0, 3.0, 4.0], "J": [1.0, 2.0]}, workers=0, progress=False)


def test_phase_diagram_of_a_scan_leaves_failed_points_open(table: Any, tmp_path: Path):
    ax = plot.phase_diagram(table, x="g", y="J", variable="difference", scale="centred", lines={"J = g": lambda g: g})
    (mesh,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
    seen = mesh.get_array()
    assert seen.shape == (2, 4)
    assert seen.mask.tolist() == [[False] * 4, [False, True, False, False]]
    assert seen[0, 3] == 4 - 10
    assert seen[1, 0] == 1 - 20
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-19, 19)
    x, y = curve(ax, "J = g")
    np.testing.assert_array_equal(x, y)
    assert ax.get_ylim() == (0.5, 2.5), "a theory line does not change what is seen"
    assert ax.patch.get_hatch()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("g", "J")
    assert ax.figure.axes[1].get_ylabel() == "difference"
    assert rendered(ax, tmp_path)


def test_phase_diagram_is_not_transposed(table: Any):
    ax = plot.phase_diagram(table.difference, plot.new_axes(), x="J", y="g")
    seen = next(c for c in ax.collections if isinstance(c, QuadMesh)).get_array()
    np.testing.assert_array_equal(seen.filled(0), np.nan_to_num(table.difference.transpose("g", "J").values))


def test_phase_diagram_of_arrays_on_a_logarithmic_scale():
    values = np.array([[1e-6, 1.0, 0.0]])
    ax = plot.phase_diagram(values, plot.new_axes(), x=[0, 1, 2], y=[0.0], scale="log", label="gap / J")
    (mesh,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (1e-6, 1.0)
    assert mesh.get_array().mask.tolist() == [[False, False, True]]
    assert ax.figure.axes[1].get_ylabel() == "gap / J"


def test_phase_diagram_of_classes_and_a_line_of_points(table: Any, tmp_path: Path):
    line = ([1.0, 4.0], [1.0, 2.0])
    names = ("ordered", "disordered")
    ax = plot.phase_diagram(table, x="g", y="J", variable="phase", classes=names, lines={"theory": line})
    (mesh,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
    assert len({tuple(mesh.to_rgba(k)) for k in (0, 1)}) == 2
    assert [text.get_text() for text in ax.figure.axes[1].get_yticklabels()] == list(names)
    np.testing.assert_array_equal(curve(ax, "theory")[0], line[0])
    assert rendered(ax, tmp_path)


def test_phase_diagram_refuses_what_it_cannot_draw(table: Any):
    def draw(data: Any = table, **changes: Any) -> None:
        plot.phase_diagram(data, **({"x": "g", "y": "J", "variable": "difference"} | changes))

    with pytest.raises(ValueError, match=r"one of .*'difference'.* but is 'gap'"):
        draw(variable="gap")
    with pytest.raises(ValueError, match=r"dimensions \('g', 'J'\), but are 'g' and 'h'"):
        draw(y="h")
    with pytest.raises(ValueError, match="but is 'logarithmic'"):
        draw(scale="logarithmic")
    with pytest.raises(ValueError, match=r"\(len\(y\), len\(x\)\) = \(2, 3\), but has \(3, 2\)"):
        draw(np.ones((3, 2)), x=[1, 2, 3], y=[1, 2])
    with pytest.raises(ValueError, match="no finite positive value"):
        draw(-np.ones((1, 1)), x=[1], y=[1], scale="log")
    with pytest.raises(ValueError, match=r"the numbers 0 to 0 of the data.* but the data have 1"):
        draw(variable="phase", classes=["ordered"])
    assert plt.get_fignums() == []
