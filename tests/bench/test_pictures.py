"""Pictures of the attacks: drawn from the triggers in the cache, on the data that are here."""

import torch
from PIL import Image

from drmguard.bench.cell import Data, Model
from drmguard.bench.pictures import draw_attacks
from drmguard.bench.store import Store
from drmguard.card import trigger_path
from drmguard.triggers.patch import patch_trigger
from drmguard.triggers.trigger_file import save_trigger


def test_one_picture_an_attack(tmp_path):
    data = Data(name="gaze", source="rendered:gaze", task="gaze", count=40, size=16)
    elsewhere = Data(name="road", source="{path}", task="regression")
    models = [
        Model(data=data),
        Model(data=data, attack="badnets"),
        Model(data=data, attack="blend"),
        Model(data=elsewhere, attack="badnets"),
    ]
    store = Store(tmp_path / "results", tmp_path / "cache")
    for model in (models[1], models[3]):
        path = trigger_path(store.model_path(model))
        save_trigger(path, patch_trigger((3, 16, 16), side=4), target=torch.zeros(2))
    (path,) = draw_attacks(models, store, {}, tmp_path)
    assert path == tmp_path / "attacks" / "badnets.png"
    with Image.open(path) as picture:
        assert picture.size == (3 * 16, 3 * 16)
