"""Elastic networks in periodic cells and under applied strain."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import ElasticNetwork, StateCost

SIZE = 4


def periodic(cell=(SIZE, SIZE), *, disorder=0.05, **options):
    """A disordered triangular network in a periodic box, with prestress."""
    rng = np.random.default_rng(2)
    grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij"), axis=-1).reshape(-1, 2).astype(float)
    steps = ((1, 0), (0, 1), (1, 1))
    number = {tuple(point): n for n, point in enumerate(grid.astype(int))}
    edges = [(n, number[(x + a) % SIZE, (y + b) % SIZE]) for (x, y), n in number.items() for a, b in steps]
    net = ElasticNetwork(edges, grid + disorder * rng.normal(size=grid.shape), cell=cell, **options)
    params = net.init_params(rng)
    return net, {**params, "l": params["l"] * (1 + 0.05 * rng.normal(size=len(edges)))}


def strain(inputs, shift=0.0):
    return np.asarray(inputs, float) + shift


SHEAR = strain([[0.02, 0.15], [-0.03, 0.05]])


def distance(r, y):
    return (((r[0] - r[1]) ** 2).sum() - y) ** 2


def test_springs_join_nearest_images():
    net, _ = periodic()
    assert net.springs(net.reference).length.max() < 2
    assert np.abs(net.wrap).max() == 1
    same, _ = periodic([[SIZE, 0.0], [0.0, SIZE]])
    np.testing.assert_array_equal(same.wrap, net.wrap)


def test_slope_and_curvature_are_derivatives_of_the_energy():
    net, params = periodic(pinned=[0], stiffness=0.3)
    net = net.with_inputs(SHEAR)
    rng = np.random.default_rng(0)
    s = net.start() + 0.1 * rng.normal(size=net.reference.shape)
    step = 1e-5 * rng.normal(size=len(net.free))

    def shifted(sign):
        moved = s.copy()
        moved.flat[net.free] += sign * step
        return moved

    rise = net.bare_value(params, shifted(1)) - net.bare_value(params, shifted(-1))
    assert rise == pytest.approx(2 * net.bare_slope(params, s) @ step, rel=1e-6)
    change = net.bare_slope(params, shifted(1)) - net.bare_slope(params, shifted(-1))
    np.testing.assert_allclose(change, 2 * net.bare_curvature(params, s) @ step, rtol=1e-4, atol=1e-10)


def test_uniform_stretch_of_a_regular_lattice_is_affine():
    grid = np.arange(5.0)[:, None]
    chain = ElasticNetwork([(i, (i + 1) % 5) for i in range(5)], grid, cell=[5.0], pinned=[2])
    found = qp.equilibrate(chain, {"k": np.ones(5), "l": np.ones(5)}, inputs=[[0.2]])
    np.testing.assert_allclose(found.state.position, 1.2 * grid, atol=1e-13)
    assert float(found.energy) == pytest.approx(0.5 * 5 * 0.2**2)


def test_a_strained_cell_is_a_cell_of_that_shape():
    net, params = periodic(pinned=[0])
    gamma = np.eye(2) + SHEAR
    twin = ElasticNetwork(net.edges, net.reference @ gamma.T, cell=net.cell @ gamma.T, pinned=[0])
    np.testing.assert_array_equal(twin.wrap, net.wrap)
    strained, plain = qp.equilibrate(net, params, inputs=SHEAR), qp.equilibrate(twin, params)
    np.testing.assert_allclose(strained.state.position, plain.state.position, atol=1e-12)
    assert float(strained.energy) > 1.5 * float(qp.equilibrate(net, params).energy)


def test_the_pinned_node_is_a_gauge():
    energies = [float(qp.equilibrate(*periodic(pinned=[node]), inputs=SHEAR).energy) for node in (0, 5, 11)]
    np.testing.assert_allclose(energies, energies[0], rtol=1e-12)


@pytest.mark.parametrize("options", [{"pinned": [0]}, {"stiffness": 0.2}, {"pinned": [0], "driven": [9]}])
def test_gradients_under_strain(options):
    net, params = periodic(**options)
    rows = [[0.1, -0.05]] if "driven" in options else []
    problem = (net, params, StateCost(distance, [6, 7]), 1.3)
    inputs = np.concatenate([np.reshape(rows, (-1, 2)), SHEAR])
    exact = qp.linear_response(*problem, inputs=inputs)
    out = qp.ep_gradient(*problem, inputs=inputs, scheme=qp.centered(1e-4))
    components = {name: [(n,) for n in range(5)] for name in "kl"}
    known = qp.finite_difference(*problem, inputs=inputs, components=components, step=3e-3)
    for name in "kl":
        scale = np.abs(exact.grad[name]).max()
        assert np.abs(exact.grad[name][:5]).max() > 1e-3
        np.testing.assert_allclose(out.grad[name], exact.grad[name], atol=1e-5 * scale)
        np.testing.assert_allclose(known.grad[name][:5], exact.grad[name][:5], atol=1e-6 * scale)


def test_three_dimensions_shear_at_second_order():
    """Simple shear of one diagonal spring: its length is that of the sheared vector."""
    grid = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    net = ElasticNetwork([(1, 0)], grid, pinned=[0, 1], cell=[3.0, 3.0, 3.0])
    gamma = np.zeros((3, 3))
    gamma[0, 1] = 0.5
    assert net.with_inputs(gamma).springs(net.with_inputs(gamma).start()).length[0] == pytest.approx(np.hypot(1.5, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: periodic([4.0]), r"`cell` must have shape \(2,\) or \(2, 2\), but has shape \(1,\)"),
        (lambda: periodic([[4.0, 0.0], [8.0, 0.0]]), "`cell` must span a volume"),
        (lambda: periodic([4.0, np.inf]), "must be finite"),
        (lambda: periodic()[0].with_inputs([[0.1, 0.0]]), r"must have shape \(2, 2\)"),
        (
            lambda: ElasticNetwork([(0, 1)], [[0.0], [1.0]], pinned=[0]).with_inputs([[1.0]]),
            "no driven nodes and no cell",
        ),
    ],
)
def test_errors_teach(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_periodic_network_without_a_pin_is_refused():
    with pytest.raises(qp.EquilibriumError, match="rigidity_report"):
        qp.equilibrate(*periodic())
