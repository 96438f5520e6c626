"""Ready-made training tasks: a network, a cost, real data, and the settings that train one by the other.

Every task trains by centered equilibrium propagation. `run_task` trains on the training part and measures the accuracy
on the test part, beside three references: the network before training, the same network with its random couplings
frozen, and logistic regression on the very same inputs.
"""

import dataclasses
import os
import time
from collections.abc import Callable
from itertools import combinations, product
from typing import Any

import numpy as np

from . import data
from .core.evaluation import accuracy, evaluate, predict
from .core.extras import extra_module
from .core.gradient import EPGradient
from .core.graph import check_count
from .core.history import History
from .core.nudge import AbstractNudge, ExpectationCost, cross_entropy, squared_error
from .core.scheme import AbstractScheme, centered
from .core.status import Status
from .core.system import AbstractSystem, Params
from .core.training import fit
from .data import Dataset
from .quantum.ising import TransverseFieldIsing
from .quantum.models import phase_sensor, phase_sensor_cost
from .quantum.pauli import PauliSum, Z

Callback = Callable[[int, EPGradient, Params], None]


@dataclasses.dataclass(frozen=True)
class Task:
    """What to train, on what, and how.

    Attributes:
        name: of the task.
        system, nudge: the network and its cost.
        make_data: seed -> `Dataset`; the seed draws the split (or the samples).
        make_params: seed -> parameters to start from.
        couplings: names of the parameters that the frozen reference keeps at their random values.
        scheme: how the derivative in beta is taken.
        learning_rate: of Adam, falling to 0 along a cosine over the training.
        epochs, batch_size: passes over the training part, and samples a step.
        tolerate: the worst status that a step may have, as in `qp.fit`. By default a step may meet (nearly) degenerate
            samples: one of a batch close to a level crossing must not end a training, and on clipped gradients (see
            `optimizer`) it can do no more harm than any other step. An unconverged phase still raises. How many steps
            were hit is in `History.status_counts`.
    """

    name: str
    system: AbstractSystem
    nudge: AbstractNudge
    make_data: Callable[[int], Dataset]
    make_params: Callable[[int], Params]
    couplings: tuple[str, ...]
    scheme: AbstractScheme
    learning_rate: float
    epochs: int
    batch_size: int
    tolerate: Status = Status.DEGENERATE

    @property
    def n_params(self) -> int:
        """Number of trained parameters."""
        return sum(int(np.prod(shape)) for shape in self.system.param_shapes.values())

    def optimizer(self, n_steps: int) -> Any:
        """Adam with a cosine schedule that ends after `n_steps`, on gradients clipped to norm 1.

        Close to a level crossing a gradient grows like 1/gap; clipped, one such sample cannot undo many steps.
        """
        import optax

        schedule = optax.cosine_decay_schedule(self.learning_rate, n_steps)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def __repr__(self) -> str:
        return (
            f"Task({self.name}: {self.system}, {self.n_params} parameters, {self.scheme}, "
            f"Adam {self.learning_rate:g}, {self.epochs} epochs of batches of {self.batch_size})"
        )


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """How well a task was learnt: accuracies on the test part. Prints a table.

    Attributes:
        task, seed: name of the task, and the seed of data, parameters and shuffling.
        history: of the training by equilibrium propagation.
        trained: accuracy of the trained network.
        untrained: of the same network at its random initial parameters, nothing trained.
        frozen: of the same network with `Task.couplings` kept at their random values and the rest (local fields) trained
            in the same way; None where the references were left out.
        logistic: of logistic regression on the same inputs; None where the references were left out.
        seconds: CPU time of the training (all threads, compilation and `curves` included; of the last run where it was
            resumed), without the references.
        n_params: number of trained parameters.
        labels: names of the classes.
        outputs, targets: expectation values of the trained network on the test part and what they should be,
            (n_test, n_classes).
    """

    task: str
    seed: int
    history: History
    trained: float
    untrained: float
    frozen: float | None
    logistic: float | None
    seconds: float
    n_params: int
    labels: tuple[str, ...]
    outputs: np.ndarray
    targets: np.ndarray

    @property
    def confusion(self) -> np.ndarray:
        """Number of test samples of class (row) that were taken for class (column)."""
        size = len(self.labels)
        pairs = np.argmax(self.targets, axis=1) * size + np.argmax(self.outputs, axis=1)
        return np.bincount(pairs, minlength=size * size).reshape(size, size)

    def to_dict(self) -> dict[str, Any]:
        """Everything as arrays, numbers and strings, for `qp.save`."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {
            "labels": list(self.labels)
        }

    def __repr__(self) -> str:
        rows = [
            ("equilibrium propagation", self.trained),
            ("random network, untrained", self.untrained),
            ("random couplings, fields trained", self.frozen),
            ("logistic regression, same inputs", self.logistic),
        ]
        head = f"{self.task}  seed {self.seed}: {self.n_params} parameters, {self.seconds:.1f} s of CPU time to train"
        body = [f"  {name:<34}{100 * value:6.1f} %" for name, value in rows if value is not None]
        return "\n".join([head, f"  test accuracy ({len(self.targets)} samples)", *body])


def run_task(
    task: "Task | str",
    *,
    seed: int = 0,
    epochs: int | None = None,
    references: bool = True,
    curves: bool = False,
    progress: bool | None = None,
    callback: Callback | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> TaskResult:
    """Train a task by equilibrium propagation and measure it on the test part.

    Args:
        task: a `Task`, or the name of one of `TASKS`.
        seed: of the data split, the initial parameters and the shuffling; the same seed gives the same numbers.
        epochs: passes over the training part; None takes the task's own number.
        references: also train the network with frozen couplings, and fit the logistic regression.
        curves: measure the test part after every epoch: `validation_loss` and `metric` of the history. The result stays that
            of the last epoch; `best_params` of such a history are chosen by the test part and must not be scored on it.
        progress, callback, checkpoint, resume: as in `qp.fit`; of the training proper, not of the references.

    Raises:
        ValueError: no task of that name.
        ImportError: the data set or the logistic regression needs scikit-learn, which is missing.
        EquilibriumError: a training step was worse than `task.tolerate`.
    """
    task = make_task(task) if isinstance(task, str) else task
    passes = task.epochs if epochs is None else check_count(epochs, "epochs")
    samples, start = task.make_data(seed), task.make_params(seed)
    began = time.process_time()
    measured: dict[str, Any] = {"validation": samples.test, "metric": accuracy} if curves else {}
    history = _train(
        task, start, samples, passes, seed,
        progress=progress, callback=callback, checkpoint=checkpoint, resume=resume, **measured,
    )  # fmt: skip
    seconds = time.process_time() - began
    frozen = logistic = None
    if references:
        kept = _train(task, start, samples, passes, seed, progress=False, frozen=task.couplings)
        frozen, logistic = _accuracy(task, kept.params, samples), logistic_accuracy(samples)
    outputs = predict(task.system, history.params, task.nudge, samples.test_inputs)
    return TaskResult(
        task=task.name,
        seed=seed,
        history=history,
        trained=accuracy(outputs, samples.test_targets),
        untrained=_accuracy(task, start, samples),
        frozen=frozen,
        logistic=logistic,
        seconds=seconds,
        n_params=task.n_params,
        labels=samples.labels,
        outputs=outputs,
        targets=samples.test_targets,
    )


def logistic_accuracy(samples: Dataset) -> float:
    """Test accuracy of (multinomial) logistic regression on the inputs that the network gets.

    Raises:
        ImportError: scikit-learn is missing.
    """
    linear = extra_module("sklearn.linear_model", "The logistic regression", "scikit-learn", "data")
    model = linear.LogisticRegression(max_iter=5000).fit(samples.train_inputs, np.argmax(samples.train_targets, axis=1))
    return float(model.score(samples.test_inputs, np.argmax(samples.test_targets, axis=1)))


def _train(task: Task, start: Params, samples: Dataset, epochs: int, seed: int, **options: Any) -> History:
    n_steps = epochs * -(-len(samples.train_inputs) // task.batch_size)
    return fit(
        task.system,
        start,
        task.nudge,
        samples.train,
        scheme=task.scheme,
        optimizer=task.optimizer(n_steps),
        epochs=epochs,
        batch_size=task.batch_size,
        tolerate=task.tolerate,
        seed=seed,
        identity={"task": repr(task), "epochs": epochs},  # the schedule of the learning rate ends with the last epoch
        **options,
    )


def _accuracy(task: Task, params: Params, samples: Dataset) -> float:
    return float(evaluate(task.system, params, task.nudge, samples.test, metric=accuracy).metric or 0.0)


def digits_task(n_sites: int = 9) -> Task:
    """Digits 0, 1 and 2 on nine spins: six principal components as longitudinal fields on six spins, three output spins.

    All pairs are coupled; J, h and g are trained (54 parameters). Loss sum_k (<Z_k> - y_k)^2 with targets +-1.

    Args:
        n_sites: number of spins; above 9 the others are hidden, below 9 there are fewer principal components.
    """
    n_classes = 3
    n_features = min(6, check_count(n_sites, "n_sites", n_classes + 1) - n_classes)
    return _ising_task(
        "digits",
        TransverseFieldIsing(n_sites, _all_pairs(n_sites), input_sites=range(n_features)),
        ExpectationCost(_outputs(n_sites, n_classes), squared_error),
        lambda seed: data.digits(n_features=n_features, seed=seed),
        epochs=15,
    )


def digits10_task(n_sites: int = 10) -> Task:
    """All ten digits on ten output spins: forty principal components as clamped, classical nodes coupled to every spin.

    All pairs of spins are coupled; W, J, h and g are trained (465 parameters). Loss sum_k (<Z_k> - y_k)^2, targets +-1.
    The inputs reach every output directly: without J, as ten independent spins, the network does as well. Where the
    couplings between the spins carry the answer is `digits_task`.

    Args:
        n_sites: number of spins; above 10 the others are hidden.
    """
    n_features, n_classes = 40, 10
    return _ising_task(
        "digits10",
        _clamped_network(n_features, check_count(n_sites, "n_sites", n_classes)),
        ExpectationCost(_outputs(n_sites, n_classes), squared_error),
        lambda seed: data.digits(tuple(range(n_classes)), n_features=n_features, seed=seed),
        epochs=10,
        learning_rate=0.02,
    )


def iris_task(n_sites: int = 3) -> Task:
    """The three iris species on three output spins: four features as clamped, classical nodes coupled to every spin.

    W, J, h and g are trained (21 parameters). The loss is the cross-entropy of softmax(4 <Z>): the middle species is
    what is left over between the outer two, which a squared error with targets +-1 hides behind them. As in
    `digits10_task` the couplings J between the spins are not needed.

    Args:
        n_sites: number of spins; above 3 the others are hidden.
    """
    n_features, n_classes = 4, 3
    return _ising_task(
        "iris",
        _clamped_network(n_features, check_count(n_sites, "n_sites", n_classes)),
        ExpectationCost(_outputs(n_sites, n_classes), cross_entropy),
        lambda seed: data.iris(n_features=n_features, off=0.0, seed=seed),
        epochs=25,
    )


def _all_pairs(n_sites: int) -> list[tuple[int, int]]:
    return list(combinations(range(n_sites), 2))


def _outputs(n_sites: int, n_classes: int) -> list[PauliSum]:
    """Z of the last spins, one a class."""
    return [Z(site) for site in range(n_sites - n_classes, n_sites)]


def _clamped_network(n_inputs: int, n_sites: int) -> TransverseFieldIsing:
    """All spins coupled to one another and to all clamped inputs."""
    pairs = list(product(range(n_inputs), range(n_sites)))
    return TransverseFieldIsing(n_sites, _all_pairs(n_sites), input_edges=pairs)


def _ising_task(
    name: str,
    system: TransverseFieldIsing,
    nudge: ExpectationCost,
    make_data: Callable[[int], Dataset],
    *,
    epochs: int,
    learning_rate: float = 0.05,
) -> Task:
    couplings = tuple(coupling for coupling in ("J", "W") if coupling in system.param_shapes)
    return Task(
        name=name,
        system=system,
        nudge=nudge,
        make_data=make_data,
        # Weak random couplings: strong ones make a spin glass, whose answer to the inputs is hard to turn around.
        make_params=lambda seed: _scaled(system.init_params(seed), couplings, 0.3),
        couplings=couplings,
        # Training drives the outputs towards +-1 and thereby some samples close to level crossings, with gaps of a
        # hundredth: beta*||C|| must stay below these. A residual of 1e-10 then still leaves six digits.
        scheme=centered(1e-4),
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=32,
    )


def phases_task(n_sites: int = 8, *, coupling: str = "full") -> Task:
    """Two sensor qubits learn the phase of a cluster-Ising ring (Wanjura & Marquardt 2025), see `phase_sensor`.

    They touch two opposite sites of the ring. 300 batches of 10 rings; 200 fresh rings to test.

    Args:
        n_sites: number of spins, the two sensors included.
        coupling: "full" (51 parameters), or "Z" for the negative control, whose sensors see only Z of the ring (27).
    """
    ring = check_count(n_sites, "n_sites", 5) - 2
    system = phase_sensor(ring, coupling=coupling, sites=(0, ring // 2))
    return Task(
        name="phases" if coupling == "full" else f"phases-{coupling.lower()}",
        system=system,
        nudge=phase_sensor_cost(ring),
        make_data=lambda seed: data.phases(1000, n_test=200, seed=seed),
        # Sensors that are weakly coupled at first leave the ring in its own phase.
        make_params=lambda seed: _scaled(system.init_params(seed), tuple(system.param_shapes), 0.3),
        couplings=("coupling",),
        scheme=centered(1e-4),
        learning_rate=0.03,
        epochs=3,
        batch_size=10,
    )


def _scaled(params: Params, names: tuple[str, ...], factor: float) -> Params:
    return {name: factor * value if name in names else value for name, value in params.items()}


TASKS: dict[str, Callable[..., Task]] = {
    "digits": digits_task,
    "digits10": digits10_task,
    "iris": iris_task,
    "phases": phases_task,
}
"""Name -> function that makes the task."""


def make_task(name: str) -> Task:
    """The task of that name.

    Example:
        >>> make_task("sudoku")
        Traceback (most recent call last):
        ...
        ValueError: Argument `task` must be one of digits, digits10, iris, phases, but is 'sudoku'.
    """
    if name not in TASKS:
        raise ValueError(f"Argument `task` must be one of {', '.join(TASKS)}, but is {name!r}.")
    return TASKS[name]()
