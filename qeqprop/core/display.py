"""What Jupyter shows of systems and results: a short table, from shapes and sizes alone, whatever the size of a state."""

from collections.abc import Iterable
from html import escape
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from .memory import format_bytes

if TYPE_CHECKING:
    from .gradient import EPGradient
    from .history import History
    from .solver import Equilibrium
    from .system import AbstractSystem


def table(title: str, rows: Iterable[tuple[str, object]]) -> str:
    """An HTML table of names and values; what is None is left out.

    Example:
        >>> table("Chain", [("sites", 3), ("inputs", None)])
        '<table><caption><b>Chain</b></caption><tr><th>sites</th><td>3</td></tr></table>'
    """
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(str(v))}</td></tr>" for name, v in rows if v is not None)
    return f"<table><caption><b>{escape(title)}</b></caption>{''.join(cells)}</table>"


def of_system(system: "AbstractSystem") -> str:
    """Name, sites, parameters, inputs, and the memory of a vector of parameters."""
    shapes = system.param_shapes
    rows: list[tuple[str, object]] = [
        ("sites", getattr(system, "n_sites", None)),
        ("parameters", ", ".join(f"{name} {shape}" for name, shape in shapes.items())),
        ("memory of the parameters", format_bytes(8 * sum(prod(shape) for shape in shapes.values()))),
        ("inputs", system.input_shape),
        ("batch", system.batch_size),
    ]
    return table(type(system).__name__, rows)


def of_equilibrium(equilibrium: "Equilibrium") -> str:
    """Energy, gap, residual, status, and the memory of the state; of a batch its length."""
    single = np.ndim(equilibrium.energy.mean) == 0
    gap = None if equilibrium.gap is None or not single else f"{float(equilibrium.gap):.6g}"
    rows: list[tuple[str, object]] = [
        ("energy", equilibrium.energy if single else f"of a batch of {len(equilibrium.energy.mean)}"),
        ("gap", gap),
        ("residual", f"{float(equilibrium.residual):.2g}" if single else None),
        ("status", equilibrium.status),
        ("state", type(equilibrium.state).__name__),
        ("memory of the state", _memory(equilibrium.state)),
    ]
    return table("Equilibrium", rows)


def of_gradient(out: "EPGradient") -> str:
    """Loss, scheme, solver, status, the error of the residual, and the shapes of the gradient."""
    rows: list[tuple[str, object]] = [
        ("loss", out.loss),
        ("parameters", ", ".join(f"{name} {value.shape}" for name, value in out.grad.items())),
        ("scheme", out.scheme),
        ("solver", out.solver.name),
        ("status", out.status),
        ("residual", f"{out.residual:.1e}"),
        ("beta*||C||/gap", f"{out.nudge_ratio:.2g}" if out.nudge_ratio else None),
        ("memory of the free state", _memory(out.free.state)),
    ]
    return table("EPGradient", rows)


def of_history(history: "History") -> str:
    """Steps, first and last loss and metric, and how often which status was met."""
    statuses = ", ".join(f"{name} {count}" for name, count in history.status_counts.items())
    rows: list[tuple[str, object]] = [
        ("steps", history.loss.size),
        ("loss", _ends(history.loss)),
        ("validation loss", _ends(history.validation_loss)),
        ("metric", _ends(history.metric)),
        ("status", statuses or None),
        ("seed", history.seed),
    ]
    return table("History", rows)


def _ends(values: np.ndarray) -> str | None:
    return f"{values[0]:.4g} -> {values[-1]:.4g}" if values.size else None


def _memory(state: Any) -> str | None:
    """Bytes of the arrays that a state holds; None where it holds them in another way."""
    import jax

    count = sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(state))
    return format_bytes(count) if count else None
