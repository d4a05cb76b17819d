"""Fixtures with golden networks, whose weights derive from parameter names; and one without garbage collection."""

import gc
import math
import os
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest

if TYPE_CHECKING:
    from models.restoration import RestorationNetwork

# By default Hypothesis fails examples of more than 200 ms, which a busy machine may take: tests of time measure it
# themselves. And it draws other examples in each run, so that one that changes nothing may fail; to look for new ones,
# set HYPOTHESIS_PROFILE=exploring.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.register_profile("exploring", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


def drawn_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Compute the weight that tests/golden/README.md prescribes for the parameter `name`."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    n = rng.standard_normal(shape)
    if name.endswith("temperature") or (".norm" in name and name.endswith("weight")):
        weight = 1 + 0.1 * n
    elif name.endswith("bias"):
        weight = 0.05 * n
    elif "prompt_param" in name:
        weight = rng.random(shape)
    else:
        weight = n * 0.7 / math.sqrt(math.prod(shape[1:]))
    return weight.astype(np.float32)


@pytest.fixture(scope="session")
def drawn_network() -> "Callable[[str], RestorationNetwork]":
    """Build the network of a variant with golden weights."""
    torch = pytest.importorskip("torch", reason="makes the network with torch (extra `export`)")
    from models.checkpoint import shapes_of
    from models.restoration import RestorationNetwork
    from models.variants import build, variant

    def draw(name: str) -> RestorationNetwork:
        config = variant(name)
        with torch.device("meta"):
            network = build(config)
        weights = {name: torch.from_numpy(drawn_weight(name, shape)) for name, shape in shapes_of(config).items()}
        network.load_state_dict(weights, assign=True)
        return network.eval()

    return draw


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Collect no garbage meanwhile: what is gone then was not part of a cycle."""
    gc.disable()
    yield
    gc.enable()
