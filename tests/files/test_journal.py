"""The journal: what was written is there again, what was torn or made up is not."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import pytest

from alm_cli.errors import InputError
from alm_cli.files.journal import Journal, journal_path
from alm_cli.files.transcripts import to_record
from alm_cli.values import Segment, Word

ASKED = {"model": "small", "weights": "ab", "temperature": (0.0, 0.2)}


def segment(number: int) -> Segment:
    """One of many."""
    word = Word(start_s=number / 3, end_s=number + 1.5, text=" é", probability=0.25)
    return Segment(
        start_s=number / 3,
        end_s=number + 1.5,
        text=f" number {number}",
        words=(word,),
        tokens=(1, number),
        seek=number * 100,
        temperature=0.2,
        avg_logprob=-1 / 3,
        compression_ratio=1.1,
        no_speech_prob=0.5,
        language="en",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where it lies."""
    return journal_path(tmp_path / "talk.txt")


def written(path: Path, count: int = 5) -> list[Segment]:
    """The segments that a process wrote before it was killed."""
    segments = [segment(number) for number in range(count)]
    with Journal(path, ASKED) as journal:
        for one in segments:
            journal.append(one)
    return segments


def found(path: Path, **asked: object) -> list[Segment]:
    """What the next process finds."""
    with Journal(path, {**ASKED, **asked}) as journal:
        segments = list(journal.segments())
        assert journal.count == len(segments)
    return segments


def test_it_is_hidden_and_one_for_each_output(tmp_path: Path) -> None:
    names = [journal_path(tmp_path / name).name for name in ("a.txt", "a.srt", "b" * 250 + ".txt")]
    assert len(set(names)) == 3
    assert all(name.startswith(".") and len(name) < 100 for name in names)


def test_what_was_written_is_there_again(path: Path) -> None:
    segments = written(path)
    assert found(path) == segments
    with Journal(path, ASKED) as journal:
        journal.append(segment(5))
        assert list(journal.segments()) == [*segments, segment(5)]
        assert list(journal.segments()) == [*segments, segment(5)]
    assert len(found(path)) == 6


def test_whatever_is_torn_off_the_rest_is_kept(path: Path) -> None:
    segments = written(path)
    data = path.read_bytes()
    for size in (*range(0, len(data), 97), len(data) - 1):
        path.write_bytes(data[:size])
        kept = found(path)
        assert kept == segments[: len(kept)]
        assert data[:size].count(b"\n") in (0, len(kept) + 1)
        with Journal(path, ASKED) as journal:  # and it goes on behind that
            journal.append(segments[0])
        assert found(path) == [*kept, segments[0]]


def test_another_model_or_other_options_begin_anew(path: Path) -> None:
    for asked in ({"model": "other"}, {"weights": "ac"}, {"temperature": [0.0]}, {"more": None}):
        written(path)
        assert found(path, **asked) == []
    written(path)
    with Journal(path, ASKED, resume=False) as journal:
        assert journal.count == 0
    assert found(path) == []


def test_the_last_ones_can_be_forgotten(path: Path) -> None:
    segments = written(path)
    with Journal(path, ASKED) as journal:
        journal.keep(3)
        assert (journal.count, list(journal.segments())) == (3, segments[:3])
        journal.append(segments[4])
        assert list(journal.segments()) == [*segments[:3], segments[4]]
        journal.keep(0)
        assert list(journal.segments()) == []
    assert found(path) == []


def test_two_processes_do_not_share_one(path: Path) -> None:
    with Journal(path, ASKED) as journal, pytest.raises(InputError, match="another process"):
        Journal(path, ASKED)
    journal.remove()
    assert not path.exists()


def signed(head: bytes, *records: object) -> bytes:
    """Lines with right checksums after a first line."""
    data, checksum = head, int(head[:8], 16)
    for record in records:
        told = json.dumps(record).encode() + b"\n"
        checksum = zlib.crc32(told, checksum)
        data += b"%08x %b" % (checksum, told)
    return data


def test_hostile_lines_are_not_trusted(path: Path) -> None:
    """Checksums can be made up; what a line says must still make sense."""
    written(path, 0)
    head = path.read_bytes()
    good = {"version": 1, **to_record(segment(0))}
    for bad in (
        [],
        "text",
        {},
        {**good, "version": 9},
        {**good, "text": 7},
        {**good, "text": "\ud800"},
        {**good, "start": -1},
        {**good, "end": 1e300},
        {**good, "tokens": [[]]},
        {**good, "words": [{"word": "x", "start": 2, "end": 1}]},
        {**good, "seek": -1},
    ):
        path.write_bytes(signed(head, good, bad, good))
        assert found(path) == [segment(0)], bad
    for data in (b"\0" * 5000, b"zzzzzzzz {}\n", head[:-1] + b" \n", b"x" * (9 << 20)):
        path.write_bytes(data)
        assert found(path) == []
    path.write_bytes(head + b"0" * (9 << 20))
    assert found(path) == []


def test_a_changed_byte_ends_what_is_trusted(path: Path) -> None:
    segments = written(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"number 3")
    data[place] ^= 1
    path.write_bytes(data)
    assert found(path) == segments[:3]


def test_nobody_elses_file_is_emptied(path: Path, tmp_path: Path) -> None:
    """By a link that somebody laid where the journal will be."""
    precious = tmp_path / "precious"
    for lay in (os.symlink, os.link):
        precious.write_bytes(b"precious")
        path.unlink(missing_ok=True)
        lay(precious, path)
        written(path, 1)
        assert precious.read_bytes() == b"precious"
    path.unlink()
    os.mkfifo(path)
    assert len(written(path, 1)) == len(found(path))
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        Journal(path, ASKED)
