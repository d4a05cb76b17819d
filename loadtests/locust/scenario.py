"""Scenario: the number of clients over time, and the verdict at the end."""

from argparse import ArgumentParser
from pathlib import Path
from typing import ClassVar, NamedTuple

from flask import Response, request
from locust import LoadTestShape, User, events
from locust.env import Environment
from locust.runners import WorkerRunner
from thresholds import Line, Thresholds, add_options, as_html, as_text, judge

LAST_ANSWERS_S = 30.0
"""How long the last requests may take: those that wait longest count as well."""
MOST_COME_PER_S = 100
REPORT_PATH = "/stats/report"


class Stage(NamedTuple):
    """A number of clients for a number of seconds; at most `MOST_COME_PER_S` of them start in a second."""

    seconds: float
    clients: int


class Scenario(LoadTestShape):
    """Runs its stages one after another. `--seconds` sets their whole length and `--clients` the most clients."""

    abstract = True
    stages: ClassVar[tuple[Stage, ...]]
    thresholds: ClassVar[Thresholds] = Thresholds()

    def tick(self) -> tuple[int, float, list[type[User]]] | None:
        """Return the clients of the current stage, how many start per second, and their classes; None at the end."""
        options = self.runner.environment.parsed_options
        slower = (options.seconds or self.length_s) / self.length_s
        more = (options.clients or self.most_clients) / self.most_clients
        left_s = self.get_run_time() / slower
        for stage in self.stages:
            left_s -= stage.seconds
            if left_s < 0:
                clients = max(1, round(stage.clients * more))
                return clients, min(clients, MOST_COME_PER_S), self.users
        return None

    @property
    def users(self) -> list[type[User]]:
        """The user classes written for this scenario, as far as they were chosen; all that were chosen if none is."""
        chosen = self.runner.environment.user_classes
        return [user for user in chosen if user.__module__ == type(self).__module__] or list(chosen)

    @property
    def length_s(self) -> float:
        """Seconds of all stages together, before any stretching."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def most_clients(self) -> int:
        """Clients of the largest stage, before any stretching."""
        return max(stage.clients for stage in self.stages)


@events.init_command_line_parser.add_listener
def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, metavar="S", help="total length (default: the scenario's)")
    parser.add_argument("--clients", type=int, metavar="N", help="largest number of clients (default: the scenario's)")
    add_options(parser)


def verdict(environment: Environment) -> list[Line]:
    """Hold the figures so far against the thresholds: those of the scenario, or the plain ones without a scenario."""
    thresholds = getattr(environment.shape_class, "thresholds", Thresholds())
    return list(judge(environment.runner.stats, thresholds.given(environment.parsed_options)))


@events.init.add_listener
def _wait_for_answers(environment: Environment, **_: object) -> None:
    environment.stop_timeout = LAST_ANSWERS_S


@events.init.add_listener
def _show_thresholds_in_the_web_interface(environment: Environment, **_: object) -> None:
    if environment.web_ui is None:
        return

    @environment.web_ui.app.after_request
    def add(response: Response) -> Response:
        if request.path == REPORT_PATH and response.mimetype == "text/html":
            response.direct_passthrough = False
            response.set_data(with_verdict(response.get_data(as_text=True), verdict(environment)))
        return response


def with_verdict(report: str, lines: list[Line]) -> str:
    """Put the thresholds at the top of locust's HTML report."""
    before, body, after = report.partition("<body>")
    return before + body + as_html(lines) + after


@events.quitting.add_listener
def _give_verdict(environment: Environment, **_: object) -> None:
    if isinstance(environment.runner, WorkerRunner):
        return  # the master has all figures
    lines = verdict(environment)
    print(as_text(lines))
    file = environment.parsed_options.html_file
    if file and Path(file).is_file():  # locust has written it just before
        Path(file).write_text(with_verdict(Path(file).read_text(), lines))
    broken = bool(environment.runner.exceptions)  # a fault in the scenario itself
    environment.process_exit_code = int(broken or not all(line.holds for line in lines))
