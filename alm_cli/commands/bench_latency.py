"""`alm bench latency`: where the time of a spoken reply goes, of given numbers or real stages."""

from __future__ import annotations

import json as jsons
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alm_cli.commands import bench_options as own
from alm_cli.commands import options, speak_options
from alm_cli.commands.pace import Pace
from alm_cli.errors import INTERRUPTED, UsageError
from alm_cli.jobs.sinks import STDOUT, open_sink

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
Runs = Annotated[
    int, typer.Option(min=1, metavar="N", help="How often the recording is heard and answered.")
]
Html = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write one page with the timelines.")
]


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
    runs: Runs = 3,
    device: options.Device = options.AUTO,
    threads: options.Threads = None,
    html: Html = None,
    json: own.Json = None,
    quiet: options.Quiet = False,
) -> None:
    """Add up a spoken reply: recognise, think, speak, one after another and streamed.

    The first sound of a cascade against the 200 ms that people leave between turns: of given
    numbers, or measured on a recording with real models, where an echo of the words takes the
    place of a model that thinks and numbers that are given take the place of a stage.
    """
    from alm_cli.bench.timeline import Reply

    given = {"asr_s": asr, "llm_first_s": llm_first, "llm_token_s": llm_token, "tts_s": tts}
    measured: list[Measured] = []
    if recording is not None:
        for name in (asr_model, speaker):
            if name is not None:
                options.check_model(name)
        if speaker is None and tts is None:
            raise UsageError("nobody speaks", hint="--speaker NAME, or --tts SECONDS")
        talk = Talk(
            recording=recording,
            speech_end=speech_end,
            asr_model=asr_model,
            speaker=speaker if tts is None else None,
            voice=voice,
            speakable=speakable,
            given=given,
            loading={"device": device, "threads": threads},
        )
        reply = talk.measure(runs, measured, lambda text: _say(text, quiet))
    else:
        numbers = {key: value for key, value in given.items() if value is not None}
        if missing := sorted(given.keys() - numbers.keys()):
            option = "--" + missing[0].removesuffix("_s").replace("_", "-")
            raise UsageError(f"{option} is missing", hint="give it, or a --recording to measure on")
        reply = Reply(**numbers, tokens=tokens, speakable=speakable)
    facts = timeline_facts(reply, end_to_end)
    if measured:
        facts |= talk.facts(measured)
    if html is not None:
        _write(html, _page(reply, facts))
    if json is not None:
        _write(json, jsons.dumps(facts) + "\n")
    typer.echo(timeline_picture(reply, facts), err=STDOUT in (str(html), str(json)))
    if 0 < len(measured) < runs:
        raise typer.Exit(INTERRUPTED)


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        typer.echo(text, err=True)


@dataclass(frozen=True, kw_only=True)
class Talk:
    """A recording that is heard in real time and answered by real models."""

    recording: Path
    speech_end: float | None
    asr_model: str
    speaker: str | None
    voice: str | None
    speakable: int
    given: dict[str, float | None]
    loading: dict[str, Any]

    def measure(self, runs: int, found: list[Measured], say: Callable[[str], None]) -> Reply:
        """Let it be heard and answered `runs` times; `found` gets each. The median of all.

        Ctrl-C ends it with what was measured until then.
        """
        from alm_cli.bench.stages import last_sound_s, measured, spoken_s, typical
        from alm_cli.commands.benching import broken_off, recordings
        from alm_cli.systems.speaker import load_speaker
        from alm_cli.systems.transcriber import load_transcriber

        audio = recordings([self.recording], 600.0, say)[0].audio
        end_s = last_sound_s(audio) if self.speech_end is None else self.speech_end
        transcriber = load_transcriber(self.asr_model, **self.loading)
        speaker = None if self.speaker is None else load_speaker(self.speaker, **self.loading)

        def measure() -> None:
            # The first call of anything is slower.
            text = transcriber.transcribe(audio).text.strip()
            if speaker is not None and text:
                spoken_s(speaker, text, self.voice)
            pace = Pace(say, runs)
            for run in range(1, runs + 1):
                found.append(
                    measured(
                        transcriber,
                        speaker,
                        audio,
                        end_s=min(end_s, audio.seconds),
                        given=self.given,
                        voice=self.voice,
                        speakable=self.speakable,
                    )
                )
                pace.step(f"heard and answered {run} of {runs} times")

        signal = broken_off(measure)
        if signal is not None and not found:
            raise signal
        return typical(found)

    def facts(self, found: Sequence[Measured]) -> dict[str, object]:
        """What was heard and answered, percentiles over runs, and on what it was measured."""
        from alm_cli.bench.environment import environment
        from alm_cli.bench.stages import percentiles
        from alm_cli.checkpoints.reader import file_sha256

        spans = {
            name: {key: asdict(one) for key, one in each.items() if one is not None}
            for name, each in percentiles(found).items()
        }
        return {
            "heard": found[-1].heard,
            "answer": found[-1].answer,
            "runs": len(found),
            "percentiles": spans,
            "data": {str(self.recording): file_sha256(self.recording)},
            "environment": environment(
                seed=0, warm_up=1, repetitions=len(found), device=str(self.loading["device"])
            ),
        }


def _write(path: Path, text: str) -> None:
    with open_sink(None if str(path) == STDOUT else path, sys.stdout.buffer) as file:
        file.write(text.encode())


def _page(reply: Reply, facts: Mapping[str, object]) -> str:
    from alm_cli.bench.pages import reply_to_html
    from alm_cli.bench.timeline import Stage

    tracks = {"one after another": reply.in_turn(), "streamed": reply.streamed()}
    whole = facts["end_to_end_s"]
    if isinstance(whole, float):
        tracks["end to end"] = (Stage(name="answer", begin_s=0.0, end_s=whole),)
    return reply_to_html(tracks, _told(facts), facts)


def _told(facts: Mapping[str, object]) -> list[str]:
    """The figures in words."""
    told = [
        f"first sound, streamed: {facts['first_sound_streamed_s']:.3f} s",
        f"first sound, one stage after another: {facts['first_sound_in_turn_s']:.3f} s",
    ]
    if facts["end_to_end_s"] is not None:
        told.append(f"first sound, end to end: {facts['end_to_end_s']:.3f} s")
    told.append(f"people leave {facts['human_gap_s']:.3f} s between turns")
    spans = facts.get("percentiles")
    if isinstance(spans, Mapping) and int(str(facts["runs"])) > 1:
        found = spans["first_sound_streamed_s"]
        each = [
            f"{name} {one['value']:.3f} s ({one['lower']:.3f} to {one['upper']:.3f})"
            for name, one in found.items()
        ]
        told.append(f"over {facts['runs']} runs, streamed: {', '.join(each)}")
    return told


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
    return "\n".join([*lines, *_told(facts)])
