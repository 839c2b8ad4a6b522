"""Real token shards of text and of conversations, made once."""

from __future__ import annotations

import pytest

from data.shards import TokenShards
from tests.toys import STAGE_NAMES, ToyStage, toy_chats, toy_shards, toy_stages


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    return toy_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="session")
def chats(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    return toy_chats(tmp_path_factory.mktemp("chats"))


@pytest.fixture(params=STAGE_NAMES)
def stage(request: pytest.FixtureRequest, shards: TokenShards, chats: TokenShards) -> ToyStage:
    """Each stage in turn, an adapter without dropout: what may not depend on how random numbers fall."""
    return toy_stages(shards, chats)[request.param]


@pytest.fixture(params=STAGE_NAMES)
def random_stage(request: pytest.FixtureRequest, shards: TokenShards, chats: TokenShards) -> ToyStage:
    """Each stage in turn, an adapter with dropout."""
    return toy_stages(shards, chats, dropout=0.25)[request.param]
