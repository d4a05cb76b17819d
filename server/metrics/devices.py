"""Series of devices: what runs on them, and in what state they are."""

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Enum, Info

from server.metrics.group import SeriesGroup

DeviceCondition = Literal["starting", "ready", "lost", "stopped"]
SwapResult = Literal["done", "failed"]


class DeviceSeries(SeriesGroup):
    """Told by the supervisor of each device and by their pool."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._condition = Enum(
            "promptir_device_condition",
            "What state each device is in",
            ["device"],
            states=list(get_args(DeviceCondition)),
            registry=registry,
        )
        self._rebuilds = Counter(
            "promptir_device_rebuilds", "Lost devices that were started again", ["device"], registry=registry
        )
        self._swaps = Counter(
            "promptir_artifact_swaps",
            "Better artifacts that came while the server served: served from then on, or not",
            ["result"],
            registry=registry,
        )
        for result in get_args(SwapResult):
            self._swaps.labels(result)
        self._backend = Info("promptir_backend", "What each device runs", ["device"], registry=registry)

    def count_swap(self, result: SwapResult) -> None:
        """Count a better artifact that came while the server served, and whether it is served now."""
        self._swaps.labels(result).inc()

    def set_device_condition(self, device: str, condition: DeviceCondition) -> None:
        self._condition.labels(device).state(condition)
        self._rebuilds.labels(device)

    def count_rebuild(self, device: str) -> None:
        """Count a lost device that is served again."""
        self._rebuilds.labels(device).inc()

    def set_backend(
        self, device: str, *, backend: str, hardware: str, artifact: str, precision: str, model_hash: str
    ) -> None:
        """Say what a device runs from now on; what it ran before is no longer said."""
        self._backend.labels(device).info(
            {
                "backend": backend,
                "hardware": hardware,
                "artifact": artifact,
                "precision": precision,
                "model_hash": model_hash,
            }
        )
