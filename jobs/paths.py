"""Where things lie: MINIMIND_HOME and the checkout."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote

from minimind.language import say


def home() -> Path:
    """The folder that holds everything a user keeps: $MINIMIND_HOME, or ~/minimind. It need not exist yet."""
    return Path(os.environ.get("MINIMIND_HOME") or "~/minimind").expanduser().absolute()


def runs() -> Path:
    """One folder for each run."""
    return home() / "runs"


def sweeps() -> Path:
    """One folder for each sweep."""
    return home() / "sweeps"


def data() -> Path:
    """Data sets that were fetched, built or put there by the user."""
    return home() / "data"


def cache() -> Path:
    """What can be made again: downloads and token shards."""
    return home() / "cache"


def make(folder: Path) -> Path:
    """The folder, made where it is missing. MINIMIND_HOME, if it is made with it, is for this user alone: conversations
    and keys lie there.

    Raises OSError that says what MINIMIND_HOME is for.
    """
    try:
        if folder.is_relative_to(home()):
            home().parent.mkdir(parents=True, exist_ok=True)
            home().mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            say(
                "{folder} can't be made: {strerror}. Everything you keep lies in MINIMIND_HOME, which is "
                "{home}: set it to a folder in which you may write.",
                folder=folder,
                strerror=error.strerror,
                home=home(),
            )
        ) from error
    return folder


def kept(path: str) -> str:
    """A path as it is kept: below MINIMIND_HOME relative to it, so that a home can be moved; else absolute. It is still
    seen to be a path (`is_path`).
    """
    full = absolute(path)
    text = str(full.relative_to(home())) if full.is_relative_to(home()) else str(full)
    return text if is_path(text) else f"./{text}"


def checkout() -> Path:
    """The root of this checkout, or inside a job Ray's copy of it."""
    return Path(__file__).resolve().parent.parent


def absolute(path: str | Path, base: Path | None = None) -> Path:
    """`path` as an absolute path; a relative one counts from `base`, by default MINIMIND_HOME.

    A job runs in Ray's copy of the checkout, which vanishes with it, so there `base` stays the default. The
    `minimind` command gives the folder that it was called from.
    """
    return (base or home()) / Path(path).expanduser()


def is_path(text: str) -> bool:
    """Whether a text that may name a run or a folder is a path: it has a slash (`./folder`) or begins with a ~. In
    run@best:SUITE/METRIC the slash is none of a path.
    """
    text = text.partition("@best:")[0]
    return "/" in text or os.sep in text or text.startswith("~")


def existing(path: str | Path, what: str, base: Path | None = None) -> Path:
    """The absolute form of `path`, which must exist. `what` names it in the error, in the reader's language.

    Raises ValueError with the absolute path that was looked at.
    """
    full = absolute(path, base)
    if full.exists():
        return full
    counted = (
        ""
        if Path(path).expanduser().is_absolute()
        else say(" ('{path}' counts from {base})", path=path, base=base or home())
    )
    nearest = next(parent for parent in full.parents if parent.exists())
    inside = (
        sorted(entry.name for entry in nearest.iterdir() if not entry.name.startswith(".")) if nearest.is_dir() else []
    )
    listing = ", ".join(inside[:12]) + (", …" if len(inside) > 12 else "") if inside else say("nothing")
    there, wanted = quote(str(full.parent)), quote(str(full))
    put = say(" Put it there: mkdir -p {folder} && cp FILE {file}", folder=there, file=wanted) if counted else ""
    raise ValueError(
        say(
            "{what} not found: {full}{counted}. {nearest} holds: {listing}.{put}",
            what=what,
            full=full,
            counted=counted,
            nearest=nearest,
            listing=listing,
            put=put,
        )
    )


def stock_folder() -> Path:
    """Where the stock data lies once it is built."""
    return data() / "stock"
