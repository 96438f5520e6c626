"""Averages over random starts, against the same points one by one."""

import numpy as np
import optax
import pytest

import qeqprop as qp
from qeqprop.classical import (
    Clamp,
    EnergySystem,
    Fire,
    FlowNetwork,
    Minimizer,
    PhaseOscillators,
    PointState,
    RandomStarts,
    StateCost,
    misalignment,
)

from ..measures import norm

N, R = 10, 8
ALL = [(i, j) for i in range(N) for j in range(i)]
COST = StateCost(misalignment, [8, 9])


def glass(seed=0, driven=(0, 1)):
    rng = np.random.default_rng(seed)
    net = PhaseOscillators(N, ALL, driven=driven)
    return net, {"J": rng.normal(size=len(ALL)) / np.sqrt(N)}, rng


@pytest.mark.parametrize("scheme", [qp.LinearResponse(), qp.centered(1e-4)], ids=["response", "centered"])
@pytest.mark.parametrize("batch", [None, 3])
def test_the_average_is_that_of_the_points_one_by_one(batch, scheme):
    net, params, rng = glass(8)
    inputs, target = rng.normal(size=(batch or 1, 2)), rng.uniform(-1, 1, (batch or 1, 2))
    many = qp.ep_gradient(
        net, params, COST, target if batch else target[0], scheme=scheme,
        inputs=inputs if batch else inputs[0], solver=RandomStarts(R), key=3,
    )  # fmt: skip
    points = many.free.state.position.reshape(R, -1, N)
    assert len(np.unique(np.cos(many.free.state.each(COST.observables[0])).round(6))) > 3  # several basins
    losses, grads = np.zeros((R, batch or 1)), np.zeros((R, batch or 1, len(ALL)))
    for r, b in np.ndindex(*losses.shape):
        init = qp.Equilibrium(PointState(points[r, b]), 0.0, 0.0, None, qp.Status.OK, {})
        out = qp.ep_gradient(net, params, COST, target[b], scheme=scheme, inputs=inputs[b], init=init)
        losses[r, b], grads[r, b] = out.loss, out.grad["J"]
    np.testing.assert_allclose(many.grad["J"], grads.mean(axis=(0, 1)), atol=1e-7)
    np.testing.assert_allclose(many.losses, losses.mean(axis=0) if batch else losses.mean(), atol=1e-10)
    assert norm(many.grad) > 0.05
    error = np.sqrt((grads.var(axis=0, ddof=1) / R).sum(axis=0)) / (batch or 1)
    np.testing.assert_allclose(many.stderr["J"], error, rtol=1e-3, atol=1e-7)
    spread = np.sqrt((losses.var(axis=0, ddof=1) / R).sum()) / (batch or 1)
    assert float(many.loss.stderr) == pytest.approx(spread, rel=1e-6)


def test_the_same_seed_gives_the_same_starts_and_another_others():
    net, params, _ = glass()
    first, same, other = (
        qp.equilibrate(net, params, inputs=[0.3, 0.1], solver=RandomStarts(R), key=key).state.position
        for key in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0.1
    np.testing.assert_array_equal(first[:, :2], np.tile([0.3, 0.1], (R, 1)))  # the driven ones are not drawn


def test_gradients_from_random_starts_are_saved(tmp_path):
    net, params, _ = glass()
    out = qp.ep_gradient(net, params, COST, [0.1, 0.2], inputs=[0.3, 0.1], solver=RandomStarts(4), key=0)
    known = qp.load(qp.save(tmp_path / "many.npz", out))
    np.testing.assert_array_equal(known.grad["J"], out.grad["J"])
    np.testing.assert_array_equal(known.stderr["J"], out.stderr["J"])
    assert repr(known.free.state) == repr(out.free.state) == "PointEnsemble(4 starts, coordinates (10,))"
    assert repr(known.solver) == repr(out.solver)
    assert "PointEnsemble" in out.free.state._repr_html_()


def test_systems_without_inputs_have_random_starts_too():
    wells = EnergySystem(lambda p, s, x: ((s**2 - 1) ** 2).sum() / 4 - p["f"] @ s, (1,), {"f": (1,)})
    out = qp.ep_gradient(
        wells,
        {"f": [0.1]},
        StateCost(lambda s, y: s[0] * y),
        1.0,
        solver=RandomStarts(200),
        key=0,
        scheme=qp.centered(1e-4),
    )
    found = out.free.state.position[:, 0]
    slopes = 1 / (3 * found**2 - 1)  # ds/df, at the two minima
    assert len(np.unique(found.round(9))) == 2
    np.testing.assert_allclose(out.grad["f"], slopes.mean(), atol=1e-7)
    z = (np.mean(found > 0) - 0.5) / np.sqrt(0.25 / 200)  # FIRE leads from s > 0.1 or so to the right
    assert abs(z) < 3


def test_random_starts_teach_all_basins_and_one_start_only_its_own():
    """One start learns that its own well is at 1. Averages tilt the energy until the other well, at -1, is none any more."""
    wells = EnergySystem(lambda p, s, x: ((s**2 - 1) ** 2).sum() / 4 - p["f"] @ s, (1,), {"f": (1,)}, start=[1.0])
    cost, losses = StateCost(lambda s, y: (s[0] - 1) ** 2), {}
    for name, solver in (("one", Minimizer()), ("many", RandomStarts(20))):
        trained = qp.fit(
            wells, {"f": [-0.1]}, cost, solver=solver, optimizer=optax.adam(0.05), epochs=40, progress=False
        )
        found = qp.equilibrate(wells, trained.params, solver=RandomStarts(100), key=5).state
        losses[name] = float(cost.cost(found).mean)
    assert losses["one"] > 1.5
    assert losses["many"] < 0.2


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda: RandomStarts(1), ValueError, "`starts` must be at least 2"),
        (lambda: RandomStarts(4, Fire()), TypeError, "`solver` must be a Minimizer"),
        (
            lambda: qp.equilibrate(FlowNetwork(2, [(0, 1)], grounded=[0]), {"k": [1.0]}, solver=RandomStarts(2), key=0),
            TypeError,
            "potentials written in JAX",
        ),
        (
            lambda: qp.ep_gradient(*glass()[:2], Clamp([9]), [0.0], inputs=[0, 0.0], solver=RandomStarts(2), key=0),
            ValueError,
            "no average over random starts",
        ),
        (
            lambda: qp.equilibrate(
                *glass()[:2], solver=RandomStarts(2), init=qp.equilibrate(*glass()[:2], inputs=[0.0, 1.0]), key=0
            ),
            ValueError,
            "`init` must have an ensemble",
        ),
    ],
)
def test_bad_arguments_are_refused(call, kind, match):
    with pytest.raises(kind, match=match):
        call()
