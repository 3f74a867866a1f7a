"""Cards in the hub's form, and the upload, to a hub that is made up; no request leaves the machine."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_up
import pytest
import yaml

from ser_bench import cli, records
from ser_bench.cache import atomic_write
from ser_bench.errors import HubError, RecordError
from ser_bench.leaderboard import hub
from ser_bench.leaderboard.card import dataset_card, model_card, write_cards


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    atomic_write(folder / "record.json", records.canonical(made_up.record(seeds=(1, 2))))
    atomic_write(folder / "settings.json", "{}")
    for seed in (1, 2):
        for name in ("model/model.safetensors", "model/config.json", "result.json", "predictions.parquet", "log.jsonl",
                     "checkpoints/last.safetensors"):  # fmt: skip
            atomic_write(folder / f"seed-{seed}" / name, name)
    return folder


def metadata(card: str) -> dict[str, Any]:
    head, _, rest = card.removeprefix("---\n").partition("\n---\n")
    assert rest.startswith("\n# ")
    loaded: dict[str, Any] = yaml.safe_load(head)
    return loaded


def test_the_hub_reads_every_score_out_of_the_card(tmp_path: Path) -> None:
    """By the hub's own reader, which refuses a malformed model-index."""
    from huggingface_hub import ModelCard

    record = made_up.record(seeds=(1, 2))
    (tmp_path / "README.md").write_text(model_card(record), encoding="utf-8")
    card = ModelCard.load(tmp_path / "README.md")
    found = {(r.dataset_split, r.metric_name): r for r in card.data.eval_results}
    assert len(found) == 3 * 4
    for partition, of in record["summary"].items():
        for column, cell in of["ccc"].items():
            result = found[partition, f"CCC {column}"]
            assert (result.metric_type, result.metric_value) == ("ccc", cell["mean"])
            assert result.metric_args == {"ci95": cell["ci95"], "std_over_seeds": cell["std"]}
            assert result.dataset_type == "msp-podcast"
            assert result.dataset_revision == record["corpus"]["labels_sha256"]
    assert card.data.model_name == "logmel_words"
    assert card.data.library_name == "ser-bench"


def test_the_card_says_how_it_was_made() -> None:
    record = made_up.record(seeds=(1, 2))
    record["system"]["parts"][0] |= {
        "repo": "a/b",
        "revision": 40 * "c",
        "licence": "mit",
        "trained_on": ["LibriSpeech"],
    }
    text = model_card(record)
    assert metadata(text)["base_model"] == ["a/b"]
    for needed in (
        record["signature"],
        "ser-bench run --plugin logmel_words",
        f"a/b@{40 * 'c'}, mit, trained on LibriSpeech",
        "| test2       | valence     |",
        'read_wave("some.wav"), "what is said")',
        "few clusters",
    ):
        assert needed in text


def test_what_was_not_trained_is_not_in_the_card() -> None:
    settings = made_up.settings(recipe=made_up.settings()["recipe"] | {"attributes": ["valence"]})
    record = records.assemble(settings, [made_up.result(1, attributes=("valence",))], created=made_up.CREATED)
    results = metadata(model_card(record))["model-index"][0]["results"]
    names = {metric["name"] for result in results for metric in result["metrics"]}
    assert names == {"CCC valence", "CCC mean"}


def test_the_dataset_card_describes_the_builder_and_holds_no_data() -> None:
    text = dataset_card(made_up.record())
    assert metadata(text)["license"] == "other"
    assert 'MspPodcast(data_dir="DIR", release="1.10")' in text
    assert "| test1 | 96 | 96 |" in text
    assert "unconfirmed" in text


def test_a_name_cannot_break_the_metadata() -> None:
    record = made_up.record()
    record["system"]["parts"][0]["trained_on"] = ["x\n---\nlicense: mit", "<script>alert(1)</script>"]
    text = model_card(record)
    assert "license" not in metadata(text)
    assert "<script>" not in text


def test_card_command(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["card", str(run), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert written == [str(run / "README.md"), str(run / "dataset" / "README.md")]
    assert "model-index" in (run / "README.md").read_text()
    assert cli.main(["card", str(run)]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {run / 'README.md'}\n")


def test_a_card_of_no_run(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"record\.json does not exist"):
        write_cards(tmp_path)
    assert not list(tmp_path.iterdir())


class Api:
    """A hub that remembers what it was given."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        self.sent: list[str] = []

    def create_repo(self, repo: str, **options: Any) -> str:
        self.made = {"repo": repo, **options}
        return f"https://hub.example/{repo}"

    def upload_folder(self, *, folder_path: Path, allow_patterns: list[str], **options: Any) -> None:
        from huggingface_hub.utils import filter_repo_objects

        every = [path.relative_to(folder_path).as_posix() for path in folder_path.rglob("*") if path.is_file()]
        self.sent = sorted(filter_repo_objects(every, allow_patterns=allow_patterns))
        self.options = options


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    import huggingface_hub

    found = Api()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: found)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "token")
    return found


def test_push_sends_the_model_and_says_how_it_was_made(run: Path, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["push", str(run), "me/model", "--private", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"address": "https://hub.example/me/model"}
    each = [
        f"seed-{seed}/{name}"
        for seed in (1, 2)
        for name in ("model/config.json", "model/model.safetensors", "result.json")
    ]
    assert api.sent == ["README.md", "record.json", *each, "settings.json"]
    assert api.made == {"repo": "me/model", "repo_type": "model", "private": True, "exist_ok": True}
    assert api.options["repo_id"] == "me/model"


def test_what_is_pushed_is_enough_to_load(run: Path, api: Api) -> None:
    hub.push(run, "me/model")
    assert {"settings.json", "seed-1/result.json", "seed-1/model/config.json", "seed-1/model/model.safetensors"} <= set(
        api.sent
    )
    assert api.made["private"] is None  # as the owner's settings say


def test_nobody_is_logged_in(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(HubError, match=r"nobody is logged in to the hub.*`hf auth login`, or set HF_TOKEN"):
        hub.push(run, "me/model")


def test_a_folder_without_a_model_is_not_pushed(tmp_path: Path, api: Api) -> None:
    with pytest.raises(HubError, match=r"holds no trained model under seed-\*/model; expected a folder that"):
        hub.push(tmp_path, "me/model")
    assert api.made == {}


def response(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=None)


class TransportError(Exception):
    """As the hub client's transport calls it."""


def test_what_the_hub_refuses_is_told(run: Path, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    cases = [
        (HfHubHTTPError("no", response=response(403)), r"refuses to write me/model \(403: this login may not write"),
        (HfHubHTTPError("no", response=response(401)), r"\(401: the login is not valid\)"),
        (HfHubHTTPError("a fault\nmore", response=response(500)), r"\(500: a fault\)"),
        (RepositoryNotFoundError("no", response=response(404)), "there is no repository me/model that this login"),
        (OfflineModeIsEnabled("off"), "switched off by HF_HUB_OFFLINE"),
        (TransportError("no route"), r"be reached \(TransportError: no route\)\. Check the network, and push again"),
        (TimeoutError("slow"), r"cannot be reached \(TimeoutError: slow\)"),
    ]
    for error, message in cases:

        def fail(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(api, "create_repo", fail)
        with pytest.raises(HubError, match=message):
            hub.push(run, "me/model")
    assert cli.main(["push", str(run), "me/model"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: the hub cannot be reached")
    assert told.count("\n") == 1


def test_a_fault_of_ours_is_not_called_the_hubs(run: Path, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "create_repo", lambda *_, **__: {}["absent"])
    with pytest.raises(KeyError):
        hub.push(run, "me/model")


@pytest.mark.parametrize("repo", ["not a name", "a/b/c", "../x"])
def test_a_malformed_repository_by_the_real_client(run: Path, repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client checks names itself, before any request."""
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "token")
    with pytest.raises(HubError) as raised:
        hub.push(run, repo)
    assert repo in str(raised.value) or "switched off" in str(raised.value)
