#!/usr/bin/env python3
"""Make ``benchmark/ser_bench/corpus/demo.zip``, the small release in MSP-Podcast's layout that comes with the package.

usage: make_demo.py [OUT.zip]        (needs espeak-ng, numpy, scipy and soundfile; some minutes)

Everything in it is made up. The sentences come from the hand-written grammar beside this file; the voices are those of
espeak-ng; speakers, podcasts, raters and labels are drawn from a seeded generator. It shows what the benchmark does, in
minutes and without a licence; a score on it says nothing about people's emotions.

How the three attributes come about, so that a result can be judged:

* arousal is heard: rate, pitch, pitch range and level rise with it;
* dominance is heard: spectral tilt gets brighter, level steadier and pitch a little lower with it;
* valence is read: it is the strength of a sentence's words plus an unseen part. Voice and prosody are drawn without it.

All three carry noise: the speaker's habits, the microphone, what the cues leave open, and five raters with biases.
Train, Development and Test1 share podcasts but no speaker; Test2 has podcasts, voices, topics and
worse channels of its own. The same machine, espeak-ng and libraries give the same bytes.
Sentences and audio: Apache-2.0, as the project.
"""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import soundfile
from demo_grammar import Grammar, Sentence, pick, say
from numpy.typing import NDArray
from scipy.signal import resample

Wave = NDArray[np.float64]
Voices = tuple[tuple[str, ...], dict[str, tuple[str, ...]]]
HERE = Path(__file__).resolve().parent
SEED = 11
"""The first with which valence correlates with arousal or dominance by less than 0.1 in every partition, as drawn."""
SAMPLE_RATE = 16_000
ESPEAK_RATE = 22_050
NOTE = (
    "Synthetic: sentences from a grammar, voices of espeak-ng, simulated raters. Not MSP-Podcast, and no"
    " person speaks in it. Sentences and audio are the ser-bench authors' own, under Apache-2.0."
)
WORDLESS = (100, 600)
"""Utterances, in order of drawing, in which nobody says a word: their transcripts are empty, as some in the corpus."""
RATERS = 60
# Each class: what a rater calls it, and where it sits on (arousal, valence, dominance), 1..7 (our reading, roughly).
CLASSES = {
    "N": ("Neutral", (3.9, 4.0, 4.1)),
    "H": ("Happy", (4.7, 5.6, 4.5)),
    "A": ("Angry", (5.2, 2.6, 5.3)),
    "S": ("Sad", (3.0, 2.6, 3.3)),
    "F": ("Fear", (4.9, 2.8, 3.0)),
    "D": ("Disgust", (4.1, 2.3, 4.4)),
    "C": ("Contempt", (3.9, 3.1, 5.0)),
    "U": ("Surprise", (5.1, 4.3, 3.9)),
}
OTHERS = ("Other-Thoughtful", "Other-Ironic", "Other-Tired, a little")
# Voices as (language, variants); Test2's are in no other partition.
SEEN: Voices = (
    ("en-us", "en-gb", "en-gb-x-rp", "en-029"),
    {
        "Male": ("m1", "m2", "m3", "m4", "m7", "Alex", "Mike", "klatt2"),
        "Female": ("f1", "f2", "f3", "f4", "Annie", "belinda", "aunty"),
    },
)
UNSEEN: Voices = (
    ("en-us-nyc", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd"),
    {"Male": ("m5", "m6", "Lee", "max", "victor"), "Female": ("f5", "linda", "grandma", "shelby")},
)


@dataclass(frozen=True)
class Plan:
    """What one partition holds."""

    split: str
    utterances: int
    speakers: int
    least: int
    """Utterances of a speaker, at least."""
    unknown: int = 0
    """Speakers whose identity the labels withhold."""


PLANS = (
    Plan("Train", 420, 44, 4, unknown=8),
    Plan("Development", 110, 14, 4),
    Plan("Test1", 160, 26, 4),
    Plan("Test2", 130, 25, 4),
)


@dataclass(frozen=True)
class Podcast:
    """A recording: its number and its channel."""

    number: int
    low_hz: float
    high_hz: float
    noise_db: float
    """Level of the room noise, dB below full scale (negative)."""
    gain_db: float
    """Of the speech, as microphones and mixers differ."""
    tilt: float
    """dB an octave."""


@dataclass(frozen=True)
class Speaker:
    """A voice and its habits; pitch, rate, level and tilt are offsets from the average speaker's."""

    identity: str
    gender: str
    voice: str
    pitch: float
    """Steps of espeak-ng's scale of 0 to 99."""
    rate: float
    """Logarithm of the factor on words a minute."""
    level_db: float
    tilt: float
    """dB an octave."""
    mood: tuple[float, float]
    """Usual arousal and dominance, in standard deviations."""
    formants: float
    """Factor on all frequencies, a longer or shorter vocal tract."""
    podcasts: tuple[Podcast, ...]


def podcasts(generator: np.random.Generator) -> tuple[list[Podcast], list[Podcast]]:
    """Draw the 36 podcasts of Train, Development and Test1, and the 14 of Test2, whose channels are worse."""
    numbers = sorted(int(n) for n in generator.choice(np.arange(1, 2400), 50, replace=False))
    order = generator.permutation(50)
    draw, normal = generator.uniform, generator.normal
    seen = [
        Podcast(numbers[i], draw(40, 110), draw(5_500, 7_800), draw(-72, -56), normal(0, 0.7), normal(0, 0.4))
        for i in order[:36]
    ]
    unseen = [
        Podcast(numbers[i], draw(70, 180), draw(4_200, 6_500), draw(-60, -48), normal(0, 1.3), normal(0, 0.9))
        for i in order[36:]
    ]
    return seen, unseen


def speakers(generator: np.random.Generator) -> dict[str, list[Speaker]]:
    """Draw the speakers of each partition, genders in turn; in Train each seen podcast has one at least."""
    seen, unseen = podcasts(generator)
    identities = [str(i) for i in generator.permutation(np.arange(1, 400))]
    people = {}
    for plan in PLANS:
        voices, shows = (UNSEEN, unseen) if plan.split == "Test2" else (SEEN, seen)
        people[plan.split] = [
            speaker(generator, i, plan, voices, shows, identities.pop()) for i in range(plan.speakers)
        ]
    return people


def speaker(
    generator: np.random.Generator, i: int, plan: Plan, voices: Voices, shows: Sequence[Podcast], identity: str
) -> Speaker:
    """Draw the ``i``-th speaker of a partition, one podcast or two included; the last ones' identities are withheld."""
    gender = ("Male", "Female")[i % 2]
    language, variant = pick(generator, voices[0]), pick(generator, voices[1][gender])
    # Speakers of Train and Test2 go round the podcasts, so that none is left out.
    first = shows[i % len(shows)] if plan.split in ("Train", "Test2") else pick(generator, shows)
    pitch, rate, level, tilt, arousal, dominance = (float(x) for x in generator.normal(0, 1, 6))
    return Speaker(
        identity=identity if i < plan.speakers - plan.unknown else "Unknown",
        gender=gender if i < plan.speakers - plan.unknown // 4 else "Unknown",
        voice=f"{language}+{variant}",
        pitch=7 * pitch,
        rate=0.05 * rate,
        level_db=1.2 * level,
        tilt=0.35 * tilt,
        mood=(0.3 * arousal, 0.3 * dominance),
        formants=float(generator.uniform(0.95, 1.05)),
        podcasts=(first, pick(generator, shows)) if generator.random() < 0.4 else (first,),
    )


def names(generator: np.random.Generator, taken: Counter[int], show: Podcast, count: int, split: str) -> Iterator[str]:
    """Give ``count`` file names in ``show``: segments in order, some (few in Test2) cut into numbered parts."""
    while count > 0:
        taken[show.number] += int(generator.integers(1, 12))
        stem = f"MSP-PODCAST_{show.number:04d}_{taken[show.number]:04d}"
        parts = int(generator.integers(2, 4)) if generator.random() < (0.02 if split == "Test2" else 0.15) else 0
        for part in range(1, min(parts, count) + 1):
            yield f"{stem}_{part:04d}.wav"
        if not parts:
            yield f"{stem}.wav"
        count -= max(1, parts)


@dataclass(frozen=True)
class Utterance:
    """One row in the making."""

    name: str
    split: str
    speaker: Speaker
    podcast: Podcast
    state: NDArray[np.float64]
    """[3] arousal, valence, dominance, in standard deviations (valence: in words' strength)."""
    sentence: Sentence


def utterances(generator: np.random.Generator) -> list[Utterance]:
    """Draw who says what, where and in which state; nothing is spoken yet."""
    grammar = Grammar(HERE / "demo_sentences.txt", generator)
    people = speakers(generator)
    taken: Counter[int] = Counter()
    rows: list[Utterance] = []
    for plan in PLANS:
        extra = plan.utterances - plan.least * plan.speakers
        shares = generator.multinomial(extra, generator.dirichlet(np.full(plan.speakers, 4.0)))
        for speaker, share in zip(people[plan.split], shares, strict=True):
            count = plan.least + int(share)
            second = count // 2 if len(speaker.podcasts) > 1 else 0
            for show, part in zip(speaker.podcasts, (count - second, second), strict=False):
                for name in names(generator, taken, show, part, plan.split):
                    arousal, dominance = generator.multivariate_normal(speaker.mood, [[1, 0.3], [0.3, 1]])
                    target = float(np.clip(generator.normal(0, 1.6), -3, 3))
                    sentence = say(grammar, target, unseen=plan.split == "Test2")
                    if len(rows) in WORDLESS:
                        sentence = Sentence("", "Mm hm. Uh huh, mm hm. Hmm.", 0.0)
                    state = np.array([arousal, sentence.strength + generator.normal(0, 0.3), dominance])
                    rows.append(Utterance(name, plan.split, speaker, show, state, sentence))
    return rows


def speak(row: Utterance, generator: np.random.Generator) -> Wave:
    """Give the utterance's wave at 16 kHz, [n], -1..1: valence is not looked at."""
    arousal, _, dominance = row.state
    person, show = row.speaker, row.podcast
    chance = generator.normal(0, 1, 6)
    rate = np.clip(210 * np.exp(0.16 * arousal + 0.08 * chance[0] + person.rate), 150, 270)  # words a minute
    pitch = np.clip(45 + person.pitch + 9 * arousal - 5 * dominance + 4 * chance[1], 0, 99)  # espeak-ng's scale
    spread = np.clip(100 * np.exp(0.35 * arousal + 0.2 * chance[2]), 25, 250)  # pitch range, percent
    wave = espeak(row.sentence.spoken, person.voice, int(rate), int(pitch), int(spread))
    wave = resample(wave, int(len(wave) * SAMPLE_RATE / ESPEAK_RATE / person.formants))
    wave = coloured(wave, float(np.clip(1.35 * dominance + 0.6 * chance[3] + person.tilt + show.tilt, -5, 5)))
    envelope = np.sqrt(np.convolve(wave**2, np.full(960, 1 / 960), mode="same"))  # over 60 ms
    steadier = float(np.clip(0.22 * dominance + 0.12 * chance[4], -0.5, 0.6))
    wave = wave * (envelope / wave.std() + 0.1) ** -steadier
    wave *= decibel(-26 + 2.5 * arousal + 0.8 * chance[5] + person.level_db + show.gain_db) / wave.std()
    before, after = (int(SAMPLE_RATE * s) for s in generator.uniform(0.05, 0.35, 2))
    wave = np.concatenate([np.zeros(before), wave, np.zeros(after)])
    noise = coloured(generator.normal(0, 1, len(wave)), -4)
    wave = coloured(wave + decibel(show.noise_db) * noise / noise.std(), 0, low=show.low_hz, high=show.high_hz)
    # Room for what the codec adds: nothing may clip.
    return wave * min(1.0, 0.7 / float(np.abs(wave).max()))


def espeak(text: str, voice: str, rate: int, pitch: int, spread: int) -> Wave:
    """Speak ``text``; the wave at 22.05 kHz without the silence around it."""
    command = ["espeak-ng", "-v", voice, "-s", str(rate), "-p", str(pitch), "-a", "50", "-m", "--stdout"]
    markup = f'<prosody range="{spread}%">{escape(text)}</prosody>'
    spoken = subprocess.run([*command, markup], capture_output=True, check=True).stdout
    # A header of 44 bytes; its length field is not filled in on a pipe.
    wave = np.frombuffer(spoken[44:], np.int16).astype(np.float64) / 32768
    loud = np.flatnonzero(np.abs(wave) > 0.003)
    return wave[loud[0] : loud[-1] + 1]


def coloured(wave: Wave, tilt: float, *, low: float = 0.0, high: float = math.inf) -> Wave:
    """Tilt the spectrum by ``tilt`` dB an octave around 1 kHz and limit the band (24 dB an octave; Hz)."""
    hertz = np.maximum(np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE), 20.0)
    gain = (np.maximum(hertz, 150) / 1000) ** (tilt / (20 * math.log10(2)))
    gain /= np.sqrt((1 + (hertz / high) ** 8) * (1 + (low / hertz) ** 8))
    return np.fft.irfft(np.fft.rfft(wave) * gain, len(wave))


def decibel(value: float) -> float:
    """Give the amplitude of a level in dB."""
    return float(10 ** (value / 20))


def rated(row: Utterance, biases: NDArray[np.float64], generator: np.random.Generator) -> tuple[str, list[list[Any]]]:
    """Give the consensus class and five raters' [worker, primary, secondaries, arousal, valence, dominance]."""
    truth = np.array([4.0, 4.0, 4.1]) + np.array([0.95, 0.72, 0.85]) * row.state
    lines, votes = [], []
    for worker in sorted(int(w) for w in generator.choice(len(biases), 5, replace=False)):
        felt = truth + biases[worker] + generator.normal(0, 0.65, 3)
        near = sorted(CLASSES, key=lambda letter: float(np.sum((felt - CLASSES[letter][1]) ** 2)))
        vote, primary = near[0], CLASSES[near[0]][0]
        if generator.random() < 0.1:
            vote, primary = "O", pick(generator, OTHERS)
        second = ",".join(CLASSES[letter][0] for letter in near[: int(generator.integers(1, 4))])
        votes.append(vote)
        lines.append([f"WORKER{worker + 1:08d}", primary, second, *(int(x) for x in np.clip(np.rint(felt), 1, 7))])
    (winner, most), *others = Counter(votes).most_common()
    return "X" if others and others[0][1] == most else winner, lines


def opus(wave: Wave, serial: int) -> bytes:
    """Encode as Ogg/Opus, about 13 kbit/s, the same bytes each time."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=0.98)
    pages = bytearray(buffer.getvalue())
    # libsndfile draws the stream's serial number by the clock: give it ours, and each page its checksum anew
    # (RFC 3533, section 6: serial at byte 14, checksum at 22, number of segments at 26).
    start = 0
    while start < len(pages):
        segments = pages[start + 26]
        end = start + 27 + segments + sum(pages[start + 27 : start + 27 + segments])
        pages[start + 14 : start + 18] = serial.to_bytes(4, "little")
        pages[start + 22 : start + 26] = bytes(4)
        pages[start + 22 : start + 26] = checksum(pages[start:end]).to_bytes(4, "little")
        start = end
    return bytes(pages)


def checksum(page: bytearray) -> int:
    """Give Ogg's CRC-32: polynomial 0x04c11db7, most significant bit first, no inversion."""
    value = 0
    for byte in page:
        value = ((value << 8) & 0xFFFFFFFF) ^ CRC[(value >> 24) ^ byte]
    return value


def _crc(value: int) -> int:
    for _ in range(8):
        value = (value << 1) ^ (0x104C11DB7 if value & 0x80000000 else 0)
    return value


CRC = [_crc(byte << 24) for byte in range(256)]


def main(out: Path) -> None:
    """Make the release and write it as one zip."""
    generator = np.random.default_rng(SEED)
    rows = sorted(utterances(generator), key=lambda row: row.name)
    biases = generator.normal(0, 0.25, (RATERS, 3))
    table: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    for serial, row in enumerate(rows):
        wave = speak(row, generator)
        emotion, raters = rated(row, biases, generator)
        files[f"Opus/{row.name[:-4]}.opus"] = opus(wave, serial)
        table.append(
            {"name": row.name, "split": row.split, "speaker": row.speaker.identity, "gender": row.speaker.gender,
             "emotion": emotion, "samples": len(wave), "transcript": row.sentence.text, "raters": raters}
        )  # fmt: skip
    content = {"note": NOTE, "utterances": table}
    files["demo.json"] = json.dumps(content, indent=None, separators=(",", ":")).encode()
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in sorted(files.items()):
                # A fixed date, so that the bytes depend on the content alone; Opus does not shrink any more.
                kind = zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, kind, 9)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(out)
    minutes = sum(entry["samples"] for entry in table) / SAMPLE_RATE / 60
    print(f"{len(table)} utterances, {minutes:.1f} minutes, {out.stat().st_size / 1e6:.2f} MB in {out.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "benchmark/ser_bench/corpus/demo.zip")
