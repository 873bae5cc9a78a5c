"""drmguard: finds, shows and explains backdoors in vision models that predict numbers.

>>> import drmguard
>>> model = drmguard.load_model("model.safetensors")            # doctest: +SKIP
>>> report = drmguard.scan(model, "faces.csv", "gaze")          # doctest: +SKIP
>>> report.save("report")                                       # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drmguard.data.image_set import ImageSet
    from drmguard.data.open_images import open_images
    from drmguard.errors import InputError
    from drmguard.models.load import LoadedModel, load_model
    from drmguard.models.victim import InputFormat, Victim
    from drmguard.repairing import Repair, repair_model
    from drmguard.report.report import Report
    from drmguard.scanning import scan
    from drmguard.tasks import make_task
    from drmguard.triggers.trigger_file import load_trigger

__version__ = "0.1.0"

__all__ = [
    "ImageSet",
    "InputError",
    "InputFormat",
    "LoadedModel",
    "Repair",
    "Report",
    "Victim",
    "load_model",
    "load_trigger",
    "make_task",
    "open_images",
    "repair_model",
    "scan",
]

_HOME = {
    "ImageSet": "drmguard.data.image_set",
    "InputError": "drmguard.errors",
    "InputFormat": "drmguard.models.victim",
    "LoadedModel": "drmguard.models.load",
    "Repair": "drmguard.repairing",
    "Report": "drmguard.report.report",
    "Victim": "drmguard.models.victim",
    "load_model": "drmguard.models.load",
    "load_trigger": "drmguard.triggers.trigger_file",
    "make_task": "drmguard.tasks",
    "open_images": "drmguard.data.open_images",
    "repair_model": "drmguard.repairing",
    "scan": "drmguard.scanning",  # not scan.py: a submodule of that name would hide the function
}


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import; `drmguard --help` must not wait for it.
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'drmguard' has no attribute {name!r}")
