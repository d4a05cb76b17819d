"""The chooser: which backend runs, imported only when it is chosen."""

from server.backends.base import Backend
from server.settings import BackendSettings


def create(settings: BackendSettings, max_batch: int, device: str | None = None) -> Backend:
    """Return the backend that the settings name, not started, for `device` or for the first of the settings'."""
    device = device or settings.device_names[0]
    match settings.backend:
        case "simulated":
            from server.backends.simulated import SimulatedBackend

            return SimulatedBackend(
                settings.simulated_base_ms,
                settings.simulated_ms_per_megapixel,
                max_batch,
                device=device,
                run_log=settings.simulated_run_log,
                mixed_sizes=settings.simulated_mixed_sizes,
            )
        case "onnx":
            from server.backends.onnx_runtime import OnnxBackend

            return OnnxBackend(settings, max_batch, device)
        case "tensorrt":
            from server.backends.tensorrt_plan import PlanBackend

            return PlanBackend(settings, max_batch, device)
        case "pytorch":
            from server.backends.pytorch import TorchBackend

            return TorchBackend(settings, max_batch, device)
