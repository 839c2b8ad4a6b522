"""A file of rows that is made prompt by prompt, for hours perhaps: it can be ended at any moment, and goes on.

FILE.jsonl        the rows, in the order of their prompts: whole or absent
FILE.jsonl.json   the record: what was asked for, written first; and what came of it
FILE.jsonl.part   what came of each prompt so far, in the order in which it came; gone when there is nothing left to do
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from jobs import paths
from jobs.runs.evals import write_parts, write_text
from minimind.events import JsonLines
from minimind.language import say

FORMAT = 1

Entry = dict[str, Any]
"""What came of a prompt. `row`: what is written of it, None or absent for nothing."""


class Journal:
    """See above. asked: what the file was asked for; the same file is only ever made of the same. noted: what else the
    record holds from the start; None leaves what it held.

    record: as it was last written. Entries are known by the number of their prompt.
    """

    def __init__(self, out: Path, asked: Mapping[str, Any], noted: Mapping[str, Any]) -> None:
        self.out, self.asked, self.noted = out, dict(asked), dict(noted)
        self.record_path, self.part_path = out.with_name(f"{out.name}.json"), out.with_name(f"{out.name}.part")
        self.record: dict[str, Any] = {}
        self._lines: JsonLines | None = None
        self._places: dict[int, tuple[int, int]] = {}  # of each entry, from byte to byte

    @classmethod
    @contextmanager
    def open(cls, out: Path, asked: Mapping[str, Any], **noted: Any) -> Iterator[Journal]:
        """The journal of a file that is begun or goes on, for this process alone.

        Raises ValueError for a file that was asked for otherwise, was not made so, or is being made by another process.
        """
        if out.suffix != ".jsonl":
            raise ValueError(say("--out {out}: rows are written to a file that ends in .jsonl", out=out))
        locks = paths.make(paths.cache() / "locks")
        lock = FileLock(locks / f"{hashlib.sha256(str(out).encode()).hexdigest()[:24]}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(say("{out} is being made by another process", out=out)) from None
        try:
            journal = cls(out, asked, noted)
            try:
                journal._begin()
                yield journal
            finally:
                journal._end()
        finally:
            lock.release()

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.record.get("finished"))

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, number: int, entry: Entry) -> None:
        """Keep what came of a prompt: from here on no kill takes it away."""
        assert self._lines is not None
        begin = self.part_path.stat().st_size
        self._lines.append({"number": number, **entry}, durable=True)
        self._places[number] = (begin, self.part_path.stat().st_size)

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """What came of the prompts so far, in their order."""
        with self.part_path.open("rb") as part:
            for number, (begin, end) in sorted(self._places.items()):
                part.seek(begin)
                yield number, json.loads(part.read(end - begin))

    def keep(
        self, found: Mapping[str, Any], *, finished: bool, rows: Iterable[Mapping[str, Any]] | None = None
    ) -> None:
        """Write the rows that there are, and the record with what was found. finished: nothing is left to do. rows: in
        their order, where that is not the one of the prompts. Where nothing has come of any prompt, no file is left.
        """
        if not self._places:
            self.record = {}
            return
        if rows is None:
            rows = (entry["row"] for _, entry in self.entries() if entry.get("row"))
        write_parts(self.out, lines(rows))
        self._write_record({**found, "finished": finished})
        if finished:
            self.part_path.unlink()

    def _begin(self) -> None:
        paths.make(self.out.parent)
        if self.record_path.exists():
            self.record = self._read_record()
            self.noted = {name: self.record.get(name) if now is None else now for name, now in self.noted.items()}
            if self.is_finished:
                self._require_same()
                self._require(self.out)
                self.part_path.unlink(missing_ok=True)
                return
            if self.out.exists():
                self._require(self.part_path)
        elif there := next((path for path in (self.out, self.part_path) if path.exists()), None):
            raise ValueError(
                say("{there} is there already, and was not begun by this command; name another --out", there=there)
            )
        else:
            self._write_record({"finished": False})
        self._lines = JsonLines(self.part_path)
        self._find_entries()
        if self._places:
            self._require_same()
        else:  # killed before anything came: nothing of it is used
            self._write_record({"finished": False})

    def _end(self) -> None:
        if self._lines is not None:
            self._lines.close()
            if self.part_path.exists() and not self.part_path.stat().st_size:
                self.part_path.unlink()
                self.record_path.unlink()

    def _require(self, path: Path) -> None:
        if not path.is_file():
            raise ValueError(
                say(
                    "{path} is gone; remove {record} to make everything anew, or name another --out",
                    path=path,
                    record=self.record_path,
                )
            )

    def _find_entries(self) -> None:
        end = 0
        with self.part_path.open("rb") as part:
            for line, content in enumerate(part, start=1):
                begin, end = end, end + len(content)
                try:
                    self._places[int(json.loads(content)["number"])] = (begin, end)
                except (ValueError, LookupError, TypeError):
                    raise ValueError(
                        say("{part}:{line}: not an entry of this program", part=self.part_path, line=line)
                    ) from None

    def _read_record(self) -> dict[str, Any]:
        try:
            record = json.loads(self.record_path.read_text("utf-8"))
        except (OSError, ValueError):
            record = None
        if not isinstance(record, dict) or record.get("format") != FORMAT or not isinstance(record.get("asked"), dict):
            raise ValueError(say("{record} is no record of this program; name another --out", record=self.record_path))
        return record

    def _require_same(self) -> None:
        before, now = dict(_flat(self.record["asked"])), dict(_flat(self.asked))
        for name in (*now, *before):
            if before.get(name) != now.get(name):
                raise ValueError(
                    say(
                        "{out} was begun with {name} = {before}, and this is {now}: go on as it was begun, or name "
                        "another --out",
                        out=self.out,
                        name=name,
                        before=_shown(before.get(name)),
                        now=_shown(now.get(name)),
                    )
                )

    def _write_record(self, found: Mapping[str, Any]) -> None:
        self.record = {"format": FORMAT, "asked": self.asked, **self.noted, **found}
        write_text(self.record_path, json.dumps(self.record, ensure_ascii=False, indent=2) + "\n")


def lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Rows as lines of JSON."""
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _flat(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested objects by their dotted names."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
