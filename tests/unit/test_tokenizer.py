from __future__ import annotations

import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from minimind.text.tokenizer import SPECIAL_TOKENS, Tokenizer, _NonEmpty, compression
from tests.toys import ids_of_bytes

TEXTS = [
    "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。",
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
    "The capital of France is Paris. The capital of China is Beijing.",
    "What is the capital of Germany? The capital of Germany is Berlin.",
] * 4


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, vocab_size=400)


def test_special_ids_are_upstreams(tokenizer: Tokenizer) -> None:
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2)
    assert [tokenizer.special_ids[token] for token in SPECIAL_TOKENS] == list(range(36))
    assert SPECIAL_TOKENS[21:28] == (
        "<tool_call>",
        "</tool_call>",
        "<tool_response>",
        "</tool_response>",
        "<think>",
        "</think>",
        "<|buffer1|>",
    )


def test_encode_merges_and_decodes(tokenizer: Tokenizer) -> None:
    text = "The capital of 月光 is \U0001f600\x00\r\n"
    ids = tokenizer.encode(text)
    assert len(ids) < len(text.encode())
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert tokenizer.encode_batch([text, "", text]) == [ids, [], ids]


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_special_text_in_a_document_stays_text(tokenizer: Tokenizer, token: str) -> None:
    ids = tokenizer.encode(f"a {token} b")
    assert not set(ids) & set(tokenizer.special_ids.values())
    assert tokenizer.decode(ids) == f"a {token} b"
    assert tokenizer.encode_batch([f"a {token} b"]) == [ids]
    assert tokenizer.decode([tokenizer.special_ids[token]]) == token


def test_special_text_in_the_corpus_is_not_learned_as_special() -> None:
    text = "".join(SPECIAL_TOKENS)
    assert min(Tokenizer.train([text] * 50, vocab_size=600).encode(text)) >= len(SPECIAL_TOKENS)


def test_invalid_bytes_come_back(tokenizer: Tokenizer) -> None:
    data = bytes(range(256)) + "月光".encode()[:-1] + b"\xed\xa0\x80 the capital"
    assert tokenizer.decode_bytes(ids_of_bytes(tokenizer, data)) == data
    assert tokenizer.decode(ids_of_bytes(tokenizer, b"a\xff")) == "a\ufffd"


def test_split_cjk_keeps_characters_apart() -> None:
    apart = Tokenizer.train(TEXTS, vocab_size=600, split_cjk=True)
    together = Tokenizer.train(TEXTS, vocab_size=600)
    assert apart.encode("明月光") == apart.encode("明") + apart.encode("月") + apart.encode("光")
    assert len(together.encode("举头望明月")) < len(apart.encode("举头望明月")) == 5
    assert apart.encode(" of the capital") == [*apart.encode(" of"), *apart.encode(" the"), *apart.encode(" capital")]
    assert apart.fingerprint != together.fingerprint


def test_training_is_deterministic_and_reads_a_stream(tokenizer: Tokenizer) -> None:
    again = Tokenizer.train(iter(TEXTS), vocab_size=400)
    assert again.fingerprint == tokenizer.fingerprint
    assert Tokenizer.train(TEXTS[:4], vocab_size=400).fingerprint != tokenizer.fingerprint


def test_a_small_corpus_still_gives_the_size_asked_for() -> None:
    small = Tokenizer.train(["ab ab"], vocab_size=500)
    assert small.vocab_size == 500
    assert small.learned_size < 270
    assert small.decode([499]) == f"<|spare{499 - small.learned_size - len(SPECIAL_TOKENS)}|>"


def test_train_refuses(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="vocab_size = 291: at least 292"):
        Tokenizer.train(TEXTS, vocab_size=291)
    with pytest.raises(ValueError, match="no text to train"):
        Tokenizer.train(["", ""], vocab_size=400)


def test_transformers_reads_the_folder_as_it_is(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}), encoding="utf-8")
    peer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(peer) == tokenizer.vocab_size
    assert (peer.pad_token_id, peer.bos_token_id, peer.eos_token_id) == (0, 1, 2)
    for text in [*TEXTS[:4], " two  spaces\n\n混合 text 123 don't \U0001f600"]:
        assert peer(text)["input_ids"] == tokenizer.encode(text)
        assert peer.decode(tokenizer.encode(text)) == text
    ids = [1, *(tokenizer.special_ids[token] for token in ("<think>", "</think>")), 2]
    assert peer.decode(ids, skip_special_tokens=True) == "<think></think>"


def test_save_load_and_pickle_change_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    for other in (
        Tokenizer.load(tmp_path),
        Tokenizer.load(tmp_path / "tokenizer.json"),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert other.fingerprint == tokenizer.fingerprint
        assert other.vocab_size == tokenizer.vocab_size == 400
        assert other.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])


def test_load_refuses(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no tokenizer at {tmp_path}/tokenizer.json"):
        Tokenizer.load(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"not a tokenizer\.json"):
        Tokenizer.load(file)
    tokenizer.save(tmp_path)
    document = json.loads(file.read_text(encoding="utf-8"))
    wrong = {
        "not a byte-level BPE": document | {"model": {"type": "Unigram"}},
        "normalizer": document | {"normalizer": {"type": "NFC"}},
        "token 'cat' takes the white space": _with_added(document, "cat", lstrip=True),
        r"lacks the control tokens <\|im_end\|>": _renamed(document, "<|im_end|>", "</s>"),
        "no token for the bytes": _renamed(document, "!", "!!"),
    }
    for message, content in wrong.items():
        file.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            Tokenizer.load(file)


def test_a_word_that_was_added_is_found_in_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    document = _with_added(json.loads(file.read_text(encoding="utf-8")), "<|more|>", special=True)
    file.write_text(json.dumps(_with_added(document, "词词cat")), encoding="utf-8")
    wider = Tokenizer.load(tmp_path)
    text = "a 词词cat and <|more|> and <think>"
    assert wider.encode("词词cat") == [tokenizer.vocab_size + 1]
    assert len(wider.encode(text)) < len(tokenizer.encode(text))
    assert wider.decode(wider.encode(text)) == text
    assert wider.special_ids == tokenizer.special_ids | {"<|more|>": tokenizer.vocab_size}
    assert not set(wider.encode(text)) & set(wider.special_ids.values())
    assert wider.fingerprint != tokenizer.fingerprint


def _with_added(document: dict[str, Any], content: str, **options: bool) -> dict[str, Any]:
    added = document["added_tokens"]
    vocab_size = max(*document["model"]["vocab"].values(), *(token["id"] for token in added)) + 1
    usual = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return document | {"added_tokens": [*added, usual | {"id": vocab_size, "content": content} | options]}


def _renamed(document: dict[str, object], old: str, new: str) -> object:
    return json.loads(json.dumps(document).replace(json.dumps(old), json.dumps(new)))


def test_another_tokenizer_is_refused_with_both_fingerprints(tokenizer: Tokenizer) -> None:
    tokenizer.require_same(tokenizer.fingerprint, "shards")
    with pytest.raises(ValueError, match=f"shards in x was made with another tokenizer.*abc.*{tokenizer.fingerprint}"):
        tokenizer.require_same("abc", "shards in x")


def test_ids_and_texts_that_can_not_be(tokenizer: Tokenizer) -> None:
    for bad in (400, -1):
        with pytest.raises(ValueError, match=f"token id {bad} is not in the vocabulary: allowed are 0 to 399"):
            tokenizer.decode([bad])
    with pytest.raises(ValueError, match="character 1 is half a surrogate pair"):
        tokenizer.encode("a\ud83d")
    with pytest.raises(ValueError, match="character 1 is half a surrogate pair"):
        tokenizer.encode_batch(["fine", "a\ud83d"])


def test_compression_by_language(tokenizer: Tokenizer) -> None:
    measured = compression(tokenizer, [*TEXTS, "123"])
    assert measured["en"] == pytest.approx(
        sum(len(text) for text in TEXTS[2:4]) / sum(len(tokenizer.encode(text)) for text in TEXTS[2:4])
    )
    assert 0 < measured["zh"] < measured["en"]
    assert compression(tokenizer, ["123"]) == {}


HAN = [chr(code) for code in range(0x4E00, 0x5200)]


@pytest.mark.parametrize("split_cjk", [False, True])
@pytest.mark.parametrize(
    "run", ["".join(random.Random(0).choices(HAN, k=40_000)), "a" * 40_000, "=" * 40_000, " " * 40_000, "1²" * 20_000]
)
def test_a_run_without_a_break_is_learnt_from_in_pieces(run: str, split_cjk: bool) -> None:
    # Whole, 40,000 random characters took 7 s of one core, and four times as many sixteen times as long.
    found = Tokenizer.train([run, "and a word"], vocab_size=700, split_cjk=split_cjk)
    assert max(len(found.decode_bytes([token_id])) for token_id in range(36, found.vocab_size)) <= 4 * 256
    assert found.decode(found.encode(run)) == run


def test_texts_of_usual_size_are_learnt_from_as_they_are() -> None:
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    sentence = "".join(HAN[:255])
    for text in (sentence, f"{sentence}，{sentence}", " ".join([sentence] * 9), "word " * 500, "a1" * 5000):
        assert "".join(_NonEmpty([text], words)) == text
        assert len(list(_NonEmpty([text], words))) == 1
    long = "字" * 600
    pieces = list(_NonEmpty(["", f"前 {long}。后"], words))
    assert "".join(pieces) == f"前 {long}。后"
    assert [len(piece) for piece in pieces] == [2 + 255, 256, 600 - 511 + 2]


def test_spare_ids_for_a_wider_embedding(tokenizer: Tokenizer, tmp_path: Path) -> None:
    wide = tokenizer.padded(448)
    assert (wide.vocab_size, wide.encode(TEXTS[0])) == (448, tokenizer.encode(TEXTS[0]))
    names = [wide.decode([token_id]) for token_id in range(400, 448)]
    assert len(set(names)) == 48
    assert all(name.startswith("<|spare") and name not in tokenizer.special_ids for name in names)
    wide.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == wide.fingerprint
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}), encoding="utf-8")
    peer = AutoTokenizer.from_pretrained(tmp_path)
    assert [peer.convert_tokens_to_ids(name) for name in names] == list(range(400, 448))
    assert tokenizer.padded(400).fingerprint == tokenizer.fingerprint
