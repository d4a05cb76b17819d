"""Emulation of half precision: a network run with every operator's output rounded to float16.

ONNX Runtime has few half-precision kernels for CPUs: it runs a half-precision model in float32 between casts and shows
no overflow. Here every tensor that a GPU would store in half precision is rounded between any two operators, which is
stricter than a runtime that fuses them.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from export.comparison import Comparison, compare
from models.precision import to_mixed
from models.restoration import RestorationNetwork

Form = Literal["naive", "islands"]
"""`naive` is all half precision, as after `.half()`; `islands` is the exported mixed network."""
FORMS: tuple[Form, ...] = ("naive", "islands")

HALF_ROUNDS_TO_INFINITY = 65520.0
"""Smallest number that float16 rounds to infinity: halfway between its largest value, 65504, and the next step."""
CHUNK = 2**20
"""Number of values rounded together, small enough to stay in the CPU cache."""


@dataclass(frozen=True)
class Emulation:
    """Result of an emulated run, compared with float32."""

    form: Form
    shape: tuple[int, ...]
    comparison: Comparison
    overflows: dict[str, int]
    """Operator -> number of its calls that returned a non-finite value."""


@torch.no_grad()  # inference mode would hide the steps of composed operators from the emulator
def emulate(network: RestorationNetwork, image: Tensor, forms: Sequence[Form] = FORMS) -> Iterator[Emulation]:
    """Run float32 `network` on `image` (N, 3, H, W) unmodified and in each emulated form, all on the CPU.

    Features are freed as soon as the next operator has consumed them, so peak memory is that of the widest layer in
    float32.
    """
    expected = network(image).numpy()
    mixed = to_mixed(network, torch.float16)
    for form in forms:
        rounding = HalfRounding(islands=form == "islands")
        with rounding:
            found = mixed(image)
        comparison = compare(found.numpy(), expected)
        yield Emulation(form, tuple(image.shape), comparison, dict(rounding.overflows))


class HalfRounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Dispatch mode that computes in float32 and rounds results to float16.

    With `islands`, only half-precision results are rounded. Otherwise all are, and a LayerNorm is rounded after each of
    its steps (mean, square, sum, root); this network's L2 norms already consist of such steps.
    """

    def __init__(self, *, islands: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._islands = islands
        self.overflows: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,  # a torch operator, which torch does not type
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func.is_view:
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if name == "native_layer_norm" and not self._islands:
            return self._layer_norm_by_steps(*args)
        inputs = [leaf.dtype for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        stored = kwargs.get("dtype") or (torch.float16 if torch.float16 in inputs else torch.float32)
        if name != "_to_copy":  # casts run unchanged
            args = tree_map_only(Tensor, torch.Tensor.float, args)
        results = func(*args, **kwargs)
        del args  # float32 features of a megapixel take gigabytes, and rounding does not need the copies
        return tree_map_only(Tensor, lambda result: self._store(result, stored, name), results)

    def _store(self, result: Tensor, dtype: torch.dtype, operator: str) -> Tensor:
        half = dtype == torch.float16 or not self._islands
        low, high = torch.aminmax(result)
        limit = HALF_ROUNDS_TO_INFINITY if half else math.inf
        if not (-limit < low and high < limit):  # written so that NaN counts as well
            self.overflows[operator] += 1
        if dtype == torch.float16:
            return result.half()
        return _rounded_in_place(result) if half else result

    def _layer_norm_by_steps(
        self, x: Tensor, shape: list[int], weight: Tensor, bias: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        def step(compute: Callable[..., Tensor], *operands: Any) -> Tensor:
            return self._store(compute(*operands), torch.float32, "native_layer_norm")

        axes = tuple(range(-len(shape), 0))
        mean = step(torch.mean, x, axes, True)
        centred = step(torch.sub, x, mean)
        total = step(torch.sum, step(torch.square, centred), axes, True)
        variance = step(torch.div, total, math.prod(shape))
        inverse = step(torch.rsqrt, step(torch.add, variance, epsilon))
        normalised = step(torch.mul, centred, inverse)
        return step(torch.add, step(torch.mul, normalised, weight), bias), mean, inverse


def _rounded_in_place(x: Tensor) -> Tensor:
    """Round float32 `x` through float16, in place where it is contiguous."""
    for chunk in torch.split(x.view(-1), CHUNK) if x.is_contiguous() else (x,):
        chunk.copy_(chunk.half())
    return x
