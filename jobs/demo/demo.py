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
from jobs.runs.directory import RunDirectory
from jobs.runs.show import samples, show
from jobs.serving import server
from jobs.serving.ports import DEFAULT_HOST, DEFAULT_PORT, require_free
from jobs.serving.server import ServeFlags
from jobs.stages.origin import new_spec
from jobs.stages.spec import RunSpec
from jobs.stock import VERSION, version_of
from jobs.text.doctor import check_data
from jobs.text.tokenizer import TokenizerSpec, run_tokenizer
from jobs.training.run import resume, start
from minimind.events import metric_series
from minimind.units import duration, memory

RUN = "demo-chat"
PRETRAIN_RUN = "demo"
TOKENIZER_RUN = "demo-tokenizer"
STEPS = 7
SHOWN_QUESTIONS = 8
TURN_TITLES = ("asked first / 第一问", "asked second / 第二问", "asked third / 第三问")
TURNS = len(TURN_TITLES)
OTHER_QUESTIONS = (
    ("referring to the question before / 承接上一问（如“那它的简称呢？”）", "follow_up"),
    ("not taught: says that it does not know / 没学过的，老实说不知道", "unknown"),
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
            "The demo has been here before, with data that this version composes otherwise: it begins anew.\n"
            "演示曾经运行过，但这一版本的数据已经不同：从头开始。"
        )
        fresh = True
    if pretrained.exists and not fresh:
        console.print("The demo has been here before and goes on where it was. From the start: make demo FRESH=1")
        if version_of(stock_folder()) is None:  # somebody has removed it, and the questions are read from there
            fetch_stock(console)
    else:
        _begin(console, fresh=fresh)
    _step(console, 4, "Pretrain the tiny model / 预训练 tiny 模型")
    if not _to_its_end(pretrained, _pretrain_spec, console, fresh=fresh):
        return 1
    _step(console, 5, "Teach it to answer (SFT) / 监督微调：学会回答")
    if not _to_its_end(chat, _sft_spec, console, fresh=fresh):
        return 1
    _step(console, 6, "What came of it / 结果")
    _curves(pretrained, chat, console)
    _memory(chat, console)
    _step(console, 7, "Serve it, and ask what it was taught / 启动服务并提问")
    running = server.running_url()
    if running:
        console.print(f"The server that runs takes the new model at once: {running}")
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
    _step(console, 1, "Fetch the stock data / 获取数据")
    folder = stock_folder()
    if not fresh and version_of(folder) == VERSION:
        console.print(f"Already there: {folder}")
    else:
        fetch_stock(console)
    topics = json.loads((folder / "topics.json").read_text("utf-8"))["topics"]
    console.print("What the model will learn about: " + ", ".join(topic["title_en"] for topic in topics), style="dim")
    console.print("模型将学到的主题：" + "、".join(topic["title_zh"] for topic in topics), style="dim")
    _step(console, 2, "Check it / 检查数据")
    for stage in ("pretrain", "sft"):
        if check_data(folder / f"{stage}.jsonl", stage, console):
            raise ValueError("the stock data is damaged: make demo FRESH=1 fetches it again")
    _step(console, 3, "Train the tokenizer / 训练分词器")
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
    """One precision on all CPUs, so that the demo's figures are those of its page; a GPU takes its own."""
    return {} if here().type == "cuda" else {"loop.dtype": "float32"}


def _curves(pretrained: RunDirectory, chat: RunDirectory, console: Console) -> None:
    pictures = [show(run, console, only=()) for run in (pretrained, chat)]
    _, bits = metric_series(pretrained.events_path, "val/bits_per_byte")
    _, losses = metric_series(chat.events_path, "val/loss")
    console.print()
    console.print(
        f"[bold]Bits per byte on text that it never saw: {bits[0]:.3f} before, [green]{bits[-1]:.3f}[/] after "
        f"(less is better).[/]",
        markup=True,
    )
    console.print(
        f"没见过的文本，每字节比特数：训练前 {bits[0]:.3f}，训练后 {bits[-1]:.3f}（越低越好）。", style="bold"
    )
    console.print(f"Loss on answers that it never saw / 没见过的回答的损失: {losses[0]:.3f} → {losses[-1]:.3f}")
    for run in (pretrained, chat):
        for sample in samples(run):
            console.print(Text.assemble("  ", (sample["prompt"], "cyan"), sample["continuation"]))
    for picture in pictures:
        console.print(f"Loss curve / 损失曲线: {picture}")


def _memory(chat: RunDirectory, console: Console) -> None:
    """What a step of each stage takes: as planned, and as counted in real steps on this CPU."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for title in ("memory of a step / 每步内存", "planned / 计划", "measured / 实测", "error / 误差", "in all / 合计"):
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
        require_free(DEFAULT_HOST, port)
    except ValueError:
        return False
    return True


def _ask(address: str, chat: RunDirectory, console: Console) -> None:
    path = stock_folder() / "eval.jsonl"
    questions = quiz.read_questions(path)
    console.print(
        f"Asking {len(questions)} questions in words that it was not taught with, over HTTP: each as first, second and "
        f"third question of a conversation ..."
    )
    by_turn = quiz.ask_in_turn(address, RUN, questions, TURNS)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for title in ("question / 问题", "answer / 回答", "truth / 正确答案"):
        table.add_column(title, overflow="fold", ratio=1)
    table.add_column("")
    for one in quiz.spread(by_turn[0], SHOWN_QUESTIONS):
        mark = Text("✓", "green") if one.right else Text("✗", "red")
        table.add_row(one.question.prompt, one.answer, one.question.expected, mark)
    console.print(table, soft_wrap=False)
    console.print("Exact match on held-out phrasings / 未见过问法的完全匹配率:", style="bold")
    for title, answered in zip(TURN_TITLES, by_turn, strict=True):
        console.print(f"  {title}: {_score(answered)}", markup=True)
    for title, kind in OTHER_QUESTIONS:
        others = quiz.ask(address, RUN, quiz.read_questions(path, kind))
        console.print(f"  {title}: {_score(others)}", markup=True)
    _, text = metric_series(chat.events_path, "val/pretrain_bits_per_byte")
    worse = text[-1] / text[0] - 1
    console.print(
        f"Plain text, bits per byte before and after SFT / 普通文本每字节比特数，微调前 → 微调后: "
        f"{text[0]:.3f} → {text[-1]:.3f} ({100 * worse:+.1f} %)"
    )
    for sentence in verdict([sum(one.right for one in answered) / len(answered) for answered in by_turn], worse):
        console.print(sentence, style="bold")


def _score(answered: Sequence[quiz.Answered]) -> str:
    right = sum(one.right for one in answered)
    return f"[green]{100 * right / max(1, len(answered)):.0f} %[/] ({right} / {len(answered)})"


def verdict(by_turn: Sequence[float], worse: float) -> tuple[str, str]:
    """What the figures mean, in English and in Chinese.

    by_turn: share of the questions answered to the letter at each turn of a conversation. worse: by how much bits per
    byte of plain text rose in SFT, as a share.
    """
    first, last = by_turn[0], min(by_turn[1:])
    if min(by_turn) >= GOOD_SHARE:
        english, chinese = "It answers, whether it is asked first or later", "先问后问，它都答得上来"
    elif first < GOOD_SHARE:
        english, chinese = "It has not learnt its facts well", "它还没有学好这些知识"
    else:
        english = f"It answers the first question, but later ones less often ({100 * last:.0f} %)"
        chinese = f"第一问答得上来，后面的问题答得差一些（{100 * last:.0f} %）"
    if worse <= MOST_FORGOTTEN:
        return f"{english}; and it has kept what it knew of plain text.", f"{chinese}；普通文本也没有忘掉。"
    return f"{english}; and it has forgotten some of its plain text.", f"{chinese}；普通文本忘掉了一些。"


def _next(address: str | None, chat: RunDirectory, seconds: float, console: Console) -> None:
    console.print(f"\nThe model / 模型: {chat.path}   ({duration(seconds)} for this demo / 本次演示用时)")
    if address:
        talk = (f"Talk with it / 和它聊天: {address}/", "bold")
        console.print(Text.assemble(talk, "      (ends with / 停止: minimind serve --stop)"))
    console.print("Next / 下一步:")
    console.print("  . .venv/bin/activate                     # once in every new terminal / 每个新终端先执行一次")
    if address:
        console.print("  minimind chat                            # the same in the terminal / 在终端聊天")
    else:
        console.print("  minimind serve                           # a page to talk with it / 启动聊天网页")
    console.print("  minimind data check YOUR.jsonl --stage sft   # is your own data ready? / 检查你自己的数据")
    console.print("  minimind train pretrain --model 30m --data_path YOUR.jsonl   # your own model / 训练你自己的模型")


def _step(console: Console, number: int, title: str) -> None:
    console.print(f"\n{number}/{STEPS}  {title}", style="bold")
