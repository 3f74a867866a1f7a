from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from ser_bench.corpus import read_wave
from ser_bench.corpus.wavs import read_header
from ser_bench.errors import CorpusError
from ser_bench.testing import write_wav


def tone(rate: int, seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize(
    ("subtype", "form"), [("PCM_16", "WAV"), ("PCM_24", "WAV"), ("FLOAT", "WAV"), ("PCM_16", "WAVEX")]
)
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_header_agrees_with_libsndfile(tmp_path: Path, subtype: str, form: str, rate: int, channels: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([tone(rate, 0.37)] * channels, 1), rate, subtype=subtype, format=form)
    theirs = soundfile.info(path)
    ours = read_header(str(path))
    assert (ours.frames, ours.rate, ours.channels, ours.fault) == (theirs.frames, rate, channels, "")
    assert ours.seconds == pytest.approx(theirs.duration)


def test_header_passes_chunks_before_the_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, tone(16_000, 0.1))
    content = path.read_bytes()
    odd = b"LIST" + struct.pack("<I", 5) + b"abcde\0"  # an odd length is padded
    path.write_bytes(content[:12] + odd + content[12:36] + odd * 2_000 + content[36:])
    assert (read_header(str(path)).frames, read_header(str(path)).fault) == (1_600, "")


def test_wave_is_float_mono_16k_as_stored(tmp_path: Path) -> None:
    samples = np.array([-32767, -1, 0, 1, 32767]) / 32767
    write_wav(tmp_path / "a.wav", samples)
    wave = read_wave(tmp_path / "a.wav")
    assert (wave.dtype, wave.shape, wave.flags.c_contiguous) == (np.float32, (5,), True)
    np.testing.assert_allclose(wave, samples, atol=1 / 32767)
    assert np.abs(wave).max() <= 1


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_agrees_with_an_independent_resampler(tmp_path: Path, rate: int) -> None:
    mono = tone(rate)
    write_wav(tmp_path / "a.wav", np.stack([mono * 0.5, mono * 1.5], axis=1), rate=rate)
    ours = read_wave(tmp_path / "a.wav")
    divisor = np.gcd(rate, 16_000)
    theirs = scipy.signal.resample_poly(mono, 16_000 // divisor, rate // divisor)
    assert abs(len(ours) - len(theirs)) <= 1
    middle = slice(400, 15_600)  # both filters ring at the ends
    np.testing.assert_allclose(ours[middle], theirs[middle], atol=0.01)
    np.testing.assert_allclose(ours[middle], tone(16_000)[middle], atol=0.01)


def test_reading_a_16k_file_does_not_import_torch(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(16_000, 0.1))
    code = (
        "import sys; from ser_bench.corpus import read_wave; read_wave(sys.argv[1]); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.wav"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, r"cannot read .*a\.wav \(No such file or directory\)"),
        (b"", r"cannot use .*a\.wav: it is empty, 0 bytes"),
        (b"ID3 and something else that is no wave file", r"it is unreadable, not a RIFF WAVE file"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", r"it is unreadable, ends within its header"),
        (b"RIFF\x00\x00\x00\x00WAVEdata\x00\x00\x00\x00", r"it is unreadable, no format before its samples"),
        (
            b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 17, 1, 16_000, 8_000, 4, 4),
            r"it is unreadable, format tag 17, 1 channels, 16000 Hz",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_cause(tmp_path: Path, content: bytes | None, cause: str) -> None:
    if content is not None:
        (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(CorpusError, match=cause + r".*\. Restore it from the release\."):
        read_wave(tmp_path / "a.wav")


def test_a_file_cut_short_is_refused_though_libsndfile_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, tone(16_000))
    path.write_bytes(path.read_bytes()[:-2])
    assert soundfile.info(path).frames == 15_999
    with pytest.raises(CorpusError, match=r"it is cut short, header says 32,000 bytes, file holds 31,998"):
        read_wave(path)
