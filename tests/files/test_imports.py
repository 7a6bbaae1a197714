"""Files of other programs: read as they are, never run, refused when they lie."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alm_cli.errors import FormatError
from alm_cli.files.imports import read_dac, read_ecdc
from alm_cli.files.pickled import plain_values
from alm_cli.files.tokens import read_tokens, to_bytes
from alm_cli.values import Tokens

# Made by encodec 0.1.1 (`compress_to_file`) and descript-audio-codec 1.0.0 (`DACFile.save`, under
# numpy 1.26 and 2.4) from random codes of ours.
FILES = Path(__file__).parents[1] / "fixtures" / "imports"


def random_codes(seed: int, *shape: int) -> NDArray[np.int64]:
    """The codes that the fixtures were made of."""
    return np.random.default_rng(seed).integers(0, 1024, shape)


def stored(tokens: Tokens) -> Tokens:
    """Written as a token file and read again."""
    again = read_tokens(io.BytesIO(to_bytes(tokens)))
    assert isinstance(again, Tokens)
    assert again.origin == tokens.origin
    assert np.array_equal(again.codes, tokens.codes)
    return again


def test_ecdc_of_24_khz() -> None:
    """Trap: codes are packed time by time, not codebook by codebook, lowest bit first."""
    tokens = stored(read_ecdc((FILES / "24khz.ecdc").read_bytes()))
    assert np.array_equal(tokens.codes, random_codes(1, 1, 3, 5))
    origin = tokens.origin
    assert (origin.codec, origin.rate, origin.hop) == ("encodec-24khz", 24_000, 320)
    assert (origin.source_length, origin.source_rate, origin.channels) == (1500, 24_000, 1)
    assert origin.weights_sha256 == ""


def test_ecdc_of_48_khz_has_segments_and_their_loudness() -> None:
    """Trap: a float32 of loudness, the highest byte first, stands before each segment, whose last
    byte is filled up; segments begin every 47 520 samples."""
    tokens = stored(read_ecdc((FILES / "48khz.ecdc").read_bytes()))
    parts = [random_codes(10 + n, 1, 2, frames) for n, frames in enumerate((150, 150, 2))]
    assert np.array_equal(tokens.codes, np.concatenate(parts, axis=2))
    assert np.array_equal(tokens.side["scale"], [[0.5], [1.0], [1.5]])
    assert (tokens.origin.channels, tokens.origin.source_length) == (2, 95_520)


def ecdc(header: object, body: bytes = b"", magic: bytes = b"ECDC", version: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("!4sBI", magic, version, len(text)) + text + body


def facts(**changes: object) -> dict[str, object]:
    return {"m": "encodec_24khz", "al": 640, "nc": 2, "lm": False, **changes}


def test_an_ecdc_file_of_a_language_model_says_what_to_do() -> None:
    with pytest.raises(FormatError, match="language model") as caught:
        read_ecdc(ecdc(facts(lm=True), bytes(50)))
    assert "encode the audio again" in str(caught.value.hint)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ECDC",
        b"ECDC\0\xff\xff\xff\xff",
        ecdc(facts(), bytes(5), magic=b"ECDX"),
        ecdc(facts(), bytes(5), version=1),
        ecdc(facts(), bytes(4)),
        ecdc(facts(), bytes(6)),
        ecdc(facts(al=320), bytes(2) + b"\xff"),
        ecdc(facts(m="encodec_32khz"), bytes(5)),
        ecdc(facts(m=5), bytes(5)),
        ecdc(facts(al=0)),
        ecdc(facts(al=-5)),
        ecdc(facts(al=6.4), bytes(5)),
        ecdc(facts(al=10**15), bytes(5)),
        ecdc(facts(al=10**400), bytes(5)),
        ecdc(facts(m="encodec_48khz", al=10**12), bytes(5)),
        ecdc(facts(m="encodec_48khz", nc=17), bytes(5)),
        ecdc(facts(nc=0)),
        ecdc(facts(nc=33), bytes(83)),
        ecdc(facts(lm="no"), bytes(5)),
        ecdc({"m": "encodec_24khz"}, bytes(5)),
        ecdc([], bytes(5)),
        ecdc(b"[" * 60_000),
        ecdc(b"{" * 70_000),
        ecdc(b"\xff\xfe"),
        ecdc(facts(m="encodec_48khz", al=640, nc=2), struct.pack("!f", float("nan")) + bytes(5)),
    ],
)
def test_ecdc_files_that_lie_are_refused_within_bounds(data: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(FormatError):
        read_ecdc(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20


@settings(deadline=None, max_examples=100)
@given(length=st.integers(1, 2_000), books=st.integers(1, 16), stereo=st.booleans())
def test_ecdc_files_by_the_documented_layout(length: int, books: int, stereo: bool) -> None:
    """A mirror: the layout of research written down again, bit by bit."""
    length = length * 97 if stereo else length
    model = "encodec_48khz" if stereo else "encodec_24khz"
    starts = range(0, length, 47_520) if stereo else [0]
    frames = [-(-min(length - s, 48_000 if stereo else length) // 320) for s in starts]
    codes = random_codes(length, books, sum(frames))
    body, place = b"", 0
    for number, count in enumerate(frames):
        body += struct.pack("!f", number + 0.5) if stereo else b""
        bits = sum(
            int(code) << 10 * n for n, code in enumerate(codes[:, place : place + count].T.ravel())
        )
        body += bits.to_bytes(-(-count * books * 10 // 8), "little")
        place += count
    tokens = read_ecdc(ecdc(facts(m=model, al=length, nc=books), body))
    assert np.array_equal(tokens.codes[0], codes)
    assert len(tokens.side.get("scale", frames)) == len(frames)


def test_dac_whole() -> None:
    tokens = stored(read_dac((FILES / "whole_numpy1.dac").read_bytes(), "dac-44khz"))
    assert np.array_equal(tokens.codes, random_codes(2, 1, 3, 4))
    origin = tokens.origin
    assert (origin.codec, origin.rate, origin.hop) == ("dac-44khz", 44_100, 512)
    assert (origin.source_rate, origin.source_length) == (44_100, 2_000)
    assert dict(origin.notes) == {"channels": "mono", "gain_db": "7.5"}
    assert origin.vocabularies == (1024,) * 3


def test_dac_in_windows_of_a_stereo_recording() -> None:
    """Trap: channels are coded apart; `chunk_length` frames of a window were made of more."""
    tokens = stored(read_dac((FILES / "windowed_numpy2.dac").read_bytes(), "dac-44khz"))
    assert np.array_equal(tokens.codes, random_codes(3, 2, 2, 144))
    origin = tokens.origin
    assert (tokens.streams, origin.source_channels, origin.channels) == (2, 2, 1)
    assert (origin.source_rate, origin.source_length) == (48_000, 60_000)
    assert float(origin.notes["windowed"]) == (72 + 15) * 512 / 44_100
    assert origin.notes["gain_db"] == "0.25"


def test_the_window_decodes_as_many_frames_as_the_file_has_in_one() -> None:
    torch = pytest.importorskip("torch")
    from alm_cli.codecs.dac import Dac, DacConfig

    for rate, ratios, chunk, lost in (
        (44_100, (2, 4, 8, 8), 72, 15),
        (16_000, (2, 4, 5, 8), 34, 16),
    ):
        with torch.device("meta"):
            model = Dac(
                DacConfig(
                    rate=rate, width=2, decoder_width=16, features=4, ratios=ratios,
                    codebooks=1, vocabulary=4, dimension=2,
                )
            )  # fmt: skip
        assert model.windowed((chunk + lost) * model.hop / rate).frames == chunk


def saved(codes: Any, protocol: int | None = None, **changes: object) -> bytes:
    """A .dac file as its program writes it."""
    said: dict[str, object] = {
        "input_db": np.array([-20.0], np.float32),
        "original_length": 441_000,
        "sample_rate": 44_100,
        "chunk_length": 862,
        "channels": 1,
        "padding": True,
        "dac_version": "1.0.0",
    }
    said |= changes
    artifacts = {"codes": codes, "metadata": said}
    file = io.BytesIO()
    np.save(file, artifacts, allow_pickle=True)  # type: ignore[arg-type]
    if protocol is not None:
        head = file.getvalue()[: file.getvalue().index(b"\n") + 1]
        return head + pickle.dumps(np.array(artifacts, dtype=object), protocol)
    return file.getvalue()


def ten_seconds(books: int = 9, frames: int = 862) -> NDArray[np.uint16]:
    return random_codes(5, 1, books, frames).astype(np.uint16)


@pytest.mark.parametrize("protocol", [None, 3, 4])
def test_the_model_follows_from_the_number_of_frames(protocol: int | None) -> None:
    tokens = read_dac(saved(ten_seconds(), protocol))
    assert tokens.origin.codec == "dac-44khz"
    assert np.array_equal(tokens.codes, ten_seconds())
    assert read_dac(saved(ten_seconds(9, 750))).origin.codec == "dac-24khz"
    assert read_dac(saved(ten_seconds(9, 500))).origin.codec == "dac-16khz"
    assert read_dac(saved(ten_seconds(32, 750))).origin.codec == "dac-24khz"
    turned = np.asfortranarray(ten_seconds())
    assert np.array_equal(read_dac(saved(turned)).codes, turned)
    # Five-second windows, the last of which reaches beyond the end.
    windows = saved(ten_seconds(9, 3 * 416), padding=False, chunk_length=416)
    assert read_dac(windows).origin.notes["windowed"] == repr(431 * 512 / 44_100)


def test_a_model_that_does_not_follow_must_be_named() -> None:
    short = saved(ten_seconds(9, 1), original_length=100)
    with pytest.raises(FormatError, match="does not say which") as caught:
        read_dac(short)
    assert "--model" in str(caught.value.hint)
    assert read_dac(short, "dac-24khz").origin.codec == "dac-24khz"
    with pytest.raises(FormatError, match="come of no known model"):
        read_dac(saved(ten_seconds(9, 700)))
    with pytest.raises(FormatError, match="come of no known model"):
        read_dac(saved(ten_seconds()), "dac-16khz")


@pytest.mark.parametrize("loudness", [np.array([np.nan]), np.array([-np.inf]), None, np.ones(2)])
def test_an_unknown_loudness_is_no_gain(loudness: object) -> None:
    assert "gain_db" not in read_dac(saved(ten_seconds(), input_db=loudness)).origin.notes


@pytest.mark.parametrize(
    "changes",
    [
        {"original_length": -1},
        {"original_length": 0},
        {"original_length": 1 << 50},
        {"original_length": "long"},
        {"sample_rate": 0},
        {"sample_rate": 1 << 40},
        {"channels": 2},
        {"chunk_length": 0, "padding": False},
        {"chunk_length": -5, "padding": False},
        {"chunk_length": 1, "padding": False},
        {"padding": 1.5},
        {"dac_version": 1},
    ],
)
def test_dac_metadata_that_lie_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(FormatError) as caught:
        read_dac(saved(ten_seconds(), **changes))
    assert caught.value.hint


@pytest.mark.parametrize(
    "codes",
    [
        ten_seconds().astype(np.float32),
        ten_seconds().astype(np.int64),
        ten_seconds()[0],
        ten_seconds() + np.uint16(1024),
        ten_seconds(9, 0),
        random_codes(0, 1, 33, 750).astype(np.uint16),
        np.zeros((1, 0, 862), np.uint16),
        [1, 2, 3],
        None,
        "codes",
    ],
)
def test_dac_codes_of_another_kind_are_refused(codes: object) -> None:
    with pytest.raises(FormatError):
        read_dac(saved(codes))


class Payload:
    """What an attacker puts into a pickle: a call of any function."""

    def __init__(self, *call: object) -> None:
        self._call = call

    def __reduce__(self) -> Any:
        return self._call


def test_nothing_in_a_dac_file_is_ever_run(tmp_path: Path) -> None:
    """Trap: np.load(allow_pickle=True), which DAC's own program uses, runs what the file says."""
    flag = tmp_path / "run"
    call = (os.system, (f"touch {flag}",))
    for protocol in (2, 3, 4):
        hostile = saved(ten_seconds(), protocol, input_db=Payload(*call))
        with pytest.raises(FormatError):
            read_dac(hostile)
        assert not flag.exists()
    with pytest.raises(FormatError, match=r"posix.system.*refused"):
        plain_values(pickle.dumps(Payload(*call), 4))
    # The same file does harm where it is unpickled: the test would notice.
    pickle.loads(pickle.dumps(Payload(*call)))
    assert flag.exists()


@pytest.mark.parametrize(
    "call",
    [
        (eval, ("1",)),
        (exec, ("x = 1",)),
        (__import__, ("os",)),
        (getattr, ("", "join")),
        (np.frombuffer, (b"12345678",)),
        (np.array, ([1],)),
        (np.memmap, ("/etc/passwd",)),
        (io.open, ("/etc/passwd",)),
        (bytearray, (10**6,)),
        (np.dtype, ("O",)),
        (np.ndarray, ((10**6,),)),
        (complex, (1, 2)),
    ],
    ids=lambda call: str(getattr(call[0], "__name__", "")),
)
def test_every_name_but_those_of_arrays_is_refused(call: tuple[Any, Any]) -> None:
    for protocol in (0, 1, 2, 3, 4, 5):
        with pytest.raises(FormatError):
            plain_values(pickle.dumps([Payload(*call)], protocol))


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, "b": [1.5, -3, None, True, False], "c": ("x", b"y", {}, (1, 2, 3, 4))},
        {"many": list(range(5000))},
        [1 << 40, -(1 << 40), 0, 255, 256, 65_536, -1],
        "zwölf" * 100,
        b"\0" * 300,
    ],
)
def test_plain_values_are_read(value: object) -> None:
    for protocol in (3, 4, 5):
        assert plain_values(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("kind", ["<u2", ">u2", "<i8", "<f4", ">f8", "|u1", "|b1"])
def test_arrays_are_read(kind: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    for protocol in (3, 4):
        for one in (array, np.asfortranarray(array), array[:0], array[0, 0, 0]):
            read = plain_values(pickle.dumps(one, protocol))
            assert np.array_equal(np.asarray(read), one)


def test_what_plain_values_lack_is_refused() -> None:
    array = np.ones(2)
    for value in (
        {1: 2},
        {1, 2},
        frozenset([1]),
        1j,
        np.array([object()], dtype=object),
        np.array(["text"]),
        np.zeros(1, [("a", "i4")]),
        np.datetime64("2020-01-01"),
        np.ma.masked_array(array),
        Path("x"),
        np.dtype("<i4"),
        np.ndarray,
        [np.dtype("<i4")],
        {"a": (1, (np.ndarray,))},
        range(3),
        bytearray(b"x"),
    ):
        with pytest.raises(FormatError):
            plain_values(pickle.dumps(value, 4))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"N",
        b"NN.",
        b"(.",
        b"q\0.",
        b"h\0.",
        b"j\xff\xff\xff\x7f.",
        b"Nr\xff\xff\xff\xff0.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.",
        b"B\xff\xff\xff\x7fx.",
        b"\x8b\xff\xff\xff\x7fx.",
        b"]" + b"Na" * 20_000 + b".",
        b"}" * 100_000 + b".",
        b"(" * 100_000 + b"t.",
        b"]2" * 1000 + b"a.",
        b"Na.",
        b"NNs.",
        b"}(Ns.",
        b"]}e.",
        b"NNb.",
        b"N)R.",
        b"cnumpy\ndtype\n)R.",
        b"cnumpy\ndtype\nK\x01\x85R.",
        b"cos\nsystem\n(S'id'\ntR.",
        b"c\n\n.",
        b"\x93.",
        b"NN\x93.",
        b"P0\n.",
        b"\x80\x05\x97.",
        b"I1\n.",
        b"\x82\x01.",
    ],
)
def test_damaged_pickles_are_refused_within_bounds(data: bytes) -> None:
    """Trap: an index of the memory or a length that is claimed must not be believed."""
    tracemalloc.start()
    with pytest.raises(FormatError):
        plain_values(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["24khz.ecdc", "48khz.ecdc", "whole_numpy1.dac"])
def test_damage_is_refused_or_gives_codes(name: str, seed: int) -> None:
    rng = random.Random(seed)
    whole = (FILES / name).read_bytes()
    for _ in range(250):
        damaged = bytearray(whole)
        how = rng.randrange(4)
        place = rng.randrange(len(whole))
        if how == 0:
            damaged[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            del damaged[place:]
        elif how == 2:
            damaged[place:place] = rng.randbytes(rng.randrange(1, 9))
        else:
            damaged[place] = rng.choice(b"0.(q)cRb\x8c\x93\x94tN]}")
        try:
            tokens = (
                read_ecdc(bytes(damaged))
                if name.endswith("ecdc")
                else read_dac(bytes(damaged), "dac-44khz")
            )
        except FormatError as error:
            assert len(error.message) < 300
            continue
        assert ((tokens.codes >= 0) & (tokens.codes < 1024)).all()
