"""A function in a process of its own: whatever it does, whoever calls it goes on and learns what happened.

The process (program.py) is started once and kept. Calls and answers are lines of JSON over pipes that the function does
not know. One that takes too long is killed with all that it has started, and the next call starts a new one. There are
no signals but the one that kills, and no threads here, so it works in any thread.
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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from minimind.config import listed, near
from minimind.language import say

_PROGRAM = Path(__file__).with_name("program.py")
_MOST_KEPT = 4096
"""How many bytes of what the function prints are kept: the last ones."""
_MOST_TOLD = 200
_MOST_NAMES = 20
_AT_ONCE = 65_536
_END_S = 5.0

Why = Literal["time", "output", "ended", "missing"]
"""What a failure is: it took too long, it wrote too much, its process ended, there is no such function."""


class FailedError(Exception):
    """A call without an answer, with why in words and as one of `Why`."""

    def __init__(self, problem: str, why: Why) -> None:
        super().__init__(problem)
        self.why = why


@dataclass(frozen=True)
class Limits:
    """What a call may take. timeout_s: seconds by the clock; cpu_s: of processor time; memory_mb: MiB of address space
    of its process. import_s: what importing the module may take of either time. most_printed_bytes: of all that a call
    prints; None: as much as it will, it is dropped.
    """

    timeout_s: float
    cpu_s: int
    memory_mb: int
    import_s: int = 60
    most_printed_bytes: int | None = None


class Child:
    """A function, module:function, that is looked for in a folder, then in PYTHONPATH. gives: `scores`, a number for
    each item of a call, or `texts`, for each a text or {"error": text}.
    """

    def __init__(self, function: str, folder: Path, limits: Limits, gives: Literal["scores", "texts"]) -> None:
        self._function, self._folder, self._limits, self._gives = function, folder, limits, gives
        self._process: subprocess.Popen[bytes] | None = None
        self._printed = b""

    def call(self, items: Sequence[Mapping[str, Any]], most_bytes: int) -> dict[str, Any]:
        """What the function gives for these items: `scores` and `wrong`, or `texts`; else `raised`, `count` or `type`.

        most_bytes: of the answer at most. Raises FailedError where there is none.
        """
        if self._process is None or self._process.poll() is not None:
            self.close()
            self.start()
        call = {"items": list(items), "cpu_s": self._limits.cpu_s}
        # JSON may hold NaN here: Python writes it and Python reads it.
        return self._answer(json.dumps(call).encode() + b"\n", self._limits.timeout_s, most_bytes)

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

    def start(self) -> None:
        """Start the process, and wait until it has the function. Raises FailedError, and leaves none, without."""
        limits = self._limits
        sizes = (str(limits.memory_mb), str(limits.import_s))
        arguments = (str(self._folder), self._function, *sizes, self._gives)
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
            raise FailedError(say("its process cannot be started: {error}", error=error), "ended") from None
        for pipe in _pipes(self._process):
            os.set_blocking(pipe.fileno(), False)
        ready = self._answer(b"", limits.import_s, 1_000_000)
        if not ready.get("ready"):
            self.close()
            raise FailedError(self._not_found(ready), "missing")

    def _not_found(self, reply: Mapping[str, Any]) -> str:
        """Why there is no function, in words."""
        module, _, function = self._function.partition(":")
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

        Raises FailedError where no answer comes in time or at all. Whatever is raised, the process is ended: an answer
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
        """Write a call and read a line, while what the function prints is read and mostly dropped."""
        calls, answers, printed = _pipes(process)
        self._printed, printed_bytes, most_printed = b"", 0, self._limits.most_printed_bytes
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
                    raise FailedError(say("it took more than {seconds:g} s", seconds=timeout_s), "time")
                for key, _ in selector.select(left_s):
                    if key.fileobj is calls:
                        try:
                            rest = rest[os.write(calls.fileno(), rest[:_AT_ONCE]) :]
                        except BrokenPipeError:
                            rest = rest[:0]  # it has ended, which the other pipe says
                        if not rest:
                            selector.unregister(calls)
                    elif key.fileobj is printed:
                        if not (read := self._keep_printed(printed)):
                            selector.unregister(printed)
                        printed_bytes += read
                        if most_printed is not None and printed_bytes > most_printed:
                            raise FailedError(say("it printed more than {count:,} bytes", count=most_printed), "output")
                    else:
                        piece = os.read(answers.fileno(), _AT_ONCE)
                        answer += piece
                        if not piece:
                            raise self._end_of(process, printed)
                        if len(answer) > most_bytes:
                            raise FailedError(_not_its_pipe(), "output")
        return bytes(answer)

    def _keep_printed(self, printed: IO[bytes]) -> int:
        """Read some of what was printed; how many bytes, 0 at the end."""
        piece = os.read(printed.fileno(), _AT_ONCE)
        self._printed = (self._printed + piece)[-_MOST_KEPT:]
        return len(piece)

    def _end_of(self, process: subprocess.Popen[bytes], printed: IO[bytes]) -> FailedError:
        """How a process ended that answers no more."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        with suppress(BlockingIOError):
            for _ in range(100):  # what it started may print without end
                if not self._keep_printed(printed):
                    break
        code = process.returncode
        if code is None:
            return FailedError(_not_its_pipe(), "ended")
        if code == -signal.SIGXCPU:
            problem = say("it took more than {seconds:g} s of processor time (cpu_s)", seconds=self._limits.cpu_s)
            return FailedError(problem, "time")
        how = say("signal {name}", name=_signal_name(-code)) if code < 0 else say("exit code {code}", code=code)
        lines = self._printed.decode("utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if not last:
            return FailedError(say("its process ended ({how})", how=how), "ended")
        said = say("its process ended ({how}), and had printed: {last}", how=how, last=last[-_MOST_TOLD:])
        return FailedError(said, "ended")


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    """Where calls go, where answers come from, and what is printed."""
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise TypeError("a process without pipes")
    return process.stdin, process.stdout, process.stderr


def _read(line: bytes) -> dict[str, Any]:
    """The answer in a line. Raises FailedError for what is none."""
    try:
        read = json.loads(line)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise FailedError(_not_its_pipe(), "output")
    return read


def _not_its_pipe() -> str:
    return say("it wrote into the pipe of its process's answers, or closed it")


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
