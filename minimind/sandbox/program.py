"""The process in which a function runs that may do anything. child.py starts it, by its path.

It reads a line of JSON for each call and writes one. Its answers leave by a pipe that the function does not know of:
what that prints goes to the standard error stream. It imports nothing but the standard library, for all that it imports
counts towards the limit of memory, and a user's module may have any name.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, cast

Function = Callable[[list[dict[str, Any]]], object]
"""Called with things to judge or to answer; it gives a list with something for each."""

_LONGEST = 500
"""How many characters of an error are told."""
_MOST_NAMES = 20


def main(folder: str, function: str, memory_mb: str, import_s: str, gives: str) -> None:
    """Answer calls until there are no more. gives: what the function does, of `_READERS`."""
    _limit(resource.RLIMIT_AS, int(memory_mb) * 2**20)
    _limit(resource.RLIMIT_CORE, 0)
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.path.insert(0, folder)
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.stack_size(2**18)
    threading.Thread(target=_listen, args=(calls, waiting), daemon=True).start()
    threading.stack_size(0)
    _allow(int(import_s))
    found = _found(function)
    if isinstance(found, Mapping):
        _tell(answers, found)
        return
    _tell(answers, {"ready": True})
    while True:
        call = json.loads(waiting.get())
        _allow(call["cpu_s"])
        _tell(answers, _given(found, call["items"], _READERS[gives]))


def _listen(calls: BinaryIO, waiting: queue.SimpleQueue[bytes]) -> None:
    """Hand on each call. Where whoever calls is gone, end the whole group: user code may hang, or have children."""
    for line in calls:
        waiting.put(line)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _limit(kind: int, most: int) -> None:
    """Lower a limit, where the system lets it be lowered (macOS has none of memory)."""
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (most, most))


def _allow(cpu_s: int) -> None:
    """So many seconds of processor time from now on; the system ends a process that takes more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = math.ceil(used.ru_utime + used.ru_stime) + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _found(name: str) -> Function | dict[str, Any]:
    """The function; what to tell where there is none."""
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if f"{module_name}.".startswith(f"{error.name}."):
            return {"missing": "module"}
        return {"broken": _words(error)}
    except BaseException as error:  # noqa: BLE001  # user code: whatever it raises is told
        return {"broken": _words(error)}
    function = getattr(module, function_name, None)
    if callable(function):
        return cast(Function, function)
    own = [
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module_name and not key.startswith("_")
    ]
    return {"missing": "function", "names": own[:_MOST_NAMES], "file": getattr(module, "__file__", None) or ""}


def _given(
    function: Function, items: list[dict[str, Any]], read: Callable[[list[object]], dict[str, Any]]
) -> dict[str, Any]:
    """What the function gives for each of a call's items; what to tell where it gives something else."""
    count = len(items)  # a function may take them out of its list
    try:
        given = function(items)
        given = given.tolist() if hasattr(given, "tolist") else given
        if not isinstance(given, (list, tuple)):
            return {"type": type(given).__name__}
        if len(given) != count:
            return {"count": len(given)}
        return read(list(given))
    except BaseException as error:  # noqa: BLE001  # user code: whatever it raises is told
        return {"raised": _words(error)}


def _scores(given: list[object]) -> dict[str, Any]:
    """Numbers, None for each that is no finite one, with what the first of those is."""
    scores = [_number(value) for value in given]
    wrong = next((value for value, score in zip(given, scores, strict=True) if score is None), None)
    return {"scores": scores, "wrong": _short(wrong)}


def _texts(given: list[object]) -> dict[str, Any]:
    """Texts, each with whether it is an answer; {"error": text} is none."""
    pairs = [(False, value["error"]) if isinstance(value, dict) else (True, value) for value in given]
    wrong = next((value for _, value in pairs if not isinstance(value, str)), None)
    return {"type": type(wrong).__name__} if wrong is not None else {"texts": pairs}


_READERS = {"scores": _scores, "texts": _texts}


def _number(value: object) -> float | None:
    """A finite number, of Python, NumPy or PyTorch, as a float."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # of a user's class, which may raise anything; that there is a value is told still
        text = type(value).__name__
    return text[:_LONGEST]


def _words(error: BaseException) -> str:
    """An error in one line: what it is, and where in the user's code."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # of a user's class, which may raise anything; that there was an error is told still
        text = ""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(f"{sys.path[0]}{os.sep}")]
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {text[:_LONGEST]}{where}" if text else f"{type(error).__name__}{where}"


def _tell(answers: BinaryIO, content: Mapping[str, Any]) -> None:
    answers.write(json.dumps(content).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
