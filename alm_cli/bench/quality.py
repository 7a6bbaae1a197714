"""How close decoded audio is to the original, and how well a codec uses its codebooks.

A measure compares two recordings of one rate, channel count and length, aligned by the caller.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib import import_module
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from alm_cli.errors import InputError, ModelError
from alm_cli.nn.resample import resampled
from alm_cli.values import Audio

# Packages whose name for pip is another.
_DISTRIBUTIONS = {"visqol": "visqol-python", "speechmos.dnsmos": "speechmos"}

MEL_RATE, MEL_WINDOW, MEL_HOP, MEL_BANDS, MEL_FLOOR = 24_000, 1024, 256, 80, 1e-3
SPEECH_RATE = 16_000  # wide-band PESQ is defined at this rate; STOI is published for it too
VISQOL_RATE, VISQOL_SHORTEST_S = 48_000, 0.5
STOI_SHORTEST_S = 0.4  # it correlates spectra over this long
# Of the measure with which DAC is trained: windows in samples at 24 kHz, and mel bands of each.
MULTI_MEL = {32: 5, 64: 10, 128: 20, 256: 40, 512: 80, 1024: 160, 2048: 320}
MULTI_MEL_FLOOR = 1e-5


def log_mel_distance(reference: Audio, decoded: Audio) -> float:
    """Mean over channels, bands and frames of |ln max(M, 1e-3) - ln max(M', 1e-3)|; 0 is best.

    M are magnitudes of a Hann-windowed transform (24 kHz, window 1024, hop 256, zeros beyond the
    ends) gathered into 80 mel bands, scale and area norm after Slaney's Auditory Toolbox (1998).
    """
    waves = (torch.from_numpy(wave) for wave in _pair(reference, decoded, MEL_RATE))
    ours, theirs = (_log_mel(wave) for wave in waves)
    return float((ours - theirs).abs().mean())


def multi_mel_distance(reference: Audio, decoded: Audio) -> float:
    """Sum over seven resolutions of mean |log10 max(M, 1e-5) - log10 max(M', 1e-5)|; 0 is best.

    As DAC counts it (arXiv:2306.06546; its package), here always at 24 kHz: windows
    of 1.3 to 85 ms, so that clicks count as well as hums.
    """
    waves = [torch.from_numpy(wave) for wave in _pair(reference, decoded, MEL_RATE)]
    if waves[0].shape[1] <= max(MULTI_MEL) // 2:
        raise InputError("too short for windows of 85 ms, whose ends are mirrored")
    total = 0.0
    for window, bands in MULTI_MEL.items():
        ours, theirs = (
            _mel(wave, window, window // 4, bands, "reflect").clamp(min=MULTI_MEL_FLOOR).log10()
            for wave in waves
        )
        total += float((ours - theirs).abs().mean())
    return total


def si_sdr(reference: Audio, decoded: Audio) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, mean over channels (arXiv:1811.02508)."""
    wanted, made = (
        wave.astype(np.float64) - wave.mean(axis=1, keepdims=True, dtype=np.float64)
        for wave in _pair(reference, decoded, reference.rate)
    )
    energy = np.square(wanted).sum(axis=1)
    if not energy.all():
        raise InputError("SI-SDR has no meaning: the reference is silent")
    target = (wanted * made).sum(axis=1, keepdims=True) / energy[:, None] * wanted
    with np.errstate(divide="ignore"):
        ratio = np.square(target).sum(axis=1) / np.square(made - target).sum(axis=1)
        return float(np.mean(10 * np.log10(ratio)))


def pesq_wb(reference: Audio, decoded: Audio) -> float:
    """Wide-band PESQ of mono speech, 1.0 to 4.64 (ITU-T P.862.2; the package `pesq`).

    On the package's published example this gives its figure to the last digit (1.0832337141036987).
    """
    pesq = optional("pesq")
    wanted, made = mono_pair(reference, decoded)
    try:
        return float(pesq.pesq(SPEECH_RATE, wanted, made, "wb"))
    except pesq.PesqError as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise InputError(f"PESQ cannot rate this recording: {reason}") from error


def stoi(reference: Audio, decoded: Audio, *, extended: bool = False) -> float:
    """Short-time objective intelligibility of mono speech, 0 to 1 (Taal et al. 2011; `pystoi`)."""
    pystoi = optional("pystoi")
    wanted, made = mono_pair(reference, decoded)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # its way to say that it gives up
        try:
            if wanted.size < STOI_SHORTEST_S * SPEECH_RATE:
                raise RuntimeWarning
            return float(pystoi.stoi(wanted, made, SPEECH_RATE, extended))
        except RuntimeWarning as error:
            raise InputError("STOI cannot rate this recording: too little speech") from error


def estoi(reference: Audio, decoded: Audio) -> float:
    """Extended STOI, 0 to 1: also where noise comes and goes (Jensen & Taal 2016; `pystoi`)."""
    return stoi(reference, decoded, extended=True)


def visqol(reference: Audio, decoded: Audio) -> float:
    """ViSQOL in audio mode, 1 to 4.73, of the mean of channels at 48 kHz (`visqol-python`).

    Chinen et al., "ViSQOL v3" (2020). On three of the original's published examples, cut to equal
    length, this gives its figures within 0.002 (4.350, 1.389, 2.347).
    """
    api = optional("visqol").VisqolApi()
    wanted, made = (
        wave.mean(0, dtype=np.float64) for wave in _pair(reference, decoded, VISQOL_RATE)
    )
    if len(wanted) < VISQOL_SHORTEST_S * VISQOL_RATE or not wanted.any():
        raise InputError("ViSQOL cannot rate silence, or less than half a second")
    api.create(mode="audio")
    return float(api.measure_from_arrays(wanted, made, VISQOL_RATE).moslqo)


def dnsmos(reference: Audio, decoded: Audio) -> float:
    """DNSMOS P.835, overall, 1 to 5: of the decoded speech alone (`speechmos`, `onnxruntime`).

    Reddy et al., arXiv:2110.01763: a network's guess of what people would say. `reference` is not
    heard.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that it imports
        rated = optional("speechmos.dnsmos")
        _, made = mono_pair(reference, decoded)
        return float(rated.run(made.clip(-1, 1), SPEECH_RATE)["ovrl_mos"])


def code_entropy(codes: NDArray[np.int32], vocabularies: tuple[int, ...]) -> tuple[float, ...]:
    """Bits per code that each codebook really uses: codes [S, K, F] -> K entropies.

    The plug-in estimate reads low by about vocabulary / (1.4 S F) bits: give it many frames.
    """
    if codes.shape[1] > len(vocabularies):
        raise InputError(f"{codes.shape[1]} codebooks of codes, {len(vocabularies)} of them known")
    bits = []
    for book, size in zip(codes.transpose(1, 0, 2), vocabularies, strict=False):
        shares = np.bincount(book.ravel(), minlength=size) / max(1, book.size)
        used = shares[shares > 0]
        bits.append(float(abs((used * np.log2(used)).sum())))
    return tuple(bits)


def _pair(
    reference: Audio, decoded: Audio, rate: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both recordings [C, T] at `rate`, after checking that they can be compared."""
    if reference.rate != decoded.rate or reference.samples.shape != decoded.samples.shape:
        first, second = (
            f"{audio.channels} x {audio.length} samples at {audio.rate} Hz"
            for audio in (reference, decoded)
        )
        raise InputError(f"cannot compare {first} with {second}")
    if not reference.length:
        raise InputError("cannot compare empty recordings")
    return at_rate(reference, rate).samples, at_rate(decoded, rate).samples


def mono_pair(reference: Audio, decoded: Audio) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both recordings [T] at 16 kHz. InputError: not of one channel, or silent."""
    if reference.channels != 1:
        raise InputError(f"speech is rated in one channel, not in {reference.channels}")
    wanted, made = _pair(reference, decoded, SPEECH_RATE)
    if not wanted.any():
        raise InputError("silence cannot be rated as speech")
    return wanted[0], made[0]


def at_rate(audio: Audio, rate: int) -> Audio:
    """The same recording at another rate."""
    return Audio(resampled(torch.from_numpy(audio.samples), audio.rate, rate).numpy(), rate)


def log_mel(audio: Audio) -> Tensor:
    """Natural logarithms of mel magnitudes [C, M, F], as `log_mel_distance` compares them."""
    return _log_mel(torch.from_numpy(at_rate(audio, MEL_RATE).samples))


def _log_mel(wave: Tensor) -> Tensor:
    """wave [C, T] at 24 kHz -> [C, M, F]."""
    return _mel(wave, MEL_WINDOW, MEL_HOP, MEL_BANDS, "constant").clamp(min=MEL_FLOOR).log()


def _mel(wave: Tensor, window: int, hop: int, bands: int, padding: str) -> Tensor:
    """wave [C, T] at 24 kHz -> mel magnitudes [C, M, F]."""
    hann = torch.hann_window(window)
    spectra = torch.stft(wave, window, hop, window=hann, pad_mode=padding, return_complex=True)
    return _mel_filters(window, bands).mT @ spectra.abs()


@lru_cache(maxsize=8)
def _mel_filters(window: int, bands: int) -> Tensor:
    """Weights [window // 2 + 1, bands]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # many narrow bands hold no frequency of a short window
        bins = window // 2 + 1
        return melscale_fbanks(bins, 0.0, MEL_RATE / 2, bands, MEL_RATE, "slaney", "slaney")


def optional(package: str) -> ModuleType:
    """A package that only the extra `bench` brings."""
    try:
        return import_module(package)
    except ImportError as error:
        hint = "pip install 'alm-cli[bench]'"
        name = _DISTRIBUTIONS.get(package, package)
        raise ModelError(f"this measure needs the package {name}", hint=hint) from error
