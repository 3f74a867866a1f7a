"""What a run computes on."""

from __future__ import annotations

import os
import resource
import sys

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState


def accelerator_for(device: torch.device | None, wanted: str = "auto") -> Accelerator:
    """Return accelerate's view of a device and, under a launcher, of the processes.

    Args:
        device: None: a GPU if there is one. Under a launcher that starts several processes each takes its own GPU,
            whatever number is given.
        wanted: the recipe's precision; ``auto`` is bfloat16 on a GPU that computes in it, else float32.
    """
    on_cpu = (device is not None and device.type == "cpu") or not torch.cuda.is_available()
    if device is not None and device.type == "cuda" and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        torch.cuda.set_device(device.index or 0)
    AcceleratorState._reset_state(reset_partial_state=True)  # a second run in one process may choose another device
    # Older GPUs emulate bfloat16, which is slower than float32.
    fit = not on_cpu and torch.cuda.is_bf16_supported(including_emulation=False)
    half = wanted == "bfloat16" or (wanted == "auto" and fit)
    return Accelerator(cpu=on_cpu, mixed_precision="bf16" if half else "no")


def precision(accelerator: Accelerator) -> str:
    """Return ``float32`` or ``bfloat16``."""
    return {"no": "float32", "bf16": "bfloat16"}[str(accelerator.mixed_precision)]


def device_name(device: torch.device) -> str:
    """Return what a record says of a device: a GPU's model, or the CPU's number of threads."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def peak_memory(device: torch.device) -> int:
    """Return bytes: the device's peak on a GPU, the process's on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
