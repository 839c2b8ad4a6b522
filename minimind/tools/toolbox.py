"""Calls of tools that a model has written, answered, as the tokens that it goes on from."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from minimind.language import say
from minimind.sandbox.child import Child, FailedError, Why
from minimind.text.chat import after_calls, ends_in_thought, parse
from minimind.text.tokenizer import Tokenizer
from minimind.tools.kinds import Tool
from minimind.training.rollout import Reply

MOST_BYTES = 1 << 16
"""What a tool answers may be as long as this, in JSON."""

CUT = " …"
"""Stands at the end of what a tool said too much of."""

_WHY: Mapping[Why, str] = {
    "time": "the tool took too long",
    "output": "the tool wrote too much",
    "ended": "the tool ended without an answer",
    "missing": "the tool could not be started",
}
"""What the model reads of a failure: the same on every machine, so that a run can be repeated."""


class Toolbox:
    """The tools that a model may call. Use it in one thread at a time, and close it: they run in processes of their
    own, which are started by the first call.

    max_tokens: of what the model reads of a call, the template's words among them.

    Raises ValueError where that is too few for any answer.
    """

    def __init__(self, tools: Sequence[Tool], tokenizer: Tokenizer, max_tokens: int) -> None:
        self.tools = {tool.name: tool for tool in tools}
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self._children: dict[str, Child] = {}
        if (least := len(after_calls(tokenizer, [CUT]))) > max_tokens:
            raise ValueError(
                say(
                    "stage.tool_tokens = {count}: the template's words around a tool's answer are {least} tokens with "
                    "this tokenizer; give more",
                    count=max_tokens,
                    least=least,
                )
            )

    def reply(self, context: Sequence[int], turn: Sequence[int], calls_left: int) -> Reply | None:
        """What the model reads after a turn that it has ended; None where it calls nothing, so its answer is complete.

        context: what stands before the turn. calls_left: where the turn has more calls, none is made.
        """
        calls = parse(self.tokenizer, turn, ends_in_thought(self.tokenizer, context))["tool_calls"]
        if not calls:
            return None
        if len(calls) > calls_left:
            return Reply([], 0, 0)
        results = [self._result(call["function"]["name"], call["function"]["arguments"]) for call in calls]
        texts = [self._fitting(text) for text, _ in results]
        return Reply(after_calls(self.tokenizer, texts), len(calls), sum(not good for _, good in results))

    def close(self) -> None:
        """Ends the processes. Closing twice is harmless; a later call starts them again."""
        for child in self._children.values():
            child.close()

    def _result(self, name: str, arguments: str) -> tuple[str, bool]:
        """What a call gives, and whether that is an answer."""
        tool = self.tools.get(name)
        if tool is None:
            return f"error: there is no such tool; there are: {', '.join(self.tools)}", False
        if name not in self._children:
            self._children[name] = Child(tool.function, tool.folder, tool.limits, "texts")
        item = {"arguments": json.loads(arguments), "settings": tool.settings}
        try:
            reply = self._children[name].call([item], MOST_BYTES)
        except FailedError as failure:
            return f"error: {_WHY[failure.why]}", False
        except RecursionError:
            return "error: the arguments are nested too deeply", False
        if "texts" not in reply:
            return "error: the tool failed", False
        ((good, text),) = reply["texts"]
        text = text.encode(errors="replace").decode()  # JSON can write half a surrogate pair
        return (text if good else f"error: {text}"), bool(good)

    def _fitting(self, text: str) -> str:
        """As much of a text as there is room for."""

        def tokens(said: str) -> int:
            return len(after_calls(self.tokenizer, [said]))

        def beginning(count: int) -> str:
            return self.tokenizer.decode(ids[:count]).rstrip("\ufffd") + CUT

        if tokens(text) <= self.max_tokens:
            return text
        ids = self.tokenizer.encode(text)[: self.max_tokens]
        count = bisect_right(range(len(ids)), self.max_tokens, key=lambda count: tokens(beginning(count))) - 1
        while count and tokens(beginning(count)) > self.max_tokens:  # a longer text may have fewer tokens
            count -= 1
        return beginning(max(0, count))
