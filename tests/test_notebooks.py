"""Every notebook runs from top to bottom; what is stored is small, keeps its outputs and knows no machine."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
MACHINE = re.compile(r"(?<![\w.:/])/(home|root|work|tmp|usr|Users|private|mnt|opt)/")
LARGEST = 300_000

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def texts(output):
    """Everything in an output that can be read."""
    yield output.get("text", "")
    yield from output.get("traceback", ())
    yield from (value for kind, value in output.get("data", {}).items() if not kind.startswith("image/p"))


@each_notebook
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of Jupyter's own packages
def test_notebook_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()


@each_notebook
def test_stored_outputs_are_whole_and_small(path):
    assert path.stat().st_size < LARGEST
    nbformat.validate(nbformat.read(path, as_version=4))
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run it from top to bottom"
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) / 2, "outputs are kept"
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs), "a figure is kept"
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)


@each_notebook
def test_stored_outputs_name_no_machine(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            for text in texts(output):
                assert not (found := MACHINE.search(str(text))), f"{found.group()} in {str(text)[:200]}"


@each_notebook
def test_the_last_cell_asserts_what_the_notebook_says(path):
    assert "assert " in code_cells(path)[-1].source


def test_machine_paths_are_recognised():
    assert MACHINE.search("UserWarning: /tmp/x/y.py:21")
    assert MACHINE.search("in '/home/me'")
    assert not MACHINE.search("https://example.org/home/page and a/usr/b")
