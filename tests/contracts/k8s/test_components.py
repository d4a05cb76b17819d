"""Tests of the optional components on top of an overlay: ports, Service, policy and settings agree."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from server.settings import environment_names

Document = dict[str, Any]
Render = Callable[[str], list[Document]]
With = Callable[..., list[Document]]
K8S = Path(__file__).resolve().parents[3] / "k8s"
VERSION = "1.34"
PREFIX = "PROMPTIR_"


@pytest.fixture(scope="module")
def rendered_with(tmp_path_factory: pytest.TempPathFactory, render: Render) -> With:
    """Render the cpu overlay with components, as in a user's own overlay."""

    def rendered(*components: str) -> list[Document]:
        folder = tmp_path_factory.mktemp("overlay")
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(K8S / "overlays" / "cpu", folder)],
            "components": [os.path.relpath(K8S / "components" / name, folder) for name in components],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return render(str(folder))

    return rendered


def the(documents: list[Document], kind: str) -> Document:
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def pod_of(documents: list[Document]) -> Document:
    spec: Document = the(documents, "Deployment")["spec"]["template"]["spec"]
    return spec


def reached(documents: list[Document]) -> dict[str, list[str]]:
    """Return the other namespaces that can reach each port, by port name."""
    found: dict[str, list[str]] = {}
    for rule in the(documents, "NetworkPolicy")["spec"]["ingress"]:
        for port in rule["ports"]:
            for peer in rule["from"]:
                selector = peer.get("namespaceSelector", {})
                names = [*selector.get("matchLabels", {}).values()]
                names += [name for one in selector.get("matchExpressions", []) for name in one["values"]]
                found.setdefault(port["port"], []).extend(names)
    return found


@pytest.mark.parametrize("components", [("grpc",), ("access",), ("access", "grpc"), ("grpc", "access")])
def test_ports_settings_and_services_agree(
    components: tuple[str, ...], rendered_with: With, render: Render, crd_schemas: dict[str, Document]
) -> None:
    documents = rendered_with(*components)
    (container,) = pod_of(documents)["containers"]
    settings = {variable["name"].removeprefix(PREFIX): variable["value"] for variable in container["env"]}
    assert set(settings) <= set(environment_names())
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    told = {name.removesuffix("_PORT").lower(): int(value) for name, value in settings.items() if "_PORT" in name}
    assert ports == {"http": 8000} | told
    assert {port["targetPort"] for port in the(documents, "Service")["spec"]["ports"]} == set(ports)
    assert set(reached(documents)) == set(ports)
    for document in documents:
        if (schema := crd_schemas.get(document["kind"])) is not None:
            Draft202012Validator(schema).validate(document)
        else:
            kubernetes_validate.validate(document, VERSION, strict=True)
    assert [document["kind"] for document in documents] == [document["kind"] for document in render("cpu")]


def test_only_prometheus_reaches_the_port_of_the_metrics(rendered_with: With) -> None:
    documents = rendered_with("access")
    assert reached(documents) == {"http": ["ingress-nginx"], "metrics": ["monitoring"]}
    (endpoint,) = the(documents, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["port"] == "metrics"


def test_the_keys_file_is_where_its_volume_is(rendered_with: With) -> None:
    pod = pod_of(rendered_with("access"))
    (container,) = pod["containers"]
    (keys,) = (variable["value"] for variable in container["env"] if variable["name"] == f"{PREFIX}KEYS_FILE")
    (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "keys")
    assert Path(keys).parent == Path(mount["mountPath"])
    # a mount of a single file in the volume would never be updated
    assert "subPath" not in mount
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "keys")
    assert volume["secret"]["secretName"] == "promptir-keys"
