"""What alm-asr learns to write down: letters only, and phrases to be read aloud.

Numbers, dates, times and abbreviations are spelt out before synthesis, so that label and audio
agree; `letters` does the same to reference texts, on both sides of every comparison.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alm_cli.text.spoken import cardinal
from alm_cli.text.spoken import spoken as numbers_spoken

DIGITS = tuple(map(cardinal, range(10)))
ABBREVIATIONS = {
    "Mr.": "mister", "Mrs.": "missus", "Messrs.": "messieurs", "Dr.": "doctor", "Drs.": "doctors",
    "St.": "saint", "Co.": "company", "Jr.": "junior", "Maj.": "major", "Gen.": "general",
    "Lt.": "lieutenant", "Rev.": "reverend", "Hon.": "honorable", "Sgt.": "sergeant",
    "Col.": "colonel", "Capt.": "captain", "Esq.": "esquire", "Ft.": "fort", "No.": "number",
    "etc.": "et cetera", }  # fmt: skip


def spoken(text: str) -> str:
    """The words that a reader says, with the punctuation that makes pauses."""
    text = unicodedata.normalize("NFKD", text.replace("’", "'"))
    text = "".join(c for c in text if not unicodedata.combining(c))
    for short, long in ABBREVIATIONS.items():
        text = text.replace(short, long)
    text = re.sub(r"\b([A-Za-z])\.(?=[ A-Za-z,]|$)", r"\1 ", text)  # initials
    text = numbers_spoken(text)
    text = re.sub(r"\b[A-Z]{2,4}\b", lambda m: " ".join(m[0]) if _is_letters(m[0]) else m[0], text)
    text = re.sub(r"[^A-Za-z',.;:?!]+", " ", text)
    return re.sub(r"\s+([,.;:?!])", r"\1", re.sub(r"\s+", " ", text)).strip(" ,;:")


def _is_letters(word: str) -> bool:
    """Whether capitals are read letter by letter."""
    return not set(word) & set("AEIOUY") or word in (
        "FBI",
        "CIA",
        "USA",
        "USSR",
        "US",
        "WDSU",
        "UV",
    )


def letters(text: str) -> str:
    """What the model should write for a text: small letters, apostrophes within words, spaces."""
    # Texts in capitals have no abbreviations in capitals.
    text = spoken(text.lower() if text.isupper() else text).lower()
    words = re.sub(r"[^a-z' ]+", " ", text).split()
    return " ".join(word for word in (w.strip("'") for w in words) if word)


def sentences(path: Path, without: Sequence[str] = ()) -> list[str]:
    """The readable sentences of a file, none of which `letters` finds in `without`."""
    unwanted, found = {letters(text) for text in without}, []
    for line in path.read_text(encoding="utf-8").splitlines():
        said = spoken(line)
        # What is left after a dot within a line is an abbreviation nobody told us of.
        odd = re.search(r"\.\s+[a-z]", said) or re.search(r"[\[\]()]", line)
        if said and not odd and letters(said) not in unwanted:
            found.append(said)
    return found


class Phrases:
    """Endless texts of many kinds, made of sentences and of a list of words."""

    def __init__(self, lines: Sequence[str], words: Sequence[str]) -> None:
        self.lines = lines
        counts = Counter(word for line in lines for word in letters(line).split())
        self.common = list(counts)
        weights = np.sqrt(np.array([counts[word] for word in self.common]))
        self.weights = weights / weights.sum()
        self.words = [w for w in words if re.fullmatch(r"[a-z]{2,}", w)]
        inside = {name for line in lines for name in re.findall(r"(?<=[a-z] )[A-Z][a-z]{2,}", line)}
        self.names = sorted(inside | {w for w in words if re.fullmatch(r"[A-Z][a-z]{2,}", w)})

    def text(self, rng: np.random.Generator) -> str:
        kind = rng.choice(len(_SHARES), p=_SHARES)
        make = (self.sentence, self.spliced, self.several, self.filled)[int(kind)]
        return make(rng)

    def sentence(self, rng: np.random.Generator) -> str:
        """A sentence, or the beginning or the end of a long one."""
        said = _one(rng, self.lines)
        parts = said.split()
        if len(parts) > 22 or (len(parts) > 6 and rng.random() < 0.3):
            cut = int(rng.integers(3, min(22, len(parts) - 2)))
            parts = parts[:cut] if rng.random() < 0.5 else parts[-cut:]
        return " ".join(parts)

    def spliced(self, rng: np.random.Generator) -> str:
        """Stretches of several sentences, one after another."""
        parts: list[str] = []
        for _ in range(rng.integers(2, 5)):
            words = _one(rng, self.lines).split()
            begin = int(rng.integers(0, len(words)))
            parts += words[begin : begin + int(rng.integers(1, 7))]
        return " ".join(parts)

    def word(self, rng: np.random.Generator) -> str:
        source = rng.random()
        if source < 0.45:
            return str(self.common[rng.choice(len(self.common), p=self.weights)])
        return _one(rng, self.words if source < 0.93 else self.names)

    def several(self, rng: np.random.Generator) -> str:
        """One to seven words that have nothing to do with one another."""
        return " ".join(self.word(rng) for _ in range(min(7, rng.geometric(0.3))))

    def filled(self, rng: np.random.Generator) -> str:
        """A phrase of everyday life."""
        text = _one(rng, PATTERNS)
        while found := re.search(r"\{(\w+)\}", text):
            slot = found[1]
            value = SLOTS[slot](rng) if slot in SLOTS else self._listed(slot, rng)
            text = text[: found.start()] + value + text[found.end() :]
        return text

    def _listed(self, slot: str, rng: np.random.Generator) -> str:
        if slot == "name":
            return _one(rng, self.names)
        return self.word(rng) if slot == "word" else _one(rng, LISTS[slot])


def _one(rng: np.random.Generator, values: Sequence[str]) -> str:
    return values[int(rng.integers(len(values)))]


_SHARES = (0.5, 0.14, 0.16, 0.2)  # of sentences, splices, single words and patterns


def _any_number(rng: np.random.Generator) -> str:
    return cardinal(int(10 ** rng.uniform(0, rng.choice([1, 2, 3, 4, 6]))))


def _ordinal(rng: np.random.Generator, end: int) -> str:
    return numbers_spoken(f"{rng.integers(1, end)}th").strip()


def _year(rng: np.random.Generator, first: int, end: int) -> str:
    return numbers_spoken(str(rng.integers(first, end))).strip()


def _digits(rng: np.random.Generator) -> str:
    names = (*DIGITS, "oh") if rng.random() < 0.3 else DIGITS
    return " ".join(_one(rng, names) for _ in range(rng.integers(1, 10)))


def _clock(rng: np.random.Generator) -> str:
    hour, minute = cardinal(int(rng.integers(1, 13))), int(rng.integers(0, 60))
    if rng.random() < 0.3:
        return _one(rng, (f"half past {hour}", f"quarter to {hour}", f"{hour} o'clock"))
    said = cardinal(minute) if minute > 9 else f"oh {cardinal(minute)}" if minute else ""
    return f"{hour} {said}".strip() + _one(rng, ("", " a m", " p m", " in the morning"))


def _date(rng: np.random.Generator) -> str:
    day, month = _ordinal(rng, 32), _one(rng, LISTS["month"])
    said = _one(rng, (f"{month} {day}", f"the {day} of {month}", f"{month} the {day}"))
    return said + (f", {_year(rng, 1400, 2040)}" if rng.random() < 0.5 else "")


def _spelt(rng: np.random.Generator) -> str:
    return " ".join(chr(65 + int(rng.integers(26))) for _ in range(rng.integers(2, 6)))


SLOTS: dict[str, Callable[[np.random.Generator], str]] = {
    "number": _any_number, "digits": _digits, "clock": _clock, "date": _date, "spelt": _spelt,
    "year": lambda rng: _year(rng, 1100, 2060), "ordinal": lambda rng: _ordinal(rng, 101),
}  # fmt: skip

LISTS = {
    key: words.split("|")
    for key, words in {
        "month": "January|February|March|April|May|June|July|August|September|October|November"
        "|December",
        "day": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|today|tomorrow|tonight",
        "who": "I|you|he|she|we|they|my brother|my sister|the teacher|the doctor|our neighbor|"
        "that man|the children|everyone|nobody|somebody|her mother|his father|the old woman|people",
        "did": "went to|came from|looked at|talked about|asked for|thought about|found|lost|saw|"
        "heard|wanted|liked|could not see|had never seen|was afraid of|remembered|forgot|bought|"
        "sold|carried|left|opened|closed|wrote about|laughed at|waited for|knew|needed|took",
        "does": "want|like|need|see|know|think about|talk about|remember|have|find|hear|take|make|"
        "give me|tell me about|look for|understand|believe|buy|use|eat|love|miss|watch|hate",
        "what": "the house|a little boy|the water|some bread|the table|her hand|the morning paper|"
        "the dog|a small cat|the street|his horse|the old book|a letter|the door|the window|"
        "the garden|the river|a good story|the train|the weather|some money|a glass of milk|"
        "the school|the city|the red car|the blue sky|a long road|the fire|a cup of coffee|"
        "the phone|the answer|a question|the picture|the music|the room|the lamp|the game|"
        "the people|the truth|the first one|the other side|all of it|nothing|something else",
        "how": "very well|again|at once|slowly|quickly|last night|this morning|yesterday|every day|"
        "for a long time|in the rain|with his friends|at home|a little|too much|right now|"
        "after dinner|before breakfast|on the way|by himself|without a word|as soon as possible",
        "thing": "light|lamp|radio|television|heater|fan|music|alarm|camera|door|window|oven|phone",
        "room": "kitchen|bedroom|living room|bathroom|garage|office|garden|hall|basement|cellar",
        "order": "yes|no|stop|go|start|up|down|left|right|on|off|next|back|play|pause|louder|"
        "cancel|help|open|close|continue|repeat|okay|hello|thank you|good morning|goodbye|wait|"
        "please|maybe|never mind|forward|backward|follow|learn|bird|cat|dog|tree|house|wow|bed",
        "suit": "hearts|spades|clubs|diamonds",
        "rank": "ace|two|three|four|five|six|seven|eight|nine|ten|jack|queen|king",
        "filler": "well|oh|um|uh|yeah|so|you know|i mean|actually|okay|of course|really|anyway",
        "color": "red|blue|green|yellow|black|white|brown|gray|orange|purple|pink",
        "unit": "dollars|cents|pounds|miles|feet|inches|minutes|hours|days|weeks|months|years|"
        "percent|degrees|people|men|women|children|books|times|pages|grams|meters|kilometers",
        "not": "don't|didn't|can't|couldn't|won't|wouldn't|shouldn't|never",
        "is": "it's|that's|there's|he's|she's|here's|it isn't|it wasn't|it is|that was|there was",
    }.items()
}

PATTERNS = (
    "{who} {did} {what} {how}", "{who} {did} {what}", "did {who} {does} {what}?",
    "{filler}, i {not} {does} {what} {how}", "i {not} {does} {what}", "do you {does} {what}?",
    "{is} {what}", "{is} {ordinal} {word}", "{who} {did} {what} and {who} {did} {what}",
    "i'll {does} {what} {day}", "we're going to {does} {what} {how}", "they've {did} {what}",
    "you're right, {who} {did} {what} {how}", "i'm {number} {unit} old", "what is {what}?",
    "{filler} {filler} {who} {did} {what}", "why did {who} {does} {what} {how}?",
    "turn {order} the {thing} in the {room}", "turn on the {room} {thing}", "{order}", "{order}",
    "{order} {order}", "set an alarm for {clock}", "wake me up at {clock} {day}", "call {name}",
    "call {name} {name} at {clock}", "my name is {name} {name}", "{name} and {name} {did} {what}",
    "mister {name}", "doctor {name} {did} {what}", "missus {name} said {is} {what}",
    "{number}", "{number} {unit}", "{number} {unit}", "{digits}", "{digits}", "{digits}",
    "the number is {digits}", "{rank} of {suit}", "{rank} of {suit} {rank} of {suit}",
    "it is {clock}", "{clock}", "{date}", "on {date}", "in the year {year}",
    "in {year}, {name} {did} {what}",
    "{number} point {digits}", "{number} and a half", "{number} plus {number}", "{spelt}",
    "the {ordinal} of {month}", "{ordinal}", "the {color} {word}", "a {color} {word} and a {word}",
    "the {word} of the {word}", "{who} said {word}", "{who} would have been {word}",
    "remind me to {does} {what} {day}", "play some {word} music", "how do you spell {word}?",
    "what does {word} mean?", "{day} is the {ordinal}", "meet me at {clock} on {day}",
)  # fmt: skip


def greedy(said: Tensor, vocabulary: Sequence[str]) -> str:
    """Log-probabilities [F, V] -> the letters of the likeliest path."""
    best = said.argmax(-1)
    kept = best[torch.cat((best[:1] >= 0, best[1:] != best[:-1]))]
    return " ".join("".join(vocabulary[index] for index in kept.tolist()).split())


def word_errors(wanted: str, said: str) -> int:
    """The fewest words to insert, to leave out and to replace (Levenshtein)."""
    ours, theirs = said.split(), wanted.split()
    row = list(range(len(ours) + 1))
    for i, word in enumerate(theirs, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(ours, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (word != other))
    return row[-1]
