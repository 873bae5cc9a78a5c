"""The state of long work in one file, so that a stop at any moment loses seconds at most."""

from __future__ import annotations

import hashlib
import json
import pickle
import time
from pathlib import Path
from typing import Any

import torch

from drmguard.atomic import write_atomically
from drmguard.errors import InputError

SECONDS_BETWEEN = 5.0


class StaleCheckpointError(InputError):
    """A checkpoint belongs to other work than the one that is to go on."""


class Checkpoint:
    """One file with the state of one piece of work.

    Args:
        path: the file.
        settings: all that the result depends on; a checkpoint of other settings is refused.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        text = json.dumps(settings, sort_keys=True, default=str)
        self._fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() - self._last >= SECONDS_BETWEEN

    def save(self, state: dict[str, Any]) -> None:
        """Write tensors, numbers, strings, lists and dicts, atomically."""
        content = {"fingerprint": self._fingerprint, "state": state}
        write_atomically(self.path, lambda temporary: torch.save(content, temporary))
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None where there is no file.

        Raises:
            InputError: the file is damaged.
            StaleCheckpointError: it belongs to other settings.
        """
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, weights_only=True)
            fingerprint, state = content["fingerprint"], content["state"]
        except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError):
            raise InputError(
                f"{self.path}: the checkpoint is damaged; delete it and start anew"
            ) from None
        if fingerprint != self._fingerprint:
            raise StaleCheckpointError(
                f"{self.path}: the checkpoint was made with another model, other images or other "
                "settings; repeat those, or start anew without --resume"
            )
        return dict(state)

    def remove(self) -> None:
        """Delete the file, since the work is done."""
        self.path.unlink(missing_ok=True)


class Checkpoints:
    """A folder with one checkpoint for each stage of a piece of work.

    Args:
        folder: made when the first stage is saved.
        settings: all that the result depends on.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self._settings = folder, settings

    def stage(self, name: str) -> Checkpoint:
        """The checkpoint of one stage; a finished stage's holds its last state."""
        return Checkpoint(self.folder / f"{name.replace(' ', '-')}.checkpoint", self._settings)

    def remove(self) -> None:
        """Delete all stages, since the work is done or starts anew."""
        for path in self.folder.glob("*.checkpoint"):
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
