"""`chat`: talk with a model in the terminal, through a running server or, without one, in this process.

A model that has not learnt to answer is not talked with: each line is the beginning of a text, and it goes on.
"""

from __future__ import annotations

import argparse
import io
import os
import sys

from rich.console import Console
from rich.markup import escape

from jobs import paths
from jobs.commands.arguments import Parser
from jobs.commands.program import Program
from jobs.endpoints.keys import read_key
from jobs.serving.answerer import Answerer, Manner
from jobs.serving.conversation import NO_MODEL, Conversation, introduce, temperature
from jobs.serving.in_process import InProcess
from jobs.serving.remote import Server
from jobs.serving.server import running_url
from minimind.language import phrase, say


def add_chat(parser: Parser, program: Program) -> None:
    """With whom, and how."""
    parser.add_argument(
        "model",
        nargs="?",
        help=say(
            "a run, run@step, run@latest, run@best, or a checkpoint's ./folder (default: the newest that has learnt to "
            "answer)"
        ),
    )
    parser.add_argument("--url", help=say("a server (default: the running one; without one the model is loaded here)"))
    parser.add_argument("--system", default="", metavar="TEXT", help=say("system prompt"))
    parser.add_argument(
        "--temperature",
        metavar="X",
        default="auto",
        help=say(
            "0 always takes the likeliest word, 2 is the wildest (default: auto, what the model's checkpoint says)"
        ),
    )
    parser.set_defaults(command=chat)


def chat(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Lines from the terminal, one after the other, until /exit or Ctrl-D.

    Gives 1 if a question that did not come from a terminal got no answer. Raises ValueError for a model, server or
    setting that there is not.
    """
    manner = Manner(temperature(args.temperature))
    a_folder = args.model is not None and paths.is_path(args.model)  # which no server knows
    address = args.url or (None if a_folder else running_url())
    answerer: Answerer = Server(address, read_key(os.environ)) if address else InProcess(program.place)
    if args.model is not None:
        model = answerer.find(args.model)
    else:
        known = answerer.models()
        if not known:
            raise ValueError(phrase(NO_MODEL))
        model = known[0]
    conversation = Conversation(answerer, model, args.system, manner)
    _be_lenient()
    where = escape(address or say("in this process"))
    console.print(f"[bold]{escape(model.id)}[/]  [dim]{where}   {say('/help')}[/]", markup=True)
    if not model.chat:
        introduce(model, console)
    prompt = "[bold green]> [/]" if sys.stdin.isatty() else ""
    while True:
        try:
            line = console.input(prompt).strip()
        except EOFError:
            break
        if broken := _undecodable(line):
            conversation.failed = True
            console.print(f"[red]{broken}[/]", markup=True)
        elif line.startswith("/"):
            if not conversation.command(line, console):
                break
        elif line:
            conversation.ask(line, console)
    return int(conversation.failed and not sys.stdin.isatty())


def _be_lenient() -> None:
    """Bytes that are no text must not end the conversation: such a line is refused."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")


def _undecodable(line: str) -> str:
    """What is wrong with a line that holds bytes which are no text; "" of any other."""
    bad = next((sign for sign in line if "\ud800" <= sign <= "\udfff"), None)
    if bad is None:
        return ""
    byte = f" (0x{ord(bad) & 0xFF:02x})" if "\udc80" <= bad <= "\udcff" else ""
    encoding = str(getattr(sys.stdin, "encoding", None) or "utf-8").upper()
    return f"{say('That line was not sent: it is not all text in')} {encoding}{byte}. {say('Check the terminal.')}"
