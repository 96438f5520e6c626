"""`fit`: it minimises, it repeats itself to the bit, it stops when told, and it takes no step it cannot trust."""

import numpy as np
import optax
import pytest

import qeqprop as qp

SPIN = qp.TransverseFieldIsing(1, [])
START = {"J": [], "h": [0.1], "g": [1.0]}


def problem():
    """Four spins, eight samples: tell the sign of the difference of two inputs."""
    network = qp.TransverseFieldIsing(4, [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)], input_sites=[0, 1])
    inputs = np.random.default_rng(0).normal(size=(8, 2))
    targets = np.where(inputs[:, :1] > inputs[:, 1:], [1.0, 0.0], [0.0, 1.0])
    return network, network.init_params(1), qp.ExpectationCost([qp.Z(2), qp.Z(3)], qp.cross_entropy), (inputs, targets)


def assert_same(one: qp.History, two: qp.History) -> None:
    assert one.loss.tobytes() == two.loss.tobytes()
    for name in one.params:
        assert one.params[name].tobytes() == two.params[name].tobytes()
        assert one.best_params[name].tobytes() == two.best_params[name].tobytes()


def test_one_spin_to_its_target():
    """<Z> = h / sqrt(h^2 + g^2) = 0.8; without data, a step an epoch."""
    nudge = qp.ObservableCost(qp.Z(0))  # the lowest <Z> is -1
    down = qp.fit(SPIN, START, nudge, epochs=60, optimizer=optax.sgd(0.5))
    assert down.loss.shape == down.grad_norm.shape == (60,)
    assert down.loss[-1] < -0.9
    assert np.all(np.diff(down.loss) < 1e-9)
    history = qp.fit(
        qp.TransverseFieldIsing(1, [], input_sites=[0]),
        START,
        qp.ExpectationCost([qp.Z(0)]),
        ([[0.0]], [[0.8]]),
        epochs=60,
        optimizer=optax.sgd(0.3),
    )
    h, g = float(history.params["h"][0]), float(history.params["g"][0])
    assert h / np.hypot(h, g) == pytest.approx(0.8, abs=1e-3)
    assert history.loss[-1] < 1e-6 < history.loss[0]


def test_first_step_is_minus_the_gradient():
    network, params, nudge, data = problem()
    rate = 0.05
    history = qp.fit(network, params, nudge, data, epochs=1, batch_size=8, optimizer=optax.sgd(rate))
    out = qp.ep_gradient(network, params, nudge, data[1], inputs=data[0])
    assert history.loss[0] == pytest.approx(float(out.loss), abs=1e-12)
    assert history.grad_norm[0] == pytest.approx(np.sqrt(sum(np.sum(v**2) for v in out.grad.values())), rel=1e-6)
    for name in params:
        np.testing.assert_allclose(history.params[name], params[name] - rate * out.grad[name], atol=1e-8)


def test_training_on_data():
    network, params, nudge, data = problem()
    history = qp.fit(network, params, nudge, data, epochs=15, batch_size=4, optimizer=optax.adam(0.1),
                     validation=data, metric=qp.accuracy)  # fmt: skip
    assert history.loss.shape == (30,)
    assert history.validation_loss.shape == history.metric.shape == (15,)
    assert history.validation_loss[-1] < 0.5 * history.validation_loss[0]
    assert history.metric[-1] >= 0.75
    assert sum(history.status_counts.values()) == 30
    assert history.best_epoch == int(np.argmin(history.validation_loss))
    best = qp.evaluate(network, history.best_params, nudge, data, metric=qp.accuracy)
    assert best.loss == pytest.approx(history.validation_loss.min(), abs=1e-12)
    assert best.metric == history.metric[history.best_epoch]
    assert all(value.dtype == np.float64 for value in history.params.values())


def test_params_given_are_not_changed():
    network, params, nudge, data = problem()
    before = {name: value.copy() for name, value in params.items()}
    qp.fit(network, params, nudge, data, epochs=1)
    for name, value in before.items():
        np.testing.assert_array_equal(params[name], value)


def test_same_seed_same_bits():
    network, params, nudge, data = problem()
    one, two, other = (qp.fit(network, params, nudge, data, epochs=3, batch_size=3, seed=s) for s in (5, 5, 6))
    assert_same(one, two)
    assert one.loss.tobytes() != other.loss.tobytes(), "another seed must shuffle in another way"
    assert one.seed == 5


def test_last_batch_may_be_smaller():
    network, params, nudge, data = problem()
    assert qp.fit(network, params, nudge, data, epochs=2, batch_size=5).loss.shape == (4,)


def test_frozen_parameters_stay():
    network, params, nudge, data = problem()
    history = qp.fit(network, params, nudge, data, epochs=2, frozen=("J", "g"))
    np.testing.assert_array_equal(history.params["J"], params["J"])
    np.testing.assert_array_equal(history.params["g"], params["g"])
    assert np.abs(history.params["h"] - params["h"]).min() > 1e-3
    assert list(history.params) == list(params)


def test_patience_stops_a_training_that_gets_worse():
    """Gradient ascent: no epoch is better than the first."""
    network, params, nudge, data = problem()
    history = qp.fit(network, params, nudge, data, epochs=50, optimizer=optax.sgd(-0.5), patience=3)
    assert history.stopped_early
    assert history.best_epoch == 0
    assert history.loss.size == 4
    assert "(stopped early)" in repr(history)
    patient = qp.fit(network, params, nudge, data, epochs=4, patience=10)
    assert not patient.stopped_early


def test_callback_sees_every_step():
    network, params, nudge, data = problem()
    seen = []
    history = qp.fit(network, params, nudge, data, epochs=2, batch_size=4,
                     callback=lambda step, out, now: seen.append((step, float(out.loss), now["h"].copy())))  # fmt: skip
    assert [step for step, _, _ in seen] == [1, 2, 3, 4]
    np.testing.assert_array_equal([loss for _, loss, _ in seen], history.loss)
    np.testing.assert_array_equal(seen[-1][2], history.params["h"])


def test_tolerate():
    """A step whose status is worse than `tolerate` is not taken."""
    network, params = qp.TransverseFieldIsing(4, [(0, 1), (1, 2), (2, 3)]), None
    params = {"J": [1.0] * 3, "h": [0.1] * 4, "g": [1.0] * 4}
    cost, gap = qp.ObservableCost(qp.Z(0)), float(qp.equilibrate(network, params).gap)
    large, too_large = qp.centered(0.3 * gap), qp.centered(0.8 * gap)
    accepted = qp.fit(network, params, cost, epochs=1, scheme=large)
    assert accepted.status_counts == {"large nudge": 1}
    with pytest.raises(qp.EquilibriumError, match="at training step 0"):
        qp.fit(network, params, cost, epochs=1, scheme=large, tolerate=qp.Status.OK)
    with pytest.raises(qp.EquilibriumError, match="nudge too large"):
        qp.fit(network, params, cost, epochs=1, scheme=too_large)
    forced = qp.fit(network, params, cost, epochs=1, scheme=too_large, tolerate=qp.Status.NUDGE_TOO_LARGE)
    assert forced.status_counts == {"nudge too large": 1}


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "one by one"])
def test_predict_and_evaluate(batched):
    """A batch, and a system that is solved sample by sample, give the same numbers."""
    sx, sz = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])
    if batched:
        system, params = qp.TransverseFieldIsing(1, [], input_sites=[0]), {"J": [], "h": [0.2], "g": [1.0]}
        nudge = qp.ExpectationCost([qp.Z(0)])
    else:
        system, params = qp.OperatorSystem({"g": [-sx], "h": [-sz]}, inputs=[-sz]), {"g": [1.0], "h": [0.2]}
        nudge = qp.ExpectationCost([qp.MatrixOperator(sz)])
    inputs, targets = np.linspace(-2, 2, 7)[:, None], np.linspace(-1, 1, 7)[:, None]
    expected = (0.2 + inputs) / np.hypot(0.2 + inputs, 1.0)
    np.testing.assert_allclose(qp.predict(system, params, nudge, inputs, chunk=3), expected, atol=1e-10)
    scores = qp.evaluate(system, params, nudge, (inputs, targets), metric=lambda o, y: np.abs(o - y).max(), chunk=2)
    assert scores.loss == pytest.approx(np.mean((expected - targets) ** 2), abs=1e-10)
    assert scores.metric == pytest.approx(np.abs(expected - targets).max(), abs=1e-9)
    assert qp.evaluate(system, params, nudge, (inputs, targets)).metric is None


def test_training_sample_by_sample():
    sx, sz = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])
    system = qp.OperatorSystem({"g": [-sx], "h": [-sz]}, inputs=[-sz])
    nudge = qp.ExpectationCost([qp.MatrixOperator(sz)])
    data = (np.array([[1.0], [-1.0], [0.5]]), np.array([[0.9], [-0.5], [0.6]]))
    history = qp.fit(
        system, {"g": [1.0], "h": [0.0]}, nudge, data, epochs=20, optimizer=optax.adam(0.1), validation=data
    )
    assert history.validation_loss[-1] < 0.5 * history.validation_loss[0]


def test_history_prints_and_progress_is_quiet(capsys):
    network, params, nudge, data = problem()
    history = qp.fit(network, params, nudge, data, epochs=2, validation=data, metric=qp.accuracy)
    text = repr(history)
    for part in ("2 steps", "seed 0", "loss", "->", "validation loss", "metric", "best epoch", "status", "ok: 2"):
        assert part in text, f"{part!r} is missing from\n{text}"
    assert capsys.readouterr().err == "", "no progress bar where there is no terminal"
    qp.fit(network, params, nudge, data, epochs=1, progress=True)
    assert "training" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"frozen": ("K",)}, ValueError, r"`frozen` must have names among \['J', 'h', 'g'\], but has \['K'\]"),
        ({"epochs": 0}, ValueError, "`epochs` must be a positive integer, but is 0"),
        ({"epochs": 1.5}, ValueError, "`epochs` must be a positive integer, but is 1.5"),
        ({"batch_size": -1}, ValueError, "`batch_size` must be a positive integer"),
        ({"patience": 0}, ValueError, "`patience` must be a positive integer"),
        ({"data": np.zeros((8, 2))}, TypeError, r"`data` must be a pair \(inputs, targets\)"),
        ({"data": (np.zeros((3, 2)), np.zeros((2, 2)))}, ValueError, "3 inputs and 2 targets"),
        ({"data": (np.zeros((0, 2)), np.zeros((0, 2)))}, ValueError, "at least one"),
        ({"data": (np.zeros((3, 5)), np.zeros((3, 2)))}, ValueError, r"must have shape \(2,\) or \(batch, 2\)"),
        ({"data": (np.zeros(3), np.zeros((3, 2)))}, ValueError, r"must have shape \(2,\) or \(batch, 2\)"),
        ({"data": (np.diag([1, np.nan])[[0, 0, 1]], np.zeros((3, 2)))}, ValueError, "`inputs` must be finite"),
        ({"data": (np.ones((3, 2)), np.full((3, 2), np.nan))}, ValueError, "`target` must be finite"),
        ({"validation": (np.zeros((3, 2)),)}, TypeError, r"`validation` must be a pair"),
        ({"learning_rate": 0.1}, TypeError, "learning_rate"),
    ],
    ids=["frozen", "epochs", "epochs float", "batch_size", "patience", "not a pair", "lengths", "empty", "width",
         "axes", "nan inputs", "nan targets", "validation", "unknown option"],
)  # fmt: skip
def test_bad_arguments_are_refused(options, error, message):
    network, params, nudge, data = problem()
    with pytest.raises(error, match=message):
        qp.fit(network, params, nudge, **({"data": data} | options))


def test_a_cost_without_target_is_trained_and_evaluated_on_inputs_alone():
    net = qp.TransverseFieldIsing(2, [(0, 1)], input_sites=[0])
    inputs = np.linspace(-1, 1, 6)[:, None]
    cost = qp.ObservableCost(qp.Z(1))
    start = {"J": [0.5], "h": [0.1, 0.1], "g": [1.0, 1.0]}
    history = qp.fit(net, start, cost, (inputs, None), epochs=3, batch_size=3, validation=(inputs, None))
    assert history.validation_loss[-1] < history.validation_loss[0]
    before = qp.evaluate(net, start, cost, (inputs, None)).loss
    states = [qp.equilibrate(net, start, inputs=x).state.expect(qp.Z(1)) for x in inputs]
    np.testing.assert_allclose(before, np.mean([float(z) for z in states]), atol=1e-9)
