"""Triton kernels for depthwise 3x3 convolutions: alone, with a gate, and with gate and 1x1 convolution.

Features are rows of channels, one row per pixel (NHWC). A block holds consecutive pixels of one image, whatever its
width; neighbouring rows are read again from the cache.
"""

import triton
import triton.language as tl

INVERSE_ROOT_OF_TWO = tl.constexpr(0.7071067811865476)


@triton.jit
def convolved(x, weight, pixel, inside, channel, channels, height, width, stride, BP: tl.constexpr, BC: tl.constexpr):
    """Convolve `channel` (BC,) of the pixels `pixel` (BP,) of an image with their 3x3 kernels: (BP, BC) float32.

    `x` points at the image and `weight` at the kernels (channels, 9). Channels of a pixel are `stride` elements apart
    from those of the next.
    """
    row, column = pixel // width, pixel % width
    known = channel < channels
    total = tl.zeros((BP, BC), tl.float32)
    for down in tl.range(0, 3, num_stages=1):  # a loop, because nine loads at once would take most registers
        y = row + down - 1
        for right in tl.static_range(3):
            z = column + (right - 1)
            mask = inside & (y >= 0) & (y < height) & (z >= 0) & (z < width)
            at = x + (pixel + (down - 1) * width + (right - 1)).to(tl.int64)[:, None] * stride + channel[None, :]
            features = tl.load(at, mask=mask[:, None] & known[None, :], other=0.0).to(tl.float32)
            kernel = tl.load(weight + channel * 9 + down * 3 + right, mask=known, other=0.0).to(tl.float32)
            total += features * kernel[None, :]
    return total


@triton.jit
def _gated(
    x, weight, pixel, inside, channel, hidden, height, width,
    GELU: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Convolve both halves of the channels and multiply the second with the first or its GELU: (BP, BC) float32."""
    gate = convolved(x, weight, pixel, inside, channel, hidden, height, width, 2 * hidden, BP, BC)
    value = convolved(
        x + hidden, weight + 9 * hidden, pixel, inside, channel, hidden, height, width, 2 * hidden, BP, BC
    )
    if GELU:
        gate = 0.5 * gate * (1.0 + tl.erf(gate * INVERSE_ROOT_OF_TWO))
    return gate * value


@triton.jit(do_not_specialize=["height", "width"])
def depthwise(x, weight, y, height, width, channels, stride, BP: tl.constexpr, BC: tl.constexpr):
    """Depthwise 3x3 convolution of `channels` of the `stride` channels of x. One program: BP pixels, BC channels."""
    pixels, columns = height * width, tl.cdiv(channels, BC)
    blocks = tl.cdiv(pixels, BP)
    channel = (tl.program_id(0) % columns) * BC + tl.arange(0, BC)
    block = tl.program_id(0) // columns
    start = (block // blocks).to(tl.int64) * pixels
    pixel = (block % blocks) * BP + tl.arange(0, BP)
    inside = pixel < pixels
    total = convolved(x + start * stride, weight, pixel, inside, channel, channels, height, width, stride, BP, BC)
    at = y + start * channels + pixel.to(tl.int64)[:, None] * channels + channel[None, :]
    tl.store(at, total.to(y.dtype.element_ty), mask=inside[:, None] & (channel < channels)[None, :])


@triton.jit(do_not_specialize=["height", "width"])
def gate(
    x, weight, valid, y, sums, height, width, hidden,
    GELU: tl.constexpr, POOLED: tl.constexpr, MASKED: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Depthwise 3x3 convolution of 2 `hidden` channels and gate. One program computes BP pixels of BC channels.

    If POOLED, also writes the sum of each block's gated pixels, (N, blocks, hidden) float32, only of valid ones if
    MASKED: the first step of a mean over the image.
    """
    pixels, columns = height * width, tl.cdiv(hidden, BC)
    blocks = tl.cdiv(pixels, BP)
    channel = (tl.program_id(0) % columns) * BC + tl.arange(0, BC)
    known = channel < hidden
    block = tl.program_id(0) // columns
    start = (block // blocks).to(tl.int64) * pixels
    pixel = (block % blocks) * BP + tl.arange(0, BP)
    inside = pixel < pixels
    x += start * 2 * hidden
    gated = _gated(x, weight, pixel, inside, channel, hidden, height, width, GELU, BP, BC).to(y.dtype.element_ty)
    at = y + start * hidden + pixel.to(tl.int64)[:, None] * hidden + channel[None, :]
    tl.store(at, gated, mask=inside[:, None] & known[None, :])
    if POOLED:
        wide = gated.to(tl.float32)  # zero beyond the last pixel, because its features were read as zeros
        if MASKED:
            wide *= tl.load(valid + start + pixel, mask=inside, other=0.0).to(tl.float32)[:, None]
        tl.store(sums + block.to(tl.int64) * hidden + channel, tl.sum(wide, 0), mask=known)


@triton.jit(do_not_specialize=["height", "width"])
def gate_project_add(
    x, weight, matrix, residual, y, height, width, hidden, outputs,
    BP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Second part of GDFN: y = residual + W (GELU(gate) * value), (gate, value) = depthwise 3x3 of x.

    One program computes all outputs, at most BN, of BP pixels, and keeps the hidden channels to itself.
    """
    pixels = height * width
    blocks = tl.cdiv(pixels, BP)
    start = (tl.program_id(0) // blocks).to(tl.int64) * pixels
    pixel = (tl.program_id(0) % blocks) * BP + tl.arange(0, BP)
    inside = pixel < pixels
    output = tl.arange(0, BN)
    x += start * 2 * hidden
    total = tl.zeros((BP, BN), tl.float32)
    for first in range(0, hidden, BK):
        channel = first + tl.arange(0, BK)
        gated = _gated(x, weight, pixel, inside, channel, hidden, height, width, True, BP, BK)
        mask = (channel < hidden)[:, None] & (output < outputs)[None, :]
        part = tl.load(matrix + output[None, :] * hidden + channel[:, None], mask=mask, other=0.0)
        total = tl.dot(gated.to(matrix.dtype.element_ty), part, total)
    offset = start * outputs + pixel.to(tl.int64)[:, None] * outputs + output[None, :]
    mask = inside[:, None] & (output < outputs)[None, :]
    total += tl.load(residual + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(y + offset, total.to(y.dtype.element_ty), mask=mask)
