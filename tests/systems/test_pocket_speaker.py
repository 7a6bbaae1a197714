"""pocket-tts as a speaker: the laws that all speakers keep, its voices, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from alm_cli.errors import InputError, ModelError, UsageError
from alm_cli.systems.pocket_engine import Engine
from alm_cli.systems.pocket_speaker import PocketSpeaker
from alm_cli.systems.pocket_voices import PocketVoice, paused
from alm_cli.systems.speaker import Line, load_speaker
from alm_cli.text.pocket_text import Piece
from alm_cli.values import Audio
from tests.fixtures.golden import make_pocket_kyutai as kyutai
from tests.pocket import HOP, hub_models, kyutai_folder, snr_db

TEXTS = ("Hello there", "It costs 3.50 dollars. Or 4. Or nothing at all? Well...", "wait,")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Most tests need no second core, and those that do say so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights do not end: let them speak for a second at most."""
    monkeypatch.setattr(Piece, "frames", lambda piece, _: 3 + len(piece.tokens) % 11)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as its authors publish it, with a voice."""
    return kyutai_folder(tmp_path_factory.mktemp("pocket") / "english")


@pytest.fixture(scope="module")
def speaker(folder: Path) -> PocketSpeaker:
    """The same, loaded."""
    return loaded(folder)


def loaded(folder: Path, dtype: str = "float32") -> PocketSpeaker:
    made = load_speaker(folder, device="cpu", dtype=dtype)
    assert isinstance(made, PocketSpeaker)
    return made


def said(speaker: PocketSpeaker, line: Line) -> Any:
    return speaker.say([line])[0].samples


def test_a_line_sounds_the_same_however_it_is_said(speaker: PocketSpeaker) -> None:
    lines = [Line(text=text, seed=seed) for seed, text in enumerate(TEXTS)]
    alone = [said(speaker, line) for line in lines]
    together = [spoken.samples for spoken in speaker.say(lines)]
    streamed = [np.concatenate(list(speaker.stream(line))) for line in lines]
    torch.set_num_threads(2)
    threads = [said(speaker, line) for line in lines]
    assert torch.get_num_threads() == 2
    assert len({len(samples) for samples in alone}) > 1
    for other in (together, streamed, threads, [said(speaker, line) for line in lines]):
        assert all(np.array_equal(a, b) for a, b in zip(alone, other, strict=True))
    assert all(samples.dtype == np.float32 and samples.std() > 1e-3 for samples in alone)


def test_seeds_and_temperatures_matter(speaker: PocketSpeaker) -> None:
    line = Line(text="Hello there", seed=1)
    first = said(speaker, line)
    for other in (replace(line, seed=2), replace(line, temperature=0.9)):
        assert not np.array_equal(first, said(speaker, other))
    cold = replace(line, temperature=0.0)
    assert np.array_equal(said(speaker, cold), said(speaker, replace(cold, seed=5)))


def test_trap_the_temperature_is_a_variance(speaker: PocketSpeaker) -> None:
    head, seen = speaker._engine.model.head, []  # noqa: SLF001
    forward = head.forward

    def noting(condition: Any, noise: Any, times: Any) -> Any:
        seen.append(noise)
        return forward(condition, noise, times)

    for temperature in (0.25, 1.0):
        head.forward = noting  # type: ignore[method-assign]
        said(speaker, Line(text="wait,", seed=3, temperature=temperature))
        del head.forward
    assert torch.allclose(seen[0] * 2, seen[len(seen) // 2])


def test_a_stream_begins_with_one_frame(speaker: PocketSpeaker) -> None:
    parts = [len(part) for part in speaker.stream(Line(text=TEXTS[1]))]
    assert parts[:3] == [HOP, HOP, 2 * HOP] and sum(parts) % HOP == 0


def test_latents_are_told(speaker: PocketSpeaker) -> None:
    (spoken,) = speaker.say([Line(text="Hello there")])
    assert spoken.tokens is not None and spoken.words == ()
    assert spoken.tokens.frames * HOP == len(spoken.samples)
    again = speaker._engine.codec.decode(torch.from_numpy(spoken.tokens.values))  # noqa: SLF001
    faded = round(0.005 * speaker.rate)
    assert snr_db(again[0, 0, faded:], torch.from_numpy(spoken.samples[faded:])) > 80


def test_trap_the_first_samples_rise_from_silence(speaker: PocketSpeaker) -> None:
    assert said(speaker, Line(text="Hello there"))[0] == 0


def test_trap_the_end_is_not_looked_for_in_the_first_frames(
    speaker: PocketSpeaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame of the end is said, and some after it; in the first six there is none."""
    monkeypatch.setattr(Piece, "frames", lambda *_: 60)
    monkeypatch.setattr(speaker, "_manner", replace(speaker._manner, threshold=-1e9))  # noqa: SLF001
    for text, after in (("Hello there", 4), ("It was the best of times", 2)):
        assert len(said(speaker, Line(text=text))) == (6 + 1 + after) * HOP


def test_a_stream_that_nobody_wants_ends(speaker: PocketSpeaker) -> None:
    torch.set_num_threads(2)
    stream = speaker.stream(Line(text=TEXTS[1]))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert torch.get_num_threads() == 2


def test_an_error_in_the_model_is_raised(
    speaker: PocketSpeaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    torch.set_num_threads(2)
    monkeypatch.setattr(Engine, "_latents", broken)
    with pytest.raises(RuntimeError, match="broken"):
        said(speaker, Line(text="Hello there"))


def test_an_exported_voice_is_what_was_exported(speaker: PocketSpeaker) -> None:
    """That of the package, which it made of a recording, and what we make of the same one."""
    assert speaker.voices == ("alba",)
    engine = speaker._engine  # noqa: SLF001
    ours = PocketVoice(engine.listen(engine.hear(kyutai.clip(kyutai.VOICE))))
    line = Line(text="Hello there", seed=4)
    wanted, found = (
        torch.from_numpy(said(speaker, replace(line, voice=voice)))
        for voice in (speaker.voice("alba"), ours)
    )
    assert snr_db(wanted, found) > 60
    assert np.array_equal(said(speaker, line), wanted)


def test_trap_old_voices_tell_their_length_by_a_shape(
    speaker: PocketSpeaker, folder: Path, tmp_path: Path
) -> None:
    tensors = load_file(folder / "embeddings" / "alba.safetensors")
    old = {}
    for name, x in tensors.items():
        if name.endswith("/offset"):
            old[name.replace("/offset", "/current_end")] = torch.zeros(int(x[0]))
        elif name.endswith("/cache"):  # with room that was never filled
            old[name] = torch.cat((x, torch.full_like(x, torch.nan)), 2)
    save_file(old, tmp_path / "old.safetensors")
    line = Line(text="Hello there")
    voice = speaker.voice(tmp_path / "old.safetensors")
    assert np.array_equal(said(speaker, line), said(speaker, replace(line, voice=voice)))


def test_a_recording_gives_a_voice(speaker: PocketSpeaker) -> None:
    recording = Audio(np.random.default_rng(0).normal(0, 0.1, (2, 4000)).astype(np.float32), 24_000)
    line = Line(text="Hello there")
    voice = speaker.voice(recording)
    assert not np.array_equal(said(speaker, line), said(speaker, replace(line, voice=voice)))
    with pytest.raises(InputError, match="nothing to hear"):
        speaker.voice(Audio(np.zeros((1, 4000), np.float32), 24_000))


def test_trap_a_recording_ends_within_a_pause() -> None:
    rate = 24_000
    wave = torch.cat((torch.ones(1, rate), torch.full((1, rate), 1e-4)), 1)
    ended = paused(wave, rate)
    assert ended.shape[1] == rate + int(0.08 * rate)
    assert ended[0, rate - 1] == 0 and ended[0, rate - 481] == 1 and not ended[0, rate:].any()


def test_voices_of_another_model_or_none_are_refused(
    speaker: PocketSpeaker, folder: Path, tmp_path: Path
) -> None:
    tensors = load_file(folder / "embeddings" / "alba.safetensors")
    name = "transformer.layers.1.self_attn/cache"
    offset = "transformer.layers.0.self_attn/offset"
    damaged = (
        {key: x for key, x in tensors.items() if "layers.1" not in key},
        tensors | {name: tensors[name][..., :7].contiguous()},
        tensors | {name: tensors[name] * torch.nan},
        tensors | {offset: torch.tensor([10**6])},
        tensors | {"surprise": torch.zeros(2)},
        {"x": torch.zeros(3, 5)},
        {},
    )
    for index, content in enumerate(damaged):
        file = tmp_path / f"{index}.safetensors"
        save_file(content, file)
        with pytest.raises(InputError):
            speaker.voice(file)
    (tmp_path / "garbage.safetensors").write_bytes(b"garbage")
    for source in (tmp_path / "garbage.safetensors", "nobody", tmp_path / "none.wav"):
        with pytest.raises(InputError):
            speaker.voice(source)


@pytest.mark.parametrize(
    "asked",
    [{"speed": 2.0}, {"duration_s": 1.0}, {"top_k": 5}, {"top_p": 0.9}, {"voice": "alba"}],
    ids=str,
)
def test_what_it_cannot_do_is_an_error(speaker: PocketSpeaker, asked: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        speaker.say([Line(text="Hello there", **asked)])
    with pytest.raises(InputError):
        next(speaker.stream(Line(text="Hello there", **asked)))


def test_texts_that_cannot_be_said_are_errors(speaker: PocketSpeaker) -> None:
    for text in ("", " \n", "[[hɛloʊ]]", "Hello 漢字"):
        with pytest.raises(InputError):
            speaker.check(text)
    with pytest.raises(UsageError):
        said(speaker, Line(text="Hello there", temperature=-1.0))
    speaker.check("Hello there")


def test_weights_of_16_bits_are_packed_without_a_change(folder: Path, tmp_path: Path) -> None:
    """bfloat16, as the published ones: the same but for the order of sums."""
    shutil.copytree(folder, tmp_path / "english")
    file = tmp_path / "english" / "model.safetensors"
    save_file({key: x.bfloat16() for key, x in load_file(file).items()}, file)
    packed, line = loaded(tmp_path / "english"), Line(text="Hello there", seed=2)
    kinds = {type(part).__name__ for part in packed._engine.model.modules()}  # noqa: SLF001
    if "ScaledHalfLinear" not in kinds:
        pytest.skip("this processor has no products of half floats")
    save_file({key: x.bfloat16().float() * 1.000001 for key, x in load_file(file).items()}, file)
    plain = torch.from_numpy(said(loaded(tmp_path / "english"), line))
    assert snr_db(plain, torch.from_numpy(said(packed, line))) > 60


def test_int8_is_near(speaker: PocketSpeaker, folder: Path) -> None:
    line = Line(text="Hello there", seed=2, temperature=0.7)
    try:
        rounded = loaded(folder, "int8")
    except UsageError:
        pytest.skip("this processor has no products of such numbers")
    wanted, found = (torch.from_numpy(said(who, line)) for who in (speaker, rounded))
    assert 5 < snr_db(wanted, found) < 60


def test_the_layout_of_the_hub_speaks_too(tmp_path: Path) -> None:
    """With a tokenizer of its own and the autoencoder in a folder within."""
    from tokenizers import Tokenizer

    from alm_cli.text.unigram import read_tokenizer

    tokenizer = read_tokenizer(kyutai.TOKENIZER)
    size = tokenizer.get_vocab_size()
    model, codec = hub_models(
        vocab_size=size + 4, audio_prompt_token_id=size, audio_prompt_bos_token_id=size + 2
    )
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text(
        json.dumps({"temperature": 0.5, "eos_threshold": -3})
    )
    with pytest.raises(ModelError, match="autoencoder"):
        loaded(tmp_path / "model")
    codec.save_pretrained(tmp_path / "model" / "audio_tokenizer")
    with pytest.raises(ModelError, match="tokenizer"):
        loaded(tmp_path / "model")
    tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    assert Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json")).get_vocab_size() == size
    speaker = loaded(tmp_path / "model")
    assert speaker.voices == ()
    with pytest.raises(InputError, match="without voices"):
        speaker.voice(None)
    save_file({"latents": torch.randn(9, 32)}, tmp_path / "voice.safetensors")
    line = Line(text="wait,", voice=speaker.voice(tmp_path / "voice.safetensors"))
    assert len(said(speaker, line)) % 1920 == 0
    manner = speaker._manner  # noqa: SLF001
    assert (manner.temperature, manner.threshold) == (0.5, -3)


def test_open_weights_do_not_clone(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "open")
    file = tmp_path / "open" / "model.safetensors"
    heard = ("mimi.encoder", "mimi.downsample")
    tensors = load_file(file)
    save_file({k: x * 0 if k.startswith(heard) else x for k, x in tensors.items()}, file)
    speaker = loaded(tmp_path / "open")
    with pytest.raises(InputError, match="cannot take the voice"):
        speaker.voice(Audio(np.ones((1, 4000), np.float32), 24_000))
    save_file({k: x for k, x in tensors.items() if not k.startswith(heard)}, file)
    assert said(loaded(tmp_path / "open"), Line(text="wait,")).any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a device")
def test_a_device_says_the_same(speaker: PocketSpeaker, folder: Path) -> None:
    line = Line(text="Hello there", seed=2)
    other = load_speaker(folder, device="cuda").say([line])[0].samples
    assert snr_db(torch.from_numpy(said(speaker, line)), torch.from_numpy(other)) > 40
