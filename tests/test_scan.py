"""Scans: what is on disk after a kill, a failure or a change, and that the same call goes on to the same numbers."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import qeqprop as qp
from qeqprop.cli import main

AXES = {"g": np.linspace(0.2, 2.0, 4), "J": [0.5, 1.0]}


def product(g, J, rng):
    return {"product": g * J, "noise": rng.random(3), "m": qp.Estimate(g + J, 0.1)}


def equal_but_for_seconds(a, b):
    return a.drop_vars("seconds").identical(b.drop_vars("seconds"))


def test_values_errors_and_coordinates(tmp_path):
    table = qp.scan(product, AXES, out=tmp_path, workers=0)
    assert table.product.dims == ("g", "J")
    np.testing.assert_array_equal(table.product, np.multiply.outer(AXES["g"], AXES["J"]))
    assert table.noise.dims == ("g", "J", "noise_0")
    assert len(np.unique(table.noise)) == table.noise.size
    assert np.all(table.m_stderr == 0.1)
    assert np.all(table.status == 1)
    assert (table.attrs["seed"], table.attrs["schema"]) == (0, 1)
    with xr.open_dataset(tmp_path / "scan.nc", engine="h5netcdf") as stored:
        np.testing.assert_array_equal(stored.noise, table.noise)
    assert equal_but_for_seconds(qp.open_scan(tmp_path), table)


def test_random_numbers_depend_on_the_point_and_the_seed_alone():
    whole = qp.scan(product, AXES, workers=0, rng=7)
    part = qp.scan(product, {"J": [1.0], "g": AXES["g"][::-2]}, workers=0, rng=7)
    np.testing.assert_array_equal(part.noise.sel(J=1.0), whole.noise.sel(J=1.0, g=part.g))
    assert not np.any(qp.scan(product, AXES, workers=0, rng=8).noise == whole.noise)


def test_gradients_are_scanned_with_their_errors():
    def gradient(g):
        net = qp.TransverseFieldIsing(2, [(0, 1)])
        return qp.ep_gradient(net, {"J": [1.0], "h": [0.3, 0.1], "g": [g, 0.7]}, qp.ObservableCost(qp.Z(0)))

    table = qp.scan(gradient, {"g": [0.5, 1.5]}, workers=0)
    again = gradient(1.5)
    assert again.grad["h"][0] != 0
    np.testing.assert_array_equal(table.grad_h.sel(g=1.5), again.grad["h"])
    assert table.grad_h_stderr.dims == table.grad_h_truncation.dims == table.grad_h.dims == ("g", "grad_h_0")
    assert np.all(table.gap > 0)


def test_failures_are_recorded_and_can_be_retried(tmp_path):
    flag = tmp_path / "mended"

    def fragile(x):
        if x == 2 and not flag.exists():
            raise RuntimeError("the fridge is warm")
        return x**2

    table = qp.scan(fragile, {"x": [1, 2, 3]}, out=tmp_path / "run", workers=0)
    assert table.status.values.tolist() == [1, 2, 1]
    assert str(table.error[1].values) == "RuntimeError: the fridge is warm"
    assert np.isnan(table.value[1])
    flag.touch()
    assert qp.scan(fragile, {"x": [1, 2, 3]}, out=tmp_path / "run", workers=0).status[1] == 2
    mended = qp.scan(fragile, {"x": [1, 2, 3]}, out=tmp_path / "run", workers=0, retry="failed")
    assert mended.value.values.tolist() == [1, 4, 9]


def test_finished_points_are_not_run_again(tmp_path):
    calls = []

    def counted(x):
        calls.append(x)
        return x

    qp.scan(counted, {"x": [1, 2]}, out=tmp_path, workers=0)
    wider = qp.scan(counted, {"x": [1, 2, 3]}, out=tmp_path, workers=0)
    assert wider.value.values.tolist() == [1, 2, 3]
    # by cloudpickle the function has a list of its own: its calls are seen in what it wrote
    assert len(list((tmp_path / "points").glob("*.npz"))) == 3


def test_damaged_points_are_put_aside_and_run_again(tmp_path):
    first = qp.scan(product, AXES, out=tmp_path, workers=0)
    victims = sorted((tmp_path / "points").iterdir())[:2]
    victims[0].write_bytes(victims[0].read_bytes()[:100])
    victims[1].write_bytes(b"")
    assert equal_but_for_seconds(qp.scan(product, AXES, out=tmp_path, workers=0), first)
    assert len(list((tmp_path / "points").glob("*.bad"))) == 2


def test_a_changed_function_is_refused_kept_or_started_afresh(tmp_path):
    def other(g, J, rng):
        return {"product": 2 * g * J, "noise": rng.random(3), "m": 0.0}

    first = qp.scan(product, AXES, out=tmp_path, workers=0)
    with pytest.raises(ValueError, match="another function, source"):
        qp.scan(other, AXES, out=tmp_path, workers=0)
    with pytest.raises(ValueError, match="another seed"):
        qp.scan(product, AXES, out=tmp_path, workers=0, rng=1)
    kept = qp.scan(other, AXES, out=tmp_path, workers=0, on_change="keep")
    np.testing.assert_array_equal(kept.product, first.product)
    qp.scan(product, AXES, out=tmp_path, workers=0, on_change="keep")
    new = qp.scan(other, AXES, out=tmp_path, workers=0, on_change="new")
    np.testing.assert_array_equal(new.product, 2 * first.product)
    assert len(list((tmp_path / "points.1").iterdir())) == 8


def counting_lanczos(g, init):
    net = qp.TransverseFieldIsing(4, [(0, 1), (1, 2), (2, 3)])
    found = qp.equilibrate(net, {"J": np.ones(3), "h": 0.1 * np.ones(4), "g": g * np.ones(4)}, init=init)
    return {"ground": found, "warm": float(init is not None)}


def test_continuation_goes_on_from_the_neighbour(tmp_path):
    axes = {"g": [0.5, 1.0, 1.5, 2.0]}
    whole = qp.scan(counting_lanczos, axes, out=tmp_path / "whole", along="g", workers=0)
    assert whole.warm.values.tolist() == [0, 1, 1, 1]
    qp.scan(counting_lanczos, {"g": axes["g"][:2]}, out=tmp_path / "part", along="g", workers=0)
    resumed = qp.scan(counting_lanczos, axes, out=tmp_path / "part", along="g", workers=0)
    np.testing.assert_array_equal(resumed.ground_energy, whole.ground_energy)
    assert resumed.warm.values.tolist() == [0, 1, 1, 1]
    assert len(list((tmp_path / "part" / "carry").iterdir())) == 1


def test_any_executor_gives_the_same_numbers(tmp_path):
    here = qp.scan(product, AXES, workers=0)
    with ThreadPoolExecutor(2) as threads:
        assert qp.scan(product, AXES, executor=threads).drop_vars("seconds").equals(here.drop_vars("seconds"))
    pool = qp.scan(product, AXES, workers=2).drop_vars("seconds")
    assert pool.equals(here.drop_vars("seconds"))


def test_points_of_another_shape_are_failed():
    table = qp.scan(lambda n: np.zeros(n), {"n": [2, 3]}, workers=0)
    assert table.status.values.tolist() == [1, 2]
    assert "the first point of the scan has" in str(table.error[1].values)


def test_names_of_axes_are_taken():
    with pytest.warns(UserWarning, match="All points failed"):
        table = qp.scan(lambda x: {"x": x}, {"x": [1]}, workers=0)
    assert "the name `x`, which is taken" in str(table.error[0].values)


@pytest.mark.parametrize(
    ("axes", "options", "error", "message"),
    [
        ({}, {}, TypeError, "non-empty dict"),
        ({"g": []}, {}, ValueError, "Axis `g` must be a non-empty"),
        ({"g": [1.0, 1.0], "J": [1]}, {}, ValueError, "each value once"),
        ({"g": [np.nan], "J": [1]}, {}, ValueError, "must be finite"),
        ({"g": [[1, 2]], "J": [1]}, {}, ValueError, "1-D"),
        ({"g": [1], "K": [1]}, {}, TypeError, "must take an argument `K`"),
        ({"rng": [1]}, {}, ValueError, "other than rng"),
        ({"g": [1]}, {}, TypeError, "has no `J`"),
        (AXES, {"along": "J"}, TypeError, "must take an argument `init`"),
        (AXES, {"along": "K"}, ValueError, "one of the axes"),
        (AXES, {"on_change": "ask"}, ValueError, "on_change"),
        (AXES, {"retry": "all"}, ValueError, "retry"),
        (AXES, {"workers": -1}, ValueError, "workers"),
    ],
)
def test_bad_calls_are_refused_before_any_work(tmp_path, axes, options, error, message):
    with pytest.raises(error, match=message):
        qp.scan(product, axes, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


SCRIPT = textwrap.dedent("""
    import os, sys, time
    from pathlib import Path
    import qeqprop as qp

    def slow(x, rng):
        Path(sys.argv[1], f"call-{x}-{os.getpid()}").touch()
        time.sleep(0.2)
        return {"noise": rng.random()}

    if __name__ == "__main__":
        qp.scan(slow, {"x": list(range(12))}, out=Path(sys.argv[1], "run"), workers=2)
""")


def started(folder):
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen([sys.executable, str(script), str(folder)], stderr=subprocess.DEVNULL)


def calls(folder):
    return sorted(folder.glob("call-*"))


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="watches processes in /proc")
@pytest.mark.parametrize("victim", ["worker", "driver"])
def test_a_kill_loses_nothing(tmp_path, victim):
    driver = started(tmp_path)
    wait_until(lambda: len(calls(tmp_path)) >= 4)
    workers = {int(path.name.split("-")[2]) for path in calls(tmp_path)}
    os.kill(driver.pid if victim == "driver" else min(workers), signal.SIGKILL)
    if victim == "driver":
        driver.wait()
        wait_until(lambda: not any(alive(pid) for pid in workers), seconds=2)
        assert 0 < len(list((tmp_path / "run" / "points").glob("*.npz"))) < 12
        driver = started(tmp_path)
    assert driver.wait(timeout=60) == 0
    table = qp.open_scan(tmp_path / "run")
    assert np.all(table.status == 1)
    repeated = len(calls(tmp_path)) - 12
    assert repeated <= 2  # at most one point a worker
    (tmp_path / "calm").mkdir()
    assert started(tmp_path / "calm").wait(timeout=60) == 0
    calm = qp.open_scan(tmp_path / "calm" / "run")
    np.testing.assert_array_equal(calm.noise, table.noise)


def deadly(x):
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def test_a_point_that_kills_its_process_is_recorded(tmp_path):
    table = qp.scan(deadly, {"x": [1, 2, 3, 4]}, out=tmp_path, workers=2)
    assert table.status.values.tolist() == [1, 1, 2, 1]
    assert "died twice" in str(table.error[2].values)


def test_a_manifest_that_is_damaged_or_newer_is_refused(tmp_path):
    qp.scan(product, AXES, out=tmp_path, workers=0)
    manifest = tmp_path / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "schema": 99}))
    with pytest.raises(ValueError, match="newer qeqprop"):
        qp.open_scan(tmp_path)
    manifest.write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        qp.scan(product, AXES, out=tmp_path, workers=0)
    with pytest.raises(FileNotFoundError, match="no scan there"):
        qp.open_scan(tmp_path / "nowhere")


CONFIG = """
function = "gaps.py:gap"
out = "runs/gap"
workers = 0
[axes]
g = { linspace = [0.0, 1.0, 3] }
J = [1.0, 2.0]
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "gaps", raising=False)
    (tmp_path / "gaps.py").write_text("def gap(g, J):\n    return {'gap': 1 / (J - 1 - g)}\n")
    (tmp_path / "scan.toml").write_text(CONFIG)
    yield tmp_path / "scan.toml"
    sys.modules.pop("gaps", None)


def test_the_command_scans_reports_and_resumes(config, capsys):
    assert main(["scan", str(config), "--dry-run"]) == 1  # the point that it tries is 1 / 0
    assert "6 points (g 3 x J 2), 0 of them on disk" in capsys.readouterr().out
    assert main(["scan", str(config)]) == 1  # 1 / 0 at two points
    assert "4 points ok, 2 failed" in capsys.readouterr().out
    run = config.parent / "runs" / "gap"
    assert main(["status", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "function": "gaps.gap", "points": 6, "done": 4, "failed": 2, "missing": 0,
    }  # fmt: skip
    assert qp.open_scan(run).gap.sel(g=0.5, J=2.0) == 2.0
    assert main(["status", str(config.parent)]) == 3
    assert "no scan there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("workers", "workerz", "did you mean `workers`"),
        ('"runs/gap"', "3", "`out` must be text, but is 3"),
        ("linspace", "linspaced", "did you mean `linspace`"),
        ("[0.0, 1.0, 3]", "[0.0, 1.0]", "[start, stop, number]"),
        ("gaps.py:gap", "gaps.py:gop", "has no 'gop'"),
        ("gaps.py:gap", "gasp.py:gap", "no file gasp.py"),
        ("gaps.py:gap", "gaps", "must be 'file.py:name'"),
    ],
)
def test_scan_files_with_mistakes_are_refused(config, capsys, old, new, message):
    config.write_text(CONFIG.replace(old, new))
    assert main(["scan", str(config)]) == 3
    assert message in capsys.readouterr().err


def tedious(x, folder, rng):
    Path(folder, f"call-{x}-{os.getpid()}").touch()
    time.sleep(0.1)
    return rng.random()


@pytest.mark.filterwarnings("ignore:Port .* is already in use")
def test_a_cluster_that_loses_a_worker_repeats_little(tmp_path):
    """The executor of dask; its nanny starts another process in the place of the one that was killed."""
    from distributed import Client, LocalCluster

    axes = {"x": list(range(24)), "folder": [str(tmp_path)]}
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with LocalCluster(**options) as cluster, Client(cluster) as client, ThreadPoolExecutor(1) as side:
        running = side.submit(qp.scan, tedious, axes, out=tmp_path / "run", executor=client.get_executor(), workers=2)
        wait_until(lambda: len(calls(tmp_path)) >= 6)
        os.kill(int(calls(tmp_path)[0].name.split("-")[2]), signal.SIGKILL)
        table = running.result(timeout=120)
    assert np.all(table.status == 1)
    assert len(calls(tmp_path)) - 24 <= 2
    here = qp.scan(tedious, axes, out=tmp_path / "here", workers=0)
    np.testing.assert_array_equal(table.value, here.value)


def test_plain_mistakes_are_refused_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TypeError, match=r"must be a concurrent\.futures\.Executor, but is 4; .* `workers`"):
        qp.scan(abs, {"x": [1]}, executor=4)
    with pytest.raises(NotADirectoryError, match=r"`out` must be a folder, but .*file is a file"):
        qp.scan(lambda x: x, {"x": [1]}, out=tmp_path / "file", workers=0)
    with pytest.raises(FileNotFoundError, match="no scan there"):
        qp.open_scan(tmp_path / "file")


def test_a_scan_of_which_nothing_came_warns():
    def hopeless(x):
        raise RuntimeError("the fridge is warm")

    with pytest.warns(UserWarning, match="All points failed, the first with RuntimeError: the fridge is warm"):
        qp.scan(hopeless, {"x": [1, 2]}, workers=0)
