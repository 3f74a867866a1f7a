"""Encoders made of any checkpoint of a known type, as transformers saves it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plugins.checkpoints import AUDIO, FORMS, TEXT, Kind, Saved, configured, copied, reformed, save
from plugins.parts import alone, padding_error, same, saved_without, wave
from tokenizers import Tokenizer
from transformers import AutoModel, PreTrainedTokenizerFast, Wav2Vec2FeatureExtractor

from ser_bench import interface, records, runner, trained
from ser_bench.errors import PluginError, WeightsError
from ser_bench.host import Host
from ser_bench.interface import Regularisation, Weights
from ser_bench.testing import write_release
from ser_bench_plugins import hub, pretrained, speech
from ser_bench_plugins.hub import FAMILIES, build_any, describe

SAID = [
    "",
    "I really don't know what you're talking about.",
    "Café, naïve: <s> [SEP] 😀 </s> [MASK]",
    "xylophone  jazz \n quartz",
    "so it goes " * 20,
]


def made(kind: Kind, weights: Weights, *, repo: str | Path | None = None, **more: Any) -> Any:
    regularisation = Regularisation(**({"dropout": 0.0} | more.pop("regularisation", {})))
    where = repo or (weights if isinstance(weights, Path) else "")
    return build_any(kind, weights, repo=where, regularisation=regularisation, **more).eval()


def said(kind: Kind, address: str | Path) -> tuple[str, int, int]:
    """Return type, width and depth of what stands at an address."""
    spec = describe(kind, str(address))
    return spec.summary.partition(" checkpoint ")[0], spec.dim, spec.depth


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    known: dict[str, tuple[Any, Path]] = {}

    def give(kind: Kind, type_: str) -> tuple[Any, Path]:
        if type_ not in known:
            known[type_] = save(kind, type_, tmp_path_factory.mktemp(type_))
        return known[type_]

    return give


def test_the_types() -> None:
    assert FAMILIES["audio"].keys() == AUDIO.keys()
    assert FAMILIES["text"].keys() == TEXT.keys()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("type_", [type_ for type_ in AUDIO if type_ != "whisper"])
@torch.no_grad()
def test_speech_states_are_the_librarys(type_: str, form: str, saved: Saved, tmp_path: Path) -> None:
    reference, _ = saved("audio", type_)
    folder = copied(saved, "audio", type_, tmp_path)
    ours = made("audio", reformed(folder, form, reference))
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    for seconds in (0.4, 1.9):
        samples = 0.1 * wave(seconds)
        given = extractor(samples.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
        expected = reference(given, output_hidden_states=True)
        states = alone(ours, ours.frontend(samples))
        for state, theirs in zip(states, [*expected.hidden_states[:-1], expected.last_hidden_state], strict=True):
            same(state, theirs[0])
    same(ours.mask_vector, reference.masked_spec_embed)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_whisper_states_are_the_librarys(form: str, saved: Saved, tmp_path: Path) -> None:
    reference, _ = saved("audio", "whisper")
    ours = made("audio", reformed(copied(saved, "audio", "whisper", tmp_path), form, reference))
    mel = ours.extract(wave(30).numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    same(alone(ours, ours.frontend(wave(30)))[-1], reference(mel).last_hidden_state[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("type_", TEXT)
@torch.no_grad()
def test_text_states_and_tokens_are_the_librarys(type_: str, form: str, saved: Saved, tmp_path: Path) -> None:
    folder = reformed(copied(saved, "text", type_, tmp_path), form, saved("text", type_)[0])
    reference = AutoModel.from_pretrained(folder).eval()
    ours = made("text", folder)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    places = 40 - (2 if "roberta" in type_ else 0)
    for text in SAID:
        expected = theirs(text, truncation=True, max_length=places, padding=False)["input_ids"]
        uncut = theirs(text, truncation=False, padding=False)["input_ids"]
        found = ours.frontend(text)
        assert (found.ids.tolist(), found.truncated) == (expected, len(uncut) > places)
        states = reference(torch.tensor([expected]), output_hidden_states=True).hidden_states
        for state, other in zip(alone(ours, found.ids), states, strict=True):
            same(state, other[0])
    assert ours.frontend(SAID[-1]).truncated
    assert len(ours.frontend(SAID[-1]).ids) == places
    assert len(ours.frontend("").ids) == 2


@pytest.mark.shared
@torch.no_grad()
def test_minilm_with_its_own_tokenizer(shared: Path) -> None:
    folder = shared / "models" / "all-MiniLM-L6-v2"
    reference = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    ours = made("text", folder)
    assert said("text", folder) == ("bert", 384, 6)
    ids = ours.frontend("[laughter] Well, I don't know. " * 12).ids  # over the 128 tokens of its tokenizer.json
    assert len(ids) > 128
    same(alone(ours, ids)[-1], reference(ids[None]).last_hidden_state[0])


@pytest.mark.shared
def test_whisper_with_its_real_weights(shared: Path) -> None:
    folder = shared / "models" / "whisper-base-encoder"
    assert said("audio", folder) == ("whisper", 512, 6)
    ours = made("audio", folder, depth=2)
    assert (ours.dim, ours.depth, len(ours.layers)) == (512, 2, 2)


@pytest.mark.parametrize("type_", [*AUDIO, *TEXT])
def test_depth_sizes_and_batch_mates(type_: str, saved: Saved) -> None:
    kind: Kind = "audio" if type_ in AUDIO else "text"
    _, folder = saved(kind, type_)
    assert said(kind, folder) == (type_, 48, 3)
    whole, cut = made(kind, folder), made(kind, folder, depth=1)
    assert (cut.dim, cut.depth) == (48, 1)
    given = [0.9, 2.0, 0.4] if kind == "audio" else SAID
    inputs = [cut.frontend(wave(one) if kind == "audio" else one) for one in given]
    inputs = [getattr(one, "ids", one) for one in inputs]
    for built in (whole, cut):
        assert padding_error(built, inputs, garbage=3.0 if kind == "text" else torch.nan) <= 1e-5
    for one in inputs:
        same(alone(cut, one)[0], alone(whole, one)[0], limit=0.0)
    random = made(kind, "random", repo=folder)
    assert (random.dim, random.depth) == (48, 3)
    assert not torch.equal(alone(random, inputs[0])[-1], alone(whole, inputs[0])[-1])
    tiny = made(kind, "tiny", repo=folder)
    assert (tiny.dim, tiny.depth) == (32, 2)
    with torch.device("meta"):
        counted = made(kind, "random", repo=folder)
    assert sum(p.numel() for p in counted.parameters()) == sum(p.numel() for p in whole.parameters())
    with pytest.raises(WeightsError, match=rf"depth 4 was asked of {folder}, which has 3 layers\. Give 0 to 3\."):
        made(kind, folder, depth=4)


@pytest.mark.parametrize("type_", [*AUDIO, *TEXT])
@torch.no_grad()
def test_regularisation_in_training_alone(type_: str, saved: Saved) -> None:
    kind: Kind = "audio" if type_ in AUDIO else "text"
    _, folder = saved(kind, type_)
    for setting in ("dropout", "layerdrop", "time_mask", "feature_mask"):
        built = made(kind, folder, regularisation={setting: 0.5})
        one = built.frontend(wave(1.0)) if kind == "audio" else built.frontend(SAID[1]).ids
        assert {getattr(built.config, name) for name in FAMILIES[kind][type_].dropouts} == {
            built.regularisation.dropout
        }
        calm = alone(built, one)
        assert torch.equal(alone(built, one)[-1], calm[-1])
        built.train()
        assert any(not torch.equal(alone(built, one)[-1], calm[-1]) for _ in range(8)), setting


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("form", ["preprocessor_config.json", "processor_config.json"])
def test_the_checkpoint_says_how_the_wave_is_scaled(normalise: bool, form: str, saved: Saved, tmp_path: Path) -> None:
    folder = copied(saved, "audio", "wav2vec2", tmp_path)
    said = json.loads((folder / "preprocessor_config.json").read_text()) | {"do_normalize": normalise}
    (folder / "preprocessor_config.json").unlink()
    (folder / form).write_text(json.dumps({"feature_extractor": said} if form.startswith("processor") else said))
    ours = made("audio", folder)
    assert ours.normalise is normalise
    assert ours.frontend_state()["normalise"] is normalise


def test_a_checkpoint_that_does_not_say_is_refused(saved: Saved, tmp_path: Path) -> None:
    folder = copied(saved, "audio", "hubert", tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError) as caught:
        made("audio", folder)
    assert str(caught.value) == (
        f"{folder} has no preprocessor_config.json, which says whether the wave is brought to zero mean and unit "
        'variance first. Put one beside its config.json, with {"do_normalize": true} or false, as the model was '
        "trained."
    )


def test_a_named_encoder_takes_its_checkpoints_word_and_says_so(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(saved, "audio", "hubert", tmp_path)
    shipped = json.loads((folder / "config.json").read_text()) | {"normalise": False}
    monkeypatch.setattr(speech, "shipped", lambda name: dict(shipped))
    common = {"configuration": "x", "regularisation": Regularisation(), "source": pretrained.Source(repo="a/x")}
    assert speech.build(folder, **common).normalise is True
    assert f"{folder} says do_normalize True, the configuration that ships for x says False" in caplog.text
    assert speech.build("random", **common).normalise is False
    (folder / "preprocessor_config.json").unlink()
    assert speech.build(folder, **common).normalise is False


def test_a_missing_mask_vector_starts_from_zeros(saved: Saved, tmp_path: Path) -> None:
    folder = copied(saved, "audio", "data2vec-audio", tmp_path)
    saved_without(folder, "data2vec_audio.masked_spec_embed")
    torch.manual_seed(1)
    assert float(made("audio", folder).mask_vector.detach().abs().max()) == 0
    # It stands in the configuration's way too where masking is off.
    off = configured(copied(saved, "audio", "wavlm", tmp_path / "off"), mask_time_prob=0.0, mask_feature_prob=0.0)
    same(made("audio", off).mask_vector, saved("audio", "wavlm")[0].masked_spec_embed, limit=0.0)


def test_keys_missing_left_over_and_of_another_shape(saved: Saved, tmp_path: Path) -> None:
    folder = copied(saved, "audio", "wavlm", tmp_path)
    saved_without(folder, "wavlm.encoder.layers.1.attention.k_proj.bias", extra={"odd.weight": torch.zeros(2)})
    with pytest.raises(WeightsError) as caught:
        made("audio", folder)
    assert str(caught.value) == (
        f"the weights in {folder} do not fit: 1 keys are missing, 1 are left over, 0 have another shape (first: "
        "encoder.layers.1.attention.k_proj.bias). Expected a checkpoint of one of the types data2vec-audio, hubert, "
        "wav2vec2, wavlm, whisper; name its folder."
    )
    other = configured(copied(saved, "audio", "hubert", tmp_path / "other"), intermediate_size=80)
    with pytest.raises(WeightsError, match="do not fit") as caught:
        made("audio", other)
    first = "encoder.layers.0.feed_forward.intermediate_dense.bias is [64], expected [80]"
    assert f"0 are left over, 9 have another shape (first: {first})" in str(caught.value)


@pytest.mark.parametrize(("kind", "found"), [("audio", "bert"), ("text", "wavlm"), ("audio", "clap"), ("text", None)])
def test_another_type(kind: Kind, found: str | None, saved: Saved, tmp_path: Path) -> None:
    folder = configured(copied(saved, "text", "bert", tmp_path), model_type=found)
    known = ", ".join(sorted(AUDIO if kind == "audio" else TEXT))
    for act in (lambda: made(kind, folder), lambda: describe(kind, str(folder))):
        with pytest.raises(WeightsError) as caught:
            act()
        assert str(caught.value) == (
            f"{folder} is of the type {found!r}; {kind} encoders can be made of {known}. Choose another checkpoint, "
            "or write a plugin for this one: ser-bench plugins new."
        )


def test_an_adapter_is_refused(saved: Saved, tmp_path: Path) -> None:
    folder = configured(copied(saved, "audio", "wav2vec2", tmp_path), add_adapter=True)
    with pytest.raises(WeightsError, match=r"has an adapter on its encoder \(add_adapter\).*Use a checkpoint without"):
        made("audio", folder)


@pytest.mark.parametrize("kind", ["audio", "text"])
def test_nothing_there(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        made(kind, "pretrained", repo="somebody/something")
    assert str(caught.value) == (
        "somebody/something could not be fetched from the hub. Download it elsewhere and name its folder with hf:DIR."
    )
    with pytest.raises(WeightsError, match=r"there is no folder .*gone; expected a checkpoint of one of the types "):
        made(kind, tmp_path / "gone")
    with pytest.raises(WeightsError, match=r"the folder .* has no config\.json; .* Name its folder with hf:DIR\."):
        made(kind, "random", repo=tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json is no configuration; expected that of one of the types"):
        made(kind, tmp_path)


def _gone(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _torn(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0"')


def _too_many(folder: Path) -> None:
    path = folder / "tokenizer.json"
    larger = Tokenizer.from_file(str(path))
    larger.add_tokens([f"word{n}" for n in range(400)])
    larger.save(str(path))


def _bare(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_gone, r"has no tokenizer\.json, .* Make one .*AutoTokenizer\.from_pretrained\(DIR\)\.save_pretrained\(DIR\)"),
        (_torn, r"tokenizer\.json cannot be read: .* Fetch it again\."),
        (_too_many, r"tokenizer\.json knows \d+ tokens and the model 320\. Expected the two of one checkpoint"),
        (_bare, r"tokenizer\.json makes no token of an empty text, .* Expected a tokenizer that marks start and end"),
    ],
)
def test_unfit_tokenizers(damage: Callable[[Path], None], message: str, saved: Saved, tmp_path: Path) -> None:
    folder = copied(saved, "text", "bert", tmp_path)
    damage(folder)
    with pytest.raises(WeightsError, match=message):
        made("text", folder)


def test_a_tokenizers_own_limit_and_padding_are_off(saved: Saved) -> None:
    ours = made("text", saved("text", "roberta")[1])
    assert len(ours.frontend("I").ids) == 3  # neither padded to 12
    assert len(ours.frontend("so it goes " * 3).ids) > 8  # nor cut to 8
    assert ours.frontend_state()["limit"] == 38
    other = made("text", saved("text", "xlm-roberta")[1])
    assert ours.frontend_state() == other.frontend_state()
    assert ours.frontend_state() != made("text", saved("text", "bert")[1]).frontend_state()


class _Harmful:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("harm"),)


def test_code_in_a_checkpoint_is_not_run(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = copied(saved, "audio", "hubert", tmp_path)
    names = {"AutoConfig": "code.HubertConfig", "AutoModel": "code.HubertModel"}
    configured(folder, auto_map=names, architectures=["HubertModel"])
    (folder / "code.py").write_text("from pathlib import Path\nPath('harm').touch()\n")
    assert made("audio", folder).depth == 3
    assert not (tmp_path / "harm").exists()
    (folder / "model.safetensors").unlink()
    torch.save({"harm": _Harmful()}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        made("audio", folder)
    assert not (tmp_path / "harm").exists()


@pytest.fixture
def cache(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Lay out the hub's cache with two revisions of two repositories, as downloads leave it; the second is main."""
    snapshots = {}
    for kind, type_ in (("audio", "wavlm"), ("text", "distilbert")):
        place = tmp_path / f"models--somebody--{type_}"
        for commit, bias in (("a" * 40, 1.0), ("b" * 40, 2.0)):
            folder = place / "snapshots" / commit
            shutil.copytree(saved(kind, type_)[1], folder)  # type: ignore[arg-type]
            norm = {
                "wavlm": "wavlm.encoder.layers.2.final_layer_norm",
                "distilbert": "distilbert.transformer.layer.2.output_layer_norm",
            }[type_]
            saved_without(folder, extra={f"{norm}.bias": torch.full((48,), bias)})
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("b" * 40)
        snapshots[kind] = place
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return snapshots


@pytest.mark.parametrize(("kind", "type_"), [("audio", "wavlm"), ("text", "distilbert")])
def test_a_revision_of_a_repository(kind: Kind, type_: str, cache: dict[str, Path]) -> None:
    repo = f"somebody/{type_}"
    for revision, expected in ((None, 2.0), ("main", 2.0), ("a" * 40, 1.0), ("b" * 40, 2.0)):
        built = made(kind, "pretrained", repo=repo, revision=revision)
        biases = [p for name, p in built.named_parameters() if name.endswith("2.final_layer_norm.bias")]
        biases += [p for name, p in built.named_parameters() if name.endswith("2.output_layer_norm.bias")]
        assert [float(p[0].detach()) for p in biases] == [expected]
        spec = describe(kind, repo if revision is None else f"{repo}@{revision}")
        commit = "a" * 40 if expected == 1.0 else "b" * 40
        assert (spec.dim, spec.depth, spec.source.repo, spec.source.revision) == (48, 3, repo, commit)
        assert (spec.name, spec.home) == (f"hf:{repo}@{commit[:8]}", None)
    with pytest.raises(WeightsError, match=f"{repo} could not be fetched"):
        made(kind, "pretrained", repo=repo, revision="c" * 40)


def test_a_folder_in_the_place_of_a_repository(saved: Saved) -> None:
    _, folder = saved("audio", "hubert")
    built = made("audio", folder, repo="somebody/never-fetched")
    assert (built.dim, built.depth) == (48, 3)
    assert hub.FAMILIES["audio"]["hubert"] is speech.FAMILIES["hubert"]


@pytest.mark.parametrize("address", ["a b", "one/two/three", "owner/name@", "-x", "owner/../name"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(WeightsError) as caught:
        describe("audio", address)
    assert str(caught.value) == (
        f"{address} is no folder and no repository's name; expected hf:DIR, hf:OWNER/NAME or hf:OWNER/NAME@COMMIT."
    )


def test_a_folder_is_named_without_its_place(saved: Saved, tmp_path: Path) -> None:
    folder = copied(saved, "text", "roberta", tmp_path / "some where (2)")
    spec = describe("text", str(folder))
    assert spec.name == f"hf:{folder.name}" and spec.source == interface.Source() and spec.home == folder
    assert spec.files.keys() == {"config.json", "tokenizer.json"}
    with pytest.raises(WeightsError, match=r"there is no folder /.*/gone; expected a checkpoint of one of the typ"):
        describe("text", "./gone")


def test_names_by_address() -> None:
    host = Host.discover()
    with pytest.raises(PluginError, match=r"audio:hf \(ser-bench .*\) stands for many: any wav2vec2.* as hf:ADDRESS"):
        host.get("audio", "hf")
    with pytest.raises(PluginError, match=r"'hf:x' is the name of 2 plugins\. Say which: audio:hf:x or text:hf:x"):
        host.find("hf:x")
    with pytest.raises(PluginError, match=r"audio plugin 'logmel:x' is not installed\. Did you mean 'logmel'\?"):
        host.get("audio", "logmel:x")
    with pytest.raises(WeightsError, match=r"^audio:hf \(ser-bench .*\): somebody/nothing could not be fetched"):
        host.get("audio", "hf:somebody/nothing")


def test_a_run_of_any_checkpoint_needs_its_folder_no_more(saved: Saved, tmp_path: Path) -> None:
    release = write_release(tmp_path / "release", utterances=40, seconds=(0.4, 0.6))
    heard = copied(saved, "audio", "wav2vec2", tmp_path / "ears")
    read = copied(saved, "text", "distilbert", tmp_path / "eyes")
    folder = runner.run(
        audio=f"hf:{heard}", text=f"hf:{read}", depth=1, corpus=release, out=tmp_path / "run", device="cpu",
        changes={"epochs": 1},
    )  # fmt: skip
    record = (folder / "record.json").read_text()
    assert str(tmp_path) not in record
    told = json.loads(record)["system"]
    assert told["name"] == f"hf:{heard.name}[1]+hf:{read.name}>concat"
    assert [part["name"] for part in told["parts"]] == [f"hf:{heard.name}", f"hf:{read.name}"]
    assert all(part["weights"].startswith("local-") and part["repo"] is None for part in told["parts"])
    wave = np.sin(np.arange(8000, dtype=np.float32) / 20)
    before = trained.load(folder).predict(wave, "well")
    shutil.rmtree(heard.parent)
    shutil.rmtree(read)
    assert trained.load(folder).predict(wave, "well") == before
    again = runner.score(folder, corpus=release, out=tmp_path / "again", device="cpu")
    assert records.read(again / "record.json")["summary"] == json.loads(record)["summary"]
