"""Devices, number types, threads and seeds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alm_cli.errors import UsageError
from alm_cli.runtime import (
    device_of,
    dtype_of,
    inference,
    is_emulated,
    place,
    seeded,
    set_threads,
)


def test_the_processor_is_always_there() -> None:
    assert device_of("cpu") == torch.device("cpu")
    assert device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "mps", "", "cuda:99999"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        device_of(name)


@pytest.mark.parametrize("name", ["cuda:999"])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="this machine has") as caught:
        device_of(name)
    assert caught.value.hint == "--device cpu"


@pytest.mark.gpu
def test_a_gpu_is_found() -> None:
    assert device_of("auto").type == device_of("cuda").type == device_of("cuda:0").type == "cuda"


def test_number_types_by_name() -> None:
    assert dtype_of("float32") == torch.float32
    assert dtype_of("bfloat16") == torch.bfloat16
    with pytest.raises(UsageError, match="unknown number type 'int4'"):
        dtype_of("int4")


def test_threads_are_set_or_left() -> None:
    before = torch.get_num_threads()
    try:
        set_threads(1)
        set_threads(None)
        assert torch.get_num_threads() == 1
        with pytest.raises(UsageError, match="0 threads"):
            set_threads(0)
    finally:
        torch.set_num_threads(before)


def test_a_placed_model_computes_in_its_type_but_keeps_its_buffers() -> None:
    model = nn.BatchNorm1d(3)
    placed = place(model, torch.device("cpu"), torch.bfloat16)
    assert {parameter.dtype for parameter in placed.parameters()} == {torch.bfloat16}
    assert placed.running_mean is not None and placed.running_mean.dtype == torch.float32


def test_inference_is_exact_and_leaves_no_trace() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = True
    try:
        with inference():
            assert torch.is_inference_mode_enabled()
            assert not matmul.allow_tf32
            assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cudnn.benchmark
        assert matmul.allow_tf32 and not torch.is_inference_mode_enabled()
    finally:
        matmul.allow_tf32 = before


def test_a_seed_is_a_generator_of_its_own() -> None:
    state = torch.get_rng_state()
    first, second = (torch.randn(3, generator=seeded(7)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("capability", "device", "dtype", "emulated"),
    [
        ("AVX2", "cpu", torch.bfloat16, True),
        ("AVX2", "cpu", torch.float32, False),
        ("AVX2", "meta", torch.bfloat16, False),
        ("AVX512", "cpu", torch.bfloat16, False),
    ],
)
def test_processors_without_the_instructions_are_known(
    capability: str,
    device: str,
    dtype: torch.dtype,
    emulated: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert is_emulated(torch.device(device), dtype) is emulated
