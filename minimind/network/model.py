"""The dense language model: Qwen3's layout, under Qwen3's parameter names, in plain PyTorch.

Token embedding, then blocks of (RMSNorm, grouped-query attention with a norm on every query and key head, RMSNorm,
SwiGLU), then a final RMSNorm; no biases, no dropout. `forward` ends at the final norm: objectives compute logits in
chunks from `head_weight_VD`, so that the [B, T, V] tensor need never exist.

Nothing in the forward pass branches on the value of a tensor, so it compiles without a graph break and runs on fake
tensors (which is how memory is planned).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from minimind.config import Config
from minimind.language import say
from minimind.network.attention import (
    Attend,
    branch_attention,
    branch_positions,
    causal_attention,
    document_attention,
    segment_positions,
)
from minimind.network.elementwise import rms_norm, rotate, silu_product

MOST_GRAPHS = 64
"""Of a compiled block. A run that goes down the whole ladder needs about a dozen; PyTorch ends it after eight."""


class YarnConfig(Config):
    """YaRN (Peng et al. 2023, arXiv 2309.00071): rotary frequencies stretched to a longer context than was trained.

    The meaning and the defaults are those of Hugging Face's rope type "yarn".

    factor: how many times longer the context becomes.
    original_max_position_embeddings: the context, in tokens, the weights were trained with.
    beta_fast, beta_slow: dimensions that turn more than beta_fast times over the original context keep their frequency,
        those that turn fewer than beta_slow times are slowed down by `factor`, with a ramp between.
    attention_factor: what cos and sin are multiplied by; None computes 0.1 ln(factor) + 1 as the paper does.
    """

    factor: float = Field(ge=1)
    original_max_position_embeddings: int = Field(gt=0)
    beta_fast: float = Field(default=32.0, gt=0)
    beta_slow: float = Field(default=1.0, gt=0)
    attention_factor: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> YarnConfig:
        if self.beta_fast <= self.beta_slow:
            raise ValueError(
                say(
                    "beta_fast = {beta_fast} must be greater than beta_slow = {beta_slow}",
                    beta_fast=self.beta_fast,
                    beta_slow=self.beta_slow,
                )
            )
        return self


class ModelConfig(Config):
    """The shape of a model, in Hugging Face's names.

    head_dim and intermediate_size may be left out (or None) and are then hidden_size / num_attention_heads and
    ceil(pi * hidden_size / 64) * 64, as in MiniMind. A value that equals the one it would be derived to is written out
    as null again: whoever changes `hidden_size` by a dotted path gets the width that belongs to it, not the old one.
    """

    vocab_size: int = Field(default=6400, gt=0)
    hidden_size: int = Field(gt=0, description="width: numbers per token between two blocks")
    num_hidden_layers: int = Field(gt=0, description="blocks, one after the other")
    num_attention_heads: int = Field(default=8, gt=0)
    num_key_value_heads: int = Field(default=4, gt=0)
    head_dim: int = Field(default=0, ge=0)
    intermediate_size: int = Field(default=0, ge=0)
    max_position_embeddings: int = Field(default=32768, gt=0)
    rope_theta: float = Field(default=1e6, gt=1)
    rms_norm_eps: float = Field(default=1e-6, gt=0)
    tie_word_embeddings: bool = True
    rope_scaling: YarnConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _none_is_derived(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {
            name: value
            for name, value in values.items()
            if not (value is None and name in ("head_dim", "intermediate_size"))
        }

    @model_validator(mode="after")
    def _resolve_and_check(self) -> ModelConfig:
        hidden, heads, kv_heads = self.hidden_size, self.num_attention_heads, self.num_key_value_heads
        if heads % kv_heads:
            raise ValueError(
                say(
                    "num_attention_heads = {heads} must be a multiple of num_key_value_heads = {kv_heads}: every "
                    "key/value head serves the same number of query heads",
                    heads=heads,
                    kv_heads=kv_heads,
                )
            )
        if not self.head_dim:
            if hidden % heads:
                raise ValueError(
                    say(
                        "hidden_size = {hidden} must be a multiple of num_attention_heads = {heads}, or head_dim be "
                        "given",
                        hidden=hidden,
                        heads=heads,
                    )
                )
            object.__setattr__(self, "head_dim", hidden // heads)
        if self.head_dim % 2:
            raise ValueError(
                say(
                    "head_dim = {head_dim} must be even: rotary embedding turns pairs of dimensions",
                    head_dim=self.head_dim,
                )
            )
        if not self.intermediate_size:
            object.__setattr__(self, "intermediate_size", derived_intermediate_size(hidden))
        return self

    @model_serializer(mode="wrap")
    def _derived_is_none(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = cast(dict[str, Any], serialise(self))
        if self.head_dim * self.num_attention_heads == self.hidden_size:
            values["head_dim"] = None
        if self.intermediate_size == derived_intermediate_size(self.hidden_size):
            values["intermediate_size"] = None
        return values


def derived_intermediate_size(hidden_size: int) -> int:
    """MiniMind's width of the feed-forward layer: pi times the hidden size, rounded up to a multiple of 64."""
    return math.ceil(math.pi * hidden_size / 64) * 64


MODEL_PRESETS: dict[str, ModelConfig] = {
    "tiny": ModelConfig(hidden_size=160, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2),
    "30m": ModelConfig(hidden_size=512, num_hidden_layers=8),
    "64m": ModelConfig(hidden_size=768, num_hidden_layers=8),
    "123m": ModelConfig(hidden_size=768, num_hidden_layers=16),
}


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map without bias whose weights nobody has drawn yet: `initialize` draws those of a whole model."""
    linear = nn.Linear(inputs, outputs, bias=False, device="meta")
    linear.weight = nn.Parameter(torch.empty(outputs, inputs))
    return linear


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension, computed in fp32 and given in the type of its input."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """The normed x, in its shape."""
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query self-attention with a norm on every query and key head, and rotary positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        query_width = config.num_attention_heads * config.head_dim
        kv_width = config.num_key_value_heads * config.head_dim
        self.head_dim = config.head_dim
        self.q_proj = _linear(config.hidden_size, query_width)
        self.k_proj = _linear(config.hidden_size, kv_width)
        self.v_proj = _linear(config.hidden_size, kv_width)
        self.o_proj = _linear(query_width, config.hidden_size)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(self, x_BTD: Tensor, cos_BT1E: Tensor, sin_BT1E: Tensor, attend: Attend) -> Tensor:
        """Attention's contribution [B, T, D] to the residual stream."""
        q_BTHE, k_BTKE, v_BTKE = self.heads(x_BTD, cos_BT1E, sin_BT1E)
        out_BTHE = attend(q_BTHE, k_BTKE, v_BTKE)
        return cast(Tensor, self.o_proj(out_BTHE.flatten(2)))

    def heads(self, x_BTD: Tensor, cos_BT1E: Tensor, sin_BT1E: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, T, H, E], keys and values [B, T, K, E]; the first two normed and turned to their positions."""
        heads = (*x_BTD.shape[:-1], -1, self.head_dim)
        q_BTHE = rotate(self.q_norm(self.q_proj(x_BTD).view(heads)), cos_BT1E, sin_BT1E)
        k_BTKE = rotate(self.k_norm(self.k_proj(x_BTD).view(heads)), cos_BT1E, sin_BT1E)
        return q_BTHE, k_BTKE, self.v_proj(x_BTD).view(heads)


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = _linear(config.hidden_size, config.intermediate_size)
        self.up_proj = _linear(config.hidden_size, config.intermediate_size)
        self.down_proj = _linear(config.intermediate_size, config.hidden_size)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """The feed-forward contribution [B, T, D] to the residual stream."""
        return cast(Tensor, self.down_proj(silu_product(self.gate_proj(x_BTD), self.up_proj(x_BTD))))


MakeMlp = Callable[[ModelConfig], nn.Module]
"""Makes what a block has after attention: a module that maps the normed stream [B, T, D] to what is added to it."""


class Block(nn.Module):
    """One layer: attention, then feed-forward, each normed on the way in and added to the fp32 residual stream."""

    def __init__(self, config: ModelConfig, mlp: MakeMlp = FeedForward) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = mlp(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x_BTD: Tensor, cos_BT1E: Tensor, sin_BT1E: Tensor, attend: Attend) -> Tensor:
        """The residual stream [B, T, D] after this layer."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), cos_BT1E, sin_BT1E, attend)
        return x_BTD + cast(Tensor, self.mlp(self.post_attention_layernorm(x_BTD)))


class Trunk(nn.Module):
    """What Hugging Face calls `model`: the embedding, the blocks and the final norm."""

    def __init__(self, config: ModelConfig, mlp: MakeMlp) -> None:
        super().__init__()
        # To draw numbers on the meta device, torch would load its compiler: 6 s.
        empty = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, _weight=empty)
        self.layers = nn.ModuleList(Block(config, mlp) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


@dataclass(frozen=True)
class Places:
    """Where the tokens of a forward pass stand: the `rotary_tables` of their positions, and what they attend to.

    attends: layer by layer.
    """

    cos_BT1E: Tensor
    sin_BT1E: Tensor
    attends: Iterable[Attend]


class MiniMind(nn.Module):
    """A causal language model whose state dict is that of transformers' Qwen3ForCausalLM.

    architecture: what transformers calls the class.
    mlp: makes the feed-forward layer of a block; decode.c computes only with the one that is taken by default.
    generator: draws the weights, see `initialize`. On the meta device there are shapes and no numbers.

    activation_checkpointing: keep only each block's input and compute the block again in the backward pass: far less
        memory for about a third more compute.
    random_blocks: blocks draw random numbers (an adapter's dropout), so computing one again must draw the same.
    """

    architecture: ClassVar[str] = "Qwen3ForCausalLM"

    def __init__(
        self, config: ModelConfig, mlp: MakeMlp = FeedForward, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.make_mlp = mlp
        self.activation_checkpointing = False
        self.random_blocks = False
        self.model = Trunk(config, mlp)
        if not config.tie_word_embeddings:
            self.lm_head = _linear(config.hidden_size, config.vocab_size)
        self.initialize(generator)

    def forward(
        self,
        tokens_BT: Tensor,
        segment_BT: Tensor | None = None,
        cached: Places | None = None,
        branch_BT: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D] after the final norm, for int64 token ids [B, T].

        segment_BT: int document numbers of packed rows. Attention stays inside a run of equal numbers, and positions
        start at 0 in each. None: every row is one document. cached: where tokens stand that continue what a cache
        holds; segment_BT is then not looked at. branch_BT: which way of continuing its document a token is of, 0 on
        what comes before they part: see `attention.branch_attention`.
        """
        (hidden_BTD,) = self.hidden_states(tokens_BT, (self.config.num_hidden_layers,), segment_BT, cached, branch_BT)
        return hidden_BTD

    def hidden_states(
        self,
        tokens_BT: Tensor,
        of: Sequence[int],
        segment_BT: Tensor | None = None,
        cached: Places | None = None,
        branch_BT: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Hidden states [B, T, D] at chosen depths, in the order of `of`; the rest as in `forward`.

        of: numbers as transformers counts `output_hidden_states`: 0 is the embedding, i the residual stream after
        block i, and the number of layers what `forward` gives, after the final norm. Raises ValueError for others.
        """
        depth = self.config.num_hidden_layers
        if wrong := [number for number in of if not 0 <= number <= depth]:
            raise ValueError(
                say(
                    "hidden states of {wrong}: this model has 0 (the embedding) to {depth} (its last)",
                    wrong=wrong,
                    depth=depth,
                )
            )
        places = cached or self._places(tokens_BT, segment_BT, branch_BT)
        kept: dict[int, Tensor] = {}
        x_BTD = self.model.embed_tokens(tokens_BT)
        for number, (block, attend) in enumerate(zip(self.model.layers, places.attends, strict=True)):
            if number in of:
                kept[number] = x_BTD
            # A step of a cache has other slots and lengths than the last: compiled, each would be a graph of its own.
            run = block if cached is None else block.forward
            if self.activation_checkpointing and torch.is_grad_enabled():
                run = partial(checkpoint, run, use_reentrant=False, preserve_rng_state=self.random_blocks)
            x_BTD = run(x_BTD, places.cos_BT1E, places.sin_BT1E, attend)
        kept[depth] = self.model.norm(x_BTD)
        return tuple(kept[number] for number in of)

    def _places(self, tokens_BT: Tensor, segment_BT: Tensor | None, branch_BT: Tensor | None) -> Places:
        """Where the tokens of whole rows stand."""
        dtype = self._attention_dtype(tokens_BT.device.type)
        if segment_BT is None:
            position_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)[None]
            attend: Attend = causal_attention
        elif branch_BT is None:
            position_BT = segment_positions(segment_BT)
            attend = document_attention(position_BT, dtype)
        else:
            position_BT = branch_positions(segment_BT, branch_BT)
            attend = branch_attention(segment_BT, branch_BT, dtype)
        cos_BT1E, sin_BT1E = rotary_tables(self.config, position_BT)
        return Places(cos_BT1E, sin_BT1E, [attend] * self.config.num_hidden_layers)

    def _attention_dtype(self, device_type: str) -> torch.dtype:
        if torch.is_autocast_enabled(device_type):
            return torch.get_autocast_dtype(device_type)
        return self.model.embed_tokens.weight.dtype

    @property
    def head_weight_VD(self) -> Tensor:  # noqa: N802
        """The output projection: the embedding itself where they are tied."""
        return self.model.embed_tokens.weight if self.config.tie_word_embeddings else self.lm_head.weight

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Next-token logits [..., V] of hidden states [..., D]."""
        return F.linear(hidden_BTD, self.head_weight_VD)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draws new weights, the same for the same generator state (None: PyTorch's global generator).

        Inner projections are normal with variance 1 / fan-in, so a normed input gives outputs of unit size at any
        width. Output projections (o_proj, down_proj) are zero: every block starts as the identity, and gradients reach
        all depths undisturbed from the first step. Norm weights are one. Embeddings have a deviation of
        8 / hidden_size: where they are the head as well, a new model expects every token to be repeated with a logit of
        hidden_size times that deviation, and at 512 wide 25 instead of 10 cost 0.14 nats after 90 steps. Against normal
        weights of deviation 0.02 everywhere, upstream's way, this was worth 0.37 nats after 210 steps of 1024 tokens
        (160 wide, 4 layers, AdamW at 2e-3, Chinese and English text).
        """
        if self.head_weight_VD.is_meta:
            return  # shapes without numbers: there is nothing to draw
        for name, parameter in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            elif name.endswith("embed_tokens.weight"):
                parameter.normal_(0.0, 8.0 / parameter.shape[1], generator=generator)
            else:
                parameter.normal_(0.0, parameter.shape[-1] ** -0.5, generator=generator)

    def compile_blocks(self, backend: str = "inductor") -> None:
        """Compiles every block in place with torch.compile; the state dict keeps its names.

        All blocks share their compiled graphs, so the wait at the first step does not grow with their number. A run has
        several: with and without gradients, for one row and for many, for the first length and for those that rows are
        cut to where memory runs out.
        """
        for block in self.model.layers:
            block.compile(backend=backend, fullgraph=True, recompile_limit=MOST_GRAPHS)

    def parameter_count(self) -> int:
        """How many numbers the model holds; a tied head counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def flops_per_token(self) -> int:
        """Floating-point operations of a training step per token: 6 per weight that enters a matrix product.

        Two for the forward pass and four for the backward; the head counts, the look-up in the embedding, norms,
        attention scores and recomputation do not (the usual "6N").
        """
        layers = sum(p.numel() for p in self.model.layers.parameters() if p.dim() == 2)
        return 6 * (layers + self.head_weight_VD.numel())


def rotary_tables(config: ModelConfig, position_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, T, 1, E] in fp32 of the rotary embedding (Su et al. 2021) at the given positions.

    Computed for the positions at hand: for a batch it costs less than a thousandth of the forward pass, where tables
    for every position up to max_position_embeddings would be kept for ever.
    """
    frequency_F, scale = rotary_frequencies(config, position_BT.device)
    angle_BT1F = position_BT[:, :, None, None].float() * frequency_F
    angle_BT1E = torch.cat((angle_BT1F, angle_BT1F), dim=-1)
    return angle_BT1E.cos() * scale, angle_BT1E.sin() * scale


def rotary_frequencies(config: ModelConfig, device: torch.device) -> tuple[Tensor, float]:
    """Angles per position [E/2] in fp32, and what cos and sin are multiplied by (1 without YaRN)."""
    width, theta, yarn = config.head_dim, config.rope_theta, config.rope_scaling
    period_F = theta ** (torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    if yarn is None:
        return 1.0 / period_F, 1.0

    def dimension_with(turns: float) -> float:
        """The (fractional) dimension that turns `turns` times over the original context."""
        return width * math.log(yarn.original_max_position_embeddings / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(dimension_with(yarn.beta_fast)), 0)
    high = min(math.ceil(dimension_with(yarn.beta_slow)), width - 1)
    span = high - low if high != low else 0.001
    ramp_F = ((torch.arange(width // 2, device=device, dtype=torch.float32) - low) / span).clamp(0, 1)
    frequency_F = ramp_F / (yarn.factor * period_F) + (1 - ramp_F) / period_F
    if yarn.attention_factor is not None:
        return frequency_F, yarn.attention_factor
    return frequency_F, 0.1 * math.log(yarn.factor) + 1.0
