"""Whisper's audio encoder on the utterance's own frames, without the padding to 30 s."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from ser_bench.errors import PluginError
from ser_bench.interface import SAMPLE_RATE, Encoded, Regularisation, Source, Weights
from ser_bench.pooling import valid
from ser_bench_plugins.masking import attention_mask, dropped, mask_spans
from ser_bench_plugins.pretrained import Checkpoint, Family, located, make, shipped


def build(
    weights: Weights, *, depth: int | None = None, regularisation: Regularisation, configuration: str, source: Source
) -> Whisper:
    """Build the encoder of a shipped configuration."""
    settings, checkpoint = shipped(configuration), located(weights, source)
    return assemble(settings, weights, checkpoint, name=configuration, depth=depth, regularisation=regularisation)


def assemble(
    settings: dict[str, Any],
    weights: Weights,
    checkpoint: Checkpoint | None,
    *,
    name: str,
    depth: int | None,
    regularisation: Regularisation,
) -> Whisper:
    """Build the encoder of a full configuration."""
    family = FAMILIES[settings["model_type"]]
    model = make(family, settings, weights, checkpoint, name=name, depth=depth, regularisation=regularisation)
    whole = family.tiny[family.depth] if weights == "tiny" else settings[family.depth]
    return Whisper(model, regularisation, cut=model.config.encoder_layers < whole)


class Whisper(nn.Module):
    """Whisper's encoder, cut between its two convolutions and the rest.

    On a 30 s clip it computes what transformers' encoder computes; on a shorter one, what the library's layers give on
    the first t positions. A longer one is refused: there are no positions for it.
    """

    frontend_threads = True

    def __init__(self, model: WhisperEncoder, regularisation: Regularisation, *, cut: bool) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([model.conv1, model.conv2]).requires_grad_(False)
        self.positions = model.embed_positions.requires_grad_(False)
        self.layers = model.layers
        # The final norm belongs to the last layer's output; a cut model has none.
        self.norm = nn.Identity() if cut else model.layer_norm
        self.extract = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
        self.config = model.config
        self.regularisation = regularisation
        self.dim: int = model.config.d_model
        self.depth: int = model.config.encoder_layers

    @torch.no_grad()
    def frontend(self, wave: Tensor) -> Tensor:
        """Turn one utterance [n] into frames [t, c], 50 a second: log-mel of its own samples, two convolutions.

        Raises:
            PluginError: longer than 30 s.
        """
        longest = self.positions.num_embeddings * 2 * self.extract.hop_length
        if len(wave) > longest:
            raise PluginError(
                f"Whisper reads at most {longest / SAMPLE_RATE:.0f} s, and this utterance has "
                f"{len(wave) / SAMPLE_RATE:.1f} s. Cut it, or use an encoder without fixed positions."
            )
        if len(wave) < self.extract.n_fft:  # the spectrogram reflects half a window at both ends
            wave = nn.functional.pad(wave, (0, self.extract.n_fft - len(wave)))
        found = self.extract(
            wave.cpu().numpy(), sampling_rate=SAMPLE_RATE, padding=False, truncation=False, return_tensors="pt"
        )
        hidden = found.input_features.to(self.positions.weight.device)  # [1, mels, 2 t]
        for convolution in self.convolutions:
            hidden = nn.functional.gelu(convolution(hidden))
        frames: Tensor = hidden[0].T  # [t, c]
        return frames

    def frontend_state(self) -> dict[str, Any]:
        """Give the convolutions' weights and the spectrogram's settings."""
        mel = {k: getattr(self.extract, k) for k in ("feature_size", "hop_length", "n_fft")}
        return {**self.convolutions.state_dict(), "family": "whisper", **mel}

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        """Encode [b, t, c] into [b, t, d]."""
        own = valid(lengths, frames.shape[1])
        if self.training:
            frames = mask_spans(frames, own, self.regularisation)
        hidden = torch.where(own[:, :, None], frames, 0.0) + self.positions.weight[: frames.shape[1]]
        hidden = nn.functional.dropout(hidden, p=self.regularisation.dropout, training=self.training)
        mask = attention_mask(own)
        states = [hidden]
        for layer in self.layers:
            skipped = self.training and dropped(self.regularisation)
            hidden = hidden if skipped else layer(hidden, mask)
            states.append(hidden)
        states[-1] = self.norm(hidden)
        return Encoded(states[-1], lengths, tuple(states) if layers else None)


FAMILIES = {
    "whisper": Family(
        model=WhisperEncoder,
        module=Whisper,
        stack="layers",
        depth="encoder_layers",
        tiny={"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64},
        dropouts=("dropout", "attention_dropout", "activation_dropout"),
        heads=("decoder.", "proj_out.", "projector.", "classifier.", "layer_weights"),
        # A full checkpoint, such as the hub's, holds the decoder too and its encoder under "model.encoder.".
        key_mapping={r"^(model\.)?encoder\.": ""},
    )
}
