from __future__ import annotations

from pathlib import Path

import pytest
import torch

import jobs.stages
from jobs import paths
from jobs.fit import needs
from jobs.fit.needs import Needs
from minimind.memory.plan import PLATFORMS
from minimind.training.recipe import Recipe
from tests.plans import Case

CASE = Case(width=16)
CPU, LINUX, WSL2, WINDOWS = (PLATFORMS[name] for name in ("cpu", "linux", "wsl2", "windows"))


def never() -> Recipe:
    pytest.fail("traced")


def test_a_step_is_traced_once_for_its_shape_and_rules() -> None:
    needs = Needs()
    assert not needs.has("sft", CASE.shape, WSL2)
    found = needs.of("sft", CASE.shape, WSL2, CASE.step)
    assert needs.of("sft", CASE.shape, WINDOWS, never) is found, "their allocator is the same"
    assert needs.has("sft", CASE.shape, WSL2)
    for kind, platform in (("dpo", WSL2), ("sft", CPU), ("sft", LINUX)):
        assert not needs.has(kind, CASE.shape, platform)


def test_what_is_known_is_remembered_in_the_cache(home: Path) -> None:
    found = Needs.cached().of("sft", CASE.shape, CPU, CASE.step)
    assert Needs.cached().of("sft", CASE.shape, CPU, never) == found
    (file,) = (paths.cache() / "plans").iterdir()
    file.write_text("{cut off")
    assert Needs.cached().of("sft", CASE.shape, CPU, CASE.step) == found


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    needs = Needs(tmp_path / "file" / "plans.json")
    assert needs.of("sft", CASE.shape, CPU, CASE.step).peak_bytes > 0


def test_what_others_have_traced_meanwhile_is_kept(home: Path) -> None:
    one, other = Needs.cached(), Needs.cached()
    one.of("sft", CASE.shape, CPU, CASE.step)
    other.of("sft", CASE.shape, WSL2, CASE.step)
    assert all(Needs.cached().has("sft", CASE.shape, platform) for platform in (CPU, WSL2))


def test_a_cpu_takes_scratch_space_for_each_thread(home: Path) -> None:
    needs, threads = Needs(), torch.get_num_threads()
    needs.of("sft", CASE.shape, CPU, CASE.step)
    needs.of("sft", CASE.shape, WSL2, CASE.step)
    torch.set_num_threads(threads + 1)
    try:
        assert not needs.has("sft", CASE.shape, CPU)
        assert needs.has("sft", CASE.shape, WSL2)
    finally:
        torch.set_num_threads(threads)


def test_what_stages_share_decides_a_trace(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Needs.cached().of("sft", CASE.shape, CPU, CASE.step)
    (tmp_path / "recipe.py").write_text("edited")
    monkeypatch.setattr(jobs.stages, "__path__", [str(tmp_path)])
    needs._code.cache_clear()
    try:
        assert not Needs.cached().has("sft", CASE.shape, CPU)
    finally:
        needs._code.cache_clear()
