"""Tests of the InferenceService: the pod of the gpu overlay, with KServe's names, probes and scaling."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from server.app import create_app
from server.settings import BackendSettings, Settings

Document = dict[str, Any]
Render = Callable[[str], list[Document]]
PATHS = {"/readyz": "/v2/health/ready", "/healthz": "/v2/health/live"}
"""What the probes ask elsewhere -> what is asked of a server of the Open Inference Protocol v2."""
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def the(documents: list[Document], kind: str) -> Document:
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


@pytest.fixture
def overlay(render: Render) -> list[Document]:
    return render("kserve")


@pytest.fixture
def predictor(overlay: list[Document]) -> Document:
    return the(overlay, "InferenceService")["spec"]["predictor"]


def in_order(pod: Document) -> Document:
    """Sort the volumes of a pod, since a kustomize patch puts its volumes first."""
    pod["volumes"].sort(key=lambda volume: volume["name"])
    for container in pod["containers"]:
        container["volumeMounts"].sort(key=lambda mount: mount["name"])
    return pod


def test_the_pod_is_that_of_the_gpu_overlay(predictor: Document, render: Render) -> None:
    expected = copy.deepcopy(the(render("gpu"), "Deployment")["spec"]["template"]["spec"])
    (container,) = expected["containers"]
    container["name"] = "kserve-container"
    for probe in PROBES:
        asked = container[probe]["httpGet"]
        asked["path"] = PATHS[asked["path"]]
    assert in_order({field: predictor.get(field) for field in expected}) == in_order(expected)


def test_kserve_replaces_pods_as_the_gpu_overlay_does(predictor: Document, render: Render) -> None:
    rolling = the(render("gpu"), "Deployment")["spec"]["strategy"]
    assert predictor["deploymentStrategy"] == rolling


def test_it_scales_as_keda_does_in_the_overlay_without_kserve(predictor: Document, render: Render) -> None:
    keda = the(render("gpu-keda"), "ScaledObject")["spec"]
    (trigger,) = keda["triggers"]
    (metric,) = predictor["autoScaling"]["metrics"]
    asked = metric["external"]["metric"]
    assert (asked["query"], asked["serverAddress"]) == (
        trigger["metadata"]["query"],
        trigger["metadata"]["serverAddress"],
    )
    target = {"type": trigger["metricType"], "averageValue": trigger["metadata"]["threshold"]}
    assert metric["external"]["target"] == target
    assert [predictor["minReplicas"], predictor["maxReplicas"]] == [keda["minReplicaCount"], keda["maxReplicaCount"]]


def test_budget_policy_and_spread_find_the_pods(overlay: list[Document], predictor: Document) -> None:
    labels = predictor["labels"]
    selectors = [
        the(overlay, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        the(overlay, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        the(overlay, "ServiceMonitor")["spec"]["selector"]["matchLabels"],
        *(constraint["labelSelector"]["matchLabels"] for constraint in predictor["topologySpreadConstraints"]),
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)


def test_nothing_else_runs_or_reaches_the_server(overlay: list[Document]) -> None:
    assert not {"Deployment", "Service", "HorizontalPodAutoscaler", "ScaledObject"} & {
        document["kind"] for document in overlay
    }
    annotations = the(overlay, "InferenceService")["metadata"]["annotations"]
    assert annotations["serving.kserve.io/deploymentMode"] == "Standard"  # pods elsewhere may not mount our volumes
    assert annotations["serving.kserve.io/autoscalerClass"] == "keda"


def test_the_server_answers_to_what_the_probes_ask(predictor: Document) -> None:
    asked = {predictor["containers"][0][probe]["httpGet"]["path"] for probe in PROBES}
    app = create_app(Settings(backend=BackendSettings(backend="simulated")))
    assert asked == set(PATHS.values()) <= set(app.openapi()["paths"])
