"""The small parts of the engine: estimates, graphs, memory, status."""

import math

import networkx as nx
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.core import memory
from qeqprop.core.estimate import Estimate, format_uncertain
from qeqprop.core.graph import check_count, check_edges


@pytest.mark.parametrize(
    ("mean", "stderr", "text"),
    [
        (1.2342, 0.0051, "1.234(5)"),
        (1.2342, 0.0012, "1.2342(12)"),
        (-0.5, 0.0, "-0.5"),
        (123.4, 12.0, "123(12)"),
        (0.0, 0.02, "0.00(2)"),
        (0.5, 1e-17, "0.5"),
        (1.5e-9, 2e-11, "1.50(2)e-09"),
        (math.nan, 0.1, "nan"),
        (1.0, math.inf, "1"),
    ],
)
def test_numbers_print_with_their_error(mean, stderr, text):
    assert format_uncertain(mean, stderr) == text


def test_estimate():
    assert float(Estimate(2.5, 0.1)) == 2.5
    assert np.asarray(Estimate.exact(np.arange(3.0))).tolist() == [0, 1, 2]
    assert Estimate.exact({"a": np.ones(2)}).stderr["a"].tolist() == [0, 0]
    assert repr(Estimate.exact(np.arange(3.0))) == "[0, 1, 2]"
    assert repr(Estimate.exact(np.zeros((5, 4)))) == "[0, 0, 0, 0, ..., 0, 0] shape (5, 4)"
    assert repr(Estimate({"a": np.array([1.0])}, {"a": np.array([0.1])})) == "{a: [1.00(10)]}"


def test_edges_in_all_their_forms():
    assert check_edges([(0, 1), (2, 1)], 3) == ((0, 1), (2, 1))
    assert check_edges(np.array([[0, 1], [1, 2]]), 3) == ((0, 1), (1, 2))
    assert check_edges(nx.path_graph(3), 3) == ((0, 1), (1, 2))
    assert check_edges([], 1) == ()


@pytest.mark.parametrize(
    ("edges", "error", "message"),
    [
        ([(0, 1), (1, 0)], ValueError, r"each pair once, but has \(0, 1\) and \(1, 0\)"),
        ([(0, 1), (0, 1)], ValueError, "each pair once"),
        ([(1, 1)], ValueError, r"must not join a site to itself, but has \(1, 1\)"),
        ([(0, 3)], ValueError, r"sites 0 to 2 \(n_sites=3\), but has \(0, 3\)"),
        ([(-1, 0)], ValueError, r"but has \(-1, 0\)"),
        ([(0, 1, 2)], TypeError, r"pairs of integers, but has \(0, 1, 2\)"),
        ([(0.0, 1.0)], TypeError, "pairs of integers"),
        ([(True, 0)], TypeError, "pairs of integers"),
        (5, TypeError, "must be a list of pairs or a graph, but is 5"),
    ],
    ids=["both directions", "twice", "loop", "out of range", "negative", "triple", "floats", "bool", "number"],
)
def test_bad_edges_are_refused(edges, error, message):
    with pytest.raises(error, match=message):
        check_edges(edges, 3)
    with pytest.raises(error, match=message):
        qp.TransverseFieldIsing(3, edges)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.0, TypeError), (True, TypeError), ("2", TypeError)])
def test_counts(value, error):
    assert check_count(np.int64(3), "n") == 3
    with pytest.raises(error, match="Argument `n` must be"):
        check_count(value, "n")


def test_memory_is_checked_before_use():
    memory.check_memory(1, "Nothing", "")
    with pytest.raises(MemoryError, match=r"Work needs 2.0 GiB, but only 1.0 GiB may be used. Do less."):
        memory.check_memory(2**31, "Work", "Do less.", limit=2**30)
    with pytest.raises(MemoryError, match="TiB"):
        memory.check_memory(2**60, "Work", "")
    assert 2**20 < memory.available_memory() < 2**50


def test_memory_respects_the_limit_of_a_container(tmp_path, monkeypatch):
    limit, usage = tmp_path / "limit", tmp_path / "usage"
    limit.write_text("1000\n")
    usage.write_text("400\n")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(limit),))
    monkeypatch.setattr(memory, "_CGROUP_USAGE", (str(usage),))
    assert memory.available_memory() == 600
    limit.write_text("max\n")
    assert memory.available_memory() > 1000


@pytest.mark.parametrize("status", list(qp.Status), ids=str)
def test_every_status_has_advice(status):
    assert status.failed == (status >= qp.Status.NUDGE_TOO_LARGE)
    assert len(status.message) > 20
    error = qp.EquilibriumError(status, "gap = 0.")
    assert error.status is status
    assert str(error) == f"{status}: gap = 0. {status.message}"
