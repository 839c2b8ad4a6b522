"""What happens once, before any worker starts: check the data, find or train the tokenizer, tokenise."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
from filelock import FileLock
from pydantic import Field
from rich.console import Console

from data.check import check_file
from data.encode import Tool
from data.formats import READING, refuse_upstream
from data.pack import whole
from data.prepare import Pipeline, content_sha256, tokenise
from data.read import DataError, as_row, row_files
from data.schema import STAGE_ROWS
from data.shards import TokenShards
from jobs import paths
from jobs.runs.program import typed
from jobs.runs.references import Weights, find_weights, tokenizer_folder
from jobs.stages.facts import is_stock_questions
from jobs.stages.origin import require_kind
from jobs.stages.spec import RunSpec
from jobs.stages.stage import Corpus
from jobs.stages.table import STAGES
from jobs.terminal.wrap import tell
from jobs.text.tokenizer import DATA_FILE, TokenizerSpec, learn
from minimind.checkpoints import adapter_base
from minimind.checkpoints.manifest import Manifest, verify, weights_sha256
from minimind.config import Config
from minimind.language import phrase, say
from minimind.text.chat import chat_template
from minimind.text.tokenizer import Tokenizer
from minimind.units import amount, size


class Prepared(Config):
    """What the workers are told: folders that every one of them can read, and fingerprints.

    validation_shards: None where the held-out documents are taken out of `shards`. text_shards: plain text to replay
    and to see what is forgotten; chat_shards: conversations to replay; held_out_text_shards: None where the held-out
    documents are taken out of that text. fact_shards: questions whose answers the weights know.
    init_folder: the checkpoint whose weights a run without a checkpoint of its own starts from, and an adapter is put
    on, None for weights drawn anew; parent_run and parent_step name it. role_folders: the checkpoints of further
    models, those that are the first weights among them. command: what asks for the run. typed: what a person typed, ""
    where nobody did. sources: the sha256 of every file of data that was read, by its setting. weights: that of the
    weights in init_folder and role_folders, by theirs. identity: of the run that this was made for, where that is
    known.
    """

    tokenizer: str
    tokenizer_fingerprint: str = ""
    shards: str
    validation_shards: str | None
    text_shards: str | None = None
    chat_shards: str | None = None
    held_out_text_shards: str | None = None
    fact_shards: str | None = None
    data_fingerprint: str
    init_folder: str | None = None
    parent_run: str | None = None
    parent_step: int | None = None
    command: str
    typed: str = ""
    role_folders: Mapping[str, str] = Field(default_factory=dict)
    sources: Mapping[str, str] = Field(default_factory=dict)
    weights: Mapping[str, str] = Field(default_factory=dict)
    identity: str | None = None


def prepare(
    spec: RunSpec,
    console: Console,
    *,
    weights: Weights | None = None,
    own: Path | None = None,
    pipeline: Pipeline | None = None,
    command: str | None = None,
    tokenizer_of: Path | None = None,
) -> Prepared:
    """Everything that the workers need, made or found in the cache.

    weights: those that the spec names, where somebody has looked them up. own: the checkpoint that the run goes on
    from. Then its tokenizer is taken, and what the run began with may be gone. pipeline: how text becomes tokens; by
    default on this machine. command: what asks for the run; by default what a person typed, or this process's command
    line. tokenizer_of: a folder whose tokenizer is taken, whatever the spec says.

    Raises ValueError for files, rows, a tokenizer or
    weights that do not fit; nothing is left half done then.
    """
    rows = STAGES[spec.stage.kind].rows
    source = paths.existing(spec.data.path, phrase(DATA_FILE))
    held_out = _existing(spec.eval.path, say("validation file"))
    held_out_text = _existing(spec.eval.pretrain_path, say("plain text for eval.pretrain_path"))
    # Where it is not replayed it is only measured on, and there may be a file for that.
    text = (
        _existing(spec.data.mix_path, say("plain text for data.mix_path"))
        if spec.data.mix or not held_out_text
        else None
    )
    chats = _existing(spec.data.chats_path, say("conversations for data.chats_path"))
    facts = _existing(spec.eval.facts_path, say("questions for eval.facts_path"))
    files = {
        "data.path": source,
        "eval.path": held_out,
        "data.mix_path": text,
        "data.chats_path": chats,
        "eval.pretrain_path": held_out_text,
        "eval.facts_path": facts,
    }
    sources = {setting: content_sha256(file) for setting, file in files.items() if file is not None}
    spec.stage.require_files()
    sources |= {setting: content_sha256(paths.absolute(file)) for setting, file in spec.stage.files.items()}
    digest = sources["data.path"]
    if rows == "pretrain":  # before a tokenizer is trained on it
        _check(spec, held_out, rows, None, console, setting="eval.path")
        _check(spec, source, rows, held_out, console)
    _check(spec, held_out_text, "pretrain", None, console, setting="eval.pretrain_path")
    _check(spec, text, "pretrain", held_out_text, console, setting="data.mix_path")
    init, manifest = _first_weights(spec, weights, own)
    folder = _tokenizer(spec, source, digest, own or tokenizer_of, init, console)
    tokenizer = Tokenizer.load(folder)
    require_vocabulary(tokenizer, spec.model.vocab_size, str(folder))
    if manifest:
        tokenizer.require_same(manifest["tokenizer_fingerprint"], str(init))
    if rows != "pretrain":
        _check(spec, held_out, rows, None, console, tokenizer, setting="eval.path")
        _check(spec, source, rows, held_out, console, tokenizer)
    # The run that was taught them may have had longer rows: what is too long for these is left out, which is no fault.
    _check(spec, chats, "sft", None, console, setting="data.chats_path")
    _check(spec, facts, "rl", None, console, setting="eval.facts_path")

    def tokenised(path: Path | None, rows: str, setting: str = "data.path") -> TokenShards | None:
        return None if path is None else _tokenised(path, rows, tokenizer, spec, pipeline, console, setting)

    def folder_of(shards: TokenShards | None) -> str | None:
        return None if shards is None else str(shards.folder)

    shards = _tokenised(source, rows, tokenizer, spec, pipeline, console)
    validation = tokenised(held_out, rows)
    if own is None:
        looked = STAGES[spec.stage.kind].look(spec, Corpus(tokenizer, shards, validation))
        for said in looked.said:
            tell(console, said)
        for warning in looked.warnings:
            tell(console, warning, style="yellow")
    role_folders = {role: _role_folder(spec, role, named, tokenizer) for role, named in _roles(spec).items()}
    first = {"init_from": init} if init else {}
    first |= {f"roles.{role}": role_folder for role, role_folder in role_folders.items()}
    return Prepared(
        tokenizer=str(folder),
        tokenizer_fingerprint=tokenizer.fingerprint,
        shards=str(shards.folder),
        validation_shards=folder_of(validation),
        text_shards=folder_of(tokenised(text, "pretrain")),
        chat_shards=folder_of(tokenised(chats, "sft")),
        held_out_text_shards=folder_of(tokenised(held_out_text, "pretrain")),
        fact_shards=folder_of(tokenised(facts, "rl", "eval.facts_path")),
        data_fingerprint=shards.fingerprint,
        init_folder=str(init) if init else None,
        parent_run=manifest["run_id"] if manifest else None,
        parent_step=manifest["step"] if manifest else None,
        role_folders={role: str(role_folder) for role, role_folder in role_folders.items()},
        command=command or typed() or " ".join(sys.argv),
        typed=typed(),
        sources=sources,
        weights={setting: weights_sha256(checkpoint) for setting, checkpoint in first.items()},
    )


_SEEN_AT_ONCE = ("wrong_fields", "other_stage", "not_utf8", "damaged_file")
"""What is wrong with a first row that tells of the whole file."""


def require_files(spec: RunSpec) -> None:
    """Raise ValueError for what can be seen at a glance: a file, a tokenizer or a function of the user's that is not
    there, a first row of a file that is of another stage or in another encoding. `prepare` looks at all of it.
    """
    rows = STAGES[spec.stage.kind].rows
    files = (
        (spec.data.path, phrase(DATA_FILE), rows),
        (spec.eval.path, say("validation file"), rows),
        (spec.data.mix_path, say("plain text for data.mix_path"), "pretrain"),
        (spec.data.chats_path, say("conversations for data.chats_path"), "sft"),
        (spec.eval.pretrain_path, say("plain text for eval.pretrain_path"), "pretrain"),
        (spec.eval.facts_path, say("questions for eval.facts_path"), "rl"),
    )
    for text, what, kind in files:
        path = _existing(text, what)
        if path is None:
            continue
        for file in row_files(path):
            refuse_upstream(file.path.name, kind)
            for line, content in islice(file, 1):
                row = as_row(STAGE_ROWS[kind], content, file.path, line)
                strict = spec.data.limits.max_bad_rows == 0
                if strict and isinstance(row, DataError) and row.kind in _SEEN_AT_ONCE:
                    raise row if text == spec.data.path else ValueError(f"{what}: {row}")
    spec.stage.require_files()
    spec.stage.require_code()
    if spec.data.tokenizer is not None:
        tokenizer_folder(spec.data.tokenizer)


def require_vocabulary(tokenizer: Tokenizer, vocab_size: int, where: str) -> None:
    """Raise ValueError unless a model with `vocab_size` ids knows exactly those of the tokenizer from `where`."""
    if tokenizer.vocab_size != vocab_size:
        raise ValueError(
            say(
                "the tokenizer in {where} has {vocab_size} ids, the model has {model_size}: set the "
                "model to it with --set model.vocab_size={vocab_size}, or take another tokenizer",
                where=where,
                vocab_size=tokenizer.vocab_size,
                model_size=vocab_size,
            )
        )


def _existing(path: str | None, what: str) -> Path | None:
    return paths.existing(path, what) if path is not None else None


def _first_weights(spec: RunSpec, weights: Weights | None, own: Path | None) -> tuple[Path | None, Manifest | None]:
    """The checkpoint that the run's weights come from, and its manifest.

    A run that goes on has its weights, but for those that its adapter stands beside.
    """
    if own is not None:
        init = adapter_base.find_base(own) if spec.adapter is not None else None
    else:
        weights = weights or (find_weights(spec.weights) if spec.weights is not None else None)
        init = weights.folder if weights else None
    if init is None:
        return None, None
    manifest = verify(init)
    if spec.adapter is not None:
        adapter_base.base_of(init)
    return init, manifest


def _roles(spec: RunSpec) -> dict[str, str]:
    """The checkpoint of each role that the run needs a model for: the one that is named, else the first weights, also
    where the run goes on. Where those are drawn from the seed there is none.
    """
    needed = [role for role in STAGES[spec.stage.kind].roles if role not in spec.stage.does_without]
    first = {} if spec.weights is None else dict.fromkeys(needed, spec.weights)
    return first | spec.roles


def _role_folder(spec: RunSpec, role: str, named: str, tokenizer: Tokenizer) -> Path:
    """The checkpoint that a spec names for a role, which must read the same tokens."""
    folder = find_weights(named).folder
    tokenizer.require_same(verify(folder)["tokenizer_fingerprint"], f"{folder} (roles.{role})")
    require_kind(spec, role, folder)
    return folder


def _check(
    spec: RunSpec,
    source: Path | None,
    rows: str,
    held_out: Path | None,
    console: Console,
    tokenizer: Tokenizer | None = None,
    *,
    setting: str = "data.path",
) -> None:
    """Let the data doctor look at the file, if there is one, once for each content and limits. tokenizer: for rows that
    a chat template writes, whose answers may lie behind max_seq_len. setting: which names the file.
    """
    if source is None:
        return
    width, tools = spec.data.max_seq_len, _offers(spec, rows, setting)
    written = [tokenizer.fingerprint, chat_template(tokenizer), width, *tools] if tokenizer else []
    held_out_digest = content_sha256(held_out) if held_out else None
    key = [content_sha256(source), held_out_digest, spec.data.limits.model_dump(), rows, READING, *written]
    passed = paths.cache() / "checks" / f"{_key(key)}.json"
    if passed.exists():
        if known := json.loads(passed.read_text("utf-8")).get("written"):
            console.print(say("{name}: {known}; looked at before.", name=source.name, known=known))
        return
    report = check_file(
        source,
        rows,
        tokenizer=tokenizer,
        max_seq_len=width if tokenizer else None,
        eval_path=held_out,
        tools=tools,
    )
    try:
        report.refuse_above(spec.data.limits, "data.limits")
    except ValueError as error:
        raise ValueError(str(error) if setting == "data.path" else f"{setting}: {error}") from None
    how = report.written()
    counts = [say("{count} {kind}", count=count, kind=kind) for kind, count in report.counts.items()]
    found = say(", ").join(counts) or say("nothing wrong")
    unused = say(" Not used: {names}.", names=", ".join(sorted(report.ignored_fields))) if report.ignored_fields else ""
    tell(
        console,
        say(
            "Checked {name}: {rows} rows{how}, {found}.{unused}",
            name=source.name,
            rows=amount(report.rows),
            how=f" ({how})" if how else "",
            found=found,
            unused=unused,
        ),
    )
    for warning in report.warnings():
        console.print(warning, style="yellow", markup=False)
    paths.make(passed.parent)
    partial = passed.with_name(f"{passed.name}.{os.getpid()}.{threading.get_ident()}")
    partial.write_text(json.dumps(report.to_dict() | {"written": how}, ensure_ascii=False), "utf-8")
    partial.replace(passed)  # whoever reads it meanwhile reads all of it


def _key(content: object) -> str:
    """A name in the cache for what was made of `content`."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


def _tokenizer(spec: RunSpec, source: Path, digest: str, own: Path | None, init: Path | None, console: Console) -> Path:
    """The folder, in the cache, of the tokenizer that the run has, that was asked for, that its first weights have, or
    that is trained on the data. A copy in the cache outlives whatever becomes of the run it was taken from.
    """
    named = own or (tokenizer_folder(spec.data.tokenizer) if spec.data.tokenizer is not None else init)
    if named is None:
        if STAGES[spec.stage.kind].rows != "pretrain":
            raise ValueError(
                say("{kind} without first weights: name a tokenizer with --tokenizer RUN", kind=spec.stage.kind)
            )
        return _trained(spec, source, digest, console)
    tokenizer = Tokenizer.load(named)
    # The same ids may come with another chat template.
    template = f"-{_key(tokenizer.foreign_template)}" if tokenizer.foreign_template is not None else ""
    return _cached(f"{tokenizer.fingerprint[:24]}{template}", tokenizer.save)


def _trained(spec: RunSpec, source: Path, digest: str, console: Console) -> Path:
    wanted = TokenizerSpec(
        path=str(source),
        vocab_size=spec.model.vocab_size,
        split_cjk=spec.data.split_cjk,
        max_bad_rows=_bad_rows(spec),
    )

    def train(folder: Path) -> None:
        console.print(
            say(
                "No --tokenizer given: training one with {vocab_size} ids on {source}.",
                vocab_size=wanted.vocab_size,
                source=source,
            )
        )
        learn(wanted, folder)

    folder = _cached(_key([digest, wanted.vocab_size, wanted.split_cjk, wanted.max_texts]), train)
    console.print(say("Tokenizer: {folder}", folder=folder))
    return folder


def _cached(name: str, make: Callable[[Path], object]) -> Path:
    """The tokenizer folder of this name in the cache, made if it is not there, by one process at a time."""
    folder = paths.cache() / "tokenizers" / name
    paths.make(folder.parent)
    with FileLock(folder.with_name(f"{name}.lock")):
        if not folder.exists():
            partial = folder.with_name(f"{name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            make(partial)
            partial.rename(folder)
    return folder


def _bad_rows(spec: RunSpec) -> int:
    """How many rows that can't be used may be left out; the data doctor has found no more than are allowed."""
    return spec.data.limits.max_bad_rows if spec.data.limits.max_bad_rows is not None else sys.maxsize


def _offers(spec: RunSpec, rows: str, setting: str) -> tuple[Tool, ...]:
    """What the prompts of a file list as what can be called. Facts are asked as they were learnt: without."""
    return spec.stage.offers if rows == "rl" and setting != "eval.facts_path" else ()


def _tokenised(
    source: Path,
    rows: str,
    tokenizer: Tokenizer,
    spec: RunSpec,
    pipeline: Pipeline | None,
    console: Console,
    setting: str = "data.path",
) -> TokenShards:
    shards = tokenise(
        [source],
        tokenizer,
        paths.cache() / "shards",
        rows=rows,
        tools=_offers(spec, rows, setting),
        max_bad_rows=_bad_rows(spec),
        progress=_sparse(console.print, time.monotonic()),
        pipeline=pipeline,
    )
    skipped = say("; {count} broken rows left out", count=shards.skipped_rows) if shards.skipped_rows else ""
    width = spec.data.max_seq_len
    long, cut = shards.lengths.reshape(-1, shards.documents_per_row).max(axis=1) > width, ""
    if shards.conversations:
        kinds = {"dpo": say("pairs of answers"), "kto": say("answers with a label")}
        documents, text = kinds.get(rows, say("conversations")), say("answers")
        usable = STAGES[spec.stage.kind].usable
        kept = usable(shards, width)
        asked_for = not (setting == "eval.facts_path" and is_stock_questions(source))  # those nobody has named
        if not len(kept) and asked_for:
            raise ValueError(
                say(
                    "{source}: of none of {shards} {documents} can anything be learnt in {width} tokens: give others, "
                    "or a longer --max_seq_len",
                    source=source,
                    shards=shards.rows,
                    documents=documents,
                    width=width,
                )
            )
        if count := long[kept].sum():
            cut = say("; {count} longer than {width} tokens lose their end", count=amount(count), width=width)
        too_long = int(np.delete(long, kept).sum()) if usable is whole else 0
        if too_long:
            cut = say("; {count} longer than {width} tokens left out", count=amount(too_long), width=width)
        if lost := shards.rows - len(kept) - too_long:
            cut += say(
                "; {count} of which nothing can be learnt in {width} tokens left out", count=amount(lost), width=width
            )
    else:
        documents, text = say("documents"), say("text")
        if count := long.sum():
            cut = say("; {count} longer than {width} tokens are read in pieces", count=amount(count), width=width)
    tell(
        console,
        say(
            "Data: {name}: {shards} {documents}, {tokens} tokens, {bytes} of {text}{cut}{skipped}.",
            name=source.name,
            shards=amount(shards.rows),
            documents=documents,
            tokens=amount(shards.tokens),
            bytes=size(int(shards.text_bytes.sum())),
            text=text,
            cut=cut,
            skipped=skipped,
        ),
    )
    return shards


def _sparse(tell: Callable[[str], None], started: float, period_s: float = 5.0) -> Callable[[int, int, int], None]:
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
        tell(
            say(
                "Tokenising {done:.0f}%: {tokens} tokens, {rate} tokens/s, {left:.0f} s left",
                done=100 * done / max(1, total),
                tokens=amount(tokens),
                rate=amount(rate),
                left=left,
            )
        )

    return progress
