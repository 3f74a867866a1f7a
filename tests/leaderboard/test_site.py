"""The site's files: what they hold, that nothing in a record can break out of them, and that little is drawn twice."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import made_up
import made_up_board
import pytest

from ser_bench import cli, records
from ser_bench.cache import atomic_write
from ser_bench.errors import RecordError
from ser_bench.leaderboard import render as rendering
from ser_bench.leaderboard import site, table, views
from ser_bench.leaderboard.render import render, render_files
from ser_bench.leaderboard.reproduce import commands


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered leaderboard; to be read only."""
    folder = tmp_path_factory.mktemp("board")
    made_up_board.write(folder)
    render(folder, cache=folder / "cache")
    return folder


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A leaderboard of two runs and the reported rows, not rendered yet."""
    for name, noise in (("one", 0.5), ("two", 1.5)):
        put(tmp_path, name, made_up_board.record(name, noise=noise))
    atomic_write(tmp_path / "reported.csv", made_up_board.REPORTED)
    return tmp_path


def put(folder: Path, name: str, record: dict[str, Any]) -> None:
    atomic_write(folder / "records" / f"{name}.json", records.canonical(record))


class Pages(HTMLParser):
    """Collects tags and what they point to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for key, value in attrs if key == "id" and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def pages(folder: Path) -> dict[Path, Pages]:
    return {path: Pages(path.read_text(encoding="utf-8")) for path in (folder / "site").rglob("*.html")}


def test_every_link_leads_to_a_file_of_the_site(made: Path) -> None:
    """So that the one folder can be put anywhere."""
    looked = 0
    for path, page in pages(made).items():
        for tag, attributes in page.tags:
            for key in ("href", "src"):
                target = attributes.get(key)
                if target is None or target.startswith("#"):
                    continue
                assert not re.match(r"[a-z]+:|//|/", target), (path, tag, target)
                found = (path.parent / target.partition("#")[0]).resolve()
                assert found.is_file(), (path, target)
                assert found.is_relative_to((made / "site").resolve())
                looked += 1
    assert looked > 150


def test_pages_hold_no_script_and_no_style_of_their_own(made: Path) -> None:
    for path, page in pages(made).items():
        policies = [a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv")]
        assert policies == [
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; font-src 'self'; "
            "base-uri 'none'; form-action 'none'"
        ]
        for tag, attributes in page.tags:
            assert tag not in ("style", "iframe", "object", "base"), path
            assert tag != "script" or attributes.get("src")
            assert not [key for key in attributes if key.startswith("on") or key == "style"], (path, tag, attributes)
        assert len(page.ids) == len(set(page.ids)), path


def hostile(value: Any) -> Any:
    """Put an attack behind every text of a record, but those that the page's text is chosen by."""
    if isinstance(value, dict):
        kept = ("status", "kind", "condition", "strategy")
        return {key: inner if key in kept else hostile(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [hostile(inner) for inner in value]
    return value + made_up_board.HOSTILE if isinstance(value, str) else value


def test_no_text_of_a_record_breaks_out() -> None:
    """Past the schema, which refuses most of it."""
    record = hostile(made_up_board.record("one", strategy="frozen", seeds=(1, 2)))
    plain = Pages(site.system_page(made_up_board.record("one", strategy="frozen", seeds=(1, 2)), "one"))
    attacked = Pages(site.system_page(record, "one"))
    assert [tag for tag, _ in attacked.tags if tag in ("script", "img")] == [
        tag for tag, _ in plain.tags if tag in ("script", "img")
    ]
    assert not [a for _, a in attacked.tags if any(key.startswith("on") for key in a)]
    assert made_up_board.HOSTILE in attacked.text  # it was there


def test_data_are_safe_in_a_script() -> None:
    attack = made_up_board.HOSTILE + "\N{LINE SEPARATOR}<!--]]>"
    spelt = site.script_safe({attack: [attack]})
    assert not set("<>&'\N{LINE SEPARATOR}") & set(spelt)
    assert json.loads(spelt) == {attack: [attack]}


def test_a_page_says_how_it_was_made(made: Path) -> None:
    path = next((made / "site" / "systems").glob("distilhubert_tinybert-*.html"))
    text = path.read_text(encoding="utf-8")
    record = records.read(made / "records" / f"{path.stem}.json")
    for needed in (
        record["signature"], "someone/something@aaaaaaaaaaaa", "apache-2.0", "trained on LibriSpeech",
        "human rater", "few clusters on seen", "Emotion class", "Neutral", "best epoch 3 of 8",
        f"records/{path.stem}.json",
    ):  # fmt: skip
        assert needed in text, needed
    for part in record["summary"].values():
        for cell in part["ccc"].values():
            assert f"{cell['mean']:.3f}" in text
            assert f"± {cell['std']:.3f}" in text


def test_the_spread_over_speakers_is_a_slice() -> None:
    record = made_up_board.record("one", seeds=(1, 2))
    quantiles = dict(zip(("0.1", "0.25", "0.5", "0.75", "0.9"), (0.1, 0.2, 0.3, 0.4, 0.51), strict=True))
    for number, run in enumerate(record["runs"]):
        higher = {q: value + 0.1 * number for q, value in quantiles.items()}
        run["scores"]["test1"]["slices"]["speakers"] = {"count": 17, "valence": higher}
    text = site.system_page(record, "one")
    line = re.search(r"<tr><th scope=\"row\">90 % of speakers below</th>(.*?)</tr>", text)[1]  # type: ignore[index]
    assert re.findall(r">([^<]+)</td>", line) == [
        "17",
        *["\N{EN DASH}", "0.560", "\N{EN DASH}"],
        "0",
        *"\N{EN DASH}" * 3,
    ]
    for run in record["runs"]:
        run["scores"]["test1"]["slices"]["speakers"] = {"count": 3, "valence": None}
    assert "of speakers below" not in site.system_page(record, "one")


def test_slices_stand_in_their_order(made: Path) -> None:
    path = next((made / "site" / "systems").glob("logmel-*.html"))
    found = re.findall(r'<th scope="row">([^<]*(?:&lt;)?[^<]* s)</th>', path.read_text(encoding="utf-8"))
    assert found == ["&lt;3 s", "3-5 s", "5-8 s", "\N{GREATER-THAN OR EQUAL TO} 8 s"]


def typed(command: str) -> list[str]:
    """Split a command as a shell does, which joins lines first."""
    return shlex.split(command.replace("\\\n", " "))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "run --plugin logmel_words --corpus DIR --release 1.10 --transcripts human --strategy finetune --seed 1"),
        ({"system__name": "logmel_words[1]"}, "run --plugin logmel_words --depth 1 --corpus DIR"),
        (
            {"system__name": "logmel[2]+words>concat"},
            "run --audio logmel --text words --head concat --depth 2 --corpus",
        ),
        (
            {"corpus__name": "demo", "corpus__release": None},
            "run --plugin logmel_words --corpus demo --transcripts human",
        ),
        ({"weights": "tiny"}, "--plugin logmel_words --weights audio=tiny text=tiny --corpus DIR"),
        ({"missing": 3}, "--release 1.10 --allow-missing"),
        ({"frames": "f32-off"}, "--seed 1 --frames off --frames-dtype float32 --set"),
    ],
)
def test_commands(changes: dict[str, Any], expected: str) -> None:
    (one,) = commands(made_up.record(**changes))
    assert expected in " ".join(typed(one))


def test_commands_are_taken_by_the_command_line_and_give_the_recipe_back() -> None:
    from ser_bench import recipes
    from ser_bench.interface import Recipe

    recipe = recipes.changed(
        Recipe(), {"attributes": "valence", "head_learning_rate": 0.003, "regularisation.time_mask": 0.1}
    )
    settings = made_up.settings(recipe=recipes.as_dict(recipe))
    record = records.assemble(settings, [made_up.result(1, attributes=("valence",))], created=made_up.CREATED)
    parsed = cli._parser().parse_args(typed(commands(record)[0])[1:])
    assert (parsed.plugin, parsed.seed, parsed.transcripts) == ("logmel_words", [1], "human")
    changes = dict(word.removeprefix("recipe.").split("=") for word in parsed.changes)
    assert recipes.changed(Recipe(epochs=7, batch_size=3), changes) == recipe


def test_a_run_scored_elsewhere_takes_two_commands() -> None:
    trained = {"corpus": made_up.settings(corpus__release="1.7")["corpus"], "frames": "f16"}
    first, second = commands(made_up.record(trained=trained, corpus__condition="noise:babble@10dB"))
    assert "--release 1.7" in first
    assert first.endswith("--out RUN")
    words = typed(second)[1:]
    parsed = cli._parser().parse_args(words)
    assert (parsed.run_folder, parsed.release, parsed.condition) == (Path("RUN"), "1.10", "noise:babble@10dB")


def test_a_reproduced_row_says_by_whom(board: Path) -> None:
    put(board, "again", {**made_up_board.record("one", seeds=(4,)), "status": "reproduced", "reproduces": "one"})
    render(board)
    text = (board / "site" / "systems" / "one.html").read_text(encoding="utf-8")
    assert 'badge reproduced">reproduced' in text
    assert "records/again.json" in text
    assert not (board / "site" / "systems" / "again.html").exists()
    assert '"reproduced"' in (board / "site" / "tables" / "board.json").read_text()


def test_what_is_superseded_has_no_row_and_no_page(board: Path) -> None:
    render(board)
    assert (board / "site" / "systems" / "one.html").exists()
    put(board, "better", {**made_up_board.record("one", seeds=(4,)), "supersedes": "one"})
    done = render(board)
    removed = {path.relative_to(board).as_posix() for path in done.removed}
    assert removed == {"site/systems/one.html", "site/data/one.js"}
    assert not (board / "site" / "systems" / "one.html").exists()
    assert "systems/one.html" not in (board / "site" / "index.html").read_text()


# Rendering again.


def test_what_did_not_change_is_not_drawn_again(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = render(board)
    assert first.kept == 0
    again = render(board)
    assert again.written == ()
    assert again.kept == len(first.written)
    drawn: list[str] = []
    page, read = site.system_page, records.parse

    def draw(record: Any, stem: str, **options: Any) -> str:
        drawn.append(stem)
        return page(record, stem, **options)

    def parse(content: bytes, *, where: str) -> Any:
        drawn.append(f"checked {Path(where).stem}")
        return read(content, where=where)

    monkeypatch.setattr(site, "system_page", draw)
    monkeypatch.setattr(records, "parse", parse)
    put(board, "new", made_up_board.record("new", noise=0.9))
    written = {path.relative_to(board).as_posix() for path in render(board).written}
    assert drawn == ["checked new", "new"]
    assert {"site/systems/new.html", "site/data/new.js", "site/index.html", "README.md"} <= written
    assert "site/systems/one.html" not in written


def test_what_was_changed_by_hand_is_drawn_again(board: Path) -> None:
    render(board)
    path = board / "site" / "systems" / "one.html"
    before = path.read_bytes()
    path.write_text("forged")
    assert render(board).written == (path,)
    assert path.read_bytes() == before
    path.unlink()
    assert render(board).written == (path,)


def test_a_new_template_draws_everything_again(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render(board)
    monkeypatch.setattr(views, "code_digest", lambda: "another")
    drawn: list[str] = []
    page = site.system_page
    monkeypatch.setattr(site, "system_page", lambda record, stem, **o: drawn.append(stem) or page(record, stem, **o))
    assert render(board).written == ()  # the same content, so no file is touched
    assert drawn == ["one", "two"]


def test_the_code_digest_sees_all_that_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the cache is used for as long as none of it changes."""
    package = Path(shutil.copytree(Path(site.__file__).parents[1], tmp_path / "ser_bench"))
    monkeypatch.setattr(views, "files", lambda name: package)
    digest = views.code_digest.__wrapped__
    seen = {digest()}
    assert digest() in seen
    drawn = ("templates/system.html", "assets/board.js", "assets/style.css", "fonts/Inter-Regular.ttf", "figures.py")
    for name in (*(f"leaderboard/{name}" for name in drawn), "strict.py", "consistency.py", "record.schema.json"):
        with (package / name).open("ab") as file:
            file.write(b" ")
        assert digest() not in seen, name
        seen.add(digest())
    monkeypatch.setattr(views, "version", lambda name: "0" if name == "resvg-py" else version(name))
    assert digest() not in seen
    seen.add(digest())
    (package / "cost.py").write_text("")  # which draws nothing
    assert digest() in seen


@pytest.mark.parametrize(
    "damage", ["", "[]", "{", '{"README.md": 3, "../../x": ["a", "b"], "site/../../y": ["a", "b"]}']
)
def test_a_damaged_cache_costs_time_and_nothing_else(board: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    render(board, cache=cache)
    outside = [tmp_path / name for name in ("x", "y")]
    for path in outside:
        path.write_text("keep")
    expected = render_files(board, cache=tmp_path / "other")
    for path in (cache / "leaderboard").iterdir():
        path.write_text(damage)
    assert render(board, cache=cache).removed == ()
    assert {name: (board / name).read_bytes() for name in expected} == expected
    assert all(path.read_text() == "keep" for path in outside)


def test_a_record_that_changes_meanwhile_is_not_drawn(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was checked is what is shown."""
    read = views.read

    def then_change(*args: Any, **options: Any) -> Any:
        found = read(*args, **options)
        put(board, "one", made_up_board.record("other"))
        return found

    monkeypatch.setattr(views, "read", then_change)
    with pytest.raises(RecordError, match=r"one\.json was changed while it was rendered\. Render again\."):
        render(board)


def test_render_files_is_what_render_writes(board: Path, tmp_path: Path) -> None:
    expected = render_files(board)
    out = tmp_path / "out"
    render(board, out)
    there = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert there == expected
    # Another cache, another folder: the same bytes.
    assert render_files(board, cache=tmp_path / "other") == expected


def test_a_row_from_the_cache_is_the_row(board: Path) -> None:
    first, second = views.read(board), views.read(board)
    assert list(first.rows) == list(second.rows)
    assert [one.standings for one in first.tracks] == [one.standings for one in second.tracks]


def test_rows_hold_what_ranking_needs_and_no_more(board: Path) -> None:
    (row, *_) = views.read(board).rows
    assert set(row.blocks) == {"test1", "test2"}
    assert all(set(block["full"]) == {"mean"} for blocks in row.blocks.values() for block in blocks)


def test_the_command_tells_what_it_did(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["leaderboard", "render", "--leaderboard", str(board), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert str(board / "README.md") in told["written"]
    assert told["kept"] == 0
    assert cli.main(["leaderboard", "render", "--leaderboard", str(board)]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("# Leaderboard")
    assert f"wrote 0 files, kept {len(told['written'])}; open {board / 'site' / 'index.html'}" in shown.err


def test_tracks_that_would_share_a_file_do_not(tmp_path: Path) -> None:
    lines = [
        f"s,audio,none,{release},,24,{partition},0.6,0.3,0.5,P"
        for release in ("1/10", "1 10")
        for partition in ("test1", "test2")
    ]
    atomic_write(tmp_path / "reported.csv", "\n".join([made_up_board.REPORTED.splitlines()[0], *lines, ""]))
    slugs = [view.slug for view in views.read(tmp_path).tracks]
    assert slugs == ["msp-podcast-1-10-clean-none", "msp-podcast-1-10-clean-none-2"]
    attack = "s,audio,none,../../../etc,,24,test1,0.6,0.3,0.5,P"
    atomic_write(tmp_path / "reported.csv", "\n".join([made_up_board.REPORTED.splitlines()[0], attack, ""]))
    (view,) = views.read(tmp_path).tracks
    assert "/" not in view.slug
    assert all((tmp_path / name).resolve().is_relative_to(tmp_path.resolve()) for name in render_files(tmp_path))


def test_long_names_of_a_track_fit_a_file(tmp_path: Path) -> None:
    """Figures put words behind it, and file systems take 255 bytes."""
    for number, end in enumerate("ab"):
        texts = {"train": "human", "test": "t" * 99 + end}
        put(
            tmp_path, f"x{number}",
            made_up_board.record(
                "x", transcripts=texts, corpus__condition="noise:" + "c" * 94, corpus__release="r" * 32
            ),
        )  # fmt: skip
    slugs = [view.slug for view in views.read(tmp_path).tracks]
    assert len(set(slugs)) == 2 and all(len(slug) < 140 for slug in slugs)
    assert render(tmp_path).written


# Tables for papers and programs.


def track(folder: Path) -> views.TrackView:
    shown = views.read(folder, cache=folder / "cache")
    return next(v for v in shown.tracks if v.track[0] == "MSP-Podcast 1.10" and v.track[2:] == ("clean", "human"))


def test_latex_is_for_a_paper(made: Path) -> None:
    view = track(made)
    text = table.latex(view)
    for needed in (r"\toprule", r"\bottomrule", r"\multicolumn{4}{c}{Seen (test1)}", r"\cmidrule(lr){4-7}",
                   r"\emph{human rater}"):  # fmt: skip
        assert text.count(needed) == 1, needed
    assert r"\hline" not in text
    # Behind the heads, before the marked rows, and before people.
    assert text.count(r"\midrule") == 3
    *_, ranked, marked, people = text.split(r"\midrule")
    assert r"distilhubert\_tinybert" in ranked and r"xlsr[12]+tinybert\textgreater{}concat, frozen" in ranked
    assert r"tiny\_one$^{*}$" in marked and r"\emph" not in marked
    assert people.count(r"\emph{") == 2
    rows = [line for line in text.splitlines() if " & " in line and "multicolumn" not in line]
    assert len({line.count("&") for line in rows}) == 1
    # The best of each column in bold, among the rows that are no marked ones.
    for partition in ("test1", "test2"):
        for column in records.COLUMNS:
            cells = [one.row.cells[partition][column]["mean"] for one in view.standings if not one.row.marks]
            assert rf"\textbf{{{max(cells):.3f}}}" in text
    assert r"{\scriptsize[" in text
    assert "tiny_one" not in text.replace(r"tiny\_one", "")  # escaped
    assert "not ranked (tiny weights)" in text


@pytest.mark.parametrize("name", ["[1cm]", "*x"])
def test_latex_takes_no_name_for_an_argument(tmp_path: Path, name: str) -> None:
    r"""Behind `\\\\`, a bracket is a length and a star a wish."""
    head = made_up_board.REPORTED.splitlines()[0]
    atomic_write(tmp_path / "reported.csv", f"{head}\n{name},audio,none,1.10,,24,test1,0.6,0.3,0.5,P\n")
    (view,) = views.read(tmp_path).tracks
    assert f"\n {{}}{name} " in table.latex(view)


@pytest.mark.parametrize("name", [r"\input{/etc/passwd}", "a&b%c$d#e_f{g}h~i^j", "<x>|y"])
def test_latex_escapes(name: str) -> None:
    spelt = table._tex(name)
    assert not re.search(r"(?<!\\)[&%$#_]", spelt)
    assert r"\input" not in spelt


def test_csv_has_a_line_for_each_row_and_partition(made: Path) -> None:
    text = (made / "site" / "tables" / "board.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO(text)))
    shown = views.read(made, cache=made / "cache")
    expected = sum(len(one.row.cells) for v in shown.tracks for one in v.standings)
    assert len([line for line in lines if line["status"] != "reference"]) == expected
    line = next(x for x in lines if x["system"] == "distilhubert_tinybert" and x["partition"] == "test2")
    cell = records.read(made / "records" / f"{line['record']}.json")["summary"]["test2"]["ccc"]["valence"]
    values = [float(line[f"valence{end}"]) for end in ("", "_low", "_high", "_std")]
    assert values == [cell["mean"], *cell["ci95"], cell["std"]]
    assert line["rank"] == "1"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x"])
def test_csv_holds_no_formula(tmp_path: Path, name: str) -> None:
    head = made_up_board.REPORTED.splitlines()[0]
    atomic_write(tmp_path / "reported.csv", f"{head}\n{name},audio,none,1.10,,24,test1,0.6,-0.3,0.5,P\n")
    (line,) = csv.DictReader(io.StringIO(table.as_csv(views.read(tmp_path))))
    assert line["system"] == f"'{name}"
    assert float(line["valence"]) == -0.3


def test_json_says_what_the_tables_say(made: Path) -> None:
    found = json.loads((made / "site" / "tables" / "board.json").read_text(encoding="utf-8"))
    shown = views.read(made, cache=made / "cache")
    assert [t["corpus"] for t in found["tracks"]] == [v.track[0] for v in shown.tracks]
    row = next(r for t in found["tracks"] for r in t["rows"] if r["system"] == "tiny_one")
    assert row["marks"] == ["tiny weights"]
    assert row["rank"] == {"test1": None, "test2": None}
    assert (made / row["record"]).is_file()


def test_people_are_a_reference_and_no_row(made: Path) -> None:
    view = track(made)
    text = table.markdown(view.standings, view.references)
    last = text.splitlines()[-2:]
    assert "human rater" in last[0]
    assert "reference" in last[1]
    assert "0.600" in last[1]
    assert all(one.row.status != "reference" for one in view.standings)
    assert (
        rendering.render_files(made, cache=made / "cache")[Path("README.md")].decode().count("| simulated rater") >= 1
    )


@pytest.mark.parametrize("name", ["<script>", "a|b", "`x`", "[x](javascript:y)", "**x**"])
def test_markdown_shows_names_as_they_are(name: str) -> None:
    spelt = table.markdown_safe(name)
    assert "<" not in spelt
    assert not re.search(r"(?<!\\)[|`*]|\]\(", spelt)
