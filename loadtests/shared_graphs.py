"""Graphs of the network that give and take its global statistics: attention maps and prompt weights.

They are kept out of the product: docs/tiling.md says what they measured.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import MethodType

import torch
from torch import Tensor, nn

from models.artifact import DEFAULT_ARTIFACT
from models.checkpoint import load_network
from models.layers import MDTA, l2_normalise
from models.prompt import PromptGeneration
from models.promptir import PromptIR, PromptIRConfig

VARIANT = "promptir-compact"
OPSET = 17
SIZES = {0: "n", 2: "h", 3: "w"}

Parts = dict[int, Tensor]
"""The attention maps (N, heads, c, c) and prompt weights (N, components), by the place of their module."""


def shipped_network() -> PromptIR:
    return load_network(DEFAULT_ARTIFACT / "weights.safetensors", PromptIRConfig.named(VARIANT))


def global_modules(network: PromptIR) -> list[nn.Module]:
    """The modules whose answer depends on all pixels: every attention, then the prompts from coarse to fine."""
    attentions: list[nn.Module] = [module for module in network.modules() if isinstance(module, MDTA)]
    return [*attentions, network.prompt3, network.prompt2, network.prompt1]


class WithStatistics(nn.Module):
    """Image (N, 3, H, W) -> restored, and flat statistics (N, S).

    With `pooled` the images are one: what is summed over pixels is summed over all of them, and S has one row.
    """

    def __init__(self, network: PromptIR, pooled: bool = False) -> None:
        super().__init__()
        self.network = network
        self._parts: Parts = {}
        for place, module in enumerate(global_modules(network)):
            if isinstance(module, MDTA):
                replace(module, "forward", recorded_attention(self._parts, place, pooled))
            else:
                replace(module, "weigh", recorded_weights(self._parts, place, pooled))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        self._parts.clear()
        restored = self.network(image)
        return restored, torch.cat([self._parts[place].flatten(1) for place in sorted(self._parts)], dim=1)


class FromStatistics(nn.Module):
    """Image (N, 3, H, W), statistics (N, S) and window (N, 4) -> restored.

    A window is the top and left of the tile in its frame, and the frame's height and width, in pixels. With statistics
    and window given, each pixel depends on its surroundings alone.
    """

    def __init__(self, network: PromptIR) -> None:
        super().__init__()
        self.network = network
        self._parts: Parts = {}
        self._window: list[Tensor] = []
        self._sizes: list[int] = []
        for place, module in enumerate(global_modules(network)):
            if isinstance(module, MDTA):
                replace(module, "forward", given_attention(self._parts, place))
                self._sizes.append(module.channels**2 // module.heads)
            elif isinstance(module, PromptGeneration):
                step = {network.prompt3: 8, network.prompt2: 4, network.prompt1: 2}[module]
                replace(module, "forward", given_prompt(self._parts, place, self._window, step))
                self._sizes.append(module.prompt_param.shape[1])

    def forward(self, image: Tensor, statistics: Tensor, window: Tensor) -> Tensor:
        self._parts.update(enumerate(torch.split(statistics, self._sizes, dim=1)))
        self._window[:] = [window]
        return self.network(image)


def replace(module: nn.Module, name: str, method: Callable[..., Tensor | tuple[Tensor, Tensor]]) -> None:
    setattr(module, name, MethodType(method, module))


def recorded_attention(parts: Parts, place: int, pooled: bool) -> Callable[[MDTA, Tensor], Tensor]:
    def forward(self: MDTA, x: Tensor) -> Tensor:
        q, k, v = torch.split(self.qkv_dwconv(self.qkv(x)), [self.channels] * 3, dim=1)
        per_head = (x.shape[0], self.heads, self.channels // self.heads, -1)
        q, k, v = q.reshape(per_head), k.reshape(per_head), v.reshape(per_head)  # N heads c HW
        if pooled:  # 1 heads c NHW
            q, k = (part.permute(1, 2, 0, 3).flatten(2)[None] for part in (q, k))
        logits = l2_normalise(q) @ l2_normalise(k).transpose(-2, -1)
        parts[place] = torch.softmax(logits * self.temperature, dim=-1)
        return self.project_out((parts[place] @ v).reshape(x.shape))

    return forward


def recorded_weights(parts: Parts, place: int, pooled: bool) -> Callable[[PromptGeneration, Tensor], Tensor]:
    def weigh(self: PromptGeneration, x: Tensor) -> Tensor:
        mean = x.mean(dim=(0, 2, 3))[None] if pooled else x.mean(dim=(2, 3))
        parts[place] = torch.softmax(self.linear_layer(mean), dim=1)
        return parts[place].expand(x.shape[0], -1) if pooled else parts[place]

    return weigh


def given_attention(parts: Parts, place: int) -> Callable[[MDTA, Tensor], Tensor]:
    def forward(self: MDTA, x: Tensor) -> Tensor:
        v = self.qkv_dwconv(self.qkv(x))[:, 2 * self.channels :]
        width = self.channels // self.heads
        attention = parts[place].reshape(-1, self.heads, width, width)
        attended = attention @ v.reshape(x.shape[0], self.heads, width, -1)
        return self.project_out(attended.reshape(x.shape))

    return forward


def given_prompt(
    parts: Parts, place: int, window: list[Tensor], step: int
) -> Callable[[PromptGeneration, Tensor], tuple[Tensor, Tensor]]:
    def forward(self: PromptGeneration, x: Tensor) -> tuple[Tensor, Tensor]:
        components = self.prompt_param[0]  # L C s s
        mixture = (parts[place] @ components.flatten(1)).reshape(-1, *components.shape[1:])  # N C s s
        top, left, height, width = (window[0][:, axis, None, None] / step for axis in range(4))
        rows = interpolation(top, height, x.shape[-2], components.shape[-2])  # N H s
        columns = interpolation(left, width, x.shape[-1], components.shape[-1])  # N W s
        return self.conv3x3(rows[:, None] @ mixture @ columns[:, None].transpose(-2, -1)), parts[place]  # N C H W

    return forward


def interpolation(start: Tensor, length: Tensor, count: int, size: int) -> Tensor:
    """The matrix (N, count, size) that resizes `size` samples to `length`, of which it gives `count` from `start` on.

    As F.interpolate does it: bilinear, without aligned corners.
    """
    position = torch.arange(count, dtype=torch.float32)[None, :, None] + start
    source = ((position + 0.5) * size / length - 0.5).clamp(0, size - 1)
    return (1 - (source - torch.arange(size, dtype=torch.float32)).abs()).clamp_min(0)


def export(module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str], path: Path) -> None:
    axes = {name: SIZES if name in ("image", "restored") else {0: "n"} for name in [*names, *outputs]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about itself and about shapes that stay as they are
        torch.onnx.export(
            module.eval(),
            inputs,
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            output_names=outputs,
            dynamic_axes=axes,
        )


def export_all(folder: Path) -> None:
    """Write the three graphs into `folder`: giving.onnx, pooled.onnx and taking.onnx."""
    image, window = torch.rand(2, 3, 64, 72), torch.tensor([[0.0, 0.0, 64.0, 72.0]] * 2)
    giving, taking = WithStatistics(shipped_network()), FromStatistics(shipped_network())
    with torch.no_grad():
        restored, statistics = giving.eval()(image)
        again = taking.eval()(image, statistics, window)
        largest = float((restored - again).abs().max())
    if largest > 1e-5:
        raise RuntimeError(f"given its own statistics the network answers otherwise, by {largest}")
    export(giving, (image,), ["image"], ["restored", "statistics"], folder / "giving.onnx")
    pooled = WithStatistics(shipped_network(), pooled=True)
    export(pooled, (image,), ["image"], ["restored", "statistics"], folder / "pooled.onnx")
    names = ["image", "statistics", "window"]
    export(taking, (image, statistics, window), names, ["restored"], folder / "taking.onnx")
