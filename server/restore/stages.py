"""Stages: reports the duration of each stage of a restoration to the metrics and the trace."""

from server.metrics import Metrics, Stage
from server.restore.options import Timings
from server.tracing import current


def observe_stages(metrics: Metrics, model: str, timings: Timings, began: float, ended: float) -> None:
    """Report the duration of each stage; `began` and `ended` are on the clock of the Restorer."""
    trace = current.get()
    exemplar = None if trace is None else trace.exemplar
    seconds: dict[Stage, float] = {
        "decode": timings.decode_s,
        "queue": timings.queue_s,
        "inference": timings.inference_s,
        "encode": timings.encode_s,
        "total": ended - began,
    }
    metrics.observe_stages(model, seconds, exemplar)
    if trace is not None:
        decoded, encoding = began + timings.decode_s, ended - timings.encode_s
        taken = decoded + timings.queue_s
        trace.add("decode", began, decoded)
        trace.add("queue", decoded, taken)
        trace.add("inference", taken, encoding)
        trace.add("encode", encoding, ended)
