"""Real token shards, made once."""

from __future__ import annotations

import pytest

from data.shards import TokenShards
from tests.toys import toy_shards


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    return toy_shards(tmp_path_factory.mktemp("shards"))
