"""What every test shares: one torch thread, and a home of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # on two cores a thread pool costs more than it gives: 24 s instead of 0.4 s was seen


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MINIMIND_HOME for one test."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("MINIMIND_HOME", str(path))
    return path
