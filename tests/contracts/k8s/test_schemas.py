"""Tests of the Kubernetes documents against the published schemas, with unknown fields refused."""

import copy
import functools
import json
from typing import Any

import kubernetes_validate
import pytest
from jsonschema import Draft202012Validator
from kubernetes_validate.utils import all_versions
from packaging.version import Version

Document = dict[str, Any]
OLDEST = Version("1.29")
# Fields of a predictor; all others are those of a pod.
KSERVES_OWN = {"annotations", "autoScaling", "deploymentStrategy", "labels", "maxReplicas", "minReplicas"}
VERSIONS = [version for version in all_versions() if Version(version) >= OLDEST]


def complaints(document: Document, crd_schemas: dict[str, Document]) -> list[str]:
    """Return a document's schema violations; a kind without a schema is a violation too."""
    if (schema := crd_schemas.get(document["kind"])) is not None:
        found = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)]
        if document["kind"] == "InferenceService" and not found:
            found += _core_complaints(json.dumps(pod_of(document, schema), sort_keys=True))
        return found
    return list(_core_complaints(json.dumps(document, sort_keys=True)))


def pod_of(service: Document, schema: Document) -> Document:
    """Convert a predictor's pod fields to a pod, because KServe's schema does not cover them."""
    known = schema["properties"]["spec"]["properties"]["predictor"]["properties"]
    predictor = service["spec"]["predictor"]
    spec = {name: value for name, value in predictor.items() if name in known and name not in KSERVES_OWN}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": service["metadata"]["name"]}, "spec": spec}


@functools.cache  # overlays share most of their documents, and each check reads megabytes of schema
def _core_complaints(text: str) -> tuple[str, ...]:
    document, found = json.loads(text), []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{version}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(error.message)
    return tuple(found)


def named(documents: list[Document], kind: str) -> Document:
    (found,) = (document for document in documents if document["kind"] == kind)
    return copy.deepcopy(found)


def test_the_versions_reach_from_the_oldest_to_a_recent_one() -> None:
    assert Version(VERSIONS[0]).release[:2] == OLDEST.release
    assert Version(VERSIONS[-1]) >= Version("1.34")


def test_every_source_is_valid_in_every_version(sources: list[Document], crd_schemas: dict[str, Document]) -> None:
    assert sources
    found = {document["kind"]: complaints(document, crd_schemas) for document in sources}
    assert not any(found.values()), found


def test_every_rendered_document_is_valid_in_every_version(
    overlay: list[Document], crd_schemas: dict[str, Document]
) -> None:
    assert overlay
    found = {document["kind"]: complaints(document, crd_schemas) for document in overlay}
    assert not any(found.values()), found


def test_an_unknown_field_and_an_unknown_kind_are_refused(
    base: list[Document], crd_schemas: dict[str, Document]
) -> None:
    deployment = named(base, "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    assert len(complaints(deployment, crd_schemas)) == len(VERSIONS)
    assert complaints({"apiVersion": "example.com/v1", "kind": "Unheard", "metadata": {"name": "x"}}, crd_schemas)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("InferenceService", {"predictor": {"containers": [{"name": "x"}], "minReplica": 1}}),
        ("InferenceService", {"predictor": {"containers": [{"name": "x"}], "minReplicas": "one"}}),
        ("InferenceService", {"predictor": {"containers": [{"name": "x", "readinesProbe": {}}]}}),
        ("InferenceService", {"predictor": {"autoScaling": {"metrics": [{"type": "External", "query": "1"}]}}}),
        ("InferenceService", {"predictors": {}}),
        ("ScaledObject", {"scaleTargetRef": {"name": "x"}, "triggers": [], "maxReplicas": 3}),
        ("ScaledObject", {"scaleTargetRef": {"name": "x"}}),
        ("ScaledObject", {"scaleTargetRef": {"name": "x"}, "triggers": [], "maxReplicaCount": "three"}),
        ("ServiceMonitor", {"selector": {}, "endpoints": [{"port": "http", "paths": "/metrics"}]}),
        ("ServiceMonitor", {"selector": {}, "endpoints": [{"port": "http", "interval": "often"}]}),
        ("PrometheusRule", {"groups": [{"name": "x", "rules": [{"alert": "X"}]}]}),
        ("PrometheusRule", {"groups": [{"name": "x", "rules": [{"alert": "X", "expr": "1", "severity": "page"}]}]}),
    ],
)
def test_the_schemas_of_custom_resources_refuse_faults(
    kind: str, spec: Document, crd_schemas: dict[str, Document]
) -> None:
    api = crd_schemas[kind]["properties"]["apiVersion"]["const"]
    assert complaints({"apiVersion": api, "kind": kind, "metadata": {"name": "x"}, "spec": spec}, crd_schemas)
