"""Wrong arguments of the engine's entry functions are refused in words, and never half-way through."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop import classical
from qeqprop.core.evaluation import evaluate
from qeqprop.core.reference import free_losses

from ..measures import deviation
from ..one_by_one import OneByOne

NET = qp.TransverseFieldIsing(2, [(0, 1)], input_sites=[0])
PARAMS = {"J": np.array([1.0]), "h": np.array([0.3, 0.1]), "g": np.array([1.0, 0.8])}
COST, OUTPUT = qp.ObservableCost(qp.Z(1)), qp.ExpectationCost([qp.Z(1)])
DATA = ([[0.1], [0.4]], [[0.2], [0.3]])
SHOTS = qp.Measured(qp.ExactDiagonalization(), shots=10)


@pytest.mark.parametrize("entry", [qp.ep_gradient, qp.finite_difference, qp.linear_response, qp.spsa_gradient,
                                   qp.check_gradient, qp.agnostic_step, qp.fit])  # fmt: skip
def test_an_observable_is_no_nudge(entry):
    with pytest.raises(TypeError, match=r"must be a qeqprop nudge, but is PauliSum: put it into an ObservableCost"):
        entry(NET, PARAMS, qp.Z(0))


def test_an_observable_is_no_nudge_elsewhere_either():
    for call in (
        lambda: qp.predict(NET, PARAMS, qp.Z(0), [[0.1]]),
        lambda: evaluate(NET, PARAMS, qp.Z(0), DATA),
        lambda: qp.optimal_nudge(NET, PARAMS, qp.Z(0), solver=SHOTS),
    ):
        with pytest.raises(TypeError, match="must be a qeqprop nudge"):
            call()


@pytest.mark.parametrize("solver", [
    qp.GaussianGroundState(), qp.FreeFermions(), qp.quantum.FockSolver(), classical.Minimizer(), classical.HeatBath(1.0),
    classical.BlockDescent(), classical.ActiveSet(), classical.PredictionSweeps(), classical.AsymEP(), classical.GradientFlow(),
    classical.RandomStarts(2), classical.HamiltonianEcho(), classical.StationaryAction(), classical.HolomorphicMinimizer(),
    classical.ExactEnumeration(1.0), classical.ParallelTempering([1.0, 2.0]), classical.SimulatedAnnealing(),
])  # fmt: skip
def test_a_solver_of_other_systems_names_one_of_this_system(solver):
    system = qp.OperatorSystem({"a": [np.diag([0.0, 1.0])]})
    message = r"\w+ solves .*, not OperatorSystem\. The default solver of .* is ExactDiagonalization"
    with pytest.raises(TypeError, match=message):
        qp.equilibrate(system, {"a": [1.0]}, solver=solver)
    springs = qp.HarmonicNetwork(1, [])
    with pytest.raises(TypeError, match="default solver of HarmonicNetwork is GaussianGroundState"):
        qp.equilibrate(springs, springs.init_params(0), solver=qp.ExactDiagonalization())


@pytest.mark.parametrize(
    ("components", "error", "message"),
    [
        ({"J": [99]}, ValueError, r"must have indices of `J`, which has shape \(1,\), but has \(99,\)"),
        ({"J": [(0, 0)]}, ValueError, r"which has shape \(1,\), but has \(0, 0\)"),
        ({"J": 3}, TypeError, "must be a dict of lists such as"),
        ("J", TypeError, "must be a dict of lists such as"),
    ],
)
def test_components(components, error, message):
    with pytest.raises(error, match=message):
        qp.finite_difference(NET, PARAMS, COST, components=components)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: qp.finite_difference(NET, PARAMS, COST, step=0), ValueError, "`step` must be finite and not 0"),
        (lambda: qp.linear_response(NET, PARAMS, COST, tolerance="x"), TypeError, "`tolerance` must be a real number"),
        (lambda: qp.linear_response(NET, PARAMS, COST, tolerance=2), ValueError, "must lie between 0 and 1, but is 2"),
        (lambda: qp.check_gradient(NET, PARAMS, COST, rtol=-1.0), ValueError, "`rtol` must not be negative"),
        (lambda: qp.equilibrate(NET, PARAMS, init=3), TypeError, "`init` must be an Equilibrium or None, but is int"),
        (lambda: qp.ep_gradient(NET, PARAMS, COST, init=3), TypeError, "`init` must be an Equilibrium or None"),
        (lambda: qp.agnostic_step(NET, PARAMS, COST, init=3), TypeError, "`init` must be an Equilibrium or None"),
        (lambda: qp.response_matrix(NET, PARAMS, [qp.Z(0)], init=3), TypeError, "`init` must be an Equilibrium"),
        (lambda: qp.predict(NET, PARAMS, OUTPUT, [[0.1]], chunk=0), ValueError, "`chunk` must be at least 1"),
        (lambda: qp.predict(NET, PARAMS, OUTPUT, None), ValueError, "`inputs` must be an array of samples"),
        (lambda: qp.ExactDiagonalization(tolerance="x"), TypeError, "`tolerance` must be a real number, but is 'x'"),
        (lambda: classical.Minimizer(tolerance=True), TypeError, "`tolerance` must be a real number, but is True"),
        (
            lambda: classical.BlockDescent(tolerance=1.0),
            ValueError,
            "`tolerance` must lie between 1e-16 and 1, but is 1",
        ),
        (lambda: qp.fit(NET, PARAMS, OUTPUT, DATA, optimizer="adam"), TypeError, "must be one of optax"),
        (lambda: qp.fit(NET, PARAMS, OUTPUT, DATA, frozen="J"), TypeError, r"a tuple of names such as \('J',\)"),
        (lambda: qp.fit(NET, PARAMS, OUTPUT, DATA, tolerate="ok"), TypeError, "`tolerate` must be a Status"),
        (lambda: qp.fit(NET, PARAMS, OUTPUT, DATA, seed="a"), TypeError, "`seed` must be an integer"),
        (lambda: qp.fit(NET, PARAMS, OUTPUT, DATA, resume=True), ValueError, "`resume` must be False without a"),
        (lambda: qp.fit(NET, PARAMS, OUTPUT, DATA, metric=qp.accuracy), ValueError, "None without `validation`"),
        (
            lambda: qp.fit(NET, PARAMS, OUTPUT, DATA, metric="accuracy", validation=DATA),
            TypeError,
            "`metric` must be callable, but is str",
        ),
        (lambda: qp.fit(NET, PARAMS, OUTPUT, DATA, callback=3), TypeError, "`callback` must be callable"),
        (lambda: qp.predict(NET, PARAMS, OUTPUT, np.zeros((0, 1))), ValueError, "batch axis first, but is empty"),
        (
            lambda: qp.predict(NET, qp.fit(NET, PARAMS, OUTPUT, DATA, epochs=1, progress=False), OUTPUT, [[0.1]]),
            TypeError,
            "is History: give its `.params`",
        ),
        (lambda: qp.accuracy([[0.1, 0.9]], [1]), ValueError, r"of class labels make `np\.eye\(2\)\[labels\]`"),
        (
            lambda: qp.ep_gradient(NET, PARAMS, qp.ExpectationCost([qp.Z(0), qp.Z(1)]), [1, 0], inputs=DATA[0]),
            ValueError,
            r"shape \(2,\), in every sample, but has shape \(\); of class labels",
        ),
        (lambda: qp.optimal_nudge(NET, PARAMS, COST, formula=3, solver=SHOTS), ValueError, "must be qp.centered or"),
        (lambda: qp.ep_gradient(NET, PARAMS, COST, scheme=qp.centered), TypeError, r"call it, `centered\(\.\.\.\)`"),
        (lambda: qp.ep_gradient(NET, PARAMS, COST, scheme=0.1), TypeError, r"must be a qeqprop scheme, but is 0\.1"),
        (lambda: qp.equilibrate(NET, PARAMS, solver=qp.FreeFermions), TypeError, "`FreeFermions` itself: call it"),
        (lambda: qp.equilibrate(qp.SpinNetwork, PARAMS), TypeError, "`SpinNetwork` itself: call it"),
        (lambda: qp.ep_gradient(NET, PARAMS, qp.ObservableCost), TypeError, "`ObservableCost` itself: call it"),
        (lambda: qp.equilibrate(NET, PARAMS | {"J": [[1.0], 2]}), ValueError, "`J` must be an array, all rows of one"),
        (lambda: qp.ObservableCost(np.eye(4)), TypeError, r"of matrices `qp.MatrixOperator\(\.\.\.\)`, but is ndarray"),
        (
            lambda: qp.ep_gradient(NET, PARAMS, qp.ObservableCost(qp.MatrixOperator(np.eye(4)))),
            TypeError,
            "make one by `PauliSum.from_matrix`",
        ),
    ],
)
def test_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("loss", "target", "error", "message"),
    [
        (
            qp.squared_error,
            [0.1, 0.2, 0.3],
            ValueError,
            r"one entry for each of the 1 observables, .* has shape \(3,\)",
        ),
        (qp.cross_entropy, [0.1, 0.2], ValueError, r"shape \(1,\), in every sample, but has shape \(2,\)"),
        (lambda o, y: o - y, [0.1], ValueError, "must return a scalar"),
        (lambda o, y: np.square(np.asarray(o) - y).sum(), [0.1], TypeError, "must be written with `jax.numpy`"),
        (lambda o, y: o[0] if o[0] > 0 else y[0], [0.1], TypeError, "without branches on values"),
    ],
)
def test_losses_and_targets(loss, target, error, message):
    """A target of another length would be broadcast in silence: the loss would be another one."""
    with pytest.raises(error, match=message):
        qp.ep_gradient(NET, PARAMS, qp.ExpectationCost([qp.Z(1)], loss), target)
    with pytest.raises(error, match=message):
        qp.ep_gradient(NET, PARAMS, qp.ExpectationCost([qp.Z(1)], loss), [target, target], inputs=DATA[0])


def test_costs_of_coordinates_do_not_nudge_quantum_systems():
    cost = qp.classical.StateCost(lambda s, y: s.sum())
    springs = qp.HarmonicNetwork(2, [(0, 1)])
    for system in (NET, springs, qp.quantum.FockSpace(springs, 3), qp.OperatorSystem({"a": [np.diag([1.0, -1.0])]})):
        with pytest.raises(
            TypeError, match="is nudged by an ObservableCost or an ExpectationCost, but not by a StateTerm"
        ):
            qp.ep_gradient(system, system.init_params(0), cost, 0.0, throw=False)


def test_systems_that_were_driven_before_go_sample_by_sample():
    driven, solver = NET.with_inputs(DATA[0]), OneByOne()
    out = qp.ep_gradient(driven, PARAMS, OUTPUT, DATA[1], solver=solver)
    exact = qp.ep_gradient(NET, PARAMS, OUTPUT, DATA[1], inputs=DATA[0])
    assert deviation(out.grad, exact.grad) < 1e-6
    differences = qp.finite_difference(driven, PARAMS, OUTPUT, DATA[1], solver=solver)
    assert deviation(differences.grad, exact.grad) < 1e-6


def test_finite_differences_of_a_batch_stay_on_the_branch_of_each_sample():
    solver = OneByOne()
    qp.finite_difference(NET, PARAMS, OUTPUT, DATA[1], inputs=DATA[0], solver=solver, components={"J": [0]})
    assert solver.starts[:2] == [([0.1], None), ([0.4], None)]
    assert len(solver.starts) == 2 + 4 * 2
    assert all(sample == start for sample, start in solver.starts[2:])


def test_a_failed_sample_that_is_not_the_last_is_seen():
    solver = OneByOne(fails=0.1)
    with pytest.raises(qp.EquilibriumError, match="unconverged"):
        qp.finite_difference(NET, PARAMS, OUTPUT, DATA[1], inputs=DATA[0], solver=solver)
    with pytest.raises(qp.EquilibriumError, match="in direction 0"):
        qp.spsa_gradient(NET, PARAMS, OUTPUT, DATA[1], inputs=DATA[0], solver=solver, key=0)
    problem = qp.core.gradient.Problem(NET.with_inputs(DATA[0]), PARAMS, OUTPUT, np.array(DATA[1]), solver, None)
    phases, _ = free_losses(problem, None, DATA[0])
    assert [phase.status.failed for phase in phases] == [True, False]


def test_no_prediction_from_an_equilibrium_that_was_not_found():
    solver = OneByOne(fails=0.4)
    with pytest.raises(qp.EquilibriumError, match=r"free phase of sample 1, residual"):
        qp.predict(NET, PARAMS, OUTPUT, DATA[0], solver=solver)
    with pytest.raises(qp.EquilibriumError, match="free phase of sample 1"):
        evaluate(NET, PARAMS, OUTPUT, DATA, solver=solver)
    taken = qp.predict(NET, PARAMS, OUTPUT, DATA[0], solver=solver, tolerate=qp.Status.UNCONVERGED)
    np.testing.assert_array_equal(taken, qp.predict(NET, PARAMS, OUTPUT, DATA[0], solver=OneByOne(fails=9.0)))
    training = {"solver": solver, "validation": DATA, "epochs": 1, "progress": False}
    history = qp.fit(NET, PARAMS, OUTPUT, DATA, tolerate=qp.Status.UNCONVERGED, **training)
    assert np.isfinite(history.validation_loss).all()
    with pytest.raises(qp.EquilibriumError, match="unconverged"):
        qp.fit(NET, PARAMS, OUTPUT, DATA, **training)
    flat = PARAMS | {"h": np.zeros(2), "g": np.full(2, 1e-9)}
    with pytest.raises(qp.EquilibriumError, match="free phase of samples 0 to 1"):
        qp.predict(NET, flat, OUTPUT, [[0.0], [0.0]])


def test_a_step_that_fails_says_what_is_known_of_its_free_phase():
    arch = classical.ElasticNetwork([(0, 1)], [[0.0], [1.0]], pinned=[0])
    cost = classical.StateCost(lambda r, y: (r[0, 0] - 2) ** 2, nodes=[1])
    with pytest.raises(qp.EquilibriumError, match=r"at training step 0; free phase, .* the most negative k\[0\] = -1"):
        qp.fit(arch, {"k": [-1.0], "l": [1.0]}, cost, progress=False)


def test_starts_of_other_systems_are_refused():
    spins = qp.equilibrate(NET, PARAMS)
    layers = classical.DeepHopfield((2, 2))
    rest = qp.equilibrate(layers, layers.init_params(0))
    oscillators = classical.HarmonicOscillators(1, [])
    one = {"k": [], "l": [], "kappa": [1.0], "f": [1.0]}
    for call, state in (
        (lambda: qp.equilibrate(NET, PARAMS, init=rest), "LayeredState"),
        (lambda: qp.equilibrate(layers, layers.init_params(0), init=spins), "PureState"),
        (lambda: qp.equilibrate(oscillators, one, init=spins), "PureState"),
        (lambda: qp.equilibrate(oscillators, one, init=spins, solver=classical.GradientFlow()), "PureState"),
    ):
        with pytest.raises(TypeError, match=rf"`init` must be an equilibrium of .*, but its state is {state}"):
            call()
