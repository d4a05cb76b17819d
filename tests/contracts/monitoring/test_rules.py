"""Tests of the rules with promtool and amtool, and against the server and the runbook."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import yaml

from server.metrics import PARITY_BUCKETS_DB, STAGE_BUCKETS_S, DeviceCondition
from server.settings import BackendSettings, BatchingSettings

Rules = list[dict[str, Any]]
Run = Callable[..., Any]
Names = Callable[[str], set[str]]


def alerts(rules: Rules) -> Rules:
    return [rule for rule in rules if "alert" in rule]


@pytest.mark.parametrize("file", ["prometheus.yml", "rules.yml"])
def test_promtool_accepts_the_files(run: Run, file: str) -> None:
    checked = run("promtool", "check", "rules" if file == "rules.yml" else "config", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_amtool_accepts_the_routes(run: Run) -> None:
    checked = run("amtool", "check-config", "alertmanager.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_each_severity_has_its_receiver(run: Run, severity: str) -> None:
    routed = run("amtool", "config", "routes", "test", "--config.file=alertmanager.yml", f"severity={severity}")
    assert routed.stdout.strip() == severity


def test_every_alert_fires_and_keeps_silent_as_its_stories_say(run: Run) -> None:
    tested = run("promtool", "test", "rules", "rules.test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_story_fails_when_its_alert_is_changed(run: Run, monitoring: Path, tmp_path: Path) -> None:
    text = (monitoring / "rules.yml").read_text()
    changed = text.replace('promptir_device_condition="lost"', 'promptir_device_condition="starting"')
    assert changed != text
    (tmp_path / "rules.yml").write_text(changed)
    (tmp_path / "rules.test.yml").write_text((monitoring / "rules.test.yml").read_text())
    tested = run("promtool", "test", "rules", "rules.test.yml", folder=tmp_path)
    assert tested.returncode == 1
    assert "PromptirDeviceDown" in tested.stdout + tested.stderr


def test_every_alert_has_a_story_in_which_it_fires_and_somebody_for_whom_it_does_not(
    rules: Rules, monitoring: Path
) -> None:
    stories = yaml.safe_load((monitoring / "rules.test.yml").read_text())["tests"]
    firing, silent = set(), set()
    for story in stories:
        instances = {
            instance
            for series in story["input_series"]
            for instance in re.findall(r'(?:instance|device)="(\S+?)"', series["series"])
        }
        for test in story.get("alert_rule_test", []):
            (firing if test["exp_alerts"] else silent).add(test["alertname"])
            if 0 < len(test["exp_alerts"]) < len(instances):
                silent.add(test["alertname"])
    named = {rule["alert"] for rule in alerts(rules)}
    assert firing == named
    assert silent == named


def test_every_alert_says_how_urgent_it_is_and_where_to_read_on(rules: Rules, project: Path) -> None:
    titles = re.findall(r"^### (\w+)$", (project / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert titles == [rule["alert"] for rule in alerts(rules)], "the runbook follows the order of the rules"
    for rule in alerts(rules):
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_every_entry_of_the_runbook_says_what_it_means_and_three_things_to_look_at(project: Path) -> None:
    runbook = (project / "docs" / "operations.md").read_text().partition("## Alerts")[2].partition("\n## ")[0]
    for entry in re.split(r"^### ", runbook, flags=re.MULTILINE)[1:]:
        meaning, *looks = re.split(r"^\d\. ", entry.partition("\n")[2], flags=re.MULTILINE)
        assert meaning.strip(), entry
        assert len(looks) == 3, entry


def test_every_metric_of_the_rules_is_exported_or_recorded(
    rules: Rules, exported: set[str], metric_names: Names
) -> None:
    recorded = {rule["record"] for rule in rules if "record" in rule}
    used = {name for rule in rules for name in metric_names(rule["expr"])}
    assert len(used) > 10
    assert used - exported - recorded == set()


def test_bounds_in_the_rules_are_bounds_of_buckets(rules: Rules) -> None:
    bounds = {
        "promptir_stage_duration_seconds_bucket": set(map(float, STAGE_BUCKETS_S)),
        "promptir_parity_db_bucket": set(map(float, PARITY_BUCKETS_DB)),
    }
    found = [
        (name, float(bound))
        for rule in rules
        for name, bound in re.findall(r'(promptir_\w+_bucket)\{[^}]*le="([\d.]+)"', rule["expr"])
    ]
    assert {name for name, _ in found} == set(bounds)
    assert all(bound in bounds[name] for name, bound in found)


def test_the_parity_alert_looks_where_the_server_gates(rules: Rules) -> None:
    (rule,) = (rule for rule in alerts(rules) if rule["alert"] == "PromptirParityLow")
    assert f'le="{BackendSettings().fp32_gate_db}"' in rule["expr"]


def test_states_of_devices_in_the_rules_exist(rules: Rules) -> None:
    used = {state for rule in rules for state in re.findall(r'promptir_device_condition="(\w+)"', rule["expr"])}
    assert used
    assert used <= set(get_args(DeviceCondition))


def test_the_backlog_is_told_of_before_anybody_is_refused_for_it(rules: Rules) -> None:
    (rule,) = (rule for rule in alerts(rules) if rule["alert"] == "PromptirBacklog")
    (seconds,) = re.findall(r"> (\d+)$", rule["expr"])
    assert float(seconds) < BatchingSettings().max_backlog_ms / 1e3


def test_slugs_of_problems_in_the_rules_exist(rules: Rules) -> None:
    from server import errors

    slugs = {kind.slug for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "slug")}
    used = {slug for rule in rules for slug in re.findall(r'reason="([\w-]+)"', rule["expr"])}
    assert used
    assert used <= slugs


def test_kubernetes_has_the_same_rules(tables: ModuleType) -> None:
    assert tables.PROMETHEUS_RULE.read_text() == tables.prometheus_rule(), "run `make monitoring`"
    mine = yaml.safe_load(tables.RULES.read_text())["groups"]
    assert yaml.safe_load(tables.PROMETHEUS_RULE.read_text())["spec"]["groups"] == mine


def test_the_table_of_metrics_is_that_of_the_server(tables: ModuleType) -> None:
    page = tables.OPERATIONS.read_text()
    assert page == tables.operations(page), "run `make monitoring`"
    assert "| `promptir_requests_total` | counter | `status`, `outcome` |" in page
