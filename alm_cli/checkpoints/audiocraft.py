"""What checkpoints of AudioCraft say of themselves: a YAML text, read and never executed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# That of the largest published model has 20,000 characters.
_LONGEST = 1_000_000
_LINE = re.compile(r"( *)(- +)?(?:([\w./-]+):(?: +(.*))?|(.*))")
_ELSEWHERE = re.compile(r"\$\{([\w.]+)\}")
_WHOLE = re.compile(r"[-+]?\d{1,18}")
_AMOUNT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_WORDS: Mapping[str, Any] = {"null": None, "~": None, "true": True, "false": False, "{}": {}}


def audiocraft_settings(said: Mapping[str, object]) -> dict[str, Any]:
    """The settings in `said["xp.cfg"]` by their whole names, such as `transformer_lm.dim`.

    Of YAML this knows what `OmegaConf.to_yaml` writes: blocks, lists of plain values, and values
    that stand elsewhere, as in `${sample_rate}`. Nothing else means anything; no text, no settings.
    """
    text = said.get("xp.cfg")
    if not isinstance(text, str) or len(text) > _LONGEST:
        return {}
    found: dict[str, Any] = {}
    blocks: list[tuple[int, str]] = []  # those that the line stands in: their indents and names
    for line in text.splitlines():
        match = _LINE.fullmatch(line.rstrip())
        if match is None or line.lstrip().startswith("#"):
            continue
        indent, item, key, value, plain = match.groups()
        # The items of a list stand below its name, not to the right of it.
        while blocks and blocks[-1][0] >= len(indent) + bool(item):
            blocks.pop()
        if item:
            _append(found, blocks, plain if key is None else None)
        elif key is not None:
            name = f"{blocks[-1][1]}.{key}" if blocks else key
            found[name] = _value(value or "")
            blocks.append((len(indent), name))
    return {name: _resolved(value, found) for name, value in found.items()}


def _append(found: dict[str, Any], blocks: list[tuple[int, str]], text: str | None) -> None:
    """One more item of the list whose name came last."""
    if blocks and text is not None:
        name = blocks[-1][1]
        known = found.get(name)
        found[name] = [*(known if isinstance(known, list) else []), _value(text)]


def _value(text: str) -> Any:
    """What a plain or quoted value means; nothing where there is none."""
    text = text.strip()
    if text in _WORDS or not text:
        return _WORDS.get(text)
    if text[0] == "[" and text[-1] == "]":
        return [_value(part) for part in text[1:-1].split(",") if part.strip()]
    if text[0] in "'\"" and text[-1] == text[0] and len(text) > 1:
        return text[1:-1]
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _AMOUNT.fullmatch(text) else text


def _resolved(value: Any, found: Mapping[str, Any]) -> Any:
    """The value that stands elsewhere, if it does: at most a few places on."""
    for _ in range(8):
        match = _ELSEWHERE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            break
        value = found.get(match[1])
    return value
