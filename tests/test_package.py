"""The package as a whole: its names, its import, the direction of its imports, and abstract-or-final classes."""

import ast
import functools
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import qeqprop
from qeqprop.core.nudge import AbstractNudge
from qeqprop.core.scheme import AbstractScheme
from qeqprop.core.solver import AbstractSolver
from qeqprop.core.system import AbstractSystem

PACKAGE = Path(qeqprop.__file__).parent
HEAVY = ("jax", "netket", "qutip", "matplotlib", "numba", "scipy", "xarray", "sklearn", "optax", "networkx")


@pytest.mark.parametrize("name", ["qeqprop", "qeqprop.quantum"])
def test_public_names_are_alive_and_listed_once(name: str):
    module = importlib.import_module(name)
    assert len(module.__all__) == len(set(module.__all__))
    assert [public for public in module.__all__ if not hasattr(module, public)] == []
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="no attribute 'gradeint'"):
        module.gradeint  # noqa: B018


def test_dir_is_all_and_version():
    assert sorted(dir(qeqprop)) == sorted([*qeqprop.__all__, "__version__"])


@pytest.mark.parametrize("name", ["qeqprop", "qeqprop.quantum"])
def test_type_checkers_see_the_lazy_names(name: str):
    module = importlib.import_module(name)
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    guarded = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {alias.name for node in ast.walk(guarded[0]) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(module.__all__)


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)


def test_import_is_silent_and_light():
    run = fresh("import sys, json, qeqprop; json.dump(sorted(sys.modules), sys.stderr)")
    assert run.stdout == ""
    modules = json.loads(run.stderr)
    assert [name for name in HEAVY if name in modules] == []
    assert "qeqprop" in modules


def test_import_is_fast():
    code = "import time; t = time.perf_counter(); import qeqprop; print(time.perf_counter() - t)"
    assert min(float(fresh(code).stdout) for _ in range(5)) < 0.15


def test_help_of_the_command_is_light():
    run = fresh("import sys, qeqprop.cli as c; c.main(['--version']); print(*sys.modules, file=sys.stderr)")
    assert run.stdout == f"qeqprop {qeqprop.__version__}\n"
    assert [name for name in HEAVY if name in run.stderr.split()] == []


@functools.cache
def sources() -> dict[str, ast.Module]:
    """Module name relative to the package -> syntax tree; the package itself is the empty name."""
    names = {path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in sorted(PACKAGE.rglob("*.py"))}
    return {
        name.removesuffix("__init__").rstrip("."): ast.parse(path.read_text(encoding="utf-8"))
        for path, name in names.items()
    }


def imported(module: str, is_package: bool, tree: ast.AST) -> Iterator[str]:
    """Absolute names of everything that a module imports, also inside functions."""
    here = ["qeqprop", *module.split(".")] if module else ["qeqprop"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = node.level - (1 if is_package else 0)
            base = here[: len(here) - up] if node.level else []
            stem = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield from (f"{stem}.{alias.name}" for alias in node.names)


@functools.cache
def all_imports() -> list[tuple[str, str]]:
    """(module, what it imports), for the whole package."""
    pairs = []
    for module, tree in sources().items():
        is_package = (PACKAGE / Path(*module.split(".")) / "__init__.py").is_file()
        pairs += [(module, target) for target in imported(module, is_package, tree)]
    return pairs


FORBIDDEN = {
    "core": ("quantum", "classical", "commands", "cli", "tasks", "data"),
    "quantum": ("classical", "commands", "cli", "tasks", "data", "plot", "storage"),
    "classical": ("quantum", "commands", "cli", "tasks", "data", "plot", "storage"),
    "storage": ("quantum", "classical", "commands", "cli", "tasks", "data", "plot"),
    "data": ("quantum", "classical", "commands", "cli", "tasks", "plot"),
    "plot": ("commands", "cli", "tasks", "data"),
    "tasks": ("commands", "cli", "plot"),
}


def test_imports_point_one_way():
    pairs = all_imports()
    assert ("quantum.exact", "qeqprop.core.solver.AbstractSolver") in pairs, "relative imports are not resolved"
    wrong = [
        (module, target)
        for module, target in pairs
        for layer in FORBIDDEN.get(module.split(".")[0], ())
        if target.startswith(f"qeqprop.{layer}.") or target == f"qeqprop.{layer}"
    ]
    assert wrong == []


def test_netket_is_imported_where_it_is_converted_to_and_nowhere_else():
    users = {module for module, target in all_imports() if target.split(".")[0] == "netket"}
    others = {module for module in users if not module.startswith("quantum.vmc")}
    assert others <= {"quantum.conversion", "core.graph"}


def test_heavy_packages_are_imported_lazily():
    """At module level nobody imports what only some calls need."""
    lazy = ("netket", "qutip", "matplotlib", "sklearn", "xarray", "networkx", "optax")
    eager = [
        (module, name)
        for module, tree in sources().items()
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imported(module, False, node)
        if name.split(".")[0] in lazy
    ]
    assert eager == []


def subclasses(cls: type) -> Iterator[type]:
    for sub in cls.__subclasses__():
        yield sub
        yield from subclasses(sub)


@pytest.mark.parametrize("base", [AbstractSystem, AbstractSolver, AbstractNudge, AbstractScheme])
def test_classes_are_abstract_or_final(base: type):
    for info in pkgutil.walk_packages(qeqprop.__path__, "qeqprop."):
        if ".commands" not in info.name:
            importlib.import_module(info.name)
    found = [cls for cls in set(subclasses(base)) if cls.__module__.startswith("qeqprop.")]
    assert found
    for cls in found:
        concrete_parents = [p for p in cls.__mro__[1:] if p.__module__.startswith("qeqprop.") and not is_abstract(p)]
        assert concrete_parents == [], f"{cls.__name__} derives from a concrete class"
        assert overridden(cls) == [], f"{cls.__name__} overrides what its base has implemented"


def is_abstract(cls: type) -> bool:
    return cls.__name__.startswith("Abstract")


def overridden(cls: type) -> list[str]:
    """Public methods of `cls` that an abstract base of this package already implements."""
    bases = [base for base in cls.__mro__[1:] if base.__module__.startswith("qeqprop.")]
    return [
        name
        for name, value in vars(cls).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
        for base in bases
        if name in vars(base) and not getattr(vars(base)[name], "__isabstractmethod__", False)
    ]


@pytest.mark.parametrize("package", [qeqprop, qeqprop.quantum, qeqprop.classical], ids=lambda package: package.__name__)
def test_no_lazy_name_is_also_a_module(package):
    """Importing the module would put it in the place of the name."""
    modules = {info.name for info in pkgutil.iter_modules(package.__path__)} - set(getattr(package, "_MODULES", ()))
    assert modules & set(package.__all__) == set()


def test_methods_are_those_of_python():
    """A method of Equinox is a pytree, made anew at each look-up in some 40 microseconds."""
    solver = qeqprop.ExactDiagonalization()
    assert inspect.ismethod(solver.solve)


def test_names_that_live_elsewhere_are_found():
    with pytest.raises(
        AttributeError, match=r"no attribute 'ElasticNetwork', but `qeqprop\.classical\.ElasticNetwork`"
    ):
        qeqprop.ElasticNetwork  # noqa: B018
    with pytest.raises(AttributeError, match=r"`qeqprop\.quantum\.VariationalState` there is"):
        qeqprop.VariationalState  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'Isng'$") as refused:
        qeqprop.Isng  # noqa: B018
    assert (refused.value.name, refused.value.obj) == ("Isng", qeqprop)
