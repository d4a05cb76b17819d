"""Tests of the parameters of a request."""

import pytest

from server.errors import InvalidRequest
from server.formats.output import OutputFormat
from server.open_inference.parameters import Parameters
from server.restore.options import RestoreOptions
from server.scheduling.queue.tile import Priority


def test_without_parameters_all_is_as_it_is_for_a_file() -> None:
    parameters = Parameters.of({"binary_data_output": True, "unheard_of": 1})
    assert parameters.options == RestoreOptions()
    assert (parameters.patience_s, parameters.turn) == (None, Priority.INTERACTIVE)


@pytest.mark.parametrize(
    ("given", "turn"),
    [(0, "INTERACTIVE"), (1, "INTERACTIVE"), (2, "BATCH"), (2**40, "BATCH"), ("batch", "BATCH"), ("1", "INTERACTIVE")],
)
def test_the_priority_is_tritons_number_or_our_word(given: object, turn: str) -> None:
    assert Parameters.of({"priority": given}).turn is Priority[turn]


def test_the_timeout_is_in_microseconds() -> None:
    assert Parameters.of({"timeout": 1_500_000}).patience_s == 1.5


def test_options_may_come_as_text() -> None:
    options = Parameters.of({"strength": "0.5", "tile": "64", "format": "same", "quality": 80}).options
    assert (options.strength, options.tile, options.output, options.quality) == (0.5, 64, None, 80)
    assert Parameters.of({"format": "webp"}).options.output is OutputFormat.WEBP


def test_every_fault_is_named() -> None:
    with pytest.raises(InvalidRequest) as refused:
        Parameters.of({"quality": 0, "strength": "much"})
    assert "quality" in refused.value.detail
    assert "strength" in refused.value.detail


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("tile", -1, "Input should be greater than or equal to 1$"),
        ("format", "gif", "'png', 'jpeg', 'webp', 'avif' or 'tiff' or 'same'$"),
        ("priority", -1, "greater than or equal to 0 or 'interactive' or 'batch'$"),
    ],
)
def test_everything_that_a_parameter_may_be_is_named(name: str, value: object, allowed: str) -> None:
    with pytest.raises(InvalidRequest, match=allowed):
        Parameters.of({name: value})


@pytest.mark.parametrize("name", ["sequence_id", "sequence_start", "shared_memory_region", "classification"])
def test_what_is_not_offered_is_refused_only_where_it_is_asked_for(name: str) -> None:
    Parameters.of({name: 0})
    with pytest.raises(InvalidRequest, match="not offered"):
        Parameters.of({name: 1})
