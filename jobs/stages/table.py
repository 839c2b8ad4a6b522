"""The table of stages. Adding one is one file that says what it trains and one row in `jobs/stages/names.py`."""

from __future__ import annotations

from importlib import import_module

from jobs.stages.names import STAGE_NAMES
from jobs.stages.stage import Stage
from minimind.events import declare

STAGES: dict[str, Stage] = {name: import_module(f"jobs.stages.{name}").STAGE for name in STAGE_NAMES}

for _stage in STAGES.values():
    declare(_stage.metrics)
