"""Clients that disconnect before the response, beside others that must not be affected."""

import random
from typing import ClassVar

import gevent
from clients import Client
from locust import constant_throughput
from locust.contrib.fasthttp import ResponseContextManager
from scenario import Scenario, Stage
from thresholds import LEFT, Thresholds

from server.cli.bench.uploads import Body


class Cancelling(Scenario):
    stages = (Stage(60, 32),)
    thresholds = Thresholds(max_p95_ms=1000)


class Leaver(Client):
    weight = 3
    wait_time = constant_throughput(4)
    longest_patience_s: ClassVar[float] = 0.1
    moment: gevent.Timeout

    def send_next(self) -> None:
        """Send an image and disconnect after a random delay: while queued, running or already answered."""
        with gevent.Timeout(random.uniform(0, self.longest_patience_s)) as self.moment:
            super().send_next()

    def judge(self, response: ResponseContextManager, upload: Body) -> float:
        """Accept a closed connection as success."""
        if self.moment.pending:
            self.moment.close()
            return super().judge(response, upload)
        response.request_meta["name"] = LEFT
        response.success()
        return 0.0


class Stayer(Client):
    wait_time = constant_throughput(1)
