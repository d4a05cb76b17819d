"""Tests of shape profiles: their syntax and the limit on tensor elements."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from export.profiles import (
    DEFAULT_PROFILES,
    ELEMENT_LIMIT,
    ProfileError,
    WidestTensor,
    check_profiles,
    parse_profile,
    widest_tensor,
)
from models.artifact import MODEL_FILE
from models.plan_manifest import ShapeProfile
from models.restoration import RestorationNetwork

PAPER_CHANNELS = 512


def a_graph(channels: int, *, known: bool = True) -> onnx.ModelProto:
    """Build a graph that expands the image to `channels` channels and sums them."""
    axes = ["n", 3, "h", "w"]
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["wide"], name="/widen"),
        helper.make_node("ReduceMax", ["wide"], ["narrow"], axes=[1], keepdims=1, name="/narrow"),
        helper.make_node("Add" if known else "Unheard", ["narrow", "image"], ["restored"], domain="" if known else "x"),
    ]
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [channels, 3, 1, 1], [0.0] * channels * 3)
    image, restored = (helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in ("image", "restored"))
    graph = helper.make_graph(nodes, "g", [image], [restored], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("x", 1)])


@pytest.fixture
def paper_like(tmp_path: Path) -> Path:
    onnx.save(a_graph(PAPER_CHANNELS), tmp_path / MODEL_FILE)
    return tmp_path / MODEL_FILE


def profile_up_to(batch: int, height: int, width: int) -> ShapeProfile:
    return ShapeProfile(min=(1, 8, 8), opt=(1, 64, 64), max=(batch, height, width))


def test_a_written_profile_is_read_and_written_again() -> None:
    profile = parse_profile("1x64x64:1x512x512:4x1024x768")
    assert profile == ShapeProfile(min=(1, 64, 64), opt=(1, 512, 512), max=(4, 1024, 768))
    assert parse_profile(str(profile)) == profile


@pytest.mark.parametrize(
    "text", ["", "1x64x64", "1x64x64:1x64x64", "1x64:1x64:1x64", "1x3x64x64:1x3x64x64:1x3x64x64", "axbxc:1x8x8:1x8x8"]
)
def test_a_profile_of_another_form_gets_an_example(text: str) -> None:
    with pytest.raises(ProfileError, match="profile "):
        parse_profile(text)


@pytest.mark.parametrize("text", ["1x64x64:1x32x64:1x64x64", "2x8x8:1x8x8:4x8x8"])
def test_a_profile_out_of_order_is_refused(text: str) -> None:
    with pytest.raises(ProfileError, match="min <= opt <= max"):
        parse_profile(text)


def test_a_size_of_nothing_is_refused() -> None:
    with pytest.raises(ProfileError, match="greater than 0"):
        parse_profile("0x8x8:1x8x8:1x8x8")


def test_the_widest_tensor_is_found_and_named() -> None:
    graph = a_graph(channels=17)
    assert widest_tensor(graph, (2, 16, 24)) == WidestTensor("wide", (2, 17, 16, 24))
    assert graph == a_graph(channels=17)


def test_the_widest_tensor_of_the_network_is_the_feed_forward_at_full_resolution(
    network: RestorationNetwork, artifact: Path
) -> None:
    widest = widest_tensor(onnx.load(artifact / MODEL_FILE), (3, 128, 200))
    hidden = network.refinement[0].ffn.hidden
    assert widest.shape[0] == 3
    assert widest.shape[1] in (2 * hidden, 2 * hidden + (-hidden % 8) * 2)  # as published, or padded to whole rows
    assert widest.shape[2:] == (128, 200)


def test_a_tensor_of_unknown_size_is_not_passed_over() -> None:
    with pytest.raises(ProfileError, match="the size of tensor 'restored' cannot be inferred from the input"):
        widest_tensor(a_graph(channels=4, known=False), (1, 8, 8))


def test_the_last_profile_within_the_limit_is_accepted(paper_like: Path) -> None:
    assert PAPER_CHANNELS * 2040 * 2048 <= ELEMENT_LIMIT
    check_profiles(paper_like, [profile_up_to(1, 2040, 2048), profile_up_to(3, 1024, 1024)])


def test_the_default_profiles_are_within_the_limit_of_the_papers_network(paper_like: Path) -> None:
    check_profiles(paper_like, DEFAULT_PROFILES)


def test_one_element_too_many_is_refused_with_the_largest_allowed_shapes(paper_like: Path) -> None:
    with pytest.raises(ProfileError) as refusal:
        check_profiles(paper_like, [profile_up_to(4, 1024, 1024)])
    assert str(refusal.value) == (
        "profile 1x8x8:1x64x64:4x1024x1024 is too large: tensor 'wide' of 4x512x1024x1024 has 2,147,483,648 elements "
        "and TensorRT indexes at most 2,147,483,647; the largest allowed shape is 4x1016x1016 or 3x1024x1024"
    )
    check_profiles(paper_like, [profile_up_to(4, 1016, 1016), profile_up_to(3, 1024, 1024)])


def test_where_even_one_image_is_too_large_only_a_smaller_size_is_offered(paper_like: Path) -> None:
    with pytest.raises(ProfileError, match=r"the largest allowed shape is 1x2040x2040$"):
        check_profiles(paper_like, [profile_up_to(1, 2048, 2048)])


def test_sides_that_the_network_cannot_halve_are_refused(paper_like: Path) -> None:
    with pytest.raises(ProfileError, match="height and width must be multiples of 8"):
        check_profiles(paper_like, [profile_up_to(1, 68, 64)])


def test_no_profile_is_too_few(paper_like: Path) -> None:
    with pytest.raises(ProfileError, match="at least one"):
        check_profiles(paper_like, [])
