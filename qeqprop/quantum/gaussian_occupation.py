r"""One normal mode at a temperature: how far it spreads, what it costs, and how both answer to a bend."""

from typing import NamedTuple

import numpy as np
import scipy.special


class Occupation(NamedTuple):
    """Thermal equilibrium of modes H = (pi^2 + omega^2 x^2)/2, with k_B = 1:

        <pi^2> = omega^2 <x^2> = hbar omega / 2 + hbar omega / (exp(hbar omega / T) - 1) .

    T = 0 is the ground state and hbar = 0 equipartition, <pi^2> = T; both are values of the same expressions.

    Example:
        >>> omega = np.array([0.5, 2.0])
        >>> for hbar, temperature in ((1.0, 0.0), (0.0, 0.3), (1.0, 0.3)):
        ...     print(Occupation(hbar, temperature).energy(omega).round(4))
        [0.25 1.  ]
        [0.3 0.3]
        [0.3664 1.0025]
    """

    hbar: float
    temperature: float

    def energy(self, omega: np.ndarray) -> np.ndarray:
        """<H> of every mode, which is <pi^2>, and omega^2 <x^2>."""
        return 0.5 * self.hbar * omega + self._planck(omega)

    def entropy(self, omega: np.ndarray) -> np.ndarray:
        """-tr rho ln rho of every mode; at hbar = 0 that of the phase-space density in units of 2 pi."""
        if not self.temperature:
            return np.zeros_like(omega)
        quantum = self.hbar or 1.0
        log_occupied = np.log(scipy.special.exprel(-self.hbar * omega / self.temperature) * omega * quantum)
        return self._planck(omega) / self.temperature - log_occupied + np.log(self.temperature)

    def divided_differences(self, omega: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(F_a - F_b)/(omega_a^2 - omega_b^2) of F = <x^2> and of F = <pi^2>, shape (..., n, n); dF/d(omega^2) where equal.

        With the action j = <pi^2>/omega and its difference quotient, minus sigma,

            <x^2>: -(j / (w_a + w_b) + sigma/2) / (w_a w_b) ,      <pi^2>: j / (w_a + w_b) - sigma/2 ,

        j the mean of both modes: the first has no cancellation, whatever the frequencies.
        """
        a, b = omega[..., :, None], omega[..., None, :]
        action = self.energy(omega) / omega
        shared = 0.5 * (action[..., :, None] + action[..., None, :]) / (a + b)
        half = 0.5 * self._fall(np.minimum(a, b), np.maximum(a, b))
        return -(shared + half) / (a * b), shared - half

    def _planck(self, omega: np.ndarray) -> np.ndarray:
        """hbar omega n: the energy above the zero point."""
        if not self.temperature:
            return np.zeros_like(omega)
        return self.temperature / scipy.special.exprel(self.hbar * omega / self.temperature)

    def _fall(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """hbar (n_low - n_high)/(high - low), by n_a - n_b = n_a (1 - e^(x_a - x_b)) / (1 - e^(-x_b))."""
        if not self.temperature:
            return np.zeros_like(low)
        x = self.hbar / self.temperature
        ratio = scipy.special.exprel(-x * (high - low)) / scipy.special.exprel(-x * high)
        return self._planck(low) / low * ratio / high
