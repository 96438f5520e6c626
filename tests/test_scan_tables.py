"""The table of a scan: made from one collected file where that is up to date, from the points where it is not."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.cli import main
from qeqprop.scans.grid import Grid
from qeqprop.scans.ledger import Ledger, Outcome
from qeqprop.scans.trial import try_point


def product(g, J):
    if g == J == 2.0:
        raise ValueError("two times two")
    return {"product": g * J, "pair": np.array([g, J]), "whole": int(g)} | ({"extra": 1.0} if g > 2 else {})


AXES = {"g": [1.0, 2.0, 3.0], "J": [1.0, 2.0]}


def equal(a, b):
    return a.drop_vars("seconds").identical(b.drop_vars("seconds"))


@pytest.fixture
def reads(monkeypatch):
    """The keys of the point files that are opened."""
    seen, read = [], Ledger.read
    monkeypatch.setattr(Ledger, "read", lambda self, point: seen.append(point.key) or read(self, point))
    return seen


def test_an_opened_table_reads_no_point_twice(tmp_path, reads):
    table = qp.scan(product, AXES, out=tmp_path, workers=0)
    assert len(reads) == 6
    assert qp.open_scan(tmp_path).identical(table)
    assert len(reads) == 6
    assert table.status.values.tolist() == [[1, 1], [1, 2], [1, 1]]
    assert table.extra.isnull().values.tolist() == [[True, True], [True, True], [False, False]]
    assert "two times two" in str(table.error.values[1, 1])


@pytest.mark.parametrize("damage", ["truncated", "empty", "gone", "another file"])
def test_a_collected_file_that_is_torn_is_made_again(tmp_path, reads, damage):
    table = qp.scan(product, AXES, out=tmp_path, workers=0)
    collected = tmp_path / "collected.npz"
    if damage == "gone":
        collected.unlink()
    elif damage == "another file":
        qp.save(collected, {"keys": np.array([b"x"] * 3), "stamps": np.zeros((2, 3)), "columns": {}})
    else:
        collected.write_bytes(collected.read_bytes()[: 0 if damage == "empty" else 500])
    reads.clear()
    assert qp.open_scan(tmp_path).identical(table)
    assert len(reads) == 6
    assert qp.open_scan(tmp_path).identical(table)
    assert len(reads) == 6


def test_a_point_that_changed_on_disk_is_read_again(tmp_path, reads):
    qp.scan(product, AXES, out=tmp_path, workers=0)
    point = Grid(AXES).points[2]
    ledger = Ledger(tmp_path)
    ledger.write(point, Outcome(1, {"product": np.array(-1.0), "pair": np.zeros(2), "whole": np.array(7)}, 0.5))
    reads.clear()
    table = qp.open_scan(tmp_path)
    assert reads == [point.key]
    assert (table["product"][1, 0], table.whole[1, 0], table.seconds[1, 0]) == (-1.0, 7, 0.5)


@pytest.mark.parametrize("then", [{"g": [3.0, 1.0], "J": [2.0]}, {"g": [0.5, 1.0, 2.0, 3.0], "J": [1.0, 2.0, 4.0]}])
def test_other_grids_over_the_same_points(tmp_path, then):
    qp.scan(product, AXES, out=tmp_path / "run", workers=0)
    again = qp.scan(product, then, out=tmp_path / "run", workers=0)
    fresh = qp.scan(product, then, out=tmp_path / "fresh", workers=0)
    assert again.drop_vars("seconds").equals(fresh.drop_vars("seconds"))
    assert {name: v.dtype for name, v in again.items()} == {name: v.dtype for name, v in fresh.items()}


def shaped(n):
    return {"flat": np.arange(float(n)), "size": n if n < 3 else float(n)}


def test_shapes_and_types_are_judged_in_the_order_of_the_grid(tmp_path):
    for axis in ([2], [3, 2], [2, 3], [2, 3, 4], [1, 2]):  # [2] is collected, then a point before it has another shape
        table = qp.scan(shaped, {"n": axis}, out=tmp_path / "run", workers=0)
        fresh = qp.scan(shaped, {"n": axis}, workers=0)
        assert table.status.values.tolist() == [1] + [2] * (len(axis) - 1)
        assert table.drop_vars("seconds").equals(fresh.drop_vars("seconds"))
        assert table["size"].dtype == fresh["size"].dtype


def test_points_are_named_by_the_hash_of_their_canonical_json():
    import hashlib

    points = Grid({"b": [1, 2], "a": ["x", "y z"], "c": [0.1, 1e-20]}).points
    text = '{"a":"y z","b":2,"c":1e-20}'
    assert points[-1].key == hashlib.sha256(text.encode()).hexdigest()
    assert len({point.key for point in points}) == 8


def test_workers_of_a_light_function_load_no_jax():
    import subprocess
    import sys

    code = (
        "import sys, qeqprop.scans.work; print([m for m in ('jax', 'equinox', 'xarray', 'scipy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def hungry(n, rng):
    np.ones(n * 2**17).sum()  # n MiB
    return np.zeros(1000)


def test_a_trial_measures_one_point():
    small, large = (try_point(hungry, Grid({"n": [n]}), 0, Grid({"n": [n]}).points[0]) for n in (1, 200))
    assert 8000 == small.array < small.stored < 10000
    assert 150 * 2**20 < large.memory - small.memory < 400 * 2**20
    assert large.seconds > 0
    assert not large.error


CONFIG = """
function = "sizes.py:sized"
out = "run"
workers = 2
[axes]
g = [0, 1, 2]
"""


def test_a_dry_run_says_what_a_scan_takes_and_writes_nothing(tmp_path, capsys, monkeypatch):
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "sizes", raising=False)
    (tmp_path / "sizes.py").write_text("def sized(g):\n    return [1.0] * (100 // g)\n")
    (tmp_path / "scan.toml").write_text(CONFIG)
    before = sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__")
    assert main(["scan", str(tmp_path / "scan.toml"), "--dry-run"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
    (tmp_path / "scan.toml").write_text(CONFIG.replace("[0, 1, 2]", "[1, 2]"))
    assert main(["scan", str(tmp_path / "scan.toml"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for part in (
        "2 points (g 2), 0 of them on disk",
        "one point, g = 1",
        "memory per point:",
        "with 2 workers",
        "output size: 1.",
    ):
        assert part in printed, printed
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == before
    sys.modules.pop("sizes", None)
