"""Knowledge distillation (Hinton et al. 2015, arXiv:1503.02531): a student learns the distributions of a teacher.

The loss of a batch is a sum over its predicted tokens,

    alpha * cross-entropy + (1 - alpha) * temperature^2 * D(teacher, student),

of which D compares the two distributions of the next token, each softmax(logits / temperature). The factor of
temperature^2 keeps the gradient of D about as large as it is at temperature 1. With p the teacher's distribution, q the
student's and m = beta p + (1 - beta) q, D is that of GKD (Agarwal et al. 2023, arXiv:2306.13649):

    beta = 0        KL(p || q)      the student covers all that the teacher might say
    beta = 1        KL(q || p)      the student keeps to what the teacher would say
    in between      beta KL(p || m) + (1 - beta) KL(q || m)      generalised Jensen-Shannon

The last divided by beta tends to the first as beta goes to 0, divided by 1 - beta to the second as beta goes to 1; by
itself it is smaller, and never more than the entropy of a coin that shows heads with probability beta.

The tokens may be those of a text, or (on-policy) such as the student wrote itself: a `TokenBatch` says nothing of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from minimind.config import Config
from minimind.language import say
from minimind.network.model import MiniMind
from minimind.training.answers import AnswerBatch
from minimind.training.batch import TokenBatch
from minimind.training.objectives import CHUNK_TOKENS, Loss, Models, add_product

TEACHER = "teacher"
"""The role of the model that is learnt from."""

CHUNK = CHUNK_TOKENS // 2
"""Rows of which logits are held at once. They are those of two models; more rows took no less time."""

LARGEST_GAP = 80.0
"""Of log p - log q in a mixture of both, in nats: beyond it neither side of the sum would change in fp32."""


class Distillation(Config):
    """How a student learns from its teacher."""

    alpha: float = Field(
        default=0.5, ge=0, le=1, description="weight of the text's own tokens; the teacher's is 1 - alpha"
    )
    temperature: float = Field(
        default=1.0, gt=0, description="what the logits of both are divided by before they are compared"
    )
    beta: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="how teacher and student are compared: 0 KL(teacher || student), 1 KL(student || teacher), in "
        "between generalised Jensen-Shannon",
    )
    top_k: int | None = Field(
        default=None, ge=1, description="how many of the teacher's likeliest tokens are kept for each place; null: all"
    )
    layers: tuple[tuple[int, int], ...] = Field(
        default=(),
        description="pairs [student's, teacher's] of hidden states that are matched too: 0 is the embedding, i the "
        "state after block i",
    )
    layer_weight: float = Field(default=1.0, gt=0, description="weight of the matched hidden states in the loss")

    @field_validator("layers")
    @classmethod
    def _pairs(cls, layers: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        wrong = [pair for pair in layers if min(pair) < 0 or layers.count(pair) > 1]
        if wrong:
            raise ValueError(
                say(
                    "{pair}: a pair is two numbers from 0 on, the student's and the teacher's, and named once",
                    pair=list(wrong[0]),
                )
            )
        return layers


class Projections(nn.Module):
    """A linear map from the student's width to the teacher's for each pair of layers; they train with the student.

    What is minimised is 1 - cosine of the mapped state and the teacher's, which is half the squared distance of the two
    when each is divided by its length. The learnt map is TinyBERT's (Jiao et al. 2019, arXiv:1909.10351); lengths are
    left out as in Patient KD (Sun et al. 2019, arXiv:1908.09355), for the residual stream of a network that norms its
    blocks' inputs grows with depth, and a plain squared error would be that of the largest numbers. MiniLM's relations
    (Wang et al. 2020, arXiv:2002.10957) need no map but all scores of attention, T x T for every head.

    A step has its own projections in the role "projections". generator: a CPU one that draws the maps.
    """

    def __init__(
        self, pairs: int, student_width: int, teacher_width: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        drawn = torch.empty(pairs, teacher_width, student_width).normal_(0.0, student_width**-0.5, generator=generator)
        self.weight = nn.Parameter(drawn)

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
        """[N], 1 - cosine as a mean over the pairs. students, teachers: [N, D] of each pair, at the same places."""
        wide = _wide(self.weight)
        cosines = [
            F.cosine_similarity(F.linear(student_ND, map_DD).to(wide), teacher_ND.to(wide), dim=-1)
            for map_DD, student_ND, teacher_ND in zip(self.weight, students, teachers, strict=True)
        ]
        return 1 - torch.stack(cosines).mean(0)


@dataclass(frozen=True)
class WholeTeacher:
    """A teacher whose every logit is at hand. hidden_ND: its states that predict (`predicting`). head_VD: its head."""

    hidden_ND: Tensor
    head_VD: Tensor

    def compare(self, rows: slice, student: _Softmax, beta: float) -> _Comparison:
        """The teacher beside the student in these rows."""
        logits_CV = F.linear(self.hidden_ND[rows], self.head_VD).to(student.logits_CV.dtype)
        likeliest_C1 = logits_CV.argmax(1, keepdim=True)
        teacher = _Softmax.of(logits_CV, student.temperature)
        gap_CV = teacher.logits_CV.sub_(student.logits_CV).sub_(teacher.log_sum_C1 - student.log_sum_C1)
        divergence_C1, descent_CV = _divergence(teacher.prob_CV, student.prob_CV, gap_CV, beta)
        return _Comparison(divergence_C1, descent_CV, likeliest_C1)


@dataclass(frozen=True)
class TopK:
    """The teacher's k likeliest tokens of each place, as `top_k_logprobs` gives them; all others are one class, "rest".

    ids_NK: int64, the likeliest first. logprobs_NK: in nats, of the teacher's distribution at the temperature of the
    loss: from those at another one the mass of the rest could not be told.

    What that leaves out. Let P and Q be the distributions of teacher and student over these k + 1 classes, p_r and q_r
    the masses of rest, p' and q' the distributions inside it, and m_r = beta p_r + (1 - beta) q_r. By the chain rule

        KL(p || q) = KL(P || Q) + p_r KL(p' || q'),

    and so for the other two. What is computed is thus never more than the divergence of all tokens (the data-processing
    inequality), and what it lacks is

        beta = 0        p_r KL(p' || q') <= p_r times the largest log(q_r / q_i) in rest
        beta = 1        q_r KL(q' || p') <= q_r times the largest log(p_r / p_i) in rest
        in between      at most m_r h(beta p_r / m_r) <= m_r log 2, with h(x) = -x log x - (1 - x) log(1 - x).

    The first two hold since KL(p' || q') <= sum of p'_i log(1 / q'_i); for them no bound in the masses alone exists.
    The last holds since m' = (beta p_r p' + (1 - beta) q_r q') / m_r is in no place less than beta p_r / m_r times p',
    so that KL(p' || m') <= log(m_r / (beta p_r)), and likewise KL(q' || m') <= log(m_r / ((1 - beta) q_r)). The
    gradient of beta = 0 with respect to the student's logits lacks p_r (q' - p') / temperature: its sizes add up to
    2 p_r / temperature at most.
    """

    ids_NK: Tensor
    logprobs_NK: Tensor

    def compare(self, rows: slice, student: _Softmax, beta: float) -> _Comparison:
        """The teacher beside the student in these rows, all tokens but the k as one."""
        ids_CK, logprob_CK = self.ids_NK[rows], self.logprobs_NK[rows]
        rest_floor = torch.finfo(logprob_CK.dtype).eps  # one minus a sum tells of nothing smaller
        logprob_CK = logprob_CK.to(student.prob_CV.dtype)
        top_CK = logprob_CK.exp()
        rest_C1 = (1 - top_CK.sum(1, keepdim=True)).clamp_(min=rest_floor)
        others_CV = student.prob_CV.scatter(1, ids_CK, 0.0)
        own_rest_C1 = others_CV.sum(1, keepdim=True).clamp_(min=torch.finfo(others_CV.dtype).tiny)
        own_logprob_CK = student.logits_CV.gather(1, ids_CK) - student.log_sum_C1
        divergence_C1, descent_CK = _divergence(  # K + 1 classes
            torch.cat((top_CK, rest_C1), 1),
            torch.cat((own_logprob_CK.exp(), own_rest_C1), 1),
            torch.cat((logprob_CK - own_logprob_CK, rest_C1.log() - own_rest_C1.log()), 1),
            beta,
        )
        descent_CV = others_CV.mul_(descent_CK[:, -1:] / own_rest_C1).scatter_(1, ids_CK, descent_CK[:, :-1])
        return _Comparison(divergence_C1, descent_CV, ids_CK[:, :1])


@dataclass(frozen=True, kw_only=True)
class TaughtBatch(TokenBatch):
    """Packed rows with the teacher's likeliest tokens of each place that is predicted. ids_NK: int32; logprobs_NK: see
    `TopK`. Rows are not cut: the teacher has read them whole.
    """

    ids_NK: Tensor
    logprobs_NK: Tensor

    @classmethod
    def of(cls, batch: TokenBatch, ids_NK: Tensor, logprobs_NK: Tensor) -> TaughtBatch:
        """The batch, with what the teacher says of it."""
        return cls(**vars(batch), ids_NK=ids_NK, logprobs_NK=logprobs_NK)

    @property
    def width(self) -> int:
        """0: rows are not cut."""
        return 0

    def split(self, rows: int) -> list[Self]:
        """The same rows in order, as batches of at most n each."""
        plain = TokenBatch(self.tokens_BT, self.loss_mask_BT, self.segment_BT, self.rows, self.predicted_N)
        parts = plain.split(rows)
        counts = [len(part.predicted_N) for part in parts]
        taught = zip(parts, torch.split(self.ids_NK, counts), torch.split(self.logprobs_NK, counts), strict=True)
        return [type(self)(**vars(part), ids_NK=ids, logprobs_NK=logprobs) for part, ids, logprobs in taught]


def distil(models: Models, batch: TokenBatch | AnswerBatch, distillation: Distillation) -> Loss:
    """The objective of a policy with a teacher, in memory or in the batch.

    Roles: policy; teacher, frozen; projections, where layers are matched.
    Raises ValueError where the two have not the same vocabulary, or one has no such layer.
    """
    policy = cast(MiniMind, models["policy"])
    target_N = batch.tokens_BT.flatten()[batch.predicted_N]
    if isinstance(batch, TaughtBatch):
        (student_ND,) = states_that_predict(policy, batch, ())
        known = TopK(batch.ids_NK.long(), batch.logprobs_NK)
        return distillation_loss(student_ND, policy.head_weight_VD, target_N, known, distillation)
    teacher = cast(MiniMind, models[TEACHER])
    student_layers = [pair[0] for pair in distillation.layers]
    teacher_layers = [pair[1] for pair in distillation.layers]
    with torch.no_grad():
        *teacher_states, teacher_ND = states_that_predict(teacher, batch, teacher_layers)
    *student_states, student_ND = states_that_predict(policy, batch, student_layers)
    loss = distillation_loss(
        student_ND,
        policy.head_weight_VD,
        target_N,
        WholeTeacher(teacher_ND, teacher.head_weight_VD),
        distillation,
    )
    if not distillation.layers:
        return loss
    distance: Tensor = models["projections"](student_states, teacher_states).sum()
    return Loss(
        loss.total + distillation.layer_weight * distance,
        loss.weight,
        {**loss.metrics, "layer_distance": (distance.detach(), loss.weight)},
    )


def states_that_predict(model: MiniMind, batch: TokenBatch | AnswerBatch, layers: Sequence[int]) -> list[Tensor]:
    """[N, D] of the places that predict: of each of these layers, and after them of the last."""
    of = (*layers, model.config.num_hidden_layers)
    states = model.hidden_states(batch.tokens_BT, of, batch.segment_BT, branch_BT=batch.branch_BT)
    return [x_BTD.flatten(0, 1)[batch.context_N] for x_BTD in states]


def distillation_loss(
    hidden_ND: Tensor,
    head_VD: Tensor,
    target_N: Tensor,
    teacher: WholeTeacher | TopK,
    distillation: Distillation,
) -> Loss:
    """The summed loss of the predicted tokens, without ever holding the logits of the whole batch.

    hidden_ND: the student's states that predict (`predicting`). head_VD: its output matrix. target_N: int64, the tokens
    of the text. Gradients go to hidden_ND and head_VD where they ask for one, none to the teacher.

    Metrics, all of them means over predicted tokens: cross_entropy and divergence (D, without its factor) in nats;
    agreement, how often the student's likeliest token is the teacher's.
    Raises ValueError where the teacher's shapes are not those of the student.
    """
    _require_same(hidden_ND, head_VD, teacher, distillation)
    if not torch.is_grad_enabled():  # a Function is told of parameters that ask for a gradient even where none is kept
        hidden_ND, head_VD = hidden_ND.detach(), head_VD.detach()
    results = _Distillation.apply(hidden_ND, head_VD, target_N, teacher, distillation)  # type: ignore[no-untyped-call]
    total, sums_3 = cast(tuple[Tensor, Tensor], results)
    weight = torch.full_like(total, len(target_N))
    names = ("cross_entropy", "divergence", "agreement")
    return Loss(total, weight, {name: (value, weight) for name, value in zip(names, sums_3, strict=True)})


@torch.no_grad()
def top_k_logprobs(hidden_ND: Tensor, head_VD: Tensor, k: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens of each place, the likeliest first: ids [N, k] int64, and logprobs [N, k] in nats.

    Of the distribution softmax(logits / temperature): `TopK` wants that of the loss. hidden_ND: states that predict
    (`predicting`). Logits are made a chunk of rows at a time. Raises ValueError for k < 1 and k >= the vocabulary: with
    all tokens there is no rest.
    """
    if not 1 <= k < len(head_VD):
        raise ValueError(
            say(
                "top_k = {k}: between 1 and {most}, for the teacher has {count} tokens and at least one is left over",
                k=k,
                most=len(head_VD) - 1,
                count=len(head_VD),
            )
        )
    ids_NK = torch.empty(len(hidden_ND), k, dtype=torch.int64, device=hidden_ND.device)
    logprobs_NK = hidden_ND.new_empty(len(hidden_ND), k, dtype=_wide(hidden_ND))
    for start in range(0, len(hidden_ND), CHUNK):
        rows = slice(start, start + CHUNK)
        logits_CV = F.linear(hidden_ND[rows], head_VD).to(logprobs_NK.dtype) / temperature
        top_CK, ids_NK[rows] = logits_CV.topk(k, dim=1)
        logprobs_NK[rows] = top_CK - logits_CV.logsumexp(1, keepdim=True)
    return ids_NK, logprobs_NK


@dataclass(frozen=True)
class _Softmax:
    """Logits of a chunk, divided by the temperature, their softmax, and the logarithm of what it divides by."""

    logits_CV: Tensor
    prob_CV: Tensor
    log_sum_C1: Tensor
    temperature: float

    @classmethod
    def of(cls, logits_CV: Tensor, temperature: float) -> _Softmax:
        """Logits as they are, which are written over where the temperature is not 1."""
        if temperature != 1:
            logits_CV.div_(temperature)
        prob_CV = logits_CV.softmax(1)
        # The kernel of softmax knows this sum and does not tell; its largest probability does.
        log_sum_C1 = logits_CV.amax(1, keepdim=True) - prob_CV.amax(1, keepdim=True).log_()
        return cls(logits_CV, prob_CV, log_sum_C1, temperature)


@dataclass(frozen=True)
class _Comparison:
    """divergence_C1: D of each row. descent_CV: minus its gradient with respect to the student's divided logits.
    likeliest_C1: the teacher's likeliest token.
    """

    divergence_C1: Tensor
    descent_CV: Tensor
    likeliest_C1: Tensor


class _Distillation(torch.autograd.Function):
    """The summed loss, and the sums [3] of cross-entropy, divergence and agreement, a chunk of rows at a time.

    The gradient is made in the forward pass, as that of `objectives.cross_entropy`, with which it shares the student's
    logits. Under autocast the matrix products run in its dtype and everything else in fp32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        target_N: Tensor,
        teacher: WholeTeacher | TopK,
        distillation: Distillation,
    ) -> tuple[Tensor, Tensor]:
        need_hidden, need_head = ctx.needs_input_grad[:2]
        alpha, temperature, beta = distillation.alpha, distillation.temperature, distillation.beta
        dtype = _wide(hidden_ND)
        grad_hidden_ND = torch.empty_like(hidden_ND) if need_hidden else None
        grad_head_VD = torch.zeros_like(head_VD, dtype=dtype) if need_head else None
        sums_3 = torch.zeros(3, dtype=dtype, device=hidden_ND.device)
        for start in range(0, len(hidden_ND), CHUNK):
            rows = slice(start, start + CHUNK)
            hidden_CD, target_C1 = hidden_ND[rows], target_N[rows, None]
            logits_CV = F.linear(hidden_CD, head_VD).to(dtype)
            target_logit_C1 = logits_CV.gather(1, target_C1)
            plain = _Softmax.of(logits_CV, 1.0)
            student = plain if temperature == 1 else _Softmax.of(logits_CV, temperature)
            found = teacher.compare(rows, student, beta)
            agrees_C1 = logits_CV.gather(1, found.likeliest_C1) >= logits_CV.amax(1, keepdim=True)
            sums_3 += torch.cat((plain.log_sum_C1 - target_logit_C1, found.divergence_C1, agrees_C1), 1).sum(0)
            if not (need_hidden or need_head):
                continue
            error_CV = found.descent_CV.mul_((alpha - 1) * temperature)  # temperature^2, and 1 / temperature inside D
            if alpha:
                error_CV.add_(plain.prob_CV, alpha=alpha)
                error_CV.scatter_add_(1, target_C1, torch.full_like(target_logit_C1, -alpha))
            if grad_hidden_ND is not None:
                grad_hidden_ND[rows] = error_CV @ head_VD
            if grad_head_VD is not None:
                add_product(grad_head_VD, error_CV.T, hidden_CD)
        ctx.save_for_backward(grad_hidden_ND, grad_head_VD)
        ctx.head_dtype = head_VD.dtype
        ctx.mark_non_differentiable(sums_3)
        return alpha * sums_3[0] + (1 - alpha) * temperature**2 * sums_3[1], sums_3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        factor = grads[0]
        grad_hidden_ND, grad_head_VD = ctx.saved_tensors
        if grad_hidden_ND is not None:
            grad_hidden_ND = grad_hidden_ND * factor.to(grad_hidden_ND.dtype)
        if grad_head_VD is not None:
            grad_head_VD = (grad_head_VD * factor).to(ctx.head_dtype)
        return grad_hidden_ND, grad_head_VD, None, None, None


def _divergence(teacher: Tensor, student: Tensor, gap: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """D of each row [C, 1], and minus its gradient [C, classes] with respect to the student's logits.

    teacher, student: probabilities p, q [C, classes]; gap: log p - log q. teacher and gap are written over. The classes
    are all tokens, or the teacher's k likeliest and one for the rest.
    """
    if beta == 0:
        return gap.mul_(teacher).sum(1, keepdim=True), teacher.sub_(student)
    if beta == 1:
        descent = gap.mul_(student)
        divergence = -descent.sum(1, keepdim=True)
        return divergence, descent.addcmul_(student, divergence)
    mixture = gap.clamp_(max=LARGEST_GAP).expm1().mul_(beta).log1p_()  # log m - log q
    of_teacher = gap.sub_(mixture).mul_(teacher).sum(1, keepdim=True)
    descent = mixture.mul_(student)
    of_student = -descent.sum(1, keepdim=True)
    divergence = beta * of_teacher + (1 - beta) * of_student
    return divergence, descent.addcmul_(student, of_student).mul_(1 - beta)


def _wide(x: Tensor) -> torch.dtype:
    """What sums over tokens are made in: fp32, or fp64 where the input is."""
    return torch.promote_types(x.dtype, torch.float32)


def _require_same(hidden_ND: Tensor, head_VD: Tensor, teacher: WholeTeacher | TopK, distillation: Distillation) -> None:
    """Raise ValueError where what the teacher gave is not of the student's tokens."""
    if isinstance(teacher, TopK):
        wanted, found = (len(hidden_ND), distillation.top_k), tuple(teacher.ids_NK.shape)
        if found != wanted or teacher.logprobs_NK.shape != teacher.ids_NK.shape:
            raise ValueError(
                say(
                    "the teacher's likeliest tokens are {found} ids and {logprobs} log-probabilities, [tokens, top_k]; "
                    "the student has {wanted}: they were kept for other rows or another top_k",
                    found=list(found),
                    logprobs=list(teacher.logprobs_NK.shape),
                    wanted=list(wanted),
                )
            )
        return
    if len(teacher.head_VD) != len(head_VD):
        raise ValueError(
            say(
                "the teacher has {theirs} tokens in its vocabulary, the student {own}: a student learns from a teacher "
                "that has its tokenizer",
                theirs=len(teacher.head_VD),
                own=len(head_VD),
            )
        )
