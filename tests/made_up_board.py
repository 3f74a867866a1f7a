"""A leaderboard made of made-up records: tracks, marks, seeds, figures, and reported rows that attack the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_up

from ser_bench import records
from ser_bench.cache import atomic_write

HOSTILE = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=1</script> & "quoted" \'too\''
ODD = "<3 & \"quoted\" 'too' {{ 7 * 7 }} ${x} &lt;b&gt;"
"""What is text and no markup, and shown as it stands only by who escapes it."""
REPORTED = f"""\
system,modality,transcripts,release,release_note,parameters_m,partition,arousal,valence,dominance,source
paper audio,audio,none,1.10,,24,test1,0.6,0.3,0.5,A paper
paper audio,audio,none,1.10,,24,test2,0.5,0.2,0.4,A paper
"{ODD.replace('"', '""')}",audio,none,1.7,inferred,,test1,0.7,0.6,0.6,www.example.org
"""
_RUNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("distilhubert_tinybert", {"noise": 0.5, "seeds": (1, 2, 3)}),
    ("logmel", {"noise": 0.9, "audio": True}),
    ("logmel_words", {"noise": 0.5, "seeds": (1, 2)}),
    ("xlsr[12]+tinybert>concat", {"noise": 1.5, "strategy": "frozen"}),
    ("mean_only", {"noise": 1.5, "reads": []}),
    ("tiny_one", {"noise": 0.9, "weights": "tiny"}),
    ("heard", {"noise": 0.9, "transcripts": {"train": "human", "test": "whisper-base"}}),
    ("in_noise", {"noise": 1.5, "corpus__condition": "noise:babble@10dB"}),
)


def record(name: str, **options: Any) -> dict[str, Any]:
    """Make one record with all that a page can show; ``options`` are those of ``_RUNS`` and of ``made_up.record``."""
    noise, seeds = options.pop("noise", 0.5), options.pop("seeds", (1,))
    reads = options.pop("reads", ["audio"] if options.pop("audio", False) else ["audio", "text"])
    if "text" not in reads:
        options.setdefault("transcripts", {"train": "none", "test": "none"})
    made = made_up.record(seeds=seeds, noise=noise, system__name=name, system__reads=reads, **options)
    for part in made["system"]["parts"]:
        part |= {
            "repo": "someone/something",
            "revision": 40 * "a",
            "licence": "apache-2.0",
            "trained_on": ["LibriSpeech"],
        }
    for number, run in enumerate(made["runs"]):
        for scores in run["scores"].values():
            for off, attribute in enumerate(scores["calibration"]):
                bins = [
                    {"prediction": 2.0 + i, "label": 2.5 + 0.8 * i + 0.1 * off + 0.01 * number, "count": 50}
                    for i in range(4)
                ]
                scores["calibration"][attribute] = bins
        if made["strategy"] == "frozen":
            run["layer_weights"] = {"audio": [0.1, 0.2 + 0.01 * number, 0.3, 0.4]}
    raters = {column: {"one": 0.4, "simulated": 0.6} for column in records.COLUMNS}
    made["ceiling"] = {partition: {"utterances": 60, "ratings": 500, **raters} for partition in made["summary"]}
    made["predictions"] = "published"
    records.validate(made)
    return made


def write(folder: Path) -> list[str]:
    """Write the leaderboard; return the names of its records."""
    names = []
    for name, options in _RUNS:
        made = record(name, **options)
        names.append(f"{records.safe_name(name)}-{records.digest(made, 8)}")
        atomic_write(folder / "records" / f"{names[-1]}.json", records.canonical(made))
    atomic_write(folder / "reported.csv", REPORTED)
    return names
