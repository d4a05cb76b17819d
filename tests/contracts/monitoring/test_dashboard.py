"""Tests of the Grafana dashboard: queries, metrics and layout."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

Dashboard = dict[str, Any]
COLUMNS = 24


def expressions(dashboard: Dashboard) -> Iterator[str]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]


def without_variables(expression: str) -> str:
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*")


def test_every_metric_is_exported_or_recorded(
    dashboard: Dashboard,
    rules: list[dict[str, Any]],
    exported: set[str],
    metric_names: Callable[[str], set[str]],
) -> None:
    recorded = {rule["record"] for rule in rules if "record" in rule}
    used = {name for expression in expressions(dashboard) for name in metric_names(without_variables(expression))}
    assert len(used) > 15
    assert used - exported - recorded == set()


def test_promtool_accepts_every_query(dashboard: Dashboard, run: Callable[..., Any], tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": without_variables(expression)}
        for number, expression in enumerate(expressions(dashboard))
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = run("promtool", "check", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


def test_only_its_own_variables_are_used(dashboard: Dashboard) -> None:
    own = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard)))
    assert {name for name in used if not name.startswith("__")} == own


def test_panels_have_numbers_of_their_own_and_do_not_overlap(dashboard: Dashboard) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= COLUMNS
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_the_runbook_names_panels_that_exist(dashboard: Dashboard, project: Path) -> None:
    runbook = (project / "docs" / "operations.md").read_text().partition("## Alerts")[2].partition("\n## ")[0]
    titles = {panel["title"] for panel in dashboard["panels"]}
    named = {" ".join(name.split()) for name in re.findall(r"\*([A-Z][^*]+)\*", runbook)}
    assert len(named) > 5
    assert named <= titles


def test_compose_provisions_the_dashboard_on_its_prometheus(project: Path) -> None:
    grafana = project / "docker" / "monitoring" / "grafana"
    (source,) = yaml.safe_load((grafana / "datasources.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((grafana / "dashboards.yml").read_text())["providers"]
    services = yaml.safe_load((project / "docker" / "compose.yaml").read_text())["services"]
    name, port = re.fullmatch(r"http://([\w-]+):(\d+)", source["url"]).groups()
    (published,) = services[name]["ports"]
    assert published == f"127.0.0.1:${{PROMETHEUS_PORT:-{port}}}:{port}"
    mounts = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert any(mount.startswith(provider["options"]["path"] + "/") for mount in mounts)


def test_prometheus_scrapes_both_servers_of_compose(project: Path) -> None:
    config = yaml.safe_load((project / "docker" / "monitoring" / "prometheus.yml").read_text())
    services = yaml.safe_load((project / "docker" / "compose.yaml").read_text())["services"]
    (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "promptir")
    (discovery,) = job["dns_sd_configs"]
    for server in ("server-gpu", "server-cpu"):
        assert services[server]["networks"]["default"]["aliases"] == discovery["names"]
        assert services[server]["ports"][0].endswith(f":{discovery['port']}")
