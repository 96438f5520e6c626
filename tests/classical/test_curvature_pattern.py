"""Sparse curvatures of potentials against dense ones, and patterns that are wrong."""

import jax.numpy as jnp
import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import EnergySystem, StateCost
from qeqprop.classical.curvature_pattern import curvature_pattern

N = 160
CHAIN = [(i, i + 1) for i in range(N - 1)]


def rope(p, s, x):
    """Beads in the plane joined by springs of finite length, in wells of their own."""
    length = jnp.sqrt(((s[1:] - s[:-1]) ** 2).sum(axis=1))
    return (p["k"] * (length - 0.8) ** 2).sum() / 2 + (s**4).sum() / 40 - (p["f"] * s).sum()


def system(interactions, held=None):
    start = np.stack([np.arange(N) / 10, np.sin(np.arange(N))], axis=1)
    return EnergySystem(rope, (N, 2), {"k": (N - 1,), "f": (N, 2)}, start=start, held=held, interactions=interactions)


def drawn():
    rng = np.random.default_rng(0)
    return {"k": rng.uniform(1, 2, N - 1), "f": rng.normal(size=(N, 2))}, rng.normal(size=(N, 2))


@pytest.mark.parametrize("clamped", [False, True])
def test_sparse_curvatures_are_the_dense_ones(clamped):
    held = None
    if clamped:
        held = np.zeros((N, 2), bool)
        held[[0, 7], [0, 1]] = True
    (params, at), sparse, dense = drawn(), system(CHAIN, held), system(None, held)
    matrix = sparse.bare_curvature(params, at)
    assert matrix.nnz <= 4 * (3 * N)
    np.testing.assert_allclose(matrix.toarray(), dense.bare_curvature(params, at), atol=1e-12)


def test_gradients_with_a_pattern_are_those_without():
    params, _ = drawn()
    cost, target = StateCost(lambda s, y: ((s - y) ** 2).sum(), [N // 2]), np.ones((1, 2))
    ours, known = (qp.linear_response(system(edges), params, cost, target) for edges in (CHAIN, None))
    assert np.abs(known.grad["k"]).max() > 1e-2
    for name in params:
        np.testing.assert_allclose(ours.grad[name], known.grad[name], atol=1e-10)


def test_a_pattern_that_lacks_an_interaction_is_refused():
    params, at = drawn()
    with pytest.raises(ValueError, match=r"`interactions` must join all pairs.*node (7|8)\."):
        system([edge for edge in CHAIN if edge != (7, 8)]).bare_curvature(params, at)
    with pytest.raises(ValueError, match="axis of nodes"):
        EnergySystem(lambda p, s, x: p["a"] * s**2, (), {"a": ()}, interactions=[])


def test_colours_do_not_grow_with_the_network():
    counts = {}
    for side in (6, 24):
        edges = [(i, i + 1) for i in range(side**2) if (i + 1) % side] + [(i, i + side) for i in range(side**2 - side)]
        counts[side] = len(curvature_pattern(tuple(edges), (side**2,), ()).displacements)
    assert counts[6] == counts[24] <= 10
