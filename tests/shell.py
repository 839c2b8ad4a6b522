"""The command line, called in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Main = Callable[[list[str]], int]


class Shell:
    """Calls the command line in this process and keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.out = self.err = ""

    def __call__(self, main: Main, *argv: str) -> int:
        """The exit status."""
        try:
            status = main(list(argv))
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        self.out, self.err = self.capsys.readouterr()
        return status
