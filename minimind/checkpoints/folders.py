"""The checkpoint folders of a run: which there are, which is the newest that is sound, which may go."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from minimind.checkpoints.manifest import CheckpointError, sync, verify
from minimind.language import say

_FOLDER = re.compile(r"step_(\d{8,})(\.replaced)?")


def newest(root: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint below `root` that verifies (None if there is none), and a note for each skipped one."""
    skipped: list[str] = []
    for _, folder in reversed(_folders(root)):
        try:
            verify(folder)
        except CheckpointError as error:
            skipped.append(say("skipped {name}: {error}", name=folder.name, error=error))
            continue
        return folder, skipped
    return None, skipped


def folder_of(root: Path, step: int) -> Path:
    """Where the checkpoint of a step lies below `root`, whether there is one or not."""
    return root / f"step_{step:08d}"


def steps(root: Path) -> list[int]:
    """The steps that have a checkpoint folder below `root`, ascending; whether they verify is not looked at."""
    return sorted({step for step, _ in _folders(root)})


def prune(root: Path, keep_last: int, best_steps: Collection[int] = ()) -> list[Path]:
    """Removes all checkpoints but the last `keep_last` and those of `best_steps`, and what a kill left half written.

    Those newer than the newest that verifies are damaged: they do not count and stay, in case somebody can mend them.
    keep_last: at least 1. Returns what was removed. For the holder of the run's lock only.
    """
    for stale in root.glob("step_*.partial"):
        shutil.rmtree(stale)
    for aside in root.glob("step_*.replaced"):
        folder = aside.with_suffix("")
        if _is_sound(folder):
            shutil.rmtree(aside)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
    sound, _ = newest(root)
    folders = [folder for _, folder in _folders(root)]
    counted = folders[: folders.index(sound) + 1] if sound else []
    best = {folder_of(root, step) for step in best_steps}
    removed = [folder for folder in counted[: max(0, len(counted) - keep_last)] if folder not in best]
    for folder in removed:
        # Renamed first, so that a kill in between leaves nothing that looks like a damaged checkpoint.
        rubbish = folder.with_name(f"{folder.name}.partial")
        folder.rename(rubbish)
        shutil.rmtree(rubbish)
    return removed


def publish(partial: Path, folder: Path) -> None:
    """Gives a complete folder its name. One that has the name already stands aside until the new one is in place."""
    aside = folder.with_name(f"{folder.name}.replaced")
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    partial.rename(folder)
    sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _is_sound(folder: Path) -> bool:
    try:
        verify(folder)
    except CheckpointError:
        return False
    return True


def _folders(root: Path) -> list[tuple[int, Path]]:
    """Checkpoint folders by step, ascending; `.replaced`, left by a kill in the middle of publish, before its step."""
    if not root.is_dir():
        return []
    found = ((match, path) for path in root.iterdir() if (match := _FOLDER.fullmatch(path.name)))
    ordered = sorted((int(match[1]), match[2] is None, path) for match, path in found)
    return [(step, path) for step, _, path in ordered]
