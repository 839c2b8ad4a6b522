"""Which of the two command lines this is: `minimind`, for people, or `python -m jobs`, which a Ray job executes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs import paths
from minimind.language import say


@dataclass(frozen=True)
class Program:
    """One of the two command lines.

    name: as it is typed. submits: whether what trains becomes a job on the cluster, which is followed; else the work is
    done in this process.
    """

    name: str
    submits: bool

    def place(self, path: str | Path) -> Path:
        """The absolute form of a path on the command line: of people, relative ones count from the folder in which they
        call it; in a job, whose folder is Ray's copy of the checkout, from MINIMIND_HOME.
        """
        return paths.absolute(path, Path.cwd() if self.submits else None)

    def place_reference(self, text: str | None) -> str | None:
        """What names a run, or a folder where it looks like a path: then its absolute form."""
        return str(self.place(text)) if text is not None and paths.is_path(text) else text

    @property
    def counting(self) -> str:
        """Where relative paths count from, for the help."""
        return (
            say("relative paths count from this folder")
            if self.submits
            else say("relative paths count from MINIMIND_HOME")
        )


MINIMIND = Program("minimind", submits=True)
HERE = Program("python -m jobs", submits=False)
