"""The Shockley diode: current, conductance and co-content as functions of the voltage."""

import dataclasses

import numpy as np
import scipy.constants

THERMAL_VOLTAGE = scipy.constants.k * 300.15 / scipy.constants.e
"""k T / e at 27 C, the temperature of SPICE, in volts."""
STEEPEST = 200.0
"""Exponent above which the exponential goes on as a straight line: currents of 10^70 A, met in trial steps alone."""


@dataclasses.dataclass(frozen=True)
class DiodeModel:
    r"""A Shockley diode at 27 C, of current and co-content

    .. math:: I(u) = I_s (e^{u/(n V_T)} - 1) , \qquad \int_0^u I = I_s \, [n V_T (e^{u/(n V_T)} - 1) - u] .

    Attributes:
        emission: emission coefficient n. A real diode has 1 to 2; the default is nearly ideal: it conducts amperes at some
            ten times n V_T, which is 50 microvolts.
        saturation: saturation current I_s in amperes.

    Example:
        >>> silicon = DiodeModel(emission=1.0, saturation=1e-14)
        >>> print(f"{silicon.voltage(1e-3):.4f} V, {silicon.conductance(0.65):.2e} S")
        0.6551 V, 3.17e-02 S
    """

    emission: float = 1e-4
    saturation: float = 1e-14

    def check(self) -> "DiodeModel":
        """The same as plain numbers; what is no diode is refused."""
        for name, value in dataclasses.asdict(self).items():
            if not 0 < value < np.inf:
                raise ValueError(f"Argument `diode` must have a positive, finite `{name}`, but has {value!r}.")
        return DiodeModel(float(self.emission), float(self.saturation))

    @property
    def scale(self) -> float:
        """n V_T, in volts."""
        return self.emission * THERMAL_VOLTAGE

    def current(self, u: np.ndarray) -> np.ndarray:
        """I(u) in amperes."""
        x, beyond, slope = self._split(u)
        return self.saturation * (np.expm1(x) + slope * beyond)

    def conductance(self, u: np.ndarray) -> np.ndarray:
        """dI/du in siemens."""
        return self.saturation / self.scale * self._split(u)[2]

    def content(self, u: np.ndarray) -> np.ndarray:
        """The co-content, the integral of I from 0 to u, in watts."""
        x, beyond, slope = self._split(u)
        return self.saturation * self.scale * (np.expm1(x) - x + (slope - 1) * beyond + 0.5 * slope * beyond**2)

    def voltage(self, current: np.ndarray) -> np.ndarray:
        """u(I) = n V_T ln(1 + I/I_s), for I > -I_s."""
        return self.scale * np.log1p(current / self.saturation)

    def _split(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The exponent, as far as it is one, what is beyond, and the exponential."""
        x = np.asarray(u) / self.scale
        below = np.minimum(x, STEEPEST)
        return below, x - below, np.exp(below)
