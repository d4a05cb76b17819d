"""Tests of the named networks: sizes and lookup by name."""

import math
from dataclasses import FrozenInstanceError

import pytest
import torch

from models.checkpoint import shapes_of
from models.restoration import WithFindings
from models.variants import VARIANTS, build, variant

PARAMETERS = {
    "promptir": 35_592_263,
    "promptir-compact": 2_169_646,
    "promptir-compact-without-prompts": 934_523,
    "promptir-tiny": 345_878,
    "promptnaf": 2_389_107,
    "promptnaf-shallow": 2_091_395,
    "promptnaf-shallow-without-prompts": 1_089_764,
    "promptnaf-wide": 3_429_963,
    "promptnaf-slim": 1_295_127,
    "promptnaf-tiny": 169_715,
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_its_size(name: str) -> None:
    assert sum(math.prod(shape) for shape in shapes_of(variant(name)).values()) == PARAMETERS[name]


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "promptir"])
def test_every_variant_restores_an_image_and_tells_its_findings(name: str) -> None:
    network = build(variant(name)).eval()
    with torch.inference_mode():
        restored, *findings = WithFindings(network)(torch.rand(2, 3, 24, 40))
    assert restored.shape == (2, 3, 24, 40)
    expected = [] if network.findings_shape is None else [(2, *network.findings_shape)]
    assert [tuple(found.shape) for found in findings] == expected


def test_an_unknown_variant_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=f"'promptir-xxl'; known variants: {', '.join(sorted(VARIANTS))}$"):
        variant("promptir-xxl")


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        variant("promptir").dim = 1  # type: ignore[misc]
