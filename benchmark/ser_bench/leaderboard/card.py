"""Cards in the Hugging Face hub's form: of a trained model, scores included, and of the dataset builder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ser_bench import records
from ser_bench.cache import atomic_write
from ser_bench.leaderboard import reproduce
from ser_bench.leaderboard.rows import COLUMNS, from_record
from ser_bench.leaderboard.table import markdown_safe, remarks, run_table, status

MODEL_CARD, DATASET_CARD = "README.md", "dataset/README.md"
_TASK = ("audio-classification", "Dimensional speech emotion recognition")
"""The hub knows no regression of audio; this is the task that such models stand under there."""
_WORDS = {"test1": "test1 (seen)", "test2": "test2 (unseen)"}


def write_cards(run: Path) -> tuple[Path, Path]:
    """Write a run's model card, and the dataset card of the corpus it was scored on, into its folder.

    Args:
        run: a run folder.

    Returns:
        ``README.md`` and ``dataset/README.md``.

    Raises:
        RecordError: the record is absent or malformed.
        StoreError: a card cannot be written.
    """
    record = records.read(run / "record.json")
    atomic_write(run / MODEL_CARD, model_card(record))
    atomic_write(run / DATASET_CARD, dataset_card(record))
    return run / MODEL_CARD, run / DATASET_CARD


def model_card(record: Mapping[str, Any]) -> str:
    """Return the model card of a run: metadata with a ``model-index``, and what a reader must know."""
    system = record["system"]
    row = from_record(record)
    name = markdown_safe(system["name"])
    parts = [_part(part) for part in system["parts"]]
    warnings = [markdown_safe(line) for line in (*row.marks, *row.notes, *remarks(record))]
    return "\n".join(
        [
            "---",
            _metadata(record),
            "---",
            "",
            f"# {name}",
            "",
            f"Predicts arousal, valence and dominance (1..7) from {_reads(record)}. Trained and scored with ser-bench "
            f"{record['environment']['ser_bench']} on {row.corpus}, {row.condition} audio; {status(row)}.",
            "",
            "```python",
            "import ser_bench",
            "from huggingface_hub import snapshot_download",
            "from ser_bench.corpus import read_wave",
            "",
            'system = ser_bench.load(snapshot_download("THIS/REPOSITORY"))',
            f'system.predict(read_wave("some.wav"){_spoken(record)})',
            "```",
            "",
            "## Scores",
            "",
            "CCC over the whole partition, mean over seeds; 95 % intervals resample speakers. *test1*: podcasts that "
            "also occur in training; *test2*: podcasts that occur nowhere else.",
            "",
            run_table(record, style="github"),
            "",
            *([*(f"- {line}" for line in warnings), ""] if warnings else []),
            "Signature, to be quoted with a score:",
            "",
            "```",
            record["signature"],
            "```",
            "",
            "## How it was made",
            "",
            *parts,
            *([f"- head: {system['head']}"] if system["head"] else []),
            f"- {system['parameters']:,} parameters, {system['trainable_parameters']:,} of them trained; strategy "
            f"{record['strategy']}; {len(record['runs'])} seeds",
            "",
            "```",
            *reproduce.commands(record),
            "```",
            "",
            "## Limits",
            "",
            "Labels are what listeners heard in podcast speech, in English, averaged; they are no measurement of what "
            "a speaker feels. Scores fall on podcasts that were not heard in training (compare test1 with test2). Not "
            "to be used to judge a person. The corpus has a licence of its own, which may restrict what a model "
            "trained on it may be used for; add the licence of this model to the metadata above.",
            "",
        ]
    )


def dataset_card(record: Mapping[str, Any]) -> str:
    """Return the dataset card of the builder, of the release that a run was scored on: how to build it, no data."""
    corpus = record["corpus"]
    release = corpus["release"] or "unknown"
    counts = [
        f"| {name} | {part['listed']:,} | {part['listed'] - part['missing']:,} |"
        for name, part in corpus["partitions"].items()
    ]
    given = f', release="{corpus["release"]}"' if corpus["release"] else ""
    return "\n".join(
        [
            "---",
            _yaml(
                {
                    "pretty_name": f"{corpus['name']} {release} (builder)",
                    "language": ["en"],
                    "license": "other",
                    "license_name": "msp-podcast-academic",
                    "task_categories": ["audio-classification"],
                    "tags": ["speech-emotion-recognition", "arousal", "valence", "dominance"],
                }
            ),
            "---",
            "",
            f"# {corpus['name']} {release}",
            "",
            "This card describes a `datasets` builder. It holds no audio, labels or transcripts: MSP-Podcast is "
            "licensed by its authors (the University of Texas at Dallas), and each user needs a copy of their own.",
            "",
            "```python",
            "from ser_bench.corpus.msp_podcast import MspPodcast",
            "",
            f'builder = MspPodcast(data_dir="DIR"{given})',
            "builder.download_and_prepare()",
            'test1 = builder.as_dataset()["test1"]',
            "```",
            "",
            f"Identity of the release used: {corpus['identity']}; labels' digest `{corpus['labels_sha256']}`, "
            f"clusters' digest `{corpus['clusters_sha256']}`.",
            "",
            "| split | utterances listed | with audio |",
            "|---|---|---|",
            *counts,
            "",
            "| column | what |",
            "|---|---|",
            "| utterance, path | name; where the audio lies (`ser_bench.corpus.read_wave` reads it) |",
            "| duration | seconds |",
            "| arousal, valence, dominance | consensus of the raters, 1..7 |",
            "| emotion, speaker, gender, podcast | as the release gives them |",
            "| transcript | of the source asked for: human, none, or a recogniser's |",
            "| rater, rater_arousal, rater_valence, rater_dominance, rater_emotion | of each rater |",
            "",
        ]
    )


def _metadata(record: Mapping[str, Any]) -> str:
    from huggingface_hub import ModelCardData

    system = record["system"]
    data = ModelCardData(
        model_name=system["name"],
        language="en",
        library_name="ser-bench",
        pipeline_tag=_TASK[0],
        tags=["ser-bench", "speech-emotion-recognition", "arousal", "valence", "dominance"],
        base_model=sorted({part["repo"] for part in system["parts"] if part["repo"]}) or None,
        metrics=["ccc"],
        eval_results=_results(record),
    )
    return data.to_yaml().strip()


def _results(record: Mapping[str, Any]) -> list[Any]:
    """Return every score as the hub's evaluation result, one for each partition and attribute."""
    from huggingface_hub import EvalResult

    corpus = record["corpus"]
    shown = f"{corpus['name']} {corpus['release'] or ''}".strip()
    return [
        EvalResult(
            task_type=_TASK[0],
            task_name=_TASK[1],
            dataset_type=corpus["name"],
            dataset_name=f"{shown} {_WORDS.get(partition, partition)}",
            dataset_config=f"{record['transcripts']['test']} transcripts, {corpus['condition']} audio",
            dataset_split=partition,
            dataset_revision=corpus["labels_sha256"],
            metric_type="ccc",
            metric_name=f"CCC {column}",
            metric_value=found["ccc"][column]["mean"],
            metric_args=_spread(found["ccc"][column]),
        )
        for partition, found in record["summary"].items()
        for column in COLUMNS
        if found["ccc"][column] is not None
    ]


def _spread(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a value should not travel without."""
    return {key: value for key, value in (("ci95", cell["ci95"]), ("std_over_seeds", cell["std"])) if value is not None}


def _yaml(values: dict[str, Any]) -> str:
    from huggingface_hub.repocard_data import CardData

    return str(CardData(**values).to_yaml()).strip()


def _reads(record: Mapping[str, Any]) -> str:
    words = {"audio": "speech", "text": f"a transcript ({record['transcripts']['train']})"}
    return " and ".join(words[part] for part in record["system"]["reads"]) or "nothing (a floor for others)"


def _spoken(record: Mapping[str, Any]) -> str:
    return ', "what is said"' if "text" in record["system"]["reads"] else ""


def _part(part: Mapping[str, Any]) -> str:
    source = "" if part["repo"] is None else f" from {part['repo']}@{part['revision'] or 'unpinned'}"
    licence = f", {part['licence']}" if part["licence"] else ""
    seen = f", trained on {', '.join(part['trained_on'])}" if part["trained_on"] else ""
    return markdown_safe(f"- {part['kind']}: {part['name']} ({part['weights']}){source}{licence}{seen}")
