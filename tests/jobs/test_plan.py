"""Lists of items: from trees and manifests, in one order, with an ID each, in little memory."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from alm_cli.errors import InputError
from alm_cli.jobs.plan import Entry, find_entries, read_manifest, write_plan


def listed(text: str, *, plain: bool = False) -> list[Entry]:
    """The entries of a manifest on standard input."""
    return list(read_manifest("-", io.BytesIO(os.fsencode(text)), plain=plain))


def planned(entries: list[Entry], folder: Path) -> list[Entry]:
    """The entries as they are read again from a plan."""
    assert write_plan(entries, folder / "items.jsonl") == len(entries)
    lines = (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()
    return [Entry.parse(line) for line in lines]


def found(*inputs: object, recursive: bool = True) -> list[tuple[str, str]]:
    """ID and path of what is found."""
    entries = find_entries([str(i) for i in inputs], suffixes={".wav"}, recursive=recursive)
    return [(entry.id, entry.path) for entry in entries]


def test_all_forms_of_a_manifest_say_the_same() -> None:
    path = "/data/a b/c.wav"
    lines = listed(f'{{"audio_filepath": "{path}", "text": "hello", "duration": 2.5, "id": "x"}}\n')
    table = listed(f"id\tpath\tduration\ttext\nx\t{path}\t2.5\thello\n\n")
    assert lines == table == [Entry("x", path, 0.0, 2.5, named=True)]
    assert listed(f"{path}\r\n") == listed(f"path\n{path}\n") == [Entry("data/a b/c", path)]
    assert listed('{"path": "x"}', plain=True)[0].path == '{"path": "x"}'
    assert listed("") == []


def test_parts_of_recordings_have_ids_of_their_own() -> None:
    lines = [{"path": "a/b.flac", "offset": n * 1.25, "duration": 1.25} for n in range(3)]
    entries = listed("\n".join(map(json.dumps, lines)))
    assert [entry.id for entry in entries] == ["a/b", "a/b-00001250", "a/b-00002500"]
    assert [entry.section for entry in entries] == [(0.0, 1.25), (1.25, 1.25), (2.5, 1.25)]
    assert listed("a.wav")[0].section is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "line 1: not JSON"),
        ('{"path": "a"}\n[1]', "line 2: not a JSON object"),
        ('{"file": "a"}', "line 1: no path or audio_filepath"),
        ('{"path": 3}', "line 1: no path"),
        ('{"path": "a", "offset": -1}', "offset is -1, not a number of seconds"),
        ('{"path": "a", "offset": NaN}', "offset is nan"),
        ('{"path": "a", "duration": "long"}', "duration is 'long'"),
        ('{"path": "a", "duration": 0}', "duration is 0"),
        ('{"path": "a", "id": ["x"]}', "id is neither"),
        ("path\tid\na\tb\tc", "line 2: 3 columns, not 2"),
        ("path\tid\n\tb", "line 2: no path"),
    ],
)
def test_senseless_lines_are_named(text: str, reason: str) -> None:
    with pytest.raises(InputError, match="^-, line") as caught:
        listed(text)
    assert reason in caught.value.message


def test_trees_are_sorted_and_named_from_their_root(tmp_path: Path) -> None:
    for name in ("b.wav", "a/z.WAV", "a/y.txt", "B.wav", "a.b/1.2.wav", ".hidden.wav", ".h/x.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    expected = [("B", "B.wav"), ("b", "b.wav"), ("a/z", "a/z.WAV"), ("a.b/1.2", "a.b/1.2.wav")]
    assert found(tmp_path) == [(id, str(tmp_path / path)) for id, path in expected]
    assert found(f"{tmp_path}/") == found(tmp_path)
    assert [id for id, _ in found(tmp_path, recursive=False)] == ["B", "b"]
    assert found(tmp_path / "a/z.WAV") == [("z", str(tmp_path / "a/z.WAV"))]
    assert [id for id, _ in found(tmp_path / "a*/*.wav")] == ["a.b/1.2"]
    assert found("no-such.wav") == [("no-such", "no-such.wav")]
    with pytest.raises(InputError, match="no recordings"):
        found(tmp_path / "a.b", tmp_path / "*.flac")


def test_ids_are_made_unique_and_stay_what_they_are(tmp_path: Path) -> None:
    entries = [
        Entry(id, f"{id}{n}.wav") for n, id in enumerate(["a", "b", "a", "a~2", "a", "\udcff"])
    ]
    again = planned(entries, tmp_path)
    assert [entry.id for entry in again] == ["a", "b", "a~2~", "a~2", "a~4", "\udcff"]
    assert [entry.path for entry in again] == [entry.path for entry in entries]
    named = [Entry("a", "x.wav"), Entry("a", "y.wav", named=True)]
    with pytest.raises(InputError, match="'a' is that of two items"):
        write_plan(named, tmp_path / "other.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.jsonl"]


def test_a_plan_is_a_manifest(tmp_path: Path) -> None:
    entries = [Entry("a", "a.wav"), Entry("b", "b.wav", 1.5), Entry("c", "c.wav", 0.0, 2.0)]
    write_plan(entries, tmp_path / "items.jsonl")
    again = list(read_manifest(str(tmp_path / "items.jsonl"), io.BytesIO()))
    assert [(e.id, e.path, e.section) for e in again] == [
        (e.id, e.path, e.section) for e in entries
    ]


def test_long_lists_take_little_memory(tmp_path: Path) -> None:
    """A million take 49 MB with the interpreter; here the growth for five thousand."""

    def entries() -> Iterator[Entry]:
        for number in range(5000):
            yield Entry(f"speaker-{number // 100}/utterance-{number}", f"/data/{number}.flac")

    tracemalloc.start()
    try:
        assert write_plan(entries(), tmp_path / "items.jsonl") == 5000
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()
