"""MusicGen in AudioCraft's layout: the weights, codes and samples that other layouts have too."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from alm_cli.app import app
from alm_cli.checkpoints.family import SettingsError
from alm_cli.checkpoints.load import load
from alm_cli.decoding.sampling import Sampling
from alm_cli.errors import ModelError
from alm_cli.files.audio import read_audio
from alm_cli.lm.musicgen import FAMILY, KEYS, MusicGen
from alm_cli.nn.chroma import chroma
from alm_cli.nn.packed import can_pack
from alm_cli.systems.composer import Piece, load_composer
from alm_cli.systems.musicgen_composer import MusicGenComposer
from alm_cli.systems.musicgen_engine import Engine, Work
from alm_cli.values import Audio, Tokens
from tests.codecs.test_encodec_32khz import TINY
from tests.codecs.test_encodec_32khz import audiocraft as audiocraft_codec
from tests.golden import golden
from tests.lm.audiocrafts import (
    CASES,
    MELODY,
    SCALE,
    TEXT,
    Case,
    cfg,
    export,
    exported,
    renamed,
    shapes,
    their_codes,
    written,
)
from tests.lm.magnets import audiocraft, reason, weights, words
from tests.lm.musicgens import CODES, FORMS, Pair, musicgens
from tests.oracles import encodec_pair, header

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore"),
]

FRAMES = 24
TUNE = Audio(np.sin(np.linspace(0, 3000, 70_000, dtype=np.float32) ** 1.1)[None], 32_000)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Pair, Pair]]:
    """The same weights in both layouts, by form."""
    made: dict[str, tuple[Pair, Pair]] = {}

    def both(form: str) -> tuple[Pair, Pair]:
        if form not in made:
            pair = musicgens(tmp_path_factory.mktemp(form), frames=MELODY, **FORMS[form])
            folder = exported(pair, tmp_path_factory.mktemp(form) / "musicgen")
            ours = load_composer(folder, device="cpu")
            assert isinstance(ours, MusicGenComposer)
            made[form] = pair, Pair(pair.theirs, ours, ours.model, folder)
        return made[form]

    return both


@pytest.fixture(params=FORMS)
def both(request: pytest.FixtureRequest, pairs: Any) -> tuple[Pair, Pair]:
    found: tuple[Pair, Pair] = pairs(request.param)
    return found


def piece(**more: Any) -> Piece:
    usual: dict[str, Any] = {"prompt": "calm piano", "seconds": FRAMES / 50, "top_k": 50}
    return Piece(**usual | more)


def our_codes(pair: Pair, asked: Piece) -> Tensor:
    """[S, K, F]."""
    tokens = pair.ours.compose([asked])[0].tokens
    assert tokens is not None
    return torch.from_numpy(tokens.codes).long()


def test_every_weight_is_that_of_the_other_layout(both: tuple[Pair, Pair]) -> None:
    hub, own = (pair.model.state_dict() for pair in both)
    assert hub.keys() == own.keys()
    assert all(torch.equal(hub[name], own[name]) for name in hub)
    sizes = [pair.model.config for pair in both]
    for name in ("layers", "heads", "hidden", "codes", "books", "channels", "melody"):
        assert getattr(sizes[0], name) == getattr(sizes[1], name)


def test_greedy_tokens_are_those_of_transformers(both: tuple[Pair, Pair]) -> None:
    _, own = both
    expected = own.their_codes("calm piano", FRAMES, do_sample=False)
    assert torch.equal(our_codes(own, piece(temperature=0.0)), expected)


@pytest.mark.parametrize("top_k", [50, 250])
def test_sampled_tokens_are_those_of_transformers(both: tuple[Pair, Pair], top_k: int) -> None:
    _, own = both
    expected = own.their_codes("loud drums", FRAMES, 3, top_k=top_k)
    ours = our_codes(own, piece(prompt="loud drums", seed=3, top_k=top_k))
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("form", ["melody", "stereo-melody"])
def test_the_same_melody_has_the_tokens_of_transformers(pairs: Any, form: str) -> None:
    _, own = pairs(form)
    heard = chroma(torch.from_numpy(TUNE.samples[0]))
    expected = own.their_codes("a waltz", FRAMES, 6, chroma=heard)
    assert torch.equal(our_codes(own, piece(prompt="a waltz", seed=6, melody=TUNE)), expected)


def test_pieces_are_those_of_the_other_layout_to_the_last_bit(both: tuple[Pair, Pair]) -> None:
    hub, own = (pair.ours for pair in both)
    past = Audio(np.sin(np.arange(30_000, dtype=np.float32) / 30)[None], 32_000)
    asked = [piece(seed=1), piece(prompt="x", past=past), piece(seconds=0.31, guidance=1.0)]
    for ours, theirs in zip(own.compose(asked), hub.compose(asked), strict=True):
        assert np.array_equal(ours.samples, theirs.samples)
        assert isinstance(ours.tokens, Tokens) and isinstance(theirs.tokens, Tokens)
        assert np.array_equal(ours.tokens.codes, theirs.tokens.codes)
        blocks = list(own.stream(asked[0]))
    assert np.array_equal(np.concatenate(blocks, 1), own.compose(asked[:1])[0].samples)


@torch.no_grad()
def engine_codes(model: MusicGen, case: Case) -> Tensor:
    """codes [K, F] of a case, what was before among them."""
    how = case.how
    greedy = not how.get("use_sampling", True)
    work = Work(
        words=model.words(words(case.words, features=TEXT)[None]) if model.words else Tensor(),
        past=case.prompt,
        frames=case.frames - case.past,
        melody=F.one_hot(torch.tensor(case.pitches), 12).float() if case.pitches else None,
        how=Sampling(temperature=0.0 if greedy else how["temp"], top_k=how["top_k"]),
        guidance=how["cfg_coef"],
        seed=case.seed,
    )
    engine = Engine(model, window=150, stride=90, melody_rate=1.0)
    codes = torch.cat(list(engine.frames([work]))).T
    return torch.cat([case.prompt, codes], 1)


def from_audiocraft(folder: Path, case: Case) -> tuple[MusicGen, dict[str, Tensor]]:
    """The model of a case, without its T5, and the weights."""
    form = {"melody": case.melody, "stereo": case.stereo}
    state = weights(shapes(**form))
    model = load(export(folder, state, written(cfg(**form)))).model
    assert isinstance(model, MusicGen)
    return model, state


@pytest.mark.parametrize("name", CASES)
def test_codes_are_those_of_audiocraft(tmp_path: Path, name: str) -> None:
    model, _ = from_audiocraft(tmp_path, CASES[name])
    theirs = golden("musicgen_audiocraft").made[name].long()
    assert torch.equal(engine_codes(model, CASES[name]), theirs)
    different = sum(len(book.unique()) for book in theirs)
    assert different > len(theirs) * (3 if name == "likeliest" else 8), "nothing is proven"


@pytest.mark.parametrize("form", FORMS)
def test_codes_are_those_of_audiocraft_asked_now(tmp_path: Path, form: str) -> None:
    if why := reason():
        pytest.skip(why)
    tune = tuple(place % 5 for place in range(MELODY)) if "melody" in form else None
    case = Case(45, 11, words=4, past=3, pitches=tune, options={"top_k": 9}, **FORMS[form])
    model, state = from_audiocraft(tmp_path, case)
    with audiocraft() as modules:
        theirs = their_codes(modules, case, state)
    assert torch.equal(engine_codes(model, case), theirs)


SIZES = {"small": (1024, 16, 24), "medium": (1536, 24, 48), "large": (2048, 32, 48)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", SIZES)
def test_published_sizes_fit(form: str, size: str) -> None:
    (wide, heads, layers), hidden = SIZES[size], 4
    found = shapes(dim=wide, layers=layers, scale=hidden, card=2048, text=768, **FORMS[form])
    name = "condition_provider.conditioners.self_wav.chroma.spec.window"
    found |= {name: (16_384,)} if "melody" in form else {}
    told = cfg(
        dim=wide, num_heads=heads, num_layers=layers, hidden_scale=hidden, card=2048, **FORMS[form]
    )
    told["dataset"]["segment_duration"] = 30
    assert FAMILY.sniff is not None
    raw = FAMILY.sniff(found, {"xp.cfg": written(told)})
    assert raw is not None
    config = FAMILY.read_config(raw)
    assert (config.dimension, config.heads, config.layers) == SIZES[size]
    assert (config.hidden, config.codes, config.seconds) == (4 * wide, 2048, 30)
    assert config.melody == (235 if "melody" in form else 0)
    with torch.device("meta"):
        model = FAMILY.model(config)
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(found, ours)} == set(ours)
    if (form, size) in {("mono", "small"), ("melody", "medium"), ("stereo", "large")}:
        fixture = {"mono": "small", "melody": "melody", "stereo": "stereo_large"}[form]
        hub = header(f"musicgen_{fixture}")
        own = sum(
            prod(shape)
            for key, shape in hub.items()
            if "text_enc" not in key and "positions" not in key
        )
        assert sum(map(prod, ours.values())) == own


def test_settings_of_audiogen_are_read(tmp_path: Path) -> None:
    """Which is the same network, on other sounds: 16 kHz, ten seconds, a larger T5."""
    told = cfg() | {"sample_rate": 16_000, "solver": "audiogen"}
    told["dataset"]["segment_duration"] = 10
    told["conditioners"]["description"]["t5"]["name"] = "t5-large"
    config = load(export(tmp_path, weights(shapes()), written(told))).config
    assert (config.reader, config.seconds, config.melody) == ("t5-large", 10, 0)


def test_names_are_those_of_the_writer(pairs: Any) -> None:
    for form, told in FORMS.items():
        theirs = renamed(pairs(form)[0].theirs.state_dict())
        found = shapes(card=CODES, text=16, scale=SCALE, **told)
        window = "condition_provider.conditioners.self_wav.chroma.spec.window"
        assert theirs.keys() - {window} == found.keys()
        assert all(tuple(theirs[name].shape) == shape for name, shape in found.items())


def test_trap_the_codec_may_lie_there_itself(pairs: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(pairs("stereo")[1].folder, tmp_path / "copy")
    shutil.rmtree(folder / "encodec_32khz")
    sizes = TINY | {"codebook_size": CODES, "target_bandwidths": [108.0]}
    audiocraft_codec(folder, encodec_pair(tmp_path / "codec", **sizes), rate=600)
    made = load_composer(folder, device="cpu")
    assert (made.rate, made.channels, made.codec) == (600, 2, "encodec-0khz")
    (music,) = made.compose([piece(top_k=50)])
    assert music.samples.shape == (2, FRAMES * 12)
    assert isinstance(music.tokens, Tokens)
    ours = our_codes(pairs("stereo")[1], piece(top_k=50))
    assert np.array_equal(music.tokens.codes, ours.numpy())


def test_trap_windows_are_as_long_as_what_it_was_trained_on(pairs: Any) -> None:
    hub, own = (pair.ours._engine for pair in pairs("mono"))
    assert (hub.window, hub.stride) == (1500, 900)
    assert (own.window, own.stride) == (150, 90)


def test_half_floats_are_packed_as_in_the_other_layout(tmp_path: Path) -> None:
    pair = musicgens(tmp_path / "hub", half=True)
    folder = exported(pair, tmp_path / "own", half=True)
    for dtype in ("float32", "int8") if can_pack() else ("float32",):
        made = [
            load_composer(source, device="cpu", dtype=dtype) for source in (pair.folder, folder)
        ]
        hub, own = (composer.compose([piece(seed=2)])[0] for composer in made)
        assert np.array_equal(hub.samples, own.samples)


def test_a_file_may_be_named_instead_of_its_folder(pairs: Any) -> None:
    _, own = pairs("mono")
    made = load_composer(own.folder / "state_dict.bin", device="cpu")
    assert made.weights_sha256 == own.ours.weights_sha256
    assert made.name == own.ours.name == "musicgen"


def test_the_command_tells_by_itself_what_is_in_a_folder(pairs: Any, tmp_path: Path) -> None:
    made = []
    for pair in pairs("mono"):
        out = tmp_path / f"{pair.folder.name}.wav"
        words = ["generate-music", "calm piano", "-m", str(pair.folder), "-o", str(out)]
        result = CliRunner().invoke(app, [*words, "--duration=0.2", "--seed=3", "--device=cpu"])
        assert result.exit_code == 0, result.output
        made.append(read_audio(out))
    assert made[0].rate == made[1].rate == 32_000
    assert np.array_equal(made[0].samples, made[1].samples) and made[0].length == 6400


def changed(told: dict[str, Any], where: str, value: object) -> dict[str, Any]:
    """Settings with another value; None in place of a list of names: without it."""
    told = copy.deepcopy(told)
    *path, last = where.split("/")
    section = told
    for name in path:
        section = section[name]
    section[last] = value
    return told


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("transformer_lm/bias_ff", True),
        ("transformer_lm/causal", False),
        ("transformer_lm/norm_first", False),
        ("transformer_lm/positional_embedding", "rope"),
        ("transformer_lm/num_heads", 5),
        ("transformer_lm/num_layers", 99_999),
        ("transformer_lm/n_q", 5_000),
        ("transformer_lm/card", 10**8),
        ("transformer_lm/novelty", 3),
        ("codebooks_pattern/modeling", "parallel"),
        ("codebooks_pattern/delay/delays", [0, 1, 2, 4]),
        ("codebooks_pattern/delay/flatten_first", 5),
        ("codebooks_pattern/delay/empty_initial", 1),
        ("interleave_stereo_codebooks/use", True),
        ("channels", 9),
        ("fuser/prepend", ["description"]),
        ("fuser/cross", []),
        ("fuser/sum", ["description"]),
        ("fuser/cross_attention_pos_emb", True),
        ("conditioners/description/model", "clap"),
        ("conditioners/description/t5/name", "../../t5 base"),
        ("conditioners/description/t5/finetune", True),
        ("conditioners/description/t5/normalize_text", True),
        ("conditioners/genre", {"model": "lut", "lut": {"n_bins": 3}}),
        ("dataset/segment_duration", 0),
        ("compression_model_n_q", 2),
    ],
)
def test_settings_that_are_not_built_are_refused(tmp_path: Path, where: str, value: object) -> None:
    told = changed(cfg(), where, value)
    export(tmp_path, weights(shapes()), written(told))
    named = where.replace("/", ".").removesuffix(".use")
    with pytest.raises(ModelError, match=rf"xp\.cfg: .*{re.escape(named)}") as refusal:
        load(tmp_path)
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("sample_rate", 44_100),
        ("n_chroma", 24),
        ("radix2_exp", 12),
        ("argmax", False),
        ("winhop", 2048),
    ],
)
def test_other_melodies_are_refused(tmp_path: Path, where: str, value: object) -> None:
    told = cfg(melody=True)
    chroma_stem = told["conditioners"]["self_wav"]["chroma_stem"]
    chroma_stem[where] = value
    export(tmp_path, weights(shapes(melody=True)), written(told))
    with pytest.raises(SettingsError, match=f"chroma_stem.{where}"):
        load(tmp_path)


def test_a_melody_of_which_nothing_is_said_is_not_that_of_the_loudest(tmp_path: Path) -> None:
    told = cfg(melody=True)
    del told["conditioners"]["self_wav"]["chroma_stem"]["argmax"]
    export(tmp_path, weights(shapes(melody=True)), written(told))
    with pytest.raises(SettingsError, match="chroma_stem.argmax is False"):
        load(tmp_path)


def test_of_two_channels_the_books_lag_together(tmp_path: Path) -> None:
    told = cfg(stereo=True)
    for delays in (list(range(8)), [0, 1, 2, 3], None):
        told["codebooks_pattern"]["delay"]["delays"] = delays
        export(tmp_path, weights(shapes(stereo=True)), written(told))
        with pytest.raises(SettingsError, match="delays is .* should be .0, 0, 1, 1, 2, 2, 3, 3"):
            load(tmp_path)
    # Of one channel they need not be told, nor what they are called.
    told = cfg()
    told["codebooks_pattern"] = {"modeling": None}
    told["transformer_lm"]["q_modeling"] = "delay"
    load(export(tmp_path, weights(shapes()), written(told)))


def test_a_style_is_no_melody(tmp_path: Path) -> None:
    told = cfg(melody=True)
    told["conditioners"]["self_wav"] = {"model": "style", "style": {"model_name": "mert"}}
    export(tmp_path, weights(shapes(melody=True)), written(told))
    with pytest.raises(ModelError, match="self_wav.model is 'style'"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["", "\t\x00{[ no: yaml", "a: 1\n", 3, None, "x" * 2_000_000])
def test_settings_that_are_none_are_told(tmp_path: Path, text: object) -> None:
    export(tmp_path, weights(shapes()), text)
    with pytest.raises(ModelError, match="without its settings") as refusal:
        load_composer(tmp_path, device="cpu")
    assert "export_lm" in str(refusal.value.hint)


def test_plain_weights_without_settings_are_told(tmp_path: Path) -> None:
    torch.save({"best_state": weights(shapes())}, tmp_path / "state_dict.bin")
    with pytest.raises(ModelError, match="xp.cfg is missing"):
        load_composer(tmp_path, device="cpu")


def test_other_kinds_are_left_to_others(tmp_path: Path) -> None:
    told = cfg() | {"lm_model": "somebody_elses"}
    with pytest.raises(ModelError, match="of no known kind"):
        load(export(tmp_path, weights(shapes()), written(told)))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("emb.3.weight", None, r"embeddings\.3\.weight: missing"),
        ("emb.0.weight", (49,), "table"),
        ("linears.2.weight", (48, 31), "48x31, where the model has 48x32"),
        ("transformer.layers.1.linear1.weight", (3, 3), "3x3, where the model has 64x32"),
        ("transformer.layers.0.self_attn.in_proj_weight", (95, 32), "unknown, 95x32"),
        ("transformer.layers.0.self_attn.in_proj_bias", (96,), "unknown"),
        ("condition_provider.conditioners.self_wav.output_proj.bias", (32,), "no place"),
        ("condition_provider.conditioners.description.output_proj.bias", None, r"words\.bias: mis"),
    ],
)
def test_tensors_that_misfit_are_refused(
    tmp_path: Path, name: str, shape: tuple[int, ...] | None, message: str
) -> None:
    state = weights(shapes())
    state.pop(name, None)
    if shape is not None:
        state[name] = torch.zeros(shape)
    with pytest.raises(ModelError, match=message):
        load(export(tmp_path, state, written(cfg())))


class Evil:
    """What runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("run-by-a-checkpoint"),))


@pytest.mark.parametrize("file", ["state_dict.bin", "compression_state_dict.bin"])
def test_a_checkpoint_that_would_run_code_is_refused(
    pairs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    folder = shutil.copytree(pairs("mono")[1].folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    torch.save({"best_state": weights(shapes()), "xp.cfg": Evil()}, folder / file)
    with pytest.raises(ModelError, match="not a plain file of weights") as refusal:
        load_composer(folder, device="cpu")
    assert refusal.value.hint and not Path("run-by-a-checkpoint").exists()


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("compression_state_dict.bin", "compression_state_dict.bin: missing"),
        ("encodec_32khz", "which alm does not know"),
        ("t5-base/tokenizer.json", "no tokenizer"),
        ("t5-base/model.safetensors", "no weights"),
    ],
)
def test_what_is_missing_is_named(pairs: Any, tmp_path: Path, gone: str, message: str) -> None:
    folder = shutil.copytree(pairs("mono")[1].folder, tmp_path / "copy")
    (shutil.rmtree if (folder / gone).is_dir() else Path.unlink)(folder / gone)
    with pytest.raises(ModelError, match=message) as refusal:
        load_composer(folder, device="cpu")
    assert refusal.value.hint


def test_another_t5_or_codec_is_refused(pairs: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(pairs("mono")[1].folder, tmp_path / "copy")
    encodec_pair(folder / "encodec_32khz", **(TINY | {"codebook_size": 16}))
    with pytest.raises(ModelError, match="not the codec"):
        load_composer(folder, device="cpu")
    shutil.rmtree(folder / "t5-base")
    shutil.copytree(folder / "encodec_32khz", folder / "t5-base")
    with pytest.raises(ModelError, match="not the t5-base"):
        load_composer(folder, device="cpu")
