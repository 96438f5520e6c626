"""Packages that only some parts need: they are the extras of qeqprop, and may be missing."""

from importlib import import_module
from typing import Any


def extra_module(module: str, what: str, package: str, extra: str) -> Any:
    """A module of a package that may be missing.

    Args:
        what: needs it, in words that begin a sentence.
        package: its name, as people call it.
        extra: of qeqprop, with which pip installs it.

    Raises:
        ModuleNotFoundError: it is missing; with the command that installs it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'{what} needs {package}: pip install "qeqprop[{extra}]"') from error
