"""The command line, killed in the middle: `python -m tests.killed_main WITHIN NTH AT MTH job '{...}'`.

WITHIN and AT are functions, as MODULE:NAME. SIGKILL comes where the NTH call of WITHIN calls AT for the MTH time.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from functools import reduce
from typing import Any

from jobs.__main__ import main


def _replace(name: str, around: Callable[..., Any]) -> None:
    """Let `around(real, ...)` be called in a function's place."""
    module, _, path = name.partition(":")
    *owners, last = path.split(".")
    owner = reduce(getattr, owners, importlib.import_module(module))
    real = getattr(owner, last)
    setattr(owner, last, lambda *given, **named: around(real, *given, **named))


def kill_at(within: str, nth: int, at: str, mth: int) -> None:
    """Have this process killed there."""
    calls, calls_inside, inside = 0, 0, False

    def entered(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        nonlocal calls, inside
        calls += 1
        inside = calls == nth
        try:
            return real(*given, **named)
        finally:
            inside = False

    def reached(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        nonlocal calls_inside
        calls_inside += inside
        if calls_inside == mth:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)

    _replace(within, entered)
    _replace(at, reached)


if __name__ == "__main__":
    _, within, nth, at, mth, *words = sys.argv
    kill_at(within, int(nth), at, int(mth))
    sys.exit(main(words))
