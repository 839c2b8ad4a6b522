"""What langchain-openai gets from a server: run with its address and a model's name, says what came as JSON."""

from __future__ import annotations

import json
import sys
from functools import reduce
from operator import add
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI


def main(address: str, name: str, capital: str, forecast: str, tool: str) -> None:
    model = ChatOpenAI(model=name, base_url=f"{address}/v1", api_key="none", temperature=0, max_retries=0)
    said: dict[str, Any] = {}

    answer = model.invoke(capital)
    said["answer"] = answer.content
    said["usage"] = answer.usage_metadata is not None
    said["second_turn"] = model.invoke([HumanMessage(capital), answer, HumanMessage(capital)]).content

    streamed = reduce(add, model.stream(capital))
    said["streamed"] = streamed.content
    said["after_a_stream"] = model.invoke([HumanMessage(capital), streamed, HumanMessage(capital)]).content

    weather = json.loads(tool)
    caller = model.bind_tools([weather])
    for way, call in (
        ("whole", caller.invoke(forecast)),
        ("stream", reduce(add, caller.stream(forecast))),
        ("one", model.bind_tools([weather], parallel_tool_calls=False).invoke(forecast)),
    ):
        said[f"call_{way}"] = [call.tool_calls[0]["name"], call.tool_calls[0]["args"]]
        result = ToolMessage(content='{"sky": "sunny"}', tool_call_id=call.tool_calls[0]["id"])
        said[f"result_{way}"] = caller.invoke([HumanMessage(forecast), call, result]).content

    # Sends tool_choice with the tool's name, and parallel_tool_calls = false.
    said["structured"] = model.with_structured_output(weather, method="function_calling").invoke(forecast)
    said["batch"] = [message.content for message in model.batch([capital, capital])]
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
