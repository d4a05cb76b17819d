"""Soak: half an hour of normal load in several sizes; loadtests/soak.py monitors the server's process as well."""

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
