"""Noise to add to speech: white, pink, babble, and what a folder of sound files holds.

``conditions`` adds it; its ``VERSION`` must be raised when any noise here gives other samples.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ser_bench.cache import cache_root
from ser_bench.corpus.demo import cached_demo
from ser_bench.corpus.wavs import read_wave
from ser_bench.errors import ConditionError
from ser_bench.interface import SAMPLE_RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float64]
    Noise = Callable[[int, np.random.Generator, str], Samples]

_SUFFIXES = (".wav", ".flac", ".ogg", ".opus")
_STEP = 2.0**-15
"""One step of 16-bit sound; an excerpt of a file that stays within it is silent."""
_PINK_LOWEST_HZ = 20.0
_TALKERS = 8


def open_noise(place: str, *, cache: Path | None = None) -> tuple[str, Noise]:
    """Return the name by which records know a noise, and the noise.

    A noise gives float64 [length] at 16 kHz, at any level, for (length, generator, utterance). It is not made of the
    utterance itself, unless a folder holds no other file.

    Args:
        place: ``white``, ``pink``, ``babble``, or a folder of sound files at any depth, whose name is its last part,
            made safe, and a digest of its files' names and contents.
        cache: where babble finds the demo release, or unpacks it (see ``cache_root``).

    Raises:
        ConditionError: the folder is missing, holds no sound file, or holds one that cannot be read or is empty.
    """
    built_in: dict[str, Noise] = {"white": _white, "pink": _pink, "babble": functools.partial(_babble, cache)}
    return (place, built_in[place]) if place in built_in else _open_folder(place)


def _white(length: int, generator: np.random.Generator, utterance: str) -> Samples:
    """Return Gaussian noise [length] of equal power at all frequencies."""
    return generator.standard_normal(length)


def _pink(length: int, generator: np.random.Generator, utterance: str) -> Samples:
    """Return Gaussian noise [length] of power 1/f from 20 Hz to 8 kHz, and none below.

    Without the lower limit nearly half of a 6 s excerpt's power would lie below hearing, and more of a longer one's.
    A power of two of samples is made, more than a second, and cut: a short excerpt has the spectrum too.
    """
    made = 1 << max(length - 1, SAMPLE_RATE).bit_length()
    frequency = np.fft.rfftfreq(made, 1 / SAMPLE_RATE)  # [made // 2 + 1] Hz
    shape = np.where(frequency >= _PINK_LOWEST_HZ, 1 / np.sqrt(np.maximum(frequency, _PINK_LOWEST_HZ)), 0.0)
    return np.fft.irfft(np.fft.rfft(generator.standard_normal(made)) * shape, made)[:length]


def _babble(cache: Path | None, length: int, generator: np.random.Generator, utterance: str) -> Samples:
    """Return the sum [length] of eight talkers of the demo release, one utterance each, at equal mean power."""
    talkers = _talkers(cache_root(cache))
    total = np.zeros(length)
    for number in generator.permutation(len(talkers))[:_TALKERS]:
        voice = read_wave(_one_but(utterance, talkers[number], generator)).astype(np.float64)
        start = int(generator.integers(len(voice)))
        total += _around(voice, start, length) / np.sqrt(np.mean(voice**2))
    return total


@functools.lru_cache(maxsize=1)
def _talkers(cache: Path) -> tuple[tuple[Path, ...], ...]:
    """Return the demo release's wav files by talker, in a fixed order; utterances of unknown talkers are left out."""
    try:
        release = cached_demo(cache)
    except OSError as cause:
        raise ConditionError(
            f"babble is made of the demo release, which cannot be unpacked in {cache} ({cause.strerror}). Make room"
            " there, or name another folder with --cache DIR."
        ) from cause
    found: dict[str, list[Path]] = {}
    for name, entry in sorted(json.loads((release / "Labels" / "labels_consensus.json").read_bytes()).items()):
        if entry["SpkrID"] != "Unknown":
            found.setdefault(entry["SpkrID"], []).append(release / "Audio" / name)
    return tuple(tuple(found[talker]) for talker in sorted(found))


class _Sound(NamedTuple):
    """One file of a folder of noise."""

    path: Path
    frames: int
    rate: int
    """Hz."""

    @property
    def name(self) -> str:
        return self.path.name


def _open_folder(place: str) -> tuple[str, Noise]:
    folder = Path(os.path.abspath(os.path.expanduser(place)))  # noqa: PTH100, PTH111 - keep a link's name; never raise
    if not folder.is_dir():
        near = difflib.get_close_matches(place, ("white", "pink", "babble"), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConditionError(
            f"there is no noise '{place}': expected white, pink, babble, or a folder of sound files, and no such folder"
            f" exists (a record holds a folder's name and digest, not its place).{hint} Give the folder's path."
        )
    try:
        listed = _list(folder)
        if not listed:
            raise ConditionError(
                f"{folder} holds no sound file; expected {', '.join(_SUFFIXES)} at any depth. Name the folder that"
                " holds the noise."
            )
        digest, sounds = _examine(folder, listed)
    except OSError as cause:
        raise _unusable(Path(cause.filename or folder), f"it cannot be read ({cause.strerror})") from cause
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.name)[:40]
    return f"{safe}-{digest[:8]}", functools.partial(_from_folder, sounds)


def _list(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return the (path in the folder, bytes, time in ns) of its sound files, sorted; hidden files are no sounds."""
    found = []
    for path in folder.rglob("*"):
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file():
            status = path.stat()
            found.append((path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns))
    return tuple(sorted(found))


@functools.lru_cache(maxsize=8)
def _examine(folder: Path, listed: tuple[tuple[str, int, int], ...]) -> tuple[str, tuple[_Sound, ...]]:
    """Return the SHA-256 over the files' names and contents, and what their headers say; once a process."""
    digest = hashlib.sha256()
    sounds = []
    for name, size, _ in listed:
        with (folder / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(os.fsencode(name) + b"\0" + content)
        sounds.append(_sound(folder / name, size))
    return digest.hexdigest(), tuple(sounds)


def _sound(path: Path, size: int) -> _Sound:
    """Read a sound file's header."""
    import soundfile

    try:
        header = soundfile.info(str(path))
    except soundfile.LibsndfileError as cause:
        raise _unusable(path, f"it is unreadable ({size:,} bytes; {cause.error_string})") from cause
    if header.frames < 1:
        raise _unusable(path, "it is empty, 0 samples")
    # A ratio to 16,000 Hz in large numbers (that of 44,101 Hz) would take gigabytes for the resampler's filters.
    if math.gcd(header.samplerate, SAMPLE_RATE) < 25:
        raise _unusable(
            path, f"its rate is {header.samplerate:,} Hz, expected a common one such as 16,000 or 44,100 Hz"
        )
    return _Sound(path, header.frames, header.samplerate)


def _from_folder(sounds: tuple[_Sound, ...], length: int, generator: np.random.Generator, utterance: str) -> Samples:
    """Return an excerpt [length] of one of the files, from a random place, repeated where the file is shorter."""
    sound = _one_but(utterance, sounds, generator)
    needed = math.ceil(length * sound.rate / SAMPLE_RATE)
    start = int(generator.integers(max(sound.frames - needed, 0) + 1))
    if needed <= sound.frames:
        excerpt = _around(_read(sound, start, needed), 0, length)
    else:
        whole = _read(sound)
        excerpt = _around(whole, int(generator.integers(len(whole))), length)
    if np.abs(excerpt).max() > _STEP:
        return excerpt
    # Silent here: take a place that holds the loudest sample instead.
    whole = _read(sound)
    loudest = int(np.abs(whole).argmax())
    if abs(whole[loudest]) <= _STEP:
        raise _unusable(sound.path, "it is silent (no sample is above one step of 16-bit sound)")
    return _around(whole, loudest - int(generator.integers(length)), length)


def _read(sound: _Sound, start: int = 0, frames: int = -1) -> Samples:
    """Decode part of a sound file (all of it for -1), mixed to mono and resampled to 16 kHz."""
    import soundfile
    import torch
    from torchaudio.functional import resample

    try:
        channels, _ = soundfile.read(sound.path, frames, start, dtype="float32", always_2d=True)  # [frames, channels]
    except (OSError, soundfile.LibsndfileError) as cause:
        words = cause.strerror if isinstance(cause, OSError) else cause.error_string
        raise _unusable(sound.path, f"it is unreadable ({words})") from cause
    if not len(channels) or not np.isfinite(channels).all():
        raise _unusable(sound.path, "it holds fewer samples than its header says, or samples that are not finite")
    mono = torch.from_numpy(channels.mean(axis=1))
    return np.asarray(resample(mono, sound.rate, SAMPLE_RATE).double().numpy())


def _unusable(path: Path, why: str) -> ConditionError:
    return ConditionError(f"cannot use {path} as noise: {why}. Replace it, or take it out of the folder.")


def _one_but(utterance: str, files: Sequence[Any], generator: np.random.Generator) -> Any:
    """Draw one of the files, and the next one where that is the utterance itself."""
    number = int(generator.integers(len(files)))
    return files[number] if files[number].name != utterance else files[(number + 1) % len(files)]


def _around(wave: Samples, start: int, length: int) -> Samples:
    """Return ``length`` samples of a wave repeated without end, from ``start``, which may be negative."""
    return np.take(wave, np.arange(start, start + length), mode="wrap")
