"""Harmonic and Stuart-Landau oscillators against the quantum network, closed forms, and each other."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import HarmonicOscillators, Minimizer, PhaseOscillators, StateCost, StuartLandau, misalignment

from ..measures import deviation, norm
from .registry import RING


@pytest.mark.parametrize("components", [1, 2])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_harmonic_oscillators_are_the_quantum_network_at_hbar_zero(components, batch):
    rng = np.random.default_rng(0)
    quantum = qp.HarmonicNetwork(5, RING, components=components, hbar=0.0, input_sites=[0, 2])
    classical = HarmonicOscillators(5, RING, components=components, input_sites=[0, 2])
    assert (classical.param_shapes, classical.input_shape) == (quantum.param_shapes, quantum.input_shape)
    params = {name: value + 0.3 for name, value in classical.init_params(rng).items()}
    inputs = rng.normal(size=(*batch, *classical.input_shape))
    means, points = (qp.equilibrate(net, params, inputs=inputs) for net in (quantum, classical))
    np.testing.assert_allclose(points.state.position.ravel(), np.ravel(means.state.mean), atol=1e-12)
    np.testing.assert_allclose(points.energy.mean, means.energy.mean, atol=1e-12)

    site = 4 * components  # the cost (r_4 + 3/2)^2 of the first component
    target = None if not batch else np.zeros(batch)
    of_points = StateCost(lambda r, y: (r.ravel()[site] + 1.5) ** 2)
    of_means = qp.ObservableCost((qp.R(4, 0) + 1.5) ** 2 if components > 1 else (qp.R(4) + 1.5) ** 2)
    ours = qp.ep_gradient(classical, params, of_points, target, inputs=inputs, scheme=qp.centered(0.1))
    theirs = qp.ep_gradient(quantum, params, of_means, inputs=inputs, scheme=qp.centered(0.1))
    assert all(norm({name: grad}) > 1e-2 for name, grad in theirs.grad.items())
    assert deviation(ours.grad, theirs.grad) < 1e-9
    assert float(ours.loss) == pytest.approx(float(theirs.loss), rel=1e-11)


def test_floating_and_unstable_springs_are_refused():
    net = HarmonicOscillators(2, [(0, 1)])
    floating = {"k": [1.0], "l": [1.0], "kappa": [0.0, 0.0], "f": [0.0, 0.0]}
    with pytest.raises(qp.EquilibriumError, match="degenerate"):
        qp.equilibrate(net, floating)
    with pytest.raises(qp.EquilibriumError):
        qp.equilibrate(net, floating | {"kappa": [-1.0, 0.5]})


def test_a_driven_stuart_landau_oscillator_solves_its_cubic():
    net = StuartLandau(1, [], fields=True)
    field = np.array([0.6, 0.8])
    z = qp.equilibrate(net, {"mu": [0.7], "J": [], "f": [field]}).state.position[0]
    size = float(max(np.roots([1.0, 0.0, -0.7, -1.0]).real))  # (|z|^2 - mu) |z| = |f|, along f
    np.testing.assert_allclose(z, size * field, atol=1e-12)


def test_strong_oscillators_have_phases_of_the_xy_model():
    rng, mu = np.random.default_rng(1), 1e4
    couplings, weights = rng.normal(size=7), rng.uniform(0.5, 1.5, 5)
    phases, angles = rng.uniform(-1, 1, 5), PhaseOscillators(5, RING, fields=True)
    amplitudes = StuartLandau(5, RING, fields=True, start=np.sqrt(mu) * np.stack([np.cos(phases), np.sin(phases)], 1))
    xy = {"J": couplings, "h": weights, "psi": phases}
    fields = np.sqrt(mu) * weights[:, None] * np.stack([np.cos(phases), np.sin(phases)], axis=1)
    z = qp.equilibrate(amplitudes, {"mu": np.full(5, mu), "J": couplings, "f": fields}).state.position
    angles = PhaseOscillators(5, RING, fields=True, start=np.arctan2(z[:, 1], z[:, 0]))
    found = qp.equilibrate(angles, xy).state.position
    np.testing.assert_allclose(np.arctan2(z[:, 1], z[:, 0]), found, atol=1e-3)
    assert np.ptp(found - phases) > 0.1  # the couplings have turned them


def phase_difference(z, target):
    """The cost (Re(z_0^* z_1) - y)^2 of a pair: it does not see a common phase."""
    return ((z[0] * z[1]).sum() - target) ** 2


def test_the_common_phase_of_free_amplitudes_is_fixed_and_changes_no_gradient():
    rng = np.random.default_rng(2)
    start = rng.normal(size=(5, 2))
    net, cost = StuartLandau(5, RING, start=start), StateCost(phase_difference, [2, 3])
    params = net.init_params(rng)
    out = qp.linear_response(net, params, cost, 0.3)
    assert out.free.state.position[0, 1] == start[0, 1]
    assert norm(out.grad) > 0.1
    known = qp.finite_difference(net, params, cost, 0.3, step=1e-3)
    assert deviation(known.grad, out.grad) < 1e-7
    turn = np.array([[np.cos(0.4), np.sin(0.4)], [-np.sin(0.4), np.cos(0.4)]])
    turned = StuartLandau(5, RING, start=out.free.state.position @ turn)
    again = qp.linear_response(turned, params, cost, 0.3)
    assert deviation(again.grad, out.grad) < 1e-8


def test_a_common_phase_that_nothing_fixes_is_refused():
    net = StuartLandau(3, [(1, 2)])  # oscillator 0 is below its onset, and at rest
    with pytest.raises(qp.EquilibriumError, match=r"degenerate|unconverged"):
        qp.equilibrate(net, {"mu": [-1.0, 1.0, 1.0], "J": [0.5]}, solver=Minimizer(max_iterations=30))


def test_large_lattices_have_sparse_curvatures():
    """A 40 x 40 lattice of phases: Newton's method and linear response in sparse matrices, against finite differences."""
    side = 40
    edges = [(i, i + 1) for i in range(side**2) if (i + 1) % side] + [(i, i + side) for i in range(side**2 - side)]
    rng, net = np.random.default_rng(3), PhaseOscillators(side**2, edges, fields=True)
    params = {"J": rng.uniform(0.2, 1, len(edges)), "h": np.ones(side**2), "psi": rng.uniform(-1, 1, side**2)}
    cost = StateCost(misalignment, [side // 2 * (side + 1)])
    exact = qp.linear_response(net, params, cost, [1.0])
    assert net.bare_curvature(params, exact.free.state.position).nnz == side**2 + 2 * len(edges)
    ends = np.argsort(np.abs(exact.grad["J"]))[-2:]
    known = qp.finite_difference(net, params, cost, [1.0], step=1e-3, components={"J": [(int(k),) for k in ends]})
    np.testing.assert_allclose(known.grad["J"][ends], exact.grad["J"][ends], rtol=1e-7)
    out = qp.ep_gradient(net, params, cost, [1.0], scheme=qp.centered(1e-3), solver=Minimizer())
    assert deviation(out.grad, exact.grad) < 1e-5


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: HarmonicOscillators(2, [(0, 1)]).with_inputs([1.0]), "no input sites"),
        (lambda: HarmonicOscillators(2, [(0, 1)], input_sites=[2]), "`input_sites` must hold distinct nodes"),
        (lambda: StuartLandau(2, [(0, 1)], start=[1.0, 0.0]), r"`start` must have shape \(2, 2\)"),
        (lambda: StuartLandau(2, [(0, 1)], driven=[0]).with_inputs([1.0]), r"`inputs` must have shape \(1, 2\)"),
    ],
)
def test_bad_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
