"""The memory that a run may have: of the GPU that is here, of one that is only named, or of the CPU."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch

from jobs import paths
from minimind.memory import PLATFORMS, Calibration, Platform
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
    def tensor_bytes(self) -> int:
        """What a process may hold for its tensors: the rest is the context's and the display's."""
        if self.calibration is not None:
            return self.capacity_bytes - self.calibration.context_bytes
        return self.capacity_bytes - self.platform.context_bytes - self.platform.display_bytes

    @property
    def dtype(self) -> torch.dtype:
        """What `loop.dtype = auto` means on it, as `minimind.loop.resolve_dtype` has it."""
        if self.platform.rules == "cpu":
            return torch.float32
        return torch.bfloat16 if self.bf16 else torch.float16


def system() -> str:
    """The operating system as a plan tells them apart: "linux", "wsl2" or "windows"."""
    if sys.platform == "win32":
        return "windows"
    return "wsl2" if "microsoft" in platform.release().lower() else "linux"


def named_card(vram: str, *, os: str | None = None) -> Card:
    """A card that is not here, by its memory: from Ampere on, on a system of PLATFORMS (default: this one)."""
    capacity = parse_memory(vram)
    return Card(f"{memory(capacity)}, {os or system()}", capacity, PLATFORMS[os or system()], bf16=True)


def this_card(vram: str | None = None, *, share: float = 1.0) -> Card:
    """The device that a run on this machine gets. vram: use no more than so much; on a CPU it is emulated.

    share: of the device, for one of several workers.
    """
    limit = parse_memory(vram) if vram is not None else None
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        capacity = int(found.total_memory * share)
        return Card(
            found.name,
            min(capacity, limit) if limit else capacity,
            PLATFORMS[system()],
            torch.cuda.is_bf16_supported(including_emulation=False),
            calibration(),
        )
    if limit is not None:
        return Card(f"CPU, limited to {memory(limit)}", limit, PLATFORMS["emulated"], bf16=True)
    return Card("CPU", int(psutil.virtual_memory().total * share), PLATFORMS["cpu"], bf16=True)


def calibration_path() -> Path:
    """Where what was measured on this machine's card is kept."""
    return paths.home() / "calibration.json"


def calibration() -> Calibration | None:
    """What was measured on this card with this driver, torch and system; None if nothing was, or with others."""
    path = calibration_path()
    if not path.exists():
        return None
    try:
        seen = Calibration(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): delete it, and measure again with minimind plan --calibrate"
        ) from None
    return seen if identity() == {name: value for name, value in asdict(seen).items() if name in identity()} else None


def identity() -> dict[str, str]:
    """What a calibration is valid for."""
    driver = str(torch._C._cuda_getDriverVersion()) if torch.cuda.is_available() else ""  # type: ignore[attr-defined]
    card = torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
    return {"card": card, "driver": driver, "torch": torch.__version__, "system": system()}
