"""Boxes, batches, rugged landscapes: minima of many states at once, and whether nudged ones stay on their branch."""

import jax.numpy as jnp
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import (
    Box,
    EnergySystem,
    Fire,
    Minimizer,
    PhaseOscillators,
    PointState,
    StateCost,
    Torus,
    misalignment,
)
from qeqprop.core.system import replaced

from ..measures import deviation, norm


def clipped(p, s, x):
    return s @ s / 2 - s @ p["w"] @ s / 4 - (p["b"] + x) @ s


def test_in_a_box_gradients_are_those_of_the_coordinates_that_no_bound_holds():
    rng = np.random.default_rng(0)
    system = EnergySystem(clipped, (6,), {"w": (6, 6), "b": (6,)}, inputs=(6,), domain=Box(0.0, 1.0))
    problem = (system, {"w": 0.3 * rng.normal(size=(6, 6)), "b": 0.5 * rng.normal(size=6)})
    cost, inputs, target = (
        StateCost(lambda s, y: ((s - y) ** 2).sum()),
        0.5 * rng.normal(size=(4, 6)),
        np.full((4, 6), 0.5),
    )
    exact = qp.linear_response(*problem, cost, target, inputs=inputs)
    assert norm(exact.grad) > 0.1
    free = exact.free.state.position
    assert np.any(free == 0)
    assert np.any(free == 1)
    assert np.any((free > 0) & (free < 1))
    known = qp.finite_difference(*problem, cost, target, inputs=inputs, step=1e-4)
    assert deviation(known.grad, exact.grad) < 1e-6
    out = qp.ep_gradient(*problem, cost, target, inputs=inputs, scheme=qp.centered(1e-4))
    assert deviation(out.grad, exact.grad) < 1e-5
    assert all(phase.stats["bound_changes"] == 0 for _, phase in out.nudged)
    across = qp.ep_gradient(*problem, cost, target, inputs=inputs, scheme=qp.one_sided(2.0))
    assert across.nudged[0][1].stats["bound_changes"] > 0


def test_a_batch_is_the_mean_of_its_samples():
    rng = np.random.default_rng(1)
    net = PhaseOscillators(5, [(i, j) for i in range(5) for j in range(i)], fields=True, driven=[0])
    params, inputs, target = net.init_params(4), rng.normal(size=(3, 1)), rng.uniform(-1, 1, (3, 2))
    params["h"] = np.abs(params["h"]) + 1
    cost = StateCost(misalignment, [3, 4])
    for scheme in (qp.LinearResponse(), qp.centered(1e-3)):
        whole = qp.ep_gradient(net, params, cost, target, inputs=inputs, scheme=scheme)
        parts = [
            qp.ep_gradient(net, params, cost, y, inputs=x, scheme=scheme) for x, y in zip(inputs, target, strict=True)
        ]
        assert norm(whole.grad) > 0.01
        mean = {name: np.mean([part.grad[name] for part in parts], axis=0) for name in whole.grad}
        assert deviation(whole.grad, mean) < 1e-9
        np.testing.assert_allclose(whole.losses, [float(part.loss) for part in parts], rtol=1e-10)


def test_nudged_states_stay_in_the_valley_of_the_free_one():
    """An all-to-all glass of 80 oscillators has about twenty minima: from 60 random starts, a nudge keeps all branches."""
    rng, n = np.random.default_rng(4), 80
    i, j = np.triu_indices(n, 1)
    params = {"J": rng.normal(size=len(i)) / np.sqrt(n)}

    def glass(p, s, x):
        w = jnp.zeros((n, n)).at[i, j].set(p["J"])
        c, d = jnp.cos(s), jnp.sin(s)
        return -(c @ w @ c + d @ w @ d) + 0.0 * x.sum()

    gauge = np.arange(n) == 0
    system = EnergySystem(glass, (n,), {"J": (len(i),)}, inputs=(1,), held=gauge, domain=Torus())
    system = system.with_inputs(np.zeros((60, 1)))
    starts = np.where(gauge, 0.0, system.domain.draw(rng, (60, n)))
    solver = Minimizer(fire=Fire(steps=1000, tolerance=1e-5, dt=0.2))
    seeds = qp.Equilibrium(PointState(starts, batched=True), 0.0, 0.0, None, qp.Status.OK, {})
    free = solver.solve(system, params, init=seeds)
    assert free.status is qp.Status.OK
    assert len(np.unique(free.energy.mean.round(6))) > 10
    term = StateCost(misalignment, [5, 6]).term(free.state, np.zeros((60, 2)))
    nudged = solver.solve(system.nudged(term, 0.01), params, init=free)
    assert nudged.status is qp.Status.OK
    assert nudged.stats["displacement"] > 0.1
    released = solver.solve(system, params, init=nudged)
    np.testing.assert_allclose(released.state.position, free.state.position, atol=1e-7)


@pytest.mark.parametrize("batched", [False, True])
def test_a_nudge_that_leaves_the_branch_is_flagged(batched):
    def double_well(p, s, x):
        return ((s**2 - 1) ** 2).sum() - p["f"] * s.sum() + 0 * x.sum()

    wells = EnergySystem(double_well, (1,), {"f": ()}, inputs=(1,), start=[-1.0])
    wells, params = wells.with_inputs(np.zeros((2, 1) if batched else 1)), {"f": np.array(0.1)}
    free, cost, solver = qp.equilibrate(wells, params), StateCost(lambda s, y: -s[0]), Minimizer()
    nudged = {b: solver.solve(wells.nudged(cost.term(free.state, None), b), params, init=free) for b in (0.01, 3, 20)}
    assert nudged[0.01].status is qp.Status.OK
    assert nudged[3].status is qp.Status.BRANCH_JUMP
    assert nudged[20].status is qp.Status.BRANCH_JUMP


@pytest.mark.parametrize("beta", [0.5, 0.7, 1.0, 1.7, 3.0, 30.0])
@pytest.mark.parametrize("batched", [False, True])
def test_strong_one_sided_nudges_in_a_double_well_end_in_a_minimum(batched, beta):
    wells = EnergySystem(
        lambda p, s, x: ((s**2 - 1) ** 2).sum() - p["f"] * s.sum() + 0.6 * s[0] * s[1] + 0 * x.sum(),
        (2,), {"f": ()}, inputs=(1,), start=[-1.0, 0.9],
    )  # fmt: skip
    wells, params = wells.with_inputs(np.zeros((2, 1) if batched else 1)), {"f": np.array(0.1)}
    cost, solver, target = StateCost(lambda s, y: (s[0] - y) ** 2), Minimizer(), np.ones(2) if batched else 1.0
    free = solver.solve(wells, params)
    nudged = solver.solve(wells.nudged(cost.term(free.state, target), beta), params, init=free)
    assert nudged.status is (qp.Status.BRANCH_JUMP if beta > 0.6 else qp.Status.OK)
    assert np.max(nudged.residual) < 1e-12
    if not batched:
        assert nudged.stats["smallest_curvature"] > 0.5


def test_unstable_nudges_of_a_batch_are_refused_with_the_limit():
    spring = EnergySystem(lambda p, s, x: 0.5 * p["k"] * s @ s - x @ s, (2,), {"k": ()}, inputs=(2,))
    with pytest.raises(ValueError, match=r"beta must lie between -2 and inf"):
        qp.ep_gradient(
            spring, {"k": 2.0}, StateCost(lambda s, y: 0.5 * s @ s), inputs=np.ones((3, 2)), scheme=qp.one_sided(-2.1)
        )


@pytest.mark.parametrize("bend", [0.0, -1.0])
def test_what_a_bound_holds_does_not_soften_the_minimum(bend):
    pair = EnergySystem(
        lambda p, s, x: s[0] ** 2 / 2 - p["b"] * s[0] + 1.6 * s[0] * s[1] + bend * s[1] ** 2 - 5 * s[1] + 0 * x.sum(),
        (2,),
        {"b": ()},
        inputs=(1,),
        domain=Box(0.0, 1.0),
    )
    problem = (pair, {"b": 1.9}, StateCost(lambda s, y: (s[0] - y) ** 2 / 2, nodes=[0]), np.ones(2))
    out = qp.ep_gradient(*problem, inputs=np.zeros((2, 1)), scheme=qp.centered(1e-3))
    np.testing.assert_allclose(out.free.state.position, [[0.3, 1.0]] * 2)
    np.testing.assert_allclose(out.grad["b"], 0.3 - 1, rtol=1e-5)
    with pytest.raises(ValueError, match=r"beta must lie between -1 and inf"):
        qp.ep_gradient(*problem, inputs=np.zeros((2, 1)), scheme=qp.one_sided(-1.1))


def test_saddle_points_are_left_downhill_by_batches_too():
    well = EnergySystem(
        lambda p, s, x: (p["a"] * (s**2 - 1) ** 2).sum() + 0.3 * s[0] * s[1] + 0 * x.sum(),
        (2,),
        {"a": (2,)},
        inputs=(1,),
    )
    found = qp.equilibrate(well, {"a": [1.0, 2.0]}, inputs=np.zeros((2, 1))).state.position
    assert np.all(found[:, 0] * found[:, 1] < 0)


@pytest.mark.parametrize("unit", [1e-13, 1.0, 1e13])
def test_minima_in_a_box_do_not_depend_on_the_unit_of_energy(unit):
    well = EnergySystem(
        lambda p, s, x: p["c"] * ((s[0] ** 2 - 1) ** 2 / 4 + s[1] ** 2 / 2 - x[0] * s[1]),
        (2,),
        {"c": ()},
        inputs=(1,),
        domain=Box(-2.0, 2.0),
        start=[0.01, 0.3],
    )
    found = qp.equilibrate(
        well, {"c": unit}, inputs=[[5.0], [0.1]]
    )  # a bound holds the first, from a place that is no minimum
    np.testing.assert_allclose(found.state.position, [[1.0, 2.0], [1.0, 0.1]], rtol=1e-9)
    assert found.stats["smallest_curvature"] == pytest.approx(unit)


@pytest.mark.parametrize("domain", [None, Box(0.0, 50.0)])
@pytest.mark.parametrize("pull", [1e-4, 1.0, 900.0])
def test_starts_without_any_curvature_are_left_downhill(domain, pull):
    cubic = EnergySystem(lambda p, s, x: (s**3).sum() / 3 - p["f"] @ s, (2,), {"f": (2,)}, domain=domain)
    found = qp.equilibrate(cubic, {"f": [pull, 0.25]})
    np.testing.assert_allclose(found.state.position, np.sqrt([pull, 0.25]), rtol=1e-9)


def test_where_nothing_is_curved_at_all_a_bound_holds_the_minimum():
    line = EnergySystem(lambda p, s, x: -p["f"] * x @ s, (1,), {"f": ()}, inputs=(1,), domain=Box(-3.0, 1e4))
    found = qp.equilibrate(line, {"f": 1e-3}, inputs=[[1.0], [-1.0]])
    np.testing.assert_array_equal(found.state.position, [[1e4], [-3.0]])


@pytest.mark.parametrize("batched", [False, True])
def test_displacements_of_phases_are_measured_around_the_circle(batched):
    net = PhaseOscillators(1, [], fields=True)
    system = EnergySystem(
        lambda p, s, x: net.potential(p, s, None) + 0 * x.sum(), (1,), net.param_shapes, inputs=(1,), domain=Torus()
    ).with_inputs(np.zeros((2, 1) if batched else 1))
    params = {"J": np.zeros(0), "h": np.ones(1), "psi": np.array([0.2])}
    turns = np.full((2, 1) if batched else 1, 0.1 + 6 * np.pi)
    seed = qp.Equilibrium(PointState(turns, batched=batched), 0.0, 0.0, None, qp.Status.OK, {})
    away = replaced(seed, state=PointState(turns - 6 * np.pi, batched=batched))
    found = [Minimizer().solve(system, params, init=init) for init in (seed, away)]
    shifted = replaced(found[0], state=PointState(found[0].state.position - 2 * np.pi, batched=batched))
    again = Minimizer().solve(system, params, init=shifted)
    size = np.sqrt(2) if batched else 1.0
    assert [known.stats["displacement"] for known in found] == pytest.approx([0.1 * size] * 2)
    assert again.stats["displacement"] < 1e-12


@pytest.mark.parametrize("scheme", [qp.LinearResponse(), qp.centered(0.1)])
def test_flat_minima_of_a_batch_are_reported_and_not_raised_where_that_is_asked_for(scheme):
    line = EnergySystem(
        lambda p, s, x: x[0] * (s[0] - p["b"]) ** 2 / 2 + x[1] * s[1] ** 2, (2,), {"b": ()}, inputs=(2,)
    )
    problem = (line, {"b": 0.5}, StateCost(lambda s, y: (s[0] - y) ** 2 / 2, nodes=[0]), np.ones(2))
    flat = {"inputs": np.array([[1.0, 0.0], [1.0, 1.0]]), "scheme": scheme}
    out = qp.ep_gradient(*problem, **flat, throw=False)
    assert out.status >= qp.Status.DEGENERATE
    with pytest.raises(qp.EquilibriumError, match="degenerate"):
        qp.ep_gradient(*problem, **flat)


def test_batches_report_their_softest_mode_and_flat_ones_are_degenerate():
    rng = np.random.default_rng(7)
    bowl = EnergySystem(
        lambda p, s, x: s @ (p["a"] @ p["a"].T + jnp.diag(x)) @ s / 2 - s.sum(), (3,), {"a": (3, 3)}, inputs=(3,)
    )
    params, inputs = {"a": rng.normal(size=(3, 3))}, rng.uniform(0.5, 1, (4, 3))
    found = qp.equilibrate(bowl, params, inputs=inputs)
    known = [np.linalg.eigvalsh(params["a"] @ params["a"].T + np.diag(x))[0] for x in inputs]
    assert found.stats["smallest_curvature"] == pytest.approx(min(known), rel=1e-10)
    ring = EnergySystem(
        lambda p, s, x: -p["J"] * jnp.cos(s - jnp.roll(s, 1) - x).sum(), (3,), {"J": ()}, inputs=(3,), domain=Torus()
    )
    loose = qp.equilibrate(ring, {"J": 1.0}, inputs=0.1 * rng.normal(size=(2, 3)), throw=False)
    assert loose.status is qp.Status.DEGENERATE  # nothing fixes the common phase


@pytest.mark.parametrize("width", [1.0, 1e3, 1e6, 1e12])
@pytest.mark.parametrize("bent", [False, True], ids=["linear", "bent along one direction"])
def test_linear_energies_end_in_the_corner_of_any_box(width, bent):
    """Without curvature nothing says how far to go; slopes that differ by a thousand take the same steps."""

    def potential(p, s, x):
        return p["f"] @ s + 2 * bent * (s[0] - 0.4) ** 2

    system = EnergySystem(potential, (3,), {"f": (3,)}, domain=Box(-width, width))
    out = qp.equilibrate(system, {"f": [1.0, -0.3, 1e-3]})
    np.testing.assert_allclose(out.state.position, [0.15 if bent else -width, width, -width], rtol=1e-12)
    assert out.stats["newton_steps"] < 50
    assert float(out.residual) == 0 if not bent else float(out.residual) < 1e-12


def test_a_linear_energy_without_a_slope_somewhere_is_degenerate():
    system = EnergySystem(lambda p, s, x: (p["f"] * x) @ s, (2,), {"f": (2,)}, inputs=(2,), domain=Box(-1e6, 2e6))
    out = qp.equilibrate(system, {"f": [1.0, -0.3]}, inputs=[[1.0, 1.0], [-2.0, 0.0]], throw=False)
    assert out.status is qp.Status.DEGENERATE
    np.testing.assert_array_equal(out.state.position, [[-1e6, 2e6], [2e6, 0.0]])
