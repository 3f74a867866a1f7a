"""What is stored for whom, and what is made again when something changed."""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ser_bench import conditions, frames, prepare, system
from ser_bench.corpus import read_wave
from ser_bench.errors import CorpusError, PluginError, StoreError, TranscriptError
from ser_bench.host import Plan, host
from ser_bench.prepare import Corpus, Storing, make_inputs, open_corpus, require_texts
from ser_bench.testing import write_release
from ser_bench.training.batches import Inputs

CPU = torch.device("cpu")
COUNTS = {"train": 5, "development": 3, "test1": 3, "test2": 2}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    return write_release(folder, version="1.11", utterances=COUNTS | {"test3": 2}, seconds=(0.2, 0.5), tables=("csv",))


@pytest.fixture
def release(written: Path, tmp_path: Path) -> Path:
    """A release of 13 labelled utterances and 2 of test3, with transcripts for the labelled; the test's own copy."""
    return Path(shutil.copytree(written, tmp_path / written.name))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The wav files that were read, by name; it grows."""
    seen: list[str] = []

    def counted(path: str) -> Any:
        seen.append(Path(path).name)
        return read_wave(path)

    monkeypatch.setattr(prepare, "read_wave", counted)
    return seen


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were tokenised; it grows."""
    seen: list[str] = []
    real = prepare.text_array

    def counted(module: nn.Module, text: str) -> Any:
        seen.append(text)
        return real(module, text)

    monkeypatch.setattr(prepare, "text_array", counted)
    return seen


def built(name: str, corpus: Corpus) -> tuple[nn.Module, Plan]:
    plan = host().plan(name)
    torch.manual_seed(0)
    module = system.build(plan, dict.fromkeys(plan.parts, "tiny"), plan.recipe)
    system.fit_texts(module, [text or "" for text in corpus.rows["train"].transcript])
    return module, plan


def inputs_of(name: str, corpus: Corpus, cache: Path, **storing: Any) -> dict[str, Inputs]:
    module, plan = built(name, corpus)
    return make_inputs(module, plan, corpus, Storing(cache=cache, **storing), device=CPU)


def stores(cache: Path) -> int:
    return len(list((cache / "frames").iterdir()))


def test_every_partition_gets_its_own_utterances(release: Path, cache: Path) -> None:
    """Of a text system, too, whose text store lacks test3."""
    corpus = open_corpus(release, cache=cache)
    module, plan = built("logmel_words", corpus)
    found = make_inputs(module, plan, corpus, Storing(cache=cache), device=CPU)
    assert {name: len(part) for name, part in found.items()} == COUNTS
    for name, part in found.items():
        rows = corpus.rows[name]
        assert list(part.utterance) == list(rows.utterance)
        np.testing.assert_allclose(part.labels, (rows.labels - 1) / 6, atol=1e-7)
        assert part.audio is not None and part.text is not None
        for n, path in enumerate(rows.path):
            own = module.audio_frontend(torch.from_numpy(read_wave(path)))  # type: ignore[operator]
            np.testing.assert_array_equal(part.audio[n], own.numpy().astype("float16"))
            ids = module.text_frontend(rows.transcript[n]).ids  # type: ignore[operator]
            np.testing.assert_array_equal(part.text[n], ids.numpy())


def test_off_gives_the_same_and_stores_nothing(release: Path, cache: Path) -> None:
    corpus = open_corpus(release, cache=cache)
    off = inputs_of("logmel_words", corpus, cache, mode="off")
    assert not (cache / "frames").exists()
    stored = inputs_of("logmel_words", corpus, cache)
    assert off.keys() == stored.keys()
    for name, part in stored.items():
        for modality in ("audio", "text"):
            ours, theirs = getattr(part, modality), getattr(off[name], modality)
            assert len(ours) == len(theirs) == len(part)
            for n in range(len(part)):
                assert ours[n].dtype == theirs[n].dtype
                np.testing.assert_array_equal(ours[n], theirs[n])


def test_storing_has_a_word_for_the_signature() -> None:
    assert [Storing(mode=m, dtype=d).label for m in ("store", "off") for d in ("float16", "float32")] == [
        "f16", "f32", "f16-off", "f32-off"
    ]  # fmt: skip


def test_one_store_serves_every_system_with_that_front_end(release: Path, cache: Path, reads: list[str]) -> None:
    """With and without text, with and without test3, from rows with and without transcripts."""
    alone = inputs_of("logmel", open_corpus(release, transcripts="none", cache=cache), cache)
    assert len(reads) == sum(COUNTS.values()) + 2
    assert len(alone["test3"]) == 2
    inputs_of("logmel_words", open_corpus(release, cache=cache), cache)
    assert len(reads) == sum(COUNTS.values()) + 2
    assert stores(cache) == 2  # one of frames, one of token ids


def test_a_system_that_reads_nothing_stores_nothing(release: Path, cache: Path, reads: list[str]) -> None:
    found = inputs_of("mean_only", open_corpus(release, transcripts="none", cache=cache), cache)
    assert {part.audio for part in found.values()} | {part.text for part in found.values()} == {None}
    assert reads == []
    assert not (cache / "frames").exists()


def test_a_second_opening_makes_nothing(release: Path, cache: Path, reads: list[str], texts: list[str]) -> None:
    for _ in range(2):
        inputs_of("logmel_words", open_corpus(release, cache=cache), cache)
    assert len(reads) == sum(COUNTS.values()) + 2
    assert len(texts) == sum(COUNTS.values())


def test_transcript_sources_never_share_a_store(release: Path, cache: Path, reads: list[str], texts: list[str]) -> None:
    """Not even where every text is the same."""
    human = open_corpus(release, cache=cache)
    inputs_of("logmel_words", human, cache)
    made = len(reads), len(texts)
    inputs_of("logmel_words", dataclasses.replace(human, transcripts="whisper-base"), cache)
    assert (len(reads), len(texts)) == (made[0], 2 * made[1])
    assert stores(cache) == 3


def change(key: str) -> Callable[[Plan, Corpus], tuple[Plan, Corpus]]:
    def condition(plan: Plan, corpus: Corpus) -> tuple[Plan, Corpus]:
        return plan, dataclasses.replace(corpus, condition=conditions.parse("noise:white@10dB"))

    def version(plan: Plan, corpus: Corpus) -> tuple[Plan, Corpus]:
        assert plan.audio is not None
        spec = dataclasses.replace(plan.audio.spec, frontend_version=2)
        return dataclasses.replace(plan, audio=dataclasses.replace(plan.audio, spec=spec)), corpus

    return {"condition": condition, "frontend_version": version}[key]


@pytest.mark.parametrize("key", ["condition", "frontend_version"])
def test_another_condition_or_front_end_version_is_another_store(
    release: Path, cache: Path, reads: list[str], key: str
) -> None:
    corpus = open_corpus(release, transcripts="none", cache=cache)
    module, plan = built("logmel", corpus)
    make_inputs(module, plan, corpus, Storing(cache=cache), device=CPU)
    first = len(reads)
    make_inputs(module, *change(key)(plan, corpus), Storing(cache=cache), device=CPU)
    assert (len(reads), stores(cache)) == (2 * first, 2)


def test_another_front_end_is_another_store(release: Path, cache: Path, reads: list[str]) -> None:
    corpus = open_corpus(release, transcripts="none", cache=cache)
    inputs_of("logmel", corpus, cache)
    first = len(reads)
    inputs_of("distilhubert", corpus, cache)
    inputs_of("distilhubert", corpus, cache, dtype="float32")
    assert (len(reads), stores(cache)) == (3 * first, 3)


def test_another_vocabulary_is_another_store_of_ids(release: Path, cache: Path, texts: list[str]) -> None:
    corpus = open_corpus(release, cache=cache)
    module, plan = built("logmel_words", corpus)
    make_inputs(module, plan, corpus, Storing(cache=cache), device=CPU)
    system.fit_texts(module, ["other words other words"])
    found = make_inputs(module, plan, corpus, Storing(cache=cache), device=CPU)
    assert len(texts) == 2 * sum(COUNTS.values())
    text = found["train"].text
    assert text is not None and set(text[0].tolist()) == {0, 1}  # the start mark and words not in that vocabulary


def test_a_frozen_encoders_store_is_of_its_weights(release: Path, cache: Path, reads: list[str]) -> None:
    corpus = open_corpus(release, transcripts="none", cache=cache)
    plan = host().plan("logmel")
    found = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        module = system.Frozen(system.build(plan, {"audio": "tiny"}, plan.recipe))  # type: ignore[arg-type]
        found.append(make_inputs(module, plan, corpus, Storing(cache=cache), device=CPU)["train"].audio)
    assert len(reads) == 2 * (sum(COUNTS.values()) + 2)
    first, second, again = found
    assert first is not None and second is not None and again is not None
    assert first[0].shape == (1, module.inner.audio.dim)
    assert first[0].dtype == np.float32
    assert not np.array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[0], again[0])


def test_an_edited_label_file_does_not_redo_the_audio(release: Path, cache: Path, reads: list[str]) -> None:
    before = open_corpus(release, transcripts="none", cache=cache)
    inputs_of("logmel", before, cache)
    made = len(reads)
    path = release / "Labels" / "labels_consensus.csv"
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    for line in table:
        line["EmoAct"] = "6.5"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows(table)
    after = open_corpus(release, transcripts="none", cache=cache)
    found = inputs_of("logmel", after, cache)
    assert len(reads) == made
    np.testing.assert_allclose(found["train"].labels[:, 0], 5.5 / 6, atol=1e-6)
    assert after.block["labels_sha256"] != before.block["labels_sha256"]


def test_touching_a_wav_redoes_it_alone(release: Path, cache: Path, reads: list[str]) -> None:
    corpus = open_corpus(release, transcripts="none", cache=cache)
    inputs_of("logmel", corpus, cache)
    path = Path(corpus.rows["test1"].path[1])
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000))
    reads.clear()
    inputs_of("logmel", open_corpus(release, transcripts="none", cache=cache), cache)
    assert reads == [path.name]


def test_a_replaced_wav_gives_its_own_frames(release: Path, cache: Path, reads: list[str]) -> None:
    corpus = open_corpus(release, transcripts="none", cache=cache)
    inputs_of("logmel", corpus, cache)
    path, other = Path(corpus.rows["train"].path[0]), Path(corpus.rows["train"].path[1])
    shutil.copyfile(other, path)
    reads.clear()
    found = inputs_of("logmel", open_corpus(release, transcripts="none", cache=cache), cache)["train"].audio
    assert found is not None
    np.testing.assert_array_equal(found[0], found[1])
    assert reads == [path.name]


def test_an_edited_transcript_redoes_it_alone(release: Path, cache: Path, reads: list[str], texts: list[str]) -> None:
    corpus = open_corpus(release, cache=cache)
    module, plan = built("logmel_words", corpus)
    make_inputs(module, plan, corpus, Storing(cache=cache), device=CPU)
    made = len(reads)
    name = corpus.rows["test2"].utterance[1]
    (release / "Transcripts" / name).with_suffix(".txt").write_text("Quite another sentence.\n")
    texts.clear()
    make_inputs(module, plan, open_corpus(release, cache=cache), Storing(cache=cache), device=CPU)
    assert texts == ["Quite another sentence."]
    assert len(reads) == made


def test_the_corpus_is_never_written_to(release: Path, cache: Path) -> None:
    def state() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in release.rglob("*")}

    before = state()
    inputs_of("logmel_words", open_corpus(release, cache=cache), cache)
    assert state() == before


def test_missing_audio_is_refused_or_counted(release: Path, cache: Path) -> None:
    corpus = open_corpus(release, transcripts="none", cache=cache)
    gone = Path(corpus.rows["development"].path[2])
    gone.unlink()
    with pytest.raises(CorpusError, match=rf"(?s){gone.name}.*--allow-missing"):
        open_corpus(release, transcripts="none", cache=cache)
    partial = open_corpus(release, transcripts="none", allow_missing=True, cache=cache)
    assert partial.block["partitions"]["development"] == {"listed": 3, "scored": 2, "missing": 1}
    assert partial.block["partitions"]["train"] == {"listed": 5, "scored": 5, "missing": 0}
    found = inputs_of("logmel", partial, cache)["development"]
    kept = corpus.rows["development"]
    assert list(found.utterance) == list(kept.utterance[:2])
    np.testing.assert_allclose(found.labels, (kept.labels[:2] - 1) / 6, atol=1e-7)
    assert found.audio is not None and len(found.audio) == 2
    assert len(partial.rows["development"].transcript) == len(partial.rows["development"].speaker) == 2


def test_a_partition_without_any_audio_is_refused(release: Path, cache: Path) -> None:
    corpus = open_corpus(release, transcripts="none", cache=cache)
    for path in corpus.rows["test2"].path:
        Path(path).unlink()
    with pytest.raises(CorpusError, match=r"^no utterance of test2 has audio\. Restore the wav files\.$"):
        open_corpus(release, transcripts="none", allow_missing=True, cache=cache)


def test_a_text_system_needs_text(release: Path, cache: Path) -> None:
    text_system, audio_system = host().plan("logmel_words"), host().plan("logmel")
    none = open_corpus(release, transcripts="none", cache=cache)
    with pytest.raises(TranscriptError) as told:
        require_texts(text_system, none)
    assert str(told.value) == (
        "logmel_words reads text, and the transcript source is 'none'. Give --transcripts human, or choose a system "
        "without text."
    )
    require_texts(audio_system, none)

    whole = open_corpus(release, cache=cache)
    require_texts(text_system, whole)  # test3 has none, which is as released
    first, second = sorted(whole.rows["train"].utterance)[:2]
    for name in (first, second):
        (release / "Transcripts" / name).with_suffix(".txt").unlink()
    lacking = open_corpus(release, cache=cache)
    with pytest.raises(TranscriptError) as told:
        require_texts(text_system, lacking)
    assert str(told.value) == (
        f"2 of 5 train utterances have no human transcript (first: {first}). Restore them, or choose a system without "
        "text."
    )
    require_texts(audio_system, lacking)


def test_an_empty_transcript_is_a_transcript(release: Path, cache: Path) -> None:
    name = open_corpus(release, cache=cache).rows["train"].utterance[0]
    (release / "Transcripts" / name).with_suffix(".txt").write_text("")
    corpus = open_corpus(release, cache=cache)
    require_texts(host().plan("logmel_words"), corpus)
    text = inputs_of("logmel_words", corpus, cache)["train"].text
    assert text is not None and text[0].tolist() == [0]  # the start mark


def test_an_unknown_transcript_source_is_refused(release: Path, cache: Path) -> None:
    with pytest.raises(
        TranscriptError,
        match=r"^there are no transcripts called 'humam' in .*; it has none\. Did you mean 'human'\?",
    ):
        open_corpus(release, transcripts="humam", cache=cache)


@pytest.mark.parametrize("mode", ["store", "off"])
def test_a_front_end_that_fails_is_named_with_the_utterance(release: Path, cache: Path, mode: str) -> None:
    corpus = open_corpus(release, transcripts="none", cache=cache)
    module, plan = built("logmel", corpus)
    bad = corpus.rows["train"].utterance[2]
    spoilt = torch.from_numpy(read_wave(corpus.rows["train"].path[2]))
    real = module.audio_frontend

    def failing(wave: torch.Tensor) -> torch.Tensor:
        if torch.equal(wave, spoilt):
            raise ZeroDivisionError("by design")
        return real(wave)  # type: ignore[operator, no-any-return]

    module.audio_frontend = failing  # type: ignore[assignment]
    with pytest.raises(PluginError) as told:
        audio = make_inputs(module, plan, corpus, Storing(mode=mode, cache=cache), device=CPU)["train"].audio
        assert audio is not None
        for n in range(3):
            audio[n]
    assert str(told.value).startswith("the audio front end of audio:logmel (ser-bench ")
    assert str(told.value).endswith(f"failed on {bad}: ZeroDivisionError: by design")


def test_a_bad_wav_keeps_its_own_message(release: Path, cache: Path) -> None:
    corpus = open_corpus(release, transcripts="none", cache=cache)
    Path(corpus.rows["train"].path[1]).write_bytes(b"RIFF")  # after the corpus was checked
    with pytest.raises(CorpusError, match=r"^cannot use .*\.wav: it is unreadable"):
        inputs_of("logmel", corpus, cache)


def test_front_ends_are_called_without_gradient_and_in_eval(release: Path, cache: Path) -> None:
    corpus = open_corpus(release, transcripts="none", cache=cache)
    module, plan = built("logmel", corpus)
    module.train()
    real, seen = module.audio_frontend, []

    def watched(wave: torch.Tensor) -> torch.Tensor:
        seen.append((torch.is_grad_enabled(), module.training, wave.dtype, wave.ndim))
        return real(wave)  # type: ignore[operator, no-any-return]

    module.audio_frontend = watched  # type: ignore[assignment]
    make_inputs(module, plan, corpus, Storing(cache=cache), device=CPU)
    assert set(seen) == {(False, False, torch.float32, 1)}


def test_several_utterances_are_made_at_once_where_the_front_end_allows_it(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = open_corpus(release, transcripts="none", cache=tmp_path)
    found, threads = [], torch.get_num_threads()
    for allowed in (True, False):
        module, plan = built("distilhubert", corpus)
        assert module.audio.frontend_threads is True
        monkeypatch.setattr(type(module.audio), "frontend_threads", allowed)
        real, seen = module.audio_frontend, set()

        def watched(wave: torch.Tensor, real: Any = real, seen: set[Any] = seen) -> torch.Tensor:
            seen.add((threading.current_thread() is threading.main_thread(), torch.get_num_threads()))
            return real(wave)  # type: ignore[no-any-return]

        module.audio_frontend = watched  # type: ignore[assignment]
        inputs = make_inputs(module, plan, corpus, Storing(cache=tmp_path / str(allowed)), device=CPU)
        assert seen == {(False, 1)} if allowed else seen == {(True, threads)}
        assert torch.get_num_threads() == threads
        found.append([part.audio[n] for part in inputs.values() for n in range(len(part)) if part.audio is not None])
    assert len(found[0]) == 15
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_threads_of_a_gpu_take_the_gpu_of_the_one_that_starts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new thread begins with the first GPU, whatever --device says."""
    chosen: dict[str, int] = {}
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(
        torch.cuda, "set_device", lambda number: chosen.update({threading.current_thread().name: number})
    )

    def make(number: int) -> tuple[Any, bool]:
        return np.full((1, 1), chosen[threading.current_thread().name]), False

    made = list(prepare._several(torch.device("cuda"))(make, range(40)))
    assert [int(array.item()) for array, _ in made] == [1] * 40
    assert len(chosen) <= 4  # each has the activations of a front end on the GPU


def test_frames_made_while_training_are_made_in_eval(release: Path, cache: Path) -> None:
    corpus = open_corpus(release, cache=cache)
    module, plan = built("logmel", corpus)
    seen: list[bool] = []
    real = module.audio_frontend

    def watched(wave: torch.Tensor) -> torch.Tensor:
        seen.append(module.audio.training)
        return real(wave)  # type: ignore[operator, no-any-return]

    module.audio_frontend = watched  # type: ignore[assignment]
    inputs = make_inputs(module, plan, corpus, Storing(cache=cache, mode="off"), device=CPU)
    module.train()
    assert inputs["train"].audio is not None
    inputs["train"].audio[0]
    assert seen == [False]
    assert module.audio.training


def test_a_front_end_in_bfloat16_is_another_store(release: Path, cache: Path) -> None:
    corpus = open_corpus(release, transcripts="none", cache=cache)
    found = []
    for precision in ("float32", "bfloat16"):
        module, plan = built("distilhubert", corpus)
        plan = dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, frontend_precision=precision))  # type: ignore[arg-type]
        audio = make_inputs(module, plan, corpus, Storing(cache=cache, dtype="float32"), device=CPU)["train"].audio
        assert audio is not None
        found.append(audio[0])
    assert stores(cache) == 2
    assert found[0].dtype == found[1].dtype == np.float32
    apart = np.abs(found[0] - found[1]).max() / np.abs(found[0]).max()
    assert 1e-4 < apart < 0.05  # bfloat16 has eight bits


def test_progress_is_told_by_modality(release: Path, cache: Path) -> None:
    corpus = open_corpus(release, cache=cache)
    module, plan = built("logmel_words", corpus)
    told: list[tuple[str, int, int]] = []
    make_inputs(module, plan, corpus, Storing(cache=cache), device=CPU, progress=lambda *what: told.append(what))
    assert told[0] == ("audio front end", 1, 15)
    assert told[-1] == ("text front end", 13, 13)


def test_a_damaged_store_is_told_on_reading(release: Path, cache: Path) -> None:
    corpus = open_corpus(release, transcripts="none", cache=cache)
    inputs_of("logmel", corpus, cache)
    (data,) = (cache / "frames").glob("*/data.bin")
    raw = bytearray(data.read_bytes())
    raw[10] ^= 1
    data.write_bytes(raw)
    audio = inputs_of("logmel", corpus, cache)["train"].audio
    assert isinstance(audio, frames.Part)
    with pytest.raises(StoreError, match=rf"the checksum of {corpus.rows['train'].utterance[0]} differs"):
        audio[0]
