"""Every study of a classical system runs in its quick form, and the folder's table says what it shows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "classical"
SCRIPTS = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_study_runs_and_leaves_its_results_alone(script):
    if "ngspice" in script.read_text() and shutil.which("ngspice") is None:
        pytest.skip("ngspice is not installed: apt-get install ngspice")
    before = {path: path.read_bytes() for path in FOLDER.iterdir() if path.is_file()}
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.read_bytes() for path in FOLDER.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_study_has_a_figure_results_and_a_row(script):
    assert script.with_suffix(".png").is_file()
    assert script.with_suffix(".json").is_file()
    assert f"]({script.name})" in (FOLDER / "README.md").read_text()


def test_studies_were_found():
    assert {"ising_annealer_digits", "resistive_vs_spice"} <= {script.stem for script in SCRIPTS}
