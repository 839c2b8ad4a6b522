"""A decoding step in decode.c: what PyTorch does for the same step takes two to four times as long."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from ctypes import byref, c_int64

import torch
from torch import Tensor, nn

from minimind.inference.cache import KVCache, Piece
from minimind.inference.compiled import LANES, Layer, Matrix, Model, Rows, library
from minimind.inference.small_linears import BFloat16Linear, Int8Linear
from minimind.network.model import Attention, Block, FeedForward, MiniMind, ModelConfig, RMSNorm

WEIGHTS: dict[type[nn.Module], torch.dtype] = {
    nn.Linear: torch.float32,
    BFloat16Linear: torch.bfloat16,
    Int8Linear: torch.int8,
}
"""The linear maps that decode.c has, and of which type their weights are."""


def supports(model: MiniMind) -> bool:
    """Whether `NativeStep` can run this model here: exactly the layers that decode.c has, with weights of the types it
    has, the rest in fp32, all of it on a CPU, and widths in steps of eight.
    """
    config = model.config
    widths = (config.hidden_size, config.intermediate_size, config.head_dim)
    embedding, head = model.model.embed_tokens, _head(model)
    return (
        all(width % LANES == 0 for width in widths)
        and all(getattr(type(model), name) is getattr(MiniMind, name) for name in ("forward", "hidden_states"))
        and (head is not embedding or type(model).logits is MiniMind.logits)
        and type(embedding) is nn.Embedding
        and _is_here(embedding.weight, torch.float32, config.vocab_size, config.hidden_size)
        and (head is embedding or _is_linear(head, config.vocab_size, config.hidden_size))
        and _is_norm(model.model.norm, config.hidden_size, config.rms_norm_eps)
        and len(model.model.layers) == config.num_hidden_layers
        and all(_is_block(block, config) for block in model.model.layers)
        and library() is not None
    )


def _is_block(block: nn.Module, config: ModelConfig) -> bool:
    if not (type(block) is Block and type(block.self_attn) is Attention and type(block.mlp) is FeedForward):
        return False
    hidden, inner, head = config.hidden_size, config.intermediate_size, config.head_dim
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    attention, mlp, eps = block.self_attn, block.mlp, config.rms_norm_eps
    return (
        _is_linear(attention.q_proj, queries, hidden)
        and _is_linear(attention.k_proj, keys, hidden)
        and _is_linear(attention.v_proj, keys, hidden)
        and _is_linear(attention.o_proj, hidden, queries)
        and _is_linear(mlp.gate_proj, inner, hidden)
        and _is_linear(mlp.up_proj, inner, hidden)
        and _is_linear(mlp.down_proj, hidden, inner)
        and _is_norm(attention.q_norm, head, eps)
        and _is_norm(attention.k_norm, head, eps)
        and _is_norm(block.input_layernorm, hidden, eps)
        and _is_norm(block.post_attention_layernorm, hidden, eps)
    )


def _is_linear(part: nn.Module, outputs: int, inputs: int) -> bool:
    """Whether it is a matrix of this size and nothing else."""
    if type(part) not in WEIGHTS or getattr(part, "bias", None) is not None:
        return False
    weight = part.weight
    assert isinstance(weight, Tensor)
    return _is_here(weight, WEIGHTS[type(part)], outputs, inputs)


def _is_norm(part: nn.Module, width: int, eps: float) -> bool:
    return type(part) is RMSNorm and part.eps == eps and _is_here(part.weight, torch.float32, width)


def _is_here(weight: Tensor, dtype: torch.dtype, *shape: int) -> bool:
    """Whether C finds these numbers where the tensor begins, also after they have changed."""
    return (
        weight.device.type == "cpu"
        and weight.layout == torch.strided
        and weight.is_contiguous()
        and weight.dtype == dtype
        and weight.shape == shape
    )


def _head(model: MiniMind) -> nn.Module:
    """What holds the output projection: a quantised model has one of its own, else it is the embedding or lm_head."""
    parts = dict(model.named_children())
    return parts.get("head") or parts.get("lm_head") or model.model.embed_tokens


class NativeStep:
    """The step that puts tokens into several slots of a cache, for a model that `supports` accepts.

    It reads weights where they are, so it follows a model whose weights are changed in place.
    """

    def __init__(self, model: MiniMind, cache: KVCache, cos_SE: Tensor, sin_SE: Tensor) -> None:
        config = model.config
        self._vocab_size = config.vocab_size
        self._kept: list[Tensor] = []  # what the pointers point to
        layers = (Layer * config.num_hidden_layers)()
        for layer, block, keys, values in zip(layers, model.model.layers, cache.keys, cache.values, strict=True):
            parts = dict(block.named_modules())
            for name in ("q", "k", "v", "o"):
                setattr(layer, name, self._matrix(parts[f"self_attn.{name}_proj"]))
            for name in ("gate", "up", "down"):
                setattr(layer, name, self._matrix(parts[f"mlp.{name}_proj"]))
            layer.input_norm = self._pointer(parts["input_layernorm"].weight)
            layer.q_norm = self._pointer(parts["self_attn.q_norm"].weight)
            layer.k_norm = self._pointer(parts["self_attn.k_norm"].weight)
            layer.post_norm = self._pointer(parts["post_attention_layernorm"].weight)
            layer.keys, layer.values = self._pointer(keys), self._pointer(values)
        self._model = Model(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            intermediate=config.intermediate_size,
            context=cache.context_tokens,
            eps=config.rms_norm_eps,
            embedding=self._pointer(model.model.embed_tokens.weight),
            final_norm=self._pointer(model.model.norm.weight),
            cos=self._pointer(cos_SE),
            sin=self._pointer(sin_SE),
            head=self._matrix(_head(model)),
            layer=layers,
        )

    def __call__(self, pieces: Sequence[Piece]) -> Tensor:
        """Logits [W, V] after the tokens that the pieces want them for. Nothing looks again whether pieces lie in the
        cache and tokens in the vocabulary.
        """
        loaded = library()
        assert loaded is not None
        tokens = [token for piece in pieces for token in piece.tokens]
        ends = itertools.accumulate(len(piece.tokens) for piece in pieces)
        wanted = [row for piece, end in zip(pieces, ends, strict=True) for row in range(end - piece.logits, end)]
        threads = torch.get_num_threads()
        scratch = torch.empty(loaded.scratch_floats(byref(self._model), len(tokens), threads))
        logits_WV = torch.empty(len(wanted), self._vocab_size)
        loaded.decode(
            byref(self._model),
            len(pieces),
            (Rows * len(pieces))(*(Rows(piece.slot, piece.place, len(piece.tokens)) for piece in pieces)),
            (c_int64 * len(tokens))(*tokens),
            len(wanted),
            (c_int64 * len(wanted))(*wanted),
            threads,
            scratch.data_ptr(),
            logits_WV.data_ptr(),
        )
        return logits_WV

    def _pointer(self, tensor: Tensor) -> int:
        tensor = tensor.detach().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _matrix(self, linear: nn.Module) -> Matrix:
        weight, scale = linear.weight, linear.scale if isinstance(linear, Int8Linear) else None
        assert isinstance(weight, Tensor)
        self._kept += [weight] if scale is None else [weight, scale]
        return Matrix.of(weight, scale)
