"""The key of a server, as the server and its clients on this machine find it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from minimind.language import say

API_KEY = "MINIMIND_API_KEY"
API_KEY_FILE = "MINIMIND_API_KEY_FILE"


def read_key(environment: Mapping[str, str]) -> str | None:
    """The key in MINIMIND_API_KEY, or in the file that MINIMIND_API_KEY_FILE names, without blanks at its ends; None
    where there is none. "" is none.

    Raises ValueError, which never repeats the key, for one that cannot be sent in a header, for a file that cannot be
    read or holds none, and where both are set.
    """
    key, file = environment.get(API_KEY, ""), environment.get(API_KEY_FILE, "")
    if key and file:
        raise ValueError(
            say(
                "{api_key} and {api_key_file} are both set: give one of them",
                api_key=API_KEY,
                api_key_file=API_KEY_FILE,
            )
        )
    if file:
        try:
            key = Path(file).read_text("utf-8-sig")  # Notepad may put a mark in front
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                say(
                    "{api_key_file} = {file!r} cannot be read: {error}",
                    api_key_file=API_KEY_FILE,
                    file=file,
                    error=error,
                )
            ) from None
        if not key.strip():
            raise ValueError(
                say("{api_key_file} = {file!r} holds no key", api_key_file=API_KEY_FILE, file=file)
            )  # whoever names a file wants one
    key = key.strip()
    bad = next((place for place, sign in enumerate(key, start=1) if not " " <= sign <= "~"), None)
    if bad is not None:
        raise ValueError(
            say(
                "{file}: sign {bad} of the key is not printable ASCII (a letter, digit or sign such as -)",
                file=API_KEY_FILE if file else API_KEY,
                bad=bad,
            )
        )
    return key or None


def kept_key(key: str, folder: Path, prefix: str) -> Path:
    """The file of the folder that holds the key, for this user alone; one that holds it already is kept, so that
    nothing has changed. Its name, which begins with the prefix, says nothing of the key.
    """
    for file in folder.glob(f"{prefix}*"):
        if file.read_text("utf-8") == key:
            return file
    file = folder / f"{prefix}{secrets.token_hex(4)}"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(key)
    return file
