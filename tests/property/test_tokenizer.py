from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from minimind.text.tokenizer import SPECIAL_TOKENS, Tokenizer

CORPUS = [
    "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。",
    "We don't know 12 of the 345 words; the words know us.",
] * 3

texts = st.lists(
    st.one_of(st.text(), st.sampled_from(SPECIAL_TOKENS), st.text(alphabet="白日依山 the\n"), st.sampled_from(CORPUS))
).map("".join)


@cache
def tokenizer(split_cjk: bool) -> Tokenizer:
    return Tokenizer.train(CORPUS, vocab_size=450, split_cjk=split_cjk)


@given(texts, st.booleans())
def test_text_round_trips_without_special_ids(text: str, split_cjk: bool) -> None:
    ids = tokenizer(split_cjk).encode(text)
    assert tokenizer(split_cjk).decode(ids) == text
    assert all(len(SPECIAL_TOKENS) <= token_id < 450 for token_id in ids)


@given(st.lists(texts, max_size=5), st.booleans())
def test_a_batch_is_its_texts(batch: list[str], split_cjk: bool) -> None:
    assert tokenizer(split_cjk).encode_batch(batch) == [tokenizer(split_cjk).encode(text) for text in batch]
