from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from minimind.inference.completion import RequestEvent
from minimind.inference.engine import Engine
from minimind.inference.sampling import SamplingParams
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from service import engine_host
from service.engine_host import AnswerFailedError, EngineHost, EngineStoppedError, Ticket

GREEDY = SamplingParams(max_tokens=24, temperature=0)


@pytest.fixture
def engine(known_by_heart: tuple[MiniMind, Tokenizer]) -> Engine:
    model, tokenizer = known_by_heart
    return Engine(model, slots=2, context_tokens=64, tokenizer=tokenizer)


def one_at_a_time(engine: Engine) -> Callable[[int], None]:
    """The engine takes a step when it is let: gives the function that lets it take so many."""
    allowed, step = threading.Semaphore(0), engine.step

    def allowed_step() -> list[RequestEvent]:
        assert allowed.acquire(timeout=20)
        return step()

    engine.step = allowed_step  # type: ignore[method-assign]  # of this engine alone
    return allowed.release


async def endlessly(ticket: Ticket) -> None:
    """Take what comes, until an error does."""
    while True:
        await ticket.take()


def test_what_the_engine_writes_arrives_whole_and_in_order(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [[40, 41], [50], [60, 61, 62]]
    expected = [completion.token_ids for completion in engine.generate(prompts, GREEDY)]
    monkeypatch.setattr(engine_host, "CHUNKS_PER_S", 1e9)
    let = one_at_a_time(engine)

    async def run(stream: bool) -> int:
        host = EngineHost(engine, "test")
        ticket = host.submit(prompts, [GREEDY] * 3, stream=stream)
        assert host.open == 3
        written: list[list[int | None]] = [[], [], []]
        ended = takes = 0
        while ended < 3:
            let(1 if stream else 100)
            takes += 1
            for number, event in await ticket.take():
                written[number].append(event.token_id)
                ended += event.finish is not None
        assert written == expected
        assert host.open == 0
        host.close()
        return takes

    assert asyncio.run(run(stream=True)) >= max(map(len, expected))
    assert asyncio.run(run(stream=False)) == 1


def test_many_streams_share_the_hand_overs(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [completion.token_ids for completion in engine.generate([[1], [2]], GREEDY)]
    assert all(len(ids) > 2 for ids in expected)
    monkeypatch.setattr(engine_host, "CHUNKS_PER_S", 1e-9)
    let = one_at_a_time(engine)

    async def run() -> None:
        host = EngineHost(engine, "test")
        tickets = [host.submit([[number]], [GREEDY], stream=True) for number in (1, 2)]
        assert [ticket.decode_s for ticket in tickets] == [0.0, 0.0]
        let(2)
        firsts = [await ticket.take() for ticket in tickets]
        assert [[event.token_id for _, event in first] for first in firsts] == [ids[:1] for ids in expected]
        let(100)
        rests = [await ticket.take() for ticket in tickets]
        assert all(ticket.decode_s > 0 for ticket in tickets)
        assert [[event.token_id for _, event in rest] for rest in rests] == [ids[1:] for ids in expected]
        host.close()

    asyncio.run(run())


def test_cancel_frees_the_slots_before_the_next_step(engine: Engine) -> None:
    async def run() -> None:
        host = EngineHost(engine, "test")
        endless = SamplingParams(max_tokens=60, temperature=0)
        ticket = host.submit([[1]] * 6, [endless] * 6, stream=True)
        await ticket.take()
        host.cancel(ticket)
        host.cancel(ticket)
        after = host.submit([[2]], [GREEDY], stream=False)
        await after.take()
        assert host.open == 0
        assert not await host.call(lambda engine: engine.busy)
        host.cancel(after)  # it has ended
        host.close()

    asyncio.run(run())


def test_a_refused_request_harms_no_other(engine: Engine) -> None:
    async def run() -> None:
        host = EngineHost(engine, "test")
        good = host.submit([[1]], [GREEDY], stream=False)
        bad = host.submit([[1], [10_000]], [GREEDY] * 2, stream=False)
        with pytest.raises(ValueError, match="token ids"):
            await bad.take()
        assert (await good.take())[-1][1].finish is not None
        assert host.open == 0
        with pytest.raises(ZeroDivisionError):
            await host.call(lambda engine: 1 // 0)
        assert await host.call(lambda engine: engine.slots) == 2
        host.close()

    asyncio.run(run())


def test_an_answer_that_fails_harms_no_other(engine: Engine) -> None:
    expected = engine.generate([[1]], GREEDY)[0].token_ids
    step = engine.step

    def one_fails() -> list[RequestEvent]:
        return [
            RequestEvent(event.request, finish="failed", error="no numbers") if event.request in failing else event
            for event in step()
        ]

    failing: set[int] = set()
    engine.step = one_fails  # type: ignore[method-assign]  # of this engine alone

    async def run() -> None:
        host = EngineHost(engine, "test")
        good = host.submit([[1]], [GREEDY], stream=False)
        bad = host.submit([[2], [3], [4]], [GREEDY] * 3, stream=True)
        await host.call(lambda engine: failing.add(max(engine._requests) - 1))
        with pytest.raises(AnswerFailedError, match="no numbers"):
            await endlessly(bad)
        assert [event.token_id for _, event in await good.take()] == expected
        assert not host.failed
        assert host.open == 0
        await host.submit([[2]], [GREEDY], stream=False).take()
        host.close()

    asyncio.run(run())


def test_a_failed_engine_tells_everybody_and_takes_nobody(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        host = EngineHost(engine, "test")
        endless = SamplingParams(max_tokens=60, temperature=0)
        waiting = host.submit([[1]], [endless], stream=False)

        def break_down(engine: Engine) -> None:
            def step() -> Any:
                raise RuntimeError("out of everything")

            engine.step = step  # type: ignore[method-assign]

        await host.call(break_down)
        with pytest.raises(EngineStoppedError, match="out of everything"):
            await waiting.take()
        assert host.failed
        with pytest.raises(EngineStoppedError):
            await host.submit([[1]], [GREEDY], stream=False).take()
        with pytest.raises(EngineStoppedError):
            await host.call(lambda engine: None)

    asyncio.run(run())
    assert "out of everything" in caplog.text


def test_closing_tells_those_who_wait_and_ends_the_thread(engine: Engine) -> None:
    async def run() -> None:
        host = EngineHost(engine, "closing")
        ticket = host.submit([[1]] * 50, [SamplingParams(max_tokens=60, temperature=0)] * 50, stream=False)
        host.close()
        with pytest.raises(EngineStoppedError, match="taken out of memory"):
            await ticket.take()
        for thread in threading.enumerate():
            if thread.name == "engine closing":
                thread.join(10)
                assert not thread.is_alive()

    asyncio.run(run())


def test_what_came_before_an_error_is_handed_on_first(engine: Engine) -> None:
    async def run() -> None:
        host = EngineHost(engine, "test")
        ticket = host.submit([[1]], [GREEDY], stream=False)
        while host.open:
            await asyncio.sleep(0.001)
        ticket.fail(EngineStoppedError("too late to matter"))
        assert (await ticket.take())[-1][1].finish is not None
        with pytest.raises(EngineStoppedError):
            await ticket.take()
        host.close()
        await host.ended()

    asyncio.run(run())


def test_a_sequence_ends_where_its_watch_says_so_and_computes_no_more(engine: Engine) -> None:
    [whole, other] = [completion.token_ids for completion in engine.generate([[40, 41], [50]], GREEDY)]
    seen: list[int | None] = []

    def third(event: RequestEvent) -> bool:
        seen.append(event.token_id)
        return len(seen) == 3

    async def run() -> None:
        host = EngineHost(engine, "test")
        ticket = host.submit([[40, 41], [50]], [GREEDY] * 2, stream=False, watches=[third, None])
        events = await ticket.take()
        told = [event for number, event in events if number == 0]
        assert [event.token_id for event in told] == whole[:3] == seen
        assert [event.finish for event in told] == [None, None, "stop"]
        assert [event.token_id for number, event in events if number == 1] == other
        assert host.open == 0
        assert not await host.call(lambda engine: engine.busy)
        host.close()

    asyncio.run(run())


def test_no_thread_is_in_a_step_when_python_ends() -> None:
    program = """
import asyncio, atexit, threading, time
atexit.register(lambda: print([thread.name for thread in threading.enumerate() if "engine" in thread.name]))
from service.engine_host import EngineHost

class Busy:
    busy = True
    def step(self):
        time.sleep(0.01)
        return []

async def begin():
    EngineHost(Busy(), "endless")

asyncio.run(begin())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
