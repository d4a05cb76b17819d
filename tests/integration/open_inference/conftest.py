"""Tensors for real clients of the protocol, and what `POST /restore` makes of the same pixels."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import cv2
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

Pixels = Callable[..., np.ndarray]


@pytest.fixture
def pixels() -> Pixels:
    """Noise (N, 3, H, W) uint8 from a seed."""

    def made(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (count, 3, height, width), np.uint8)

    return made


@pytest.fixture
def file_of() -> Callable[[np.ndarray], bytes]:
    """The PNG of (3, H, W) RGB pixels."""
    return lambda image: cv2.imencode(".png", image[::-1].transpose(1, 2, 0))[1].tobytes()


@pytest.fixture
def pixels_of() -> Callable[[bytes], np.ndarray]:
    """The (3, H, W) RGB pixels of a file."""
    return lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB).transpose(2, 0, 1)


@pytest.fixture
def restored(file_of: Any, pixels_of: Any) -> Callable[..., np.ndarray]:
    """What `POST /restore` answers to the same images, as pixels."""

    def ask(server: Any, images: np.ndarray) -> np.ndarray:
        answers = [server.client.post("/restore", content=file_of(image)) for image in images]
        assert [answer.status_code for answer in answers] == [200] * len(images)
        return np.stack([pixels_of(answer.content) for answer in answers])

    return ask


@pytest.fixture(scope="session")
def network(session_start: Any) -> Any:
    """A server with the shipped network, over HTTP and gRPC; shared, so that no test may stop it."""
    return session_start(backend="onnx", grpc_port=0, threads=1).until_ready()


@pytest.fixture(scope="session")
def both(session_start: Any) -> Any:
    """A quick server with both fronts; shared, so that no test may stop it."""
    return session_start(grpc_port=0, max_upload_bytes=4 * 2**20).until_ready()


@pytest.fixture
def triton() -> Iterator[Callable[[Any], Any]]:
    """A client of Triton's over HTTP for a server."""
    clients: list[Any] = []

    def connect(server: Any, concurrency: int = 1) -> Any:
        client = tritonclient.http.InferenceServerClient(
            server.url.removeprefix("http://"), concurrency=concurrency, network_timeout=30.0
        )
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


def rpc_address(server: Any) -> str:
    """Where a server listens for gRPC."""
    server.until(lambda: any(line["message"] == "listening for gRPC" for line in server.lines))
    return next(f"{at['host']}:{at['port']}" for at in server.lines if at["message"] == "listening for gRPC")


@pytest.fixture
def address() -> Callable[[Any], str]:
    """Where a server listens for gRPC."""
    return rpc_address


@pytest.fixture
def triton_rpc() -> Iterator[Callable[[Any], Any]]:
    """A client of Triton's over gRPC for a server."""
    clients: list[Any] = []

    def connect(server: Any) -> Any:
        clients.append(tritonclient.grpc.InferenceServerClient(rpc_address(server)))
        return clients[-1]

    yield connect
    for client in clients:
        with closing(client):
            client.stop_stream()


@pytest.fixture
def tensor() -> Callable[..., list[Any]]:
    """The inputs of an HTTP request: one tensor, by default binary."""
    return lambda array, datatype, binary=True: [_filled(tritonclient.http, array, datatype, binary_data=binary)]


@pytest.fixture
def rpc_tensor() -> Callable[..., list[Any]]:
    """The inputs of a gRPC request: one tensor."""
    return lambda array, datatype: [_filled(tritonclient.grpc, array, datatype)]


def _filled(library: Any, array: np.ndarray, datatype: str, **how: bool) -> Any:
    made = library.InferInput("image", list(array.shape), datatype)
    return made.set_data_from_numpy(array, **how)
