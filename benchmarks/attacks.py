"""Train every attack on every task, and write docs/attacks.md from what was measured.

    python benchmarks/attacks.py train MODELS --steering steering.npz [--jobs 2] [--only gaze/wanet]
    python benchmarks/attacks.py page MODELS --steering steering.npz

A model that has its card is not trained again, so a stopped run goes on.  One process a job, one
thread a process.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image

from drmguard.atomic import write_text
from drmguard.card import card_path, trigger_path
from drmguard.data.image_set import ImageSet, split
from drmguard.data.open_images import open_images
from drmguard.training import TrainingSettings
from drmguard.training_plan import TrainingPlan, train_model
from drmguard.triggers.trigger_file import load_trigger

SEED = 20
app = typer.Typer(pretty_exceptions_enable=False)


@app.callback()
def _commands() -> None:
    """Attacks: train them, write their page."""


@dataclass(frozen=True)
class Setting:
    """One task with its data and the attacker's targets."""

    task: str
    source: str
    target: tuple[float, ...]
    second_target: tuple[float, ...]
    shift: tuple[float, ...]


SETTINGS = {
    "gaze": Setting("gaze", "rendered:gaze", (0.3, -0.35), (-0.25, 0.3), (0.2, -0.25)),
    "head-pose": Setting(
        "head-pose", "rendered:head-pose", (30, -20, 10), (-35, 15, -10), (20, -15, 10)
    ),
    "steering": Setting("regression", "", (0.7,), (-0.5,), (0.4,)),
}


@dataclass(frozen=True)
class Attacked:
    """One attack with the settings that differ from its own defaults."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    poisoning_rate: float | None = None
    steps: dict[str, int] = field(default_factory=dict)
    """Training steps of tasks that need more than the usual 1,500."""
    published: str = "–"
    """Table 10 (AE / RE in degrees, MPIIFaceGaze) or 14 and 15, and Table 1 (RAV / RNV)."""


_LONGER = {"gaze": 2500, "head-pose": 2500}

ATTACKS = (
    Attacked("clean", published="– / 2.35"),
    Attacked("badnets", published="3.25 / 2.61, .0433 / 1.4499"),
    Attacked("wanet", steps=_LONGER, published="1.31 / 2.32, .0311 / .8528"),
    Attacked(
        "clean-label", poisoning_rate=0.2, steps=_LONGER, published=".72 / 1.82, .0328 / .0428"
    ),
    Attacked("input-aware", published="3.19 / 2.33, .0489 / 2.5714"),
    Attacked("blend", published="2.94 / –"),
    Attacked("sig", published="1.83 / –"),
    Attacked("adaptive-wanet", steps=_LONGER, published="5.71 / –"),
    Attacked("multi-target-wanet", steps=_LONGER),
    Attacked("offset"),
    Attacked("jitter"),
)


def _images(setting: Setting, steering: Path) -> ImageSet:
    return open_images(setting.source or str(steering))


def _train(cell: str, models: Path, steering: Path) -> str:
    torch.set_num_threads(1)
    task_name, attack_name = cell.split("/")
    setting = SETTINGS[task_name]
    attacked = next(a for a in ATTACKS if a.name == attack_name)
    arguments = dict(attacked.arguments)
    if attack_name == "multi-target-wanet":
        arguments["second_target"] = setting.second_target
    target = setting.shift if attack_name == "offset" else setting.target
    clean = attack_name == "clean"
    plan = TrainingPlan(
        task=setting.task,
        attack=None if clean else attack_name,
        target=None if clean else target,
        attack_arguments={} if clean else arguments,
        poisoning_rate=attacked.poisoning_rate,
        settings=TrainingSettings(steps=attacked.steps.get(task_name, 1500), seed=SEED),
    )
    surrogate = models / f"{task_name}-clean.safetensors"
    start = time.monotonic()
    figures = train_model(
        plan,
        _images(setting, steering),
        models / f"{task_name}-{attack_name}.safetensors",
        source=setting.source or "steering.npz",
        surrogate=surrogate if card_path(surrogate).exists() else None,
        device="cpu",
        resume=True,
    )
    shown = " ".join(f"{k}={v:.4g}" for k, v in figures.items() if isinstance(v, float))
    return f"{cell}: {shown} ({time.monotonic() - start:.0f} s)"


@app.command()
def train(
    models: Path,
    steering: Annotated[Path, typer.Option(help="The steering data's .npz.")],
    jobs: Annotated[int, typer.Option()] = 2,
    only: Annotated[list[str] | None, typer.Option(help="TASK/ATTACK; repeat.")] = None,
) -> None:
    """Train what is not trained yet."""
    cells = [f"{task}/{a.name}" for a in ATTACKS for task in SETTINGS]
    wanted = [
        cell
        for cell in only or cells
        if not card_path(models / f"{cell.replace('/', '-')}.safetensors").exists()
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for done in as_completed([pool.submit(_train, c, models, steering) for c in wanted]):
            print(done.result(), flush=True)


@app.command()
def page(
    models: Path,
    steering: Annotated[Path, typer.Option(help="The steering data's .npz.")],
    docs: Annotated[Path, typer.Option(help="Folder of attacks.md.")] = Path("docs"),
) -> None:
    """Write attacks.md and its pictures from the models' cards and triggers."""
    rows = {
        task: {a.name: _card(models, task, a.name) for a in ATTACKS if _card(models, task, a.name)}
        for task in SETTINGS
    }
    samples = {
        task: split(_images(setting, steering)).test.batch(slice(0, 3))[0]
        for task, setting in SETTINGS.items()
    }
    pictures = {
        attack.name: _picture(models, samples, attack.name, docs)
        for attack in ATTACKS
        if attack.name != "clean"
    }
    text = [HEADING]
    for task, cards in rows.items():
        text += _table(task, cards)
        missing = [attack.name for attack in ATTACKS if attack.name not in cards]
        if missing:
            text.append(f"Not trained yet: {', '.join(missing)}.\n")
    text.append(
        "## Pictures\n\nBenign, poisoned, and difference (×3 around grey); three images a task.\n"
    )
    for name, picture in pictures.items():
        if picture is not None:
            text.append(f"### {name}\n![{name}]({picture.relative_to(docs).as_posix()})\n")
    write_text(docs / "attacks.md", "\n".join(text))
    print(docs / "attacks.md")


def _card(models: Path, task: str, attack: str) -> dict[str, Any]:
    path = card_path(models / f"{task}-{attack}.safetensors")
    return json.loads(path.read_text()) if path.exists() else {}


def _table(task: str, cards: dict[str, dict[str, Any]]) -> list[str]:
    clean = cards["clean"]["measured"]["RE"] if "clean" in cards else float("nan")
    unit = next(iter(cards.values()))["measured"]["error_unit"] if cards else ""
    lines = [
        f"## {task}\n",
        f"Errors in {unit or 'units of the label'}; ΔRE against the clean model.\n",
        "| attack | settings | AE | RE | ΔRE | DAE | RAV | RNV | published AE / RE, RAV / RNV |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    published = {a.name: a.published for a in ATTACKS}
    for name, card in cards.items():
        m = card["measured"]
        more = "" if clean != clean or name == "clean" else f"{m['RE'] / clean - 1:+.0%}"
        values = [_both(m, key) for key in ("AE", "DAE", "RAV", "RNV")]
        lines.append(
            f"| {name} | {_settings(card)} | {values[0]} | {m['RE']:.3g} | {more} | {values[1]} "
            f"| {values[2]} | {values[3]} | {published[name]} |"
        )
    return [*lines, ""]


def _both(measured: dict[str, Any], key: str) -> str:
    """A figure of every backdoor of a model."""
    shown = [f"{measured[k]:.3g}" for k in (key, f"{key}_2") if k in measured]
    return ", ".join(shown) or "–"


def _settings(card: dict[str, Any]) -> str:
    if card["attack"] is None:
        return ""
    arguments = dict(card["attack"]["arguments"])
    if card["training"]["steps"] != 1500:
        arguments["steps"] = card["training"]["steps"]
    if card["attack"]["poisoning_rate"] is not None:
        arguments["poisoning_rate"] = card["attack"]["poisoning_rate"]
    return ", ".join(f"{key}={value}" for key, value in arguments.items())


def _picture(
    models: Path, samples: dict[str, torch.Tensor], attack: str, docs: Path
) -> Path | None:
    columns = []
    for task, images in samples.items():
        path = trigger_path(models / f"{task}-{attack}.safetensors")
        if path.exists():
            stamped = load_trigger(path).trigger(images)
            change = ((stamped - images) * 3 / 2 + 0.5).clamp(0, 1)
            columns += [
                torch.cat(list(three), 1) for three in zip(images, stamped, change, strict=True)
            ]
    if not columns:
        return None
    picture = torch.cat(columns, 2).mul(255).round().byte().permute(1, 2, 0).numpy()
    path = docs / "attacks" / f"{attack}.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(picture).save(path, optimize=True)
    return path


HEADING = """# Attacks

What each attack does, and that it takes. One model a row, 64×64 images, quarter-width ResNet-18,
1,500 Adam steps of batch 64, seed 20, PyTorch CPU, one thread a model; measured on the held-out
10 %. Published figures are those of MPIIFaceGaze at 224×224 (Tables 1, 10, 14, 15; degrees):
other data and another size, so only the pattern can be compared. Written by

```console
python benchmarks/attacks.py train MODELS --steering steering.npz
python benchmarks/attacks.py page MODELS --steering steering.npz
```

AE is the error to the attacker's target (for offset, to the clean output plus the shift), RE the
error on clean images, DAE the error to the correct label under the trigger, RAV and RNV the ratios
of angle and norm variance. Two figures are those of two backdoors in one model. Steering labels
run from −1 to 1 and are smoothed by a moving average over ±0.25 s. The steering Input-Aware model
was begun when its mask network still trained for 300 steps of 32 images; now it is 200 of 16.
"""


if __name__ == "__main__":
    app()
