from __future__ import annotations

import pytest

from data.schema import STAGE_ROWS, ChatRow, Message, PreferenceRow, PretrainRow, PromptRow, parse, required_fields


def test_every_stage_has_its_row() -> None:
    assert [STAGE_ROWS[stage] for stage in ("pretrain", "sft", "dpo", "rl")] == [
        PretrainRow,
        ChatRow,
        PreferenceRow,
        PromptRow,
    ]
    assert required_fields(PreferenceRow) == {"chosen", "rejected"}
    assert parse(PretrainRow, {"text": "hi", "id": 3}).text == "hi"
    assert parse(PromptRow, {"prompt": "1+1", "answer": "2"}).answer == "2"


def test_a_conversation_with_tools_as_minimind_writes_it() -> None:
    row = parse(
        ChatRow,
        {
            "conversations": [
                {"role": "system", "content": None, "tools": '[{"name": "add"}]'},
                {"role": "user", "content": "1+1?", "tools": ""},
                {"role": "assistant", "content": "", "reasoning_content": "easy", "tool_calls": '[{"name": "add"}]'},
                {"role": "tool", "content": "2"},
            ]
        },
    )
    assert row.conversations[0] == Message(role="system", tools=[{"name": "add"}])
    assert row.conversations[1].tools == []
    assert row.conversations[2].tool_calls == [{"name": "add"}]
    assert row.conversations[2].reasoning_content == "easy"


@pytest.mark.parametrize(
    ("row_type", "content", "message"),
    [
        (PretrainRow, ["text"], "this is a list, of rows perhaps: write each of them on a line of its own"),
        (PretrainRow, {"txt": "a"}, "a row needs text, the fields here are txt"),
        (PretrainRow, {}, "the fields here are none"),
        (PretrainRow, {"conversations": []}, "this is conversation data: use --stage sft"),
        (PretrainRow, {"text": 5}, "text = 5: Input should be a valid string"),
        (ChatRow, {"conversations": [{"role": "bot", "content": "x"}]}, r"conversations\.0\.role = 'bot'.*'assistant'"),
        (ChatRow, {"conversations": [{"role": "user", "content": 1}]}, r"conversations\.0\.content = 1"),
        (ChatRow, {"conversations": [{"role": "system", "tools": "[{"}]}, "tools = .*not JSON"),
        (PreferenceRow, {"chosen": []}, "a row needs chosen and rejected"),
        (PromptRow, {"prompt": "a", "answer": True}, "answer = True"),
    ],
)
def test_what_is_wrong_is_said(
    row_type: type[PretrainRow | ChatRow | PreferenceRow | PromptRow], content: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse(row_type, content)
