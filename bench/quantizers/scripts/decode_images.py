"""Decodes JPEG files of an .npz (`jpeg_bytes`, `offsets`, `labels`), resized. Runs in the peers' environment."""

import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image  # type: ignore[import-not-found]  # of another environment

job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
with np.load(job["source"], allow_pickle=False) as file:
    content, offsets, labels = file["jpeg_bytes"].tobytes(), file["offsets"], file["labels"]
chosen = np.random.default_rng(0).permutation(len(labels))[: job["count"]]
size = (job["size"], job["size"])
images = [
    np.asarray(Image.open(io.BytesIO(content[offsets[i] : offsets[i + 1]])).convert("RGB").resize(size, Image.BILINEAR))
    for i in chosen
]
np.savez(job["out"], x=np.stack(images), y=labels[chosen].astype(np.int64))
Path(job["result"]).write_text("{}", encoding="utf-8")
