"""Contract checks of what comes out of a plugin, in eval mode.

Letters: b utterances, t frames or tokens, c channels, d width, L states, n samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ser_bench.errors import PluginError
from ser_bench.interface import SAMPLE_RATE
from ser_bench.testing.bench import Bench, refused
from ser_bench.testing.breach import InapplicableError, difference, require
from ser_bench.testing.material import SECONDS, SHORT, TEXTS, wave
from ser_bench.testing.subjects import GARBAGE, EncoderSubject, HeadSubject, Sample, Subject, SystemSubject

SAME = 1e-5
"""Relative difference that rounding explains in float32 (measured on the built-in plugins: 7e-7): what stands beside an
utterance must not move it further, and what is read must."""
NEAR_BFLOAT16 = 0.1
"""Relative difference allowed to bfloat16, which rounds every step by up to 2^-9 = 0.002."""
NEAR_DEVICE = 1e-3
"""Relative difference allowed between devices, both in float32 and without TensorFloat-32."""
TOO_LONG = (9_000, 12_000)
"""Words; both are beyond what any of today's text encoders reads."""


def shapes(bench: Bench) -> str:
    """What comes out has the shapes and types that the interface names."""
    told = []
    for subject in bench.resting:
        samples = subject.samples(SHORT)
        if not isinstance(subject, HeadSubject):
            _front_ends(subject, samples)
        if isinstance(subject, EncoderSubject):
            told.append(_states(subject, samples))
        else:
            found = subject.together(samples)
            told.append(f"{subject.on}[{len(found)}, {len(found[0])}]")
    return "; ".join(told)


def _front_ends(subject: Subject, samples: Sequence[Sample]) -> None:
    """Check what only front ends must keep: the type and width of frames, and the wave they were lent."""
    if "audio" in subject.reads:
        heard = wave(0.5)
        frames = subject.frames(heard.clone())
        lent = heard.to(subject.device).clone()
        subject.frames(lent)
        require(torch.equal(lent.cpu(), heard), "frontend changed the wave that it was given", "it left as it was")
        require(not frames.requires_grad, "frontend gave frames with a gradient", "a front end without one (frozen)")
        require(frames.dtype == torch.float32, f"frontend gave {frames.dtype}", "torch.float32")
        widths = sorted({one["audio"].shape[1] for one in samples})
        require(len(widths) == 1, f"frontend gave frames of {widths} channels", "the same c for every utterance")
    if "text" in subject.reads:
        cut = subject.tokens(TEXTS[0]).truncated
        require(cut is False, f"truncated is {cut!r} for the text {TEXTS[0]!r}", "False")


def _states(subject: EncoderSubject, samples: Sequence[Sample]) -> str:
    """Check an encoder's states with and without layers."""
    (modality,) = subject.reads
    given = [len(one[modality]) for one in samples]
    with torch.no_grad():
        plain, every = subject.encoded(samples, layers=False), subject.encoded(samples, layers=True)
    require(plain.layers is None, "forward gave layers without being asked", "None")
    require(plain.lengths.dtype == torch.int64, f"forward gave lengths of {plain.lengths.dtype}", "torch.int64")
    kept = plain.lengths.tolist()
    fits = all(1 <= k <= min(g, plain.hidden.shape[1]) for k, g in zip(kept, given, strict=True))
    require(fits, f"lengths went from {given} to {kept} with {plain.hidden.shape[1]} states", "1 to what went in")
    same = torch.equal(plain.lengths, every.lengths) and every.layers is not None
    for row, length in enumerate(kept):
        same = same and torch.equal(every.layers[-1][row, :length], every.hidden[row, :length])  # type: ignore[index]
        same = same and difference(every.hidden[row, :length], plain.hidden[row, :length]) <= SAME
    require(same, "hidden is not the last of the layers, or changes when layers are asked for", "the same states")
    return f"{list(plain.hidden.shape)}, {len(every.layers or ())} states"


def lengths(bench: Bench) -> str:
    """Utterances of 0.4 s to 12 s work; one sample and 31 s work or are refused in one line."""
    told = []
    for subject in bench.resting:
        if "audio" not in subject.reads:
            raise InapplicableError("it reads no audio")
        for seconds in (0.4, 1.0, 3.0, 7.0, 12.0):
            _finite(subject, subject.alone([subject.sample(wave(seconds), TEXTS[0])]), f"{seconds:g} s")
        for what, seconds in (("one sample", 1 / SAMPLE_RATE), ("31 s", 31.0)):
            try:
                found = subject.alone([subject.sample(wave(seconds), TEXTS[0])])
            except PluginError as error:
                said = str(error)
                plain = refused(error) and "\n" not in said
                require(plain, f"{what} failed: {said.splitlines()[0]}", "that it works or is refused by a PluginError")
                told.append(f"{what} is refused")
            else:
                _finite(subject, found, what)
                told.append(f"{what} works")
    return f"0.4 s to 12 s work, {', '.join(told)}"


def padding(bench: Bench) -> str:
    """An utterance gives the same beside longer ones as alone, whatever stands past its end."""
    worst = 0.0
    for subject in bench.resting:
        samples = subject.samples()
        alone = subject.alone(samples)
        for beyond in GARBAGE:
            for n, found in enumerate(subject.together(samples, beyond)):
                gap = difference(found, alone[n])
                require(
                    gap <= SAME,
                    f"{subject.on}{SECONDS[n]:g} s beside {max(SECONDS):g} s, with {beyond:g} past the end, differs "
                    f"from alone by {gap:.1e} of its largest value",
                    f"{SAME:g} at most",
                )
                worst = max(worst, gap)
    return f"batched and alone differ by {worst:.1e} at most, relative; limit {SAME:g}"


def order(bench: Bench) -> str:
    """A batch in another order gives the same in that order."""
    worst = 0.0
    for subject in bench.resting:
        samples = subject.samples(SHORT)
        straight = subject.together(samples)
        turned = list(range(len(samples)))[::-1]
        for place, found in zip(turned, subject.together([samples[n] for n in turned]), strict=True):
            gap = difference(found, straight[place])
            require(
                gap <= SAME,
                f"{subject.on}number {place} of a batch differs by {gap:.1e} of its largest value when the batch is "
                "turned round",
                f"{SAME:g} at most",
            )
            worst = max(worst, gap)
    return f"a batch turned round differs by {worst:.1e} at most, relative; limit {SAME:g}"


def determinism(bench: Bench) -> str:
    """The same twice in eval mode, bit for bit, front ends included; other batch mates change nothing."""
    for subject in bench.resting:
        first, again = (_drawn(subject, seed) for seed in (1, 2))
        for sample, twin in zip(first[0], again[0], strict=True):
            same = all(torch.equal(sample[m], twin[m]) for m in subject.reads)
            require(same, "a front end gave two results for one utterance", "the same, bit for bit")
        for n, (one, other) in enumerate(zip(first[1], again[1], strict=True)):
            measured = f"{subject.on}two calls in eval mode differ by {difference(other, one):.1e} for number {n}"
            require(torch.equal(one, other), measured, "the same, bit for bit")
        mates = subject.samples(SHORT, seed=3)
        found = subject.together([first[0][0], *mates[1:]])[0]
        gap = difference(found, first[1][0])
        measured = f"{subject.on}other batch mates change an utterance by {gap:.1e} of its largest value"
        require(gap <= SAME, measured, f"{SAME:g} at most")
    return "the same twice, bit for bit, and beside other batch mates"


def _drawn(subject: Subject, seed: int) -> tuple[list[Sample], list[Tensor]]:
    """Run everything from one state of chance."""
    torch.manual_seed(seed)
    samples = subject.samples(SHORT)
    return samples, subject.together(samples)


def finite(bench: Bench) -> str:
    """Silence, a constant, full scale, the faintest noise and odd texts give finite numbers."""
    n = SAMPLE_RATE
    waves = {
        "silence": torch.zeros(n),
        "a constant": torch.full((n,), 0.5),
        "full scale": torch.sign(wave(1.0)),
        "the faintest noise": wave(1.0) * 1e-7,
        "one click": torch.nn.functional.one_hot(torch.tensor(n // 2), n).float(),
    }
    texts = {
        "only signs": "?! ... --",
        "another script": "これは テスト です",
        "a picture and a tab": "\U0001f600\tok",
        "one long word": "a" * 400,
        "numbers": "12,345.67",
    }
    for subject in bench.resting:
        if isinstance(subject, HeadSubject):
            for what, scale in (("zeros", 0.0), ("large values", 1e4)):
                samples = [{m: value * scale for m, value in one.items()} for one in subject.samples(SHORT)]
                _finite(subject, subject.alone(samples), what)
            continue
        for what, heard in waves.items():
            _finite(subject, subject.alone([subject.sample(heard, TEXTS[0])]), what)
        for what, said in texts.items() if "text" in subject.reads else ():
            _finite(subject, subject.alone([subject.sample(wave(0.5), said)]), f"{what} ({said[:12]!r})")
    return "finite for every odd input"


def modality(bench: Bench) -> str:
    """What is read changes what comes out; what is not read does not."""
    told = []
    for subject in bench.resting:
        base = _speaking(subject)
        for m, other in (("audio", _speaking(subject, heard=1)), ("text", _speaking(subject, said=1))):
            if m in subject.reads:
                with torch.no_grad():
                    gap = difference(subject.predictions([other]), subject.predictions([base]))
                measured = f"{subject.on}another {m} changes what comes out by {gap:.1e} of its largest value"
                require(gap > SAME, measured, f"more than {SAME:g}: it says that it reads {m}")
                told.append(f"{subject.on}another {m} changes it by {gap:.1e}")
            elif isinstance(subject, SystemSubject):
                told.append(_unread(subject, m, base))
    return "; ".join(told)


def _speaking(subject: Subject, *, heard: int = 0, said: int = 0) -> Sample:
    """Return an utterance of 1 s by two numbers: what is heard, and what is said."""
    return subject.sample(wave(1.0, heard), TEXTS[1 + said])


def _unread(subject: SystemSubject, modality: str, base: Sample) -> str:
    """Hand a system what it does not read: it must refuse, or give the same."""
    before = subject.alone([base])[0]
    for number in (1, 2):
        made = {"audio": torch.full((1, 20, 8), float(number)), "text": torch.full((1, 4), number)}[modality]
        batch = subject.batch([base])
        given = {"audio": (batch.audio, batch.audio_lengths), "text": (batch.text, batch.text_lengths)}
        given[modality] = (made.to(subject.device), torch.tensor([made.shape[1]], device=subject.device))
        try:
            with torch.no_grad():
                after = subject.module(*given["audio"], *given["text"])[0]
        except PluginError:
            return f"{modality} is refused"
        gap = difference(after, before)
        measured = f"{modality} that is handed to it changes the prediction by {gap:.1e} of its largest value"
        require(gap <= SAME, measured, f"none: it says that it reads {' and '.join(subject.reads) or 'nothing'}")
    return f"{modality} changes nothing"


def empty_text(bench: Bench) -> str:
    """A text without words is a text: at least one id, and a finite result."""
    told = []
    for subject in _reading(bench):
        for said in ("", "  \n", "[laughter]"):
            tokens = subject.tokens(said)  # at least one id, or it raises
            require(not tokens.truncated, f"truncated is {tokens.truncated!r} for {said!r}", "False")
            _finite(subject, subject.alone([subject.sample(wave(0.5), said)]), f"the text {said!r}")
            told.append(f"{said!r} is {len(tokens.ids)}")
    return f"ids: {', '.join(told)}"


def long_text(bench: Bench) -> str:
    """A text over the model's limit is cut, and said to be cut; one that is read whole is not."""
    told = []
    for subject in _reading(bench):
        words = " ".join(TEXTS).split()
        shorter, longer = (
            subject.tokens(" ".join(words[number % len(words)] for number in range(count))) for count in TOO_LONG
        )
        cut = len(shorter.ids) == len(longer.ids)
        measured = (
            f"{TOO_LONG[0]:,} and {TOO_LONG[1]:,} words give {len(shorter.ids)} and {len(longer.ids)} ids, and "
            f"truncated is {shorter.truncated!r} and {longer.truncated!r}"
        )
        require(shorter.truncated is cut and longer.truncated is cut, measured, f"{cut} for both")
        heard = subject.sample(wave(0.5), TEXTS[0])
        _finite(subject, subject.alone([{**heard, "text": shorter.ids.to(subject.device)}]), f"{TOO_LONG[0]:,} words")
        told.append(f"cut after {len(shorter.ids)} ids, and said so" if cut else "read whole")
    return "; ".join(told)


def bfloat16(bench: Bench) -> str:
    """Under autocast to bfloat16 the result is finite and near that of float32."""
    worst = 0.0
    for subject in bench.resting:
        samples = subject.samples(SHORT)
        exact = subject.together(samples)
        with torch.autocast(subject.device.type, dtype=torch.bfloat16):
            rounded = subject.together(samples)
        _finite(subject, rounded, "bfloat16")
        gap = max(difference(r.float(), e.float()) for r, e in zip(rounded, exact, strict=True))
        measured = f"{subject.on}bfloat16 differs from float32 by {gap:.1e} of the largest value"
        require(gap <= NEAR_BFLOAT16, measured, f"{NEAR_BFLOAT16:g} at most")
        worst = max(worst, gap)
    return f"finite, and {worst:.1e} from float32, relative; limit {NEAR_BFLOAT16:g}"


def devices(bench: Bench) -> str:
    """The CPU and an accelerator give the same, front ends included."""
    if not torch.cuda.is_available():
        raise InapplicableError("there is no second device here")
    worst = 0.0
    with _full_float32():
        for reads in [subject.reads for subject in bench.resting]:
            here, there = (bench.fitted(reads).to(torch.device(name)) for name in ("cpu", "cuda"))
            for subject in (here, there):
                subject.module.eval()
            reference = here.alone(here.samples())
            for found, expected in zip(there.alone(there.samples()), reference, strict=True):
                gap = difference(found.cpu(), expected)
                measured = f"{here.on}cuda differs from the CPU by {gap:.1e} of the largest value"
                require(gap <= NEAR_DEVICE, measured, f"{NEAR_DEVICE:g} at most")
                worst = max(worst, gap)
    return f"cuda and the CPU differ by {worst:.1e} at most, relative; limit {NEAR_DEVICE:g}"


@contextmanager
def _full_float32() -> Iterator[None]:
    """Switch TensorFloat-32 off for a while."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _reading(bench: Bench) -> list[Subject]:
    """Return what reads text."""
    found = [subject for subject in bench.resting if "text" in subject.reads]
    if not found:
        raise InapplicableError("it reads no text")
    return found


def _finite(subject: Subject, found: Sequence[Tensor], what: str) -> None:
    bad = sum(int((~torch.isfinite(one)).sum()) for one in found)
    total = sum(one.numel() for one in found)
    require(not bad, f"{subject.on}{bad} of {total} numbers are not finite for {what}", "finite numbers")
