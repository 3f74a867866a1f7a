"""Weights that do not fit are refused with what was given, expected, and what to do next."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from plugins.parts import part, saved_without
from transformers import BertConfig, BertModel, HubertConfig, HubertModel

from ser_bench.errors import WeightsError
from ser_bench.host import host
from ser_bench.interface import Kind
from ser_bench.system import build, count, parse_weights
from ser_bench_plugins.pretrained import shipped

PRETRAINED = [
    (offer.spec.kind, offer.spec.name, offer.spec.source.repo)
    for kind in ("audio", "text")
    for offer in host().usable(kind)
    if offer.spec.source.repo
]
SCRATCH = [
    (offer.spec.kind, offer.spec.name)
    for kind in ("audio", "text")
    for offer in host().usable(kind)
    if not offer.spec.source.repo
]


@pytest.fixture(scope="module")
def tinybert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tinybert")
    BertModel(BertConfig(**shipped("tinybert"))).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(tinybert: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tinybert, tmp_path / "weights")


def configured(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_random_is_full_size_and_tiny_is_small() -> None:
    assert PRETRAINED
    for kind, name, _ in PRETRAINED:
        spec = host().get(kind, name).spec
        with torch.device("meta"):
            full = part(kind, name, "random")
        tiny = part(kind, name, "tiny")
        assert (full.dim, full.depth) == (spec.dim, spec.depth)
        assert tiny.dim == 32
        assert sum(p.numel() for p in full.parameters()) > 1e7
        tokens = 30522 * 32 if kind == "text" else 0
        assert sum(p.numel() for p in tiny.parameters()) - tokens < 2e5


@pytest.mark.parametrize(
    ("name", "total", "frozen", "millions"),
    # The paper's Table 1 gives millions; the convolutional encoder is frozen.
    [
        ("w2v2_l_robust_p", 165_336_707, 4_210_176, 165),
        ("hubert_base", 94_964_611, 4_200_448, 95),
        ("distilhubert", 24_084_867, 4_200_448, 24),
        ("w2v2_l_robust_p_tinybert", 179_908_787, 4_210_176, 180),
        ("hubert_base_tinybert", 109_456_819, 4_200_448, 109),
        ("distilhubert_tinybert", 38_577_075, 4_200_448, 39),
    ],
)
def test_parameters_of_the_papers_systems(name: str, total: int, frozen: int, millions: int) -> None:
    plan = host().plan(name)
    with torch.device("meta"):
        system = build(plan, dict.fromkeys(plan.parts, "random"), plan.recipe)
    assert count(system) == (total, total - frozen)
    assert round(total / 1e6) == millions
    assert sum(p.numel() for p in system.parameters() if p.device.type != "meta") < 2000


@pytest.mark.parametrize(
    ("name", "expected"),
    # Published by the library's own count of the hub's checkpoints, less the pooler (590,592) for BERT.
    [("hubert_base", 94_371_712), ("wavlm_base_plus", 94_381_936), ("bert_base", 109_482_240 - 590_592)],
)
def test_parameters_of_encoders(name: str, expected: int) -> None:
    kind: Kind = "text" if name == "bert_base" else "audio"
    with torch.device("meta"):
        encoder = part(kind, name, "random")
    assert sum(p.numel() for p in encoder.parameters()) == expected


def test_parameters_of_whisper_base_are_those_of_its_checkpoint() -> None:
    with torch.device("meta"):
        encoder = part("audio", "whisper_base", "random")
    frozen = sum(p.numel() for p in encoder.parameters() if not p.requires_grad)
    assert sum(p.numel() for p in encoder.parameters()) == 20_590_592  # 20.59 M in the encoder of OpenAI's base model
    assert frozen == 80 * 512 * 3 + 512 + 512 * 512 * 3 + 512 + 1500 * 512  # both convolutions and the positions


@pytest.mark.parametrize(("kind", "name", "repo"), PRETRAINED)
def test_without_the_hub(kind: Kind, name: str, repo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        part(kind, name, "pretrained")
    assert str(caught.value) == (
        f"{repo} could not be fetched from the hub. Download it elsewhere and name its folder with "
        "--weights PART=DIR, or use --weights random to try the system without its weights."
    )


@pytest.mark.parametrize(("kind", "name", "repo"), PRETRAINED)
def test_no_folder_and_no_configuration(kind: Kind, name: str, repo: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(WeightsError) as caught:
        part(kind, name, gone)
    assert str(caught.value) == (
        f"there is no folder {gone}; expected a checkpoint of {repo}. Name its folder with --weights PART=DIR."
    )
    with pytest.raises(WeightsError) as caught:
        part(kind, name, tmp_path)
    assert str(caught.value).startswith(f"the folder {tmp_path} has no config.json; expected a checkpoint of {repo}.")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=rf"config\.json is no configuration; expected that of {repo}"):
        part(kind, name, tmp_path)


@pytest.mark.parametrize(("kind", "name"), SCRATCH)
def test_no_weights_for_what_starts_from_scratch(kind: Kind, name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"{name} is trained from scratch and takes no weights; .* Leave out"):
        part(kind, name, tmp_path)


@pytest.mark.parametrize(("kind", "name", "repo"), PRETRAINED)
def test_a_folder_without_tensors(kind: Kind, name: str, repo: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(shipped(name)))
    with pytest.raises(WeightsError) as caught:
        part(kind, name, tmp_path)
    assert f"the weights in {tmp_path} cannot be loaded: " in str(caught.value)
    assert f"Expected model.safetensors (or pytorch_model.bin) of {repo}; fetch it again." in str(caught.value)


def _torn(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])


class _Harmful:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("harm"),)


def _pickled_code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"harm": _Harmful()}, folder / "pytorch_model.bin")


@pytest.mark.parametrize("damage", [_torn, _pickled_code])
def test_damaged_tensors(copy: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    damage(copy)
    with pytest.raises(WeightsError, match=r"cannot be loaded: .*fetch it again"):
        part("text", "tinybert", copy)
    assert not (copy / "harm").exists()


def test_pickled_code_would_have_run(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    _pickled_code(copy)
    torch.load("pytorch_model.bin", weights_only=False)
    assert (copy / "harm").exists()


def test_keys_missing(copy: Path) -> None:
    saved_without(copy, "encoder.layer.3.output.dense.bias", "embeddings.LayerNorm.weight")
    with pytest.raises(WeightsError) as caught:
        part("text", "tinybert", copy)
    assert str(caught.value) == (
        f"the weights in {copy} do not fit: 2 keys are missing, 0 are left over, 0 have another shape (first: "
        "embeddings.LayerNorm.weight). Expected a checkpoint of huawei-noah/TinyBERT_General_4L_312D; name its folder."
    )


def test_keys_left_over(copy: Path) -> None:
    saved_without(copy, extra={"adapter.weight": torch.zeros(2)})
    message = r"0 keys are missing, 1 are left over, 0 have another shape \(first: adapter.weight\)"
    with pytest.raises(WeightsError, match=message):
        part("text", "tinybert", copy)


def test_keys_left_over_in_a_layer_that_is_kept_and_in_one_that_is_not(copy: Path) -> None:
    saved_without(copy, extra={"encoder.layer.2.adapter.weight": torch.zeros(2), "cls.head.weight": torch.zeros(2)})
    assert part("text", "tinybert", copy, depth=2).depth == 2
    message = r"1 are left over, 0 have another shape \(first: encoder\.layer\.2\.adapter\.weight\)"
    with pytest.raises(WeightsError, match=message):
        part("text", "tinybert", copy, depth=3)


def test_another_vocabulary(copy: Path) -> None:
    (copy / "vocab.txt").write_text("[PAD]\n[UNK]\nhello\n")
    message = r"vocab\.txt is not BERT's uncased vocabulary, which this encoder reads\. Expected its 30,522 entries"
    with pytest.raises(WeightsError, match=message):
        part("text", "tinybert", copy)
    configured(copy, vocab_size=28996)
    (copy / "vocab.txt").unlink()
    with pytest.raises(WeightsError, match="vocab_size is 28996, expected 30522"):
        part("text", "tinybert", copy)


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"])
def test_another_architecture(copy: Path, key: str) -> None:
    expected = shipped("tinybert")[key]
    with pytest.raises(WeightsError) as caught:
        part("text", "tinybert", configured(copy, **{key: expected * 2}))
    assert str(caught.value) == (
        f"the weights in {copy} are of another architecture: {key} is {expected * 2}, expected {expected}. "
        "Expected a checkpoint of huawei-noah/TinyBERT_General_4L_312D; name its folder."
    )


def test_another_computation_over_the_same_shapes(copy: Path) -> None:
    with pytest.raises(WeightsError, match="of another architecture: hidden_act is 'relu', expected 'gelu'"):
        part("text", "tinybert", configured(copy, hidden_act="relu", initializer_range=0.5))


@pytest.mark.parametrize(
    ("name", "said"),
    [("distilhubert", "model_type is 'bert', expected 'hubert'"), ("whisper_base", "model_type is 'bert', expected")],
)
def test_text_weights_for_an_audio_encoder(tinybert: Path, name: str, said: str) -> None:
    with pytest.raises(WeightsError, match=f"of another architecture: {said}"):
        part("audio", name, tinybert)


def test_hubert_base_is_not_bent_into_distilhubert(tmp_path: Path) -> None:
    HubertConfig(**(shipped("distilhubert") | {"num_hidden_layers": 12})).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="num_hidden_layers is 12, expected 2"):
        part("audio", "distilhubert", tmp_path)


@pytest.mark.shared
def test_minilm_is_neither_tinybert_nor_whisper(shared: Path) -> None:
    folder = shared / "models" / "all-MiniLM-L6-v2"
    with pytest.raises(WeightsError, match=r"hidden_size is 384, expected 312; .*num_hidden_layers is 6, expected 4\."):
        part("text", "tinybert", folder)
    with pytest.raises(WeightsError, match=r"model_type is 'bert', expected 'whisper'.*openai/whisper-base"):
        part("audio", "whisper_base", folder)


@pytest.mark.parametrize("kind", ["audio", "text"])
def test_more_depth_than_there_is(kind: Kind) -> None:
    for offer in host().usable(kind):
        has = offer.spec.depth
        for depth in (has + 1, -1):
            message = f"depth {depth} was asked of {offer.spec.name}, which has {has} layers. Give 0 to {has}."
            with pytest.raises(WeightsError) as caught:
                part(kind, offer.spec.name, "random", depth=depth)
            assert str(caught.value) == message


def test_a_checkpoint_goes_round(tinybert: Path) -> None:
    reference = BertModel.from_pretrained(tinybert)
    loaded = part("text", "tinybert", tinybert).model.state_dict()
    own = {name: value for name, value in reference.state_dict().items() if not name.startswith("pooler.")}
    assert loaded.keys() == own.keys()
    assert all(torch.equal(loaded[name], own[name]) for name in own)


def test_words_of_the_command_line(tmp_path: Path) -> None:
    both, one = host().plan("distilhubert_tinybert"), host().plan("distilhubert")
    assert parse_weights([], both) == {"audio": "pretrained", "text": "pretrained"}
    assert parse_weights(["tiny", f"text={tmp_path}"], both) == {"audio": "tiny", "text": tmp_path}
    assert parse_weights([str(tmp_path)], one) == {"audio": tmp_path}
    cases = {
        (
            f"{tmp_path}",
        ): f"--weights {tmp_path} names one folder, but distilhubert_tinybert has the parts audio and text; "
        "say which: audio=DIR text=DIR.",
        ("sound=tiny",): "--weights sound=tiny names the part 'sound'; distilhubert_tinybert has audio, text.",
        ("audio=gone",): "--weights audio=gone: there is no folder gone; give a folder, pretrained, random or tiny.",
    }
    for given, message in cases.items():
        with pytest.raises(WeightsError) as caught:
            parse_weights(given, both)
        assert str(caught.value) == message
    with pytest.raises(WeightsError, match="weights were given for text, but distilhubert has audio"):
        build(one, {"audio": "tiny", "text": "tiny"}, one.recipe)


def test_a_whole_hubert_is_the_librarys_class() -> None:
    with torch.device("meta"):
        ours = part("audio", "distilhubert", "random")
        theirs = HubertModel(HubertConfig(**shipped("distilhubert")))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
