"""The command line with the toy stage in its table: `python -m tests.toy_stage_main train toy_preference ...`."""

from __future__ import annotations

import sys

from jobs.__main__ import main
from jobs.stages.table import STAGES
from minimind.events import declare
from tests.toy_stage import STAGE

NAME = "toy_preference"


def add_row() -> None:
    """What a name in `jobs/stages/names.py` does."""
    STAGES[NAME] = STAGE
    declare(STAGE.metrics)


if __name__ == "__main__":
    add_row()
    sys.exit(main())
