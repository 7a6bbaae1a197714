"""What a codec costs and what it keeps: bits, codebooks, quality, speed, memory, stability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alm_cli.bench.quality import (
    dnsmos,
    estoi,
    log_mel_distance,
    multi_mel_distance,
    pesq_wb,
    si_sdr,
    stoi,
    visqol,
)
from alm_cli.bench.reports import Cell, Column
from alm_cli.bench.statistics import ratio, spread
from alm_cli.bench.timing import Timing, interleaved, run_alone
from alm_cli.bench.voices import speaker_cosine
from alm_cli.bench.words import compared
from alm_cli.errors import InputError, ModelError
from alm_cli.systems.codec import Codec
from alm_cli.values import Audio

Measure = Callable[[Audio, Audio], float]
MEASURES: Mapping[str, Measure] = {
    "pesq": pesq_wb,
    "stoi": stoi,
    "estoi": estoi,
    "visqol": visqol,
    "dnsmos": dnsmos,
    "speaker": speaker_cosine,
    "si_sdr": si_sdr,
    "log_mel": log_mel_distance,
    "multi_mel": multi_mel_distance,
}

# Recordings that can be listened to, and how much of them.
_KEPT, _KEPT_S = 2, 8.0

COLUMNS = (
    Column(key="codec", title="codec"),
    Column(key="program", title="program"),
    Column(key="codebooks", title="codebooks"),
    Column(key="kbps", title="nominal", unit="kbps", meaning="bits of the codes, in whole bits"),
    Column(key="kbps_disk", title="on disk", unit="kbps", meaning="the token file, headers too"),
    Column(key="kbps_entropy", title="entropy", unit="kbps", meaning="bits that codes really use"),
    Column(key="tokens_per_second", title="tokens", unit="1/s", digits=1),
    Column(key="compression", title="compression", unit="x", digits=0, meaning="of 16 bit PCM"),
    Column(key="least_used", title="least used book", unit="%", digits=0),
    Column(key="perplexity", title="perplexity", digits=0, meaning="median over codebooks"),
    Column(key="pesq", title="PESQ-WB", meaning="1 to 4.64, for speech only"),
    Column(key="stoi", title="STOI", digits=3, meaning="0 to 1, intelligibility of speech"),
    Column(key="estoi", title="ESTOI", digits=3, meaning="0 to 1, also in changing noise"),
    Column(key="visqol", title="ViSQOL", meaning="1 to 4.73, audio mode, for any sound"),
    Column(key="dnsmos", title="DNSMOS", meaning="1 to 5, guessed without the original"),
    Column(key="speaker", title="same voice", digits=3, meaning="0 to 1, cosine of speakers"),
    Column(key="rewritten", title="words lost", unit="%", digits=1, meaning="recognised again"),
    Column(key="si_sdr", title="SI-SDR", unit="dB", digits=1, meaning="punishes changed phases"),
    Column(key="log_mel", title="log-mel distance", digits=3, meaning="0 is best"),
    Column(key="multi_mel", title="mel distance, 7 windows", meaning="0 is best, as of DAC"),
    Column(key="agreement", title="codes as alm", unit="%", digits=3, meaning="of other programs"),
    Column(key="encode_rtf", title="encode rtf", digits=4, meaning="seconds per second of audio"),
    Column(key="encode_rtfx", title="encode rtfx", digits=1, meaning="times real time"),
    Column(key="decode_rtf", title="decode rtf", digits=4),
    Column(key="decode_rtfx", title="decode rtfx", digits=1),
    Column(key="load_s", title="load", unit="s"),
    Column(key="first_frame_ms", title="first frame", unit="ms", digits=0),
    Column(key="cold_s", title="alm encode, cold", unit="s"),
    Column(key="peak_mb", title="peak memory", unit="MB", digits=0),
    Column(key="idempotence", title="idempotence", digits=3, meaning="codes that survive decoding"),
    Column(key="slices", title="slices", digits=3, meaning="codes of slices encoded alone"),
    Column(key="perturbation", title="perturbation", digits=3, meaning="after inaudible changes"),
    Column(key="batch", title="batch", digits=3),
    Column(key="stream", title="stream", digits=3),
    Column(key="device", title="device", digits=3, meaning="codes on a GPU against the processor"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Mono audio, and the file that it comes from."""

    name: str
    path: Path
    audio: Audio


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """One decoded recording: every measure that can rate it, wrong words and how many were said."""

    figures: Mapping[str, float]
    words: tuple[int, int] | None


@dataclass
class Bench:
    """Measures codecs on the same recordings; `skipped` collects what could not be measured."""

    recordings: Sequence[Recording]
    runs: int = 5
    warm_up: int = 1
    measures: Mapping[str, Measure] = field(default_factory=lambda: dict(MEASURES))
    # Writes speech down, to tell what words a codec costs; what was said, by recording.
    write: Callable[[Audio], str] | None = None
    said: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    # What was timed, to tell whether the machine was quiet.
    timings: list[Timing] = field(default_factory=list)
    # For the first recordings, what was decoded last of every codec: (name, audio).
    heard: dict[str, list[tuple[str, Audio]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for one in self.recordings[:_KEPT]:
            self.heard[one.name] = [("original", _excerpt(one.audio))]

    def points(self, codec: Codec, books: Sequence[int] = ()) -> list[int]:
        """Numbers of codebooks worth a row: those asked for, or 1, 2, 4 ... and all."""
        most = len(codec.vocabularies)
        wanted = [number for number in books if number <= most] or [
            1 << power for power in range(most.bit_length()) if 1 << power < most
        ] + [most]
        return sorted(set(wanted))

    @property
    def longest(self) -> Recording:
        return max(self.recordings, key=lambda one: one.audio.seconds)

    def rated(self, one: Recording, decoded: Audio) -> Rated:
        """Every measure of what a codec made of a recording."""
        figures: dict[str, float] = {}
        for name, measure in self.measures.items():
            if name in self.skipped:
                continue
            try:
                figures[name] = measure(one.audio, decoded)
            except ModelError as error:  # the package is not installed
                self.skipped[name] = f"{error.message}: {error.hint}"
            except InputError:  # silence, or too short for it
                continue
        return Rated(figures=figures, words=self._rewritten(one, decoded))

    def _rewritten(self, one: Recording, decoded: Audio) -> tuple[int, int] | None:
        """Words that are recognised wrongly in what was decoded.

        Of the words said, where these are known, else of those recognised in the original.
        """
        if self.write is None or "rewritten" in self.skipped:
            return None
        if one.name not in self.said:
            self.said[one.name] = self.write(one.audio)
        try:
            return compared(self.said[one.name], self.write(decoded))
        except ModelError as error:
            self.skipped["rewritten"] = f"{error.message}: {error.hint}"
            return None

    def cells(self, rated: Sequence[Rated]) -> dict[str, Cell]:
        """The figures of several recordings together."""
        found: dict[str, Cell] = {
            name: spread([one.figures[name] for one in rated if name in one.figures])
            for name in self.measures
        }
        words = [one.words for one in rated if one.words is not None]
        if words:
            wrong, said = zip(*words, strict=True)
            found["rewritten"] = ratio([100 * count for count in wrong], said)
        return found

    def keep(self, one: Recording, label: str, decoded: Audio) -> None:
        """Let people listen to it, if it is one of the first recordings."""
        if one.name in self.heard:
            self.heard[one.name].append((label, _excerpt(decoded)))

    def timed(self, works: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Cell]:
        """Works in turn, as `<name>_rtf` and `<name>_rtfx` of so much audio."""
        cells: dict[str, Cell] = {}
        for name, timing in interleaved(works, runs=self.runs, warm_up=self.warm_up).items():
            self.timings.append(timing)
            cells[f"{name}_rtf"] = spread([s / seconds for s in timing.seconds])
            cells[f"{name}_rtfx"] = spread([seconds / s for s in timing.seconds])
        return cells

    def cold(self, model: str) -> dict[str, Cell]:
        """`alm encode` of the longest recording in a process of its own."""
        arguments = ["encode", str(self.longest.path), "-o", "-", "--model", model, "--quiet"]
        ran = run_alone(arguments)
        if ran.exit_code:
            self.skipped["cold_s"] = f"alm encode ended with {ran.exit_code}"
            return {}
        return {"cold_s": ran.seconds, "peak_mb": ran.peak_bytes / 1e6}


def _excerpt(audio: Audio) -> Audio:
    return Audio(audio.samples[:, : round(_KEPT_S * audio.rate)], audio.rate)
