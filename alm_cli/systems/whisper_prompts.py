"""What Whisper is told before it writes: language, task, and what was said before, in tokens."""

from __future__ import annotations

from collections.abc import Sequence

from alm_cli.errors import UsageError
from alm_cli.systems.transcriber import TranscribeAsk
from alm_cli.systems.whisper_engine import Manner
from alm_cli.text.languages import language_code
from alm_cli.text.tokenizer import WhisperTokenizer


class Phrasebook:
    """What a request asks for, in tokens: the same for all windows of a recording."""

    def __init__(self, tokenizer: WhisperTokenizer, ask: TranscribeAsk, most_context: int) -> None:
        self.tokenizer, self.ask, self.most_context = tokenizer, ask, most_context
        self.language = _known_language(tokenizer, ask)
        self.allowed = tuple(language_code(language) for language in ask.languages)
        for language in self.allowed:
            tokenizer.language_token(language)
        if ask.task == "translate" and not tokenizer.multilingual:
            raise UsageError(
                "an English-only model translates nothing", hint="use --task transcribe"
            )
        self.suppress = _suppressed(tokenizer, ask.suppress_tokens)
        self.initial = self._said(ask.initial_prompt)
        # Half of the context at most, or nothing would be left of what was said.
        hotwords = [] if ask.prefix else self._said(ask.hotwords)
        self.hotwords = hotwords[: most_context // 2]
        self.prefix = self._said(ask.prefix) if ask.prefix else []

    def _said(self, text: str | None) -> list[int]:
        return [] if text is None else self.tokenizer.encode(" " + text.strip())

    def start(self, language: str | None) -> tuple[int, ...]:
        """The start of a text with timestamps, without context or prefix."""
        return self.tokenizer.prompt(language, self.ask.task)

    def prompt(self, language: str | None, context: Sequence[int]) -> tuple[tuple[int, ...], int]:
        """All that a text begins with, and the place of its start there."""
        ask = self.ask
        start = self.tokenizer.prompt(language, ask.task, timestamps=not ask.without_timestamps)
        before = [*self.hotwords, *_last(context, self.most_context - len(self.hotwords))]
        if before:
            before = [self.tokenizer.sot_prev, *before]
        return (*before, *start, *self.prefix), len(before)

    def manner(self, temperature: float) -> Manner:
        """How to search at a temperature."""
        ask = self.ask
        beams = not temperature and ask.beam_size is not None
        width = (ask.beam_size if beams else ask.best_of if temperature else 1) or 1
        return Manner(
            temperature=temperature,
            width=width,
            beams=beams,
            patience=ask.patience if beams else None,
            length_penalty=ask.length_penalty,
            suppress=self.suppress,
            timestamps=not ask.without_timestamps,
            seed=ask.seed,
        )


class Context:
    """What was said before, as far as it still counts."""

    def __init__(self, book: Phrasebook) -> None:
        self._initial, self._most = book.initial, book.most_context
        self._carry = book.ask.carry_initial_prompt
        self._said: list[int] = []
        self._begun = True

    def tokens(self) -> list[int]:
        """The tokens to put before a text; only the last ones will find room."""
        if self._carry:
            # _compat_carry: an initial prompt that fills the room leaves all of it to the rest.
            return [*self._initial, *self._said[-(self._most - len(self._initial)) :]]
        return [*self._initial, *self._said] if self._begun else self._said

    def add(self, tokens: Sequence[int]) -> None:
        """Remember what was said."""
        # Twice what counts, since the prompt may shorten it from the front (_compat_carry).
        self._said = _last([*self._said, *tokens], 4 * self._most)

    def forget(self) -> None:
        """Let nothing said so far count, nor the initial prompt, unless that is carried on."""
        self._said, self._begun = [], False


def _known_language(tokenizer: WhisperTokenizer, ask: TranscribeAsk) -> str | None:
    """The code of the language, None where it has to be found."""
    if ask.language is None:
        return None if tokenizer.multilingual else "en"
    language = language_code(ask.language)
    if tokenizer.multilingual or language != "en":
        tokenizer.language_token(language)  # raises where there is none
    return language


def _suppressed(tokenizer: WhisperTokenizer, asked: str) -> tuple[int, ...]:
    """The tokens never to be written, by their numbers separated by commas; -1 are signs."""
    if not asked:
        # _compat_nothing: then not even special tokens are suppressed.
        return ()
    try:
        numbers = {int(number) for number in asked.split(",")}
    except ValueError as error:
        raise UsageError(f"suppress_tokens is {asked!r}, no numbers of tokens") from error
    if not all(-1 <= number < tokenizer.vocabulary for number in numbers):
        raise UsageError(f"suppress_tokens: the model has {tokenizer.vocabulary} tokens")
    if -1 in numbers:
        numbers = (numbers - {-1}) | set(tokenizer.non_speech_tokens)
    t = tokenizer
    marks = (t.transcribe, t.translate, t.sot, t.sot_prev, t.sot_lm, t.no_speech)
    return tuple(sorted(numbers.union(marks)))


def _last(tokens: Sequence[int], count: int) -> list[int]:
    return list(tokens[-count:]) if count > 0 else []
