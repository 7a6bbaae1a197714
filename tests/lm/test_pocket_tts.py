"""pocket-tts against `transformers` and the package `pocket-tts`, with the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.checkpoints.family import SettingsError
from alm_cli.checkpoints.load import build, load
from alm_cli.checkpoints.reader import Checkpoint, open_checkpoint, read_json
from alm_cli.codecs import pocket_vae
from alm_cli.codecs.pocket_vae import PocketVae, PocketVaeConfig
from alm_cli.errors import ModelError
from alm_cli.lm.pocket_tts import FAMILY, KEYS, PocketTts, PocketTtsConfig
from alm_cli.nn.state import State
from tests.fixtures.golden import make_pocket_kyutai as kyutai
from tests.laws import every, streaming_equals_whole
from tests.oracles import header
from tests.pocket import HOP, golden, hub_models, kyutai_folder, snr_db

pytestmark = pytest.mark.oracle

VARIANTS = ("first", "usual", "drifting", "pointwise")
HEADERS = {  # as published -> layers, heads, kind of head, features of a frame that is heard
    "pocket_tts": (6, 16, "lsd", 32),
    "pocket_tts_2026_01": (6, 16, "lsd", 512),
    "pocket_tts_24l": (24, 16, "lsd", 32),
    "pocket_tts_18m": (8, 8, "drifting", 32),
    "pocket_tts_7m": (8, 8, "drifting", 32),
    "pocket_tts_2m": (8, 3, "pointwise", 32),
}


def frames(model: PocketTts, state: State, tokens: tuple[int, ...], count: int, how: Any) -> Tensor:
    """The latents [1, L, F] that follow tokens; `how` is the seed and the temperature."""
    noise, size = torch.Generator().manual_seed(how[0]), how[1] ** 0.5
    times, made = model.head.times(1), []
    condition, _ = model.read(torch.tensor([tokens]), state)
    for _ in range(count):
        drawn = torch.randn(1, model.latent, generator=noise) * size
        latent = model.head(condition, drawn, times)
        made.append(model.sounding(latent))
        condition, _ = model.step(latent, state)
    return torch.stack(made, -1)


def theirs(model: Any, voice: Tensor, tokens: tuple[int, ...], count: int, how: Any) -> Tensor:
    """The same [1, L, F] from the library; voice [1, F, L]."""
    ids = torch.tensor([[4002] + [4000] * voice.shape[1] + [*tokens, 4003]])
    torch.manual_seed(how[0])
    made = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        audio_prompt_latents=voice,
        do_sample=True,
        temperature=how[1],
        max_new_tokens=count,
        eos_threshold=1e9,
        frames_after_eos=2,
        return_dict_in_generate=True,
    )
    latents: Tensor = made.audio_latents.mT
    return latents


def opened(folder: Path) -> PocketVae:
    """The autoencoder in the files of the hub's layout."""
    config = PocketVaeConfig.from_hub(read_json(folder / "config.json"))
    made = build(pocket_vae.FAMILY, config, open_checkpoint(folder))
    assert isinstance(made, PocketVae)
    return made


@torch.no_grad()
@pytest.mark.parametrize("flow", ["lsd", "drifting"])
def test_latents_are_those_of_transformers(flow: str, tmp_path: Path) -> None:
    reference, _ = hub_models(flow)
    reference.save_pretrained(tmp_path)
    ours = load(tmp_path).model
    assert isinstance(ours, PocketTts) and ours.head.kind == flow
    voice, tokens, state = torch.randn(1, 12, 32), (5, 17, 100, 3999, 42), State()
    wanted = theirs(reference, voice, tokens, 30, (7, 0.7))
    ours.listen(voice.mT, state)
    found = frames(ours, state, tokens, 30, (7, 0.7))
    assert wanted.std(-1).min() > 0.1, "frames that do not vary prove nothing"
    assert snr_db(wanted, found) > 90


@torch.no_grad()
def test_latents_are_those_of_transformers_at_the_published_sizes() -> None:
    from transformers import PocketTTSConfig, PocketTTSForConditionalGeneration

    torch.manual_seed(0)
    reference = PocketTTSForConditionalGeneration(PocketTTSConfig()).eval()
    reference.model.audio_latent_proj.weight.mul_(3)
    tensors = reference.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    ours = build(FAMILY, PocketTtsConfig.from_hub({}), Checkpoint(shapes, (), tensors.__getitem__))
    assert isinstance(ours, PocketTts)
    voice, tokens, state = torch.randn(1, 20, 32), tuple(range(100, 112)), State()
    ours.listen(voice.mT, state)
    wanted = theirs(reference, voice, tokens, 4, (3, 0.7))
    assert snr_db(wanted, frames(ours, state, tokens, 4, (3, 0.7))) > 100


@torch.no_grad()
def test_the_autoencoder_is_that_of_transformers(tmp_path: Path) -> None:
    _, reference = hub_models()
    reference.save_pretrained(tmp_path)
    ours, wave = opened(tmp_path), torch.randn(1, 1, 5 * 1920 + 100)
    heard = reference.encode(F.pad(wave, (0, -wave.shape[-1] % 1920))).latents.mT
    assert snr_db(heard, ours.encode(wave)) > 100
    latents = torch.randn(1, 32, 9)
    assert snr_db(reference.decode(latents.mT).audio_values, ours.decode(latents)) > 100
    assert ours.hears and ours.hop == 1920


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_is_that_of_the_package(variant: str, tmp_path: Path) -> None:
    tensors, _ = golden()
    folder = kyutai_folder(tmp_path / "model", variant)
    ours, checkpoint = load(folder).model, open_checkpoint(folder)
    assert isinstance(ours, PocketTts)
    settings = pocket_vae.bundled(checkpoint.shapes)
    assert settings is not None
    codec = build(pocket_vae.FAMILY, PocketVaeConfig.from_hub(settings), checkpoint)
    assert isinstance(codec, PocketVae) and codec.hop == HOP
    heard = codec.encode(kyutai.clip(kyutai.VOICE))
    assert snr_db(tensors[f"{variant}/heard"], heard) > 100
    state = State()
    ours.listen(heard, state)
    for index, block in enumerate(ours.backbone.blocks):
        cache = tensors[f"{variant}/voice/transformer.layers.{index}.self_attn/cache"]
        kept = state.get(block.attention, lambda: None).kept
        assert snr_db(cache.transpose(2, 3), kept) > 100
    how = kyutai.SEED, kyutai.TEMPERATURE
    found = frames(ours, state, kyutai.TOKENS, kyutai.FRAMES, how)
    wanted = tensors[f"{variant}/latents"]
    assert wanted.std(-1).min() > 0.1 and snr_db(wanted, found) > 90
    assert snr_db(tensors[f"{variant}/wave"], codec.decode(wanted)) > 100


@torch.no_grad()
def test_trap_the_layouts_have_queries_and_keys_in_another_order(tmp_path: Path) -> None:
    """The same names would load, and the positions would turn the wrong features."""
    ours = load(kyutai_folder(tmp_path / "pairs")).model
    other = load(tmp_path / "pairs").model
    assert isinstance(ours, PocketTts) and isinstance(other, PocketTts)
    assert ours.rotary == "pairs"
    voice = torch.randn(1, 32, 9)
    order = torch.arange(64).view(32, 2).T.flatten()
    for block in other.backbone.blocks:
        block.attention.rotary.style = "halves"
    wanted, wrong = (said(model, voice) for model in (ours, other))
    assert snr_db(wanted, wrong) < 20
    for block in other.backbone.blocks:
        for part in (block.attention.q, block.attention.k):
            part.weight.data = part.weight.data.view(-1, 64, part.weight.shape[1])[
                :, order
            ].flatten(0, 1)
        block.attention.train(False)
    assert snr_db(wanted, said(other, voice)) > 100


def said(model: PocketTts, voice: Tensor) -> Tensor:
    """The condition of the first frame."""
    state = State()
    model.listen(voice, state)
    return model.read(torch.tensor([[1, 2, 3]]), state)[0]


@torch.no_grad()
def test_trap_the_start_before_a_voice_is_where_the_checkpoint_has_one(tmp_path: Path) -> None:
    lengths = {}
    for variant in ("first", "usual"):
        model, state = load(kyutai_folder(tmp_path / variant, variant)).model, State()
        assert isinstance(model, PocketTts)
        model.listen(torch.randn(1, model.heard, 9), state)
        lengths[variant] = state.get(model.backbone.blocks[0].attention, lambda: None).length
    assert lengths == {"first": 9, "usual": 10}


@torch.no_grad()
def test_trap_the_time_norm_does_not_centre(tmp_path: Path) -> None:
    model = load(kyutai_folder(tmp_path / "one")).model
    assert isinstance(model, PocketTts)
    clock = model.head.clocks[0]
    clock.up.weight.zero_(), clock.up.bias.zero_(), clock.down.weight.zero_()
    clock.down.bias.copy_(torch.linspace(5, 6, len(clock.down.bias)))
    clock.scale.fill_(1)
    found = clock(torch.zeros(1, 1))[0]
    torch.testing.assert_close(found, clock.down.bias / (clock.down.bias.var() + 1e-5).sqrt())
    assert found.min() > 10


@torch.no_grad()
def test_steps_of_the_flow_are_those_of_transformers(tmp_path: Path) -> None:
    reference, _ = hub_models()
    reference.save_pretrained(tmp_path)
    head = load(tmp_path).model.head
    condition, noise = torch.randn(3, 32), torch.randn(3, 32)
    for steps in (1, 2, 5):
        wanted = reference.sample_latent(condition, noise, steps)
        assert snr_db(wanted, head(condition, noise, head.times(steps))) > 100


@pytest.mark.parametrize("name", HEADERS)
def test_the_published_checkpoints_fit(name: str) -> None:
    shapes = header(name)
    assert FAMILY.sniff is not None
    settings = FAMILY.sniff(shapes, {})
    assert settings is not None
    config = PocketTtsConfig.from_hub(settings)
    told = pocket_vae.bundled(shapes)
    assert told is not None
    codec = PocketVaeConfig.from_hub(told)
    with torch.device("meta"):
        models = PocketTts(config), PocketVae(codec)
    for model, keys in zip(models, (KEYS, pocket_vae.KEYS), strict=True):
        keys.plan(shapes, {key: tuple(x.shape) for key, x in model.state_dict().items()})
    assert (config.layers, config.heads, config.flow.kind, config.heard) == HEADERS[name]
    assert config.texts == 4000 and codec.rate == 24_000 and models[1].hop == 1920
    small = name.endswith("m")
    assert codec.decoder.context.window == (50 if small else 250)
    assert codec.decoder.context.heads == (4 if small else 8)
    assert codec.encoder is not None and codec.encoder.context.window == 250


def test_a_damaged_checkpoint_is_told_or_not_taken() -> None:
    shapes = header("pocket_tts_2m")
    assert FAMILY.sniff is not None
    for key in shapes:  # of any tensor too few or too short, nothing but an answer or None
        if ".0." in key or "layers" not in key:
            for damaged in ({k: s for k, s in shapes.items() if k != key}, shapes | {key: ()}):
                FAMILY.sniff(damaged, {})
                pocket_vae.bundled(damaged)


def test_checkpoints_of_others_are_not_taken() -> None:
    assert FAMILY.sniff is not None
    for name in ("mimi_kyutai", "encodec_24khz"):
        assert FAMILY.sniff(header(name), {}) is None
        assert pocket_vae.bundled(header(name)) is None


HOSTILE = (
    {"hidden_act": "relu"},
    {"num_key_value_heads": 3},
    {"audio_prompt_bos_token_id": 9999},
    {"rope_parameters": {"rope_type": "linear"}},
    {"flow_head_config": {"flow_type": "matching"}},
    {"flow_head_config": {"surprise": 1}},
    {"num_hidden_layers": 10**9},
    {"attention_bias": True},
    {"unheard_of": 1},
)


@pytest.mark.parametrize("changed", HOSTILE, ids=lambda changed: json.dumps(changed)[1:30])
def test_settings_that_are_not_built_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        PocketTtsConfig.from_hub(changed)


@pytest.mark.parametrize(
    "changed",
    [{"pad_mode": "reflect"}, {"use_causal_conv": False}, {"audio_channels": 2}, {"x": 1}],
)
def test_autoencoders_that_are_not_built_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        PocketVaeConfig.from_hub(changed)


@torch.no_grad()
def test_any_chunking_of_wave_and_latents_gives_the_same(tmp_path: Path) -> None:
    folder = kyutai_folder(tmp_path / "one")
    checkpoint = open_checkpoint(folder)
    settings = pocket_vae.bundled(checkpoint.shapes)
    assert settings is not None
    codec = build(pocket_vae.FAMILY, PocketVaeConfig.from_hub(settings), checkpoint)
    assert isinstance(codec, PocketVae)
    wave, latents = kyutai.clip(19 * HOP + 5), torch.randn(2, 32, 31)
    for size in (2 * HOP, 11 * HOP):
        streaming_equals_whole(codec.encode, wave, every(size, wave.shape[-1]), 1e-4)
    for size in (3, 30):
        streaming_equals_whole(codec.decode, latents, every(size, 31), 1e-4)


@torch.no_grad()
def test_an_autoencoder_of_zeros_hears_nothing(tmp_path: Path) -> None:
    """The open checkpoints have the encoder's tensors, but nothing in them."""
    _, reference = hub_models()
    for name, parameter in reference.named_parameters():
        if name.startswith("encoder."):
            parameter.zero_()
    reference.save_pretrained(tmp_path)
    assert not opened(tmp_path).hears
