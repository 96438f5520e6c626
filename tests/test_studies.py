"""Every study runs, and its quick form reproduces what is stored beside it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

STUDIES = Path(__file__).parent.parent / "studies"
SCRIPTS = sorted(STUDIES.glob("*/*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_study_reproduces_its_results(script):
    before = {path: path.read_bytes() for path in script.parent.iterdir() if path.is_file()}
    environment = os.environ | {"PYTHONPATH": str(STUDIES.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", str(script), "--quick"],
        capture_output=True, text=True, env=environment, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    after = {path: path.read_bytes() for path in script.parent.iterdir() if path.is_file()}
    assert after == before, "the quick form must not touch the stored results"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_study_says_what_it_shows(script):
    readme = (script.parent / "README.md").read_text()
    assert f"studies/{script.parent.name}/{script.name} --quick" in readme
    assert f"({script.parent.name}/README.md)" in (STUDIES / "README.md").read_text()


def test_studies_were_found():
    assert {"phase_exploration", "kitaev_honeycomb"} <= {script.stem for script in SCRIPTS}
