"""Fixtures with the rules, the dashboard and the existing metrics."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from doc_scripts import doc_script

PROJECT = Path(__file__).resolve().parents[3]
MONITORING = PROJECT / "docker" / "monitoring"
SERIES = {
    "counter": ["_total"],
    "histogram": ["_bucket", "_count", "_sum"],
    "gauge": [""],
    "info": ["_info"],
    "stateset": [""],
}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def project() -> Path:
    return PROJECT


@pytest.fixture(scope="session")
def monitoring() -> Path:
    return MONITORING


@pytest.fixture(scope="session")
def rules() -> list[dict[str, Any]]:
    """Return every recording and alerting rule."""
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="session")
def dashboard() -> dict[str, Any]:
    return json.loads((PROJECT / "k8s" / "monitoring" / "dashboard.json").read_text())


@pytest.fixture(scope="session")
def tables() -> ModuleType:
    """Load the script that writes the generated rules and tables."""
    return doc_script("operations_tables")


@pytest.fixture(scope="session")
def exported(tables: ModuleType) -> set[str]:
    """Return the names of all series that a real server exports, including those without a sample."""
    names = set()
    for family in tables.registry().collect():
        names |= {sample.name for sample in family.samples}
        names |= {f"{family.name}{ending}" for ending in SERIES[family.type]}
    return names


@pytest.fixture(scope="session")
def metric_names() -> Callable[[str], set[str]]:
    """Return the metric names in a PromQL expression; names with a colon are recorded by a rule."""

    def find(expression: str) -> set[str]:
        without_text = re.sub(r'"[^"]*"', '""', expression)
        return set(re.findall(r"\b(?:promptir|process|python)[a-z0-9_:]*", re.sub(r"\{[^}]*\}", "", without_text)))

    return find


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a Prometheus tool if it is installed."""

    def start(tool: str, *arguments: object, folder: Path = MONITORING) -> subprocess.CompletedProcess[str]:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool} (Debian: prometheus, prometheus-alertmanager)")
        command = [tool, *map(str, arguments)]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    return start
