"""Time `ser-bench transcribe` against faster-whisper file by file; run by hand on a quiet machine, never by pytest.

    python tests/speed/asr.py RELEASE MODEL [--utterances N] [--block N] [--window 8] [--json FILE]

Both sides have the same model, int8, beam 5 and cores. Theirs is ``WhisperModel.transcribe(path, language="en")`` as it
comes; ours is what the command does, files read and texts put on disk. They take turns by blocks of utterances, so that
a machine that is slow for a while is slow for both. Loading the model is in neither's time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import faster_whisper
import numpy as np

from ser_bench.conditions import CLEAN
from ser_bench.corpus import Release
from ser_bench.scoring.resampling import cluster_ids
from ser_bench.transcripts import store
from ser_bench.transcripts import transcribe as ours
from ser_bench.transcripts.asr import Recogniser, cores
from ser_bench.transcripts.wer import Counts, count_errors, paired_difference


def main() -> None:
    """Transcribe each block twice and print settings, seconds, the ratio, and both word error rates."""
    arguments = _arguments()
    release = Release.open(arguments.release, cache=arguments.cache)
    release.require_sound(need_transcripts=True)
    speakers = dict(zip(release.labels.utterance, release.labels.speaker, strict=True))
    _, every = ours._utterances(release, (1, 1))
    # In drawn order, so that each block has utterances of all lengths.
    chosen = np.random.default_rng(0).permutation(len(every))[: arguments.utterances]
    utterances = [every[number] for number in chosen]

    recogniser = Recogniser.open(arguments.model, window=arguments.window, device="cpu", compute_type="int8")
    recogniser.prepare(np.zeros(16_000, np.float32))  # loads it
    theirs = faster_whisper.WhisperModel(str(arguments.model), device="cpu", compute_type="int8", cpu_threads=cores())

    seconds, processor_seconds = {"theirs": 0.0, "ours": 0.0}, {"theirs": 0.0, "ours": 0.0}
    texts: dict[str, dict[str, str]] = {"theirs": {}, "ours": {}}
    size = arguments.block
    for first in range(0, len(utterances), size):
        block = utterances[first : first + size]
        for side in ["theirs", "ours"] if first // size % 2 == 0 else ["ours", "theirs"]:
            started, worked = time.perf_counter(), time.process_time()
            texts[side] |= _theirs(theirs, block) if side == "theirs" else _ours(recogniser, block)
            seconds[side] += time.perf_counter() - started
            processor_seconds[side] += time.process_time() - worked
        print(f"{first + len(block)} of {len(utterances)}: {seconds}", flush=True)  # noqa: T201 - a script

    names = sorted(texts["ours"])
    human = [release.transcripts.get(name) for name in names]
    counts = {side: count_errors(human, [found[name] for name in names]) for side, found in texts.items()}
    clusters = cluster_ids([speakers[name] for name in names], [name.split("_")[1] for name in names])
    difference, reach = paired_difference(counts["ours"], counts["theirs"], clusters)
    audio = sum(one.seconds for one in utterances)
    result: dict[str, Any] = {
        "utterances": len(names),
        "block": size,
        "audio_seconds": audio,
        "cores": cores(),
        "source": recogniser.source.label,
        "options": dict(recogniser.source.options),
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "times_real_time": {side: audio / spent for side, spent in seconds.items()},
        "ratio": seconds["theirs"] / seconds["ours"],
        "wer_percent": {side: 100 * _rate(found) for side, found in counts.items()},
        "wer_difference_points": 100 * difference,
        # The upper end of a two-sided 95 % interval: stricter than a one-sided bound of 95 %.
        "upper_bound_points": None if reach is None else 100 * reach[1],
        "texts_that_differ": sum(texts["ours"][name] != texts["theirs"][name] for name in names),
    }
    print(json.dumps(result, indent=1))  # noqa: T201
    if arguments.json:
        arguments.json.write_text(json.dumps(result | {"texts": texts}, indent=1) + "\n")


def _theirs(model: faster_whisper.WhisperModel, block: list[Any]) -> dict[str, str]:
    """Transcribe file by file, in faster-whisper's default way."""
    found = {}
    for one in block:
        segments, _ = model.transcribe(one.path, language="en")
        found[one.name] = "".join(segment.text for segment in segments).strip()  # decoded while they are read
    return found


def _ours(recogniser: Recogniser, block: list[Any]) -> dict[str, str]:
    """Transcribe a block as the command does, into a cache of its own."""
    block = sorted(block, key=lambda one: (-one.seconds, one.name))
    with tempfile.TemporaryDirectory() as cache:
        rows = store.rows(Path(cache), recogniser.source)
        with rows.journal((1, 1)) as append:
            ours._transcribe(block, recogniser, CLEAN, append, None)
        rows.merge()
        return {utterance: heard.text for utterance, _, heard in rows}


def _rate(counts: Counts) -> float:
    return float(counts.errors.sum() / counts.words.sum())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path, help="a release's folder, such as the unpacked stand-in")
    parser.add_argument("model", type=Path, help="the folder of a CTranslate2 Whisper model")
    parser.add_argument("--utterances", type=int, default=1000)
    parser.add_argument(
        "--block", type=int, default=100, help="utterances to a turn; larger ones fill our batches better"
    )
    parser.add_argument("--window", default="8")
    parser.add_argument("--cache", type=Path, help="where the release's headers are kept")
    parser.add_argument("--json", type=Path, help="write the result and all texts here too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
