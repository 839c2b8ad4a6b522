"""Runs that a benchmark of quality trains, one at a time and without Ray, and what they and their suites say."""

from __future__ import annotations

import sys
from pathlib import Path

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import json
import math
import resource
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

from data.prepare import content_sha256
from jobs import paths
from jobs.evaluation import suites
from jobs.evaluation.compare import Compared, compare
from jobs.runs import evals
from jobs.runs.directory import RunDirectory
from jobs.runs.evals import EvalLog
from jobs.runs.references import find_weights
from jobs.stages import flags
from jobs.stages.origin import new_spec
from jobs.stages.spec import RunSpec, differences
from jobs.training.request import JobRequest
from minimind.checkpoints.manifest import weights_sha256
from minimind.events import all_series, read_events

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = paths.checkout() / "docs" / "pictures"


@dataclass(frozen=True)
class Trained:
    """A finished run. wall_s, cpu_s: of the whole process, its validation included and its suites left out."""

    run: RunDirectory
    wall_s: float
    cpu_s: float

    @classmethod
    def there(cls, name: str) -> Trained:
        """One that was not trained by a benchmark: by its events, which tell no CPU time."""
        run = RunDirectory.find(paths.runs(), name)
        times = [event["time"] for event in read_events(run.events_path)]
        return cls(run, times[-1] - times[0], math.nan)

    @property
    def name(self) -> str:
        """Of the run."""
        return self.run.name

    @property
    def series(self) -> dict[str, tuple[list[int], list[float]]]:
        """Metric -> steps and values."""
        return all_series(read_events(self.run.events_path, {"metrics", "state"}))

    def first(self, metric: str) -> float:
        """A metric before the first step."""
        return self.series[metric][1][0]

    def last(self, metric: str) -> float:
        """A metric behind the last step."""
        return self.series[metric][1][-1]

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.series["val/loss"][0][-1]


def trained(stage: str, name: str, settings: Mapping[str, Any], console: Console, model: str | None = None) -> Trained:
    """The run of this name, trained here; one that is there with these settings and first weights is left as it is.

    Raises CalledProcessError where training fails: its last words are on the console then.
    """
    asked = {"scaling.workers": 0, "eval.suites": [], "eval.sample_tokens": 0} | dict(settings) | {"name": name}
    run = RunDirectory(paths.runs() / name)
    took = run.path / "bench.json"
    if not (took.is_file() and _is(run, stage, asked, model)):
        console.print(f"{time.strftime('%H:%M:%S')}  {name}", style="dim")
        request = JobRequest(stage=stage, settings=asked, model=model, overwrite=run.exists)
        began, cpu = time.monotonic(), children_cpu_s()
        done = subprocess.run(
            [sys.executable, "-m", "jobs", "job", request.model_dump_json(exclude_defaults=True)],
            check=False,
            cwd=paths.checkout(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            console.print(done.stdout[-3000:], markup=False)
            done.check_returncode()
        seconds = {"wall_s": time.monotonic() - began, "cpu_s": children_cpu_s() - cpu}
        evals.write_text(took, json.dumps(seconds) + "\n")
    return Trained(run, **json.loads(took.read_text("utf-8")))


RESOLVED = (
    "init_from",
    "roles",
    "data.tokenizer",
    "data.path",
    "data.mix_path",
    "data.chats_path",
    "eval.path",
    "eval.facts_path",
    "loop.dtype",
    "scaling",
)
"""What a run stores otherwise than it was asked for."""


def _is(run: RunDirectory, stage: str, asked: Mapping[str, Any], model: str | None) -> bool:
    """Whether the run that is there is the one that is asked for: with its weights and files, and all that is usual."""
    stored, wanted = RunSpec.model_validate(run.spec()), new_spec(stage, asked, model)
    if any(not path.startswith(RESOLVED) for path in differences(stored.model_dump(), wanted.model_dump())):
        return False
    weights = run.began_with["weights"]
    for path, value in flags.kept(asked).items():
        if path == "init_from" or path.startswith("roles."):
            if weights.get(path) != weights_sha256(find_weights(value).folder):
                return False
        elif path.startswith(RESOLVED) and path != "data.tokenizer" and flags.at(stored, path) != value:
            return False
    return all(content_sha256(paths.absolute(flags.at(stored, name))) == was for name, was in run.sources.items())


def children_cpu_s() -> float:
    """Of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def evaluated(name: str, wanted: Sequence[str], console: Console) -> dict[str, EvalLog]:
    """The logs of suites of a run's last checkpoint, by suite; what has been asked before is read."""
    logs = suites.evaluate_all(find_weights(name), suites.load(wanted), console)
    return {log.suite: log for log in logs}


def compared(before: Mapping[str, EvalLog], after: Mapping[str, EvalLog]) -> dict[str, Compared]:
    """Both by each suite, as `minimind eval B --against A` does."""
    return {one.a.suite: one for one in compare([(before[suite], after[suite]) for suite in after])}


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """The mean, and between which values it lies."""
    return f"{statistics.fmean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def figure(title: str, width: float = 9, height: float = 4.2) -> Figure:
    """An empty picture in the style of the loss curves, for `keep`."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=140, layout="constrained")
    made.suptitle(title, x=0.015, ha="left", fontweight="bold", fontsize=12)
    return made


def keep(made: Figure, name: str) -> Path:
    """Write the picture into docs/pictures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for axis in made.axes:
        axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(made)
    made.savefig(PICTURES / name, metadata={"Software": None})
    return PICTURES / name
