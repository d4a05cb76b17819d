"""A server that asks for keys, through Triton's own clients: let in, charged, and refused in the protocol's form."""

from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from server.access.keys_file import Terms, new_key

ADA, ADA_LINE = new_key("ada", Terms())
EVE, EVE_LINE = new_key("eve", Terms(suspended=True))
SPARE, SPARE_LINE = new_key("sparing", Terms(megapixels_per_minute=0.001))
PIXELS = np.zeros((1, 3, 20, 20), np.uint8)


@pytest.fixture(scope="module")
def guarded(session_start: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Shared, so that no test may stop it."""
    keys = tmp_path_factory.mktemp("guarded") / "keys"
    keys.write_text("\n".join([ADA_LINE, EVE_LINE, SPARE_LINE]))
    return session_start(keys_file=keys, grpc_port=0).until_ready()


def files(count: int, file_of: Any, pixels: Any) -> np.ndarray:
    return np.array([file_of(pixels(1, 20, 20, seed=seed)[0]) for seed in range(count)], object)


def refusal(call: Any) -> str:
    with pytest.raises(InferenceServerException) as refused:
        call()
    return str(refused.value.status())


def test_over_http(guarded: Any, triton: Any, tensor: Any, file_of: Any, pixels: Any) -> None:
    client = triton(guarded)
    assert client.is_server_ready()

    def ask(key: str | None, array: np.ndarray = PIXELS, datatype: str = "UINT8") -> Any:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return client.infer("promptir", tensor(array, datatype), headers=headers)

    assert ask(ADA).as_numpy("restored").shape == PIXELS.shape
    assert refusal(lambda: ask(None)) == "401"
    assert refusal(lambda: ask(EVE)) == "403"
    ask(SPARE)
    assert refusal(lambda: ask(SPARE, files(2, file_of, pixels), "BYTES")) == "429"
    bare = guarded.client.post("/v2/models/promptir/infer", content=b"{}")
    assert (bare.status_code, list(bare.json())) == (401, ["error"])
    assert bare.headers["www-authenticate"] == "Bearer"


def test_over_grpc(guarded: Any, triton_rpc: Any, rpc_tensor: Any) -> None:
    client = triton_rpc(guarded)
    assert client.is_server_ready()

    def ask(key: str | None, images: np.ndarray = PIXELS) -> Any:
        headers = {} if key is None else {"x-api-key": key}
        return client.infer("promptir", rpc_tensor(images, "UINT8"), headers=headers)

    assert ask(ADA).as_numpy("restored").shape == PIXELS.shape
    assert refusal(lambda: ask(None)) == "StatusCode.UNAUTHENTICATED"
    assert refusal(lambda: ask(EVE)) == "StatusCode.PERMISSION_DENIED"
    assert refusal(lambda: ask(SPARE, np.repeat(PIXELS, 8, axis=0))) == "StatusCode.RESOURCE_EXHAUSTED"
    assert refusal(lambda: client.get_model_metadata("promptir")) == "StatusCode.UNAUTHENTICATED"
    assert client.get_model_metadata("promptir", headers={"x-api-key": ADA}).name == "promptir"
