"""Transformer and NAF blocks on the fused kernels, with the parameters and names of the blocks that they replace."""

from torch import Tensor, nn

from models.kernels import operators
from models.layers import L2_NORM_EPSILON, TransformerBlock
from models.naf import NAFBlock
from models.validity import Validity


class FusedTransformerBlock(nn.Module):
    """The transformer block in seven kernels and two small products; (N, C, H, W) half precision, channels-last."""

    def __init__(self, block: TransformerBlock) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.ffn = block.norm1, block.attn, block.norm2, block.ffn

    def forward(self, x: Tensor, valid: Validity | None = None) -> Tensor:
        """Apply both sub-blocks. With `valid`, the padding of input and output is undefined, as in the plain block."""
        pixels = rows_of_channels(x)
        mask = None if valid is None else valid.mask
        y = self._attended(pixels, mask)
        norm, ffn = self.norm2, self.ffn
        hidden = operators.norm_project(y, norm.body.weight, norm.body.bias, ffn.project_in.weight, mask, norm.EPSILON)
        if x.shape[1] <= operators.WIDEST_TILE:
            y = operators.gate_project_add(hidden, ffn.dwconv.weight, ffn.project_out.weight, y)
        else:
            gated, _ = operators.gate(hidden, ffn.dwconv.weight, None, gelu=True, pooled=False)
            y = operators.project_add(gated, ffn.project_out.weight, y)
        return y.permute(0, 3, 1, 2)

    def _attended(self, pixels: Tensor, mask: Tensor | None) -> Tensor:
        """Add the attention of `pixels` (N, H, W, C) to them."""
        norm, attn = self.norm1, self.attn
        qkv = operators.norm_project(pixels, norm.body.weight, norm.body.bias, attn.qkv.weight, mask, norm.EPSILON)
        split = 2 * attn.channels  # q and k come first, then v
        kernels = attn.qkv_dwconv.weight
        gram, squares = operators.channel_gram(qkv[..., :split], kernels[:split], mask, attn.heads)
        attention = operators.attention_map(gram, squares, attn.temperature, pixels.dtype, L2_NORM_EPSILON)
        matrix = attn.merged_projection(attention, attn.project_out.weight)
        v = operators.depthwise_convolution(qkv[..., split:], kernels[split:])
        return operators.project_add(v, matrix, pixels)


class FusedNAFBlock(nn.Module):
    """The NAF block in five kernels; (N, C, H, W) half precision, channels-last, C at most `WIDEST_TILE`."""

    def __init__(self, block: NAFBlock) -> None:
        super().__init__()
        self.norm1, self.expand, self.dwconv = block.norm1, block.expand, block.dwconv
        self.attention, self.project_out = block.attention, block.project_out
        self.norm2, self.ffn = block.norm2, block.ffn

    def forward(self, x: Tensor, valid: Validity | None = None) -> Tensor:
        """Apply both sub-blocks. With `valid`, the padding of input and output is undefined, as in the plain block."""
        pixels = rows_of_channels(x)
        mask = None if valid is None else valid.mask
        areas = None if valid is None else valid.pixels().flatten()
        norm, ffn = self.norm1, self.ffn
        hidden = operators.norm_project(
            pixels, norm.body.weight, norm.body.bias, self.expand.weight, mask, norm.EPSILON
        )
        gated, sums = operators.gate(hidden, self.dwconv.weight, mask, gelu=False, pooled=True)
        matrix = operators.scaled_projection(
            sums, areas, x.shape[2] * x.shape[3], self.attention.weight, self.attention.bias, self.project_out.weight
        )
        y = operators.project_add(gated, matrix, pixels)
        norm = self.norm2
        y = operators.gated_feed_forward(
            y, norm.body.weight, norm.body.bias, ffn.project_in.weight, ffn.project_out.weight, norm.EPSILON
        )
        return y.permute(0, 3, 1, 2)


def rows_of_channels(x: Tensor) -> Tensor:
    """View channels-last features (N, C, H, W) as contiguous (N, H, W, C); copies features of another layout."""
    return x.permute(0, 2, 3, 1).contiguous()
