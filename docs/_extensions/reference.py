"""The directive `names` documents every public name of a module, from the module's own list."""

from importlib import import_module
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import qeqprop


def public(module: ModuleType) -> list[str]:
    """Names in `__all__`, or the functions and classes that the module itself defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [n for n, v in vars(module).items() if n[0] != "_" and getattr(v, "__module__", "") == module.__name__]


def described(module: ModuleType, name: str) -> list[str]:
    """The directive with which autodoc describes one name."""
    value = getattr(module, name)
    if isinstance(value, type):
        return [f".. autoclass:: {module.__name__}.{name}", "   :members:", ""]
    if callable(value):
        return [f".. autofunction:: {module.__name__}.{name}", ""]
    # the description of a constant stands in the module that defines it
    return [f".. autodata:: {module.__name__}.{module._HOME[name]}.{name}", "   :no-value:", ""]


def is_offered_above(module: ModuleType, name: str) -> bool:
    """Whether `qeqprop` itself has the very same thing under this name."""
    return name in qeqprop.__all__ and getattr(qeqprop, name) is getattr(module, name)


def listing(module: ModuleType) -> list[str]:
    """All names; those that `qeqprop` itself offers are described there, and only named here."""
    names = [name for name in public(module) if not isinstance(getattr(module, name), ModuleType)]
    shared = [name for name in names if module is not qeqprop and is_offered_above(module, name)]
    also = [f"Also here, and described under ``qeqprop``: {', '.join(f'``{name}``' for name in shared)}.", ""]
    lines = [line for name in names if name not in shared for line in described(module, name)]
    return [*(also if shared else []), *lines]


class Names(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(listing(import_module(self.arguments[0]))))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("names", Names)
    return {"parallel_read_safe": True}
