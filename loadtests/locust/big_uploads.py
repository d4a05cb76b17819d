"""Photos of 12 and 24 megapixels, restored in tiles, beside small images that must not wait for them."""

from clients import Client
from locust import constant_throughput
from scenario import Scenario, Stage
from thresholds import Thresholds


class BigUploads(Scenario):
    stages = (Stage(60, 8),)
    thresholds = Thresholds(max_p95_ms=30_000, max_refused_share=0.05)


class Photographer(Client):
    fixed_count = 2
    sizes = "4000x3000.jpeg:2,6000x4000.jpeg:1"
    query = "format=jpeg"
    name = "photo"


class Neighbour(Client):
    wait_time = constant_throughput(1)
