"""The data doctor: reads a file as training would and says what is wrong with it, with line numbers.

Memory is a dozen bytes per row: texts are hashed, not kept.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rich.table import Table

from data.bias import LengthBias, bias_of_labels, bias_of_pairs
from data.encode import Document, Tool, documents, require_documents
from data.formats import form_of, refuse_upstream, stage_of
from data.read import TEXTS, DataError, RowFile, as_row, row_files
from data.rules import Turns, answer_characters, conversations, excerpt, keys, problems
from data.schema import STAGE_ROWS, LabelledRow, PreferenceRow, PretrainRow, PromptRow, Row
from minimind.config import Config
from minimind.language import phrase, say
from minimind.text.tokenizer import Tokenizer, encodable
from minimind.units import amount

PASSAGES = "passages of text"
"""How the rows of a text are written, as a report says."""

LOPSIDED = 4
"""So many times as many answers of one label as of the other are worth a warning."""

EXAMPLES = 10
"""How many rows of a kind are listed; all are counted."""


class CheckLimits(Config):
    """How many rows of a file may have a problem before it is refused; None: any number."""

    max_bad_rows: int | None = Field(
        default=0, ge=0, description="rows that can't be read, lack fields or are empty: left out"
    )
    max_bad_turns: int | None = Field(
        default=0, ge=0, description="conversations that teach nothing, or the wrong thing"
    )
    max_unread_fields: int | None = Field(
        default=0, ge=0, description="rows with a field that nothing reads and that may mean something"
    )
    max_leaked: int | None = Field(default=0, ge=0, description="rows that stand in the evaluation file too")
    max_duplicates: int | None = Field(default=None, ge=0, description="rows that came before, word for word")
    max_contradictions: int | None = Field(
        default=None, ge=0, description="rows that say the contrary of one before: neither is learnt"
    )
    max_truncated: int | None = Field(
        default=None, ge=0, description="conversations longer than max_seq_len: their end is lost"
    )


@dataclass(frozen=True)
class Problem:
    """A kind of problem. limit: the field of CheckLimits that counts it, None where nothing is lost by it."""

    meaning: str
    limit: str | None


PROBLEMS = {
    "damaged_file": Problem("the file breaks off: always refused", None),
    "not_utf8": Problem("bytes that aren't UTF-8", "max_bad_rows"),
    "broken_json": Problem("not JSON", "max_bad_rows"),
    "wrong_fields": Problem("fields missing or of another type", "max_bad_rows"),
    "other_stage": Problem("rows of another stage", "max_bad_rows"),
    "empty": Problem("no text at all", "max_bad_rows"),
    "wrong_order": Problem("turns in an order that a conversation can't have", "max_bad_turns"),
    "unwritable": Problem("what the chat template can't write", "max_bad_turns"),
    "tags": Problem("tags in a text: learnt as letters", "max_bad_turns"),
    "empty_question": Problem("a user's turn without content", "max_bad_turns"),
    "empty_answer": Problem("an answer without content", "max_bad_turns"),
    "fully_masked": Problem("nothing to learn from: no answer, or none before max_seq_len", "max_bad_turns"),
    "same_answers": Problem("chosen and rejected are the same", "max_bad_turns"),
    "different_prompts": Problem("chosen and rejected answer different prompts", "max_bad_turns"),
    "one_label": Problem("all labels are the same: nothing to tell good from bad by", "max_bad_turns"),
    "unread_fields": Problem("fields that nothing reads", "max_unread_fields"),
    "leaked": Problem("also in the evaluation file", "max_leaked"),
    "duplicate": Problem("the same row again", "max_duplicates"),
    "contradiction": Problem("the contrary of a row before", "max_contradictions"),
    "truncated": Problem("longer than max_seq_len, the end is lost", "max_truncated"),
    "cut": Problem("longer than max_seq_len, read in pieces, nothing is lost", None),
}
"""What the doctor looks for, worst first."""


@dataclass(frozen=True)
class Issue:
    """One finding: which kind, where (line 0: the whole file), and what exactly."""

    kind: str
    file: str
    line: int
    detail: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.detail}" if self.line else f"{self.file}: {self.detail}"


@dataclass(frozen=True)
class Lengths:
    """How long the rows are, in characters or tokens."""

    total: int
    mean: float
    p50: int
    p90: int
    p99: int
    longest: int


@dataclass
class Report:
    """What was found in a file or folder. rows: all of it, good and bad. counts: rows per problem; examples: the first
    of them.

    files: how many were read. first: what the first good row says, in short. forms: how the good rows are written, as
    `form_of` says, with their number. lengths: of the good rows, in "characters" and, with a tokenizer, in "tokens".
    ignored_fields: fields that no stage reads, with the number of rows that have them. labels: of labelled answers, how
    many are good and how many bad. unanswered: questions for reinforcement learning without a right answer. bias: how
    the lengths of better and worse answers differ; None of other rows. The same row again counts for neither.
    """

    file: str
    stage: str
    files: int = 1
    rows: int = 0
    first: str = ""
    forms: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Issue]] = field(default_factory=dict)
    lengths: dict[str, Lengths] = field(default_factory=dict)
    ignored_fields: Counter[str] = field(default_factory=Counter)
    labels: dict[bool, int] = field(default_factory=dict)
    unanswered: int = 0
    bias: LengthBias | None = None

    @property
    def bad_rows(self) -> int:
        """How many rows training would leave out, or refuse."""
        return sum(self.counts[kind] for kind, problem in PROBLEMS.items() if problem.limit == "max_bad_rows")

    def examples_of(self, kind: str) -> list[Issue]:
        """The first three examples of a problem; of those that say the same, the first."""
        return list({issue.detail: issue for issue in reversed(self.examples[kind])}.values())[::-1][:3]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        counters = {"forms": self.forms, "counts": self.counts, "ignored_fields": self.ignored_fields}
        return asdict(self) | {name: dict(counter) for name, counter in counters.items()}

    def warnings(self) -> list[str]:
        """What is no fault of any row, but of all of them: what a model would learn instead of what they mean."""
        found = []
        if self.bias is not None and self.bias.clear:
            found.append(
                say(
                    "Length gives the better answer away: {rule} is right in {decided:.0%} of all cases, where 50% is "
                    "chance (p = {p:.1g}; {better:,.0f} characters on average against {worse:,.0f}). A model may learn "
                    "that and nothing else: add rows that go the other way, or leave some of these out.",
                    rule=say("taking the longer one") if self.bias.longer > 0.5 else say("taking the shorter one"),
                    decided=self.bias.decided,
                    p=self.bias.p,
                    better=self.bias.mean_better,
                    worse=self.bias.mean_worse,
                )
            )
        if self.unanswered:
            found.append(
                say(
                    "{count:,} of {rows:,} rows have no right answer: rewards that compare with one (exact, contains, "
                    "number) can't judge them; those that look at the form of an answer can.",
                    count=self.unanswered,
                    rows=self.rows,
                )
            )
        if 0 < LOPSIDED * min(self.labels.values(), default=0) <= max(self.labels.values(), default=0):
            found.append(
                say(
                    "{good:,} answers are good and {bad:,} bad: what is rare is hardly learnt. Add some of the rarer "
                    "ones, or leave out some of the others.",
                    good=self.labels[True],
                    bad=self.labels[False],
                )
            )
        return found

    def written(self) -> str:
        """How the rows are written, and in how many files, in words; "" for rows {"text": ...} of one file."""
        said = [(phrase(form), count) for form, count in self.forms.most_common()]
        forms = [form if len(said) == 1 else f"{count:,} {form}" for form, count in said]
        files = [say("{count:,} files", count=self.files)] if self.files > 1 else []
        return ", ".join(files + forms)

    def table(self) -> Table:
        """The report for a terminal."""
        table = Table(
            title=say("{file} as {stage}", file=self.file, stage=self.stage),
            title_justify="left",
            box=None,
            show_header=False,
        )
        table.add_column(overflow="fold", ratio=3)
        table.add_column(justify="right")
        table.add_column(overflow="fold", ratio=5)
        table.add_row(say("rows"), f"{self.rows:,}", self.written())
        table.add_row(say("the first"), "", self.first)
        for unit, lengths in self.lengths.items():
            table.add_row(say("{unit} in all", unit=phrase(unit)), amount(lengths.total), "")
            spread = say(
                "half up to {p50:,}, 90 % up to {p90:,}, 99 % up to {p99:,}, longest {longest:,}",
                p50=lengths.p50,
                p90=lengths.p90,
                p99=lengths.p99,
                longest=lengths.longest,
            )
            table.add_row(say("{unit} per row", unit=phrase(unit)), f"{lengths.mean:,.0f}", spread)
        if self.labels:
            counts = say("{good:,} good, {bad:,} bad", good=self.labels.get(True, 0), bad=self.labels.get(False, 0))
            table.add_row(say("labels"), "", counts)
        if self.bias is not None:
            apart = say(
                "{better:,.0f} characters on average against {worse:,.0f}; the better one is longer in {longer:.0f} %",
                better=self.bias.mean_better,
                worse=self.bias.mean_worse,
                longer=100 * self.bias.longer,
            )
            table.add_row(say("better and worse answers"), "", apart)
        for name, count in self.ignored_fields.most_common():
            table.add_row(say("field {name!r} is not used", name=name), f"{count:,}", "")
        for kind, problem in PROBLEMS.items():
            if self.counts[kind]:
                where = "\n".join(str(issue).removeprefix(f"{self.file}:") for issue in self.examples_of(kind))
                table.add_row(f"{kind}: {phrase(problem.meaning)}", f"{self.counts[kind]:,}", where)
        return table

    def alike(self) -> str | None:
        """What is wrong with all rows, where none of several can be used and it is for the same reason; else None."""
        kinds = [kind for kind, count in self.counts.items() if count == self.rows == self.bad_rows]
        return self.examples[kinds[0]][0].detail if kinds and self.rows > 1 else None

    def refuse_above(self, limits: CheckLimits, section: str = "data") -> None:
        """Raise ValueError if the file has more rows with a problem than allowed, or no row that can be used.

        section: where in the run's settings the limits lie, for the advice in the message.
        """
        if (reason := self.alike()) is not None:
            raise ValueError(
                say(
                    "{file}: no row of {rows:,} that can be used for {stage}: {reason}",
                    file=self.file,
                    rows=self.rows,
                    stage=self.stage,
                    reason=reason,
                )
            )
        complaints = [str(issue) for issue in self.examples.get("damaged_file", [])]
        usable = self.rows - self.bad_rows
        for name, limit in limits:
            kinds = [kind for kind, problem in PROBLEMS.items() if problem.limit == name and self.counts[kind]]
            found = sum(self.counts[kind] for kind in kinds)
            if limit is not None and found > limit:
                counts = say(", ").join(
                    say(
                        "{count} {kind} ({meaning})",
                        count=self.counts[kind],
                        kind=kind,
                        meaning=phrase(PROBLEMS[kind].meaning),
                    )
                    for kind in kinds
                )
                first = [f"  {issue}" for kind in kinds for issue in self.examples_of(kind)]
                if usable:  # allowing all of them would leave nothing
                    counts += say(
                        "; {name} = {limit}: mend them, or allow them with --set {section}.{name}={found}",
                        name=name,
                        limit=limit,
                        section=section,
                        found=found,
                    )
                complaints.append("\n".join([counts, *first]))
        if not usable:
            complaints.append(say("no row that can be used"))
        if complaints:
            heading = say("{file}, {rows} rows for {stage}: ", file=self.file, rows=self.rows, stage=self.stage)
            raise ValueError(heading + "\n".join(complaints))


def check_file(
    path: str | Path,
    stage: str,
    *,
    tokenizer: Tokenizer | None = None,
    max_seq_len: int | None = None,
    eval_path: str | Path | None = None,
    tools: Sequence[Tool] = (),
) -> Report:
    """Examine a file, or all files of a folder, for a stage of STAGE_ROWS.

    tokenizer: also measure lengths in tokens, as the chat template writes the row, which takes as long as tokenising.
    max_seq_len: with it, find rows that are cut or truncated. eval_path: a file of any stage's rows; a row leaks if a
    text or question of it stands there too, case and white space aside. tools: what prompts list as what can be called.

    Raises ValueError for an unknown stage, and for files that can't be opened; a DataError if the evaluation file has
    a bad row.
    """
    if stage not in STAGE_ROWS:
        raise ValueError(
            say(
                "stage {stage!r}: no rows are known for it; allowed are {names}",
                stage=stage,
                names=", ".join(STAGE_ROWS),
            )
        )
    files = row_files(path)
    held_out = _held_out(eval_path) if eval_path is not None else frozenset()
    report = Report(str(Path(path).expanduser().absolute()), stage, files=len(files))
    doctor = _Doctor(report, tokenizer, max_seq_len, held_out, tools)
    for file in files:
        refuse_upstream(file.path.name, stage)
        doctor.open(file)
        try:
            for line, content in file:
                doctor.look_at(line, content)
        except DataError as error:
            doctor.found(error.kind, error.line, error.problem)
    doctor.finish()
    return report


def guess_stage(path: str | Path) -> str | None:
    """The stage whose rows the first row of a file or folder looks like; None if none does.

    Raises ValueError for files that can't be opened.
    """
    first = next((content for file in row_files(path) for _, content in file), None)
    return _stage(first)


def fault(stage: str, content: dict[str, Any]) -> str | None:
    """What the doctor would find wrong with a row that is about to be written, in words; None for nothing."""
    try:
        encodable(json.dumps(content, ensure_ascii=False))
        row = as_row(STAGE_ROWS[stage], content, Path(), 0)
        if isinstance(row, DataError):
            return row.problem
        if found := next((detail for _, detail in problems(row)), None):
            return found
        require_documents(row)
    except ValueError as error:
        return str(error)
    return None


class _Doctor:
    """Looks at one row after the other and keeps numbers only."""

    def __init__(
        self,
        report: Report,
        tokenizer: Tokenizer | None,
        max_seq_len: int | None,
        held_out: frozenset[int],
        tools: Sequence[Tool] = (),
    ) -> None:
        self.report, self.tools = report, tools
        self.tokenizer, self.max_seq_len, self.held_out = tokenizer, max_seq_len, held_out
        self.row_type, self.path = STAGE_ROWS[report.stage], Path(report.file)
        self.files: list[tuple[int, str]] = []  # the first row of each, counted among the good ones, and its path
        self.lines, self.digests = array("Q"), array("Q")
        self.characters, self.tokens = array("Q"), array("Q")
        # Of rows that prefer something: the digest of the contrary, and how long the answers are, -1 for none.
        self.opposites, self.better, self.worse = array("Q"), array("q"), array("q")

    def open(self, file: RowFile) -> None:
        """What is looked at from here on stands in this file."""
        self.path, self.form = file.path, PASSAGES if file.suffix in TEXTS else ""
        self.files.append((len(self.lines), str(file.path)))

    def found(self, kind: str, line: int, detail: str, path: str | None = None) -> None:
        self.report.counts[kind] += 1
        examples = self.report.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(Issue(kind, path or str(self.path), line, detail))

    def look_at(self, line: int, content: object) -> None:
        self.report.rows += 1
        row = as_row(self.row_type, content, self.path, line)
        if isinstance(row, DataError):
            self.found(row.kind, line, row.problem)
            return
        if self.form or self.report.stage in ("sft", "kto"):
            self.report.forms[self.form or form_of(cast(dict[str, Any], content))] += 1
        if row.ignored:
            self.report.ignored_fields.update(set(row.ignored))
        if row.unread:
            self.found("unread_fields", line, say("nothing reads {names}", names=", ".join(row.unread)))
        if isinstance(row, PromptRow) and row.before is not None and not row.answer.strip():
            self.report.unanswered += 1
        known = list(problems(row))
        for kind, detail in known:
            self.found(kind, line, detail)
        said = conversations(row)
        parts = [part for conversation in said for part in conversation]
        self.report.first = self.report.first or "; ".join(_said(*part) for part in parts[:4])
        self.lines.append(line)
        sides = _sides(row, said)
        self.digests.append(_sides_digest(sides))
        if len(sides) == 2:
            self.opposites.append(_sides_digest(sides[::-1]))
            better, worse = (-1 if side is None else answer_characters(side) for side in sides)
            self.better.append(better)
            self.worse.append(worse)
        self.characters.append(sum(len(text) for _, text in parts))
        try:
            if self.tokenizer is not None:
                self._measure(line, row, self.tokenizer)
            else:
                require_documents(row)
        except ValueError as error:
            if not {kind for kind, _ in known} & {"fully_masked", "wrong_order"}:
                self.found("unwritable", line, str(error))
        leaked = [key for key in keys(row) if _normal_digest(key) in self.held_out]
        if leaked:
            self.found("leaked", line, excerpt(leaked[0]))

    def _measure(self, line: int, row: Row, tokenizer: Tokenizer) -> None:
        found = documents(tokenizer, row, self.tools)
        limit, longest = self.max_seq_len, max(len(document.ids) for document in found)
        self.tokens.append(longest)
        if isinstance(row, PreferenceRow) and (detail := _teaches_nothing(found, limit)):
            self.found("fully_masked", line, detail)
            return
        if limit is None or longest <= limit:
            return
        masked = max(document.first_target or 0 for document in found)
        if masked >= limit:
            late = say(
                "the first answer begins after {count} tokens, max_seq_len = {limit}: give a larger --max_seq_len",
                count=masked,
                limit=limit,
            )
            self.found("fully_masked", line, late)
        else:
            kind = "cut" if isinstance(row, PretrainRow) else "truncated"
            self.found(kind, line, say("{count} tokens, max_seq_len = {limit}", count=longest, limit=limit))

    def _file_of(self, row: int) -> str:
        return self.files[bisect(self.files, row, key=lambda file: file[0]) - 1][1]

    def finish(self) -> None:
        digests, lines = np.array(self.digests, np.uint64), np.array(self.lines, np.int64)
        _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
        for again in np.flatnonzero(first[inverse] != np.arange(len(digests))):
            before = first[inverse[again]]
            path, path_before = self._file_of(int(again)), self._file_of(int(before))
            same = (
                say("the same as line {line}", line=lines[before])
                if path == path_before
                else say("the same as line {line} of {path}", line=lines[before], path=path_before)
            )
            self.found("duplicate", int(lines[again]), same, path)
        if self.opposites:
            self._finish_preferences(digests, lines, first[inverse] == np.arange(len(digests)))
        for unit, values in (("characters", self.characters), ("tokens", self.tokens)):
            if values:
                self.report.lengths[unit] = _lengths(np.array(values, np.int64))

    def _finish_preferences(
        self, digests: NDArray[np.uint64], lines: NDArray[np.int64], new: NDArray[np.bool_]
    ) -> None:
        """Contradictions, labels and lengths. new: whether a row is no duplicate."""
        opposites = np.array(self.opposites, np.uint64)
        before: dict[int, int] = {}
        for row in np.flatnonzero(np.isin(opposites, digests) & (opposites != digests)).tolist():
            if (other := before.get(int(opposites[row]))) is not None:
                path, path_before = self._file_of(row), self._file_of(other)
                detail = (
                    say("the contrary of line {line}: keep one of them", line=lines[other])
                    if path == path_before
                    else say(
                        "the contrary of line {line} of {path}: keep one of them", line=lines[other], path=path_before
                    )
                )
                self.found("contradiction", int(lines[row]), detail, path)
            before.setdefault(int(digests[row]), row)
        better, worse = np.array(self.better, np.int64)[new], np.array(self.worse, np.int64)[new]
        if self.row_type is PreferenceRow:
            self.report.bias = bias_of_pairs(better, worse)
            return
        good, bad = better[better >= 0], worse[worse >= 0]
        self.report.bias = bias_of_labels(good, bad)
        self.report.labels = {True: len(good), False: len(bad)}
        if not len(good) or not len(bad):
            all_of_them = say(
                "all {count:,} answers are labelled {label}: add some of the other kind",
                count=len(new),
                label="true" if len(good) else "false",
            )
            self.found("one_label", 0, all_of_them, self.report.file)


def _teaches_nothing(found: list[Document], limit: int | None) -> str:
    """Why nothing can be learnt of two answers of which at most `limit` tokens are read; "" where something can, and
    where a side says nothing at all, which is found elsewhere. `data.pack.paired` leaves such a pair out.
    """
    one, other = (document.ids for document in found)
    spans = [document.targets.reshape(-1, 2).tolist() for document in found]
    if one == other or not all(spans):
        return ""
    shared = next(at for at, (a, b) in enumerate(zip_longest(one, other)) if a != b)
    begins = [[start for start, end in each if end > shared] for each in spans]
    if not all(begins):
        return say("an answer has weight 0, so of one side nothing is learnt; of a pair both answers are")
    begin = max(map(min, begins))
    if limit is not None and begin >= limit:
        return say(
            "the prompt alone is {count} tokens long, max_seq_len = {limit}: nothing of the answers is read. "
            "Shorten it, or give rows more tokens",
            count=begin,
            limit=limit,
        )
    if limit is not None and shared >= limit:
        return say(
            "the first {limit} tokens (max_seq_len) of both are the same, so nothing tells them apart", limit=limit
        )
    return ""


def _said(role: str, text: str) -> str:
    return f"{role}: {excerpt(text)}" if role else excerpt(text)


def _stage(content: object) -> str | None:
    return stage_of(content) if isinstance(content, dict) else None


def _held_out(path: str | Path) -> frozenset[int]:
    """Digests of the keys of an evaluation file, whichever stage's rows it holds."""
    digests: set[int] = set()
    for file in row_files(path):
        for line, content in file:
            stage = _stage(content)
            row_type = STAGE_ROWS[stage] if stage else PromptRow
            row = as_row(row_type, content, file.path, line)
            if isinstance(row, DataError):
                raise row
            digests.update(map(_normal_digest, keys(row)))
    return frozenset(digests)


def _sides(row: Row, said: list[Turns]) -> list[Turns | None]:
    """The better conversation and the worse one, as a row's two documents have them: of a labelled answer one is None.
    Of rows that prefer nothing what they say. said: the row's `conversations`.
    """
    if isinstance(row, LabelledRow):
        return [said[0], None] if row.label else [None, said[0]]
    return [*said]


def _sides_digest(sides: list[Turns | None]) -> int:
    """The same for rows that say the same."""
    return _digest("\1".join("\0".join(map("\0".join, side or ())) for side in sides))


def _normal_digest(text: str) -> int:
    return _digest(" ".join(text.casefold().split()))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _lengths(values: np.ndarray[Any, np.dtype[np.int64]]) -> Lengths:
    p50, p90, p99, longest = (int(np.percentile(values, q, method="inverted_cdf")) for q in (50, 90, 99, 100))
    return Lengths(int(values.sum()), float(values.mean()), p50, p90, p99, longest)
