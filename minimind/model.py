"""The dense language model: Qwen3's layout, under Qwen3's parameter names, in plain PyTorch.

Token embedding, then blocks of (RMSNorm, grouped-query attention with a norm on every query and key head, RMSNorm,
SwiGLU), then a final RMSNorm; no biases, no dropout. `forward` ends at the final norm: objectives compute logits in
chunks from `head_weight_VD`, so that the [B, T, V] tensor need never exist.

Nothing in the forward pass branches on the value of a tensor, so it compiles without a graph break and runs on fake
tensors (which is how memory is planned).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, cast

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from minimind.config import Config
from minimind.functions import rms_norm, rotate, silu_product

QUERY_CHUNK = 128

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
            raise ValueError(f"beta_fast = {self.beta_fast} must be greater than beta_slow = {self.beta_slow}")
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
                f"num_attention_heads = {heads} must be a multiple of num_key_value_heads = {kv_heads}: "
                f"every key/value head serves the same number of query heads"
            )
        if not self.head_dim:
            if hidden % heads:
                raise ValueError(
                    f"hidden_size = {hidden} must be a multiple of num_attention_heads = {heads}, or head_dim be given"
                )
            object.__setattr__(self, "head_dim", hidden // heads)
        if self.head_dim % 2:
            raise ValueError(f"head_dim = {self.head_dim} must be even: rotary embedding turns pairs of dimensions")
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


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension, computed in fp32 and given in the type of its input."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """The normed x, in its shape."""
        return rms_norm(x, self.weight, self.eps)


CachedAttention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(q_BTHE, k_BTKE, v_BTKE) -> out_BTHE: attention that knows the keys and values of earlier tokens and keeps these."""


class Attention(nn.Module):
    """Grouped-query self-attention with a norm on every query and key head, and rotary positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        query_width = config.num_attention_heads * config.head_dim
        kv_width = config.num_key_value_heads * config.head_dim
        self.head_dim = config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, query_width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.o_proj = nn.Linear(query_width, config.hidden_size, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(
        self,
        x_BTD: Tensor,
        cos_BT1E: Tensor,
        sin_BT1E: Tensor,
        mask_B1TT: Tensor | None,
        cached: CachedAttention | None = None,
    ) -> Tensor:
        """Attention's contribution [B, T, D] to the residual stream.

        mask None is plain causal attention. With `cached` the keys are those of a cache, and the mask is its own.
        """
        q_BTHE, k_BTKE, v_BTKE = self.heads(x_BTD, cos_BT1E, sin_BT1E)
        if cached is None:
            out_BTHE = attend(q_BTHE, k_BTKE, v_BTKE, mask_B1TT)
        else:
            out_BTHE = cached(q_BTHE, k_BTKE, v_BTKE)
        return cast(Tensor, self.o_proj(out_BTHE.flatten(2)))

    def heads(self, x_BTD: Tensor, cos_BT1E: Tensor, sin_BT1E: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, T, H, E], keys and values [B, T, K, E]; the first two normed and turned to their positions."""
        heads = (*x_BTD.shape[:-1], -1, self.head_dim)
        q_BTHE = rotate(self.q_norm(self.q_proj(x_BTD).view(heads)), cos_BT1E, sin_BT1E)
        k_BTKE = rotate(self.k_norm(self.k_proj(x_BTD).view(heads)), cos_BT1E, sin_BT1E)
        return q_BTHE, k_BTKE, self.v_proj(x_BTD).view(heads)


def attend(q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, mask_B1TT: Tensor | None) -> Tensor:
    """Scaled dot-product attention [B, T, H, E]; mask None is plain causal attention.

    On a CPU the kernel computes masked scores as well, so queries are taken QUERY_CHUNK at a time, each chunk against
    the keys up to its own end: 20 % less time for attention at 340 tokens, 30 % at 768. Elsewhere a mask goes with the
    memory-efficient kernel, which wants as many key heads as query heads: with fewer, PyTorch would hold all scores.
    """
    q_BHTE, k_BKTE, v_BKTE = q_BTHE.transpose(1, 2), k_BTKE.transpose(1, 2), v_BTKE.transpose(1, 2)
    if mask_B1TT is None:
        return F.scaled_dot_product_attention(q_BHTE, k_BKTE, v_BKTE, is_causal=True, enable_gqa=True).transpose(1, 2)
    if not q_BTHE.is_cpu:
        group = q_BTHE.shape[2] // k_BTKE.shape[2]
        k_BHTE, v_BHTE = k_BKTE.repeat_interleave(group, 1), v_BKTE.repeat_interleave(group, 1)
        return F.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, attn_mask=mask_B1TT).transpose(1, 2)
    chunk = QUERY_CHUNK
    outputs = [
        F.scaled_dot_product_attention(
            q_BHTE[:, :, start : start + chunk],
            k_BKTE[:, :, : start + chunk],
            v_BKTE[:, :, : start + chunk],
            attn_mask=mask_B1TT[:, :, start : start + chunk, : start + chunk],
            enable_gqa=True,
        ).transpose(1, 2)
        for start in range(0, q_BTHE.shape[1], chunk)
    ]
    return torch.cat(outputs, dim=1)


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """The feed-forward contribution [B, T, D] to the residual stream."""
        return cast(Tensor, self.down_proj(silu_product(self.gate_proj(x_BTD), self.up_proj(x_BTD))))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each normed on the way in and added to the fp32 residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = FeedForward(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        x_BTD: Tensor,
        cos_BT1E: Tensor,
        sin_BT1E: Tensor,
        mask_B1TT: Tensor | None,
        cached: CachedAttention | None = None,
    ) -> Tensor:
        """The residual stream [B, T, D] after this layer."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), cos_BT1E, sin_BT1E, mask_B1TT, cached)
        return x_BTD + cast(Tensor, self.mlp(self.post_attention_layernorm(x_BTD)))


class Trunk(nn.Module):
    """What Hugging Face calls `model`: the embedding, the blocks and the final norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        # `initialize` draws the numbers. To draw its own on the meta device, torch would load its compiler: 6 s.
        empty = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, _weight=empty)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class MiniMind(nn.Module):
    """A causal language model whose state dict is that of transformers' Qwen3ForCausalLM.

    architecture: what transformers calls the class.
    activation_checkpointing: keep only each block's input and compute the block again in the backward pass: far less
        memory for about a third more compute.
    random_blocks: blocks draw random numbers (an adapter's dropout), so computing one again must draw the same.
    """

    architecture: ClassVar[str] = "Qwen3ForCausalLM"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.activation_checkpointing = False
        self.random_blocks = False
        self.model = Trunk(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.initialize()

    def forward(self, tokens_BT: Tensor, segment_BT: Tensor | None = None) -> Tensor:
        """Hidden states [B, T, D] after the final norm, for int64 token ids [B, T].

        segment_BT: int document numbers of packed rows. Attention stays inside a run of equal numbers, and positions
        start at 0 in each. None: every row is one document.
        """
        if segment_BT is None:
            position_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)[None]
            mask_B1TT = None
        else:
            position_BT = segment_positions(segment_BT)
            mask_B1TT = document_mask(position_BT, self._attention_dtype(tokens_BT.device.type))
        cos_BT1E, sin_BT1E = rotary_tables(self.config, position_BT)
        x_BTD = self.model.embed_tokens(tokens_BT)
        for block in self.model.layers:
            if self.activation_checkpointing and torch.is_grad_enabled():
                x_BTD = checkpoint(
                    block,
                    x_BTD,
                    cos_BT1E,
                    sin_BT1E,
                    mask_B1TT,
                    use_reentrant=False,
                    preserve_rng_state=self.random_blocks,
                )
            else:
                x_BTD = block(x_BTD, cos_BT1E, sin_BT1E, mask_B1TT)
        return cast(Tensor, self.model.norm(x_BTD))

    def forward_cached(
        self, tokens_BT: Tensor, cos_BT1E: Tensor, sin_BT1E: Tensor, cached: Iterable[CachedAttention]
    ) -> Tensor:
        """Hidden states [B, T, D] after the final norm, of tokens that continue what a cache holds.

        cos_BT1E, sin_BT1E: the `rotary_tables` of the tokens' positions. cached: attention over the cache, by layer.
        """
        x_BTD = self.model.embed_tokens(tokens_BT)
        for block, attention in zip(self.model.layers, cached, strict=True):
            # Not the compiled block: a step has other slots and lengths than the last one, each a graph of its own.
            x_BTD = block.forward(x_BTD, cos_BT1E, sin_BT1E, None, attention)
        return cast(Tensor, self.model.norm(x_BTD))

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
                parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)

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


def segment_positions(segment_BT: Tensor) -> Tensor:
    """The position [B, T] of each token in its run of equal segment numbers: 0, 1, 2, ..."""
    index_T = torch.arange(segment_BT.shape[1], device=segment_BT.device)
    starts_BT = F.pad(segment_BT[:, 1:] != segment_BT[:, :-1], (1, 0), value=True)
    return index_T - (index_T * starts_BT).cummax(dim=1).values


def document_mask(position_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """The additive mask [B, 1, T, T]: 0 on the token itself and earlier ones of its document, -inf elsewhere.

    position_BT: positions within the document, as `segment_positions` gives them.
    """
    index_T = torch.arange(position_BT.shape[1], device=position_BT.device)
    start_BT1 = (index_T - position_BT)[:, :, None]
    allowed_BTT = (index_T >= start_BT1) & (index_T <= index_T[:, None])
    return torch.zeros_like(allowed_BTT, dtype=dtype).masked_fill_(~allowed_BTT, -math.inf)[:, None]


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
        """The (fractional) dimension that turns so many times over the original context."""
        return width * math.log(yarn.original_max_position_embeddings / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(dimension_with(yarn.beta_fast)), 0)
    high = min(math.ceil(dimension_with(yarn.beta_slow)), width - 1)
    span = high - low if high != low else 0.001
    ramp_F = ((torch.arange(width // 2, device=device, dtype=torch.float32) - low) / span).clamp(0, 1)
    frequency_F = ramp_F / (yarn.factor * period_F) + (1 - ramp_F) / period_F
    if yarn.attention_factor is not None:
        return frequency_F, yarn.attention_factor
    return frequency_F, 0.1 * math.log(yarn.factor) + 1.0
