"""Building blocks of a Restormer-like transformer: normalisation, MDTA, GDFN, downsampling and upsampling.

All convolutions are bias-free and all tensors are (N, C, H, W). Attribute names match the published checkpoints, whose
parameter names depend on them. Sources: Restormer (arXiv 2111.09881, sections 3.1 and 3.2), whose blocks PromptIR
(arXiv 2306.13090, section 3) reuses unchanged.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.validity import Validity, kept

L2_NORM_EPSILON = 1e-12
"""Lower bound of a vector norm before dividing by it, as in the published network."""


def widened(x: Tensor) -> Tensor:
    """Convert `x` to at least float32, for the parts that `export/precision.py` keeps in float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _unchanged(x: Tensor) -> Tensor:
    return x


class PointwiseConv(nn.Conv2d):
    """Bias-free 1x1 convolution. Training runs it as a matrix product over the pixels, a sixth faster on a CPU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        return F.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0]).permute(0, 3, 1, 2)


def conv1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    return PointwiseConv(in_channels, out_channels)


def conv3x3(in_channels: int, out_channels: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, groups=groups, bias=False)


class ChannelAffine(nn.Module):
    """Per-channel weight and bias of a normalisation; a separate module to match the published parameter names."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of each pixel, with weight and bias, in at least float32.

    Written as a channels-last `layer_norm` so that exporters emit a single LayerNormalization node.
    """

    EPSILON = 1e-5
    wide_copies = True
    """Convert half-precision features to float32 first, as exported graphs must. PyTorch's own kernel accumulates in
    float32 anyway, so without the copies the result only differs by the rounding of weight and bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels  # constant: the tracer would turn x.shape[1] into a tensor, which layer_norm rejects
        self.body = ChannelAffine(channels)

    def forward(self, x: Tensor, valid: Validity | None = None) -> Tensor:
        """Normalise `x`. With `valid`, padding pixels are set to zero, because the bias would make them non-zero."""
        convert = widened if self.wide_copies else _unchanged
        pixels = convert(x).permute(0, 2, 3, 1)  # N H W C
        weight, bias = convert(self.body.weight), convert(self.body.bias)
        pixels = F.layer_norm(pixels, (self.channels,), weight, bias, self.EPSILON).to(x.dtype)
        if valid is not None:  # before the permute: runtimes fuse this product with the following convolution
            pixels = pixels * valid.mask.permute(0, 2, 3, 1)
        return pixels.permute(0, 3, 1, 2)  # N C H W


class MDTA(nn.Module):
    """Multi-Dconv head transposed attention: channels attend to channels (Restormer section 3.1).

    The attention map of a head is (C / heads) x (C / heads), so cost grows linearly with the number of pixels. Queries
    and keys are normalised over all pixels, so every output pixel depends on the whole image.
    """

    wide_copies = True
    """Normalise half-precision queries and keys in float32 before their product, as exported graphs must. Without the
    copies, the product itself gives float32 and the logits are normalised."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"MDTA needs channels divisible by heads, got {channels} channels and {heads} heads")
        self.channels = channels
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = conv1x1(channels, channels * 3)
        self.qkv_dwconv = conv3x3(channels * 3, channels * 3, groups=channels * 3)
        self.project_out = conv1x1(channels, channels)
        self.merges_projection = False

    def forward(self, x: Tensor, valid: Validity | None = None) -> Tensor:
        """Apply attention. With `valid`, `x` must be zero in the padding; the output is not (3x3 kernel)."""
        mixed = self.qkv_dwconv(self.qkv(x))  # N 3C H W
        q, k, v = torch.split(mixed, [self.channels] * 3, dim=1)  # constant sizes keep the traced graph static
        q, k = kept(q, valid), kept(k, valid)  # only q and k are summed over pixels, so v needs no mask
        if not self.wide_copies:
            return self._from_sums(q, k, v)
        shape = x.shape if valid is None else valid.shape(self.channels)
        per_head = (shape[0], self.heads, self.channels // self.heads, -1)
        q, k, v = q.reshape(per_head), k.reshape(per_head), v.reshape(per_head)  # N heads c HW
        attention = self._attention(q, k, postponed=valid is not None)
        if self.merges_projection:
            v = v.flatten(1, 2) if valid is None else v.reshape(shape[0], self.channels, -1)  # N C HW
            return (self.merged_projection(attention, self.project_out.weight) @ v).reshape(shape)
        return self.project_out((attention @ v).reshape(shape))

    def _attention(self, q: Tensor, k: Tensor, *, postponed: bool) -> Tensor:
        """Return the attention maps (N, heads, c, c) of queries and keys (N, heads, c, HW).

        If `postponed`, normalise the logits instead of q and k (half precision: instead of q only). The result is equal
        up to rounding and saves a pass over the pixels for each mask that is applied.
        """
        scale = widened(self.temperature)
        # Normalise before the product: in half precision the raw Gram matrix overflows from 512x512 on.
        # Normalising one side is enough, since no product with a unit vector exceeds the length of the other side.
        if not postponed:
            q = l2_normalise(q)
        else:
            scale = scale * inverse_length(widened(q))  # N heads c 1
        if not postponed or k.dtype.itemsize < torch.float32.itemsize:
            k = l2_normalise(k)
        else:
            scale = scale * inverse_length(k).transpose(-2, -1)  # N heads c c
        logits = q @ k.transpose(-2, -1)  # N heads c c
        return torch.softmax(widened(logits) * scale, dim=-1).to(q.dtype)

    def _from_sums(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Compute the attention of half-precision q, k and v (N, C, H, W) without a float32 copy of any of them.

        Norms and logits are float32 sums of half-precision products. The logits of all pairs of channels are computed,
        because the pairs of one head have no batch axis that a product could use without copying q and k.
        """
        shape, size = q.shape, self.channels // self.heads
        q, k, pixels = q.flatten(2), k.flatten(2), v.flatten(2).transpose(1, 2)  # N C HW; N HW C
        logits = product_in_float32(q, k.transpose(1, 2)).reshape(-1, self.heads, size, self.heads, size)
        logits = logits.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)  # N heads c c
        lengths = (torch.linalg.vector_norm(part, dim=-1, dtype=torch.float32) for part in (q, k))  # N C
        rows, columns = (part.clamp_min(L2_NORM_EPSILON).reshape(-1, self.heads, size) for part in lengths)
        scale = widened(self.temperature) / rows[..., None] / columns[..., None, :]
        weight = widened(self.project_out.weight)
        matrix = self.merged_projection(torch.softmax(logits * scale, dim=-1), weight).to(v.dtype)  # N C C
        # Pixels by channels: the product of channels-last features is channels-last again.
        return (pixels @ matrix.transpose(1, 2)).transpose(1, 2).reshape(shape)

    def merged_projection(self, attention: Tensor, weight: Tensor) -> Tensor:
        """Multiply the `weight` of `project_out` with each head's attention: one matrix per image, not two.

        The product is only reassociated: (W blockdiag(A)) v instead of W (blockdiag(A) v).
        """
        by_head = weight.reshape(self.channels, self.heads, -1).transpose(0, 1)  # heads C c
        return (by_head @ attention).transpose(1, 2).flatten(2)  # N C C


def l2_normalise(x: Tensor) -> Tensor:
    """Divide `x` by the L2 norm of its last axis, which is summed in at least float32.

    Uses square, sum, reciprocal root and product instead of `F.normalize`, whose dynamic-shape graph TensorRT-RTX fails
    to build.
    """
    wide = widened(x)
    return (wide * inverse_length(wide)).to(x.dtype)


def inverse_length(x: Tensor) -> Tensor:
    """Return 1 / L2 norm over the last axis of `x` (kept as size 1); a huge finite value for a zero vector."""
    return torch.rsqrt((x * x).sum(dim=-1, keepdim=True).clamp_min(L2_NORM_EPSILON**2))


def product_in_float32(a: Tensor, b: Tensor) -> Tensor:
    """Multiply half-precision matrices (N, I, K) and (N, K, J) into a float32 product; CPUs need float32 copies."""
    if a.device.type == "cpu":
        return torch.bmm(a.float(), b.float())
    return torch.bmm(a, b, out_dtype=torch.float32)


class GDFN(nn.Module):
    """Gated-Dconv feed-forward network: one half of the hidden channels gates the other (Restormer section 3.2)."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        self.hidden = int(channels * expansion)
        self.project_in = conv1x1(channels, self.hidden * 2)
        self.dwconv = conv3x3(self.hidden * 2, self.hidden * 2, groups=self.hidden * 2)
        self.project_out = conv1x1(self.hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = torch.split(self.dwconv(self.project_in(x)), [self.hidden] * 2, dim=1)
        return self.project_out(F.gelu(gate) * value)

    def pad_hidden(self, multiple: int) -> None:
        """Widen both halves with zero weights to the next multiple of `multiple`; the function is unchanged.

        A padded channel is gelu(0) * 0 = 0 before `project_out`, whose weights for it are zero as well.
        """
        hidden, padding = self.hidden, -self.hidden % multiple

        def padded_halves(weight: Tensor) -> Tensor:
            halves = weight.reshape(2, hidden, *weight.shape[1:])
            return F.pad(halves, (0, 0) * (halves.dim() - 2) + (0, padding)).flatten(0, 1)

        self.hidden = hidden + padding
        _replace_weight(self.project_in, padded_halves(self.project_in.weight))
        _replace_weight(self.dwconv, padded_halves(self.dwconv.weight))
        _replace_weight(self.project_out, F.pad(self.project_out.weight, (0, 0, 0, 0, 0, padding)))


def _replace_weight(conv: nn.Conv2d, weight: Tensor) -> None:
    """Replace the weight of a full or depthwise convolution with one of another width."""
    depthwise = conv.groups > 1
    conv.out_channels = weight.shape[0]
    conv.in_channels = conv.out_channels if depthwise else weight.shape[1]
    conv.groups = conv.out_channels if depthwise else 1
    conv.weight = nn.Parameter(weight.detach())


class TransformerBlock(nn.Module):
    """MDTA and GDFN, each with a preceding LayerNorm and a residual connection. The shape is preserved."""

    def __init__(self, channels: int, heads: int, ffn_expansion: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(channels)
        self.attn = MDTA(channels, heads)
        self.norm2 = LayerNorm2d(channels)
        self.ffn = GDFN(channels, ffn_expansion)

    def forward(self, x: Tensor, valid: Validity | None = None) -> Tensor:
        """Apply both sub-blocks. With `valid`, the padding of input and output is undefined: the norms mask it."""
        x = x + self.attn(self.norm1(x, valid), valid)
        return x + self.ffn(self.norm2(x, valid))


class Level(nn.Sequential):
    """Sequence of transformer blocks."""

    def forward(self, x: Tensor, valid: Validity | None = None) -> Tensor:
        for block in self:
            x = block(x, valid)
        return x


class Downsample(nn.Module):
    """(N, C, H, W) -> (N, 2C, H/2, W/2) by a convolution and a pixel-unshuffle; H and W must be even."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(channels, channels // 2), nn.PixelUnshuffle(2))

    def forward(self, x: Tensor, valid: Validity | None = None) -> Tensor:
        return self.body(kept(x, valid))


class Upsample(nn.Module):
    """(N, C, H, W) -> (N, C/2, 2H, 2W) by a convolution and a pixel-shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(channels, channels * 2), nn.PixelShuffle(2))

    def forward(self, x: Tensor, valid: Validity | None = None) -> Tensor:
        return self.body(kept(x, valid))
