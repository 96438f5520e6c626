"""What a training did: the record that grows step by step, and the `History` that is returned."""

from typing import Any

import numpy as np

from . import display
from .module import AbstractModule
from .system import Params


class History(AbstractModule):
    """What a training did. Prints a summary; `.plot()` draws the curves; `qp.save` keeps it.

    Attributes:
        params: parameters after the last step.
        best_params: parameters of the epoch with the lowest validation loss (training loss without validation data).
        loss, grad_norm: of every step, shape (n_steps,).
        validation_loss, metric: after every epoch, shape (n_epochs,); empty where there was nothing to measure.
        best_epoch: number of that epoch, from 0.
        status_counts: how many steps ended in which status.
        stopped_early: whether `patience` ended the training.
        seed, seconds: of the run.
    """

    params: Params
    best_params: Params
    loss: np.ndarray
    grad_norm: np.ndarray
    validation_loss: np.ndarray
    metric: np.ndarray
    best_epoch: int
    status_counts: dict[str, int]
    stopped_early: bool
    seed: int
    seconds: float

    _repr_html_ = display.of_history

    def __repr__(self) -> str:
        rows = [f"History  {self.loss.size} steps in {self.seconds:.1f} s, seed {self.seed}"]
        if self.loss.size:
            rows.append(f"  loss             {self.loss[0]:.6g} -> {self.loss[-1]:.6g}")
        if self.validation_loss.size:
            rows.append(f"  validation loss  {self.validation_loss[0]:.6g} -> {self.validation_loss[-1]:.6g}")
        if self.metric.size:
            rows.append(f"  metric           {self.metric[0]:.4f} -> {self.metric[-1]:.4f}")
        rows.append(f"  best epoch       {self.best_epoch}" + (" (stopped early)" if self.stopped_early else ""))
        rows.append("  status           " + ", ".join(f"{k}: {v}" for k, v in self.status_counts.items()))
        return "\n".join(rows)

    def plot(self, ax: Any = None) -> Any:
        """Training curves; see `qeqprop.plot.training_curves`."""
        from ..plot import training_curves

        return training_curves(self, ax=ax)


class Scores(AbstractModule):
    """Losses and metric on held-out data."""

    loss: float
    metric: float | None


class Records:
    """The running record of a training."""

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.grad_norm: list[float] = []
        self.validation: list[Scores] = []
        self.counts: dict[str, int] = {}
        self.best: tuple[float, int, Params] = (np.inf, -1, {})
        self.epochs, self.first_step, self.stopped = 0, 0, False
        self.seconds = 0.0

    def plain(self) -> dict[str, Any]:
        """The record as plain numbers, for a checkpoint."""
        validation = [(scores.loss, scores.metric) for scores in self.validation]
        return {
            **vars(self),
            "loss": np.array(self.loss),
            "grad_norm": np.array(self.grad_norm),
            "validation": validation,
        }

    @classmethod
    def from_plain(cls, content: dict[str, Any]) -> "Records":
        """The record that `plain` described."""
        made = cls()
        vars(made).update(content)
        made.loss, made.grad_norm = content["loss"].tolist(), content["grad_norm"].tolist()
        made.validation = [Scores(*pair) for pair in content["validation"]]
        return made

    @property
    def steps_of_epoch(self) -> int:
        """Steps taken in the epoch that runs."""
        return len(self.loss) - self.first_step

    def step(self, out: Any, grad: Params) -> None:
        self.loss.append(float(out.loss))
        self.grad_norm.append(float(np.sqrt(sum(np.sum(value**2) for value in grad.values()))))
        self.counts[str(out.status)] = self.counts.get(str(out.status), 0) + 1

    def validate(self, scores: Scores) -> None:
        self.validation.append(scores)

    def postfix(self) -> dict[str, str]:
        shown = {"loss": f"{np.mean(self.loss[self.first_step :]):.4g}"}
        if self.validation:
            shown["validation"] = f"{self.validation[-1].loss:.4g}"
            if self.validation[-1].metric is not None:
                shown["metric"] = f"{self.validation[-1].metric:.3f}"
        return shown

    def epoch_done(self, params: Params, patience: int | None) -> None:
        """Keep the best parameters; `stopped` where patience has run out."""
        score = self.validation[-1].loss if self.validation else float(np.mean(self.loss[self.first_step :]))
        if score < self.best[0]:
            self.best = (score, self.epochs, params)
        self.epochs, self.first_step = self.epochs + 1, len(self.loss)
        self.stopped = patience is not None and self.epochs - 1 - self.best[1] >= patience

    def history(self, params: Params, seed: int) -> History:
        metrics = [scores.metric for scores in self.validation if scores.metric is not None]
        return History(
            params=params,
            best_params=self.best[2] or params,
            loss=np.array(self.loss),
            grad_norm=np.array(self.grad_norm),
            validation_loss=np.array([scores.loss for scores in self.validation]),
            metric=np.array(metrics),
            best_epoch=self.best[1],
            status_counts=self.counts,
            stopped_early=self.stopped,
            seed=seed,
            seconds=self.seconds,
        )
