from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from training.toys import composed, inputs

from ser_bench.errors import TrainingError
from ser_bench.training.batches import Inputs
from ser_bench.training.predict import predict

CPU = torch.device("cpu")


class Gives(torch.nn.Module):
    """Gives what it was made with, and remembers the mode."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value, self.modes = value, []  # type: ignore[var-annotated]

    def forward(self, audio: Any, audio_lengths: Any, text: Any, text_lengths: Any) -> Any:
        self.modes.append(self.training)
        return self.value(audio) if callable(self.value) else self.value


@torch.no_grad()
def test_in_the_partitions_order() -> None:
    system, data = composed(), inputs(23, seed=1)
    found = predict(system, data, batch_size=4, device=CPU)
    assert found.shape == (23, 3)
    assert found.dtype == np.float64
    assert data.audio is not None
    for n in range(23):
        frames = torch.from_numpy(data.audio[n])[None]
        expected = system(frames, torch.tensor([frames.shape[1]]), None, None)[0].numpy()
        assert np.abs(found[n] - expected).max() < 1e-6
    assert np.abs(predict(system, data, batch_size=100, device=CPU) - found).max() < 1e-6


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_eval_and_given_back(training: bool) -> None:
    system = Gives(lambda audio: torch.zeros(len(audio), 3)).train(training)
    predict(system, inputs(5, seed=0), batch_size=2, device=CPU)
    assert system.modes == [False] * 3
    assert system.training is training


def test_values_outside_are_kept() -> None:
    system = Gives(lambda audio: torch.full((len(audio), 3), -7.5))
    assert (predict(system, inputs(5, seed=0), batch_size=2, device=CPU) == -7.5).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_not_finite(value: float) -> None:
    data = inputs(5, seed=0)
    assert data.audio is not None
    spoilt = data.audio[3][0, 0]
    system = Gives(lambda audio: torch.where((audio[:, :1, 0] == spoilt), value, 0.5).expand(-1, 3))
    with pytest.raises(TrainingError) as caught:
        predict(system, data, batch_size=2, device=CPU)
    assert str(caught.value) == (
        "1 of 5 predictions are not finite (first: train_3.wav). Lower recipe.learning_rate, or look for the fault in "
        "the plugin's forward."
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda audio: torch.zeros(len(audio), 2), r"the system gave \[2, 2\], expected \[2, 3\]"),
        (lambda audio: torch.zeros(3), r"the system gave \[3\], expected \[2, 3\]"),
        # One row for all is for systems that read nothing: from one that reads, it would be a mix of its batch.
        (lambda audio: torch.zeros(1, 3), r"the system gave \[1, 3\], expected \[2, 3\]"),
        (lambda audio: [[0, 0, 0]], r"the system gave list, expected \[2, 3\]\. Correct the plugin's forward"),
    ],
)
def test_another_shape(given: Any, said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        predict(Gives(given), inputs(2, seed=0), batch_size=2, device=CPU)


def test_one_row_for_all_from_a_system_that_reads_nothing() -> None:
    data = Inputs(
        utterance=list("abc"), duration=np.ones(3), labels=np.zeros((3, 3), np.float32), audio=None, text=None
    )
    found = predict(Gives(torch.tensor([[0.1, 0.2, 0.3]])), data, batch_size=2, device=CPU)
    assert found == pytest.approx(np.array([[0.1, 0.2, 0.3]] * 3))


def test_out_of_memory_names_the_longest() -> None:
    def full(audio: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    data = inputs(5, seed=0)
    longest = data.utterance[int(np.argmax(data.duration))]
    with pytest.raises(
        TrainingError, match=rf"out of memory on a batch of 2 utterances, 2 at once \(longest .* first: {longest}"
    ):
        predict(Gives(full), data, batch_size=2, device=CPU)


@pytest.mark.parametrize(
    "words",
    ["CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling", "cuDNN: CUDNN_STATUS_ALLOC_FAILED"],
)
def test_out_of_memory_by_any_name_and_while_a_batch_is_brought(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    from ser_bench.training.batches import Batch

    def full(self: Batch, device: torch.device) -> Batch:
        raise RuntimeError(words)

    monkeypatch.setattr(Batch, "to", full)
    with pytest.raises(TrainingError, match=r"^out of memory on a batch of 2 utterances, 2 at once"):
        predict(Gives(lambda audio: audio), inputs(5, seed=0), batch_size=2, device=CPU)


def test_a_forward_that_raises_is_one_clear_error() -> None:
    class Broken(torch.nn.Module):
        def forward(self, *_: object) -> torch.Tensor:
            raise ValueError("shapes do not fit\nat all")

    with pytest.raises(
        TrainingError, match=r"forward failed on a batch of 4 utterances: ValueError: shapes do not fit\. Correct"
    ):
        predict(Broken(), inputs(4, seed=0), batch_size=4, device=torch.device("cpu"))
