"""What distilling came to, and the making of pairs, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console

from data.prompts import Prompts
from jobs.synthesis.distill import Distilled
from minimind.language import phrase, say

LEFT_OUT = {
    "empty": "the answer is empty",
    "cut_off": "the answer was cut off (--max_tokens)",
    "filtered": "kept back by a filter of the teacher's",
    "refused": "refused by the endpoint",
    "garbled": "what came is no answer as OpenAI's are",
    "unfit": "an answer that can't be learnt as it is",
    "all_right": "all samples are right",
    "all_wrong": "all samples are wrong",
    "equal": "all samples are equally good",
    "too_few": "fewer than two samples that end by themselves and can be learnt",
    "unaskable": "the model can't be asked it",
}
"""Why a prompt has no row -> what that means."""


def show_prompts(prompts: Prompts, console: Console) -> None:
    """How many there are, and what of their file is not used."""
    console.print(say("{path}: {count} prompts", path=prompts.path, count=len(prompts.each)))
    if prompts.repeated:
        console.print(say("  {count} rows ask what another asks: each is asked once", count=prompts.repeated))
    for name, count in prompts.unread.most_common():
        console.print(say("  nothing reads {name} ({count} rows)", name=name, count=count))


def show_distilled(distilled: Distilled, out: Path, console: Console) -> None:
    """What there is, what is left out and why, how to go on, and what the answers may be used for."""
    record = distilled.record
    if record:
        _show_rows(record, out, console)
        console.print(say("  {tokens:,} tokens of prompts and answers", tokens=record["tokens"]) + _estimated(record))
        if record["licence"]:
            console.print(say("  licence of the answers: {licence}", licence=record["licence"]))
        else:
            console.print(say("  What the answers may be used for is decided by the terms of the teacher."))
    if distilled.unanswered:
        console.print(
            say(
                "{count} prompts got no answer ({places}): the same command asks them again",
                count=len(distilled.unanswered),
                places=_few(distilled.unanswered),
            ),
            style="red",
        )
    if distilled.needed_tokens is not None:
        console.print(
            say(
                "The budget is used up: with the next prompt it may be {needed:,} tokens. A larger --budget_tokens "
                "with the same command goes on.",
                needed=distilled.needed_tokens,
            )
        )
    if record.get("rows") and distilled.is_finished:
        _show_next("sft", out, console)


def show_pairs(record: Mapping[str, Any], out: Path, best_of: Path | None, console: Console) -> None:
    """What there is, and what it says of the model."""
    _show_rows(record, out, console)
    if record["samples_cut_off"]:
        console.print(
            say("  {count} samples were cut off and not compared (--max_tokens)", count=record["samples_cut_off"])
        )
    right, wrong = (record["left_out"].get(why, 0) for why in ("all_right", "all_wrong"))
    if right > max(wrong, record["rows"]):
        console.print(say("Most prompts are too easy for this model: harder ones would give more pairs."))
    if wrong > max(right, record["rows"]):
        console.print(say("Most prompts are too hard for this model: SFT comes first, or easier prompts."))
    if best_of is not None:
        console.print(say("{out}: {rows} rows, the best sample of each", out=best_of, rows=record["best_rows"]))
    if record["rows"]:
        _show_next("dpo", out, console)


def _show_rows(record: Mapping[str, Any], out: Path, console: Console) -> None:
    done = record["rows"] + sum(record["left_out"].values())
    console.print(
        say("{out}: {rows} rows of {done} prompts", out=out, rows=record["rows"], done=done)
        + ("" if record["finished"] else say(", {left} are left", left=record["prompts_in_all"] - done)),
        style="bold",
    )
    for why, count in record["left_out"].items():
        places = [one["where"] for one in record["prompts_left_out"] if one["why"] == why]
        console.print(
            say("  left out: {count}, {why}: {places}", count=count, why=phrase(LEFT_OUT[why]), places=_few(places))
        )
    if record["left_out"]:
        console.print(say("  all of them are listed in {path}", path=f"{out}.json"))


def _few(places: Sequence[str]) -> str:
    return ", ".join(places[:3]) + (", …" if len(places) > 3 else "")


def _estimated(record: Mapping[str, Any]) -> str:
    count = record["tokens_estimated_of"]
    return say(" (estimated for {count} answers, of which the endpoint does not say it)", count=count) if count else ""


def _show_next(stage: str, out: Path, console: Console) -> None:
    console.print(say("Next: {command}", command=f"minimind data check {quote(str(out))} --stage {stage}"))
