"""`alm transcribe` with real networks: Whisper against openai-whisper, letters by CTC, our own."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from alm_cli.catalog import CATALOG
from alm_cli.files.audio import open_writer, read_audio
from alm_cli.nn.packed import can_pack

Alm = Callable[..., Result]
RATE = 16_000
SPEECH = Path(__file__).parents[2] / "sample_audio" / "speech.wav"
DIMS = {
    "n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 48, "n_audio_head": 4, "n_audio_layer": 1,
    "n_vocab": 51_865, "n_text_ctx": 20, "n_text_state": 48, "n_text_head": 4, "n_text_layer": 2,
}  # fmt: skip
# One attempt for each window, whatever it gives: these models know nothing.
ONCE = ("--temperature-increment-on-fallback", "None", "--no-speech-threshold", "None")
GERMAN = ("--language", "de")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Whisper as OpenAI stores it."""
    import torch

    whisper = pytest.importorskip("whisper.model")
    torch.manual_seed(0)
    model = whisper.Whisper(whisper.ModelDimensions(**DIMS))
    for name, weights in model.named_parameters():
        if weights.dim() > 1:
            spread = 0.3 if "embedding" in name else 1.5 / weights[0].numel() ** 0.5
            torch.nn.init.normal_(weights, std=spread)
    path = tmp_path_factory.mktemp("whisper") / "random.pt"
    torch.save({"dims": DIMS, "model_state_dict": model.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Whisper as transformers stores it, with its tokenizer."""
    import torch

    transformers = pytest.importorskip("transformers")
    package = find_spec("whisper")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the tokenizer comes from openai-whisper")
    folder = tmp_path_factory.mktemp("whisper") / "random"
    ranks = Path(package.submodule_search_locations[0]) / "assets" / "multilingual.tiktoken"
    sizes = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64}
    config = transformers.WhisperConfig(
        vocab_size=51_865, d_model=32, encoder_layers=1, decoder_layers=1, decoder_ffn_dim=64,
        max_target_positions=20, init_std=0.3, **sizes,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.WhisperForConditionalGeneration(config).save_pretrained(folder)
    shutil.copy(ranks, folder)
    return folder


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random wav2vec 2.0 with a head for CTC."""
    import torch

    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("letters") / "random"
    symbols = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
    config = transformers.Wav2Vec2Config(
        vocab_size=len(symbols), hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=64, conv_dim=[16] * 7, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.Wav2Vec2ForCTC(config).save_pretrained(folder)
    vocabulary = {symbol: place for place, symbol in enumerate(symbols)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    return folder


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    """Noise of several lengths."""
    generator = np.random.default_rng(0)
    paths = []
    for seconds in (1, 2, 4):
        paths.append(tmp_path / f"in/{seconds}.wav")
        paths[-1].parent.mkdir(exist_ok=True)
        with open_writer(paths[-1], rate=RATE, channels=1) as writer:
            noise = 0.1 * generator.standard_normal((1, seconds * RATE))
            writer.write(noise.astype(np.float32))
    return paths


# What openai-whisper does with NumPy and its files is its own affair.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.oracle
def test_files_are_those_of_openai_whisper(
    alm: Alm, original: Path, recordings: list[Path], tmp_path: Path
) -> None:
    import whisper
    from whisper.utils import get_writer

    words = ["--beam_size", 2, "--logprob_threshold", "None", "--compression_ratio_threshold"]
    result = alm(
        *("transcribe", recordings[1], "-m", original, "-o", f"{tmp_path}/out/", "-f", "all"),
        *(*words, "None", *ONCE, *GERMAN),
    )
    assert result.exit_code == 0, result.stderr
    theirs: dict[str, Any] = whisper.transcribe(
        whisper.load_model(str(original), device="cpu"),
        read_audio(recordings[1]).samples[0],
        language="de",
        temperature=0.0,
        beam_size=2,
        logprob_threshold=None,
        compression_ratio_threshold=None,
        no_speech_threshold=None,
        fp16=False,
    )
    assert theirs["segments"]
    for format in ("txt", "vtt", "srt", "tsv"):
        file = io.StringIO()
        get_writer(format, ".").write_result(theirs, file, None)
        ours = (tmp_path / f"out/2.{format}").read_text(encoding="utf-8")
        assert ours == file.getvalue(), format
    ours = json.loads((tmp_path / "out/2.json").read_text(encoding="utf-8"))
    assert list(ours) == list(theirs)
    for one, other in zip(ours.pop("segments"), theirs.pop("segments"), strict=True):
        assert list(one) == list(other)
        assert one.pop("tokens") == other.pop("tokens")
        assert one.pop("text") == other.pop("text")
        assert one == pytest.approx(other, rel=1e-3)
    assert ours == theirs


@pytest.mark.oracle
def test_texts_depend_on_the_seed_and_on_no_batch(
    alm: Alm, folder: Path, recordings: list[Path], tmp_path: Path
) -> None:
    options = ("-f", "srt", "--temperature", 0.9, "--best-of", 2, *ONCE, *GERMAN)

    def texts(name: str, *more: object) -> dict[str, str]:
        result = alm(
            *("transcribe", *recordings, "-m", folder, "-o", f"{tmp_path}/{name}/"),
            *(*options, *more),
        )
        assert result.exit_code == 0, result.stderr
        files = (tmp_path / name).glob("*.srt")
        return {path.name: path.read_text(encoding="utf-8") for path in files}

    expected = texts("one")
    assert all(len(text.splitlines()) > 2 for text in expected.values())
    assert texts("two", "--batch-size", 2) == expected
    assert texts("three", "--batch-size", 3) == expected
    assert texts("other", "--seed", 1) != expected


@pytest.mark.oracle
def test_a_draft_and_other_numbers_are_asked_for_by_name(
    alm: Alm, folder: Path, recordings: list[Path], tmp_path: Path
) -> None:
    def told(*more: object) -> dict[str, Any]:
        line = ("transcribe", recordings[0], "-m", folder, "-o", tmp_path / "a.txt", "--overwrite")
        result = alm(*line, *ONCE, *GERMAN, "--json", *more)
        assert result.exit_code == 0, result.stderr
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    greedy = ("--beam-size", "None")
    assert "dtype" not in told(*greedy) and "drafts_accepted" not in told(*greedy)
    text = (tmp_path / "a.txt").read_text(encoding="utf-8")
    assert told(*greedy, "--draft-model", folder)["drafts_accepted"] == 1
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == text
    refused = alm("transcribe", recordings[0], "-m", folder, "--draft-model", folder)
    assert refused.exit_code == 2
    assert "--beam-size None" in refused.stderr
    assert told(*greedy, "--dtype", "bfloat16")["dtype"] == "bfloat16"
    if can_pack():
        assert told(*greedy, "--dtype", "int8")["dtype"] == "int8"
    assert alm("transcribe", recordings[0], "--dtype", "int8").exit_code == 2
    assert alm("transcribe", recordings[0], "-m", folder, "--draft-model", "nobody").exit_code == 3


def test_silence_is_said_to_be_silent(alm: Alm, tmp_path: Path) -> None:
    with open_writer(tmp_path / "a.wav", rate=RATE, channels=1) as writer:
        writer.write(np.zeros((1, RATE), np.float32))
    result = alm("transcribe", tmp_path / "a.wav")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no speech was found" in result.stderr


@pytest.mark.oracle
def test_models_of_letters_are_recognisers_too(
    alm: Alm, letters: Path, recordings: list[Path]
) -> None:
    result = alm("transcribe", recordings[1], "-m", letters, "-f", "jsonl")
    assert result.exit_code == 0, result.stderr
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["segments"] == len(result.stdout.splitlines()) - 1
    for option in (("--task", "translate"), ("--initial-prompt", "x")):
        refused = alm("transcribe", *recordings, "-m", letters, *option, "--json")
        assert (refused.exit_code, refused.stdout) == (2, ""), option
        assert "random cannot" in refused.stderr
    assert not list(recordings[0].parent.glob("*.txt"))


@pytest.mark.skipif(
    all(card.name != "alm-asr" for card in CATALOG), reason="alm-asr is not in the package yet"
)
def test_our_own_model_writes_down_what_is_said(alm: Alm) -> None:
    result = alm("transcribe", SPEECH)
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.split()) >= 5
    found = alm("align", SPEECH, "--text", result.stdout, "-f", "jsonl")
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout.splitlines()[-1])["model"] == "alm-asr"
    assert alm("transcribe", SPEECH, "--task", "translate").exit_code == 2
