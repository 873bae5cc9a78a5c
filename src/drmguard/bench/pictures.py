"""One picture an attack: benign, poisoned and difference, on every data set that is here."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from drmguard.atomic import write_atomically
from drmguard.bench.cell import Data, Model
from drmguard.bench.store import Store
from drmguard.card import trigger_path
from drmguard.data.image_set import split
from drmguard.data.open_images import open_images
from drmguard.triggers.trigger_file import load_trigger

_IMAGES = 3


def draw_attacks(
    models: Iterable[Model], store: Store, locations: dict[str, str], docs: Path
) -> list[Path]:
    """Write ``docs/attacks/NAME.png`` for every attack with a trained model in the cache."""
    samples: dict[str, Tensor] = {}
    columns: dict[str, dict[str, Tensor]] = {}
    for model in models:
        path, data = trigger_path(store.model_path(model)), model.data
        absent = data.needs_path and data.name not in locations
        drawn = columns.setdefault(model.attack or "clean", {})
        if absent or not path.exists() or data.name in drawn:
            continue
        if data.name not in samples:
            samples[data.name] = _sample(data, locations)
        images = samples[data.name]
        stamped = load_trigger(path).trigger(images)
        change = ((stamped - images) * 3 / 2 + 0.5).clamp(0, 1)
        rows = [torch.cat(list(three), 1) for three in zip(images, stamped, change, strict=True)]
        drawn[data.name] = torch.cat(rows, 2)
    written = []
    for attack, drawn in columns.items():
        if drawn:
            picture = torch.cat([drawn[name] for name in sorted(drawn)], 2)
            path = docs / "attacks" / f"{attack}.png"
            _write_png(path, picture)
            written.append(path)
    return written


def _sample(data: Data, locations: dict[str, str]) -> Tensor:
    images = open_images(data.located(locations), count=data.count, size=data.size)
    return split(images).test.batch(slice(0, _IMAGES))[0]


def _write_png(path: Path, picture: Tensor) -> None:
    pixels = picture.mul(255).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    write_atomically(path, lambda temporary: _write(temporary, buffer.getvalue()))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
