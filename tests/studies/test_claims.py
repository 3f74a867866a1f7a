"""Each claim on made-up records where it is true, false and undecided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from studies.made import SURE, UNSURE, both, record

from ser_bench.studies import figure2, figure3, paper, systems, table1, table2
from ser_bench.studies.claims import Claim, Judge, claim, over_seeds
from ser_bench.studies.systems import Pair

SMALL, MIDDLE, BIG = (
    Pair("distilhubert", paper.DISTILLED),
    Pair("hubert_base", paper.BASE),
    Pair("w2v2_l_robust_p", paper.LARGE),
)
PAIRS = [SMALL, MIDDLE, BIG]
Scores = dict[str, dict[str, tuple[float, float, float]]]

# What the paper claims, exaggerated until all of it is so.
TRUE: Scores = {
    SMALL.audio: both(0.62, 0.20, 0.51),
    SMALL.both: both(0.62, 0.50, 0.51),
    MIDDLE.audio: both(0.60, 0.40, 0.48),
    MIDDLE.both: both(0.60, 0.50, 0.48),
    BIG.audio: both(0.62, 0.40, 0.51),
    BIG.both: both(0.62, 0.50, 0.47),
}


def changed(scores: Scores, **changes: tuple[str, int, float]) -> Scores:
    """Change one attribute of a system on both sides: ``name=(system, column, value)``."""
    made = {name: dict(sides) for name, sides in scores.items()}
    for system, column, value in changes.values():
        for side, values in made[system].items():
            new = list(values)
            new[column] = value
            made[system][side] = (new[0], new[1], new[2])
    return made


def verdicts(found: list[Claim]) -> dict[str, str]:
    return {one.name: one.verdict for one in found}


def of_table1(scores: Scores, spread: float = SURE, pairs: list[Pair] = PAIRS) -> dict[str, str]:
    found = {name: record(sides, spread=spread, name=name) for name, sides in scores.items()}
    return verdicts(list(table1.claims(pairs, found, 0.01)))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def set_to(trainable: int) -> None:
        sizes = {paper.DISTILLED: (38_577_075, trainable), paper.LARGE: (179_908_691, 175_699_000)}
        monkeypatch.setattr(systems, "sizes", lambda name: sizes[name])

    return set_to


TABLE1_CLAIMS = {
    "text raises valence": {"x": (MIDDLE.both, 1, 0.30)},
    "most for the distilled": {"x": (SMALL.both, 1, 0.25)},
    "arousal and dominance stay": {"x": (SMALL.both, 2, 0.45)},
    "dominance of the large falls": {"x": (BIG.both, 2, 0.51)},
    "on par with the large": {"x": (SMALL.both, 1, 0.45)},
    "distilled audio matches the large": {"x": (SMALL.audio, 0, 0.50)},
    "distilled audio lacks valence": {"x": (SMALL.audio, 1, 0.40)},
}


def test_all_of_table_1_is_true(counted: Callable[[int], None]) -> None:
    counted(34_377_000)
    found = of_table1(TRUE)
    assert found.keys() == TABLE1_CLAIMS.keys() | {"a fifth of the parameters"}
    assert set(found.values()) == {"true"}


@pytest.mark.parametrize("name", TABLE1_CLAIMS)
def test_each_claim_of_table_1_can_be_false(counted: Callable[[int], None], name: str) -> None:
    counted(34_377_000)
    assert of_table1(changed(TRUE, **TABLE1_CLAIMS[name]))[name] == "false"  # type: ignore[arg-type]


def test_each_claim_of_table_1_can_be_undecided(counted: Callable[[int], None]) -> None:
    counted(34_377_000)
    found = of_table1(TRUE, spread=UNSURE)
    assert {found[name] for name in TABLE1_CLAIMS} == {"undecided"}


def test_parameters_are_counted_not_judged(counted: Callable[[int], None]) -> None:
    counted(60_000_000)
    assert of_table1(TRUE)["a fifth of the parameters"] == "false"


def test_on_the_papers_own_numbers_valence_is_not_on_par() -> None:
    """A gap of 0.041 is none that a margin of 0.01 lets pass; the report says so beside the paper's sentence."""
    own = {name: dict(row.scores) for name, row in paper.TABLE1.items()}
    found = {name: record(sides, name=name) for name, sides in own.items()}
    made = {one.name: one for one in table1.claims(PAIRS, found, 0.01)}
    assert made["on par with the large"].verdict == "false"
    assert made["text raises valence"].verdict == made["most for the distilled"].verdict == "true"
    assert made["a fifth of the parameters"].verdict == "true"
    assert made["a fifth of the parameters"].tests[0].found == "34.377 of 175.699 M = 19.6%; of all 21.4%"
    wide = {one.name: one.verdict for one in table1.claims(PAIRS, found, 0.05)}
    assert wide["on par with the large"] == "true"


def test_of_one_pair_nothing_is_said_that_needs_two() -> None:
    found = of_table1({name: TRUE[name] for name in (SMALL.audio, SMALL.both)}, pairs=[SMALL])
    assert found == {"text raises valence": "true", "arousal and dominance stay": "true"}


def test_what_cannot_be_tested_is_said_to_be_so() -> None:
    seen = {name: {"development": sides["test1"]} for name, sides in TRUE.items()}
    assert of_table1(seen, pairs=[SMALL])["text raises valence"] == "not tested"


# --- Table 2 ---------------------------------------------------------------------------------------------------------

SOURCES = ["human", "whisper-base", "whisper-tiny"]
TABLE2: Scores = {table2.trained_key(source): both(0.61, 0.52, 0.51) for source in SOURCES} | {
    table2.scored_key("human", source): both(0.61, 0.52, 0.51) for source in SOURCES[1:]
}
TABLE2_CLAIMS = {
    "machine transcripts cost nothing": table2.trained_key("whisper-base"),
    "whatever the recogniser": table2.trained_key("whisper-tiny"),
    "crossed": table2.scored_key("human", "whisper-tiny"),
}


def of_table2(scores: Scores, spread: float = SURE) -> dict[str, str]:
    found = {name: record(sides, spread=spread, name=name) for name, sides in scores.items()}
    return verdicts(list(table2.claims(SOURCES, found, 0.01)))


def test_table_2() -> None:
    assert of_table2(TABLE2) == dict.fromkeys(TABLE2_CLAIMS, "true")
    assert of_table2(TABLE2, UNSURE) == dict.fromkeys(TABLE2_CLAIMS, "undecided")
    for name, key in TABLE2_CLAIMS.items():
        assert of_table2(changed(TABLE2, x=(key, 1, 0.45)))[name] == "false"


# --- Figure 3 --------------------------------------------------------------------------------------------------------

FIGURE3: Scores = {
    SMALL.audio: both(0.62, 0.20, 0.51),
    figure3.fine_key(SMALL): both(0.62, 0.50, 0.51),
    figure3.frozen_key(SMALL): both(0.62, 0.40, 0.51),
    BIG.audio: both(0.62, 0.40, 0.51),
    figure3.fine_key(BIG): both(0.62, 0.50, 0.51),
    figure3.frozen_key(BIG): both(0.62, 0.45, 0.51),
}
FIGURE3_CLAIMS = {
    "text helps in all cases": (figure3.frozen_key(BIG), 0.30),
    "fine-tuning helps more": (figure3.frozen_key(BIG), 0.55),
    "smaller systems gain more": (figure3.fine_key(BIG), 0.80),
    "valence doubles": (figure3.fine_key(SMALL), 0.30),
}


def of_figure3(scores: Scores, spread: float = SURE) -> dict[str, str]:
    found = {name: record(sides, spread=spread, name=name) for name, sides in scores.items()}
    return verdicts(list(figure3.claims([SMALL, BIG], found, 0.01)))


def test_figure_3() -> None:
    assert of_figure3(FIGURE3) == dict.fromkeys(FIGURE3_CLAIMS, "true")
    assert of_figure3(FIGURE3, 0.03) == dict.fromkeys(FIGURE3_CLAIMS, "undecided")
    for name, (key, value) in FIGURE3_CLAIMS.items():
        assert of_figure3(changed(FIGURE3, x=(key, 1, value)))[name] == "false"


def test_relative_improvement_is_the_papers() -> None:
    own = {name: record(dict(row.scores), name=name) for name, row in paper.TABLE1.items()}
    own[figure3.fine_key(SMALL)] = own[SMALL.both]
    found = figure3.improvement(Judge(own, 0.01), figure3.fine_key(SMALL), SMALL.audio, "test2")
    assert found is not None
    assert found.value == pytest.approx(0.333 / 0.169 - 1)


# --- Figure 2 --------------------------------------------------------------------------------------------------------


def weights(arousal: list[float], valence: list[float], noise: float = 0.0, seeds: int = 4) -> dict[str, Any]:
    draws = np.random.default_rng(1)
    made = {"arousal": arousal, "valence": valence, "dominance": [1.0] * 13}
    drawn = {name: np.abs(np.array(w) + noise * draws.normal(size=(seeds, len(w)))) for name, w in made.items()}
    return {name: w / w.sum(axis=1, keepdims=True) for name, w in drawn.items()}


SHALLOW = [3.0] * 5 + [1.0] * 8
DEEP = [0.5] * 5 + [1.0] * 4 + [3.0, 3.0] + [1.0] * 2
FIGURE2_CLAIMS = ("shallow layers for arousal", "deep layers for valence", "valence peaks late", "the opposite trend")


def test_figure_2() -> None:
    found = verdicts(list(figure2.claims(weights(SHALLOW, DEEP, 0.05))))
    assert found == dict.fromkeys(FIGURE2_CLAIMS, "true")
    found = verdicts(list(figure2.claims(weights(SHALLOW[::-1], SHALLOW, 0.05))))
    assert found == dict.fromkeys(FIGURE2_CLAIMS, "false")
    flat = [1.0] * 13
    assert set(verdicts(list(figure2.claims(weights(flat, flat, 0.2)))).values()) == {"undecided"}
    one = verdicts(list(figure2.claims(weights(SHALLOW, DEEP, seeds=1))))
    assert set(one.values()) == {"undecided"}


def test_rank_correlation_with_what_the_paper_tells() -> None:
    found = figure2.rank_correlations(weights(SHALLOW, DEEP))
    assert found == {"arousal": pytest.approx(1.0), "valence": pytest.approx(1.0)}
    found = figure2.rank_correlations(weights(SHALLOW[::-1], [*DEEP[::-1]]))
    assert found["arousal"] is not None
    assert found["arousal"] < -0.3
    # average ranks of ties, by hand: a (1, 2.5, 2.5, 4), b (1, 2, 3, 4): r = 4.5 / sqrt(4.5 * 5)
    assert figure2.spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert figure2.spearman([1, 1, 1], [1, 2, 3]) is None


def test_layers_of_other_encoders_are_taken_at_their_share_of_the_depth() -> None:
    assert [layer for layer, level in paper.layer_levels(12)["arousal"].items() if level] == [0, 1, 2, 3, 4]
    assert [layer for layer, level in paper.layer_levels(12)["valence"].items() if level == 2] == [9, 10]
    assert [layer for layer, level in paper.layer_levels(6)["arousal"].items() if level] == [0, 1, 2]
    assert [layer for layer, level in paper.layer_levels(6)["valence"].items() if level == 2] == [5]
    assert [layer for layer, level in paper.layer_levels(24)["valence"].items() if level == 2] == [17, 18, 19, 20, 21]


# --- how tests come together -----------------------------------------------------------------------------------------


def test_a_claim_is_refuted_only_by_what_survives_the_correction() -> None:
    def made(p_value: float, count: int) -> str:
        from ser_bench.studies.claims import Test

        tests = [Test(what="one", found="", supports=False, against=p_value)]
        tests += [Test(what="more", found="", supports=True, against=1.0)] * (count - 1)
        return claim("a", "A", tests, how="").verdict

    assert made(0.03, 1) == "false"
    assert made(0.03, 2) == "undecided"
    assert made(0.01, 4) == "false"
    assert claim("a", "A", [None], how="").verdict == "not tested"


def test_over_seeds() -> None:
    assert over_seeds([0.1, 0.12, 0.11], what="w").supports
    assert over_seeds([-0.1, -0.12, -0.11], what="w").against == pytest.approx(0.0027434894)  # t = -19.05, 2 degrees
    wide = over_seeds([0.1, -0.1, 0.2], what="w")
    assert not wide.supports
    assert wide.against == 1.0
    assert 0.05 < over_seeds([-0.1, 0.1, -0.2], what="w").against < 1
    assert over_seeds([0.5], what="w").found == "+0.500 with one seed"


def test_mapping_is_complete(counted: Mapping[str, Any]) -> None:
    """Every claim has a sentence and says how it is decided."""
    found = {name: record(sides, name=name) for name, sides in TRUE.items()}
    counted(34_377_000)  # type: ignore[operator]
    for one in table1.claims(PAIRS, found, 0.01):
        assert one.says[0].isupper()
        assert one.how.endswith(".")
        assert one.as_dict()["tests"]
