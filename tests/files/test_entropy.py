"""Entropy-coded codes: lossless, the same everywhere, never larger, quick, worth it on speech."""

from __future__ import annotations

import ast
import csv
import hashlib
import io
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alm_cli.errors import FormatError
from alm_cli.files import chances, digits, entropy, priors, range_coder
from alm_cli.files.chances import Chances, Contexts, Expected, share_table
from alm_cli.files.digits import LARGEST_ALPHABET, digits_of, few_enough
from alm_cli.files.entropy import squeeze, unsqueeze
from alm_cli.files.packing import packed_bytes
from alm_cli.files.priors import Prior, prior_for, prior_named, prior_of
from alm_cli.files.tokens import read_tokens, to_bytes
from alm_cli.values import Origin, Tokens

Codes = NDArray[np.int32]
PARTS = (chances, digits, entropy, range_coder)


def make_codes(seed: int, sizes: tuple[int, ...], streams: int, frames: int) -> Codes:
    """Codes of which two thirds are alike."""
    rng = np.random.default_rng(seed)
    books = [rng.integers(0, size, (streams, frames)) for size in sizes]
    codes = np.stack(books, axis=1) * (rng.random((streams, len(sizes), frames)) < 1 / 3)
    return codes.astype(np.int32)


def again(codes: Codes, sizes: tuple[int, ...], prior: Prior | None = None) -> Codes:
    """Squeezed and back."""
    ones = (1,) * len(sizes)
    out = np.full_like(codes, -1)
    unsqueeze(memoryview(squeeze(codes, sizes, ones, prior)), sizes, ones, prior, out)
    return out


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(
        st.sampled_from([1, 2, 3, 500, 1000, 1024, 4096, 4097, 65_536, 1 << 24])
        | st.integers(1, 70_000),
        min_size=1,
        max_size=4,
    ).map(tuple),
    streams=st.integers(1, 3),
    frames=st.integers(0, 12),
    seed=st.integers(0, 9),
)
def test_codes_come_back(sizes: tuple[int, ...], streams: int, frames: int, seed: int) -> None:
    codes = make_codes(seed, sizes, streams, frames)
    assert np.array_equal(again(codes, sizes), codes)


def test_the_largest_codes_come_back() -> None:
    sizes = (2, 1024, 4097, 65_536, 1 << 24)
    codes = np.array([[[size - 1] * 7 for size in sizes]], np.int32)
    assert np.array_equal(again(codes, sizes), codes)


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 50])
def test_codes_come_back_with_a_prior(frames: int) -> None:
    for books in (1, 2, 32):
        sizes = (1024,) * books
        codes = make_codes(frames, sizes, 2, frames)
        assert np.array_equal(again(codes, sizes, prior_for("alm-codec", sizes)), codes)


def made_up_prior(codebooks: int, vocabulary: int) -> Prior:
    """A prior of random tables, in the ranges of real ones."""
    rng = np.random.default_rng(5)

    def table(most: int, *shape: int) -> NDArray[np.int64]:
        return rng.integers(-most, most, shape)

    tables = {
        "bias": -abs(table(40, codebooks, vocabulary)),
        "vector": table(90, codebooks, vocabulary, 8),
        "told": table(300, codebooks, 8, 16),
        "shown": table(300, codebooks, 8, 16),
        "heard": table(300, codebooks, 48, 8),
        "always": table(300, codebooks, 8),
    }
    return prior_of(tables, "made up")


def test_the_bytes_are_the_same_everywhere() -> None:
    """Made with Python 3.10 to 3.13 and numpy 1.26 to 2.5: all others must make them too."""
    sizes = (1024, 16, 65_536)
    data = squeeze(make_codes(0, sizes, 2, 40), sizes, (1, 1, 1))
    assert hashlib.sha256(data).hexdigest()[:16] == "c85c6b34b9d99451"
    sizes, prior = (500,) * 4, made_up_prior(5, 500)
    codes = make_codes(1, sizes, 2, 40)
    data = squeeze(codes, sizes, (1,) * 4, prior)
    assert hashlib.sha256(data).hexdigest()[:16] == "216ba16377acf78b"
    assert np.array_equal(again(codes, sizes, prior), codes)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__.rpartition(".")[2])
def test_no_floating_point_is_near(part: ModuleType) -> None:
    """Floats differ between machines: what EnCodec's entropy coder makes, only its own undoes."""
    tree = ast.parse(Path(str(part.__file__)).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float))
        assert not (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div))
        name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
        assert "float" not in str(name)


def test_tables_are_of_whole_numbers() -> None:
    prior = prior_for("alm-codec", (1024,) * 32)
    assert prior is not None
    tables = [value for value in vars(prior).values() if isinstance(value, np.ndarray)]
    assert len(tables) == 8
    assert {table.dtype for table in (*tables, share_table())} == {np.dtype(np.int64)}
    for model in (Expected(prior, 32), Contexts([1024] * 4)):
        model.begin()
        model.next_frame()
        ends = model.ends(0)
        model.learn(0, 5)
        assert ends.dtype == np.int64


def test_shares_are_powers_rounded_down() -> None:
    shares = share_table().tolist()
    for step, share in enumerate(shares):
        # share <= 2^(16 - step/64) < share + 1, in whole numbers
        assert share**64 <= 1 << (1024 - step) < (share + 1) ** 64
    assert (shares[0], shares[64], shares[-1]) == (65_536, 32_768, 1)


@pytest.mark.parametrize(
    ("vocabulary", "expected"),
    [
        (1, [(0, 1)]),
        (2, [(0, 2)]),
        (1000, [(0, 1000)]),
        (4096, [(0, 4096)]),
        (4097, [(7, 33), (0, 128)]),
        (65_536, [(8, 256), (0, 256)]),
        (30_000, [(8, 118), (0, 256)]),
        (1 << 24, [(12, 4096), (0, 4096)]),
    ],
)
def test_large_codebooks_have_digits(vocabulary: int, expected: list[tuple[int, int]]) -> None:
    assert [(digit.shift, digit.size) for digit in digits_of((vocabulary,))] == expected
    assert (digits_of((5, vocabulary))[1].book, digits_of((vocabulary,))[0].book) == (1, 0)


def test_the_number_of_tables_is_bounded() -> None:
    assert few_enough((1024,) * 256)
    assert few_enough((4096,) * (LARGEST_ALPHABET // 4096))
    assert not few_enough((4096,) * (LARGEST_ALPHABET // 4096 + 1))


def scores_of(model: Chances) -> int:
    """Numbers in all rows of a model."""
    rows = [row for value in vars(model).values() if isinstance(value, list) for row in value]
    return sum(row.size for row in rows if isinstance(row, np.ndarray))


@pytest.mark.parametrize("sizes", [[1024] * 256, [4096] * 64, [2] * 256, [1024], [256, 256]])
def test_the_model_stays_within_its_memory(sizes: list[int]) -> None:
    assert scores_of(Contexts(sizes)) <= LARGEST_ALPHABET + 2 * (1 << 20)


def origin_of(sizes: tuple[int, ...], **changes: object) -> Origin:
    plain = Origin(
        codec="other",
        weights_sha256="",
        rate=24_000,
        hop=960,
        frame_rate=25.0,
        vocabularies=sizes,
        channels=1,
        source_rate=24_000,
        source_channels=1,
        source_length=960,
        source_sha256="",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_what_entropy_coding_does_not_shrink_is_packed_in_bits() -> None:
    rng = np.random.default_rng(0)
    noise = Tokens(rng.integers(0, 1024, (1, 4, 50), dtype=np.int32), origin_of((1024,) * 4))
    assert to_bytes(noise, "entropy") == to_bytes(noise)
    many = Tokens(np.zeros((1, 256, 1), np.int32), origin_of((4096,) * 256))
    assert to_bytes(many, "entropy") == to_bytes(many)
    empty = Tokens(np.zeros((1, 4, 0), np.int32), origin_of((1024,) * 4, source_length=0))
    assert to_bytes(empty, "entropy") == to_bytes(empty)


@pytest.mark.parametrize("frames", [1, 31, 500])
def test_equal_codes_cost_nearly_nothing_but_are_not_a_bomb(frames: int) -> None:
    still = Tokens(np.full((1, 8, frames), 7, np.int32), origin_of((1024,) * 8))
    data = to_bytes(still, "entropy")
    assert len(data) <= len(to_bytes(still)) + 60  # what format 2 says more
    value = read_tokens(io.BytesIO(data))
    assert isinstance(value, Tokens)
    assert np.array_equal(value.codes, still.codes)
    payload = squeeze(still.codes, (1024,) * 8, (1,) * 8)
    assert len(payload) * entropy.MOST_PER_BYTE >= still.codes.size


def test_repeated_units_shrink() -> None:
    """Speech units last several frames each, and follow one another in habitual orders."""
    rng = np.random.default_rng(0)
    follows = rng.integers(0, 100, (100, 3))
    units, unit = [], 0
    for _ in range(2_000):
        unit = unit if rng.random() < 0.4 else int(follows[unit, rng.integers(0, 3)])
        units.append(unit)
    codes = np.array([[units]], np.int32)
    size = len(squeeze(codes, (100,), (1,)))
    assert size < 0.75 * packed_bytes((100,), 2_000)
    assert np.array_equal(again(codes, (100,)), codes)


def test_a_prior_is_found_by_codec_and_by_digest() -> None:
    prior = prior_for("alm-codec", (1024,) * 12)
    assert prior is not None
    assert prior_named(prior.digest) is prior
    assert prior_for("alm-codec", (1024,) * 33) is None
    assert prior_for("alm-codec", (1024, 512)) is None
    assert prior_for("encodec-24khz", (1024,) * 8) is None
    assert prior_for("../priors/alm-codec", (1024,) * 8) is None
    with pytest.raises(FormatError, match="lacks") as caught:
        prior_named("ab" * 32)
    assert "update alm" in str(caught.value.hint)


def test_the_asset_is_small() -> None:
    assert sum(path.stat().st_size for path in priors.FOLDER.iterdir()) < 400_000


@cache
def spoken(shared: Path) -> list[Codes]:
    """Codes [1, 32, F] of ten-second recordings by different people, through alm-codec."""
    from alm_cli.files.audio import read_audio
    from alm_cli.systems.codec import load_codec

    with (shared / "audio/MANIFEST.tsv").open(encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        clips = [row["path"] for row in rows if 9 < float(row["seconds"]) < 14]
    chosen = [name for name in clips if name.startswith("speech/librispeech")][::6]
    codec = load_codec("alm-codec", device="cpu")
    return [codec.encode(read_audio(shared / "audio" / name)).codes for name in chosen]


@pytest.mark.parametrize("books", [12, 24])
def test_speech_shrinks_by_a_tenth(shared: Path, books: int) -> None:
    """The bar, on files of ten seconds each: adaptation alone could not have begun."""
    sizes = (1024,) * books
    prior = prior_for("alm-codec", sizes)
    packed = squeezed = 0
    clips = spoken(shared)
    assert len(clips) >= 3
    for codes in clips:
        packed += packed_bytes(sizes, codes.shape[2])
        squeezed += len(squeeze(codes[:, :books], sizes, (1,) * books, prior))
    assert squeezed <= 0.9 * packed
