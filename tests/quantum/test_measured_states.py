"""Shots of thermal and complex states and of oscillators; states that cannot be read."""

import numpy as np
import pytest

import qeqprop as qp

from .measured import COST, EXACT, NET, PARAMS, SPRING_PARAMS, SPRINGS, assert_standard_normal, flat


def test_gibbs_states_are_read_as_well():
    solver, scheme = qp.GibbsState(0.7), qp.centered(0.2)
    exact = flat(qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=scheme).grad)
    outs = [
        qp.ep_gradient(NET, PARAMS, COST, solver=qp.Measured(solver, shots=300), scheme=scheme, key=k)
        for k in range(60)
    ]
    assert_standard_normal(np.array([(flat(o.grad) - exact) / flat(o.stderr) for o in outs]), effective=180)
    with pytest.raises(ValueError, match=r"Argument `scheme` must be given: .* knows no scale"):
        qp.ep_gradient(NET, PARAMS, COST, solver=qp.Measured(solver), key=0)


def test_complex_states_and_y_are_read():
    net = qp.quantum.phase_sensor(3)
    params = net.init_params(3)
    system, cost = net.with_inputs([1.0, 2.0, 1.0]), qp.ObservableCost(qp.Z(3) * qp.Y(4))
    exact = flat(qp.ep_gradient(system, params, cost, scheme=qp.centered(0.2), throw=False).grad)
    solver = qp.Measured(EXACT, shots=200)
    outs = [
        qp.ep_gradient(system, params, cost, solver=solver, scheme=qp.centered(0.2), key=k, throw=False)
        for k in range(30)
    ]
    assert np.linalg.norm(exact) > 0.1
    assert_standard_normal(np.array([(flat(o.grad) - exact) / flat(o.stderr) for o in outs]), effective=300)


def test_oscillators_are_read_in_two_settings():
    cost, scheme = qp.ObservableCost((qp.R(2) - 0.5) ** 2 + 0.5 * qp.P(0) ** 2), qp.centered(0.1)
    solver = qp.Measured(qp.GaussianGroundState(), shots=500)
    exact = flat(qp.ep_gradient(SPRINGS, SPRING_PARAMS, cost, scheme=scheme).grad)
    outs = [qp.ep_gradient(SPRINGS, SPRING_PARAMS, cost, solver=solver, scheme=scheme, key=k) for k in range(60)]
    assert outs[0].free.stats["settings"] == 2
    assert np.abs(exact).min() > 5e-4
    assert_standard_normal(np.array([(flat(o.grad) - exact) / flat(o.stderr) for o in outs]), effective=60 * 4)
    state = outs[0].free.state
    energy = SPRINGS.energy(SPRING_PARAMS, state)
    assert abs(float(energy) - float(outs[0].free.energy)) < 4 * energy.stderr
    assert energy.stderr > 0


def test_positions_alone_are_one_setting():
    net = qp.HarmonicNetwork(3, [(0, 1), (1, 2)], hbar=0.7, trainable=("k", "f"), fixed={"kappa": 0.6}, input_sites=[0])
    params = {"k": SPRING_PARAMS["k"], "f": SPRING_PARAMS["f"]}
    solver = qp.Measured(qp.GaussianGroundState(), shots=200)
    state = qp.equilibrate(net, params, solver=solver, inputs=np.zeros((4, 1)), key=0).state
    assert repr(state) == "MeasuredOscillators(3 nodes, batch of 4, 200 shots of positions)"
    assert not np.any(state.positions[0] == state.positions[1])  # samples of a batch have shots of their own
    forces = net.with_inputs(np.zeros((4, 1))).param_grad(params, state)
    assert forces.mean["k"].shape == forces.stderr["k"].shape == (4, 2)
    with pytest.raises(ValueError, match=r"Momenta are read in none of the settings .*bases=\['R', 'P'\]"):
        state.expect(qp.P(0) ** 2)
    both = qp.Measured(qp.GaussianGroundState(), shots=200, bases=["R", "P"])
    assert qp.equilibrate(net, params, solver=both, key=0).state.expect(qp.P(0) ** 2).stderr > 0
    with pytest.raises(ValueError, match=r"must be 'commuting' or \['R'\] for these oscillators"):
        qp.equilibrate(net, params, solver=qp.Measured(qp.GaussianGroundState(), bases=["P"]), key=0)
    with pytest.raises(ValueError, match="it flips bits, and oscillators have none"):
        qp.equilibrate(net, params, solver=qp.Measured(qp.GaussianGroundState(), readout_error=0.1), key=0)


def test_states_without_amplitudes_are_refused():
    chain = qp.TransverseFieldIsing(4, [(0, 1), (1, 2), (2, 3)])
    params = {"J": np.ones(3), "h": np.zeros(4), "g": np.ones(4)}
    with pytest.raises(TypeError, match=r"not a OpenChainState\. For spins use ExactDiagonalization"):
        qp.equilibrate(chain, params, solver=qp.Measured(qp.FreeFermions()), key=0)
    terms = qp.OperatorSystem({"a": [np.diag([1.0, 0.5])]})
    with pytest.raises(TypeError, match="no sites to read"):
        qp.equilibrate(terms, {"a": [1.0]}, solver=qp.Measured(EXACT), key=0)
