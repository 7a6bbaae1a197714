"""Shards as files: names that WebDataset keeps apart, plain tar, random access, hostile bytes."""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import alm_cli
from alm_cli.errors import FormatError, InputError
from alm_cli.files.shards import Row, member_id, member_name, read_index
from alm_cli.files.tokens import to_bytes
from alm_cli.jobs.shards import Shard
from alm_cli.values import Origin, Tokens

IDS = ("a", "dir/b.1", "dir/b.2", "ü/é", "x" * 300, "/abs/./../c", "50%", "\udcff\n", "e/", "__x__")


def tokens_of(number: int) -> Tokens:
    """Some tokens, different for each number."""
    origin = Origin(
        codec="small", weights_sha256="", rate=24_000, hop=96, frame_rate=250.0,
        vocabularies=(32, 32), channels=1, source_rate=24_000, source_channels=1,
        source_length=96 * number, source_sha256="",
    )  # fmt: skip
    codes = np.random.default_rng(number).integers(0, 32, (1, 2, number), np.int32)
    return Tokens(codes, origin)


def make(folder: Path, number: int, ids: Sequence[str], bad: str = "") -> Shard:
    """A shard with these items."""
    shard = Shard(folder, number, len(ids))
    for position in shard.begin(retry=False):
        row = Row(id=ids[position], path=f"{position}.wav")
        if ids[position] == bad:
            shard.put(position, Row(id=bad, path="bad.wav", status="failed", error="empty"))
        else:
            shard.put(position, row, to_bytes(tokens_of(position + 10 * number)))
    return shard


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shards of which the last holds nothing."""
    make(tmp_path, 0, IDS)
    make(tmp_path, 1, ("one", "two", "three"), bad="two")
    make(tmp_path, 2, ("none",), bad="none")
    return tmp_path


def test_names_say_the_id_and_keep_samples_apart() -> None:
    keys = set()
    for id in IDS:
        assert member_id(member_name(id)) == id
        # What WebDataset takes for the key of a sample, and for the name of its field.
        match = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", member_name(id))
        assert match, id
        assert match[2] == "alm"
        keys.add(match[1])
    assert len(keys) == len(IDS)


def test_any_tar_reader_lists_and_unpacks_it(folder: Path) -> None:
    if shutil.which("tar") is None:
        pytest.skip("needs tar")
    shard = folder / "shard-000001.tar"
    told = subprocess.run(["tar", "tvf", shard], capture_output=True, text=True, check=True)
    assert told.stderr == ""
    assert [line.split()[-1] for line in told.stdout.splitlines()] == ["one.alm", "three.alm"]
    assert "1970-01-01" in told.stdout
    subprocess.run(["tar", "xf", shard, "-C", folder], check=True)
    assert np.array_equal(alm_cli.read_tokens(folder / "three.alm").codes, tokens_of(12).codes)


@pytest.mark.filterwarnings("ignore")  # it leaves files open
def test_webdataset_reads_it(folder: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="needs webdataset")
    samples = list(webdataset.WebDataset(str(folder / "shard-000001.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["one", "three"]
    (tokens,) = alm_cli.iter_tokens(io.BytesIO(samples[1]["alm"]))
    assert np.array_equal(tokens.codes, tokens_of(12).codes)


def test_items_come_in_order_from_files_and_pipes(folder: Path) -> None:
    shard = folder / "shard-000000.tar"
    for source in (shard, str(shard), io.BytesIO(shard.read_bytes())):
        found = list(alm_cli.read_shard(source))
        assert [id for id, _ in found] == list(IDS)
        for number, (_, tokens) in enumerate(found):
            assert np.array_equal(tokens.codes, tokens_of(number).codes)
    with subprocess.Popen(["cat", shard], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert len(list(alm_cli.read_shard(process.stdout))) == len(IDS)
    assert list(alm_cli.read_shard(folder / "shard-000002.tar")) == []


def test_any_item_is_one_seek_away(folder: Path) -> None:
    shards = pickle.loads(pickle.dumps(alm_cli.open_shards(folder)))
    assert len(shards) == len(IDS) + 2
    assert shards.ids == [*IDS, "one", "three"]
    for number in (0, 3, len(IDS), -1):
        id = shards.ids[number]
        expected = tokens_of(12 if number == -1 else number).codes
        assert np.array_equal(shards[number].codes, expected)
        assert np.array_equal(shards[id].codes, expected)
    assert [id for id, _ in shards] == shards.ids
    assert [row.id for row in shards.rows() if row.status == "failed"] == ["two", "none"]
    for wrong in (len(shards), -len(shards) - 1, "two"):
        with pytest.raises((IndexError, KeyError)):
            shards[wrong]
    assert alm_cli.open_shards(folder / "shard-000001.tar").ids == ["one", "three"]
    (folder / "shard-000001.jsonl").unlink()
    assert len(alm_cli.open_shards(folder)) == len(IDS)


def test_places_in_the_index_are_those_of_token_files(folder: Path) -> None:
    data = (folder / "shard-000000.tar").read_bytes()
    for number, row in enumerate(read_index(folder / "shard-000000.jsonl")):
        assert row.offset is not None
        assert row.bytes is not None
        assert data[row.offset : row.offset + row.bytes] == to_bytes(tokens_of(number))


def test_no_shards_and_no_files_are_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no shards"):
        alm_cli.open_shards(tmp_path)
    for place in (tmp_path / "a.tar", [tmp_path / "a.tar"]):
        with pytest.raises(InputError, match="cannot be read"):
            alm_cli.open_shards(place)
    with pytest.raises(InputError, match="cannot be read"):
        list(alm_cli.read_shard(tmp_path / "a.tar"))


def test_cut_shards_are_errors_wherever_they_end(folder: Path) -> None:
    data = (folder / "shard-000001.tar").read_bytes()
    for size in range(0, len(data) - 1024, 100):
        with pytest.raises(FormatError, match="<stream>"):
            list(alm_cli.read_shard(io.BytesIO(data[:size])))


def test_flipped_bytes_are_errors_or_change_nothing(folder: Path) -> None:
    shard = folder / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    expected = list(alm_cli.read_shard(shard))
    for place in range(0, len(data), 37):
        data[place] ^= 0x55
        try:
            found = list(alm_cli.read_shard(io.BytesIO(data)))
        except FormatError:
            pass
        else:
            for (_, one), (_, other) in zip(found, expected, strict=True):
                assert np.array_equal(one.codes, other.codes)
        data[place] ^= 0x55


def test_foreign_members_are_refused() -> None:
    for name, kind in (("a.wav", tarfile.REGTYPE), ("a.alm", tarfile.SYMTYPE)):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            member = tarfile.TarInfo(name)
            member.type = kind
            tar.addfile(member)
        with pytest.raises(FormatError, match="no token file"):
            list(alm_cli.read_shard(io.BytesIO(file.getvalue())))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "3",
        '{"id": 3}',
        '{"id": "a", "path": "b"}',
        '{"id": "a", "path": "b", "x": 1}',
    ]
    + ['{"id": "a", "path": "b", "offset": -1, "bytes": 3, "crc32": 0}'],
)
def test_an_index_that_is_none_is_an_error(tmp_path: Path, line: str) -> None:
    good = Row(id="a", path="b", offset=0, bytes=1, crc32=2).line()
    assert json.loads(good)["status"] == "done"
    (tmp_path / "a.jsonl").write_text(f"{good}{line}\n", encoding="utf-8")
    with pytest.raises(FormatError, match=r"a\.jsonl, line 2"):
        list(read_index(tmp_path / "a.jsonl"))
