"""The Validity: which pixels of a canvas belong to its images, at one resolution.

Images of several sizes share a canvas, each in its top left corner. With what is outside of them kept at zero, and left
out of every sum over pixels, each comes out as if it had run alone: no convolution has a bias, so zeros outside are the
zero padding at its own border. docs/mixed-sizes.md has the argument and the measured errors.
"""

import torch
from torch import Tensor

ROWS, COLUMNS = -2, -1
"""The axes of features (N, C, H, W) that a size is along."""


class Validity:
    """The valid part of (N, C, H, W) features: of each image the first rows and columns, in its own number.

    Made from tensors inside the graph, so that heights and widths are inputs of an exported network. What can be is
    made of rows and columns and not of planes, in few operators: on small canvases a run is bound by their number.
    """

    def __init__(self, count: int, vertical: "Extent", horizontal: "Extent") -> None:
        self.vertical = vertical
        self.horizontal = horizontal
        self.mask = vertical.inside * horizontal.inside  # N 1 H W, the dtype of the features
        self._count = count

    @classmethod
    def within(cls, canvas: Tensor, heights: Tensor, widths: Tensor, dtype: torch.dtype) -> "Validity":
        """Of images with `heights` and `widths` (N,) in `canvas` (N, C, H, W); features have `dtype`."""
        exact = torch.promote_types(canvas.dtype, torch.float32)  # counts every pixel of a side
        count, _, height, width = canvas.shape
        vertical = Extent.of(heights.to(exact), height, ROWS, dtype)
        return cls(count, vertical, Extent.of(widths.to(exact), width, COLUMNS, dtype))

    def halved(self) -> "Validity":
        """The same at half the resolution; all sides are even."""
        return Validity(self._count, self.vertical.halved(), self.horizontal.halved())

    def shape(self, channels: int) -> tuple[int, int, int, int]:
        """The (N, C, H, W) of features: a graph that need not ask them can fuse them away."""
        return self._count, channels, self.vertical.side, self.horizontal.side

    def mean(self, x: Tensor) -> Tensor:
        """The mean (N, C) of each image's own pixels, in at least float32."""
        wide = (x * self.mask).to(torch.promote_types(x.dtype, torch.float32))
        pixels = self.vertical.lengths * self.horizontal.lengths / self.vertical.step**2  # N 1 1 1
        return wide.sum(dim=(-2, -1)) / pixels[:, :, 0, 0].to(wide.dtype)

    def resized(self, maps: Tensor) -> Tensor:
        """Maps (N, C, h, w), resized to each image's own size: (N, C, H, W), zero outside.

        What `F.interpolate(mode="bilinear")` computes, as two matrices an image.
        """
        vertical = self.vertical.interpolation(maps.shape[ROWS]).to(maps.dtype)  # N 1 H h
        horizontal = self.horizontal.interpolation(maps.shape[COLUMNS]).to(maps.dtype)  # N 1 w W
        return vertical @ maps @ horizontal  # N C H W


class Extent:
    """The valid part of one axis of a canvas, at one resolution: S rows or columns, each of `step` of the canvas.

    Tensors lie along that axis of (N, C, H, W) from the beginning: S 1 for rows and 1 S for columns.
    """

    def __init__(self, lengths: Tensor, centres: Tensor, inside: Tensor, axis: int, step: int = 1) -> None:
        self.lengths = lengths  # N 1 1 1, in pixels of the canvas, in at least float32
        self.inside = inside  # N 1 S 1 or N 1 1 S: one inside of an image, zero outside, the dtype of the features
        self.side = centres.shape[axis]
        self.step = step
        self._centres = centres  # S 1 or 1 S, in pixels of the canvas
        self._axis = axis

    @classmethod
    def of(cls, lengths: Tensor, side: int, axis: int, dtype: torch.dtype) -> "Extent":
        """Of images with `lengths` (N,) along an axis of a canvas of `side`, at its own resolution."""
        centres = _along(torch.arange(side, dtype=lengths.dtype, device=lengths.device) + 0.5, axis)
        lengths = lengths[:, None, None, None]
        return cls(lengths, centres, (centres < lengths).to(dtype), axis)

    def halved(self) -> "Extent":
        """The same at half the resolution."""
        every_second = (..., slice(None, None, 2), slice(None)) if self._axis == ROWS else (..., slice(None, None, 2))
        centres = self._centres[every_second] + self.step / 2
        return Extent(self.lengths, centres, self.inside[every_second], self._axis, 2 * self.step)

    def interpolation(self, source: int) -> Tensor:
        """The weights (N 1 S source or N 1 source S) that stretch `source` values to an image, none beyond."""
        sources = torch.arange(source, dtype=self._centres.dtype, device=self._centres.device) + 0.5
        # Pixels are areas: their centres coincide, and at the ends the first and the last value goes on.
        centres = (self._centres * (source / self.lengths)).clamp(0.5, source - 0.5)
        distances = (centres - _along(sources, ROWS + COLUMNS - self._axis)).abs()
        return (self.inside - distances).clamp_min(0)  # the outside is too far from everything


def _along(values: Tensor, axis: int) -> Tensor:
    return values[:, None] if axis == ROWS else values[None]


def kept(x: Tensor, valid: Validity | None) -> Tensor:
    """`x` with zeros outside of the images; all of it where there is no outside."""
    return x if valid is None else x * valid.mask


Scales = tuple[Validity | None, Validity | None, Validity | None, Validity | None]
EVERYWHERE: Scales = (None, None, None, None)


def scales(canvas: Tensor, heights: Tensor, widths: Tensor, dtype: torch.dtype) -> Scales:
    """The validity at 1, 1/2, 1/4 and 1/8 of the canvas's resolution."""
    full = Validity.within(canvas, heights, widths, dtype)
    half = full.halved()
    quarter = half.halved()
    return full, half, quarter, quarter.halved()
