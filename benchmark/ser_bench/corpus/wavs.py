"""Read wav files: headers for durations and faults, waves for the models."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from ser_bench.errors import CorpusError
from ser_bench.interface import SAMPLE_RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

# WAVE format tags: integer PCM, IEEE float, and the extensible form that holds either.
_READABLE_TAGS = (1, 3, 0xFFFE)


class Header(NamedTuple):
    """What a wav file's header says, checked against the file's size."""

    frames: int
    """Samples to a channel that the file holds; 0 where it has a fault."""
    rate: int
    """Hz; 0 where unreadable."""
    channels: int
    fault: str = ""
    """A kind of ``corpus.faults``, or empty."""
    detail: str = ""

    @property
    def seconds(self) -> float:
        """Duration; NaN where the file has a fault."""
        return float("nan") if self.fault else self.frames / self.rate


def read_header(path: str) -> Header:
    """Read a wav file's header without its samples.

    A file is cut short when its header says that the data chunk has more bytes than the file holds (libsndfile, which
    reads the samples, shortens such a file in silence).

    Raises:
        OSError: the file cannot be opened or read; any other fault is in the result.
    """
    with open(path, "rb", buffering=4096) as file:  # noqa: PTH123 - a Path object for each of 270,000 files adds up
        size = file.seek(0, 2)
        file.seek(0)
        if size == 0:
            return Header(0, 0, 0, "audio-empty", "0 bytes")
        try:
            return _parse(file, size)
        except struct.error:
            return Header(0, 0, 0, "audio-unreadable", "ends within its header")


def read_wave(path: Path | str) -> NDArray[np.float32]:
    """Read one utterance as the models take it.

    Files of another rate or more channels (the corpus has a few) are mixed down and resampled.

    Returns:
        float32 [n], mono 16 kHz, -1..1.

    Raises:
        CorpusError: the file is missing, unreadable, empty or cut short.
    """
    import soundfile  # here, since it loads libsndfile, which listing a release does not need

    try:
        header = read_header(str(path))
        if header.fault:
            raise CorpusError(f"cannot use {path}: {_words(header)}. Restore it from the release.")
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except OSError as cause:
        raise CorpusError(f"cannot read {path} ({cause.strerror}). Restore it from the release.") from cause
    except soundfile.LibsndfileError as cause:
        raise CorpusError(f"cannot read {path} ({cause.error_string}). Restore it from the release.") from cause
    mono: NDArray[np.float32] = wave[:, 0] if wave.shape[1] == 1 else wave.mean(axis=1, dtype=np.float32)
    return np.ascontiguousarray(mono) if rate == SAMPLE_RATE else _resample(mono, rate)


def _parse(file: BinaryIO, size: int) -> Header:
    magic, _, form = struct.unpack("<4sI4s", file.read(12))
    if magic != b"RIFF" or form != b"WAVE":
        return Header(0, 0, 0, "audio-unreadable", "not a RIFF WAVE file")
    rate = channels = width = 0
    while True:
        chunk, length = struct.unpack("<4sI", file.read(8))
        if chunk == b"fmt ":
            tag, channels, rate, _, width = struct.unpack("<HHIIH", file.read(14))
            if tag not in _READABLE_TAGS or not (channels and rate and width):
                return Header(0, 0, 0, "audio-unreadable", f"format tag {tag}, {channels} channels, {rate} Hz")
            file.seek(length - 14 + length % 2, 1)
        elif chunk == b"data":
            held = size - file.tell()
            if not rate:
                return Header(0, 0, 0, "audio-unreadable", "no format before its samples")
            if length > held:
                return Header(0, rate, channels, "audio-cut", f"header says {length:,} bytes, file holds {held:,}")
            if length < width:
                return Header(0, rate, channels, "audio-empty", "0 samples")
            return Header(length // width, rate, channels)
        else:
            file.seek(length + length % 2, 1)  # chunks are padded to an even length


def _words(header: Header) -> str:
    kind = {"audio-empty": "empty", "audio-cut": "cut short", "audio-unreadable": "unreadable"}[header.fault]
    return f"it is {kind}, {header.detail}"


def _resample(wave: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Resample with torchaudio's windowed sinc, which the models' own recipes use."""
    import torch
    from torchaudio.functional import resample

    resampled: NDArray[np.float32] = resample(torch.from_numpy(wave.copy()), rate, SAMPLE_RATE).numpy()
    return resampled
