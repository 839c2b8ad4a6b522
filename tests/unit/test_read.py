from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from data.read import BadRows, DataError, RowFile, as_row, iter_texts, read_each, read_texts, row_files
from data.schema import ChatRow, PretrainRow

TEXTS = ["one", "二", "three\u2028still three"]


def write(path: Path, *lines: bytes | str | dict[str, str]) -> Path:
    """Lines as they come: bytes raw, texts in UTF-8, rows as JSON."""
    raw = [line if isinstance(line, bytes) else _text(line).encode() for line in lines]
    content = b"\n".join(raw) + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def _text(line: str | dict[str, str]) -> str:
    return line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)


def rows_of(path: Path, bad: BadRows | None = None) -> list[tuple[int, PretrainRow]]:
    return list(read_each(PretrainRow, RowFile(path), (bad or BadRows()).leave_out))


def parquet(path: Path, column: pa.Array) -> Path:
    pyarrow.parquet.write_table(pa.table({"text": column}), path)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    if name == "a.parquet":
        path = parquet(tmp_path / name, pa.array(TEXTS))
    else:
        path = write(tmp_path / name, *({"text": text} for text in TEXTS))
    assert rows_of(path) == [(i, PretrainRow(text=text)) for i, text in enumerate(TEXTS, 1)]
    assert list(iter_texts(path)) == TEXTS
    file = RowFile(path)
    assert file.done_bytes == 0
    assert list(read_texts(file, BadRows().leave_out)) == list(enumerate(TEXTS, 1))
    assert file.done_bytes == file.total_bytes == path.stat().st_size


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
@pytest.mark.parametrize("size_bytes", [1, 7, 100, 1000, 10**9])
def test_parts_give_the_same_rows_in_order(tmp_path: Path, name: str, size_bytes: int) -> None:
    if name == "a.parquet":
        table = pa.table({"text": [f"row {i}" for i in range(40)]})
        pyarrow.parquet.write_table(table, tmp_path / name, row_group_size=3)
        path = tmp_path / name
    else:
        rows = [{"text": text} for text in TEXTS]
        path = write(tmp_path / name, b'\xef\xbb\xbf{"text": "marked"}\r', *rows, b"", b"{", *rows, b'{"text": "last"}')
        if name == "a.jsonl":
            path.write_bytes(path.read_bytes().rstrip(b"\n"))

    def contents(file: RowFile) -> list[tuple[int, object]]:
        return [(line, str(content) if isinstance(content, DataError) else content) for line, content in file]

    whole = RowFile(path)
    expected = contents(whole)
    parts = whole.parts(size_bytes)
    found: list[tuple[int, object]] = []
    lines = 0
    for part in parts:
        found += [(lines + line, content) for line, content in contents(part)]
        lines += part.done_lines
    # A message counts lines as the part does; where the row stands is told beside it.
    assert [line for line, _ in found] == [line for line, _ in expected]
    assert [content for _, content in found if isinstance(content, dict)] == [
        content for _, content in expected if isinstance(content, dict)
    ]
    assert lines == whole.done_lines
    assert sum(part.total_bytes for part in parts) == whole.total_bytes
    if name == "a.jsonl.gz" or size_bytes == 10**9:
        assert parts == [whole]
    elif size_bytes < 1000:
        assert len(parts) > 1


def test_windows_files_and_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"text": "a"}\r', b"\r", b"  ", b'{"text": "b"}\r')
    assert [(line, row.text) for line, row in rows_of(path)] == [(1, "a"), (4, "b")]


def test_a_thousand_rows_of_parquet_keep_their_numbers(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", pa.array([f"row {i}" for i in range(1, 2501)]))
    assert all(row.text == f"row {line}" for line, row in rows_of(path))


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        (b'{"text": "a', "broken_json", "broken JSON: Unterminated string starting at .column 10."),
        (b"[" * 100_000, "broken_json", "broken JSON"),
        (b'{"text": "\xe4\xbd"}', "not_utf8", "not UTF-8: byte 0xe4 at position 11 of the line"),
        (b'{"text": "\\ud83d!"}', "not_utf8", "half a surrogate pair"),
        (b'{"content": "a"}', "wrong_fields", "a row needs text, the fields here are content"),
        (b'{"text": null}', "wrong_fields", "text = None"),
        (b'"text"', "wrong_fields", "this is a str"),
        (b'{"text": " \\n"}', "empty", "the row is empty"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(tmp_path: Path, line: bytes, kind: str, message: str) -> None:
    path = write(
        tmp_path / "a.jsonl",
        {"text": "fine"},
        line,
        {"text": "\U0001f600"},
    )
    for read in (lambda: rows_of(path), lambda: list(iter_texts(path))):
        with pytest.raises(DataError, match=f"^{path}:2: .*{message}") as caught:
            read()
        assert (caught.value.path, caught.value.line, caught.value.kind) == (str(path), 2, kind)
    bad = BadRows(limit=1)
    assert [line for line, _ in rows_of(path, bad)] == [1, 3]
    assert bad.count == 1
    assert list(iter_texts(path, BadRows(1))) == ["fine", "\U0001f600"]


def test_an_escaped_pair_is_a_character(tmp_path: Path) -> None:
    assert list(iter_texts(write(tmp_path / "a.jsonl", b'{"text": "\\ud83d\\ude00"}'))) == ["\U0001f600"]


def test_the_limit_is_for_all_files_together(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", "{", {"text": "a"})
    bad = BadRows(limit=1)
    assert list(iter_texts(path, bad)) == ["a"]
    with pytest.raises(DataError, match=r":1: .*\(bad row number 2; the limit is 1\)"):
        list(iter_texts(path, bad))


def test_empty_conversations_are_empty(tmp_path: Path) -> None:
    for messages in ([], [{"role": "user", "content": ""}, {"role": "assistant", "content": " "}]):
        row = as_row(ChatRow, {"conversations": messages}, tmp_path / "a.jsonl", 7)
        assert isinstance(row, DataError)
        assert row.kind == "empty"
    call = {"conversations": [{"role": "assistant", "content": "", "tool_calls": [{"name": "add"}]}]}
    assert isinstance(as_row(ChatRow, call, tmp_path / "a.jsonl", 7), ChatRow)


def test_utf16_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"text": "a"}\n'.encode("utf-16"))
    with pytest.raises(DataError, match=r":1: not UTF-8 but UTF-16; what converts it: iconv -f UTF-16 "):
        list(iter_texts(tmp_path / "a.jsonl"))


def test_parquet_with_bytes_that_are_not_text(tmp_path: Path) -> None:
    storage = pa.array([b"a", b"\xff", b"c"], pa.binary())
    path = parquet(tmp_path / "a.parquet", pa.Array.from_buffers(pa.string(), 3, storage.buffers()))
    with pytest.raises(DataError, match=r"a\.parquet:2: not UTF-8") as caught:
        list(iter_texts(path))
    assert caught.value.kind == "not_utf8"
    assert list(iter_texts(path, BadRows(1))) == ["a", "c"]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", *({"text": f"{i}"} for i in range(10_000)))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=f"^{path}: damaged gzip file"):
        list(iter_texts(path, BadRows(99)))
    path.write_bytes(b"not gzip at all")
    with pytest.raises(DataError, match="damaged gzip file"):
        list(iter_texts(path))
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        list(iter_texts(tmp_path / "a.parquet"))


@pytest.mark.parametrize("at", [4, -200])
def test_a_parquet_file_with_a_damaged_page_or_footer_is_named(tmp_path: Path, at: int) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(
        pa.table({"text": [f"{i}" for i in range(100)]}), path, compression="zstd", use_dictionary=False
    )
    content = bytearray(path.read_bytes())
    content[at : at + 100] = b"\xff" * 100
    path.write_bytes(content)
    for part in RowFile(path).parts(1):
        with pytest.raises(DataError, match=f"^{path}: not a readable Parquet file: ") as caught:
            list(part)
        assert caught.value.kind == "damaged_file"


def test_files_that_can_not_be_read_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^{tmp_path}/no\.jsonl: no such file"):
        RowFile(tmp_path / "no.jsonl")
    with pytest.raises(ValueError, match="is a folder"):
        RowFile(tmp_path)
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match=r"unknown format; allowed are files that end in \.jsonl, \.jsonl\.gz"):
        RowFile(tmp_path / "a.csv")


def test_data_errors_cross_processes() -> None:
    error = DataError("a.jsonl", 3, "empty", "the row is empty")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.line, again.kind) == ("a.jsonl:3: the row is empty", 3, "empty")


@pytest.mark.parametrize("name", ["book.txt", "Notes.MD"])
def test_a_text_file_has_a_row_for_each_passage(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(("\ufeff\r\n\r\n第一行\r\n second \r\n\r\n" + "长" * 1000 + "\n \nlast").encode())
    file = RowFile(path)
    assert list(file) == [(3, {"text": "第一行\n second \n\n" + "长" * 1000}), (8, {"text": "last"})]
    assert (file.done_bytes, file.done_lines) == (file.total_bytes, 8)
    assert file.parts(4) == [file]
    path.write_bytes(b"a\nb\xff\n\nc")
    before, (line, error), after = RowFile(path)
    assert (before, line, after) == ((1, {"text": "a"}), 2, (4, {"text": "c"}))
    assert isinstance(error, DataError)
    assert f"{name}:2: not UTF-8: byte 0xff at position 2" in str(error)


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "my a.jsonl.gz"])
@pytest.mark.parametrize(
    ("encoding", "said"), [("gbk", "it looks like GBK"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16LE")]
)
def test_another_encoding_is_called_by_its_name_with_what_converts_it(
    tmp_path: Path, name: str, encoding: str, said: str
) -> None:
    if encoding != "gbk" and name.endswith(".gz"):
        return  # what is compressed isn't looked at before it is read
    text = '{"text": "床前明月光，疑是地上霜"}\n'
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode(encoding)) if path.suffix == ".gz" else text.encode(encoding))
    error = next(content for _, content in RowFile(path))
    assert isinstance(error, DataError)
    assert (error.kind, error.line) == ("not_utf8", 1)
    assert said in str(error)
    subprocess.run(error.problem.partition("converts it: ")[2], shell=True, check=True, cwd=tmp_path)
    (made,) = set(tmp_path.iterdir()) - {path}
    assert made.name == f"{name.partition('.')[0]}.utf8{path.with_suffix('').suffix or path.suffix}"
    row = next(content for _, content in RowFile(made))
    assert row == ({"text": text.strip()} if name.endswith(".txt") else json.loads(text))


def test_a_folder_is_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a/2.md", "a/10.txt", ".git/x.txt", "a/.hidden.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "picture.png").write_bytes(b"\0")
    assert [str(file.path.relative_to(tmp_path)) for file in row_files(tmp_path)] == ["a/10.txt", "a/2.md", "b.txt"]
    assert list(iter_texts(tmp_path)) == ["a/10.txt", "a/2.md", "b.txt"]
    (tmp_path / "b.txt").write_bytes(b"good\n\xff\n")
    with pytest.raises(DataError, match=f"^{tmp_path}/b.txt:2: not UTF-8"):
        list(iter_texts(tmp_path))
    assert list(iter_texts(tmp_path, BadRows(1))) == ["a/10.txt", "a/2.md", "good"]


def test_a_folder_of_which_nothing_is_meant_or_two_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").touch()
    with pytest.raises(ValueError, match=r"no file in this folder can be read; .* It holds: picture\.png"):
        row_files(tmp_path)
    write(tmp_path / "a.jsonl", {"text": "a"})
    (tmp_path / "README.md").touch()
    with pytest.raises(ValueError, match=r"files of rows \(a\.jsonl\) and texts \(README\.md\)"):
        row_files(tmp_path)


@pytest.mark.parametrize(("name", "made"), [("a.json", "a.jsonl"), ("my rows.json", "my rows.rows.jsonl")])
def test_a_json_list_is_refused_with_what_makes_rows_of_it(tmp_path: Path, name: str, made: str) -> None:
    rows = [{"text": "a"}, {"text": "月"}]
    (tmp_path / name).write_text(json.dumps(rows), "utf-8")
    (tmp_path / "my rows.jsonl").write_text("kept")
    with pytest.raises(ValueError, match=r"unknown format; .* rename it .* one row a line with: (.*)") as caught:
        RowFile(tmp_path / name)
    command = str(caught.value).partition("with: ")[2].replace("python3", sys.executable)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert [row for _, row in RowFile(tmp_path / made)] == rows
    assert (tmp_path / "my rows.jsonl").read_text() == "kept"


@pytest.mark.parametrize("made", ["t.jsonl", "t.rows.jsonl"])
def test_a_table_is_refused_with_what_makes_rows_of_it(tmp_path: Path, made: str) -> None:
    (tmp_path / "t.csv").write_text('text,n\n"春,秋",1\n', "utf-8")
    if made != "t.jsonl":
        (tmp_path / "t.jsonl").write_text("kept")
    with pytest.raises(ValueError, match=r"unknown format; .* one row a line with: ") as caught:
        RowFile(tmp_path / "t.csv")
    command = str(caught.value).partition("with: ")[2].replace("python3", sys.executable)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert [row for _, row in RowFile(tmp_path / made)] == [{"text": "春,秋", "n": "1"}]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{“text”: “a”}", "straight quotes"),
        ("{'text': 'a'}", "double quotes"),
        ('{"text": "a"},', "without a comma after it"),
        ("[", "to stand in one line"),
        ("{", "to stand in one line"),
        ("春眠不觉晓", "plain text is to end in .txt"),
        ("text,label", "plain text is to end in .txt"),
        ('{"text": "a', "Unterminated string starting at (column 10)"),
    ],
)
def test_a_line_that_is_not_json_is_told_what_it_was_meant_to_be(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "a.jsonl").write_text(line + "\n", "utf-8")
    ((_, error),) = RowFile(tmp_path / "a.jsonl")
    assert isinstance(error, DataError)
    assert said in error.problem
    assert error.problem.endswith(said) or ";" in error.problem


def test_the_nulls_that_parquet_fills_in_are_none_of_the_row(tmp_path: Path) -> None:
    def row(arguments: dict[str, str], properties: dict[str, Any]) -> dict[str, Any]:
        tool = {"name": "f", "parameters": {"type": "object", "properties": properties}}
        called = {"role": "assistant", "content": "x", "tool_calls": [{"name": "f", "arguments": arguments}]}
        system = {"role": "system", "content": "s", "tools": [tool]}
        return {"conversations": [system, {"role": "user", "content": "q"}, called], "note": None}

    rows = [row({"date": "1"}, {"city": {"type": "string"}}), row({"city": "x"}, {"zone": {"enum": [1]}}), row({}, {})]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [content for _, content in RowFile(tmp_path / "a.parquet")] == rows


def test_the_maps_of_parquet_are_objects(tmp_path: Path) -> None:
    call = pa.struct([("name", pa.string()), ("arguments", pa.map_(pa.string(), pa.string()))])
    column = pa.array([[{"name": "f", "arguments": [("date", "1")]}]], pa.list_(call))
    pyarrow.parquet.write_table(pa.table({"calls": column, "text": ["a"]}), tmp_path / "a.parquet")
    bad = pa.array([b"\xff"], pa.binary()).view(pa.string())
    pyarrow.parquet.write_table(pa.table({"calls": column, "text": bad}), tmp_path / "b.parquet")
    assert [row for _, row in RowFile(tmp_path / "a.parquet")] == [
        {"calls": [{"name": "f", "arguments": {"date": "1"}}], "text": "a"}
    ]
    assert isinstance(next(iter(RowFile(tmp_path / "b.parquet")))[1], DataError)


def test_a_date_that_python_cannot_have_is_a_row_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "far.parquet"
    times = pa.array([0, 1 << 62], pa.timestamp("us"))
    pyarrow.parquet.write_table(pa.table({"text": ["a", "b"], "when": times}), path)
    said: list[DataError] = []
    assert [row.text for _, row in read_each(PretrainRow, RowFile(path), said.append)] == ["a"]
    assert "far.parquet:2: a date or a time that Python cannot have" in str(said[0])
