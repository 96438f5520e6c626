"""`cite`: the papers behind the methods that a session has used. The entries are in `citations.bib`."""

import functools
import re
from importlib import resources
from typing import Any

from .core.used import name_of, used

ALWAYS = ("scellier2017equilibrium",)
METHODS: dict[str, tuple[str, ...]] = {
    "ActiveSet": ("hintermueller2002primal",),
    "AdiabaticPreparation": ("scellier2024quantum", "wanjura2025quantum"),
    "Annealer": ("laydevant2024training",),
    "AsymEP": ("scurria2026equilibrium",),
    "BlockDescent": ("scellier2024fast", "young1954iterative"),
    "Clamp": ("stern2021supervised", "scellier2023energy"),
    "DeepHopfield": ("hopfield1984neurons", "laborieux2021scaling"),
    "DeepResistiveNetwork": ("kendall2020training", "scellier2024fast"),
    "DiscreteTime": ("ernoult2019updates",),
    "ElasticNetwork": ("rocks2017designing", "stern2021supervised"),
    "ExactDiagonalization": ("scellier2024quantum",),
    "FixedPoint": ("scellier2018generalization",),
    "FlowNetwork": ("rocks2019limits", "stern2021supervised"),
    "FreeFermions": ("lieb1961two", "pfeuty1970one"),
    "GaussianGroundState": ("hale2008computing",),
    "GibbsState": ("kubo1957statistical", "mori1965transport", "massar2024equilibrium"),
    "HamiltonianEcho": ("lopezpastor2023self", "pourcel2025learning", "pourcel2025lagrangian"),
    "HeatBath": ("neal2001annealed",),
    "HarmonicNetwork": ("scellier2024quantum",),
    "HolomorphicMinimizer": ("laborieux2022holomorphic",),
    "Ising": ("laydevant2024training",),
    "LagrangianSystem": ("scellier2021deep", "massar2025equilibrium"),
    "LayeredPhaseOscillators": ("wang2024training", "scellier2024fast"),
    "LinearResponse": ("onsager1931reciprocal", "wanjura2025quantum"),
    "MatrixProductGroundState": ("white1992density", "schollwoeck2011density", "hauschild2024tensor"),
    "OperatorSystem": ("scellier2024quantum",),
    "ParallelTempering": ("hukushima1996exchange",),
    "PhaseOscillators": ("wang2024training",),
    "PredictiveCodingNetwork": ("whittington2017approximation", "kerjan2026training"),
    "RandomStarts": ("wang2024training",),
    "ResistiveNetwork": ("kendall2020training", "scellier2024fast"),
    "ShockleyNetwork": ("kendall2020training",),
    "SimulatedAnnealing": ("laydevant2024training",),
    "SpinNetwork": ("scellier2024quantum", "wanjura2025quantum"),
    "ThermalPureStates": ("sugiura2013canonical", "meyer2021hutch"),
    "TransverseFieldIsing": ("scellier2024quantum",),
    "VectorField": ("scellier2018generalization",),
    "VariationalMonteCarlo": (
        "sorella1998green",
        "carleo2017solving",
        "vicentini2022netket",
        "wu2024variational",
        "assaraf1999zero",
        "chernozhukov2018double",
    ),
    "agnostic_step": ("scellier2022agnostic",),
    "centered": ("laborieux2021scaling",),
    "continual_step": ("ernoult2020equilibrium",),
    "holomorphic": ("laborieux2022holomorphic",),
    "nudged_velocities": ("scellier2019equivalence",),
    "rigidity_report": ("calladine1978buckminster",),
    "spsa_gradient": ("spall1992multivariate",),
}
"""Name of a system, solver, cost, scheme or function -> keys of the papers it rests on."""

_FIELD = re.compile(r"^  (\w+) = \{(.*)\},$", re.MULTILINE)
_ACCENTS = {
    r"{\"o}": "ö",
    r"{\"u}": "ü",
    r"{\'e}": "é",
    r"{\'c}": "ć",
    r"{\'i}": "í",
    r"{\'o}": "ó",
    r"{\o}": "ø",
    r"\&": "&",
    r"\alpha": "α",
    r"\log": "log",
}


class Citations:
    """Papers, as text when printed and as BibTeX.

    Attributes:
        papers: key -> names of the methods that rest on the paper; none where every user of the package cites it.
    """

    def __init__(self, papers: dict[str, list[str]]):
        self.papers = papers

    @property
    def bibtex(self) -> str:
        """The BibTeX entries."""
        return "\n".join(_entries()[key] for key in self.papers)

    def __repr__(self) -> str:
        return "\n".join(
            f"[{number}] {_text(key)}" + (f"\n    for {', '.join(methods)}" if methods else "")
            for number, (key, methods) in enumerate(self.papers.items(), start=1)
        )


def cite(*methods: Any) -> Citations:
    """The papers behind what this session has used, or behind the given methods.

    Args:
        methods: classes, objects or names of systems, solvers, costs, schemes and functions; none takes those that went
            into a gradient, an equilibrium or a training since qeqprop was imported.

    Returns:
        What prints as a numbered list; `.bibtex` has the entries.

    Raises:
        ValueError: a method for which no paper is known.

    Example:
        >>> import qeqprop as qp
        >>> print(qp.cite(qp.holomorphic(0.1)))
        [1] B. Scellier and Y. Bengio, "Equilibrium Propagation: Bridging the Gap between Energy-Based Models and
        Backpropagation", Frontiers in Computational Neuroscience 11, 24 (2017), doi:10.3389/fncom.2017.00024
        [2] A. Laborieux and F. Zenke, "Holomorphic Equilibrium Propagation Computes Exact Gradients Through Finite Size
        Oscillations", Advances in Neural Information Processing Systems 35 (2022), arXiv:2209.00530
            for holomorphic
    """
    names = [name_of(method) for method in methods]
    if unknown := [name for name in names if name not in METHODS]:
        raise ValueError(f"Argument `methods` must name methods with papers, but {unknown} have none.")
    papers: dict[str, list[str]] = {key: [] for key in ALWAYS}
    for name in names or used():
        for key in METHODS.get(name, ()):
            papers.setdefault(key, []).append(name)
    return Citations(papers)


@functools.cache
def _entries() -> dict[str, str]:
    text = resources.files(__package__).joinpath("citations.bib").read_text(encoding="utf-8")
    entries = (entry.strip() + "\n" for entry in text.split("\n\n"))
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry for entry in entries}


def _text(key: str) -> str:
    """Authors, "title", journal volume, pages (year), identifier."""
    fields = {name: _plain(value) for name, value in _FIELD.findall(_entries()[key])}
    place = " ".join(fields[name] for name in ("journal", "booktitle", "volume") if name in fields)
    place += f"{', ' if 'volume' in fields else ' '}{fields['pages']}" if "pages" in fields else ""
    identifier = f"doi:{fields['doi']}" if "doi" in fields else f"arXiv:{fields['eprint']}"
    where = f"{place} ({fields['year']}), {identifier}" if place else f"{identifier} ({fields['year']})"
    return f'{_people(fields["author"])}, "{fields["title"]}", {where}'


def _people(authors: str) -> str:
    people = []
    for author in authors.split(" and "):
        family, _, given = author.partition(", ")
        initials = "".join(f"{name[0]}. " for name in given.split())
        people.append("et al." if family == "others" else initials + family)
    if people[-1] == "et al.":
        return " ".join(people)
    return " and ".join([", ".join(people[:-1]), people[-1]] if len(people) > 1 else people)


def _plain(text: str) -> str:
    for accent, letter in _ACCENTS.items():
        text = text.replace(accent, letter)
    return re.sub(r"[{}$]", "", text).replace('"', "'")
