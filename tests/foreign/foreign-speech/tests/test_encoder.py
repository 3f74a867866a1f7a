"""The encoder gives what torchaudio's own model gives, and reads weights from a folder."""

from pathlib import Path

import pytest
import torch
from foreign_speech.encoder import build
from ser_bench.errors import WeightsError
from ser_bench.interface import Regularisation

QUIET = Regularisation(dropout=0.0)


def encoder(weights="tiny", depth=None):
    torch.manual_seed(0)
    return build(weights, depth=depth, regularisation=QUIET).eval()


@pytest.mark.parametrize("samples", [400, 7_777, 48_000])
def test_states_are_torchaudios(samples: int) -> None:
    ours = encoder()
    wave = torch.randn(samples) / 10
    with torch.no_grad():
        theirs, _ = ours.model.extract_features(wave[None])
        frames = ours.frontend(wave)
        found = ours(frames[None], torch.tensor([len(frames)]), layers=True)
    for state, expected in zip(found.layers[1:], theirs, strict=True):
        assert float((state - expected).abs().max()) <= 1e-5


def test_a_folder_comes_back_and_is_cut(tmp_path: Path) -> None:
    whole = encoder()
    whole.save(tmp_path)
    frames = whole.frontend(torch.randn(8_000) / 10)[None]
    lengths = torch.tensor([frames.shape[1]])
    with torch.no_grad():
        states = whole(frames, lengths, layers=True).layers
        assert torch.equal(encoder(tmp_path)(frames, lengths).hidden, states[2])
        assert torch.equal(encoder(tmp_path, depth=1)(frames, lengths).hidden, states[1])


def test_a_folder_that_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"has no config\.json to read"):
        encoder(tmp_path)
    encoder().save(tmp_path)
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json").read_text().replace("64}", "65}").replace(": 64,", ": 65,")
    )
    with pytest.raises(WeightsError, match=r"does not fit: .*size mismatch"):
        encoder(tmp_path)
