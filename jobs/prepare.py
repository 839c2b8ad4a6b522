"""What happens once, before any worker starts: check the data, find or train the tokenizer, tokenise."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

import minimind.checkpoint as checkpoints
from data.check import CheckLimits, check_file
from data.prepare import data_source, tokenise
from data.shards import TokenShards
from jobs import paths
from jobs.references import resolve
from jobs.runs import RunDirectory
from jobs.spec import RunSpec
from jobs.stages import STAGES
from jobs.tokenizer import TOKENIZER_FOLDER, TokenizerSpec, learn
from minimind.config import Config
from minimind.model import MiniMind
from minimind.tokenizer import Tokenizer
from minimind.units import amount, size

DATA_FILE = "data file (`minimind data fetch` brings the stock data to data/stock/)"


class Prepared(Config):
    """What the workers are told: folders that every one of them can read, and fingerprints.

    validation_shards: None where the held-out documents are taken out of `shards`. init_folder: the checkpoint whose
    weights the run starts from, None for weights drawn anew; parent_run and parent_step name it.
    """

    tokenizer: str
    shards: str
    validation_shards: str | None
    data_fingerprint: str
    init_folder: str | None = None
    parent_run: str | None = None
    parent_step: int | None = None


def prepare(spec: RunSpec, console: Console) -> Prepared:
    """Everything that the workers need, made or found in the cache.

    Raises ValueError for files, rows, a tokenizer or weights that do not fit; nothing is left half done then.
    """
    source = paths.existing(spec.data.path, DATA_FILE)
    held_out = paths.existing(spec.eval.path, "validation file") if spec.eval.path is not None else None
    _check(spec, source, held_out, console)
    parent = resolve(spec.init_from, paths.runs()) if spec.init_from is not None else None
    folder = _tokenizer_folder(spec, source, parent.folder if parent else None, console)
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > spec.model.vocab_size:
        raise ValueError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size} ids, the model has room for "
            f"{spec.model.vocab_size}: set model.vocab_size={tokenizer.vocab_size}, or take another tokenizer"
        )
    if parent is not None:
        tokenizer.require_same(checkpoints.verify(parent.folder)["tokenizer_fingerprint"], str(parent.folder))
    bad_rows = spec.data.limits.max_bad_rows if spec.data.limits.max_bad_rows is not None else sys.maxsize
    shards = _tokenised(source, tokenizer, bad_rows, console)
    validation = _tokenised(held_out, tokenizer, bad_rows, console) if held_out else None
    return Prepared(
        tokenizer=str(folder),
        shards=str(shards.folder),
        validation_shards=str(validation.folder) if validation else None,
        data_fingerprint=shards.fingerprint,
        init_folder=str(parent.folder) if parent else None,
        parent_run=parent.run if parent else None,
        parent_step=parent.step if parent else None,
    )


def disk_plan(spec: RunSpec, run: RunDirectory, console: Console) -> None:
    """Say what the run will take on disk; raises ValueError if it is not there."""
    states = 2.0 if spec.optim.name == "adamw" else 1.3
    one = checkpoints.checkpoint_bytes(MiniMind(spec.model).parameter_count(), states)
    kept = spec.loop.keep_last + spec.loop.keep_best + 1  # one more while it is being written
    needed = one * kept
    existing = next(parent for parent in run.path.parents if parent.exists())
    free = shutil.disk_usage(existing).free
    console.print(
        f"Disk: up to {size(needed)} for {kept} checkpoints of {size(one)}; {size(free)} are free in {existing}."
    )
    if needed > free:
        raise ValueError(
            f"the run needs up to {size(needed)} in {run.path} ({kept} checkpoints of {size(one)}), {size(free)} are "
            f"free: make room, set MINIMIND_HOME to another disk, or keep fewer with --set loop.keep_last=1"
        )


def check_data(
    path: Path,
    stage: str,
    console: Console,
    *,
    tokenizer: str | None = None,
    max_seq_len: int | None = None,
    held_out: Path | None = None,
) -> int:
    """Print what the data doctor finds in a file. Gives the exit status: 1 where a run would refuse the file."""
    vocabulary = Tokenizer.load(tokenizer_folder(tokenizer)) if tokenizer is not None else None
    report = check_file(path, stage, tokenizer=vocabulary, max_seq_len=max_seq_len, eval_path=held_out)
    console.print(report.table())
    try:
        report.refuse_above(CheckLimits(), "data.limits")
    except ValueError as error:
        console.print(f"A run would refuse this file:\n{error}", style="red", markup=False)
        return 1
    console.print("Nothing stands in the way of training on it.", style="green")
    return 0


def tokenizer_folder(named: str) -> Path:
    """The folder that a run of the tokenizer stage, or a path, names. Raises ValueError if it is not there."""
    run = RunDirectory(paths.runs() / named) if "/" not in named else None
    if run is not None and run.exists:
        return run.path / TOKENIZER_FOLDER
    return paths.existing(named, "tokenizer (a folder, or the name of a tokenizer run)")


def _check(spec: RunSpec, source: Path, held_out: Path | None, console: Console) -> None:
    """Let the data doctor look at the file, once for each content and limits."""
    key = [data_source(path).sha256 for path in (source, held_out) if path] + [spec.data.limits.model_dump()]
    passed = paths.cache() / "checks" / f"{_digest([*key, spec.stage.kind])}.json"
    if passed.exists():
        return
    report = check_file(source, STAGES[spec.stage.kind].rows, eval_path=held_out)
    report.refuse_above(spec.data.limits, "data.limits")
    found = ", ".join(f"{count} {kind}" for kind, count in report.counts.items()) or "nothing wrong"
    console.print(f"Checked {source.name}: {amount(report.rows)} rows, {found}.")
    passed.parent.mkdir(parents=True, exist_ok=True)
    passed.write_text(json.dumps(report.to_dict(), ensure_ascii=False), "utf-8")


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


def _tokenizer_folder(spec: RunSpec, source: Path, parent: Path | None, console: Console) -> Path:
    """The folder of the tokenizer that was asked for, of the parent's, or of one that is trained on the data."""
    if spec.data.tokenizer is not None:
        return tokenizer_folder(spec.data.tokenizer)
    if parent is not None:
        return parent
    key = [data_source(source).sha256, spec.data.vocab_size, spec.data.split_cjk, TokenizerSpec().max_texts]
    folder = paths.cache() / "tokenizers" / _digest(key)
    if not (folder / "tokenizer.json").exists():
        console.print(f"No --tokenizer given: training one with {spec.data.vocab_size} ids on {source}.")
        wanted = TokenizerSpec(path=str(source), vocab_size=spec.data.vocab_size, split_cjk=spec.data.split_cjk)
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        learn(wanted, partial)
        partial.rename(folder)
    console.print(f"Tokenizer: {folder}")
    return folder


def _tokenised(source: Path, tokenizer: Tokenizer, max_bad_rows: int, console: Console) -> TokenShards:
    started = time.monotonic()
    shards = tokenise(
        [source],
        tokenizer,
        paths.cache() / "shards",
        max_bad_rows=max_bad_rows,
        progress=_sparse(console.print, started),
    )
    skipped = f"; {shards.skipped_rows} broken rows left out" if shards.skipped_rows else ""
    console.print(
        f"Data: {source.name}: {amount(len(shards))} documents, {amount(shards.tokens)} tokens, "
        f"{size(int(shards.text_bytes.sum()))} of text{skipped}."
    )
    return shards


def _sparse(say: Callable[[str], None], started: float, period_s: float = 5.0) -> Callable[[int, int, int], None]:
    """A progress callback that speaks every few seconds."""
    last = started

    def progress(done: int, total: int, tokens: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < period_s:
            return
        last = now
        rate = tokens / (now - started)
        left = (now - started) * (total - done) / max(1, done)
        say(
            f"Tokenising {100 * done / max(1, total):.0f}%: {amount(tokens)} tokens, {amount(rate)} tokens/s, "
            f"{left:.0f} s left"
        )

    return progress
