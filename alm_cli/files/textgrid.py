"""Transcripts for Praat: its TextGrid, with a tier of segments and one of words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from alm_cli.values import Segment

# A label, and from which second to which.
Interval = tuple[float, float, str]


def textgrid(segments: Iterable[Segment], *_: object) -> Iterator[str]:
    """The whole file at once; it ends where the last word does, as none may be without length."""
    found = list(segments)
    spans = [(segment.start_s, segment.end_s, segment.text) for segment in found]
    words = [(word.start_s, word.end_s, word.text) for segment in found for word in segment.words]
    tiers = {"segments": _filled(spans), "words": _filled(words)}
    end = max((tier[-1][1] for tier in tiers.values() if tier), default=1.0)
    yield 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
    yield f"xmin = 0\nxmax = {end}\ntiers? <exists>\nsize = {len(tiers)}\nitem []:\n"
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        if not intervals or intervals[-1][1] < end:
            intervals.append((intervals[-1][1] if intervals else 0.0, end, ""))
        yield f'    item [{number}]:\n        class = "IntervalTier"\n        name = "{name}"\n'
        yield f"        xmin = 0\n        xmax = {end}\n"
        yield f"        intervals: size = {len(intervals)}\n"
        for place, (start, stop, label) in enumerate(intervals, 1):
            text = label.replace('"', '""')
            yield f"        intervals [{place}]:\n            xmin = {start}\n"
            yield f'            xmax = {stop}\n            text = "{text}"\n'


def _filled(spans: Iterable[Interval]) -> list[Interval]:
    """Intervals without gaps or overlaps; what has no length goes with what is before it."""
    filled: list[Interval] = []
    last = 0.0
    for start, end, text in spans:
        label = " ".join(text.split())
        start = max(start, last)
        if end <= start:
            if filled and label:
                before, stop, said = filled[-1]
                filled[-1] = before, stop, f"{said} {label}".strip()
            continue
        if start > last:
            filled.append((last, start, ""))
        filled.append((start, end, label))
        last = end
    return filled
