"""Tests of the command `promptir-train`."""

import builtins
from typing import Any

import pytest

from models import train_command


@pytest.mark.parametrize(("missing", "needed"), [("models.training", "a checkout"), ("skimage", "the extra `train`")])
def test_an_installation_without_training_says_what_it_lacks(
    missing: str, needed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = builtins.__import__

    def importing(name: str, *rest: Any) -> Any:
        if name == "models.training.cli":
            raise ModuleNotFoundError(name=missing)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importing)
    assert train_command.main() == 1
    assert needed in capsys.readouterr().err
