"""Numbers as people read them: 1.4 GB, 3 min 20 s, 12.3k."""

from __future__ import annotations

import re

from minimind.language import say


def size(count: float) -> str:
    """A number of bytes, in decimal units as disks are sold."""
    unit = 0
    while abs(count) >= 999.95 and unit < 4:
        count, unit = count / 1000, unit + 1
    return f"{count:.1f} {('KB', 'MB', 'GB', 'TB')[unit - 1]}" if unit else f"{count:.0f} {say('bytes')}"


def duration(seconds: float) -> str:
    """A length of time in its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return say("{seconds} s", seconds=whole)
    if whole < 3600:
        return say("{minutes} min {seconds} s", minutes=whole // 60, seconds=whole % 60)
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return say("{hours} h {minutes} min", hours=minutes // 60, minutes=minutes % 60)
    hours = round(seconds / 3600)
    return say("{days} d {hours} h", days=hours // 24, hours=hours % 24)


def clock(seconds: float) -> str:
    """A length of time as a clock counts it, for columns: 0:03:20, 25:00:00."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def amount(count: float) -> str:
    """A count with three digits or so: 987, 12.3k, 4.56M."""
    unit = 0
    while abs(count) >= 999.5 and unit < 3:
        count, unit = count / 1000, unit + 1
    digits = 0 if not unit or abs(count) >= 99.95 else 1 if abs(count) >= 9.995 else 2
    return f"{count:.{digits}f}{('', 'k', 'M', 'G')[unit]}"


def memory(count: float) -> str:
    """A number of bytes of memory, in the binary units that graphics cards are sold in: an "8 GB" card has 8 x 2^30."""
    if abs(count) >= 2**30:
        return f"{count / 2**30:.2f} GB"
    return f"{count / 2**20:.0f} MB" if abs(count) >= 2**20 else f"{count / 2**10:.0f} KB"


_MEMORY = re.compile(r"([0-9]{1,12}(?:\.[0-9]+)?)(?: ?([GM])(?:i?B)?)?", re.IGNORECASE | re.ASCII)
_MOST_GB = 512
"""A number alone is GB, as on the box of a card, unless it is larger: then it may well be meant as MB."""


def parse_memory(text: str) -> int:
    """Bytes of memory from a text such as 8GB, 512MB or 8, which is GB; binary units, as graphics cards are sold.

    Raises ValueError.
    """
    found = _MEMORY.fullmatch(text)
    unit = (found[2] or "G").upper() if found else ""
    count = int(float(found[1]) * (2**30 if unit == "G" else 2**20)) if found else 0
    if found is None or count <= 0 or (found[2] is None and float(found[1]) >= _MOST_GB):
        raise ValueError(
            say("{text!r} is no size of memory: write a number and GB or MB, such as 8GB, 7.5GB or 512MB", text=text)
        )
    return count
