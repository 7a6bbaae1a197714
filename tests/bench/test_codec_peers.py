"""Other programs with the same weights: their codes are ours, and what they lack is told."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alm_cli.bench.codec_peers import PROGRAMS, Calls, CodecPeer, codec_peer
from alm_cli.bench.codec_trials import CodecTrial
from alm_cli.bench.codecs import Bench, Recording
from alm_cli.bench.statistics import Spread
from alm_cli.errors import ModelError
from alm_cli.systems.codec import load_codec
from alm_cli.values import Audio
from tests.codecs.test_dac import TINY_HUB as DAC
from tests.codecs.test_encodec import TINY as ENCODEC
from tests.codecs.test_mimi import TINY as MIMI
from tests.oracles import encodec_pair

pytestmark = pytest.mark.oracle


def recording(seconds: float = 0.3, rate: int = 24_000) -> Recording:
    times = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2000 * times * (1 + times)) + 0.05 * np.sin(90 * times)
    audio = Audio(wave.astype(np.float32)[None], rate)
    return Recording(name="chirp", path=Path("chirp.wav"), audio=audio)


def stored(folder: Path, kind: str, settings: dict[str, Any]) -> Path:
    """A random model of transformers."""
    transformers = pytest.importorskip("transformers")
    if kind == "Encodec":
        encodec_pair(folder, **settings)
        return folder
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")(
        getattr(transformers, f"{kind}Config")(**settings)
    )
    for name, buffer in model.named_buffers():
        if name.endswith("codebook.embed_sum"):
            buffer.normal_()
    model.save_pretrained(folder)
    return folder


def rows(folder: Path, program: str) -> tuple[Bench, list[dict[str, Any]]]:
    codec = load_codec(folder, device="cpu")
    whole = Bench([recording()], runs=1, warm_up=0, measures={})
    points = [len(codec.vocabularies)]
    peers = [codec_peer(program, str(folder))]
    trial = CodecTrial(whole, codec, points, peers)
    trial.hear(whole.recordings[0])
    trial.finish()
    return whole, trial.rows()


@pytest.mark.parametrize(("kind", "settings"), [("Encodec", ENCODEC), ("Dac", DAC), ("Mimi", MIMI)])
def test_transformers_is_a_row_with_the_same_codes(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    whole, (here, there) = rows(stored(tmp_path, kind, settings), "transformers")
    assert (here["program"], there["program"]) == ("alm", "transformers")
    assert here["kbps"] == there["kbps"] and "agreement" not in here
    assert there["agreement"] == pytest.approx(100, abs=0.5)
    assert all(isinstance(there[f"{work}_rtfx"], Spread) for work in ("encode", "decode"))
    labels = [one.seconds for one in whole.timings]
    assert len(labels) == 4  # both works of both programs, in turn


def test_encodec_itself_gets_the_weights_of_the_hub(tmp_path: Path) -> None:
    """At the published size, which is built in; the codes of its 32 books are ours."""
    pytest.importorskip("encodec")
    whole, (_, there) = rows(stored(tmp_path, "Encodec", {}), "encodec")
    assert not whole.skipped.keys() - {"device"}
    assert there["agreement"] == pytest.approx(100, abs=0.2)


def test_dac_itself_gets_the_weights_of_the_hub(tmp_path: Path) -> None:
    """Which have no weight norm any more: magnitude and direction come of the product."""
    folder = stored(tmp_path, "Dac", DAC)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own and of its many dependencies
        pytest.importorskip("dac")
        whole, (_, there) = rows(folder, "descript-audio-codec")
    assert not whole.skipped.keys() - {"device"}
    assert there["agreement"] == pytest.approx(100, abs=1)


def test_the_decoded_wave_is_as_long_and_nearly_the_same(tmp_path: Path) -> None:
    folder, one = stored(tmp_path, "Encodec", ENCODEC), recording(rate=16_000)
    codec, peer = load_codec(folder, device="cpu"), codec_peer("transformers", str(folder))
    books = len(codec.vocabularies)
    made = peer.encode(one.audio, books)
    theirs, ours = peer.decode(made, one.audio), codec.decode(codec.encode(one.audio))
    assert theirs.samples.shape == ours.samples.shape and theirs.rate == ours.rate
    np.testing.assert_allclose(theirs.samples, ours.samples, atol=1e-4)


def test_a_program_that_fails_is_told_and_loses_nothing_of_ours(tmp_path: Path) -> None:
    def fail(*given: object) -> Any:
        raise RuntimeError(f"{given[2]} is too much")

    calls = Calls(encode=fail, decode=fail, codes=fail)
    peer = CodecPeer(program="broken", model=None, calls=calls, rate=24_000, channels=1)
    codec = load_codec(stored(tmp_path, "Encodec", ENCODEC), device="cpu")
    whole = Bench([recording()], runs=1, warm_up=0, measures={})
    trial = CodecTrial(whole, codec, [1], [peer])
    trial.hear(whole.recordings[0])
    trial.finish()
    assert [row["program"] for row in trial.rows()] == ["alm"]
    assert whole.skipped["broken"] == "RuntimeError: 1 is too much"


def test_programs_say_what_they_lack(tmp_path: Path) -> None:
    for program, package in (("encodec", "encodec"), ("descript-audio-codec", "dac")):
        if find_spec(package) is None:
            with pytest.raises(ModelError, match="not installed") as caught:
                codec_peer(program, "alm-codec")
            assert caught.value.hint == f"pip install {program}"
    with pytest.raises(ModelError, match="compared on encodec, dac, mimi"):
        codec_peer("transformers", "alm-codec")
    peer = codec_peer("transformers", str(stored(tmp_path, "Encodec", ENCODEC)))
    with pytest.raises(ModelError, match="codebooks, not 3"):
        peer.encode(recording().audio, 3)
    assert set(PROGRAMS) == {"transformers", "encodec", "descript-audio-codec"}
