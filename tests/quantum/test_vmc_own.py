"""Variational Monte Carlo as a NetKet user meets it: one's own state, sampler, optimizer, loggers and callbacks."""

import netket as nk
import numpy as np
import pytest
from flax import linen as nn

import qeqprop as qp

N = 4
NET = qp.TransverseFieldIsing(N, [(i, i + 1) for i in range(N - 1)])
PARAMS = {"J": np.array([1.0, 0.8, 1.2]), "h": np.array([0.4, 0.5, 0.3, 0.6]), "g": np.array([1.0, 1.1, 0.9, 1.2])}


class MeanField(nn.Module):
    """log psi = a.s: a product state, the poorest ansatz."""

    @nn.compact
    def __call__(self, s):
        return s @ self.param("a", nn.initializers.normal(0.1), (s.shape[-1],), float)


def test_own_state_sampler_optimizer_loggers_and_callbacks():
    import optax

    hilbert = nk.hilbert.Spin(0.5, 3)
    net = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)])
    params = {"J": np.ones(2), "h": np.full(3, 0.3), "g": np.ones(3)}
    log, steps = nk.logging.RuntimeLog(), []

    def callback(step, data, driver):
        steps.append(step)
        return True

    mine = nk.vqs.FullSumState(hilbert, nk.models.RBM(alpha=1, param_dtype=float), seed=0)
    before = mine.parameters["kernel"] if "kernel" in mine.parameters else mine.parameters["Dense"]["kernel"]
    solver = qp.VariationalMonteCarlo(
        state=mine, optimizer=optax.sgd(0.05), loggers=[log], callbacks=[callback], driver_options={"diag_shift": 1e-3}
    )
    ground = qp.equilibrate(net, params, solver=solver, key=0)
    assert abs(float(ground.energy) - float(qp.equilibrate(net, params).energy)) < 1e-4
    assert steps == list(range(ground.stats["steps"]))
    assert len(log.data["Energy"]["Mean"]) == len(steps)
    after = mine.parameters["kernel"] if "kernel" in mine.parameters else mine.parameters["Dense"]["kernel"]
    np.testing.assert_array_equal(before, after)  # a copy was relaxed


def test_a_callback_can_stop_the_relaxation(capsys):
    solver = qp.VariationalMonteCarlo(full_sum=True, model=MeanField(), v_score=1e-9, callbacks=[lambda *_: False])
    ground = qp.equilibrate(NET, PARAMS, solver=solver, key=0, throw=False)
    assert ground.stats["steps"] == 0
    assert "Stopping early" in capsys.readouterr().out  # NetKet's own message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 100, "n_chains": 64}, "multiple of `n_chains`=64"),
        ({"v_score": -1.0}, "`v_score` must be positive"),
        ({"state": object()}, "must be a netket.vqs.MCState or FullSumState"),
        ({"full_sum": True, "sampler": object()}, "nothing is sampled"),
        ({"optimizer": "adam"}, "must be an optax optimizer, such as optax.sgd.*'adam'"),
        ({"model": lambda s: s.sum(-1)}, "is the function <lambda>: it has no parameters"),
        ({"memory": 0}, "`memory` must be"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        qp.VariationalMonteCarlo(**options)


def test_settings_that_would_be_ignored_are_refused():
    hilbert = nk.hilbert.Spin(0.5, N)
    sampler, state = nk.sampler.MetropolisLocal(hilbert, n_chains=32), nk.vqs.FullSumState(hilbert, MeanField())
    with pytest.raises(ValueError, match="`n_chains` must be None beside `sampler`, which has 32"):
        qp.VariationalMonteCarlo(sampler=sampler, n_chains=64)
    with pytest.raises(ValueError, match="`n_samples`, `n_chains` must not be given beside `state`"):
        qp.VariationalMonteCarlo(state=state, n_samples=1024, n_chains=16)
    with pytest.raises(ValueError, match="`full_sum` must not be given beside `state`"):
        qp.VariationalMonteCarlo(state=state, full_sum=True)
    own = qp.VariationalMonteCarlo(sampler=sampler, n_samples=512)  # and without a warning
    assert repr(own) == "VariationalMonteCarlo(v_score=2e-06, n_samples=512, n_chains=32, sampler=MetropolisSampler)"


def test_a_constrained_space_is_refused():
    hilbert = nk.hilbert.Spin(0.5, 4, total_sz=0)
    with pytest.raises(ValueError, match=r"`state` must live on all configurations .* is constrained"):
        qp.VariationalMonteCarlo(state=nk.vqs.FullSumState(hilbert, MeanField()))
    solver = qp.VariationalMonteCarlo(sampler=nk.sampler.MetropolisLocal(hilbert, n_chains=32))
    with pytest.raises(ValueError, match=r"`sampler` must live on all configurations .* is constrained"):
        qp.equilibrate(NET, PARAMS, solver=solver)
