"""Counting of a forward pass's operators, memory traffic and peak memory, without computing anything."""

import weakref
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.restoration import IMAGE_CHANNELS

VIEWS_IN_ALL_BUT_NAME = frozenset({"_unsafe_view"})
"""Operators that move no data, although torch does not declare them as views."""


@dataclass
class Traffic:
    """Cost of a forward pass in which each operator reads its inputs once and writes its outputs once."""

    calls: Counter[str] = field(default_factory=Counter)
    """Operator -> number of calls; views are not counted, because they move no data."""
    bytes_moved: Counter[str] = field(default_factory=Counter)
    """Operator -> bytes read and written."""
    peak_bytes: int = 0
    """Largest total of tensors that were alive at once, without the weights."""

    @property
    def operators(self) -> int:
        return self.calls.total()

    @property
    def total_bytes(self) -> int:
        return self.bytes_moved.total()


def traffic_of(network: nn.Module, height: int, width: int, count: int = 1) -> Traffic:
    """Count the cost of `count` images in `network`, whose weights must be on the meta device."""
    image = torch.empty(count, IMAGE_CHANNELS, height, width, device="meta").to(memory_format=torch.channels_last)
    counter = TrafficCounter()
    with torch.inference_mode(mode=False), torch.no_grad(), counter:  # inference mode hides composed operators' steps
        network(image)
    return counter.traffic


class TrafficCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Dispatch mode that counts every operator that runs under it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.traffic = Traffic()
        self._live: dict[int, int] = {}  # address of a storage -> its bytes

    def __torch_dispatch__(
        self,
        func: Any,  # a torch operator, which torch does not type
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if func.is_view or name in VIEWS_IN_ALL_BUT_NAME:
            return results
        outputs = _tensors(results)
        moved = {id(tensor): tensor for tensor in (*_tensors((args, kwargs)), *outputs)}  # x * x reads x once
        self.traffic.calls[name] += 1
        self.traffic.bytes_moved[name] += sum(tensor.numel() * tensor.itemsize for tensor in moved.values())
        for output in outputs:
            self._watch(output.untyped_storage())
        return results

    def _watch(self, storage: torch.UntypedStorage) -> None:
        """Add `storage` to the live memory until it is freed."""
        key = storage._cdata
        if key in self._live:
            return
        self._live[key] = storage.nbytes()
        self.traffic.peak_bytes = max(self.traffic.peak_bytes, sum(self._live.values()))
        weakref.finalize(storage, self._live.pop, key, None)


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
