from __future__ import annotations

import dataclasses
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from jobs.stock.sources import PACKAGES, Package, fetch, licence_table, sha256_of


def wheel(folder: Path, content: str = "data") -> Package:
    """A real, installable wheel in `folder`, and its pin."""
    folder.mkdir(exist_ok=True)
    path = folder / "little_facts-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("little_facts/facts.txt", content)
        archive.writestr(
            "little_facts-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: little-facts\nVersion: 1.0\n"
        )
        archive.writestr("little_facts-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("little_facts-1.0.dist-info/RECORD", "")
    size = path.stat().st_size
    return Package("little-facts", "1.0", "pip", path.name, sha256_of(path), size, "facts", "MIT")


@pytest.fixture(autouse=True)
def no_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip looks into one local folder and nowhere else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "mirror"))
    (tmp_path / "mirror").mkdir()


def fake_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder.mkdir()
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_fetch_verifies_keeps_and_mends(tmp_path: Path) -> None:
    package = wheel(tmp_path / "mirror")
    lines: list[str] = []
    fetched = fetch(tmp_path / "cache", lines.append, packages=[package])
    assert fetched.problems == {}
    assert fetched.files == {"little-facts": tmp_path / "cache" / package.file}
    assert lines == [f"little-facts 1.0: {package.size_bytes / 1e6:.1f} MB, checked"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [package.file]

    shutil.move(tmp_path / "mirror" / package.file, tmp_path / package.file)  # no mirror is needed for what is there
    assert fetch(tmp_path / "cache", packages=[package]).problems == {}

    cached = tmp_path / "cache" / package.file
    cached.write_bytes(cached.read_bytes()[:50])
    assert "little-facts" in fetch(tmp_path / "cache", packages=[package]).problems
    shutil.move(tmp_path / package.file, tmp_path / "mirror" / package.file)
    assert fetch(tmp_path / "cache", packages=[package]).problems == {}
    assert sha256_of(cached) == package.sha256


def test_another_file_than_the_pinned_one_is_not_used(tmp_path: Path) -> None:
    package = dataclasses.replace(wheel(tmp_path / "mirror"), sha256="0" * 64)
    fetched = fetch(tmp_path / "cache", packages=[package])
    assert fetched.files == {}
    assert re.search(r"has sha256 \w{64}, and 0{64} is pinned", fetched.problems["little-facts"])
    assert list((tmp_path / "cache").iterdir()) == []


def test_no_network_is_a_problem_in_words(tmp_path: Path) -> None:
    package = wheel(tmp_path / "elsewhere")
    lines: list[str] = []
    fetched = fetch(tmp_path / "cache", lines.append, packages=[package])
    assert fetched.files == {}
    assert "pip could not download it (ERROR: No matching distribution" in fetched.problems["little-facts"]
    assert lines == [f"little-facts 1.0: {fetched.problems['little-facts']}"]


def test_npm_when_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = wheel(tmp_path / "packed")
    package = dataclasses.replace(pip, name="verse", registry="npm", file="verse-1.0.tgz")
    record = tmp_path / "called"
    fake_npm(tmp_path / "bin", monkeypatch, f'echo "$@" > {record}; cp {tmp_path}/packed/*.whl verse-1.0.tgz')
    fetched = fetch(tmp_path / "cache", packages=[package])
    assert fetched.problems == {}
    assert sha256_of(fetched.files["verse"]) == package.sha256
    assert record.read_text().startswith("pack verse@1.0 --ignore-scripts")


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (
            "echo npm error code ENOTFOUND >&2; echo npm error more >&2; exit 1",
            "npm could not download it (npm error code ENOTFOUND): no network",
        ),
        ("exec tail -f /dev/null", "not there after 1 s"),
        ("exit 0", "did not hold verse-1.0.tgz but nothing"),
    ],
)
def test_npm_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, problem: str) -> None:
    package = dataclasses.replace(wheel(tmp_path / "packed"), name="verse", registry="npm", file="verse-1.0.tgz")
    fake_npm(tmp_path / "bin", monkeypatch, script)
    fetched = fetch(tmp_path / "cache", packages=[package], timeout_s=1)
    assert problem in fetched.problems["verse"]


def test_without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = dataclasses.replace(wheel(tmp_path / "packed"), registry="npm")
    assert "as asked" in fetch(tmp_path / "cache", packages=[package], npm=False).problems["little-facts"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no `npm` on the PATH" in fetch(tmp_path / "cache", packages=[package]).problems["little-facts"]


def test_the_pins() -> None:
    assert len({package.name for package in PACKAGES}) == len(PACKAGES)
    for package in PACKAGES:
        assert re.fullmatch(r"[0-9a-f]{64}", package.sha256)
        assert package.version in package.file
        assert package.file.endswith(".whl" if package.registry == "pip" else ".tgz")
    assert sum(package.size_bytes for package in PACKAGES if package.registry == "pip") < 40e6


def test_licences_name_what_was_used(tmp_path: Path) -> None:
    table = "\n".join(licence_table({"jionlp": tmp_path}))
    assert "| jionlp (PyPI) | 1.5.31 |" in table
    assert PACKAGES[0].sha256 in table
    assert "wordnet" not in table
    assert "|" not in "\n".join(licence_table({}))
