"""Numbers as people read them: 1.4 GB, 3 min 20 s, 12.3k."""

from __future__ import annotations

import re


def size(count: float) -> str:
    """A number of bytes, in decimal units as disks are sold."""
    unit = 0
    while abs(count) >= 999.95 and unit < 4:
        count, unit = count / 1000, unit + 1
    return f"{count:.1f} {('KB', 'MB', 'GB', 'TB')[unit - 1]}" if unit else f"{count:.0f} bytes"


def duration(seconds: float) -> str:
    """A length of time in its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def amount(count: float) -> str:
    """A count with three digits or so: 987, 12.3k, 4.56M."""
    unit = 0
    while abs(count) >= 999.5 and unit < 3:
        count, unit = count / 1000, unit + 1
    digits = 0 if not unit or abs(count) >= 99.95 else 1 if abs(count) >= 9.995 else 2
    return f"{count:.{digits}f}{('', 'k', 'M', 'G')[unit]}"


def memory(count: float) -> str:
    """A number of bytes of memory, in binary units as cards are sold: 7.50 GiB."""
    unit = 0
    while abs(count) >= 1023.995 and unit < 3:
        count, unit = count / 1024, unit + 1
    return f"{count:.2f} {('KiB', 'MiB', 'GiB')[unit - 1]}" if unit else f"{count:.0f} bytes"


def parse_memory(text: str) -> int:
    """The bytes that a text such as 8GB, 7.5GiB or 900MB means. All units are binary, for so cards are sold.

    Raises ValueError.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(GB|GiB|MB|MiB)", text, re.ASCII)
    count = int(float(match[1]) * (1 << 30 if match[2][0] == "G" else 1 << 20)) if match else 0
    if count <= 0:
        raise ValueError(
            f"{text!r} is not an amount of memory: allowed is a number above 0 and, without a space, GB, GiB, MB or "
            f"MiB (1GB = 1GiB = 1024MB), such as 8GB or 7.5GB"
        )
    return count
