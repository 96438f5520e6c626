"""Batches of harmonic networks in one call: equal to single calls, with one factorisation where K is shared."""

from typing import Any

import numpy as np
import pytest

import qeqprop as qp

from ..measures import deviation, norm

EDGES = [(0, 1), (1, 2), (2, 3), (3, 0), (3, 1)]
GROUND, WARM = qp.GaussianGroundState(), qp.GibbsState(0.5)
each_solver = pytest.mark.parametrize("solver", [GROUND, WARM], ids=["ground", "warm"])
LINEAR = qp.ExpectationCost([qp.R(1), qp.R(2) - 0.2])
BENDING = qp.ExpectationCost([qp.R(1) ** 2, qp.R(2) * qp.R(0) + qp.P(1) ** 2])
DRAGGING = qp.ExpectationCost([qp.R(1), qp.P(2) + 0.5 * qp.P(0) ** 2])
each_cost = pytest.mark.parametrize("cost", [LINEAR, BENDING, DRAGGING], ids=["linear", "bending", "dragging"])
SCHEMES = [qp.LinearResponse(), qp.centered(1e-2), qp.holomorphic(1e-2)]


def problem(components: int = 1, **options: Any) -> tuple[Any, ...]:
    """Network, parameters, five samples of inputs and targets."""
    names = ("k", "l", "kappa", "f", "m")
    net = qp.HarmonicNetwork(4, EDGES, components=components, trainable=names, input_sites=[0, 3], **options)
    rng = np.random.default_rng(0)
    return net, net.init_params(1), rng.normal(size=(5, *net.input_shape)), rng.normal(size=(5, 2))


def mean_of_singles(net: Any, params: Any, cost: Any, x: Any, y: Any, **options: Any) -> tuple[list[Any], Any]:
    outs = [qp.ep_gradient(net, params, cost, b, inputs=a, **options) for a, b in zip(x, y, strict=True)]
    return outs, {name: np.mean([out.grad[name] for out in outs], axis=0) for name in outs[0].grad}


@pytest.mark.parametrize("components", [1, 2])
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: type(scheme).__name__ + str(scheme)[:8])
@each_cost
@each_solver
def test_batch_is_the_mean_of_single_calls(solver, cost, scheme, components):
    if scheme is SCHEMES[2] and solver is WARM:
        return  # refused: no complex nudges at a temperature
    net, params, x, y = problem(components)
    options = {"solver": solver, "scheme": scheme}
    batch = qp.ep_gradient(net, params, cost, y, inputs=x, **options)
    singles, mean = mean_of_singles(net, params, cost, x, y, **options)
    assert norm(mean) > 0.1
    assert deviation(batch.grad, mean) < 1e-12
    np.testing.assert_allclose(batch.losses, [float(out.loss) for out in singles], rtol=1e-12)
    assert batch.free.state.mean.shape == (5, 4 * components)
    assert batch.status is qp.Status.OK


@each_solver
def test_samples_that_share_their_stiffness_share_their_covariances(solver):
    net, params, x, y = problem()
    for cost, shape in ((LINEAR, (4, 4)), (BENDING, (5, 4, 4))):
        out = qp.ep_gradient(net, params, cost, y, inputs=x, solver=solver, scheme=qp.centered(1e-2))
        assert out.free.state.position_covariance.shape == (4, 4)
        assert out.nudged[0][1].state.position_covariance.shape == shape
        for phase in (out.free, out.nudged[0][1]):
            assert phase.energy.mean.shape == phase.residual.shape == (5,)
            assert phase.state.expect_all(cost.observables).mean.shape == (5, 2)
    assert "batch of 5" in repr(out.free.state)


@each_solver
@each_cost
def test_finite_differences(solver, cost):
    net, params, x, y = problem()
    response = qp.linear_response(net, params, cost, y, inputs=x, solver=solver)
    differences = qp.finite_difference(net, params, cost, y, inputs=x, solver=solver, step=2e-3)
    assert norm(response.grad) > 0.1
    assert deviation(differences.grad, response.grad) < 1e-8


@each_solver
def test_cost_without_targets(solver):
    """An `ObservableCost` bends all samples alike."""
    net, params, x, _ = problem()
    cost = qp.ObservableCost((qp.R(2) - 0.5) ** 2)
    for scheme in SCHEMES[:2]:
        batch = qp.ep_gradient(net, params, cost, inputs=x, solver=solver, scheme=scheme)
        singles = [qp.ep_gradient(net, params, cost, inputs=a, solver=solver, scheme=scheme).grad for a in x]
        assert deviation(batch.grad, {n: np.mean([g[n] for g in singles], axis=0) for n in params}) < 1e-12


def test_equilibrium_of_a_batch():
    net, params, x, _ = problem()
    batch = qp.equilibrate(net, params, inputs=x)
    singles = [qp.equilibrate(net, params, inputs=a) for a in x]
    np.testing.assert_allclose(batch.energy.mean, [float(s.energy) for s in singles], rtol=1e-13)
    np.testing.assert_allclose(batch.gap, [float(s.gap) for s in singles], rtol=1e-12)
    np.testing.assert_allclose(batch.state.mean, [s.state.mean for s in singles], atol=1e-13)
    warm = qp.equilibrate(net, params, inputs=x, solver=WARM)
    assert warm.stats["entropy"].shape == warm.stats["mean_energy"].shape == (5,)
    np.testing.assert_allclose(warm.energy.mean, warm.stats["mean_energy"] - 0.5 * warm.stats["entropy"], rtol=1e-13)


def test_large_networks_go_sample_by_sample():
    net, params, x, y = problem()
    sparse = qp.GaussianGroundState(dense_size=3)
    assert not sparse.accepts_batch(net.with_inputs(x))
    assert GROUND.accepts_batch(net.with_inputs(x))
    ours = qp.ep_gradient(net, params, BENDING, y, inputs=x, solver=sparse)
    assert deviation(ours.grad, qp.ep_gradient(net, params, BENDING, y, inputs=x).grad) < 1e-10


def test_a_sample_without_equilibrium_is_refused():
    """A nudge of which one sample's share is too strong."""
    net, params, x, _ = problem()
    free = qp.equilibrate(net, params, inputs=x)
    cost = qp.ExpectationCost([qp.R(1) ** 2])
    target = free.state.expect_all(cost.observables).mean - np.array([[0.01], [0.01], [0.9], [0.01], [0.01]])
    with pytest.raises(
        ValueError, match=r"leaves this network without a ground state.*must lie between -0\.[0-9]+ and"
    ):
        qp.ep_gradient(net, params, cost, target, inputs=x, scheme=qp.one_sided(-2.0))
    calm = np.delete(np.arange(5), 2)
    assert qp.ep_gradient(net, params, cost, target[calm], inputs=x[calm], scheme=qp.one_sided(-2.0)).status == 0


def test_memory_counts_the_samples():
    net, params, x, _ = problem()
    tight = qp.GaussianGroundState(memory=4000)
    assert qp.equilibrate(net, params, inputs=x[0], solver=tight).status is qp.Status.OK
    with pytest.raises(MemoryError, match="4 coordinates and 5 samples needs"):
        qp.equilibrate(net, params, inputs=x, solver=tight)


def test_training_takes_batches():
    """`fit` and `predict` reach a target through the same path."""
    net, params, x, y = problem()
    history = qp.fit(net, params, LINEAR, (x, y), epochs=2, scheme=qp.centered(1e-3))
    assert history.loss[-1] < history.loss[0]
