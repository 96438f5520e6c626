"""Layers of phases on the layered engine, against the same network as a graph of phases, and against finite differences."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import (
    Alignment,
    BlockDescent,
    Clamp,
    Dense,
    LayeredPhaseOscillators,
    PhaseOscillators,
    StateCost,
    aligned_log_alignment,
    aligned_misalignment,
    log_alignment,
    misalignment,
)
from qeqprop.classical.unit_vectors import Circle, unit_vectors

from ..measures import deviation, norm

SIZES = (3, 6, 2)
SKIPS = (Alignment(0, 1), Alignment(1, 2), Alignment(0, 2))
COSTS = {"misalignment": (aligned_misalignment, misalignment), "log": (aligned_log_alignment, log_alignment)}


def network(interactions=SKIPS, batch=4, seed=0):
    net, rng = LayeredPhaseOscillators(SIZES, interactions=interactions), np.random.default_rng(seed)
    params = {name: value + 0.2 * rng.normal(size=value.shape) for name, value in net.init_params(rng).items()}
    return net, params, rng.uniform(-2, 2, (batch, 3)), rng.uniform(-1, 1, (batch, 2))


def as_a_graph(net, params):
    """The same network as `PhaseOscillators`, and its parameters."""
    first = np.cumsum([0, *SIZES])
    edges, couplings = [], []
    for k, link in enumerate(net.architecture.interactions):
        for i, j in np.ndindex(params[f"w{k}"].shape):
            edges.append((int(first[link.pre] + i), int(first[link.post] + j)))
            couplings.append(params[f"w{k}"][i, j])
    graph = PhaseOscillators(sum(SIZES), edges, fields=True, driven=range(SIZES[0]))
    fields = np.concatenate([np.zeros((2, SIZES[0])), *(params[f"b{k}"] for k in range(len(SIZES) - 1))], axis=1)
    strength, phase = np.linalg.norm(fields, axis=0), np.arctan2(fields[1], fields[0])
    return graph, {"J": np.array(couplings), "h": strength, "psi": phase}


@pytest.mark.parametrize("cost", COSTS)
def test_layers_of_phases_are_phase_oscillators(cost):
    net, params, inputs, targets = network()
    graph, known = as_a_graph(net, params)
    ours = qp.ep_gradient(net, params, StateCost(COSTS[cost][0], net.outputs), targets, inputs=inputs)
    theirs = qp.ep_gradient(graph, known, StateCost(COSTS[cost][1], [9, 10]), targets, inputs=inputs)
    assert norm(ours.grad) > 0.1
    np.testing.assert_allclose(ours.free.energy.mean, theirs.free.energy.mean, atol=1e-11)
    angles = np.concatenate(net.phases(ours.free.state), axis=1)
    np.testing.assert_allclose(np.cos(angles - theirs.free.state.position), 1, atol=1e-12)
    np.testing.assert_allclose(ours.losses, theirs.losses, atol=1e-11)
    couplings = np.concatenate([ours.grad[f"w{k}"].ravel() for k in range(3)])
    np.testing.assert_allclose(couplings, theirs.grad["J"], atol=1e-10)
    direction = unit_vectors(known["psi"])[:, SIZES[0] :]  # dL/dh = dL/db . (cos psi, sin psi)
    by_fields = np.concatenate([ours.grad["b0"], ours.grad["b1"]], axis=1)
    np.testing.assert_allclose((by_fields * direction).sum(axis=0), theirs.grad["h"][SIZES[0] :], atol=1e-10)


@pytest.mark.parametrize("cost", COSTS)
def test_ep_is_implicit_differentiation_is_finite_differences(cost):
    net, params, inputs, targets = network()
    problem = (net, params, StateCost(COSTS[cost][0], net.outputs), targets)
    exact = qp.linear_response(*problem, inputs=inputs)
    assert all(norm({name: grad}) > 1e-2 for name, grad in exact.grad.items())
    some = {name: list(np.ndindex(value.shape))[:3] for name, value in params.items()}
    known = qp.finite_difference(*problem, inputs=inputs, step=3e-3, components=some)
    assert deviation(known.grad, exact.grad) < 1e-8
    for scheme, bound in ((qp.centered(1e-4), 1e-6), (qp.richardson(0.02), 1e-4)):
        out = qp.ep_gradient(*problem, inputs=inputs, scheme=scheme)
        assert deviation(out.grad, exact.grad) < bound


def test_nudged_blocks_are_exact_where_the_cost_is_linear_in_the_vectors():
    """Outputs that nothing else moves are at their nudged minimum in one sweep."""
    net = LayeredPhaseOscillators((2, 3))
    rng = np.random.default_rng(1)
    params, inputs, targets = net.init_params(rng), rng.normal(size=(5, 2)), rng.normal(size=(5, 3))
    term = StateCost(aligned_misalignment, net.outputs).term(None, targets)
    driven, beta = net.with_inputs(inputs), 0.7
    found = BlockDescent().solve(driven.nudged(term, beta), params)
    assert found.stats["sweeps"] <= 1
    field = unit_vectors(inputs) @ params["w0"] + params["b0"] + beta * unit_vectors(targets)
    np.testing.assert_allclose(found.state.layers[1], field / np.linalg.norm(field, axis=1, keepdims=True), atol=1e-15)


def test_a_unit_vector_minimises_its_energy_under_any_stiffness():
    rng, circle = np.random.default_rng(2), Circle()
    field, stiffness = rng.normal(size=(4, 2, 3)), rng.uniform(-1, 2, (4, 2, 3))
    at = np.broadcast_to(circle.rest((2, 3)), field.shape)

    def energy(s):
        return (stiffness * s**2 / 2 - field * s).sum(axis=1)

    for _ in range(2000):
        before, at = at, np.asarray(circle.settle(field, stiffness, at))
        assert np.all(energy(at) <= energy(before) + 1e-12)
    for turn in (1e-3, -1e-3):
        other, _ = circle.between(at, np.stack([-at[:, 1], at[:, 0]], axis=1), turn)
        assert np.all(energy(np.asarray(other)) > energy(at))
    shift, moved = rng.normal(size=field.shape), at
    for _ in range(2000):
        moved = np.asarray(circle.settle(field + 1e-6 * shift, stiffness, moved))
    np.testing.assert_allclose((moved - at) / 1e-6, circle.response(field, stiffness, at, shift), atol=1e-4)


def test_nudges_that_leave_the_branch_are_flagged():
    """Released, a state that was nudged over a barrier does not come back."""
    rng, net, solver = np.random.default_rng(0), LayeredPhaseOscillators((2, 6, 6, 2)), BlockDescent()
    params = net.init_params(rng)
    for name, value in params.items():
        params[name] = 1.5 * value if name[0] == "w" else 0.2 * value + 0.05 * rng.normal(size=value.shape)
    cost, seen = StateCost(aligned_misalignment, net.outputs), {0.01: [], 2.0: []}
    for beta, found in seen.items():
        for _ in range(25):
            driven, target = net.with_inputs(rng.uniform(-3, 3, 2)), rng.uniform(-3, 3, 2)
            free = solver.solve(driven, params)
            nudged = solver.solve(driven.nudged(cost.term(free.state, target), beta), params, init=free)
            released = solver.solve(driven, params, init=nudged)
            assert free.status is released.status is qp.Status.OK
            gone = np.linalg.norm(released.state.position - free.state.position) > 1e-3
            found.append((gone, nudged.status is qp.Status.BRANCH_JUMP))
    assert seen[0.01] == [(False, False)] * 25
    assert sum(gone for gone, _ in seen[2.0]) >= 5
    assert sum(gone != flagged for gone, flagged in seen[2.0]) <= 2  # the straight way is not the valley's


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda: LayeredPhaseOscillators((3,)), ValueError, "`sizes`"),
        (lambda: LayeredPhaseOscillators((3, 2), interactions=[Dense(0, 1)]), TypeError, "`Alignment`s"),
        (lambda: LayeredPhaseOscillators((3, 2, 2), interactions=[Alignment(0, 1)]), ValueError, "reach every layer"),
        (lambda: LayeredPhaseOscillators((3, 2)).with_inputs([1.0]), ValueError, r"`inputs` must have shape \(3,\)"),
    ],
)
def test_bad_arguments_are_refused(call, kind, match):
    with pytest.raises(kind, match=match):
        call()


def test_a_clamp_on_unit_vectors_is_refused():
    net, params, inputs, targets = network()
    with pytest.raises(ValueError, match="no Clamp can hold"):
        qp.ep_gradient(net, params, Clamp(net.outputs), unit_vectors(targets).reshape(4, -1), inputs=inputs)
