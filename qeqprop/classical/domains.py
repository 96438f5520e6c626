"""Where coordinates live: on the real line, between bounds, on a circle, or at +-1."""

import abc

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.module import AbstractModule
from ..core.system import real_array


class AbstractDomain(AbstractModule):
    """The set of values that a system's coordinates may take."""

    @abc.abstractmethod
    def bounds(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest values, of the shape of a state; infinite where there are none.

        Raises:
            TypeError: the values are discrete, so that no force moves them from one to another.
        """

    @abc.abstractmethod
    def nearest(self, position: np.ndarray) -> np.ndarray:
        """The state of the domain that is nearest to any real numbers."""

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """A random state, as a start for a minimisation."""

    @abc.abstractmethod
    def between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The shortest displacement from one state to another."""


class RealSpace(AbstractDomain):
    """Any real numbers; random starts are standard normal.

    Example:
        >>> RealSpace().between(np.zeros(1), np.array([7.0]))
        array([7.])
    """

    def bounds(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        return np.full(shape, -np.inf), np.full(shape, np.inf)

    def nearest(self, position: np.ndarray) -> np.ndarray:
        return position

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.normal(size=shape)

    def between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return end - start


class Box(AbstractDomain):
    """Numbers between bounds: a coordinate that is pushed against one stays there. Random starts are uniform.

    The equilibrium has a kink in beta where a coordinate reaches or leaves a bound: solvers count such changes.

    Args:
        low, high: finite bounds, scalars or of the shape of a state (or broadcast to it).

    Raises:
        ValueError: `low` is not below `high`.

    Example:
        >>> import qeqprop as qp
        >>> unit = qp.classical.Box(0.0, 1.0)
        >>> pushed = qp.classical.EnergySystem(
        ...     lambda p, s, x: s @ s / 2 - p["f"] @ s, (3,), {"f": (3,)}, domain=unit)
        >>> print(qp.equilibrate(pushed, {"f": [-1.0, 0.4, 3.0]}).state.position)
        [0.  0.4 1. ]
    """

    low: np.ndarray
    high: np.ndarray

    def __init__(self, low: ArrayLike, high: ArrayLike):
        self.low, self.high = real_array(low, "low"), real_array(high, "high")
        if not np.all(self.low < self.high):
            raise ValueError(f"Argument `low` must be below `high`, but they are {self.low} and {self.high}.")

    def bounds(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        return np.broadcast_to(self.low, shape), np.broadcast_to(self.high, shape)

    def nearest(self, position: np.ndarray) -> np.ndarray:
        return np.clip(position, self.low, self.high)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.uniform(*self.bounds(shape))

    def between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return end - start


class Torus(AbstractDomain):
    """Phases, of which all multiples of `period` are one and the same. Random starts are uniform on the circle.

    States are not wrapped, so that differences of nudged states stay continuous; distances are the shortest way round.

    Args:
        period: of every coordinate, positive.

    Example:
        >>> Torus(6.0).between(np.array([0.5]), np.array([5.5]))
        array([-1.])
    """

    period: float = eqx.field(static=True)

    def __init__(self, period: float = 2 * np.pi):
        self.period = float(real_array(period, "period", ()))
        if self.period <= 0:
            raise ValueError(f"Argument `period` must be positive, but is {period}.")

    def bounds(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        return RealSpace().bounds(shape)

    def nearest(self, position: np.ndarray) -> np.ndarray:
        return position

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.uniform(-self.period / 2, self.period / 2, shape)

    def between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return (end - start + self.period / 2) % self.period - self.period / 2


class Spins(AbstractDomain):
    """Numbers that are +1 or -1, with any potential: products of three spins, votes, whatever JAX can compute of them.

    There are no forces on spins and no minimum to slide into: equilibria are Boltzmann distributions, by `ExactEnumeration`
    (T = 1 where no solver is named). Networks with pair couplings alone are better an `Ising`, which samplers take as well.
    Random starts are fair coins.

    Example:
        >>> import qeqprop as qp
        >>> triple = qp.classical.EnergySystem(lambda p, s, x: -p["K"] * s[0] * s[1] * s[2], (3,), {"K": ()}, domain=Spins())
        >>> cost = qp.classical.StateCost(lambda s, y: (s[0] * s[1] * s[2] - y) ** 2)
        >>> out = qp.ep_gradient(triple, {"K": 0.5}, cost, 1.0)
        >>> print(out.loss, out.grad["K"].round(6))     # 2 (1 - tanh K), and -2 / cosh(K)^2
        1.07577 -1.572895
    """

    def bounds(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        raise TypeError(
            "Spins have no forces that a solver could follow to an equilibrium: use ExactEnumeration(temperature)."
        )

    def nearest(self, position: np.ndarray) -> np.ndarray:
        return np.where(position >= 0, 1.0, -1.0)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.choice([-1.0, 1.0], shape)

    def between(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return end - start
