"""One contract for all solvers: EP is the derivative of the loss, by finite differences and by linear response.

A solver joins with one entry in `CASES`. Exact solvers must agree with their own finite differences and, where they
have it, with their own linear response; where a `reference` is named (another solver, perhaps of another system with the
same parameters), the gradient must be its gradient. Sampling solvers need a `reference`, and agree within five of their
standard errors.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import FockSolver, FockSpace

from ..measures import norm

Params = dict[str, np.ndarray]
EDGES = [(0, 1), (1, 2), (2, 3), (3, 0), (3, 1)]


@dataclass(frozen=True)
class SolverCase:
    """A problem and the solver under test.

    Attributes:
        system, params, nudge, target, inputs: the problem.
        solver: the one under test.
        scheme: whose truncation is below `tolerance`.
        tolerance: largest ||difference|| / ||gradient||; of sampling solvers in addition to five standard errors.
        reference: (solver, system) that have the same gradient by linear response.
        zeros: names of parameters whose gradient vanishes; that of all others must not.
        components: indices to difference in each name; None takes the first two.
        key: seed of a sampling solver.
    """

    name: str
    solver: Any
    system: Any
    params: Params
    nudge: Any
    target: Any = None
    inputs: Any = None
    scheme: Any = field(default_factory=lambda: qp.richardson(5e-3))
    tolerance: float = 1e-6
    reference: tuple[Any, Any] | None = None
    zeros: tuple[str, ...] = ()
    components: Any = None
    key: int | None = None

    @property
    def problem(self) -> tuple[Any, ...]:
        """The positional arguments of `ep_gradient`."""
        return self.system, self.params, self.nudge, self.target

    @functools.cached_property
    def ep(self) -> qp.EPGradient:
        """The gradient under test."""
        options = {"solver": self.solver, "scheme": self.scheme, "inputs": self.inputs, "key": self.key}
        return qp.ep_gradient(*self.problem, **options)

    def differenced(self) -> dict[str, list[Any]]:
        """The components that finite differences are taken of."""
        shapes = self.system.param_shapes
        return self.components or {name: list(np.ndindex(shape))[:2] for name, shape in shapes.items()}


# ---- systems --------------------------------------------------------------------------------------------------------


def chain() -> tuple[Any, Params]:
    net = qp.TransverseFieldIsing(4, [(0, 1), (1, 2), (2, 3)])
    fields = {"h": np.array([0.3, -0.2, 0.5, 0.1]), "g": np.array([0.9, 1.1, 0.6, 0.8])}
    return net, {"J": np.array([1.0, -0.7, 0.4]), **fields}


def free_chain(n: int) -> tuple[Any, Params]:
    net = qp.TransverseFieldIsing(n, [(i, i + 1) for i in range(n - 1)])
    return net, {"J": np.linspace(0.6, 0.9, n - 1), "h": np.zeros(n), "g": np.linspace(1.2, 1.0, n)}


def ring(components: int = 1, **options: Any) -> tuple[Any, Params]:
    """Four nodes and a chord; every parameter trained."""
    names = options.pop("trainable", ("k", "l", "kappa", "f", "m"))
    net = qp.HarmonicNetwork(4, EDGES, components=components, trainable=names, **options)
    return net, net.init_params(7)


def pair() -> tuple[Any, Params]:
    net = qp.HarmonicNetwork(2, [(0, 1)], trainable=("k", "l", "kappa", "f", "m"))
    return net, net.init_params(3)


def qubits() -> tuple[Any, Params]:
    x, y, z = np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])
    terms = [np.kron(x, x), np.kron(y, z), np.kron(z, np.eye(2))]
    return qp.OperatorSystem({"t": terms}, fixed=np.kron(np.eye(2), x)), {"t": np.array([0.7, -0.5, 0.6])}


SQUARE = qp.ObservableCost((qp.R(2) - 0.5) ** 2 + 0.3 * qp.P(1) ** 2 + qp.R(0) * qp.R(1))
NEAR = qp.ObservableCost((qp.R(1) - 0.5) ** 2 + 0.3 * qp.P(0) ** 2)
MATRIX = qp.MatrixOperator(np.kron(np.eye(2), np.diag([1, -1])) + np.kron(np.diag([1, -1]), np.eye(2)))
BATCH = {"inputs": np.random.default_rng(0).normal(size=(5, 2)), "target": np.linspace(-0.5, 0.5, 10).reshape(5, 2)}


def _spins() -> list[SolverCase]:
    net, params = chain()
    cost = qp.ObservableCost(qp.Z(0) * qp.Z(3) + 0.5 * qp.X(1))
    free, free_params = free_chain(6)
    straight = qp.ObservableCost(qp.X(2) + qp.Z(3) * qp.Z(4))
    levels, cold = qp.ExactDiagonalization(), qp.GibbsState(0.5)
    sampled, shots = qp.ThermalPureStates(0.5, samples=64), qp.Measured(levels, shots=200_000)
    operators, values = qubits()
    return [
        SolverCase("exact diagonalisation", levels, net, params, cost),
        SolverCase("excited level", qp.ExactDiagonalization(level=2), net, params, cost, scheme=qp.richardson(2e-3)),
        SolverCase("Gibbs spins", cold, net, params, cost),
        SolverCase("thermal pure states", sampled, net, params, cost, reference=(cold, net), key=1),
        SolverCase(
            "shots", shots, net, params, cost, scheme=qp.centered(0.05), tolerance=0.02, reference=(levels, net), key=1
        ),
        SolverCase("exact operators", levels, operators, values, qp.ObservableCost(MATRIX)),
        SolverCase("Gibbs operators", cold, operators, values, qp.ObservableCost(MATRIX)),
        SolverCase(
            "free fermions",
            qp.FreeFermions(),
            free,
            free_params,
            straight,
            zeros=("h",),
            reference=(levels, free),
            components={"J": [0, 3], "g": [2, 5]},
        ),
    ]


def _oscillators() -> list[SolverCase]:
    (flat, params), (plane, vectors) = ring(), ring(2, hbar=0.6)
    classical, elastic = ring(hbar=0.0)
    driven, weights = ring(input_sites=[0, 3])
    outputs = qp.ExpectationCost([qp.R(1), qp.R(2) ** 2 + qp.P(0) ** 2])
    dense, sparse, warm = qp.GaussianGroundState(), qp.GaussianGroundState(dense_size=0), qp.GibbsState(0.7)
    return [
        SolverCase("Gaussian dense", dense, flat, params, SQUARE),
        SolverCase("Gaussian dense in the plane", dense, plane, vectors, SQUARE),
        SolverCase("Gaussian sparse", sparse, flat, params, SQUARE, reference=(dense, flat)),
        SolverCase("elastic", dense, classical, elastic, SQUARE, zeros=("m",)),
        SolverCase("Gaussian batch", dense, driven, weights, outputs, **BATCH, reference=(sparse, driven)),
        SolverCase("Gibbs oscillators", warm, flat, params, SQUARE),
        SolverCase("Gibbs oscillators in the plane", warm, plane, vectors, SQUARE),
        SolverCase("Gibbs oscillators, classical", warm, classical, elastic, SQUARE),
        SolverCase("Gibbs oscillators, batch", warm, driven, weights, outputs, **BATCH),
    ]


def _fock_spaces() -> list[SolverCase]:
    (two, params), warm = pair(), qp.GibbsState(0.3)
    one = qp.HarmonicNetwork(1, [], trainable=("kappa", "f", "m"))
    double_well = {"kappa": np.array([-1.0]), "f": np.array([0.4]), "m": np.array([1.3]), "quartic": np.array([0.5])}
    pulled = {"k": np.array([3.0]), "f": np.array([[-5.0, 0.4], [5.0, 0.3]]), "length": np.array([1.0])}
    stiff = FockSpace(
        qp.HarmonicNetwork(2, [(0, 1)], components=2, trainable=("k", "f"), fixed={"kappa": 1.1}),
        levels=5,
        trainable=("length",),
        center=[[-1.13, 0.33], [1.13, 0.31]],
        width=[[0.5, 0.6], [0.5, 0.6]],
    )
    return [
        SolverCase(
            "Fock space", FockSolver(), FockSpace(two, 20), params, NEAR, reference=(qp.GaussianGroundState(), two)
        ),
        SolverCase("warm Fock space", FockSolver(warm), FockSpace(two, 20), params, NEAR, reference=(warm, two)),
        SolverCase(
            "double well",
            FockSolver(),
            FockSpace(one, 40, trainable=("quartic",)),
            double_well,
            qp.ObservableCost(qp.R(0) ** 2 + qp.R(0)),
        ),
        SolverCase(
            "central spring in the plane",
            FockSolver(max_population=1e-2),
            stiff,
            pulled,
            qp.ObservableCost((qp.R(1) - 0.5) ** 2 + qp.R(0) * qp.R(0, 1)),
            components={"k": [0], "length": [0], "f": [(1, 1)]},
        ),
    ]


CASES = [*_spins(), *_oscillators(), *_fock_spaces()]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_").replace(",", ""))


# ---- the contract ---------------------------------------------------------------------------------------------------


def apart(case: SolverCase, other: Params) -> float:
    """||EP - other|| / ||EP|| over the components that `other` has, beyond five standard errors."""
    excess = {}
    for name, value in case.ep.grad.items():
        known = ~np.isnan(other[name])
        distance = np.abs(value - other[name])[known]
        excess[name] = np.maximum(distance - 5 * case.ep.stderr[name][known], 0.0)
    return norm(excess) / norm(case.ep.grad)


@each_case
def test_no_gradient_is_zero_by_symmetry(case):
    for name, value in case.ep.grad.items():
        if value.size:
            largest = np.abs(value).max()
            assert largest < 1e-9 if name in case.zeros else largest > 1e-3, f"{name}: {largest}"
    assert case.ep.status is qp.Status.OK
    assert norm(case.ep.stderr) < 0.5 * norm(case.ep.grad)


@each_case
def test_finite_differences(case):
    if case.solver.stochastic:
        assert case.reference is not None, "a sampling solver is compared with an exact one"
        return
    options: dict[str, Any] = {"solver": case.solver, "inputs": case.inputs, "components": case.differenced()}
    assert apart(case, qp.finite_difference(*case.problem, step=5e-3, **options).grad) < case.tolerance


@each_case
def test_linear_response(case):
    if case.solver.responds and not case.solver.stochastic:
        response = qp.linear_response(*case.problem, solver=case.solver, inputs=case.inputs)
        assert response.status is qp.Status.OK
        assert apart(case, response.grad) < case.tolerance
        assert float(response.loss) == pytest.approx(float(case.ep.loss), rel=1e-9)


@each_case
def test_reference(case):
    if case.reference is not None:
        solver, system = case.reference
        exact = qp.linear_response(
            system, case.params, case.nudge, case.target, solver=solver, inputs=case.inputs, throw=False
        )
        assert apart(case, exact.grad) < case.tolerance
        error = abs(float(exact.loss) - float(case.ep.loss))
        assert error < 5 * float(case.ep.loss.stderr) + case.tolerance * max(1.0, abs(float(exact.loss)))


@each_case
def test_the_energy_is_what_the_equilibrium_minimises(case):
    """de/dbeta = <C>_beta and de/dtheta = <dH/dtheta>: what the truncation error rests on."""
    if case.solver.stochastic or case.inputs is not None:
        return
    step, solver = 1e-3, case.solver
    free = case.ep.free
    term = case.nudge.term(free.state, case.target)

    def slope(energy: Callable[[float], float]) -> float:
        return float(8 * (energy(step) - energy(-step)) - (energy(2 * step) - energy(-2 * step))) / (12 * step)

    by_nudge = slope(lambda b: float(solver.solve(case.system.nudged(term, b), case.params, init=free).energy.mean))
    assert by_nudge == pytest.approx(float(term.expect(free.state).mean), abs=1e-6)
    forces = case.system.param_grad(case.params, free.state).mean
    for name, indices in case.differenced().items():
        for index in indices[:1]:

            def moved(b: float, name: str = name, index: Any = index) -> float:
                params = {n: value.copy() for n, value in case.params.items()}
                params[name][index] += b
                return float(solver.solve(case.system, params, init=free).energy.mean)

            assert slope(moved) == pytest.approx(forces[name][index], abs=1e-6), name


@each_case
def test_results_are_saved(case, tmp_path):
    again = qp.load(qp.save(tmp_path / "gradient", case.ep))
    assert repr(again) == repr(case.ep)
    ours, theirs = (out.free.state.expect_all(case.nudge.observables).mean for out in (case.ep, again))
    np.testing.assert_array_equal(ours, theirs)
