"""Requests made up from the OpenAPI document, good ones and bad: no 5xx, no hang, and errors in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from tests import taught
from tests.unit.service.conftest import SETTINGS, serving

SHORT = SETTINGS.model_copy(update={"context_tokens": 64, "slots": 32})
HANGS_S = 60

Case = schemathesis.Case[Any]

HI = {"role": "user", "content": "hi"}
ASKS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [HI]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/scores": {"conversations": [[HI, {"role": "assistant", "content": "hello"}]]},
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory, known_by_heart: tuple[MiniMind, Tokenizer]) -> Iterator[Any]:
    """The document of a server whose answers are short."""
    home: Path = tmp_path_factory.mktemp("described")
    model, tokenizer = known_by_heart
    taught.write_run(home / "runs", "taught", model, tokenizer)
    taught.write_run(home / "runs", "judge", taught.judge(model), tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMIND_HOME", str(home))
        with serving(SHORT) as there:
            yield schemathesis.openapi.from_url(f"{there.address}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", ASKS)
def test_no_request_breaks_it(document: Any, path: str, mode: GenerationMode) -> None:
    name = "judge" if "scores" in path else "taught"

    @given(case=document[path]["POST"].as_strategy(generation_mode=mode), reaches_the_model=st.booleans())
    @settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def check(case: Case, reaches_the_model: bool) -> None:
        if reaches_the_model and isinstance(case.body, dict):
            case.body |= {"model": name, **ASKS[path]}
        _require_words(case.call(timeout=HANGS_S))

    check()


def test_every_other_path_answers_as_well(document: Any) -> None:
    paths = {operation.ok().path: operation.ok() for operation in document.get_all_operations()}
    assert paths.keys() == {
        "/v1/models",
        "/v1/models/{model}",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/scores",
        "/healthz",
        "/metrics",
    }

    @given(case=paths["/v1/models/{model}"].as_strategy())
    @settings(max_examples=50, deadline=None, derandomize=True, database=None)
    def check(case: Case) -> None:
        _require_words(case.call(timeout=HANGS_S))

    check()
    for path in ("/v1/models", "/healthz", "/metrics"):
        assert paths[path].Case().call(timeout=HANGS_S).status_code == 200


def _require_words(response: schemathesis.Response) -> None:
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        error = response.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["message"]
