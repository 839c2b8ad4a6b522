"""The memory that a run may have: of the GPU that is here, of one that is only named, or of the CPU."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from jobs import paths
from jobs.cluster.machine import memory_bytes
from jobs.stages.spec import ScalingConfig
from minimind.language import say
from minimind.memory.plan import PLATFORMS, Calibration, Platform
from minimind.units import memory, parse_memory


@dataclass(frozen=True)
class Card:
    """A device as a plan sees it. capacity_bytes: of all of it, or the part of it that a run may have. bf16: whether it
    computes in bfloat16. calibration: what was measured on this very card, if anything was.
    """

    name: str
    capacity_bytes: int
    platform: Platform
    bf16: bool
    calibration: Calibration | None = None

    @property
    def title(self) -> str:
        """Its name for people, in their language."""
        if self.platform == PLATFORMS["emulated"]:
            return say("CPU, limited to {size}", size=memory(self.capacity_bytes))
        return self.name

    @property
    def tensor_bytes(self) -> int:
        """What a process may hold for its tensors: the rest is the context's and the display's."""
        if self.calibration is not None:
            return self.capacity_bytes - self.calibration.context_bytes
        return self.capacity_bytes - self.platform.context_bytes - self.platform.display_bytes

    @property
    def dtype(self) -> str:
        """The name of what `loop.dtype = auto` means on it where nobody has measured (as `resolve_dtype`)."""
        if self.platform.rules == "cpu":
            return "float32"
        return "bfloat16" if self.bf16 else "float16"


def system() -> str:
    """The operating system as a plan tells them apart: "linux", "wsl2" or "windows"."""
    if sys.platform == "win32":
        return "windows"
    return "wsl2" if "microsoft" in platform.release().lower() else "linux"


def named_card(vram: str, *, os: str | None = None) -> Card:
    """A card that is not here, by its memory: from Ampere on, on a system of PLATFORMS (default: this one)."""
    capacity = parse_memory(vram)
    return Card(f"{memory(capacity)}, {os or system()}", capacity, PLATFORMS[os or system()], bf16=True)


def here() -> torch.device:
    """Where a process trains that has been given nothing else: on the first GPU, or the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def worker_share(scaling: ScalingConfig, device: torch.device) -> float:
    """The share of the device that one of a run's workers may plan with."""
    return min(1.0, scaling.gpus_per_worker or 1.0) if device.type == "cuda" else 1 / max(1, scaling.workers or 1)


def this_card(vram: str | None = None, *, device: torch.device | None = None, share: float = 1.0) -> Card:
    """A device of this machine; by default the one that a process trains on.

    vram: use no more than so much; on a CPU it is emulated. share: of the device, for one of several workers.
    """
    device = device or here()
    limit = parse_memory(vram) if vram is not None else None
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        capacity = int(found.total_memory * share)
        with torch.cuda.device(device):
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return Card(
            found.name,
            min(capacity, limit) if limit else capacity,
            PLATFORMS[system()],
            bf16,
            calibration(device),
        )
    if limit is not None:
        return Card(f"CPU, limited to {memory(limit)}", limit, PLATFORMS["emulated"], bf16=True)
    return Card("CPU", int(memory_bytes() * share), PLATFORMS["cpu"], bf16=True)


def calibration_path() -> Path:
    """Where what was measured on this machine's card is kept."""
    return paths.home() / "calibration.json"


def calibration(device: torch.device) -> Calibration | None:
    """What was measured on this card with this driver, torch and system; None if nothing was, or with others."""
    path = calibration_path()
    if not path.exists():
        return None
    try:
        seen = Calibration(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(
            say(
                "{path} cannot be read ({error}): delete it, and measure again with minimind plan --calibrate",
                path=path,
                error=error,
            )
        ) from None
    return seen if asdict(seen).items() >= identity(device).items() else None


def identity(device: torch.device) -> dict[str, str]:
    """What a calibration is valid for."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {"card": card, "driver": driver(), "torch": torch.__version__, "system": system()}


def driver() -> str:
    """The version of NVIDIA's driver, as nvidia-smi says it on every system; "" where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(
            say(
                "{program} has not answered for 30 s: the driver hangs. Restart the machine (on WSL2: "
                "`wsl --shutdown`)",
                program=program,
            )
        ) from None
    return found.stdout.partition("\n")[0].strip()
