"""Locust users: what they send, and which responses count as correct."""

import functools
import json
import random
from collections.abc import Iterable
from typing import Any, ClassVar

import gevent
import numpy as np
from locust import FastHttpUser, User, events, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment
from locust.runners import MasterRunner
from thresholds import REFUSED, RESTORE

from server.cli.bench.uploads import Body, Sequencer, kinds_of_sizes
from server.errors import UnsupportedImage
from server.formats import format_of

LONGEST_PAUSE_S = 5.0
"""Longest wait for Retry-After after a refusal."""
REFUSALS = (429, 503)


@functools.cache
def image_set(sizes: str, image_format: str) -> Sequencer:
    """Images generated for this process, drawn by weight: `SIDE|WIDTHxHEIGHT[.FORMAT][:WEIGHT],...`.

    No two uploads are equal, in no two processes either: a server answers equal ones with one run.
    """
    return Sequencer(kinds_of_sizes(sizes, image_format, seed=0), np.random.default_rng())


def size_of(data: bytes) -> tuple[int, int] | None:
    """Return (height, width) of an encoded image; None if it is not one."""
    try:
        return format_of(data).dimensions(data)
    except UnsupportedImage:
        return None


def fault_of_image(response: ResponseContextManager, upload: bytes) -> str | None:
    """Return what is wrong with a response that should be a restored image; None if it is correct."""
    content: bytes = response.content or b""
    if response.status_code != 200:
        return fault_of_connection(response) or f"{response.status_code} {content[:200].decode(errors='replace')}"
    if not response.headers.get("content-type", "").startswith("image/"):
        return "200 without an image"
    if size_of(content) != size_of(upload):
        return f"an image of {size_of(content)}, not {size_of(upload)}"
    return None


def fault_of_connection(response: ResponseContextManager) -> str | None:
    """Return the error that broke the connection; None if there was a response."""
    if response.status_code:
        return None
    return f"no answer: {type(response.error).__name__}"


def is_refusal(response: ResponseContextManager) -> bool:
    """Return whether a response is a regular refusal that asks to retry later."""
    return response.status_code in REFUSALS and slug_of(response) is not None


class Client(FastHttpUser):
    """Restores one image after the other and checks each response against its upload."""

    abstract = True
    concurrency = 1
    network_timeout = connection_timeout = 120.0
    sizes: ClassVar[str] = "256"
    image_format: ClassVar[str] = "png"
    query: ClassVar[str] = ""
    name: ClassVar[str] = RESTORE

    def on_start(self) -> None:
        """Start at a random moment, because clients that start together would keep sending together."""
        self.images = image_set(self.sizes, self.image_format)
        gevent.sleep(random.random())

    @task
    def restore(self) -> None:
        """Entry point for locust, since a task cannot be overridden."""
        self.send_next()

    def send_next(self) -> None:
        """Send the next image and judge the response."""
        upload = self.images.next()[1]
        with self.post(upload.data, upload.media_type, self.name) as response:
            pause_s = self.judge(response, upload)
        gevent.sleep(pause_s)

    def judge(self, response: ResponseContextManager, upload: Body) -> float:
        """Report the outcome to locust: restored, refused or failed; returns the seconds to wait."""
        if is_refusal(response):
            response.request_meta["name"] = REFUSED
            response.success()
            return min(float(response.headers.get("retry-after", LONGEST_PAUSE_S)), LONGEST_PAUSE_S)
        if fault := fault_of_image(response, upload.data):
            response.failure(fault)
        else:
            response.success()
        return 0.0

    def post(self, data: bytes, media_type: str, name: str, query: str | None = None) -> Any:
        """POST bytes to /restore, for a `with` block that judges the response."""
        query = self.query if query is None else query
        path = f"/restore?{query}" if query else "/restore"
        return self.client.post(path, data=data, headers={"Content-Type": media_type}, name=name, catch_response=True)


@events.init.add_listener
def _make_images_first(environment: Environment, **_: object) -> None:
    # Before the scenario's clock runs, because photos take seconds to make and block everything meanwhile.
    if environment.web_ui is None and not isinstance(environment.runner, MasterRunner):
        _make_images(environment.user_classes)


@events.test_start.add_listener
def _make_images_of_a_choice(environment: Environment, **_: object) -> None:
    # In the web interface most scenarios are never chosen.
    if environment.web_ui is None or isinstance(environment.runner, MasterRunner):
        return
    scenario = environment.shape_class
    _make_images(environment.user_classes if scenario is None else scenario.users)
    if scenario is not None:
        scenario.reset_time()


def _make_images(users: Iterable[type[User]]) -> None:
    for user in users:
        image_set(user.sizes, user.image_format)


def slug_of(response: ResponseContextManager) -> str | None:
    """Return the slug of a problem document; None if the response is not one."""
    if response.headers is None or response.headers.get("content-type") != "application/problem+json":
        return None
    return str(json.loads(response.content)["type"]).rpartition(":")[2]
