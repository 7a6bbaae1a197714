"""Recordings in and out: every common format, from files and pipes, in blocks of any size."""

from __future__ import annotations

from alm_cli.files.pcm import RawFormat
from alm_cli.files.reader import AudioInfo, AudioReader, open_audio, probe_audio, read_audio
from alm_cli.files.writer import WRITE_FORMATS, AudioWriter, WriteFormat, format_of, open_writer

__all__ = [
    "AUDIO_SUFFIXES",
    "WRITE_FORMATS",
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "RawFormat",
    "WriteFormat",
    "format_of",
    "open_audio",
    "open_writer",
    "probe_audio",
    "read_audio",
]

# What is taken for a recording in a folder; a file that is named is tried whatever it is called.
# fmt: off
_SUFFIXES = (
    ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".au", ".avi", ".caf", ".flac",
    ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg",
    ".oga", ".ogg", ".opus", ".rf64", ".snd", ".spx", ".tta", ".w64", ".wav", ".wave", ".weba",
    ".webm", ".wma", ".wmv", ".wv",
)
# fmt: on
AUDIO_SUFFIXES = frozenset(_SUFFIXES)
