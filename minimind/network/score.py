"""A trunk that gives a number to every token in place of logits: what critics and reward models are."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from minimind.network.model import MiniMind, ModelConfig


class ScoreModel(MiniMind):
    """A model whose state dict is that of transformers' Qwen3ForSequenceClassification with one label.

    It has no output matrix of its own, whatever the config says of one. transformers reads the score of a sequence at
    its last token.
    """

    architecture: ClassVar[str] = "Qwen3ForSequenceClassification"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.model_copy(update={"tie_word_embeddings": True}))
        self.score = nn.Linear(config.hidden_size, 1, bias=False, device="meta")
        device = self.model.norm.weight.device
        self.score.weight = nn.Parameter(torch.zeros(1, config.hidden_size, device=device))

    @classmethod
    def of(cls, model: MiniMind) -> ScoreModel:
        """One with the trunk of a language model, whose scores are all 0 to begin with. The trunk is copied."""
        scored = cls(model.config)
        own = scored.state_dict()
        scored.load_state_dict({name: model.state_dict().get(name, own[name]) for name in own})
        return scored

    def flops_per_token(self) -> int:
        """As of a language model, without its head."""
        return super().flops_per_token() - 6 * self.head_weight_VD.numel()

    def scores(self, tokens_BT: Tensor, segment_BT: Tensor | None = None, branch_BT: Tensor | None = None) -> Tensor:
        """[B, T], the score after each token; arguments as `forward` takes them."""
        return cast(Tensor, self.score(self(tokens_BT, segment_BT, branch_BT=branch_BT)))[..., 0]


class ValueHead(nn.Module):
    """A number from each state of a trunk that belongs to another model; all are 0 to begin with."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, hidden_size))

    def forward(self, state_ND: Tensor) -> Tensor:
        """[N], of each state."""
        return nn.functional.linear(state_ND, self.weight)[:, 0]
