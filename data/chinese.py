"""What `data` says, in Chinese."""

from __future__ import annotations

CHINESE: dict[str, str] = {}
