"""The site in a real Chromium, opened from its folder and from a static host."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_up_board
import numpy as np
import pytest

from ser_bench import records
from ser_bench.leaderboard.render import render
from ser_bench.scoring import compare

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs a Chromium on the path (Debian: apt-get install chromium)"
)

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1360, "height": 900}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    made_up_board.write(folder)
    render(folder, cache=folder / "cache")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs the test extra")
    with api.sync_playwright() as playwright:
        # The sandbox needs rights that a container may not have; the pages are our own.
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


class Visit:
    """A page under watch: what it says on the console, and what it asks for."""

    def __init__(self, browser: Any, root: str, **options: Any) -> None:
        self.root = root
        self.context = browser.new_context(**{"viewport": DESK, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.told: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.told.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.told.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: str) -> Any:
        self.page.goto(self.root + path)
        return self.page

    def close(self) -> None:
        self.context.close()
        assert self.told == []
        assert [url for url in self.asked if not url.startswith((self.root, "blob:"))] == []


@pytest.fixture
def visit(browser: Any, board: Path) -> Iterator[Any]:
    """Open the site from its folder; at the end nothing was said on the console, and nothing asked for outside."""
    opened: list[Visit] = []

    def start(folder: Path = board, **options: Any) -> Visit:
        opened.append(Visit(browser, f"{(folder / 'site').as_uri()}/", **options))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def expect(shown: Any) -> Any:
    """Say what a page shall show, soon."""
    from playwright import sync_api

    return sync_api.expect(shown)


def stem_of(board: Path, system: str) -> str:
    return next(p.stem for p in sorted((board / "records").glob("*.json")) if p.stem.rpartition("-")[0] == system)


def systems(page: Any, track: int = 0) -> list[str]:
    """Return the names of the rows shown, in their order, of one track."""
    rows = page.locator(f".track >> nth={track}").locator("tbody:not(.people) tr:visible th.system > :first-child")
    return rows.all_inner_texts()


def column(page: Any, name: str, track: int = 0) -> list[float | None]:
    cells = page.locator(f".track >> nth={track}").locator(f"tbody:not(.people) tr:visible td.{name}")
    found = cells.evaluate_all("cells => cells.map(cell => cell.dataset.v)")
    return [float(value) if value else None for value in found]


NO_RANK = "\N{EN DASH}"


def paper_track(page: Any) -> int:
    """Return the place of the track with human transcripts and clean audio."""
    titles = page.locator(".track h2").all_inner_texts()
    return titles.index("MSP-Podcast 1.10 human transcripts")


def test_sorting(visit: Any) -> None:
    page = visit().open("index.html")
    track = paper_track(page)
    head = page.locator(f".track >> nth={track}").locator("thead")
    button = head.get_by_role("button", name="Sort by unseen valence")
    button.click()
    values = column(page, "num.unseen.valence", track)
    assert len(values) == 7
    assert values == sorted(values, reverse=True)
    assert head.locator("[aria-sort]").evaluate_all("heads => heads.map(h => h.ariaSort)") == ["descending"]
    button.press("Enter")  # by keyboard, the other way
    assert column(page, "num.unseen.valence", track) == sorted(values)
    head.get_by_role("button", name="Sort by system").click()
    names = [name.lower() for name in systems(page, track)]
    assert names == sorted(names)
    # Rows without a rank stand last, whichever way.
    rank = head.get_by_role("button", name="Sort by seen rank")
    rank.click()
    first = page.locator(f".track >> nth={track}").locator("tbody:not(.people) td.seen.rank").all_inner_texts()
    assert first[-2:] == [NO_RANK, NO_RANK]
    numbers = [int(text) for text in first[:-2]]
    assert numbers == sorted(numbers)
    rank.click()
    turned = page.locator(f".track >> nth={track}").locator("tbody:not(.people) td.seen.rank").all_inner_texts()
    assert turned == [*map(str, reversed(numbers)), NO_RANK, NO_RANK]
    assert page.locator(".people th.system").first.inner_text().startswith("human rater")  # people are not sorted


def test_a_long_table_shows_its_first_rows_until_asked(visit: Any, board: Path, tmp_path: Path) -> None:
    shutil.copytree(board / "site", tmp_path / "site")
    index = tmp_path / "site" / "index.html"
    index.write_text(index.read_text(encoding="utf-8").replace('data-limit="50"', 'data-limit="3"'), encoding="utf-8")
    page = visit(tmp_path).open("index.html")
    track = paper_track(page)
    section = page.locator(f".track >> nth={track}")
    section.get_by_role("button", name="Sort by unseen valence").click()
    first = column(page, "num.unseen.valence", track)
    assert len(first) == 3
    page.locator("#f-search").fill("logmel_words")  # one that is found is shown, wherever it stood
    assert systems(page, track) == ["logmel_words"]
    expect(section.locator(".rest")).to_be_hidden()
    page.locator("#f-search").fill("")
    section.get_by_role("button", name="Show all 7 rows").click()
    every = column(page, "num.unseen.valence", track)
    assert len(every) == 7
    assert every[:3] == first == sorted(every, reverse=True)[:3]
    expect(section.locator(".rest")).to_be_hidden()


def test_filters(visit: Any) -> None:
    page = visit().open("index.html")
    track = paper_track(page)

    def choose(name: str, value: str) -> None:
        page.locator(f"[data-filter={name}]").select_option(value)

    every = page.locator("#count").inner_text()
    choose("modality", "audio")
    assert set(systems(page, track)) == {"logmel", "paper audio"}
    assert " of " in page.locator("#count").inner_text()
    choose("status", "reported")
    assert systems(page, track) == ["paper audio"]
    choose("status", "")
    page.locator("[data-filter=ranked]").check()
    assert systems(page, track) == ["logmel"]
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#count")).to_have_text(every)
    choose("strategy", "frozen")
    assert systems(page, track) == ["xlsr[12]+tinybert>concat"]
    choose("strategy", "")
    choose("transcripts", "whisper-base")
    assert page.locator(".track:visible h2").all_inner_texts() == ["MSP-Podcast 1.10 transcripts whisper-base"]
    choose("transcripts", "")
    choose("corpus", "MSP-Podcast 1.7")
    assert page.locator(".track:visible").count() == 1
    choose("corpus", "")
    choose("condition", "noise:babble@10dB")
    assert "in_noise" in page.locator(".track:visible").inner_text()
    choose("condition", "")
    choose("side", "unseen")
    choose("attribute", "valence")
    shown = page.locator(f".track >> nth={track}").locator("thead th.num:visible").all_inner_texts()
    assert shown == ["Params", "Seeds", "#", "V"]


def test_search_and_address(visit: Any, board: Path) -> None:
    opened = visit()
    page = opened.open("index.html")
    page.locator("body").press("/")
    assert page.evaluate("document.activeElement.id") == "f-search"
    page.keyboard.type("tinybert")
    assert set(page.locator("tbody tr:visible th.system > a").all_inner_texts()) == {
        "distilhubert_tinybert", "xlsr[12]+tinybert>concat",
    }  # fmt: skip
    page.keyboard.type(" no such thing")
    expect(page.locator("#nothing")).to_be_visible()
    assert page.locator(".track:visible").count() == 0
    page.locator("#f-search").fill("someone/something")  # a repository
    assert page.locator("tbody tr:visible a").count() > 5
    # The address says what is set, so that it can be sent on; what it must not say is not taken.
    page.goto(f"{opened.root}index.html#search=logmel&modality=audio&attribute=nonsense")
    page.reload()
    assert systems(page, paper_track(page)) == ["logmel"]
    assert page.locator("#f-attribute").input_value() == ""


def test_hostile_names_are_shown_and_nothing_else(visit: Any) -> None:
    page = visit().open("index.html")
    assert page.get_by_text(made_up_board.ODD, exact=True).count() == 1
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img:not([src^='figures/'])").count() == 0
    assert page.locator("a[href^='javascript']").count() == 0


def test_a_runs_page(visit: Any, board: Path) -> None:
    stem = stem_of(board, "distilhubert_tinybert")
    opened = visit(permissions=["clipboard-read", "clipboard-write"], accept_downloads=True)
    page = opened.open("index.html")
    page.get_by_role("link", name="distilhubert_tinybert").first.click()
    expect(page).to_have_url(re.compile(f"systems/{re.escape(stem)}[.]html$"))
    page.wait_for_load_state()  # scripts are read after the page
    expect(page.locator("h1")).to_have_text("distilhubert_tinybert")
    expect(page.locator("#standing")).to_contain_text("#1 on seen")
    record = records.read(board / "records" / f"{stem}.json")
    for part in ("signature", "command"):
        page.locator(f"[data-copy={part}]").click()
        page.get_by_text("Copied").first.wait_for()
        taken = page.evaluate("navigator.clipboard.readText()")
        assert taken == page.locator(f"#{part}").inner_text()
    assert page.locator("#signature").inner_text() == record["signature"]
    assert page.locator("svg.drawing").count() == 1
    for button, head in (("PNG", b"\x89PNG"), ("SVG", b"<svg")):
        with page.expect_download() as saving:
            page.get_by_role("button", name=button, exact=True).first.click()
        assert saving.value.suggested_filename == f"{stem}-calibration.{button.lower()}"
        content = Path(saving.value.path()).read_bytes()
        assert content.startswith(head)
        assert len(content) > 3000
    page.get_by_role("link", name="Compare with another run").click()
    page.wait_for_load_state()
    expect(page.locator("#run-a")).to_have_value(stem)


def test_choosing_two_runs_and_comparing_them(visit: Any, board: Path) -> None:
    page = visit().open("index.html")
    track = page.locator(f".track >> nth={paper_track(page)}")
    track.get_by_label("Compare logmel", exact=True).check()
    assert page.locator("#tray-go").get_attribute("aria-disabled") == "true"
    track.get_by_label("Compare logmel_words", exact=True).check()
    track.get_by_label("Compare mean_only", exact=True).check()  # the third takes the first one's place
    expect(page.locator("#tray-names")).to_have_text("logmel_words and mean_only")
    page.get_by_role("link", name="Compare", exact=True).last.click()
    page.locator(".result table").first.wait_for()
    assert page.locator(".result h2").all_inner_texts() == ["Seen (test1)", "Unseen (test2)", "Development"]
    row = page.locator(".result >> nth=0").locator("tr[data-column=mean]")
    a, b = (records.read(board / "records" / f"{stem_of(board, name)}.json") for name in ("logmel_words", "mean_only"))
    found = compare(*([run["resampling"]["test1"] for run in one["runs"]] for one in (a, b)))["mean"]
    assert found is not None
    assert f"+{found.value:.3f}" in row.inner_text()
    assert row.locator(".verdict").inner_text() == found.verdict == "better"
    page.locator("#swap").click()
    page.get_by_text("worse").first.wait_for()
    page.locator("#margin").fill("0")
    page.locator("#margin").press("Tab")
    expect(page.locator("#message")).to_contain_text("above 0")


def test_runs_that_cannot_be_paired(visit: Any, board: Path) -> None:
    """Another address cannot name a file, and other clusters are told."""
    opened = visit()
    page = opened.open("compare.html#a=../../records/x&b=__proto__")
    expect(page.locator("#message")).to_have_text("Choose two runs.")
    reason = page.evaluate(
        "serBench.statistics.unpaired(["
        "{metric: 'ccc-1', digest: 'a', sizes: [1]}, {metric: 'ccc-1', digest: 'b', sizes: [1]}])"
    )
    assert reason == "utterances or clusters"


def test_the_pages_statistics_are_those_of_the_benchmark(visit: Any, board: Path) -> None:
    """Every pair of runs, every partition and attribute, to 1e-6 and better."""
    from scipy import special

    page = visit().open("compare.html")
    by_stem = {path.stem: records.read(path) for path in sorted((board / "records").glob("*.json"))}
    stems = list(by_stem)[:6]
    looked = set()
    for a, b in [(x, y) for x in stems for y in stems if x != y]:
        given = page.evaluate(
            """async ([a, b]) => {
                const [x, y] = await Promise.all([serBench.load(a, ""), serBench.load(b, "")]);
                const one = (p) => [p, serBench.statistics.compare(x[p], y[p], 0.01)];
                return Object.fromEntries(["test1", "test2", "development"].map(one));
            }""",
            [a, b],
        )
        for partition, columns in given.items():
            blocks = [[run["resampling"][partition] for run in by_stem[stem]["runs"]] for stem in (a, b)]
            for name, expected in compare(*blocks).items():
                assert expected is not None
                found = columns[name]
                numbers = [found["value"], *found["ci95"], found["p"]]
                assert numbers == pytest.approx([expected.value, *expected.ci95, expected.p_value], abs=1e-6)
                assert (found["verdict"], found["negligible"]) == (expected.verdict, expected.negligible)
                looked.add((len(blocks[0]), len(blocks[1]), found["verdict"]))
    assert len({seeds[:2] for seeds in looked}) > 4
    rng = np.random.default_rng(0)
    for clusters, size in ((1, 30), (3, 40), (4, 5), (6, 200), (40, 12)):
        sets = [[_block(rng, clusters, size) for _ in range(seeds)] for seeds in (2, 1)]
        found = page.evaluate("([a, b]) => serBench.statistics.compare(a, b, 0.05)", sets)
        for name, expected in compare(*sets, margin=0.05).items():
            assert expected is not None
            limits = [None, None] if expected.ci95 is None else list(expected.ci95)
            told = [found[name]["value"], *(found[name]["ci95"] or (None, None)), found[name]["p"]]
            assert told == [pytest.approx(x, abs=1e-9) for x in (expected.value, *limits, expected.p_value)]
            assert found[name]["verdict"] == expected.verdict
    grid = [(f, level) for f in (0.3, 0.5, 1.0, 2.7, 9.3, 40.0, 511.5, 1e6) for level in (0.9, 0.95, 0.999)]
    quantiles = page.evaluate("grid => grid.map(([f, level]) => serBench.statistics.quantile(f, level))", grid)
    assert quantiles == pytest.approx([special.stdtrit(max(f, 0.5), (1 + level) / 2) for f, level in grid], rel=1e-9)
    shares = page.evaluate("grid => grid.map(([f, t]) => serBench.statistics.below(-5 * t, f))", grid)
    assert shares == pytest.approx([special.stdtr(f, -5 * t) for f, t in grid], rel=1e-9)


def _block(rng: np.random.Generator, clusters: int, size: int) -> dict[str, Any]:
    """Make a block of clusters of about one size."""
    columns = ("arousal", "valence", "dominance", "mean")
    full = {name: round(float(rng.uniform(0.2, 0.8)), 6) for name in columns}
    out = {name: (full[name] + rng.normal(0, 0.01, clusters)).round(6).tolist() for name in columns}
    sizes = [size + k for k in range(clusters)]
    return {"metric": "ccc-1", "digest": "a", "sizes": sizes, "full": full, **out}


def test_a_damaged_data_file_is_told(browser: Any, board: Path, tmp_path: Path) -> None:
    shutil.copytree(board / "site", tmp_path / "site")
    a, b = (stem_of(board, name) for name in ("logmel", "mean_only"))
    (tmp_path / "site" / "data" / f"{b}.js").unlink()
    one = Visit(browser, f"{(tmp_path / 'site').as_uri()}/")
    page = one.open(f"compare.html#a={a}&b={b}")
    page.get_by_text(f"The data of {b} cannot be read").wait_for()
    one.context.close()


def test_dark_and_light(visit: Any) -> None:
    def background(page: Any) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(","))

    assert background(visit().open("index.html")) > 700
    opened = visit(color_scheme="dark")
    page = opened.open("index.html")
    assert background(page) < 90
    expect(page.locator("figure img.on-dark").first).to_be_visible()
    expect(page.locator("figure img.on-light").first).to_be_hidden()
    page.get_by_role("button", name="Switch between light and dark").press("Enter")
    assert background(page) > 700
    expect(page.locator("figure img.on-light").first).to_be_visible()
    assert background(opened.open("compare.html")) > 700  # remembered


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(visit: Any, board: Path, scheme: str) -> None:
    opened = visit(viewport=PHONE, color_scheme=scheme, has_touch=True)
    stems = [stem_of(board, name) for name in ("logmel_words", "logmel")]
    for path in ("index.html", f"systems/{stems[0]}.html", f"compare.html#a={stems[0]}&b={stems[1]}"):
        page = opened.open(path)
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
    page = opened.open("index.html")
    expect(page.locator("#f-modality")).to_be_hidden()
    page.get_by_role("button", name="Filters").tap()
    expect(page.locator("#f-modality")).to_be_visible()
    table = page.locator(f".track >> nth={paper_track(page)}")
    assert table.locator("thead th.num:visible").all_inner_texts() == ["#", "Mean", "#", "Mean"]
    box = table.locator("table").bounding_box()
    assert box["width"] <= PHONE["width"]
    page.locator("#f-attribute").select_option("valence")
    assert table.locator("thead th.num:visible").all_inner_texts() == ["#", "V", "#", "V"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(browser: Any, visit: Any, board: Path, scheme: str) -> None:
    """No serious finding by axe, with everything that folds unfolded."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the test extra").Axe()
    opened = visit(color_scheme=scheme, bypass_csp=True)  # for the checker alone, which is a script of its own
    stems = [stem_of(board, name) for name in ("xlsr-12-tinybert-concat", "distilhubert_tinybert")]
    for path in ("index.html", f"systems/{stems[0]}.html", f"compare.html#a={stems[0]}&b={stems[1]}"):
        page = opened.open(path)
        page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        page.wait_for_timeout(200)
        found = axe.run(page, options={"preload": False}).response["violations"]
        serious = [
            (one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], path
        assert page.locator("h1").count() == 1


def test_by_keyboard_alone(visit: Any) -> None:
    page = visit().open("index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label') || ''")
        )
    assert {"f-search", "f-corpus", "f-modality", "Sort by system", "Sort by seen valence"} <= reached


def test_from_a_static_host(browser: Any, board: Path) -> None:
    """The same over http, under a path of its own; nothing that a browser would refuse there."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(board)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        opened = Visit(browser, f"http://127.0.0.1:{server.server_port}/site/")
        a, b = (stem_of(board, name) for name in ("logmel", "mean_only"))
        assert len(systems(opened.open("index.html"))) > 0
        page = opened.open(f"compare.html#a={a}&b={b}")
        page.locator(".result table").first.wait_for()
        opened.open(f"systems/{a}.html")
        opened.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_board_without_runs(visit: Any, tmp_path: Path) -> None:
    (tmp_path / "reported.csv").write_text(made_up_board.REPORTED, encoding="utf-8")
    render(tmp_path, cache=tmp_path / "cache")
    opened = visit(tmp_path)
    page = opened.open("index.html")
    expect(page.get_by_text("No run stands here yet")).to_be_visible()
    assert page.locator("#f-strategy").is_disabled()
    page = opened.open("compare.html")
    expect(page.locator("#message")).to_contain_text("nothing to compare")


def test_without_scripts(browser: Any, board: Path) -> None:
    """Tables and pages are there; only what computes is not."""
    opened = Visit(browser, f"{(board / 'site').as_uri()}/", java_script_enabled=False)
    page = opened.open("index.html")
    assert page.locator(".track tbody tr").count() > 10
    opened.open("compare.html")
    expect(page.locator("noscript")).to_be_visible()
    opened.close()


def test_the_scripts_data_are_the_records_values(board: Path) -> None:
    """Distances in millionths give six decimals back."""
    import json

    stem = stem_of(board, "distilhubert_tinybert")
    text = (board / "site" / "data" / f"{stem}.js").read_text()
    arguments = json.loads(f"[{text.partition('(')[2].rpartition(')')[0]}]")
    assert arguments[0] == stem
    record = records.read(board / "records" / f"{stem}.json")
    for seed, block in enumerate(arguments[1]["test2"]):
        told = record["runs"][seed]["resampling"]["test2"]
        back = block["full"]["valence"] + np.array(block["valence"]) / 1e6
        np.testing.assert_allclose(back, told["valence"], rtol=0, atol=1e-12)
        assert block["digest"] == told["digest"]
