"""Rigidity reports against networks whose zero modes and self stresses are known."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import ElasticNetwork, Minimizer, StateCost, rigidity_report

SQUARE = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
SIDES = [(0, 1), (1, 2), (2, 3), (3, 0)]
BRACED = [*SIDES, (0, 2), (1, 3)]


def at_rest(net):
    return {"k": np.ones(len(net.edges)), "l": net.springs(net.reference).length}


def report(edges, positions, *extra, **options):
    net = ElasticNetwork(edges, positions, **options)
    return rigidity_report(net, at_rest(net), *extra)


def square_lattice(size, **options):
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1).reshape(-1, 2)
    edges = [(x * size + y, (x + a) % size * size + (y + b) % size) for x, y in grid for a, b in ((1, 0), (0, 1))]
    return report(edges, grid.astype(float), cell=[size, size], **options)


@pytest.mark.parametrize(
    ("edges", "options", "zero", "rigid", "stresses"),
    [
        (SIDES, {}, 4, 3, 0),
        (BRACED, {}, 3, 3, 1),
        (SIDES, {"pinned": [0, 1]}, 1, 0, 0),
        (BRACED, {"pinned": [0, 1]}, 0, 0, 1),
        (BRACED, {"pinned": [0]}, 1, 1, 1),
        (SIDES, {"stiffness": 0.1}, 0, 0, 4),
        (BRACED, {"pinned": [0, 1, 2, 3]}, 0, 0, 0),
    ],
)
def test_counts_of_a_square(edges, options, zero, rigid, stresses):
    out = report(edges, SQUARE, **options)
    assert (len(out.zero_modes), out.rigid_motions, len(out.self_stresses)) == (zero, rigid, stresses)
    assert out.maxwell_count == zero - stresses
    assert out.flat == zero
    assert out.rigid == (zero == 0)


def test_a_periodic_square_lattice_has_two_modes_a_row():
    """Every row and every column slides by itself, and bears its own tension (Lubensky et al. 2015)."""
    for size in (3, 5):
        out = square_lattice(size)
        assert len(out.zero_modes) == len(out.self_stresses) == 2 * size
        assert out.rigid_motions == 2
        assert "brace its mechanisms" in repr(out)
    assert len(square_lattice(4, pinned=[0]).zero_modes) == 2 * 4 - 2


def test_three_dimensions():
    corners = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    tetrahedron = report([(i, j) for i in range(4) for j in range(i)], corners)
    assert (len(tetrahedron.zero_modes), tetrahedron.rigid_motions, len(tetrahedron.self_stresses)) == (6, 6, 0)
    hinged = report(
        [(i, j) for i in range(4) for j in range(i)], [corners[0], [1.0, 1.0, 1.0], *corners[2:]], pinned=[0, 1]
    )
    assert (len(hinged.zero_modes), hinged.rigid_motions) == (1, 1)  # it turns about the line through the pins


def test_modes_stretch_nothing_and_stresses_balance():
    net = ElasticNetwork([*BRACED, (2, 4)], [*SQUARE, [2.0, 1.5]])
    out = rigidity_report(net, at_rest(net))
    s = net.springs(net.reference)
    assert len(out.zero_modes) == 4
    for mode in out.zero_modes:
        np.testing.assert_allclose(np.sum(s.unit * (mode[s.i] - mode[s.j]), axis=1), 0, atol=1e-14)
    force = np.zeros((5, 2))
    np.add.at(force, s.i, out.self_stresses[0][:, None] * s.unit)
    np.add.at(force, s.j, -out.self_stresses[0][:, None] * s.unit)
    np.testing.assert_allclose(force, 0, atol=1e-14)
    assert abs(out.self_stresses[0][-1]) < 1e-14  # the dangling spring
    assert np.linalg.norm(out.self_stresses) == pytest.approx(1)


def test_springs_without_stiffness_do_not_count():
    net = ElasticNetwork(BRACED, SQUARE, pinned=[0, 1])
    params = at_rest(net)
    params["k"][[4, 5]] = 0
    assert len(rigidity_report(net, params).zero_modes) == 1


def test_prestress_stiffens_a_mechanism():
    """Two collinear springs: tension holds the node between them, compression throws it out."""
    line = ElasticNetwork([(0, 1), (1, 2)], [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], pinned=[0, 2])
    slack, tight, loose = (rigidity_report(line, {"k": [1.0, 1.0], "l": [rest] * 2}) for rest in (1.0, 0.8, 1.2))
    assert [len(out.zero_modes) for out in (slack, tight, loose)] == [1, 1, 1]
    assert [out.flat for out in (slack, tight, loose)] == [1, 0, 0]
    assert [out.unstable for out in (slack, tight, loose)] == [0, 0, 1]
    assert tight.curvatures[0] == pytest.approx(2 * 0.2)
    assert "minimise first" in loose.advice


def test_a_cost_that_feels_a_floppy_mode():
    net = ElasticNetwork(SIDES, SQUARE, pinned=[0, 1])
    across = StateCost(lambda r, y: (r[0, 0] - y) ** 2, nodes=[2])  # along the shear of the square
    along = StateCost(lambda r, y: (r[0, 1] - y) ** 2, nodes=[2])
    felt, unfelt = (rigidity_report(net, at_rest(net), cost, 0.3).overlap for cost in (across, along))
    assert felt == pytest.approx(np.sqrt(0.5))
    assert unfelt == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("scheme", [qp.LinearResponse(), qp.centered(1e-3)])
def test_the_minimizer_tells_what_a_cost_feels_of_floppy_modes(scheme):
    net = ElasticNetwork(SIDES, SQUARE, pinned=[0, 1])
    for axis, felt in ((0, np.sqrt(0.5)), (1, 0.0)):  # along the shear of the square, and across it
        cost = StateCost(lambda r, y, axis=axis: (r[0, axis] - y) ** 2, nodes=[2])
        out = qp.ep_gradient(net, at_rest(net), cost, 0.3, scheme=scheme, throw=False)
        assert out.status is qp.Status.DEGENERATE
        assert out.free.stats["zero_modes"].shape == (4, 1)
        reports = [phase.stats for _, phase in out.nudged] or [out.stats]
        assert [report["zero_mode_overlap"] for report in reports] == pytest.approx([felt] * len(reports), abs=1e-12)
        assert felt == pytest.approx(rigidity_report(net, at_rest(net), cost, 0.3).overlap, abs=1e-12)


def test_it_agrees_with_the_minimizer():
    rng = np.random.default_rng(0)
    net = ElasticNetwork(BRACED, SQUARE + 0.1 * rng.normal(size=(4, 2)), pinned=[0, 1])
    params = net.init_params(1)
    free = qp.equilibrate(net, params, solver=Minimizer())
    out = rigidity_report(net, params, state=free.state)
    assert out.curvatures[0] == pytest.approx(free.stats["smallest_curvature"])


def test_a_report_survives_the_disk(tmp_path):
    out = report(SIDES, SQUARE)
    assert repr(qp.load(qp.save(tmp_path / "report", out))) == repr(out)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: rigidity_report(qp.TransverseFieldIsing(2, [(0, 1)]), {}), TypeError, "must be an ElasticNetwork"),
        (lambda: report(SIDES, SQUARE, qp.ObservableCost(qp.Z(0))), TypeError, "must be a StateCost"),
        (lambda: report(SIDES, SQUARE, StateCost(lambda r, y: r.sum(), [7])), ValueError, "has node 7"),
    ],
)
def test_errors_teach(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_large_networks_are_refused(monkeypatch):
    monkeypatch.setattr("qeqprop.core.memory.available_memory", lambda: 100)
    with pytest.raises(MemoryError, match="A rigidity report needs"):
        report(SIDES, SQUARE)


def test_batches_are_refused():
    net = ElasticNetwork(SIDES, SQUARE, driven=[0, 1])
    with pytest.raises(ValueError, match="one sample"):
        rigidity_report(net, at_rest(net), inputs=np.zeros((3, 2, 2)))
