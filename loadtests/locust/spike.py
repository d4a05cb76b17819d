"""Fifty times the clients for twenty seconds; refusals are expected then, and a quick recovery afterwards."""

from clients import Client
from locust import constant_throughput
from scenario import Scenario, Stage
from thresholds import Thresholds


class Spike(Scenario):
    stages = (Stage(20, 4), Stage(20, 200), Stage(40, 4))
    thresholds = Thresholds(max_p95_ms=10_000, max_refused_share=0.9, max_last_p95_ms=500)


class TwicePerSecond(Client):
    wait_time = constant_throughput(2)
