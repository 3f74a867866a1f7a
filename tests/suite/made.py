"""What the suites' tests share: a starter that runs nothing, and plans without a release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ser_bench.suite import Outcome, Planned, RunSpec
from ser_bench.suite.child import Call

QUICK = {"epochs": 1, "batch_size": 4}
Spec = Callable[..., RunSpec]


class Pretended:
    """A starter whose calls end when they are told to; each is known by its seed's folder."""

    def __init__(self, fails: tuple[int, ...] = ()) -> None:
        self.fails, self.calls, self.at_once, self.running = fails, [], 0, 0
        self.places: list[dict[str, str]] = []

    def start(self, call: Call) -> Pretended.Worker:
        self.calls.append(call)
        self.places.append(dict(call.environment))
        self.running += 1
        self.at_once = max(self.at_once, self.running)
        return Pretended.Worker(self, call)

    class Worker:
        trouble: str | None = None

        def __init__(self, owner: Pretended, call: Call) -> None:
            self.owner, self.looks = owner, 0
            words = call.words
            self.seed = int(words[words.index("--seed") + 1])
            self.folder = Path(words[words.index("--out") + 1]) / f"seed-{self.seed}"

        def poll(self) -> int | None:
            self.looks += 1
            if self.looks < 3:
                return None
            self.owner.running -= 1
            if self.seed in self.owner.fails:
                return 1
            self.folder.mkdir(parents=True)
            (self.folder / "result.json").write_text("{}")
            return 0

        def stop(self) -> None:
            raise AssertionError

        kill = stop


def states(outcomes: list[Outcome]) -> list[tuple[int, str]]:
    return [(outcome.planned.seed, outcome.state) for outcome in outcomes]


def seeds(spec: Spec, count: int, folder: Path, **options: Any) -> list[Planned]:
    given = spec(**options)
    return [
        Planned(spec=given, seed=seed, system="logmel", folder=folder, finished=False) for seed in range(1, count + 1)
    ]
