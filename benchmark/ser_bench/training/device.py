"""What a run computes on."""

from __future__ import annotations

import resource
import sys

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState


def accelerator_for(device: torch.device | None) -> Accelerator:
    """Return accelerate's view of a device (None: a GPU if there is one): bfloat16 on a GPU, float32 on the CPU."""
    if device is not None and device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    on_cpu = (device is not None and device.type == "cpu") or not torch.cuda.is_available()
    AcceleratorState._reset_state(reset_partial_state=True)  # a second run in one process may choose another device
    return Accelerator(cpu=on_cpu, mixed_precision="no" if on_cpu else "bf16")


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
