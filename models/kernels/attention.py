"""Triton kernels for attention between channels: MDTA's Gram matrix and norms in one pass, and NAF's channel attention.

Sums over the pixels are split among programs. Each writes its own partial sum, so that the result does not depend on
the order in which they finish.
"""

import triton
import triton.language as tl

from models.kernels.depthwise import convolved


@triton.jit(do_not_specialize=["height", "width", "splits"])
def channel_gram(
    x, weight, valid, gram, squares, height, width, channels, size, stride, splits,
    MASKED: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Depthwise 3x3 convolution of q and k, their products and their squared lengths, of one share of the pixels.

    x holds q and then k in 2 `channels`; a head has `size` of each. Writes gram (N, splits, heads, size, size) and
    squares (N, splits, 2, channels), both float32. Program (image and split, head, pair of channel blocks) sums the
    products of BC channels of q with BC of k, BP pixels at a time.
    """
    tiles = tl.cdiv(size, BC)
    part, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    across, down = tl.program_id(2) % tiles, tl.program_id(2) // tiles
    rows, columns = down * BC + tl.arange(0, BC), across * BC + tl.arange(0, BC)
    pixels = height * width
    blocks = tl.cdiv(pixels, BP)
    share = tl.cdiv(blocks, splits)
    start = (part // splits) * pixels
    begin = (part % splits).to(tl.int32) * share
    x += start * stride + head * size
    weight += head * size * 9
    total = tl.zeros((BC, BC), tl.float32)
    squares_q, squares_k = tl.zeros((BC,), tl.float32), tl.zeros((BC,), tl.float32)
    for block in range(begin, tl.minimum(begin + share, blocks)):
        pixel = block * BP + tl.arange(0, BP)
        inside = pixel < pixels
        q = convolved(x, weight, pixel, inside, rows, size, height, width, stride, BP, BC)
        k = convolved(x + channels, weight + channels * 9, pixel, inside, columns, size, height, width, stride, BP, BC)
        if MASKED:
            kept = tl.load(valid + start + pixel, mask=inside, other=0.0).to(tl.float32)[:, None]
            q *= kept
            k *= kept
        narrow_q, narrow_k = q.to(x.dtype.element_ty), k.to(x.dtype.element_ty)
        total = tl.dot(tl.trans(narrow_q), narrow_k, total)
        wide_q, wide_k = narrow_q.to(tl.float32), narrow_k.to(tl.float32)
        squares_q += tl.sum(wide_q * wide_q, 0)
        squares_k += tl.sum(wide_k * wide_k, 0)
    gram += (part * tl.num_programs(1) + head) * size * size
    tl.store(
        gram + rows[:, None] * size + columns[None, :], total, mask=(rows < size)[:, None] & (columns < size)[None, :]
    )
    squares += part * 2 * channels + head * size
    tl.store(squares + rows, squares_q, mask=(rows < size) & (across == 0))
    tl.store(squares + channels + columns, squares_k, mask=(columns < size) & (down == 0))


@triton.jit(do_not_specialize=["splits"])
def attention_map(
    gram, squares, temperature, attention, channels, size, splits,
    EPSILON: tl.constexpr, BI: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Softmax of the normalised Gram matrix, after adding up the partial sums: attention (N, heads, size, size).

    Program (image, head, row block) computes BI rows with all `size` columns, at most BC.
    """
    image, head, heads = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    rows, columns = tl.program_id(2) * BI + tl.arange(0, BI), tl.arange(0, BC)
    inside = (rows < size)[:, None] & (columns < size)[None, :]
    gram += (image * splits * heads + head) * size * size
    squares += image * splits * 2 * channels + head * size
    logits = tl.zeros((BI, BC), tl.float32)
    squares_q, squares_k = tl.zeros((BI,), tl.float32), tl.zeros((BC,), tl.float32)
    for _ in range(splits):
        logits += tl.load(gram + rows[:, None] * size + columns[None, :], mask=inside, other=0.0)
        squares_q += tl.load(squares + rows, mask=rows < size, other=0.0)
        squares_k += tl.load(squares + channels + columns, mask=columns < size, other=0.0)
        gram += heads * size * size
        squares += 2 * channels
    lengths_q, lengths_k = tl.maximum(tl.sqrt(squares_q), EPSILON), tl.maximum(tl.sqrt(squares_k), EPSILON)
    scale = tl.load(temperature + head).to(tl.float32)
    logits = tl.where(inside, logits * scale / lengths_q[:, None] / lengths_k[None, :], -float("inf"))
    # Rows beyond the last have no logits; a zero there keeps them finite, and they are not stored.
    logits = tl.where((rows < size)[:, None], logits, 0.0)
    powers = tl.exp(logits - tl.max(logits, 1)[:, None])
    weights = powers / tl.sum(powers, 1)[:, None]
    at = attention + (image * heads + head) * size * size + rows[:, None] * size + columns[None, :]
    tl.store(at, weights.to(attention.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["blocks", "pixels"])
def scaled_projection(
    sums, areas, linear, bias, projection, matrix, blocks, pixels, channels,
    MASKED: tl.constexpr, BR: tl.constexpr, BO: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """NAF's channel attention: matrix (N, channels, channels) = `projection` with each input channel weighted.

    The weights are a linear layer of the mean over the image, from the block sums (N, blocks, channels) that `gate`
    writes, and the number of pixels: `pixels`, or that in `areas` (N,) if MASKED. One program does one image.
    """
    image = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BC)
    known = channel < channels
    sums += image * blocks * channels
    total = tl.zeros((BC,), tl.float32)
    for first in range(0, blocks, BR):
        row = first + tl.arange(0, BR)
        mask = (row < blocks)[:, None] & known[None, :]
        total += tl.sum(tl.load(sums + row[:, None] * channels + channel[None, :], mask=mask, other=0.0), 0)
    area = pixels.to(tl.float32)
    if MASKED:
        area = tl.load(areas + image)
    mean = (total / area).to(linear.dtype.element_ty).to(tl.float32)
    matrix += image * channels * channels
    for first in range(0, channels, BO):
        scaled = first + tl.arange(0, BO)
        mask = (scaled < channels)[:, None] & known[None, :]
        part = tl.load(linear + scaled[:, None] * channels + channel[None, :], mask=mask, other=0.0).to(tl.float32)
        weight = tl.sum(part * mean[None, :], 1)
        weight += tl.load(bias + scaled, mask=scaled < channels, other=0.0).to(tl.float32)
        at, mask = channel[:, None] * channels + scaled[None, :], known[:, None] & (scaled < channels)[None, :]
        column = tl.load(projection + at, mask=mask, other=0.0).to(tl.float32)
        tl.store(matrix + at, (column * weight[None, :]).to(matrix.dtype.element_ty), mask=mask)
