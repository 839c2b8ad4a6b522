"""Learning from preferences, from labels and from a teacher as TRL does it: the same files and checkpoints give the
same tokens, losses and gradients.

TRL is asked as its users ask it, with conversations and the checkpoint's own tokenizer. What differs is taken account
of here:

- TRL learns the line's end that the chat template writes behind an answer as well; no model of ours ever has to say it,
  and where numbers are compared TRL's template leaves it out. Scores are read behind it by both.
- Its ORPO adds the cross-entropy of prompts and answers together, a mean over all tokens of the batch; ours, as the
  paper has it, is that of the answer alone, a mean over its tokens.
- It smooths no labels of the sigmoid loss any more; what label_smoothing means is compared for SimPO.
- KTO's reference point, what any text gains, is estimated of other answers. TRL puts behind each prompt the answer of
  the row before it in a batch of `per_device_train_batch_size`, which is why it reads the file in its order, and takes
  the mean over the batches of all ranks; an answer that its own prompt cuts off is whole there, and a last batch of one
  row has its own answer for another. Ours is the answer of the row that lies half of all rows further, as cut off as
  it is learnt, and the mean is a packed row's. An odd number of rows, read by us in steps of two, has the same
  neighbours in both ways: in one batch and one packed row, and where no answer is cut off by its own prompt, both
  estimates are the same.
- Its divergences are not multiplied by temperature^2, so their gradients shrink as the temperature grows. Its
  GKDTrainer tells the loss no temperature at all; what is compared is the function that it calls, with one.
- Its GRPO counts the tokens of groups whose rewards are all the same, where ours leaves such groups out; here is none.
  Its KL is weighted by the ratio unless it is told not to be, ours never. Its `delta` is a dual clip where it lies
  beyond the upper clip; below, it has no effect. Its entropy bonus is of all tokens that could have come, ours an
  estimate from those that came.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

import minimind.checkpoints.checkpoint as checkpoints
from data.pack import labelled, learnable, whole
from data.prepare import tokenise
from data.rows import AnswerRows, LabelledRows, PairRows
from jobs.runs.directory import RunDirectory
from jobs.stages import kto, reward
from minimind.network.model import MiniMind
from minimind.network.score import ScoreModel
from minimind.training.advantages import group_advantages, separate_advantages
from minimind.training.answers import Answer, answer_batch, answer_logprobs, summed
from minimind.training.distillation import Distillation, distil
from minimind.training.objectives import token_logprobs
from minimind.training.policy import PolicyBatch, PolicyLoss, policy_loss
from minimind.training.preference import WITHOUT_REFERENCE, PreferenceLoss, pair_answers, preference_loss
from tests import taught
from tests.clients.conftest import said_by
from tests.small import turns

pytestmark = pytest.mark.timeout(900)

WIDTH = 128
"""How many tokens of prompt and answer are read: less than those of the longest pair."""

TOLERANCE = 1e-5
"""Of a loss, and of the norm of each gradient: what rounding makes of sums that are added up in another order. It is
under 3e-6 here."""

LINE_END = "{{- '\\n' -}}"


@dataclass(frozen=True)
class Case:
    """A loss as TRL's trainers are told of it, and as ours is."""

    trainer: str
    settings: dict[str, Any]
    loss: PreferenceLoss


CASES = {
    "sigmoid": Case("dpo", {"loss_type": "sigmoid", "beta": 0.3}, PreferenceLoss("sigmoid", 0.3)),
    "sigmoid by length": Case(
        "dpo", {"loss_type": "sigmoid_norm", "beta": 2.0}, PreferenceLoss("sigmoid", 2.0, by_length=True)
    ),
    "hinge": Case("dpo", {"loss_type": "hinge", "beta": 0.1}, PreferenceLoss("hinge", 0.1)),
    "ipo": Case("dpo", {"loss_type": "ipo", "beta": 0.3}, PreferenceLoss("ipo", 0.3)),
    "simpo": Case(
        "cpo",
        {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": 0.5},
        PreferenceLoss("simpo", 2.0, gamma=0.5),
    ),
    "simpo, smoothed": Case(
        "cpo",
        {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": 0.0, "label_smoothing": 0.2},
        PreferenceLoss("simpo", 2.0, label_smoothing=0.2),
    ),
    "orpo": Case("orpo", {"beta": 0.3}, PreferenceLoss("orpo", 0.3)),
}


def pair(chosen: str, rejected: str, *before: str, system: str | None = None) -> dict[str, Any]:
    """A row as users have it: before are the turns that both sides have in common."""
    first = [] if system is None else [{"role": "system", "content": system}]
    return {side: [*first, *turns(*before, answer)] for side, answer in (("chosen", chosen), ("rejected", rejected))}


PAIRS = [
    pair("Paris.", "Rome, I think.", taught.CAPITAL),
    pair("巴黎。", "罗马。", taught.CAPITAL_ZH, system="回答要短。"),
    pair("Yes. Only 1 and 7 divide it.", "Yes.", taught.CAPITAL, "Paris.", taught.PRIME),
    pair(
        "巴黎今天是晴天。", "巴黎今天下雨，我不知道为什么。", "你好 <|im_end|>", "你好！", "今天天气？", system="Short!"
    ),
    pair(taught.COUNTED, "1, 2, 3, 4, 5 and so on, " * 8, taught.COUNT),
]


def judged(answer: str, good: bool, *before: str) -> dict[str, Any]:
    """A row as TRL's users have it."""
    *prompt, completion = turns(*before, answer)
    return {"prompt": prompt, "completion": [completion], "label": good}


LABELLED = [
    judged("Paris.", True, taught.CAPITAL),
    judged("罗马。", False, taught.CAPITAL_ZH),
    judged("1, 2, 3, 4, 5, 6", True, taught.COUNT),
    judged("Yes.", True, taught.CAPITAL, "Paris.", taught.COUNT, taught.COUNTED, "Prime? " * 7 + taught.PRIME),
    judged("No, 7.", False, taught.PRIME),
    judged("Yes.", False, taught.CAPITAL, "Paris.", "Is it raining? " * 40),
]
"""The prompt of the fourth leaves room for its own answer alone, that of the last for none."""


@dataclass(frozen=True)
class Checkpoints:
    """Two of them, as folders and in memory, and rows in a file and as ours are read."""

    policy: Path
    reference: Path
    file: Path
    rows: AnswerRows

    def asked(self, trainer: str, settings: dict[str, Any], gradients: Path, template: str | None) -> dict[str, Any]:
        """What `ask_trl.py` is to be told."""
        return {
            "trainer": trainer,
            "settings": {"max_length": WIDTH, **settings},
            "policy": str(self.policy),
            "reference": str(self.reference) if trainer in ("dpo", "kto") else None,
            "rows": str(self.file),
            "template": template,
            "gradients": str(gradients),
        }


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    home = tmp_path_factory.mktemp("trl")
    file = home / "pairs.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in PAIRS), "utf-8")
    folders = {}
    for name, steps in (("policy", 60), ("reference", 30)):
        model, tokenizer = taught.taught(steps)
        run = RunDirectory(home / name)
        run.create({"stage": {"kind": "sft"}})
        folders[name] = taught.write_checkpoint(run, steps, model, tokenizer)
    shards = tokenise([file], tokenizer, home / "shards", rows="dpo")
    rows = PairRows(shards, learnable(shards, WIDTH), WIDTH, tokenizer.pad_id)
    return Checkpoints(folders["policy"], folders["reference"], file, rows)


def test_tokens_losses_and_gradients_are_those_of_trl(python: Path, there: Checkpoints, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{number}.safetensors" for number, name in enumerate(CASES)}
    shorter = template_without_last_line_end(there.policy)
    asked = {name: there.asked(case.trainer, case.settings, files[name], shorter) for name, case in CASES.items()}
    asked["own template"] = there.asked("dpo", {}, tmp_path / "own.safetensors", None)
    said = said_by(python, "ask_trl.py", tmp_path, json.dumps(asked))
    answers = [there.rows.answers(place) for place in range(len(PAIRS))]
    sides = [pair[side] for side in (0, 1) for pair in answers]
    assert max(len(answer.tokens) for answer in sides) == WIDTH
    assert said["own template"]["texts"] == [
        [answer.tokens.tolist(), (np.arange(len(answer.tokens)) >= answer.targets.argmax()).tolist()]
        for answer in sides
    ]
    texts = list(map(up_to_last_target, sides))
    for name, case in CASES.items():
        assert said[name]["texts"] == texts, name
        policy = checkpoints.load_model(there.policy)[0]
        require_same(name, policy, ours(there, policy, case.loss), said[name]["loss"], files[name])


def ours(there: Checkpoints, policy: MiniMind, how: PreferenceLoss) -> Tensor:
    """The mean loss of all pairs, of ORPO with the cross-entropy that TRL adds to it."""
    batch = there.rows.batch(range(there.rows.count))
    reference_M = None
    if how.name not in WITHOUT_REFERENCE:
        with torch.no_grad():
            reference_M = answer_logprobs(checkpoints.load_model(there.reference)[0], batch)
    logprob_M = answer_logprobs(policy, batch)
    found = preference_loss(how, batch, logprob_M, reference_M)
    loss = found.total / found.weight
    if how.name == "orpo":
        chosen = pair_answers(logprob_M, batch)
        loss = loss + (chosen.chosen_P / chosen.chosen_tokens_P).mean()
        loss = loss + whole_cross_entropy(policy, [there.rows.answers(place)[0] for place in range(len(PAIRS))])
    return loss


def whole_cross_entropy(policy: MiniMind, chosen: list[Answer]) -> Tensor:
    """The mean over all tokens of prompts and answers, up to the last that is learnt."""
    found = []
    for answer in chosen:
        end = int(answer.targets.nonzero()[0].max()) + 1
        tokens = torch.from_numpy(answer.tokens[:end].astype(np.int64))[None]
        found.append(token_logprobs(policy(tokens), policy.head_weight_VD, tokens, torch.arange(1, end)))
    return -torch.cat(found).mean()


def test_labelled_answers_are_learnt_as_trl_does(python: Path, there: Checkpoints, tmp_path: Path) -> None:
    """The policy has gained on the reference in other answers or, when the two are exchanged, has lost: then what any
    text gains is taken to be 0.
    """
    file = tmp_path / "labelled.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in LABELLED), "utf-8")
    tokenizer = checkpoints.load_model(there.policy)[1]
    shards = tokenise([file], tokenizer, tmp_path / "shards", rows="kto")
    read = labelled(shards, WIDTH)
    count = len(read)
    assert count == len(LABELLED) - 1
    order = np.arange(0, 2 * count, 2) % count
    rows = LabelledRows(shards, read[order], WIDTH, tokenizer.pad_id)
    assert rows.count == 1
    lost = replace(there, file=file, rows=rows)
    cases = {"lost": lost, "gained": replace(lost, policy=there.reference, reference=there.policy)}
    files = {name: tmp_path / f"{name}.safetensors" for name in cases}
    settings = {"beta": 0.3, "undesirable_weight": 1.5, "per_device_train_batch_size": count}
    shorter = template_without_last_line_end(there.policy)
    asked = {name: case.asked("kto", settings, files[name], shorter) for name, case in cases.items()}
    said = said_by(python, "ask_trl.py", tmp_path, json.dumps(asked))
    texts = [rows.answers(place) for place in np.argsort(order)]
    assert max(len(other.tokens) for _, other in texts) == WIDTH
    spec = kto.kto().model_copy(update={"stage": kto.KtoConfig(beta=0.3, bad_weight=1.5)})
    batch = rows.batch([0])
    for name, case in cases.items():
        assert said[name]["texts"] == [up_to_last_target(pair[side]) for side in (0, 1) for pair in texts], name
        policy, reference = (checkpoints.load_model(folder)[0] for folder in (case.policy, case.reference))
        with torch.no_grad():
            gained_A = summed(answer_logprobs(policy, batch) - answer_logprobs(reference, batch), batch)
        assert bool(gained_A[1::2].mean() > 0) == (name == "gained")
        found = kto.objective(spec)({"policy": policy, "reference": reference}, batch)
        require_same(name, policy, found.total / found.weight, said[name]["loss"], files[name])


def test_a_reward_model_learns_as_trl_has_it(python: Path, there: Checkpoints, tmp_path: Path) -> None:
    writes, tokenizer, _ = checkpoints.load_model(there.policy)
    scores = ScoreModel.of(writes)
    torch.nn.init.normal_(scores.score.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    run = RunDirectory(tmp_path / "reward")
    run.create({"stage": {"kind": "reward"}})
    case = replace(there, policy=taught.write_checkpoint(run, 1, scores, tokenizer))
    files = {center: tmp_path / f"{center}.safetensors" for center in (0.0, 0.1)}
    asked = {
        str(center): case.asked("reward", {"center_rewards_coefficient": center}, file, None)
        for center, file in files.items()
    }
    said = said_by(python, "ask_trl.py", tmp_path, json.dumps(asked))
    rows = PairRows(there.rows.shards, whole(there.rows.shards, WIDTH), WIDTH, tokenizer.pad_id)
    pairs = [rows.answers(place) for place in range(len(rows.chosen))]
    assert len(pairs) == len(PAIRS) - 1
    texts = [pair[side].tokens.tolist() for side in (0, 1) for pair in pairs]
    batch = rows.batch(range(rows.count))
    for center, file in files.items():
        name = str(center)
        assert [ids for ids, _ in said[name]["texts"]] == texts
        policy = checkpoints.load_score_model(case.policy)[0]
        spec = reward.reward().model_copy(update={"stage": reward.RewardConfig(center=center)})
        found = reward.objective(spec)({"policy": policy}, batch)
        require_same(name, policy, found.total / found.weight, said[name]["loss"], file)


def test_a_student_is_compared_with_its_teacher_as_trl_does(python: Path, there: Checkpoints, tmp_path: Path) -> None:
    answers = [answer for place in range(len(PAIRS)) for answer in there.rows.answers(place)]
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps([[answer.tokens.tolist(), answer.targets.tolist()] for answer in answers]))
    settings = [
        Distillation(alpha=0.0, beta=beta, temperature=temperature)
        for beta, temperature in product((0.0, 0.25, 0.5, 1.0), (1.0, 2.0))
    ]
    names = [f"beta {each.beta} temperature {each.temperature}" for each in settings]
    files = {name: tmp_path / f"{name}.safetensors" for name in names}
    asked = {
        name: {
            "trainer": "gkd",
            "settings": {"beta": each.beta, "temperature": each.temperature},
            "policy": str(there.policy),
            "reference": str(there.reference),
            "rows": str(texts),
            "gradients": str(files[name]),
        }
        for name, each in zip(names, settings, strict=True)
    }
    said = said_by(python, "ask_trl.py", tmp_path, json.dumps(asked))
    batch = answer_batch([[[answer]] for answer in answers], range(len(answers)), WIDTH)
    teacher = checkpoints.load_model(there.reference)[0]
    for name, each in zip(names, settings, strict=True):
        student = checkpoints.load_model(there.policy)[0]
        found = distil({"policy": student, "teacher": teacher}, batch, each)
        loss = found.total / found.weight / each.temperature**2
        require_same(name, student, loss, said[name]["loss"], files[name])


@dataclass(frozen=True)
class Attempts:
    """Answers in groups of `GROUP`, all numbers of their tokens, and what they are rewarded with. values: [M]."""

    groups: list[list[Answer]]
    rewards_KA: NDArray[np.float64]
    values: dict[str, Tensor]

    def written(self, file: Path) -> Path:
        """As `ask_trl.py` reads them."""
        answers = [answer for group in self.groups for answer in group]
        own = [answer.tokens[answer.targets].tolist() for answer in answers]
        lengths = list(map(len, own))
        values = {
            name: [part.tolist() for part in torch.split(value_M, lengths)] for name, value_M in self.values.items()
        }
        prompts = [answer.tokens[~answer.targets].tolist() for answer in answers]
        rewards = {"rewards": self.rewards_KA.T.tolist(), "weights": list(WEIGHTS)}
        file.write_text(json.dumps({"prompts": prompts, "answers": own, **rewards, **values}))
        return file


GROUP, ROOM = 4, 9
"""Answers to a prompt, and the most tokens of one."""

WEIGHTS = (1.0, 0.25)
"""Of two terms of a reward."""


def attempts(policy: MiniMind) -> Attempts:
    """At two prompts, of one to nine tokens. Ratios lie on both sides of all bounds, and no loss is the small rest of
    large sums.
    """
    draw = np.random.default_rng(7)
    groups, lengths = [], [3, 9, 1, 5, 9, 2, 6, 4]
    for prompt in range(2):
        begin = draw.integers(4, 200, 5 + 3 * prompt)
        own = [draw.integers(4, 200, length) for length in lengths[prompt * GROUP : (prompt + 1) * GROUP]]
        groups.append(
            [Answer(np.concatenate([begin, one]), np.arange(len(begin) + len(one)) >= len(begin)) for one in own]
        )
    with torch.no_grad():
        logprob_M = answer_logprobs(policy, answer_batch([groups], [0], WIDTH))
    noise = torch.Generator().manual_seed(1)
    values = {
        name: logprob_M + scale * torch.randn(len(logprob_M), generator=noise)
        for name, scale in (("old", 0.4), ("held", 0.3), ("drawn", 0.6))
    }
    return Attempts(groups, draw.normal(size=(2, 2 * GROUP)) * [[1.0], [3.0]], values)


TRIED: dict[str, tuple[dict[str, Any], PolicyLoss, tuple[str, ...]]] = {
    "dapo": ({"loss_type": "dapo"}, PolicyLoss(), ("old",)),
    "first step": ({"loss_type": "dapo"}, PolicyLoss(), ()),
    "grpo": ({"loss_type": "grpo"}, PolicyLoss(per="answer"), ("old",)),
    "dr_grpo": ({"loss_type": "dr_grpo", "scale_rewards": "none"}, PolicyLoss(per="constant"), ("old",)),
    "cispo": (
        {"loss_type": "cispo", "epsilon_high": 1.3}, PolicyLoss(surrogate="cispo", clip_high=1.3), ("old",),
    ),
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.1, "epsilon_high": 0.05},
        PolicyLoss(per="answer", ratio="sequence", clip_low=0.1, clip_high=0.05),
        ("old",),
    ),
    "dual clip": ({"loss_type": "dapo", "delta": 1.5}, PolicyLoss(dual_clip=1.5), ("old",)),
    "kl": (
        {"loss_type": "grpo", "beta": 0.2, "use_bias_correction_kl": False},
        PolicyLoss(per="answer", kl=0.2),
        ("old", "held"),
    ),
    "gap": ({"loss_type": "dapo"}, PolicyLoss(), ("drawn",)),
    "batch": ({"loss_type": "dapo", "scale_rewards": "batch"}, PolicyLoss(), ("old",)),
    "separate": ({"loss_type": "dapo", "multi_objective_aggregation": "normalize_then_sum"}, PolicyLoss(), ("old",)),
}  # fmt: skip
"""Losses of GRPO as TRL is told of them, as ours is, and which numbers of the tokens they use."""


def advantages_of(tried: Attempts, settings: dict[str, Any]) -> NDArray[np.float64]:
    group_A = np.arange(2 * GROUP) // GROUP
    if "multi_objective_aggregation" in settings:
        return separate_advantages(tried.rewards_KA, np.array(WEIGHTS), group_A)
    return group_advantages(np.array(WEIGHTS) @ tried.rewards_KA, group_A, settings.get("scale_rewards", "group"))


def test_what_was_tried_is_learnt_as_trl_does(python: Path, there: Checkpoints, tmp_path: Path) -> None:
    tried = attempts(checkpoints.load_model(there.policy)[0])
    usual = {"num_generations": GROUP, "max_completion_length": ROOM, "epsilon": 0.2, "epsilon_high": 0.28}
    files = {name: tmp_path / f"{number}.safetensors" for number, name in enumerate(TRIED)}
    asked = {
        name: {
            "trainer": "grpo",
            "settings": {**usual, **settings, "used": used},
            "policy": str(there.policy),
            "reference": None,
            "rows": str(tried.written(tmp_path / "tried.json")),
            "gradients": str(files[name]),
        }
        for name, (settings, _, used) in TRIED.items()
    }
    said = said_by(python, "ask_trl.py", tmp_path, json.dumps(asked))
    answers = answer_batch([tried.groups], [0], WIDTH)
    for name, (settings, how, used) in TRIED.items():
        advantage_A = advantages_of(tried, settings)
        assert said[name]["advantages"] == pytest.approx(advantage_A.tolist(), rel=TOLERANCE, abs=TOLERANCE), name
        policy = checkpoints.load_model(there.policy)[0]
        logprob_M = answer_logprobs(policy, answers)
        old_M = tried.values["old"] if "old" in used else None
        as_drawn_M = old_M if old_M is not None else logprob_M.detach()
        batch = PolicyBatch(
            **vars(answers),
            advantage_M=torch.tensor(advantage_A, dtype=torch.float32)[answers.answer_M],
            drawn_M=tried.values["drawn"] if "drawn" in used else as_drawn_M,
            old_M=old_M,
            room=ROOM,
        )
        found = policy_loss(how, batch, logprob_M, tried.values["held"] if how.kl else None)
        require_same(name, policy, found.total / found.weight, said[name]["loss"], files[name])


def require_same(name: str, policy: MiniMind, loss: Tensor, expected: float, file: Path) -> None:
    """Of the loss its value and its gradients, which are in the file."""
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(expected, rel=TOLERANCE), name
    theirs = load_file(file)
    for weight, own in policy.named_parameters():
        gradient = theirs.pop(weight)
        assert own.grad is not None
        difference = torch.linalg.vector_norm(own.grad - gradient)
        assert difference <= TOLERANCE * torch.linalg.vector_norm(gradient), (name, weight)
    assert not theirs


def up_to_last_target(answer: Answer) -> list[list[Any]]:
    """Its token ids and which of them are learnt."""
    end = int(answer.targets.nonzero()[0].max()) + 1
    return [answer.tokens[:end].tolist(), answer.targets[:end].tolist()]


def template_without_last_line_end(folder: Path) -> str:
    """The checkpoint's, but that a conversation ends where its last answer does."""
    template: str = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["chat_template"]
    before, middle, after = template.partition(f"{{{{- '<|im_end|>' -}}}}\n    {LINE_END}")
    assert middle
    return before + middle.replace(LINE_END, "{{- '' if loop.last else '\\n' -}}") + after
