"""The key of a server, as the server and its clients on this machine find it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
        raise ValueError(f"{API_KEY} and {API_KEY_FILE} are both set: give one of them")
    if file:
        try:
            key = Path(file).read_text("utf-8-sig")  # Notepad may put a mark in front
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{API_KEY_FILE} = {file!r} cannot be read: {error}") from None
        if not key.strip():
            raise ValueError(f"{API_KEY_FILE} = {file!r} holds no key")  # whoever names a file wants one
    key = key.strip()
    bad = next((place for place, sign in enumerate(key, start=1) if not " " <= sign <= "~"), None)
    if bad is not None:
        raise ValueError(
            f"{API_KEY_FILE if file else API_KEY}: sign {bad} of the key is not printable ASCII (a letter, digit or "
            "sign such as -)"
        )
    return key or None
