"""Averages over many minima: every solve starts in random places, and values are means over where these lead."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.graph import check_count
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.system import AbstractSystem, Params
from .batch_equilibrium import batch_response
from .energy import AbstractPotentialSystem
from .landscape import Landscape
from .minimize import Minimizer
from .point_ensemble import PointEnsemble


class RandomStarts(AbstractSolver):
    r"""Equilibria from random starts, with values that are means over the basins that these lead to:

    .. math:: L = \mathrm{E}_{s_0}\, C(s^*(s_0)) , \qquad
              \frac{dL}{d\theta} = \mathrm{E}_{s_0} \frac{d}{d\beta} \frac{\partial E}{\partial\theta}(s^*_\beta(s_0)) .

    A network with many minima that is trained from one start learns that basin alone. Phases of random initial values, and
    averages over them, are a part of the published training of oscillators. Free states start where the domain draws them
    (uniform on a torus and in a box, normal on the real line), nudged ones at the free ones, each on its branch. Losses and
    gradients carry the standard error over the starts. The measure of a basin is that of the starts which lead to it; what the
    motion of its border adds to the gradient is left out, here as in the literature.

    All starts of all samples are minimised at once. `fit` draws new ones at every step.

    Args:
        starts: of every sample, 2 or more.
        solver: what minimises, a `Minimizer`; None: with FIRE first, that follows the valley of its start. Newton's steps alone
            leap between basins.

    Raises (from `solve`):
        TypeError: the potential is not a JAX function.

    Source: Wang, Wanjura and Marquardt, arXiv:2402.08579.

    Example:
        >>> import qeqprop as qp
        >>> wells = qp.classical.EnergySystem(lambda p, s, x: ((s**2 - 1) ** 2).sum() / 4 - p["f"] @ s, (1,), {"f": (1,)})
        >>> cost = qp.classical.StateCost(lambda s, y: (s[0] - y) ** 2)
        >>> many = qp.classical.RandomStarts(100)
        >>> out = qp.ep_gradient(wells, {"f": [0.0]}, cost, 1.0, solver=many, key=0)
        >>> print(out.loss, out.free.state)                # about half of them in the wrong well, where (s - 1)^2 = 4
        2.1(2) PointEnsemble(100 starts, coordinates (1,))
    """

    starts: int = eqx.field(static=True)
    solver: Minimizer

    name: ClassVar[str] = "RandomStarts"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True

    def __init__(self, starts: int, solver: Minimizer | None = None):
        from .fire import Fire

        self.starts = check_count(starts, "starts", 2)
        if solver is not None and not isinstance(solver, Minimizer):
            raise TypeError(f"Argument `solver` must be a Minimizer or None, but is {solver!r}.")
        self.solver = Minimizer(fire=Fire()) if solver is None else solver

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The minima from random starts, or downhill from those of `init`."""
        land = self._land(system, params)
        if init is None:
            rng = np.random.default_rng(key)
            start = land.coordinates(land.system.domain.draw(rng, land.frame.shape))
        else:
            start = self._points(land, init)
        return self.solver.relaxed(land, start, init)

    def _land(self, system: AbstractSystem, params: Params) -> Landscape:
        if not isinstance(system, AbstractPotentialSystem):
            raise wrong_system(system, "RandomStarts", "potentials written in JAX, e.g. an `EnergySystem`")
        return Landscape.of(system, params, self.starts)

    def _points(self, land: Landscape, known: Equilibrium) -> np.ndarray:
        state = known.state
        if not isinstance(state, PointEnsemble) or state.position.shape != land.frame.shape:
            raise ValueError(
                f"Argument `init` must have an ensemble of {self.starts} starts with coordinates "
                f"{land.system.state_shape}, but has {state!r}."
            )
        return land.coordinates(state.position)

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """The mean of the implicit derivatives of all starts."""
        land = self._land(system, params)
        return batch_response(land, self._points(land, equilibrium), term, tolerance)

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """Linear response: no nudged state can leave its branch."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free states."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """All samples at once."""
        return True

    def __repr__(self) -> str:
        return f"RandomStarts({self.starts}, {self.solver})"
