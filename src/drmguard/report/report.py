"""One scan's outcome: the content, the pictures, and how it is written to a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from drmguard.atomic import write_atomically, write_text
from drmguard.report.schema import ReportContent, RunRecord

EXIT_CODES = {"clean": 0, "backdoored": 1, "inconclusive": 3}


@dataclass(frozen=True)
class Pictures:
    """What the HTML report draws.

    Attributes:
        benign, reversed: a few images before and after the trigger, uint8 (n, C, H, W).
        trigger_mean: the mean change, float (C, H, W), from −1 to 1.
        target_trace: estimated target over the steps, standardised (steps, outputs).
        collapse_trace: variance left over the steps.
        before, after: outputs on clean and on stamped images, in the task's unit (n, d).
    """

    benign: NDArray[np.uint8]
    reversed: NDArray[np.uint8]
    trigger_mean: NDArray[np.float32]
    target_trace: NDArray[np.float32]
    collapse_trace: NDArray[np.float32]
    before: NDArray[np.float32]
    after: NDArray[np.float32]


@dataclass(frozen=True)
class Report:
    """The outcome of one scan.

    Attributes:
        content: what ``report.json`` holds.
        run: what ``run.json`` holds.
        pictures: what ``report.html`` draws.
        trigger: tensors of the reversed trigger.
        trigger_kind: ``mask-pattern``, ``residual`` or ``input-aware``: what they belong to.
    """

    content: ReportContent
    run: RunRecord
    pictures: Pictures
    trigger: dict[str, Tensor]
    trigger_kind: str

    @property
    def decision(self) -> str:
        """``clean``, ``backdoored`` or ``inconclusive``."""
        return self.content.verdict.decision

    @property
    def exit_code(self) -> int:
        """0 clean, 1 backdoored, 3 inconclusive."""
        return EXIT_CODES[self.decision]

    def json(self) -> str:
        """``report.json`` as text."""
        return self.content.model_dump_json(indent=2) + "\n"

    def save(self, folder: str | Path) -> Path:
        """Write ``report.json``, ``report.html``, ``run.json`` and ``trigger.safetensors``.

        Each file is complete or absent.  Returns the folder.
        """
        from drmguard.report.html import render_html  # matplotlib is slow to import

        folder = Path(folder)
        metadata = {"drmguard_trigger": json.dumps({"version": 1, "kind": self.trigger_kind})}
        weights = {key: value.cpu().contiguous() for key, value in self.trigger.items()}
        write_atomically(
            folder / "trigger.safetensors",
            lambda temporary: save_file(weights, temporary, metadata),
        )
        write_text(folder / "report.html", render_html(self.content, self.pictures))
        write_text(folder / "run.json", self.run.model_dump_json(indent=2) + "\n")
        write_text(folder / "report.json", self.json())
        return folder
