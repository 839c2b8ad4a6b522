"""Rows as each stage reads them, one of each form. `minimind data example STAGE` prints them."""

from __future__ import annotations

from typing import Any

_QUESTION = {"role": "user", "content": "What is 2 + 2?"}
_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "pretrain": [
        {"text": "The water cycle begins when the sun warms the sea."},
        {"text": "床前明月光，疑是地上霜。举头望明月，低头思故乡。"},
    ],
    "sft": [
        {
            "conversations": [
                {"role": "user", "content": "中国的首都？"},
                {"role": "assistant", "content": "北京。"},
            ]
        },
        {
            "conversations": [
                {"role": "system", "content": "Answer in one word."},
                _QUESTION,
                {"role": "assistant", "content": "Five.", "weight": 0},
                {"role": "user", "content": "Are you sure?"},
                {"role": "assistant", "content": "Four.", "reasoning_content": "2 + 2 is 4, not 5."},
            ]
        },
        {"messages": [_QUESTION, {"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\nFour."}]},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}], "system": "Be kind."},
        {"instruction": "Translate into English.", "input": "月亮", "output": "The moon."},
        {"prompt": [_QUESTION], "completion": [{"role": "assistant", "content": "Four."}]},
    ],
    # By itself: the words about tools alone are more tokens than a small model's rows have, if its tokenizer is poor.
    "tools": [
        {
            "conversations": [
                {"role": "system", "content": "", "tools": [_TOOL]},
                {"role": "user", "content": "Is it sunny in Paris?"},
                {"role": "assistant", "tool_calls": [{"name": "weather", "arguments": {"city": "Paris"}}]},
                {"role": "tool", "content": '{"sky": "sunny"}'},
                {"role": "assistant", "content": "Yes, it is."},
            ]
        },
    ],
    "dpo": [
        {
            "chosen": [_QUESTION, {"role": "assistant", "content": "Four."}],
            "rejected": [_QUESTION, {"role": "assistant", "content": "Five."}],
        },
        {
            "prompt": [{"role": "user", "content": "中国的首都？"}],
            "chosen": [{"role": "assistant", "content": "北京。"}],
            "rejected": [{"role": "assistant", "content": "上海。"}],
        },
        {"prompt": "What do bees make?", "chosen": "Bees make honey.", "rejected": "Bees make"},
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "Hello! How are you?"},
            "rejected": {"from": "gpt", "value": "The capital of France is Paris."},
        },
    ],
    "kto": [
        {"conversations": [_QUESTION, {"role": "assistant", "content": "Four."}], "label": True},
        {"messages": [_QUESTION, {"role": "assistant", "content": "Five."}], "label": False},
        {"prompt": "中国的首都？", "completion": "北京。", "label": True},
        {
            "prompt": [{"role": "user", "content": "中国的首都？"}],
            "completion": [{"role": "assistant", "content": "上海。"}],
            "label": False,
        },
        {"instruction": "Translate into English.", "input": "月亮", "output": "The moon.", "kto_tag": True},
    ],
    "rl": [{"prompt": "What is 12 + 30?", "answer": "42"}, {"prompt": "三乘以七等于几？", "answer": "21"}],
}
"""Stage, or what a row of SFT is about -> rows."""
