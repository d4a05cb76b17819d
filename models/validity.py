"""Masks for batches that pad images of several sizes to one shape.

Images of several sizes share a canvas, each in its top left corner. With what is outside of them kept at zero, and left
out of every sum over pixels, each comes out as if it had run alone: no convolution has a bias, so zeros outside are the
zero padding at its own border. docs/mixed-sizes.md has the argument and the measured errors.
"""

import torch
from torch import Tensor

ROWS, COLUMNS = -2, -1
"""Axes of features (N, C, H, W) that a side extends along."""


class Validity:
    """Mask of the valid rows and columns of each image in (N, C, H, W) features, at one resolution.

    Computed from tensors inside the graph, so that heights and widths are inputs of an exported network. Works on rows
    and columns rather than planes where possible, with few operators: for small shapes, run time depends on their
    number.
    """

    def __init__(self, count: int, vertical: "Extent", horizontal: "Extent") -> None:
        self.vertical = vertical
        self.horizontal = horizontal
        self.mask = vertical.inside * horizontal.inside  # N 1 H W, the dtype of the features
        self._count = count

    @classmethod
    def within(cls, canvas: Tensor, heights: Tensor, widths: Tensor, dtype: torch.dtype) -> "Validity":
        """Create the mask for images with `heights` and `widths` (N,) padded to `canvas` (N, C, H, W), in `dtype`."""
        exact = torch.promote_types(canvas.dtype, torch.float32)  # can represent every pixel count
        count, _, height, width = canvas.shape
        vertical = Extent.of(heights.to(exact), height, ROWS, dtype)
        return cls(count, vertical, Extent.of(widths.to(exact), width, COLUMNS, dtype))

    def halved(self) -> "Validity":
        """Return the mask at half the resolution; all sides are even."""
        return Validity(self._count, self.vertical.halved(), self.horizontal.halved())

    def shape(self, channels: int) -> tuple[int, int, int, int]:
        """Return (N, C, H, W) of the features. Without a shape query, a graph can fuse the features away."""
        return self._count, channels, self.vertical.side, self.horizontal.side

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean (N, C) over each image's own pixels, in at least float32."""
        wide = (x * self.mask).to(torch.promote_types(x.dtype, torch.float32))
        return wide.sum(dim=(-2, -1)) / self.pixels()[:, :, 0, 0].to(wide.dtype)

    def pixels(self) -> Tensor:
        """Return the number (N, 1, 1, 1) of each image's own pixels, in at least float32."""
        return self.vertical.lengths * self.horizontal.lengths / self.vertical.step**2

    def resized(self, maps: Tensor) -> Tensor:
        """Resize maps (N, C, h, w) to each image's own size: (N, C, H, W), zero in the padding.

        Equals `F.interpolate(mode="bilinear")`, computed as two matrix products per image.
        """
        vertical = self.vertical.interpolation(maps.shape[ROWS]).to(maps.dtype)  # N 1 H h
        horizontal = self.horizontal.interpolation(maps.shape[COLUMNS]).to(maps.dtype)  # N 1 w W
        return vertical @ maps @ horizontal  # N C H W


class Extent:
    """Valid part of one axis at one resolution: S rows or columns, each spanning `step` pixels of full resolution.

    Tensors are created along that axis of (N, C, H, W): (S, 1) for rows and (1, S) for columns.
    """

    def __init__(self, lengths: Tensor, centres: Tensor, inside: Tensor, axis: int, step: int = 1) -> None:
        self.lengths = lengths  # N 1 1 1, in full-resolution pixels, in at least float32
        self.inside = inside  # N 1 S 1 or N 1 1 S: one inside the image, zero in the padding, the dtype of the features
        self.side = centres.shape[axis]
        self.step = step
        self._centres = centres  # S 1 or 1 S, in full-resolution pixels
        self._axis = axis

    @classmethod
    def of(cls, lengths: Tensor, side: int, axis: int, dtype: torch.dtype) -> "Extent":
        """Create the extent of images with `lengths` (N,) along an axis padded to `side`, at full resolution."""
        centres = _along(torch.arange(side, dtype=lengths.dtype, device=lengths.device) + 0.5, axis)
        lengths = lengths[:, None, None, None]
        return cls(lengths, centres, (centres < lengths).to(dtype), axis)

    def halved(self) -> "Extent":
        """Return the extent at half the resolution."""
        every_second = (..., slice(None, None, 2), slice(None)) if self._axis == ROWS else (..., slice(None, None, 2))
        centres = self._centres[every_second] + self.step / 2
        return Extent(self.lengths, centres, self.inside[every_second], self._axis, 2 * self.step)

    def interpolation(self, source: int) -> Tensor:
        """Return weights (N 1 S source or N 1 source S) that resize `source` values to each image, zero elsewhere."""
        sources = torch.arange(source, dtype=self._centres.dtype, device=self._centres.device) + 0.5
        # Pixels are areas: both ranges cover the same span, and the first and last values extend to the borders.
        centres = (self._centres * (source / self.lengths)).clamp(0.5, source - 0.5)
        distances = (centres - _along(sources, ROWS + COLUMNS - self._axis)).abs()
        return (self.inside - distances).clamp_min(0)  # the padding is too far from everything


def _along(values: Tensor, axis: int) -> Tensor:
    return values[:, None] if axis == ROWS else values[None]


def kept(x: Tensor, valid: Validity | None) -> Tensor:
    """Set the padding of `x` to zero; return `x` unchanged without a mask."""
    return x if valid is None else x * valid.mask


Scales = tuple[Validity | None, Validity | None, Validity | None, Validity | None]
EVERYWHERE: Scales = (None, None, None, None)


def scales(canvas: Tensor, heights: Tensor, widths: Tensor, dtype: torch.dtype) -> Scales:
    """Return the masks at 1, 1/2, 1/4 and 1/8 of the full resolution."""
    full = Validity.within(canvas, heights, widths, dtype)
    half = full.halved()
    quarter = half.halved()
    return full, half, quarter, quarter.halved()
