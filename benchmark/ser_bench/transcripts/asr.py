"""Recognise speech with Whisper, by CTranslate2: many utterances at once, and each one's text its own.

Whisper's encoder takes 30 s of sound, so that by default an utterance of 4 s costs nearly as much as one of 30 s. Here
it is given a shorter window: the utterance and a margin of silence. The window is a function of the utterance alone and
what is decoded together has one window, so that a text does not depend on what stood beside it (on a CPU; a GPU adds
numbers in another order in another batch). Too little margin makes Whisper repeat itself, so a text that looks like a
loop is decoded again in the full window.

Letters in shapes: b utterances, n samples, m mel bands, t frames (10 ms).
"""

from __future__ import annotations

import math
import os
import re
import threading
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ser_bench.errors import TranscriptError
from ser_bench.interface import SAMPLE_RATE
from ser_bench.transcripts.models import find_model, first_line
from ser_bench.transcripts.rows import Transcript
from ser_bench.transcripts.source import DEFAULT_BEAM, DEFAULT_COMPUTE_TYPE, DEFAULT_WINDOW, Source, safe_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEME = 1
"""Raise it when the same model and options give other texts."""
MOST_BEAMS = 100
"""Beyond this a search takes minutes an utterance, or all memory."""
FULL_SECONDS = 30
"""The window that Whisper was trained on, and the longest utterance that it takes."""
STEP_SECONDS = 1
"""Windows are multiples of this, so that utterances of nearly one length share a batch."""
FRAMES_PER_SECOND = 100
MOST_TOKENS = 224
"""Longest text in the full window: half of Whisper's 448 positions, as in OpenAI's and faster-whisper's decoding."""
TOKENS_PER_SECOND = 8
"""Longest text in a shorter window, for each of its seconds: a loop is cut off, and taken for one."""
LOOP_COMPRESSION = 2.4
"""zlib's ratio above which a text is taken for a loop (Radford et al. 2023, arXiv 2212.04356, §4.5)."""
LOOP_WORDS = 4
"""A stretch of so many words or more, twice in a row, is a loop too: a short clip mostly loops once or twice, which
hardly compresses. Of 1,000 stand-in utterances with a margin of 2 s, 50 texts were much longer than what was said: this
finds 45 of them and compression 17; in the human transcripts it finds none."""

_SLICES = {"cpu": 8, "cuda": 32}
"""Utterances that a worker decodes at once; on two cores 4 to 32 were equally fast."""
_MOST_WORKERS = 4
"""On a CPU: each holds a slice's states, gigabytes with the largest models; cores beyond that work within one."""


class Prepared(NamedTuple):
    """An utterance ready to be decoded."""

    wave: NDArray[np.float32]
    """[n] mono 16 kHz, for another window."""
    window: int
    """Seconds."""
    frames: NDArray[np.float32]
    """[m, t] log-mel, t = window * FRAMES_PER_SECOND."""


class Recogniser:
    """A Whisper model and how it decodes, opened with ``Recogniser.open``; it is loaded when it first has to hear."""

    source: Source
    batch: int
    """Utterances that occupy all workers once."""

    def __init__(self, folder: Path, source: Source, *, device: str, number: int = 0) -> None:
        """Use the model in ``folder`` on the CPU, or on the GPU of that number."""
        self.source = source
        self._folder, self._device, self._number = folder, device, number
        self._workers = min(cores(), _MOST_WORKERS) if device == "cpu" else 1
        self._slice = _SLICES[device]
        self.batch = self._workers * self._slice
        self._loading = threading.Lock()

    @classmethod
    def open(
        cls,
        asr: str | Path,
        *,
        window: str | float = DEFAULT_WINDOW,
        beam: int = DEFAULT_BEAM,
        compute_type: str | None = None,
        device: str | None = None,
        name: str | None = None,
    ) -> Recogniser:
        """Find a model and settle how it decodes.

        Args:
            asr: ``whisper-`` and one of faster-whisper's names, which is fetched from the hub unless it was before; or
                the folder of a CTranslate2 Whisper model (a ``Path`` is always one).
            window: seconds of silence that the encoder is given after the utterance, at least; or ``full``: 30 s in
                all, whatever the utterance's length.
            beam: hypotheses that the search keeps.
            compute_type: what CTranslate2 computes in; None: int8 on a CPU, float16 on a GPU.
            device: ``cpu``, ``cuda`` or ``cuda:N``; None: a GPU if there is one.
            name: of the transcript source; None: the model's name, or the last part of its folder's path.

        Raises:
            TranscriptError: there is no such model, device or setting, or the hub cannot be reached.
        """
        kind, number = _device(device)
        options = _options(window, beam, _compute_type(compute_type, kind, number), kind)
        model = find_model(asr)
        source = Source(
            name=safe_name(model.asr) if name is None else name,
            asr=model.asr,
            folder=model.local,
            model_sha256=model.digest(),
            options=options,
        )
        return cls(model.folder, source, device=kind, number=number)

    def window(self, seconds: float) -> int:
        """Return the seconds that the encoder is given for an utterance of ``seconds``."""
        margin = self.source.options["window"]
        if margin == "full":
            return FULL_SECONDS
        return min(FULL_SECONDS, math.ceil((seconds + float(margin)) / STEP_SECONDS) * STEP_SECONDS)

    def prepare(self, wave: NDArray[np.float32]) -> Prepared:
        """Compute an utterance's frames.

        Args:
            wave: [n], mono 16 kHz, -1..1, at most 30 s.

        Raises:
            TranscriptError: it is empty, longer or not finite, or the model cannot be loaded.
        """
        seconds = len(wave) / SAMPLE_RATE
        if not 0 < seconds <= FULL_SECONDS:
            raise TranscriptError(
                f"cannot transcribe {seconds:.2f} s of audio; Whisper takes more than 0 and up to {FULL_SECONDS} s at a"
                " time. Cut it into such pieces."
            )
        if not np.isfinite(wave).all():
            raise TranscriptError("the audio holds samples that are not finite, expected -1..1. Restore the file.")
        window = self.window(seconds)
        return Prepared(wave, window, self._engine.frames(wave, window))

    def transcribe(self, utterances: Sequence[Prepared]) -> list[Transcript]:
        """Return what is said in each utterance; fastest with ``batch`` of them that share a window.

        Raises:
            TranscriptError: decoding fails, as it does where a GPU's memory is too small.
        """
        heard = self._decode(utterances)
        looping = [n for n, one in enumerate(heard) if one.looping and one.window_seconds < FULL_SECONDS]
        waves = [utterances[n].wave for n in looping]
        again = [Prepared(wave, FULL_SECONDS, self._engine.frames(wave, FULL_SECONDS)) for wave in waves]
        for n, one in zip(looping, self._decode(again), strict=True):
            heard[n] = one._replace(repeated=True)
        return heard

    def _decode(self, utterances: Sequence[Prepared]) -> list[Transcript]:
        """Decode once, in slices of one window that the workers take in turn."""
        slices: list[list[int]] = []
        for window in sorted({one.window for one in utterances}):
            alike = [n for n, one in enumerate(utterances) if one.window == window]
            size = min(self._slice, -(-len(alike) // self._workers))  # so that none is idle where few are left
            slices += [alike[first : first + size] for first in range(0, len(alike), size)]
        with ThreadPoolExecutor(self._workers) as workers:
            parts = workers.map(lambda numbers: self._engine.decode([utterances[n] for n in numbers]), slices)
            heard = {
                n: one
                for numbers, part in zip(slices, parts, strict=True)
                for n, one in zip(numbers, part, strict=True)
            }
        return [heard[n] for n in range(len(utterances))]

    @property
    def _engine(self) -> _Engine:
        with self._loading:  # by whichever thread comes first
            return self._loaded

    @cached_property
    def _loaded(self) -> _Engine:
        threads = cores() // self._workers
        return _Engine(
            self._folder, self.source.options, self._device, self._number, workers=self._workers, threads=threads
        )


class _Engine:
    """The loaded model, with Whisper's own tokenizer, prompt and features."""

    def __init__(
        self, folder: Path, options: Mapping[str, Any], device: str, number: int, *, workers: int, threads: int
    ) -> None:
        import ctranslate2
        import tokenizers
        from faster_whisper.feature_extractor import FeatureExtractor
        from faster_whisper.tokenizer import Tokenizer
        from faster_whisper.transcribe import get_suppressed_tokens

        try:
            self._model = ctranslate2.models.Whisper(
                str(folder),
                device=device,
                device_index=number,
                compute_type=options["compute_type"],
                inter_threads=workers,
                intra_threads=threads,
            )
            vocabulary = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._multilingual = bool(self._model.is_multilingual)
            self._tokenizer = Tokenizer(
                vocabulary, self._multilingual, task=options["task"], language=options["language"]
            )
            self._suppressed = list(get_suppressed_tokens(self._tokenizer, [-1]))
        except Exception as cause:  # CTranslate2 and tokenizers raise whatever their readers meet
            raise TranscriptError(
                f"{folder} cannot be loaded as a CTranslate2 Whisper model on this {device} ({first_line(cause)})."
                " Fetch it anew, convert it again with ct2-transformers-converter, or give another --device."
            ) from cause
        self._storage = ctranslate2.StorageView.from_array
        self._mel = FeatureExtractor(feature_size=self._model.n_mels)
        self._prompt = [*self._tokenizer.sot_sequence, self._tokenizer.no_timestamps]
        self._beam = {key: options[key] for key in ("patience", "length_penalty")} | {"beam_size": options["beam"]}
        libraries = ", ".join(f"{name} {version(name)}" for name in ("ctranslate2", "faster-whisper"))
        self._made_with = f"{libraries}, {device}"
        self._folder = folder

    def frames(self, wave: NDArray[np.float32], window: int) -> NDArray[np.float32]:
        """Return the log-mel frames [m, t] of an utterance [n] and the silence that fills its window."""
        padded = np.zeros(window * SAMPLE_RATE, dtype=np.float32)
        padded[: len(wave)] = wave
        frames: NDArray[np.float32] = self._mel(padded)[:, : window * FRAMES_PER_SECOND].astype(np.float32, copy=False)
        return frames

    def decode(self, utterances: Sequence[Prepared]) -> list[Transcript]:
        """Decode utterances of one window."""
        window = utterances[0].window
        most = most_tokens(window)
        frames = np.stack([one.frames for one in utterances])  # [b, m, t]
        try:
            encoded = self._model.encode(self._storage(frames))  # [b, t / 2, width]
            results = self._model.generate(
                encoded,
                [self._prompt] * len(utterances),
                **self._beam,
                max_length=2 * most,  # CTranslate2 gives half of it to the text
                suppress_blank=True,
                suppress_tokens=self._suppressed,
                return_scores=True,
                return_no_speech_prob=True,
            )
            languages = self._languages(encoded, len(utterances))
        except RuntimeError as cause:
            raise TranscriptError(
                f"decoding with {self._folder} failed ({first_line(cause)}). If memory is short, take a smaller model;"
                " if a GPU's libraries are missing, --device cpu."
            ) from cause
        return [self._heard(result, window, *language) for result, language in zip(results, languages, strict=True)]

    def _languages(self, encoded: Any, count: int) -> list[tuple[str, float | None]]:
        """Return each utterance's most probable language, as ``en``, and its probability."""
        if not self._multilingual:
            return [("en", None)] * count
        first = [found[0] for found in self._model.detect_language(encoded)]
        return [(token.removeprefix("<|").removesuffix("|>"), round(probability, 6)) for token, probability in first]

    def _heard(self, result: Any, window: int, language: str, language_probability: float | None) -> Transcript:
        tokens = len(result.sequences_ids[0])
        text = self._tokenizer.decode(result.sequences_ids[0]).strip()
        return Transcript(
            text=text,
            language=language,
            language_probability=language_probability,
            # The score is the mean without the end mark; Whisper's, which thresholds are made for, counts it.
            avg_logprob=round(result.scores[0] * tokens / (tokens + 1), 6),
            no_speech_prob=round(result.no_speech_prob, 6),
            window_seconds=window,
            repeated=False,
            looping=looks_looped(text, tokens, window=window),
            tokens=tokens,
            made_with=self._made_with,
        )


def cores() -> int:
    """Return how many threads may compute: ``$OMP_NUM_THREADS``, else the processors that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def most_tokens(window: int) -> int:
    """Return how many tokens a text may have in a window of so many seconds."""
    return min(MOST_TOKENS, TOKENS_PER_SECOND * window)


def looks_looped(text: str, tokens: int, *, window: int) -> bool:
    """Return whether a text is taken for a repetition loop.

    It is where it fills all the tokens of its window, compresses too well, or says a stretch of words twice in a row.
    """
    raw = text.encode()
    return (
        tokens >= most_tokens(window)
        or len(raw) > LOOP_COMPRESSION * len(zlib.compress(raw))
        or _says_twice(re.findall(r"[\w']+", text.lower()))
    )


def _says_twice(words: Sequence[str]) -> bool:
    """Return whether some stretch of ``LOOP_WORDS`` words or more follows upon itself."""
    for length in range(LOOP_WORDS, len(words) // 2 + 1):
        same = 0
        for word, later in zip(words, words[length:], strict=False):
            same = same + 1 if word == later else 0
            if same == length:
                return True
    return False


def _device(asked: str | None) -> tuple[str, int]:
    """Return kind and number of a device."""
    import ctranslate2

    there = ctranslate2.get_cuda_device_count()
    if asked is None:
        return ("cuda", 0) if there else ("cpu", 0)
    kind, colon, number = asked.partition(":")
    if kind not in _SLICES or (colon and not (kind == "cuda" and number.isdecimal())):
        raise TranscriptError(
            f"device '{asked}' is unknown to CTranslate2, which has cpu, cuda and cuda:N. Give --device one of these."
        )
    if kind == "cuda" and int(number or 0) >= there:
        raise TranscriptError(
            f"device '{asked}' was asked for, and CTranslate2 finds {there} GPUs. Give --device cpu, or one of these."
        )
    return kind, int(number or 0)


def _compute_type(asked: str | None, device: str, number: int) -> str:
    """Return what is computed in."""
    import ctranslate2

    chosen = asked or DEFAULT_COMPUTE_TYPE[device]
    supported = sorted(ctranslate2.get_supported_compute_types(device, number))
    if chosen not in supported:
        raise TranscriptError(
            f"compute type '{chosen}' is not one that CTranslate2 has on this {device}: {', '.join(supported)}. Give"
            " --compute-type one of these."
        )
    return chosen


def _options(window: str | float, beam: int, compute_type: str, device: str) -> dict[str, Any]:
    """Return all that a text depends on beside model and audio."""
    margin: str | float
    try:
        margin = "full" if window == "full" else float(window)
    except ValueError:
        margin = math.nan
    if margin != "full":
        if not 0 <= float(margin) < FULL_SECONDS:
            raise TranscriptError(
                f"window '{window}' is neither 'full' nor a number of seconds from 0 to less than {FULL_SECONDS}, the"
                " silence after the utterance. Correct --window."
            )
        margin = int(margin) if float(margin).is_integer() else margin
    if not 1 <= beam <= MOST_BEAMS:
        raise TranscriptError(f"beam is {beam}, expected 1 (greedy) to {MOST_BEAMS}. Correct --beam.")
    return {
        "scheme": SCHEME,
        "window": margin,
        "window_step": STEP_SECONDS,
        "beam": beam,
        "patience": 1,
        "length_penalty": 1,
        "temperature": 0,
        "compute_type": compute_type,
        "device": device,
        "task": "transcribe",
        "language": "en",
        "timestamps": False,
        "suppress": "blank, non-speech",
        "tokens_per_second": TOKENS_PER_SECOND,
        "most_tokens": MOST_TOKENS,
        "loop_compression": LOOP_COMPRESSION,
        "loop_words": LOOP_WORDS,
    }
