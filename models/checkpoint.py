"""Safe loading of weights files: published Lightning checkpoints, bare state dicts and safetensors."""

import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from models.restoration import RestorationNetwork
from models.variants import VARIANTS, NetworkConfig, build

StateDict = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

CONTAINER_KEYS = ("ema", "params_ema", "state_dict", "params", "model", "weights")
"""Keys under which training tools store the state dict, averaged weights first."""

WRAPPER_PREFIXES = ("net.", "module.", "_orig_mod.")
"""Prefixes added to parameter names by the published Lightning module, data parallelism and `torch.compile`."""

UNUSED_CONVOLUTIONS = frozenset(
    f"{layer}{level}.weight" for layer in ("chnl_reduce", "reduce_noise_channel_") for level in (1, 2, 3)
)
"""Present in every published checkpoint, but unused in the forward pass."""

logger = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """Weights file that is unreadable or does not fit the network; the message is one sentence for a user."""


@dataclass(frozen=True)
class Weights:
    """Float32 tensors for one network configuration, with the skipped and zero-filled parameters."""

    state_dict: StateDict
    ignored: tuple[str, ...] = ()
    """Unused convolutions present in the file but not in the configuration."""
    absent: tuple[str, ...] = ()
    """Unused convolutions in the configuration but not in the file; filled with zeros."""


def load_network(path: Path, config: NetworkConfig) -> RestorationNetwork:
    """Build the network of `config` with the weights in `path`, in evaluation mode on the CPU; see `load_weights`."""
    weights = load_weights(path, config)
    with torch.device("meta"):  # random initial values would be overwritten
        network = build(config)
    network.to_empty(device="cpu")
    network.load_state_dict(weights.state_dict)
    return network.eval()


def load_weights(path: Path, config: NetworkConfig) -> Weights:
    """Load the weights in `path`, with the names and shapes of `config`.

    Raises `CheckpointError` if the file is unreadable, would run code when unpickled, or does not fit (the message
    names the first parameter that is missing, unexpected or of another shape).
    """
    state = _unwrap(_find_state_dict(_read(path), path))
    expected = shapes_of(config)
    absent = tuple(key for key in expected if key in UNUSED_CONVOLUTIONS and key not in state)
    ignored = tuple(key for key in state if key in UNUSED_CONVOLUTIONS and key not in expected)
    _check(state, expected, absent, ignored, path)
    for names, what in ((ignored, "ignored"), (absent, "filled with zeros")):
        if names:
            logger.info("%s: %s, because the network never runs them: %s", path, what, ", ".join(names))
    fitted = {
        key: torch.zeros(shape) if key in absent else state[key].to(torch.float32) for key, shape in expected.items()
    }
    return Weights(fitted, ignored, absent)


def variant_of(path: Path) -> str:
    """Return the name of the variant that the weights in `path` fit; raise `CheckpointError` if they fit none."""
    variant = _fitting_variant(_unwrap(_find_state_dict(_read(path), path)))
    if variant is None:
        raise CheckpointError(f"{path} fits no known variant ({', '.join(sorted(VARIANTS))})")
    return variant


def shapes_of(config: NetworkConfig) -> Shapes:
    """Return name -> shape of every parameter of the network of `config`, in the network's order."""
    with torch.device("meta"):
        return {key: tuple(tensor.shape) for key, tensor in build(config).state_dict().items()}


def _check(state: StateDict, expected: Shapes, absent: tuple[str, ...], ignored: tuple[str, ...], path: Path) -> None:
    problem = first_problem(state, expected, absent, ignored)
    if problem is not None:
        fitting = _fitting_variant(state)
        advice = f"; the file holds a {fitting} network" if fitting else ""
        raise CheckpointError(f"{path} does not fit the network: {problem}{advice}")


def first_problem(
    state: StateDict, expected: Shapes, absent: Collection[str] = (), ignored: Collection[str] = ()
) -> str | None:
    """Describe the first difference from the `expected` names and shapes, or return None.

    The names in `absent` may be missing, and those in `ignored` need not be expected.
    """
    for key, shape in expected.items():
        if key in absent:
            continue
        if key not in state:
            return f"{key} with shape {shape} is missing"
        found = tuple(state[key].shape)
        if found != shape:
            return f"{key} has shape {found}, the network has {shape}"
        if not state[key].is_floating_point():
            return f"{key} holds {state[key].dtype}, not floating-point numbers"
    for key in state:
        if key not in expected and key not in ignored:
            return f"{key} with shape {tuple(state[key].shape)} is not part of the network"
    return None


def _fitting_variant(state: StateDict) -> str | None:
    found = {key: tuple(tensor.shape) for key, tensor in state.items() if key not in UNUSED_CONVOLUTIONS}
    for name, config in VARIANTS.items():
        if found == {key: shape for key, shape in shapes_of(config).items() if key not in UNUSED_CONVOLUTIONS}:
            return name
    return None


def _read(path: Path) -> object:
    if not path.is_file():
        raise CheckpointError(f"weights file {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # warnings about foreign files; the error covers them
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # unpickling foreign bytes can raise anything
        raise CheckpointError(_explain(error, path)) from error


def _explain(error: Exception, path: Path) -> str:
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and refused:
        return (
            f"{path} holds more than tensors: it refers to {refused[1]}, which was not run; "
            "save only its state dict, preferably as safetensors"
        )
    reason = str(error).partition("\n")[0].partition(". ")[0]
    return f"{path} is truncated or not a weights file ({type(error).__name__}: {reason})"


def _find_state_dict(content: object, path: Path) -> StateDict:
    for key in CONTAINER_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds no state dict, found {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path} holds no state dict: {key!r} is {type(value).__name__}, not a tensor")
    return dict(content)


def _unwrap(state: StateDict) -> StateDict:
    for prefix in WRAPPER_PREFIXES * 2:  # twice: compiled and data-parallel wrappers nest in either order
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state
