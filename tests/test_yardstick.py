"""Ridge regression on features taken through our own front ends and stores gives the stand-in's known table.

This proves front ends, lengths, cuts, pooling and store before anything is trained: the table was worked out without
ser-bench (the shared folder's tools/yardstick.py, whose recipe this follows).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from ser_bench import prepare, system
from ser_bench.host import host
from ser_bench.interface import Regularisation
from ser_bench.pooling import pool
from ser_bench.prepare import Storing
from ser_bench.scoring import concordance
from ser_bench.training.batches import batches, length_order

pytestmark = [pytest.mark.shared, pytest.mark.slow]

PARTITIONS = ("development", "test1", "test2")
TABLE = {  # ../shared/data/README.md: arousal, valence, dominance on development, test1, test2
    "speech": [(0.785, 0.141, 0.639), (0.818, 0.127, 0.616), (0.604, 0.104, 0.571)],
    "text": [(0.045, 0.637, 0.052), (0.084, 0.740, 0.077), (0.085, 0.707, 0.094)],
    "both": [(0.771, 0.613, 0.589), (0.801, 0.705, 0.618), (0.589, 0.666, 0.574)],
}


@pytest.fixture(scope="module")
def features(standin, shared, tmp_path_factory):
    """Pooled features [n, p] and labels [n, 3] of each partition, by way of batches from the store."""
    plan = host().plan("whisper_base_minilm")
    models = {"audio": shared / "models/whisper-base-encoder", "text": shared / "models/all-MiniLM-L6-v2"}
    module = system.build(plan, models, plan.recipe)
    assert plan.depth == 2
    assert plan.recipe.regularisation == Regularisation(dropout=0.0)
    cache = tmp_path_factory.mktemp("yardstick")
    corpus = prepare.open_corpus(standin, cache=cache)
    inputs = prepare.make_inputs(module, plan, corpus, Storing(cache=cache), device=torch.device("cpu"))
    found = {}
    for name, part in inputs.items():
        order = length_order(part.duration, 16)
        speech, text = [], []
        with torch.no_grad():
            for batch in batches(part, order, torch.device("cpu")):
                heard = module.audio(batch.audio, batch.audio_lengths)
                speech.append(pool("mean_std", heard.hidden, heard.lengths))
                read = module.text(batch.text, batch.text_lengths)
                text.append(pool("mean", read.hidden, read.lengths))
        back = np.argsort(np.concatenate(order))
        columns = {"speech": torch.cat(speech).numpy()[back], "text": torch.cat(text).numpy()[back]}
        columns["both"] = np.hstack([columns["speech"], columns["text"]])
        found[name] = (columns, corpus.rows[name].labels)
    return found


@pytest.mark.parametrize("kind", list(TABLE))
def test_ridge_on_stored_front_ends_gives_the_known_table(features, kind) -> None:
    x, y = features["train"][0][kind], features["train"][1]
    assert x.shape == (600, {"speech": 1024, "text": 384, "both": 1408}[kind])
    mean, scale = x.mean(0), x.std(0) + 1e-8
    model = Ridge(alpha=1000.0).fit((x - mean) / scale, y)
    for partition, expected in zip(PARTITIONS, TABLE[kind], strict=True):
        columns, labels = features[partition]
        predicted = model.predict((columns[kind] - mean) / scale)
        found = [concordance(predicted[:, k], labels[:, k]) for k in range(3)]
        assert found == pytest.approx(expected, abs=0.02), f"{kind} on {partition}"
