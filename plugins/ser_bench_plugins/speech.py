"""Audio encoders of the wav2vec 2.0 kind: the convolutional encoder as the front end, the transformer after it.

wav2vec 2.0, HuBERT, WavLM and data2vec-audio share one module; what differs is a value of the configuration, or a
method of a subclass. Letters: b utterances, t frames, c channels, d width, h attention heads.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import Data2VecAudioModel, HubertModel, PreTrainedModel, Wav2Vec2Model, WavLMModel

from ser_bench.errors import WeightsError
from ser_bench.interface import Encoded, Regularisation, Source, Weights
from ser_bench.pooling import valid
from ser_bench_plugins.dropout import attend
from ser_bench_plugins.long_convolution import quicken
from ser_bench_plugins.masking import attention_mask, dropped, mask_spans
from ser_bench_plugins.pretrained import Checkpoint, Family, located, make, shipped

log = logging.getLogger(__name__)


def build(
    weights: Weights, *, depth: int | None = None, regularisation: Regularisation, configuration: str, source: Source
) -> Speech:
    """Build the encoder of a shipped configuration."""
    settings, checkpoint = shipped(configuration), located(weights, source)
    says = None if checkpoint is None else checkpoint.normalises()
    if checkpoint is not None and says is not None and says != settings["normalise"]:
        log.warning(
            "%s says do_normalize %s, the configuration that ships for %s says %s; the checkpoint's word is taken.",
            checkpoint.place,
            says,
            configuration,
            settings["normalise"],
        )
        settings["normalise"] = says
    return assemble(settings, weights, checkpoint, name=configuration, depth=depth, regularisation=regularisation)


def assemble(
    settings: dict[str, Any],
    weights: Weights,
    checkpoint: Checkpoint | None,
    *,
    name: str,
    depth: int | None,
    regularisation: Regularisation,
) -> Speech:
    """Build the encoder of a full configuration, which also says whether to ``normalise`` the wave."""
    if settings.get("add_adapter"):
        raise WeightsError(
            f"{name} has an adapter on its encoder (add_adapter), which changes the frame rate and is not read here. "
            "Use a checkpoint without one."
        )
    family = FAMILIES[settings["model_type"]]
    model = make(family, settings, weights, checkpoint, name=name, depth=depth, regularisation=regularisation)
    built: Speech = family.module(model, regularisation, normalise=settings["normalise"])
    return built


class Speech(nn.Module):
    """A transformers model of the wav2vec 2.0 kind, cut between its convolutional encoder and the rest."""

    frontend_threads = True

    def __init__(self, model: PreTrainedModel, regularisation: Regularisation, *, normalise: bool) -> None:
        super().__init__()
        self.convolutions = model.feature_extractor.requires_grad_(False)
        self.projection = model.feature_projection
        self.mask_vector = model.masked_spec_embed  # [d], counted and trained like the rest; read where time_mask > 0
        self.context = model.encoder
        quicken(getattr(model.encoder.pos_conv_embed, "conv", None))
        self.config = model.config
        self.regularisation = regularisation
        self.normalise = normalise
        self.norm_first = bool(getattr(model.config, "do_stable_layer_norm", False))
        self.dim: int = model.config.hidden_size
        self.depth: int = model.config.num_hidden_layers

    @torch.no_grad()
    def frontend(self, wave: Tensor) -> Tensor:
        """Turn one utterance [n] into the convolutional encoder's frames [t, c], 50 a second."""
        if self.normalise:  # as transformers' Wav2Vec2FeatureExtractor
            wave = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
        shortest = _receptive_field(self.config.conv_kernel, self.config.conv_stride)
        if len(wave) < shortest:
            wave = nn.functional.pad(wave, (0, shortest - len(wave)))
        frames: Tensor = self.convolutions(wave[None])[0].T  # [t, c]
        return frames

    def frontend_state(self) -> dict[str, Any]:
        """Give the convolutional encoder's weights, and whether the wave is normalised."""
        return {
            **self.convolutions.state_dict(),
            "family": self.config.model_type,
            "normalise": self.normalise,
        }

    def forward(self, frames: Tensor, lengths: Tensor, *, layers: bool = False) -> Encoded:
        """Encode [b, t, c] into [b, t, d]; follows transformers' ``Wav2Vec2Encoder.forward`` and its like."""
        own = valid(lengths, frames.shape[1])  # [b, t]
        projected = self.projection(frames)
        hidden = projected[0] if isinstance(projected, tuple) else projected  # HuBERT's gives no copy of its input
        if self.training:
            hidden = mask_spans(hidden, own, self.regularisation, self.mask_vector)
        # Zeros past the end are what the positional convolution sees past the end of an utterance alone.
        hidden = torch.where(own[:, :, None], hidden, 0.0)
        hidden = hidden + self.positions(hidden, own)
        if not self.norm_first:
            hidden = self.context.layer_norm(hidden)
        hidden = self.context.dropout(hidden)
        reach = self.reach(hidden, own)
        states = [hidden]
        for layer in self.context.layers:
            skipped = self.training and dropped(self.regularisation)
            hidden = hidden if skipped else self.through(layer, hidden, reach)
            states.append(hidden)
        if self.norm_first:  # the one norm stands after the last layer, and stays there when layers are cut off
            states[-1] = self.context.layer_norm(hidden)
        return Encoded(states[-1], lengths, tuple(states) if layers else None)

    def positions(self, hidden: Tensor, own: Tensor) -> Tensor:
        """Give what is added to each state for its place, [b, t, d] for [b, t, d]."""
        added: Tensor = self.context.pos_conv_embed(hidden)
        return added

    def reach(self, hidden: Tensor, own: Tensor) -> Any:
        """Give what all layers' attention needs beside the states."""
        return attention_mask(own)

    def through(self, layer: Any, hidden: Tensor, reach: Any) -> Tensor:
        """Take the states [b, t, d] through one layer."""
        given: Tensor = layer(hidden, attention_mask=reach)
        return given


class Hubert(Speech):
    """HuBERT, some of whose descendants (mHuBERT) normalise before their positional convolution."""

    def positions(self, hidden: Tensor, own: Tensor) -> Tensor:
        """Give the positional convolution of the normalised states, with zeros past the end again."""
        embedding = self.context.pos_conv_embed
        norm = embedding.batch_norm
        if norm is None:
            return super().positions(hidden, own)
        # With its running statistics in training too: a batch's own would count padding and mix batch mates.
        statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        shifted = nn.functional.batch_norm(hidden.transpose(1, 2), *statistics, eps=norm.eps)  # [b, d, t]
        shifted = torch.where(own[:, None, :], shifted, 0.0)
        added: Tensor = embedding.activation(embedding.padding(embedding.conv(shifted))).transpose(1, 2)
        return added


class Data2VecAudio(Speech):
    """data2vec-audio, with a stack of positional convolutions."""

    def positions(self, hidden: Tensor, own: Tensor) -> Tensor:
        """Give the stack's output, with zeros past the end before each convolution."""
        added = hidden.transpose(1, 2)  # [b, d, t]
        for convolution in self.context.pos_conv_embed.layers:
            added = convolution(torch.where(own[:, None, :], added, 0.0))
        return added.transpose(1, 2)


class WavLM(Speech):
    """WavLM, whose layers share a bias by relative position, which each weighs by its own gates.

    The library's attention warns of its own mask beside the bias, keeps a copy of the bias for every utterance and
    gives attention weights that nobody reads, so its parameters are used here with torch's attention.
    """

    def reach(self, hidden: Tensor, own: Tensor) -> Any:
        """Give the bias [h, t, t], which the first layer holds, and the padding mask."""
        size = hidden.shape[1]
        bias = self.context.layers[0].attention.compute_bias(size, size) if self.depth else None
        return bias, own[:, None, None, :]

    def through(self, layer: Any, hidden: Tensor, reach: Any) -> Tensor:
        """Follow transformers' ``WavLMEncoderLayer`` or, norm first, ``WavLMEncoderLayerStableLayerNorm``."""
        if self.norm_first:
            hidden = hidden + layer.dropout(_attend(layer.attention, layer.layer_norm(hidden), *reach))
            return hidden + cast(Tensor, layer.feed_forward(layer.final_layer_norm(hidden)))
        hidden = layer.layer_norm(hidden + layer.dropout(_attend(layer.attention, hidden, *reach)))
        return cast(Tensor, layer.final_layer_norm(hidden + layer.feed_forward(hidden)))


def _attend(attention: Any, hidden: Tensor, bias: Tensor, own: Tensor) -> Tensor:
    """Attend under the gated bias (Chen et al. 2022, WavLM), as transformers' ``WavLMAttention``.

    Args:
        attention: the library's module, for its parameters.
        hidden: [b, t, d].
        bias: [h, t, t] by relative position, before the gates.
        own: [b, 1, 1, t], True where a state belongs to its utterance.

    Returns:
        [b, t, d].
    """
    heads = attention.num_heads

    def split(states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], heads, -1).transpose(1, 2)  # [b, h, t, d / h]

    pairs: Tensor = attention.gru_rel_pos_linear(split(hidden))
    gates = pairs.view(*pairs.shape[:-1], 2, 4).sum(-1).sigmoid()  # [b, h, t, 2]
    weight = gates[..., :1] * (gates[..., 1:] * attention.gru_rel_pos_const - 1.0) + 2.0  # [b, h, t, 1]
    query = split(attention.q_proj(hidden))
    mask = (weight * bias).to(query.dtype).masked_fill(~own, -torch.inf)  # [b, h, t, t]
    share = attention.dropout if attention.training else 0.0
    mixed = attend(query, split(attention.k_proj(hidden)), split(attention.v_proj(hidden)), mask, dropout=share)
    given: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(-2))
    return given


def _receptive_field(kernels: list[int], strides: list[int]) -> int:
    """Return the samples that give one frame, the fewest the convolutions can read (400, 25 ms, in all we name)."""
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def _family(model: type[PreTrainedModel], module: type[Speech], **tiny: Any) -> Family:
    return Family(
        model=model,
        module=module,
        stack="encoder.layers",
        tiny={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "conv_dim": [16] * 7,
            "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
            "conv_stride": [5, 2, 2, 2, 2, 2, 2],
            "num_conv_pos_embedding_groups": 2,
            **tiny,
        },
        dropouts=("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout"),
        heads=(
            "lm_head.",
            "quantizer.",
            "project_q.",
            "project_hid.",
            "final_proj.",
            "label_embs_concat",
            "projector.",
            "classifier.",
            "layer_weights",
            "tdnn.",
            "objective.",
            "feature_extractor.weight",  # a speaker model's last layer; the convolutions are feature_extractor.conv_...
            "feature_extractor.bias",
        ),
        # The vector for masked frames exists where masking is on in the configuration, and is missing in some
        # checkpoints even so (those fine-tuned for recognition).
        optional="masked_spec_embed",
        always={"mask_time_prob": 0.05},
    )


FAMILIES = {
    "wav2vec2": _family(Wav2Vec2Model, Speech, num_conv_pos_embeddings=16),
    "hubert": _family(HubertModel, Hubert, num_conv_pos_embeddings=16),
    "wavlm": _family(WavLMModel, WavLM, num_conv_pos_embeddings=16, num_buckets=32, max_bucket_distance=80),
    "data2vec-audio": _family(Data2VecAudioModel, Data2VecAudio, num_conv_pos_embeddings=3, conv_pos_kernel_size=5),
}
