"""The recogniser: what it refuses, and with the real model that nothing but the utterance makes its text."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser_bench.corpus import Release, read_wave
from ser_bench.errors import TranscriptError
from ser_bench.transcripts.asr import FULL_SECONDS, Recogniser, cores, looks_looped, most_tokens
from ser_bench.transcripts.rows import Transcript
from ser_bench.transcripts.transcribe import transcribe

FILES = ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
NAMES = [f"MSP-PODCAST_{name}.wav" for name in ("0001_0001", "0010_0010", "0003_0043", "0001_0003")]
LOOPING = [f"MSP-PODCAST_{name}.wav" for name in ("0046_0017", "0043_0015", "0042_0003")]
"""Stand-in utterances whose text repeats itself with a margin of 2 s."""


@pytest.fixture(autouse=True)
def _without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctranslate2

    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of a model, and nothing in them that is one."""
    made = tmp_path / "models" / "toy-ct2"
    made.mkdir(parents=True)
    for name in FILES:
        (made / name).write_text("{}")
    return made


# --- which model -----------------------------------------------------------------------------------------------------


def test_a_source_is_named_after_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recogniser = Recogniser.open(folder)
    source = recogniser.source
    assert (source.name, source.asr, source.folder) == ("toy-ct2", "toy-ct2", True)
    assert re.fullmatch(r"toy-ct2@[0-9a-f]{6}", source.label)
    assert str(folder.parent) not in source.described()
    monkeypatch.chdir(folder.parent)
    for given in ("toy-ct2", "./toy-ct2", Path("toy-ct2"), f"{folder}/"):
        assert Recogniser.open(given).source == source
    monkeypatch.chdir(folder)
    assert Recogniser.open(".").source == source
    named = Recogniser.open(folder, name="mine").source
    assert (named.label, named.asr) == (f"mine@{source.digest}", "toy-ct2")
    spaced = folder.rename(folder.with_name("my model"))
    assert Recogniser.open(spaced).source.name == "my-model"


def test_the_digest_is_of_the_models_files(folder: Path, tmp_path: Path) -> None:
    before = Recogniser.open(folder).source
    lines = [f"{name}\t{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n" for name in sorted(FILES)]
    assert before.model_sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    (folder / "README.md").write_text("not read")
    assert Recogniser.open(folder).source == before
    copy = shutil.copytree(folder, tmp_path / "toy-ct2")
    assert Recogniser.open(copy).source == before
    for name in FILES:
        text = (folder / name).read_text()
        (folder / name).write_text(text + " ")
        assert Recogniser.open(folder).source.digest != before.digest
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    "options", [{"window": "full"}, {"window": 6}, {"window": "2.5"}, {"beam": 1}, {"compute_type": "float32"}]
)
def test_other_options_are_another_source(folder: Path, options: dict[str, Any]) -> None:
    plain, other = Recogniser.open(folder).source, Recogniser.open(folder, **options).source
    assert other.model_sha256 == plain.model_sha256 and other.label != plain.label
    (key,) = options
    assert str(other.options[key]) == str(options[key]) != str(plain.options[key])


def test_one_window_has_one_spelling(folder: Path) -> None:
    label = Recogniser.open(folder).source.label
    for window in (8, "8", 8.0, "8.0", " 8"):
        assert Recogniser.open(folder, window=window).source.label == label


def test_all_that_makes_a_text_is_in_the_options(folder: Path) -> None:
    assert Recogniser.open(folder).source.options == {
        "scheme": 1,
        "window": 8,
        "window_step": 1,
        "beam": 5,
        "patience": 1,
        "length_penalty": 1,
        "temperature": 0,
        "compute_type": "int8",
        "device": "cpu",
        "task": "transcribe",
        "language": "en",
        "timestamps": False,
        "suppress": "blank, non-speech",
        "tokens_per_second": 8,
        "most_tokens": 224,
        "loop_compression": 2.4,
        "loop_words": 4,
    }


def test_audio_that_is_not_finite_is_refused(folder: Path) -> None:
    with pytest.raises(TranscriptError, match=r"^the audio holds samples that are not finite, expected -1\.\.1\."):
        Recogniser.open(folder, device="cpu").prepare(np.full(16_000, np.nan, np.float32))


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    for given in (f"{tmp_path}/gone", tmp_path / "gone"):
        with pytest.raises(TranscriptError) as told:
            Recogniser.open(given)
        assert str(told.value) == (
            f"there is no folder {tmp_path}/gone; expected one with config.json, model.bin, tokenizer.json and"
            " vocabulary.json or vocabulary.txt, or a model's name such as whisper-tiny. Correct --asr."
        )
    with pytest.raises(TranscriptError, match=r"^there is no folder whisper-tiny; expected one with config\.json"):
        Recogniser.open(Path("whisper-tiny"))


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("whisper-tyni", " Did you mean 'whisper-tiny'?"),
        ("large-v3", " Did you mean 'whisper-large-v3'?"),
        ("base.en", " Did you mean 'whisper-base.en'?"),
        ("qqq", ""),
    ],
)
def test_an_unknown_name_tells_the_known_ones(given: str, hint: str) -> None:
    with pytest.raises(TranscriptError) as told:
        Recogniser.open(given)
    assert re.fullmatch(
        rf"'{given}' is neither a folder nor a model that is known by name: whisper-tiny\.en, whisper-tiny, .*,"
        rf" whisper-turbo\.{re.escape(hint)} Correct --asr\.",
        str(told.value),
    )


EXPECTED = "config.json, model.bin, tokenizer.json and vocabulary.json or vocabulary.txt"


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (["model.bin"], "model.bin"),
        (["tokenizer.json"], "tokenizer.json"),
        (["config.json", "vocabulary.txt"], "config.json, no vocabulary.json or vocabulary.txt"),
    ],
)
def test_a_folder_that_lacks_a_file_is_told(folder: Path, gone: list[str], told: str) -> None:
    for name in gone:
        (folder / name).unlink()
    with pytest.raises(TranscriptError) as error:
        Recogniser.open(folder)
    assert str(error.value) == (
        f"{folder} is not the folder of a CTranslate2 Whisper model: it has no {told}; expected are {EXPECTED}. Copy"
        " what is missing from where the model came from (tokenizer.json also stands beside the checkpoint that it was"
        " converted from)."
    )


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin", "model-00001-of-00002.safetensors"])
def test_a_transformers_checkpoint_is_told_how_to_convert(folder: Path, weights: str) -> None:
    (folder / "model.bin").rename(folder / weights)
    with pytest.raises(TranscriptError) as told:
        Recogniser.open(folder)
    assert str(told.value) == (
        f"{folder} is a transformers checkpoint, expected a CTranslate2 model. Convert it with"
        f" `ct2-transformers-converter --model {folder} --output_dir toy-ct2-ct2 --copy_files tokenizer.json"
        " --quantization float16`, and give --asr that folder."
    )


def test_a_file_that_cannot_be_read_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def refused(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "model.bin":
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(TranscriptError) as told:
        Recogniser.open(folder)
    assert str(told.value) == f"cannot read {folder}/model.bin (Permission denied). Make it readable."


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 1000, b"some text that is no model", b"\x06\0\0\0\x0c\0WhisperSpec\0"]
)
def test_a_file_that_is_no_model_is_told(folder: Path, content: bytes) -> None:
    (folder / "model.bin").write_bytes(content)
    recogniser = Recogniser.open(folder)  # reads no more than bytes
    with pytest.raises(TranscriptError) as told:
        recogniser.prepare(np.zeros(16_000, np.float32))
    assert re.fullmatch(
        rf"{re.escape(str(folder))} cannot be loaded as a CTranslate2 Whisper model on this cpu \(.+\)\. Fetch it"
        r" anew, convert it again with ct2-transformers-converter, or give another --device\.",
        str(told.value),
    )


def test_a_hub_that_cannot_be_reached_says_what_would_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TranscriptError) as told:
        Recogniser.open("whisper-tiny")
    assert re.fullmatch(
        r"cannot fetch whisper-tiny from the hub \(\w+: .+\)\. Without a network give --asr the folder of a CTranslate2"
        rf" Whisper model: one with {re.escape(EXPECTED)}\.",
        str(told.value),
    )


def test_a_name_is_fetched_and_then_a_model_like_any_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import faster_whisper

    fetched: list[str] = []

    def download(name: str) -> str:
        fetched.append(name)
        return str(folder)

    monkeypatch.setattr(faster_whisper, "download_model", download)
    monkeypatch.chdir(folder.parent)
    (folder.parent / "whisper-tiny.en").mkdir()  # a name is a name, whatever lies here
    source = Recogniser.open("whisper-tiny.en").source
    assert fetched == ["tiny.en"]
    assert (source.name, source.asr, source.folder) == ("whisper-tiny.en", "whisper-tiny.en", False)
    assert source.digest == Recogniser.open(folder).source.digest


# --- how it decodes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", ["", "half", "-1", 30, "30", "nan", "inf", "8s"])
def test_a_window_that_is_none_is_refused(folder: Path, window: Any) -> None:
    with pytest.raises(TranscriptError) as told:
        Recogniser.open(folder, window=window)
    assert str(told.value) == (
        f"window '{window}' is neither 'full' nor a number of seconds from 0 to less than 30, the silence after the"
        " utterance. Correct --window."
    )


def test_other_settings_that_are_none_are_refused(folder: Path) -> None:
    with pytest.raises(TranscriptError, match=r"^beam is 0, expected 1 \(greedy\) to 100\. Correct --beam\.$"):
        Recogniser.open(folder, beam=0)
    with pytest.raises(TranscriptError, match=r"^a transcript source cannot be called 'human': "):
        Recogniser.open(folder, name="human")
    with pytest.raises(TranscriptError) as told:
        Recogniser.open(folder, compute_type="int3")
    assert re.fullmatch(
        r"compute type 'int3' is not one that CTranslate2 has on this cpu: .*float32.*\. Give --compute-type one of"
        r" these\.",
        str(told.value),
    )


@pytest.mark.parametrize("device", ["mps", "cuda:x", "cpu:1", "gpu", ""])
def test_a_device_that_is_none_is_refused(folder: Path, device: str) -> None:
    with pytest.raises(TranscriptError) as told:
        Recogniser.open(folder, device=device)
    assert str(told.value) == (
        f"device '{device}' is unknown to CTranslate2, which has cpu, cuda and cuda:N. Give --device one of these."
    )


def test_a_gpu_that_is_not_there_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ctranslate2

    for there, device in ((0, "cuda"), (0, "cuda:0"), (2, "cuda:2")):
        monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda there=there: there)
        with pytest.raises(TranscriptError) as told:
            Recogniser.open(folder, device=device)
        assert str(told.value) == (
            f"device '{device}' was asked for, and CTranslate2 finds {there} GPUs. Give --device cpu, or one of these."
        )
    types = {"cpu": {"int8", "float32"}, "cuda": {"float16", "float32"}}
    monkeypatch.setattr(ctranslate2, "get_supported_compute_types", lambda device, number: types[device])
    for device in (None, "cuda", "cuda:1"):
        assert Recogniser.open(folder, device=device).source.options["compute_type"] == "float16"
    assert Recogniser.open(folder, device="cpu").source.options["compute_type"] == "int8"
    types["cuda"] = {"int8", "float32"}  # an older one
    with pytest.raises(TranscriptError) as told:
        Recogniser.open(folder)
    assert str(told.value) == (
        "compute type 'float16' is not one that CTranslate2 has on this cuda: float32, int8. Give --compute-type one of"
        " these."
    )


def test_the_window_is_a_function_of_the_length(folder: Path) -> None:
    plain, small = Recogniser.open(folder), Recogniser.open(folder, window=0.5)
    for seconds in (0.01, 0.999, 1.0, 1.001, 4.37, 21.9, 22.0, 22.1, 29.99, 30.0):
        assert plain.window(seconds) == min(30, math.ceil(seconds + 8))
        assert small.window(seconds) == min(30, math.ceil(seconds + 0.5))
        assert Recogniser.open(folder, window="full").window(seconds) == 30


@pytest.mark.parametrize("samples", [0, 30 * 16_000 + 1])
def test_a_wave_that_whisper_cannot_take_is_refused(folder: Path, samples: int) -> None:
    with pytest.raises(TranscriptError) as told:
        Recogniser.open(folder).prepare(np.zeros(samples, np.float32))
    assert str(told.value) == (
        f"cannot transcribe {samples / 16_000:.2f} s of audio; Whisper takes more than 0 and up to 30 s at a time. Cut"
        " it into such pieces."
    )


def test_threads_are_those_that_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for value in ("", "0", "many", "-2"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert cores() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cores() == 3


@pytest.mark.parametrize(
    ("text", "looped"),
    [
        ("", False),
        ("I think so.", False),
        ("No, no, no, no, no!", False),
        ("I know. I know, I know.", False),
        ("And now we did make love. And now we did make love.", True),
        ("Well: it was a good day; it was a Good day, really", True),
        ("one two three four, and one two three four", False),
        ("one two three four five one two three four six", False),
        ("co-" * 60, True),
        ("ha " * 40, True),
        ("ä b c d ä b c d", True),
    ],
)
def test_what_is_taken_for_a_loop(text: str, looped: bool) -> None:
    assert looks_looped(text, 10, window=12) is looped


def test_a_text_that_fills_its_window_is_taken_for_a_loop() -> None:
    assert [most_tokens(window) for window in (1, 9, 27, 28, 30)] == [8, 72, 216, 224, 224]
    assert not looks_looped("so", 95, window=12) and looks_looped("so", 96, window=12)
    assert not looks_looped("so", 223, window=30) and looks_looped("so", 224, window=30)


# --- with the real model ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(shared: Path) -> Path:
    return shared / "models" / "whisper-tiny.en-ct2"


@pytest.fixture(scope="module")
def waves(standin: Path) -> dict[str, Any]:
    paths = {path.name: path for path in standin.rglob("*.wav")}
    return {name: read_wave(paths[name]) for name in (*NAMES, *LOOPING)}


def hear(recogniser: Recogniser, waves: Sequence[Any]) -> list[Transcript]:
    return recogniser.transcribe([recogniser.prepare(wave) for wave in waves])


@pytest.mark.shared
def test_a_text_does_not_depend_on_what_it_is_decoded_beside(
    model: Path, waves: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [waves[name] for name in NAMES]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one = Recogniser.open(model)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    two = Recogniser.open(model)
    assert (one.batch, two.batch) == (8, 16)
    alone = [hear(one, [wave])[0] for wave in chosen]
    assert len({heard.text for heard in alone}) == len(NAMES)
    assert hear(one, chosen) == alone
    assert hear(one, chosen[::-1]) == alone[::-1]
    assert hear(two, chosen) == alone  # slices of one window each, by two workers
    # cut to one length, so that they truly share a batch
    short = [wave[:24_000] for wave in chosen]
    assert hear(two, short * 3) == hear(one, short) * 3 == [hear(one, [wave])[0] for wave in short] * 3


@pytest.mark.shared
def test_the_text_is_that_of_faster_whisper(model: Path, waves: dict[str, Any]) -> None:
    """Its own encoder call, prompt, generation and score, on a wave padded to 30 s as OpenAI's Whisper pads it."""
    import faster_whisper
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import TranscriptionOptions, get_suppressed_tokens

    theirs = faster_whisper.WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=1)
    tokenizer = Tokenizer(theirs.hf_tokenizer, False)
    fields: dict[str, Any] = dict.fromkeys(TranscriptionOptions.__dataclass_fields__)
    fields |= {"beam_size": 5, "patience": 1, "length_penalty": 1, "repetition_penalty": 1, "no_repeat_ngram_size": 0}
    fields |= {"temperatures": [0.0], "suppress_blank": True, "max_initial_timestamp": 1.0}
    options = TranscriptionOptions(**fields | {"suppress_tokens": get_suppressed_tokens(tokenizer, [-1])})
    prompt = theirs.get_prompt(tokenizer, [], without_timestamps=True)
    ours = Recogniser.open(model, window="full")
    for name in NAMES[:3]:
        padded = np.pad(waves[name], (0, 480_000 - len(waves[name])))
        encoded = theirs.encode(theirs.feature_extractor(padded)[:, :3000])
        result, avg_logprob, _, _ = theirs.generate_with_fallback(encoded, prompt, tokenizer, options)
        (heard,) = hear(ours, [waves[name]])
        assert heard.text == tokenizer.decode(result.sequences_ids[0]).strip() != ""
        assert heard.avg_logprob == pytest.approx(avg_logprob, abs=1e-6)
        assert heard.no_speech_prob == pytest.approx(result.no_speech_prob, abs=1e-6)
        assert heard.tokens == len(result.sequences_ids[0])
        assert (heard.language, heard.language_probability, heard.window_seconds) == ("en", None, 30)
        assert re.fullmatch(r"ctranslate2 [\d.]+, faster-whisper [\d.]+, cpu", heard.made_with)


@pytest.mark.shared
def test_a_loop_is_decoded_again_in_the_full_window(model: Path, waves: dict[str, Any]) -> None:
    small, full = Recogniser.open(model, window=2), Recogniser.open(model, window="full")
    looping = [waves[name] for name in LOOPING]
    heard = hear(small, [waves[NAMES[0]], *looping])
    assert not heard[0].repeated and heard[0].window_seconds < 30
    for again, whole in zip(heard[1:], hear(full, looping), strict=True):
        assert again.repeated and not again.looping
        assert again == whole._replace(repeated=True)
        assert not whole.repeated and whole.window_seconds == 30
    once = small._decode([small.prepare(wave) for wave in looping])
    assert [one.looping for one in once] == [True] * len(LOOPING)
    assert max(one.tokens for one in once) <= most_tokens(max(one.window_seconds for one in once))


@pytest.mark.shared
def test_silence_noise_and_a_single_sample_are_heard(model: Path) -> None:
    recogniser = Recogniser.open(model)
    rng = np.random.default_rng(0)
    odd = [np.zeros(16_000), np.ones(1), rng.normal(0, 0.1, 16_000), np.zeros(480_000)]
    heard = hear(recogniser, [wave.astype(np.float32) for wave in odd])
    assert [one.window_seconds for one in heard] == [9, 9, 9, 30]
    assert all(math.isfinite(one.avg_logprob) and 0 <= one.no_speech_prob <= 1 for one in heard)


def part_of(standin: Path, folder: Path, names: Sequence[str]) -> Path:
    """Make a release of some of the stand-in's utterances."""
    table = (standin / "Labels" / "labels_consensus.csv").read_text().splitlines()
    (folder / "Labels").mkdir(parents=True)
    kept = [line for line in table[1:] if line.split(",")[0] in names]
    (folder / "Labels" / "labels_consensus.csv").write_text("\n".join([table[0], *kept]) + "\n")
    (folder / "Audios").mkdir()
    for name in names:
        shutil.copy(next(standin.rglob(name)), folder / "Audios" / name)
    return folder


CHILD = """
import sys
from pathlib import Path
from ser_bench.corpus import Release
from ser_bench.transcripts.asr import Recogniser
from ser_bench.transcripts.transcribe import transcribe
corpus, cache, model = map(Path, sys.argv[1:4])
recogniser = Recogniser.open(model, device="cpu")
recogniser.batch = 2
transcribe(Release.open(corpus, cache=cache), recogniser, cache=cache)
"""


@pytest.mark.shared
@pytest.mark.slow
def test_killed_three_times_or_shared_out_the_file_is_the_same(model: Path, standin: Path, tmp_path: Path) -> None:
    every = sorted(path.name for path in standin.rglob("*.wav"))
    corpus = part_of(standin, tmp_path / "corpus", every[::60])
    whole = transcribe(
        Release.open(corpus, cache=tmp_path / "whole"), Recogniser.open(model, device="cpu"), cache=tmp_path / "whole"
    )
    assert whole.transcribed == len(every[::60]) and whole.complete

    for part in (2, 1):
        release = Release.open(corpus, cache=tmp_path / "shards")
        report = transcribe(release, Recogniser.open(model, device="cpu"), cache=tmp_path / "shards", shard=(part, 2))
        assert 0 < report.transcribed < whole.transcribed
    shared_out = transcribe(release, Recogniser.open(model, device="cpu"), cache=tmp_path / "shards", merge_only=True)
    assert shared_out.file.read_bytes() == whole.file.read_bytes()

    cache, chance = tmp_path / "killed", random.Random(3)
    journal = cache / "transcripts" / whole.source / "clean.parts" / "1-of-1.jsonl"
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(corpus), str(cache), str(model)]
    for _ in range(3):
        before = journal.stat().st_size if journal.exists() else 0
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while not (journal.exists() and journal.stat().st_size > before):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    subprocess.run(command, check=True)
    assert (cache / "transcripts" / whole.source / "clean.parquet").read_bytes() == whole.file.read_bytes()


@pytest.fixture(scope="module")
def multilingual(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny multilingual Whisper with random weights, converted as a user would: it is known by its vocabulary."""
    import torch
    import transformers
    from ctranslate2.converters import TransformersConverter

    checkpoint, converted = (tmp_path_factory.mktemp(name) for name in ("checkpoint", "multilingual"))
    table = json.loads((model / "tokenizer.json").read_text())
    # A multilingual vocabulary has one token more, the empty one, before the special ones.
    table["model"]["vocab"] |= {"": 50256, "<|endoftext|>": 50257}
    for token in table["added_tokens"]:
        token["id"] += 1
    for token in table["post_processor"]["special_tokens"].values():
        token["ids"] = [number + 1 for number in token["ids"]]
    (checkpoint / "tokenizer.json").write_text(json.dumps(table))
    (checkpoint / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    small = {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    small |= {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 51865}
    torch.manual_seed(1)
    whisper = transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(**small, suppress_tokens=[], begin_suppress_tokens=[220, 50257])
    )
    whisper.save_pretrained(checkpoint)
    TransformersConverter(str(checkpoint), copy_files=["tokenizer.json"]).convert(str(converted), force=True)
    config = json.loads((converted / "config.json").read_text())
    (converted / "config.json").write_text(json.dumps(config | {"lang_ids": list(range(50259, 50358))}))
    return converted


@pytest.mark.shared
def test_a_language_is_detected_and_counted_and_english_is_written(multilingual: Path, waves: dict[str, Any]) -> None:
    recogniser = Recogniser.open(multilingual)
    engine = recogniser._engine
    prompts: list[Any] = []
    real = engine._model

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def generate(self, encoded: Any, given: Any, **options: Any) -> Any:
            prompts.extend(given)
            return real.generate(encoded, given, **options)

    engine._model = Watched()
    chosen = [waves[name] for name in NAMES]
    together = hear(recogniser, chosen)
    tokens = json.loads((multilingual / "vocabulary.json").read_text())
    wanted = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    assert [[tokens[number] for number in prompt] for prompt in prompts] == [wanted] * len(prompts)
    for wave, heard in zip(chosen, together, strict=True):
        prepared = recogniser.prepare(wave)
        frames = engine.frames(wave, FULL_SECONDS) if heard.repeated else prepared.frames
        ((token, probability), *_) = real.detect_language(engine._storage(np.stack([frames])))[0]
        assert token == f"<|{heard.language}|>"
        assert heard.language_probability == pytest.approx(probability, abs=1e-6)
    assert {heard.language for heard in together} != {"en"}
    assert [hear(recogniser, [wave])[0] for wave in chosen] == together
