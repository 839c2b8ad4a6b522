from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from minimind.engine import Engine, Event
from minimind.model import MiniMind
from minimind.sampling import SamplingParams
from minimind.tokenizer import Tokenizer
from service import engine_host
from service.engine_host import EngineHost, EngineStoppedError, Ticket

GREEDY = SamplingParams(max_tokens=24, temperature=0)


@pytest.fixture
def engine(known_by_heart: tuple[MiniMind, Tokenizer]) -> Engine:
    model, tokenizer = known_by_heart
    return Engine(model, slots=2, context_tokens=64, tokenizer=tokenizer)


async def all_of(ticket: Ticket, sequences: int) -> tuple[dict[int, list[Event]], int]:
    """The events of each sequence, and in how many hand-overs they came."""
    events: dict[int, list[Event]] = {number: [] for number in range(sequences)}
    takes = 0
    while any(not each or each[-1].finish is None for each in events.values()):
        takes += 1
        for number, event in await ticket.take():
            events[number].append(event)
    return events, takes


def test_what_the_engine_writes_arrives_whole_and_in_order(engine: Engine) -> None:
    prompts = [[40, 41], [50], [60, 61, 62]]
    expected = [completion.token_ids for completion in engine.generate(prompts, GREEDY)]

    async def run(stream: bool) -> int:
        host = EngineHost(engine, "test")
        ticket = host.submit(prompts, [GREEDY] * 3, stream=stream)
        assert host.open == 3
        events, takes = await all_of(ticket, 3)
        assert [[event.token_id for event in events[number]] for number in range(3)] == expected
        assert host.open == 0
        host.close()
        return takes

    assert asyncio.run(run(stream=False)) == 1
    assert asyncio.run(run(stream=True)) > 5


def test_many_streams_share_the_hand_overs(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def takes(chunks_per_s: float) -> int:
        monkeypatch.setattr(engine_host, "CHUNKS_PER_S", chunks_per_s)
        host = EngineHost(engine, "test")
        tickets = [host.submit([[number]], [GREEDY], stream=True) for number in range(1, 3)]
        counts = [(await all_of(ticket, 1))[1] for ticket in tickets]
        host.close()
        return sum(counts)

    assert asyncio.run(takes(1e9)) > 20
    assert asyncio.run(takes(1e-9)) == 4  # the first token at once, everything else at the end


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
