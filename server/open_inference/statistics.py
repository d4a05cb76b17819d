"""Statistics: Triton's counters of requests and stages, from the metrics of the server."""

from typing import Any

from prometheus_client import CollectorRegistry

from server.open_inference.models import VERSION, Model

_NANOSECONDS = 1e9
_STAGES, _BATCHES, _REQUESTS = "promptir_stage_duration_seconds", "promptir_batch_size", "promptir_requests_total"
_FAILED = "4", "5"
# Triton's names for the stages of a request.
_PARTS = {
    "success": "total",
    "queue": "queue",
    "compute_input": "decode",
    "compute_infer": "inference",
    "compute_output": "encode",
}


def statistics(models: list[Model], registry: CollectorRegistry) -> dict[str, Any]:
    """Build the document of `GET /v2/models/{name}/stats`; names of one served model have equal numbers.

    Restorations of every protocol count. Failed requests are those of the server: many fail before a model is chosen.
    Times are in nanoseconds.
    """
    names = [f"{_STAGES}_sum", f"{_STAGES}_count", f"{_BATCHES}_sum", f"{_BATCHES}_count", _REQUESTS]
    series = registry.restricted_registry(names).collect()
    samples = [sample for metric in series for sample in metric.samples]

    def total(name: str, **labels: str) -> float:
        return sum(
            sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    failed = sum(
        sample.value for sample in samples if sample.name == _REQUESTS and sample.labels["status"].startswith(_FAILED)
    )

    def of(model: Model) -> dict[str, Any]:
        parts = {
            part: {
                "count": int(total(f"{_STAGES}_count", stage=stage, model=model.served)),
                "ns": int(total(f"{_STAGES}_sum", stage=stage, model=model.served) * _NANOSECONDS),
            }
            for part, stage in _PARTS.items()
        }
        return {
            "name": model.name,
            "version": VERSION,
            "last_inference": 0,
            "inference_count": int(total(f"{_BATCHES}_sum", model=model.served)),
            "execution_count": int(total(f"{_BATCHES}_count", model=model.served)),
            "inference_stats": parts | {"fail": {"count": int(failed), "ns": 0}},
            "batch_stats": [],
        }

    return {"model_stats": [of(model) for model in models]}
