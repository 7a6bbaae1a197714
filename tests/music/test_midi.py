"""Standard MIDI Files: round trips, an independent reader, and files that are wrong."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.errors import AlmError, FormatError, InputError
from alm_cli.music.midi import read_midi, write_midi
from alm_cli.music.score import DRUMS, INSTRUMENTS, MODES, NAMES, Note, Score, Tags

TAGS = Tags("jazz", ("piano",), 120.0, 0, "major")


def score_of(*notes: Note, seconds: float = 10.0, tags: Tags = TAGS) -> Score:
    return Score(tuple(sorted(notes)), seconds, tags)


def file_of(*tracks: bytes, kind: int = 1, division: int = 480) -> bytes:
    head = struct.pack(">4sIHHh", b"MThd", 6, kind, len(tracks), division)
    return head + b"".join(struct.pack(">4sI", b"MTrk", len(t)) + t for t in tracks)


END = b"\x00\xff\x2f\x00"


@st.composite
def scores(draw: st.DrawFn) -> Score:
    """No pitch of an instrument is struck again while it sounds."""
    tags = Tags(
        "jazz",
        ("piano",),
        draw(st.integers(60, 180)),
        draw(st.integers(0, 11)),
        draw(st.sampled_from(("major", "minor"))),
        draw(st.sampled_from(("4/4", "3/4", "6/8"))),
    )
    notes = []
    for name in draw(st.sets(st.sampled_from(NAMES), min_size=1)):
        for pitch in draw(st.sets(st.integers(0, 127), min_size=1, max_size=4)):
            now = 0.0
            for wait, length in draw(
                st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 3)), min_size=1, max_size=3)
            ):
                notes.append(Note(now + wait, pitch, length, draw(st.floats(0.01, 1)), name))
                now += wait + length + 0.001
    return score_of(*notes, seconds=40.0, tags=tags)


@settings(max_examples=60, deadline=None)
@given(scores())
def test_what_is_written_is_read(score: Score) -> None:
    read = read_midi(write_midi(score))
    assert len(read.notes) == len(score.notes)
    assert read.seconds == pytest.approx(score.seconds, abs=1e-4)
    # Times are rounded, so notes that all but coincide may change places.
    order = sorted(score.notes, key=lambda n: (n.instrument, n.pitch, n.start))
    found = sorted(read.notes, key=lambda n: (n.instrument, n.pitch, n.start))
    for mine, its in zip(order, found, strict=True):
        assert (its.pitch, its.instrument) == (mine.pitch, mine.instrument)
        assert its.start == pytest.approx(mine.start, abs=1e-4)
        assert its.length == pytest.approx(mine.length, abs=2e-4)
        assert its.velocity == pytest.approx(mine.velocity, abs=0.5 / 127 + 1e-9)
    assert read.tags.bpm == pytest.approx(score.tags.bpm, rel=1e-5)
    told = (read.tags.tonic, read.tags.mode, read.tags.meter)
    assert told == (score.tags.tonic, score.tags.mode, score.tags.meter)
    assert set(read.tags.instruments) == {note.instrument for note in score.notes}


@settings(max_examples=20, deadline=None)
@given(scores())
def test_writing_what_was_read_changes_nothing(score: Score) -> None:
    once = read_midi(write_midi(score))
    assert read_midi(write_midi(once)).notes == once.notes


def test_times_do_not_drift() -> None:
    score = score_of(
        *(Note(beat * 60 / 97, 60, 0.1, 0.5, "piano") for beat in range(900)),
        seconds=560.0,
        tags=Tags("jazz", ("piano",), 97, 0, "major"),
    )
    for mine, its in zip(score.notes, read_midi(write_midi(score)).notes, strict=True):
        assert abs(mine.start - its.start) < 1e-4


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tonic", range(12))
def test_keys_keep_their_tonic_and_third(tonic: int, mode: str) -> None:
    tags = Tags("jazz", ("piano",), 100, tonic, mode)
    read = read_midi(write_midi(score_of(Note(0, 60, 1, 1, "piano"), tags=tags))).tags
    assert read.tonic == tonic
    assert read.mode == ("minor" if mode in ("minor", "dorian") else "major")


def test_what_is_struck_again_ends_there() -> None:
    notes = (Note(0, 60, 4, 0.5, "piano"), Note(1, 60, 1, 0.5, "piano"))
    first, second = read_midi(write_midi(score_of(*notes))).notes
    assert first.length == pytest.approx(1, abs=1e-4)
    assert (second.start, second.length) == pytest.approx((1, 1), abs=1e-4)


def test_another_reader_hears_the_same() -> None:
    mido = pytest.importorskip("mido", reason="mido reads the files of write_midi")
    tags = Tags("jazz", ("piano", DRUMS), 90, 6, "minor", "6/8")
    mine = score_of(
        Note(0.25, 66, 0.5, 0.5, "piano"), Note(1.5, 36, 0.25, 1.0, DRUMS), seconds=6.0, tags=tags
    )
    data = write_midi(mine)
    file = mido.MidiFile(file=BytesIO(data))
    assert file.length == pytest.approx(6.0, abs=1e-4)
    told = {message.type: message for message in file if message.is_meta}
    assert told["key_signature"].key == "F#m"
    assert (told["time_signature"].numerator, told["time_signature"].denominator) == (6, 8)
    assert mido.tempo2bpm(told["set_tempo"].tempo) == pytest.approx(135, rel=1e-5)
    now, found = 0.0, []
    for message in file:
        now += message.time
        if message.type == "note_on":
            found.append((round(now, 3), message.channel, message.note, message.velocity))
        if message.type == "program_change":
            assert message.program == INSTRUMENTS["piano"]
    assert found == [(0.25, 0, 66, 64), (1.5, 9, 36, 127)]


def test_format_0_running_status_and_a_map_of_tempi() -> None:
    track = (
        b"\x00\xff\x51\x03\x07\xa1\x20"  # 500 ms a quarter
        b"\x00\xc3\x28\x00\x93\x3c\x40"  # a violin on channel 4
        b"\x83\x60\x3c\x00"  # 480 ticks on, struck with 0: it ends
        b"\x00\xff\x51\x03\x0f\x42\x40"  # 1 s a quarter
        b"\x00\x93\x3e\x40\x83\x60\x83\x3e\x00"  # another, ended by a message of its own
        b"\x00\xf0\x03\x01\x02\xf7" + END  # what synthesisers say to each other is passed over
    )
    score = read_midi(file_of(track, kind=0))
    assert score.notes == (
        Note(0.0, 60, 0.5, 64 / 127, "strings"),
        Note(0.5, 62, 1.0, 64 / 127, "strings"),
    )
    assert score.tags.bpm == pytest.approx(60)
    assert score.seconds == 1.5


def test_tempi_of_one_track_hold_for_all() -> None:
    tempo = b"\x83\x60\xff\x51\x03\x0f\x42\x40" + END
    notes = b"\x87\x40\x90\x3c\x40\x83\x60\x80\x3c\x00" + END
    (note,) = read_midi(file_of(tempo, notes)).notes
    assert (note.start, note.length) == (1.5, 1.0)


def test_frames_of_film_are_counted() -> None:
    track = b"\x64\x90\x3c\x40\x32\x80\x3c\x00" + END
    (note,) = read_midi(file_of(track, division=-25 * 256 + 40)).notes
    assert (note.start, note.length) == pytest.approx((0.1, 0.05))


def test_what_never_ends_ends_with_the_music() -> None:
    track = b"\x00\x90\x3c\x40\x87\x40\xff\x2f\x00"
    (note,) = read_midi(file_of(track)).notes
    assert note.length == 1.0


GOOD = write_midi(score_of(Note(0, 60, 1, 1, "piano"), Note(1, 40, 1, 1, DRUMS)))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "byte 0: no header"),
        (b"RIFF" + GOOD, "byte 0: no header"),
        (file_of(kind=2), "format 2"),
        (file_of(division=0), "time is not divided"),
        (file_of(b"\x00\x40\x40"), "byte 23: no message"),
        (file_of(b"\x00\xf4\x40"), "no message"),
        (file_of(b"\x00\x90\x3c\xc0"), "byte 24: a value above 127"),
        (file_of(b"\xff\xff\xff\xff\x7f"), "byte 22: a number of more than 4 bytes"),
        (file_of(b"\x00\xff\x51\x03\x00\x00\x00"), "byte 26: a tempo that is none"),
        (file_of(b"\x00\xff\x03\x7f"), "127 bytes should follow"),
        (GOOD[:-9], "should follow"),
    ],
)
def test_files_that_make_no_sense_are_refused_by_their_place(data: bytes, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        read_midi(data, "song.mid")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (file_of(END), "no notes"),
        (bytes((16 << 20) + 1), "16777217 bytes"),
        (file_of(b"\x00\x90" + b"\x3c\x40\x00" * 600_000), "more than 200000 notes"),
        (file_of(b"\xff\xff\xff\x7f\x90\x3c\x40" + END), "s of music"),
    ],
)
def test_sizes_are_limited(data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_midi(data)


def test_a_cut_anywhere_is_refused() -> None:
    for length in range(len(GOOD)):
        with pytest.raises(InputError):
            read_midi(GOOD[:length])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6))
def test_damage_is_refused_or_read(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    try:
        score = read_midi(bytes(data))
    except AlmError:
        return
    assert all(min(note.start, note.length) >= 0 for note in score.notes)


def test_many_of_one_pitch_take_no_time() -> None:
    """Notes and tempi by the hundred thousand must not cost their square."""
    track = b"\x00\x90" + b"\x3c\x40\x00" * 60_000 + b"\x80\x3c\x00" + b"\x00\x3c\x00" * 59_999
    tempi = b"\x00\xff\x51\x03\x07\xa1\x20" * 60_000
    assert len(read_midi(file_of(tempi + END, track + END)).notes) == 60_000
