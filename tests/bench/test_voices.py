"""Whether two recordings have one voice: laws, and the package whose weights it is."""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

from alm_cli.bench import voices
from alm_cli.bench.quality import at_rate
from alm_cli.bench.voices import pieces, speaker_cosine, voice
from alm_cli.errors import InputError, ModelError
from alm_cli.files.audio import read_audio
from alm_cli.values import Audio

SPEECH = Path(__file__).parents[2] / "sample_audio" / "speech.wav"


@pytest.fixture
def package() -> Path:
    """The folder of the package that brings the weights."""
    spec = importlib.util.find_spec("resemblyzer")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("resemblyzer is not installed")
    return Path(spec.submodule_search_locations[0])


@pytest.mark.usefixtures("package")
def test_a_voice_is_its_own_and_loudness_does_not_matter() -> None:
    speech = read_audio(SPEECH)
    assert speaker_cosine(speech, speech) == pytest.approx(1, abs=1e-5)
    softer = Audio(np.float32(0.25) * speech.samples, speech.rate)
    assert speaker_cosine(speech, softer) == pytest.approx(1, abs=1e-4)
    higher = Audio(speech.samples, round(1.5 * speech.rate))  # faster and higher: somebody else
    cut = Audio(at_rate(higher, speech.rate).samples, speech.rate)
    same = Audio(speech.samples[:, : cut.length], speech.rate)
    assert 0 <= speaker_cosine(same, cut) < 0.8


@pytest.mark.usefixtures("package")
def test_what_is_no_voice_is_told() -> None:
    silence, short = np.zeros((1, 16_000), np.float32), np.ones((1, 4000), np.float32)
    for samples in (silence, short):
        with pytest.raises(InputError):
            speaker_cosine(Audio(samples, 16_000), Audio(samples, 16_000))
    speech = read_audio(SPEECH)
    assert speaker_cosine(speech, Audio(0 * speech.samples, speech.rate)) == 0


@pytest.mark.oracle
def test_the_package_makes_the_same_of_it(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what it imports to cut silence, which is not used here."""
    pytest.importorskip("librosa")
    hollow, morphology = types.ModuleType("webrtcvad"), types.ModuleType("morphology")
    morphology.binary_dilation = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "webrtcvad", hollow)
    monkeypatch.setitem(sys.modules, "scipy.ndimage.morphology", morphology)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from resemblyzer import VoiceEncoder, normalize_volume

        theirs = VoiceEncoder("cpu", verbose=False)
        for length in (12_000, 25_600, 30_000, 61_234):
            wave = at_rate(read_audio(SPEECH), 16_000).samples[0, :length]
            wanted = theirs.embed_utterance(normalize_volume(wave, -30, increase_only=True))
            np.testing.assert_allclose(voice(voices.weights(), wave), wanted, atol=1e-4)
            slices = theirs.compute_partial_slices(length, 1.3, 0.75)[1]
            assert pieces(length) == [one.start for one in slices]
    assert package.name == "resemblyzer"


def test_pieces_cover_a_recording() -> None:
    assert pieces(8000) == [0]
    assert pieces(160 * 160) == [0]
    assert pieces(5 * 16_000)[:3] == [0, 77, 154]


def test_a_file_that_holds_no_encoder_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not unpickled."""
    (tmp_path / "pretrained.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(voices, "find_spec", lambda _: spec)
    voices.weights.cache_clear()
    with pytest.raises(ModelError, match="voice encoder") as caught:
        speaker_cosine(Audio(np.ones((1, 16_000), np.float32), 16_000), read_audio(SPEECH))
    assert "--no-deps" in str(caught.value.hint)
    voices.weights.cache_clear()
