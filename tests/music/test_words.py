"""Prompts: paraphrases mean the same, contradictions have rules, and any text has a reading."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.music.genres import GENRES, MOODS
from alm_cli.music.phrases import said_in
from alm_cli.music.score import DRUMS, MODES, NAMES, TONICS, Tags
from alm_cli.music.vocabulary import PHRASES
from alm_cli.music.words import read_prompt


def tags(prompt: str, seed: int = 0) -> Tags:
    return read_prompt(prompt, seed).tags


KINDS = ("genre", "instruments", "mood")
TEMPLATES = (
    "{mood} {genre} for {instruments} in {key}, {bpm} bpm",
    "{bpm}bpm, {key}, {instruments}, {mood}, {genre}",
    "Please make me some {genre} music. It should be {mood}, in the key of {key}, at a tempo of "
    "{bpm}, played by {instruments}!",
    "A {mood} piece ({genre}; {instruments}) - {key} @ {bpm} BPM",
    "{GENRE} / {MOOD} / {INSTRUMENTS} / IN {KEY} / TEMPO: {bpm}",
    "i want a {genre} track with {instruments} in {key}; tempo = {bpm}; {mood} vibes",
    "{instruments}\n{genre}\n{mood}\nkey: {key}\nbpm: {bpm}",
)
PIECES = (
    ("calm", "classical", ("piano", "strings"), (0, "minor"), 70),
    ("happy", "pop", ("guitar", "piano", "bass", "drums"), (6, "major"), 120),
    ("dark", "electronic", ("lead", "bass", "drums"), (10, "minor"), 133),
    ("epic", "cinematic", ("strings", "trumpet", "drums"), (2, "minor"), 95),
    ("dreamy", "ambient", ("pad", "vibraphone"), (8, "dorian"), 64),
    ("playful", "jazz", ("saxophone", "electric piano", "bass", "drums"), (3, "mixolydian"), 180),
    ("sad", "folk", ("flute", "guitar"), (9, "minor"), 88),
    ("energetic", "funk", ("organ", "guitar", "bass", "drums"), (11, "dorian"), 110),
)
WAYS_TO_SAY = {
    "calm": ("calm", "relaxing", "peaceful", "gentle", "chilled out", "soothing"),
    "happy": ("happy", "cheerful", "joyful", "upbeat"),
    "dark": ("dark", "sinister", "ominous", "eerie"),
    "epic": ("epic", "heroic", "majestic", "triumphant"),
    "dreamy": ("dreamy", "ethereal", "floating"),
    "playful": ("playful", "whimsical", "quirky", "funny"),
    "sad": ("sad", "melancholic", "mournful", "somber"),
    "energetic": ("energetic", "lively", "driving", "high-energy"),
    "classical": ("classical", "baroque", "chamber music"),
    "pop": ("pop", "poppy", "K-pop"),
    "electronic": ("electronic", "techno", "EDM", "house", "trance"),
    "cinematic": ("cinematic", "film score", "trailer", "soundtrack"),
    "ambient": ("ambient", "atmospheric", "new age"),
    "jazz": ("jazz", "bebop", "swing", "jazzy"),
    "folk": ("folk", "celtic", "singer-songwriter"),
    "funk": ("funk", "funky", "disco"),
    "piano": ("piano", "grand piano", "pianos"),
    "strings": ("strings", "string section", "violins"),
    "guitar": ("guitar", "acoustic guitar", "guitars"),
    "bass": ("bass", "bass guitar", "double bass", "bassline"),
    "drums": ("drums", "percussion", "drum kit"),
    "lead": ("synth lead", "lead synth", "arpeggiator"),
    "trumpet": ("trumpet", "trumpets", "brass"),
    "pad": ("pad", "synth pads", "warm pads"),
    "vibraphone": ("vibraphone", "marimba", "glockenspiel"),
    "saxophone": ("saxophone", "sax", "alto sax"),
    "electric piano": ("electric piano", "Rhodes", "e-piano", "wurlitzer"),
    "flute": ("flute", "flutes", "clarinet"),
    "organ": ("organ", "Hammond organ"),
}
KEYS = {
    (0, "minor"): ("C minor", "Cm", "c min", "C-minor", "c moll"),
    (6, "major"): ("F# major", "G flat major", "F sharp maj", "G♭ major", "Gb major"),
    (10, "minor"): ("Bb minor", "B-flat minor", "A# minor", "Bbm", "b flat min"),
    (2, "minor"): ("D minor", "Dm", "d-minor", "D natural minor"),
    (8, "dorian"): ("Ab dorian", "G# dorian", "A flat dorian"),
    (3, "mixolydian"): ("Eb mixolydian", "E flat mixolydian", "D♯ mixolydian"),
    (9, "minor"): ("A minor", "Am", "a minor", "A min", "A aeolian"),
    (11, "dorian"): ("B dorian", "b dorian", "C♭ dorian"),
}


def paraphrases(number: int) -> list[str]:
    """Some dozens of prompts that mean a piece."""
    found = []
    mood, genre, instruments, key, bpm = PIECES[number]
    for template, turn in product(TEMPLATES, range(6)):

        def way(name: str, turn: int = turn) -> str:
            ways = WAYS_TO_SAY[name]
            return ways[turn % len(ways)]

        names = [way(name) for name in instruments]
        words = {
            "mood": way(mood),
            "genre": way(genre),
            "instruments": ", ".join(names[:-1]) + " and " + names[-1],
            "key": KEYS[key][turn % len(KEYS[key])],
        }
        upper = {name.upper(): text.upper() for name, text in words.items()}
        if "{KEY}" in template and words["key"].endswith("m"):
            continue  # CM is no spelling of C minor
        found.append(template.format(bpm=bpm, **words, **upper))
    return found


@pytest.mark.parametrize("number", range(len(PIECES)))
def test_paraphrases_mean_the_same(number: int) -> None:
    mood, genre, instruments, (tonic, mode), bpm = PIECES[number]
    for prompt in paraphrases(number):
        reading = read_prompt(prompt, 7)
        found = reading.tags
        assert (found.mood, found.genre) == (mood, genre), prompt
        assert found.instruments == instruments, prompt
        assert (found.tonic, found.mode, found.bpm) == (tonic, mode, bpm), prompt
        assert reading.unheeded == (), prompt


@pytest.mark.parametrize(
    ("prompt", "field", "value"),
    [
        ("a waltz", "meter", "3/4"),
        ("in 6/8 time", "meter", "6/8"),
        ("common time", "meter", "4/4"),
        ("three-four", "meter", "3/4"),
        ("an irish jig", "meter", "6/8"),
        ("no waltz, pop", "meter", "4/4"),
        ("an intro", "section", "intro"),
        ("the chorus of a song", "section", "chorus"),
        ("middle eight", "section", "bridge"),
        ("outro", "section", "outro"),
        ("rock", "section", "whole"),
        ("seventy-five bpm", "bpm", 75),
        ("one hundred and twenty beats per minute", "bpm", 120),
        ("97.5 bpm", "bpm", 97.5),
        ("tempo: ~ 84", "bpm", 84),
        ("opus 120 at 77", "bpm", 77),
        ("12 bars of 30 seconds at 99", "bpm", 99),
        ("in a minor key", "mode", "minor"),
        ("IN A MAJOR KEY", "mode", "major"),
        ("in E", "mode", "major"),
        ("funk in E", "mode", "mixolydian"),
        ("sad song in E", "mode", "minor"),
        ("piece in A", "tonic", 9),
        ("in e flat", "tonic", 3),
        ("key of Db", "tonic", 1),
        ("solo piano", "instruments", ("piano",)),
        ("just drums", "instruments", (DRUMS,)),
        ("only bass and drums", "instruments", ("bass", DRUMS)),
        ("a string quartet", "instruments", ("strings",)),
        ("orchestral", "instruments", ("strings", "flute", "trumpet")),
        ("synths", "instruments", ("lead", "pad")),
        ("guitar instead of piano", "instruments", ("guitar",)),
        ("no drums, just piano", "instruments", ("piano",)),
        ("not only piano but also flute", "instruments", ("piano", "flute")),
        ("jazz rock", "genre", "rock"),
        ("folk-rock", "genre", "rock"),
        ("rock'n'roll", "genre", "rock"),
        ("jazz piano with a rock feel", "genre", "jazz"),
        ("R&B", "genre", "funk"),
        ("heavy metal", "genre", "rock"),
        ("lo-fi hip-hop beats", "genre", "lofi"),
        ("weightless", "mood", "dreamy"),
        ("solo guitar", "genre", "folk"),
        ("jazz for sax, drums and bass", "instruments", ("saxophone", DRUMS, "bass")),
    ],
)
def test_words_decide(prompt: str, field: str, value: object) -> None:
    for seed in range(5):
        assert getattr(tags(prompt, seed), field) == value


@pytest.mark.parametrize(
    ("prompt", "low", "high"),
    [
        ("slow", 60, 78),
        ("very slow", 60, 66),
        ("andante", 76, 106),
        ("fast", 130, 165),
        ("played quickly", 130, 165),
        ("prestissimo", 165, 180),
        ("not fast", 60, 129),
        ("not too slow", 79, 180),
        ("under 80 bpm", 60, 80),
        ("no faster than 80 bpm", 60, 80),
        ("at least 150", 150, 180),
        ("faster than 150", 150, 165),
        ("between 100 and 110 bpm", 100, 110),
        ("90-95 bpm", 90, 95),
        ("90 to 95 beats per minute", 90, 95),
        ("slow, fast", 60, 78),
        ("fast, 70 bpm", 70, 70),
        ("slow rock", 60, 78),
    ],
)
def test_tempi_stay_in_what_is_said(prompt: str, low: int, high: int) -> None:
    for seed in range(20):
        assert low <= tags(prompt, seed).bpm <= high


@pytest.mark.parametrize(
    "prompt",
    [
        "jazz, no drums", "jazz without any drums", "jazz w/o drums", "drumless jazz",
        "jazz with no bass, piano or drums", "jazz, neither bass nor drums", "jazz minus the drums",
        "jazz, no bass and drums", "jazz: avoid loud drums", "jazz - don\u2019t use drums",
        "jazz, all but no percussion", "jazz (not drums)", "drums jazz without drums",
    ],
)  # fmt: skip
def test_what_is_denied_does_not_play(prompt: str) -> None:
    for seed in range(10):
        found = tags(prompt, seed)
        assert DRUMS not in found.instruments and found.instruments
        assert found.genre == "jazz"


@pytest.mark.parametrize(
    "prompt",
    ["with drums, no piano", "no piano, drums", "no piano but drums", "not without drums"],
)
def test_denials_end(prompt: str) -> None:
    for seed in range(10):
        assert DRUMS in tags(prompt, seed).instruments


def test_bass_and_drums_are_joined_by_the_genre_s_others() -> None:
    for seed in range(10):
        found = tags("rock with drums", seed).instruments
        assert DRUMS in found and "guitar" in found
    assert len(tags("a jazz band with vibraphone").instruments) >= 4
    assert "vibraphone" in tags("a jazz band with vibraphone").instruments
    for count, name in enumerate(("duo", "trio", "quartet", "quintet", "sextet"), start=2):
        assert len(tags(f"jazz {name}").instruments) == count


def test_moods_shape_what_is_left_open() -> None:
    seeds = range(40)
    sad, happy = ([tags(f"{mood} classical", s) for s in seeds] for mood in ("sad", "happy"))
    assert {t.mode for t in sad} == {"minor"} and {t.mode for t in happy} == {"major"}
    assert sum(t.bpm for t in sad) < 0.9 * sum(t.bpm for t in happy)
    calm, busy = ([tags(f"{mood} pop", s) for s in seeds] for mood in ("calm", "energetic"))
    assert max(t.density for t in calm) < min(t.density for t in busy) + 0.2
    assert sum(t.bpm for t in calm) < sum(t.bpm for t in busy)
    assert {t.mode for t in (tags("not sad cinematic", s) for s in seeds)} == {"major"}
    for seed in seeds:
        assert tags("sparse jazz", seed).density <= 0.3 and tags("busy jazz", seed).density >= 0.75


@pytest.mark.parametrize("genre", GENRES)
def test_the_rest_is_usual_in_the_genre(genre: str) -> None:
    usual, prompts = GENRES[genre], [tags(genre, seed) for seed in range(60)]
    low, high = usual.bpm
    for found in prompts:
        assert found.genre == genre and found.instruments in usual.ensembles
        assert low <= found.bpm <= high and found.bpm == int(found.bpm)
        assert found.mode in usual.modes and found.meter in usual.meters
        assert usual.density[0] <= found.density <= usual.density[1] + 0.01
    assert {t.mode for t in prompts} == set(usual.modes)
    assert {t.meter for t in prompts} == set(usual.meters)
    assert {t.instruments for t in prompts} == set(usual.ensembles)
    assert len({t.tonic for t in prompts}) >= 10 and len({t.bpm for t in prompts}) >= 10


@pytest.mark.parametrize("genre", GENRES)
def test_another_word_changes_only_what_it_decides(genre: str) -> None:
    for seed in range(10):
        plain = tags(genre, seed)
        keyed = tags(f"{genre} in F# minor", seed)
        assert (keyed.bpm, keyed.instruments, keyed.density) == (
            plain.bpm, plain.instruments, plain.density
        )  # fmt: skip
        assert tags(f"{genre} xyzzy", seed) == plain
        assert tags(f"{genre}, {plain.bpm:g} bpm", seed).instruments == plain.instruments


def test_what_has_no_effect_is_told() -> None:
    reading = read_prompt("purple jazz with vocals, 7/8, 30 seconds, sitar, 300 bpm, then rock", 0)
    assert reading.unheeded == ("vocals", "purple", "7/8", "30 seconds")
    said = " / ".join(reading.remarks)
    assert "'300 bpm' is taken as 180 bpm" in said
    assert "'sitar': the nearest is guitar" in said
    assert "'rock' has no effect beside 'jazz'" in said
    assert "no effect: vocals, purple, 7/8, 30 seconds" in said
    assert dict(reading.decided)["jazz"] == "genre jazz"
    assert read_prompt("jazz without vocals", 0).remarks == ()
    assert "and 12 more" in read_prompt(" ".join("z" * n for n in range(3, 23)), 0).remarks[0]


def test_tempi_are_limited_with_a_note() -> None:
    for prompt, bpm in (("20 bpm", 60), ("0 bpm", 60), ("999 bpm", 180), ("9" * 5000 + "bpm", 180)):
        reading = read_prompt(prompt, 0)
        assert reading.tags.bpm == bpm and "from 60 to 180" in reading.remarks[0]
    assert read_prompt("60 bpm", 0).remarks == read_prompt("180 bpm", 0).remarks == ()


def test_ordinary_words_are_no_keys() -> None:
    prompts = (
        "I am in a band",
        "be a man",
        "to e mail",
        "see a b c",
        "I AM IN A BAND",
        "SEE A B C",
    )
    for prompt in (*prompts, "a major problem", "In a Minor Key", "IN A MINOR KEY"):
        assert "key" not in " ".join(what for _, what in read_prompt(prompt, 0).decided)


def test_every_phrase_is_understood_alone() -> None:
    for words, meanings in PHRASES.items():
        reading = read_prompt(" ".join(words), 1)
        assert reading.unheeded == () or meanings[0].kind == "none", words
        kinds = {m.kind for m in meanings if not m.weak} - {"none", "empty"}
        assert reading.decided or not kinds, words


def test_the_frozen_prompts_are_read_as_they_were_meant() -> None:
    """What `recipes/evaluate_music.py` measures must not move with the words."""
    path = Path(__file__).parents[2] / "recipes" / "music_tags.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 100
    for row in rows:
        reading = read_prompt(row.pop("prompt"), row.pop("seed"))
        found = {name: getattr(reading.tags, name) for name in row}
        assert found == {**row, "instruments": tuple(row["instruments"])} and not reading.remarks


WORDS = st.sampled_from(
    [" ".join(phrase) for phrase in PHRASES]
    + [
        "no",
        "not",
        "without",
        "and",
        "or",
        ",",
        ".",
        "-",
        "/",
        "a",
        "in",
        "A",
        "key of",
        "F#",
        "Bb",
    ]
    + ["70", "bpm", "3/4", "very", "less", "than", "between", "nor"]
)


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=25).map(" ".join)),
    st.integers(-(2**70), 2**70),
)
def test_any_text_has_a_reading(text: str, seed: int) -> None:
    reading = read_prompt(text, seed)
    found = reading.tags
    assert found == read_prompt(text, seed).tags
    assert found.genre in GENRES and found.mood in MOODS and found.mode in MODES
    assert found.instruments and len(set(found.instruments)) == len(found.instruments)
    assert set(found.instruments) <= set(NAMES)
    assert 60 <= found.bpm <= 180 and 0 <= found.density <= 1 and 0 <= found.tonic < 12
    assert found.bar_s > 0 and found.key.split()[0] in TONICS
    assert all(remark and remark == remark.strip() for remark in reading.remarks)


PARTS = ["calm", "jazz", "piano", "in G minor", "80 bpm", "3/4", "sparse", "intro"]


@settings(max_examples=30, deadline=None)
@given(st.permutations(PARTS))
def test_order_does_not_matter(parts: list[str]) -> None:
    assert tags(", ".join(parts)) == tags(", ".join(PARTS))


@pytest.mark.parametrize(
    ("names", "genre", "instruments"),
    [
        ("drum and bass; Drum & Bass; drum'n'bass; drum n bass; future bass", "electronic", ()),
        ("rock and roll; rock & roll; Rock'n'Roll", "rock", ()),
        ("rhythm and blues", "blues", ()),
        ("hip hop; hip-hop; jazz hop", "lofi", ()),
        ("country and western; bluegrass; blue grass", "folk", ()),
        ("dance hall", "funk", ()),
        ("drums and bass; bass drums; drum and bass guitar", None, ("bass", DRUMS)),
        ("bass drum; double bass drum; snare drum; electronic drums; 808 drums", None, (DRUMS,)),
        ("bass guitar; electric bass guitar; acoustic bass guitar; string bass", None, ("bass",)),
        ("steel guitar; pedal steel; twelve-string guitar; steel-string guitar", None, ("guitar",)),
        ("french horn; bass trombone; bass tuba; brass quartet", None, ("trumpet",)),
        ("english horn; bass clarinet; bass flute", None, ("flute",)),
        ("bass saxophone; baritone saxophone", None, ("saxophone",)),
        ("string quartet; string trio; bass viol", None, ("strings",)),
        ("steel drums; thumb piano; glass harmonica", None, ("vibraphone",)),
        ("electronic piano", None, ("electric piano",)),
        ("mouth organ; blues harp; electronic organ", None, ("organ",)),
        ("synth strings; string pad", None, ("pad",)),
        ("synth bass", None, ("bass",)),
    ],
)
def test_the_longest_name_counts_and_not_the_names_in_it(
    names: str, genre: str | None, instruments: tuple[str, ...]
) -> None:
    for name in names.split("; "):
        said, unknown = said_in(name)
        found = {kind: [s.meaning.value for s in said if s.meaning.kind == kind] for kind in KINDS}
        if genre is not None:
            assert found["genre"] == [genre], name
        players = {p for value in found["instruments"] if isinstance(value, tuple) for p in value}
        assert players == set(instruments), name
        assert not unknown and not found["mood"], name


def test_a_name_within_an_unknown_one_is_heard_and_the_rest_is_told() -> None:
    reading = read_prompt("viola da gamba with zither", 0)
    assert reading.unheeded == ("da", "gamba", "zither")


def test_choices_never_change() -> None:
    """A seed's choices are part of the interface: golden values."""
    assert tags("jazz", 0) == Tags(
        "jazz", ("saxophone", "piano", "bass", DRUMS), 98.0, 9, "dorian", density=0.52
    )
