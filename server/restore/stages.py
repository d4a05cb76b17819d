"""Stages: reports the duration of each stage of a restoration to the metrics and the trace."""

from server.metrics import Metrics
from server.restore.options import Timings
from server.tracing import current


def observe_stages(metrics: Metrics, model: str, timings: Timings, began: float, ended: float) -> None:
    """Report the duration of each stage; `began` and `ended` are on the clock of the Restorer."""
    trace = current.get()
    exemplar = None if trace is None else trace.exemplar
    metrics.observe_stage(model, "decode", timings.decode_s, exemplar)
    metrics.observe_stage(model, "queue", timings.queue_s, exemplar)
    metrics.observe_stage(model, "inference", timings.inference_s, exemplar)
    metrics.observe_stage(model, "encode", timings.encode_s, exemplar)
    metrics.observe_stage(model, "total", ended - began, exemplar)
    if trace is not None:
        decoded, encoding = began + timings.decode_s, ended - timings.encode_s
        taken = decoded + timings.queue_s
        trace.add("decode", began, decoded)
        trace.add("queue", decoded, taken)
        trace.add("inference", taken, encoding)
        trace.add("encode", encoding, ended)
