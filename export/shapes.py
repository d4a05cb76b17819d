"""The input shapes (N, 3, H, W) that an export is traced and verified with."""

from models.promptir import IMAGE_CHANNELS, SIZE_MULTIPLE

Shape = tuple[int, int, int, int]

TRACE_SHAPE: Shape = (2, IMAGE_CHANNELS, 6 * SIZE_MULTIPLE, 8 * SIZE_MULTIPLE)
"""Not square and not batch 1, so that an axis the tracer took for a constant shows up in verification."""

VERIFICATION_SHAPES: tuple[Shape, ...] = (
    (1, IMAGE_CHANNELS, SIZE_MULTIPLE, SIZE_MULTIPLE),  # the smallest there is: one pixel in the latent
    (1, IMAGE_CHANNELS, 64, 64),
    (3, IMAGE_CHANNELS, 40, 72),
    (2, IMAGE_CHANNELS, 96, 64),
    (1, IMAGE_CHANNELS, 72, 200),
)
"""None is the traced one; batches of one and more, square, tall and wide."""
