"""The one console that everything here prints on. What it is given may come from a data set, a model or another
machine, so it is shown as it is and never obeyed: square brackets are no markup, and no control sign gets through.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from jobs.terminal.wrap import wrapped
from minimind.language import say

# A colour that a log brings along goes whole; of anything else the sign goes that would make it an order.
_SIGNS = re.compile(r"\x1b\[[0-9;:]*m|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    """The text without control signs (C0, DEL and C1) but newline and tab: nothing in it moves, colours or writes
    anything but itself.
    """
    return _SIGNS.sub("", text)


class Terminal(Console):
    """A console whose texts are text. Where a literal of ours has markup, `markup=True` says so at that line; what it
    holds of others goes through `rich.markup.escape`.
    """

    def __init__(self, *, highlight: bool = False, soft_wrap: bool = True, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=highlight, soft_wrap=soft_wrap, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of anything that is printed, cells of tables too, their texts without control signs."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else plain(text), style, control)


def show_error(text: str) -> None:
    """Print on stderr what is wrong, in a terminal broken between words: a command in it can be copied."""
    errors = Terminal(stderr=True)
    if errors.is_terminal:
        text = "\n".join(wrapped(f"{say('error:')} {text}", errors.width, indent="  ")).removeprefix(
            f"{say('error:')} "
        )
    errors.print(Text.assemble((say("error:"), "bold red"), f" {text}"))


def can_show(text: str, console: Console) -> bool:
    """Whether the terminal's encoding has all signs of the text."""
    try:
        text.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True


def unfailing_output() -> None:
    """From now on a sign that the encoding of stdout or stderr lacks is shown as "?", and ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
