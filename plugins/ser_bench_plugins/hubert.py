"""HuBERT-type audio encoders: the convolutional encoder as the front end, the transformer after it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import HubertConfig, HubertModel
from transformers.masking_utils import create_bidirectional_mask

from ser_bench.interface import Encoded, Regularisation, Source, Weights
from ser_bench.pooling import valid
from ser_bench_plugins.masking import mask_spans
from ser_bench_plugins.pretrained import kept_layers, make, shipped

RECEPTIVE_FIELD = 400  # samples (25 ms): the shortest wave that gives a frame

_TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_TINY_CONV = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}


def build(
    weights: Weights, *, depth: int | None = None, regularisation: Regularisation, configuration: str, source: Source
) -> Hubert:
    """Build the encoder of a shipped configuration."""
    settings = shipped(configuration)
    full = dict(settings)
    if weights == "tiny":
        settings |= _TINY | _TINY_CONV
    layers = kept_layers(depth, settings["num_hidden_layers"], configuration)
    settings |= {"num_hidden_layers": layers}
    dropouts = ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout")
    config = HubertConfig(**settings, **dict.fromkeys(dropouts, regularisation.dropout))
    model = make(
        HubertModel,
        config,
        weights,
        source=source,
        must_match={
            k: full[k]
            for k in (
                "model_type",
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "intermediate_size",
                "feat_extract_norm",
                "conv_dim",
            )
        },
        unused=("encoder.layers.", "hubert.encoder.layers.", "lm_head", "label_embs_concat", "final_proj"),
    )
    return Hubert(model, regularisation)


class Hubert(nn.Module):
    """A transformers HuBERT, cut between its convolutional encoder and the rest."""

    def __init__(self, model: HubertModel, regularisation: Regularisation) -> None:
        super().__init__()
        self.convolutions = model.feature_extractor.requires_grad_(False)
        self.projection = model.feature_projection
        self.mask_vector = model.masked_spec_embed  # [d], counted and trained like the rest; read where time_mask > 0
        self.context = model.encoder
        self.config = model.config
        self.regularisation = regularisation
        self.dim: int = model.config.hidden_size
        self.depth: int = model.config.num_hidden_layers

    @torch.no_grad()
    def frontend(self, wave: Tensor) -> Tensor:
        """Turn one utterance [n] into the convolutional encoder's frames [t, c], 50 a second."""
        if len(wave) < RECEPTIVE_FIELD:
            wave = nn.functional.pad(wave, (0, RECEPTIVE_FIELD - len(wave)))
        frames: Tensor = self.convolutions(wave[None])[0].T  # [t, c]
        return frames

    def frontend_state(self) -> dict[str, Any]:
        """Give the convolutional encoder's weights (DistilHuBERT and HuBERT base do not normalise the wave)."""
        return {**self.convolutions.state_dict(), "family": "hubert", "normalise": False}

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        """Encode [b, t, c] into [b, t, d]; follows transformers' ``HubertEncoder.forward``."""
        own = valid(lengths, frames.shape[1])  # [b, t]
        hidden = self.projection(frames)
        if self.training:
            hidden = mask_spans(hidden, own, self.regularisation, self.mask_vector)
        # Zeros past the end are what the positional convolution sees past the end of an utterance alone.
        hidden = torch.where(own[:, :, None], hidden, 0.0)
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=hidden, attention_mask=own)
        hidden = hidden + self.context.pos_conv_embed(hidden)
        hidden = self.context.dropout(self.context.layer_norm(hidden))
        states = [hidden]
        for layer in self.context.layers:
            skipped = self.training and bool(torch.rand([]) < self.regularisation.layerdrop)
            hidden = hidden if skipped else layer(hidden, attention_mask=mask)
            states.append(hidden)
        return Encoded(hidden, lengths, tuple(states) if layers else None)
