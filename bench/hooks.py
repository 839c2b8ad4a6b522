"""Hooks for training that nobody watches."""

from __future__ import annotations

from minimind.loop import TrainState


class NoHooks:
    """Logs, validates and saves nothing; a note is an error."""

    def log(self, state: TrainState, metrics: dict[str, float]) -> None: ...

    def note(self, kind: str, text: str, **details: object) -> None:
        raise AssertionError(text)

    def evaluate(self, state: TrainState) -> None: ...

    def save(self, state: TrainState) -> None: ...

    def should_stop(self, state: TrainState) -> bool:
        return False
