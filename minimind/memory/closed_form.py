"""The peak of a training step's tensors from its shapes alone, in microseconds and within 3 % of the trace.

Written for supervised stages: next-token loss over packed rows with every token predicted, Muon or AdamW, on CUDA with
the memory-efficient attention kernel (head_dim a multiple of 8). Whatever it forgets, the trace does not: what it gives
may only reject.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from minimind.memory.cuda_kernels import CUBLAS_WORKSPACE_BYTES, HIGHEST_SORTED
from minimind.network.lora import LoraConfig
from minimind.network.model import ModelConfig
from minimind.training.objectives import CHUNK_TOKENS

CLOSED_FORM_ERROR = 0.03
"""How far the closed form may be off, as a share of the trace's peak."""

FP32, HALF, INT64, INT32, BOOL = 4, 2, 8, 4, 1
"""Bytes of a number."""

BATCH_BYTES = {
    "tokens": INT64,
    "loss mask": BOOL,
    "segments": INT32,
    "places of predicted tokens": INT64,
    "places of the hidden states that predict them": INT64,
    "predicted tokens": INT64,
}
"""Bytes per token of a batch in which every token is predicted, and of what the loss makes of it."""

MUON_BYTES = FP32 + FP32 + HALF
"""Bytes per number of the matrix that Muon is at: it holds it in fp32 twice and in bf16 once."""


@dataclass(frozen=True)
class Shape:
    """What the memory of a step depends on. dtype: of autocast. lora: an adapter that trains in place of the weights.
    muon: the matrices' optimizer; else AdamW for all. deterministic: which kernels.
    """

    model: ModelConfig
    rows: int
    width: int
    dtype: torch.dtype
    accumulation_steps: int = 1
    checkpointing: bool = False
    muon: bool = True
    lora: LoraConfig | None = None
    deterministic: bool = True


def closed_form(shape: Shape) -> int:
    """The most bytes of tensors that are alive at once in a step, workspaces of cuBLAS among them."""
    step = _Step(shape)
    of_micro_batch = max(step.in_loss(), step.in_last_block(), step.in_first_block())
    return step.static + max(step.inputs + of_micro_batch, step.in_embedding(), step.in_update())


class _Step:
    """The tensors of a step by what they are for, and the moments at which most of them are alive.

    Sizes are in bytes. block, head, trained: counts of numbers.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape, self.model = shape, shape.model
        m, d = shape.model, shape.model.hidden_size
        self.half = shape.dtype != torch.float32
        self.number = HALF if self.half else FP32  # in matrix products
        self.all_train = shape.lora is None
        self.tokens = shape.rows * shape.width

        maps = _maps(m)
        self.largest_map = max(inputs * outputs for inputs, outputs in maps.values())
        self.block = sum(inputs * outputs for inputs, outputs in maps.values())
        self.head = m.vocab_size * d
        norms = m.num_hidden_layers * (2 * d + 2 * m.head_dim) + d
        weights = m.num_hidden_layers * self.block + norms + self.head * (1 if m.tie_word_embeddings else 2)
        adapters = 0
        if shape.lora is not None:
            inputs_and_outputs = sum(sum(maps[name]) for name in shape.lora.target_modules)
            adapters = m.num_hidden_layers * shape.lora.rank * inputs_and_outputs
        self.trained = weights if self.all_train else adapters

        matrices = m.num_hidden_layers * self.block if self.all_train else adapters
        optimizer = 2 * FP32 * self.trained - FP32 * matrices * shape.muon  # Muon keeps one number where AdamW has two
        accumulates = shape.accumulation_steps > 1
        earlier = FP32 * self.trained if accumulates else 0  # gradients of the micro-batches before
        workspaces = 2 * CUBLAS_WORKSPACE_BYTES  # of the thread that runs the loop and of that of the backward pass
        self.static = FP32 * (weights + adapters) + optimizer + earlier + workspaces
        self.gradients = FP32 * self.trained - earlier
        self.gradient_of_head = FP32 * self.head * self.all_train
        self.gradient_of_map = FP32 * d * m.intermediate_size if self.all_train and not accumulates else 0

        mask = self.number * shape.width * self.tokens
        cos_and_sin = 2 * FP32 * m.head_dim * self.tokens
        self.inputs = mask + cos_and_sin + sum(BATCH_BYTES.values()) * self.tokens
        self.stream = FP32 * d * self.tokens  # the residual stream
        self.casts = HALF * self.block if self.half else 0  # of a block's weights, by autocast
        self._keep()

    def _keep(self) -> None:
        """What blocks keep for the backward pass, and what the last of them computes again."""
        layers = self.model.num_hidden_layers
        of_block, self.product = (self.tokens * part for part in _kept_per_token(self.shape))
        if self.shape.checkpointing:
            self.kept = layers * self.stream
            self.recomputed = of_block - self.stream
            self.live_casts = self.casts
        else:
            # Nothing before the first adapter needs a gradient, so the first block does not keep its input.
            self.kept = layers * of_block - (0 if self.all_train else self.stream)
            self.recomputed = 0
            self.live_casts = layers * self.casts

    def in_loss(self) -> int:
        """At the loss's last chunk: four hidden states of all tokens, and all casts, which autocast holds to its
        end.
        """
        if self.all_train:
            casts = HALF * self.head * self.half + self.model.num_hidden_layers * self.casts
        else:
            casts = 0 if self.shape.checkpointing else self.live_casts
        return 4 * self.stream + self.kept + casts + _logits(self.shape) + self.gradient_of_head

    def in_last_block(self) -> int:
        """Where the backward pass begins."""
        return self.kept + self._in_feed_forward() + self.live_casts + self.gradient_of_head

    def in_first_block(self) -> int:
        """Where the backward pass ends, with the gradients of all blocks but this one."""
        kept = self.kept // self.model.num_hidden_layers
        return kept + self._in_feed_forward() + self.casts + self.gradients - FP32 * self.block * self.all_train

    def _in_feed_forward(self) -> int:
        """Backward through the product in a block's feed-forward layer, where three gradients of its width meet, and
        the product and the cast of the weight after it are no more.
        """
        d, f = self.model.hidden_size, self.model.intermediate_size
        three_gradients = 3 * self.number * f * self.tokens
        gone = self.product + HALF * d * f * self.half
        return self.recomputed + self.stream + three_gradients - gone + self.gradient_of_map

    def in_embedding(self) -> int:
        """What the embedding gets from the head and from the tokens, before they are added."""
        if not self.all_train:
            return 0
        partial_sums = 0
        if self.tokens > HIGHEST_SORTED:
            segments = min(self.tokens, self.model.vocab_size)
            partial_sums = FP32 * self.model.hidden_size * (self.tokens // 10 + segments)
        return self.gradients + FP32 * self.head + self.stream + partial_sums

    def in_update(self) -> int:
        """In the optimizer's step, at its largest matrix."""
        return self.gradients + MUON_BYTES * self.largest_map * (self.shape.muon and self.all_train)


def _maps(model: ModelConfig) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the linear maps of a block."""
    d, f = model.hidden_size, model.intermediate_size
    q, k = model.num_attention_heads * model.head_dim, model.num_key_value_heads * model.head_dim
    attention = {"q_proj": (d, q), "k_proj": (d, k), "v_proj": (d, k), "o_proj": (q, d)}
    return attention | {"gate_proj": (d, f), "up_proj": (d, f), "down_proj": (f, d)}


def _kept_per_token(shape: Shape) -> tuple[int, int]:
    """Bytes that a block keeps for its backward pass, per token; and those of them that are the input of down_proj."""
    m, lora = shape.model, shape.lora
    d, f, heads, kv_heads = m.hidden_size, m.intermediate_size, m.num_attention_heads, m.num_key_value_heads
    half = shape.dtype != torch.float32
    number = HALF if half else FP32
    dropout = lora is not None and lora.dropout > 0
    learns = _maps(m) if lora is None else lora.target_modules

    normed_vectors = 2 + heads + kv_heads  # two of the stream, one of each query and key head
    kept = 2 * FP32 * d + FP32 * normed_vectors  # what the stream's norms read, and what all norms divided by
    for group in (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")):
        readers = sum(name in learns for name in group)
        # A normed input is fp32: in half precision each map keeps a cast of its own, except where dropout comes first.
        kept += HALF * d * readers if half and not dropout else FP32 * d * min(readers, 1)
    # Queries and keys before their norm; queries, keys and values repeated to all heads, and what attention gives.
    kept += number * m.head_dim * (heads + kv_heads + 4 * heads)
    kept += FP32 * heads  # the logarithm of each query's sum
    if shape.width % 8:
        kept += number * (shape.width + -shape.width % 8)  # attention keeps a mask of its own, padded
    gate_and_up, product = 2 * number * f, number * f if "down_proj" in learns else 0
    kept += gate_and_up + product
    if lora is not None and not dropout:
        kept += number * lora.rank * len(learns)
    return kept, product


def _logits(shape: Shape) -> int:
    """What the loss holds for a chunk of rows: while it makes the logits next to those of the chunk before, or while it
    multiplies their gradient.
    """
    d, tokens = shape.model.hidden_size, shape.rows * shape.width
    rows = min(CHUNK_TOKENS, tokens)
    half = shape.dtype != torch.float32
    logits = FP32 * shape.model.vocab_size * rows
    cast = logits // 2 if half else 0
    making = logits * (2 if tokens > rows else 1) + cast
    hidden = (FP32 + HALF if half else 2 * FP32) * d * rows  # states divided by the sums, and their cast or gradient
    gradient_of_head = HALF * shape.model.vocab_size * d if half else 0  # of this chunk; in fp32 it is added in place
    return max(making, logits + cast + hidden + gradient_of_head)
