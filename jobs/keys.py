"""The key of a server, as its clients on this machine find it."""

from __future__ import annotations

from collections.abc import Mapping

API_KEY = "MINIMIND_API_KEY"


def read_key(environment: Mapping[str, str]) -> str | None:
    """The key in MINIMIND_API_KEY, without blanks at its ends; None where there is none.

    Raises ValueError, which never repeats the key, for one that cannot be sent in a header.
    """
    key = environment.get(API_KEY, "").strip()
    bad = next((place for place, sign in enumerate(key, start=1) if not " " <= sign <= "~"), None)
    if bad is not None:
        raise ValueError(f"{API_KEY}: sign {bad} of the key is not printable ASCII (a letter, digit or sign such as -)")
    return key or None
