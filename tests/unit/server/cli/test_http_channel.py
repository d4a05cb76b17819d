"""Tests of the questions that an HTTP process and its parent ask each other."""

from multiprocessing import Pipe

import pytest

from server.cli.http_processes.channel import Asker, Unanswered

LATE_S = 0.01


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next() -> None:
    asking, answering = Pipe()
    asker = Asker(asking)
    with pytest.raises(Unanswered):
        asker.ask("first", LATE_S)
    for answer in ("to first", "to second"):
        answering.send(answer)
    assert asker.ask("second") == "to second"
    assert [answering.recv(), answering.recv()] == ["first", "second"]


def test_a_process_that_owes_an_answer_is_asked_nothing_more() -> None:
    asking, answering = Pipe()
    asker = Asker(asking)
    for _ in range(3):
        with pytest.raises(Unanswered):
            asker.ask("anything", LATE_S)
    assert answering.recv() == "anything"
    assert not answering.poll(0)


def test_without_the_other_process_a_question_is_unanswered_and_a_message_is_lost() -> None:
    asking, answering = Pipe()
    answering.close()
    asker = Asker(asking)
    asker.tell("ready")
    with pytest.raises(Unanswered):
        asker.ask("anything")
