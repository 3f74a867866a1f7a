"""Conditions: seeded degradations of the audio, applied to an utterance's wave when it is read.

``clean``, ``noise:white@10dB``, ``noise:pink@5dB``, ``noise:babble@10dB``, ``noise:DIR@0dB`` (a folder of sound files),
``reverb:0.6`` (RT60 in seconds), ``telephone``. docs/conditions.md says what is done and why. An utterance's samples
depend on its wave, its name, the condition and ``VERSION`` alone: not on order, process or number of threads.

Torch is imported when a wave is degraded, not when a condition is named.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import math
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ser_bench import noise
from ser_bench.errors import ConditionError
from ser_bench.interface import SAMPLE_RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ser_bench.noise import Noise, Samples

    Degrade = Callable[[Samples, np.random.Generator, str], Samples]

VERSION = 1
"""Raise it when any condition gives other samples: it seeds them, and store keys hold it."""

_FORMS = (
    "clean, noise:white@10dB, noise:pink@10dB, noise:babble@10dB, noise:DIR@10dB (a folder of sound files), reverb:0.6"
    " (RT60 in seconds), telephone"
)
_SNR_DB = (-40.0, 100.0)
_RT60_SECONDS = (0.05, 10.0)
# Three decimals at most, so that ``:g`` writes every number that is accepted in full: one spelling to a condition.
_NUMBER = r"([+-]?(?:[0-9]{1,4}(?:\.[0-9]{0,3})?|\.[0-9]{1,3}))"
_BAND_HZ = (300.0, 3_400.0)
_CODES = 256

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Condition:
    """One condition; call it to degrade a wave."""

    label: str
    """What records, store keys and file names say: one spelling to a condition, ``[A-Za-z0-9_.:@+-]``, no path."""
    degrade: Degrade | None = field(default=None, repr=False, compare=False)
    """(wave [n], generator, utterance) -> [n], float64; None for ``clean``."""

    @property
    def key(self) -> str:
        """The condition as stores know it: another version of the samples is another key; ``clean`` has none."""
        return self.label if self.degrade is None else f"{self.label}#{VERSION}"

    def __call__(self, wave: NDArray[np.float32], utterance: str) -> NDArray[np.float32]:
        """Return an utterance's degraded wave.

        Where the result passes 1 in absolute value, all of it is scaled to a peak of 1: that keeps the signal-to-noise
        ratio, as clipping would not. Digital silence comes back as it is, since no level of noise has a stated ratio to
        it. ``clean`` returns ``wave`` itself.

        Args:
            wave: float32 [n], mono 16 kHz.
            utterance: its name, which seeds what is random.

        Returns:
            float32 [n], contiguous, finite, -1..1.

        Raises:
            ConditionError: a sample is not finite, or a noise file cannot be used.
            CorpusError: the demo release, whose voices babble, cannot be unpacked or read.
        """
        if self.degrade is None:
            return wave
        if not np.isfinite(wave).all():
            raise ConditionError(
                f"cannot degrade {utterance} by {self.label}: it holds samples that are not finite, expected -1..1."
                " Restore its file from the release."
            )
        if not wave.any():
            return np.ascontiguousarray(wave)
        # float64, in which the power of even the quietest float32 wave does not vanish.
        with _one_thread():
            degraded = self.degrade(wave.astype(np.float64), _generator(self.label, utterance), utterance)
        return np.ascontiguousarray(degraded / max(1.0, np.abs(degraded).max()), dtype=np.float32)


CLEAN = Condition("clean")


def parse(text: str, *, cache: Path | None = None) -> Condition:
    """Return the condition that ``text`` names.

    The files of a folder of noise are read once a process, for the digest in its label; they are decoded when a wave is
    degraded, and only the one that is drawn.

    Args:
        text: one of the forms in the module's docstring. A folder called ``white`` is ``./white``.
        cache: where babble finds the demo release, or unpacks it (see ``cache_root``).

    Raises:
        ConditionError: the form is unknown, a number is malformed or out of bounds, or the folder is missing, holds no
            sound file, or holds one that cannot be read or is empty.
    """
    kind, colon, rest = text.partition(":")
    if text == CLEAN.label:
        return CLEAN
    if text == "telephone":
        return Condition("telephone", _telephone)
    if kind == "reverb" and colon:
        seconds = _number(text, rest, "", "reverberation time", "seconds, such as reverb:0.6", _RT60_SECONDS)
        return Condition(f"reverb:{seconds:g}", functools.partial(_reverberant, seconds))
    if kind == "noise" and colon:
        return _parse_noise(text, rest, cache)
    near = difflib.get_close_matches(kind, ("clean", "noise", "reverb", "telephone"), n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ConditionError(f"condition '{text}' is unknown; the forms are {_FORMS}.{hint} Give --condition one of these.")


def _parse_noise(text: str, rest: str, cache: Path | None) -> Condition:
    """Parse ``KIND@SNRdB``, what follows ``noise:``."""
    place, at, ratio = rest.rpartition("@")
    if not at:
        raise ConditionError(
            f"condition '{text}' has no signal-to-noise ratio; expected one after '@', such as"
            f" noise:{rest or 'white'}@10dB. Add it to --condition."
        )
    if not place:
        raise ConditionError(
            f"condition '{text}' names no noise; expected white, pink, babble or a folder of sound files before '@',"
            f" such as noise:white@{ratio or '10dB'}. Add it to --condition."
        )
    snr_db = _number(text, ratio, "dB", "signal-to-noise ratio", "dB, such as 10dB or -2.5dB", _SNR_DB)
    name, source = noise.open_noise(place, cache=cache)
    return Condition(f"noise:{name}@{snr_db:g}dB", functools.partial(_noisy, source, snr_db))


def _number(text: str, given: str, suffix: str, what: str, unit: str, bounds: tuple[float, float]) -> float:
    """Parse a decimal number within bounds, followed by ``suffix``."""
    low, high = bounds
    match = re.fullmatch(_NUMBER + suffix, given, re.IGNORECASE)
    if not match or not low <= float(match[1]) <= high:
        raise ConditionError(
            f"condition '{text}' gives '{given}' as its {what}; expected a number from {low:g} to {high:g} with at most"
            f" three decimals, in {unit}. Correct --condition."
        )
    return float(match[1]) + 0.0  # -0 is 0


def _generator(label: str, utterance: str) -> np.random.Generator:
    """Return the generator of one utterance's randomness."""
    seed = hashlib.sha256("\0".join([label, str(VERSION), utterance]).encode(errors="surrogateescape")).digest()
    # A named bit generator: numpy may change what default_rng stands for.
    return np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: its Fourier transforms round differently with another number.

    One wave at a time, since part of torch's setting (MKL's) is the whole process's.
    """
    import torch

    with _one_at_a_time:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _noisy(source: Noise, snr_db: float, wave: Samples, generator: np.random.Generator, utterance: str) -> Samples:
    """Add noise so that the ratio of mean powers over the whole utterance, pauses included, is ``snr_db``."""
    import torch
    from torchaudio.functional import add_noise

    added = source(len(wave), generator, utterance)
    while not added.any():  # a few samples of babble may fall into eight pauses at once
        added = source(len(wave), generator, utterance)
    ratio = torch.tensor(snr_db, dtype=torch.float64)
    return np.asarray(add_noise(torch.from_numpy(wave), torch.from_numpy(added), ratio).numpy())


def _reverberant(seconds: float, wave: Samples, generator: np.random.Generator, utterance: str) -> Samples:
    """Put the wave into a room: a response of its own for each utterance, its direct path at once.

    The response is white Gaussian noise whose power falls by 60 dB in ``seconds`` (Polack 1988, thesis, Université du
    Maine; Lehmann and Johansson 2010, IEEE TASLP 18(6), 1429, for the diffuse tail), after a direct path of as much
    energy as all of the tail: 0 dB, a listener at the critical distance. Its energy is 1, so that the level stays. What
    rings on after the utterance's last sample is cut.
    """
    time = np.arange(1, round(seconds * SAMPLE_RATE)) / SAMPLE_RATE  # [tail] seconds
    tail = generator.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    response = np.concatenate([[1.0], tail / np.linalg.norm(tail)]) / math.sqrt(2)
    return _convolve(wave, response)[: len(wave)]


def _telephone(wave: Samples, generator: np.random.Generator, utterance: str) -> Samples:
    """Send the wave through a telephone channel: 300 to 3,400 Hz, 8 kHz, 8-bit mu-law, and the band again.

    The passband is that of ITU-T G.712, with a filter before the coder and one after the decoder; the law is the
    continuous one that ITU-T G.711's 8-bit code follows in straight pieces. The level is not adjusted to the line.
    """
    import torch
    from torchaudio.functional import mu_law_decoding, mu_law_encoding

    line = _in_band(wave)[::2]  # [ceil(n / 2)] at 8 kHz; the band ends below its Nyquist frequency, so nothing folds
    line = line / max(1.0, np.abs(line).max())  # the filter may overshoot, and the code ends at 1
    heard = np.zeros(2 * len(line))  # at 16 kHz; the band keeps what is below 4 kHz of the doubled spectrum
    heard[::2] = 2 * mu_law_decoding(mu_law_encoding(torch.from_numpy(line), _CODES), _CODES).double().numpy()
    return _in_band(heard[: len(wave)])


def _in_band(wave: Samples) -> Samples:
    """Keep the telephone band, without delay: an ideal linear-phase filter [401] under a Hann window.

    Its flanks are about 130 Hz wide and lie outside the band, so that 300 and 3,400 Hz pass.
    """
    reach, flank_hz = 200, 65.0
    low, high = _BAND_HZ[0] - flank_hz, _BAND_HZ[1] + flank_hz
    time = np.arange(-reach, reach + 1) / SAMPLE_RATE
    ideal = 2 * high * np.sinc(2 * high * time) - 2 * low * np.sinc(2 * low * time)
    band = ideal * np.hanning(2 * reach + 3)[1:-1] / SAMPLE_RATE
    return _convolve(wave, band)[reach : reach + len(wave)]


def _convolve(wave: Samples, response: Samples) -> Samples:
    """Return the full convolution, followed by zeros: other lengths than powers of two transform slowly."""
    import torch
    from torchaudio.functional import fftconvolve

    total = len(wave) + len(response) - 1
    padding = (1 << (total - 1).bit_length()) - total
    full = fftconvolve(torch.from_numpy(np.pad(wave, (0, padding))), torch.from_numpy(response))
    return np.asarray(full.numpy())
