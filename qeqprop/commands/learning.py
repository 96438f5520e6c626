"""A task trained, with its curves, pictures and tables: what `train` and the second half of `demo` share."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..core.system import Params
from ..tasks import Task, TaskResult, run_task
from .files import write_json, write_netcdf

if TYPE_CHECKING:
    import xarray as xr


class Run(NamedTuple):
    """A trained task. The history of the result has loss and accuracy on the test part after every epoch."""

    task: Task
    result: TaskResult
    initial: Params


def train(
    task: Task, *, seed: int, epochs: int | None, progress: bool, checkpoint: Path | None = None, resume: bool = False
) -> Run:
    """Train a task and its references, and measure the test part after every epoch (the result is not chosen by it)."""
    result = run_task(
        task, seed=seed, epochs=epochs, progress=progress, curves=True, checkpoint=checkpoint, resume=resume
    )
    return Run(task, result, task.make_params(seed))


def summary(run: Run) -> dict[str, Any]:
    """Accuracies and settings as plain values."""
    result, task = run.result, run.task
    return {
        "task": result.task,
        "seed": result.seed,
        "system": repr(task.system),
        "n_params": result.n_params,
        "epochs": len(result.history.metric),
        "batch_size": task.batch_size,
        "learning_rate": task.learning_rate,
        "scheme": repr(task.scheme),
        "test_accuracy": {
            "equilibrium propagation": result.trained,
            "untrained": result.untrained,
            "frozen couplings": result.frozen,
            "logistic regression": result.logistic,
        },
        "labels": list(result.labels),
        "confusion": result.confusion,
        "status_counts": result.history.status_counts,
        "cpu_seconds": result.seconds,
    }


def table(run: Run) -> "xr.Dataset":
    """Curves, parameters before and after, and the outputs on the test part, with named dimensions."""
    import xarray as xr

    result, history = run.result, run.result.history
    stages = {name: np.stack([run.initial[name], history.params[name]]) for name in history.params}
    return xr.Dataset(
        {
            "loss": ("step", history.loss, {"long_name": "training loss of the batch"}),
            "grad_norm": ("step", history.grad_norm, {"long_name": "norm of the gradient"}),
            "test_loss": ("epoch", history.validation_loss),
            "test_accuracy": ("epoch", history.metric),
            **{f"param_{name}": (("stage", f"{name}_index"), values) for name, values in stages.items()},
            "outputs": (("sample", "class"), result.outputs, {"long_name": "expectation values of the outputs"}),
            "targets": (("sample", "class"), result.targets),
        },
        coords={
            "step": np.arange(1, history.loss.size + 1),
            "epoch": np.arange(1, history.metric.size + 1),
            "stage": ["initial", "trained"],
            "class": list(result.labels),
        },
        attrs={"title": f"{result.task}: training by equilibrium propagation", "seed": result.seed},
    )


def write(run: Run, folder: Path) -> list[Path]:
    """History, summary, table and pictures of a run."""
    from .. import plot, storage

    result = run.result
    compared = {"frozen couplings": result.frozen, "logistic regression": result.logistic}
    references = {name: value for name, value in compared.items() if value is not None}
    labels = {"held_out": "test", "metric": "test accuracy"}
    curves = plot.training_curves(result.history, plot.new_axes(), references=references, **labels)
    written = [
        storage.save(folder / "history.npz", result.history),
        write_json(folder / "metrics.json", summary(run)),
        write_netcdf(folder / "training.nc", table(run)),
        plot.save(curves, folder / "training.png"),
    ]
    if hasattr(run.task.system, "edges"):
        written += _network_pictures(run, folder)
    return written


def _network_pictures(run: Run, folder: Path) -> list[Path]:
    """The network before and after the training, on the same scales."""
    from .. import plot

    before, after = run.initial, run.result.history.params
    scales: dict[str, Any] = {
        "max_coupling": float(max(np.abs(p["J"]).max() for p in (before, after))),
        "max_field": float(max(np.abs(p["h"]).max() for p in (before, after))),
    }
    outputs = sorted({site for observable in run.task.nudge.observables for site in observable.support})
    written = []
    for name, params in (("before", before), ("after", after)):
        ax = plot.network(run.task.system, params, plot.new_axes((6.2, 5.0)), outputs=outputs, **scales)
        ax.set_title(f"{name} training")
        written.append(plot.save(ax, folder / f"network_{name}.png"))
    return written
