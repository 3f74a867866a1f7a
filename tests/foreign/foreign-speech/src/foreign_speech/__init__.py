"""What this distribution offers, described. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ser_bench.interface import (
    AudioEncoder,
    AudioEncoderSpec,
    FusionHeadSpec,
    Recipe,
    Regularisation,
    Source,
    SystemSpec,
    Weights,
    hookimpl,
)


def _build_encoder(weights: Weights, *, depth: int | None = None, regularisation: Regularisation) -> AudioEncoder:
    from foreign_speech.encoder import build

    return build(weights, depth=depth, regularisation=regularisation)


def _build_head(audio: int | None, text: int | None, *, dropout: float) -> Any:
    from foreign_speech.head import Bilinear

    return Bilinear(audio, text, dropout=dropout)


@hookimpl
def ser_bench_audio_encoders() -> Iterator[AudioEncoderSpec]:
    """Yield torchaudio's HuBERT base."""
    yield AudioEncoderSpec(
        name="ta_hubert_base",
        summary="HuBERT base, torchaudio's code and checkpoint",
        dim=768,
        depth=12,
        source=Source(
            repo="pytorch/audio",
            licence="MIT",
            reference="torchaudio.pipelines.HUBERT_BASE; Hsu et al. 2021, HuBERT, arXiv:2106.07447",
            trained_on=("LibriSpeech 960 h",),
        ),
        build=_build_encoder,
    )


@hookimpl
def ser_bench_fusion_heads() -> Iterator[FusionHeadSpec]:
    """Yield the bilinear head."""
    yield FusionHeadSpec(
        name="bilinear",
        summary="Low-rank bilinear pooling of audio and text, standardised on train",
        pooling="mean_std",
        build=_build_head,
    )


@hookimpl
def ser_bench_systems() -> Iterator[SystemSpec]:
    """Yield the two together, with word embeddings that ser-bench brings."""
    yield SystemSpec(
        name="ta_hubert_base_words",
        summary="torchaudio's HuBERT base and word embeddings, bilinear",
        audio="ta_hubert_base",
        text="words",
        head="bilinear",
        recipe=Recipe(learning_rate=1e-4, head_learning_rate=1e-3),
    )
