"""Load shape of a scenario over time, and the verdict at the end."""

from argparse import ArgumentParser
from typing import ClassVar, NamedTuple

from locust import LoadTestShape, events
from locust.env import Environment
from locust.runners import WorkerRunner
from thresholds import Thresholds, add_options, judge

LAST_ANSWERS_S = 30.0
"""Time for the last responses, so that the slowest requests count as well."""
MOST_COME_PER_S = 100


class Stage(NamedTuple):
    """Number of clients and duration; clients start within a second, or at `MOST_COME_PER_S` if there are more."""

    seconds: float
    clients: int


class Scenario(LoadTestShape):
    """Consecutive stages. `--seconds` and `--clients` scale the total duration and the maximum number of clients."""

    abstract = True
    stages: ClassVar[tuple[Stage, ...]]
    thresholds: ClassVar[Thresholds] = Thresholds()

    def tick(self) -> tuple[int, float] | None:
        """Return the clients of the current stage; None after the last one."""
        options = self.runner.environment.parsed_options
        slower = (options.seconds or self.length_s) / self.length_s
        more = (options.clients or self.most_clients) / self.most_clients
        left_s = self.get_run_time() / slower
        for stage in self.stages:
            left_s -= stage.seconds
            if left_s < 0:
                clients = max(1, round(stage.clients * more))
                return clients, min(clients, MOST_COME_PER_S)
        return None

    @property
    def length_s(self) -> float:
        """Return the total duration of all stages as defined, in seconds."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def most_clients(self) -> int:
        """Return the clients of the largest stage as defined."""
        return max(stage.clients for stage in self.stages)


@events.init_command_line_parser.add_listener
def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, metavar="S", help="duration of the scenario (default: as defined)")
    parser.add_argument("--clients", type=int, metavar="N", help="maximum number of clients (default: as defined)")
    add_options(parser)


@events.init.add_listener
def _wait_for_answers(environment: Environment, **_: object) -> None:
    environment.stop_timeout = LAST_ANSWERS_S


@events.quitting.add_listener
def _give_verdict(environment: Environment, **_: object) -> None:
    if isinstance(environment.runner, WorkerRunner):
        return  # only the master has all statistics
    scenario, options = environment.shape_class, environment.parsed_options
    lines = list(judge(environment.runner.stats, scenario.thresholds.given(options)))
    print(f"\n{'threshold':<32}{'allowed':>12}{'measured':>12}")
    for line in lines:
        verdict = "" if line.holds else "  MISSED"
        print(f"{line.name:<32}{abs(line.allowed):>12.4g}{abs(line.measured):>12.4g}{verdict}")
    broken = bool(environment.runner.exceptions)  # an error in the scenario itself
    environment.process_exit_code = int(broken or not all(line.holds for line in lines))
