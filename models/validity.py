"""The Validity: which pixels of a canvas belong to its images, at one resolution.

Images of several sizes share a canvas, each in its top left corner. With what is outside of them kept at zero, and left
out of every sum over pixels, each comes out as if it had run alone: no convolution has a bias, so zeros outside are the
zero padding at its own border. docs/masked-batching.md has the argument and the measured errors.
"""

import torch
from torch import Tensor


class Validity:
    """The valid part of (N, C, H, W) features: of each image the first rows and columns, in its own number.

    Made from tensors inside the graph, so that heights and widths are inputs of an exported network.
    """

    def __init__(self, heights: Tensor, widths: Tensor, rows: Tensor, columns: Tensor, dtype: torch.dtype) -> None:
        self.heights = heights  # N 1, as `rows` in at least float32
        self.widths = widths
        self.rows = rows  # H: 0, 1, ...
        self.columns = columns  # W
        inside = (rows < heights)[:, None, :, None] & (columns < widths)[:, None, None, :]
        self.mask = inside.to(dtype)  # N 1 H W, the dtype of the features

    @classmethod
    def within(cls, canvas: Tensor, heights: Tensor, widths: Tensor, dtype: torch.dtype) -> "Validity":
        """Of images with `heights` and `widths` (N,) in `canvas` (N, C, H, W); features have `dtype`."""
        exact = torch.promote_types(canvas.dtype, torch.float32)  # counts every pixel of a side
        rows, columns = (torch.arange(side, dtype=exact, device=canvas.device) for side in canvas.shape[-2:])
        return cls(heights.to(exact)[:, None], widths.to(exact)[:, None], rows, columns, dtype)

    def halved(self) -> "Validity":
        """The same at half the resolution; all sides are even."""
        rows, columns = self.rows[::2] / 2, self.columns[::2] / 2
        return Validity(self.heights / 2, self.widths / 2, rows, columns, self.mask.dtype)

    def mean(self, x: Tensor) -> Tensor:
        """The mean (N, C) of each image's own pixels, in at least float32."""
        wide = (x * self.mask).to(torch.promote_types(x.dtype, torch.float32))
        return wide.sum(dim=(-2, -1)) / (self.heights * self.widths).to(wide.dtype)

    def resized(self, maps: Tensor) -> Tensor:
        """Maps (N, C, h, w), resized to each image's own size: (N, C, H, W), zero outside.

        What `F.interpolate(mode="bilinear")` computes, as two matrices an image.
        """
        vertical = _interpolation(self.rows, self.heights, maps.shape[-2]).to(maps.dtype)  # N H h
        horizontal = _interpolation(self.columns, self.widths, maps.shape[-1]).to(maps.dtype)  # N W w
        return vertical[:, None] @ maps @ horizontal[:, None].transpose(-2, -1)  # N C H W


def _interpolation(positions: Tensor, lengths: Tensor, source: int) -> Tensor:
    """The weights (N, positions, source) that stretch `source` values to `lengths` (N, 1); no weight beyond them."""
    # Pixels are areas: their centres coincide, and at the ends the first and the last value goes on.
    centres = ((positions + 0.5) * (source / lengths) - 0.5).clamp(0, source - 1)  # N positions
    sources = torch.arange(source, dtype=positions.dtype, device=positions.device)
    weights = (1 - (centres[..., None] - sources).abs()).clamp_min(0)
    return weights * (positions < lengths)[..., None]


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
