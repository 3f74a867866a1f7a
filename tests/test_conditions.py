"""Conditions by what can be measured on their samples; independent measures from scipy and numpy."""

from __future__ import annotations

import csv
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from ser_bench import conditions, noise
from ser_bench.conditions import CLEAN, Condition, parse
from ser_bench.corpus.demo import cached_demo
from ser_bench.errors import ConditionError, SerBenchError
from ser_bench.testing import write_wav

LABEL = re.compile(r"[A-Za-z0-9_.:@+-]{1,100}")
BUILT_IN = ["noise:white@10dB", "noise:pink@5dB", "noise:babble@10dB", "reverb:0.6", "telephone"]


def speech(seconds: float = 3.0, *, level: float = 0.05, seed: int = 0) -> np.ndarray:
    """Noise under a syllable-like envelope with pauses: float32, quiet enough that nothing is scaled."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    envelope = np.maximum(np.sin(2 * np.pi * 3 * time), 0)
    return (level * envelope * np.random.default_rng(seed).standard_normal(len(time))).astype(np.float32)


def sine(hertz: float, *, level: float = 0.3, seconds: float = 2.0) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * 16_000)) / 16_000)).astype(np.float32)


def decibels(power_ratio: float) -> float:
    return float(10 * np.log10(power_ratio))


def power(wave: np.ndarray) -> float:
    return float(np.mean(wave.astype(np.float64) ** 2))


def added(condition: Condition, wave: np.ndarray, utterance: str = "a.wav") -> np.ndarray:
    """What the condition added to a wave that is quiet enough not to be scaled."""
    return condition(wave, utterance).astype(np.float64) - wave.astype(np.float64)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the demo release, which babble is made of."""
    folder = tmp_path_factory.mktemp("babble")
    cached_demo(folder)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of noise in every format, at other rates, some in stereo, at any depth; treat it as read-only."""
    made = tmp_path_factory.mktemp("noise") / "my noise"
    rng = np.random.default_rng(1)
    for name, rate, channels in (
        ("a.wav", 16_000, 1),
        ("deep/er/b.flac", 44_100, 2),
        ("deep/c.OGG", 48_000, 1),
        ("d.opus", 48_000, 2),
        ("e.wav", 8_000, 1),
    ):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        kind = {"opus": ("OGG", "OPUS"), "ogg": ("OGG", "VORBIS")}.get(name.split(".")[-1].lower(), (None, None))
        samples = 0.1 * rng.standard_normal((5 * rate, channels))
        soundfile.write(made / name, samples, rate, format=kind[0], subtype=kind[1])
    return made


@pytest.fixture
def of_noise(folder: Path, cache: Path) -> Callable[[str, str], Condition]:
    """Parse ``noise:KIND@SNR`` where KIND may be ``folder``."""
    return lambda kind, ratio: parse(f"noise:{folder if kind == 'folder' else kind}@{ratio}", cache=cache)


# Names


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("clean", "clean"),
        ("telephone", "telephone"),
        ("noise:white@10dB", "noise:white@10dB"),
        ("noise:white@10.0dB", "noise:white@10dB"),
        ("noise:white@+010.dB", "noise:white@10dB"),
        ("noise:pink@-5db", "noise:pink@-5dB"),
        ("noise:pink@7.50dB", "noise:pink@7.5dB"),
        ("noise:babble@-0dB", "noise:babble@0dB"),
        ("noise:babble@.125dB", "noise:babble@0.125dB"),
        ("noise:white@-40dB", "noise:white@-40dB"),
        ("noise:white@99.999dB", "noise:white@99.999dB"),
        ("noise:white@100dB", "noise:white@100dB"),
        ("reverb:0.60", "reverb:0.6"),
        ("reverb:10", "reverb:10"),
        ("reverb:.05", "reverb:0.05"),
    ],
)
def test_a_condition_has_one_label(text: str, label: str) -> None:
    condition = parse(text)
    assert condition.label == label
    assert LABEL.fullmatch(label)
    assert parse(label) == condition
    assert condition.key == ("clean" if label == "clean" else f"{label}#{conditions.VERSION}")


def test_a_folder_is_known_by_its_name_and_a_digest(folder: Path) -> None:
    label = parse(f"noise:{folder}@0dB").label
    assert re.fullmatch(r"noise:my_noise-[0-9a-f]{8}@0dB", label)
    assert parse(f"noise:{folder}/@0.0dB").label == label
    assert parse(f"noise:{folder}/deep/..@0dB").label == label


@pytest.mark.parametrize("name", ["Büro@home: 5|6+7", "n" * 200, "音"])
def test_any_folder_gives_a_label_that_is_safe(tmp_path: Path, name: str) -> None:
    write_wav(tmp_path / name / "a.wav", speech())
    label = parse(f"noise:{tmp_path / name}@-12.125dB").label
    assert LABEL.fullmatch(label)
    assert label.count("@") == 1
    assert "+" not in label  # the signature's own separator


def test_the_digest_follows_names_and_contents_but_not_the_place(folder: Path, tmp_path: Path) -> None:
    def label(place: Path) -> str:
        return parse(f"noise:{place}@0dB").label

    before = label(folder)
    copy = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, copy)
    assert label(copy) == before
    (copy / "README.txt").write_text("not a sound")
    (copy / "._a.wav").write_text("a resource fork is not one either")
    assert label(copy) == before
    renamed = copy / "a2.wav"  # at the same place among the others
    (copy / "a.wav").rename(renamed)
    moved = label(copy)
    assert moved != before
    content = bytearray(renamed.read_bytes())
    content[-1] ^= 1
    renamed.write_bytes(content)
    assert label(copy) not in (before, moved)
    renamed.unlink()
    assert len({before, moved, label(copy)}) == 3
    assert label(folder) == before


def test_a_folder_called_like_a_built_in_noise_is_reached_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wav(tmp_path / "white" / "a.wav", sine(1_000))
    monkeypatch.chdir(tmp_path)
    assert parse("noise:white@0dB").label == "noise:white@0dB"
    condition = parse("noise:./white@0dB")
    assert re.fullmatch(r"noise:white-[0-9a-f]{8}@0dB", condition.label)
    monkeypatch.chdir("/")  # the place was taken when it was parsed
    assert np.abs(np.fft.rfft(added(condition, speech(1.0)))).argmax() == 1_000


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wav(tmp_path / "hum" / "a.wav", sine(50))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse("noise:~/hum@0dB").label.startswith("noise:hum-")


FORMS = (
    "the forms are clean, noise:white@10dB, noise:pink@10dB, noise:babble@10dB, noise:DIR@10dB (a folder of sound"
    " files), reverb:0.6 (RT60 in seconds), telephone."
)
RATIO = "expected a number from -40 to 100 with at most three decimals, in dB, such as 10dB or -2.5dB. Correct"
SECONDS = "expected a number from 0.05 to 10 with at most three decimals, in seconds, such as reverb:0.6. Correct"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"condition '' is unknown; {FORMS} Give --condition one of these."),
        ("loud", f"condition 'loud' is unknown; {FORMS} Give"),
        ("Clean", f"condition 'Clean' is unknown; {FORMS} Did you mean 'clean'? Give --condition one of these."),
        ("clean:1", "condition 'clean:1' is unknown"),
        ("telephone:8000", "Did you mean 'telephone'?"),
        ("noise", "Did you mean 'noise'?"),
        ("reverb", "condition 'reverb' is unknown"),
        ("nosie:white@10dB", "Did you mean 'noise'?"),
        (
            "noise:white",
            "condition 'noise:white' has no signal-to-noise ratio; expected one after '@', such as noise:white@10dB."
            " Add it to --condition.",
        ),
        ("noise:", "such as noise:white@10dB. Add"),
        (
            "noise:@5dB",
            "condition 'noise:@5dB' names no noise; expected white, pink, babble or a folder of sound files before '@',"
            " such as noise:white@5dB. Add it to --condition.",
        ),
        ("noise:@", "such as noise:white@10dB. Add"),
        (
            "noise:white@loud",
            f"condition 'noise:white@loud' gives 'loud' as its signal-to-noise ratio; {RATIO} --condition.",
        ),
        *((f"noise:white@{ratio}", f"gives '{ratio}' as its signal-to-noise ratio; {RATIO}") for ratio in
          ("", "10", "dB", "nandB", "infdB", "1e1dB", "10 dB", "--5dB", ".dB", "1.0001dB", "-40.001dB", "100.5dB",
           "٣dB")),
        ("reverb:", f"condition 'reverb:' gives '' as its reverberation time; {SECONDS} --condition."),
        *((f"reverb:{seconds}", f"gives '{seconds}' as its reverberation time; {SECONDS}") for seconds in
          ("long", "0.6s", "-1", "0", "0.049", "10.5", "nan", "1e-1", "0.6\n")),
        (
            "noise:whte@10dB",
            "there is no noise 'whte': expected white, pink, babble, or a folder of sound files, and no such folder"
            " exists (a record holds a folder's name and digest, not its place). Did you mean 'white'? Give the"
            " folder's path.",
        ),
        ("noise:/no/such/place@10dB", "there is no noise '/no/such/place': expected white, pink, babble, or a folder"),
        ("noise:~nobody-here/x@10dB", "there is no noise '~nobody-here/x'"),
        ("noise:a\0b@10dB", "there is no noise 'a\0b'"),
    ],
)  # fmt: skip
def test_what_cannot_be_parsed_says_what_can(text: str, message: str) -> None:
    with pytest.raises(ConditionError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert isinstance(caught.value, SerBenchError)


def test_a_folder_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    def message(place: Path) -> str:
        with pytest.raises(ConditionError) as caught:
            parse(f"noise:{place}@0dB")
        return str(caught.value)

    (tmp_path / "no sound").mkdir()
    (tmp_path / "no sound" / "a.mp3").write_bytes(b"ID3")
    expected = f"{tmp_path / 'no sound'} holds no sound file; expected .wav, .flac, .ogg, .opus at any depth. Name the"
    assert message(tmp_path / "no sound") == expected + " folder that holds the noise."
    file = tmp_path / "bad" / "a.wav"
    tail = " Replace it, or take it out of the folder."
    write_wav(file, np.zeros(0))
    assert message(file).startswith(f"there is no noise '{file}'")
    assert message(file.parent) == f"cannot use {file} as noise: it is empty, 0 samples.{tail}"
    file.write_bytes(b"")
    assert re.fullmatch(rf"cannot use {file} as noise: it is unreadable \(0 bytes; .+\)\.{tail}", message(file.parent))
    file.write_bytes(b"this is no sound at all")
    assert f"cannot use {file} as noise: it is unreadable (23 bytes; " in message(file.parent)
    write_wav(file, speech(), rate=44_101)
    expected = f"cannot use {file} as noise: its rate is 44,101 Hz, expected a common one such as 16,000 or 44,100 Hz."
    assert message(file.parent) == expected + tail


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    write_wav(file, speech())
    file.chmod(0)
    with pytest.raises(ConditionError, match=rf"cannot use {file} as noise: it cannot be read \(Permission denied\)"):
        parse(f"noise:{tmp_path}@0dB")


def test_a_file_that_turns_out_unusable_is_named_when_it_is_drawn(tmp_path: Path) -> None:
    def message(condition: Condition) -> str:
        with pytest.raises(ConditionError) as caught:
            condition(speech(), "a")
        return str(caught.value)

    file = tmp_path / "noise" / "a.wav"
    tail = " Replace it, or take it out of the folder."
    write_wav(file, np.full(160_000, 1 / 32_767))
    silent = f"cannot use {file} as noise: it is silent (no sample is above one step of 16-bit sound).{tail}"
    assert message(parse(f"noise:{file.parent}@0dB")) == silent
    write_wav(file, np.zeros(1_000))  # shorter than the utterance
    assert message(parse(f"noise:{file.parent}@0dB")) == silent
    soundfile.write(file, np.full(160_000, np.nan), 16_000, subtype="FLOAT")
    told = f"cannot use {file} as noise: it holds fewer samples than its header says, or samples that are not finite."
    assert message(parse(f"noise:{file.parent}@0dB")) == told + tail
    condition = parse(f"noise:{file.parent}@0dB")
    file.unlink()
    assert re.fullmatch(rf"cannot use {file} as noise: it is unreadable \(.+\)\.{tail}", message(condition))


def test_babble_without_room_for_the_demo_release_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(cache: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(noise, "cached_demo", full)
    with pytest.raises(ConditionError) as caught:
        parse("noise:babble@0dB", cache=tmp_path)(speech(), "a")
    assert str(caught.value) == (
        f"babble is made of the demo release, which cannot be unpacked in {tmp_path} (No space left on device). Make"
        " room there, or name another folder with --cache DIR."
    )


def test_parsing_imports_no_torch_and_unpacks_nothing(folder: Path, tmp_path: Path) -> None:
    texts = ["clean", *BUILT_IN, f"noise:{folder}@0dB"]
    code = f"""
import sys
from pathlib import Path
from ser_bench.conditions import parse
keys = [parse(text, cache=Path({str(tmp_path / "cache")!r})).key for text in {texts!r}]
assert len(set(keys)) == len(keys)
sys.exit(",".join(name for name in ("torch", "torchaudio", "scipy", "datasets") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stderr.strip() == ""
    assert not (tmp_path / "cache").exists()


# Which samples


def test_clean_leaves_the_wave_alone() -> None:
    wave = speech()
    assert parse("clean") == CLEAN
    assert CLEAN(wave, "a") is wave


ORDER = """
import hashlib, json, sys
from pathlib import Path
import numpy as np, torch
from ser_bench.conditions import parse
torch.set_num_threads(int(sys.argv[1]))
texts, cache, folder = json.loads(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
found = {}
for number in json.loads(sys.argv[5]):
    wave = np.load(f"{folder}/{number}.npy")
    for text in texts:
        found[f"{text} {number}"] = hashlib.sha256(parse(text, cache=cache)(wave, f"u{number}").tobytes()).hexdigest()
assert torch.get_num_threads() == int(sys.argv[1])
print(json.dumps(found, sort_keys=True))
"""


def test_samples_do_not_depend_on_process_order_or_threads(folder: Path, cache: Path, tmp_path: Path) -> None:
    # 96,001 samples: of the lengths tried, one whose transforms differ with the number of threads.
    for number, samples in enumerate((96_001, 16_000, 777)):
        np.save(tmp_path / f"{number}.npy", speech(samples / 16_000, seed=number))
    texts = json.dumps([*BUILT_IN, f"noise:{folder}@0dB", "reverb:3"])

    def digests(threads: int, order: list[int]) -> str:
        words = [str(threads), texts, str(cache), str(tmp_path), json.dumps(order)]
        return subprocess.run([sys.executable, "-c", ORDER, *words], check=True, capture_output=True, text=True).stdout

    assert digests(1, [0, 1, 2]) == digests(3, [2, 1, 0])


def test_a_condition_that_went_through_pickle_gives_the_same(of_noise: Callable[[str, str], Condition]) -> None:
    wave = speech()
    for condition in (*(of_noise(kind, "3dB") for kind in ("white", "babble", "folder")), parse("reverb:1"), CLEAN):
        again = pickle.loads(pickle.dumps(condition))  # noqa: S301 - our own
        assert again == condition
        assert np.array_equal(again(wave, "a"), condition(wave, "a"))


@pytest.mark.parametrize("kind", ["white", "pink", "babble", "folder"])
def test_two_utterances_get_different_noise(kind: str, of_noise: Callable[[str, str], Condition]) -> None:
    condition, wave = of_noise(kind, "0dB"), speech()
    one, again, other = (added(condition, wave, name) for name in ("a.wav", "a.wav", "b.wav"))
    assert np.array_equal(one, again)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


def test_two_utterances_stand_in_different_rooms() -> None:
    impulse = np.zeros(16_000, np.float32)
    impulse[0] = 0.5
    condition = parse("reverb:0.6")
    one, other = (condition(impulse, name)[1:] for name in ("a", "b"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


# What the samples were when this version of them was made. Where this test fails, the samples changed, or those of
# numpy's generators did: raise conditions.VERSION, name it in the change log under Scores, and renew the figures.
GOLDEN = {
    "noise:white@10dB": [0.18365, 0.03717, 0.10074, 0.02972],
    "noise:pink@5dB": [0.09299, 0.02021, -0.03242, 0.032],
    "noise:babble@10dB": [0.18543, -0.0494, 0.17889, 0.08539],
    "reverb:0.6": [0.14316, 0.08004, -0.08988, 0.06653],
    "telephone": [0.15234, -0.03398, 0.09782, -7e-05],
    "folder": [0.19754, -0.23854, -0.10402, -0.0],
}


@pytest.mark.parametrize("text", GOLDEN)
def test_the_samples_of_this_version(text: str, cache: Path, tmp_path: Path) -> None:
    if text == "folder":
        write_wav(tmp_path / "a" / "x.wav", speech(5.0, level=0.1, seed=1))
        write_wav(tmp_path / "a" / "y.wav", speech(0.5, level=0.1, seed=2))
        text = f"noise:{tmp_path / 'a'}@0dB"
    tone = sine(440, level=0.2, seconds=1.0)
    found = parse(text, cache=cache)(tone, "MSP-PODCAST_0001_0001.wav")[[10, 1_001, 8_003, 15_000]]
    name = "folder" if "@0dB" in text else text
    assert conditions.VERSION == 1
    np.testing.assert_allclose(found, GOLDEN[name], atol=1e-4)


# Noise


@pytest.mark.parametrize("kind", ["white", "pink", "babble", "folder"])
@pytest.mark.parametrize("ratio", [-10.0, 0.0, 7.5, 40.0])
def test_the_ratio_is_the_one_asked_for(kind: str, ratio: float, of_noise: Callable[[str, str], Condition]) -> None:
    wave = speech(level=0.02)
    rest = added(of_noise(kind, f"{ratio}dB"), wave)
    assert decibels(power(wave) / power(rest)) == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize("kind", ["white", "pink", "babble", "folder"])
def test_a_sum_above_one_is_scaled_and_not_clipped(kind: str, of_noise: Callable[[str, str], Condition]) -> None:
    condition, quiet = of_noise(kind, "0dB"), speech(level=0.02)
    reference = condition(quiet, "a").astype(np.float64)
    assert np.abs(reference).max() < 0.5
    loud = condition(quiet * np.float32(32), "a")
    assert np.abs(loud).max() == 1.0
    assert np.sum(np.abs(loud) > 0.9999) == 1
    np.testing.assert_allclose(loud, reference / np.abs(reference).max(), atol=1e-6)


@pytest.mark.parametrize(("kind", "slope"), [("white", 0.0), ("pink", -10.0)])
def test_the_spectrum_has_its_slope(kind: str, slope: float) -> None:
    rest = added(parse(f"noise:{kind}@0dB"), speech(30.0))
    frequency, density = scipy.signal.welch(rest, 16_000, nperseg=8_192)
    band = (frequency >= 50) & (frequency <= 7_500)
    weight = 1 / np.sqrt(frequency[band])  # each octave counts alike, though the higher have more points
    fit = np.polyfit(np.log10(frequency[band]), 10 * np.log10(density[band]), 1, w=weight)
    assert fit[0] == pytest.approx(slope, abs=0.3)  # dB a decade


@pytest.mark.parametrize("seconds", [1.0, 6.0, 30.0])
def test_pink_noise_has_nothing_below_hearing(seconds: float) -> None:
    rest = added(parse("noise:pink@0dB"), speech(seconds))
    spectrum = np.abs(np.fft.rfft(rest * np.hanning(len(rest)))) ** 2
    frequency = np.fft.rfftfreq(len(rest), 1 / 16_000)
    below, lowest = spectrum[frequency < 16], spectrum[(frequency > 22) & (frequency < 40)]
    assert decibels(below.mean() / lowest.mean()) < -20


def speakers(release: Path) -> dict[str, str]:
    with (release / "Labels" / "labels_consensus.csv").open(newline="") as file:
        return {row["FileName"]: row["SpkrID"] for row in csv.DictReader(file)}


def test_babble_is_eight_talkers_of_the_demo_and_never_the_utterance(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def note(path: Path) -> np.ndarray:
        read.append(path)
        return np.ones(10, np.float32)

    monkeypatch.setattr(noise, "read_wave", note)
    release, condition, wave = cached_demo(cache), parse("noise:babble@10dB", cache=cache), speech(0.1)
    talker = speakers(release)
    chosen = set()
    for utterance in sorted(talker):
        read.clear()
        condition(wave, utterance)
        names = [path.name for path in read]
        assert {path.parent for path in read} == {release / "Audio"}
        assert len({talker[name] for name in names}) == len(names) == 8
        assert utterance not in names
        chosen |= set(names)
    assert "Unknown" not in {talker[name] for name in chosen}
    assert len(chosen) > 600  # of 735 with a known talker


def test_the_talkers_of_babble_are_equally_loud(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = iter(np.geomspace(0.001, 0.9, 8))
    pitches = iter(range(500, 4_500, 500))
    monkeypatch.setattr(noise, "read_wave", lambda path: sine(next(pitches), level=next(levels), seconds=1.0))
    rest = added(parse("noise:babble@0dB", cache=cache), speech(2.5))
    spectrum = np.abs(np.fft.rfft(rest[:32_000]))[::2]  # 1 Hz apart
    talkers = spectrum[500:4_500:500]
    np.testing.assert_allclose(talkers, talkers.mean(), rtol=0.01)
    assert talkers.mean() > 100 * np.median(spectrum)


def test_babble_is_the_demo_releases_own_sound(cache: Path) -> None:
    """The eight voices explain the noise entirely, each at its start: an independent sum by least squares."""
    rest = added(parse("noise:babble@0dB", cache=cache), speech(1.0), "x")
    label, columns = "noise:babble@0dB", []
    release = cached_demo(cache)
    by_talker: dict[str, list[str]] = {}
    for name, talker in sorted(speakers(release).items()):
        by_talker.setdefault(talker, []).append(name)
    by_talker.pop("Unknown")
    rng = conditions._generator(label, "x")
    for number in rng.permutation(len(by_talker))[:8]:
        files = by_talker[sorted(by_talker)[number]]
        voice, _ = soundfile.read(release / "Audio" / files[rng.integers(len(files))])
        voice = np.roll(voice, -rng.integers(len(voice)))
        columns.append(np.resize(voice, 16_000) / np.sqrt(np.mean(voice**2)))
    weights, residual, *_ = np.linalg.lstsq(np.stack(columns, 1), rest, rcond=None)
    assert residual[0] < 1e-8 * np.sum(rest**2)
    np.testing.assert_allclose(weights, weights.mean(), rtol=1e-4)


def test_a_folders_noise_is_an_excerpt_of_its_file(tmp_path: Path) -> None:
    file = np.random.default_rng(0).uniform(-0.5, 0.5, 100_000)
    write_wav(tmp_path / "a.wav", file)
    condition, wave, starts = parse(f"noise:{tmp_path}@0dB"), speech(2.0), set()
    for utterance in "abcde":
        rest = added(condition, wave, utterance)
        match = scipy.signal.correlate(file, rest, mode="valid")
        start = int(match.argmax())
        excerpt = file[start : start + len(rest)]
        assert np.corrcoef(excerpt, rest)[0, 1] > 0.9999
        starts.add(start)
    assert len(starts) == 5


def test_a_short_file_is_repeated(tmp_path: Path) -> None:
    file = np.random.default_rng(0).uniform(-0.5, 0.5, 1_000)
    write_wav(tmp_path / "a.wav", file)
    rest = added(parse(f"noise:{tmp_path}@0dB"), speech(2.0))
    np.testing.assert_allclose(rest[1_000:], rest[:-1_000], atol=1e-6)
    assert abs(np.corrcoef(rest[:500], rest[500:1_000])[0, 1]) < 0.2


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_other_rates_and_channels_are_resampled_and_mixed(tmp_path: Path, rate: int) -> None:
    time = np.arange(4 * rate) / rate
    left, right = 0.3 * np.sin(2 * np.pi * 440 * time), 0.3 * np.sin(2 * np.pi * 1_500 * time)
    write_wav(tmp_path / "a.wav", np.stack([left, right], 1), rate=rate)
    rest = added(parse(f"noise:{tmp_path}@0dB"), speech(1.0))
    spectrum = np.abs(np.fft.rfft(rest * np.hanning(16_000)))  # 1 Hz apart
    assert spectrum[440] == pytest.approx(spectrum[1_500], rel=0.01)
    spectrum[[439, 440, 441, 1_499, 1_500, 1_501]] = 0
    assert spectrum.max() < 0.02 * np.abs(np.fft.rfft(rest * np.hanning(16_000))).max()


def test_every_format_is_drawn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    decode = soundfile.read
    monkeypatch.setattr(soundfile, "read", lambda path, *rest, **named: (read.append(path.name), decode(path, *rest, **named))[1])  # noqa: E501 # fmt: skip
    condition, wave = parse(f"noise:{folder}@0dB"), speech(1.0)
    for number in range(40):
        assert decibels(power(wave) / power(added(condition, wave, str(number)))) == pytest.approx(0, abs=0.01)
    assert set(read) == {"a.wav", "b.flac", "c.OGG", "d.opus", "e.wav"}
    assert len(read) == 40  # one file is decoded for an utterance


def test_the_files_are_read_for_the_digest_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, folder := tmp_path / "not read yet")
    read, digest = [], noise.hashlib.file_digest
    monkeypatch.setattr(
        noise.hashlib, "file_digest", lambda file, name: (read.append(file.name), digest(file, name))[1]
    )
    for ratio in (0, 5, 10):
        parse(f"noise:{folder}@{ratio}dB")
    assert len(read) == len(set(read)) == 5


def test_a_place_that_is_silent_is_not_taken(tmp_path: Path) -> None:
    click = np.zeros(160_000)
    click[100_000] = 0.5
    write_wav(tmp_path / "a.wav", click)
    condition = parse(f"noise:{tmp_path}@0dB")
    for length in (1, 50, 8_000):
        for number in range(20):
            wave = speech(1.0, level=0.002, seed=number)[100 : 100 + length]
            rest = added(condition, wave, f"{number}")
            assert decibels(power(wave) / power(rest)) == pytest.approx(0, abs=0.01)
    once, again = (condition(speech(0.5), "a") for _ in range(2))
    assert np.array_equal(once, again)


def test_babble_that_falls_into_eight_pauses_is_drawn_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "read_wave", lambda path: np.eye(1, 200, dtype=np.float32)[0])
    condition = parse("noise:babble@0dB", cache=cache)
    for number in range(10):
        wave = np.array([0.1], np.float32)
        assert abs(added(condition, wave, str(number))[0]) == pytest.approx(0.1, rel=1e-3)


def test_an_utterance_is_not_its_own_noise(tmp_path: Path) -> None:
    for name, hertz in (("a.wav", 1_000), ("b.wav", 2_000)):
        write_wav(tmp_path / "both" / name, sine(hertz))
    write_wav(tmp_path / "one" / "a.wav", sine(1_000))
    both, one, wave = parse(f"noise:{tmp_path}/both@0dB"), parse(f"noise:{tmp_path}/one@0dB"), speech(1.0)

    def pitch(condition: Condition, utterance: str) -> int:
        return int(np.abs(np.fft.rfft(added(condition, wave, utterance))).argmax())

    assert {pitch(both, f"other{n}.wav") for n in range(10)} == {1_000, 2_000}
    assert (pitch(both, "a.wav"), pitch(both, "b.wav"), pitch(one, "a.wav")) == (2_000, 1_000, 1_000)


# Rooms


def response(seconds: float, utterance: str) -> np.ndarray:
    """The room's response: what becomes of an impulse."""
    impulse = np.zeros(round((seconds + 0.1) * 16_000), np.float32)
    impulse[0] = 0.5
    return parse(f"reverb:{seconds}")(impulse, utterance).astype(np.float64) / 0.5


@pytest.mark.parametrize("seconds", [0.2, 0.6, 3.0])
def test_energy_decays_by_60_db_in_the_time_asked_for(seconds: float) -> None:
    """RT60 by Schroeder's backward integration, from -5 to -35 dB of the tail (T30 of ISO 3382)."""
    measured = []
    for number in range(10):
        tail = response(seconds, str(number))[1:] ** 2
        decay = 10 * np.log10(np.cumsum(tail[::-1])[::-1][: int(0.8 * seconds * 16_000)] / tail.sum())
        part = (decay <= -5) & (decay >= -35)
        measured.append(-60 / np.polyfit(np.flatnonzero(part) / 16_000, decay[part], 1)[0])
    assert np.mean(measured) == pytest.approx(seconds, rel=0.03)
    assert np.std(measured) < 0.06 * seconds


@pytest.mark.parametrize("seconds", [0.05, 0.6, 10.0])
def test_direct_path_comes_first_and_has_half_of_the_energy(seconds: float) -> None:
    found = response(seconds, "a")
    assert decibels(found[0] ** 2 / np.sum(found[1:] ** 2)) == pytest.approx(0, abs=0.01)
    assert np.sum(found**2) == pytest.approx(1, rel=1e-4)


def test_reverberation_convolves_and_keeps_length_and_level() -> None:
    wave = speech(6.0)
    found = parse("reverb:0.6")(wave, "a")
    direct = scipy.signal.fftconvolve(wave.astype(np.float64), response(0.6, "a"))[: len(wave)]
    np.testing.assert_allclose(found, direct, atol=1e-6)
    assert decibels(power(found) / power(wave)) == pytest.approx(0, abs=0.3)


# Telephone


def through(hertz: float) -> float:
    """Gain in dB of a sine, measured at its frequency."""
    wave = sine(hertz)
    inner = slice(8_000, 24_000)
    at = np.exp(-2j * np.pi * hertz * np.arange(16_000) / 16_000)
    heard = parse("telephone")(wave, "a")[inner]
    return decibels(abs(np.sum(heard * at)) ** 2 / abs(np.sum(wave[inner] * at)) ** 2)


def test_the_telephone_passes_its_band_and_nothing_else() -> None:
    for hertz in (300, 320, 440, 1_000, 2_100, 3_300, 3_400):
        assert through(hertz) == pytest.approx(0, abs=0.5), hertz
    for hertz in (50, 100, 150, 200, 3_600, 3_900, 4_600, 6_000, 7_900):
        assert through(hertz) < -30, hertz


def test_nothing_outside_the_band_is_made() -> None:
    loud = np.random.default_rng(0).standard_normal(160_000).astype(np.float32) * np.float32(0.2)
    frequency, density = scipy.signal.welch(parse("telephone")(loud, "a"), 16_000, nperseg=2_048, detrend=False)
    inside = density[(frequency > 350) & (frequency < 3_350)].mean()
    outside = density[(frequency < 150) | (frequency > 3_600)]
    assert decibels(outside.max() / inside) < -35


@pytest.mark.parametrize("level", [0.03, 0.1, 0.5])
def test_the_telephone_codes_in_8_bits_of_mu_law(level: float) -> None:
    """About 38 dB of signal to quantisation noise at any level, which linear steps of 8 bits would not give."""
    time = np.arange(32_000) / 16_000
    wave = (level * np.sin(2 * np.pi * (600 + 400 * time) * time)).astype(np.float32)
    inner = slice(4_000, 28_000)
    heard, sent = parse("telephone")(wave, "a")[inner].astype(np.float64), wave[inner].astype(np.float64)
    rest = heard - sent * np.dot(heard, sent) / np.dot(sent, sent)
    assert 35 < decibels(power(heard) / power(rest)) < 42


def test_the_telephone_agrees_with_a_coder_of_the_itu(tmp_path: Path) -> None:
    """libsndfile's G.711, between filters of scipy's: as near as two quantisers are."""
    wave = speech(2.0, level=0.15)
    band = scipy.signal.firwin(401, [235, 3_465], pass_zero=False, fs=16_000, window="hann", scale=False)

    def filtered(samples: np.ndarray) -> np.ndarray:
        return scipy.signal.convolve(samples, band, mode="same")

    soundfile.write(tmp_path / "a.wav", filtered(wave.astype(np.float64))[::2], 8_000, subtype="ULAW")
    received, _ = soundfile.read(tmp_path / "a.wav")
    theirs = filtered(scipy.signal.upfirdn([2.0], received, up=2)[: len(wave)])[: len(wave)]
    ours = parse("telephone")(wave, "a").astype(np.float64)[: len(theirs)]
    assert decibels(power(theirs) / power(ours - theirs)) > 30


# Any wave


@pytest.mark.parametrize("text", [*BUILT_IN, "folder", "noise:white@-40dB", "noise:white@100dB", "reverb:10"])
def test_waves_of_any_length_and_level(text: str, folder: Path, cache: Path) -> None:
    condition = parse(f"noise:{folder}@0dB" if text == "folder" else text, cache=cache)
    base = speech(30.0, level=0.2)
    for name, wave in {
        "1 sample": np.array([0.5], np.float32),
        "2 samples": np.array([0.5, -0.5], np.float32),
        "100 samples": base[:100],
        "30 s": base,
        "every other sample": base[:2_000:2],
        "square at full level": np.sign(sine(200)) + np.float32(0),
        "beyond full level": sine(200, level=3),
        "one sample that is not zero": np.eye(1, 1_000, 500, dtype=np.float32)[0],
        "nearly nothing": np.full(1_000, 1e-42, np.float32),
    }.items():
        before = wave.copy()
        found = condition(wave, "a")
        assert (found.dtype, found.shape) == (np.float32, wave.shape), name
        assert found.flags.c_contiguous, name
        assert np.isfinite(found).all(), name
        assert np.abs(found).max() <= 1, name
        assert np.array_equal(wave, before), name
        assert not np.array_equal(found, wave) or name == "nearly nothing" or text.endswith("100dB"), name


@pytest.mark.parametrize("text", [*BUILT_IN, "folder"])
@pytest.mark.parametrize("samples", [0, 1, 1_000])
def test_digital_silence_stays_as_it_is(text: str, samples: int, folder: Path, cache: Path) -> None:
    condition = parse(f"noise:{folder}@0dB" if text == "folder" else text, cache=cache)
    found = condition(np.zeros(2 * samples, np.float32)[::2], "a")
    assert (found.dtype, found.shape, found.flags.c_contiguous, found.any()) == (np.float32, (samples,), True, False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_wave_that_is_not_finite_is_refused(value: float) -> None:
    wave = speech(0.1)
    wave[7] = value
    with pytest.raises(ConditionError) as caught:
        parse("reverb:0.60")(wave, "MSP-PODCAST_0001_0001.wav")
    assert str(caught.value) == (
        "cannot degrade MSP-PODCAST_0001_0001.wav by reverb:0.6: it holds samples that are not finite, expected -1..1."
        " Restore its file from the release."
    )
