"""Runs for programs: what `minimind runs --json` and `show RUN --json` print. docs/json.md has the keys."""

from __future__ import annotations

from typing import Any

from jobs.runs import samples
from jobs.runs.directory import RunDirectory, RunRow
from jobs.runs.evals import scores
from jobs.runs.meanings import metrics_of
from minimind.checkpoints.folders import folder_of, steps
from minimind.events import all_series, read_events


def row_as_json(row: RunRow) -> dict[str, Any]:
    """A run in the list of all."""
    return {
        "name": row.name,
        "stage": row.stage,
        "state": row.state.word,
        "reason": row.state.reason,
        "step": row.step,
        "total_steps": row.total_steps,
        "loss": row.loss,
        "bits_per_byte": row.bits_per_byte,
        "tokens_per_s": row.tokens_per_s,
        "peak_memory_bytes": row.peak_memory_bytes,
        "updated": row.updated,
    }


def run_as_json(run: RunDirectory) -> dict[str, Any]:
    """All that is known of one."""
    row, series = run.row(), all_series(read_events(run.events_path))
    bits = dict(zip(*series.get("val/bits_per_byte", ([], [])), strict=True))
    kept = steps(run.checkpoints)
    return {
        **row_as_json(row),
        "folder": str(run.path),
        "settings": run.spec(),
        "plan": run.plan(),
        "metrics": {
            name: {"step": series[name][0][-1], "last": series[name][1][-1], "unit": metric.unit}
            for name, metric in metrics_of(row.stage).items()
            if name in series
        },
        "checkpoints": [
            {
                "step": step,
                "folder": str(folder_of(run.checkpoints, step)),
                "bits_per_byte": bits.get(step),
            }
            for step in kept
        ],
        "scores": scores(run),
        "samples": samples.read(run),
    }
