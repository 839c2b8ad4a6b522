"""Rows as other programs write them: learnt as they mean, or refused by the name of the field. Judged by token ids."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from data.encode import documents
from data.examples import EXAMPLES
from data.formats import READING, stage_of
from data.rules import problems
from data.schema import STAGE_ROWS, ChatRow, LabelledRow, PreferenceRow, PromptRow, Row, parse
from minimind.text.chat import render
from minimind.text.tokenizer import Tokenizer

ASKED = {"role": "user", "content": "q"}
ANSWERED = {"role": "assistant", "content": "a"}
CALL = {"name": "add", "arguments": {"a": 1}}
TOOL = {"type": "function", "function": {"name": "add"}}
PARTS = [{"type": "text", "text": "a"}]
CALLED = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["zz"], vocab_size=292)  # a token per byte


def said(content: str | None = "a", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def ours(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"conversations": list(messages)}


THOUGHT = ours(ASKED, said("Four.", reasoning_content="Two and two."))
TOOLS = ours({"role": "system", "content": "S", "tools": [TOOL]}, ASKED, ANSWERED)
RESULTS = ours(
    ASKED,
    said("", tool_calls=[CALL, CALL]),
    {"role": "tool", "content": "1"},
    {"role": "tool", "content": "2"},
    ANSWERED,
)
UNLEARNT = ours(ASKED, said(learn=False), ASKED, ANSWERED)

SAME = {
    "thought in tags": (ours(ASKED, said("<think>\nTwo and two.\n</think>\n\nFour.")), THOUGHT),
    "thought whose opening tag the prompt has": (ours(ASKED, said("Two and two.\n</think>\n\nFour.")), THOUGHT),
    "thought beside an empty field": (
        ours(ASKED, said("<think>Two and two.</think>Four.", reasoning_content="")),
        THOUGHT,
    ),
    "no thought at all": (ours(ASKED, said("<think>\n\n</think>\n\na")), ours(ASKED, ANSWERED)),
    "thinking": (ours(ASKED, said("Four.", thinking="Two and two.")), THOUGHT),
    "reasoning": (ours(ASKED, said("Four.", reasoning="Two and two.", thinking=None)), THOUGHT),
    "functions of the system turn": (
        ours({"role": "system", "content": "S", "functions": json.dumps([TOOL])}, ASKED, ANSWERED),
        TOOLS,
    ),
    "system and tools beside": ({"system": "S", "tools": json.dumps([TOOL])} | ours(ASKED, ANSWERED), TOOLS),
    "tools beside a system turn": (
        {"tools": [TOOL]} | ours({"role": "system", "content": "S"}, ASKED, ANSWERED),
        TOOLS,
    ),
    "calls in tags": (
        ours(ASKED, said(f"so\n{CALLED}")),
        ours(ASKED, said("so", tool_calls=[CALL])),
    ),
    "Hermes: arguments first, results in tags": (
        ours(
            {"from": "human", "value": "q"},
            {"from": "gpt", "value": f'{CALLED}\n<tool_call>{{"arguments": {{"a": 1}}, "name": "add"}}</tool_call>\n'},
            {"from": "tool", "value": "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>"},
            {"from": "gpt", "value": "a"},
        ),
        RESULTS,
    ),
    "results in a user's turn": (
        ours(
            ASKED,
            said("", tool_calls=[CALL, CALL]),
            {"role": "user", "content": "<tool_response>1</tool_response><tool_response>2</tool_response>"},
            ANSWERED,
        ),
        RESULTS,
    ),
    "results by id": (
        ours(
            ASKED,
            said(None, tool_calls=[{"id": i, "type": "function", "function": CALL} for i in "xy"]),
            {"role": "tool", "tool_call_id": "y", "content": "2"},
            {"role": "tool", "tool_call_id": "x", "content": "1"},
            ANSWERED,
        ),
        RESULTS,
    ),
    "LLaMA-Factory": (
        ours(
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": json.dumps([CALL, CALL])},
            {"from": "observation", "value": "1"},
            {"from": "observation", "value": "2"},
            {"from": "gpt", "value": "a"},
        ),
        RESULTS,
    ),
    "OpenAI's older calls": (
        ours(ASKED, said(None, function_call=CALL), {"role": "function", "name": "add", "content": "1"}, ANSWERED),
        ours(ASKED, said("", tool_calls=[CALL]), {"role": "tool", "content": "1"}, ANSWERED),
    ),
    "OpenAI's messages": (
        {"messages": [{"role": "developer", "content": "S"}, ASKED, ANSWERED | {"content": PARTS, "refusal": None}]},
        ours({"role": "system", "content": "S"}, ASKED, ANSWERED),
    ),
    "TRL's prompt and completion": (
        {"prompt": [ASKED, ANSWERED, ASKED], "completion": [ANSWERED]},
        UNLEARNT,
    ),
    "Alpaca": (
        {"instruction": "q", "input": "", "output": "a", "text": "Below is an instruction", "history": [["q", "a"]]},
        ours(ASKED, ANSWERED, ASKED, ANSWERED),
    ),
    "Alpaca's input": (
        {"instruction": "q", "input": "r", "output": "a"},
        ours({"role": "user", "content": "q\nr"}, ANSWERED),
    ),
    "nulls of other rows": (
        {"conversations": [], "messages": [ASKED | {"tools": None}, ANSWERED | {"name": None}], "tools": [], "x": ""},
        ours(ASKED, ANSWERED),
    ),
    "weight": (ours(ASKED, said(weight=0), ASKED, said(weight=1)), UNLEARNT),
    "train": (ours(ASKED | {"train": False}, said(train=False), ASKED, said(train=True)), UNLEARNT),
    "loss_mask": (ours(ASKED, said(loss_mask=0.0), ASKED, said(loss_mask=None)), UNLEARNT),
    "a list of ones": ({"weights": [1, 1]} | ours(ASKED, ANSWERED), ours(ASKED, ANSWERED)),
    "a list of marks": ({"assistant_masks": [0, 0, 0, 1]} | ours(ASKED, ANSWERED, ASKED, ANSWERED), UNLEARNT),
}  # fmt: skip


@pytest.mark.parametrize(("row", "same"), SAME.values(), ids=SAME)
def test_what_others_write_gives_the_ids_of_our_own_form(
    tokenizer: Tokenizer, row: dict[str, Any], same: dict[str, Any]
) -> None:
    found = parse(ChatRow, row)
    assert (found.unread, list(problems(found))) == ([], [])
    (document,) = documents(tokenizer, found)
    expected = render(tokenizer, same["conversations"])
    assert document.ids == expected.ids
    learnt = {at for start, end in document.targets.reshape(-1, 2).tolist() for at in range(start, end)}
    assert [at in learnt for at in range(len(document.ids))] == expected.loss_mask


def test_an_answer_that_is_only_read_is_no_target(tokenizer: Tokenizer) -> None:
    row = parse(ChatRow, ours(ASKED, said("WRONG", weight=0), ASKED, said("right")))
    (document,) = documents(tokenizer, row)
    start, end = document.targets.tolist()
    assert tokenizer.decode(document.ids[start:end]) == "right<|im_end|>"
    assert "WRONG" in tokenizer.decode(document.ids[:start])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (ours(ASKED, said(weight=0.5)), r"turn 2: weight = 0.5: only 1 and true \(learnt\) or 0 and false"),
        (ours(ASKED, said(train="false")), "turn 2: train = 'false': only 1"),
        (ours(ASKED | {"train": True}, ANSWERED), "turn 1: is marked as learnt, but its role is user"),
        ({"weights": [1, 0]} | ours(ASKED, ANSWERED), "weights marks turn 1 as learnt, but its role is user"),
        ({"loss_mask": [0, 1, 1]} | ours(ASKED, ANSWERED), "loss_mask has 3 entries, the conversation has 2 turns"),
        (ours(ASKED, said(thinking="x", reasoning_content="y")), "reasoning_content and thinking mean the same"),
        ({"system": "A"} | ours({"role": "system", "content": "B"}, ASKED, ANSWERED), "system turn's content and what"),
        ({"messages": [ASKED, ANSWERED]} | ours(ASKED, said("b")), "conversations and messages are different"),
        (ours(ASKED | {"content": [{"type": "image_url"}]}, ANSWERED), "part of type 'image_url'; only text"),
        ({"prompt": "q", "completion": "a"}, "prompt and completion as texts don't say who speaks"),
        (ours(ASKED, said("", tool_calls=[CALL | {"id": "x"}]), {"role": "tool", "tool_call_id": "z", "content": "1"}),
         "tool_call_id 'z' is of no call"),
        (ours({"role": "system", "tools": '[{"name": "\\ud83d"}]'}, ASKED, ANSWERED), "half a surrogate pair"),
        (ours({"role": "system", "tools": "[" * 5000}, ASKED, ANSWERED), "not JSON"),
        (ours({"role": "system", "tools": [{"name": json.loads("[" * 200 + "]" * 200)}]}, ASKED, ANSWERED),
         "nested more than 100 deep"),
        (ours(ASKED, said("", tool_calls=[CALL], function_call=CALL)), "turn 2: has calls in two places"),
        (ours(ASKED, {"role": "function_call", "content": json.dumps(CALL), "tool_calls": [CALL]}),
         "turn 2: has calls in two places"),
        (ours(ASKED, said("", tool_calls=[CALL | {"id": "x"}, CALL | {"id": "y"}]),
              {"role": "tool", "tool_call_id": "y", "content": "1"}), r"results for the calls \['y'\] of \['x', 'y'\]"),
        (ours(ASKED, said("", tool_calls=[CALL | {"id": "x"}, CALL | {"id": "y"}]),
              {"role": "tool", "tool_call_id": "x", "content": "1"}), r"results for the calls \['x'\] of \['x', 'y'\]"),
        ({"messages": [ASKED, ANSWERED, ASKED, ANSWERED]} | ours(ASKED, ANSWERED), "conversations and messages"),
        ({"question": "q", "answer": "a"}, "a row needs conversations, the fields here are question, answer"),
    ],
)  # fmt: skip
def test_what_can_not_be_obeyed_is_refused_by_its_name(row: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(ChatRow, row)


@pytest.mark.parametrize(
    ("row", "unread", "ignored"),
    [
        (ours(ASKED, ANSWERED) | {"split": "Test "}, ["split = 'Test ', which keeps a row from training"], []),
        (ours(ASKED, ANSWERED) | {"split": "train"}, [], ["split"]),
        (ours(ASKED, ANSWERED) | {"input_image_path": "a.png"}, ["input_image_path"], []),
        (ours(ASKED | {"mood": "sad"}, said(prefix=True)), ["mood of turn 1", "prefix of turn 2"], []),
        (ours(ASKED | {"tools": [TOOL]}, ANSWERED), ["tools of turn 1"], []),
        (ours(ASKED, said("", tool_calls=[{"name": "add", "parameters": {"a": 1}}])),
         ["parameters of a call of turn 2"], []),
        (ours(ASKED, said("", tool_calls=[{"name": "add", "arguments": {"a": 2}, "function": CALL}])),
         ["name of a call of turn 2", "arguments of a call of turn 2"], []),
        (ours(ASKED, ANSWERED | {"content": [*PARTS, {"type": "text", "text": "b", "train": False, "id": "1"}]}),
         ["train of a part of turn 2"], ["id"]),
        ({"instruction": "q", "output": "a", "text": "Question: q"}, ["text"], []),
        ({"image_path": "a.png", "audio_url": "u", "kto_tag": False} | ours(ASKED, ANSWERED),
         ["image_path", "audio_url", "kto_tag"], []),
        ({"persona": "p", "id": 3, "score_chosen": 1.0, "empty": None} | ours(ASKED, ANSWERED),
         ["persona"], ["id", "score_chosen"]),
    ],
)  # fmt: skip
def test_what_nothing_reads_is_named(row: dict[str, Any], unread: list[str], ignored: list[str]) -> None:
    found = parse(ChatRow, row)
    assert (found.unread, found.ignored) == (unread, ignored)


def test_beside_a_text_everything_is_about_it_but_for_marks() -> None:
    row = parse(STAGE_ROWS["pretrain"], {"text": "t", "persona": "p", "weight": 0, "train": True})
    assert (row.unread, row.ignored) == (["weight"], ["persona", "train"])


@pytest.mark.parametrize(
    ("content", "tag"),
    [
        ("<think>a</think>b<think>c</think>d", "<think>"),
        ("Sure. <think>a</think>b", "<think>"),
        ("<think>cut off", "<think>"),
        (f"{CALLED} and more", "<tool_call>"),
        ("<tool_call>\n{'name': 'add', 'arguments': {}}\n</tool_call>", "<tool_call>"),
        ("a<|im_end|>", "<|im_end|>"),
    ],
)
def test_tags_of_which_nothing_can_be_made_are_a_problem(content: str, tag: str) -> None:
    ((kind, detail),) = problems(parse(ChatRow, ours(ASKED, said(content))))
    assert kind == "tags"
    assert f"turn 2 has {tag} in its text" in detail


RIGHT, WRONG = said("yes"), said("no")
OPENED = {"role": "system", "content": "S"}
WHOLE = {"chosen": [ASKED, RIGHT], "rejected": [ASKED, WRONG]}
LATER = {"chosen": [ASKED, ANSWERED, ASKED, RIGHT], "rejected": [ASKED, ANSWERED, ASKED, WRONG]}
WITH_SYSTEM = {"chosen": [OPENED, *WHOLE["chosen"]], "rejected": [OPENED, *WHOLE["rejected"]]}
TEXTS = {"chosen": "yes", "rejected": "no"}

PREFERENCES = {
    "MiniMind's dpo.jsonl": (
        {side: [{"content": turn["content"], "role": turn["role"]} for turn in turns] for side, turns in WHOLE.items()},
        WHOLE,
    ),
    "TRL: messages": ({"prompt": [ASKED], "chosen": [RIGHT], "rejected": [WRONG]}, WHOLE),
    "TRL: texts": ({"prompt": "q", "chosen": " yes", "rejected": " no"}, WHOLE),
    "TRL: the prompt implicit": (LATER, LATER),
    "no prompt": ({"prompt": []} | WHOLE, WHOLE),
    "a text before messages": ({"prompt": "q", "chosen": [RIGHT], "rejected": [WRONG]}, WHOLE),
    "messages before texts": ({"prompt": [ASKED, ANSWERED, ASKED]} | TEXTS, LATER),
    "UltraFeedback": (
        {"prompt": "q", "prompt_id": "f0", "messages": [ASKED, RIGHT], "score_chosen": 8.5, "score_rejected": 4.0}
        | WHOLE,
        WHOLE,
    ),
    "Argilla": ({"source": "s", "prompt": "q", "chosen-rating": 5, "chosen-model": "m"} | WHOLE, WHOLE),
    "mlabonne's mix": ({"source": "s", "prompt": "q", "question": "q"} | WHOLE, WHOLE),
    "Orca": ({"system": "S", "question": "q"} | TEXTS, WITH_SYSTEM),
    "Argilla's Orca": ({"system": "S", "input": "q"} | TEXTS, WITH_SYSTEM),
    "LLaMA-Factory: ShareGPT": (
        {
            "prompt": None,
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "yes"},
            "rejected": WRONG,
        },
        WHOLE,
    ),
    "LLaMA-Factory: OpenAI": ({"messages": [OPENED, ASKED], "chosen": RIGHT, "rejected": WRONG}, WITH_SYSTEM),
    "LLaMA-Factory: Alpaca": ({"instruction": "q", "input": "", "history": [["q", "a"]], "system": ""} | TEXTS, LATER),
    "Anthropic": (
        {
            side: f"\n\nHuman: q\n\nAssistant: a\n\nHuman: q\n\nAssistant: {answer}"
            for side, answer in (("chosen", "yes"), ("rejected", "no"))
        },
        LATER,
    ),
    "Anthropic, with its prompt": (
        {"prompt": "\n\nHuman: q\n\nAssistant: a\n\nHuman: q\n\nAssistant:", "chosen": " yes", "rejected": " no"},
        LATER,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("row", "same"), PREFERENCES.values(), ids=PREFERENCES)
def test_preferences_of_others_are_those_of_our_own_form(row: dict[str, Any], same: dict[str, Any]) -> None:
    found = parse(PreferenceRow, row)
    assert {
        side: [turn.model_dump(include={"role", "content"}) for turn in getattr(found, side)] for side in same
    } == same
    assert (found.unread, list(problems(found))) == ([], [])
    assert stage_of(row) == "dpo"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"chosen": "The sky is blue.", "rejected": "The sky is green."},
         "chosen is a text, and no prompt says what it answers"),
        ({"prompt": ""} | TEXTS, "chosen is a text, and no prompt"),
        ({"prompt": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"} | TEXTS,
         r"written by a chat template already \(<\|im_start\|>\)"),
        ({"prompt": "### Instruction:\nq\n\n### Response:"} | TEXTS, "a chat template already"),
        ({"prompt": "q", "chosen": "yes", "rejected": None}, "rejected = None"),
        ({"prompt": "q", "chosen": "yes", "rejected": ["no", "never"]}, "2 texts in a list are no messages"),
        ({"instruction": "q", "output": ["yes", "no"]}, "a row needs chosen and rejected|use --stage sft"),
        ({"question": "q", "response_chosen": "yes", "response_rejected": "no"},
         "the fields here are question, response_chosen, response_rejected"),
    ],
)  # fmt: skip
def test_preferences_that_can_not_be_read_are_refused_in_words(row: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(PreferenceRow, row)


def test_texts_that_say_nothing_are_empty_questions_and_answers() -> None:
    row = parse(PreferenceRow, {"prompt": "q", "chosen": "yes", "rejected": ""})
    assert list(problems(row)) == [("empty_answer", "rejected: turn 2 has no content")]
    for empty, kind in (({"completion": ""}, "empty_answer"), ({"prompt": ""}, "empty_question")):
        labelled = parse(LabelledRow, {"prompt": "q", "completion": "a", "label": True} | empty)
        assert [found for found, _ in problems(labelled)] == [kind]


def test_a_prompt_that_is_not_what_the_answers_answer_is_named() -> None:
    for prompt in ("other", [{"role": "user", "content": "other"}]):
        assert parse(PreferenceRow, {"prompt": prompt} | WHOLE).unread == ["prompt"]
    assert parse(PreferenceRow, {"instruction": "other", "input": "more"} | WHOLE).unread == ["instruction", "input"]
    assert parse(PreferenceRow, {"prompt": "q", "input": "more"} | TEXTS).unread == ["input"]
    assert parse(PreferenceRow, {"prompt": "[INST] q [/INST]"} | WHOLE).unread == ["prompt"]


def test_a_question_about_a_chat_template_is_one_where_its_answers_have_it() -> None:
    question = {"role": "user", "content": "What does [INST] mean?"}
    row = {"prompt": question["content"], "chosen": [question, RIGHT], "rejected": [question, WRONG]}
    assert parse(PreferenceRow, row).unread == []


LABELLED = {
    "TRL: messages": {"prompt": [ASKED, ANSWERED, ASKED], "completion": [RIGHT], "label": True},
    "MiniMind": ours(ASKED, ANSWERED, ASKED, RIGHT) | {"label": True},
    "LLaMA-Factory: OpenAI": {"messages": [ASKED, ANSWERED, ASKED, RIGHT], "label": True},
    "LLaMA-Factory: ShareGPT": {
        "conversations": [{"from": who, "value": text} for who, text in
                          (("human", "q"), ("gpt", "a"), ("human", "q"), ("gpt", "yes"))],
        "kto_tag": True,
    },
    "LLaMA-Factory: Alpaca": {"instruction": "q", "history": [["q", "a"]], "output": "yes", "kto_tag": True},
    "Anthropic": {
        "prompt": "\n\nHuman: q\n\nAssistant: a\n\nHuman: q\n\nAssistant:", "completion": " yes", "label": True
    },
}  # fmt: skip


@pytest.mark.parametrize("row", LABELLED.values(), ids=LABELLED)
def test_labelled_answers_of_others_teach_the_last_answer_alone(tokenizer: Tokenizer, row: dict[str, Any]) -> None:
    found = parse(LabelledRow, row)
    assert (found.label, found.unread, list(problems(found)), stage_of(row)) == (True, [], [], "kto")
    (document,) = documents(tokenizer, found)
    assert document.ids == render(tokenizer, [ASKED, ANSWERED, ASKED, RIGHT]).ids
    start, end = document.targets.tolist()
    assert tokenizer.decode(document.ids[start:end]) == "yes<|im_end|>"


def test_a_prompt_and_a_completion_in_words_are_a_question_and_its_answer() -> None:
    row = parse(LabelledRow, {"prompt": "The sky is", "completion": " green.", "label": False})
    assert [(turn.role, turn.content) for turn in row.conversations] == [
        ("user", "The sky is"),
        ("assistant", "green."),
    ]
    assert not row.label


@pytest.mark.parametrize(
    ("label", "good"),
    [(True, True), (1, True), (1.0, True), ("True", True), (" 1", True), (False, False), (0, False), ("false", False)],
)
def test_what_says_good_or_bad_without_a_doubt_is_a_label(label: object, good: bool) -> None:
    for name in ("label", "kto_tag"):
        assert parse(LabelledRow, ours(ASKED, RIGHT) | {name: label}).label is good


@pytest.mark.parametrize("label", [None, "", "good", "chosen", -1, 2, 0.5, [True]])
def test_any_other_label_is_refused_with_what_to_write(label: object) -> None:
    with pytest.raises(ValueError, match="write true for a good answer and false for a bad one"):
        parse(LabelledRow, {"prompt": "q", "completion": "yes", "label": label})


def test_labels_that_say_different_things_and_rows_without_one() -> None:
    with pytest.raises(ValueError, match="label and kto_tag mean the same and say different things"):
        parse(LabelledRow, ours(ASKED, RIGHT) | {"label": True, "kto_tag": False})
    with pytest.raises(ValueError, match="this is conversation data: use --stage sft"):
        parse(LabelledRow, ours(ASKED, RIGHT))
    with pytest.raises(ValueError, match="prompt and completion must be texts or lists of messages"):
        parse(LabelledRow, {"prompt": 1, "completion": "a", "label": True})


def test_a_label_that_is_none_of_an_answer_makes_no_labelled_answer() -> None:
    assert stage_of(ours(ASKED, ANSWERED) | {"label": "sports"}) == "sft"
    assert stage_of({"prompt": "q", "completion": "a", "label": "good"}) == "kto"
    assert stage_of({"prompt": "q", "completion": "a"}) == "sft"


SYSTEM = {"role": "system", "content": "S"}


@pytest.mark.parametrize("name", ["conversations", "messages"])
@pytest.mark.parametrize(
    ("turns", "before", "answer"),
    [
        ([ASKED, said("")], [], ""),
        ([ASKED, said("无")], [], ""),
        ([ASKED, said(None)], [], ""),
        ([ASKED], [], ""),
        ([ASKED, ANSWERED], [], "a"),
        ([SYSTEM, ASKED, said("earlier"), ASKED, said("")], ["S", "q", "earlier"], ""),
    ],
)
def test_a_conversation_asks_its_last_question(
    tokenizer: Tokenizer, name: str, turns: list[Any], before: list[str], answer: str
) -> None:
    row = parse(PromptRow, {name: turns, "pass_rate": 0.5})
    assert row.before is not None
    assert ([turn.content for turn in row.before], row.prompt, row.answer) == (before, "q", answer)
    assert (row.unread, row.ignored, list(problems(row))) == ([], ["pass_rate"], [])
    (document,) = documents(tokenizer, row)
    asked = [turn for turn in turns if turn["role"] != "assistant" or turn["content"] == "earlier"]
    prompt = render(tokenizer, asked, add_generation_prompt=True).ids
    begin, end = document.targets.tolist()  # one span: what was said before is not learnt
    assert document.ids[:begin] == prompt
    assert tokenizer.decode(document.ids[begin:end]) == f"{answer}<|im_end|>"


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"conversations": [ASKED], "gt": ["1"]}, r"agents that call tools \(MiniMind's agent_rl\.jsonl\)"),
        ({"conversations": [ASKED, said("", tool_calls=[CALL]), {"role": "tool", "content": "1"}]}, "asks nothing"),
        ({"conversations": [ASKED, {"role": "tool", "content": "1"}, ANSWERED]}, "the conversation asks nothing"),
        ({"conversations": [ANSWERED]}, "the conversation asks nothing"),
        ({"conversations": [ASKED, ANSWERED, ANSWERED]}, "the conversation asks nothing"),
        ({"conversations": ["q"]}, "a conversation is a list of turns"),
        ({"conversations": [{"role": "user", "content": 1}]}, "prompt = 1"),
        ({"messages": [ASKED], "conversations": [ANSWERED]}, "are different conversations"),
    ],
)
def test_a_conversation_that_cannot_be_tried_is_refused(row: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(PromptRow, row)


@pytest.mark.parametrize("system", [[SYSTEM | {"tools": [TOOL]}], [{"role": "system", "content": "", "tools": [TOOL]}]])
def test_a_question_may_bring_tools_and_show_how_they_were_called(tokenizer: Tokenizer, system: list[Any]) -> None:
    called = [said("", tool_calls=[CALL]), {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}]
    row = parse(PromptRow, ours(*system, ASKED, *called, *called, ANSWERED))
    assert (row.prompt, row.answer, row.ignored, row.unread) == ("q", "a", ["tool_calls"], [])
    (document,) = documents(tokenizer, row)
    begin = int(document.targets[0])
    assert document.ids[:begin] == render(tokenizer, [*system, ASKED], add_generation_prompt=True).ids
    offered: list[Any] = [{"type": "function", "function": {"name": "other"}}]
    assert documents(tokenizer, row, offered)[0].ids == document.ids  # its own tools are what it is asked with
    (plain,) = documents(tokenizer, parse(PromptRow, ours(SYSTEM, ASKED, ANSWERED)), offered)
    wanted = render(tokenizer, [SYSTEM, ASKED], offered, add_generation_prompt=True).ids
    assert plain.ids[: int(plain.targets[0])] == wanted
    earlier = parse(PromptRow, ours(*system, ASKED, *called, ANSWERED, ASKED, ANSWERED))
    assert earlier.before is not None
    assert [turn.role for turn in earlier.before] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    call = parse(PromptRow, ours(*system, ASKED, said("", tool_calls=[CALL])))
    assert (call.answer, call.unread) == ("", ["tool_calls of turn 3"])


def test_the_thought_of_a_right_answer_is_named() -> None:
    row = parse(PromptRow, ours(ASKED, said("Four.", reasoning_content="Two and two.")))
    assert (row.answer, row.ignored) == ("Four.", ["reasoning_content"])


@pytest.mark.parametrize("stage", STAGE_ROWS)
def test_the_examples_are_rows_of_their_stage(tokenizer: Tokenizer, stage: str) -> None:
    for example in EXAMPLES[stage]:
        row = parse(STAGE_ROWS[stage], example)
        assert (row.unread, row.ignored, list(problems(row))) == ([], [], [])
        assert all(document.targets.size for document in documents(tokenizer, row))
        assert stage_of(example) == stage


def test_rows_are_read_as_this_number_of_the_reading_says(tokenizer: Tokenizer) -> None:
    """Whoever changes what rows become raises READING, so that nothing is taken from a cache that is no longer so."""
    rows: list[Row] = [parse(ChatRow, row) for row, _ in SAME.values()]
    rows += [parse(PreferenceRow, row) for row, _ in PREFERENCES.values()]
    rows += [parse(LabelledRow, row) for row in LABELLED.values()]
    found = [documents(tokenizer, row) for row in rows]
    content = [[document.ids, document.targets.tolist()] for each in found for document in each]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
    assert (READING, digest) == (7, "5ef07bc11637")


def test_a_question_may_be_a_list_of_messages_and_its_answer_a_number() -> None:
    row = parse(PromptRow, {"prompt": [{"role": "system", "content": "s"}, ASKED, ANSWERED, ASKED], "answer": 72})
    assert (row.prompt, row.answer, [turn.role for turn in row.before or []]) == (
        ASKED["content"], "72", ["system", "user", "assistant"],
    )  # fmt: skip
    assert parse(PromptRow, {"prompt": "q", "answer": "空"}).answer == "空"
    assert row.unread == []
    with pytest.raises(ValueError, match="a turn of the user's must stand before the answer"):
        parse(PromptRow, {"prompt": [ASKED, ANSWERED], "answer": "x"})
    with pytest.raises(ValueError, match=r"the prompt is written by a chat template already \(<\|im_start\|>\)"):
        parse(PromptRow, {"prompt": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", "answer": "x"})


@pytest.mark.parametrize("none", ["", "无", "空"])
def test_what_stands_in_place_of_an_answer_is_none(none: str) -> None:
    assert parse(PromptRow, ours(ASKED, {"role": "assistant", "content": none})).answer == ""
