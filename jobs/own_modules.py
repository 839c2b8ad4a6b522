"""Sees to it that this program's packages are its own. They have common names, and a folder of such a name that
PYTHONPATH leads to would come first. Imported before all others, by `jobs.__main__`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("data", "jobs", "minimind", "service", "tune_spaces")


def _is_ours(file: str | None) -> bool:
    return file is not None and Path(file).resolve().is_relative_to(_ROOT)


def put_first() -> None:
    """Our packages before all others of their names; what was loaded of those is forgotten."""
    if all((found := find_spec(name)) is not None and _is_ours(found.origin) for name in _PACKAGES):
        return
    sys.path.insert(0, str(_ROOT))
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _PACKAGES and not _is_ours(getattr(module, "__file__", None)):
            del sys.modules[name]
    import_module("jobs")  # whoever imports this module asks for it by its name


put_first()
