"""Recognisers measured: word errors, waiting, the cache of a Whisper, and other programs."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from alm_cli.bench.caches import whisper_cache
from alm_cli.bench.codecs import Recording
from alm_cli.bench.peers import PEERS, peer
from alm_cli.bench.recognisers import Recogniser, Recognition, Trial, cache_cells, ours
from alm_cli.bench.reports import Cell
from alm_cli.bench.statistics import Estimate, Spread, ratio
from alm_cli.errors import ModelError
from alm_cli.lm.whisper import Whisper, WhisperConfig
from alm_cli.systems.transcriber import TranscribeAsk, load_transcriber
from tests.bench.people import Listener, tone

SIZES = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
    "max_target_positions": 24, "vocab_size": 51_865,
}  # fmt: skip


def recordings(*seconds: float) -> list[Recording]:
    return [
        Recording(name=f"{length:g}", path=Path(f"{length:g}.wav"), audio=tone(length))
        for length in seconds
    ]


def rows(bench: Recognition, recognisers: list[Recogniser]) -> list[dict[str, Cell]]:
    """Those of all recordings."""
    trial = Trial(bench, recognisers)
    for one in bench.recordings:
        trial.hear(one)
    return trial.rows()


def test_wrong_words_and_waiting_are_those_of_the_recordings() -> None:
    """Said: `cat dog`, `cat`. The one listener is right, the other hears another second word."""
    bench = Recognition(
        recordings=recordings(1.5, 0.5), texts={"1.5": "Cat, dog!", "0.5": "cat"}, runs=2, warm_up=0
    )
    right, wrong = (ours(Listener(words, think_s=0.02), TranscribeAsk())
                    for words in ("cat dog", "cat fog"))  # fmt: skip
    good, bad = rows(bench, [right, wrong])
    assert (good["wrong"], good["words"], bad["wrong"], bad["words"]) == (0, 3, 1, 3)
    assert isinstance(bad["wer"], Estimate) and isinstance(good["p50_s"], Estimate)
    assert bad["wer"].value == pytest.approx(100 / 3)
    assert bad["wer"].lower <= bad["wer"].value <= bad["wer"].upper
    assert good["p50_s"].value >= 0.02
    assert isinstance(good["rtf"], Spread) and isinstance(good["rtfx"], Spread)
    assert good["rtf"].count == 2 and good["rtf"].median >= 2 * 0.02 / 2.0
    assert isinstance(good["first_text_ms"], Spread) and good["first_text_ms"].count == 4
    assert not bench.skipped


def test_without_texts_the_rate_is_skipped_with_the_reason() -> None:
    bench = Recognition(recordings=recordings(0.5), runs=1, warm_up=0)
    (row,) = rows(bench, [ours(Listener(), TranscribeAsk())])
    assert "wer" not in row and "--texts" in bench.skipped["wer"]


def test_a_rate_over_recordings_is_that_of_all_words() -> None:
    found = ratio([1, 0, 3], [10, 20, 10])
    assert found is not None and found.value == pytest.approx(0.1)
    assert 0 <= found.lower < found.value < found.upper <= 0.3
    assert ratio([], []) is None and ratio([1], [0]) is None


@pytest.mark.parametrize(("tokens", "dtype"), [(1, torch.bfloat16), (20, torch.float32)])
def test_the_cache_is_as_large_as_its_shape_says(tokens: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Whisper(WhisperConfig.from_hub(SIZES)).eval().to(dtype)
    cache = whisper_cache(model, tokens)
    bytes_each = 4 if dtype is torch.float32 else 2
    assert cache.predicted == 2 * 2 * 32 * (1500 + tokens) * bytes_each
    assert abs(cache.kept / cache.predicted - 1) < 0.02
    assert cache.kept <= cache.allocated
    assert cache.first_token_s > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Whisper as transformers stores it, with its tokenizer."""
    transformers = pytest.importorskip("transformers")
    package = find_spec("whisper")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the tokenizer comes from openai-whisper")
    folder = tmp_path_factory.mktemp("whisper") / "random"
    torch.manual_seed(0)
    config = transformers.WhisperConfig(**SIZES, init_std=0.3)
    transformers.WhisperForConditionalGeneration(config).save_pretrained(folder)
    assets = Path(package.submodule_search_locations[0]) / "assets"
    shutil.copy(assets / "multilingual.tiktoken", folder)
    return folder


def test_another_program_with_the_same_weights_is_a_row(folder: Path) -> None:
    ask = TranscribeAsk(language="en", beam_size=1, temperature=(0.0,), without_timestamps=True)
    bench = Recognition(recordings=recordings(0.5), texts={"0.5": "one"}, runs=1, warm_up=0)
    theirs = peer("transformers", folder, ask)
    here, there = rows(bench, [ours(load_transcriber(folder), ask), theirs])
    assert (here["model"], there["model"]) == ("random", "random")
    assert (here["program"], there["program"]) == ("alm", "transformers")
    assert isinstance(there["rtfx"], Spread) and there["load_s"] is not None
    assert here["words"] == there["words"] == 1
    cells = dict(cache_cells(str(folder)))
    assert abs(float(str(cells["cache_off"]))) < 2


def test_programs_say_what_they_lack(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"\.pt"):
        peer("openai-whisper", folder, TranscribeAsk())
    if find_spec("faster_whisper") is None:
        with pytest.raises(ModelError, match="not installed") as caught:
            peer("faster-whisper", folder, TranscribeAsk())
        assert caught.value.hint == "pip install faster-whisper"
    with pytest.raises(ModelError, match="needs config.json"):
        peer("transformers", folder / "config.json", TranscribeAsk())
    assert set(PEERS) == {"openai-whisper", "transformers", "faster-whisper"}
