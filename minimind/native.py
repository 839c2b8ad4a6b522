"""decode.c, compiled where it runs and called from Python.

The machine's C compiler is asked once in a process, which takes about a second. Where there is none, or no OpenMP, the
same step runs in PyTorch and takes two to four times as long.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from ctypes import POINTER, byref, c_double, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor, nn

from minimind.cache import KVCache, Piece
from minimind.linears import BFloat16Linear, Int8Linear
from minimind.model import MiniMind

SOURCE = Path(__file__).with_name("decode.c")

_LANES = 8
_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("weight", c_void_p),
        ("scale", c_void_p),
        ("type", c_int64),
        ("outputs", c_int64),
        ("inputs", c_int64),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _Matrix) for name in ("q", "k", "v", "o", "gate", "up", "down")),
        *((name, c_void_p) for name in ("input_norm", "q_norm", "k_norm", "post_norm", "keys", "values")),
    )


class _Piece(ctypes.Structure):
    _fields_ = (("slot", c_int64), ("place", c_int64), ("rows", c_int64))


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, c_int64) for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "context")),
        ("eps", c_double),
        *((name, c_void_p) for name in ("embedding", "final_norm", "cos", "sin")),
        ("head", _Matrix),
        ("layer", POINTER(_Layer)),
    )


@functools.cache
def library() -> ctypes.CDLL | None:
    """decode.c, compiled for this very processor; None where that cannot be done."""
    compiler = next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "decode.so"
        flags = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-ffp-contract=off", "-shared", "-fPIC")
        try:
            subprocess.run([compiler, *flags, SOURCE, "-o", file], check=True, capture_output=True, timeout=60)
            loaded = ctypes.CDLL(str(file))  # it finds the OpenMP that PyTorch has loaded, and uses its threads
        except (OSError, subprocess.SubprocessError):
            return None
    loaded.decode.argtypes = (
        *(POINTER(_Model), c_int64, POINTER(_Piece), c_void_p),
        *(c_int64, c_void_p, c_int64, c_void_p, c_void_p),
    )
    loaded.decode.restype = None
    loaded.scratch_floats.argtypes = (POINTER(_Model), c_int64, c_int64)
    loaded.scratch_floats.restype = c_int64
    return loaded


def supports(model: MiniMind) -> bool:
    """Whether `NativeStep` can run this model here: fp32 on a CPU, no adapter attached, widths in steps of eight."""
    config = model.config
    widths = (config.hidden_size, config.intermediate_size, config.head_dim)
    projections = (part for name, part in model.named_modules() if name.endswith("_proj"))
    embedding = model.model.embed_tokens.weight
    return (
        embedding.device.type == "cpu"
        and embedding.dtype == torch.float32
        and all(width % _LANES == 0 for width in widths)
        and all(type(part) in (nn.Linear, BFloat16Linear, Int8Linear) for part in projections)
        and library() is not None
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
        layers = (_Layer * config.num_hidden_layers)()
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
        self._model = _Model(
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
        """Logits [W, V] after the tokens that the pieces want them for."""
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
            (_Piece * len(pieces))(*(_Piece(piece.slot, piece.place, len(piece.tokens)) for piece in pieces)),
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

    def _matrix(self, linear: nn.Module) -> _Matrix:
        weight = linear.weight
        assert isinstance(weight, Tensor)
        scale = self._pointer(linear.scale) if isinstance(linear, Int8Linear) else None
        return _Matrix(self._pointer(weight), scale, _TYPES[weight.dtype], *weight.shape)
