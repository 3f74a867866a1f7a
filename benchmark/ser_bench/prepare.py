"""From a corpus on disk to what training reads: rows, then front-end outputs, stored or on the fly."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ser_bench import conditions, frames, system
from ser_bench.ahead import in_order
from ser_bench.cache import cache_root
from ser_bench.conditions import CLEAN, Condition
from ser_bench.corpus.demo import cached_demo
from ser_bench.corpus.release import with_audio
from ser_bench.corpus.texts import texts_digest
from ser_bench.corpus.wavs import read_wave
from ser_bench.errors import PluginError, SerBenchError, TranscriptError
from ser_bench.host import Plan
from ser_bench.interface import PARTITIONS, Rows
from ser_bench.scoring.ceiling import ceiling
from ser_bench.training.batches import Inputs
from ser_bench.transcripts import store
from ser_bench.transcripts.wer import PartitionWer, partition_wer

GPU_READERS = 4  # threads that read files while a GPU computes; each has a front end's activations on it
Progress = Callable[[str, int, int], None]
"""Called with what is going on, how much of it is done, and how much there is."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A release, read and checked, as a run uses it."""

    rows: dict[str, Rows]
    """By partition; utterances with audio only."""
    block: dict[str, Any]
    """What the record says of it."""
    transcripts: str
    """The transcript source of the rows, by its full name."""
    transcripts_sha256: str | None
    """Digest of the texts; None without."""
    condition: Condition = CLEAN
    """What is done to the audio when it is read."""
    remedy: str = "Restore them"
    """What to do about transcripts that are missing."""
    wer: dict[str, PartitionWer] | None = None
    """By partition, how far an ASR system's texts are from the human ones; None without either."""
    made_up: Callable[[str], NDArray[np.float32]] | None = None
    """Path -> wave [n], mono 16 kHz; None for a corpus whose paths are wav files."""
    ceiling: dict[str, Any] = dataclasses.field(default_factory=dict)
    """By partition that is scored, how far raters agree (``scoring.ceiling``); None without their ratings."""

    def without_texts(self) -> Corpus:
        """Return it as a system that reads no text sees it."""
        return dataclasses.replace(self, transcripts="none", transcripts_sha256=None, wer=None)


@dataclass(frozen=True, kw_only=True)
class Storing:
    """How front-end outputs are kept."""

    mode: str = "store"
    """``store`` or ``off``."""
    dtype: str = "float16"
    cache: Path | None = None

    @property
    def label(self) -> str:
        """The signature's word for it."""
        return self.label_for(self.dtype)

    def label_for(self, dtype: str) -> str:
        """Return the signature's word for another type of number in the same mode."""
        return {"float16": "f16", "float32": "f32"}[dtype] + ("" if self.mode == "store" else "-off")


def open_corpus(
    place: str | Path,
    *,
    release: str | None = None,
    transcripts: str = "human",
    condition: str = "clean",
    allow_missing: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Open the release at ``place``, or the embedded one for ``demo``.

    Raises:
        CorpusError: there is no release, its faults would make a run wrong, or it lacks train or development.
        TranscriptError: the transcript source is unknown, or of other audio.
        ConditionError: the condition is unknown or malformed.
    """
    # Here, since it imports datasets, which a machine that only measures speed need not have.
    from ser_bench.corpus.msp_podcast import MspPodcast
    from ser_bench.corpus.msp_podcast import rows as rows_of

    heard = conditions.parse(condition, cache=cache)
    if str(place) == "demo":
        place = cached_demo(cache)
    builder = MspPodcast(
        place,
        release=release,
        transcripts=transcripts,
        condition=heard.key,
        # Whether text is needed, the system tells (``require_texts``), with a message of its own.
        need_transcripts=False,
        allow_missing_audio=allow_missing,
        cache=cache,
        progress=progress,
    )
    with _quiet_datasets():
        builder.download_and_prepare()
    dataset, source = builder.as_dataset(), builder.source
    rows, partitions = {}, {}
    for name in [p for p in PARTITIONS if p in dataset]:
        listed = rows_of(dataset, name)
        rows[name] = with_audio(listed)
        partitions[name] = {"listed": len(listed), "scored": len(rows[name]), "missing": len(listed) - len(rows[name])}
    block = {
        "name": source.corpus_name,
        "release": source.version,
        "identity": source.identity,
        "labels_sha256": source.labels_sha256,
        "clusters_sha256": source.clusters_sha256,
        "condition": heard.label,
        "partitions": partitions,
    }
    opened = Corpus(
        rows=rows,
        block=block,
        transcripts=builder.transcripts,
        transcripts_sha256=builder.transcripts_sha256,
        condition=heard,
        ceiling={
            name: ceiling([source.raters[u].values for u in part.utterance], part.labels)
            for name, part in rows.items()
            if name not in ("train", "test3")
        },
    )
    if transcripts in ("human", "none"):
        return opened
    root = cache_root(cache)
    remedy = store.resolve(opened.transcripts, root).remedy(str(place), heard.key, root)
    return dataclasses.replace(opened, remedy=remedy, wer=_wer(rows, source.transcripts))


def without_train(corpus: Corpus) -> Corpus:
    """Return a corpus without its train partition, and with the digest of the machine's texts that are left."""
    rows = {name: part for name, part in corpus.rows.items() if name != "train"}
    digest = corpus.transcripts_sha256
    if corpus.transcripts not in ("human", "none"):  # more of train may be transcribed later, which is nothing to it
        pairs = (pair for part in rows.values() for pair in zip(part.utterance, part.transcript, strict=True))
        digest = texts_digest({utterance: text for utterance, text in pairs if text is not None})
    return dataclasses.replace(corpus, rows=rows, transcripts_sha256=digest)


def _wer(rows: Mapping[str, Rows], human: Mapping[str, str]) -> dict[str, PartitionWer] | None:
    """Compare the rows' texts with the human ones, in partitions that have any."""
    found = {}
    for name, part in rows.items():
        said = [
            human.get(u) if text is not None else None for u, text in zip(part.utterance, part.transcript, strict=True)
        ]
        if any(text is not None for text in said):
            found[name] = partition_wer(part, said, [text or "" for text in part.transcript])
    return found or None


def require_texts(plan: Plan, corpus: Corpus) -> None:
    """Refuse a text system without text.

    Raises:
        TranscriptError: the source is ``none``, or labelled utterances have no transcript.
    """
    if "text" not in plan.reads:
        return
    if corpus.transcripts == "none":
        raise TranscriptError(
            f"{plan.name} reads text, and the transcript source is 'none'. Give --transcripts human, or choose a "
            "system without text."
        )
    absent = {
        name: [u for u, text in zip(rows.utterance, rows.transcript, strict=True) if text is None]
        for name, rows in corpus.rows.items()
        if name != "test3"
    }
    if any(absent.values()):
        told = ", ".join(f"{len(of):,} of {len(corpus.rows[name]):,} {name}" for name, of in absent.items() if of)
        first = next(of[0] for of in absent.values() if of)
        under = "" if corpus.condition.label == "clean" else f" under {corpus.condition.label}"
        raise TranscriptError(
            f"{told} utterances have no {corpus.transcripts} transcript{under} (first: {first}). {corpus.remedy}, or "
            "choose a system without text."
        )


def make_inputs(
    module: nn.Module,
    plan: Plan,
    corpus: Corpus,
    storing: Storing,
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> dict[str, Inputs]:
    """Return what the module reads of each partition; one store a modality holds all partitions.

    ``test3`` is left out for a text system where it has no transcripts; its audio is stored all the same, so that
    systems with and without text share one store.

    Raises:
        StoreError: as ``frames.store``.
        PluginError: a front end fails; names the plugin and the utterance.
    """
    rows = dict(corpus.rows)  # test3 is the last, so a store without it counts the others alike
    if "text" in plan.reads and "test3" in rows and any(text is None for text in rows["test3"].transcript):
        del rows["test3"]
    module.to(device).eval()
    made = {
        m: _frames(m, module, plan, corpus, rows if m == "text" else corpus.rows, storing, device, progress)
        for m in plan.reads
    }
    inputs, first = {}, 0
    for name, part in rows.items():
        views = {m: frames.Part(whole, first, len(part)) for m, whole in made.items()}
        inputs[name] = Inputs(
            utterance=part.utterance,
            duration=part.duration,
            labels=((part.labels - 1) / 6).astype(np.float32),
            audio=views.get("audio"),
            text=views.get("text"),
        )
        first += len(part)
    return inputs


def audio_array(
    module: nn.Module, wave: np.ndarray[Any, Any], device: torch.device, precision: str = "float32"
) -> np.ndarray[Any, Any]:
    """Run a system's audio front end on one wave [n], in the recipe's ``frontend_precision``; gives float32 [t, c]."""
    half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    # Without TensorFloat-32, which cuDNN would use: what is stored is read on other devices too.
    with torch.no_grad(), _without_tf32(), half:
        found = cast(Any, module).audio_frontend(torch.from_numpy(wave).to(device))
    return cast("np.ndarray[Any, Any]", found.float().cpu().numpy())


def text_array(module: nn.Module, text: str) -> tuple[np.ndarray[Any, Any], bool]:
    """Run a system's text front end on one string; returns token ids [t] (or states) and whether it was cut."""
    tokens = cast(Any, module).text_frontend(text)
    return tokens.ids.cpu().numpy(), tokens.truncated


def _frames(
    modality: str,
    module: nn.Module,
    plan: Plan,
    corpus: Corpus,
    rows: Mapping[str, Rows],
    storing: Storing,
    device: torch.device,
    progress: Progress | None,
) -> frames.Frames:
    """Make one modality's frames for all partitions."""
    names = [name for part in rows.values() for name in part.utterance]
    part_spec = plan.parts.get(modality) or plan.parts["system"]
    key = {
        "modality": modality,
        "frontend": system.digest(cast(Any, module).frontend_state(modality)),
        "frontend_version": part_spec.spec.frontend_version,
        "computed": plan.recipe.frontend_precision if modality == "audio" else "float32",
    }
    if isinstance(module, system.Frozen):  # its front end runs the encoder, whose code is the plugin's
        key["encoder"] = f"{part_spec} depth {plan.depth}"
    stored_as = getattr(module, "store_dtype", None)
    if modality == "audio":
        paths = [path for part in rows.values() for path in part.path]
        costs = [float(seconds) for part in rows.values() for seconds in part.duration]
        key["condition"] = corpus.condition.key
        dtype = stored_as or storing.dtype
        stamps = [] if storing.mode == "off" else [path if corpus.made_up else _stamp(path) for path in paths]

        def compute(number: int) -> tuple[np.ndarray[Any, Any], bool]:
            wave = corpus.condition((corpus.made_up or read_wave)(paths[number]), names[number])
            return audio_array(module, wave, device, plan.recipe.frontend_precision), False
    else:
        texts = [text or "" for part in rows.values() for text in part.transcript]
        costs = [len(text) + 1.0 for text in texts]
        key["transcripts"] = corpus.transcripts
        if corpus.transcripts not in ("human", "none"):  # what was heard depends on how the audio was
            key["condition"] = corpus.condition.key
        dtype = stored_as or "int32"
        stamps = [hashlib.sha256(text.encode()).hexdigest()[:32] for text in texts]

        def compute(number: int) -> tuple[np.ndarray[Any, Any], bool]:
            return text_array(module, texts[number])

    def make(number: int) -> tuple[np.ndarray[Any, Any], bool]:
        try:
            with nullcontext() if storing.mode == "store" else resting(module):  # which may be asked while it trains
                return compute(number)
        except SerBenchError:
            raise
        except Exception as error:  # a stranger's code: say whose, and on what
            raise PluginError(
                f"the {modality} front end of {part_spec} failed on {names[number]}: {type(error).__name__}: {error}"
            ) from error

    if storing.mode == "off":
        return frames.Computed(names, make, dtype)
    told = None if progress is None else (lambda done, total: progress(f"{modality} front end", done, total))
    each = _several(device) if modality == "audio" and getattr(module, "frontend_threads", False) else map
    with _without_tf32():  # here too: what one utterance sets and sets back must not reach another
        return frames.store(
            cache_root(storing.cache), key, names, stamps, costs, make, dtype=dtype, each=each, progress=told
        )


def _several(device: torch.device) -> frames.Each:
    """Return how several utterances are made at once, each alone and with the same result as one after the other.

    On the CPU each takes one thread instead of all threads taking one: the convolutions of one utterance are too small
    to be divided well. On a GPU files are read while it computes, for which a few do.
    """
    cuda = device.type == "cuda"
    current = torch.cuda.current_device() if cuda else None  # of this thread; another begins with the first

    def each(make: frames.Make, numbers: Sequence[int]) -> Iterator[tuple[np.ndarray[Any, Any], bool]]:
        threads = torch.get_num_threads()
        count = GPU_READERS if cuda else max(threads, 2)
        start = partial(torch.cuda.set_device, current) if cuda else partial(torch.set_num_threads, 1)
        try:
            yield from in_order(make, numbers, threads=count, ahead=2 * count, start=start)
        finally:
            torch.set_num_threads(threads)  # which is also what later threads start from

    return each


@contextmanager
def resting(module: nn.Module) -> Iterator[None]:
    """Keep a module from dropout and from counting for a while."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Compute convolutions in full float32 on a GPU."""
    convolutions = cast(Any, torch.backends.cudnn).conv
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    """Hide the library's own bars for a while: ``progress`` tells what is going on."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _stamp(path: str) -> str:
    status = Path(path).stat()
    return f"{status.st_size}:{status.st_mtime_ns}"
