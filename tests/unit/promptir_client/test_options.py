"""Tests of the options of a call."""

import pytest

from promptir_client import AsyncClient, Client
from promptir_client.options import RestoreOptions, check_options


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("qualty", "did you mean quality"),
        ("strenght", "did you mean strength"),
        ("zzz", "the options are format, quality"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_name(name: str, hint: str) -> None:
    with pytest.raises(TypeError, match=f"no option {name}: {hint}"):
        check_options({name: 1})


def test_all_options_of_the_type_are_taken() -> None:
    check_options(dict.fromkeys(RestoreOptions.__annotations__))


def test_both_clients_check_before_anything_is_sent() -> None:
    with Client("http://127.0.0.1:9") as client:
        for call in (client.restore, client.submit):
            with pytest.raises(TypeError, match="did you mean tile"):
                call(b"", tiles=64)  # type: ignore[call-arg]
    other = AsyncClient("http://127.0.0.1:9")
    for asked in (other.restore(b"", tiles=64), other.submit(b"", tiles=64)):  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="did you mean tile"):
            asked.send(None)
