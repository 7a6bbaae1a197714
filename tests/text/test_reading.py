"""Text as it is read aloud: a table of examples, what is warned of, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.errors import InputError
from alm_cli.text.reading import read_aloud

EXAMPLES = {
    # numbers
    "I have 3 apples.": "I have three apples.",
    "0": "zero",
    "21 pears": "twenty one pears",
    "1,234,567": "one million two hundred thirty four thousand five hundred sixty seven",
    "1\u202f000\u202f000": "one million",
    "3.14": "three point one four",
    "0.05": "zero point zero five",
    ".5": "zero point five",
    "-5 and \N{MINUS SIGN}5": "minus five and minus five",
    "007": "zero zero seven",
    "1000000000000000000": "one" + " zero" * 18,
    "the 1st, 2nd, 3rd and 101st": "the first, second, third and one hundred first",
    "100,000th": "one hundred thousandth",
    "the 12th": "the twelfth",
    "10k runs": "ten thousand runs",
    "1.5M users": "one point five million users",
    "5-10 people": "five to ten people",
    "pages 5\N{EN DASH}10": "pages five to ten",
    "50+": "fifty plus",
    "#5": "number five",
    "No. 5": "number five",
    "ratio 3:1": "ratio three to one",
    "won 3-2": "won three to two",
    "10x faster": "ten times faster",
    "3x4": "three by four",
    "v2.0.1": "version two point zero point one",
    "192.168.0.1": "one hundred ninety two dot one hundred sixty eight dot zero dot one",
    # parts
    "1/2": "one half",
    "3/4": "three quarters",
    "2/3 of": "two thirds of",
    "2 1/2": "two and one half",
    "\N{VULGAR FRACTION ONE HALF}": "one half",
    "22/7": "twenty two sevenths",
    "24/7": "twenty four seven",
    # years and dates
    "in 1984": "in nineteen eighty four",
    "in 1905": "in nineteen oh five",
    "in 2006": "in two thousand six",
    "in 2024": "in twenty twenty four",
    "in 1900": "in nineteen hundred",
    "44 BC": "forty four B C",
    "the 1990s": "the nineteen nineties",
    "the '80s": "the eighties",
    "2024-2025": "twenty twenty four to twenty twenty five",
    "2024-05-17": "May seventeenth, twenty twenty four",
    "17/5/2024": "May seventeenth, twenty twenty four",
    "5/17/2024": "May seventeenth, twenty twenty four",
    "17.5.2024": "May seventeenth, twenty twenty four",
    "12/25/99": "December twenty fifth, nineteen ninety nine",
    "May 17th, 2024": "May seventeenth, twenty twenty four",
    "May 17": "May seventeenth",
    "17 May 2024": "the seventeenth of May, twenty twenty four",
    "on the 3rd of June": "on the third of June",
    "Sept. 3": "September third",
    "Dec. 25, 1999": "December twenty fifth, nineteen ninety nine",
    "May 2024": "May twenty twenty four",
    "May I? March on.": "May I? March on.",
    "2010-01-02T10:20:30Z": "January second, twenty ten, ten twenty and thirty seconds U T C",
    # times
    "at 3:30 pm": "at three thirty P M",
    "at 3pm": "at three P M",
    "at 5 p.m. today": "at five P M today",
    "at 5 p.m. We left.": "at five P M. We left.",
    "14:05": "fourteen oh five",
    "12:00": "twelve o'clock",
    "14:00": "fourteen hundred",
    "00:15": "zero fifteen",
    "14:05:30": "fourteen oh five and thirty seconds",
    # money
    "$1": "one dollar",
    "$3.50": "three dollars and fifty cents",
    "$0.99": "ninety nine cents",
    "\N{POUND SIGN}2.01": "two pounds and one penny",
    "\N{EURO SIGN}5 or 5\N{EURO SIGN}": "five euros or five euros",
    "50\N{CENT SIGN}": "fifty cents",
    "$5 million": "five million dollars",
    "$2.5bn": "two point five billion dollars",
    "US$20": "twenty U S dollars",
    "30 USD": "thirty dollars",
    "-$5": "minus five dollars",
    "$20/month": "twenty dollars per month",
    "\N{YEN SIGN}500": "five hundred yen",
    "$1,234.56": "one thousand two hundred thirty four dollars and fifty six cents",
    # percent and measures
    "5%": "five percent",
    "3.5 %": "three point five percent",
    "5 km": "five kilometers",
    "1 km": "one kilometer",
    "5km/h": "five kilometers per hour",
    "60 mph": "sixty miles per hour",
    "3.5kg": "three point five kilograms",
    "20 \N{DEGREE SIGN}C": "twenty degrees Celsius",
    "1 \N{DEGREE SIGN}F": "one degree Fahrenheit",
    "90\N{DEGREE SIGN}": "ninety degrees",
    "20-25\N{DEGREE SIGN}C": "twenty to twenty five degrees Celsius",
    "5 m\N{SUPERSCRIPT TWO}": "five square meters",
    "100 Mbps": "one hundred megabits per second",
    "16 GB": "sixteen gigabytes",
    "6'2\" tall": "six feet two tall",
    "1 ft": "one foot",
    "5 mg/day": "five milligrams per day",
    # telephone numbers
    "555-1234": "five five five, one two three four",
    "555-123-4567": "five five five, one two three, four five six seven",
    "(555) 123-4567": "five five five, one two three, four five six seven",
    "+44 20 7946 0958": "plus four four, two zero, seven nine four six, zero nine five eight",
    "1-800-555-1234": "one, eight zero zero, five five five, one two three four",
    # abbreviations
    "Dr. Smith": "Doctor Smith",
    "Mr. and Mrs. Jones": "Mister and Missus Jones",
    "St. Paul": "Saint Paul",
    "Baker St. in London": "Baker Street in London",
    "I live on Elm St.": "I live on Elm Street.",
    "21 Oak Dr., Elm Ave.": "twenty one Oak Drive, Elm Avenue.",
    "e.g. this": "for example this",
    "i.e. that": "that is that",
    "etc. And more, etc.": "et cetera. And more, et cetera.",
    "cats, etc., too": "cats, et cetera, too",
    "cats vs. dogs": "cats versus dogs",
    "p. 12, Fig. 3": "page twelve, figure three",
    "No. That is all.": "No. That is all.",
    "Acme Inc. and others": "Acme Incorporated and others",
    "J. K. Rowling": "J K Rowling",
    "U.S. policy": "U S policy",
    "a Ph.D. in law": "a P H D in law",
    # acronyms and capitals
    "NASA and the FBI": "Nasa and the F B I",
    "CDs": "C D's",
    "NASA's": "Nasa's",
    "AT&T": "A T and T",
    "MP3": "M P three",
    "H2O": "H two O",
    "COVID-19": "Covid nineteen",
    "3D": "three D",
    "OK": "okay",
    "THIS IS NOT A DRILL.": "this is not a drill.",
    "THE FBI CAME HERE.": "the F B I came here.",
    "read THIS now": "read this now",
    # Roman numerals
    "Henry VIII": "Henry the eighth",
    "Louis XIV's": "Louis the fourteenth's",
    "Elizabeth II": "Elizabeth the second",
    "World War II": "World War two",
    "Chapter IV": "Chapter four",
    "Rocky III": "Rocky three",
    "Malcolm X and vitamin C": "Malcolm X and vitamin C",
    # addresses
    "https://www.example.com/a?x=1": "W W W dot example dot com slash a question mark x equals one",
    "example.com": "example dot com",
    "joe.bloggs@example.org": "joe dot bloggs at example dot org",
    "node.js": "node dot js",
    # signs
    "2+2=4": "two plus two equals four",
    "3 \N{MULTIPLICATION SIGN} 4": "three times four",
    "50 - 20 = 30": "fifty minus twenty equals thirty",
    "5 > 3": "five is greater than three",
    "10^6": "ten to the power of six",
    "\N{GREEK SMALL LETTER PI}": "pi",
    "and/or": "and slash or",
    "#hello": "hashtag hello",
    "C#": "C sharp",
    # punctuation, emoji, letters
    "\N{LEFT DOUBLE QUOTATION MARK}Yes,\N{RIGHT DOUBLE QUOTATION MARK} he said": "Yes, he said",
    "it\N{RIGHT SINGLE QUOTATION MARK}s": "it's",
    "a \N{EM DASH} b\N{EM DASH}c -- d": "a, b, c, d",
    "well\N{HORIZONTAL ELLIPSIS} yes": "well... yes",
    "(quietly) go": "quietly, go",
    "Wait!!! What?!": "Wait! What?",
    "well-known": "well-known",
    "caf\u00e9 na\u00efve": "cafe naive",
    "Stra\N{LATIN SMALL LETTER SHARP S}e": "Strasse",
    "hi \N{GRINNING FACE}\N{THUMBS UP SIGN}\U0001f3fd!": "hi, grinning face, thumbs up sign!",
    "\U0001f1e9\U0001f1ea": "flag D E",
    "say [[h\u0259\u02c8lo\u028a]], 2": "say [[h\u0259\u02c8lo\u028a]], two",
    "  many \n spaces ": "many spaces",
    "...": "",
    "": "",
}  # fmt: skip


def test_the_table_is_long_enough() -> None:
    assert len(EXAMPLES) >= 120


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_are_read(text: str) -> None:
    assert read_aloud(text) == EXAMPLES[text]


@pytest.mark.parametrize(
    ("text", "about"),
    [("4/5/2024", "April fifth"), ("a *b* c", "ASTERISK"), ("a \ue000", "U\\+E000")],
)
def test_what_is_uncertain_is_told(text: str, about: str) -> None:
    told: list[str] = []
    read_aloud(text, told.append)
    assert len(told) == 1
    with pytest.raises(AssertionError, match=about):
        raise AssertionError(told[0])


@pytest.mark.parametrize("text", [text for text in EXAMPLES if "/2" not in text])
def test_what_is_certain_is_not_warned_of(text: str) -> None:
    told: list[str] = []
    read_aloud(text, told.append)
    assert told == []


@pytest.mark.parametrize(
    ("text", "name"),
    [("\u041f\u0440\u0438\u0432\u0435\u0442", "CYRILLIC CAPITAL LETTER PE")]
    + [("say \u4f60\u597d", "CJK UNIFIED IDEOGRAPH-4F60"), ("\u0623", "ARABIC LETTER")]
    + [("\u03b1\u03b2", "GREEK SMALL LETTER ALPHA"), ("a\x07b", "U\\+0007"), ("\uac00", "HANGUL")],
)
def test_other_scripts_are_refused_by_name(text: str, name: str) -> None:
    with pytest.raises(InputError, match=name) as caught:
        read_aloud(text)
    assert caught.value.hint


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="aZ Mayx0195.,:;-/$%#'\"()+&@!?VIX\n\u2013\u20ac\u00e9", max_size=40))
def test_what_is_read_holds_no_digits_and_is_read_once(text: str) -> None:
    read = read_aloud(text)
    assert read.isascii()
    assert not any(character.isdigit() for character in read)
    assert not set(read) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,:;!?'-")
    assert read == read.strip()
    assert "  " not in read
