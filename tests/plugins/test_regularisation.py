"""What encoders do to themselves in training, and at no other time."""

from __future__ import annotations

import pytest
import torch
from plugins.parts import part, wave

from ser_bench.host import host
from ser_bench.interface import Kind, Regularisation
from ser_bench_plugins.masking import mask_spans

ENCODERS = [(kind, offer.spec.name) for kind in ("audio", "text") for offer in host().usable(kind)]


def inputs(kind: Kind, encoder: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch of two, the second shorter."""
    if kind == "audio":
        frames = encoder.frontend(wave(3.0))  # type: ignore[attr-defined]
        return torch.stack([frames, frames]), torch.tensor([len(frames), len(frames) // 2])
    ids = encoder.frontend("well it was a long day and then " * 10).ids  # type: ignore[attr-defined]
    return torch.stack([ids, ids]), torch.tensor([len(ids), len(ids) // 2])


@pytest.mark.parametrize(
    ("kind", "name", "setting"),
    [
        (*encoder, setting)
        for encoder in ENCODERS
        for setting in ("dropout", "layerdrop", "time_mask", "feature_mask")
        # LayerDrop is of transformer layers, which the two from scratch do not have.
        if setting != "layerdrop" or encoder[1] not in ("logmel", "words")
    ],
)
@torch.no_grad()
def test_only_in_training(kind: Kind, name: str, setting: str) -> None:
    encoder = part(kind, name, "tiny", **{setting: 0.5})
    batch, lengths = inputs(kind, encoder)
    own = torch.arange(batch.shape[1])[None, :] < lengths[:, None]
    torch.manual_seed(0)
    calm = [encoder(batch, lengths).hidden[own] for _ in range(2)]
    assert torch.equal(calm[0], calm[1])
    encoder.train()
    noisy = [encoder(batch, lengths).hidden[own] for _ in range(8)]
    assert any(not torch.equal(calm[0], hidden) for hidden in noisy)
    assert all(hidden.isfinite().all() for hidden in noisy)


@pytest.mark.parametrize(("kind", "name"), ENCODERS)
@torch.no_grad()
def test_nothing_is_random_where_all_is_off(kind: Kind, name: str) -> None:
    encoder = part(kind, name, "tiny")
    batch, lengths = inputs(kind, encoder)
    own = torch.arange(batch.shape[1])[None, :] < lengths[:, None]
    calm = encoder(batch, lengths).hidden[own]
    assert torch.equal(encoder.train()(batch, lengths).hidden[own], calm)


def masked_share(share: float) -> float:
    return 1 - (1 - share) ** 10  # a position is masked if any of the ten spans that reach it starts


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_time_mask_has_its_share(share: float) -> None:
    torch.manual_seed(0)
    hidden = torch.ones(1000, 400, 3)
    own = torch.ones(1000, 400, dtype=torch.bool)
    fill = torch.tensor([5.0, 6.0, 7.0])
    out = mask_spans(hidden, own, Regularisation(time_mask=share), fill)
    masked = out[:, :, 0] == 5
    assert torch.equal(out[masked], fill.expand(int(masked.sum()), 3))
    assert torch.equal(out[~masked], hidden[~masked])
    # The first nine positions are reached by fewer spans.
    assert float(masked[:, 9:].float().mean()) == pytest.approx(masked_share(share), rel=0.05)
    runs = masked.float().diff(dim=1)
    assert int((runs == 1).sum()) > 50
    zeroed = mask_spans(hidden, own, Regularisation(time_mask=share))
    assert set(zeroed.unique().tolist()) == {0.0, 1.0}


def test_a_span_is_ten_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = torch.ones(1, 40)
    starts[0, [5, 37]] = 0.0
    monkeypatch.setattr(torch, "rand", lambda *shape, device=None: starts)
    out = mask_spans(torch.ones(1, 40, 2), torch.ones(1, 40, dtype=torch.bool), Regularisation(time_mask=0.1))
    assert (out[0, :, 0] == 0).nonzero().flatten().tolist() == [*range(5, 15), 37, 38, 39]


def test_feature_mask_has_its_share_and_takes_whole_channels() -> None:
    torch.manual_seed(0)
    hidden = torch.ones(300, 4, 500)
    out = mask_spans(hidden, torch.ones(300, 4, dtype=torch.bool), Regularisation(feature_mask=0.05))
    assert torch.equal(out.amin(1), out.amax(1))
    assert float((out[:, 0, 9:] == 0).float().mean()) == pytest.approx(masked_share(0.05), rel=0.05)


def test_off_is_off() -> None:
    hidden = torch.randn(2, 30, 4)
    assert mask_spans(hidden, torch.ones(2, 30, dtype=torch.bool), Regularisation()) is hidden
