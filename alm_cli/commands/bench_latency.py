"""`alm bench latency`: where the time of a spoken reply goes, of given numbers or real stages."""

from __future__ import annotations

import json as jsons
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alm_cli.commands import options, speak_options
from alm_cli.errors import UsageError

if TYPE_CHECKING:
    from alm_cli.bench.stages import Measured
    from alm_cli.bench.timeline import Reply

_WIDE = 48  # characters of a drawn timeline
_RECOGNISER = "alm-asr"

Asr = Annotated[
    float | None,
    typer.Option("--asr", min=0, metavar="S", help="From the last sound to the final text."),
]
LlmFirst = Annotated[
    float | None,
    typer.Option("--llm-first", min=0, metavar="S", help="To the first token of the answer."),
]
LlmToken = Annotated[
    float | None, typer.Option("--llm-token", min=0, metavar="S", help="For each further token.")
]
TokenCount = Annotated[int, typer.Option("--tokens", min=1, metavar="N", help="Of the answer.")]
Speakable = Annotated[
    int, typer.Option(min=1, metavar="N", help="Tokens after which the voice can begin.")
]
Tts = Annotated[
    float | None, typer.Option("--tts", min=0, metavar="S", help="From text to the first sound.")
]
EndToEnd = Annotated[
    float | None,
    typer.Option(min=0, metavar="S", help="The same of a model that hears and speaks, beside it."),
]
Recording = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Measure the stages on this recording, heard in real time."),
]
SpeechEnd = Annotated[
    float | None,
    typer.Option(
        min=0, metavar="S", show_default="the last sample above -50 dB", help="Where speech ends."
    ),
]
AsrModel = Annotated[
    str,
    typer.Option(metavar="NAME|PATH", help="Recognises.", autocompletion=options.model_names),
]
SpeakerModel = Annotated[
    str | None,
    typer.Option(
        "--speaker", metavar="NAME|PATH", help="Speaks.", autocompletion=speak_options.speakers
    ),
]
JsonLine = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]


def latency(
    asr: Asr = None,
    llm_first: LlmFirst = None,
    llm_token: LlmToken = None,
    tts: Tts = None,
    tokens: TokenCount = 50,
    speakable: Speakable = 1,
    end_to_end: EndToEnd = None,
    recording: Recording = None,
    speech_end: SpeechEnd = None,
    asr_model: AsrModel = _RECOGNISER,
    speaker: SpeakerModel = None,
    voice: speak_options.Voice = None,
    device: options.Device = options.AUTO,
    threads: options.Threads = None,
    json: JsonLine = False,
) -> None:
    """Add up a spoken reply: recognise, think, speak, one after another and streamed.

    The first sound of a cascade against the 200 ms that people leave between turns: of given
    numbers, or measured on a recording with real models, where an echo of the words takes the
    place of a model that thinks and numbers that are given take the place of a stage.
    """
    from alm_cli.bench.timeline import Reply

    given = {"asr_s": asr, "llm_first_s": llm_first, "llm_token_s": llm_token, "tts_s": tts}
    measured = None
    if recording is not None:
        loading: dict[str, object] = {"device": device, "threads": threads}
        for name in (asr_model, speaker):
            if name is not None:
                options.check_model(name)
        if speaker is None and tts is None:
            raise UsageError("nobody speaks", hint="--speaker NAME, or --tts SECONDS")
        models = (asr_model, speaker if tts is None else None)
        measured = _measured(recording, speech_end, models, given, (voice, speakable), loading)
        reply = measured.reply
    else:
        numbers = {key: value for key, value in given.items() if value is not None}
        if missing := sorted(given.keys() - numbers.keys()):
            option = "--" + missing[0].removesuffix("_s").replace("_", "-")
            raise UsageError(f"{option} is missing", hint="give it, or a --recording to measure on")
        reply = Reply(**numbers, tokens=tokens, speakable=speakable)
    facts = timeline_facts(reply, end_to_end)
    if measured is not None:
        facts |= {"heard": measured.heard, "answer": measured.answer}
    typer.echo(jsons.dumps(facts) if json else timeline_picture(reply, facts))


def _measured(
    recording: Path,
    speech_end: float | None,
    models: tuple[str, str | None],
    given: dict[str, float | None],
    manner: tuple[str | None, int],
    loading: dict[str, object],
) -> Measured:
    """Load what is needed, let it hear and say something once, and measure."""
    from alm_cli.bench.stages import last_sound_s, measured
    from alm_cli.commands.benching import recordings
    from alm_cli.systems.speaker import load_speaker
    from alm_cli.systems.transcriber import load_transcriber

    audio = recordings([recording], 600.0, lambda _: None)[0].audio
    end_s = last_sound_s(audio) if speech_end is None else min(speech_end, audio.seconds)
    transcriber = load_transcriber(models[0], **loading)  # type: ignore[arg-type]
    speaker = None if models[1] is None else load_speaker(models[1], **loading)  # type: ignore[arg-type]
    transcriber.transcribe(audio)  # the first call of anything is slower
    voice, speakable = manner
    for _ in range(1 if speaker is None else 2):  # likewise
        found = measured(
            transcriber,
            speaker,
            audio,
            end_s=end_s,
            given=given,
            voice=voice,
            speakable=speakable,
        )
    return found


def timeline_facts(reply: Reply, end_to_end: float | None) -> dict[str, object]:
    """When the first sound comes, one after another, streamed, and end to end."""
    from alm_cli.bench.timeline import TURN_GAP_S, first_sound_s, overlap

    streamed = reply.streamed()
    return {
        "version": 1,
        "first_sound_in_turn_s": round(first_sound_s(reply.in_turn()), 6),
        "first_sound_streamed_s": round(first_sound_s(streamed), 6),
        "stages": {stage.name: round(stage.seconds, 6) for stage in streamed},
        "sum_of_stages_s": round(sum(stage.seconds for stage in streamed), 6),
        "overlap": round(overlap(streamed), 6),
        "end_to_end_s": end_to_end,
        "human_gap_s": TURN_GAP_S,
    }


def timeline_picture(reply: Reply, facts: Mapping[str, object]) -> str:
    """The stages as bars, streamed, and what comes of them."""
    stages = reply.streamed()
    whole = max(stage.end_s for stage in stages) or 1.0
    lines = []
    for stage in stages:
        begin = round(_WIDE * stage.begin_s / whole)
        size = max(1, round(_WIDE * stage.seconds / whole)) if stage.seconds else 0
        bar = (" " * begin + "█" * size)[:_WIDE].ljust(_WIDE)
        lines.append(f"{stage.name:<10} {bar} {stage.begin_s:.3f} to {stage.end_s:.3f} s")
    lines.append(f"first sound, streamed: {facts['first_sound_streamed_s']:.3f} s")
    lines.append(f"first sound, one stage after another: {facts['first_sound_in_turn_s']:.3f} s")
    if facts["end_to_end_s"] is not None:
        lines.append(f"first sound, end to end: {facts['end_to_end_s']:.3f} s")
    lines.append(f"people leave {facts['human_gap_s']:.3f} s between turns")
    return "\n".join(lines)
