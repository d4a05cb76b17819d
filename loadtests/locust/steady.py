"""Ordinary load: each client sends a 256 x 256 image once a second, independent of response times."""

from clients import Client
from locust import constant_throughput
from scenario import Scenario, Stage
from thresholds import Thresholds


class Steady(Scenario):
    stages = (Stage(60, 16),)
    thresholds = Thresholds(max_p95_ms=500)


class OncePerSecond(Client):
    wait_time = constant_throughput(1)
