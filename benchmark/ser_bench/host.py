"""Find plugins, isolate their failures, and resolve what a system is made of.

Entry points of the group ``ser_bench`` are loaded one at a time: one that fails costs one line, and everything else
goes on working. Nothing here imports torch; only a spec's ``build`` does.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pluggy

from ser_bench.errors import PluginError, SerBenchError
from ser_bench.interface import (
    KINDS,
    PROJECT,
    AudioEncoderSpec,
    EncoderFamily,
    FusionHeadSpec,
    Hooks,
    Kind,
    Recipe,
    SystemSpec,
    TextEncoderSpec,
    WholeSystemSpec,
)

log = logging.getLogger(__name__)

_YIELDS: dict[str, tuple[type, ...]] = {
    "ser_bench_audio_encoders": (AudioEncoderSpec, EncoderFamily),
    "ser_bench_text_encoders": (TextEncoderSpec, EncoderFamily),
    "ser_bench_fusion_heads": (FusionHeadSpec,),
    "ser_bench_systems": (SystemSpec, WholeSystemSpec),
}


@dataclass(frozen=True)
class Offer:
    """A spec and the distribution that brought it."""

    spec: Any
    distribution: str
    version: str
    entry_point: str = ""
    """What the distribution's entry point names, such as ``my_plugin.hooks``."""

    def __str__(self) -> str:
        return f"{self.spec.kind}:{self.spec.name} ({self.distribution} {self.version})"


@dataclass(frozen=True)
class Failure:
    """An entry point that could not be used."""

    entry_point: str
    distribution: str
    version: str
    cause: str

    def __str__(self) -> str:
        return f"plugin '{self.entry_point}' of {self.distribution} {self.version} is not usable: {self.cause}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A system resolved to its parts, ready to be built."""

    name: str
    distribution: str
    version: str
    recipe: Recipe
    audio: Offer | None = None
    text: Offer | None = None
    head: Offer | None = None
    whole: Offer | None = None
    depth: int | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The modalities the system reads, audio first."""
        if self.whole is not None:
            return tuple(m for m in ("audio", "text") if m in self.whole.spec.reads)
        return tuple(m for m in ("audio", "text") if getattr(self, m) is not None)

    @property
    def parts(self) -> dict[str, Offer]:
        """The parts that take weights: ``audio`` and ``text``, or ``system`` for one that does not come apart."""
        if self.whole is not None:
            return {"system": self.whole}
        return {m: getattr(self, m) for m in self.reads}


@dataclass
class Host:
    """All that is installed; ``Host.discover()`` makes one."""

    offers: dict[tuple[str, str], list[Offer]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    def discover(cls, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> Host:
        """Load every entry point of the group, one at a time; a broken one becomes a ``Failure``."""
        host = cls()
        found = importlib.metadata.entry_points(group=PROJECT) if entry_points is None else entry_points
        for entry in sorted(found, key=lambda e: (e.dist.name if e.dist else "", e.name)):
            distribution = entry.dist.name if entry.dist else "unknown distribution"
            version = entry.dist.version if entry.dist else "?"
            try:
                specs = _specs(entry.load(), entry.name)
            except (Exception, SystemExit) as error:  # whatever a stranger's module does must not reach the others
                host.failures.append(Failure(entry.name, distribution, version, _one_line(error)))
                log.debug("entry point %s failed", entry.name, exc_info=True)
                continue
            for spec in specs:
                host.offers.setdefault((spec.kind, spec.name), []).append(
                    Offer(spec, distribution, version, entry.value)
                )
        return host

    def get(self, kind: Kind, name: str) -> Offer:
        """Return the one offer of that kind and name; ``FAMILY:ADDRESS`` is described by its family.

        Raises:
            PluginError: no plugin has the name (with near matches and any plugin that failed), or two have it.
            SerBenchError: the family cannot make an encoder of the address.
        """
        family, colon, address = name.partition(":")
        offers = self.offers.get((kind, family if colon else name), [])
        if len(offers) == 1 and isinstance(offers[0].spec, EncoderFamily):
            return _described(offers[0], address)
        if len(offers) == 1 and not colon:
            return offers[0]
        if len(offers) > 1:
            who = " and ".join(f"{o.distribution} {o.version}" for o in offers)
            raise PluginError(
                f"{kind} '{name}' is offered by {who}; a name must be unique within its kind. Uninstall or "
                "rename one of them."
            )
        names = sorted(n for k, n in self.offers if k == kind)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        what = "plugin" if kind == "system" else f"{kind} plugin"
        raise PluginError(
            f"{what} '{name}' is not installed.{hint} `ser-bench plugins list` shows all {len(names)}.{self._broken()}"
        )

    def find(self, word: str) -> Offer:
        """Return the offer that ``KIND:NAME`` means, or a NAME that one kind alone has.

        Raises:
            PluginError: as ``get``, no kind has the name (with near matches), or several have it.
        """
        kind, colon, name = word.partition(":")
        if colon and kind in KINDS:
            return self.get(kind, name)
        all_names = sorted(f"{k}:{n}" for k, n in self.offers)
        meant = [full for full in all_names if full.partition(":")[2] == word]
        meant += [f"{o.spec.kind}:{word}" for o in self.families() if colon and o.spec.name == kind]
        if len(meant) == 1:
            return self.find(meant[0])
        if meant:
            raise PluginError(f"'{word}' is the name of {len(meant)} plugins. Say which: {' or '.join(meant)}.")
        near = difflib.get_close_matches(word, all_names if colon else [n for _, n in self.offers], n=1)
        like = [full for full in all_names if full in near or (not colon and full.partition(":")[2] in near)]
        hint = f" Did you mean {' or '.join(like)}?" if like else ""
        raise PluginError(
            f"plugin '{word}' is not installed.{hint} `ser-bench plugins list` shows all {len(all_names)}; name one as "
            f"KIND:NAME, KIND being {', '.join(KINDS)}.{self._broken()}"
        )

    def known_failures(self, offer: Offer) -> dict[str, str]:
        """Return the contract checks that a plugin, or a part of a system, declares to fail: name -> reason."""
        spec = offer.spec
        parts = (
            (("audio", spec.audio), ("text", spec.text), ("head", spec.head)) if isinstance(spec, SystemSpec) else ()
        )
        known: dict[str, str] = {}
        for kind, name in parts:
            for part in self.offers.get((kind, str(name)), []):
                known |= {check: f"{kind}:{name}: {why}" for check, why in part.spec.known_failures.items()}
        return known | dict(spec.known_failures)

    def usable(self, kind: Kind | None = None) -> list[Offer]:
        """Return every usable offer, by kind and name; of what a family describes, none."""
        return [offer for offer in self._sole(kind) if not isinstance(offer.spec, EncoderFamily)]

    def families(self, kind: Kind | None = None) -> list[Offer]:
        """Return every usable family, by kind and name."""
        return [offer for offer in self._sole(kind) if isinstance(offer.spec, EncoderFamily)]

    def conflicts(self) -> list[str]:
        """Return one line for every name that is offered twice."""
        return [
            f"{kind} '{name}' is unusable: offered by {' and '.join(f'{o.distribution} {o.version}' for o in offers)}"
            for (kind, name), offers in sorted(self.offers.items())
            if len(offers) > 1
        ]

    def plan(self, name: str, *, depth: int | None = None) -> Plan:
        """Resolve the system called ``name``; ``depth`` overrides its own."""
        offer = self.get("system", name)
        spec = offer.spec
        common = {"name": name, "distribution": offer.distribution, "version": offer.version, "recipe": spec.recipe}
        if isinstance(spec, WholeSystemSpec):
            if depth is not None:
                raise PluginError(f"{offer} does not come apart, so it has no depth to set. Leave out --depth.")
            return Plan(**common, whole=offer)
        try:
            parts = self._parts(spec.audio, spec.text, spec.head)
            own = _checked(parts["audio"], spec.depth)
        except PluginError as error:
            raise PluginError(f"{offer} cannot be composed: {error}") from error
        if depth is not None and depth != spec.depth:
            common["name"] = f"{name}[{depth}]"
        return Plan(**common, **parts, depth=own if depth is None else _checked(parts["audio"], depth))

    def compose(
        self,
        *,
        audio: str | None = None,
        text: str | None = None,
        head: str = "concat",
        depth: int | None = None,
        recipe: Recipe | None = None,
    ) -> Plan:
        """Resolve an ad-hoc composition, named ``audio[depth]+text>head``."""
        if audio is None and text is None:
            raise PluginError("a composition needs --audio ENC, --text ENC or both; neither was given.")
        parts = self._parts(audio, text, head)
        cut = f"[{depth}]" if depth is not None else ""
        heard, read = (parts[kind] and parts[kind].spec.name for kind in ("audio", "text"))
        name = "+".join(filter(None, (f"{heard}{cut}" if heard else None, read))) + f">{head}"
        makers = sorted({f"{o.distribution} {o.version}" for o in parts.values() if o})
        distribution, version = makers[0].rsplit(" ", 1) if len(makers) == 1 else (" + ".join(makers), "")
        return Plan(
            name=name,
            distribution=distribution,
            version=version,
            recipe=recipe or Recipe(),
            **parts,
            depth=_checked(parts["audio"], depth),
        )

    def _sole(self, kind: Kind | None) -> list[Offer]:
        sole = [o[0] for o in self.offers.values() if len(o) == 1 and kind in (None, o[0].spec.kind)]
        return sorted(sole, key=lambda o: (KINDS.index(o.spec.kind), o.spec.name))

    def _broken(self) -> str:
        return "".join(f"\n  {failure}" for failure in self.failures)

    def _parts(self, audio: str | None, text: str | None, head: str) -> dict[str, Any]:
        return {
            "audio": self.get("audio", audio) if audio else None,
            "text": self.get("text", text) if text else None,
            "head": self.get("head", head),
        }


@cache
def host() -> Host:
    """Return the process's host, discovered once."""
    return Host.discover()


def _checked(audio: Offer | None, depth: int | None) -> int | None:
    if depth is None:
        return None
    if audio is None:
        raise PluginError("--depth means the audio encoder, and this system has none. Leave out --depth.")
    if not 0 <= depth <= audio.spec.depth:
        raise PluginError(
            f"depth {depth} was asked of {audio}, which has {audio.spec.depth} layers. Give 0 to {audio.spec.depth}."
        )
    return depth


def _described(offer: Offer, address: str) -> Offer:
    """Let a family describe the encoder at an address."""
    family: EncoderFamily = offer.spec
    if not address:
        raise PluginError(
            f"{offer} stands for many: {family.summary}. Name one as {family.name}:ADDRESS, such as a folder."
        )
    try:
        spec: Any = family.describe(address)
    except SerBenchError as error:
        raise type(error)(f"{offer}: {error}") from error
    except Exception as error:  # a stranger's code
        raise PluginError(f"{offer} failed to describe {address}: {_one_line(error)}. Correct the plugin.") from error
    wanted: Any = {"audio": AudioEncoderSpec, "text": TextEncoderSpec}[family.kind]
    if not isinstance(spec, wanted) or not spec.name.startswith(f"{family.name}:"):
        given = f"{type(spec).__name__} named {getattr(spec, 'name', None)!r}"
        raise PluginError(
            f"{offer} described {address} as {given}, expected {wanted.__name__} named '{family.name}:...'. Correct "
            "the plugin."
        )
    return dataclasses.replace(offer, spec=spec)


def _specs(plugin: object, name: str) -> list[Any]:
    """Register one plugin with a manager of its own and collect what its hooks yield."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    manager.register(plugin, name=name)
    manager.check_pending()  # a misspelled hook is an error, not silence
    marker = f"{PROJECT}_impl"
    for attribute in sorted(_YIELDS.keys() & set(dir(plugin))):
        if not hasattr(getattr(plugin, attribute), marker):
            raise PluginError(f"{attribute} is not marked with @ser_bench.interface.hookimpl")
    callers = manager.get_hookcallers(plugin) or []
    if not callers:
        raise PluginError(f"it implements no hook; hooks are {', '.join(_YIELDS)}")
    specs: list[Any] = []
    for caller in callers:
        given: Any = caller()  # one result for each implementation that did not return None
        if not given or not isinstance(given[0], Iterable):
            raise PluginError(
                f"{caller.name} returned {type(given[0] if given else None).__name__}; yield specs instead"
            )
        for spec in given[0]:
            if not isinstance(spec, _YIELDS[caller.name]):
                expected = " or ".join(t.__name__ for t in _YIELDS[caller.name])
                raise PluginError(f"{caller.name} yielded a {type(spec).__name__}, expected {expected}")
            _check_listed(spec, caller.name)
            specs.append(spec)
    return specs


def _check_listed(spec: Any, hook: str) -> None:
    if isinstance(spec, EncoderFamily) and spec.kind not in hook:
        raise PluginError(f"{hook} yielded '{spec.name}', a family of {spec.kind} encoders")
    if ":" in spec.name:
        raise PluginError(f"{hook} yielded '{spec.name}'; what is listed has no colon in its name")


def _one_line(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, PluginError) else f"{type(error).__name__}: {first}"
