from __future__ import annotations

import numpy as np
import pytest

from ser_bench.scoring import concordance
from ser_bench.scoring.resampling import coarsen
from ser_bench.scoring.slices import DURATION_EDGES, band, calibration, coarse_score, slices


@pytest.fixture
def scored(make_rows, make_scored):
    labels, predictions, speaker = make_scored([30] * 12 + [5] * 4, [0.3])
    gender = ["Male"] * 200 + ["Female"] * 171 + ["Unknown"] * 9
    emotion = ["N"] * 300 + ["H"] * 60 + [""] * 20
    columns = {"arousal": (predictions[0, :, 0], labels[:, 0]), "valence": (predictions[0, :, 1], labels[:, 1])}
    return columns, make_rows(labels, speaker, gender=gender, emotion=emotion)


def coarse(columns, name, kept):
    prediction, target = columns[name]
    return round(float(coarsen(np.array(concordance(prediction[kept], target[kept])), int(kept.sum()))), 3)


def test_slices_are_the_scores_of_their_parts(scored) -> None:
    columns, rows = scored
    found = slices(columns, rows)
    male = np.array(rows.gender) == "Male"
    assert found["gender"]["Male"] == {
        "count": 200, "arousal": coarse(columns, "arousal", male), "valence": coarse(columns, "valence", male)
    }  # fmt: skip
    assert found["gender"]["Unknown"] == {"count": 9, "arousal": None, "valence": None}
    assert {name: entry["count"] for name, entry in found["emotion"].items()} == {"N": 300, "H": 60}
    assert sum(entry["count"] for entry in found["duration"].values()) == 380
    assert list(found) == ["gender", "emotion", "duration", "speakers"]


def test_a_constant_slice_is_null_with_its_count(scored) -> None:
    columns, rows = scored
    columns["arousal"][1][:200] = 4.2
    assert slices(columns, rows)["gender"]["Male"]["arousal"] is None
    assert slices(columns, rows)["gender"]["Male"]["count"] == 200
    columns["valence"][0][:200] = 4.0  # a constant prediction of varying labels is a 0
    assert slices(columns, rows)["gender"]["Male"]["valence"] == 0.0


def test_bands() -> None:
    values = np.array([1.9, 3.0, 4.99, 5.0, 8.0, 11.0, np.nan])
    assert band(values, DURATION_EDGES, unit=" s") == ["<3 s", "3-5 s", "3-5 s", "5-8 s", ">=8 s", ">=8 s", None]


def test_wer_slices(scored) -> None:
    columns, rows = scored
    wer = np.array([0.0] * 100 + [0.2] * 100 + [1.5] * 170 + [np.nan] * 10)
    found = slices(columns, rows, wer=wer)["wer"]
    assert {name: entry["count"] for name, entry in found.items()} == {"<0.1": 100, "0.1-0.3": 100, ">=0.6": 170}


def test_speakers_are_a_spread_over_ten_or_more(scored) -> None:
    columns, rows = scored
    found = slices(columns, rows)["speakers"]
    assert found["count"] == 12
    scores = []
    for name in {str(k) for k in range(12)}:
        kept = np.array(rows.speaker) == name
        scores.append(coarse(columns, "arousal", kept))
    assert found["arousal"]["0.5"] == pytest.approx(np.median(scores), abs=0.005)
    assert set(found["arousal"]) == {"0.1", "0.25", "0.5", "0.75", "0.9"}


@pytest.mark.parametrize("count", range(10, 32))
def test_a_quantile_is_no_speakers_own_score(count: int, make_rows, make_scored) -> None:
    """With 11 or 21 speakers, the plain quantiles are scores of single ones."""
    labels, predictions, speaker = make_scored([30] * count, [0.3])
    columns = {"arousal": (predictions[0, :, 0], labels[:, 0])}
    found = slices(columns, make_rows(labels, speaker))["speakers"]["arousal"]
    of = np.array(speaker)
    scores = sorted(coarse(columns, "arousal", of == name) for name in set(speaker))
    for (word, value), near in zip(found.items(), np.quantile(scores, (0.1, 0.25, 0.5, 0.75, 0.9)), strict=True):
        place = float(word) * (count - 1)
        low, high = scores[int(np.ceil(place)) - 1], scores[int(np.floor(place)) + 1]
        assert value == pytest.approx((low + high) / 2, abs=0.0051)
        assert low <= near <= high
    assert list(found.values()) == sorted(found.values())


@pytest.mark.parametrize("count", [10, 11, 13, 37, 96, 199, 201, 1999, 2000, 2001, 16903])
def test_a_coarse_score_rounds_to_itself(count: int) -> None:
    """So that whoever reads a record can tell that it is no finer."""
    for value in np.linspace(-1, 1, 4001):
        once = coarse_score(float(value), count)
        assert coarse_score(once, count) == once
    for value in np.linspace(1, 7, 4001):
        once = round(float(coarsen(value, count)), 2)
        assert round(float(coarsen(np.array(once), count)), 2) == once


def test_nine_speakers_have_no_spread(make_rows, make_scored) -> None:
    labels, predictions, speaker = make_scored([30] * 9 + [9] * 5, [0.3])
    columns = {"arousal": (predictions[0, :, 0], labels[:, 0])}
    assert slices(columns, make_rows(labels, speaker))["speakers"] == {"count": 9, "arousal": None}
    unknown = ["Unknown" if s == "8" else s for s in speaker]
    assert slices(columns, make_rows(labels, unknown))["speakers"]["count"] == 8


def test_calibration_bins(scored) -> None:
    columns, _ = scored
    prediction, target = columns["arousal"]
    found = calibration(columns)["arousal"]
    assert [entry["count"] for entry in found] == [55, 55, 54, 54, 54, 54, 54]  # 380 / 50: seven bins
    order = np.argsort(prediction)
    assert found[0]["prediction"] == round(prediction[order[:55]].mean(), 2)
    assert found[0]["label"] == pytest.approx(target[order[:55]].mean(), abs=1 / 55 + 0.005)
    assert [e["prediction"] for e in found] == sorted(e["prediction"] for e in found)


@pytest.mark.parametrize(("n", "counts"), [(49, None), (50, [50]), (99, [99]), (5003, [501, 501, 501] + [500] * 7)])
def test_no_bin_is_under_fifty(n: int, counts: list[int] | None) -> None:
    rng = np.random.default_rng(n)
    found = calibration({"arousal": (rng.uniform(1, 7, n), rng.uniform(1, 7, n))})["arousal"]
    assert (None if found is None else [entry["count"] for entry in found]) == counts
