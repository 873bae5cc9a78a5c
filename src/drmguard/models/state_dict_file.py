"""Weights in a PyTorch file, read without unpickling anything but tensors."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import torch
from torch import Tensor

from drmguard.errors import InputError


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a ``torch.save``d state dict with ``weights_only=True``.

    Raises:
        InputError: a whole pickled model, or anything else that is not a dict of tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on old protocols are not for the user
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: holds pickled Python objects, which could run code and are never loaded; "
            "save model.state_dict(), or convert it to safetensors"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: truncated or not a PyTorch file ({error})") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"{path}: not a state dict (names to tensors); save model.state_dict()")
    return {str(key): value for key, value in content.items()}
