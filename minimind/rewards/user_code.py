"""A user's reward function, called in a process of its own: whatever it does, training goes on and says so.

The process (user_process.py) is started once and kept. Calls and scores are lines of JSON over pipes that user code
does not know. One that takes too long is killed with all that it has started, and the next call starts a new one.
There are no signals but the one that kills, and no threads here, so it works in any thread.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from minimind.config import listed, near
from minimind.language import say
from minimind.rewards.terms import Attempt, Python, Unjudged

IMPORT_S = 60
"""So long a module may take to be imported."""

_PROGRAM = Path(__file__).with_name("user_process.py")
_MOST_PRINTED = 4096
"""How many bytes of what user code prints are kept: the last ones."""
_MOST_TOLD = 200
_MOST_NAMES = 20
_AT_ONCE = 65_536
_END_S = 5.0


class _FailedError(Exception):
    """A call without scores, with why in words. Nobody outside this module meets it."""


class UserCode:
    """The function that a term names. folder: where modules are looked for, before PYTHONPATH.

    Raises ValueError where there is no such folder, module or function, or where it cannot be imported.
    """

    def __init__(self, term: Python, folder: Path) -> None:
        self._term, self._folder = term, folder.absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._printed = b""
        if not self._folder.is_dir():
            raise ValueError(self._about(say("{folder} is no folder", folder=self._folder)))
        try:
            self._start()
        except _FailedError as failure:
            raise ValueError(self._about(str(failure))) from None

    def scores(self, attempts: Sequence[Attempt]) -> list[float]:
        """What the function says of each, Unjudged where it failed."""
        if not attempts:
            return []
        try:
            return self._scores(attempts)
        except _FailedError as failure:
            return [Unjudged(self._about(str(failure)))] * len(attempts)

    def close(self) -> None:
        """Ends the process and what it has started. Closing twice is harmless."""
        process, self._process = self._process, None
        if process is None:
            return
        # If it has ended, its number was free for a moment at most, and no other group has it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _about(self, problem: str) -> str:
        return say("function = {function!r}: {problem}", function=self._term.function, problem=problem)

    def _scores(self, attempts: Sequence[Attempt]) -> list[float]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._start()
        call = {"attempts": [_described(attempt) for attempt in attempts], "cpu_s": self._term.cpu_s}
        # JSON may hold NaN here: Python writes it and Python reads it.
        reply = self._answer(json.dumps(call).encode() + b"\n", self._term.timeout_s, 1_000_000 + 64 * len(attempts))
        if len(reply.get("scores", ())) == len(attempts):
            wrong = say("it gave {value} for an answer; a finite number is expected", value=reply["wrong"])
            failed = Unjudged(self._about(wrong))
            return [failed if score is None else float(score) for score in reply["scores"]]
        if "raised" in reply:
            problem = say("it raised {error}", error=reply["raised"])
            if reply["raised"].startswith("MemoryError"):
                problem += say("; it may use {count} MiB (memory_mb)", count=self._term.memory_mb)
            raise _FailedError(problem)
        if "count" in reply:
            raise _FailedError(
                say("it gave {given} scores for {count} answers", given=reply["count"], count=len(attempts))
            )
        raise _FailedError(
            say("it gave a value of the type {type}; a list of numbers is expected", type=reply.get("type"))
        )

    def _start(self) -> None:
        """Start the process, and wait until it has the function. Raises _FailedError, and leaves none, without."""
        arguments = (str(self._folder), self._term.function, str(self._term.memory_mb), str(IMPORT_S))
        # Each thread of a library for products of matrices takes tens of MB of address space.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        try:
            self._process = subprocess.Popen(
                # -P: its own folder, with modules of ours, is none of the user's.
                [sys.executable, "-u", "-P", str(_PROGRAM), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=self._folder,
                env=threads | os.environ | {"PYTHONIOENCODING": "utf-8:backslashreplace"},
                start_new_session=True,
            )
        except OSError as error:
            raise _FailedError(say("its process cannot be started: {error}", error=error)) from None
        for pipe in _pipes(self._process):
            os.set_blocking(pipe.fileno(), False)
        ready = self._answer(b"", IMPORT_S, 1_000_000)
        if not ready.get("ready"):
            self.close()
            raise _FailedError(self._not_found(ready))

    def _not_found(self, reply: Mapping[str, Any]) -> str:
        """Why there is no function, in words."""
        module, _, function = self._term.function.partition(":")
        if reply.get("missing") == "module":
            names = _modules(self._folder)
            return say(
                "there is no module {name!r} in {folder} or PYTHONPATH{near}; modules there: {names}",
                name=module,
                folder=self._folder,
                near=near(module, names),
                names=listed(names),
            )
        if reply.get("missing") == "function":
            return say(
                "{file} has no function {name!r}{near}; functions there: {names}",
                file=reply["file"] or module,
                name=function,
                near=near(function, reply["names"]),
                names=listed(reply["names"]),
            )
        return say("the module cannot be imported: {error}", error=reply.get("broken"))

    def _answer(self, call: bytes, timeout_s: float, most_bytes: int) -> dict[str, Any]:
        """What the process answers to a call, b"" for what it says first.

        Raises _FailedError where no answer comes in time or at all. Whatever is raised, the process is ended: an answer
        that comes later would be taken for that of the next call.
        """
        if self._process is None:
            raise TypeError("a call without a process")
        try:
            return _read(self._line(self._process, call, timeout_s, most_bytes))
        except BaseException:
            self.close()
            raise

    def _line(self, process: subprocess.Popen[bytes], call: bytes, timeout_s: float, most_bytes: int) -> bytes:
        """Write a call and read a line, while what user code prints is read and mostly dropped."""
        calls, answers, printed = _pipes(process)
        self._printed = b""
        deadline = time.monotonic() + timeout_s
        rest, answer = memoryview(call), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(answers, selectors.EVENT_READ)
            selector.register(printed, selectors.EVENT_READ)
            if rest:
                selector.register(calls, selectors.EVENT_WRITE)
            while not answer.endswith(b"\n"):
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise _FailedError(say("it took more than {seconds:g} s", seconds=timeout_s))
                for key, _ in selector.select(left_s):
                    if key.fileobj is calls:
                        try:
                            rest = rest[os.write(calls.fileno(), rest[:_AT_ONCE]) :]
                        except BrokenPipeError:
                            rest = rest[:0]  # it has ended, which the other pipe says
                        if not rest:
                            selector.unregister(calls)
                    elif key.fileobj is printed:
                        if not self._keep_printed(printed):
                            selector.unregister(printed)
                    else:
                        piece = os.read(answers.fileno(), _AT_ONCE)
                        answer += piece
                        if not piece or len(answer) > most_bytes:
                            raise _FailedError(self._end_of(process, printed))
        return bytes(answer)

    def _keep_printed(self, printed: IO[bytes]) -> int:
        """Read some of what was printed; how many bytes, 0 at the end."""
        piece = os.read(printed.fileno(), _AT_ONCE)
        self._printed = (self._printed + piece)[-_MOST_PRINTED:]
        return len(piece)

    def _end_of(self, process: subprocess.Popen[bytes], printed: IO[bytes]) -> str:
        """How a process ended that answers no more, in words."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        with suppress(BlockingIOError):
            for _ in range(100):  # what it started may print without end
                if not self._keep_printed(printed):
                    break
        code = process.returncode
        if code is None:
            return say("it wrote into the pipe of its process's answers, or closed it")
        if code == -signal.SIGXCPU:
            return say("it took more than {seconds:g} s of processor time (cpu_s)", seconds=self._term.cpu_s)
        how = say("signal {name}", name=_signal_name(-code)) if code < 0 else say("exit code {code}", code=code)
        lines = self._printed.decode("utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if not last:
            return say("its process ended ({how})", how=how)
        return say("its process ended ({how}), and had printed: {last}", how=how, last=last[-_MOST_TOLD:])


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


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    """Where calls go, where answers come from, and what is printed."""
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise TypeError("a process without pipes")
    return process.stdin, process.stdout, process.stderr


def _read(line: bytes) -> dict[str, Any]:
    """The answer in a line. Raises _FailedError for what is none."""
    try:
        read = json.loads(line)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise _FailedError(say("it wrote into the pipe of its process's answers, or closed it"))
    return read


def _modules(folder: Path) -> list[str]:
    """The modules and packages of a folder."""
    found = {
        path.stem
        for path in folder.iterdir()
        if path.stem.isidentifier() and (path.suffix == ".py" or (path / "__init__.py").is_file())
    }
    return sorted(found)[:_MOST_NAMES]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
