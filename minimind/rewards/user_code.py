"""A user's reward function, called in a process of its own (`minimind.sandbox`): whatever it does, training goes on and
says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minimind.language import say
from minimind.rewards.terms import Attempt, Python, Unjudged
from minimind.sandbox.child import Child, FailedError, Limits

IMPORT_S = 60
"""So long a module may take to be imported."""


class UserCode(Child):
    """The function that a term names. folder: where modules are looked for, before PYTHONPATH.

    Raises ValueError where there is no such folder, module or function, or where it cannot be imported.
    """

    def __init__(self, term: Python, folder: Path) -> None:
        limits = Limits(term.timeout_s, term.cpu_s, term.memory_mb, IMPORT_S)
        super().__init__(term.function, folder := folder.absolute(), limits, "scores")
        self._memory_mb = term.memory_mb
        if not folder.is_dir():
            raise ValueError(self._about(say("{folder} is no folder", folder=folder)))
        try:
            self.start()
        except FailedError as failure:
            raise ValueError(self._about(str(failure))) from None

    def scores(self, attempts: Sequence[Attempt]) -> list[float]:
        """What the function says of each, Unjudged where it failed."""
        if not attempts:
            return []
        try:
            reply = self.call([_described(attempt) for attempt in attempts], 1_000_000 + 64 * len(attempts))
        except FailedError as failure:
            return [Unjudged(self._about(str(failure)))] * len(attempts)
        if len(reply.get("scores", ())) == len(attempts):
            wrong = say("it gave {value} for an answer; a finite number is expected", value=reply["wrong"])
            failed = Unjudged(self._about(wrong))
            return [failed if score is None else float(score) for score in reply["scores"]]
        return [Unjudged(self._about(self._problem(reply, len(attempts))))] * len(attempts)

    def _about(self, problem: str) -> str:
        return say("function = {function!r}: {problem}", function=self._function, problem=problem)

    def _problem(self, reply: dict[str, Any], count: int) -> str:
        """Why there are no scores in a reply, in words."""
        if "raised" in reply:
            problem = say("it raised {error}", error=reply["raised"])
            if reply["raised"].startswith("MemoryError"):
                problem += say("; it may use {count} MiB (memory_mb)", count=self._memory_mb)
            return problem
        if "count" in reply:
            return say("it gave {given} scores for {count} answers", given=reply["count"], count=count)
        return say("it gave a value of the type {type}; a list of numbers is expected", type=reply.get("type"))


def _described(attempt: Attempt) -> dict[str, Any]:
    """An attempt as the function sees it."""
    answer = attempt.answer
    return {
        "prompt": answer.prompt,
        "answer": answer.text,
        "thinking": answer.thinking,
        "reference": attempt.reference,
        "finish": answer.finish,
        "calls": [{"name": name, "arguments": dict(arguments)} for name, arguments in answer.calls],
        "tokens": attempt.tokens,
        "room": attempt.room,
    }
