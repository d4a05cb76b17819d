"""Generate what is written twice: the PrometheusRule and the table of metrics. `make monitoring` runs it."""

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
PREFIX = "promptir"
INDENT = "  "
# The text format has no state sets: each state is a gauge of its own, 1 or 0.
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
    """Return the PrometheusRule for Kubernetes, with the rules copied verbatim."""
    rules = RULES.read_text().partition("groups:\n")
    lines = [f"{INDENT}{line}".rstrip() for line in (rules[1] + rules[2]).splitlines()]
    return PROMETHEUS_RULE_HEAD + "\n".join(lines) + "\n"


def registry() -> CollectorRegistry:
    """Return the metrics registry of a complete server that has not been started."""
    app = create_app(Settings(backend=BackendSettings(backend="simulated")))
    found: CollectorRegistry = app.state.services.metrics.registry
    return found


def metric_rows() -> Iterator[str]:
    """Yield one table row per metric of the server, sorted by name; those of the Python client library are left out."""
    metrics = registry()
    labels = {  # prometheus_client has no public way to list the labels of a metric; our own collectors have one
        name: getattr(collector, "_labelnames", ()) or getattr(collector, "label_names", ())
        for collector, names in metrics._collector_to_names.items()
        for name in names
    }
    for family in sorted(metrics.collect(), key=lambda found: found.name):
        if not family.name.startswith(PREFIX):
            continue
        ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
        named = [*labels.get(family.name, ()), *([family.name] if family.type == "stateset" else [])]
        with_labels = ", ".join(f"`{label}`" for label in named)
        described = family.documentation.replace("|", "\\|")  # a plain bar would end the cell
        yield f"| `{family.name}{ending}` | {KINDS.get(family.type, family.type)} | {with_labels} | {described} |"


def operations(text: str) -> str:
    """Return the text of the operations page with its table of metrics replaced by the current one."""
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
