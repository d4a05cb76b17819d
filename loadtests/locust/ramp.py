"""Load that grows every twenty seconds, by clients without pauses, to find where latency rises."""

from clients import Client
from scenario import Scenario, Stage
from thresholds import Thresholds


class Ramp(Scenario):
    stages = tuple(Stage(20, clients) for clients in (1, 2, 4, 8, 16, 32, 64))
    thresholds = Thresholds(max_p95_ms=3000, max_refused_share=0.05)


class WithoutPause(Client):
    pass
