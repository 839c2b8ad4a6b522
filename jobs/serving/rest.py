"""Ray Serve's REST interface, which `serve deploy` talks to as well."""

from __future__ import annotations

from typing import Any

import requests

from jobs.cluster import access
from jobs.cluster.access import Cluster, ClusterError
from minimind.language import say

Json = dict[str, Any]


class ServeApi:
    """Serve on the dashboard of a cluster. Raises ClusterError where it does not answer, or refuses."""

    """Serve's REST interface on the cluster's dashboard."""

    def __init__(self, there: Cluster) -> None:
        self._there = there
        self._url = f"{there.dashboard_url}/api/serve/applications/"
        self._session = requests.Session()
        self._session.trust_env = not there.ours  # a proxy for the web is none for loopback
        self._session.headers["Authorization"] = f"Bearer {access.token(there)}"

    def details(self) -> Json:
        """What runs, and where it listens."""
        return self._ask("GET")

    def deploy(self, config: Json) -> None:
        """Let it run what `config` says, as in serve_config.yaml."""
        self._ask("PUT", config)

    def delete(self) -> None:
        """End all that runs."""
        self._ask("DELETE")

    def _ask(self, method: str, body: Json | None = None) -> Json:
        try:
            response = self._session.request(method, self._url, json=body, timeout=60)
        except requests.RequestException as error:
            raise ClusterError(
                say(
                    "The Ray cluster at {dashboard_url} does not answer ({name}): minimind cluster stop, "
                    "then start it again.",
                    dashboard_url=self._there.dashboard_url,
                    name=type(error).__name__,
                )
            ) from None
        if response.status_code in (401, 403):
            raise ClusterError(access.refused(self._there))
        if not response.ok:
            raise ClusterError(
                say(
                    "Ray Serve refuses to {method} ({status_code}): {text}",
                    method=method,
                    status_code=response.status_code,
                    text=response.text[-2000:],
                )
            )
        details: Json = response.json() if response.text else {}
        return details


def listening(details: Json) -> tuple[str, int] | None:
    """The host and port of what runs, by `details`; None where nothing does."""
    options = details.get("http_options")
    if not options or not details.get("applications"):
        return None
    return str(options["host"]), int(options["port"])
