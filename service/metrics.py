"""/metrics: what the server has done, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from jobs.serving.model_card import ModelCard
from service.backend import Accepted, Asked, Backend, Reply, Status

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second line for each number, which nobody reads

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The counters of one HTTP process, and the gauges of a replica when it is asked."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._responses = Counter(
            "minimind_http_responses", "HTTP responses by path and status", ["path", "status"], registry=registry
        )
        self._open = Gauge("minimind_http_requests_open", "HTTP requests being answered", registry=registry)
        self._prompt = Counter("minimind_prompt_tokens", "tokens of prompts", ["model"], registry=registry)
        self._completion = Counter("minimind_completion_tokens", "tokens of answers", ["model"], registry=registry)
        self._first = Histogram(
            "minimind_first_token_seconds",
            "time from a request to its first tokens (without stream: to its last)",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        labels = ["replica", "model"]
        self._replica = {
            "running": Gauge("minimind_sequences_running", "sequences in a slot", labels, registry=registry),
            "waiting": Gauge("minimind_sequences_waiting", "sequences without a slot", labels, registry=registry),
            "bytes": Gauge("minimind_model_bytes", "memory of weights and KV cache", labels, registry=registry),
        }

    def opened(self) -> None:
        """A request has begun."""
        self._open.inc()

    def closed(self, path: str, status: int) -> None:
        """A request has ended, with this status."""
        self._open.dec()
        self._responses.labels(path, str(status)).inc()

    async def watch(self, replies: AsyncGenerator[Reply]) -> AsyncGenerator[Reply]:
        """The same replies, counted."""
        asked, model, answered = time.monotonic(), "", False
        async with aclosing(replies):
            async for reply in replies:
                if isinstance(reply, Accepted):
                    model = reply.model
                    self._prompt.labels(model).inc(reply.prompt_tokens)
                elif isinstance(reply, list):
                    self._completion.labels(model).inc(sum(piece.completion_tokens for piece in reply))
                    if not answered:
                        self._first.labels(model).observe(time.monotonic() - asked)
                        answered = True
                yield reply

    def text(self, status: Status | None) -> bytes:
        """Everything in Prometheus' text format. status: of the replica that answered, None if none did."""
        for name, gauge in self._replica.items():
            gauge.clear()
            for model in status.models if status else ():
                gauge.labels(status.replica if status else "", model.model).set(getattr(model, name))
        return generate_latest(self._registry)


class MeteredBackend:
    """A backend whose answers are counted."""

    def __init__(self, backend: Backend, metrics: Metrics) -> None:
        self._backend = backend
        self._metrics = metrics

    def generate(self, asked: Asked) -> AsyncGenerator[Reply]:
        """The replies to a request."""
        return self._metrics.watch(self._backend.generate(asked))

    async def models(self) -> list[ModelCard]:
        """What can be asked for now."""
        return await self._backend.models()

    async def model(self, name: str) -> ModelCard:
        """What this name means now."""
        return await self._backend.model(name)

    async def status(self) -> Status:
        """What a replica holds."""
        return await self._backend.status()
