"""Tests of work that succeeds as a whole."""

import asyncio

import pytest

from server.concurrency import INLINE_BYTES, gather, run_off_loop


def test_results_keep_their_order() -> None:
    async def after(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(gather(after(turns) for turns in (3, 1, 2))) == [3, 1, 2]


def test_the_first_failure_is_raised_as_it_is_and_ends_the_rest() -> None:
    ended = []

    async def fail() -> None:
        raise KeyError("first")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(KeyError, match="first"):
        asyncio.run(gather([wait(), fail(), wait()]))
    assert ended == [True, True]


@pytest.mark.parametrize("size", [0, INLINE_BYTES, INLINE_BYTES + 1])
def test_work_answers_wherever_it_is_done(size: int) -> None:
    assert asyncio.run(run_off_loop(lambda: size + 1, size)) == size + 1
