"""The codec system: lengths, channels, segments and refusals, on a small random codec."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from alm_cli.codecs.alm_codec import AlmCodec, AlmCodecConfig
from alm_cli.errors import InputError, ModelError, UsageError
from alm_cli.systems.codec import Codec
from alm_cli.values import Audio, Tokens

SMALL = AlmCodecConfig(
    fine_hop=48, synthesis_hop=24, window=96, delay=96, codebooks=4, vocabulary=32, latent=8,
    encoder_depth=1, encoder_width=16, context_width=16, decoder_depth=1, decoder_width=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def codec() -> Codec:
    torch.manual_seed(0)
    model = AlmCodec(SMALL).eval().requires_grad_(False)
    model.block_frames = 10
    for book in model.quantizer.codebooks:
        book.vectors.normal_(std=0.5)
    return Codec(model, "small", "0" * 64, device=torch.device("cpu"))


def noise(channels: int, length: int, rate: int = 24_000) -> Audio:
    generator = np.random.default_rng(length)
    samples = generator.normal(scale=0.1, size=(channels, length)).astype(np.float32)
    return Audio(samples, rate)


def segments(codec: Codec, audio: Audio, sizes: Iterable[int], frames: int | None) -> list[Tokens]:
    stream = codec.encoder(audio.rate, audio.channels, segment_frames=frames)
    found, start = [], 0
    for size in sizes:
        found += stream.push(audio.samples[:, start : start + size])
        start += size
    return [*found, *stream.finish()]


def joined(blocks: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(list(blocks), axis=1)


def test_every_length_is_restored(codec: Codec) -> None:
    for length in [*range(0, 600, 7), 95, 96, 97, 4999, 5000]:
        audio = noise(1, length)
        tokens = codec.encode(audio)
        assert tokens.frames == (-(-(length + SMALL.delay) // 96) if length else 0)
        assert codec.decode(tokens).samples.shape == (1, length)


@pytest.mark.parametrize("rate", [4000, 11_025, 44_100, 48_000, 384_000])
def test_every_rate_is_restored(codec: Codec, rate: int) -> None:
    for length in (1, 100, 3001):
        decoded = codec.decode(codec.encode(noise(2, length, rate), channels="dual"))
        assert (decoded.samples.shape, decoded.rate) == ((2, length), rate)


def test_another_rate_can_be_asked_for(codec: Codec) -> None:
    tokens = codec.encode(noise(1, 1000, 16_000))
    decoded = codec.decode(tokens, rate=22_050)
    assert (decoded.length, decoded.rate) == (-(-1000 * 22_050 // 16_000), 22_050)


def test_pieces_of_any_size_give_the_codes_of_the_whole(codec: Codec) -> None:
    audio = noise(1, 9000, 44_100)
    whole = codec.encode(audio).codes
    for size in (1000, 7, 441):
        (tokens,) = segments(codec, audio, [size] * (9000 // size + 1), None)
        assert np.array_equal(tokens.codes, whole), size


def test_segments_join_to_the_whole(codec: Codec) -> None:
    audio = noise(1, 9000)
    whole = codec.encode(audio)
    for frames in (1, 3, 25, 1000):
        found = segments(codec, audio, [777] * 12, frames)
        assert [tokens.origin.segment for tokens in found] == list(range(len(found)))
        assert [tokens.origin.final for tokens in found] == [False] * (len(found) - 1) + [True]
        assert all(tokens.frames == frames for tokens in found[:-1])
        assert np.array_equal(np.concatenate([t.codes for t in found], 2), whole.codes)
        assert sum(tokens.origin.source_length for tokens in found) == 9000


def test_a_segment_is_out_as_soon_as_it_can_be(codec: Codec) -> None:
    stream = codec.encoder(24_000, 1, segment_frames=5)
    audio = noise(1, 96 * 12)
    assert not stream.push(audio.samples[:, : 96 * 5])
    assert len(stream.push(audio.samples[:, 96 * 5 : 96 * 11 + 1])) == 1


def test_each_segment_names_the_samples_it_stands_for(codec: Codec) -> None:
    audio, start = noise(2, 5000, 44_100), 0
    for tokens in segments(codec, audio, [500] * 10, 8):
        end = start + tokens.origin.source_length
        plain = audio.samples[:, start:end].T.astype("<f4").tobytes()
        assert tokens.origin.source_sha256 == hashlib.sha256(plain).hexdigest()
        start = end
    assert start == 5000


def test_decoding_segments_equals_decoding_the_whole(codec: Codec) -> None:
    audio = noise(1, 9000, 44_100)
    whole = codec.decode(codec.encode(audio)).samples
    for frames in (1, 4, 30):
        decoder = codec.decoder()
        found = segments(codec, audio, [9000], frames)
        blocks = [block for tokens in found for block in decoder.push(tokens)]
        assert np.abs(joined(blocks) - whole).max() < 1e-5


def test_the_next_segment_zero_begins_another_recording(codec: Codec) -> None:
    decoder, tokens = codec.decoder(), codec.encode(noise(1, 3000))
    first, second = joined(decoder.push(tokens)), joined(decoder.push(tokens))
    assert np.array_equal(first, second)


def test_dual_codes_every_channel_as_if_it_were_alone(codec: Codec) -> None:
    audio = noise(3, 2000)
    tokens = codec.encode(audio, channels="dual")
    for index in range(3):
        alone = codec.encode(Audio(audio.samples[index : index + 1], audio.rate))
        assert np.array_equal(tokens.codes[index], alone.codes[0])


def test_mono_is_the_mean(codec: Codec) -> None:
    audio = noise(2, 2000)
    mean = Audio(audio.samples.astype(np.float64).mean(0, keepdims=True).astype("f4"), audio.rate)
    assert np.array_equal(codec.encode(audio).codes, codec.encode(mean).codes)


def test_fewer_codebooks_are_a_prefix_and_decode_alike(codec: Codec) -> None:
    audio = noise(1, 2000)
    few, all_books = codec.encode(audio, codebooks=2), codec.encode(audio)
    assert np.array_equal(few.codes, all_books.codes[:, :2])
    narrowed = codec.decode(all_books, codebooks=2)
    assert np.array_equal(codec.decode(few).samples, narrowed.samples)


def test_bitrates_become_codebooks(codec: Codec) -> None:
    per_book = 250 * 5 / 1000
    assert [codec.codebooks_for(k * per_book) for k in (1, 1.9, 3, 99)] == [1, 1, 3, 4]
    with pytest.raises(UsageError, match="1.25 kbps"):
        codec.codebooks_for(1.2)


def test_other_weights_are_refused_unless_forced(codec: Codec) -> None:
    tokens = codec.encode(noise(1, 1000))
    other = replace(tokens, origin=replace(tokens.origin, weights_sha256="1" * 64))
    with pytest.raises(ModelError, match="other weights"):
        codec.decode(other)
    assert np.array_equal(codec.decode(other, force=True).samples, codec.decode(tokens).samples)


def test_other_codecs_and_damaged_codes_are_refused(codec: Codec) -> None:
    tokens = codec.encode(noise(1, 1000))
    with pytest.raises(ModelError, match="made by other"):
        codec.decode(replace(tokens, origin=replace(tokens.origin, codec="other")))
    with pytest.raises(InputError, match="outside"):
        codec.decode(replace(tokens, codes=tokens.codes + 32))
    wide = replace(tokens, origin=replace(tokens.origin, vocabularies=(1024,) * 4))
    with pytest.raises(InputError, match="cannot decode"):
        codec.decode(wide, force=True)


def test_a_lost_segment_is_told(codec: Codec) -> None:
    first, _, third, *_ = segments(codec, noise(1, 5000), [5000], 8)
    decoder = codec.decoder()
    list(decoder.push(first))
    with pytest.raises(InputError, match="segment 2 where 1"):
        list(decoder.push(third))


@pytest.mark.parametrize("count", [0, 5])
def test_a_wrong_number_of_codebooks_is_told(codec: Codec, count: int) -> None:
    with pytest.raises(UsageError, match="1 to 4"):
        codec.encode(noise(1, 100), codebooks=count)
    with pytest.raises(UsageError, match="4 codebooks"):
        codec.decode(codec.encode(noise(1, 100)), codebooks=count)
