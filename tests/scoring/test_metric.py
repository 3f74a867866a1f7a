from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ser_bench.errors import ScoreError
from ser_bench.scoring import concordance
from ser_bench.training.loss import concordance_per_column


@pytest.fixture
def metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from ser_bench.scoring.metric import ConcordanceCorrelation

    return ConcordanceCorrelation(cache_dir=str(tmp_path))


def test_the_three_agree_to_1e9(metric) -> None:
    rng = np.random.default_rng(1)
    target = rng.uniform(1, 7, 1000)
    prediction = 0.4 * target + rng.normal(2.5, 0.5, 1000)
    expected = concordance(prediction, target)
    assert metric.compute(predictions=prediction, references=target)["concordance"] == pytest.approx(expected, abs=1e-9)
    torch_value = concordance_per_column(torch.tensor(prediction)[:, None], torch.tensor(target)[:, None])
    assert torch_value.item() == pytest.approx(expected, abs=1e-9)


def test_in_batches(metric) -> None:
    for low in (0, 2, 4):
        metric.add_batch(predictions=[low + 1.0, low + 2.5], references=[low + 1.0, low + 2.0])
    expected = concordance([1, 2.5, 3, 4.5, 5, 6.5], [1, 2, 3, 4, 5, 6])
    assert metric.compute()["concordance"] == pytest.approx(expected, abs=1e-12)


def test_refuses_as_the_function_does(metric) -> None:
    with pytest.raises(ScoreError, match="both constant"):
        metric.compute(predictions=[1.0, 1.0], references=[2.0, 2.0])


def test_scoring_imports_neither_torch_nor_scipy() -> None:
    heavy = "torch", "scipy", "evaluate", "datasets", "pandas", "pyarrow"
    code = f"import ser_bench.scoring, sys; sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
