"""Tests of how calls end that fail, over a real channel."""

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from server.errors import MemoryShort, PromptIRServeError, QueueFull
from server.grpc.call_log import CallLog
from server.metrics import Metrics

Raise = Callable[[], None]


def no_object() -> None:
    bytes(2**62)


def no_object_below() -> None:
    try:
        no_object()
    except MemoryError as error:
        raise ValueError("words that nobody reads") from error


def no_thread() -> None:
    threading.stack_size(2**46)
    try:
        threading.Thread(target=print).start()
    finally:
        threading.stack_size(0)


def a_mistake() -> None:
    {}["secret"]


def no_room() -> None:
    raise QueueFull("full", 2)


class Message:
    """Stands for the bytes of a message, to which there are no weak references."""


alive: weakref.WeakSet[Message] = weakref.WeakSet()


def with_a_message() -> None:
    message = Message()
    alive.add(message)
    try:
        raise KeyError
    except KeyError as error:
        raise QueueFull("full", 2) from error


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("method", ["Counted", "Small"])
def test_a_message_is_gone_with_its_refused_call_without_the_garbage_collector(method: str) -> None:
    ended(with_a_message, method)
    assert not alive


def ended(work: Raise, method: str) -> tuple[grpc.StatusCode, str, CollectorRegistry]:
    """How a call ends whose handler raises, and what was counted."""
    counts = CollectorRegistry()
    calls = CallLog(Metrics(counts))

    async def counted(_: bytes, context: Any) -> bytes:
        async with calls.call(context, "Counted"):
            work()
        return b""

    async def small(_: bytes, context: Any) -> bytes:
        async with calls.told(context, "Small"):
            work()
        return b""

    async def run() -> tuple[grpc.StatusCode, str]:
        server = grpc.aio.server()
        handlers = {
            "Counted": grpc.unary_unary_rpc_method_handler(counted),
            "Small": grpc.unary_unary_rpc_method_handler(small),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await channel.unary_unary(f"/test/{method}")(b"", timeout=30)
        finally:
            await server.stop(None)
        return failed.value.code(), failed.value.details() or ""

    code, details = asyncio.run(run())
    return code, details, counts


@pytest.mark.parametrize("method", ["Counted", "Small"])
@pytest.mark.parametrize("work", [no_object, no_object_below, no_thread])
def test_want_of_memory_is_unavailable_for_now(work: Raise, method: str) -> None:
    code, details, counts = ended(work, method)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "no memory left" in details
    if method == "Counted":
        assert counted_as(counts, "503", MemoryShort.slug) == 1


@pytest.mark.parametrize("method", ["Counted", "Small"])
def test_what_nobody_foresaw_says_nothing_of_the_inside(method: str, caplog: pytest.LogCaptureFixture) -> None:
    code, details, counts = ended(a_mistake, method)
    assert code is grpc.StatusCode.INTERNAL
    assert "secret" not in details
    (line,) = [record for record in caplog.records if record.exc_info]
    assert line.method == method  # type: ignore[attr-defined]
    if method == "Counted":
        assert counted_as(counts, "500", PromptIRServeError.slug) == 1


@pytest.mark.parametrize("method", ["Counted", "Small"])
def test_an_error_of_the_tree_keeps_its_words(method: str) -> None:
    assert ended(no_room, method)[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")


def counted_as(counts: CollectorRegistry, status: str, outcome: str) -> float | None:
    return counts.get_sample_value("promptir_requests_total", {"status": status, "outcome": outcome})
