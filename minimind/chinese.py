"""What `minimind` says, in Chinese."""

from __future__ import annotations

CHINESE: dict[str, str] = {
    "in the steps that were to be measured": ("在要测量的那些步里"),
    "outside the steps of training": ("在训练步之外"),
}
