"""Tests of weights files: accepted formats, and refusals with their messages."""

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoint import UNUSED_CONVOLUTIONS, CheckpointError, load_network, load_weights, variant_of
from models.promptir import PromptIRConfig
from models.variants import build, variant

TINY = variant("promptir-tiny")
# 64 more channels in the coarsest prompt, because the published unused convolutions subtract 64.
TINY_WITH_UNUSED = replace(TINY, prompt_channels=(8, 16, 96), unused_convolutions=True)
TINY_WITHOUT_UNUSED = replace(TINY_WITH_UNUSED, unused_convolutions=False)

StateDict = dict[str, Tensor]


def random_state(config: PromptIRConfig = TINY) -> StateDict:
    return build(config).state_dict()


@pytest.fixture(scope="module")
def state() -> StateDict:
    return random_state()


def refusal(path: Path, config: PromptIRConfig = TINY) -> str:
    with pytest.raises(CheckpointError) as error:
        load_weights(path, config)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


LAYOUTS: dict[str, Callable[[StateDict], object]] = {
    "bare": lambda state: state,
    "lightning": lambda state: {"epoch": 3, "state_dict": {f"net.{key}": value for key, value in state.items()}},
    "params": lambda state: {"params": state},
    "ema beside other weights": lambda state: {
        "model": {key: value + 1 for key, value in state.items()},
        "ema": state,
        "step": 7,
    },
    "data parallel and compiled": lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
    "compiled and data parallel": lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("save", [torch.save, save_legacy])
def test_every_layout_gives_the_same_weights(
    layout: str, save: Callable[[object, Path], None], state: StateDict, tmp_path: Path
) -> None:
    save(LAYOUTS[layout](state), tmp_path / "weights.ckpt")
    loaded = load_weights(tmp_path / "weights.ckpt", TINY).state_dict
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_safetensors_are_read(state: StateDict, tmp_path: Path) -> None:
    save_file(state, tmp_path / "weights.safetensors")
    loaded = load_weights(tmp_path / "weights.safetensors", TINY).state_dict
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_half_precision_weights_become_float32(state: StateDict, tmp_path: Path) -> None:
    torch.save({key: value.half() for key, value in state.items()}, tmp_path / "half.pt")
    loaded = load_weights(tmp_path / "half.pt", TINY).state_dict
    assert all(value.dtype == torch.float32 for value in loaded.values())


def test_the_loaded_network_computes_what_the_saved_one_did(tmp_path: Path) -> None:
    network = build(TINY).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    loaded = load_network(tmp_path / "weights.pt", TINY)
    image = torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        assert torch.equal(loaded(image), network(image))
    assert not loaded.training


def test_the_network_outlives_its_file(state: StateDict, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    network = load_network(path, TINY)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(network.state_dict()["output.weight"], state["output.weight"])


def test_unused_convolutions_of_a_file_are_accepted_and_named(tmp_path: Path) -> None:
    torch.save(random_state(TINY_WITH_UNUSED), tmp_path / "published.pt")
    weights = load_weights(tmp_path / "published.pt", TINY_WITHOUT_UNUSED)
    assert set(weights.ignored) == UNUSED_CONVOLUTIONS
    assert not UNUSED_CONVOLUTIONS & set(weights.state_dict)


def test_a_file_without_unused_convolutions_is_accepted_by_a_network_that_has_them(tmp_path: Path) -> None:
    torch.save(random_state(TINY_WITHOUT_UNUSED), tmp_path / "stripped.pt")
    assert set(load_weights(tmp_path / "stripped.pt", TINY_WITH_UNUSED).absent) == UNUSED_CONVOLUTIONS
    network = load_network(tmp_path / "stripped.pt", TINY_WITH_UNUSED)
    assert not network.chnl_reduce1.weight.any()


def test_a_wrong_shape_is_named_with_both_shapes_and_the_variant_that_fits(tmp_path: Path) -> None:
    torch.save(random_state(variant("promptir-compact")), tmp_path / "compact.pt")
    assert refusal(tmp_path / "compact.pt").endswith(
        "patch_embed.proj.weight has shape (16, 3, 3, 3), the network has (8, 3, 3, 3); "
        "the file holds a promptir-compact network"
    )


def test_the_first_of_several_wrong_shapes_is_named(state: StateDict, tmp_path: Path) -> None:
    broken = state | {"output.weight": torch.zeros(1), "latent.0.attn.temperature": torch.zeros(2, 1, 1)}
    torch.save(broken, tmp_path / "broken.pt")
    assert "latent.0.attn.temperature has shape (2, 1, 1), the network has (8, 1, 1)" in refusal(tmp_path / "broken.pt")


def test_a_missing_parameter_is_named(state: StateDict, tmp_path: Path) -> None:
    torch.save({key: value for key, value in state.items() if key != "output.weight"}, tmp_path / "short.pt")
    assert refusal(tmp_path / "short.pt").endswith("output.weight with shape (3, 16, 3, 3) is missing")


def test_an_unexpected_parameter_is_named(state: StateDict, tmp_path: Path) -> None:
    torch.save(state | {"extra.bias": torch.zeros(4)}, tmp_path / "long.pt")
    assert refusal(tmp_path / "long.pt").endswith("extra.bias with shape (4,) is not part of the network")


def test_whole_numbers_are_no_weights(state: StateDict, tmp_path: Path) -> None:
    torch.save(state | {"output.weight": torch.zeros(3, 16, 3, 3, dtype=torch.int8)}, tmp_path / "quantised.pt")
    assert "output.weight holds torch.int8" in refusal(tmp_path / "quantised.pt")


class Malicious:
    """Object that creates the file `witness` if it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("save", [torch.save, save_legacy])
def test_a_malicious_file_is_refused_and_runs_nothing(
    save: Callable[[object, Path], None], state: StateDict, tmp_path: Path
) -> None:
    save({"state_dict": state, "callbacks": Malicious(tmp_path / "witness")}, tmp_path / "evil.ckpt")
    assert "it refers to posix.mkdir, which was not run" in refusal(tmp_path / "evil.ckpt")
    assert not (tmp_path / "witness").exists()


def test_a_malicious_bare_pickle_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Malicious(tmp_path / "witness")))
    refusal(tmp_path / "evil.pt")
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_refused(suffix: str, share: float, state: StateDict, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "is truncated or not a weights file" in refusal(path)


@pytest.mark.parametrize("content", [b"hello world\n", b"\xff\xd8\xff\xe0" + bytes(200), b"PK\x05\x06" + bytes(18)])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.pth").write_bytes(content)
    assert "is truncated or not a weights file" in refusal(tmp_path / "photo.pth")


@pytest.mark.parametrize(
    ("content", "what"),
    [([1, 2], "found list"), ({}, "found dict"), ({"epoch": 3}, "'epoch' is int"), ({1: torch.zeros(1)}, "1 is")],
)
def test_a_file_without_a_state_dict_is_refused(content: object, what: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    assert f"holds no state dict: {what}" in refusal(tmp_path / "other.pt").replace("dict, found", "dict: found")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.pt").endswith("does not exist")


def test_a_weights_file_tells_its_variant(state: StateDict, tmp_path: Path) -> None:
    save_file(state, tmp_path / "weights.safetensors")
    torch.save({"state_dict": {f"net.{key}": value for key, value in state.items()}}, tmp_path / "published.ckpt")
    assert [variant_of(path) for path in sorted(tmp_path.iterdir())] == ["promptir-tiny"] * 2


def test_weights_of_no_known_variant_are_refused_with_the_known_ones(state: StateDict, tmp_path: Path) -> None:
    save_file({"output.weight": state["output.weight"]}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"fits no known variant \(promptir, promptir-compact, "):
        variant_of(tmp_path / "weights.safetensors")
