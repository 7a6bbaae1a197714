"""Recordings that go through a codec together: the codes of each are those it has alone."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm_cli.nn.quantize import TableCodebook, as_table
from alm_cli.nn.state import State
from alm_cli.runtime import inference
from alm_cli.systems.codec import Codec
from alm_cli.values import Audio, Tokens

# Small models of every family; blocks are made short, so that recordings have many.
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "alm_codec": {
        "fine_hop": 48, "synthesis_hop": 24, "window": 96, "delay": 96, "codebooks": 4,
        "vocabulary": 32, "latent": 8, "encoder_depth": 1, "encoder_width": 16,
        "context_width": 16, "decoder_depth": 1, "decoder_width": 16,
    },
    "encodec": {
        "num_filters": 4, "hidden_size": 16, "codebook_size": 64, "upsampling_ratios": [4, 2],
        "target_bandwidths": [36.0, 72.0],
    },
    "encodec, segments": {
        "target_bandwidths": [3.0], "sampling_rate": 2000, "num_filters": 4, "hidden_size": 8,
        "codebook_size": 16, "upsampling_ratios": [4, 2], "audio_channels": 2, "normalize": True,
        "chunk_length_s": 1.0, "overlap": 0.01, "norm_type": "time_group_norm",
        "use_causal_conv": False,
    },
    "dac": {
        "encoder_hidden_size": 4, "downsampling_ratios": [2, 5], "decoder_hidden_size": 16,
        "upsampling_ratios": [5, 2], "n_codebooks": 4, "codebook_size": 64, "codebook_dim": 4,
    },
    "mimi": {
        "num_filters": 4, "hidden_size": 16, "upsampling_ratios": [4, 2], "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 24,
        "codebook_size": 64, "codebook_dim": 8, "vector_quantization_hidden_dimension": 8,
        "num_quantizers": 6, "upsample_groups": 16, "sliding_window": 9,
    },
    "snac": {
        "sampling_rate": 8000, "encoder_dim": 4, "decoder_dim": 16, "encoder_rates": [2, 4],
        "decoder_rates": [4, 2], "vq_strides": [4, 2, 1], "codebook_size": 64,
        "codebook_dim": 4, "attn_window_size": None,
    },
    "soundstream": {
        "rate": 8000, "width": 4, "features": 8, "ratios": [2, 4], "codebooks": 4,
        "vocabulary": 32,
    },
    "speechtokenizer": {
        "n_filters": 4, "strides": [4, 2], "dimension": 16, "semantic_dimension": 16,
        "codebook_size": 32, "n_q": 4, "bidirectional": True,
    },
}  # fmt: skip
# As far as blocks go together, of sixteen recordings: see `alm_cli.systems.row_batches`.
ALONE = {"speechtokenizer"}
BLOCK_FRAMES = 24


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest) -> tuple[Codec, Codec]:
    """The same small model twice: row by row, and with up to sixteen rows."""
    model = made(request.param)
    one, many = (
        Codec(model, request.param, "0" * 64, device=torch.device("cpu"), rows=rows)
        for rows in (1, 16)
    )
    return one, many


@torch.no_grad()
def made(name: str) -> Any:
    """A model with lively weights: as they start, all codes would be the same."""
    torch.manual_seed(0)
    family = import_module(f"alm_cli.codecs.{name.partition(',')[0]}").FAMILY
    model = family.model(family.read_config(FAMILIES[name])).requires_grad_(False).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(2)
    for book in model.modules():
        if isinstance(book, TableCodebook):
            book.table.copy_(as_table(torch.randn(book.vectors.shape) * 0.4))
        elif isinstance(getattr(book, "vectors", None), Tensor):
            book.vectors.normal_(std=0.4)
    if "segments" not in name:
        model.block_frames = BLOCK_FRAMES
    return model


def recordings(codec: Codec) -> list[Audio]:
    """Sixteen, from one sample to some blocks, and two of the same length."""
    block = codec.model.block_frames * codec.hop
    lengths = [1, codec.hop - 1, codec.hop, codec.hop + 1, block - 1, block, block + 1, 2 * block]
    lengths += [2 * block, 2 * block + 7, 3 * block - 11, 3 * block + 5, 4 * block + 3]
    lengths += [5 * block, 5 * block + 1, 7 * codec.hop]
    generator = np.random.default_rng(0)
    shapes = [(codec.channels, length) for length in lengths]
    return [
        Audio((0.1 * generator.standard_normal(shape)).astype(np.float32), codec.rate)
        for shape in shapes
    ]


def encoded(codec: Codec, audios: list[Audio], threads: int) -> list[Tokens]:
    """Each recording by one of several threads."""

    def encode(audio: Audio) -> Tokens:
        with codec.joined():
            return codec.encode(audio, channels="native")

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(encode, audios))


def counted(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each call of the model has, from now on."""
    sizes: list[int] = []
    encode = codec.model.encode

    def counting(wave: Tensor, codebooks: int | None, state: State | None) -> Tensor:
        sizes.append(len(wave))
        return encode(wave, codebooks, state)

    monkeypatch.setattr(codec.model, "encode", counting)
    return sizes


@pytest.mark.parametrize("order", [0, 1])
def test_sixteen_together_have_the_codes_that_each_has_alone(
    pair: tuple[Codec, Codec], order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, many = pair
    audios = recordings(one)
    random.Random(order).shuffle(audios)
    wanted = [one.encode(audio, channels="native") for audio in audios]
    sizes = counted(many, monkeypatch)
    found = encoded(many, audios, 16)
    assert any(len(np.unique(tokens.codes)) > 8 for tokens in wanted), "the codes are lively"
    for audio, tokens, alone in zip(audios, found, wanted, strict=True):
        assert np.array_equal(tokens.codes, alone.codes), audio.length
        assert tokens.origin == alone.origin
        assert tokens.side.keys() == alone.side.keys()
        for name, values in tokens.side.items():
            np.testing.assert_allclose(values, alone.side[name], rtol=1e-5)
    assert (max(sizes) > 1) is (one.name not in ALONE)


def test_neighbours_change_nothing(pair: tuple[Codec, Codec]) -> None:
    """The same recording among silence, among noise, and among copies of itself."""
    one, many = pair
    audio = recordings(one)[12]
    wanted = one.encode(audio, channels="native").codes
    silence = Audio(np.zeros_like(audio.samples), audio.rate)
    loud = Audio(1000 * audio.samples[:, ::-1].copy(), audio.rate)
    for beside in (silence, loud, audio):
        assert np.array_equal(encoded(many, [beside, audio, beside], 3)[1].codes, wanted)


def test_blocks_that_are_as_long_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four recordings at once, none longer than a block, are one call of Mimi, filled up."""
    model = made("mimi")
    codec = Codec(model, "mimi", "0" * 64, device=torch.device("cpu"), rows=4)
    alone = Codec(model, "mimi", "0" * 64, device=torch.device("cpu"))
    audios = [audio for audio in recordings(codec) if audio.length < 24 * codec.hop][:4]
    wanted = [alone.encode(audio).codes for audio in audios]
    # All four have joined before the first one asks, and nobody loses patience meanwhile.
    monkeypatch.setattr(codec.batches._shared, "_patience_s", 10.0)  # type: ignore[union-attr]
    start, sizes = threading.Barrier(4), counted(codec, monkeypatch)
    found: dict[int, NDArray[np.int32]] = {}

    def encode(number: int) -> None:
        with codec.joined():
            start.wait()
            found[number] = codec.encode(audios[number]).codes

    threads = [threading.Thread(target=encode, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [4]
    assert all(np.array_equal(found[number], wanted[number]) for number in range(4))


def test_the_channels_of_a_recording_are_rows_too(pair: tuple[Codec, Codec]) -> None:
    one, many = pair
    longest = sorted(recordings(one), key=lambda audio: audio.length)[-3:]
    samples = np.concatenate([audio.samples[:1, : longest[0].length] for audio in longest])
    audio = Audio(samples, one.rate)
    codes = [codec.encode(audio, channels="dual").codes for codec in pair]
    assert np.array_equal(*codes)
    assert many.batches is not None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", FAMILIES)
def test_on_a_gpu_batches_in_float32_change_no_code(name: str) -> None:
    """The exact mode; TF32 is off in `computing`, wherever it was switched on."""
    model = made(name).to("cuda")
    one, many = (
        Codec(model, name, "0" * 64, device=torch.device("cuda"), rows=rows) for rows in (1, 16)
    )
    audios = recordings(one)
    wanted = [one.encode(audio, channels="native").codes for audio in audios]
    found = encoded(many, audios, 16)
    assert sum(int((a.codes != b).sum()) for a, b in zip(found, wanted, strict=True)) == 0
    with inference():
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
