"""Markup: the part of SSML that is understood, what is not, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_cli.errors import InputError
from alm_cli.text.markup import STRENGTHS, Break, End, parse, pieces


def test_text_is_not_markup_unless_it_begins_so() -> None:
    assert parse("a < b & c <b>d</b>") == ["a < b & c <b>d</b>"]
    assert parse(" <speak>a</speak>") == ["a"]
    assert parse("<?xml version='1.0' encoding='latin-1'?>\n<speak>é</speak>") == ["é"]
    assert parse("<speak>a</speak>", "none") == ["<speak>a</speak>"]
    with pytest.raises(InputError, match="not well-formed"):
        parse("a < b", "ssml")


@pytest.mark.parametrize(
    ("attributes", "seconds"),
    [("time='500ms'", 0.5), ("time='1.5s'", 1.5), ("time='+2s'", 2.0), ("time='.5s'", 0.5)]
    + [("time='0s' strength='strong'", 0.0), ("", STRENGTHS["medium"])]
    + [(f"strength='{name}'", seconds) for name, seconds in STRENGTHS.items()],
)
def test_breaks_have_a_time_or_a_strength(attributes: str, seconds: float) -> None:
    assert parse(f"<speak>a<break {attributes}/>b</speak>") == ["a", Break(seconds), "b"]


@pytest.mark.parametrize("time", ["", "5", "s", ".s", "-1s", "1e3s", "1 s s", "61s", "99999999ms"])
def test_impossible_breaks_name_their_line(time: str) -> None:
    with pytest.raises(InputError, match=r"line 2: <break> for"):
        parse(f"<speak>\n<break time='{time}'/></speak>")


def test_paragraphs_and_sentences_end() -> None:
    found = parse("<speak><p><s>a</s><s>b</s></p>c</speak>")
    assert [part for part in found if isinstance(part, str)] == ["a", "b", "c"]
    assert found == [
        End(True), End(), "a", End(), End(), "b", End(), End(True), "c",
    ]  # fmt: skip


def test_phonemes_stand_in_the_text_instead_of_what_they_replace() -> None:
    marked = "<speak>say <phoneme alphabet='ipa' ph='təˈmɑːtoʊ'>tomato</phoneme> now</speak>"
    assert parse(marked) == ["say  [[təˈmɑːtoʊ]]  now"]
    assert pieces("say [[təˈmɑːtoʊ]] now") == [
        ("say ", False), ("təˈmɑːtoʊ", True), (" now", False),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["a [[b", "a b]]", "[[a]] [[", "a [[]] b", "a [[ ]] b"])
@pytest.mark.parametrize("form", ["{}", "<speak>{}</speak>"])
def test_brackets_of_phonemes_are_checked(text: str, form: str) -> None:
    with pytest.raises(InputError, match="phonemes"):
        parse(form.format(text))


@pytest.mark.parametrize(
    ("inner", "what"),
    [("<emphasis>b</emphasis>", "<emphasis>"), ("<prosody rate='slow'>b</prosody>", "<prosody>")]
    + [("<say-as interpret-as='date'>b</say-as>", "<say-as>")]
    + [("<mstts:express-as>b</mstts:express-as>", "<mstts:express-as>")]
    + [("<break loud='yes'/>b", "loud of <break>"), ("<speak>b</speak>", "<speak>")],
)
def test_unknown_markup_is_an_error_if_strict_and_else_told_once(inner: str, what: str) -> None:
    text = f"<speak>a\n{inner}{inner}</speak>"
    with pytest.raises(InputError, match=f"line 2: {what} is not understood"):
        parse(text, strict=True)
    told: list[str] = []
    said = "".join(part for part in parse(text, warn=told.append) if isinstance(part, str))
    assert said == "a\nbb"
    assert len(told) == 1 and told[0].startswith(f"line 2: {what}")


@pytest.mark.parametrize(
    ("inner", "message"),
    [("<phoneme alphabet='x-sampa' ph='a'>b</phoneme>", "alphabet 'x-sampa'")]
    + [("<phoneme>b</phoneme>", "without phonemes"), ("<phoneme ph='[[a'>b</phoneme>", "without")]
    + [("<break>b</break>", "holds text"), ("<break strength='huge'/>", "strength 'huge'")]
    + [("<phoneme ph='a'><p>b</p></phoneme>", "<p> within <phoneme>"), ("<p>", "mismatched tag")],
)
def test_what_cannot_be_meant_is_an_error_that_names_its_line(inner: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"line 3: .*{message}"):
        parse(f"<speak>\n\n{inner}</speak>")


BOMB = """<!DOCTYPE speak [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<speak>&b;</speak>"""


@pytest.mark.parametrize(
    "text",
    [BOMB, BOMB.replace('"aaaaaaaa"', "SYSTEM 'file:///etc/passwd'"), "<!DOCTYPE speak><speak/>"]
    + ["<speak>&a;</speak>", "<speak>" + "<s>" * 40, "<p>a</p>", "", "<speak>\ud800</speak>"]
    + ["<speak>\x00</speak>", "<speak>a</speak>b", "<speak a='1' a='2'/>"],
)
def test_hostile_documents_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse(text, "ssml")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="<>/&;speakbrt ='\"![]-\n", max_size=60))
def test_garbage_is_parsed_or_refused(text: str) -> None:
    try:
        parse(f"<speak>{text}", "ssml")
    except InputError as error:
        assert error.message
