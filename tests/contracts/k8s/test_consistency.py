"""Tests of the Kubernetes documents for consistency with each other and with the server."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.cli.http_server import CLOSE_CONNECTIONS_S
from server.settings import BatchingSettings, HttpSettings, LimitSettings, Settings, environment_names

Document = dict[str, Any]
Render = Callable[[str], list[Document]]
K8S = Path(__file__).resolve().parents[3] / "k8s"
GIGABYTE_A_MEGAPIXEL = 3
BYTES_A_QUEUED_PIXEL = 12
PORT_NAME_LENGTH = 15
GPU = "nvidia.com/gpu"
PROBES = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
BINARY_SUFFIX = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@pytest.fixture(params=["base", "cpu", "gpu", "gpu-own-plans", "gpu-keda"])
def deployed(request: pytest.FixtureRequest, base: list[Document], render: Render) -> list[Document]:
    """Return the documents of a server: the base as written, and each overlay."""
    return base if request.param == "base" else render(request.param)


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def the(documents: list[Document], kind: str) -> Document:
    (found,) = of_kind(documents, kind)
    return found


def pod_specs(documents: list[Document]) -> Iterator[Document]:
    for document in documents:
        if document["kind"] in ("Deployment", "Job"):
            yield document["spec"]["template"]["spec"]
        if document["kind"] == "InferenceService":
            yield document["spec"]["predictor"]


def containers(documents: list[Document]) -> Iterator[Document]:
    for spec in pod_specs(documents):
        yield from spec.get("initContainers", [])
        yield from spec["containers"]


def size_of(quantity: str) -> int:
    number, suffix = re.fullmatch(r"(\d+)([KMGT]i)?", quantity).groups()
    return int(number) * BINARY_SUFFIX.get(suffix, 1)


def server(documents: list[Document]) -> Document:
    (container,) = the(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    return container


def selected(selector: Document, labels: Document) -> bool:
    return selector.items() <= labels.items()


def test_every_selector_finds_the_pods(deployed: list[Document]) -> None:
    deployment = the(deployed, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        the(deployed, "Service")["spec"]["selector"],
        the(deployed, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        the(deployed, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(constraint["labelSelector"]["matchLabels"] for constraint in spread),
    ]
    assert all(selected(selector, labels) and selector for selector in selectors)


def test_the_service_does_not_find_the_pods_of_the_export(base: list[Document], render: Render) -> None:
    job = the(render("export-h100"), "Job")
    assert not selected(the(base, "Service")["spec"]["selector"], job["spec"]["template"]["metadata"]["labels"])


def test_every_port_that_is_named_exists(deployed: list[Document]) -> None:
    ports = {port["name"]: port["containerPort"] for port in server(deployed)["ports"]}
    assert all(len(name) <= PORT_NAME_LENGTH for name in ports)
    assert ports == {"http": HttpSettings().port}
    used = [port["targetPort"] for port in the(deployed, "Service")["spec"]["ports"]]
    used += [server(deployed)[probe]["httpGet"]["port"] for probe in PROBES]
    used += [port["port"] for rule in the(deployed, "NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]]
    assert set(used) <= set(ports)


@pytest.mark.parametrize("overlay_name", ["cpu", "gpu", "gpu-own-plans", "gpu-keda"])
def test_prometheus_finds_the_service_under_the_name_that_the_alerts_know(overlay_name: str, render: Render) -> None:
    documents = render(overlay_name)
    monitor, service = the(documents, "ServiceMonitor")["spec"], the(documents, "Service")
    assert selected(monitor["selector"]["matchLabels"], service["metadata"]["labels"])
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= {
        port["name"] for port in service["spec"]["ports"]
    }
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "promptir"


def test_probes_ask_what_is_for_them(deployed: list[Document], asked_paths: set[str]) -> None:
    container = server(deployed)
    assert {probe: container[probe]["httpGet"]["path"] for probe in PROBES} == PROBES
    assert set(PROBES.values()) <= asked_paths
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300  # loading a plan takes minutes


@pytest.fixture(scope="session")
def asked_paths() -> set[str]:
    """Return the server's paths."""
    from server.http.ops.routes import router

    return {route.path for route in router.routes}


def test_the_grace_period_holds_what_comes_before_the_end(deployed: list[Document]) -> None:
    (spec,) = pod_specs(deployed)
    command, seconds = server(deployed)["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    needed = int(seconds) + HttpSettings().drain_timeout_s + CLOSE_CONNECTIONS_S
    assert spec["terminationGracePeriodSeconds"] >= needed
    # proxies learn of it from the readiness probe or the endpoint, whichever is first
    assert int(seconds) >= server(deployed)["readinessProbe"]["periodSeconds"]


def test_no_service_puts_its_address_among_the_settings(deployed: list[Document]) -> None:
    assert all(spec["enableServiceLinks"] is False for spec in pod_specs(deployed))


def test_every_setting_in_the_documents_exists(deployed: list[Document]) -> None:
    for container in containers(deployed):
        names = {variable["name"] for variable in container.get("env", [])}
        given = {name.removeprefix("PROMPTIR_") for name in names if name.startswith("PROMPTIR_")}
        assert given <= set(environment_names())


def test_every_mount_has_a_volume_and_every_volume_a_mount(overlay: list[Document]) -> None:
    for spec in pod_specs(overlay):
        volumes = [volume["name"] for volume in spec["volumes"]]
        inside = [*spec.get("initContainers", []), *spec["containers"]]
        mounts = [mount["name"] for container in inside for mount in container["volumeMounts"]]
        assert sorted(volumes) == sorted(set(mounts))


def test_every_document_that_is_referred_to_is_there(overlay: list[Document], render: Render) -> None:
    # a pool's Job runs next to a gpu overlay and uses its account and its volume
    present = {(document["kind"], document["metadata"]["name"]) for document in [*overlay, *render("gpu")]}
    for spec in pod_specs(overlay):
        assert ("ServiceAccount", spec["serviceAccountName"]) in present
        for volume in spec["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in present
    for scaler in [*of_kind(overlay, "HorizontalPodAutoscaler"), *of_kind(overlay, "ScaledObject")]:
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in present


def test_one_autoscaler_owns_the_number_of_pods(deployed: list[Document]) -> None:
    assert "replicas" not in the(deployed, "Deployment")["spec"]
    scalers = of_kind(deployed, "HorizontalPodAutoscaler") + of_kind(deployed, "ScaledObject")
    assert len(scalers) == (1 if of_kind(deployed, "ServiceMonitor") else 0)


def test_both_autoscalers_aim_at_the_same_backlog(render: Render) -> None:
    (metric,) = the(render("gpu"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    (trigger,) = the(render("gpu-keda"), "ScaledObject")["spec"]["triggers"]
    assert metric["pods"]["target"]["averageValue"] == trigger["metadata"]["threshold"]
    assert metric["pods"]["metric"]["name"] in trigger["metadata"]["query"]
    # more pods are requested before any request is refused
    assert float(trigger["metadata"]["threshold"]) < BatchingSettings().max_backlog_ms / 1e3


def test_a_gpu_is_asked_for_as_it_is_limited(overlay: list[Document]) -> None:
    for container in containers(overlay):
        resources = container["resources"]
        assert resources["requests"].get(GPU) == resources["limits"].get(GPU)
        assert resources["requests"]["memory"] == resources["limits"]["memory"]


@pytest.mark.parametrize(("name", "gpus"), [("cpu", None), ("gpu", "1"), ("gpu-keda", "1"), ("export-h100", "1")])
def test_only_what_uses_a_gpu_gets_one(name: str, gpus: str | None, render: Render) -> None:
    assert [container["resources"]["limits"].get(GPU) for container in containers(render(name))] == [gpus]


def test_own_plans_need_no_volume_of_the_cluster(render: Render) -> None:
    documents = render("gpu-own-plans")
    assert of_kind(documents, "PersistentVolumeClaim") == []
    (spec,) = pod_specs(documents)
    assert all(set(volume) == {"name", "emptyDir"} for volume in spec["volumes"])
    (export,), (serve,) = spec["initContainers"], spec["containers"]
    assert {export["image"], serve["image"]} == {"promptir:export", "promptir:gpu"}
    mounts = [mount for one in (export, serve) for mount in one["volumeMounts"] if mount["name"] == "plans"]
    assert mounts == [
        {"name": "plans", "mountPath": "/plans"},
        {"name": "plans", "mountPath": "/plans", "readOnly": True},
    ]
    stored = sum(size_of(volume["emptyDir"]["sizeLimit"]) for volume in spec["volumes"])
    assert size_of(serve["resources"]["limits"]["ephemeral-storage"]) > stored


def test_own_plans_are_built_as_the_export_job_builds_them(render: Render) -> None:
    (job,), (export, _) = containers(render("export-h100")), containers(render("gpu-own-plans"))
    for field in ("resources", "securityContext"):
        assert export[field] == job[field]


def test_the_adapter_serves_the_metric_that_the_autoscaler_asks_for(render: Render) -> None:
    values = yaml.safe_load((K8S / "monitoring" / "adapter-values.yaml").read_text())
    (rule,) = values["rules"]["custom"]
    (asked,) = the(render("gpu"), "HorizontalPodAutoscaler")["spec"]["metrics"]
    name, matchers = re.fullmatch(r"(\w+)\{(.*)\}", rule["seriesQuery"]).groups()
    assert name == asked["pods"]["metric"]["name"]
    assert dict(re.findall(r'(\w+)!?="(\w*)"', matchers)) == {"job": "promptir", "namespace": "", "pod": ""}
    assert {one["resource"] for one in rule["resources"]["overrides"].values()} == {"namespace", "pod"}
    (trigger,) = the(render("gpu-keda"), "ScaledObject")["spec"]["triggers"]
    assert f"{values['prometheus']['url']}:{values['prometheus']['port']}" == trigger["metadata"]["serverAddress"]


def test_promtool_parses_the_query_of_the_adapter(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    (rule,) = yaml.safe_load((K8S / "monitoring" / "adapter-values.yaml").read_text())["rules"]["custom"]
    series, _, matchers = rule["seriesQuery"].rstrip("}").partition("{")
    query = rule["metricsQuery"].replace("<<.Series>>", series)
    query = query.replace("<<.LabelMatchers>>", f'{matchers},pod=~"a|b"').replace("<<.GroupBy>>", "pod")
    rules = {"groups": [{"name": "adapter", "rules": [{"record": "x:y", "expr": query}]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    command = [promtool, "check", "rules", tmp_path / "rules.yml"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_run_and_all_that_may_wait_fit_the_memory_of_a_pod(deployed: list[Document]) -> None:
    memory = size_of(server(deployed)["resources"]["limits"]["memory"])
    waiting = BYTES_A_QUEUED_PIXEL * BatchingSettings().max_queued_pixels + LimitSettings().max_uploads_bytes
    assert memory >= GIGABYTE_A_MEGAPIXEL * 1e9 * Settings().whole_pixels / 1e6 + waiting


def test_a_server_that_ends_by_itself_is_replaced(deployed: list[Document]) -> None:
    # it exits with 1 after permanent loss of its devices
    assert the(deployed, "Deployment")["spec"]["template"]["spec"].get("restartPolicy", "Always") == "Always"


def test_every_pod_is_admitted_at_the_restricted_level(overlay: list[Document]) -> None:
    for spec in pod_specs(overlay):
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] != 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all("hostPath" not in volume for volume in spec["volumes"])
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            confined = container["securityContext"]
            assert confined["allowPrivilegeEscalation"] is False
            assert confined["readOnlyRootFilesystem"] is True
            assert confined["capabilities"] == {"drop": ["ALL"]}


def test_the_pods_run_as_the_user_of_the_image(overlay: list[Document], image_user: str) -> None:
    for spec in pod_specs(overlay):
        pod = spec["securityContext"]
        assert f"{pod['runAsUser']}:{pod['runAsGroup']}" == image_user


def test_each_overlay_takes_its_target_of_the_dockerfile(render: Render) -> None:
    images = {
        name: {container["image"] for container in containers(render(name))} for name in ("cpu", "gpu", "gpu-keda")
    }
    assert images == {"cpu": {"promptir:cpu"}, "gpu": {"promptir:gpu"}, "gpu-keda": {"promptir:gpu"}}
    assert {container["image"] for container in containers(render("export-h100"))} == {"promptir:export"}


def test_the_server_reads_plans_and_the_export_writes_them(render: Render) -> None:
    def plans(name: str) -> Document:
        (container,) = containers(render(name))
        (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "plans")
        return mount

    assert plans("gpu") == {"name": "plans", "mountPath": "/plans", "readOnly": True}
    assert plans("export-h100") == {"name": "plans", "mountPath": "/plans"}
