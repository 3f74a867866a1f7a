"""The fusion heads against hand computation and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from ser_bench_plugins.heads import Concat, Linear

PENALTIES = [10.0**power for power in range(-1, 7)]


@pytest.mark.parametrize(("audio", "text", "joined", "hidden"), [(6, 4, 10, 6), (6, None, 6, 6), (None, 4, 4, 4)])
@torch.no_grad()
def test_concat_is_two_linear_layers_with_tanh(audio: int | None, text: int | None, joined: int, hidden: int) -> None:
    head = Concat(audio, text, dropout=0.5).eval()
    shapes = {name: tuple(p.shape) for name, p in head.named_parameters()}
    assert sorted(shapes.values()) == sorted([(hidden, joined), (hidden,), (3, hidden), (3,)])
    heard, read = (None if width is None else torch.randn(5, width) for width in (audio, text))
    found = head(heard, read).numpy()
    weights = [p.numpy().astype(np.float64) for p in head.parameters()]
    x = np.concatenate([v.numpy() for v in (heard, read) if v is not None], axis=1)
    expected = np.tanh(x @ weights[0].T + weights[1]) @ weights[2].T + weights[3]
    assert np.abs(found - expected).max() < 1e-6


@torch.no_grad()
def test_concat_drops_at_both_places_in_training_alone() -> None:
    torch.manual_seed(0)
    head = Concat(64, None, dropout=0.5)
    x = torch.randn(1, 64).expand(200, 64)
    assert head.eval()(x, None).std(0).max() == 0
    assert head.train()(x, None).std(0).min() > 0
    assert [m.p for m in head.layers if isinstance(m, torch.nn.Dropout)] == [0.5, 0.5]


def problem(n: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three attributes of which each wants another penalty: no noise, some, and noise alone."""
    rng = np.random.default_rng(4)
    audio, text = rng.normal(3, 5, (n, 20)), rng.normal(0, 0.1, (n, 5))
    clean = audio[:, 0] * 0.02 + text[:, 1]
    labels = np.stack([clean, clean + rng.normal(0, 0.1, n), rng.normal(0.5, 0.1, n)], axis=1)
    return tuple(torch.from_numpy(array.astype(np.float32)) for array in (audio, text, labels))  # type: ignore[return-value]


def left_out(z: np.ndarray, y: np.ndarray, penalty: float) -> float:
    """Return the mean squared error of each row under a ridge on all the others."""
    errors = []
    for row in range(len(y)):
        others = np.arange(len(y)) != row
        errors.append(float(Ridge(alpha=penalty).fit(z[others], y[others]).predict(z[[row]])[0] - y[row]) ** 2)
    return float(np.mean(errors))


@torch.no_grad()
def test_linear_starts_from_the_ridge_solution_that_leaves_one_out_best() -> None:
    audio, text, labels = problem()
    head = Linear(20, 5, dropout=0.1).eval()
    head.fit(audio, text, labels)
    x = np.concatenate([audio.numpy(), text.numpy()], axis=1).astype(np.float64)
    z = (x - x.mean(0)) / x.std(0)
    found = head(audio, text).numpy()
    chosen = []
    for column in range(3):
        y = labels[:, column].numpy().astype(np.float64)
        chosen.append(min(PENALTIES, key=lambda penalty: left_out(z, y, penalty)))
        assert np.abs(found[:, column] - Ridge(alpha=chosen[-1]).fit(z, y).predict(z)).max() < 1e-5
    assert len(set(chosen)) == 3  # one choice for all would not do


@torch.no_grad()
def test_linear_with_more_columns_than_rows() -> None:
    audio, text, labels = problem(n=12)
    head = Linear(20, 5, dropout=0.0).eval()
    head.fit(audio, text, labels)
    x = np.concatenate([audio.numpy(), text.numpy()], axis=1).astype(np.float64)
    z = (x - x.mean(0)) / x.std(0)
    y = labels[:, 1].numpy().astype(np.float64)
    best = min(PENALTIES, key=lambda penalty: left_out(z, y, penalty))
    assert np.abs(head(audio, text)[:, 1].numpy() - Ridge(alpha=best).fit(z, y).predict(z)).max() < 1e-5


@torch.no_grad()
def test_linear_leaves_an_attribute_without_labels_alone() -> None:
    audio, text, labels = problem()
    head = Linear(20, 5, dropout=0.0)
    weight, bias = head.layer.weight.clone(), head.layer.bias.clone()
    labels[:, 1] = torch.nan
    head.fit(audio, text, labels)
    assert torch.equal(head.layer.weight[1], weight[1])
    assert torch.equal(head.layer.bias[1], bias[1])
    assert not torch.equal(head.layer.weight[0], weight[0])
    assert head(audio, text).isfinite().all()


@torch.no_grad()
def test_linear_survives_a_constant_column_and_one_modality() -> None:
    audio, _, labels = problem()
    audio[:, 3] = 0.3
    head = Linear(20, None, dropout=0.0)
    head.fit(audio, None, labels)
    assert head(audio, None).isfinite().all()
    assert head.layer.weight[:, 3].abs().max() < 1e-6


def test_linear_keeps_its_standardisation_with_its_weights() -> None:
    audio, text, labels = problem()
    head, other = Linear(20, 5, dropout=0.0), Linear(20, 5, dropout=0.0)
    head.fit(audio, text, labels)
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(audio, text), head(audio, text))
    assert {name for name, _ in head.named_parameters()} == {"layer.weight", "layer.bias"}
