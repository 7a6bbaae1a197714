"""Features of a layer and units of them, from an encoder and the centroids that k-means found."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alm_cli.checkpoints.fetch import fetch
from alm_cli.checkpoints.load import Loaded, load
from alm_cli.checkpoints.reader import open_checkpoint, read_json
from alm_cli.errors import ModelError, UsageError
from alm_cli.nn.kmeans import Centroids
from alm_cli.nn.state import State
from alm_cli.runtime import device_of, dtype_of, set_threads
from alm_cli.systems.codec import Codec, CodecModel

_BY_JOBLIB = (
    "centroids are read from .npy or .safetensors: "
    "`numpy.save('km.npy', joblib.load('km.bin').cluster_centers_)` where the pickle is trusted"
)


class Encoder(Protocol):
    """What a family of encoders offers besides its features: those of any layer.

    Those that can do without bringing recordings to zero mean and unit variance, or with it, have
    an attribute `normalize` and take it as an option too.
    """

    layers: int

    def at_layer(self, layer: int | None, **options: bool) -> CodecModel:
        """The model that ends after so many of its blocks; None is its very output."""


class Units(nn.Module):
    """Features as units [B, 1, F]: the nearest centroid of each frame."""

    def __init__(self, features: CodecModel, centroids: Centroids) -> None:
        super().__init__()
        self.features, self.centroids = features, centroids
        self.rate, self.channels, self.delay = features.rate, features.channels, features.delay
        self.hop, self.block_frames = features.hop, features.block_frames
        self.vocabularies = (len(centroids.vectors),)

    def encode(
        self,
        wave: Tensor,
        codebooks: int | None = None,  # noqa: ARG002
        state: State | None = None,
    ) -> Tensor:
        """wave [B, C, T] -> units [B, 1, F] int64."""
        features = self.features.encode(wave, None, state)
        return self.centroids.encode(features.mT)[:, None]


def load_units(
    model: str | Path,
    *,
    layer: int | None = None,
    kmeans: Path | None = None,
    normalize: bool | None = None,
    device: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
) -> Codec:
    """Load an encoder as a codec that only encodes: features of a layer, or units of them.

    `layer` counts the blocks, None is the model's very output; `kmeans` is a file of centroids
    [V, D]; `normalize` says whether recordings are brought to zero mean and unit variance, None
    what the model was trained with. Its `weights_sha256` is that of the lines "encoder <sha256>",
    "layer <number or output>", "normalize <0 or 1>" where there is a choice, and "kmeans <sha256
    of the file>" where there are centroids, each with a line feed. ModelError: the model has no
    layers, or the file no centroids for it; UsageError: there is no such layer or choice.
    """
    place, number = device_of(device), dtype_of(dtype)
    set_threads(threads)
    loaded = load(model)
    features, identity = _features(loaded, layer, _choice(loaded, model, normalize))
    name = loaded.name if layer is None else f"{loaded.name}-l{layer}"
    if kmeans is not None:
        table = read_centroids(kmeans, features.dimension)
        features = cast(CodecModel, Units(features, Centroids(torch.from_numpy(table))))
        name = f"{name}-km{len(table)}"
        identity.append(f"kmeans {hashlib.sha256(kmeans.read_bytes()).hexdigest()}")
    digest = hashlib.sha256("".join(f"{line}\n" for line in identity).encode()).hexdigest()
    placed = cast(CodecModel, cast(nn.Module, features).to(place).eval())
    return Codec(placed, name, digest, device=place, dtype=number)


def _features(
    loaded: Loaded, layer: int | None, normalize: bool | None
) -> tuple[CodecModel, list[str]]:
    """The model at a layer, and the lines that identify it."""
    if not hasattr(loaded.model, "at_layer"):
        raise ModelError(f"{loaded.name} is not an encoder with layers to choose from")
    options = {} if normalize is None else {"normalize": normalize}
    features = cast(Encoder, loaded.model).at_layer(layer, **options)
    lines = [f"encoder {loaded.weights_sha256}", f"layer {'output' if layer is None else layer}"]
    return features, lines + [f"normalize {int(value)}" for value in options.values()]


def read_centroids(path: Path, dimension: int) -> NDArray[np.floating]:
    """The centroids [V, D] in a `.npy` file, or in a safetensors file with one tensor.

    In float32 or float64 as they are stored; half precision becomes float32. ModelError: the file
    is unreadable, a pickle, or has no finite centroids of `dimension`.
    """
    if path.suffix == ".npy":
        table = _npy(path)
    elif path.suffix == ".safetensors":
        table = _safetensors(path)
    else:
        raise ModelError(f"{path}: not a file of centroids", hint=_BY_JOBLIB)
    if table.dtype.kind != "f" or table.dtype.itemsize > 8:
        raise ModelError(f"{path}: centroids of {table.dtype}, which are no float32 or float64")
    if table.ndim != 2 or not len(table) or table.shape[1] != dimension:
        shape = " x ".join(map(str, table.shape)) or "a single number"
        raise ModelError(
            f"{path}: {shape}, where the features of this layer have {dimension} dimensions",
            hint="centroids are [units, dimensions], made from features of the same model",
        )
    wide = np.float64 if table.dtype.itemsize == 8 else np.float32
    centroids: NDArray[np.floating] = np.ascontiguousarray(table, dtype=wide)
    if not np.isfinite(centroids).all():
        raise ModelError(f"{path}: centroids that are not finite numbers")
    return centroids


def _npy(path: Path) -> NDArray[np.generic]:
    try:
        # Mapped, because the header of a damaged file may promise any size; never unpickled.
        return np.array(np.lib.format.open_memmap(path, mode="r"))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    # Garbage fails in the parser of the header in any way that its bytes suggest.
    except Exception as error:
        raise ModelError(f"{path}: not a plain .npy array ({error})", hint=_BY_JOBLIB) from error


def _safetensors(path: Path) -> NDArray[np.generic]:
    checkpoint = open_checkpoint(path)
    names = list(checkpoint.shapes)
    if len(names) != 1:
        raise ModelError(f"{path}: {len(names)} tensors", hint="save the centroids alone")
    table = checkpoint.read(names[0])
    return (table.float() if table.dtype == torch.bfloat16 else table).numpy()


def _choice(loaded: Loaded, source: str | Path, wanted: bool | None) -> bool | None:
    """Whether recordings are normalised, None where the model has no choice.

    Unless it is said, what preprocessor_config.json says is believed of models whose front end
    normalises every vector. The others were trained without, and so were the published centroids
    of their features, though some of these files say otherwise.
    """
    built: bool | None = getattr(loaded.model, "normalize", None)
    if built is None and wanted is not None:
        raise UsageError(f"{loaded.name} leaves no choice whether recordings are normalised")
    if wanted is not None or not built:
        return built if wanted is None else wanted
    path = fetch(loaded.card) if loaded.card else Path(source).expanduser()
    file = (path if path.is_dir() else path.parent) / "preprocessor_config.json"
    told = read_json(file).get("do_normalize") if file.is_file() else None
    return told if isinstance(told, bool) else built
