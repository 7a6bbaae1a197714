"""Inputs: files, folders, patterns, lists and standard input, each once and in order."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from alm_cli.errors import InputError, UsageError
from alm_cli.jobs.sources import Item, find_items, read_list

WAV = frozenset({".wav", ".flac"})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with files of several kinds, hidden ones and folders inside."""
    for name in (
        "b.wav",
        "a.WAV",
        "c.txt",
        ".hidden.wav",
        "in/d.flac",
        "in/deep/e.wav",
        ".h/f.wav",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return tmp_path


def places(items: list[Item]) -> list[str]:
    """Where the items lie below what they were found by."""
    return [str(item.place) for item in items]


def test_a_folder_gives_its_audio_files_sorted(tree: Path) -> None:
    items = find_items([str(tree)], suffixes=WAV)
    assert places(items) == ["a.WAV", "b.wav"]
    assert [item.size for item in items] == [5, 5]
    assert not any(item.named for item in items)


def test_recursion_mirrors_the_tree(tree: Path) -> None:
    items = find_items([str(tree)], suffixes=WAV, recursive=True)
    assert places(items) == ["a.WAV", "b.wav", "in/d.flac", "in/deep/e.wav"]


def test_a_file_named_outright_may_have_any_suffix(tree: Path) -> None:
    (item,) = find_items([str(tree / "c.txt")], suffixes=WAV)
    assert (item.path, item.problem, item.named) == (tree / "c.txt", None, True)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.wav", ["b.wav"]),
        ("*", ["a.WAV", "b.wav", "d.flac"]),
        ("**/*.wav", ["b.wav", "in/deep/e.wav"]),
        ("in/*/e.*", ["deep/e.wav"]),
        ("*.txt", ["c.txt"]),
    ],
)
def test_patterns_are_expanded_below_their_fixed_part(
    tree: Path, pattern: str, expected: list[str]
) -> None:
    assert places(find_items([f"{tree}/{pattern}"], suffixes=WAV)) == expected


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tree: Path) -> None:
    path = tree / "take[1].wav"
    path.write_bytes(b"")
    (item,) = find_items([str(path)], suffixes=WAV)
    assert item.path == path


def test_what_comes_twice_is_done_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    items = find_items(["b.wav", str(tree / "b.wav"), ".", "in/../b.wav"], suffixes=WAV)
    assert places(items) == ["b.wav", "a.WAV"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing.wav", "missing.wav: No such file or directory"),
        ("empty", "empty: no audio files in this folder"),
        ("none*.wav", "none*.wav: no file matches this pattern"),
        ("dangling.wav", "dangling.wav: No such file or directory"),
    ],
)
def test_what_is_missing_becomes_an_item_that_says_so(
    tree: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tree)
    (tree / "empty").mkdir()
    (tree / "dangling.wav").symlink_to("nowhere")
    bad, good = find_items([text, "b.wav"], suffixes=WAV)
    assert isinstance(bad.problem, InputError)
    assert bad.problem.message == message
    assert good.problem is None


def test_circles_of_links_end(tree: Path) -> None:
    (tree / "in" / "again").symlink_to(tree)
    assert len(find_items([str(tree)], suffixes=WAV, recursive=True)) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_locked_folder_is_named(tree: Path) -> None:
    (tree / "in").chmod(0)
    try:
        items = find_items([str(tree)], suffixes=WAV, recursive=True)
    finally:
        (tree / "in").chmod(0o755)
    assert any(item.problem and "in: Permission denied" in item.problem.message for item in items)


def test_standard_input_is_given_once() -> None:
    (item,) = find_items(["-"], suffixes=WAV)
    assert (item.path, item.name) == (None, "-")
    with pytest.raises(UsageError):
        find_items(["-", "-"], suffixes=WAV)


def test_lists_mirror_paths_as_they_are_written(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree / "in")
    listed = ["deep/e.wav", "../b.wav", str(tree / "a.WAV"), "nothing.wav"]
    items = find_items([], suffixes=WAV, listed=listed)
    assert places(items) == ["deep/e.wav", "b.wav", "a.WAV", "nothing.wav"]
    assert [item.problem is None for item in items] == [True, True, True, False]


def test_lists_may_have_any_line_ends_and_odd_names(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"a b.wav\r\n\n  c.wav\n\xff.wav")
    assert read_list(str(path), io.BytesIO()) == ["a b.wav", "  c.wav", "\udcff.wav"]
    assert read_list("-", io.BytesIO(b"x.wav\ny.wav\n")) == ["x.wav", "y.wav"]
    with pytest.raises(InputError, match="--from-list"):
        read_list(str(tmp_path / "none"), io.BytesIO())
