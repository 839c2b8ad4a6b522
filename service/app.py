"""The Serve application: one process that speaks HTTP, and replicas that hold models.

    serve run service.app:app                   by hand
    serve deploy serve_config.yaml              from a file: replicas, autoscaling, host, port
    minimind serve                              the same, with checks and an address at the end

A replica that dies takes only its own answers with it: their clients are told, Serve starts another one, and a request
that had not begun is sent there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Any, cast

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from jobs.cluster import ray_private
from jobs.cluster.access import require_token
from jobs.serving.model_card import ModelCard
from minimind.language import VARIABLE
from service import errors
from service.backend import Asked, Failure, Reply, Status
from service.errors import ApiError
from service.settings import Settings

MODELS = "models"

ANSWER_S = 5.0
LIST_S = 30.0
"""How long a replica may take to say what it holds, and to look at all runs."""

LOADED_S = 5.0
"""What a request waits longer here than its model may take to load there: so the replica says what it waited for."""

_MANY = 10_000
"""Requests that Serve lets into one process. The bound is the queue of each model, which answers 429 with words."""


@serve.deployment(name=MODELS, max_ongoing_requests=_MANY, ray_actor_options={"num_cpus": 0})
class Models:
    """A replica with models in memory.

    It reserves no CPU: a server must come up beside a training that holds them all.
    """

    def __init__(self) -> None:
        import torch

        from service.replica import ModelReplica

        os.environ[VARIABLE] = "en"  # as its HTTP side speaks
        context = serve.get_replica_context()
        settings = Settings.read(replicas=ray_private.most_replicas(context))
        torch.set_num_threads(settings.threads)
        self._replica = ModelReplica(settings, context.replica_id.unique_id)

    async def generate(self, asked: Asked) -> AsyncGenerator[Reply]:
        """The replies to a request."""
        async for reply in self._replica.generate(asked):
            yield reply

    async def models(self) -> list[ModelCard]:
        """What can be asked for now."""
        return await self._replica.models()

    async def model(self, name: str) -> ModelCard | Failure:
        """What this name means now."""
        try:
            return await self._replica.model(name)
        except ApiError as error:
            return Failure(error)

    async def status(self) -> Status:
        """What is in memory."""
        return await self._replica.status()


class Replicas:
    """A `Backend` of replicas behind a handle."""

    def __init__(self, handle: DeploymentHandle[Any], settings: Settings) -> None:
        # By gRPC: as the return values of an actor each piece would cost twice the time.
        self._generate = handle.options(method_name="generate", stream=True, **ray_private.BY_VALUE)
        self._models = handle.options(method_name="models")
        self._model = handle.options(method_name="model")
        self._status = handle.options(method_name="status")
        self._ready_s = settings.load_timeout_s + LOADED_S

    async def generate(self, asked: Asked) -> AsyncGenerator[Reply]:
        """The replies to a request. One that a dead replica never began is sent again, to another."""
        end = asyncio.get_running_loop().time() + self._ready_s
        while True:
            begun = ended = False
            response = cast("DeploymentResponseGenerator[Reply]", self._generate.remote(asked))
            try:
                async with asyncio.timeout_at(end):
                    reply = await anext(response)
                while True:
                    begun = True
                    yield reply
                    reply = await anext(response)
            except StopAsyncIteration:
                ended = True
                return
            except TimeoutError:
                yield Failure(errors.loading("no replica is ready yet"))
                return
            except (RayError, DeploymentUnavailableError) as error:
                if begun:
                    yield Failure(_lost(error))
                    return
                await asyncio.sleep(0.1)
            finally:
                if not ended:
                    response.cancel()  # type: ignore[no-untyped-call]

    async def models(self) -> list[ModelCard]:
        """What can be asked for now."""
        cards: list[ModelCard] = await self._ask(self._models, LIST_S)
        return cards

    async def model(self, name: str) -> ModelCard:
        """What this name means now."""
        card: ModelCard | Failure = await self._ask(self._model, LIST_S, name)
        if isinstance(card, Failure):
            raise card.error
        return card

    async def status(self) -> Status:
        """What the replica that answers has in memory."""
        status: Status = await self._ask(self._status, ANSWER_S)
        return status

    async def _ask(self, method: DeploymentHandle[Any], within_s: float, *arguments: object) -> Any:
        response = method.remote(*arguments)
        try:
            return await asyncio.wait_for(response, within_s)
        except TimeoutError:
            raise errors.loading(f"no replica has answered within {within_s:.0f} s") from None
        except (RayError, DeploymentUnavailableError) as error:
            raise _lost(error) from None


def _lost(error: Exception) -> ApiError:
    return ApiError(
        503,
        f"the replica with the model is gone ({type(error).__name__}); another one starts, ask again",
        code="replica_lost",
        retry_after_s=2,
    )


def http_app() -> FastAPI:
    """The HTTP application, in the process of its replica."""
    from service import web

    settings = Settings.read()
    handle = serve.get_deployment_handle(MODELS, app_name=serve.get_replica_context().app_name)
    return web.create(Replicas(handle, settings), settings)


def build() -> Application:
    """The application, with the settings of the environment in which its replicas start."""
    ingress: Any = serve.ingress(http_app)()
    http: Any = serve.deployment(name="http", max_ongoing_requests=_MANY, ray_actor_options={"num_cpus": 0})(ingress)
    models: Any = Models
    application: Application = http.bind(models.bind())
    return application


def app(arguments: dict[str, Any]) -> Application:
    """What Serve builds when the application is deployed. Raises ValueError on a cluster that asks for no token."""
    require_token(os.environ)
    return build()
