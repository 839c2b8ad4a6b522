"""What a run keeps of the machine and the program that compute it: enough to judge it, and to find why another run of
the same spec ends otherwise.
"""

from __future__ import annotations

import os
import platform

import ray
import torch

from jobs.fit.card import driver
from jobs.runs.program import program
from minimind.device.distributed import Parallel

_VECTORS = ("avx", "amx", "fma", "neon", "sve", "sme", "bf16", "i8mm")
"""How the names of instructions begin whose presence decides which kernels are taken, and so the last bits of sums."""

_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
)
"""Variables by which users choose other kernels."""


def environment(parallel: Parallel, command: str, typed: str = "") -> dict[str, str]:
    """What a reader needs to know of the machine to judge or repeat a run, of the first worker's. command: what asks
    for the run; typed: as a person typed it, "" where nobody did.
    """
    gpu = parallel.device.type == "cuda"
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ray": ray.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(parallel.device) if gpu else "cpu",
        **(_gpu() if gpu else {}),
        **cpu(),
        "threads": str(torch.get_num_threads()),
        "command": command,
        "typed": typed,
        **program(),
    }
    return {name: text for name, text in found.items() if text}


def cpu() -> dict[str, str]:
    """The CPU: its model, its vector extensions, the kernels that PyTorch takes for it, what users set about them."""
    has = torch.cpu.get_capabilities()
    vectors = sorted(name for name, there in has.items() if there is True and name.startswith(_VECTORS))
    return {
        "cpu": str(has.get("cpu_name") or platform.processor() or platform.machine()).strip(),
        "vectors": " ".join(vectors),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "variables": " ".join(f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ),
    }


def _gpu() -> dict[str, str]:
    try:
        version = driver()
    except ValueError:  # it hangs, and the training goes on all the same
        version = ""
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch has no types for it
    return {"driver": version, "cuda": torch.version.cuda or "", "cudnn": str(cudnn or "")}
