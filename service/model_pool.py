"""The models in a replica's memory: loaded when they are asked for, gone when the room is needed for others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from minimind.checkpoints.checkpoint import read_sampling
from minimind.checkpoints.manifest import CheckpointError
from minimind.inference.sampling import Sampling
from minimind.text.tokenizer import Tokenizer
from minimind.units import size
from service import errors
from service.backend import Loaded
from service.catalog import Catalog, Found, damaged
from service.engine_host import EngineHost
from service.errors import ApiError, loading
from service.loading import LoadPlan, load, plan
from service.prompts import Prompts
from service.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class PooledModel:
    """A model in memory. users: requests that are being answered, or wait for it to be loaded."""

    found: Found
    plan: LoadPlan
    host: EngineHost
    tokenizer: Tokenizer
    prompts: Prompts
    sampling: Sampling
    users: int = 0
    used_at: float = field(default_factory=time.monotonic)

    @property
    def fingerprint(self) -> str:
        """Equal for equal weights in equal precision."""
        return f"fp_{self.found.fingerprint[:12]}_{self.plan.weight_type}"

    def loaded(self) -> Loaded:
        """What there is to say of it."""
        running = min(self.host.open, self.plan.slots)
        waiting = self.host.open - running
        return Loaded(self.found.id, str(self.plan.weight_type), self.plan.bytes, self.plan.slots, running, waiting)


@dataclass(eq=False)
class _Load:
    """A load that is under way. waiting: requests that want its model. model: once it is there."""

    task: asyncio.Task[PooledModel] | None = None
    waiting: int = 0
    model: PooledModel | None = None


class ModelPool:
    """Models by id, within `memory_bytes`; the least recently used that nobody uses leaves first.

    For one event loop. A checkpoint is planned, and room made for it, before its weights are read. What was overwritten
    while it answers goes on to the end of its answers, under no name, and counts until then.
    """

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._catalog = catalog
        self._settings = settings
        self._models: dict[str, PooledModel] = {}
        self._leaving: set[PooledModel] = set()
        self._loading: dict[Found, _Load] = {}
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def use(self, name: str, *, scores: bool = False) -> AsyncGenerator[PooledModel]:
        """The model that `name` means now, which stays in memory inside the `async with`. scores: it is to give scores,
        not to write.

        Raises ApiError: 404 for one that is not there, 500 for a damaged one, 503 if it takes too long to load or if
        there is no room beside those in use, 400 if it can never fit, or does not do what it is to do.
        """
        found = await asyncio.to_thread(self._catalog.find, name)
        if found.scores != scores:
            raise errors.gives_scores(name) if found.scores else errors.gives_no_scores(name, found.chat)
        model = self._models.get(found.id)
        if model is not None and model.found == found and not model.host.failed:
            model.users += 1
        else:
            model = await self._load(found)
        try:
            yield model
        finally:
            model.used_at = time.monotonic()
            self._leave(model)

    def loaded(self) -> list[Loaded]:
        """The models in memory, the last used first."""
        return [model.loaded() for model in sorted(self._models.values(), key=lambda model: -model.used_at)]

    def close(self) -> None:
        """End all engines."""
        for model in (*self._models.values(), *self._leaving):
            model.host.close()
        self._models.clear()
        self._leaving.clear()

    def _leave(self, model: PooledModel) -> None:
        """One user less."""
        model.users -= 1
        if not model.users and model in self._leaving:
            self._leaving.discard(model)
            model.host.close()

    async def _load(self, found: Found) -> PooledModel:
        """The model, with a user more. It has that user from its first moment on, so that no other load evicts it."""
        load = self._loading.get(found)
        if load is None:
            load = self._loading[found] = _Load()
            load.task = asyncio.create_task(self._load_now(found, load))
            load.task.add_done_callback(lambda done: self._forget(found, done))
        assert load.task is not None
        load.waiting += 1
        try:
            # The work is shared: one client that goes away does not end it.
            return await asyncio.wait_for(asyncio.shield(load.task), self._settings.load_timeout_s)
        except BaseException as error:
            load.waiting -= 1
            if load.model is not None:
                self._leave(load.model)
            if isinstance(error, TimeoutError):
                raise loading(f"the model {found.id!r} is being loaded, ask again soon") from None
            raise

    def _forget(self, found: Found, task: asyncio.Task[PooledModel]) -> None:
        del self._loading[found]
        if not task.cancelled():
            task.exception()  # has been seen, also where every client has gone

    async def _load_now(self, found: Found, waiting: _Load) -> PooledModel:
        async with self._one_at_a_time:
            old = self._models.pop(found.id, None)
            if old is not None and old.users and not old.host.failed:  # the run was overwritten
                self._leaving.add(old)
            elif old is not None:
                old.host.close()
            try:
                needs = await asyncio.to_thread(plan, found.folder, self._settings)
                await self._make_room(found, needs)
                logger.info(
                    "%s will take %s: at most %s of weights, and %s of KV cache for %d slots of %d tokens; the server "
                    "may use %s",
                    *(found.id, size(needs.bytes), size(needs.weight_bytes), size(needs.kv_bytes)),
                    *(needs.slots, needs.context_tokens, size(self._settings.memory_bytes)),
                )
                engine, tokenizer, holds = await asyncio.to_thread(load, found.folder, needs)
                prompts = await asyncio.to_thread(Prompts, tokenizer)
                sampling = read_sampling(found.folder) or Sampling()
            except (CheckpointError, ValueError, OSError, RuntimeError) as error:
                raise damaged(found.id, error) from error
            logger.info(
                "%s is in memory: %s in %s, %d slots", found.id, size(holds.bytes), holds.weight_type, holds.slots
            )
            host = EngineHost(engine, found.id)
            model = PooledModel(found, holds, host, tokenizer, prompts, sampling, waiting.waiting)
            self._models[found.id] = waiting.model = model
            return model

    async def _make_room(self, found: Found, needs: LoadPlan) -> None:
        limit = self._settings.memory_bytes
        if needs.loading_bytes > limit:
            raise ApiError(
                400,
                f"model {found.id!r} needs {size(needs.loading_bytes)} ({size(needs.weight_bytes)} of weights, "
                f"{size(needs.kv_bytes)} of KV cache{_more(needs)}), the server may use {size(limit)}: start it with "
                f"fewer slots, a shorter context or more memory",
                code="model_too_large",
                param="model",
            )
        while self._held_bytes() + needs.loading_bytes > limit:
            idle = [model for model in self._models.values() if not model.users]
            if not idle:
                busy = ", ".join(sorted({model.found.id for model in (*self._models.values(), *self._leaving)}))
                wanted = f"{size(needs.loading_bytes)}; the server may use {size(limit)}"
                raise loading(f"there is no room for {found.id!r} ({wanted}) while these answer: {busy}")
            oldest = min(idle, key=lambda model: model.used_at)
            logger.info("%s leaves the memory", oldest.found.id)
            del self._models[oldest.found.id]
            oldest.host.close()
            await oldest.host.ended()

    def _held_bytes(self) -> int:
        return sum(model.plan.bytes for model in (*self._models.values(), *self._leaving))


def _more(needs: LoadPlan) -> str:
    more = needs.loading_bytes - needs.bytes
    return f", {size(more)} more while it is loaded" if more else ""
