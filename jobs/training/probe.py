"""A look at a folder from another machine. It loads neither torch nor Ray Train, so that the process which looks starts
in a second.
"""

from __future__ import annotations

import fcntl
from pathlib import Path

from minimind.language import say


def probe_folder(probe: str, word: str, name: str) -> str:
    """What is wrong with the folder of the file `probe`, as this machine sees it; "" if nothing is. name: of a file to
    write there.
    """
    path = Path(probe)
    try:
        if not path.parent.is_dir():
            return say("it has no such folder")
        if not path.exists() or path.read_text("utf-8") != word:
            return say("it has a folder of that name, but another one")
        with path.open("r+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                return say(
                    "it does not see locks that are held here (NFS: mount without `nolock`, version 4; SMB: without "
                    "`nobrl`)"
                )
        path.with_name(name).write_text(word, "utf-8")
    except OSError as error:
        return say("it cannot use that folder ({error})", error=error)
    return ""
