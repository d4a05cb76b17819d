"""What all tests of training share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Train with one thread: two that share a busy core wait for each other."""
    torch.set_num_threads(1)
