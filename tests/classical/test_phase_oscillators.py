"""Phase oscillators: their equilibria, and gradients by EP, implicit differentiation and finite differences."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import (
    Box,
    EnergySystem,
    Ising,
    OscillatorIsing,
    PhaseOscillators,
    StateCost,
    Torus,
    log_alignment,
    misalignment,
)

from ..measures import deviation, norm

RING = [(i, (i + 1) % 6) for i in range(6)] + [(0, 3), (1, 4)]
RNG = np.random.default_rng(0)
LOCKED = PhaseOscillators(6, RING, frequencies=True, start=0.1 * RNG.normal(size=6))
DRIVEN = PhaseOscillators(6, RING, fields=True, frequencies=True, driven=[0, 1])
MACHINE = OscillatorIsing(6, RING, injection=0.4, driven=[0], start=[0, 0.1, 3.0, 3.2, 0.2, -0.1])
CASES = {
    "locked": (LOCKED, {"J": RNG.uniform(1, 2, 8), "omega": 0.3 * RNG.normal(size=6)}, misalignment, None),
    "driven": (DRIVEN, {**DRIVEN.init_params(2), "h": RNG.uniform(1, 2, 6)}, log_alignment, RNG.normal(size=(3, 2))),
    "machine": (MACHINE, {"J": 0.3 * RNG.normal(size=8), "h": 0.3 * RNG.normal(size=6)}, log_alignment, [0.7]),
}


@pytest.mark.parametrize("name", CASES)
def test_ep_is_implicit_differentiation_is_finite_differences(name):
    system, params, cost, inputs = CASES[name]
    target = np.array([0.4, -0.5]) if np.ndim(inputs) < 2 else RNG.uniform(-0.5, 0.5, (3, 2))
    problem = (system, params, StateCost(cost, [4, 5]), target)
    exact = qp.linear_response(*problem, inputs=inputs)
    assert all(np.abs(value).max() > 1e-3 for value in exact.grad.values())
    known = qp.finite_difference(*problem, inputs=inputs, step=3e-3)
    assert deviation(known.grad, exact.grad) < 1e-7
    out = qp.ep_gradient(*problem, inputs=inputs, scheme=qp.centered(1e-4))
    assert deviation(out.grad, exact.grad) < 1e-5
    assert norm({n: out.grad[n] - exact.grad[n] for n in out.grad}) < 10 * norm(out.truncation) + 1e-8


def test_locked_states_balance_kuramoto_s_equation():
    phases = qp.equilibrate(LOCKED, params := CASES["locked"][1]).state.position
    drift = params["omega"].copy()
    for (i, j), coupling in zip(RING, params["J"], strict=True):
        drift[i] += coupling * np.sin(phases[j] - phases[i])
        drift[j] += coupling * np.sin(phases[i] - phases[j])
    assert phases[0] == LOCKED.start()[0]
    np.testing.assert_allclose(drift, params["omega"].mean(), atol=1e-12)


def test_a_common_phase_and_a_common_frequency_change_nothing():
    system, params, *_ = CASES["locked"]
    gaps = np.diff(qp.equilibrate(system, params).state.position)
    turned = PhaseOscillators(6, RING, frequencies=True, start=system.start() + 0.5)
    again = qp.equilibrate(turned, {**params, "omega": params["omega"] + 3.0})
    np.testing.assert_allclose(np.diff(again.state.position), gaps, atol=1e-12)


def test_at_phases_zero_and_pi_an_oscillator_machine_is_an_ising_machine():
    rng = np.random.default_rng(3)
    params, spins = {"J": rng.normal(size=8), "h": rng.normal(size=6)}, rng.choice([-1.0, 1.0], 6)
    machine = OscillatorIsing(6, RING, injection=2.5)
    bonds = sum(coupling * spins[i] * spins[j] for coupling, (i, j) in zip(params["J"], RING, strict=True))
    phases = np.where(spins > 0, 0.0, np.pi)
    np.testing.assert_allclose(machine.bare_value(params, phases), -bonds - params["h"] @ spins - 6 * 2.5)
    assert Ising(6, RING).param_shapes == machine.param_shapes
    spin_state = qp.equilibrate(OscillatorIsing(6, RING, injection=2.5, start=phases + 0.1), params).state.position
    np.testing.assert_allclose(spin_state, phases, atol=1e-10)


def test_held_coordinates_fix_a_gauge_or_clamp_nodes():
    def chain(p, s, x):
        return (p["k"] * (s[1:] - s[:-1] - 1) ** 2).sum() / 2

    loose = EnergySystem(chain, (3,), {"k": (2,)})
    with pytest.raises(qp.EquilibriumError, match="degenerate"):
        qp.equilibrate(loose, {"k": [1.0, 2.0]})
    fixed = EnergySystem(chain, (3,), {"k": (2,)}, held=[True, False, True])
    found = qp.equilibrate(fixed, {"k": [1.0, 2.0]}).state.position  # (1 k0 - 1 k1 + 0) / (k0 + k1) from the ends at 0
    np.testing.assert_allclose(found, [0.0, -1 / 3, 0.0], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda: PhaseOscillators(2, [(0, 2)]), ValueError, "edges"),
        (lambda: PhaseOscillators(2, [(0, 1)], start=[0.0]), ValueError, "start"),
        (lambda: PhaseOscillators(2, [(0, 1)]).with_inputs([1.0]), ValueError, "no driven oscillators"),
        (lambda: OscillatorIsing(2, [(0, 1)], injection=-1.0), ValueError, "injection"),
        (lambda: EnergySystem(lambda p, s, x: 0.0, (2,), {"a": ()}, held=[0]), ValueError, "`held` must be a mask"),
        (lambda: EnergySystem(lambda p, s, x: 0.0, (2,), {"a": ()}, domain=3), TypeError, "`domain` must be"),
        (lambda: Torus(0.0), ValueError, "period"),
        (lambda: Box(1.0, 0.0), ValueError, "`low` must be below"),
    ],
)
def test_bad_arguments_are_refused(call, kind, match):
    with pytest.raises(kind, match=match):
        call()
