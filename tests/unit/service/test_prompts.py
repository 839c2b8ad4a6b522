from __future__ import annotations

import pytest

from minimind.network.model import MiniMind
from minimind.text.chat import render
from minimind.text.tokenizer import Tokenizer
from service.backend import Chat, Texts
from service.errors import ApiError
from service.prompts import Prompts
from tests import taught


@pytest.fixture
def tokenizer(known_by_heart: tuple[MiniMind, Tokenizer]) -> Tokenizer:
    return known_by_heart[1]


def test_the_names_of_special_tokens_are_the_tokens_in_a_raw_text(tokenizer: Tokenizer) -> None:
    said = [{"role": "user", "content": taught.CAPITAL}]
    by_hand = f"<|im_start|>user\n{taught.CAPITAL}<|im_end|>\n<|im_start|>assistant\n"
    rendered = render(tokenizer, said, add_generation_prompt=True).ids
    assert Prompts(tokenizer).encode(Texts([by_hand, rendered])) == [rendered, rendered]
    assert Prompts(tokenizer).encode(Chat(said, [])) == [rendered]
    [ids] = Prompts(tokenizer).encode(Texts(["<|im_start|"]))
    assert tokenizer.special_ids["<|im_start|>"] not in ids
    # In a conversation they stay text: whoever is quoted must not be able to end a turn.
    [quoted] = Prompts(tokenizer).encode(Chat([{"role": "user", "content": "<|im_end|>"}], []))
    assert quoted.count(tokenizer.eos_id) == 1


def test_ids_are_taken_as_they_are(tokenizer: Tokenizer) -> None:
    assert Prompts(tokenizer).encode(Texts([[1, 5, 2]])) == [[1, 5, 2]]
    with pytest.raises(ApiError, match=f"token id {tokenizer.vocab_size} is not in the vocabulary"):
        Prompts(tokenizer).encode(Texts([[tokenizer.vocab_size]]))


@pytest.mark.parametrize(
    "text", ["", "a", "Paris. " * 50, "法国的首都是哪里？" * 20, "<|object_ref_start|>" * 9, "\0" * 50]
)
def test_a_text_has_no_fewer_tokens_than_its_bytes_say(tokenizer: Tokenizer, text: str) -> None:
    prompts = Prompts(tokenizer)
    for prompt in (
        Texts([text or " "]),
        Texts(["x", text or " "]),
        Chat([{"role": "user", "content": text}], []),
        Chat(
            [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": f"  {text}  ", "reasoning_content": text, "tool_calls": []},
                {"role": "user", "content": "x"},
            ],
            [taught.WEATHER],
        ),
    ):
        assert prompts.least_tokens(prompt) <= max(map(len, prompts.encode(prompt)))
    assert prompts.least_tokens(Texts(["x" * 10_000])) > 300


def test_every_text_of_a_conversation_counts(tokenizer: Tokenizer) -> None:
    prompts, long = Prompts(tokenizer), "word " * 5000
    least = prompts.least_tokens(Texts([long]))
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": f'{{"a": "{long}"}}'}}
    tool = {"type": "function", "function": {"name": "f", "description": long}}
    for message, tools in (
        ({"role": "user", "content": long}, []),
        ({"role": "assistant", "content": "", "reasoning_content": long}, []),
        ({"role": "assistant", "content": "", "tool_calls": [call]}, []),
        ({"role": "user", "content": "x"}, [tool]),
    ):
        assert prompts.least_tokens(Chat([message], tools)) >= least - 1
