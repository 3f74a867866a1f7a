"""Build a plan into one torch module with one face (``modules``), and let it fit what it counts or solves.

Letters: b utterances, p pooled width, n utterances.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ser_bench.errors import PluginError, WeightsError
from ser_bench.foreign import calling, described
from ser_bench.host import Offer, Plan
from ser_bench.interface import Encoded, Recipe, Weights
from ser_bench.modules import Composed as Composed
from ser_bench.modules import Frozen as Frozen
from ser_bench.modules import Whole as Whole
from ser_bench.pooling import pool, width


def build(plan: Plan, weights: Mapping[str, Weights], recipe: Recipe) -> nn.Module:
    """Build the plan's module.

    Args:
        plan: the resolved system.
        weights: part (``audio``, ``text``, ``system``) -> weights; a part that is not named is ``pretrained``.
        recipe: for dropout and the other regularisers.

    Raises:
        WeightsError: weights are given for a part the system does not have, or do not fit.
        PluginError: a part's ``build`` fails; names the plugin and its distribution.
    """
    unknown = sorted(weights.keys() - plan.parts.keys())
    if unknown:
        raise WeightsError(
            f"weights were given for {', '.join(unknown)}, but {plan.name} has "
            f"{', '.join(plan.parts) or 'no part that takes weights'}. Correct --weights PART=DIR."
        )
    given = {part: weights.get(part, "pretrained") for part in plan.parts}
    if plan.whole is not None:
        arguments = {"regularisation": recipe.regularisation, "dropout": recipe.head_dropout}
        whole = _built(plan.whole, partial(plan.whole.spec.build, given["system"], **arguments))
        return Whole(whole, reads=plan.reads, name=str(plan.whole))
    encoders = {
        part: build_encoder(offer, given[part], depth=plan.depth if part == "audio" else None, recipe=recipe)
        for part, offer in plan.parts.items()
    }
    if plan.head is None:
        raise PluginError(f"{plan.name} was resolved without a fusion head.")
    spec = plan.head.spec
    dims, depths = ({part: getattr(e, size) for part, e in encoders.items()} for size in ("dim", "depth"))
    head = build_head(plan.head, dims, depths, dropout=recipe.head_dropout)
    names = {part: str(offer) for part, offer in (*plan.parts.items(), ("head", plan.head))}
    return Composed(
        encoders.get("audio"), encoders.get("text"), head, pooling=spec.pooling, layers=spec.layers, names=names
    )


def build_encoder(offer: Offer, weights: Weights, *, depth: int | None, recipe: Recipe) -> nn.Module:
    """Build an audio or text encoder, ``depth`` of its layers; a text encoder takes none.

    Raises:
        PluginError: as ``build``, or the module has no ``dim`` and ``depth`` that are numbers.
    """
    cut = {"depth": depth} if offer.spec.kind == "audio" else {}
    encoder = _built(offer, partial(offer.spec.build, weights, **cut, regularisation=recipe.regularisation))
    for size, low in (("dim", 1), ("depth", 0)):
        value = getattr(encoder, size, None)
        if not isinstance(value, int) or value < low:
            raise PluginError(
                f"{offer}: the module's {size} is {value!r}, expected a whole number of {low} or more. Set self.{size} "
                "in its constructor."
            )
    return encoder


def build_head(offer: Offer, dims: Mapping[str, int], depths: Mapping[str, int], *, dropout: float) -> nn.Module:
    """Build a fusion head for encoders of these widths and depths, by modality.

    A head that reads all layers is also told how many states each modality has (``states``).

    Raises:
        PluginError: as ``build``.
    """
    spec = offer.spec
    widths = {part: width(spec.pooling, dim) if spec.pooling else dim for part, dim in dims.items()}
    states = {"states": {part: depth + 1 for part, depth in depths.items()}} if spec.layers else {}
    return _built(offer, partial(spec.build, widths.get("audio"), widths.get("text"), dropout=dropout, **states))


def fit_head(system: nn.Module) -> Callable[[Tensor | None, Tensor | None, Tensor], None] | None:
    """Return the head's ``fit``, or None where there is none; it names the plugin in whatever it raises."""
    inner = _inner(system)
    if not isinstance(inner, Composed) or not hasattr(inner.head, "fit"):
        return None

    def fit(audio: Tensor | None, text: Tensor | None, labels: Tensor) -> None:
        with calling(inner.names["head"], "in fit"):
            inner.head.fit(audio, text, labels)

    return fit


def pooled(system: nn.Module, batch: Any) -> tuple[Tensor | None, Tensor | None]:
    """Return the pooled vectors, [b, p] or [b, L, p], that the head would read of a batch, audio and text.

    Of a head that reads all layers' sequences, each of them pooled by ``mean_max``.

    Raises:
        PluginError: the head names no pooling, so there is no vector to fit on.
    """
    inner = _inner(system)
    if not isinstance(inner, Composed) or (inner.pooling is None and not inner.layers):
        whose = inner.names["head"] if isinstance(inner, Composed) else "a whole system"
        raise PluginError(f"{whose}: a head with a fit needs a pooling in its spec: it is fitted on pooled vectors.")
    if isinstance(system, Frozen):
        pairs = ((batch.audio, batch.audio_lengths), (batch.text, batch.text_lengths))
        heard, read = (system._unpacked(m, *pair) for m, pair in zip(("audio", "text"), pairs, strict=True))
        return _vectors(heard), _vectors(read)
    heard = None if batch.audio is None else inner.encode("audio", batch.audio, batch.audio_lengths)
    read = None if batch.text is None else inner.encode("text", batch.text, batch.text_lengths)
    return _vectors(heard), _vectors(read)


def _vectors(given: Tensor | Encoded | None) -> Tensor | None:
    """Return pooled vectors as they are, and each layer's sequence pooled, [b, L, d]."""
    if given is None or isinstance(given, Tensor):
        return given
    states = given.layers or (given.hidden,)
    return torch.stack([pool("mean_max", state, given.lengths) for state in states], dim=1)


def head_of(system: nn.Module) -> nn.Module | None:
    """Return the fusion head; None for a system that does not come apart."""
    inner = _inner(system)
    return inner.head if isinstance(inner, Composed) else None


def fit_texts(system: nn.Module, texts: Sequence[str]) -> None:
    """Let the text encoder count what it counts (a vocabulary) in the train rows' texts."""
    inner = _inner(system)
    if isinstance(inner, Composed) and inner.text is not None and hasattr(inner.text, "fit"):
        with calling(inner.names["text"], "in fit"):
            inner.text.fit(texts)


def label(system: nn.Module) -> str:
    """Return who answers for a system's numbers: its plugins, for an error."""
    inner = _inner(system)
    if isinstance(inner, Whole):
        return inner.name
    named = inner.names.values() if isinstance(inner, Composed) else ()
    return f"the system of {', '.join(named)}" if named else "the system"


def _inner(system: nn.Module) -> nn.Module:
    return system.inner if isinstance(system, Frozen) else system


def digest(state: Mapping[str, Any]) -> str:
    """Return the SHA-256 of tensors (values, shape, type), numbers and strings under their names."""
    total = hashlib.sha256()
    for name in sorted(state):
        value = state[name]
        if isinstance(value, Tensor):
            plain = value.detach().cpu().contiguous()
            total.update(f"{name}:{plain.dtype}:{tuple(plain.shape)}:".encode())
            total.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
        else:
            total.update(f"{name}={json.dumps(value, sort_keys=True)};".encode())
    return total.hexdigest()


def count(system: nn.Module) -> tuple[int, int]:
    """Return the numbers of all and of trainable parameters."""
    parameters = list(system.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def _built(offer: Offer, make: Callable[[], Any]) -> nn.Module:
    with calling(offer, "to build"):
        module = make()
    if not isinstance(module, nn.Module):
        raise PluginError(f"{offer}: build gave a {described(module)}, expected a torch.nn.Module.")
    return module


@contextmanager
def without_storage() -> Iterator[None]:
    """Let modules that are built inside have their parameters on the meta device, to be counted for nothing.

    Buffers are made as always: a constructor may compute with them, which ``torch.device("meta")`` would not allow.
    """
    register = nn.Module.register_parameter

    def empty(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and parameter.device.type != "meta" and not is_lazy(parameter):
            parameter = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = empty  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def parse_weights(given: Sequence[str], plan: Plan) -> dict[str, Weights]:
    """Turn ``--weights`` words into part -> weights.

    Each word is ``pretrained``, ``random``, ``tiny`` or a folder, for all parts (a folder: for a system of one part),
    or ``PART=`` one of these. For a part that was described from a folder, ``pretrained`` is that folder.

    Raises:
        WeightsError: a folder for a system of several parts, an unknown part, or a folder that is not there.
    """
    parts = list(plan.parts)
    chosen: dict[str, Weights] = dict.fromkeys(parts, "pretrained")
    for word in given:
        part, equals, value = word.partition("=")
        if not equals:
            part, value = "", word
        if part and part not in parts:
            raise WeightsError(
                f"--weights {word} names the part '{part}'; {plan.name} has {', '.join(parts) or 'none'}."
            )
        weights: Weights
        if value in ("pretrained", "random", "tiny"):
            weights = cast(Weights, value)
        else:
            weights = Path(value)
            if not weights.is_dir():
                raise WeightsError(
                    f"--weights {word}: there is no folder {value}; give a folder, pretrained, random or tiny."
                )
            if not part and len(parts) > 1:
                raise WeightsError(
                    f"--weights {word} names one folder, but {plan.name} has the parts {' and '.join(parts)}; "
                    f"say which: {' '.join(f'{p}=DIR' for p in parts)}."
                )
        chosen |= dict.fromkeys([part] if part else parts, weights)
    homes = {part: getattr(offer.spec, "home", None) for part, offer in plan.parts.items()}
    return {p: homes[p] or given if given == "pretrained" else given for p, given in chosen.items()}
