"""A server that gets no more memory: it says so, blames no photo, and serves on."""

import gzip
import json
import re
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

Image = Callable[..., bytes]
MEGABYTE = 2**20
# In words of their own, or for want of room; never as if the file were bad or the server broken.
HONEST = {200, 202, 429, 503}


def tensor(pixels: int) -> dict[str, Any]:
    side = int(pixels**0.5) // 8 * 8
    size = 3 * side * side * 4
    told = {"name": "image", "shape": [1, 3, side, side], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    document = json.dumps({"inputs": [told], "parameters": {"binary_data_output": True}}).encode()
    return {
        "content": document + bytes(size),
        "headers": {"Inference-Header-Content-Length": str(len(document)), "Content-Type": "application/octet-stream"},
    }


@pytest.mark.parametrize("left_megabytes", [4, 24, 60, 90, 120])
def test_want_of_memory_is_503_and_passes(left_megabytes: int, start: Any, png: Image, tmp_path: Path) -> None:
    server = start(jobs_folder=tmp_path).until_ready()
    assert server.client.post("/restore", content=png(64, 64)).status_code == 200
    photo = png(2000, 3000)
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/restore", {"content": photo}),
        ("/restore", {"files": {"file": ("a.png", photo)}}),
        ("/restore", {"content": gzip.compress(photo, 1), "headers": {"Content-Encoding": "gzip"}}),
        ("/v1/jobs", {"content": photo}),
        ("/v2/models/promptir/infer", tensor(2_000_000)),
    ]
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    used = int(re.search(r"VmSize:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]
    no_limit = resource.prlimit(server.process.pid, resource.RLIMIT_AS)
    resource.prlimit(server.process.pid, resource.RLIMIT_AS, (used + left_megabytes * MEGABYTE, no_limit[1]))
    with ThreadPoolExecutor(5) as senders:
        answers = list(senders.map(lambda request: server.client.post(request[0], **request[1]), requests))
    odd = [(answer.status_code, answer.text[:200]) for answer in answers if answer.status_code not in HONEST]
    assert not odd, (odd, [line["traceback"][-600:] for line in server.lines if "traceback" in line])
    resource.prlimit(server.process.pid, resource.RLIMIT_AS, no_limit)
    server.until_ready()
    assert server.client.post("/restore", content=png(64, 64, seed=1)).status_code == 200
    assert server.client.post("/restore", content=photo).status_code == 200
