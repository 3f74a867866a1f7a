from __future__ import annotations

import json
import re

import numpy as np
import pytest

from ser_bench.errors import ScoreError
from ser_bench.scoring import concordance, interval, match, score_partition
from ser_bench.scoring.resampling import grain
from ser_bench.scoring.utterances import coarse_limits

COLUMNS = ("arousal", "valence", "dominance", "mean")


@pytest.fixture
def scored(make_rows, make_scored):
    labels, predictions, speaker = make_scored([30] * 25 + [4] * 10, [0.3])
    return predictions[0], labels, make_rows(labels, speaker)


def test_scores_clusters_and_shape(scored) -> None:
    prediction, labels, rows = scored
    found = score_partition(prediction, labels, rows=rows)
    expected = [concordance(prediction[:, c], labels[:, c]) for c in range(3)]
    for name, value in zip(COLUMNS, [*expected, np.mean(expected)], strict=True):
        entry = found.ccc[name]
        assert entry["value"] == round(value, 6)
        assert entry["ci95"][0] < entry["value"] < entry["ci95"][1]
        low, high = entry["ci95_utterances"]
        assert low < entry["value"] < high
        assert coarse_limits([low, high], len(rows)) == [low, high]
    low, high = found.ccc["arousal"]["ci95_utterances"]
    assert found.ccc["arousal"]["ci95"][0] < low < high < found.ccc["arousal"]["ci95"][1]  # speakers matter here
    # Ten speakers of four, sorted as text, fill three groups of twelve; the last speaker goes to the third.
    assert found.clusters == {"count": 28, "joined": 10, "few": False}
    assert sorted(found.resampling["sizes"]) == [12, 12, 16] + [30] * 25
    assert list(found.as_dict()) == ["ccc", "clusters", "slices", "calibration", "outside_range"]
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False)) == found.as_dict()
    assert json.loads(json.dumps(found.resampling, allow_nan=False)) == found.resampling


def test_interval_follows_from_what_is_published(scored) -> None:
    prediction, labels, rows = scored
    found = score_partition(prediction, labels, rows=rows)
    block = json.loads(json.dumps(found.resampling))
    for name in COLUMNS:
        sizes = np.array(block["sizes"])
        again = interval(block["full"][name], np.array(block[name]), sizes, step=grain(block["full"][name], sizes))
        assert again == pytest.approx(found.ccc[name]["ci95"], abs=1e-5)


def test_coarse_values_hardly_move_the_interval(scored) -> None:
    from ser_bench.scoring import leave_one_out

    prediction, labels, rows = scored
    found = score_partition(prediction, labels, rows=rows)
    small = sorted({s for s in rows.speaker if int(s) >= 25})
    groups = {s: f"joined{min(i // 3, 2)}" for i, s in enumerate(small)}
    names = [groups.get(s, f"speaker:{s}") for s in rows.speaker]
    exact = leave_one_out(prediction, labels, names)
    for c, name in enumerate(COLUMNS[:3]):
        low, high = interval(float(exact.value[c]), exact.left_out[:, c], exact.sizes)
        assert found.ccc[name]["ci95"] == pytest.approx([low, high], abs=0.05 * (high - low))


def test_few_clusters_are_flagged(make_rows, make_scored) -> None:
    labels, predictions, speaker = make_scored([30] * 19, [0.3])
    found = score_partition(predictions[0], labels, rows=make_rows(labels, speaker))
    assert found.clusters == {"count": 19, "joined": 0, "few": True}
    for name in COLUMNS:
        low, high = found.ccc[name]["ci95_utterances"]
        assert low < found.ccc[name]["value"] < high


def test_one_small_partition(make_rows, make_scored) -> None:
    labels, predictions, speaker = make_scored([3, 2, 2], [0.3])
    found = score_partition(predictions[0], labels, rows=make_rows(labels, speaker))
    assert found.clusters == {"count": 1, "joined": 3, "few": True}
    assert found.ccc["mean"]["ci95"] is None
    assert found.resampling["mean"] == []
    assert found.calibration == {"arousal": None, "valence": None, "dominance": None}


def test_untrained_attributes_are_null_and_not_looked_at(scored) -> None:
    prediction, labels, rows = scored
    prediction = prediction.copy()
    prediction[:, 1] = np.nan
    found = score_partition(prediction, labels, rows=rows, attributes=("dominance", "arousal"))
    assert found.ccc["valence"] is None
    assert found.resampling["valence"] is None
    assert found.resampling["full"]["valence"] is None
    expected = np.mean([concordance(prediction[:, c], labels[:, c]) for c in (0, 2)])
    assert found.ccc["mean"]["value"] == round(expected, 6)
    assert list(found.calibration) == ["arousal", "dominance"]


def test_outside_range_is_counted_and_not_clipped(scored) -> None:
    prediction, labels, rows = scored
    prediction = prediction.copy()
    prediction[0] = [7.5, 0.5, 1.0]
    found = score_partition(prediction, labels, rows=rows)
    assert found.outside_range == 2
    assert found.ccc["arousal"]["value"] == round(concordance(prediction[:, 0], labels[:, 0]), 6)


def test_refuses_values_with_the_utterances_name(scored) -> None:
    prediction, labels, rows = scored
    for word, name, value in (("prediction", "valence", np.nan), ("label", "valence", np.inf)):
        p, t = prediction.copy(), labels.copy()
        (p if word == "prediction" else t)[[7, 9], 1] = value
        message = f"the {word} of {rows.utterance[7]} is {value} for {name}, the first of 2 non-finite values in test1"
        with pytest.raises(ScoreError, match=re.escape(message)):
            score_partition(p, t, rows=rows)


def test_refuses_shapes_and_dead_models(scored) -> None:
    prediction, labels, rows = scored
    with pytest.raises(ScoreError, match=re.escape("predictions have shape [790, 2] and labels [790, 3]")):
        score_partition(prediction[:, :2], labels, rows=rows)
    with pytest.raises(ScoreError, match="0 attributes are trained"):
        score_partition(prediction, labels, rows=rows, attributes=())
    with pytest.raises(ScoreError, match=re.escape("predictions (4) and labels (4) of arousal are both constant")):
        score_partition(np.full_like(labels, 4), np.full_like(labels, 4), rows=rows)


def test_block_is_the_same_whatever_the_order_of_rows(scored, make_rows) -> None:
    prediction, labels, rows = scored
    order = np.random.default_rng(0).permutation(len(labels))
    moved = {
        name: [getattr(rows, name)[i] for i in order]
        for name in ("utterance", "speaker", "gender", "emotion", "podcast", "path", "transcript")
    }
    shuffled = make_rows(labels[order], moved.pop("speaker"), duration=rows.duration[order], **moved)
    one = score_partition(prediction, labels, rows=rows)
    other = score_partition(prediction[order], labels[order], rows=shuffled)
    assert one.resampling == other.resampling
    assert one.as_dict() == other.as_dict()


def test_match() -> None:
    assert match(["a", "b", "c"], ["c", "a", "b"]).tolist() == [1, 2, 0]
    message = (
        "the predictions do not match the 4 utterances to be scored: 2 missing (first: b, d); 1 given more than once"
        " (first: a); 2 unknown (first: x, y). Predict each utterance of the partition exactly once."
    )
    with pytest.raises(ScoreError, match=re.escape(message)):
        match(["a", "b", "c", "d"], ["a", "a", "c", "x", "y"])
