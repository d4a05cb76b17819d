"""The OpenAPI document against a real server: schemathesis sends what it describes, and what it forbids."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

RULES = Path(__file__).parents[1] / "fuzz" / "schemathesis.toml"
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "25"))  # `make fuzz` asks for more
LONGEST_S = 600


def test_every_answer_is_one_that_the_document_describes(start: Any, tmp_path: Path) -> None:
    server = start(jobs_folder=tmp_path / "jobs").until_ready()
    program = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            *(program, "--config-file", RULES, "run", f"{server.url}/openapi.json", "--no-color"),
            # A job that is cancelled keeps its record, which reads like a deletion that failed.
            *("--checks", "all", "--exclude-checks", "use_after_free"),
            *("--max-examples", str(EXAMPLES), "--generation-deterministic"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "No issues found" in done.stdout
    assert not [line for line in server.lines if line["level"] in ("ERROR", "CRITICAL")]


def test_no_number_of_a_request_is_said_to_be_null(server: Any) -> None:
    document = server.client.get("/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    for parameter in (parameter for operation in operations for parameter in operation.get("parameters", ())):
        kinds = {kind.get("type") for kind in parameter["schema"].get("anyOf", ())}
        assert not {"integer", "null"} <= kinds, parameter["name"]
