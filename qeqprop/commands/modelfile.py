"""Models as TOML files, for `qeqprop check`. Every key is checked: a misspelt one is an error, not a default."""

import difflib
import tomllib
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core.graph import check_count
from ..core.nudge import AbstractNudge, ExpectationCost, ObservableCost, cross_entropy, squared_error
from ..core.scheme import Stencil, centered, holomorphic, one_sided, richardson
from ..core.system import AbstractSystem, Params
from ..quantum.exact import ExactDiagonalization
from ..quantum.ising import TransverseFieldIsing
from ..quantum.models import heisenberg, xxz
from ..quantum.pauli import PauliSum

Table = dict[str, Any]

SYSTEMS: dict[str, Callable[..., AbstractSystem]] = {
    "TransverseFieldIsing": TransverseFieldIsing,
    "heisenberg": heisenberg,
    "xxz": xxz,
}
GRAPHS: dict[str, Callable[[int], list[tuple[int, int]]]] = {
    "chain": lambda n: [(i, i + 1) for i in range(n - 1)],
    "ring": lambda n: [(i, (i + 1) % n) for i in range(n)],
    "all": lambda n: list(combinations(range(n), 2)),
}
LOSSES = {"squared_error": squared_error, "cross_entropy": cross_entropy}
SCHEMES: dict[str, tuple[Callable[..., Stencil], tuple[str, ...], tuple[str, ...]]] = {
    "one_sided": (one_sided, ("beta",), ()),
    "centered": (centered, ("beta",), ()),
    "richardson": (richardson, ("beta",), ()),
    "holomorphic": (holomorphic, ("radius",), ("n_points",)),
}


class Model(NamedTuple):
    """What a model file says: the arguments of `check_gradient`."""

    system: AbstractSystem
    params: Params
    nudge: AbstractNudge
    target: np.ndarray | None
    solver: ExactDiagonalization
    scheme: Stencil | None
    options: dict[str, Any]


def read_model(path: Path) -> Model:
    """The model of a TOML file.

    Raises:
        FileNotFoundError: no such file. ValueError: what is wrong with it, and where.
    """
    with open(path, "rb") as file:
        try:
            return parse_model(tomllib.load(file))
        except (ValueError, TypeError) as error:
            raise (
                type(error)(f"{path}: {error}")
                if type(error) in (ValueError, TypeError)
                else ValueError(f"{path}: {error}")
            ) from None


def parse_model(document: Table) -> Model:
    """The model of a parsed file."""
    sections = take(document, "the file", ("system", "params", "cost"), ("scheme", "solver", "check"))
    for name, value in sections.items():
        if not isinstance(value, dict):
            raise TypeError(f"`{name}` must be a section, [{name}], but is {value!r}.")
    system = _system(sections["system"])
    nudge, target = _cost(sections["cost"])
    solver = take(sections.get("solver", {}), "[solver]", (), ("tolerance", "max_iterations"))
    return Model(
        system=system,
        params=_params(sections["params"], system),
        nudge=nudge,
        target=target,
        solver=ExactDiagonalization(**solver),
        scheme=_scheme(sections["scheme"]) if "scheme" in sections else None,
        options=take(sections.get("check", {}), "[check]", (), ("step", "rtol")),
    )


def take(table: Mapping[str, Any], where: str, needed: tuple[str, ...], optional: tuple[str, ...]) -> Table:
    """`table`, if it has all the keys needed and none that is unknown."""
    known = (*needed, *optional)
    for key in table:
        if key not in known:
            raise ValueError(f"Unknown key `{key}` in {where}{_suggestion(key, known)}")
    if missing := [key for key in needed if key not in table]:
        raise ValueError(f"Missing key `{missing[0]}` in {where}.")
    return dict(table)


def choose(name: Any, choices: Mapping[str, Any], what: str) -> Any:
    """`choices[name]`, or an error that lists them."""
    if isinstance(name, str) and name in choices:
        return choices[name]
    raise ValueError(f"Unknown {what} {name!r}{_suggestion(str(name), tuple(choices))}")


def _suggestion(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f": did you mean `{close[0]}`?" if close else f"; known are {', '.join(known)}."


def _system(section: Table) -> AbstractSystem:
    table = take(section, "[system]", ("type", "n_sites", "edges"), ())
    n_sites, edges = check_count(table["n_sites"], "n_sites"), table["edges"]
    if isinstance(edges, str):
        edges = choose(edges, GRAPHS, "graph in [system] edges:")(n_sites)
    return choose(table["type"], SYSTEMS, "[system] type")(n_sites, edges)


def _params(section: Table, system: AbstractSystem) -> Params:
    """One number is taken for every component; names left out are drawn at random where a `seed` is given."""
    shapes = system.param_shapes
    table = take(section, "[params]", () if "seed" in section else tuple(shapes), (*shapes, "seed"))
    drawn = system.init_params(check_count(table.pop("seed"), "seed", 0)) if "seed" in table else {}
    given = {name: np.full(shapes[name], v) if np.ndim(v) == 0 else v for name, v in table.items()}
    return system.check_params({**drawn, **given})


def _cost(section: Table) -> tuple[AbstractNudge, np.ndarray | None]:
    if "observables" not in section:
        text = take(section, "[cost]", ("observable",), ())["observable"]
        return ObservableCost(_observable(text)), None
    table = take(section, "[cost]", ("observables", "target"), ("loss",))
    loss = choose(table.get("loss", "squared_error"), LOSSES, "loss")
    nudge, target = ExpectationCost([_observable(text) for text in table["observables"]], loss), table["target"]
    if np.shape(target) != (len(nudge.observables),):
        raise ValueError(f"[cost] `target` must have one number for each of the observables, but is {target}.")
    return nudge, np.asarray(target, dtype=float)


def _observable(text: Any) -> PauliSum:
    if not isinstance(text, str):
        raise TypeError(f"[cost] an observable must be a string such as 'Z0 Z1 - 0.5 * X2', but is {text!r}.")
    return PauliSum.from_string(text)


def _scheme(section: Table) -> Stencil:
    if "name" not in section:
        raise ValueError("Missing key `name` in [scheme].")
    make, needed, optional = choose(section["name"], SCHEMES, "scheme")
    table = take(section, f"[scheme] {section['name']}", ("name", *needed), optional)
    return make(**{key: value for key, value in table.items() if key != "name"})
