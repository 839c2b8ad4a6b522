from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from jobs.stock.archives import read_member, read_members, read_text, read_zipped_text


def write(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".tgz":
        with tarfile.open(path, "w:gz") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    else:
        with zipfile.ZipFile(path, "w") as wheel:
            for name, data in members.items():
                wheel.writestr(name, data)
    return path


@pytest.mark.parametrize("name", ["a.whl", "a.tgz"])
def test_members_by_name_and_nothing_on_the_disk(tmp_path: Path, name: str) -> None:
    archive = write(tmp_path / name, {"x/one.txt": b"1", "../outside.txt": b"2", "x/two.txt": b"3"})
    assert read_member(archive, "x/two.txt") == b"3"
    assert list(read_members(archive, lambda member: member.startswith("x/"))) == [
        ("x/one.txt", b"1"),
        ("x/two.txt", b"3"),
    ]
    assert [content for _, content in read_members(archive, lambda member: True)] == [b"1", b"2", b"3"]
    assert list(tmp_path.rglob("*")) == [archive]
    assert not (tmp_path.parent / "outside.txt").exists()


def test_a_link_in_an_archive_is_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        link = tarfile.TarInfo("x/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    assert list(read_members(tmp_path / "a.tgz", lambda member: True)) == []


@pytest.mark.parametrize("name", ["a.whl", "a.tgz"])
def test_a_missing_member_is_named(tmp_path: Path, name: str) -> None:
    archive = write(tmp_path / name, {"x/one.txt": b"1"})
    with pytest.raises(ValueError, match=r"a\.\w+: there is no 'x/three.txt' in it.*data fetch"):
        read_member(archive, "x/three.txt")


@pytest.mark.parametrize("name", ["a.whl", "a.tgz"])
@pytest.mark.parametrize("keep", [0.3, 0.8])
def test_a_damaged_archive_says_what_to_do(tmp_path: Path, name: str, keep: float) -> None:
    archive = write(tmp_path / name, {f"x/{number}": bytes(range(256)) * 40 for number in range(20)})
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ValueError, match=r"the archive is damaged .*Delete the file"):
        list(read_members(archive, lambda member: True))


def test_text_without_its_byte_order_mark(tmp_path: Path) -> None:
    archive = write(tmp_path / "a.whl", {"a.txt": "\ufeff字".encode()})
    assert read_text(archive, "a.txt") == "字"


def test_a_text_in_a_zip_in_an_archive(tmp_path: Path) -> None:
    inner = write(tmp_path / "inner.zip", {"text.txt": "内".encode()}).read_bytes()
    archive = write(tmp_path / "a.whl", {"inner.zip": inner, "broken.zip": inner[:30]})
    assert read_zipped_text(archive, "inner.zip") == "内"
    with pytest.raises(ValueError, match=r"'broken.zip' in it is damaged"):
        read_zipped_text(archive, "broken.zip")
