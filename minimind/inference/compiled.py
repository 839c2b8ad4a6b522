"""decode.c, compiled where it runs, and the one product that is called from elsewhere than a decoding step.

The machine's C compiler is asked once in a process, which takes about a second. Where there is none, or no OpenMP,
PyTorch computes.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from ctypes import POINTER, byref, c_double, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("decode.c")

ARCHITECTURE = "native"
"""The compiler's -march: this very processor."""

LANES = 8
"""decode.c reads its inputs eight at a time."""

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}
"""decode.c's number of each type that weights may have."""


class Matrix(ctypes.Structure):
    """Weights [outputs, inputs], row by row, with a scale for each output where they are int8."""

    _fields_ = (
        ("weight", c_void_p),
        ("scale", c_void_p),
        ("type", c_int64),
        ("outputs", c_int64),
        ("inputs", c_int64),
    )

    @classmethod
    def of(cls, weight_OI: Tensor, scale_O: Tensor | None) -> Matrix:
        """Points to contiguous tensors, which have to outlive it."""
        scale = None if scale_O is None else scale_O.data_ptr()
        return cls(weight_OI.data_ptr(), scale, TYPES[weight_OI.dtype], *weight_OI.shape)


class Layer(ctypes.Structure):
    """A block's weights, and its keys and values in the cache."""

    _fields_ = (
        *((name, Matrix) for name in ("q", "k", "v", "o", "gate", "up", "down")),
        *((name, c_void_p) for name in ("input_norm", "q_norm", "k_norm", "post_norm", "keys", "values")),
    )


class Rows(ctypes.Structure):
    """`rows` rows that continue the text in a slot, from a place on; decode.c calls it a Piece."""

    _fields_ = (("slot", c_int64), ("place", c_int64), ("rows", c_int64))


class Model(ctypes.Structure):
    """What a decoding step reads."""

    _fields_ = (
        *((name, c_int64) for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "context")),
        ("eps", c_double),
        *((name, c_void_p) for name in ("embedding", "final_norm", "cos", "sin")),
        ("head", Matrix),
        ("layer", POINTER(Layer)),
    )


@functools.cache
def library() -> ctypes.CDLL | None:
    """decode.c, compiled; None where that cannot be done."""
    compiler = next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "decode.so"
        flags = (
            "-O3",
            f"-march={ARCHITECTURE}",
            "-fopenmp",
            "-fno-math-errno",
            "-ffp-contract=off",
            "-shared",
            "-fPIC",
        )
        try:
            subprocess.run([compiler, *flags, SOURCE, "-o", file], check=True, capture_output=True, timeout=60)
            loaded = ctypes.CDLL(str(file))  # it finds the OpenMP that PyTorch has loaded, and uses its threads
        except (OSError, subprocess.SubprocessError):
            return None
    loaded.decode.argtypes = (
        *(POINTER(Model), c_int64, POINTER(Rows), c_void_p),
        *(c_int64, c_void_p, c_int64, c_void_p, c_void_p),
    )
    loaded.decode.restype = None
    loaded.scratch_floats.argtypes = (POINTER(Model), c_int64, c_int64)
    loaded.scratch_floats.restype = c_int64
    loaded.linear.argtypes = (POINTER(Matrix), c_void_p, c_int64, c_int64, c_void_p)
    loaded.linear.restype = None
    return loaded


def can_multiply(x_RI: Tensor, weight_OI: Tensor) -> bool:
    """Whether `product` takes these: fp32 on a CPU, weights of a type that decode.c has, inputs in steps of LANES."""
    return (
        x_RI.device.type == weight_OI.device.type == "cpu"
        and x_RI.dtype == torch.float32
        and weight_OI.dtype in TYPES
        and x_RI.shape[1] == weight_OI.shape[1]
        and weight_OI.shape[1] % LANES == 0
        and library() is not None
    )


def product(x_RI: Tensor, weight_OI: Tensor, scale_O: Tensor | None) -> Tensor:
    """The product x @ (weight * scale).T, [R, O], of what `can_multiply` accepts, all sums in fp32; without gradients.

    scale_O: fp32, of int8 weights.
    """
    loaded = library()
    assert loaded is not None
    x_RI, weight_OI = x_RI.detach().contiguous(), weight_OI.detach().contiguous()
    out_RO = torch.empty(len(x_RI), len(weight_OI))
    matrix = Matrix.of(weight_OI, scale_O)
    loaded.linear(byref(matrix), x_RI.data_ptr(), len(x_RI), torch.get_num_threads(), out_RO.data_ptr())
    return out_RO
