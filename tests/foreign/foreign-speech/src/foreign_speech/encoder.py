"""HuBERT base by torchaudio's modules, without its way of batching, in which padding changes every frame.

Its convolutional encoder normalises over time (group normalisation), so it runs on each utterance alone: it is the
front end. The transformer gets what is stored of that, with padding masked before the positional convolution and in
attention.

Letters: b utterances in a batch, n samples, t frames, c channels, d width.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from ser_bench.errors import PluginError, WeightsError
from ser_bench.interface import Encoded, Regularisation, Weights
from ser_bench.pooling import valid
from torch import Tensor, nn
from torchaudio.models import Wav2Vec2Model, wav2vec2_model

BASE: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [[512, 10, 5], *[[512, 3, 2]] * 4, *[[512, 2, 2]] * 2],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 768,
    "encoder_pos_conv_kernel": 128,
    "encoder_pos_conv_groups": 16,
    "encoder_num_layers": 12,
    "encoder_num_heads": 12,
    "encoder_ff_interm_features": 3072,
    "encoder_layer_norm_first": False,
}
TINY: dict[str, Any] = BASE | {
    "extractor_conv_layer_config": [[16, 10, 5], *[[16, 3, 2]] * 4, *[[16, 2, 2]] * 2],
    "encoder_embed_dim": 32,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_ff_interm_features": 64,
}


def build(weights: Weights, *, depth: int | None = None, regularisation: Regularisation) -> Encoder:
    """Build the first ``depth`` layers; a folder holds ``config.json`` and ``model.safetensors``."""
    tiny = weights == "tiny"
    configuration = _configuration(weights) if isinstance(weights, Path) else TINY if tiny else BASE
    layers = configuration["encoder_num_layers"]
    if depth is not None and not 0 <= depth <= layers:
        raise PluginError(f"ta_hubert_base has {layers} layers; depth {depth} was asked for. Give 0 to {layers}.")
    kept = configuration | {"encoder_num_layers": layers if depth is None else depth}
    places = ("projection_dropout", "attention_dropout", "ff_interm_dropout", "dropout")
    dropouts = {f"encoder_{place}": regularisation.dropout for place in places}
    model = wav2vec2_model(**kept, **dropouts, encoder_layer_drop=0.0, aux_num_out=None)
    if isinstance(weights, Path):
        from safetensors.torch import load_file

        _load(model, load_file(weights / "model.safetensors"), weights)
    elif weights == "pretrained":
        from torchaudio.pipelines import HUBERT_BASE

        _load(model, HUBERT_BASE.get_model().state_dict(), "torchaudio.pipelines.HUBERT_BASE")
    return Encoder(model, kept, regularisation.layerdrop)


def _configuration(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder} has no config.json to read ({error}). Give a folder that save wrote.") from error
    if found.keys() != BASE.keys():
        raise WeightsError(f"{folder}/config.json has {', '.join(sorted(found))}; expected {', '.join(sorted(BASE))}.")
    return found


def _load(model: Wav2Vec2Model, state: dict[str, Tensor], where: object) -> None:
    """Load all that the model has; only layers that are cut off may be left over."""
    kept = len(model.encoder.transformer.layers)
    beyond = {name for name in state if _layer(name) >= kept}
    try:
        model.load_state_dict({name: value for name, value in state.items() if name not in beyond})
    except RuntimeError as error:
        raise WeightsError(f"{where} does not fit: {' '.join(str(error).split())}") from error


def _layer(name: str) -> int:
    """Return the transformer layer that a parameter belongs to, or -1."""
    _, found, rest = name.partition("encoder.transformer.layers.")
    return int(rest.partition(".")[0]) if found else -1


class Encoder(nn.Module):
    """The model, cut into a front end and what is trained."""

    def __init__(self, model: Wav2Vec2Model, configuration: dict[str, Any], layerdrop: float) -> None:
        super().__init__()
        self.dim, self.depth = configuration["encoder_embed_dim"], configuration["encoder_num_layers"]
        self.model, self.configuration, self.layerdrop = model, configuration, layerdrop
        model.feature_extractor.requires_grad_(False)
        # Samples that the convolutions need for their first frame.
        self.shortest = 1
        for _, kernel, stride in reversed(configuration["extractor_conv_layer_config"]):
            self.shortest = (self.shortest - 1) * stride + kernel

    @torch.no_grad()
    def frontend(self, wave: Tensor) -> Tensor:
        """Turn one utterance [n] into frames [t, c]."""
        wave = nn.functional.pad(wave, (0, max(0, self.shortest - len(wave))))
        frames, _ = self.model.feature_extractor(wave[None], None)
        found: Tensor = frames[0]
        return found

    def frontend_state(self) -> dict[str, Any]:
        """Give the convolutions' weights and shape."""
        return {
            "family": "torchaudio-hubert",
            "convolutions": self.configuration["extractor_conv_layer_config"],
            **self.model.feature_extractor.state_dict(),
        }

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        """Encode frames [b, t, c] into states [b, t, d]."""
        transformer = self.model.encoder.transformer
        own = valid(lengths, frames.shape[1])  # [b, t]
        hidden = torch.where(own[:, :, None], self.model.encoder.feature_projection(frames), 0.0)
        hidden = hidden + transformer.pos_conv_embed(hidden)
        if transformer.layer_norm_first:  # torchaudio's word for a norm before the first layer
            hidden = transformer.layer_norm(hidden)
        hidden = torch.where(own[:, :, None], transformer.dropout(hidden), 0.0)
        mask = torch.zeros(own.shape, dtype=hidden.dtype, device=hidden.device).masked_fill(~own, -torch.inf)
        states = [hidden]
        for layer in transformer.layers:
            if not (self.training and torch.rand(()) < self.layerdrop):
                hidden, _ = layer(hidden, mask[:, None, None, :].expand(-1, 1, own.shape[1], -1))
            states.append(hidden)
        if not transformer.layer_norm_first:
            states[-1] = transformer.layer_norm(states[-1])
        return Encoded(states[-1], lengths, tuple(states) if layers else None)

    def save(self, folder: Path) -> None:
        """Write what ``build`` reads from a folder."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.configuration), encoding="utf-8")
        save_file({k: v.contiguous() for k, v in self.model.state_dict().items()}, folder / "model.safetensors")
