"""`serve`: your models behind an OpenAI-compatible endpoint, with a chat page."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields

from rich.console import Console
from rich.text import Text

from jobs.commands.arguments import Parser, add_switch
from jobs.commands.program import Program
from jobs.serving.ports import DEFAULT_HOST, DEFAULT_PORT, url
from jobs.serving.server import ServeFlags, application, running_url, start, stop
from minimind.language import say


def add_serve(parser: Parser, program: Program) -> None:
    """Where it listens, and what it may take."""
    parser.add_argument(
        "--host", default=DEFAULT_HOST, help=say("address to listen on (default: {value})", value=DEFAULT_HOST)
    )
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, metavar="N", help=say("(default: {value})", value=DEFAULT_PORT)
    )
    parser.add_argument("--slots", metavar="N", help=say("answers that one model writes at the same time"))
    parser.add_argument("--context", metavar="N", help=say("longest prompt with its answer, in tokens"))
    parser.add_argument("--dtype", help=say("auto, float32, bfloat16 or int8: precision of the weights"))
    parser.add_argument("--memory_gb", type=float, metavar="X", help=say("for weights and KV caches of one replica"))
    parser.add_argument("--replicas", default="1", metavar="N|MIN-MAX", help=say("processes with models (default: 1)"))
    add_switch(parser, "stop", say("end the server"))
    parser.epilog = say(
        "A key that clients must send: MINIMIND_API_KEY, or a file named in MINIMIND_API_KEY_FILE. It is needed where "
        "--host lets others in."
    )
    parser.set_defaults(command=serve)


def serve(args: argparse.Namespace, program: Program, console: Console) -> int:
    """Start the server, or change a running one, and say where it is; with --stop end it."""
    if args.stop:
        console.print(say("The server has ended.") if stop() else say("No server is running."))
        return 0
    asked = ServeFlags(**{field.name: getattr(args, field.name) for field in fields(ServeFlags)})
    there = running_url()
    # Nothing is asked of it but that it is there: it may have another port, as the demo's has where 8000 is taken.
    if there is None or asked != ServeFlags() or there == url(DEFAULT_HOST, DEFAULT_PORT):
        there = start(application(asked, os.environ), console)
    console.print(Text.assemble(say("{name}: {value}", name=say("The server runs"), value=""), (there, "bold")))
    places = {
        say("chat page"): f"{there}/",
        say("OpenAI API"): f"{there}/v1   (docs/http-api.md)",
        say("in the terminal"): "minimind chat",
        say("end it"): "minimind serve --stop",
    }
    for name, place in places.items():
        console.print("  " + say("{name}: {value}", name=name, value=place))
    return 0
