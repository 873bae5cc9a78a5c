"""One scan's outcome: the content, the pictures, and how it is written to a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from drmguard.atomic import write_text
from drmguard.report.schema import ReportContent, RunRecord
from drmguard.triggers.trigger_file import load_trigger, save_trigger

_FIRST, _SECOND = "trigger.safetensors", "trigger-2.safetensors"
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
        samples: patches uint8 (n, C, h, w) of each level of a distribution, if one was modelled.
        heat: share of the images that windows over a pixel send to one class (H, W), if sought.
    """

    benign: NDArray[np.uint8]
    reversed: NDArray[np.uint8]
    trigger_mean: NDArray[np.float32]
    target_trace: NDArray[np.float32]
    collapse_trace: NDArray[np.float32]
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    samples: list[NDArray[np.uint8]]
    heat: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class RepairPictures:
    """What the page of a repair draws.

    Attributes:
        benign, stamped: a few images before and after the reversed trigger, uint8 (n, C, H, W).
        before, after: outputs (n, d) of the model as given and of the repaired one, each on
            clean and on stamped images.
    """

    benign: NDArray[np.uint8]
    stamped: NDArray[np.uint8]
    before: tuple[NDArray[np.float32], NDArray[np.float32]]
    after: tuple[NDArray[np.float32], NDArray[np.float32]]


def found_triggers(folder: Path) -> list[nn.Module]:
    """:attr:`Report.triggers` of a scan that was saved.

    Raises:
        InputError: no trigger in the folder, or one that cannot be read.
    """
    paths = [folder / _FIRST, folder / _SECOND]
    return [load_trigger(path).trigger for path in paths[: 1 + paths[1].is_file()]]


@dataclass(frozen=True)
class Report:
    """The outcome of one scan.

    Attributes:
        content: what ``report.json`` holds.
        run: what ``run.json`` holds.
        pictures: what ``report.html`` draws.
        trigger: the reversed trigger.
        target: its estimated target (d,) in the task's unit.
        second_trigger: that of the next most suspicious search, if it looks suspicious, too.
    """

    content: ReportContent
    run: RunRecord
    pictures: Pictures
    trigger: nn.Module
    target: Tensor
    second_trigger: nn.Module | None = None

    @property
    def triggers(self) -> list[nn.Module]:
        """What a repair unlearns: the reversed trigger, and the second, if any."""
        return [one for one in (self.trigger, self.second_trigger) if one is not None]

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

        A second trigger is in ``trigger-2.safetensors``.  Each file is complete or absent.
        Returns the folder.
        """
        from drmguard.report.html import render_html  # matplotlib is slow to import

        folder = Path(folder)
        (folder / _SECOND).unlink(missing_ok=True)
        save_trigger(folder / _FIRST, self.trigger, target=self.target)
        if self.second_trigger is not None:
            save_trigger(folder / _SECOND, self.second_trigger)
        write_text(folder / "report.html", render_html(self.content, self.pictures))
        write_text(folder / "run.json", self.run.model_dump_json(indent=2) + "\n")
        write_text(folder / "report.json", self.json())
        return folder
