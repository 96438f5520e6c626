"""Pictures show the numbers they were given: what is drawn is read back from the axes."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from matplotlib.collections import LineCollection, PathCollection, QuadMesh


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


def triangles(ax: Axes) -> list[Any]:
    return [patch for patch in ax.patches if patch.get_gid() == "slope"]


def slope_of(triangle: Any) -> float:
    (x0, y0), _, (x1, y1) = triangle.get_xy()[:3]
    return float(np.log(y1 / y0) / np.log(x1 / x0))


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


def edges_of(ax: Axes) -> LineCollection:
    (lines,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    return lines


CLASSICAL = {
    "Ising": lambda: qp.classical.Ising(3, [(0, 1), (1, 2)], input_sites=[0]),
    "FlowNetwork": lambda: qp.classical.FlowNetwork(3, [(0, 1), (1, 2)], driven=[0], grounded=[2]),
    "ResistiveNetwork": lambda: qp.classical.ResistiveNetwork(3, [(0, 1), (1, 2)], sources=[0], grounded=[2]),
    "PhaseOscillators": lambda: qp.classical.PhaseOscillators(3, [(0, 1), (1, 2)], frequencies=True, driven=[0]),
    "OscillatorIsing": lambda: qp.classical.OscillatorIsing(3, [(0, 1), (1, 2)], driven=[0], injection=1.0),
    "HarmonicNetwork": lambda: qp.HarmonicNetwork(3, [(0, 1), (1, 2)], input_sites=[0]),
}


@pytest.mark.parametrize("make", CLASSICAL.values(), ids=list(CLASSICAL))
def test_network_of_every_kind_of_system_with_edges(make: Any, tmp_path: Path):
    system = make()
    params = system.init_params(0)
    ax = plot.network(system, params)
    name = next(iter(params))
    assert sorted(edges_of(ax).get_array()) == sorted(params[name])
    assert {c.get_label() for c in ax.collections if isinstance(c, PathCollection)} == {"hidden", "input"}
    assert rendered(ax, tmp_path)


def test_parameters_are_chosen_by_name():
    chain = qp.HarmonicNetwork(4, [(i, (i + 1) % 4) for i in range(4)])  # as many edges as nodes
    params = chain.init_params(0)
    assert sorted(edges_of(plot.network(chain, params, plot.new_axes())).get_array()) == sorted(params["k"])
    ax = plot.network(chain, params, plot.new_axes(), edge="l", node="kappa")
    assert sorted(edges_of(ax).get_array()) == sorted(params["l"])
    assert [other.get_ylabel() for other in ax.figure.axes[1:]] == [r"$\kappa_{i}$", "$l_{ij}$"]
    with pytest.raises(ValueError, match=r"Argument `node` must name a parameter of shape \(4,\).* but is 'g'"):
        plot.network(chain, params, node="g")


def test_elastic_networks_have_their_own_positions_and_stubs_at_the_cell(tmp_path: Path):
    corners = [[0.1, 0.1], [0.9, 0.1], [0.5, 0.5]]
    box = qp.classical.ElasticNetwork([(0, 1), (1, 2)], corners, cell=[1.0, 1.0])
    ax = plot.network(box, {"k": [1.0, 2.0], "l": [0.2, 0.5]})
    (nodes,) = [c for c in ax.collections if isinstance(c, PathCollection)]
    np.testing.assert_array_equal(nodes.get_offsets(), corners)
    wrapped, inside = (path.vertices for path in edges_of(ax).get_paths())
    np.testing.assert_allclose(inside, corners[1:])
    np.testing.assert_allclose(wrapped[[0, 1, 3, 4]], [[0.1, 0.1], [0.0, 0.1], [1.0, 0.1], [0.9, 0.1]], atol=1e-12)
    assert rendered(ax, tmp_path)


def test_the_closing_edge_of_a_ring_in_a_row_is_bent():
    ring = qp.TransverseFieldIsing(4, [(0, 1), (1, 2), (2, 3), (3, 0)])
    params = {"J": [1.0, 2.0, 3.0, 4.0], "h": np.zeros(4), "g": np.ones(4)}
    paths = [path.vertices for path in edges_of(plot.network(ring, params, plot.new_axes(), layout=(1, 4))).get_paths()]
    heights = [float(np.ptp(path[:, 1])) for path in paths]  # the weakest edge is drawn first
    assert heights[:3] == [0, 0, 0]
    assert heights[3] > 0.3
    np.testing.assert_allclose(paths[3][[0, -1]], [[3, 0], [0, 0]], atol=1e-12)


def test_gradient_on_the_network_greys_what_is_not_known(check: GradientCheck, tmp_path: Path):
    net = qp.TransverseFieldIsing(n_sites=4, edges=[(0, 1), (1, 2), (2, 3)])
    zeros, stderr = ({n: np.zeros_like(v) for n, v in check.ep.grad.items()} for _ in range(2))
    out = dataclasses.replace(check.ep, stderr=stderr, truncation=zeros, residual=0.0)
    out.stderr["J"][1] = np.abs(out.grad["J"][1])
    ax = plot.gradient(net, out, outputs=[3])
    lines = edges_of(ax)
    assert sorted(np.abs(lines.get_array().compressed())) == sorted(np.abs(out.grad["J"][[0, 2]]))
    assert lines.get_array().mask.sum() == 1
    np.testing.assert_allclose(lines.to_rgba(lines.get_array())[lines.get_array().mask], [[0.7, 0.7, 0.7, 1.0]])
    labels = [other.get_ylabel() for other in ax.figure.axes[1:]]
    assert labels == [r"$\partial L/\partial h_{i}$", r"$\partial L/\partial J_{ij}$"]
    assert rendered(ax, tmp_path)


def test_change_of_the_forces_is_beta_times_the_gradient(tmp_path: Path):
    net = qp.TransverseFieldIsing(n_sites=4, edges=[(0, 1), (1, 2), (2, 3)])
    params = {"J": np.ones(3), "h": 0.2 * np.ones(4), "g": np.ones(4)}
    out = qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(3)), scheme=qp.centered(1e-3))
    beta, nudged = out.nudged[0]
    ax = plot.forces(net, params, nudged, since=out.free)
    assert np.abs(out.grad["J"]).min() > 1e-3
    np.testing.assert_allclose(sorted(edges_of(ax).get_array() / beta), sorted(out.grad["J"]), rtol=0.01)
    assert rendered(ax, tmp_path)
    still = plot.forces(net, params, out.free, plot.new_axes())
    bonds = [-float(out.free.state.expect(qp.Z(i) * qp.Z(i + 1))) for i in range(3)]
    np.testing.assert_allclose(sorted(edges_of(still).get_array()), sorted(bonds))


def test_forces_of_a_batch_are_refused():
    net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)], input_sites=[0])
    params = net.init_params(0)
    batch = qp.equilibrate(net, params, inputs=[[0.1], [0.2]])
    with pytest.raises(ValueError, match="Argument `equilibrium` must be of one sample, but holds 2"):
        plot.forces(net, params, batch)


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
    with pytest.raises(TypeError, match="must be a network with edges between its sites, but is SpinNetwork"):
        plot.network(other, {"h": [1.0]})
    with pytest.raises(ValueError, match=r"room for 2 sites, but 1 x 1 is too small"):
        plot.network(net, net.init_params(0), layout=(1, 1))
    with pytest.raises(ValueError, match=r"\(n_nodes, 2\) = \(2, 2\), but has \(3, 2\)"):
        plot.network(net, net.init_params(0), layout=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="Argument `outputs` must hold nodes 0 to 1, but has 2"):
        plot.network(net, net.init_params(0), outputs=[2])
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        plot.network(net, net.init_params(0), colour="red")
    assert plt.get_fignums() == []


def test_axes_that_are_given_are_used(check: GradientCheck):
    given = plot.new_axes()
    assert plot.error_vs_beta([0.1, 0.2], {"one_sided": [0.1, 0.2]}, given) is given
    assert plot.agreement(check, plot.new_axes()).figure is not given.figure
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_save_writes_the_format_of_the_suffix(suffix: str, magic: bytes, tmp_path: Path):
    path = plot.save(plot.new_axes(), tmp_path / f"new/folder/empty.{suffix}")
    assert path.read_bytes().startswith(magic)
