"""What a family of models declares about itself, and the strict reading of published settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from alm_cli.checkpoints.keymap import KeyMap, Shape
from alm_cli.errors import ModelError

# Settings of config.json files that say who wrote them or how to train or to sample, and cannot
# change what a loaded model computes.
_HARMLESS = frozenset({
    "_name_or_path", "architectures", "dtype", "model_type", "return_dict", "torch_dtype",
    "transformers_version",
})  # fmt: skip
_MOST = 1_000_000
_MOST_TOLD = 20


Sniff = Callable[[Mapping[str, Shape], Mapping[str, object]], Mapping[str, object] | None]


@dataclass(frozen=True)
class Family:
    """How to read a configuration, build the model, and name its tensors.

    `sniff` is for checkpoints without a config.json that names their family: from the shapes of
    the tensors and what the checkpoint says of itself it makes the settings that `read_config`
    takes, or returns None where the tensors are of another family. `beside` names the files that
    tell more than config.json does: those that lie there are among the settings, by their names.
    """

    read_config: Callable[[Mapping[str, object]], Any]
    model: Callable[[Any], nn.Module]
    keys: KeyMap
    sniff: Sniff | None = None
    beside: tuple[str, ...] = ()


class SettingsError(ModelError):
    """Settings that cannot be built; `keys` are theirs."""

    def __init__(self, message: str, hint: str, keys: frozenset[str]) -> None:
        super().__init__(message, hint)
        self.keys = keys


class Settings:
    """A published config.json, read strictly: every key is used, or the model is refused.

    Readers return the default for a key that is absent and for one whose value is unsuitable;
    `finish` then reports everything that is wrong at once.
    """

    def __init__(self, raw: Mapping[str, object], where: str = "config.json") -> None:
        self._raw, self._where = raw, where
        self._used = set(_HARMLESS)
        self._problems: list[tuple[str, str]] = []

    def number(self, key: str, default: int, most: int = _MOST) -> int:
        """A whole number from 1 to `most`."""
        value = self._get(key, default)
        if _whole(value) and value <= most:
            return int(value)
        return self._refuse(key, f"a whole number from 1 to {most}", default)

    def numbers(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Up to 16 whole numbers from 1."""
        value = self._get(key, default)
        if isinstance(value, list | tuple) and 1 <= len(value) <= 16 and all(map(_whole, value)):
            return tuple(value)
        return self._refuse(key, "a list of whole numbers", default)

    def amounts(self, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """Positive numbers."""
        value = self._get(key, default)
        if isinstance(value, list | tuple) and value and all(map(_amount, value)):
            return tuple(value)
        return self._refuse(key, "a list of positive numbers", default)

    def amount(self, key: str, default: float) -> float:
        """A positive number."""
        value = self._get(key, default)
        return float(value) if _amount(value) else self._refuse(key, "a positive number", default)

    def names(self, key: str) -> tuple[str, ...]:
        """Up to 1,000 short texts, none by default."""
        value = self._get(key, ())
        if isinstance(value, list | tuple) and len(value) <= 1000 and all(map(_name, value)):
            return tuple(value)
        return self._refuse(key, "a list of names", ())

    def truth(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key, default)
        return value if isinstance(value, bool) else self._refuse(key, "true or false", default)

    def within(self, key: str, value: int, most: int = 256) -> int:
        """`value`, made of the setting `key`, if it is from 1 to `most`; else 1."""
        return value if 1 <= value <= most else self._refuse(key, f"within 1 to {most} as used", 1)

    def require(self, key: str, holds: bool, wanted: str) -> None:
        """Refuse the value of `key` unless something `holds`; `wanted` says how it should be."""
        if not holds:
            self._refuse(key, wanted, None)

    def only(self, key: str, *supported: object) -> None:
        """The values that can be built; the first is what an absent key means."""
        if self._get(key, supported[0]) not in supported:
            self._refuse(key, f"{' or '.join(map(repr, supported))} (others are not built)", None)

    def finish(self) -> None:
        """Refuse unsuitable values and keys that nobody asked for, all in one SettingsError."""
        unknown = sorted(set(self._raw) - self._used)
        problems = self._problems + [(key, f"{key}: unknown setting") for key in unknown]
        if problems:
            more = [f"and {len(problems) - _MOST_TOLD} more"] * (len(problems) > _MOST_TOLD)
            told = [text for _, text in problems[:_MOST_TOLD]] + more
            raise SettingsError(
                f"{self._where}: " + "; ".join(told),
                hint="this version of alm cannot compute what these settings ask for",
                keys=frozenset(key for key, _ in problems),
            )

    def _get(self, key: str, default: object) -> Any:
        self._used.add(key)
        return self._raw.get(key, default)

    def _refuse(self, key: str, wanted: str, default: Any) -> Any:
        found = repr(self._raw.get(key))
        self._problems.append((key, f"{key} is {found[:40]}, should be {wanted}"))
        return default


def _whole(value: object) -> bool:
    return type(value) is int and 1 <= value <= _MOST


def _name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 100


def _amount(value: object) -> bool:
    return type(value) in (int, float) and 0 < value <= _MOST  # type: ignore[operator]
