"""The demo: raw text to a model that answers on a page, in minutes, as a user would do it. Safe to repeat."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs import paths
from jobs.demo import quiz
from jobs.demo.fetch import fetch_stock
from jobs.fit.card import here, this_card
from jobs.fit.measure import measure
from jobs.fit.plan import Planner
from jobs.paths import stock_folder
from jobs.runs import samples
from jobs.runs.directory import RunDirectory
from jobs.runs.show import show
from jobs.serving import server
from jobs.serving.ports import DEFAULT_HOST, DEFAULT_PORT, require_port_free
from jobs.serving.server import ServeFlags
from jobs.stages.origin import new_spec
from jobs.stages.spec import RunSpec
from jobs.stock import VERSION, version_of
from jobs.text.doctor import check_data
from jobs.text.tokenizer import TokenizerSpec, run_tokenizer
from jobs.training.run import resume, start
from minimind.events import metric_series
from minimind.language import language, phrase, say
from minimind.units import duration, memory

RUN = "demo-chat"
PRETRAIN_RUN = "demo"
TOKENIZER_RUN = "demo-tokenizer"
STEPS = 7
SHOWN_QUESTIONS = 8
TURN_TITLES = ("asked first", "asked second", "asked third")
TURNS = len(TURN_TITLES)
OTHER_QUESTIONS = (
    ("referring to the question before", "follow_up"),
    ("not taught: says that it does not know", "unknown"),
)
GOOD_SHARE = 0.7  # of the questions
MOST_FORGOTTEN = 0.25  # more bits per byte of plain text


def run(console: Console, *, fresh: bool = False, keep: bool = True) -> int:
    """All steps, from where an earlier demo broke off. Gives the exit status. fresh: forget it. keep: leave the server
    running at the end.
    """
    started = time.monotonic()
    pretrained, chat = (RunDirectory(paths.runs() / name) for name in (PRETRAIN_RUN, RUN))
    if not fresh and is_outdated(pretrained):
        console.print(
            say("The demo has been here before, with data that this version composes otherwise: it begins anew.")
        )
        fresh = True
    if pretrained.exists and not fresh:
        console.print(say("The demo has been here before and goes on where it was. From the start: make demo FRESH=1"))
        if version_of(stock_folder()) is None:  # somebody has removed it, and the questions are read from there
            fetch_stock(console)
    else:
        _begin(console, fresh=fresh)
    _step(console, 4, say("Pretrain the tiny model"))
    if not _to_its_end(pretrained, _pretrain_spec, console, fresh=fresh):
        return 1
    _step(console, 5, say("Teach it to answer (SFT)"))
    if not _to_its_end(chat, _sft_spec, console, fresh=fresh):
        return 1
    _step(console, 6, say("What came of it"))
    _curves(pretrained, chat, console)
    _memory(chat, console)
    _step(console, 7, say("Serve it, and ask what it was taught"))
    running = server.running_url()
    if running:
        console.print(say("The server that runs takes the new model at once: {url}", url=running))
    address = running or _start_server(console)
    stays = bool(running or keep)  # one that ran before is not the demo's to end
    try:
        _ask(address, chat, console)
    finally:
        if not stays:
            server.stop()
    _next(address if stays else None, chat, time.monotonic() - started, console)
    return 0


def is_outdated(pretrained: RunDirectory) -> bool:
    """Whether an earlier demo has learnt from data that this version of the project composes otherwise."""
    return pretrained.exists and version_of(stock_folder()) not in (None, VERSION)


def _begin(console: Console, *, fresh: bool) -> None:
    _step(console, 1, say("Fetch the stock data"))
    folder = stock_folder()
    if not fresh and version_of(folder) == VERSION:
        console.print(say("Already there: {folder}", folder=folder))
    else:
        fetch_stock(console)
    topics = json.loads((folder / "topics.json").read_text("utf-8"))["topics"]
    titles = ", ".join(topic[f"title_{language()}"] for topic in topics)
    console.print(say("What the model will learn about: {titles}", titles=titles), style="dim")
    _step(console, 2, say("Check it"))
    for stage in ("pretrain", "sft"):
        if check_data(folder / f"{stage}.jsonl", stage, console):
            raise ValueError(say("the stock data is damaged: make demo FRESH=1 fetches it again"))
    _step(console, 3, say("Train the tokenizer"))
    text = str(folder / "pretrain.jsonl")
    run_tokenizer(TokenizerSpec(name=TOKENIZER_RUN, path=text, split_cjk=True), console, overwrite=True)


def _to_its_end(run: RunDirectory, spec: Callable[[], RunSpec], console: Console, *, fresh: bool) -> bool:
    """The run started, or continued where there is one. False if it did not succeed, which is shown."""
    if run.exists and not fresh:
        resume(run.name, {}, console)
    else:
        start(spec(), console, overwrite=fresh)
    if run.state().word == "SUCCEEDED":
        return True
    show(run, console)
    return False


def _pretrain_spec() -> RunSpec:
    settings = {
        "name": PRETRAIN_RUN,
        "data.path": str(stock_folder() / "pretrain.jsonl"),
        "data.tokenizer": TOKENIZER_RUN,
        "loop.epochs": 2,
        "loop.max_steps": 200,  # a little more than one: what is left of the minutes teaches it more in SFT
        **_same_everywhere(),
    }
    return new_spec("pretrain", settings, "tiny")


def _sft_spec() -> RunSpec:
    settings = {
        "name": RUN,
        "data.path": str(stock_folder() / "sft.jsonl"),
        "data.in_order": True,  # single questions first, conversations later
        "data.mix": 0.1,
        "init_from": PRETRAIN_RUN,
        "loop.epochs": 1,  # the file holds eleven epochs of questions, each phrased afresh
        "loop.eval_interval": 250,
        **_same_everywhere(),
    }
    return new_spec("sft", settings)


def _same_everywhere() -> dict[str, str]:
    """One precision on all CPUs, so that the demo's figures are those of its page; a GPU takes its own. The demo asks
    its questions over HTTP; suites are for `minimind eval`, which its last lines name.
    """
    same = {"eval.suites": "[]"}
    return same if here().type == "cuda" else {**same, "loop.dtype": "float32"}


def _curves(pretrained: RunDirectory, chat: RunDirectory, console: Console) -> None:
    pictures = [show(run, console, only=()) for run in (pretrained, chat)]
    _, bits = metric_series(pretrained.events_path, "val/bits_per_byte")
    _, losses = metric_series(chat.events_path, "val/loss")
    console.print()
    console.print(
        say(
            "Bits per byte on text that it never saw: {before:.3f} before, {after:.3f} after (less is better).",
            before=bits[0],
            after=bits[-1],
        ),
        style="bold",
    )
    console.print(
        say("Loss on answers that it never saw: {before:.3f} → {after:.3f}", before=losses[0], after=losses[-1])
    )
    for run in (pretrained, chat):
        for sample in samples.written_at_the_end(run):
            console.print(Text.assemble("  ", (sample["prompt"], "cyan"), sample["continuation"]))
    for picture in pictures:
        console.print(say("Loss curve: {file}", file=picture))


def _memory(chat: RunDirectory, console: Console) -> None:
    """What a step of each stage takes: as planned, and as counted in real steps on this CPU."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for title in (say("memory of a step"), say("planned"), say("measured peak"), say("error"), say("together")):
        table.add_column(title, justify="right" if table.columns else "left")
    planner = Planner(this_card())
    tuned = RunSpec.model_validate(chat.spec())
    for spec in (_pretrain_spec(), tuned, new_spec("lora", {"init_from": RUN})):
        needed, found = planner.need(spec).peak_bytes, measure(planner, spec).peak_bytes
        error = f"{100 * (needed / found - 1):+.3f} %"
        in_all = planner.plan(spec).needed_bytes
        table.add_row(spec.stage.kind, memory(needed), memory(found), error, memory(in_all))
    console.print(table, soft_wrap=False)


def _start_server(console: Console) -> str:
    """The address of a server that is started on the first port that is free."""
    port = next(port for port in range(DEFAULT_PORT, DEFAULT_PORT + 50) if _is_free(port))
    return server.start(server.application(ServeFlags(port=port), os.environ), console)


def _is_free(port: int) -> bool:
    try:
        require_port_free(DEFAULT_HOST, port)
    except ValueError:
        return False
    return True


def _ask(address: str, chat: RunDirectory, console: Console) -> None:
    path = stock_folder() / "eval.jsonl"
    questions = quiz.read_questions(path)
    console.print(
        say(
            "Asking {count} questions in words that it was not taught with, over HTTP: each as first, second and third "
            "question of a conversation ...",
            count=len(questions),
        )
    )
    by_turn = quiz.ask_in_turn(address, RUN, questions, TURNS)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for title in (say("question"), say("answer"), say("truth")):
        table.add_column(title, overflow="fold", ratio=1)
    table.add_column("")
    for one in quiz.spread(by_turn[0], SHOWN_QUESTIONS):
        mark = Text("✓", "green") if one.right else Text("✗", "red")
        table.add_row(one.question.prompt, one.answer, one.question.expected, mark)
    console.print(table, soft_wrap=False)
    console.print(say("Exact match on held-out phrasings:"), style="bold")
    for title, answered in zip(TURN_TITLES, by_turn, strict=True):
        console.print(f"  {phrase(title)}: {_score(answered)}", markup=True)
    for title, kind in OTHER_QUESTIONS:
        others = quiz.ask(address, RUN, quiz.read_questions(path, kind))
        console.print(f"  {phrase(title)}: {_score(others)}", markup=True)
    _, text = metric_series(chat.events_path, "val/pretrain_bits_per_byte")
    worse = text[-1] / text[0] - 1
    console.print(
        say(
            "Plain text, bits per byte before and after SFT: {before:.3f} → {after:.3f} ({change:+.1f} %)",
            before=text[0],
            after=text[-1],
            change=100 * worse,
        )
    )
    shares = [sum(one.right for one in answered) / len(answered) for answered in by_turn]
    console.print(verdict(shares, worse), style="bold")


def _score(answered: Sequence[quiz.Answered]) -> str:
    right = sum(one.right for one in answered)
    return f"[green]{100 * right / max(1, len(answered)):.0f} %[/] ({right} / {len(answered)})"


def verdict(by_turn: Sequence[float], worse: float) -> str:
    """What the figures mean.

    by_turn: share of the questions answered to the letter at each turn of a conversation. worse: by how much bits per
    byte of plain text rose in SFT, as a share.
    """
    first, last = by_turn[0], min(by_turn[1:])
    if min(by_turn) >= GOOD_SHARE:
        answers = say("It answers, whether it is asked first or later")
    elif first < GOOD_SHARE:
        answers = say("It has not learnt its facts well")
    else:
        answers = say("It answers the first question, but later ones less often ({share:.0f} %)", share=100 * last)
    if worse <= MOST_FORGOTTEN:
        return say("{answers}; and it has kept what it knew of plain text.", answers=answers)
    return say("{answers}; and it has forgotten some of its plain text.", answers=answers)


def _next(address: str | None, chat: RunDirectory, seconds: float, console: Console) -> None:
    console.print("\n" + say("The model: {folder}   ({time} for this demo)", folder=chat.path, time=duration(seconds)))
    if address:
        console.print(say("Talk with it: {url}/", url=address), style="bold")
        console.print(say("End the server: minimind serve --stop. End the cluster: minimind cluster stop"))
    steps = [
        (say("once in every new terminal"), ". .venv/bin/activate"),
        (say("the same in the terminal"), "minimind chat")
        if address
        else (say("a page to talk with it"), "minimind serve"),
        (say("what SFT made better, and what worse"), f"minimind eval {RUN} --against {PRETRAIN_RUN}"),
        (say("is your own text ready?"), "minimind data check YOUR.txt"),
        (say("your own model"), "minimind train pretrain --model tiny --data_path YOUR.txt"),
    ]
    console.print(say("Next:"))
    for what, command in steps:
        console.print(f"  # {what}", style="dim")
        console.print(f"  {command}")


def _step(console: Console, number: int, title: str) -> None:
    console.print(f"\n{number}/{STEPS}  {title}", style="bold")
