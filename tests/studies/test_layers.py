"""Layer weights of a frozen encoder find the one layer that knows, from a release to the record, in both orders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ser_bench import records
from ser_bench.host import Offer, host
from ser_bench.interface import AudioEncoderSpec, Encoded
from ser_bench.runner import run
from ser_bench.testing import write_release

KNOWS, STATES = 3, 6


class Planted(torch.nn.Module):
    """An encoder whose state 3 of 6 is the level of the wave (arousal's, as the release is made), and all others noise.

    The states differ in size by a factor of a thousand, and all are far from 0, as real ones are.
    """

    dim, depth = 8, STATES - 1

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def frontend(self, wave: torch.Tensor) -> torch.Tensor:
        pieces = wave.unfold(0, 800, 800)  # [t, 800]
        level = pieces.square().mean(1).clamp_min(1e-8).log()
        seed = int(wave.abs().sum() * 1e4) % (1 << 31)
        noise = torch.randn(len(pieces), self.dim, generator=torch.Generator().manual_seed(seed))
        return torch.cat([level[:, None], noise + noise.mean(0) * 5], dim=1)

    def frontend_state(self) -> dict[str, Any]:
        return {}

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor, *, layers: bool = False) -> Encoded:
        level, noise = frames[:, :, :1], frames[:, :, 1:]
        states = [torch.roll(noise, place, 2) * 10.0 ** (place - 2) + 3 for place in range(STATES)]
        states[KNOWS] = 0.1 * noise + level.expand(-1, -1, self.dim) - 20
        return Encoded(states[-1], lengths, tuple(states) if layers else None)


@pytest.mark.parametrize("head", ["weighted_layers", "weighted_sequences"])
def test_most_weight_is_on_the_layer_that_knows(head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = AudioEncoderSpec(
        name="planted", summary="under test", dim=Planted.dim, depth=Planted.depth, build=lambda *_, **__: Planted()
    )
    monkeypatch.setitem(host().offers, ("audio", "planted"), [Offer(spec, "tests", "0")])
    counts = {"train": 96, "development": 32, "test1": 32, "test2": 32}
    release = write_release(tmp_path, utterances=counts, seconds=(0.3, 0.6))
    out = run(
        audio="planted", head=head, corpus=release, strategy="frozen", out=tmp_path / "run", device="cpu", seeds=(1, 2),
        changes={"attributes": ["arousal"], "learning_rate": 1e-3, "epochs": 40, "patience": 40},
    )  # fmt: skip
    record = records.read(out / "record.json")
    assert record["summary"]["test1"]["ccc"]["arousal"]["mean"] > 0.5
    assert record["summary"]["test1"]["ccc"]["valence"] is None
    for one in record["runs"]:
        weights = one["layer_weights"]["audio"]
        assert len(weights) == STATES
        assert sum(weights) == pytest.approx(1)
        assert weights[KNOWS] > 0.5
        assert max(weights[:KNOWS] + weights[KNOWS + 1 :]) < 0.3
