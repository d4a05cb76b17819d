"""Tests of the Budget: what each client may have of it."""

import pytest

from server.jobs.budget import Budget


def filled(clients: list[str], order: list[str], max_bytes: int = 1200) -> dict[str | None, int]:
    """What each has in the end, if one after the other takes all that it can get."""
    budget, used = Budget(max_bytes, lambda: clients), dict[str | None, int]()
    for name in order:
        used[name] = budget.most(name, used)
    return used


def test_without_keys_or_with_one_client_the_whole_may_be_had() -> None:
    assert Budget(1200).most(None, {None: 200}) == 1200
    assert filled(["ada"], ["ada"]) == {"ada": 1200}
    assert Budget(1200, lambda: ["ada"]).most("ada", {None: 300}) == 900


@pytest.mark.parametrize("count", [2, 3, 10, 100])
def test_nobody_is_shut_out_by_those_who_came_before(count: int) -> None:
    names = [str(number) for number in range(count)]
    used = filled(names, names, 120_000)
    assert max(used.values()) <= 60_000
    assert min(used.values()) >= 120_000 // (2 * count)
    assert sum(used.values()) <= 120_000


def test_of_two_clients_the_first_may_have_half() -> None:
    assert filled(["ada", "bob"], ["ada", "bob"]) == {"ada": 600, "bob": 450}


def test_what_is_of_nobody_or_of_a_client_that_left_takes_no_part_that_is_set_apart() -> None:
    for other in (None, "left"):
        budget = Budget(1200, lambda: ["ada", "bob"])
        assert budget.most("ada", {other: 600}) == 300
        assert budget.most("ada", {other: 1100}) == 100
        assert budget.most("ada", {other: 1300}) == 0


def test_the_largest_job_of_a_client_is_known_beforehand() -> None:
    assert Budget(1200, lambda: ["ada", "bob"]).largest("ada") == 600
    assert Budget(1200, lambda: ["ada", "bob"]).largest(None) == 1200
