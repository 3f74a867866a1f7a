"""A sound head whose hooks' module imports torch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from testing.broken_modules import Head

from ser_bench.interface import FusionHeadSpec, hookimpl

assert torch


@hookimpl
def ser_bench_fusion_heads() -> Iterator[FusionHeadSpec]:
    yield FusionHeadSpec(name="heavy", summary="A head", pooling="mean", build=Head)
