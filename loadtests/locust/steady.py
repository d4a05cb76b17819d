"""Steady: an ordinary day. Each client sends an image of 256 x 256 once a second, whatever the last one took."""

from clients import Client
from locust import constant_throughput
from scenario import Scenario, Stage
from thresholds import Thresholds


class Steady(Scenario):
    stages = (Stage(60, 16),)
    thresholds = Thresholds(max_p95_ms=500)


class OncePerSecond(Client):
    wait_time = constant_throughput(1)
