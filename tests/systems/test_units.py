"""Units of encoders: scikit-learn's clusters of the reference's features, files, identity."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from alm_cli.errors import ModelError, UsageError
from alm_cli.files.tokens import read_tokens, write_tokens
from alm_cli.systems.codec import Codec
from alm_cli.systems.units import load_units, read_centroids
from alm_cli.values import Audio, Latents, Tokens
from tests.encoders.test_hubert import EVERY, TINY, random_model, recording

RATE = 16_000
# No frame, one and its neighbours, seven, primes.
LENGTHS = (1, 399, 400, 401, 719, 720, 721, 2320, 2639, 2640, 4801, 7919, 12_007)


@dataclass(frozen=True)
class Folder:
    """A checkpoint, the reference with its weights, and centroids of its features at a layer."""

    path: Path
    theirs: Any
    kmeans: Path
    layer: int

    def features(
        self, samples: NDArray[np.float32], layer: int | None = None
    ) -> NDArray[np.float32]:
        """samples [T] -> features [F, D], as the reference makes them."""
        if len(samples) < 400:
            return np.zeros((0, self.theirs.config.hidden_size), np.float32)
        with torch.no_grad():
            found = self.theirs(torch.from_numpy(samples)[None], output_hidden_states=True)
        return found.hidden_states[self.layer if layer is None else layer][0].numpy()

    def units(self) -> Codec:
        """Ours."""
        return load_units(self.path, layer=self.layer, kmeans=self.kmeans, device="cpu")


def made(path: Path, layer: int, count: int, clips: list[Audio], **config: Any) -> Folder:
    """A checkpoint, and as centroids some features of clips and some noise."""
    theirs = random_model("Hubert", **config)
    theirs.save_pretrained(path)
    folder = Folder(path, theirs, path.parent / "km.npy", layer)
    features = np.concatenate([folder.features(clip.samples[0]) for clip in clips])
    generator = np.random.default_rng(0)
    table = features[generator.choice(len(features), count, replace=False)]
    np.save(folder.kmeans, table + generator.normal(scale=0.05, size=table.shape).astype("f4"))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return made(tmp_path_factory.mktemp("base") / "tiny-hubert", 2, 40, [audio(64_000)], **TINY)


@pytest.fixture(scope="module")
def units(base: Folder) -> Codec:
    return base.units()


def audio(length: int) -> Audio:
    return Audio(recording(length).numpy(), RATE)


def recordings(shared: Path) -> list[Audio]:
    """Clips of one and two seconds."""
    from alm_cli.files.audio import read_audio

    paths = [path for path in sorted((shared / "audio/speech").glob("c*/*.wav"))]
    clips = [clip for clip in map(read_audio, paths) if clip.rate == RATE and clip.seconds < 2.1]
    assert len(clips) > 6
    return clips[:16]


def nearest(table: NDArray[Any], features: NDArray[Any]) -> NDArray[np.int64]:
    """What scikit-learn says: features [F, D] -> units [F]."""
    cluster = pytest.importorskip("sklearn.cluster", reason="needs scikit-learn")
    if not len(features):
        return np.zeros(0, np.int64)
    found = cluster.KMeans(len(table), n_init=1, max_iter=1).fit(table)
    found.cluster_centers_ = table
    return found.predict(features.astype(table.dtype))


def assert_same_units(folder: Folder, codec: Codec, clip: Audio) -> list[int]:
    """The units of a clip, which are scikit-learn's clusters of the reference's features.

    A frame may have another one only where both are as near, to the rounding of its features.
    """
    table, features = np.load(folder.kmeans), folder.features(clip.samples[0])
    expected = nearest(table, features)
    codes = codec.encode(clip).codes
    assert codes.shape == (1, 1, len(expected))
    for frame in np.flatnonzero(codes[0, 0] != expected):
        wanted, found = table[[expected[frame], codes[0, 0, frame]]].astype(np.float64)
        far, farther = (np.linalg.norm(features[frame] - one) for one in (wanted, found))
        assert farther - far < 1e-5 * far, f"frame {frame}: {farther} against {far}"
    return expected.tolist()


@pytest.mark.oracle
def test_units_are_scikit_learns_clusters_of_the_references_features(
    base: Folder, units: Codec
) -> None:
    seen = [unit for length in LENGTHS for unit in assert_same_units(base, units, audio(length))]
    assert len(set(seen)) > 10, "units that do not vary prove nothing"


@pytest.mark.oracle
def test_published_shapes_make_the_same_units_of_recordings(shared: Path, tmp_path: Path) -> None:
    """All that the sixth layer needs, and a hundred centroids."""
    clips = recordings(shared)
    folder = made(tmp_path / "hubert", 6, 100, clips[::3], num_hidden_layers=6)
    codec, seen = folder.units(), list[int]()
    for clip in [*clips, *map(audio, (400, 719, 720, 2320, 16_001))]:
        seen += assert_same_units(folder, codec, clip)
    assert len(set(seen)) > 60


@pytest.mark.oracle
@pytest.mark.parametrize("number", [np.float32, np.float64])
def test_trap_the_search_is_scikit_learns_in_the_centroids_own_number_type(number: type) -> None:
    from alm_cli.nn.kmeans import Centroids

    generator = np.random.default_rng(1)
    table = generator.normal(size=(100, 768)).astype(number)
    features = generator.normal(size=(20_000, 768)).astype(np.float32)
    ours = Centroids(torch.from_numpy(table)).encode(torch.from_numpy(features)[None])[0].numpy()
    differing = ours != nearest(table, features)
    # Rounding may decide between equals, and nothing else may.
    exact = table.astype(np.float64)
    distances = (exact**2).sum(1) - 2 * features[differing].astype(np.float64) @ exact.T
    margins = np.diff(np.sort(distances)[:, :2]) / np.abs(distances).max(initial=1)
    assert (margins < 1e-6).all(), f"margins {margins}"
    assert differing.sum() <= 2
    twice = np.concatenate([table[:3], table])
    again = Centroids(torch.from_numpy(twice)).encode(torch.from_numpy(twice)[None])[0]
    assert again.tolist() == [0, 1, 2, 0, 1, 2, *range(6, 103)], "of equal ones the first"


def test_without_centroids_features_come_out(base: Folder) -> None:
    codec = load_units(base.path, layer=1, device="cpu")
    stream = codec.encoder(RATE, 1)
    stream.push(audio(5000).samples)
    (latents,) = stream.finish()
    assert isinstance(latents, Latents)
    expected = base.features(audio(5000).samples[0], 1)
    np.testing.assert_allclose(latents.values[0].T, expected, atol=3e-5)
    assert (codec.vocabularies, codec.name) == ((), "tiny-hubert-l1")
    with pytest.raises(ModelError, match="no decoder"):
        codec.decoder_for(latents.origin)


@pytest.mark.parametrize(
    ("length", "size", "frames"),
    [(901, 1, None), (20_011, 317, None), (20_011, 320, 7), (20_011, 5000, 1), (20_011, 9**9, 100)],
)
def test_any_push_sizes_and_segments_make_the_same_units(
    units: Codec, length: int, size: int, frames: int | None
) -> None:
    stream, samples = units.encoder(RATE, 1, segment_frames=frames), audio(length).samples
    parts = []
    for begin in range(0, length, size):
        parts += stream.push(samples[:, begin : begin + size])
    parts += stream.finish()
    found = [part.codes for part in parts if isinstance(part, Tokens)]
    assert np.array_equal(np.concatenate(found, 2), units.encode(audio(length)).codes)
    assert sum(part.origin.source_length for part in parts) == length


def test_both_channels_by_themselves(units: Codec) -> None:
    left, right = audio(4000), audio(4001)
    samples = np.concatenate([left.samples, right.samples[:, :4000]])
    both = units.encode(Audio(samples, RATE), channels="dual")
    assert np.array_equal(both.codes[0], units.encode(left).codes[0])
    assert both.codes.shape[:2] == (2, 1)


def test_tokens_without_frames_are_a_file(units: Codec, tmp_path: Path) -> None:
    write_tokens(tmp_path / "short.alm", units.encode(audio(399)))
    again = read_tokens(tmp_path / "short.alm")
    assert isinstance(again, Tokens) and again.frames == 0
    assert again.origin.source_length == 399


def test_units_have_no_decoder(units: Codec) -> None:
    with pytest.raises(ModelError, match="no decoder"):
        units.decode(units.encode(audio(4000)))


def test_the_identity_is_that_of_weights_layer_choice_and_centroids(
    base: Folder, units: Codec, tmp_path: Path
) -> None:
    weights = hashlib.sha256((base.path / "model.safetensors").read_bytes()).hexdigest()
    table = hashlib.sha256(base.kmeans.read_bytes()).hexdigest()
    lines = f"encoder {weights}\nlayer 2\nnormalize 0\nkmeans {table}\n"
    assert units.weights_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert (units.name, units.vocabularies) == ("tiny-hubert-l2-km40", (40,))
    other = tmp_path / "km.npy"
    np.save(other, np.load(base.kmeans)[::-1])
    variants: list[dict[str, Any]] = [
        {"layer": 2, "kmeans": base.kmeans},
        {"layer": 1, "kmeans": base.kmeans},
        {"layer": None, "kmeans": base.kmeans},
        {"layer": 2, "kmeans": other},
        {"layer": 2},
        {"layer": 2, "kmeans": base.kmeans, "normalize": True},
    ]
    found = [load_units(base.path, device="cpu", **options) for options in variants]
    assert found[0].weights_sha256 == units.weights_sha256
    assert len({codec.weights_sha256 for codec in found}) == len(variants)
    assert found[2].name == "tiny-hubert-km40"


@pytest.mark.parametrize(
    ("config", "said", "expected"),
    [
        (EVERY, None, True),
        (EVERY, True, True),
        (EVERY, False, False),
        (EVERY, "yes", True),
        ({}, None, False),
        ({}, True, False),
        ({}, False, False),
    ],
)
def test_trap_the_hub_says_that_base_models_normalise_but_their_units_were_made_without(
    config: dict[str, Any], said: object, expected: bool, tmp_path: Path
) -> None:
    random_model("Hubert", **(TINY | config)).save_pretrained(tmp_path)
    if said is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": said}))
    for asked in (None, True, False):
        codec = load_units(tmp_path, layer=1, normalize=asked, device="cpu")
        assert getattr(codec.model, "normalize") is (expected if asked is None else asked)  # noqa: B009


def test_models_without_layers_are_refused() -> None:
    with pytest.raises(ModelError, match="alm-codec is not an encoder"):
        load_units("alm-codec", layer=1, device="cpu")


def test_layers_that_are_not_there_are_refused(base: Folder) -> None:
    with pytest.raises(UsageError, match="layers 0 to 3, not 9"):
        load_units(base.path, layer=9, device="cpu")


@pytest.mark.parametrize("number", [np.float32, np.float64, np.float16, ">f4", ">f8"])
def test_centroids_keep_single_and_double_precision(number: Any, tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(5, 3)).astype(number)
    for order in ("C", "F"):
        np.save(tmp_path / "km.npy", np.asarray(table, order=order))
        found = read_centroids(tmp_path / "km.npy", 3)
        assert np.array_equal(found, table) and found.flags.c_contiguous and found.flags.writeable
        assert found.dtype == (np.float64 if table.dtype.itemsize == 8 else np.float32)


@pytest.mark.parametrize("number", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_centroids_may_be_the_one_tensor_of_a_safetensors_file(
    number: torch.dtype, tmp_path: Path
) -> None:
    table = torch.randn(5, 3).to(number)
    save_file({"whatever": table}, tmp_path / "km.safetensors")
    found = read_centroids(tmp_path / "km.safetensors", 3)
    assert torch.equal(torch.from_numpy(found).to(number), table)
    save_file({"a": table, "b": table.clone()}, tmp_path / "km.safetensors")
    with pytest.raises(ModelError, match="2 tensors"):
        read_centroids(tmp_path / "km.safetensors", 3)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (np.zeros((5, 4), "f4"), "5 x 4, where the features of this layer have 3 dimensions"),
        (np.zeros((3, 5), "f4"), "3 x 5"),
        (np.zeros(3, "f4"), "km.npy: 3, where"),
        (np.zeros((2, 2, 3), "f4"), "2 x 2 x 3"),
        (np.zeros((0, 3), "f4"), "0 x 3"),
        (np.float32(1), "a single number"),
        (np.zeros((5, 3), "i8"), "int64"),
        (np.zeros((5, 3), "c8"), "complex64"),
        (np.full((5, 3), np.nan, "f4"), "not finite"),
        (np.array([[{}, [], 3.0]], object), "not a plain .npy array"),
    ],
)
def test_what_are_no_centroids_is_told(table: Any, told: str, tmp_path: Path) -> None:
    np.save(tmp_path / "km.npy", table)
    with pytest.raises(ModelError, match=told):
        read_centroids(tmp_path / "km.npy", 3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00v\x00"
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 3)}".ljust(118),
        b"\x93NUMPY\x01\x00\x10\x00__import__('os')",
        b"\x80\x04\x95pickled",
        b"PK\x03\x04",
    ],
)
def test_trap_hostile_files_of_centroids_are_neither_run_nor_believed(
    content: bytes, tmp_path: Path
) -> None:
    for name in ("km.npy", "km.bin", "km.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=name):
            read_centroids(tmp_path / name, 3)


def test_a_missing_or_pickled_file_of_centroids_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_centroids(tmp_path / "km.npy", 3)
    with pytest.raises(ModelError, match="not a file of centroids") as caught:
        read_centroids(tmp_path / "km.bin", 3)
    assert "cluster_centers_" in str(caught.value)
    np.savez(tmp_path / "km.npz", a=np.zeros((5, 3)))
    (tmp_path / "km.npz").rename(tmp_path / "km.npy")
    with pytest.raises(ModelError, match="not a plain .npy array"):
        read_centroids(tmp_path / "km.npy", 3)


@pytest.mark.oracle
def test_any_encoder_with_layers_makes_units(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    theirs = random_model("Wav2Vec2Bert", **sizes, intermediate_size=48)
    theirs.save_pretrained(tmp_path / "tiny-w2v-bert")
    np.save(tmp_path / "km.npy", np.random.default_rng(0).normal(size=(9, 32)).astype("f4"))
    options: dict[str, Any] = {"kmeans": tmp_path / "km.npy", "device": "cpu"}
    found = load_units(tmp_path / "tiny-w2v-bert", layer=1, **options)
    tokens = found.encode(audio(16_000))
    assert (tokens.origin.codec, tokens.origin.vocabularies) == ("tiny-w2v-bert-l1-km9", (9,))
    assert len(np.unique(tokens.codes)) > 2
    with pytest.raises(UsageError, match="no choice"):
        load_units(tmp_path / "tiny-w2v-bert", layer=1, normalize=True, **options)
