"""What operations is told twice, written from one place: `make monitoring` runs it, a test compares."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry

from server.app import create_app
from server.settings import BackendSettings, Settings

PROJECT = Path(__file__).resolve().parents[1]
RULES = PROJECT / "docker/monitoring/rules.yml"
PROMETHEUS_RULE = PROJECT / "k8s/monitoring/prometheusrule.yaml"
OPERATIONS = PROJECT / "docs/operations.md"
BEGIN, END = "<!-- metrics: begin -->", "<!-- metrics: end -->"
INDENT = "  "
# In the text format a set of states is a gauge for each, which is 1 or 0.
KINDS = {"stateset": "gauge"}

PROMETHEUS_RULE_HEAD = """\
# Written by `make monitoring` from docker/monitoring/rules.yml: change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: promptir
  labels:
    app.kubernetes.io/name: promptir
    app.kubernetes.io/component: server
spec:
"""


def prometheus_rule() -> str:
    """The PrometheusRule of Kubernetes, with the text of the rules as they are."""
    rules = RULES.read_text().partition("groups:\n")
    lines = [f"{INDENT}{line}".rstrip() for line in (rules[1] + rules[2]).splitlines()]
    return PROMETHEUS_RULE_HEAD + "\n".join(lines) + "\n"


def registry() -> CollectorRegistry:
    """The registry of a real server, which is wired and not started."""
    app = create_app(Settings(backend=BackendSettings(backend="simulated")))
    found: CollectorRegistry = app.state.services.metrics.registry
    return found


def metric_rows() -> Iterator[str]:
    """One row of the table for each metric that the server exports, by name."""
    metrics = registry()
    labels = {  # there is no public way to ask a metric for its labels; a collector of our own says them
        name: getattr(collector, "_labelnames", ()) or getattr(collector, "label_names", ())
        for collector, names in metrics._collector_to_names.items()
        for name in names
    }
    for family in sorted(metrics.collect(), key=lambda found: (not found.name.startswith("promptir"), found.name)):
        ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
        named = [*labels.get(family.name, ()), *([family.name] if family.type == "stateset" else [])]
        with_labels = ", ".join(f"`{label}`" for label in named)
        told = family.documentation.replace("|", "\\|")  # would end the cell
        yield f"| `{family.name}{ending}` | {KINDS.get(family.type, family.type)} | {with_labels} | {told} |"


def operations(text: str) -> str:
    """The page with its table of metrics as the server has them now."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    head = ["| metric | type | labels | |", "|---|---|---|---|"]
    return "\n".join([before + BEGIN, *head, *metric_rows(), END + after])


def main() -> None:
    """Write both files."""
    PROMETHEUS_RULE.write_text(prometheus_rule())
    OPERATIONS.write_text(operations(OPERATIONS.read_text()))


if __name__ == "__main__":
    main()
