"""A spoken reply as a timeline: what each stage takes, what overlaps, when the first sound comes.

A cascade recognises, thinks and speaks. Without streaming each stage waits for the one before; with
it, the recogniser works while the user talks, and the voice begins at the first speakable words.
"""

from __future__ import annotations

from dataclasses import dataclass

# The usual silence between two speakers, in many languages (Stivers et al., PNAS 2009).
TURN_GAP_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Seconds from the end of the user's speech, from where to where a stage works."""

    name: str
    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the stages of a cascade take, in seconds.

    `asr_s` goes from the last sound of the user to the final text; of the `tokens` of the answer
    the first comes after `llm_first_s` and each further one after `llm_token_s`; `speakable` of
    them are enough for the voice to begin; `tts_s` goes from text to the first sound.
    """

    asr_s: float
    llm_first_s: float
    llm_token_s: float
    tokens: int
    tts_s: float
    speakable: int = 0

    def in_turn(self) -> tuple[Stage, ...]:
        """Every stage after the one before, the voice after the last token."""
        return self._stages(self.tokens)

    def streamed(self) -> tuple[Stage, ...]:
        """The voice begins at the first speakable words, while the text goes on."""
        return self._stages(min(self.speakable or 1, self.tokens))

    def _stages(self, waited: int) -> tuple[Stage, ...]:
        first = self.asr_s + self.llm_first_s
        spoken = first + self.llm_token_s * max(0, waited - 1)
        last = first + self.llm_token_s * max(0, self.tokens - 1)
        return (
            Stage(name="recognise", begin_s=0.0, end_s=self.asr_s),
            Stage(name="think", begin_s=self.asr_s, end_s=first),
            Stage(name="write", begin_s=first, end_s=last),
            Stage(name="speak", begin_s=spoken, end_s=spoken + self.tts_s),
        )


def first_sound_s(stages: tuple[Stage, ...]) -> float:
    """When the first sound comes: the end of the last stage of the cascade."""
    return stages[-1].end_s


def overlap(stages: tuple[Stage, ...]) -> float:
    """The share of the stages' work that does not delay the first sound: 0 where all is in turn."""
    whole = sum(stage.seconds for stage in stages)
    return 1 - first_sound_s(stages) / whole if whole else 0.0
