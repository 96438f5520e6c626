"""Vector fields: with an energy they are energy systems; without one, only the corrected nudge gives the gradient."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import AsymEP, EnergySystem, FixedPoint, StateCost, VectorField
from qeqprop.core.precision import jax_float64

SIZE = 6


def squared_error(s, y):
    return ((s - y) ** 2).sum() / 2


def network(p, s, x):
    """A leaky network with weights of any symmetry."""
    drive = jnp.concatenate([x, jnp.zeros(SIZE - len(x))])
    return -s + p["W"] @ jnp.tanh(s) + p["b"] + drive


def weights(asymmetry, seed=0):
    """Symmetric weights turned into antisymmetric ones, of one norm."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(SIZE, SIZE))
    even, odd = (a + a.T) / 2, (a - a.T) / 2
    mixed = np.cos(asymmetry) * even / np.linalg.norm(even) + np.sin(asymmetry) * odd / np.linalg.norm(odd)
    return {"W": 1.5 * mixed, "b": 0.3 * rng.normal(size=SIZE)}


NETWORK = VectorField(network, SIZE, {"W": (SIZE, SIZE), "b": (SIZE,)}, inputs=(2,))
COST = StateCost(squared_error, nodes=[4, 5])
PROBLEM = {"target": np.array([0.5, -0.4]), "inputs": np.array([0.8, -1.1])}


def implicit_gradient(field, params, state, target, inputs, nodes):
    """The gradient by the implicit function theorem, by its definition: -dC/ds J^-1 dF/dtheta."""
    jax_float64()
    jacobian = jax.jacobian(field, argnums=1)(params, state, inputs)
    slope = jax.grad(lambda s: squared_error(s[np.array(nodes)], target))(state)
    adjoint = np.linalg.solve(np.asarray(jacobian).T, -np.asarray(slope))
    by_params = jax.jacobian(field)(params, state, inputs)
    return {name: np.tensordot(adjoint, np.asarray(value), axes=1) for name, value in by_params.items()}


def flat(tree):
    return np.concatenate([np.ravel(tree[name]) for name in sorted(tree)])


def cosine(a, b):
    return float(flat(a) @ flat(b) / np.linalg.norm(flat(a)) / np.linalg.norm(flat(b)))


@pytest.mark.parametrize("asymmetry", [0.0, 0.5, 1.0, np.pi / 2])
def test_the_corrected_nudge_gives_the_gradient_at_any_asymmetry(asymmetry):
    params = weights(asymmetry)
    limit = qp.ep_gradient(NETWORK, params, COST, **PROBLEM)
    state = limit.free.state.position
    np.testing.assert_allclose(network(params, state, PROBLEM["inputs"]), 0, atol=1e-13)
    exact = implicit_gradient(network, params, state, PROBLEM["target"], PROBLEM["inputs"], [4, 5])
    size = np.linalg.norm(flat(exact))
    assert size > 0.1
    assert np.linalg.norm(flat(limit.grad) - flat(exact)) < 1e-12 * size
    nudged = qp.ep_gradient(NETWORK, params, COST, **PROBLEM, scheme=qp.centered(1e-4))
    assert np.linalg.norm(flat(nudged.grad) - flat(exact)) < 1e-7 * size
    known = qp.finite_difference(NETWORK, params, COST, **PROBLEM, components={"b": [(0,), (5,)]})
    np.testing.assert_allclose(known.grad["b"][[0, 5]], exact["b"][[0, 5]], rtol=1e-6)


def test_without_the_correction_the_gradient_turns_away_as_the_weights_lose_their_symmetry():
    cosines = []
    for asymmetry in (0.0, 0.4, 0.8, 1.2):
        found = []
        for seed in range(5):
            exact, plain = (
                qp.ep_gradient(NETWORK, weights(asymmetry, seed), COST, **PROBLEM, solver=solver, scheme=scheme).grad
                for solver, scheme in ((AsymEP(), None), (FixedPoint(), qp.centered(1e-4)))
            )
            # tanh is not linear: the Jacobian W tanh' is symmetric only after a change of coordinates
            found.append(cosine(exact, plain))
        cosines.append(np.mean(found))
    assert all(later < earlier for earlier, later in pairwise(cosines)), cosines
    assert cosines[0] > 0.95
    assert cosines[-1] < 0.8


def potential(p, s, x):
    return (s**2 + s**4 / 4).sum() / 2 - s @ p["W"] @ s / 2 - (p["b"] + x) @ s


def minus_slope(p, s, x):
    return -jax.grad(potential, argnums=1)(p, s, x)


def test_a_field_with_an_energy_is_an_energy_system_at_any_nudge():
    rng = np.random.default_rng(3)
    params = {"W": 0.2 * rng.normal(size=(3, 3)), "b": rng.normal(size=3)}
    shapes = {"W": (3, 3), "b": (3,)}
    problem = (StateCost(squared_error, nodes=[2]), [1.0])
    for solver in (FixedPoint(), AsymEP()):
        for scheme in (qp.centered(0.3), qp.one_sided(0.5), qp.LinearResponse()):
            field = qp.ep_gradient(
                VectorField(minus_slope, 3, shapes, inputs=(3,)), params, *problem,
                inputs=[0.1, 0.2, 0.3], solver=solver, scheme=scheme,
            )  # fmt: skip
            energy = qp.ep_gradient(
                EnergySystem(potential, (3,), shapes, inputs=(3,)), params, *problem,
                inputs=[0.1, 0.2, 0.3], scheme=scheme,
            )  # fmt: skip
            assert np.linalg.norm(flat(energy.grad)) > 0.1
            np.testing.assert_allclose(flat(field.grad), flat(energy.grad), atol=1e-10)


def one_way(p, v, x):
    """Currents into the nodes of a resistor chain, whose second stage an ideal amplifier of gain 4 drives."""
    return jnp.array([p["g"][0] * (x[0] - v[0]) - p["g"][1] * v[0], p["g"][2] * (4 * v[0] - v[1]) - p["g"][3] * v[1]])


def test_resistors_behind_a_one_way_amplifier_learn():
    net = VectorField(one_way, 2, {"g": (4,)}, inputs=(1,))
    params, x, y = {"g": np.array([1.0, 2.0, 3.0, 1.0])}, 0.6, 1.0
    cost = StateCost(squared_error, nodes=[1])

    def loss(g):
        return (4 * x * g[0] / (g[0] + g[1]) * g[2] / (g[2] + g[3]) - y) ** 2 / 2

    jax_float64()
    exact = jax.grad(loss)(params["g"])
    out = qp.ep_gradient(net, params, cost, [y], inputs=[x], scheme=qp.centered(1e-4))
    np.testing.assert_allclose(out.grad["g"], exact, rtol=1e-7)
    deaf = qp.ep_gradient(net, params, cost, [y], inputs=[x], scheme=qp.centered(1e-4), solver=FixedPoint())
    np.testing.assert_allclose(deaf.grad["g"][:2], 0, atol=1e-12)  # nothing flows back to the first stage
    assert np.abs(exact[:2]).min() > 1e-2


def test_states_that_no_dynamics_reaches_are_refused():
    runaway = VectorField(lambda p, s, x: p["k"] * s - 1.0, 1, {"k": (1,)})
    with pytest.raises(qp.EquilibriumError, match="degenerate"):
        qp.equilibrate(runaway, {"k": [2.0]})
    nowhere = VectorField(lambda p, s, x: p["k"] + s**2, 1, {"k": (1,)}, start=[1.0])
    with pytest.raises(qp.EquilibriumError, match="unconverged"):
        qp.equilibrate(nowhere, {"k": [2.0]})
    with pytest.raises(ValueError, match=r"must return a velocity of shape \(2,\)"):
        VectorField(lambda p, s, x: s[:1], 2, {"k": (1,)})
    with pytest.raises(TypeError, match="AsymEP solves a VectorField, not EnergySystem"):
        qp.equilibrate(EnergySystem(lambda p, s, x: p["k"] @ s**2, (1,), {"k": (1,)}), {"k": [1.0]}, solver=AsymEP())


def test_a_gradient_is_saved_and_loaded(tmp_path):
    out = qp.ep_gradient(NETWORK, weights(0.5), COST, **PROBLEM, scheme=qp.centered(1e-3))
    qp.save(tmp_path / "gradient.npz", out)
    again = qp.load(tmp_path / "gradient.npz")
    np.testing.assert_array_equal(flat(again.grad), flat(out.grad))
    np.testing.assert_array_equal(again.nudged[0][1].state.origin, out.free.state.position)
