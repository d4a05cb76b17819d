"""Devices with a single model, as most tests of the scheduling need them."""

from server.scheduling.policy.cost_model import CostModel, Costs
from server.scheduling.policy.device import Device, DeviceView, LoadedModel, ModelView
from server.settings import MAX_RUN_PIXELS

MODEL = ""
"""The name of the only model."""


def a_device(
    name: str, max_batch: int, max_run_pixels: int = MAX_RUN_PIXELS, cost_model: CostModel | None = None
) -> Device:
    """Make a device that has loaded one model."""
    return Device(name, {MODEL: LoadedModel(max_batch, max_run_pixels, cost_model)})


def loaded(device: Device) -> LoadedModel:
    """Return the only model of a device."""
    return device.models[MODEL]


def a_device_view(name: str, max_batch: int, max_run_pixels: int, costs: Costs, **more: object) -> DeviceView:
    """Make the view of a device that has loaded one model; `more` are fields of the view or of its model."""
    own = {field: more.pop(field) for field in set(ModelView._fields) & set(more)}
    model = ModelView(max_batch, max_run_pixels, costs)._replace(**own)  # type: ignore[arg-type]
    return DeviceView(name, {MODEL: model})._replace(**more)  # type: ignore[arg-type]
