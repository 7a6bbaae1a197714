"""Tags and a seed -> a score: form, chords, melody, accompaniment, bass, drums.

A piece is made of phrases that come back: the sections of a form share their chords and melodies.
All places are in beats until the end; the tempo is steady.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from alm_cli.music.dice import Dice
from alm_cli.music.harmony import Chord, Key, fitting, progression, voiced
from alm_cli.music.rhythm import Beat, drummed, figure
from alm_cli.music.score import DRUMS, Note, Score, Tags

# The middle of the range in which each instrument plays a melody, and how well it does.
_MELODIC = {
    "flute": (79, 5.0), "saxophone": (67, 5.0), "trumpet": (70, 5.0), "lead": (74, 4.5),
    "vibraphone": (74, 4.0), "strings": (72, 2.5), "guitar": (67, 3.0), "electric piano": (72, 2.5),
    "piano": (74, 2.5), "organ": (72, 2.0), "pad": (72, 0.5), "bass": (45, 0.2),
}  # fmt: skip
# The same for chords.
_CHORDAL = {
    "piano": (60, 5.0), "electric piano": (60, 5.0), "guitar": (57, 4.5), "organ": (60, 4.0),
    "strings": (60, 3.5), "pad": (60, 3.5), "vibraphone": (65, 1.5), "lead": (64, 0.3),
}  # fmt: skip
_SUSTAINED = ("strings", "pad", "organ", "flute", "saxophone", "trumpet")
_LOUDNESS = {
    "calm": 0.62, "dreamy": 0.6, "sad": 0.65, "nostalgic": 0.65, "mysterious": 0.65,
    "romantic": 0.7, "dark": 0.72, "happy": 0.8, "tense": 0.8, "energetic": 0.9, "epic": 0.92,
}  # fmt: skip


@dataclass(frozen=True)
class _Style:
    """How a genre accompanies: chords, bass, drums; whether its chords have sevenths, it swings."""

    chords: tuple[str, ...]
    bass: tuple[str, ...]
    drums: str
    sevenths: float = 0.0
    swing: bool = False


_STYLES = {
    "classical": _Style(("alberti", "arpeggio", "block"), ("root", "fifth"), "march"),
    "pop": _Style(("block", "arpeggio", "strum"), ("root", "pump"), "pop"),
    "rock": _Style(("strum", "pump", "block"), ("pump", "fifth"), "rock"),
    "jazz": _Style(("comp", "charleston"), ("walking",), "shuffle", 1.0, swing=True),
    "blues": _Style(("comp", "block"), ("walking", "pump"), "shuffle", 1.0, swing=True),
    "folk": _Style(("strum", "arpeggio"), ("fifth", "root"), "ballad"),
    "ambient": _Style(("held", "arpeggio"), ("root",), "ballad", 0.4),
    "electronic": _Style(("pump", "arpeggio", "held"), ("octaves", "pump"), "four", 0.2),
    "lofi": _Style(("charleston", "block"), ("root", "fifth"), "lofi", 1.0, swing=True),
    "cinematic": _Style(("held", "pump"), ("root", "octaves"), "march", 0.2),
    "funk": _Style(("charleston", "comp"), ("octaves", "pump"), "funk", 0.8),
    "latin": _Style(("charleston", "strum", "arpeggio"), ("fifth", "octaves"), "latin"),
}


@dataclass(frozen=True)
class _Sound:
    """A note in beats from the beginning of its bar; an exact one is not swung."""

    place: float
    length: float
    pitch: int
    velocity: float
    instrument: str
    exact: bool = False


@dataclass(frozen=True)
class _Section:
    """What comes back: a chord for each bar, and the melody [bars] over them, as pitches."""

    name: str
    chords: tuple[Chord, ...]
    melody: tuple[tuple[tuple[Beat, int], ...], ...]
    styles: tuple[str, str]


def compose(
    tags: Tags, seconds: float, seed: int, melody: Sequence[Note] = (), *, beat_s: float = 0.0
) -> Score:
    """A score of so many seconds, ending with them; with a melody, harmony is made to fit it.

    `beat_s` is when its first whole beat begins, that of music already there.
    """
    # What is there has begun a bar before it: that is gone on with from its middle.
    offset = beat_s - tags.bar_s if beat_s > 0.02 else 0.0
    shifted = [replace(note, start=note.start - offset) for note in melody]
    band = _Band(tags, Dice(f"{seed} {tags}"))
    bars = max(1, round((seconds - offset) / tags.bar_s + 0.35))
    played = band.bars(bars, seconds - offset, shifted)
    notes = sorted(_timed(tags, played, seconds, offset=offset))
    return Score(tuple(notes), seconds, tags)


def looped(tags: Tags, seconds: float, seed: int) -> Score:
    """A score that goes on with its beginning, of the nearest whole number of bars."""
    bars = max(1, round(seconds / tags.bar_s))
    # Phrases are of four bars; fewer or more end on what leads home all the same.
    length = bars * tags.bar_s
    band = _Band(tags, Dice(f"{seed} {tags}"))
    return Score(tuple(sorted(_timed(tags, band.bars(bars, None, ()), length))), length, tags)


def _timed(
    tags: Tags, bars: Iterator[tuple[int, list[_Sound]]], seconds: float, *, offset: float = 0.0
) -> Iterator[Note]:
    """Beats as seconds; what begins outside of the piece is left out, what outlasts it is cut."""
    beat = 60 / tags.bpm
    swings = _style_of(tags).swing and tags.meter == "4/4"
    for bar, sounds in bars:
        for sound in sounds:
            whole, part = divmod(sound.place, 1)
            if swings and not sound.exact and part >= 0.5:
                part = 2 / 3
            start = round(offset + (bar * tags.beats + whole + part) * beat, 4)
            if not 0 <= start <= seconds - 0.03:
                continue
            length = min(sound.length * beat, seconds - start)
            yield Note(
                start=start,
                pitch=sound.pitch,
                length=round(max(length, 0.03), 4),
                velocity=round(min(1.0, sound.velocity), 3),
                instrument=sound.instrument,
            )


def _style_of(tags: Tags) -> _Style:
    """How the genre of a piece accompanies; others do as pop does."""
    return _STYLES.get(tags.genre, _STYLES["pop"])


class _Band:
    """Who plays what in a piece, and the sections that its form repeats."""

    def __init__(self, tags: Tags, dice: Dice) -> None:
        self.tags, self.dice = tags, dice
        self.key, self.style = Key(tags.tonic, tags.mode), _style_of(tags)
        self.triple = tags.meter == "6/8"
        self.loud = _LOUDNESS.get(tags.mood, 0.75)
        tuned = [name for name in tags.instruments if name != DRUMS]
        self.drums = DRUMS in tags.instruments
        self.bass = "bass" if "bass" in tuned else None
        rest = [name for name in tuned if name != "bass"]
        self.lead = max(rest, key=lambda name: _MELODIC[name][1], default=None)
        chordal = [n for n in rest if n in _CHORDAL and (n != self.lead or len(rest) == 1)]
        chordal.sort(key=lambda name: -_CHORDAL[name][1])
        # The second of them sustains what the first one moves.
        self.chordal = chordal[:2]
        self.second = [n for n in rest if n != self.lead and n not in self.chordal]
        if self.lead is None and self.bass is not None:
            self.lead = self.bass  # a bass alone
        self.voicing: dict[str, list[int]] = {}

    def bars(
        self, count: int, seconds: float | None, melody: Sequence[Note]
    ) -> Iterator[tuple[int, list[_Sound]]]:
        """The sounds of each bar; a piece that ends has a last bar at home, a loop has none."""
        ends = seconds is not None
        if melody:
            sections = [self._accompanying(count, melody)]
            form = [(0, bar) for bar in range(count)]
        else:
            sections, form = self._form(count)
        for number, (which, bar) in enumerate(form):
            section = sections[which]
            last = ends and number == count - 1
            closing = bar % 4 == 3 or last
            fill = closing and not last and (number % 8 == 7 or self.dice.chance(0.3))
            sounds = self._closing() if last else [*self._played(section, bar, number)]
            if self.drums and not last:
                sounds += self._drummed(fill=fill)
            yield number, sounds
        yield from ((n, s) for n, s in self._given(melody))

    def _given(self, melody: Sequence[Note]) -> Iterator[tuple[int, list[_Sound]]]:
        """The notes of a melody that is to be followed, by the instrument that leads."""
        lead = self.lead or "piano"
        center = _MELODIC[lead][0]
        beat = 60 / self.tags.bpm
        middle = sorted(note.pitch for note in melody)[len(melody) // 2] if melody else 0
        shift = 12 * round((center - middle) / 12)
        for note in melody:
            bar, place = divmod(note.start / beat, self.tags.beats)
            loud = 0.9 * self.loud + 0.1
            length = note.length / beat
            yield int(bar), [_Sound(place, length, note.pitch + shift, loud, lead, exact=True)]

    def _accompanying(self, count: int, melody: Sequence[Note]) -> _Section:
        """Chords for every bar of a melody; the melody itself is added as it is."""
        heard: list[dict[int, float]] = [{} for _ in range(count)]
        for note in melody:
            bar = int(note.start / self.tags.bar_s)
            if bar < count:
                name = note.pitch % 12
                heard[bar][name] = heard[bar].get(name, 0.0) + note.length
        degrees = fitting(self.key, heard)
        chords = tuple(self._chord(degree) for degree in degrees)
        return _Section("A", chords, ((),) * count, self._styles())

    def _form(self, count: int) -> tuple[list[_Section], list[tuple[int, int]]]:
        """Sections, and which bar of which of them each bar of the piece is."""
        blues = self.tags.genre == "blues" and count > 8
        size = 12 if blues else 8 if count > 8 else 4
        sections = [self._section(name, size, blues=blues) for name in "AB"]
        order = [0, 0, 1, 0] if count > 2 * size else [0, 1]
        if self.tags.section in ("chorus", "bridge"):
            order = order[1:] + order[:1]
        form = [(order[bar // size % len(order)], bar % size) for bar in range(count)]
        return sections, form

    def _section(self, name: str, size: int, *, blues: bool) -> _Section:
        degrees: list[int] = []
        while len(degrees) < size:
            bars = 12 if blues else 4
            ends = len(degrees) + bars >= size and name == "A"
            degrees += progression(self.key, bars, self.dice, ends=ends, blues=blues)
        chords = tuple(self._chord(degree) for degree in degrees)
        lifted = 0 if name == "A" else self.dice.pick((2, 3, 4))
        return _Section(name, chords, tuple(self._melody(chords, lifted)), self._styles())

    def _styles(self) -> tuple[str, str]:
        chords = self.style.chords
        if self.tags.density < 0.25 and self.tags.genre not in ("jazz", "blues"):
            chords = ("held", "arpeggio")
        return self.dice.pick(chords), self.dice.pick(self.style.bass)

    def _chord(self, degree: int) -> Chord:
        sevenths = self.dice.chance(self.style.sevenths)
        return self.key.chord(degree, sevenths=sevenths, leading=self.tags.mode == "minor")

    def _melody(
        self, chords: Sequence[Chord], lifted: int
    ) -> Iterator[tuple[tuple[Beat, int], ...]]:
        """A motif that comes back with the chords under it changed; the last bar of four rests."""
        tags, dice = self.tags, self.dice
        center = _MELODIC[self.lead][0] if self.lead else 72
        center = self.key.walk(center, lifted)
        motifs = [
            figure(tags.beats, tags.density, dice, triple=self.triple, closes=False)
            for _ in range(2)
        ]
        pitch, shapes = center, [[dice.pick((-2, -1, -1, 1, 1, 2, 0)) for _ in range(16)]] * 2
        shapes[1] = [dice.pick((-2, -1, 1, 1, 2, 3, -3)) for _ in range(16)]
        for bar, chord in enumerate(chords):
            kind = (0, 0, 1, 0)[bar % 4] if bar % 8 < 4 else (0, 1, 0, 0)[bar % 4]
            closes = bar % 4 == 3
            rhythm = motifs[kind]
            if closes:
                rhythm = figure(tags.beats, tags.density, dice, triple=self.triple, closes=True)
            line = []
            for number, beat in enumerate(rhythm):
                pitch = self.key.walk(pitch, shapes[kind][number % 16])
                if abs(pitch - center) > 9:
                    pitch += 12 if pitch < center else -12
                if beat.place == int(beat.place) and (beat.place % 2 == 0 or beat.length >= 1):
                    pitch = _nearest(pitch, chord.classes)
                line.append((beat, pitch))
            if closes:
                wanted = chord.classes if bar < len(chords) - 1 else chord.classes[:1]
                pitch = _nearest(pitch, wanted)
                line[-1] = (line[-1][0], pitch)
            yield tuple(line)

    def _played(self, section: _Section, bar: int, number: int) -> Iterator[_Sound]:
        """A bar of everybody but the drums."""
        chord = section.chords[bar]
        style, bass = section.styles
        lead, loud = self.lead, self.loud
        waits = number < 2 and self.tags.section == "intro"
        if lead is not None and not waits:
            for beat, pitch in section.melody[bar]:
                strong = 0.06 if beat.place == 0 else 0.0
                yield _Sound(beat.place, 0.92 * beat.length, pitch, 0.9 * loud + 0.1 + strong, lead)
        solo = len(self.tags.instruments) == 1
        for place, name in enumerate(self.chordal):
            if name == lead and not solo:
                continue
            kind = "held" if place or (name in _SUSTAINED and style not in ("pump",)) else style
            yield from self._chords(name, chord, kind, low=solo)
        if self.bass is not None and lead != "bass":
            following = section.chords[(bar + 1) % len(section.chords)]
            yield from self._bassed(chord, following, bass)
        for place, name in enumerate(self.second):
            yield from self._answered(name, section, bar, place)

    def _answered(self, name: str, section: _Section, bar: int, place: int) -> Iterator[_Sound]:
        """A second melodic instrument: long tones of the chord, or the melody a third below."""
        center, loud = _MELODIC[name][0] - 3, 0.75 * self.loud
        if bar % 4 == 3 or (bar + place) % 2 == 0 or not section.melody[bar]:
            near = self.voicing.get(name, [center])
            pitch = voiced(Chord(section.chords[bar].classes[1:]), near[:1], center)[0]
            self.voicing[name] = [pitch]
            half = self.tags.beats / 2 if self.tags.density > 0.5 else self.tags.beats
            for part in range(round(self.tags.beats / half)):
                yield _Sound(part * half, 0.95 * half, pitch, loud, name)
            return
        for beat, above in section.melody[bar]:
            pitch = _into(self.key.walk(above, -2), center)
            yield _Sound(beat.place, 0.9 * beat.length, pitch, loud, name)

    def _chords(self, name: str, chord: Chord, kind: str, *, low: bool) -> Iterator[_Sound]:
        """A bar of chords in a style; `low` leaves room for a melody of the same instrument."""
        beats, loud = self.tags.beats, 0.72 * self.loud
        center = _CHORDAL[name][0] - (10 if low else 0)
        pitches = voiced(chord, self.voicing.get(name, []), center)
        self.voicing[name] = pitches
        if kind in ("arpeggio", "alberti"):
            yield from self._broken(name, pitches, kind)
            return
        if low:
            yield _Sound(0.0, 0.95 * beats, _into(chord.root, 43), loud, name)
        third = 1 / 3 if self.triple else 0.5
        places: dict[str, list[tuple[float, float]]] = {
            "held": [(0.0, 0.97 * beats)],
            "block": [(float(beat), 0.9) for beat in range(beats)],
            "pump": [(n * third, 0.8 * third) for n in range(round(beats / third))],
            "comp": [(beat + third, 0.4) for beat in range(beats)],
            "charleston": [(0.0, 0.9), (1.5 if beats > 2 else 1.0, 0.4)],
            "strum": [(0.0, 0.9), (1.0, 0.45), (1.5, 0.45), (2.5, 0.45), (3.0, 0.45), (3.5, 0.45)],
        }
        if self.tags.density < 0.4 and kind == "block":
            places["block"] = places["block"][::2]
        if self.tags.meter == "3/4" and kind in ("block", "strum"):
            places[kind] = [(1.0, 0.8), (2.0, 0.8)]
            yield _Sound(0.0, 0.9, _into(chord.root, center - 12), loud, name)
        for place, length in places[kind]:
            if place >= beats:
                continue
            spread = 0.03 if kind == "strum" else 0.0
            accent = 0.08 if place == 0 else 0.0
            for order, pitch in enumerate(pitches):
                yield _Sound(place + spread * order, length, pitch, loud + accent, name)

    def _broken(self, name: str, pitches: Sequence[int], kind: str) -> Iterator[_Sound]:
        """A chord, one tone after another."""
        beats = self.tags.beats
        step = 1 / 3 if self.triple else 0.25 if self.tags.density > 0.75 else 0.5
        tones = [*pitches, pitches[0] + 12]
        up = [0, 1, 2, 3, 2, 1] if self.triple else [0, 1, 2, 3, 2, 3, 1, 2]
        order = [0, 2, 1, 2] if kind == "alberti" else up
        for number in range(round(beats / step)):
            pitch = tones[order[number % len(order)]]
            loud = 0.66 * self.loud + (0.08 if number == 0 else 0.0)
            length = 0.95 * step if kind == "alberti" else 1.5 * step
            yield _Sound(number * step, length, pitch, loud, name)

    def _bassed(self, chord: Chord, following: Chord, style: str) -> Iterator[_Sound]:
        """A bar of bass."""
        beats, loud = self.tags.beats, 0.85 * self.loud
        root = _into(chord.root, 38)
        fifth = _into(chord.classes[2], 43)
        half = 1 / 3 if self.triple else 0.5
        line: list[tuple[float, float, int]]
        if style == "walking" and beats > 2:
            aim = _into(following.root, 38)
            approach = aim + (1 if aim < root else -1)
            tones = [root, _into(chord.classes[1], 41), fifth][: beats - 1] + [approach]
            line = [(float(n), 0.9, tone) for n, tone in enumerate(tones)]
        elif style == "pump" or (style == "walking" and beats <= 2):
            line = [(n * half, 0.8 * half, root) for n in range(round(beats / half))]
        elif style == "octaves":
            line = [(n * half, 0.7 * half, root + 12 * (n % 2)) for n in range(round(beats / half))]
        elif style == "fifth" and beats > 2:
            line = [(0.0, 1.8, root), (2.0, 0.95 * (beats - 2), fifth)]
        else:
            line = [(0.0, 0.95 * beats, root)]
        for place, length, pitch in line:
            yield _Sound(place, length, pitch, loud, "bass")

    def _drummed(self, *, fill: bool) -> list[_Sound]:
        style = "ballad" if self.tags.density < 0.3 else self.style.drums
        strokes = drummed(style, self.tags.meter, self.tags.beats, self.dice, fill=fill)
        return [_Sound(s.place, 0.2, s.key, s.velocity * self.loud, DRUMS) for s in strokes]

    def _closing(self) -> list[_Sound]:
        """The last bar: the chord of the tonic, held; a crash of the drums."""
        chord, beats = self.key.chord(0), self.tags.beats
        held: list[_Sound] = []
        for name in self.chordal:
            center = _CHORDAL[name][0]
            for pitch in voiced(chord, self.voicing.get(name, []), center):
                held.append(_Sound(0.0, beats, pitch, 0.72 * self.loud, name))
        if self.bass is not None:
            held.append(_Sound(0.0, beats, _into(chord.root, 38), 0.85 * self.loud, "bass"))
        for voice in (self.lead, *self.second):
            if voice is not None and voice != "bass":
                pitch = _into(chord.root, _MELODIC[voice][0])
                held.append(_Sound(0.0, beats, pitch, 0.9 * self.loud, voice))
        if self.drums:
            held += [_Sound(0.0, 0.2, key, 0.8 * self.loud, DRUMS) for key in (36, 49)]
        return sorted(held, key=lambda sound: (sound.instrument, sound.pitch))


def _nearest(pitch: int, classes: Sequence[int]) -> int:
    """The closest pitch of one of these classes, the lower one of two."""
    steps = [(name - pitch + 6) % 12 - 6 for name in classes]
    return pitch + min(steps, key=lambda step: (abs(step), step))


def _into(pitch: int, center: int) -> int:
    """The same pitch class, as near to the center as it comes."""
    return center + (pitch - center + 6) % 12 - 6
