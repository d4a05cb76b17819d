"""Devices that are lost in tests: backends that fail by script, and what the metrics say of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from server.backends.base import Pixels
from server.errors import BackendUnavailable


def condition_of(registry: CollectorRegistry, device: str = "test") -> str:
    (condition,) = (
        sample.labels["promptir_device_condition"]
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "promptir_device_condition" and sample.labels["device"] == device and sample.value
    )
    return condition


def rebuilds(registry: CollectorRegistry, device: str = "test") -> float:
    return registry.get_sample_value("promptir_device_rebuilds_total", {"device": device}) or 0.0


class Backends:
    """Makes backends by script, and keeps them in order; the first ones get the scripts given."""

    def __init__(self, scripted: Any, *scripts: Any) -> None:
        self.scripted = scripted
        self.scripts = list(scripts)
        self.made: list[Any] = []

    def __call__(self, device: str) -> Any:
        script = self.scripts.pop(0) if self.scripts else np.copy
        self.made.append(self.scripted(script))
        if isinstance(script, BackendUnavailable):
            self.made[-1].start_error = script
        return self.made[-1]


def dies(error: BaseException) -> Callable[[Pixels], Pixels]:
    def script(_: Pixels) -> Pixels:
        raise error

    return script
