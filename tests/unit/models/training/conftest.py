"""Fixtures of all training tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Train with one thread, because two threads on a busy core wait for each other."""
    torch.set_num_threads(1)
