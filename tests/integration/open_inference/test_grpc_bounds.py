"""What gRPC is sent by those who show no key, say nothing, or send what is small on the wire and large in memory."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

from server.access.keys_file import Terms, new_key

INFERENCE, HEALTH = "/inference.GRPCInferenceService", "/grpc.health.v1.Health"
SERVING = b"\x08\x01"
ADA, ADA_LINE = new_key("ada", Terms())
KEY = (("x-api-key", ADA),)
LARGE = b"\x7a\xff\xff\xff\x01" + bytes(2**22 - 1)  # an unknown field of 4 MiB: the largest message that is taken


@pytest.fixture(scope="module")
def guarded(session_start: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Shared, so that no test may stop it."""
    keys = tmp_path_factory.mktemp("guarded") / "keys"
    keys.write_text(f"{ADA_LINE}\n")
    return session_start(keys_file=keys, grpc_port=0, max_upload_bytes=2**22, upload_stall_s=1).until_ready()


@pytest.fixture
def channel(guarded: Any, address: Any) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address(guarded)) as opened:
        yield opened


def refusal(call: Callable[[], Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    assert len(refused.value.details()) <= 500
    code: grpc.StatusCode = refused.value.code()
    return code


def silence(until: threading.Event) -> Iterator[bytes]:
    until.wait(60)
    yield from ()


@pytest.mark.parametrize(
    "method", ["ModelInfer", "ModelStreamInfer", "ModelMetadata", "RepositoryIndex", "NoSuchMethod"]
)
def test_a_key_is_asked_for_before_any_message_comes(method: str, channel: grpc.Channel) -> None:
    with ExitStack() as ends:
        silent = threading.Event()
        ends.callback(silent.set)
        answers = channel.stream_stream(f"{INFERENCE}/{method}")(silence(silent), timeout=30)
        assert refusal(lambda: next(answers)) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("method", [f"{INFERENCE}/ServerLive", f"{INFERENCE}/ServerReady"])
def test_liveness_is_answered_although_no_message_comes(method: str, channel: grpc.Channel) -> None:
    with ExitStack() as ends:
        silent = threading.Event()
        ends.callback(silent.set)
        assert channel.stream_unary(method)(silence(silent), timeout=30) == b"\x08\x01"
    assert channel.unary_unary(method)(LARGE, timeout=30) == b"\x08\x01"


def test_health_is_heard_beside_hundreds_that_say_nothing(channel: grpc.Channel, guarded: Any, address: Any) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    with ExitStack() as ends:
        others = [ends.enter_context(grpc.insecure_channel(address(guarded), options)) for _ in range(4)]
        silent = threading.Event()
        ends.callback(silent.set)
        for at in range(280):
            other = others[at % 4]
            calls = [
                other.stream_stream(f"{INFERENCE}/ModelStreamInfer")(silence(silent), metadata=KEY if at < 80 else ()),
                other.unary_stream(f"{HEALTH}/Watch")(b""),
            ]
            for call in calls:
                ends.callback(call.cancel)
        for _ in range(3):
            assert channel.unary_unary(f"{HEALTH}/Check")(b"", timeout=30) == SERVING
        assert _infer(channel)(_request(), metadata=KEY, timeout=30).model_name == "promptir"
        newest = channel.unary_stream(f"{HEALTH}/Watch")(b"", timeout=30)
        assert next(newest) == SERVING
        newest.cancel()


def test_a_health_check_that_never_says_of_what_is_answered(channel: grpc.Channel) -> None:
    with ExitStack() as ends:
        silent = threading.Event()
        ends.callback(silent.set)
        assert channel.stream_unary(f"{HEALTH}/Check")(silence(silent), timeout=30) == SERVING
    assert refusal(lambda: channel.unary_unary(f"{HEALTH}/Check")(LARGE, timeout=30)) is grpc.StatusCode.NOT_FOUND
    assert refusal(lambda: channel.unary_unary(f"{HEALTH}/Check")(b"\xff", timeout=30)) is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("method", "stream"), [("ModelInfer", False), ("ModelStreamInfer", True), ("ModelMetadata", False)]
)
def test_a_call_with_a_key_that_says_nothing_ends(method: str, stream: bool, channel: grpc.Channel) -> None:
    with ExitStack() as ends:
        silent = threading.Event()
        ends.callback(silent.set)
        kind = channel.stream_stream if stream else channel.stream_unary
        call = kind(f"{INFERENCE}/{method}")
        asked = lambda: call(silence(silent), metadata=KEY, timeout=60)  # noqa: E731
        assert refusal(lambda: next(asked()) if stream else asked()) is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    "message",
    [
        b"\x2a\x00" * 500_000,
        b"\x22\x05\x0a\x01a\x12\x00" * 200_000,
        b"\x3a\x00" * 500_000,
        b"\x2a\x84\x80\x80\x01\x1a\x80\x80\x80\x01" + b"\x01" * 2**21,
        b"\x0a\x80\x80\x80\x01" + b"x" * 2**21,
        LARGE[:-9],
    ],
    ids=["inputs", "parameters", "raw contents", "dimensions", "a long name", "an unknown field"],
)
def test_a_message_that_grows_in_memory_is_refused_in_a_short_sentence(message: bytes, channel: grpc.Channel) -> None:
    asked = channel.unary_unary(f"{INFERENCE}/ModelInfer")
    code = refusal(lambda: asked(message, metadata=KEY, timeout=30))
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    (answer,) = channel.stream_stream(f"{INFERENCE}/ModelStreamInfer")(iter([message]), metadata=KEY, timeout=30)
    assert len(answer) < 2000
    assert refusal(lambda: channel.unary_unary(f"{INFERENCE}/ModelMetadata")(message, metadata=KEY)) is (
        grpc.StatusCode.INVALID_ARGUMENT
    )


def test_what_an_answer_takes_is_counted_until_it_is_sent_and_no_longer(start: Any, address: Any) -> None:
    server = start(grpc_port=0, max_upload_bytes=2**19, max_uploads_bytes=2**19).until_ready()
    with grpc.insecure_channel(address(server)) as channel:
        # 270 KB there and 270 KB back are more than the room of 512 KiB.
        assert refusal(lambda: _infer(channel)(_request(300))) is grpc.StatusCode.RESOURCE_EXHAUSTED
        for _ in range(3):
            assert _infer(channel)(_request(200)).model_name == "promptir"
    server.until(lambda: server.metric("promptir_upload_bytes") == 0)


def test_watches_and_silent_streams_do_not_hold_the_end_of_the_server_up(start: Any, address: Any) -> None:
    server = start(grpc_port=0).until_ready()
    with ExitStack() as ends:
        channel = ends.enter_context(grpc.insecure_channel(address(server)))
        silent = threading.Event()
        ends.callback(silent.set)
        watch = channel.unary_stream(f"{HEALTH}/Watch")(b"")
        assert next(watch) == SERVING
        stream = channel.stream_stream(f"{INFERENCE}/ModelStreamInfer")(silence(silent))
        time.sleep(0.3)  # both are there
        server.terminate()
        assert list(watch) == [b"\x08\x02"]
        assert refusal(lambda: next(stream)) is grpc.StatusCode.UNAVAILABLE
        assert server.wait() == 0
    ended = [line for line in server.lines if line["message"] in ("draining", "stopped")]
    took = datetime.fromisoformat(ended[1]["time"]) - datetime.fromisoformat(ended[0]["time"])
    assert took.total_seconds() < 5


def _request(side: int = 8) -> Any:
    request = service_pb2.ModelInferRequest(model_name="promptir", raw_input_contents=[bytes(3 * side * side)])
    request.inputs.add(name="image", datatype="UINT8", shape=[1, 3, side, side])
    return request


def _infer(channel: grpc.Channel) -> Any:
    return channel.unary_unary(
        f"{INFERENCE}/ModelInfer",
        request_serializer=service_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=service_pb2.ModelInferResponse.FromString,
    )
