"""What this session has used: the names of systems, solvers, costs and schemes, for `qeqprop.cite`."""

from typing import Any

_USED: dict[str, None] = {}  # a set that keeps its order


def name_of(method: Any) -> str:
    """A string is itself, a stencil its name without numbers, everything else its class.

    Example:
        >>> from qeqprop.core.scheme import centered
        >>> name_of(centered(0.1)), name_of(dict), name_of("spsa_gradient")
        ('centered', 'dict', 'spsa_gradient')
    """
    if isinstance(method, str):
        return method
    if isinstance(getattr(method, "strengths", None), tuple):
        return str(method.name).partition("(")[0]
    return getattr(method, "__name__", type(method).__name__)


def note(*methods: Any) -> None:
    """Remember these methods, and the solver that one of them wraps (shots, for instance)."""
    for method in methods:
        _USED[name_of(method)] = None
        if (inner := getattr(method, "solver", None)) is not None:
            note(inner)


def used() -> list[str]:
    """The names, in the order of their first use."""
    return list(_USED)
