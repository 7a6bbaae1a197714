"""Our own codec: laws on a small random one, and its checkpoint reading."""

from __future__ import annotations

import gc
import json
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from alm_cli.checkpoints.load import load
from alm_cli.codecs.alm_codec import AlmCodec, AlmCodecConfig
from alm_cli.errors import ModelError
from alm_cli.nn.state import State

SMALL = AlmCodecConfig(
    fine_hop=48, synthesis_hop=24, window=96, delay=96, codebooks=4, vocabulary=32, latent=8,
    encoder_depth=1, encoder_width=16, context_width=16, decoder_depth=1, decoder_width=16,
)  # fmt: skip


def small() -> AlmCodec:
    torch.manual_seed(0)
    codec = AlmCodec(SMALL).eval().requires_grad_(False)
    for book in codec.quantizer.codebooks:
        book.vectors.normal_(std=0.5)
    return codec


def test_codes_of_chunks_equal_the_whole() -> None:
    codec, wave = small(), torch.randn(1, 1, 96 * 30)
    whole = codec.encode(wave)
    for sizes in ([1] * 30, [7, 13, 10], [29, 1]):
        state = State()
        pieces = [codec.encode(w, None, state) for w in wave.split([96 * n for n in sizes], 2)]
        assert torch.equal(torch.cat(pieces, 2), whole), sizes
    assert len(whole.unique()) > 10


def test_decoding_chunks_equals_the_whole() -> None:
    codec, codes = small(), torch.randint(0, 32, (1, 4, 30))
    state = State()
    pieces = [codec.decode(piece, state) for piece in codes.split([1, 9, 20], 2)]
    torch.testing.assert_close(torch.cat(pieces, 2), codec.decode(codes), atol=1e-5, rtol=0)


def test_weights_are_doubled_once_for_all_streams_and_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codec, codes = small(), torch.randint(0, 32, (1, 4, 5))
    before = codec.decode(codes)
    made, double = [], torch.Tensor.double
    monkeypatch.setattr(
        torch.Tensor, "double", lambda x: (made.append(1) if x.dim() == 2 else 0, double(x))[1]
    )
    with torch.inference_mode():
        codec.decode(codes, State())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: codec.decode(codes), range(8)))
    assert all(torch.equal(wave, before) for wave in found) and not made


def test_doubled_weights_follow_their_model() -> None:
    codec, codes = small(), torch.randint(0, 32, (1, 4, 5))
    before = codec.decode(codes)
    for _ in range(2):
        with torch.no_grad():
            codec.renderer.leave.weight.mul_(0.5)
        after = codec.decode(codes)
        fresh = small()
        fresh.load_state_dict(codec.state_dict())
        assert torch.equal(after, fresh.decode(codes)) and not torch.equal(after, before)
        before = after
    codec.load_state_dict(small().state_dict(), assign=True)
    assert torch.equal(codec.decode(codes), small().decode(codes))
    gone = weakref.ref(codec._double().leave.weight)
    del codec
    gc.collect()
    assert gone() is None


def test_the_past_does_not_change_when_the_future_arrives() -> None:
    codec, wave = small(), torch.randn(1, 1, 96 * 20)
    changed = torch.cat([wave[..., : 96 * 12], torch.randn(1, 1, 96 * 8)], 2)
    assert torch.equal(codec.encode(wave)[..., :12], codec.encode(changed)[..., :12])


def test_an_incomplete_frame_is_completed_by_silence() -> None:
    codec, wave = small(), torch.randn(1, 1, 96 * 3 - 17)
    silent = torch.nn.functional.pad(wave, (0, 17))
    assert torch.equal(codec.encode(wave), codec.encode(silent))


def test_fewer_codebooks_are_a_prefix() -> None:
    codec, wave = small(), torch.randn(1, 1, 96 * 8)
    assert torch.equal(codec.encode(wave, 2), codec.encode(wave)[:, :2])


def write(folder: Path, **settings: object) -> Path:
    weights = {name: tensor.half() for name, tensor in small().state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    raw = {"model_type": "alm_codec", **asdict(SMALL), **settings}
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def test_a_folder_is_loaded_as_it_was_written(tmp_path: Path) -> None:
    loaded = load(write(tmp_path)).model
    ours = small().half().float().state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"delay": "96"}, "delay"), ({"extra": 1}, "extra"), ({"window": 100}, "window")],
)
def test_settings_it_cannot_compute_are_refused(
    tmp_path: Path, settings: dict[str, object], named: str
) -> None:
    with pytest.raises(ModelError, match=named):
        load(write(tmp_path, **settings))


def test_other_sizes_than_the_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="stack"):
        load(write(tmp_path, decoder_width=24))
