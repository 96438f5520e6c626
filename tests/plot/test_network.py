"""Pictures of networks show parameters, gradients and forces where they belong."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection, PathCollection

import qeqprop as qp
from qeqprop import plot
from qeqprop.core.reference import GradientCheck

from .figures import edges_of, rendered


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
