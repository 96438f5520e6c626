"""Gradient flow in real time, against Newton's method and SciPy's integrators."""

import sys

import numpy as np
import pytest
import scipy.integrate

import qeqprop as qp
from qeqprop.classical import (
    Box,
    EnergySystem,
    FlowNetwork,
    GradientFlow,
    PhaseOscillators,
    StateCost,
    StuartLandau,
    misalignment,
)

from ..measures import deviation, norm
from .registry import RING

diffrax = pytest.importorskip("diffrax")


def test_it_ends_where_newton_s_method_does_with_the_same_gradients():
    rng, net = np.random.default_rng(0), PhaseOscillators(5, RING, fields=True, frequencies=True, driven=[0])
    params = net.init_params(rng) | {"h": rng.uniform(1, 2, 5)}
    inputs, target = rng.normal(size=(3, 1)), rng.uniform(-1, 1, (3, 2))
    problem = (net, params, StateCost(misalignment, [3, 4]), target)
    known = qp.linear_response(*problem, inputs=inputs)
    ours = qp.linear_response(*problem, inputs=inputs, solver=GradientFlow())
    turned = net.domain.between(ours.free.state.position, known.free.state.position)
    np.testing.assert_allclose(turned, 0, atol=1e-8)
    assert ours.free.stats["smallest_curvature"] > 0.1
    assert 1 < ours.free.stats["time"] < 1e3
    assert np.max(ours.free.residual) <= 1e-10
    assert norm(known.grad) > 0.1
    assert deviation(ours.grad, known.grad) < 1e-7
    nudged = qp.ep_gradient(*problem, inputs=inputs, solver=GradientFlow(), scheme=qp.centered(1e-2))
    assert deviation(nudged.grad, known.grad) < 1e-3
    assert all(0 < phase.stats["displacement"] < 0.1 for _, phase in nudged.nudged)


def test_a_state_follows_the_motion_into_the_basin_of_its_start():
    rng, edges = np.random.default_rng(1), [(i, j) for i in range(8) for j in range(i)]
    params = {"mu": np.ones(8), "J": rng.normal(size=len(edges)), "f": rng.normal(size=(8, 2))}
    ends = []
    for start in rng.normal(size=(3, 8, 2)):
        net = StuartLandau(8, edges, fields=True, start=start)
        found = qp.equilibrate(net, params, solver=GradientFlow())

        def velocity(t, z, net=net):
            return -net.bare_slope(params, z.reshape(8, 2))

        known = scipy.integrate.solve_ivp(velocity, (0, 400), start.ravel(), method="LSODA", rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(found.state.position.ravel(), known.y[:, -1], atol=1e-4)
        ends.append(round(float(found.energy), 6))
    assert len(set(ends)) > 1  # there is more than one basin


def test_what_does_not_come_to_rest_is_unconverged_and_saddle_points_are_degenerate():
    slope = EnergySystem(lambda p, s, x: -p["f"] @ s, (1,), {"f": (1,)})
    runaway = GradientFlow(diffrax.Tsit5(), max_time=10.0).solve(slope, {"f": np.ones(1)})
    assert runaway.status is qp.Status.UNCONVERGED
    assert runaway.stats["time"] == 10.0
    pair = PhaseOscillators(2, [(0, 1)])  # anti-ferromagnetic, and started side by side
    assert GradientFlow(diffrax.Tsit5()).solve(pair, {"J": np.array([-1.0])}).status is qp.Status.DEGENERATE


def test_the_integrator_can_be_chosen():
    well = EnergySystem(lambda p, s, x: p["k"] @ (s - 1) ** 2 / 2, (2,), {"k": (2,)})
    for method in (diffrax.Tsit5(), diffrax.Kvaerno3()):
        found = qp.equilibrate(
            well, {"k": [1.0, 3.0]}, solver=GradientFlow(method, tolerance=1e-7, atol=1e-10, rtol=1e-8)
        )
        np.testing.assert_allclose(found.state.position, 1, atol=1e-6)
    assert repr(GradientFlow(diffrax.Tsit5())) == "GradientFlow(Tsit5(), tolerance=1e-10)"


@pytest.mark.parametrize("method", [None, diffrax.Tsit5(), diffrax.Kvaerno3()])
def test_it_is_saved_with_its_integrator(method, tmp_path):
    solver = GradientFlow(method, tolerance=1e-7, rtol=1e-5, max_steps=300)
    assert qp.load(qp.save(tmp_path / "solver", solver)) == solver


@pytest.mark.parametrize("method", [diffrax.Dopri8(scan_kind="lax"), diffrax.HalfSolver(diffrax.Euler()), object()])
def test_an_integrator_with_settings_of_its_own_is_not_saved_without_them(method, tmp_path):
    with pytest.raises(TypeError, match="cannot be saved with the method"):
        qp.save(tmp_path / "solver", GradientFlow(method))
    assert not list(tmp_path.iterdir())


def test_an_unknown_integrator_of_a_saved_solver_is_refused():
    fields = GradientFlow(diffrax.Tsit5()).to_storage()
    for name in ("Tsit6", "diffeqsolve", "Event"):
        with pytest.raises(ValueError, match="not known to the installed diffrax"):
            GradientFlow.from_storage(fields | {"method": name})


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda: GradientFlow(tolerance=0.0), ValueError, "`tolerance` must be positive"),
        (lambda: _solve(GradientFlow("tsit5")), TypeError, "`method` must be a diffrax integrator"),
        (lambda: _solve(GradientFlow(), domain=Box(0, 1)), ValueError, "no flow along the bounds"),
        (
            lambda: qp.equilibrate(FlowNetwork(2, [(0, 1)], grounded=[0]), {"k": [1.0]}, solver=GradientFlow()),
            TypeError,
            "potentials written in JAX",
        ),
    ],
)
def test_bad_arguments_are_refused(call, kind, match):
    with pytest.raises(kind, match=match):
        call()


def test_without_diffrax_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(ModuleNotFoundError, match=r"qeqprop\[dynamics\]"):
        _solve(GradientFlow())


def _solve(solver, domain=None):
    well = EnergySystem(lambda p, s, x: p["k"] @ s**2 / 2, (1,), {"k": (1,)}, domain=domain)
    return qp.equilibrate(well, {"k": [1.0]}, solver=solver)
