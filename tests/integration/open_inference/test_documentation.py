"""The snippets of docs/triton-kserve.md run against a real server; only the addresses are replaced."""

import re
from pathlib import Path
from typing import Any

import pytest

TEXT = (Path(__file__).parents[3] / "docs" / "triton-kserve.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs(
    number: int, both: Any, address: Any, png: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snippet = SNIPPETS[number].replace("127.0.0.1:8001", address(both))
    snippet = snippet.replace("127.0.0.1:8000", both.url.removeprefix("http://"))
    (tmp_path / "photo.png").write_bytes(png(20, 30))
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, f"docs/triton-kserve.md, snippet {number}", "exec"), {})  # noqa: S102
    if "restored.jpg" in snippet:
        assert (tmp_path / "restored.jpg").read_bytes().startswith(b"\xff\xd8\xff")


def test_there_are_snippets_of_each_front() -> None:
    assert len(SNIPPETS) >= 4
    assert any("tritonclient.grpc" in snippet for snippet in SNIPPETS)
