"""Thumbnails and photos, portrait and landscape, in three formats; only equal shapes share a run."""

from clients import Client
from locust import constant_throughput
from scenario import Scenario, Stage
from thresholds import Thresholds


class MixedSizes(Scenario):
    stages = (Stage(60, 16),)
    thresholds = Thresholds(max_p95_ms=2000)


class Anyone(Client):
    wait_time = constant_throughput(1)
    sizes = "64:8,96x64.webp:6,128:6,256x192.jpeg:6,192x256.jpeg:6,512.png:3,640x480.jpeg:3,1280x960.jpeg:1"
