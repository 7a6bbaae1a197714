"""DAC against both of its references with the same random weights, trap by trap, and its laws."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from alm_cli.checkpoints.load import load
from alm_cli.codecs.dac import FAMILY, KEYS, Dac, DacConfig
from alm_cli.errors import ModelError, UsageError
from alm_cli.nn.state import State
from alm_cli.systems.codec import Codec
from alm_cli.values import Audio
from tests.laws import every, streamed, streaming_equals_whole
from tests.oracles import header
from tests.random_weights import model_with, recording, reference_with

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden" / "dac_first_release.safetensors"
PUBLISHED = {
    "16khz": {"sampling_rate": 16_000, "downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 12},
    "24khz": {"sampling_rate": 24_000, "downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 32},
    "44khz": {"sampling_rate": 44_100, "downsampling_ratios": [2, 4, 8, 8], "n_codebooks": 9},
}
# In the words of the first release; one of the ratios is odd.
TINY = {
    "encoder_dim": 4,
    "encoder_rates": [2, 5],
    "decoder_dim": 16,
    "decoder_rates": [5, 2],
    "n_codebooks": 4,
    "codebook_size": 64,
    "codebook_dim": 4,
    "sample_rate": 16_000,
}
TINY_HUB = {
    "encoder_hidden_size": 4,
    "downsampling_ratios": [2, 5],
    "decoder_hidden_size": 16,
    "n_codebooks": 4,
    "codebook_size": 64,
    "codebook_dim": 4,
    "sampling_rate": 16_000,
}
HOP = 10

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.oracle]


@dataclass(frozen=True)
class Pair:
    """The same weights twice: as `transformers` computes, and as we do."""

    theirs: Any
    ours: Dac

    def their_codes(self, filled: Tensor) -> Tensor:
        """filled [B, 1, T] of whole frames, as the feature extractor should -> codes [B, K, F]."""
        codes: Tensor = self.theirs.encode(filled).audio_codes
        return codes

    def their_wave(self, codes: Tensor) -> Tensor:
        """codes [B, K, F] -> wave [B, 1, T]."""
        wave: Tensor = self.theirs.decode(audio_codes=codes).audio_values[:, None]
        return wave

    @torch.no_grad()
    def assert_same_codes(self, *waves: Tensor) -> list[Tensor]:
        """Our codes, which are theirs, of waves of as many frames."""
        filled = [F.pad(wave, (0, -wave.shape[-1] % self.ours.hop)) for wave in waves]
        theirs = self.their_codes(torch.cat(filled))
        ours = [self.ours.encode(wave) for wave in waves]
        found = torch.cat(ours)
        assert found.shape == theirs.shape
        differing = (found != theirs).nonzero().tolist()
        if differing:
            margin = self._margin(torch.cat(filled), *differing[0])
            raise AssertionError(
                f"{len(differing)} of {theirs.numel()} codes differ, first {differing[0]} of "
                f"{[wave.shape[-1] for wave in waves]} samples, margin {margin:.1e} "
                "(float noise if below 1e-5)"
            )
        return ours

    def _margin(self, filled: Tensor, row: int, book: int, frame: int) -> float:
        """How much farther, relatively, the second nearest direction is than the nearest."""
        residual = self.theirs.encoder(filled[row : row + 1])[..., frame : frame + 1]
        for level in range(book):
            residual = residual - self.theirs.quantizer.quantizers[level](residual)[0]
        quantizer = self.theirs.quantizer.quantizers[book]
        x = F.normalize(quantizer.in_proj(residual)[0, :, 0].double(), dim=0)
        table = F.normalize(quantizer.codebook.weight.double())
        nearest, second = (table - x).square().sum(1).topk(2, largest=False).values.tolist()
        return float((second - nearest) / second)


def hub_pair(config: Mapping[str, object]) -> Pair:
    """A model of `transformers` and ours with its weights."""
    from transformers import DacConfig as TheirConfig
    from transformers import DacModel

    theirs, weights = reference_with(lambda: DacModel(TheirConfig(**config)))
    return Pair(theirs, model_with(FAMILY, config, weights))


@pytest.fixture(scope="module", params=["24khz", "44khz"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """The published architectures; that of 16 kHz is the one of 24 kHz with 12 books of the 32."""
    return hub_pair(PUBLISHED[request.param])


@pytest.fixture(scope="module")
def tiny() -> Pair:
    """Hop 10, one odd ratio."""
    return hub_pair(TINY_HUB)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    """What descript-audio-codec 1.0.0 makes of TINY: see `first_release_golden`.

    `weights.*` are `random_weights` in its names; `codes.N` and `wave.N`: N samples of `recording`,
    encoded and decoded whole; `codes.N.S` and `wave.N.S` by its compress() and the loop of its
    decompress() in windows of S seconds, without loudness.
    """
    return load_file(GOLDEN)


@pytest.fixture(scope="module")
def released(golden: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Dac:
    """Our model from a file of the first release."""
    folder = tmp_path_factory.mktemp("dac")
    weights = stored(golden, "weights.")
    # What its files say of training, and of sizes that follow from others.
    kwargs = TINY | {"quantizer_dropout": True, "latent_dim": None}
    torch.save({"state_dict": weights, "metadata": {"kwargs": kwargs}}, folder / "weights.pth")
    model = load(folder / "weights.pth").model
    assert isinstance(model, Dac)
    return model


def stored(golden: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): golden[name] for name in golden if name.startswith(prefix)}


def first_release() -> tuple[Any, dict[str, Tensor]]:
    """The original package's model and its weights; skips where the package is absent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own and of its many dependencies
        package = pytest.importorskip("dac", reason="descript-audio-codec is not installed")
        return reference_with(lambda: package.DAC(**TINY))


def lengths(hop: int) -> tuple[tuple[int, ...], ...]:
    """Edges of a frame and primes, by the number of their frames: 1, 2, 7 and 8."""
    one = (1, 2, 3, 5, 7, 17, 31, 89, 127, 251, 307, hop - 1, hop)
    two = (hop + 1, hop + 11, hop + 27, 2 * hop - 21, 2 * hop - 1, 2 * hop)
    return one, two, (7 * hop - 1, 7 * hop), (7 * hop + 1,)


def test_codes_are_those_of_the_hub_reference(pair: Pair) -> None:
    found: list[Tensor] = []
    for alike in lengths(pair.ours.hop):
        waves = [recording(length, rate=pair.ours.rate) for length in alike]
        found += pair.assert_same_codes(*waves)
    assert len(found) >= 20
    used = [len(book.unique()) for book in torch.cat(found, 2)[0]]
    assert min(used) > 12, "codes that do not vary prove nothing"


def test_codes_of_real_recordings_are_those_of_the_hub_reference(pair: Pair, shared: Path) -> None:
    from alm_cli.files.audio import read_audio

    folder = shared / "audio"
    files = [next(folder.rglob("leopard_fr.wav")), *folder.rglob("sonic-pi/ambi_*.flac")]
    begin, size = 20_000, 8 * pair.ours.hop
    waves = [read_audio(file).samples[:1, begin : begin + size] for file in files[:2]]
    codes = pair.assert_same_codes(*(torch.from_numpy(wave.copy())[None] for wave in waves))
    assert torch.cat(codes).unique().numel() > 50


def test_the_wave_is_that_of_the_hub_reference(pair: Pair) -> None:
    one_book = torch.tensor([[[3, 500, 77, 1023, 0, 1, 2, 9]]])
    for codes in (one_book, pair.ours.encode(recording(8 * pair.ours.hop))):
        theirs = pair.their_wave(codes)
        assert theirs.std() > 0.02
        torch.testing.assert_close(pair.ours.decode(codes), theirs, atol=1e-4, rtol=0)


def test_whole_is_in_blocks_is_in_pieces_at_the_published_shape(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    hop = pair.ours.hop
    wave = recording(8 * hop - 7)
    monkeypatch.setattr(pair.ours, "block_frames", 3)
    (codes,) = pair.assert_same_codes(wave)
    streaming_equals_whole(lambda x, s: pair.ours.encode(x, None, s), wave, [hop, 6 * hop])
    streaming_equals_whole(pair.ours.decode, codes, [1, 6], atol=1e-4)


@pytest.mark.parametrize("length", [*range(1, 23), 101, 499, 2003, 9973])
def test_codes_and_waves_of_every_small_length(tiny: Pair, length: int) -> None:
    (codes,) = tiny.assert_same_codes(recording(length))
    theirs = tiny.their_wave(codes)
    torch.testing.assert_close(tiny.ours.decode(codes), theirs, atol=1e-5, rtol=0)


def test_fewer_codebooks_are_the_first_ones(tiny: Pair) -> None:
    wave = recording(500)
    codes = tiny.ours.encode(wave)
    for count in (1, 2, 3):
        fewer = tiny.ours.encode(wave, count)
        assert torch.equal(fewer, codes[:, :count])
        theirs = tiny.their_wave(fewer)
        torch.testing.assert_close(tiny.ours.decode(fewer), theirs, atol=1e-5, rtol=0)


def test_trap_the_end_is_filled_with_zeros_on_the_waveform(tiny: Pair) -> None:
    wave = recording(996)
    filled = F.pad(wave, (0, 4))
    assert torch.equal(tiny.ours.encode(wave), tiny.ours.encode(filled))
    # Not filled up, as the reference computes it where the feature extractor is left out.
    unfilled = tiny.theirs.encode(wave).audio_codes
    assert unfilled.shape[2] == 99 or not torch.equal(unfilled, tiny.ours.encode(wave))


def test_trap_odd_ratios_lack_samples_at_the_end(tiny: Pair) -> None:
    codes = torch.zeros(1, 2, 7, dtype=torch.int64)
    assert tiny.ours.decode(codes).shape[2] == tiny.their_wave(codes).shape[2] == 7 * HOP - 2
    codec = Codec(tiny.ours, "tiny", "0" * 64, device=torch.device("cpu"))  # type: ignore[arg-type]
    for length in (*range(1, 32), 333):
        audio = Audio(recording(length)[0].numpy(), 16_000)
        assert codec.decode(codec.encode(audio)).length == length


def test_trap_the_hop_is_the_product_of_the_ratios() -> None:
    # The published config.json of 24 kHz says 512, and so do the preprocessors of 16 and 24 kHz.
    config = DacConfig.from_hub({**PUBLISHED["24khz"], "hop_length": 512})
    with torch.device("meta"):
        assert Dac(config).hop == 320


def test_trap_the_two_layouts_hold_the_same_model(tmp_path: Path, released: Dac) -> None:
    from transformers import DacConfig as TheirConfig
    from transformers import DacModel

    theirs = DacModel(TheirConfig(**TINY_HUB)).eval()
    ours = released.state_dict()
    hub = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    plan = KEYS.plan(hub, {name: tuple(tensor.shape) for name, tensor in ours.items()})
    theirs.load_state_dict({step.sources[0]: ours[step.target] for step in plan})
    theirs.save_pretrained(tmp_path)
    loaded = load(tmp_path).model
    wave = recording(1001)
    codes = released.encode(wave)
    assert torch.equal(loaded.encode(wave), codes)
    assert torch.equal(loaded.decode(codes), released.decode(codes))
    pair = Pair(theirs, released)
    assert torch.equal(pair.assert_same_codes(wave)[0], codes)


def golden_keys(golden: Mapping[str, Tensor], windowed: bool) -> list[tuple[int, float]]:
    """Lengths, and seconds of a window, of what is stored."""
    names = [name.split(".", 2)[1:] for name in golden if name.startswith("codes")]
    return [
        (int(n[0]), float(n[1]) if windowed else 0.0) for n in names if (len(n) > 1) == windowed
    ]


def test_codes_are_those_of_the_first_release(golden: dict[str, Tensor], released: Dac) -> None:
    kept = golden_keys(golden, windowed=False)
    assert len(kept) >= 6
    for length, _ in kept:
        codes = released.encode(recording(length))
        assert torch.equal(codes, golden[f"codes.{length}"].long())
        theirs = golden[f"wave.{length}"]
        torch.testing.assert_close(released.decode(codes), theirs, atol=1e-5, rtol=0)


def test_trap_compress_works_without_padding_window_by_window(
    golden: dict[str, Tensor], released: Dac
) -> None:
    kept = golden_keys(golden, windowed=True)
    assert len(kept) >= 8
    for length, seconds in kept:
        model, wave = released.windowed(seconds), recording(length)
        codes = model.encode(wave)
        theirs = golden[f"codes.{length}.{seconds}"].long()
        assert codes.shape == theirs.shape and torch.equal(codes, theirs), (length, seconds)
        decoded = model.decode(codes)[..., :length]
        wanted = golden[f"wave.{length}.{seconds}"]
        torch.testing.assert_close(decoded, wanted, atol=1e-5, rtol=0)
        whole = length / 16_000 <= seconds
        assert torch.equal(codes, released.encode(wave)) == whole
        assert codes.shape[2] == (-(-length // HOP) if whole else
                                  model.frames * -(-length // model.step))  # fmt: skip


def test_the_first_release_makes_what_is_stored(golden: dict[str, Tensor]) -> None:
    theirs, weights = first_release()
    assert all(torch.equal(weights[name], t) for name, t in stored(golden, "weights.").items())
    for name, tensor in first_release_golden(theirs).items():
        if name.startswith("codes"):
            assert torch.equal(tensor, golden[name]), name
        else:
            torch.testing.assert_close(tensor, golden[name], atol=1e-5, rtol=0)


@torch.no_grad()
def first_release_golden(theirs: Any) -> dict[str, Tensor]:
    """What is stored, from the original package."""
    from audiotools import AudioSignal  # of the original package

    made = {}
    for length in (1, 9, 10, 11, 70, 997, 1600):
        wave = recording(length)
        latents, codes, *_ = theirs.encode(theirs.preprocess(wave, 16_000))
        made[f"codes.{length}"] = codes
        made[f"wave.{length}"] = theirs.decode(theirs.quantizer.from_codes(codes)[0])
        assert latents.shape[2] == codes.shape[2]
    for length, seconds in WINDOWED:
        signal = AudioSignal(recording(length), 16_000)
        file = theirs.compress(signal, win_duration=seconds, normalize_db=None)
        made[f"codes.{length}.{seconds}"] = file.codes
        theirs.padding = file.padding
        groups = file.codes.split(file.chunk_length, -1)
        waves = [theirs.decode(theirs.quantizer.from_codes(group)[0]) for group in groups]
        made[f"wave.{length}.{seconds}"] = torch.cat(waves, -1)[..., :length].clone()
        theirs.padding = True
    return {name: tensor.to(torch.int16) if "codes" in name else tensor
            for name, tensor in made.items()}  # fmt: skip


# Windows of 800 samples make 232 of 52 frames; of 1600 samples 1032 of 132; 1000 is exact nowhere.
WINDOWED = ((1, 0.05), (799, 0.05), (800, 0.05), (801, 0.05), (928, 0.05), (929, 0.05))
WINDOWED += ((1600, 0.1), (1601, 0.1), (3096, 0.1), (3097, 0.1), (2000, 0.0625), (1000, 0.0625))


@pytest.mark.parametrize(
    ("name", "step", "frames"), [("16khz", 5346, 34), ("24khz", 13_346, 59), ("44khz", 28_522, 72)]
)
def test_windows_have_the_sizes_of_the_first_release(name: str, step: int, frames: int) -> None:
    with torch.device("meta"):
        model = Dac(DacConfig.from_hub(PUBLISHED[name])).windowed(1.0)
    assert (model.step, model.frames, model.rate) == (
        step,
        frames,
        PUBLISHED[name]["sampling_rate"],
    )
    # Ten seconds of 44.1 kHz are 1152 frames, where the whole has 862.
    if name == "44khz":
        assert -(-441_000 // step) * frames == 1152


def test_trap_windows_are_counted_before_the_zeros_are_added(released: Dac) -> None:
    model = released.windowed(0.05)
    for length in (928, 929, 1159, 1160, 1161, 4640, 4641):
        codes = model.encode(recording(length))
        assert codes.shape[2] == -(-length // model.step) * model.frames
        assert model.decode(codes).shape[2] == -(-length // model.step) * model.step >= length


def test_any_chunking_of_windows_gives_the_same(released: Dac) -> None:
    for seconds, length in ((0.05, 800), (0.05, 801), (0.05, 2003), (0.1, 1601), (0.0625, 2001)):
        model, wave = released.windowed(seconds), recording(length)
        codes = model.encode(wave)
        size = model.hop * model.frame_multiple
        for ends in (every(130, length), every(size, length), [10], []):
            streaming_equals_whole(lambda x, s, m=model: m.encode(x, None, s), wave, ends)
        for ends in (every(7, codes.shape[2]), every(model.frames, codes.shape[2])):
            streaming_equals_whole(model.decode, codes, ends)


def test_windows_restore_the_length_through_the_system(released: Dac) -> None:
    codec = Codec(released, "tiny", "0" * 64, device=torch.device("cpu"))  # type: ignore[arg-type]
    for length in (1, 801, 928, 2001):
        samples = recording(length)[0].numpy()
        stream = codec.encoder(16_000, 1, windowed=0.05)
        tokens = [*stream.push(samples), *stream.finish()]
        assert tokens[0].origin.notes["windowed"] == "0.05"
        blocks = list(codec.decoder().push(tokens[0]))
        assert sum(block.shape[1] for block in blocks) == length


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.03, float("nan"), float("inf")])
def test_windows_too_short_for_the_network_are_refused(released: Dac, seconds: float) -> None:
    with pytest.raises(UsageError, match="too short") as caught:
        released.windowed(seconds)
    least = float(str(caught.value.hint).split()[3])
    assert 0.03 < least < 0.06 and released.windowed(least).step > 0


def test_any_chunking_gives_the_same(tiny: Pair) -> None:
    wave = recording(603)
    codes = tiny.ours.encode(wave)
    for size in (10, 20, 130, 590):
        streaming_equals_whole(lambda x, s: tiny.ours.encode(x, None, s), wave, every(size, 603))
    for size in (1, 2, 13, 60):
        streaming_equals_whole(tiny.ours.decode, codes, every(size, 61), atol=2e-5)
    for length in (1, 10, 11):
        streaming_equals_whole(lambda x, s: tiny.ours.encode(x, None, s), recording(length), [])


def test_a_stream_owes_what_its_convolutions_look_ahead(pair: Pair) -> None:
    state, hop = State(), pair.ours.hop
    made = pair.ours.encode(recording(20 * hop), 1, state).shape[2]
    assert 10 < made < 20
    state.last = True
    assert made + pair.ours.encode(recording(hop), 1, state).shape[2] == 21


def test_a_batch_is_its_rows_to_the_last_bit(tiny: Pair) -> None:
    wave = recording(1700, batch=3)
    codes = tiny.ours.encode(wave)
    assert torch.equal(codes, torch.cat([tiny.ours.encode(row) for row in wave.split(1)]))
    assert torch.equal(codes, tiny.their_codes(wave))
    waves = torch.cat([tiny.ours.decode(row) for row in codes.split(1)])
    assert torch.equal(tiny.ours.decode(codes), waves)


def test_nothing_in_is_nothing_out(tiny: Pair) -> None:
    for model in (tiny.ours, tiny.ours.windowed(0.05)):
        codes = model.encode(torch.zeros(2, 1, 0), 3)
        assert codes.shape == (2, 3, 0) and codes.dtype == torch.int64
        assert model.decode(codes).shape == (2, 1, 0)
        assert streamed(model.decode, codes, []).shape == (2, 1, 0)


def test_it_computes_in_bfloat16_with_codebooks_in_float32() -> None:
    from alm_cli.runtime import place

    model = place(hub_pair(TINY_HUB).ours, torch.device("cpu"), torch.bfloat16)
    codes = model.encode(recording(900))
    assert model.decode(codes).dtype == torch.float32
    assert model.windowed(0.05).decode(codes).dtype == torch.float32
    assert model.quantizer.books[0].vectors.dtype == torch.float32


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("upsampling_ratios", [2, 4, 8, 8]),
        ("downsampling_ratios", [2, "4"]),
        ("downsampling_ratios", [2] * 9),
        ("codebook_dim", [8, 8]),
        ("n_codebooks", 0),
        ("n_codebooks", 10_000),
        ("encoder_hidden_size", -64),
        ("a_new_idea", True),
    ],
)
def test_a_setting_that_would_change_the_mathematics_is_refused(
    setting: str, value: object
) -> None:
    with pytest.raises(ModelError, match=setting):
        DacConfig.from_hub({"model_type": "dac", setting: value})


def test_files_of_others_are_not_taken_for_the_first_release() -> None:
    assert FAMILY.sniff is not None
    ours = header("dac_44khz_release")
    assert FAMILY.sniff(ours, {}) is None
    assert FAMILY.sniff(ours, {"metadata": {"kwargs": None}}) is None
    assert FAMILY.sniff({"x": (1,)}, {"metadata": {"kwargs": TINY}}) is None
    settings = FAMILY.sniff(ours, {"metadata": {"kwargs": TINY | {"latent_dim": 128}}})
    assert settings is not None and DacConfig.from_hub(settings).features == 128


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("layout", ["", "_release"])
def test_the_published_checkpoints_fit(name: str, layout: str) -> None:
    theirs = header(f"dac_{name}{layout}")
    with torch.device("meta"):
        model = Dac(DacConfig.from_hub(PUBLISHED[name]))
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert {step.target for step in KEYS.plan(theirs, ours)} == set(ours)
    if not layout:
        # What the hub says that the file has, of which some 40 kB are its own header.
        published = {"16khz": 297, "24khz": 299, "44khz": 307}[name]
        assert round(sum(map(prod, theirs.values())) * 4 / 1e6 + 0.04) == published
