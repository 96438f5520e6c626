"""Papers of methods: the table, the entries, and what a session has used."""

import importlib
import re
import subprocess
import sys

import pytest

import qeqprop as qp
from qeqprop.citations import ALWAYS, METHODS, _entries, _text

MODULES = ("qeqprop", "qeqprop.quantum", "qeqprop.classical")
NAMES = {name for module in MODULES for name in importlib.import_module(module).__all__}


def test_every_method_is_a_public_name_and_every_paper_an_entry():
    cited = {key for keys in METHODS.values() for key in keys} | set(ALWAYS)
    assert cited == set(_entries())
    assert set(METHODS) - NAMES == set()


@pytest.mark.parametrize("key", list(_entries()))
def test_entries_are_whole(key: str):
    entry = _entries()[key]
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.MULTILINE))
    assert {"author", "title", "year"} <= set(fields)
    assert re.fullmatch(r"10\.\d{4,}/\S+", fields.get("doi", "")) or re.fullmatch(
        r"\d{4}\.\d{5}", fields.get("eprint", "")
    )
    assert fields["year"] in key
    assert entry.count("{") == entry.count("}")
    assert entry.startswith("@misc") or {"journal", "booktitle"} & set(fields)
    assert not re.search(r"[{}\\$]", _text(key))


def test_papers_named_in_docstrings_are_known_by_the_same_number():
    """arXiv numbers in the docstrings of public classes and functions are those of the entries."""
    entries = "".join(_entries().values())
    named = set()
    for module in (qp, qp.quantum, qp.classical):
        for name in METHODS:
            named |= set(re.findall(r"arXiv:(\d{4}\.\d{5})", getattr(getattr(module, name, None), "__doc__", "") or ""))
    assert len(named) >= 3
    assert [number for number in named if number not in entries] == []


SESSION = """
import qeqprop as qp
net = qp.TransverseFieldIsing(2, [(0, 1)])
params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
print(list(qp.cite().papers))
qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(1)), scheme=qp.centered(1e-3))
qp.equilibrate(net, params, solver=qp.Measured(qp.GibbsState(0.5), shots=10), key=0)
print(qp.cite().papers)
"""


def test_a_session_cites_what_it_used():
    run = subprocess.run([sys.executable, "-c", SESSION], capture_output=True, text=True, check=True)
    before, after = run.stdout.splitlines()
    assert before == str(list(ALWAYS))
    papers = eval(after)
    assert papers["scellier2024quantum"] == ["TransverseFieldIsing", "ExactDiagonalization"]
    assert papers["laborieux2021scaling"] == ["centered"]
    assert papers["kubo1957statistical"] == ["GibbsState"]  # inside `Measured`
    assert "sorella1998green" not in papers


def test_methods_may_be_classes_objects_and_names():
    for method in (qp.ExactDiagonalization, qp.ExactDiagonalization(), "ExactDiagonalization"):
        assert list(qp.cite(method).papers) == [*ALWAYS, "scellier2024quantum"]
    assert "arXiv:2406.00879" in repr(qp.cite(qp.ExactDiagonalization))
    assert qp.cite(qp.ExactDiagonalization).bibtex.count("@") == 2
    with pytest.raises(ValueError, match=r"\['Lanczos'\] have none"):
        qp.cite("Lanczos")
