"""Layered resistive networks: voltages, gradients by EP, implicit differentiation and finite differences, training."""

import numpy as np
import optax
import pytest
import scipy.optimize

import qeqprop as qp
from qeqprop.classical import BlockDescent, Coordinates, DeepResistiveNetwork, StateCost

from ..measures import deviation, norm


def squared_error(v, y):
    return ((v - y) ** 2).sum()


def quartic(v, y):
    return ((v - y) ** 4).sum() + v[0] * v[1]


def case(sizes=(3, 6, 5, 2), seed=0, batch=4, cost=squared_error, **gains):
    net = DeepResistiveNetwork(sizes, **gains)
    rng = np.random.default_rng(seed)
    shape = () if batch is None else (batch,)
    inputs, targets = rng.normal(size=(*shape, sizes[0])), 0.3 * rng.normal(size=(*shape, sizes[-1]))
    return net, net.init_params(rng), StateCost(cost, net.outputs), targets, inputs


CASES = {
    "unbuffered": case(),
    "single": case(batch=None),
    "amplified": case(voltage_gain=4.0, input_gain=3.0),
    "quartic cost": case(cost=quartic, input_gain=4.0),
    "no hidden layer": case((3, 2)),
    "deep, other current gain": case((2, 5, 6, 5, 2), seed=1, voltage_gain=2.0, current_gain=0.6),
}


@pytest.mark.parametrize("name", CASES)
def test_ep_is_implicit_differentiation_is_finite_differences(name):
    net, params, cost, target, inputs = CASES[name]
    exact = qp.linear_response(net, params, cost, target, inputs=inputs)
    assert exact.free.stats["kink_distance"] > 1e-3  # finite differences and nudges stay on one side of every diode
    components = {n: list(np.ndindex(v.shape))[:6] for n, v in exact.grad.items()}
    known = qp.finite_difference(net, params, cost, target, inputs=inputs, components=components, step=1e-4)
    picked = {n: np.where(np.isnan(known.grad[n]), 0.0, exact.grad[n]) for n in exact.grad}
    assert norm(picked) > 1e-3
    assert deviation({n: np.nan_to_num(v) for n, v in known.grad.items()}, picked) < 1e-7
    unit = net.symmetrizer(len(net.sizes) - 2)  # a nudge beta injects beta/s
    for scheme, beta, bound in ((qp.centered, 1e-4, 1e-6), (qp.one_sided, 1e-5, 1e-3), (qp.richardson, 1e-3, 1e-6)):
        scheme = scheme(beta * unit)
        out = qp.ep_gradient(net, params, cost, target, inputs=inputs, scheme=scheme)
        assert deviation(out.grad, exact.grad) < bound
        assert sum(phase.stats["bound_changes"] for _, phase in out.nudged) == 0


def test_the_equilibrium_is_the_bounded_minimum_of_the_co_content():
    net, params, _, _, inputs = case(batch=None, sizes=(2, 4, 3, 2))
    found = qp.equilibrate(net, params, inputs=inputs).state
    splits = np.cumsum(net.layer_sizes[1:])[:-1]
    sources = np.concatenate([inputs, -inputs])

    def co_content(v):
        layers = [sources, *np.split(v, splits)]
        return 0.5 * sum(
            np.sum(w * (u[:, None] - x) ** 2) for u, x, w in zip(layers[:-1], layers[1:], params.values(), strict=True)
        )

    bounds = []
    for layer, size in enumerate(net.layer_sizes[1:], 1):
        bounds += [(None, None) if layer == 3 else ((0, None), (None, 0))[j % 2] for j in range(size)]
    known = scipy.optimize.minimize(co_content, np.zeros(9), bounds=bounds, method="L-BFGS-B", tol=1e-15)
    np.testing.assert_allclose(np.concatenate(found.layers[1:]), known.x, atol=1e-6)
    assert float(qp.equilibrate(net, params, inputs=inputs).energy) == pytest.approx(co_content(found.position[4:]))
    assert 0 < np.sum(found.layers[1] == 0) < 4  # some diodes conduct, some do not


def test_batches_are_means_of_single_samples():
    net, params, cost, target, inputs = CASES["amplified"]
    together = qp.linear_response(net, params, cost, target, inputs=inputs)
    single = [qp.linear_response(net, params, cost, y, inputs=x) for x, y in zip(inputs, target, strict=True)]
    for name, grad in together.grad.items():
        np.testing.assert_allclose(grad, np.mean([out.grad[name] for out in single], axis=0), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(together.losses, [float(out.loss) for out in single], rtol=1e-12)
    outputs = qp.predict(net, params, cost, inputs)
    np.testing.assert_allclose(outputs[1], single[1].free.state.layers[-1], atol=1e-13)
    np.testing.assert_array_equal(outputs[0], together.free.state.expect(Coordinates(net.outputs)).mean[0])


def test_finite_nudges_are_exact_gradients_of_energy_differences_across_kinks():
    net, params, cost, target, inputs = CASES["unbuffered"]
    beta, step, slopes = 0.1, 1e-5, []
    target = 4 * target
    out = qp.ep_gradient(net, params, cost, target, inputs=inputs, scheme=qp.centered(beta), throw=False)
    assert sum(phase.stats["bound_changes"] for _, phase in out.nudged) > 0
    driven = net.with_inputs(inputs)
    for k in range(3):
        losses = []
        for sign in (1, -1):
            moved = {**params, "w1": params["w1"] + sign * step * (np.arange(params["w1"].size) == k).reshape(6, 5)}
            term = cost.term(None, target)
            up, down = (np.mean(qp.equilibrate(driven.nudged(term, b), moved).energy.mean) for b in (beta, -beta))
            losses.append((up - down) / (2 * beta))
        slopes.append((losses[0] - losses[1]) / (2 * step))
    np.testing.assert_allclose(out.grad["w1"].ravel()[:3], slopes, rtol=1e-5)


def test_costs_that_are_not_quadratic_are_at_rest_too():
    net, params, cost, target, inputs = CASES["quartic cost"]
    nudged = net.with_inputs(inputs).nudged(cost.term(None, target), 0.1)
    found = qp.equilibrate(nudged, params)
    assert found.status is qp.Status.OK
    shift, slopes = 1e-6, []  # the outputs are at a minimum of the energy
    for k in range(2):
        energies = []
        for sign in (1, -1):
            layers = list(found.state.layers)
            layers[-1] = layers[-1] + sign * shift * np.eye(2)[k]
            state = qp.classical.LayeredState(tuple(layers), batched=True)
            energies.append(nudged.energy(params, state).mean)
        slopes.append((energies[0] - energies[1]) / (2 * shift))
    assert np.abs(slopes).max() < 1e-8


def test_training_keeps_conductances_non_negative():
    net = DeepResistiveNetwork((4, 12, 3), voltage_gain=4.0, input_gain=10.0)
    data = qp.data.digits((0, 1, 2), n_features=4, off=0.0)
    cost = StateCost(squared_error, net.outputs)
    optimizer = optax.chain(optax.adam(0.003), optax.keep_params_nonnegative())
    history = qp.fit(
        net, net.init_params(0), cost, tuple(part[:400] for part in data.train), optimizer=optimizer, epochs=4, batch_size=10,
        validation=data.test, metric=qp.accuracy, progress=False,
    )  # fmt: skip
    assert history.metric[-1] > 0.85
    assert all(np.all(w >= 0) for w in history.params.values())


def test_results_survive_a_file(tmp_path):
    net, params, cost, target, inputs = CASES["amplified"]
    out = qp.ep_gradient(net, params, cost, target, inputs=inputs, scheme=qp.centered(1e-3))
    qp.save(tmp_path / "gradient.npz", out)
    back = qp.load(tmp_path / "gradient.npz")
    np.testing.assert_array_equal(back.grad["w0"], out.grad["w0"])
    np.testing.assert_array_equal(back.free.state.position, out.free.state.position)


def net_and(params, **options):
    return DeepResistiveNetwork((1, 2, 1), **options), {"w0": np.ones((2, 2)), "w1": np.ones((2, 1))} | params


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DeepResistiveNetwork((3,)), ValueError, "inputs and the outputs"),
        (lambda: DeepResistiveNetwork((3, 2), voltage_gain=0), ValueError, "must be positive"),
        (lambda: DeepResistiveNetwork((3, 2), current_gain=-1), ValueError, "must not be negative"),
        (lambda: qp.equilibrate(*net_and({"w1": -np.ones((2, 1))})), ValueError, "keep_params_nonnegative"),
        (lambda: qp.equilibrate(*net_and({"w0": np.array([[1.0, 0], [1, 0]])})), ValueError, "column 1 is all zero"),
        (lambda: qp.equilibrate(*net_and({}), inputs=np.ones(3)), ValueError, r"must have shape \(1,\)"),
        (lambda: qp.equilibrate(*net_and({}), solver=qp.classical.ActiveSet()), TypeError, "not DeepResistiveNetwork"),
        (lambda: BlockDescent(tolerance=0), ValueError, "between 1e-16 and 1"),
        (lambda: qp.ep_gradient(*net_and({}), StateCost(squared_error), 0.0), ValueError, "nodes=net.outputs"),
        (lambda: qp.ep_gradient(*net_and({}), StateCost(squared_error, [2]), 0.0), ValueError, "must be output units"),
        (lambda: qp.ep_gradient(*net_and({}), qp.ObservableCost(qp.Z(0))), TypeError, "shows `Coordinates`"),
        (
            lambda: qp.ep_gradient(*net_and({}, current_gain=0), StateCost(squared_error, [4]), [0.0]),
            ValueError,
            "nothing flows back",
        ),
        (
            lambda: qp.ep_gradient(
                *net_and({}), StateCost(squared_error, [4]), [0.0], inputs=[1.0], scheme=qp.centered(1.1)
            ),
            ValueError,
            r"\|beta\| must be below 1",
        ),
    ],
)
def test_errors_teach(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_nudges_that_leave_no_minimum_are_refused():
    net, params, cost, target, inputs = CASES["unbuffered"]
    with pytest.raises(qp.EquilibriumError, match="nudge too large"):
        qp.ep_gradient(net, params, cost, target, inputs=inputs, scheme=qp.centered(0.45))
