"""A model in memory and the thread that runs it.

The engine belongs to its thread: requests go in as calls that the thread makes between two steps, and what a step
yields goes back to the event loop with one hand-over, for all requests together. Tokens of a stream are gathered, so
that a replica hands on at most CHUNKS_PER_S pieces a second however many streams there are: one stream gets a piece
each 20 ms, each of 64 one in 1.3 s, and what HTTP costs stays a small share of what the tokens cost.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from minimind.inference.completion import RequestEvent
from minimind.inference.engine import Engine
from minimind.inference.reward import Scorer
from minimind.inference.sampling import SamplingParams

logger = logging.getLogger(__name__)

CHUNKS_PER_S = 50

_STEP_S = 10.0
"""How long a process that ends waits for the step that an engine is in."""

T = TypeVar("T")

Watch = Callable[[RequestEvent], bool]


class EngineStoppedError(RuntimeError):
    """The engine failed, or its model was taken out of memory, before the answer was complete."""


class AnswerFailedError(RuntimeError):
    """An answer of this request failed; the engine goes on with the others."""


class Ticket:
    """Sequences that were handed in together. `take` is for the event loop; the rest is the host's.

    watches: for each sequence what tells, given its events, whether it has ended; None where the engine says so.
    """

    def __init__(self, sequences: int, *, stream: bool, watches: Sequence[Watch | None] = ()) -> None:
        self.stream = stream
        self.watches = watches or [None] * sequences
        self.open = sequences
        self.pending: list[tuple[int, RequestEvent]] = []  # of the thread
        self.due = 0.0
        self._first_at = self._last_at = 0.0
        self._arrived: list[tuple[int, RequestEvent]] = []  # of the event loop
        self._error: Exception | None = None
        self._wake = asyncio.Event()

    async def take(self) -> list[tuple[int, RequestEvent]]:
        """What is new: (number of the sequence, event). Raises what the engine raised for this request."""
        await self._wake.wait()
        if self._error is not None and not self._arrived:
            raise self._error
        arrived, self._arrived = self._arrived, []
        if self._error is None:
            self._wake.clear()
        return arrived  # also what came before an error: it may be the whole answer

    @property
    def decode_s(self) -> float:
        """Seconds between its first token and its last so far, as the engine made them."""
        return self._last_at - self._first_at

    def wrote(self, now: float) -> None:
        """A step has ended that wrote some of it; of the thread."""
        self._first_at = self._first_at or now
        self._last_at = now

    def arrive(self, events: list[tuple[int, RequestEvent]]) -> None:
        """Events from the thread, in the event loop."""
        self._arrived += events
        self._wake.set()

    def fail(self, error: Exception) -> None:
        """The request ends with an error, in the event loop."""
        self._error = error
        self._wake.set()


class EngineHost:
    """An engine, of a model that writes or of one that gives scores, in a thread of its own. Made and used in one event
    loop.
    """

    def __init__(self, engine: Engine | Scorer, name: str) -> None:
        self.open = 0
        self.failed = False
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._owners: dict[int, tuple[Ticket, int]] = {}  # of the thread
        self._tickets: set[Ticket] = set()
        self._futures: set[asyncio.Future[Any]] = set()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"engine {name}", daemon=True)
        self._thread.start()
        _HOSTS.add(self)

    def submit(
        self,
        prompts: Sequence[list[int]],
        params: Sequence[SamplingParams],
        *,
        stream: bool,
        watches: Sequence[Watch | None] = (),
    ) -> Ticket:
        """Hand in sequences to generate or score. watches: run in the thread, each given the events of its sequence."""
        ticket = Ticket(len(prompts), stream=stream, watches=watches)
        if self.failed:
            ticket.fail(EngineStoppedError("the model's engine has stopped"))
        else:
            self.open += len(prompts)
            self._tickets.add(ticket)
            self._calls.put(partial(self._add, ticket, prompts, params))
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Give the slots of a request away, before the next step. Harmless for one that has ended."""
        if ticket in self._tickets:
            self._tickets.discard(ticket)
            self._calls.put(partial(self._cancel, ticket))

    async def call(self, work: Callable[[Any], T]) -> T:
        """`work(engine)`, in the thread, between two steps. Raises what it raises."""
        if self.failed:
            raise EngineStoppedError("the model's engine has stopped")
        future: asyncio.Future[T] = self._loop.create_future()
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        self._calls.put(partial(self._work, work, future))
        return await future

    def close(self) -> None:
        """End the thread after its current step; whoever still waits is told."""
        self.failed = True
        self._calls.put(None)

    def join(self, seconds: float) -> None:
        """Wait until the thread has ended, or for so long."""
        self._thread.join(max(0.0, seconds))

    async def ended(self) -> None:
        """Wait until the thread takes no step any more."""
        await self._ended.wait()

    def _run(self) -> None:
        error: Exception = EngineStoppedError("the model was taken out of memory")
        try:
            while True:
                while not self._engine.busy or not self._calls.empty():
                    call = self._calls.get()
                    if call is None:
                        return
                    call()
                self._hand_over(self._engine.step())
        except Exception as failure:  # the thread's top: each request is told, and the log has the traceback
            logger.exception("the engine of %s failed", self._thread.name)
            error = EngineStoppedError(f"the engine failed ({type(failure).__name__}: {failure}); the log says where")
        finally:
            self._tell(self._stopped, error)

    def _work(self, work: Callable[[Any], Any], future: asyncio.Future[Any]) -> None:
        try:
            result, error = work(self._engine), None
        except Exception as failure:  # noqa: BLE001
            # Whatever it is, whoever waits for it is told.
            result, error = None, failure
        self._tell(_settle, future, result, error)

    def _add(self, ticket: Ticket, prompts: Sequence[list[int]], params: Sequence[SamplingParams]) -> None:
        try:
            for number, (prompt, how) in enumerate(zip(prompts, params, strict=True)):
                self._owners[self._engine.add(prompt, how)] = (ticket, number)
        except ValueError as error:
            self._drop(ticket)
            self._tell(self._refused, ticket, error, len(prompts))

    def _cancel(self, ticket: Ticket) -> None:
        if dropped := self._drop(ticket):
            self._tell(self._arrived, [], dropped)

    def _drop(self, ticket: Ticket) -> int:
        mine = [request for request, (owner, _) in self._owners.items() if owner is ticket]
        for request in mine:
            self._engine.cancel(request)
            del self._owners[request]
        return len(mine)

    def _hand_over(self, events: list[RequestEvent]) -> None:
        now = time.monotonic()
        touched: dict[int, Ticket] = {}
        ended = 0
        for event in events:
            owner = self._owners.get(event.request)
            if owner is None:  # cancelled
                continue
            ticket, number = owner
            if event.finish == "failed":
                touched.pop(id(ticket), None)
                self._tell(self._refused, ticket, AnswerFailedError(event.error), self._drop(ticket))
                continue
            watch = ticket.watches[number]
            if watch is not None and event.finish is None and watch(event):
                self._engine.cancel(event.request)
                event = replace(event, finish="stop")
            ticket.pending.append((number, event))
            ticket.wrote(now)
            touched[id(ticket)] = ticket
            if event.finish is not None:
                del self._owners[event.request]
                ticket.open -= 1
                ended += 1
        interval_s = len(self._owners) / CHUNKS_PER_S
        ready = []
        for ticket in touched.values():
            if ticket.open == 0 or (ticket.stream and now >= ticket.due):
                ready.append((ticket, ticket.pending))
                ticket.pending = []
                ticket.due = now + interval_s
        if ready or ended:
            self._tell(self._arrived, ready, ended)

    # What follows runs in the event loop.

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has been closed: there is nobody left to tell
            self._loop.call_soon_threadsafe(function, *arguments)

    def _arrived(self, ready: list[tuple[Ticket, list[tuple[int, RequestEvent]]]], ended: int) -> None:
        self.open -= ended
        for ticket, events in ready:
            if ticket.open == 0:
                self._tickets.discard(ticket)
            ticket.arrive(events)

    def _refused(self, ticket: Ticket, error: Exception, sequences: int) -> None:
        self.open -= sequences
        self._tickets.discard(ticket)
        ticket.fail(error)

    def _stopped(self, error: Exception) -> None:
        self.failed = True
        self.open = 0
        for ticket in self._tickets:
            ticket.fail(error)
        self._tickets.clear()
        self._ended.set()
        for future in list(self._futures):
            _settle(future, None, error)


_HOSTS: weakref.WeakSet[EngineHost] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """End the threads while Python runs: after that it would end them inside of PyTorch, whose C++ then aborts."""
    hosts = list(_HOSTS)
    for host in hosts:
        host.close()
    end = time.monotonic() + _STEP_S
    for host in hosts:
        host.join(end - time.monotonic())


def _settle(future: asyncio.Future[T], result: T, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
