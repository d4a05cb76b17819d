"""A group of series: what belongs together, on the registry of the server."""

from prometheus_client import CollectorRegistry


class SeriesGroup:
    """Registers its series when it is made; safe to use from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
