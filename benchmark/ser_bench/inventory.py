"""List what is installed: what each plugin reads, where its weights come from, how large it is, and what is wrong.

Nothing heavy is imported unless parameters are counted: that builds every plugin, at full size but without its weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ser_bench.errors import SerBenchError
from ser_bench.host import Host, Offer, Plan
from ser_bench.interface import KINDS, Kind, WholeSystemSpec

Status = Literal["ok", "known failures", "broken"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One usable name."""

    kind: Kind
    name: str
    parameters: int | None
    """At full size, a system's at its depth and with its head; None where not counted, for a head, whose size is
    decided by what it joins, and for a family, which stands for many."""
    trainable_parameters: int | None
    """Without the front ends, which are frozen."""
    modality: str | None
    """``audio``, ``text``, ``audio+text``, ``none``; None for a head, which takes what it is given."""
    summary: str
    licence: str | None
    """Of the weights, a system's of all its parts; None where there are none or nobody has said."""
    revision: str | None
    """Commit of the weights, or ``unpinned``; None for a part that is trained from scratch."""
    distribution: str
    status: Status
    known_failures: dict[str, str]
    """Contract check -> why it fails, of a system's parts too."""
    note: str | None
    """Why it is broken, or why it was not counted."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return asdict(self)


def inventory(
    found: Host,
    kind: Kind | None = None,
    *,
    count: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Entry]:
    """Describe every usable offer, by kind and name.

    Args:
        found: what is installed.
        kind: one kind alone.
        count: whether parameters are counted.
        progress: told of each plugin.
    """
    offers = found.usable(kind)
    entries = [_family(offer) for offer in found.families(kind)]
    for done, offer in enumerate(offers, start=1):
        entries.append(_entry(found, offer, count))
        if progress is not None:
            progress("plugins", done, len(offers))
    return sorted(entries, key=lambda entry: KINDS.index(entry.kind))  # families before the encoders they are like


def _family(offer: Offer) -> Entry:
    return Entry(
        kind=offer.spec.kind,
        name=f"{offer.spec.name}:ADDRESS",
        parameters=None,
        trainable_parameters=None,
        modality=offer.spec.kind,
        summary=offer.spec.summary,
        licence=None,
        revision=None,
        distribution=f"{offer.distribution} {offer.version}",
        status="ok",
        known_failures={},
        note=None,
    )


def _entry(found: Host, offer: Offer, count: bool) -> Entry:
    spec, known = offer.spec, found.known_failures(offer)
    plan, note, status = None, None, "known failures" if known else "ok"
    total = trainable = None
    try:
        plan = found.plan(spec.name) if spec.kind == "system" else None
        if count and spec.kind != "head":
            total, trainable, note = _counted(offer, plan)
    except SerBenchError as error:
        note, status = str(error).splitlines()[0], "broken"
    parts = [offer] if plan is None else list(plan.parts.values())
    sources = [part.spec.source for part in parts if hasattr(part.spec, "source")]
    return Entry(
        kind=spec.kind,
        name=spec.name,
        parameters=total,
        trainable_parameters=trainable,
        modality=_modality(offer),
        summary=spec.summary,
        licence=_joined([source.licence for source in sources if source.repo is not None]),
        revision=_joined([source.revision or "unpinned" for source in sources if source.repo is not None]),
        distribution=f"{offer.distribution} {offer.version}",
        status=status,  # type: ignore[arg-type]
        known_failures=known,
        note=note,
    )


def _counted(offer: Offer, plan: Plan | None) -> tuple[int | None, int | None, str | None]:
    """Return the numbers of all and of trainable parameters; or neither, and why.

    A plugin whose constructor does not bear to have no weights is built small, so that one which cannot be built at all
    is told from one that merely cannot be counted.

    Raises:
        PluginError: it cannot be built at all.
    """
    from ser_bench import system
    from ser_bench.interface import Recipe, Weights

    def built(weights: Weights) -> Any:
        if plan is not None:
            return system.build(plan, dict.fromkeys(plan.parts, weights), plan.recipe)
        return system.build_encoder(offer, weights, depth=None, recipe=Recipe())

    try:
        with system.without_storage():
            return *system.count(built("random")), None
    except Exception as error:
        built("tiny")
        return None, None, f"cannot be counted without its weights: {str(error).splitlines()[0]}"


def _modality(offer: Offer) -> str | None:
    spec = offer.spec
    if spec.kind != "system":
        return None if spec.kind == "head" else str(spec.kind)
    reads = spec.reads if isinstance(spec, WholeSystemSpec) else [m for m in ("audio", "text") if getattr(spec, m)]
    return "+".join(m for m in ("audio", "text") if m in reads) or "none"


def _joined(words: list[str | None]) -> str | None:
    """Join what the parts say, each word once."""
    return ", ".join(dict.fromkeys(word for word in words if word)) or None
