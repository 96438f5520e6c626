"""The command line: every command in this process, its output, its files and its exit code."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.cli import _parser, main
from qeqprop.commands import check, modelfile, train

MODEL = """
[system]
type = "TransverseFieldIsing"
n_sites = 4
edges = "chain"

[params]
J = 1.0
h = [0.1, 0.2, 0.3, 0.4]
g = 1

[cost]
observable = "Z3 - 0.5 * Z0 Z1"

[scheme]
name = "centered"
beta = 0.01

[solver]
tolerance = 1e-11
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.toml"
    path.write_text(MODEL)
    return path


def changed(path: Path, old: str, new: str) -> str:
    """The model with one thing changed, as an argument."""
    assert old in MODEL
    path.write_text(MODEL.replace(old, new))
    return str(path)


def without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sklearn", "sklearn.datasets", "sklearn.linear_model"):
        monkeypatch.setitem(sys.modules, module, None)


# The parser


def test_version(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qeqprop {qp.__version__}\n"


@pytest.mark.parametrize("command", ["demo", "train", "check", "info"])
def test_help_of_every_command(command: str, capsys: pytest.CaptureFixture[str]):
    assert main([command, "--help"]) == 0
    assert f"qeqprop {command}" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["chek"], ["check"], ["train", "sudoku"], ["info", "--jason"]])
def test_wrong_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(argv) == 2
    assert "usage:" in capsys.readouterr().err


# info


def test_info(capsys: pytest.CaptureFixture[str]):
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["versions"]["qeqprop"] == qp.__version__
    assert int(facts["machine"]["threads"]) >= 1
    assert main(["info"]) == 0
    assert re.search(r"largest exact network +\d+ spins", capsys.readouterr().out)


def test_info_on_missing_packages_and_forbidden_precision(monkeypatch: pytest.MonkeyPatch):
    from qeqprop.commands import info

    monkeypatch.setenv("JAX_ENABLE_X64", "0")
    monkeypatch.setattr(info, "PACKAGES", ("no-such-package",))
    assert info.versions()["no-such-package"] is None
    assert "forbidden" in info.machine()["64-bit JAX"]


@pytest.mark.parametrize("n_sites", [15, 24])
def test_largest_exact_network_is_the_largest_that_is_not_refused(n_sites: int):
    from qeqprop.commands.info import largest_exact
    from qeqprop.core.memory import check_memory
    from qeqprop.quantum.exact_spins import LARGE_VECTORS

    needed = LARGE_VECTORS * 8 << n_sites
    free = int(needed / 0.9) + 1
    assert largest_exact(free) == n_sites
    assert largest_exact(free - 2) == n_sites - 1
    check_memory(needed, "it", "", limit=int(0.9 * free))


# check


def test_check_agrees(model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["check", str(model)]) == 0
    out = capsys.readouterr().out
    assert "AGREES" in out
    assert "DISAGREES" not in out


def test_check_json_holds_the_numbers_of_the_library(model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["check", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    net = qp.TransverseFieldIsing(4, [(0, 1), (1, 2), (2, 3)])
    params = {"J": np.ones(3), "h": [0.1, 0.2, 0.3, 0.4], "g": np.ones(4)}
    cost = qp.ObservableCost(qp.Z(3) - 0.5 * qp.Z(0) * qp.Z(1))
    solver = qp.ExactDiagonalization(tolerance=1e-11)
    out = qp.ep_gradient(net, params, cost, solver=solver, scheme=qp.centered(0.01))
    assert found["agrees"] is True
    assert found["scheme"] == "centered(0.01)"
    for name, grad in out.grad.items():
        np.testing.assert_allclose(found["gradient"][name], grad, rtol=1e-12)
        np.testing.assert_allclose(found["references"]["linear response"][name], grad, atol=1e-3)
    assert set(found["deviations"]) == set(found["references"]) == {"linear response", "finite differences"}


def test_check_does_not_accept_a_gradient_of_zeros(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The ground state of a Heisenberg chain is a singlet: <Z> is 0 for all J, and agreement of zeros says nothing."""
    path = tmp_path / "singlet.toml"
    path.write_text(
        '[system]\ntype = "heisenberg"\nn_sites = 4\nedges = "chain"\n[params]\nJ = 1.0\n[cost]\nobservable = "Z0"'
    )
    assert main(["check", str(path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["vanishes"] is True
    assert found["agrees"] is False


def test_check_draws(model: Path, tmp_path: Path):
    picture = tmp_path / "agreement.png"
    assert main(["check", str(model), "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_check_takes_losses_of_expectation_values(model: Path, capsys: pytest.CaptureFixture[str]):
    argument = changed(
        model, 'observable = "Z3 - 0.5 * Z0 Z1"', 'observables = ["Z2", "Z3"]\ntarget = [1, -1]\nloss = "cross_entropy"'
    )
    assert main(["check", argument, "--json"]) == 0
    net = qp.TransverseFieldIsing(4, [(0, 1), (1, 2), (2, 3)])
    params = {"J": np.ones(3), "h": [0.1, 0.2, 0.3, 0.4], "g": np.ones(4)}
    cost = qp.ExpectationCost([qp.Z(2), qp.Z(3)], qp.cross_entropy)
    loss = float(qp.ep_gradient(net, params, cost, [1.0, -1.0]).loss)
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(loss, abs=1e-9)


def test_large_nudges_are_warned_of_in_one_line(model: Path, capsys: pytest.CaptureFixture[str]):
    main(["check", changed(model, "beta = 0.01", "beta = 0.2")])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("qeqprop: warning: beta*||C||/gap = ")


REFUSED = {
    "key": ("beta = 0.01", "betta = 0.01", r"Unknown key `betta` in \[scheme\] centered: did you mean `beta`\?"),
    "section": ("[params]", "[parms]", "Unknown key `parms` in the file: did you mean `params`"),
    "missing key": ("n_sites = 4", "", r"Missing key `n_sites` in \[system\]"),
    "missing parameter": ("g = 1\n", "\n", r"Missing key `g` in \[params\]"),
    "type": ("TransverseFieldIsing", "TransversFieldIsing", "did you mean `TransverseFieldIsing`"),
    "graph": ('"chain"', '"chian"', "did you mean `chain`"),
    "edge": ('"chain"', "[[0, 4]]", "sites 0 to 3"),
    "scheme": ('"centered"', '"central"', "did you mean `centered`"),
    "length": ("h = [0.1, 0.2, 0.3, 0.4]", "h = [0.1]", r"`h` must have shape \(4,\)"),
    "text for a number": ("J = 1.0", 'J = "strong"', "`J` must hold real numbers"),
    "nan": ("J = 1.0", "J = nan", "`J` must be finite"),
    "observable": ("Z3 -", "Q3 -", "Q3"),
    "site": ("Z3 -", "Z7 -", "7"),
    "tolerance": ("1e-11", "2.0", "`tolerance` must lie between"),
    "toml": ("[scheme]", "[scheme", "model.toml"),
    "degenerate": ("h = [0.1, 0.2, 0.3, 0.4]\ng = 1", "h = 0.0\ng = 0.0", "degenerate"),
    "nudge": ("beta = 0.01", "beta = 1.0", "nudge too large"),
    "memory": ("n_sites = 4", "n_sites = 50", "GiB|TiB"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_models_are_refused_in_one_line(case: str, model: Path, capsys: pytest.CaptureFixture[str]):
    old, new, message = REFUSED[case]
    argument = changed(model, old, new)
    if case == "memory":
        model.write_text(model.read_text().replace("h = [0.1, 0.2, 0.3, 0.4]", "h = 0.1"))
    assert main(["check", argument]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if "warning" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("qeqprop: ")
    assert re.search(message, lines[0])


def test_missing_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["check", str(tmp_path / "nothing.toml")]) == 3
    assert capsys.readouterr().err.endswith("nothing.toml: No such file or directory\n")


def test_debug_shows_the_traceback(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        main(["--debug", "check", str(tmp_path / "nothing.toml")])


def test_bugs_keep_their_traceback(model: Path, monkeypatch: pytest.MonkeyPatch):
    def bug(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(modelfile, "read_model", bug)
    with pytest.raises(ZeroDivisionError):
        main(["check", str(model)])


def test_documented_model_is_the_readers_model():
    """The model in `qeqprop check --help` is read by the reader it documents, comments included."""
    import tomllib

    text = (check.__doc__ or "").split("may be left out):")[1]
    shown = modelfile.parse_model(tomllib.loads(text))
    assert shown.system.n_sites == 10
    optional = re.sub(r"^( *)# (\w+ = )", r"\1\2", text, flags=re.MULTILINE)
    full = modelfile.parse_model(tomllib.loads(optional.replace('observable = "Z9" ', "# ")))
    assert full.target.tolist() == [1.0, -1.0]
    assert full.options == {"step": 0.01, "rtol": 1e-6}
    assert full.solver.max_iterations == 5000


def test_random_parameters_and_other_systems():
    def parsed(**params: Any) -> modelfile.Model:
        system = {"type": "xxz", "n_sites": 4, "edges": "ring"}
        return modelfile.parse_model({"system": system, "params": params, "cost": {"observable": "Z0"}})

    model, again = parsed(seed=3, h=0.5), parsed(seed=3, h=0.5)
    assert model.params["h"].tolist() == [0.5] * 4
    assert model.params["Jz"].shape == (4,)
    np.testing.assert_array_equal(model.params["Jz"], again.params["Jz"])
    assert not np.array_equal(model.params["Jz"], parsed(seed=4, h=0.5).params["Jz"])


@pytest.mark.parametrize(("graph", "edges"), [("chain", 3), ("ring", 4), ("all", 6)])
def test_graphs(graph: str, edges: int):
    assert len(qp.TransverseFieldIsing(4, modelfile.GRAPHS[graph](4)).edges) == edges


# train


def test_train_writes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import xarray as xr

    pytest.importorskip("sklearn")
    assert main(["train", "iris", "--epochs", "2", "--seed", "1", "--quiet", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "logistic regression" in printed.out
    assert printed.err == ""
    names = ["history.npz", "metrics.json", "network_after.png", "network_before.png", "training.nc", "training.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    history, metrics = qp.load(tmp_path / "history.npz"), json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["seed"] == history.seed == 1
    assert metrics["test_accuracy"]["equilibrium propagation"] == history.metric[-1]
    assert np.sum(metrics["confusion"]) == 39
    with xr.open_dataset(tmp_path / "training.nc", engine="h5netcdf") as table:
        assert table.sizes["epoch"] == 2
        assert table["class"].values.tolist() == metrics["labels"]
        np.testing.assert_array_equal(table["loss"], history.loss)
        np.testing.assert_array_equal(table["param_J"].sel(stage="trained"), history.params["J"])
        assert not np.array_equal(table["param_J"].sel(stage="initial"), history.params["J"])
        assert table.attrs["qeqprop_version"] == qp.__version__


def test_an_interrupted_train_resumes_to_the_same_numbers(tmp_path: Path, capsys, monkeypatch):
    pytest.importorskip("sklearn")
    from qeqprop.core import training

    argv = ["train", "iris", "--epochs", "2", "--quiet", "--out"]
    assert main([*argv, str(tmp_path / "whole")]) == 0
    gradient, calls = training.ep_gradient, []

    def interrupted(*args, **options):
        calls.append(None)
        if len(calls) == 5:  # in the second epoch
            raise KeyboardInterrupt
        return gradient(*args, **options)

    monkeypatch.setattr(training, "ep_gradient", interrupted)
    assert main([*argv, str(tmp_path / "torn")]) != 0
    monkeypatch.undo()
    kept = tmp_path / "torn" / "unfinished"
    assert len(qp.load(kept / "checkpoint.npz")["records"]["loss"]) == 4
    for more, reason in (
        ([], "--resume"),
        (["--resume", "--seed", "1"], "seed = 0"),
        (["--resume", "--epochs", "3"], "epochs = 2"),
    ):
        capsys.readouterr()
        assert main([*argv, str(tmp_path / "torn"), *more]) == 3
        assert reason in capsys.readouterr().err
    assert main([*argv, str(tmp_path / "torn"), "--resume"]) == 0
    assert not kept.exists()
    whole, torn = (qp.load(tmp_path / name / "history.npz") for name in ("whole", "torn"))
    for name in ("loss", "grad_norm", "validation_loss", "metric"):
        np.testing.assert_array_equal(getattr(torn, name), getattr(whole, name))
    np.testing.assert_array_equal(torn.params["W"], whole.params["W"])


def test_train_misses_a_goal(tmp_path: Path):
    pytest.importorskip("sklearn")
    argv = ["train", "iris", "--epochs", "1", "--quiet", "--out", str(tmp_path), "--goal"]
    assert main([*argv, "1.1"]) == 1


@pytest.mark.parametrize("argv", [["iris", "--coupling", "Z"], ["iris", "--epochs", "0"], ["digits", "--sites", "3"]])
def test_train_refuses_bad_values(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("sklearn")
    assert main(["train", *argv, "--out", str(tmp_path)]) == 3
    assert not list(tmp_path.iterdir())  # a later training is not taken for an interrupted one
    assert capsys.readouterr().err.startswith("qeqprop: ")


@pytest.mark.parametrize(
    ("argv", "n_sites", "n_params"),
    [
        (["digits"], 9, 36 + 18),
        (["digits", "--sites", "11"], 11, 55 + 22),
        (["iris", "--sites", "5"], 5, 10 + 10 + 20),
        (["phases"], 8, 51),
        (["phases", "--sites", "5", "--coupling", "Z"], 5, 27),
    ],
)
def test_train_sizes(argv: list[str], n_sites: int, n_params: int):
    task = train._task(_parser().parse_args(["train", *argv]))
    assert task.system.n_sites == n_sites
    assert task.n_params == n_params
    samples = task.make_data(0)
    assert task.system.input_shape == samples.train_inputs.shape[1:]
    assert max(observable.max_site for observable in task.nudge.observables) == n_sites - 1


# demo


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import xarray as xr

    pytest.importorskip("sklearn")
    assert main(["demo", "--quick", "--quiet", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    found = {path.name for path in tmp_path.iterdir()}
    pictures = {"agreement.png", "error_vs_beta.png", "training.png", "network_before.png", "network_after.png"}
    assert found == pictures | {"gradient.nc", "training.nc", "history.npz", "metrics.json", "summary.json"}
    assert all(str(tmp_path / name) in printed for name in found)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["gradient"]["agrees"] is True
    assert summary["training"]["task"] == "digits"
    with xr.open_dataset(tmp_path / "gradient.nc", engine="h5netcdf") as table:
        gap = table["gradient"].sel(estimator="EP") - table["gradient"].sel(estimator="linear response")
        assert 0 < float(abs(gap).max()) < 1e-3
        error = table["error"].sel(beta=0.1, method="nearest")
        assert float(error.sel(scheme="one_sided")) > 10 * float(error.sel(scheme="centered"))
        assert float(error.sel(scheme="centered")) > 10 * float(error.sel(scheme="richardson"))


def test_demo_without_scikit_learn_does_its_first_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    without_scikit_learn(monkeypatch)
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 3
    assert 'pip install "qeqprop[data]"' in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"agreement.png", "error_vs_beta.png", "gradient.nc"}
