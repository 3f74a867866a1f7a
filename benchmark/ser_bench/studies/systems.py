"""Which systems belong together: an audio-text system and the audio system that it adds text to; how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from ser_bench import stages, system
from ser_bench.errors import StudyError
from ser_bench.host import host
from ser_bench.interface import Weights
from ser_bench.studies import paper


@dataclass(frozen=True)
class Pair:
    """An audio-text system and its audio system."""

    audio: str
    both: str


def pairs_of(systems: Sequence[str], default: Sequence[str] = (paper.LARGE, paper.BASE, paper.DISTILLED)) -> list[Pair]:
    """Return the pairs that systems stand for; either of the two names one.

    Args:
        systems: names; none: the default's.
        default: audio-text systems.

    Raises:
        PluginError: a name is unknown.
        StudyError: a system has no counterpart.
    """
    names = systems or default
    plans = [host().plan(name) for name in names]
    found: dict[str, Pair] = {}  # several may share an audio system
    for plan in plans:
        if "text" in plan.reads:
            audio = stages.audio_plan(plan, host()).name
            if not _is_named(audio):
                raise StudyError(
                    f"{plan.name} has no audio system to be compared with: none is installed with its audio encoder, "
                    "depth and head alone. Add one to the plugin that it comes from."
                )
            found[plan.name] = Pair(audio, plan.name)
    paired = {pair.audio for pair in found.values()}
    alone = [plan.name for plan in plans if "text" not in plan.reads and plan.name not in paired]
    for name in alone:
        partners = [p for p in _audio_text_systems() if p.audio == name]
        if len(partners) != 1:
            told = " or ".join(p.both for p in partners) if partners else "an audio-text system; none has its parts"
            raise StudyError(f"{name} is to be compared with what text adds to it. Name {told}, too, in --systems.")
        found[partners[0].both] = partners[0]
    return list(found.values())


def weights_for(given: Sequence[str], name: str) -> tuple[str, ...]:
    """Return those ``--weights`` words that a system has a part for."""
    parts = host().plan(name).parts
    return tuple(word for word in given if "=" not in word or word.partition("=")[0] in parts)


@cache
def sizes(name: str) -> tuple[int, int]:
    """Return a system's numbers of all and of trainable parameters at full size, counted without its weights."""
    plan = host().plan(name)
    full: dict[str, Weights] = dict.fromkeys(plan.parts, "random")
    with system.without_storage():
        return system.count(system.build(plan, full, plan.recipe))


def by_size(pairs: Sequence[Pair]) -> list[Pair]:
    """Return pairs from the smallest audio-text system, by trainable parameters, to the largest."""
    return sorted(pairs, key=lambda pair: sizes(pair.both)[1])


def label(name: str) -> str:
    """Return what a system is called in a report."""
    row = paper.TABLE1.get(name)
    return name if row is None else row.label


def _is_named(name: str) -> bool:
    return any(offer.spec.name == name for offer in host().usable("system"))


def _audio_text_systems() -> list[Pair]:
    found = []
    for offer in host().usable("system"):
        plan = host().plan(offer.spec.name)
        if plan.audio is not None and plan.text is not None:
            audio = stages.audio_plan(plan, host()).name
            found += [Pair(audio, plan.name)] if _is_named(audio) else []
    return found
