"""All that describes a plugin: names, sources, specs, recipe, module protocols, hook markers.

Nothing here imports torch, so that a file that holds hooks is free to import. A complete plugin::

    # pyproject.toml:  [project.entry-points.ser_bench]
    #                  my_plugin = "my_plugin"
    from ser_bench.interface import FusionHeadSpec, SystemSpec, hookimpl

    def build_head(audio, text, *, dropout):
        from my_plugin_modules import Head          # torch is imported here, not above
        return Head((audio or 0) + (text or 0), dropout)

    @hookimpl
    def ser_bench_fusion_heads():
        yield FusionHeadSpec(name="mine", summary="One linear layer", pooling="mean", build=build_head)

    @hookimpl
    def ser_bench_systems():
        yield SystemSpec(name="my_system", summary="Log-mel and my head", audio="logmel", head="mine")

Shapes below use b = utterances in a batch, t = frames or tokens, c = channels of a front end, d = width of an encoder,
p = width of a pooled vector, L = number of states (depth + 1), n = utterances or samples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import pluggy

from ser_bench.errors import PluginError
from ser_bench.recipes import ATTRIBUTES as ATTRIBUTES
from ser_bench.recipes import Recipe as Recipe
from ser_bench.recipes import Regularisation as Regularisation

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

PROJECT = "ser_bench"
PARTITIONS = ("train", "development", "test1", "test2", "test3")
Kind = Literal["audio", "text", "head", "system"]
KINDS: tuple[Kind, ...] = ("audio", "text", "head", "system")
POOLINGS = ("mean", "max", "mean_max", "mean_std")
SAMPLE_RATE = 16_000

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

# ``pretrained`` (the pinned source on the hub), ``random`` (full size, from a configuration that ships with the
# plugin), ``tiny`` (small, random, offline), or a local folder.
Weights = Literal["pretrained", "random", "tiny"] | Path

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_DESCRIBED = re.compile(rf"{_NAME.pattern}(:[A-Za-z0-9][A-Za-z0-9_./@-]{{0,119}})?")  # NAME, or FAMILY:ADDRESS


class Encoded(NamedTuple):
    """What an encoder gives for a batch."""

    hidden: torch.Tensor
    """[b, t, d] the last kept layer's states; what stands past an utterance's length is undefined."""
    lengths: torch.Tensor
    """[b] int64, valid states of each utterance."""
    layers: tuple[torch.Tensor, ...] | None = None
    """L tensors [b, t, d] when asked for; index 0 is the input of the first transformer layer."""


class AudioEncoder(Protocol):
    """The module an ``AudioEncoderSpec`` builds (a ``torch.nn.Module``)."""

    dim: int
    """d, the width of the states."""
    depth: int
    """Transformer layers kept."""

    def frontend(self, wave: torch.Tensor) -> torch.Tensor:
        """Turn one utterance into frames: float32 [n], mono 16 kHz, -1..1 -> [t, c], t >= 1.

        Frozen and deterministic; called with the exact length, never padded, once per utterance. Its output is stored.
        An encoder whose class says ``frontend_threads = True`` promises that several threads may call it at once.
        """

    def frontend_state(self) -> Mapping[str, Any]:
        """Give all that ``frontend`` depends on beside the wave: tensors, numbers, strings; part of the store's key."""

    def __call__(self, frames: torch.Tensor, lengths: torch.Tensor, *, layers: bool = False) -> Encoded:
        """Encode [b, t, c] padded, int64 [b]; reads nothing past ``lengths``."""


class TextEncoder(Protocol):
    """The module a ``TextEncoderSpec`` builds (a ``torch.nn.Module``).

    It may also define ``fit(texts: Sequence[str]) -> None``, called once with the train rows' texts before anything is
    stored; what it finds is kept with the weights (``get_extra_state``) and named by ``frontend_state``.
    """

    dim: int
    depth: int

    def frontend(self, text: str) -> Tokens:
        """Turn one string, which may be empty, into token ids [t], t >= 1; over-long text is cut and said so."""

    def frontend_state(self) -> Mapping[str, Any]:
        """Give all that ``frontend`` depends on beside the text; part of the store's key."""

    def __call__(self, ids: torch.Tensor, lengths: torch.Tensor, *, layers: bool = False) -> Encoded:
        """Encode int64 [b, t], [b]."""


class Tokens(NamedTuple):
    """What a text encoder's front end gives for one string."""

    ids: torch.Tensor
    """[t] int64."""
    truncated: bool = False
    """Whether the text was longer than the model reads."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a part's weights come from.

    A revision is a commit that somebody has looked up; None is shown as *unpinned*. It is never guessed.
    """

    repo: str | None = None
    """Name on the hub, or None for a part that is trained from scratch."""
    revision: str | None = None
    licence: str | None = None
    """SPDX identifier of the weights."""
    reference: str | None = None
    """Paper or page that describes the part."""
    trained_on: tuple[str, ...] = ()
    """Corpora the weights have seen; one that has seen MSP-Podcast is flagged on the leaderboard."""


class _Named:
    """What all specs check of themselves."""

    kind: ClassVar[Kind]
    naming: ClassVar[re.Pattern[str]] = _NAME
    name: str
    summary: str
    known_failures: Mapping[str, str]
    """Contract check -> why it fails, with the measured figure. Such a check is run, shown, and costs nothing; one that
    passes is an error, since the declaration is stale."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.naming.fullmatch(self.name):
            raise PluginError(
                f"a {self.kind} plugin is named {self.name!r}; a name has 1 to 64 of a-z, 0-9, '_', '-', '.' and starts"
                " with a letter or digit. Rename it in its spec."
            )
        if not self.summary:
            raise PluginError(f"{self.kind}:{self.name} has no summary; give one line that says what it is.")
        known = self.known_failures
        if not isinstance(known, Mapping) or not all(
            isinstance(w, str) and w.strip() for w in (*known, *known.values())
        ):
            raise PluginError(
                f"{self.kind}:{self.name} declares known_failures {known!r}; expected the name of a contract check and "
                "the reason, with the measured figure, for each."
            )


@dataclass(frozen=True, kw_only=True)
class AudioEncoderSpec(_Named):
    """Describe an audio encoder; ``build(weights, *, depth=None, regularisation)`` makes an ``AudioEncoder``."""

    kind: ClassVar[Kind] = "audio"
    naming: ClassVar[re.Pattern[str]] = _DESCRIBED
    name: str
    summary: str
    dim: int
    """d at full size."""
    depth: int
    """Transformer layers at full size; 0 for an encoder without any."""
    source: Source = field(default_factory=Source)
    build: Callable[..., Any]
    frontend_version: int = 1
    """Raise it when ``frontend`` gives other numbers for the same parameters: stored frames are then made anew."""
    home: Path | None = None
    """The folder that the encoder was described from (``EncoderFamily``), which is then what ``pretrained`` means."""
    files: Mapping[str, Path] = field(default_factory=dict, hash=False)
    """What a described encoder is built from beside its weights (configuration, tokenizer): name -> where it is. A run
    keeps copies, and ``describe`` of their folder gives the same encoder."""
    known_failures: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class TextEncoderSpec(_Named):
    """Describe a text encoder; ``build(weights, *, depth=None, regularisation)`` makes a ``TextEncoder``."""

    kind: ClassVar[Kind] = "text"
    naming: ClassVar[re.Pattern[str]] = _DESCRIBED
    name: str
    summary: str
    dim: int
    depth: int
    source: Source = field(default_factory=Source)
    build: Callable[..., Any]
    frontend_version: int = 1
    home: Path | None = None
    files: Mapping[str, Path] = field(default_factory=dict, hash=False)
    known_failures: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class EncoderFamily:
    """Describe encoders that are too many to list: ``NAME:ADDRESS`` is the one that ``describe(ADDRESS)`` gives.

    ``describe`` takes what stands after the colon (a repository, a folder) and returns an encoder's spec, named
    ``NAME:`` and what tells it from others without saying where on this machine it is. It may import what it needs. It
    raises one of our errors for an address that it cannot make an encoder of.
    """

    kind: Literal["audio", "text"]
    name: str
    summary: str
    describe: Callable[[str], AudioEncoderSpec | TextEncoderSpec]


@dataclass(frozen=True, kw_only=True)
class FusionHeadSpec(_Named):
    """Describe a fusion head; ``build(audio, text, *, dropout)`` takes each modality's input width, or None.

    With ``layers`` it also takes ``states``, the number of states (depth + 1) of each modality that is read.

    The module's ``forward(audio, text)`` takes pooled vectors [b, p] where ``pooling`` is named ([b, L, p] with
    ``layers``), else ``Encoded``; None for an absent modality; it gives [b, 3]. An optional
    ``fit(audio, text, labels)`` takes the train rows' pooled vectors ([n, p], or [n, L, p] with ``layers``) and labels
    [n, 3] on 0..1 (NaN in a column that the recipe does not train), once, before training. A head that reads all
    layers' sequences is given each of them pooled by ``mean_max``.
    """

    kind: ClassVar[Kind] = "head"
    name: str
    summary: str
    pooling: str | None = None
    layers: bool = False
    build: Callable[..., Any]
    known_failures: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the name and the pooling."""
        super().__post_init__()
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise PluginError(f"head:{self.name} names the pooling {self.pooling!r}; known are {', '.join(POOLINGS)}.")


@dataclass(frozen=True, kw_only=True)
class SystemSpec(_Named):
    """Describe a system that comes apart into an audio and/or a text encoder, a fusion head and a recipe."""

    kind: ClassVar[Kind] = "system"
    name: str
    summary: str
    audio: str | None = None
    text: str | None = None
    head: str = "concat"
    depth: int | None = None
    """Transformer layers kept of the audio encoder; None: all."""
    recipe: Recipe = field(default_factory=Recipe)
    known_failures: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the name, that something is read, and that a depth has an encoder to cut."""
        super().__post_init__()
        if self.audio is None and self.text is None:
            raise PluginError(
                f"system:{self.name} has neither audio nor text encoder; a whole system may read nothing."
            )
        if self.depth is not None and self.audio is None:
            raise PluginError(
                f"system:{self.name} has depth {self.depth} and no audio encoder, which is what depth cuts. Drop it."
            )


@dataclass(frozen=True, kw_only=True)
class WholeSystemSpec(_Named):
    """Describe a model that does not come apart; ``build(weights, *, regularisation, dropout)`` makes the module.

    The module has ``audio_frontend(wave)`` if it reads audio, ``text_frontend(text)`` if it reads text (both as an
    encoder's ``frontend``), ``frontend_state(modality)``, and ``forward(audio, audio_lengths, text, text_lengths)``
    giving [b, 3]; a system that reads nothing gives [1, 3]. An optional ``fit(rows)`` takes the train ``Rows``.
    """

    kind: ClassVar[Kind] = "system"
    name: str
    summary: str
    reads: tuple[Literal["audio", "text"], ...]
    source: Source = field(default_factory=Source)
    build: Callable[..., Any]
    frontend_version: int = 1
    recipe: Recipe = field(default_factory=Recipe)
    known_failures: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the name and what is read."""
        super().__post_init__()
        if not set(self.reads) <= {"audio", "text"}:
            raise PluginError(
                f"system:{self.name} reads {self.reads!r}, expected a tuple of 'audio' and 'text', or ()."
            )


Spec = AudioEncoderSpec | TextEncoderSpec | FusionHeadSpec | SystemSpec | WholeSystemSpec


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The utterances of one partition, column by column; every sequence has n entries, in the corpus' order."""

    partition: str
    utterance: Sequence[str]
    """File names, with ``.wav``."""
    path: Sequence[str]
    """Where each wav is on this machine."""
    duration: NDArray[np.float64]
    """[n] seconds."""
    labels: NDArray[np.float64]
    """[n, 3] arousal, valence, dominance on 1..7; NaN where withheld."""
    emotion: Sequence[str]
    """One capital each, or an empty string where withheld."""
    speaker: Sequence[str]
    """``Unknown`` where not known."""
    gender: Sequence[str]
    """``Male``, ``Female`` or ``Unknown``."""
    podcast: Sequence[str]
    transcript: Sequence[str | None]
    """None where there is none (an empty string is a transcript without words)."""

    def __len__(self) -> int:
        return len(self.utterance)


class Hooks:
    """The hooks a plugin may implement, each yielding frozen specs."""

    @hookspec
    def ser_bench_audio_encoders(self) -> Iterator[AudioEncoderSpec | EncoderFamily]:  # type: ignore[empty-body]
        """Yield audio encoders."""

    @hookspec
    def ser_bench_text_encoders(self) -> Iterator[TextEncoderSpec | EncoderFamily]:  # type: ignore[empty-body]
        """Yield text encoders."""

    @hookspec
    def ser_bench_fusion_heads(self) -> Iterator[FusionHeadSpec]:  # type: ignore[empty-body]
        """Yield fusion heads."""

    @hookspec
    def ser_bench_systems(self) -> Iterator[SystemSpec | WholeSystemSpec]:  # type: ignore[empty-body]
        """Yield systems."""
