"""Triton kernels for 1x1 convolutions: after a LayerNorm, before a residual, and as NAF's whole feed-forward network.

Features are rows of channels, one row per pixel (NHWC). Products are float16 with float32 sums; statistics are float32.
Offsets of a block are 64-bit, because features of a 4-megapixel batch pass 2^31 elements; offsets inside it are 32-bit.
"""

import triton
import triton.language as tl


@triton.jit
def _row_block(start, pixels, BM: tl.constexpr):
    """Return the rows of a block, and which of them are pixels."""
    rows = tl.arange(0, BM)
    return rows, start + rows < pixels


@triton.jit
def _tile(x, rows, inside, first, channels, BK: tl.constexpr):
    """Load (BM, BK) features from channel `first` on as float32, zero outside the features."""
    channel = first + tl.arange(0, BK)
    mask = inside[:, None] & (channel < channels)[None, :]
    return tl.load(x + rows[:, None] * channels + channel[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _centred(part, mean, first, channels, BK: tl.constexpr):
    """Subtract the mean of each row, and keep the channels beyond the last at zero."""
    channel = first + tl.arange(0, BK)
    return tl.where((channel < channels)[None, :], part - mean[:, None], 0.0)


@triton.jit
def _affine(centred, scale, gain, bias, first, channels, BK: tl.constexpr):
    """Scale centred rows to variance one and apply the LayerNorm's weight and bias."""
    channel = first + tl.arange(0, BK)
    weight = tl.load(gain + channel, mask=channel < channels, other=0.0).to(tl.float32)
    shift = tl.load(bias + channel, mask=channel < channels, other=0.0).to(tl.float32)
    return centred * scale[:, None] * weight[None, :] + shift[None, :]


@triton.jit
def _weights(weight, first, channels, output, outputs, BK: tl.constexpr):
    """Load the (BK, BN) transposed weights of a 1x1 convolution (outputs, channels)."""
    channel = first + tl.arange(0, BK)
    mask = (channel < channels)[:, None] & (output < outputs)[None, :]
    return tl.load(weight + output[None, :] * channels + channel[:, None], mask=mask, other=0.0)


@triton.jit(do_not_specialize=["pixels"])
def norm_project(
    x, gain, bias, weight, valid, y, pixels, channels, outputs,
    EPSILON: tl.constexpr, MASKED: tl.constexpr, WHOLE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """LayerNorm and 1x1 convolution: y = LayerNorm(x) W^T, with padding pixels set to zero if MASKED.

    One program computes BM pixels of BN outputs. If WHOLE, a tile of BK channels holds all and is read once.
    """
    columns = tl.cdiv(outputs, BN)
    start = (tl.program_id(0) // columns).to(tl.int64) * BM
    output = (tl.program_id(0) % columns) * BN + tl.arange(0, BN)
    rows, inside = _row_block(start, pixels, BM)
    x += start * channels
    if WHOLE:
        part = _tile(x, rows, inside, 0, channels, BK)
        centred = _centred(part, tl.sum(part, 1) / channels, 0, channels, BK)
        scale = tl.rsqrt(tl.sum(centred * centred, 1) / channels + EPSILON)
        normal = _affine(centred, scale, gain, bias, 0, channels, BK)
        if MASKED:
            normal *= tl.load(valid + start + rows, mask=inside, other=0.0).to(tl.float32)[:, None]
        total = tl.dot(normal.to(weight.dtype.element_ty), _weights(weight, 0, channels, output, outputs, BK))
    else:
        mean = tl.zeros((BM,), tl.float32)
        for first in range(0, channels, BK):
            mean += tl.sum(_tile(x, rows, inside, first, channels, BK), 1)
        mean /= channels
        squares = tl.zeros((BM,), tl.float32)
        for first in range(0, channels, BK):
            centred = _centred(_tile(x, rows, inside, first, channels, BK), mean, first, channels, BK)
            squares += tl.sum(centred * centred, 1)
        scale = tl.rsqrt(squares / channels + EPSILON)
        total = tl.zeros((BM, BN), tl.float32)
        for first in range(0, channels, BK):
            centred = _centred(_tile(x, rows, inside, first, channels, BK), mean, first, channels, BK)
            normal = _affine(centred, scale, gain, bias, first, channels, BK)
            if MASKED:
                normal *= tl.load(valid + start + rows, mask=inside, other=0.0).to(tl.float32)[:, None]
            part = _weights(weight, first, channels, output, outputs, BK)
            total = tl.dot(normal.to(weight.dtype.element_ty), part, total)
    at = y + start * outputs + rows[:, None] * outputs + output[None, :]
    tl.store(at, total.to(y.dtype.element_ty), mask=inside[:, None] & (output < outputs)[None, :])


@triton.jit(do_not_specialize=["pixels", "matrix_stride"])
def project_add(
    x, matrix, residual, y, pixels, channels, outputs, matrix_stride,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """1x1 convolution and residual: y = residual + x M^T, where the images of a batch may have a matrix each.

    `pixels` is that of one image. One program computes BM pixels of BN outputs.
    """
    columns, blocks = tl.cdiv(outputs, BN), tl.cdiv(pixels, BM)
    output = (tl.program_id(0) % columns) * BN + tl.arange(0, BN)
    block = tl.program_id(0) // columns
    image = (block // blocks).to(tl.int64)
    begin = (block % blocks) * BM
    rows, inside = _row_block(begin, pixels, BM)
    start = image * pixels + begin
    x += start * channels
    matrix += image * matrix_stride
    total = tl.zeros((BM, BN), tl.float32)
    for first in range(0, channels, BK):
        part = _tile(x, rows, inside, first, channels, BK).to(matrix.dtype.element_ty)
        total = tl.dot(part, _weights(matrix, first, channels, output, outputs, BK), total)
    offset = start * outputs + rows[:, None] * outputs + output[None, :]
    mask = inside[:, None] & (output < outputs)[None, :]
    total += tl.load(residual + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(y + offset, total.to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["pixels"])
def gated_feed_forward(
    x, gain, bias, expand, weight, y, pixels, channels,
    EPSILON: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """NAF's feed-forward network: y = x + W2 (gate * value), (gate, value) = W1 LayerNorm(x), without intermediates.

    One program computes all channels, at most BC, of BM pixels. `expand` is W1 (2 channels, channels).
    """
    start = tl.program_id(0).to(tl.int64) * BM
    rows, inside = _row_block(start, pixels, BM)
    x += start * channels
    part = _tile(x, rows, inside, 0, channels, BC)
    centred = _centred(part, tl.sum(part, 1) / channels, 0, channels, BC)
    scale = tl.rsqrt(tl.sum(centred * centred, 1) / channels + EPSILON)
    normal = _affine(centred, scale, gain, bias, 0, channels, BC).to(weight.dtype.element_ty)
    output = tl.arange(0, BC)
    total = part
    for first in range(0, channels, BK):
        hidden = first + tl.arange(0, BK)
        gate = tl.dot(normal, _weights(expand, 0, channels, hidden, channels, BC))
        value = tl.dot(normal, _weights(expand + channels * channels, 0, channels, hidden, channels, BC))
        product = (gate * value).to(weight.dtype.element_ty)
        total = tl.dot(product, _weights(weight, first, channels, output, channels, BK), total)
    at = y + start * channels + rows[:, None] * channels + output[None, :]
    tl.store(at, total.to(y.dtype.element_ty), mask=inside[:, None] & (output < channels)[None, :])
