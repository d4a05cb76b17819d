"""Tests of connections after a fork."""

import os
from collections.abc import Callable

import pytest

from promptir_client.own_process import OwnProcess


def in_a_fork(work: Callable[[], bool]) -> bool:
    """Run the work in a forked process; returns whether its result is true."""
    child = os.fork()
    if child == 0:
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_one_process_has_one() -> None:
    own = OwnProcess(object, given=False)
    assert own.get() is own.get() is own.to_close()


def test_a_fork_has_its_own_and_leaves_that_of_its_parent_open() -> None:
    own = OwnProcess(object, given=False)
    parents = own.get()
    assert in_a_fork(lambda: own.to_close() is None)
    assert in_a_fork(lambda: own.get() is not parents and own.get() is own.get() is own.to_close())
    assert own.get() is parents


def test_what_the_caller_has_given_is_never_closed_and_not_used_in_a_fork() -> None:
    own = OwnProcess(object, given=True)
    assert own.to_close() is None

    def refuses() -> bool:
        with pytest.raises(RuntimeError, match="create the client in each process"):
            own.get()
        return own.to_close() is None

    assert in_a_fork(refuses)
