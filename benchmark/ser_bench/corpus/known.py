"""What is known of releases: partition sizes from public sources, and label digests of releases that we have seen.

Sizes in utterances. v1.10: partitions in two independent public readers of that release (sum 104,267). v1.11: the
corpus' own page. IS2025 (the challenge package cut from v1.12) and v2.0: public recipes that count them. ``test3``
has no labels, and is known only by its wav files.
"""

from __future__ import annotations

COUNTS: dict[str, dict[str, int]] = {
    "1.10": {"train": 63_076, "development": 10_999, "test1": 16_903, "test2": 13_289},
    "1.11": {"train": 84_030, "development": 19_815, "test1": 30_647, "test2": 14_815, "test3": 2_347},
    "is2025": {"train": 84_260, "development": 31_961, "test3": 3_200},
    "2.0": {"train": 169_190, "development": 34_399, "test1": 46_294, "test2": 14_822, "test3": 3_200},
}

DIGESTS: dict[str, str] = {
    "92586985a68561546b0ffb76a38740f9b0e0d9bcf3f560c054c611d7fc724949": "demo",
    "f8c3e5beb29b1048b7ec7fc57d69aacfb73e9e12c22651a083543f6b2c856fc7": "stand-in",
}
"""Label digest -> corpus name."""


def labelled(version: str | None) -> dict[str, int] | None:
    """Return a release's known partition sizes without ``test3``, or None."""
    counts = COUNTS.get(version.lower()) if version else None
    return {name: count for name, count in counts.items() if name != "test3"} if counts else None
