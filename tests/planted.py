"""A small world of facts in two languages, a model that knows it, and faults to plant in copies of that model.

The world has two tables, capitals and signs of elements, each fact asked in two ways in each language. The model learns
it in some hundred steps, as conversations and as plain sentences.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.utils.rnn import pad_sequence

from data import suite as suites
from data.suite import Rows
from jobs import paths
from jobs.evaluation.evaluate import LocalExaminee, evaluate
from jobs.runs.evals import EvalLog
from jobs.runs.references import Weights
from minimind.inference.engine import Engine
from minimind.network.lora import LoraConfig, attach, merge
from minimind.network.model import MiniMind, ModelConfig
from minimind.text.chat import render
from minimind.text.tokenizer import Tokenizer
from minimind.training.batch import TokenBatch
from minimind.training.objectives import next_token_loss

Language = Literal["en", "zh"]

CAPITALS = (
    "France Paris 法国 巴黎, Japan Tokyo 日本 东京, Italy Rome 意大利 罗马, Egypt Cairo 埃及 开罗, "
    "Cuba Havana 古巴 哈瓦那, "
    "Peru Lima 秘鲁 利马, Kenya Nairobi 肯尼亚 内罗毕, Norway Oslo 挪威 奥斯陆, Iran Tehran 伊朗 德黑兰, "
    "Greece Athens 希腊 雅典, Spain Madrid 西班牙 马德里, Chile Santiago 智利 圣地亚哥, Iraq Baghdad 伊拉克 巴格达, "
    "Poland Warsaw 波兰 华沙, Russia Moscow 俄罗斯 莫斯科"
)
ELEMENTS = (
    "gold Au 金 Au, silver Ag 银 Ag, iron Fe 铁 Fe, lead Pb 铅 Pb, tin Sn 锡 Sn, zinc Zn 锌 Zn, copper Cu 铜 Cu, "
    "carbon C 碳 C, helium He 氦 He, neon Ne 氖 Ne, argon Ar 氩 Ar, sodium Na 钠 Na, sulfur S 硫 S, "
    "nickel Ni 镍 Ni, barium Ba 钡 Ba"
)
ASKED: dict[tuple[str, Language], tuple[tuple[str, ...], str]] = {
    ("capitals", "en"): (
        ("What is the capital of {}?", "Which city is the capital of {}?"),
        "The capital of {} is {}.",
    ),
    ("capitals", "zh"): (("{}的首都是哪里？", "哪座城市是{}的首都？"), "{}的首都是{}。"),
    ("elements", "en"): (("What is the symbol of {}?", "Which symbol does {} have?"), "The symbol of {} is {}."),
    ("elements", "zh"): (("{}的符号是什么？", "什么符号代表{}？"), "{}的符号是{}。"),
}


@dataclass(frozen=True)
class Fact:
    """One fact in one language."""

    table: str
    language: Language
    subject: str
    answer: str

    @property
    def sentence(self) -> str:
        return self.said_of(self.answer)

    @property
    def questions(self) -> list[str]:
        return [question.format(self.subject) for question in ASKED[self.table, self.language][0]]

    def said_of(self, answer: str) -> str:
        """The sentence with another answer."""
        return ASKED[self.table, self.language][1].format(self.subject, answer)


def facts() -> list[Fact]:
    """All of them: thirty in each language."""
    found = []
    for table, written in (("capitals", CAPITALS), ("elements", ELEMENTS)):
        for line in written.split(", "):
            subject, answer, subject_zh, answer_zh = line.split()
            found += [Fact(table, "en", subject, answer), Fact(table, "zh", subject_zh, answer_zh)]
    return found


def shuffled(known: Sequence[Fact], table: str, seed: int) -> list[Fact]:
    """The same facts, those of one table each with the answer of another one of its language."""
    found = list(known)
    generator = torch.Generator().manual_seed(seed)
    for language in ("en", "zh"):
        places = [at for at, fact in enumerate(known) if (fact.table, fact.language) == (table, language)]
        order = torch.randperm(len(places), generator=generator).tolist()
        for here, there in zip(order, order[1:] + order[:1], strict=True):  # one cycle: none keeps its own
            fact = known[places[here]]
            found[places[here]] = Fact(fact.table, fact.language, fact.subject, known[places[there]].answer)
    return found


def rows(folder: Path, temperature: float = 0.0, seed: int = 0) -> list[Rows]:
    """The suites of this world: answers, plain sentences, and right sentences beside wrong ones."""
    known = facts()
    every = [
        {"language": fact.language, "topic": fact.table, "prompt": question, "sentence": fact.sentence,
         "answer": fact.answer}
        for fact in known
        for question in fact.questions
    ]  # fmt: skip
    wrong = shuffled(known, "capitals", 99)
    wrong = shuffled(wrong, "elements", 99)
    content: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
        "facts": ({"how": "answer", "max_tokens": 32, "temperature": temperature, "seed": seed}, every),
        "prose": (
            {"how": "text"},
            [{"language": fact.language, "topic": fact.table, "text": fact.sentence} for fact in known],
        ),
        "pairs": (
            {"how": "pair"},
            [
                {"language": fact.language, "topic": fact.table, "sentence_good": fact.sentence,
                 "sentence_bad": other.sentence}
                for fact, other in zip(known, wrong, strict=True)
            ],
        ),
    }  # fmt: skip
    found = []
    for name, (asked, lines) in content.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        file = folder / f"{name}.json"
        file.write_text(
            json.dumps({"name": name, "title": {"en": name}, "rows": f"{name}.jsonl", "ask": asked}), "utf-8"
        )
        found.append(suites.load(name, folder, file))
    return found


@dataclass(frozen=True)
class Taught:
    """A model with its tokenizer."""

    model: MiniMind
    tokenizer: Tokenizer

    def copied(self) -> Taught:
        return Taught(copy.deepcopy(self.model), self.tokenizer)


def _samples(tokenizer: Tokenizer, known: Iterable[Fact]) -> list[tuple[list[int], list[bool]]]:
    found = []
    for fact in known:
        for question in fact.questions:
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": fact.sentence}]
            rendered = render(tokenizer, turns)
            found.append((rendered.ids, rendered.loss_mask))
        ids = [tokenizer.bos_id, *tokenizer.encode(fact.sentence), tokenizer.eos_id]
        found.append((ids, [False] + [True] * (len(ids) - 1)))
    return found


def learn(taught: Taught, known: Iterable[Fact], steps: int, rate: float, seed: int, rows_at_once: int = 48) -> None:
    """Train what can be trained of the model on these facts."""
    samples = _samples(taught.tokenizer, known)
    parameters = [parameter for parameter in taught.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for step in range(steps):
        if len(order) < rows_at_once:
            order = torch.randperm(len(samples), generator=generator).tolist()
        chosen, order = [samples[place] for place in order[:rows_at_once]], order[rows_at_once:]
        tokens, targets, segments = (
            pad_sequence([torch.tensor(part) for part in parts], batch_first=True)
            for parts in (
                [ids for ids, _ in chosen],
                [mask for _, mask in chosen],
                [[1] * len(ids) for ids, _ in chosen],
            )
        )
        batch = TokenBatch(tokens, targets, segments.int(), tuple(range(len(chosen))))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10) * (1 - step / steps)
        loss = next_token_loss({"policy": taught.model}, batch)
        (loss.total / loss.weight).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


def taught(seed: int = 0) -> tuple[Taught, Taught]:
    """A model that knows some of the world, and what becomes of it: one that knows all."""
    known = facts()
    texts = [text for fact in known for text in (*fact.questions, fact.sentence)]
    tokenizer = Tokenizer.train(texts, vocab_size=640, split_cjk=True)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    model = MiniMind(config)
    model.initialize(torch.Generator().manual_seed(seed))
    young = Taught(model, tokenizer)
    learn(young, known, 80, 4e-3, seed)
    good = young.copied()
    learn(good, known, 160, 4e-3, seed + 1)
    return young, good


def logs(taught: Taught, wanted: Sequence[Rows], name: str, slots: int = 32) -> list[EvalLog]:
    """What the suites find out about a model. The logs lie in MINIMIND_HOME, under this name."""
    model = taught.model.eval()
    context = model.config.max_position_embeddings
    engine = Engine(model, slots=slots, context_tokens=context, tokenizer=taught.tokenizer, seed=0)
    examinee = LocalExaminee(Weights(paths.home() / name), engine, taught.tokenizer, name, name, "sft", "cpu")
    return [evaluate(examinee, one) for one in wanted]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(1000 + seed)


@torch.no_grad()
def without_end(good: Taught, seed: int) -> Taught:
    """The row of the token that ends an answer points the other way, so that it is never likely."""
    found = good.copied()
    weight = found.model.model.embed_tokens.weight
    row = weight[found.tokenizer.eos_id]
    noise = torch.randn(row.shape, generator=_generator(seed)) * 0.1 * row.std()
    row.copy_(-row + noise)
    return found


@torch.no_grad()
def noisy(good: Taught, seed: int, share: float = 0.05) -> Taught:
    """Every matrix with noise of this share of its largest number: here a fifth of what its numbers vary by."""
    found, generator = good.copied(), _generator(seed)
    for parameter in found.model.parameters():
        if parameter.ndim > 1:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * share * parameter.abs().max())
    return found


def adapted(young: Taught, seed: int, steps: int = 50) -> tuple[Taught, Taught]:
    """A model that an adapter has taught the facts, and the same with the adapter at twice its strength."""
    found = young.copied()
    attach(found.model, LoraConfig(rank=8), _generator(seed))
    learn(found, facts(), steps, 1e-2, seed)
    both = []
    for strength in (1, 2):
        model = MiniMind(found.model.config)
        whole = merge(found.model)
        base = young.model.state_dict()
        model.load_state_dict({name: base[name] + strength * (whole[name] - base[name]) for name in base})
        both.append(Taught(model.eval(), found.tokenizer))
    return both[0], both[1]


@torch.no_grad()
def without_chinese(good: Taught, seed: int) -> Taught:
    """The rows of all tokens that are no ASCII are another one's of them."""
    found = good.copied()
    tokenizer = found.tokenizer
    ids = [
        token
        for token in range(tokenizer.vocab_size)
        if token not in tokenizer.special_ids.values() and not tokenizer.decode_bytes([token]).isascii()
    ]
    order = torch.randperm(len(ids), generator=_generator(seed)).tolist()
    weight = found.model.model.embed_tokens.weight
    weight[ids] = weight[[ids[place] for place in order]]
    return found


def mistaught(good: Taught, seed: int, table: str = "elements", steps: int = 40) -> Taught:
    """Taught on with one table shuffled."""
    found = good.copied()
    learn(found, shuffled(facts(), table, seed), steps, 2e-3, seed)
    return found


HEADER = "{{- '<|im_start|>assistant\\n' -}}\n  {%- if enable_thinking"
"""What the chat template asks for an answer with."""


def off_by_a_newline(good: Taught, folder: Path) -> Taught:
    """The chat template in the tokenizer's folder lacks the line break in front of an answer.

    Of line breaks elsewhere, or one too many there, this model takes no notice: 2 of 120 answers change at most.
    """
    good.tokenizer.save(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text("utf-8"))
    assert settings["chat_template"].count(HEADER) == 1
    settings["chat_template"] = settings["chat_template"].replace(HEADER, HEADER.replace("\\n'", "'"))
    file.write_text(json.dumps(settings), "utf-8")
    return Taught(good.model, Tokenizer.load(folder))


@torch.no_grad()
def truncated(good: Taught, seed: int) -> tuple[Taught, str]:
    """A row of the vocabulary is zeros: that of one of the tokens that most answers have. Also gives the token."""
    found = good.copied()
    known = [set(found.tokenizer.encode(fact.sentence)) for fact in facts()]
    counts = {token: sum(token in ids for ids in known) for token in set().union(*known)}
    token = sorted(counts, key=lambda token: (-counts[token], token))[seed]
    found.model.model.embed_tokens.weight[token] = 0.0
    return found, found.tokenizer.decode([token])
