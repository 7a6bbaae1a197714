"""The words of prompts: phrases and what each of them asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from alm_cli.music.score import DRUMS, NAMES

Kind = Literal[
    "genre", "instruments", "mood", "bpm", "tempo", "key", "mode", "meter", "density", "section",
    "group", "avoided", "none", "empty",
]  # fmt: skip
LONGEST_PHRASE = 4
SLOW, FAST, SPARSE, BUSY = (60, 78), (130, 165), (0.1, 0.3), (0.75, 0.95)


@dataclass(frozen=True)
class Meaning:
    """One thing that a phrase asks for.

    `value` is a name, names, or the least and the most of a range. One that is `weak` counts only
    where nothing else of its kind is said; one that is `near` is the nearest to what was said.
    """

    kind: Kind
    value: str | int | tuple[str, ...] | tuple[float, float]
    weak: bool = False
    near: bool = False


_GENRES = {
    "classical": "classical, classic, baroque, chamber, chamber music, sonata, sonatina, nocturne,"
    "etude, fugue, concerto, minuet, prelude, impromptu, impressionist, symphony, string quartet",
    "pop": "pop, poppy, dance pop, pop ballad, chart music, britpop, k pop, kpop, j pop, jpop",
    "rock": "rock, rocky, rock and roll, rock n roll, rock ballad, indie, indie rock, soft rock,"
    "alternative, alternative rock, classic rock, hard rock, folk rock, blues rock, pop rock,"
    "garage rock, surf rock",
    "jazz": "jazz, jazzy, swing, swinging, bebop, bop, big band, smooth jazz, cool jazz, dixieland,"
    "jazz fusion, ragtime, lounge",
    "blues": "blues, bluesy, delta blues, slow blues, rhythm and blues, twelve bar blues,"
    "12 bar blues, boogie, boogie woogie, shuffle",
    "folk": "folk, folky, folksy, singer songwriter, acoustic folk, folk song, celtic, irish,"
    "campfire",
    "ambient": "ambient, atmospheric, soundscape, drone music, new age, meditation, space music,"
    "sleep music, spa",
    "electronic": "electronic, electronica, electro, edm, techno, house, deep house, trance,"
    "synthwave, synth wave, synth pop, synthpop, electropop, dance, dance music, chiptune,"
    "8 bit, retrowave, idm, club, rave",
    "lofi": "lofi, lo fi, lofi hip hop, lo fi hip hop, chillhop, chill hop, study beats,"
    "lofi beats, lo fi beats",
    "cinematic": "cinematic, film, film score, movie, movie score, soundtrack, trailer,"
    "filmic, orchestral score, game music, video game",
    "funk": "funk, funky, jazz funk, disco, motown, groovy",
    "latin": "latin, bossa nova, bossa, samba, salsa, rumba, tango, mambo, latin jazz",
}
_NEAR_GENRES = {
    "rock": "metal, heavy metal, punk, punk rock, grunge, emo, hardcore",
    "folk": "country, country and western, bluegrass, blue grass, americana, world music,"
    "sea shanty, shanty",
    "lofi": "hip hop, hiphop, jazz hop, boom bap, trip hop, triphop, downtempo, rap beat, trap",
    "funk": "soul, soulful, r and b, rnb, gospel, afrobeat, afro beat, ska, reggae, dub, dancehall,"
    "dance hall",
    "electronic": "drum and bass, drum n bass, dnb, jungle, dubstep, dub step, hardstyle, garage,"
    "hyperpop, future bass, bass music, big beat, breakbeat, break beat",
    "classical": "opera, operatic, choral, medieval, renaissance",
}
_INSTRUMENTS = {
    "piano": "piano, pianos, grand piano, upright piano, acoustic piano, pianoforte, pianist",
    "electric piano": "electric piano, e piano, rhodes, wurlitzer, wurli, fender rhodes, epiano,"
    "electronic piano",
    "vibraphone": "vibraphone, vibraharp",
    "organ": "organ, hammond, hammond organ, organist, electric organ, electronic organ",
    "guitar": "guitar, acoustic guitar, nylon guitar, classical guitar, spanish guitar, guitarist,"
    "fingerpicked guitar, nylon string guitar, fingerpicking, gtr, steel string guitar,"
    "steel string acoustic guitar, six string guitar, 6 string guitar",
    "bass": "bass, bass guitar, electric bass, electric bass guitar, bassline, bass line, bassist,"
    "basses",
    "strings": "string, strings, string section, string ensemble, string orchestra",
    "trumpet": "trumpet, trumpeter",
    "saxophone": "saxophone, sax, saxes, saxophonist, alto sax, alto saxophone",
    "flute": "flute, flutist, flautist",
    "lead": "lead synth, synth lead, square lead, square wave, synth melody, arp, arpeggiator,"
    "arpeggiated synth",
    "pad": "pad, synth pad, warm pad, ambient pad, pad synth",
    DRUMS: "drum, drums, percussion, beat, drummer, drum kit, drumkit, drum set, kit, percussive,"
    "drum beat, kick, kick drum, bass drum, double bass drum, snare, snare drum, hi hat, hihat,"
    "cymbal, drumming",
}
_NEAR_INSTRUMENTS = {
    "piano": "harpsichord, clavichord, keyboard, keys, toy piano, celesta, harp",
    "vibraphone": "marimba, xylophone, glockenspiel, bell, music box, chime, kalimba,"
    "tubular bells, steel drum, steel pan, steelpan, handpan, thumb piano, glass harmonica,"
    "bell choir",
    "organ": "accordion, harmonica, church organ, pipe organ, harmonium, bandoneon, melodica,"
    "mouth organ, mouth harp, blues harp",
    "guitar": "electric guitar, distorted guitar, steel guitar, pedal steel guitar, pedal steel,"
    "lap steel guitar, lap steel, 12 string guitar, twelve string guitar, 7 string guitar,"
    "seven string guitar, guitar riff,"
    "ukulele, banjo, mandolin, lute, sitar, oud, koto, slide guitar, jazz guitar, clean guitar",
    "bass": "double bass, upright bass, acoustic bass, acoustic bass guitar, string bass,"
    "contrabass, synth bass, bass synth,"
    "sub bass, 808",
    "strings": "violin, viola, cello, fiddle, violins, cellos, celli, string quartet, string trio,"
    "string quintet, string sextet, violinist, cellist, erhu, bass viol",
    "trumpet": "brass, trombone, french horn, horn, tuba, cornet, flugelhorn, brass section, bugle,"
    "brass band, brass quintet, brass quartet, brass trio, horn section, bass trombone, bass tuba",
    "saxophone": "tenor sax, tenor saxophone, baritone sax, baritone saxophone, bari sax,"
    "soprano sax,"
    "soprano saxophone, bass sax, bass saxophone, reeds",
    "flute": "clarinet, oboe, bassoon, recorder, piccolo, pan flute, panpipe, pan pipe, whistle,"
    "tin whistle,"
    "alto flute, bass flute, bass clarinet, english horn, cor anglais, basset horn, woodwind,"
    "woodwinds, ocarina, shakuhachi, bagpipe",
    "pad": "choir, drone, theremin, synth string, string synth, string pad, choir pad",
    DRUMS: "conga, bongo, tabla, djembe, drum machine, tambourine, shaker, timpani, taiko, clap,"
    "hand drum, cajon, maracas, brushes, electronic drum, electric drum, synth drum, 808 drum,"
    "808 kick, electronic drum kit",
}
_SEVERAL_INSTRUMENTS = {
    ("lead", "pad"): "synth, synthesizer, synthesiser",
    ("strings", "flute", "trumpet"): "orchestra, orchestral, symphonic, symphony, philharmonic,"
    "symphony orchestra",
    ("bass", DRUMS): "rhythm section, drum and bass guitar",
    ("trumpet", "saxophone", "piano", "bass", DRUMS): "big band",
}
_MOODS = {
    "calm": "calm, calming, peaceful, relax, relaxed, relaxing, chill, chill out, chilled,"
    "chilled out,"
    "mellow, soft, gentle, soothing, quiet, tranquil, serene, laid back, meditative, sleepy,"
    "restful, easygoing, easy going, tender, delicate, lullaby, placid, bedtime, unhurried, cozy",
    "happy": "happy, joyful, joyous, cheerful, cheery, upbeat, bright, sunny, merry, glad, jolly,"
    "positive, feel good, good mood, light hearted, lighthearted, carefree, festive, celebratory",
    "sad": "sad, sadness, melancholy, melancholic, sorrowful, sorrow, mournful, tearful, gloomy,"
    "lonely, heartbroken, heartbreaking, tragic, depressing, depressed, somber, sombre, grieving,"
    "wistful, blue, unhappy, lament, elegy, funeral, plaintive",
    "dark": "dark, ominous, sinister, evil, grim, brooding, scary, spooky, creepy, haunting, eerie,"
    "menacing, gothic, horror",
    "epic": "epic, heroic, grand, majestic, powerful, dramatic, triumphant, bombastic, grandiose,"
    "monumental, anthemic, glorious, victorious, noble, massive, battle",
    "tense": "tense, suspense, suspenseful, nervous, anxious, thrilling, thriller, urgent,"
    "aggressive, angry, intense, restless, agitated, furious, uneasy, chase",
    "dreamy": "dreamy, dreamlike, ethereal, floating, hazy, airy, spacey, spacy, heavenly,"
    "celestial, surreal, trippy, hypnotic, weightless, cosmic",
    "energetic": "energetic, energy, lively, exciting, excited, driving, dynamic, vigorous,"
    "spirited, pumping, high energy, danceable, party, workout, hyper, rousing, fiery, animated",
    "romantic": "romantic, love, loving, sensual, sexy, passionate, intimate, sweet, warm, smooth,"
    "wedding, date night",
    "mysterious": "mysterious, mystery, mystic, mystical, enigmatic, strange, otherworldly,"
    "curious, noir, secretive, detective",
    "playful": "playful, fun, funny, quirky, whimsical, cute, silly, bouncy, humorous, comical,"
    "cartoonish, mischievous, cheeky, comedic, goofy",
    "nostalgic": "nostalgic, nostalgia, bittersweet, longing, yearning, reflective, sentimental,"
    "pensive, wistfulness, vintage, retro, thoughtful, contemplative, reminiscent",
    "hopeful": "hopeful, hope, uplifting, inspiring, inspirational, optimistic, encouraging,"
    "motivational, motivating, heartwarming",
}
_TEMPI = {
    (60, 66): "largo, grave, larghissimo, very slow, slowest",
    SLOW: "slow, slower, lento, larghetto, adagio, slow paced, slow motion, leisurely, ballad,"
    "slow tempo, pop ballad, rock ballad, slow blues, low tempo",
    (76, 106): "andante, walking pace, andantino",
    (92, 116): "moderate, moderato, medium, mid tempo, midtempo, medium tempo, moderate tempo,"
    "medium paced, moderately paced, medium speed",
    (110, 122): "allegretto",
    (118, 150): "uptempo, up tempo, brisk, fast paced, high tempo",
    (120, 156): "allegro",
    FAST: "fast, faster, quick, rapid, speedy, fast tempo, high speed",
    (156, 172): "vivace",
    (165, 180): "presto, prestissimo, very fast, fastest, breakneck",
}
_MODES = {
    "major": "major, maj, ionian, dur",
    "minor": "minor, min, aeolian, moll, natural minor, harmonic minor, melodic minor",
    "dorian": "dorian",
    "mixolydian": "mixolydian",
}
_NEAR_MODES = {"major": "lydian, pentatonic", "minor": "phrygian, locrian"}
_METERS = {
    "4/4": "4/4, common time, four four, march, marching, alla marcia, straight time",
    "3/4": "3/4, waltz, waltzes, waltz time, three four, minuet, mazurka, triple meter,"
    "triple metre, triple time, in three",
    "6/8": "6/8, six eight, jig, barcarolle, tarantella, siciliana, in six",
}
_NEAR_METERS = {"4/4": "2/4, 2/2, cut time, 8/8", "6/8": "12/8, 9/8", "3/4": "3/8, 6/4, 3/2"}
_DENSITIES = {
    SPARSE: "sparse, minimal, minimalist, minimalistic, simple, bare, few notes, stripped down,"
    "stripped back, spacious, uncluttered, empty, understated",
    (0.1, 0.2): "very sparse, very minimal, very simple",
    BUSY: "busy, dense, many notes, lots of notes, complex, intricate, rich, virtuosic,"
    "elaborate, ornate, frantic, lush, thick, layered",
    (0.85, 1.0): "very busy, very dense, very complex",
}
_SECTIONS = {
    "whole": "whole piece, whole song, complete song, complete piece, full song, full piece",
    "intro": "intro, introduction, opening",
    "verse": "verse",
    "chorus": "chorus, refrain, hook",
    "bridge": "bridge, middle eight, middle 8",
    "outro": "outro, ending, coda, finale, closing",
}
# How many play, 1 also where more are named; 0 is as many as usually play at most.
_GROUPS = {
    0: "band, full band, group, ensemble, combo, big band, full ensemble",
    1: "solo, unaccompanied, alone, soloist, string quartet, string trio, string quintet,"
    "string sextet, brass quintet, brass quartet, brass trio, brass band",
    2: "duo, duet, pair",
    3: "trio",
    4: "quartet",
    5: "quintet",
    6: "sextet",
}
# These stand by instruments that are named.
_ONLY = {1: "only, just, nothing but, nothing else, by itself"}
_AVOIDED = {("lead", "pad", "electric piano"): "acoustic, unplugged"}
# Understood, but there is nothing of the kind in our music.
_NONE = (
    "vocal, voice, singing, singer, lyrics, rap, rapping, vocalist, vocals, a cappella, humming,"
    "singers, spoken word"
)
_EMPTY_PHRASES = (
    "beats per minute, beats a minute, time signature, not only, not just, not without,"
    "no need, as well as, such as, in the style of, a lot of, all instruments"
)
_WEAK_GENRES = {
    "classical": "waltz, waltzes, mazurka, barcarolle, symphonic, philharmonic, lullaby",
    "folk": "jig, siciliana, tarantella, ballad",
    "cinematic": "orchestra, orchestral, march, marching, horror, thriller, battle",
}


def _meanings() -> Iterator[tuple[str, Meaning]]:
    several = _SEVERAL_INSTRUMENTS
    tables: list[tuple[Kind, Mapping[Any, str], bool, bool]] = [
        ("genre", _GENRES, False, False),
        ("genre", _NEAR_GENRES, False, True),
        ("genre", _WEAK_GENRES, True, False),
        ("instruments", {(key,): text for key, text in _INSTRUMENTS.items()}, False, False),
        ("instruments", {(key,): text for key, text in _NEAR_INSTRUMENTS.items()}, False, True),
        ("instruments", several, False, False),
        ("mood", _MOODS, False, False),
        ("tempo", _TEMPI, False, False),
        ("mode", _MODES, False, False),
        ("mode", _NEAR_MODES, False, True),
        ("meter", _METERS, False, False),
        ("meter", _NEAR_METERS, False, True),
        ("density", _DENSITIES, False, False),
        ("section", _SECTIONS, False, False),
        ("group", _GROUPS, False, False),
        ("group", _ONLY, True, False),
        ("avoided", _AVOIDED, False, False),
        ("none", {"": _NONE}, False, False),
        ("empty", {"": _EMPTY_PHRASES}, False, False),
    ]
    for kind, table, weak, near in tables:
        for value, text in table.items():
            for phrase in text.split(","):
                yield phrase.strip(), Meaning(kind, value, weak, near)


def _phrases() -> dict[tuple[str, ...], tuple[Meaning, ...]]:
    found: dict[tuple[str, ...], list[Meaning]] = {}
    for phrase, meaning in _meanings():
        known = found.setdefault(tuple(singular(word) for word in phrase.split()), [])
        if meaning not in known:
            known.append(meaning)
    return {phrase: tuple(meanings) for phrase, meanings in found.items()}


# These are something else in the plural: "drums and bass" are two instruments, as in sloppy lists
# "bass drums" are.
AS_WRITTEN = frozenset(
    tuple(phrase.split()) for phrase in ("drum and bass", "bass drum", "double bass drum")
)
# Words that are not what they are without their last letter.
_NO_PLURALS = frozenset({"blues", "keys", "minus", "sans", "reeds", "brushes"})


def singular(word: str) -> str:
    """A word without the s of a plural."""
    if len(word) < 4 or word in _NO_PLURALS or not word.endswith("s"):
        return word
    return word if word.endswith(("ss", "us", "is")) else word[:-1]


# What is said, word by word in the singular -> what it asks for.
PHRASES = _phrases()
assert {*_INSTRUMENTS} == {*NAMES}


def words_of(text: str) -> frozenset[str]:
    """The words of a text, to look them up."""
    return frozenset(text.split())


DENIES = words_of(
    "no not without never minus non sans nor neither avoid avoiding exclude excluding omit omitting"
    " skip except lacking lack lacks isn't don't doesn't aren't remove removing zero w/o"
    " dont doesnt isnt arent"
)
# After these nothing is denied any longer.
ENDS_DENIAL = words_of("but with just only instead however yet though . ;")
VERY = words_of(
    "very really extremely super so quite incredibly ultra insanely highly exceptionally"
)
# Of no weight: they are not told as words without effect.
EMPTY = (
    DENIES
    | ENDS_DENIAL
    | VERY
    | words_of(
        "a an the of with and or some any please music musical song track piece tune make"
        " create generate play playing played compose write for in at to me i i'd i'm want"
        " would like style styled feel feeling vibe sound sounding mood tempo speed pace bpm"
        " per minute key scale time signature meter metre mode tonality it its it's is be that"
        " this are has have having plus featuring feature using use by on as my our your need"
        " give short long little bit groove nice good beautiful great lovely about around"
        " approximately roughly rather too much more most less than well also instrumental"
        " composition arrangement number theme melody harmony chord note background something"
        " kind sort type which where while into from over under own let's let us can could you"
        " do does should must may might then fairly pretty slightly somewhat moderately"
        " performed performing genre instrument set main both other each new between max"
        " minimum maximum least up down one two , : ~ = < > -"
    )
)
