"""The demo: raw text to a pretrained model in minutes, each step as a user would call it. Safe to repeat."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from data.stock.build import FILES
from jobs import paths
from jobs.prepare import check_data
from jobs.presets import pretrain
from jobs.runs import RunDirectory
from jobs.show import show
from jobs.spec import RunSpec
from jobs.stock import fetch_stock, stock_folder
from jobs.tokenizer import TokenizerSpec, run_tokenizer
from jobs.train import resume, start
from minimind.config import override
from minimind.events import metric_series
from minimind.units import duration

RUN = "demo"
TOKENIZER_RUN = "demo-tokenizer"


def run(args: argparse.Namespace, console: Console) -> int:
    """Fetch, check, tokenizer, pretrain, report. Continues where an earlier demo broke off. Gives the exit status."""
    started = time.monotonic()
    model = RunDirectory(paths.runs() / RUN)
    if model.exists and not args.fresh:
        console.print(
            f"The demo has been here before; going on with the run {RUN!r}. From the start: make demo FRESH=1"
        )
        resume(RUN, {}, console)
    else:
        text = _stock(console, again=args.fresh)
        _step(console, 2, "Check it / 检查数据")
        if check_data(text, "pretrain", console):
            return 1
        _step(console, 3, "Train the tokenizer / 训练分词器")
        run_tokenizer(TokenizerSpec(name=TOKENIZER_RUN, path=str(text), split_cjk=True), console, overwrite=True)
        _step(console, 4, "Pretrain the tiny model / 预训练 tiny 模型")
        start(_spec(text), console, overwrite=args.fresh)
    succeeded = model.state().word == "SUCCEEDED"
    if succeeded:
        _report(model, time.monotonic() - started, console)
    else:
        show(model, console)
    return 0 if succeeded else 1


def _spec(text: Path) -> RunSpec:
    settings = {"name": RUN, "data.path": str(text), "data.tokenizer": TOKENIZER_RUN, "loop.epochs": 2}
    return override(pretrain("tiny"), settings)


def _stock(console: Console, *, again: bool) -> Path:
    _step(console, 1, "Fetch the stock data / 获取数据")
    folder = stock_folder()
    if not again and all((folder / name).exists() for name in FILES):
        console.print(f"Already there: {folder}")
    else:
        fetch_stock(console)
    topics = json.loads((folder / "topics.json").read_text("utf-8"))["topics"]
    console.print("What the model will read about: " + ", ".join(topic["title_en"] for topic in topics), style="dim")
    console.print("模型将学到的主题：" + "、".join(topic["title_zh"] for topic in topics), style="dim")
    return folder / "pretrain.jsonl"


def _report(model: RunDirectory, seconds: float, console: Console) -> None:
    _step(console, 5, "What came of it / 结果")
    picture = show(model, console, only=())
    _, bits = metric_series(model.events_path, "val/bits_per_byte")
    console.print()
    console.print(
        f"[bold]Bits per byte on text that it never saw: {bits[0]:.3f} before, [green]{bits[-1]:.3f}[/] after "
        f"(less is better).[/]"
    )
    console.print(f"[bold]没见过的文本，每字节比特数：训练前 {bits[0]:.3f}，训练后 {bits[-1]:.3f}（越低越好）。[/]")
    for line in model.samples_path.read_text("utf-8").splitlines():
        sample = json.loads(line)
        console.print(f"  [cyan]{escape(sample['prompt'])}[/]{escape(sample['continuation'])}")
    console.print(f"Loss curve: {picture}")
    console.print(f"The run:    {model.path}   ({duration(seconds)} for this demo)")
    console.print("Next / 下一步:")
    console.print("  . .venv/bin/activate                     # once in every new terminal / 每个新终端先执行一次")
    console.print(f"  minimind show {RUN}                      # everything about this run / 查看这次训练")
    console.print("  minimind data check YOUR.jsonl           # is your own text ready? / 检查你自己的数据")
    console.print("  minimind train pretrain --model 30m --data_path YOUR.jsonl   # your own model / 训练你自己的模型")


def _step(console: Console, number: int, title: str) -> None:
    console.print(f"\n[bold]{number}/5  {title}[/]")
