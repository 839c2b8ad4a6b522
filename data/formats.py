"""Rows as others write them, in the form of data.schema: OpenAI, Anthropic, TRL, ShareGPT, LLaMA-Factory, Hermes and
Alpaca.

A field is obeyed, or it is named: what only tells about a row (an id, a score) under `ignored`, everything else that
says something under `unread`, which the data doctor refuses above a limit. null, "", [] and {} say nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from minimind.language import phrase, say
from minimind.text.chat import read_call

READING = 7
"""How rows are understood. Raise it when the same row is read otherwise, so that what was made of it by other rules is
made again; tests/unit/test_formats.py holds what rows have become.
"""

Json = dict[str, Any]

_NOTHING: tuple[Any, ...] = (None, "", [], {})
_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "developer": "system",
    "observation": "tool",
    "function": "tool",
    "tool_response": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
_OUR_ROLES = ("system", "user", "assistant", "tool")
_PROMPTS = ("prompt", "conversations", "messages", "question", "instruction", "input")
"""Where the turns before two answers may stand, beside them."""

_SPEAKER = re.compile(r"\n\n(Human|Assistant):")
"""Who speaks, in Anthropic's texts of whole conversations."""

_TEMPLATE = re.compile(
    r"<\|(?:im_start|start_header_id|user|assistant|system)\|>|<start_of_turn>|\[INST\]|### Instruction:"
)
"""What a prompt has in it that a chat template has written."""

_ONLY_CALLS = ("function_call", "tool_call")
"""Roles of an assistant's turn whose content is the JSON of its calls."""

_LEARN = ("weight", "train", "training", "trainable", "loss", "loss_mask", "loss_scale", "assistant_mask")
"""Fields of a message that say whether it is learnt: 0 and false mean that it is only read."""

_LEARN_OF_ROW = (*_LEARN, "weights", "loss_masks", "assistant_masks")
"""The same beside a conversation: for all of it, or a list with an entry for each message."""

_LABEL = ("label", "kto_tag")
"""Fields that say whether an answer is good: TRL's name, and LLaMA-Factory's."""

_ONLY_ANSWERS = "only what an assistant says is learnt"

_HELD_OUT = {"test", "validation", "valid", "val", "dev", "eval", "evaluation", "held_out", "heldout", "holdout"}
"""What the field `split` of a row says that is to be kept from training."""

_ABOUT = re.compile(
    r"(?!(?:.*_)?(?:images?|img|pictures?|videos?|audios?|kto|loss|mask)_)(?:.*_)?(?:ids?|idx|index|uu?id|guid|hash|md5|sha\d*|sources?|src|origin|dataset|subset|split|categor(?:y|ies)"
    r"|types?|topics?|domains?|subject|task|tags?|lang|languages?|locale|level|difficulty|scores?|ratings?|quality"
    r"|likes|votes|rank|pass_rate|perplexity|ppl|ur[il]s?|links?|paths?|file|filename|title|authors?|date|time|timestamps?"
    r"|created|updated|at|year|version|licen[cs]e|counts?|lengths?|models?|model_name|generator|meta\w*|info|comments?"
    r"|notes?|famil(?:y|ies)|annotator|toxicity|redacted|finish_reason|parallel_tool_calls|(?:num|n|score|rating)_\w+)"
)
"""Names of fields that tell about a row and are no part of it, with hyphens or without. The path of a picture is a part
of it; LLaMA-Factory's kto_tag says whether an answer is good.
"""

_ABOUT_CALL, _FUNCTION = {"id", "type", "index", "function"}, {"name", "arguments"}
_BLOCKS = {
    name: re.compile(rf"(?P<before>.*?)(?P<blocks>(?:\s*<{name}>(?:(?!<{name}>).)*?</{name}>)+)\s*", re.DOTALL)
    for name in ("tool_call", "tool_response")
}
_BLOCK = {name: re.compile(rf"<{name}>(.*?)</{name}>", re.DOTALL) for name in _BLOCKS}

_UPSTREAM = re.compile(r"(?P<what>rlaif|agent_rl)([_-].*)?\.jsonl(\.gz)?")
"""MiniMind's files of questions for reinforcement learning. Their rows look like conversations, but there is no answer
to learn: it is empty, or a word that says so.
"""

_NO_ANSWER = ("", "无", "空")
"""What stands there in place of an answer."""

_CHATS: tuple[set[str], ...] = ({"conversations"}, {"messages"}, {"instruction", "output"}, {"prompt", "completion"})

_SIGNS: dict[str, tuple[set[str], ...]] = {
    "dpo": ({"chosen", "rejected"},),
    "kto": tuple(form | {name} for form in _CHATS for name in _LABEL),
    "sft": _CHATS,
    "rl": ({"prompt", "answer"},),
    "pretrain": ({"text"},),
}
"""By which fields a row of a stage is known."""

_NAMES = {name for forms in _SIGNS.values() for form in forms for name in form}


@dataclass
class Notes:
    """Fields that nothing reads. unread: those that might mean something; ignored: those that tell about the row."""

    unread: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def meant(self, left: Sequence[str]) -> list[str]:
        """Those of the fields left of an object that might mean something; the others are ignored."""
        about = [name for name in left if _ABOUT.fullmatch(name.replace("-", "_"))]
        self.ignored += about
        return [name for name in left if name not in about]


class Fields:
    """The fields of an object, and which of them have been read."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content
        self._read: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether the field says something."""
        return self.content.get(name) not in _NOTHING

    def take(self, *names: str) -> Any:
        """What these fields say, which are different names for one thing; None for nothing.

        Raises ValueError where two of them say different things.
        """
        there = [name for name in names if name in self.content]
        if not there:
            return None
        self._read.update(there)
        said = {name: self.content[name] for name in there if self.has(name)}
        first = next(iter(said.values()), None)
        if any(value != first for value in said.values()):
            raise ValueError(
                say("{said} mean the same and say different things: keep one of them", said=say(" and ").join(said))
            )
        return first

    def left(self) -> list[str]:
        """The fields that say something and have not been read."""
        return [name for name in self.content if name not in self._read and self.has(name)]


def read_row(stage: str, content: Json) -> Json:
    """A row of a stage of STAGE_ROWS in the form of data.schema, with its fields `unread` and `ignored`.

    What is no row of a known form comes back without the fields that it needs, for the schema to refuse. Raises
    ValueError that names the field, for one that can't be obeyed.
    """
    fields, notes = Fields(content), Notes()
    row = _READERS[stage](fields, notes)
    left = fields.left()
    if stage == "pretrain":  # a text is all there is to learn, so what stands beside it tells about it
        notes.unread += [name for name in left if name in _LEARN and content[name] != 1]
        notes.ignored += [name for name in left if name not in notes.unread]
    else:
        notes.unread += notes.meant(left)
    if (split := content.get("split")) and str(split).strip().lower() in _HELD_OUT:
        notes.ignored.remove("split")
        notes.unread.append(say("split = {split!r}, which keeps a row from training", split=split))
    return {**row, "unread": notes.unread, "ignored": notes.ignored}


def stage_of(content: Mapping[str, Any]) -> str | None:
    """The stage whose rows look like this one; None if none does. A label that is neither good nor bad may be what a
    conversation is about, but beside a completion it can mean nothing else. A row with one of two answers that are to
    be compared is a preference that lacks the other one.
    """
    there = {name for name, value in content.items() if value is not None}
    if _good(content.get("label")) is None and "completion" not in there:
        there.discard("label")
    known = next((stage for stage, forms in _SIGNS.items() if any(form <= there for form in forms)), None)
    return known or ("dpo" if there & {"chosen", "rejected"} else None)


def form_of(content: Json) -> str:
    """How a row is written, in the name under which people know it; a row of `stage_of` a stage."""
    for name in ("conversations", "messages"):
        turns = content.get(name)
        if isinstance(turns, list) and turns and isinstance(turns[0], dict):
            return "ShareGPT" if "from" in turns[0] else "MiniMind" if name == "conversations" else "OpenAI messages"
    if "instruction" in content:
        return "Alpaca"
    return "prompt and completion" if "completion" in content else " and ".join(sorted(content.keys() & _NAMES))


def refuse_upstream(file: str, stage: str) -> None:
    """Raise ValueError for the name of a file of MiniMind that is for none of the stages there are."""
    if stage == "sft" and (known := _UPSTREAM.fullmatch(file)):
        raise ValueError(
            say(
                "{file} is MiniMind's file of questions for reinforcement learning: it has no answers to learn. "
                "{advice}. If yours is something else, give it another name",
                file=file,
                advice=say("What reads it is --stage rl: ppo, grpo and spo")
                if known["what"] == "rlaif"
                else say("The stage of agents that call tools is not there yet, but comes"),
            )
        )


def _given(fields: Fields, *names: str) -> Json:
    """These fields as they are."""
    for name in names:
        fields.take(name)
    return {name: fields.content[name] for name in names if name in fields.content}


def _text_row(fields: Fields, notes: Notes) -> Json:
    return _given(fields, "text")


def _prompt_row(fields: Fields, notes: Notes) -> Json:
    """A question and its answer, or a conversation whose last answer is the right one; of MiniMind's none is known.

    Where tools were called for that answer, the model is to call them anew.
    """
    if fields.has("prompt") or not (fields.has("conversations") or fields.has("messages")):
        return _asked_row(_given(fields, "prompt", "answer"), notes)
    row = _conversation_row(fields, notes, _prompt_and_completion)
    turns = row["conversations"]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError(say("a conversation is a list of turns, each an object with role and content"))
    if fields.has("gt"):
        raise ValueError(
            say(
                "questions for agents that call tools (MiniMind's agent_rl.jsonl) have their right answers in gt, "
                "which can't be read yet; a row for rl is {row}, or a conversation whose last answer is the right one",
                row='{"prompt": "…", "answer": "…"}',
            )
        )
    asked = turns[:-1] if _role(turns[-1]) == "assistant" else turns
    last = turns[-1] if len(asked) < len(turns) else {"content": ""}
    if last.get("tool_calls"):
        notes.unread.append(say("{name} of turn {number}", name="tool_calls", number=len(turns)))
    if len(asked) < len(turns) and (called := _called_for(asked)):
        asked = asked[:-called]
        notes.ignored.append("tool_calls")
    if not asked or _role(asked[-1]) != "user":
        raise ValueError(say("the conversation asks nothing: a turn of the user's must stand before the answer"))
    if last.get("reasoning_content"):
        notes.ignored.append("reasoning_content")
    return {
        "before": list(map(_unlearnt, asked[:-1])),
        "prompt": asked[-1]["content"],
        "answer": "" if str(last["content"]).strip() in _NO_ANSWER else last["content"],
    }


def _asked_row(given: Json, notes: Notes) -> Json:
    """The same with a prompt that is one question. It may be a list of messages, as TRL has it, and an answer a number.

    Raises ValueError for what a chat template has written already.
    """
    prompt, answer = given.get("prompt"), given.get("answer")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        given = given | {"answer": json.dumps(answer)}
    said = _spoken(prompt, "user", only_compared=not isinstance(prompt, str))
    if isinstance(prompt, str) or not isinstance(said, list):
        return given
    turns = _messages(said, notes)
    if not turns or _role(turns[-1]) != "user":
        raise ValueError(say("the conversation asks nothing: a turn of the user's must stand before the answer"))
    return given | {"before": list(map(_unlearnt, turns[:-1])), "prompt": turns[-1]["content"]}


def _called_for(turns: Sequence[Json]) -> int:
    """How many turns at the end of a conversation are calls of tools and what these said."""
    count = 0
    for number, turn in enumerate(reversed(turns), start=1):
        if turn.get("tool_calls"):
            count = number
        elif _role(turn) != "tool":
            break
    return count


def _chat_row(fields: Fields, notes: Notes) -> Json:
    return _conversation_row(fields, notes, _prompt_and_completion)


def _labelled_row(fields: Fields, notes: Notes) -> Json:
    """A conversation and what is thought of its answer, as TRL and LLaMA-Factory write them."""
    row = _conversation_row(fields, notes, _question_and_answer)
    if isinstance(row.get("conversations"), list):
        row["conversations"] = _only_answer_learnt(row["conversations"])
    if any(name in fields.content for name in _LABEL):
        value = fields.take(*_LABEL)
        good = _good(value)
        if good is None:
            raise ValueError(
                say(
                    "label = {value!r}: write true for a good answer and false for a bad one (1 and 0 are read too); "
                    "a score is to become one of them first, and a row without a label is to be left out",
                    value=value,
                )
            )
        row["label"] = good
    return row


def _good(value: Any) -> bool | None:
    """What a label says of an answer; None for one that says neither. A CSV file has it as a text."""
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, (bool, int, float)) and value in (0, 1) else None


def _only_answer_learnt(turns: list[Any]) -> list[Any]:
    """The conversation with what the assistant said before the last question only read: no label is about that."""
    asked = max((number for number, turn in enumerate(turns) if _role(turn) == "user"), default=0)
    return [_unlearnt(turn) if number < asked else turn for number, turn in enumerate(turns)]


def _unlearnt(turn: Any) -> Any:
    return turn | {"learn": False} if _role(turn) == "assistant" else turn


def _conversation_row(fields: Fields, notes: Notes, prompt_and_completion: Callable[[Fields, Notes], Any]) -> Json:
    """A conversation in any form; {} where there is none. prompt_and_completion: reads one out of these two fields."""
    content = fields.content
    names = [name for name in ("conversations", "messages") if content.get(name) is not None]
    found = list(filter(fields.has, names)) or names[:1]
    if found:
        name, *others = found
        fields.take(name)
        learn = _learn_of_row(fields, content[name])
        messages = _messages(content[name], notes, learn)
        for other in others:
            fields.take(other)
            if _messages(content[other], Notes(), learn) != messages:
                raise ValueError(
                    say("{name} and {other} are different conversations: keep one of them", name=name, other=other)
                )
    elif content.get("prompt") is not None and content.get("completion") is not None:
        messages = prompt_and_completion(fields, notes)
    elif content.get("instruction") is not None and content.get("output") is not None:
        messages = _messages(_alpaca(fields), notes)
    else:
        return {}
    return {"conversations": _with_system(fields, messages)}


def _preference_row(fields: Fields, notes: Notes) -> Json:
    content = fields.content
    given = _given(fields, "chosen", "rejected")
    sides = {name: _messages(_spoken(side, "assistant"), notes) for name, side in given.items()}
    if content.get("messages") == content.get("chosen"):
        fields.take("messages")
    if not all(isinstance(side, list) for side in sides.values()):
        return sides
    whole = all(map(_asks, sides.values()))
    for name in (name for name in _PROMPTS if name in fields.left()):
        is_alpaca = name == "instruction"
        asked = _instructed(Fields(content)) if is_alpaca else _spoken(content[name], "user", only_compared=whole)
        before = _messages(asked, notes)
        if not isinstance(before, list) or any(_asks_else(side, before) for side in sides.values()):
            continue
        sides = {one: side if _repeats(side, before) else [*before, *side] for one, side in sides.items()}
        for read in ("instruction", "input", "history") if is_alpaca else (name,):
            fields.take(read)
    for name, side in sides.items():
        if isinstance(content[name], str) and not _asks(side):
            raise ValueError(
                say(
                    "{name} is a text, and no prompt says what it answers: write the question beside it, {row}",
                    name=name,
                    row='{"prompt": "…", "chosen": "…", "rejected": "…"}',
                )
            )
    system, tools = _take_system(fields)
    return {name: _put_system(side, system, tools) for name, side in sides.items()}


def _asks(turns: list[Any]) -> bool:
    return any(_role(turn) == "user" for turn in turns)


def _repeats(side: list[Any], before: list[Any]) -> bool:
    """Whether a side has the turns that stand beside it."""
    return all(turn in side for turn in before)


def _asks_else(side: list[Any], before: list[Any]) -> bool:
    """Whether a side has questions of its own, so that those beside it can't be what it answers."""
    return _asks(before) and _asks(side) and not _repeats(side, before)


def _spoken(said: Any, role: str, *, only_compared: bool = False) -> Any:
    """Messages. A text is one of `role`, without the space that sets it off from a prompt; or, in Anthropic's form, all
    that both said.

    Raises ValueError for a question in the words of a chat template: it would be written as a question once more.
    only_compared: it is not written, but stands beside conversations that have their questions.
    """
    if isinstance(said, dict):
        return [said]
    if isinstance(said, list) and said and all(isinstance(text, str) for text in said):
        raise ValueError(say("{count} texts in a list are no messages: write a row for each", count=len(said)))
    if not isinstance(said, str):
        return said
    before, *parts = _SPEAKER.split(f"\n\n{said.strip()}")
    if not before and parts[0] == "Human" and "Assistant" in parts[::2]:
        turns = [
            {"role": "user" if who == "Human" else "assistant", "content": text.strip()}
            for who, text in zip(parts[::2], parts[1::2], strict=True)
        ]
        return turns[:-1] if role == "user" and turns[-1]["content"] == "" else turns
    if role == "user" and not only_compared and (tag := _TEMPLATE.search(said)):
        raise ValueError(
            say(
                "the prompt is written by a chat template already ({tag}): give its turns as messages, {row}",
                tag=tag[0],
                row='[{"role": "user", "content": "…"}]',
            )
        )
    return [{"role": role, "content": said if role == "user" else said.lstrip()}]


_READERS: dict[str, Callable[[Fields, Notes], Json]] = {
    "pretrain": _text_row,
    "sft": _chat_row,
    "dpo": _preference_row,
    "kto": _labelled_row,
    "rl": _prompt_row,
}


def _prompt_and_completion(fields: Fields, notes: Notes) -> Any:
    """TRL's pair of two conversations, of which the second is learnt."""
    prompt, completion = fields.take("prompt"), fields.take("completion")
    if not isinstance(prompt, list) or not isinstance(completion, list):
        raise ValueError(
            say(
                'prompt and completion as texts don\'t say who speaks: write {"conversations": '
                '[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}, or one '
                '{"text": "…"} for --stage pretrain'
            )
        )
    return [*map(_unlearnt, _messages(prompt, notes)), *_messages(completion, notes)]


def _question_and_answer(fields: Fields, notes: Notes) -> Any:
    """A prompt and a completion, each a conversation or a text: what is judged is an answer, so who speaks is known."""
    given = _given(fields, "prompt", "completion")
    prompt, completion = _spoken(given["prompt"], "user"), _spoken(given["completion"], "assistant")
    if not isinstance(prompt, list) or not isinstance(completion, list):
        raise ValueError(say("prompt and completion must be texts or lists of messages"))
    return [*_messages(prompt, notes), *_messages(completion, notes)]


def _alpaca(fields: Fields) -> list[Json]:
    """An instruction with its output, as LLaMA-Factory understands them."""
    if str(fields.content["output"]) in str(fields.content.get("text")):
        fields.take("text")  # the same once more, in the words of a prompt
    return [*_instructed(fields), {"role": "assistant", "content": fields.take("output")}]


def _instructed(fields: Fields) -> list[Json]:
    """An instruction with its input, and what was said before."""
    question = [fields.take("instruction"), fields.take("input")]
    history = fields.take("history") or []
    if not all(isinstance(part, (str, type(None))) for part in question):
        raise ValueError(say("instruction and input must be texts"))
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise ValueError(say("history must be a list of pairs, a question and its answer each"))
    said = [*(text for pair in history for text in pair), "\n".join(filter(None, question))]
    return [{"role": role, "content": text} for role, text in zip(cycle(("user", "assistant")), said, strict=False)]


def _with_system(fields: Fields, messages: Any) -> Any:
    return _put_system(messages, *_take_system(fields))


def _take_system(fields: Fields) -> tuple[Any, Any]:
    """The instructions and the tools that stand beside a conversation."""
    return fields.take("system", "system_prompt"), _objects(fields.take("tools", "functions"))


def _put_system(messages: Any, system: Any, tools: Any) -> Any:
    """The conversation with these in its system turn."""
    if not isinstance(messages, list) or (system is None and tools is None):
        return messages
    first = dict(messages[0]) if messages and _role(messages[0]) == "system" else {"role": "system"}
    for name, value in (("content", system), ("tools", tools)):
        if value is not None and first.get(name) in _NOTHING:
            first[name] = value
        elif value is not None and first[name] != value:
            raise ValueError(
                say("the system turn's {name} and what stands beside the conversation differ: keep one", name=name)
            )
    return [first, *(messages[1:] if messages and _role(messages[0]) == "system" else messages)]


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _messages(content: Any, notes: Notes, learn: Sequence[bool] = ()) -> Any:
    """Messages in the form of data.schema. learn: whether each may be learnt; those that it does not reach may."""
    if not isinstance(content, list):
        return content
    turns: list[Any] = []
    for number, message in enumerate(content):
        if not isinstance(message, dict):
            turns.append(message)
            continue
        if (learn_it := number >= len(learn) or learn[number]) and _is_plain(message):
            turns.append(message)
            continue
        try:
            turns += _message(message, notes, number + 1, learn_it)
        except ValueError as error:
            raise ValueError(say("turn {number}: {error}", number=number + 1, error=error)) from None
    return list(_in_order_of_calls(turns)) if any(_role(turn) == "tool" for turn in turns) else turns


def _is_plain(message: Json) -> bool:
    """Whether a message is in our form already and has no tag: most are, and it takes a tenth of the time to see it."""
    content = message.get("content")
    return len(message) == 2 and message.get("role") in _OUR_ROLES and isinstance(content, str) and "<" not in content


def _message(message: Json, notes: Notes, number: int, learn: bool) -> list[Json]:
    """A message, that of turn `number`, in the form of data.schema; several where it holds results of several tools."""
    fields = Fields(message)
    called = fields.take("role", "from")
    role = _ROLES.get(called, called) if isinstance(called, str) else called
    content = _joined(fields.take("content", "value"), notes, number)
    turn: Json = {} if role is None else {"role": role}
    turn["content"] = "" if content is None else content
    learn = _learnt(fields, role) and learn
    match role:
        case "system":
            if (tools := _objects(fields.take("tools", "functions"))) is not None:
                turn["tools"] = tools
        case "assistant":
            if not learn:
                turn["learn"] = False
            turn |= _answer(fields, turn["content"], called, notes, number)
        case "tool":
            fields.take("name")  # of the tool
            if (call := fields.take("tool_call_id")) is not None:
                turn["tool_call_id"] = call
    strange = notes.meant(fields.left())
    notes.unread += [say("{name} of turn {number}", name=name, number=number) for name in strange]
    results = _results(turn["content"]) if role in ("user", "tool") else None
    return [turn] if results is None else [{**turn, "role": "tool", "content": result} for result in results]


def _answer(fields: Fields, content: Any, called: str, notes: Notes, number: int) -> Json:
    """What an assistant thinks, says and calls."""
    answer: Json = {"content": content}
    thought = fields.take("reasoning_content", "thinking", "reasoning")
    if thought is None and isinstance(content, str):
        thought, answer["content"] = _thought(content)
    if thought:
        answer["reasoning_content"] = thought
    one, calls = fields.take("function_call"), _objects(fields.take("tool_calls")) or None
    if (one is not None) + (calls is not None) + (called in _ONLY_CALLS) > 1:
        raise ValueError(say("has calls in two places (tool_calls, function_call or its role): keep one of them"))
    if one is not None:
        calls = [one]
    elif called in _ONLY_CALLS:
        calls, answer["content"] = _json_calls(answer["content"]), ""
    elif calls is None and isinstance(answer["content"], str):
        calls, answer["content"] = _written_calls(answer["content"])
    if calls:
        answer["tool_calls"] = calls
    for call in calls if isinstance(calls, list) else []:
        if isinstance(call, dict):
            function = call.get("function")
            parts = [(call, _ABOUT_CALL | _FUNCTION)]
            if isinstance(function, dict) and function:
                parts = [(call, _ABOUT_CALL), (function, _FUNCTION)]
            strange = [name for part, known in parts for name in Fields(part).left() if name not in known]
            notes.unread += [say("{name} of a call of turn {number}", name=name, number=number) for name in strange]
    return answer


def _joined(content: Any, notes: Notes, number: int) -> Any:
    """A content in parts as one text."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str) or part.get("type", "text") != "text":
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ValueError(say("content has a part of type {kind!r}; only text can be learnt", kind=kind))
        texts.append(part["text"])
        strange = notes.meant([name for name in Fields(part).left() if name not in ("type", "text")])
        notes.unread += [say("{name} of a part of turn {number}", name=name, number=number) for name in strange]
    return "".join(texts)


def _learnt(fields: Fields, role: Any) -> bool:
    """What a message says about being learnt itself."""
    flags = [_flag(name, fields.take(name)) for name in _LEARN if fields.content.get(name) is not None]
    if role != "assistant" and any(flags):
        raise ValueError(
            say(
                "is marked as learnt, but its role is {role}; {only_answers}",
                role=role,
                only_answers=phrase(_ONLY_ANSWERS),
            )
        )
    return all(flags)


def _learn_of_row(fields: Fields, messages: Any) -> list[bool]:
    """Whether each message may be learnt, as a field beside the conversation says."""
    if not isinstance(messages, list) or fields.content.keys().isdisjoint(_LEARN_OF_ROW):
        return []
    learn = [True] * len(messages)
    for name in _LEARN_OF_ROW:
        value = fields.take(name)
        if value is None:
            continue
        flags = value if isinstance(value, list) else [value] * len(messages)
        if len(flags) != len(messages):
            raise ValueError(
                say(
                    "{name} has {count} entries, the conversation has {count2} turns: one for each turn "
                    "is needed (marks of tokens are of use to the tokenizer that made them only)",
                    name=name,
                    count=len(flags),
                    count2=len(messages),
                )
            )
        marks = [_flag(name, flag) for flag in flags]
        for number, (mark, role) in enumerate(zip(marks, map(_our_role, messages), strict=True), start=1):
            if (
                mark and not all(marks) and role != "assistant"
            ):  # where all have one, as where the row has: every answer
                raise ValueError(
                    say(
                        "{name} marks turn {number} as learnt, but its role is {role}; {only_answers}",
                        name=name,
                        number=number,
                        role=role,
                        only_answers=phrase(_ONLY_ANSWERS),
                    )
                )
        learn = [before and mark for before, mark in zip(learn, marks, strict=True)]
    return learn


def _our_role(message: Any) -> Any:
    """Who says a message that is not in our form yet."""
    called = message.get("role") or message.get("from") if isinstance(message, dict) else None
    return _ROLES.get(called, called) if isinstance(called, str) else called


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    raise ValueError(
        say(
            "{name} = {value!r}: only 1 and true (learnt) or 0 and false (only read) can be obeyed",
            name=name,
            value=value,
        )
    )


def _thought(content: str) -> tuple[str, str]:
    """What is thought in <think> tags, and the answer after it. Tags in any other place stay where they are."""
    before, close, answer = content.partition("</think>")
    opened, _, thought = before.rpartition("<think>")  # may be left out: some prompts end in it
    if not close or opened.strip() or "<think>" in answer or "</think>" in answer:
        return "", content
    return thought.strip(), answer.lstrip()


def _written_calls(content: str) -> tuple[list[Json] | None, str]:
    """The calls at the end of an answer in <tool_call> tags, and what is said before them. If one is no call, all of it
    stays content.
    """
    match = _BLOCKS["tool_call"].fullmatch(content)
    if match is None:
        return None, content
    calls = []
    for text in _BLOCK["tool_call"].findall(match["blocks"]):
        call = read_call(text)
        if call is not None:
            calls.append({"name": call[0], "arguments": call[1]})
            continue
        try:
            (other,) = _json_calls(text)
        except ValueError:
            return None, content
        if other.keys() != {"name", "arguments"}:
            return None, content
        calls.append(other)
    return calls, match["before"].strip()


def _json_calls(content: Any) -> list[Json]:
    """The calls whose JSON is a turn's content. Raises ValueError if it isn't."""
    value = _objects(content)
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, dict) for call in calls):
        raise ValueError(say('a call must be JSON such as {"name": "add", "arguments": {"a": 1}}'))
    return calls


def _results(content: Any) -> list[str] | None:
    """The results of tools in <tool_response> tags; None for a content that is anything else."""
    match = _BLOCKS["tool_response"].fullmatch(content) if isinstance(content, str) else None
    if match is None or match["before"].strip():
        return None
    return [_without_line_feeds(text) for text in _BLOCK["tool_response"].findall(match["blocks"])]


def _without_line_feeds(text: str) -> str:
    """A text without the line feeds that the template puts round it."""
    return text.removeprefix("\n").removesuffix("\n")


def _in_order_of_calls(turns: list[Any]) -> Iterator[Any]:
    """The turns with the results of tools in the order in which they were called, where both have ids."""
    order: list[Any] = []
    waiting: list[Json] = []
    for turn in turns:
        if _role(turn) == "tool":
            waiting.append(turn)
            continue
        yield from _sorted_results(waiting, order)
        waiting = []
        calls = turn.get("tool_calls") if _role(turn) == "assistant" else None
        order = [call.get("id") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
        yield turn
    yield from _sorted_results(waiting, order)


def _sorted_results(results: list[Json], order: list[Any]) -> list[Json]:
    ids = [result.get("tool_call_id") for result in results]
    if None in ids or None in order or len(set(map(str, order))) < len(order) or not order:
        return results
    if unknown := [call for call in ids if call not in order]:
        raise ValueError(say("tool_call_id {unknown!r} is of no call in the turn before", unknown=unknown[0]))
    if sorted(map(order.index, ids)) != list(range(len(order))):
        raise ValueError(
            say("tools gave results for the calls {ids} of {order}: one for each is needed", ids=ids, order=order)
        )
    return sorted(results, key=lambda result: order.index(result["tool_call_id"]))


def _objects(value: Any) -> Any:
    """What a field holds that may be JSON in a text; the text itself where it isn't JSON, for the schema to refuse."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
