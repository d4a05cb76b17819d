"""Fixtures with the Kubernetes documents: the base as written, and the overlays as kustomize renders them."""

import copy
import functools
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[3]
K8S = PROJECT / "k8s"
SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"
OVERLAYS = ("cpu", "gpu", "gpu-own-plans", "gpu-keda", "kserve", "export-h100")
SOURCES = (
    "base",
    "components/hpa",
    "components/nvidia",
    "export",
    "monitoring",
    "overlays/gpu-keda",
    "overlays/kserve",
)

Document = dict[str, Any]


def _documents(text: str) -> list[Document]:
    return [document for document in yaml.safe_load_all(text) if document]


@functools.cache
def _render(folder: Path) -> list[Document]:
    if shutil.which("kustomize"):
        command = ["kustomize", "build", folder]
    elif shutil.which("kubectl"):
        command = ["kubectl", "kustomize", folder]
    else:
        pytest.skip("needs kustomize or kubectl to render an overlay")
    rendered = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rendered.returncode == 0, rendered.stderr
    return _documents(rendered.stdout)


@pytest.fixture(scope="session", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[Document]:
    """Return what `kubectl apply -k` would send, for each overlay."""
    return copy.deepcopy(_render(K8S / "overlays" / request.param))


@pytest.fixture(scope="session")
def render() -> Callable[[str], list[Document]]:
    """Render one overlay by name."""
    return lambda name: copy.deepcopy(_render(K8S / "overlays" / name))


@pytest.fixture(scope="session", params=SOURCES)
def sources(request: pytest.FixtureRequest) -> list[Document]:
    """Return the documents of one folder without kustomize and its patches."""
    folder = K8S / request.param
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    files = [name for name in kustomization["resources"] if name.endswith(".yaml")]
    return [document for name in files for document in _documents((folder / name).read_text())]


@pytest.fixture(scope="session")
def base() -> list[Document]:
    """Return the base as written."""
    kustomization = yaml.safe_load((K8S / "base" / "kustomization.yaml").read_text())
    return [
        document for name in kustomization["resources"] for document in _documents((K8S / "base" / name).read_text())
    ]


@pytest.fixture(scope="session")
def crd_schemas() -> dict[str, Document]:
    """Return kind -> JSON schema of a custom resource, with unknown fields refused."""
    kinds = ("InferenceService", "PrometheusRule", "ScaledObject", "ServiceMonitor")
    return {kind: json.loads((SCHEMAS / f"{kind.lower()}.json").read_text()) for kind in kinds}


@pytest.fixture(scope="session")
def image_user() -> str:
    """Return the user and group of the images."""
    lines = (PROJECT / "docker" / "Dockerfile").read_text().splitlines()
    (user,) = (line.removeprefix("USER ") for line in lines if line.startswith("USER "))
    return user
