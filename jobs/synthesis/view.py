"""What distilling came to, and the making of pairs, for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from data.prompts import Prompts
from jobs.stages.trying import epochs_for
from jobs.synthesis.distill import Distilled
from minimind.language import phrase, say
from minimind.training.signal import Signal

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
    "not_judged": "no answer could be judged",
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


def show_passrate(record: Mapping[str, Any], out: Path | None, console: Console) -> None:
    """How often the model is right, which prompts have signal, how long answers are, and some prompts."""
    asked = record["asked"]
    console.print(
        say(
            "{model}: {samples} answers to each of {measured} prompts, at most {most} tokens, temperature "
            "{temperature:g}; right by {reward}",
            model=asked["model"]["name"],
            samples=asked["samples"],
            measured=record["measured"],
            most=asked["max_tokens"],
            temperature=asked["temperature"],
            reward=asked["reward"][0],
        ),
        style="bold",
    )
    if record["measured"]:
        console.print(_chances(record["pass_at"]))
        _show_signal(record, console)
        if len(record["groups"]) > 1:
            console.print(_beginnings(record["groups"]))
        for title, name in ((say("the hardest"), "hardest"), (say("the easiest"), "easiest")):
            if record[name]:
                console.print(say("{title}:", title=title))
            for one in record[name]:
                console.print(_example(one, asked["samples"]))
    others = {why: record["left_out"].get(why, 0) for why in ("unaskable", "not_judged")}
    for why, count in others.items():
        if count:
            first = next(one for one in record["prompts_left_out"] if one["why"] == why)
            where = f"{first['where']}: {first['detail']}"
            console.print(
                say("left out: {count}, {why}: {where}", count=count, why=phrase(LEFT_OUT[why]), where=where),
                style="yellow",
            )
    if not record["finished"]:
        console.print(
            say("{left} prompts are left", left=record["prompts_in_all"] - record["measured"] - sum(others.values()))
        )
    advice = Signal(tuple(one for one, count in record["signal"].items() for _ in range(count))).advice
    if advice:
        console.print(advice, style="yellow")
    if advice and record["holds"]:
        console.print(
            say(
                "In {share:.0%} of the answers the right one stands all the same: --reward contains takes "
                "that for right.",
                share=record["holds"],
            ),
            style="yellow",
        )
    if out is not None:
        console.print(say("{out}: {rows} rows, the easiest first", out=out, rows=record["rows"]), style="bold")
    if out is not None and record["rows"]:
        command = f"minimind train grpo --from_weight {quote(asked['model']['name'])} --data_path {quote(str(out))}"
        command += f" --epochs {epochs_for(record['rows'])}"
        if asked["reward"] != ["contains"]:
            terms = [text if text.lstrip().startswith("{") else json.dumps({"is": text}) for text in asked["reward"]]
            command += " --set " + quote(f"stage.rewards=[{', '.join(terms)}]")
        if "tools" in asked:
            command += " --set " + quote(f"stage.tools={json.dumps(asked['tools'], ensure_ascii=False)}")
        if "reward_model" in asked:
            command += f" --reward_model {quote(asked['reward_model']['name'])}"
        console.print(say("Next: {command}", command=command))
    elif record["rows"]:
        console.print(say("With -o FILE.jsonl the {rows} rows that have signal are written.", rows=record["rows"]))


def _chances(pass_at: Mapping[str, Mapping[str, float | None]]) -> Table:
    table = _table(say("at least one of so many is right"), "%", say("95 % interval"))
    for k, found in pass_at.items():
        value, low, high = (found[name] for name in ("value", "low", "high"))
        assert value is not None
        interval = "" if low is None or high is None else f"{100 * low:.1f} … {100 * high:.1f}"
        table.add_row(f"pass@{k}", f"{100 * value:.1f}", interval)
    return table


def _show_signal(record: Mapping[str, Any], console: Console) -> None:
    counts, measured = record["signal"], record["measured"]
    console.print(
        say(
            "signal: {some} of {measured} prompts ({share:.0%}) have answers of different worth",
            some=counts["signal"],
            measured=measured,
            share=counts["signal"] / measured,
        )
    )
    console.print(
        say(
            "  without: {right} always right, {wrong} never right",
            right=counts["all_right"],
            wrong=counts["all_wrong"],
        )
        + (say(", {equal} equally good", equal=counts["equal"]) if counts["equal"] else "")
    )
    console.print(
        say(
            "an answer: {tokens:.1f} tokens; {cut:.1%} are cut off (--max_tokens)",
            tokens=record["answer_tokens"],
            cut=record["cut_off"],
        )
    )
    if record["not_judged"]:
        console.print(say("judgements that could not be made: {count}", count=record["not_judged"]), style="yellow")


def _beginnings(groups: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(say("prompts that begin with"), say("how many"), say("right"), say("with signal"))
    for group in groups:
        right = f"{100 * group['pass_rate']:.1f} %"
        table.add_row(group["begins"], str(group["prompts"]), right, str(group["signal"]))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for title in others:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _example(one: Mapping[str, Any], samples: int) -> str:
    right = say(" (right: {answer})", answer=one["answer"]) if one["answer"] else ""
    return f"  {one['right']}/{samples}  {one['question']}{right}\n       {one['sample']}"


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
