"""Measure HuBERT units here against `transformers` and k-means as scikit-learn predicts it.

    python recipes/compare_units.py              # layer 9 of HuBERT base, 500 units, 10 and 30 s

The weights are the same on both sides, random at the published size. Runs alternate (A B A B)
after one that warms up; figures are medians (least to most). Markdown and one line of JSON go to
standard output. Run it on an otherwise idle machine; needs the extra `test` and scikit-learn.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans  # type: ignore[import-untyped]
from transformers import HubertConfig, HubertModel

from alm_cli.systems.units import load_units
from alm_cli.values import Audio
from recipes.timing import alternate, spread

RATE = 16_000


def their_units(model: Any, kmeans: Any, layer: int, wave: NDArray[np.float32]) -> Any:
    """wave [T] -> units [F]."""
    hidden = model(torch.from_numpy(wave)[None], output_hidden_states=True).hidden_states[layer]
    return kmeans.predict(hidden[0].numpy())


@torch.inference_mode()
def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, nargs="+", default=[10, 30])
    parser.add_argument("--layer", type=int, default=9)
    parser.add_argument("--units", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    ask = parser.parse_args()
    torch.set_num_threads(ask.threads)
    torch.manual_seed(0)
    theirs = HubertModel(HubertConfig()).eval()
    noise = np.random.default_rng(0).normal(scale=0.1, size=round(max(ask.seconds) * RATE))
    whole = noise.astype(np.float32)
    hidden = theirs(torch.from_numpy(whole[: 10 * RATE])[None], output_hidden_states=True)
    frames = hidden.hidden_states[ask.layer][0].numpy()
    kmeans = KMeans(min(ask.units, len(frames)), n_init=1, max_iter=1, random_state=0).fit(frames)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        settings = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": False}
        Path(folder, "preprocessor_config.json").write_text(json.dumps(settings))
        table = Path(folder, "km.npy")
        np.save(table, kmeans.cluster_centers_)
        ours = load_units(folder, layer=ask.layer, kmeans=table, device="cpu", threads=ask.threads)
    records = []
    for seconds in ask.seconds:
        wave = whole[: round(seconds * RATE)]
        audio = Audio(wave[None], RATE)
        found = ours.encode(audio).codes[0, 0]
        wanted = their_units(theirs, kmeans, ask.layer, wave)
        works = {
            "alm": partial(ours.encode, audio),
            "transformers": partial(their_units, theirs, kmeans, ask.layer, wave),
        }
        times = alternate(works, ask.runs)
        speeds = {side: [seconds / s for s in times[side]] for side in works}
        ratio = statistics.median(speeds["alm"]) / statistics.median(speeds["transformers"])
        records.append(
            {
                "work": f"HuBERT base, layer {ask.layer}, {len(kmeans.cluster_centers_)} units, "
                f"{seconds:g} s",
                "alm, x real time": spread(speeds["alm"]),
                "transformers + scikit-learn": spread(speeds["transformers"]),
                "ratio": round(ratio, 2),
                "differing units": f"{int((found != wanted).sum())} of {len(wanted)}",
            }
        )
    print("| " + " | ".join(records[0]) + " |\n" + "|---" * len(records[0]) + "|")
    for record in records:
        print("| " + " | ".join(str(value) for value in record.values()) + " |")
    versions = {
        name: importlib.metadata.version(name) for name in ("torch", "transformers", "scikit-learn")
    }
    print("\n" + json.dumps({"threads": ask.threads, **versions, "records": records}))


if __name__ == "__main__":
    main()
