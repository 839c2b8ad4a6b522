from __future__ import annotations

import inspect

import pytest
from ray.serve import Application

from service import app as application


@pytest.mark.parametrize("mode", ["", "disabled"])
def test_a_cluster_that_asks_for_no_token_gets_no_server(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with pytest.raises(ValueError, match=f"RAY_AUTH_MODE = '{mode}' on this cluster: whoever reaches.*auth_token"):
        application.app({})
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert isinstance(application.app({}), Application)
    assert len(inspect.signature(application.app).parameters) == 1  # what Serve takes for something to build
