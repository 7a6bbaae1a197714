"""MAGNeT as a composer: pieces do not depend on neighbours, and what cannot be is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from alm_cli.checkpoints.load import load
from alm_cli.decoding.masked import annealed, fill, magnet_looks
from alm_cli.decoding.sampling import Sampling
from alm_cli.errors import InputError, ModelError, UsageError
from alm_cli.lm.magnet import Magnet, guided
from alm_cli.nn.packed import can_pack
from alm_cli.systems.codec import load_codec
from alm_cli.systems.composer import Piece, load_composer
from alm_cli.systems.magnet_composer import MagnetComposer
from alm_cli.values import Audio, Tokens
from tests.codecs.test_encodec_32khz import TINY, audiocraft
from tests.lm.magnets import TEXT, export
from tests.oracles import encodec_pair

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore"),
]

# 50 frames a second, as published, of 12 samples.
RATE, HOP, SECONDS = 600, 12, 2
WORDS = ("calm", "piano", "fast", "drums", "and", "a", "with")
PIECES = (
    Piece(prompt="calm piano", seconds=2.0, seed=1),
    Piece(prompt="fast drums and a piano with drums", seconds=1.31, seed=2),
    Piece(prompt="a", seconds=0.4, seed=1),
)


def t5(folder: Path) -> None:
    """A tiny T5 with a tokenizer."""
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    sizes = {"d_model": TEXT, "d_kv": 4, "d_ff": 20, "num_layers": 2, "num_heads": 3}
    T5EncoderModel(T5Config(**sizes, vocab_size=40)).save_pretrained(folder)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -3.0)]
    pieces += [(f"▁{word}", -1.0) for word in WORDS]
    tokenizer = Tokenizer(models.Unigram(pieces, 2))
    spaces = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(spaces)
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that belongs to a model, as AudioCraft exports it."""
    made = export(tmp_path_factory.mktemp("magnet"), seconds=SECONDS)
    t5(made / "t5-base")
    # Four codebooks of 32 codes, as many as the model tells apart.
    sizes = TINY | {"codebook_size": 32, "target_bandwidths": [54.0]}
    pair = encodec_pair(made / "encodec_32khz", **sizes)
    audiocraft(made, pair, rate=RATE)
    return made


@pytest.fixture(scope="module")
def magnet(folder: Path) -> MagnetComposer:
    made = load_composer(folder, device="cpu")
    assert isinstance(made, MagnetComposer)
    return made


def same(one: Any, other: Any) -> bool:
    return bool(np.array_equal(one.samples, other.samples))


def test_a_piece_sounds_the_same_alone_repeated_in_a_batch_and_streamed(
    magnet: MagnetComposer,
) -> None:
    together = magnet.compose(PIECES)
    for piece, music in zip(PIECES, together, strict=True):
        (alone,) = magnet.compose([piece])
        assert same(alone, music)
        stream = magnet.stream(piece)
        blocks = list(stream)
        assert np.array_equal(np.concatenate(blocks, 1), music.samples)
        assert music.samples.shape == (1, round(piece.seconds * RATE))
        assert music.samples.dtype == np.float32
        assert np.abs(music.samples).max() > 0


def test_two_threads_make_the_same(magnet: MagnetComposer) -> None:
    (one,) = magnet.compose(PIECES[1:2])
    torch.set_num_threads(2)
    (two,) = magnet.compose(PIECES[1:2])
    torch.set_num_threads(1)
    assert same(one, two)


def test_what_is_asked_for_matters(magnet: MagnetComposer) -> None:
    piece = PIECES[0]
    (plain,) = magnet.compose([piece])
    others = [
        replace(piece, seed=7),
        replace(piece, prompt="fast drums"),
        replace(piece, guidance=1.0),
        replace(piece, temperature=0.0),
        replace(piece, temperature=1.0),
        replace(piece, top_p=0.3),
        replace(piece, top_k=2),
    ]
    made = magnet.compose(others)
    assert not any(same(plain, other) for other in made)
    assert same(
        magnet.compose([replace(piece, guidance=10.0, temperature=3.0, top_p=0.9)])[0], plain
    )


def test_codes_are_those_of_the_decoding_that_audiocraft_has(
    folder: Path, magnet: MagnetComposer
) -> None:
    """Guidance 10 to 1, temperature 3, top-p 0.9, 20 + 10 + 10 + 10 looks, spans of three."""
    model: Any = load(folder).model
    assert isinstance(model, Magnet)
    ids = torch.tensor([[4, 5, 1]])
    heard = model.listen(load(folder / "t5-base").model(ids, torch.ones_like(ids)))

    def predict(codes: torch.Tensor, book: int, masked: float) -> torch.Tensor:
        told, untold = model(codes.repeat(2, 1, 1), book, heard)
        return guided(told, untold, annealed(masked, 10.0, 1.0))[None]

    with torch.no_grad():
        codes = fill(
            predict,
            torch.full((1, 4, 100), model.mask),
            [magnet_looks(looks, 3.0) for looks in (20, 10, 10, 10)],
            Sampling(top_p=0.9),
            [torch.Generator().manual_seed(1)],
            span=3,
        )
    (music,) = magnet.compose(PIECES[:1])
    assert isinstance(music.tokens, Tokens)
    assert np.array_equal(music.tokens.codes[0], codes[0].numpy())


def test_trap_two_seconds_are_1_98_and_silence(magnet: MagnetComposer) -> None:
    (music,) = magnet.compose(PIECES[:1])
    assert isinstance(music.tokens, Tokens) and music.tokens.frames == 99
    assert not music.samples[0, 99 * HOP :].any() and music.samples.shape[1] == 100 * HOP
    assert music.samples[0, 98 * HOP : 99 * HOP].any()


def test_tokens_are_what_the_samples_were_decoded_from(
    folder: Path, magnet: MagnetComposer
) -> None:
    codec = load_codec(folder / "compression_state_dict.bin", device="cpu")
    for music in magnet.compose(PIECES[1:]):
        assert isinstance(music.tokens, Tokens)
        heard = codec.decode(music.tokens, force=True).samples
        assert heard.shape == music.samples.shape
        assert np.abs(heard - music.samples).max() < 1e-5
        assert music.tokens.origin.notes["model"] == magnet.name


def test_a_shorter_piece_is_the_beginning_of_a_clip(magnet: MagnetComposer) -> None:
    long, short = magnet.compose([PIECES[0], replace(PIECES[0], seconds=0.5)])
    assert isinstance(long.tokens, Tokens) and isinstance(short.tokens, Tokens)
    assert np.array_equal(long.tokens.codes[..., :25], short.tokens.codes)


RECORDING = Audio(np.zeros((1, 100), np.float32), RATE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seconds": 2.1}, "2.1 s, where .* makes 2 s at most"),
        ({"prompt": ""}, "empty"),
        ({"prompt": "   "}, "empty"),
        ({"prompt": "piano " * 600}, "600 tokens"),
        ({"melody": RECORDING}, "follows no melody"),
        ({"past": RECORDING}, "does not go on"),
        ({"loop": True}, "makes no loops"),
        ({"top_k": 3, "top_p": 0.5}, "top-k or by top-p"),
    ],
)
def test_what_it_cannot_do_is_refused(
    magnet: MagnetComposer, change: dict[str, Any], message: str
) -> None:
    piece = replace(PIECES[0], **change)
    for ask in (magnet.check, lambda p: magnet.compose([p]), lambda p: list(magnet.stream(p))):
        with pytest.raises(InputError, match=message):
            ask(piece)


def test_numbers_out_of_range_are_refused(magnet: MagnetComposer) -> None:
    for change in ({"temperature": -1.0}, {"top_p": 1.5}, {"top_k": -1}):
        with pytest.raises(UsageError, match=next(iter(change))):
            magnet.compose([replace(PIECES[0], **change)])  # type: ignore[arg-type]


def test_what_no_piece_stands_for_is_told(magnet: MagnetComposer) -> None:
    assert magnet.check(PIECES[0]) == ()
    (said,) = magnet.check(replace(PIECES[0], prompt="calm ♫ piano"))
    assert "♫" in said


def test_a_file_may_name_the_codec_instead_of_holding_it(
    folder: Path, tmp_path: Path, magnet: MagnetComposer
) -> None:
    """As in most of AudioCraft's own exports: 78 bytes."""
    other = shutil.copytree(folder, tmp_path / "copy")
    pointer = {"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.3.0"}
    torch.save(pointer, other / "compression_state_dict.bin")
    config = other / "encodec_32khz" / "config.json"
    told = json.loads(config.read_text()) | {"sampling_rate": RATE}
    # As many bits as four books of 32 codes have at 50 frames a second.
    config.write_text(json.dumps(told | {"target_bandwidths": [1.0]}))
    made = load_composer(other, device="cpu").compose(PIECES[2:])
    assert same(made[0], magnet.compose(PIECES[2:])[0])


def test_a_file_that_names_what_nobody_knows_is_refused(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "copy")
    for name in ("somebody/else", "../../..", "/etc", ".", ""):
        torch.save({"pretrained": name}, other / "compression_state_dict.bin")
        with pytest.raises(ModelError, match="which alm does not know"):
            load_composer(other, device="cpu")


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("compression_state_dict.bin", "compression_state_dict.bin: missing"),
        ("t5-base/tokenizer.json", "no tokenizer"),
        ("t5-base/model.safetensors", "no weights"),
    ],
)
def test_what_is_missing_is_named(folder: Path, tmp_path: Path, gone: str, message: str) -> None:
    other = shutil.copytree(folder, tmp_path / "copy")
    (other / gone).unlink()
    with pytest.raises(ModelError, match=message):
        load_composer(other, device="cpu")


def test_another_codec_or_another_t5_is_refused(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "codec")
    torch.save({"pretrained": "a/b"}, other / "compression_state_dict.bin")
    pair = encodec_pair(tmp_path / "pair", **(TINY | {"codebook_size": 16}))
    audiocraft(other, pair, rate=RATE)
    with pytest.raises(ModelError, match="not the codec"):
        load_composer(other, device="cpu")
    third = shutil.copytree(folder, tmp_path / "t5")
    shutil.rmtree(third / "t5-base")
    shutil.copytree(folder / "encodec_32khz", third / "t5-base")
    with pytest.raises(ModelError, match="not the t5-base"):
        load_composer(third, device="cpu")


def test_a_t5_of_another_name_is_looked_for_beside_the_weights(
    folder: Path, tmp_path: Path
) -> None:
    export(tmp_path, text_encoder="google/flan-t5-small")
    with pytest.raises(ModelError, match="flan-t5-small"):
        load_composer(tmp_path, device="cpu")
    assert (folder / "t5-base").is_dir()


@pytest.mark.skipif(not can_pack(), reason="this machine has no products of 8 bits")
def test_int8_makes_music_too(folder: Path, magnet: MagnetComposer) -> None:
    small = load_composer(folder, device="cpu", dtype="int8")
    (one,), (other,) = small.compose(PIECES[:1]), magnet.compose(PIECES[:1])
    assert one.samples.shape == other.samples.shape
    assert np.isfinite(one.samples).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_makes_the_same_alone_and_in_a_batch(folder: Path) -> None:
    fast = load_composer(folder, device="cuda", dtype="float16")
    together = fast.compose(PIECES)
    for piece, music in zip(PIECES, together, strict=True):
        assert same(fast.compose([piece])[0], music)
