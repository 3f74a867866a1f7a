"""What the paper says: its numbers, and the sentences that its tables and figures are to bear out.

De Oliveira, Raj Prabhu & Gerkmann 2023, Leveraging Semantic Information for Efficient Self-Supervised Emotion
Recognition with Audio-Textual Distilled Models, Interspeech. CCC on MSP-Podcast 1.10; seen is test1, unseen test2.
"""

from __future__ import annotations

from dataclasses import dataclass

from ser_bench.interface import ATTRIBUTES

SEEN, UNSEEN = "test1", "test2"
SIDES = {SEEN: "seen", UNSEEN: "unseen"}
LARGE, BASE, DISTILLED = "w2v2_l_robust_p_tinybert", "hubert_base_tinybert", "distilhubert_tinybert"
"""The audio-text systems; each one's audio system is found by its parts."""
RELEASE = "1.10"
LAYERS_OF = "hubert_base"
"""The encoder of Figure 2."""


@dataclass(frozen=True)
class Row:
    """A row of Table 1."""

    label: str
    millions: int
    """Parameters."""
    scores: dict[str, tuple[float, float, float]]
    """Partition -> arousal, valence, dominance."""


def _row(label: str, millions: int, *scores: float) -> Row:
    return Row(label, millions, {SEEN: (*scores[:3],), UNSEEN: (*scores[3:],)})  # type: ignore[dict-item]


TABLE1 = {
    "w2v2_l_robust_p": _row("w2v2-L-robust(p)", 165, 0.627, 0.470, 0.521, 0.462, 0.263, 0.390),
    "hubert_base": _row("HuBERT base", 95, 0.608, 0.440, 0.486, 0.388, 0.225, 0.344),
    "distilhubert": _row("DistilHuBERT", 24, 0.622, 0.328, 0.513, 0.470, 0.169, 0.395),
    LARGE: _row("w2v2-L-robust(p) + TinyBERT", 180, 0.619, 0.560, 0.484, 0.469, 0.347, 0.353),
    BASE: _row("HuBERT base + TinyBERT", 109, 0.613, 0.532, 0.493, 0.461, 0.315, 0.396),
    DISTILLED: _row("DistilHuBERT + TinyBERT", 39, 0.614, 0.519, 0.509, 0.475, 0.333, 0.392),
}
TABLE2: dict[str, dict[str, float]] = {
    "human": {"arousal": 0.614, "valence": 0.519, "dominance": 0.509},
    "whisper-base": {"valence": 0.521, "dominance": 0.511},  # its arousal is empty in the copy at hand
    "whisper-tiny": {"valence": 0.524, "dominance": 0.510},
}
"""Transcripts -> seen CCC of ``DISTILLED``."""
WER = {"whisper-base": 22.2, "whisper-tiny": 24.1}
"""Per cent."""
SHARE = 0.20
"""Of the large system's trainable parameters, which the distilled one has ("~20 %")."""
DOUBLED = 0.9
"""Share by which unseen valence of the distilled system rises "double": by the paper's own numbers by 0.97."""


def score(system: str, partition: str, attribute: str) -> float | None:
    """Return a CCC of Table 1; None for a system or partition that it does not have."""
    row = TABLE1.get(system)
    if row is None or partition not in row.scores:
        return None
    return row.scores[partition][ATTRIBUTES.index(attribute)]


def layer_levels(depth: int) -> dict[str, dict[int, int]]:
    """Return how important the paper calls each layer (§4.2): attribute -> layer -> level, higher for more important.

    Arousal: "the first layers up to layer 4 are more important than deeper layers". Valence: "lower importance in the
    first few transformer blocks while deeper layers are more important", with "a peak at layers 9 and 10". Few is taken
    as 4; of index 0, which is no block, nothing is said for valence. Dominance is not spoken of.

    Args:
        depth: transformer layers; those of an encoder that has not HuBERT base's 12 are taken at the same share of it.
    """
    arousal, valence = {}, {}
    for layer in range(depth + 1):
        place = 12 * layer / depth if depth else 0.0
        arousal[layer] = int(place <= 4)
        if layer:
            valence[layer] = 0 if place <= 4 else 2 if 8.5 <= place <= 10.5 else 1
    return {"arousal": arousal, "valence": valence}
