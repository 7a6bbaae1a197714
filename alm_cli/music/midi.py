"""Scores as Standard MIDI Files, and back (MIDI 1.0, RP-001)."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from alm_cli.errors import FormatError, InputError
from alm_cli.music.score import DRUMS, INSTRUMENTS, NAMES, Note, Score, Tags

MOST_BYTES, MOST_NOTES, MOST_SECONDS = 16 << 20, 200_000, 3 * 3600
# Of a quarter: a multiple of 128, 3 and 25, at 60 bpm a tenth of a millisecond.
_TICKS = 9600
_PERCUSSION = 9
_CHANNELS = {
    name: _PERCUSSION if name == DRUMS else place + (place >= _PERCUSSION)
    for place, name in enumerate(NAMES)
}
_SIGNATURES = {"4/4": (4, 2), "3/4": (3, 2), "6/8": (6, 3)}  # beats, and 2 to the what divides them
_MINOR_THIRDS = ("minor", "dorian")
# Programs of General MIDI from this on are played by ours.
_FAMILIES = (
    (0, "piano"), (4, "electric piano"), (6, "piano"), (8, "vibraphone"), (16, "organ"),
    (24, "guitar"), (32, "bass"), (40, "strings"), (52, "pad"), (55, "strings"), (56, "trumpet"),
    (64, "saxophone"), (68, "flute"), (80, "lead"), (88, "pad"), (104, "guitar"), (110, "strings"),
    (111, "flute"), (112, "vibraphone"), (119, "pad"),
)  # fmt: skip


def write_midi(score: Score) -> bytes:
    """A file of format 1: tempo, metre and key, then a track for each instrument.

    A note that is struck again while it sounds ends there, as it does on an instrument. Metre and
    key are those of the tags; a dorian key is told as minor, a mixolydian one as major.
    """
    tags = score.tags
    quarter_us = _quarter_us(tags.bpm, tags.meter)
    last = _tick(score.seconds, quarter_us)
    beats, power = _SIGNATURES[tags.meter]
    minor = tags.mode in _MINOR_THIRDS
    sharps = ((tags.tonic + 3 * minor) * 7 + 5) % 12 - 5
    head = [
        (0, b"\xff\x51\x03" + quarter_us.to_bytes(3, "big")),
        (0, bytes([0xFF, 0x58, 4, beats, power, 36 if power == 3 else 24, 8])),
        (0, b"\xff\x59\x02" + struct.pack("bb", sharps, minor)),
    ]
    tracks = [_track(head, last)]
    for name in NAMES:
        notes = [note for note in score.notes if note.instrument == name]
        if notes:
            tracks.append(_track(_events(name, notes, quarter_us), last))
    return struct.pack(">4sIHHH", b"MThd", 6, 1, len(tracks), _TICKS) + b"".join(tracks)


def _quarter_us(bpm: float, meter: str) -> int:
    return round(60e6 / bpm / (1.5 if meter == "6/8" else 1))


def _tick(seconds: float, quarter_us: int) -> int:
    return round(seconds * 1e6 / quarter_us * _TICKS)


def _events(name: str, notes: Iterable[Note], quarter_us: int) -> list[tuple[int, bytes]]:
    channel, text = _CHANNELS[name], name.encode()
    found = [(0, bytes([0xFF, 3, len(text)]) + text)]
    if name != DRUMS:
        found.append((0, bytes([0xC0 | channel, INSTRUMENTS[name]])))
    for pitch, group in groupby(sorted(notes, key=lambda n: (n.pitch, n.start)), lambda n: n.pitch):
        same = list(group)
        for note, following in zip(same, [*same[1:], None], strict=True):
            start = _tick(note.start, quarter_us)
            end = max(start + 1, _tick(note.start + note.length, quarter_us))
            if following is not None:
                end = min(end, _tick(following.start, quarter_us))
            if end > start:
                loudness = min(127, max(1, round(127 * note.velocity)))
                found.append((start, bytes([0x90 | channel, pitch, loudness])))
                found.append((end, bytes([0x80 | channel, pitch, 0])))
    # What ends, ends before the same begins again.
    return sorted(found, key=lambda event: (event[0], event[1][0] & 0xF0 == 0x90))


def _track(events: Iterable[tuple[int, bytes]], last: int) -> bytes:
    body, now = bytearray(), 0
    for tick, message in events:
        body += _variable(tick - now) + message
        now = tick
    body += _variable(max(0, last - now)) + b"\xff\x2f\x00"
    return struct.pack(">4sI", b"MTrk", len(body)) + body


def _variable(number: int) -> bytes:
    digits = [number & 127]
    while number := number >> 7:
        digits.append(number & 127 | 128)
    return bytes(reversed(digits))


def read_midi(data: bytes, name: str = "MIDI file") -> Score:
    """The notes of a file of format 0 or 1, each played by the nearest instrument of ours.

    Its tags tell the tempo that lasts longest, the first metre and key; its genre is "unknown".
    FormatError names the byte where a file is cut off or makes no sense; InputError: it is too
    large, too long or without notes.
    """
    if len(data) > MOST_BYTES:
        raise InputError(f"{name}: {len(data)} bytes; a MIDI file may have {MOST_BYTES}")
    song = _Song(name)
    division, tracks = _chunks(_Bytes(data, name))
    for track in tracks:
        song.read(track)
    return song.score(division)


class _Bytes:
    """A stretch of a file that is read from its beginning."""

    def __init__(self, data: bytes, name: str, start: int = 0, end: int | None = None) -> None:
        self._data, self._name = data, name
        self.at, self.end = start, len(data) if end is None else end

    def wrong(self, what: str, at: int | None = None) -> FormatError:
        place = self.at if at is None else at
        return FormatError(f"{self._name}, byte {place}: {what}", hint="is it a MIDI file?")

    def take(self, count: int) -> bytes:
        if count > self.end - self.at:
            raise self.wrong(f"{count} bytes should follow, and {self.end - self.at} do")
        self.at += count
        return self._data[self.at - count : self.at]

    def peek(self) -> int:
        byte = self.take(1)[0]
        self.at -= 1
        return byte

    def part(self, count: int) -> _Bytes:
        self.take(count)
        return _Bytes(self._data, self._name, self.at - count, self.at)

    def variable(self) -> int:
        number = 0
        for _ in range(4):
            byte = self.take(1)[0]
            number = number << 7 | byte & 127
            if byte < 128:
                return number
        raise self.wrong("a number of more than 4 bytes", self.at - 4)

    def values(self, count: int) -> bytes:
        values = self.take(count)
        if any(value > 127 for value in values):
            raise self.wrong("a value above 127", self.at - count)
        return values


def _chunks(file: _Bytes) -> tuple[int, Iterator[_Bytes]]:
    if file.end < 14 or file.take(4) != b"MThd":
        raise file.wrong("no header of a MIDI file", 0)
    head = file.part(int.from_bytes(file.take(4), "big"))
    kind, count, division = struct.unpack(">HHh", head.take(6))
    if kind > 1:
        raise file.wrong(f"format {kind}; 0 and 1 can be read", 8)
    if division == 0 or (division < 0 and division & 0xFF == 0):
        raise file.wrong("time is not divided", 12)

    def tracks() -> Iterator[_Bytes]:
        left = count
        while left:
            sign = file.take(4)
            chunk = file.part(int.from_bytes(file.take(4), "big"))
            if sign == b"MTrk":
                left -= 1
                yield chunk

    return division, tracks()


@dataclass
class _Song:
    """Events of all tracks, by tick: changes of tempo, of program, notes that begin or end."""

    name: str
    events: list[tuple[int, int, int, int]] = field(default_factory=list)
    tempi: list[tuple[int, int]] = field(default_factory=list)
    last: int = 0
    meter: str | None = None
    key: tuple[int, str] | None = None

    def read(self, track: _Bytes) -> None:
        """All events of a track; one without an end ends where its bytes do."""
        tick = status = 0
        while track.at < track.end:
            tick += track.variable()
            if track.peek() >= 128:
                begin = track.take(1)[0]
                if begin in (0xFF, 0xF0, 0xF7):
                    kind = track.values(1)[0] if begin == 0xFF else 0
                    content = track.take(track.variable())
                    if begin == 0xFF and kind == 0x2F:
                        break
                    if begin == 0xFF:
                        self._told(tick, kind, content, track)
                    continue
                status = begin
            if not 128 <= status < 0xF0:
                raise track.wrong("no message of MIDI")
            values = track.values(1 if status >> 4 in (0xC, 0xD) else 2)
            if status >> 4 in (8, 9, 0xC):
                self.events.append((tick, status, values[0], values[-1]))
                if len(self.events) > 2 * MOST_NOTES + 1000:
                    raise InputError(f"{self.name}: more than {MOST_NOTES} notes")
        self.last = max(self.last, tick)

    def _told(self, tick: int, kind: int, content: bytes, track: _Bytes) -> None:
        if kind == 0x51:
            quarter_us = int.from_bytes(content, "big")
            if len(content) != 3 or quarter_us == 0:
                raise track.wrong("a tempo that is none", track.at - len(content))
            self.tempi.append((tick, quarter_us))
        elif kind == 0x58 and len(content) >= 2 and self.meter is None:
            beats, power = content[:2]
            compound = power == 3 and beats in (6, 12)
            self.meter = "6/8" if compound else "3/4" if beats in (3, 9) else "4/4"
        elif kind == 0x59 and len(content) == 2 and self.key is None:
            sharps, minor = struct.unpack("bb", content)
            if -7 <= sharps <= 7 and minor in (0, 1):
                self.key = (sharps * 7 - 3 * minor) % 12, "minor" if minor else "major"

    def score(self, division: int) -> Score:
        clock = _Clock(division, self.tempi)
        seconds = clock.seconds(self.last)
        if seconds > MOST_SECONDS:
            raise InputError(f"{self.name}: {seconds:.0f} s of music; {MOST_SECONDS} can be read")
        notes = tuple(sorted(self._notes(clock)))
        if not notes:
            raise InputError(f"{self.name}: no notes in it")
        found = {note.instrument for note in notes}
        tonic, mode = self.key or (0, "major")
        meter = self.meter or "4/4"
        tags = Tags(
            genre="unknown",
            instruments=tuple(name for name in NAMES if name in found),
            bpm=clock.usual_bpm(self.last) / (1.5 if meter == "6/8" else 1),
            tonic=tonic,
            mode=mode,
            meter=meter,
        )
        return Score(notes, seconds, tags)

    def _notes(self, clock: _Clock) -> Iterator[Note]:
        """Notes, each ended by the first end of its pitch, at the latest with the music."""
        programs = [0] * 16
        sounding: dict[tuple[int, int], deque[tuple[int, str, int]]] = defaultdict(deque)
        order = sorted(self.events, key=lambda event: event[0])  # within a tick as in the file
        for tick, status, pitch, loudness in order:
            channel = status & 15
            if status >> 4 == 0xC:
                programs[channel] = pitch
            elif status >> 4 == 9 and loudness:
                name = DRUMS if channel == _PERCUSSION else _instrument(programs[channel])
                sounding[channel, pitch].append((tick, name, loudness))
            elif sounding[channel, pitch]:
                yield clock.note(pitch, sounding[channel, pitch].popleft(), tick)
        for (_, pitch), begun in sounding.items():
            yield from (clock.note(pitch, one, self.last) for one in begun)


class _Clock:
    """Ticks -> seconds, by a map of tempi; a division below 0 counts frames of film."""

    def __init__(self, division: int, tempi: Iterable[tuple[int, int]]) -> None:
        if division < 0:
            frames = -(division >> 8)
            self._division = (30 / 1.001 if frames == 29 else frames) * (division & 0xFF)
            changes = [(0, 1_000_000)]
        else:
            self._division = float(division)
            changes = [(0, 500_000), *sorted(tempi, key=lambda change: change[0])]
        self._film = division < 0
        # Tick of a change, when it comes in seconds, microseconds of a quarter from then on.
        self._changes: list[tuple[int, float, int]] = []
        now = 0.0
        for (tick, quarter_us), (before, old_us) in zip(changes, [(0, 0), *changes], strict=False):
            now += (tick - before) * old_us / 1e6 / self._division
            self._changes.append((tick, now, quarter_us))
        self._ticks = [tick for tick, _, _ in self._changes]

    def seconds(self, tick: int) -> float:
        """When a tick comes."""
        begin, seconds, quarter_us = self._changes[bisect_right(self._ticks, tick) - 1]
        return seconds + (tick - begin) * quarter_us / 1e6 / self._division

    def note(self, pitch: int, begun: tuple[int, str, int], end: int) -> Note:
        tick, name, loudness = begun
        start = self.seconds(tick)
        return Note(start, pitch, self.seconds(end) - start, loudness / 127, name)

    def usual_bpm(self, last: int) -> float:
        """Quarters a minute of the tempo that lasts longest."""
        if self._film:
            return 120.0
        lasting: dict[int, float] = defaultdict(float)
        ends = [tick for tick, _, _ in self._changes[1:]] + [last]
        for (tick, _, quarter_us), end in zip(self._changes, ends, strict=True):
            lasting[quarter_us] += max(0, end - tick) * quarter_us
        return 60e6 / max(lasting, key=lambda quarter_us: lasting[quarter_us])


def _instrument(program: int) -> str:
    return next(name for first, name in reversed(_FAMILIES) if program >= first)
