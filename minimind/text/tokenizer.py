"""Text to token ids and back: byte-level BPE, trained here or read from any byte-level `tokenizer.json`.

Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", over bytes. Hugging Face's
`tokenizers` does the work; what this file adds is a promise: `encode` never turns ordinary text into a special token,
and `decode_bytes` gives back exactly the bytes that went in. Special tokens are placed by their ids alone.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from minimind.language import say
from minimind.text.template import jinja_source

# The table that upstream MiniMind trains with, name by name and id by id, so that its vocabularies and ours agree on
# every special id. Text models use the first three and the markup; the others are there for later.
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PLACEHOLDER_TOKENS = (
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<|audio_pad|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eod>",
    "<tts_text_bos_single>",
)
MARKUP_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
RESERVED_TOKENS = tuple(f"<|buffer{i}|>" for i in range(1, 10))
SPECIAL_TOKENS = CONTROL_TOKENS + PLACEHOLDER_TOKENS + MARKUP_TOKENS + RESERVED_TOKENS
"""The special tokens in the order of their ids, 0 to 35."""

PAD_TOKEN, BOS_TOKEN, EOS_TOKEN = CONTROL_TOKENS

# GPT-2's pattern in two forms. The second cuts every Chinese character off first; doing both in one expression is a
# quarter faster than a splitter in front of the byte-level one, with the same pieces.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?{letters}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
_CJK_APART = r"\p{Han}|" + _WORDS.format(letters=r"[\p{L}&&[^\p{Han}]]")

# An encoding takes a hundred times the memory of its ids: take those out while it is still in the cache.
_PORTION = 128

# The most characters of a piece that is learnt from whole. No word of any language comes near it. Pieces have one kind
# of character, so only a text with a run of this length, all white space, all in words, or all neither, can hold more.
_LONGEST = 256
_MAYBE_LONG = re.compile(rf"\s{{{_LONGEST}}}|[^\W_]{{{_LONGEST}}}|(?:[^\w\s]|_){{{_LONGEST}}}")

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_LATIN = re.compile(r"[A-Za-z]")


class Tokenizer:
    """A byte-level BPE vocabulary with its special tokens. Made by `train` or `load`.

    vocab_size: how many ids there are, special and spare ones included; ids run from 0 to vocab_size - 1.
    special_ids: names to ids of the tokens that no text becomes: the control tokens and what else was added with a name
        in angle brackets. Other words that were added are words: text that holds one gets its id.
    bos_id, eos_id, pad_id: <|im_start|>, <|im_end|>, <|endoftext|>.
    foreign_template: the chat template that came with it, as Jinja; None where it is the one of minimind.text.template.
    """

    def __init__(
        self, document: Mapping[str, Any], where: str = "tokenizer", settings: Mapping[str, Any] | None = None
    ) -> None:
        """`document` is a parsed tokenizer.json, `settings` a tokenizer_config.json; `where` names it in errors.

        Raises ValueError if it isn't byte-level BPE that keeps every byte, or lacks a control token.
        """
        self._document = dict(document)
        model = self._document.get("model") or {}
        if model.get("type") != "BPE" or "ByteLevel" not in json.dumps(self._document.get("pre_tokenizer")):
            raise ValueError(
                say(
                    "{where}: not a byte-level BPE tokenizer (model type {get!r}); train one",
                    where=where,
                    get=model.get("type"),
                )
            )
        if self._document.get("normalizer"):
            kind = self._document["normalizer"].get("type")
            raise ValueError(
                say(
                    "{where}: its normalizer ({kind}) changes text, so text would not come back as it was",
                    where=where,
                    kind=kind,
                )
            )
        vocab: dict[str, int] = model["vocab"]
        added = {token["content"]: int(token["id"]) for token in self._document.get("added_tokens", [])}
        missing = [token for token in CONTROL_TOKENS if token not in added and token not in vocab]
        if missing:
            raise ValueError(
                say(
                    "{where}: lacks the control tokens {missing}; train one, or add them to it",
                    where=where,
                    missing=" ".join(missing),
                )
            )

        ids = vocab | added
        self.vocab_size = max(ids.values()) + 1
        self._words = [token for token in self._document.get("added_tokens", []) if _is_word(token, where)]
        words = {token["content"]: int(token["id"]) for token in self._words}
        marks = {name: token_id for name, token_id in added.items() if name not in words}
        self.special_ids = marks or {token: vocab[token] for token in CONTROL_TOKENS}
        self.pad_id, self.bos_id, self.eos_id = (ids[token] for token in CONTROL_TOKENS)
        self._bytes = _bytes_of_ids(vocab, added, self.vocab_size, where)
        template = (settings or {}).get("chat_template")
        self.foreign_template: str | None = None if template == jinja_source(self.special_ids) else template
        self.named_tokens = _named_tokens(settings if self.foreign_template else None)

        # Without special tokens nothing in a text can match one: "<think>" in a document is seven characters. And no
        # post-processor, padding or truncation may add or drop ids behind our back.
        # A word's id is looked up in the vocabulary.
        plain = self._document | dict.fromkeys(("post_processor", "padding", "truncation"))
        plain |= {"added_tokens": self._words, "model": model | {"vocab": vocab | words}}
        self._backend = Backend.from_str(json.dumps(plain))

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int = 6400, split_cjk: bool = False) -> Tokenizer:
        """Learn a vocabulary of exactly `vocab_size` ids from `texts`, the same one every time.

        split_cjk: keep every Chinese character apart before merging, so that a small model sees one character as the
            same few tokens wherever it stands. Costs Chinese compression, gains recall.

        A pair must be seen twice to be merged. Where the texts hold too few, the ids left over are spare special
        tokens, so the model has the shape that was asked for; `learned_size` says how many ids text can produce.

        Raises ValueError when there is no text, or when `vocab_size` has no room for bytes and special tokens.
        """
        least = len(SPECIAL_TOKENS) + 256
        if vocab_size < least:
            raise ValueError(
                say(
                    "vocab_size = {vocab_size}: at least {least} are needed ({count} special tokens and "
                    "256 bytes); MiniMind uses 6400",
                    vocab_size=vocab_size,
                    least=least,
                    count=len(SPECIAL_TOKENS),
                )
            )
        backend = Backend(models.BPE())
        if split_cjk:
            apart = pre_tokenizers.Split(Regex(_CJK_APART), "isolated")
            as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            backend.pre_tokenizer = pre_tokenizers.Sequence([apart, as_bytes])
        else:
            backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        seen = _NonEmpty(texts, backend.pre_tokenizer)
        backend.train_from_iterator(seen, trainer=trainer)
        if not seen.count:
            raise ValueError(say("no text to train a tokenizer on: every text was empty, or there was none"))
        backend.add_special_tokens([f"<|spare{i}|>" for i in range(vocab_size - backend.get_vocab_size())])

        document = json.loads(backend.to_str())
        document["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
        # As upstream: thinking and tool calls are shown by a `skip_special_tokens` decode, control tokens are not.
        for token in document["added_tokens"]:
            token["special"] = token["content"] not in MARKUP_TOKENS + RESERVED_TOKENS
        return cls(document)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a folder that holds a tokenizer.json, or that file itself. Raises ValueError if it can't be used."""
        file = Path(path).expanduser().absolute()
        file = file / "tokenizer.json" if file.is_dir() else file
        if not file.is_file():
            raise ValueError(
                say("no tokenizer at {file}: train one with the tokenizer stage, or give its folder", file=file)
            )
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(say("{file}: not a tokenizer.json ({error})", file=file, error=error)) from None
        if not isinstance(document, dict):
            raise ValueError(say("{file}: not a tokenizer.json (a JSON object is expected)", file=file))
        return cls(document, str(file), _settings(file.parent))

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, which transformers, vLLM and others read as they are."""
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **self.named_tokens,
            "add_bos_token": False,
            "add_eos_token": False,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 32768,
            "chat_template": self.chat_template,
        }
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, content in (("tokenizer.json", self._document), ("tokenizer_config.json", config)):
            text = json.dumps(content, ensure_ascii=False, indent=2)
            (Path(folder) / name).write_text(text + "\n", encoding="utf-8")

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`. No bos, no eos, and never a special id: those are placed by whoever builds the row."""
        ids: list[int] = self._backend.encode(encodable(text), add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts at once with the GIL released, on all cores unless TOKENIZERS_PARALLELISM is false."""
        ids: list[list[int]] = []
        for at in range(0, len(texts), _PORTION):
            portion = texts[at : at + _PORTION]
            try:
                encodings = self._backend.encode_batch_fast(portion, add_special_tokens=False)
            except TypeError:  # says no more than that one of them is no text
                portion = [encodable(text) for text in portion]
                encodings = self._backend.encode_batch_fast(portion, add_special_tokens=False)
            ids += [encoding.ids for encoding in encodings]
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes behind `ids`; a special token gives its name. Raises ValueError for an id out of range."""
        parts = []
        for token_id in ids:
            if not 0 <= token_id < self.vocab_size:
                raise ValueError(
                    say(
                        "token id {token_id} is not in the vocabulary: allowed are 0 to {vocab_size}",
                        token_id=token_id,
                        vocab_size=self.vocab_size - 1,
                    )
                )
            parts.append(self._bytes[token_id])
        return b"".join(parts)

    def decode(self, ids: Iterable[int]) -> str:
        """The text behind `ids`. Bytes that aren't UTF-8, such as half a character at the end, show as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    @property
    def chat_template(self) -> str:
        """How a conversation is written, as Jinja: the template that came with the tokenizer, or our own."""
        return self.foreign_template or jinja_source(self.special_ids)

    def padded(self, vocab_size: int) -> Tokenizer:
        """The same with spare special tokens up to `vocab_size` ids, for a model whose embedding was made wider."""
        names = (name for i in itertools.count() if (name := f"<|spare{i}|>") not in self.special_ids)
        added = [
            {"id": token_id, "content": name, "single_word": False, "lstrip": False, "rstrip": False}
            | {"normalized": False, "special": True}
            for token_id, name in zip(range(self.vocab_size, vocab_size), names, strict=False)
        ]
        document = self._document | {"added_tokens": [*self._document["added_tokens"], *added]}
        settings = self.named_tokens | ({"chat_template": self.foreign_template} if self.foreign_template else {})
        return Tokenizer(document, settings=settings)

    @property
    def learned_size(self) -> int:
        """How many ids a text can produce: the 256 bytes and every merge. The others are special or spare."""
        return 256 + len(self._document["model"]["merges"])

    @cached_property
    def fingerprint(self) -> str:
        """sha256, in hex, of everything that decides which ids a text gets and what an id means."""
        model = self._document["model"]
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        content = [sorted(model["vocab"].items()), merges, sorted(self.special_ids.items())]
        content.append(self._document["pre_tokenizer"])
        if self._words:
            content.append(self._words)
        text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def require_same(self, other_fingerprint: str, where: str) -> None:
        """Raise ValueError unless `where` (shards, a checkpoint) was made with this very tokenizer."""
        if other_fingerprint != self.fingerprint:
            raise ValueError(
                say(
                    "{where} was made with another tokenizer: its fingerprint is {other_fingerprint}, "
                    "this one's is {fingerprint}. Ids mean other text there. Use the tokenizer it was "
                    "made with, or make it again with this one.",
                    where=where,
                    other_fingerprint=other_fingerprint,
                    fingerprint=self.fingerprint,
                )
            )


def compression(tokenizer: Tokenizer, texts: Iterable[str]) -> dict[str, float]:
    """Characters per token for Chinese ("zh") and English ("en"), each where there is such a text.

    A text counts as Chinese if it holds more Han characters than Latin letters, as English if fewer.
    """
    characters, tokens = dict.fromkeys(("zh", "en"), 0), dict.fromkeys(("zh", "en"), 0)
    for text in texts:
        han, latin = len(_HAN.findall(text)), len(_LATIN.findall(text))
        if han == latin:
            continue
        language = "zh" if han > latin else "en"
        characters[language] += len(text)
        tokens[language] += len(tokenizer.encode(text))
    return {language: characters[language] / count for language, count in tokens.items() if count}


def _settings(folder: Path) -> dict[str, Any]:
    """The tokenizer_config.json of a folder, {} if there is none; the template of a chat_template.jinja goes before
    its own, as in transformers. Raises ValueError for one that can't be read, and for several templates.
    """
    file, alone = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    try:
        settings = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        if alone.is_file():
            settings["chat_template"] = alone.read_text("utf-8")
        template = settings.get("chat_template")
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(say("{file}: not a tokenizer_config.json ({error})", file=file, error=error)) from None
    others = [other.name for other in (folder / "additional_chat_templates").glob("*.jinja")]
    if others or not isinstance(template, (str, type(None))):
        what = (
            say("{others} stands beside it", others=", ".join(sorted(others)))
            if others
            else say("is a {type}", type=type(template).__name__)
        )
        raise ValueError(
            say(
                "{file}: chat_template: {what}; one template as text is needed. Of several, leave the "
                "one that conversations are to be written with",
                file=file,
                what=what,
            )
        )
    return settings


def _is_word(token: Mapping[str, Any], where: str) -> bool:
    """Whether an added token is a word that text may become. Raises ValueError for one that takes white space along."""
    name = token["content"]
    if token.get("special") or (name.startswith("<") and name.endswith(">")):
        return False
    if token.get("lstrip") or token.get("rstrip"):
        raise ValueError(
            say(
                "{where}: its token {name!r} takes the white space beside it, so text would not come back",
                where=where,
                name=name,
            )
        )
    return True


def _named_tokens(settings: Mapping[str, Any] | None) -> dict[str, str]:
    """bos_token and its like as tokenizer_config.json names them, which a foreign template may ask for."""
    usual = {"bos_token": BOS_TOKEN, "eos_token": EOS_TOKEN, "pad_token": PAD_TOKEN, "unk_token": PAD_TOKEN}
    if settings is None:
        return usual
    given = {name: settings.get(name) for name in usual}
    texts = {name: value["content"] if isinstance(value, dict) else value for name, value in given.items()}
    return {name: value for name, value in texts.items() if isinstance(value, str)}


class _NonEmpty:
    """Passes on the texts that hold anything, and counts them.

    A piece that the pre-tokenizer would make longer than _LONGEST is cut. Merging inside a piece takes time that grows
    with the square of its length: a book of Chinese without punctuation, one piece, was not done after minutes.
    """

    def __init__(self, texts: Iterable[str], pieces: pre_tokenizers.PreTokenizer) -> None:
        self.texts, self.pieces, self.count = texts, pieces, 0

    def __iter__(self) -> Iterator[str]:
        for text in filter(None, self.texts):
            self.count += 1
            if _MAYBE_LONG.search(text) is None:
                yield text
                continue
            begin = 0
            for _, (start, end) in self.pieces.pre_tokenize_str(text):
                for cut in range(start + _LONGEST, end, _LONGEST):
                    yield text[begin:cut]
                    begin = cut
            yield text[begin:]


def _byte_of_character() -> dict[str, int]:
    """How byte-level BPE writes bytes: printable Latin-1 stands for itself, the rest move up from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_of_character()


def _bytes_of_ids(vocab: Mapping[str, int], added: Mapping[str, int], size: int, where: str) -> list[bytes]:
    lost = [byte for character, byte in _BYTE_OF_CHARACTER.items() if character not in vocab]
    if lost:
        raise ValueError(
            say(
                "{where}: its vocabulary has no token for the bytes {lost}; text with them would be lost",
                where=where,
                lost=lost[:8],
            )
        )
    table = [b""] * size
    for token, token_id in vocab.items():
        known = all(character in _BYTE_OF_CHARACTER for character in token)
        table[token_id] = bytes(_BYTE_OF_CHARACTER[character] for character in token) if known else token.encode()
    for token, token_id in added.items():
        table[token_id] = token.encode()
    return table


def encodable(text: str) -> str:
    """The text itself. Raises ValueError for half a surrogate pair, which no encoding has."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            say(
                "text can't be encoded: character {start} is half a surrogate pair ({text!r}); remove "
                "it, or write the whole character",
                start=error.start,
                text=text[error.start],
            )
        ) from None
    return text
