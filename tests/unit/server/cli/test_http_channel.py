"""Tests of the questions that an HTTP process and its parent ask each other."""

import threading
from multiprocessing import Pipe

import pytest

from server.cli.http_processes import channel
from server.cli.http_processes.channel import Asker, Unanswered


def test_the_answer_to_an_earlier_question_is_not_taken_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PATIENCE_S", 0.05)
    asking, answering = Pipe()
    asker = Asker(asking)
    with pytest.raises(Unanswered):
        asker.ask("first")
    first, _ = answering.recv()

    def answer() -> None:
        second, question = answering.recv()
        answering.send((first, "too late"))
        answering.send((second, f"to {question}"))

    thread = threading.Thread(target=answer)
    thread.start()
    assert asker.ask("second") == "to second"
    thread.join()


def test_without_the_other_process_a_question_is_unanswered_and_a_message_is_lost() -> None:
    asking, answering = Pipe()
    answering.close()
    asker = Asker(asking)
    asker.tell("ready")
    with pytest.raises(Unanswered):
        asker.ask("anything")
