"""Tests of the Recovery, through the real Worker: runs that are repeated in FP32, or compared with it."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from small_devices import PATIENCE_S, SmallDevice, values

from server.backends.base import Pixels
from server.errors import BackendLost, DeviceOutOfMemory, WrongOutput
from server.scheduling.execution.recovery import ParityCheck, psnr
from server.scheduling.queue.tile import Completion

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]


def poison(*indices: int) -> Callable[[Pixels], Pixels]:
    def spoil(output: Pixels) -> Pixels:
        for index in indices:
            if index < len(output):
                output[index, 1, 0, 0] = np.inf
        return output

    return spoil


def test_an_output_that_is_not_finite_is_counted_and_run_again_in_fp32(
    serve_batch: Any, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    device = SmallDevice(repeats=True)
    device.spoil = poison(1, 3)
    ends = serve_batch(device, [make_pixels(value=value) for value in range(4)])
    assert values(ends) == [1, 2, 3, 4]
    assert all(np.isfinite(end.output).all() for end in ends)
    assert device.fp32_values == [1, 3]
    assert [end.batch_size for end in ends] == [4, 1, 4, 1]
    assert registry.get_sample_value("promptir_non_finite_outputs_total") == 2
    assert registry.get_sample_value("promptir_fp32_repeats_total", {"reason": "non-finite"}) == 2


@pytest.mark.parametrize("failure", [None, DeviceOutOfMemory("no room"), RuntimeError("secret")])
def test_what_cannot_be_repeated_is_withheld(
    serve_batch: Any, make_pixels: MakePixels, failure: Exception | None
) -> None:
    device = SmallDevice(repeats=failure is not None)
    device.fp32_error = failure
    device.spoil = poison(0)
    ends = serve_batch(device, [make_pixels(), make_pixels()])
    assert [type(end) for end in ends] == [WrongOutput, Completion]
    assert "not finite" in str(ends[0])


def test_a_device_that_is_lost_while_it_repeats_ends_the_tiles_of_its_batch(
    build: Any, play: Play, make_pixels: MakePixels
) -> None:
    device = SmallDevice(repeats=True)
    device.fp32_error = BackendLost("the context is gone")
    batcher, pool = build(lambda _: device)

    async def scenario() -> None:
        await pool.start()
        device.spoil = poison(0)
        with pytest.raises(BackendLost) as caught:
            await batcher.submit(make_pixels())
        assert "context" not in str(caught.value)
        await pool.stop(PATIENCE_S)

    play(scenario())


def test_a_sampled_answer_under_the_gate_comes_from_fp32(
    serve_batch: Any, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    device = SmallDevice(repeats=True)
    device.spoil = lambda output: output + np.float32(0.1)  # 20 dB, on every image
    ends = serve_batch(device, [make_pixels(value=value) for value in range(4)], ParityCheck(every=2, gate_db=50))
    sampled = [value for value, end in enumerate(ends) if end.output[0, 0, 0] == value + 1]
    assert len(sampled) == 2
    assert set(sampled) <= set(device.fp32_values)
    assert registry.get_sample_value("promptir_fp32_repeats_total", {"reason": "below-gate"}) >= 2
    assert registry.get_sample_value("promptir_parity_db_bucket", {"le": "30.0"}) == len(device.fp32_values)


def test_a_sampled_answer_above_the_gate_is_sent_as_it_is(
    serve_batch: Any, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    device = SmallDevice(repeats=True)
    device.spoil = lambda output: output + np.float32(1e-3)  # 60 dB
    ends = serve_batch(device, [make_pixels(value=1)] * 2, ParityCheck(every=1, gate_db=50))
    assert values(ends) == pytest.approx([2.001, 2.001])
    assert [end.batch_size for end in ends] == [2, 2]
    assert registry.get_sample_value("promptir_fp32_repeats_total", {"reason": "below-gate"}) == 0
    assert registry.get_sample_value("promptir_parity_db_count") == 3


def test_a_check_that_fails_does_not_cost_the_answer(serve_batch: Any, make_pixels: MakePixels) -> None:
    device = SmallDevice(repeats=True)
    device.fp32_error = DeviceOutOfMemory("FP32 takes twice the memory")
    ends = serve_batch(device, [make_pixels(value=1)], ParityCheck(every=1))
    assert values(ends) == [2]


def test_a_check_that_the_backend_cannot_make_is_said_at_the_start(
    serve_batch: Any, make_pixels: MakePixels, caplog: pytest.LogCaptureFixture
) -> None:
    ends = serve_batch(SmallDevice(repeats=False), [make_pixels(value=1)], ParityCheck(every=1))
    assert values(ends) == [2]
    assert "not compared with FP32" in caplog.text


def test_nothing_is_checked_unless_asked(serve_batch: Any, make_pixels: MakePixels) -> None:
    device = SmallDevice(repeats=True)
    serve_batch(device, [make_pixels()] * 4)
    assert device.fp32_values == []


def test_psnr_is_that_of_a_range_of_one() -> None:
    reference = np.zeros((3, 8, 8), np.float32)
    assert psnr(reference + np.float32(0.01), reference) == pytest.approx(40)
    assert psnr(reference, reference) == math.inf
