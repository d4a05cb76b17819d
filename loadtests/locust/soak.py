"""Half an hour of ordinary load of several sizes; loadtests/soak.py also monitors the server process."""

from clients import Client
from locust import constant_throughput
from scenario import Scenario, Stage
from thresholds import Thresholds


class Soak(Scenario):
    stages = (Stage(1800, 16),)
    thresholds = Thresholds(max_p95_ms=500, max_last_p95_ms=500)


class SeveralSizes(Client):
    wait_time = constant_throughput(1)
    sizes = "256:4,192x256:2,512:1"
