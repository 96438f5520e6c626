"""Convolutions with pooling, as interactions of layered networks of images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core.graph import check_count
from ..core.precision import jax_float64
from .interactions import AbstractInteraction, Shape

POOLINGS: dict[str, Callable[[Any], Any]] = {
    "average": lambda tiles: tiles.mean(axis=(3, 5)),
    "max": lambda tiles: tiles.max(axis=(3, 5)),
}
"""Name -> how tiles of p x p pixels, shape (batch, channels, rows, p, columns, p), become one pixel each."""


@dataclass(frozen=True)
class Convolution(AbstractInteraction):
    r"""Images joined by a kernel and pooling: E = -sum v . pool(w * u). Source: Laborieux et al., arXiv:2006.03824 (2020).

    Layers have shape (channels, rows, columns) and weights (channels of post, channels of pre, kernel, kernel); images are
    correlated with the kernel, with steps of one pixel. With max pooling what flows back goes to the pixels that win; the
    energy is then not quadratic, and an update of `pre` minimises a bound that touches the energy where the layer stands: it
    falls all the same, for v >= 0. Below zero there is no such bound: the minimum may lie where pixels of a tile tie, on a
    kink of the energy on which no update comes to rest.

    Args:
        pre, post: numbers of the layers, pre < post; 0 are the inputs.
        kernel: rows and columns of the kernel.
        padding: zeros around the image; None keeps its size (odd kernels).
        pooling: "average" or "max" over tiles, or None.
        tile: rows and columns of a tile; what does not fill one at the border is left out.

    Raises:
        TypeError, ValueError: sizes out of range, an unknown pooling.
    """

    pre: int
    post: int
    kernel: int = 3
    padding: int | None = None
    pooling: str | None = None
    tile: int = 2

    def __post_init__(self) -> None:
        check_count(self.kernel, "kernel")
        check_count(self.tile, "tile")
        if self.padding is None and self.kernel % 2 == 0:
            raise ValueError(f"Argument `padding` must be given for an even kernel, but `kernel` is {self.kernel}.")
        if self.padding is not None:
            check_count(self.padding, "padding", 0)
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise ValueError(
                f"Argument `pooling` must be None or one of {', '.join(POOLINGS)}, but is {self.pooling!r}."
            )

    def image_shape(self, pre: Shape, channels: int) -> Shape:
        """Shape of the layer `post` that a layer of shape `pre` goes with."""
        tile = 1 if self.pooling is None else self.tile
        rows, columns = ((n + 2 * self._border - self.kernel + 1) // tile for n in pre[1:])
        return channels, rows, columns

    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        if len(pre) != 3 or len(post) != 3:
            raise ValueError(f"A Convolution joins layers of shape (channels, rows, columns), but not {pre} to {post}.")
        expected = self.image_shape(pre, post[0])
        if post != expected or min(expected) < 1:
            raise ValueError(
                f"A Convolution of layer {self.pre}, of shape {pre}, makes a layer {self.post} of shape {expected}, but "
                f"`sizes` has {post}."
            )
        return post[0], pre[0], self.kernel, self.kernel

    def fan_in(self, pre: Shape) -> int:
        return pre[0] * self.kernel**2

    def send(self, weights: Any, u: Any) -> Any:
        image = correlated(weights, u, self._border)
        if self.pooling is None:
            return image
        rows, columns = (n // self.tile for n in image.shape[2:])
        image = image[:, :, : rows * self.tile, : columns * self.tile]
        tiles = image.reshape(*image.shape[:2], rows, self.tile, columns, self.tile)
        return POOLINGS[self.pooling](tiles)

    def stiffness(self, weights: Any) -> tuple[Any, Any]:
        return 0.0, 0.0

    @property
    def reciprocity(self) -> float:
        return 1.0

    def ties(self, lowest: float) -> bool:
        """Whether minima may lie on kinks of the energy, where units of `post` go down to `lowest`."""
        return self.pooling == "max" and lowest < 0

    @property
    def _border(self) -> int:
        return self.kernel // 2 if self.padding is None else self.padding


def correlated(kernels: Any, images: Any, border: int) -> Any:
    """Images (batch, channels, rows, columns), with zeros around them, correlated with (new, channels, k, k) kernels.

    One matrix product with the k x k shifted copies of the images: on CPUs, XLA's convolutions and their transposes take
    five to ten times as long for the small images and few channels of such networks, in double precision too.
    """
    jnp, size = jax_float64().numpy, kernels.shape[-1]
    padded = jnp.pad(images, ((0, 0), (0, 0), (border, border), (border, border))).transpose(0, 2, 3, 1)
    rows, columns = (n - size + 1 for n in padded.shape[1:3])
    shifted = [padded[:, i : i + rows, j : j + columns] for i in range(size) for j in range(size)]
    copies = jnp.concatenate(shifted, axis=3).reshape(-1, size**2 * images.shape[1])
    product = copies @ kernels.transpose(2, 3, 1, 0).reshape(-1, kernels.shape[0])
    return product.reshape(len(images), rows, columns, -1).transpose(0, 3, 1, 2)
