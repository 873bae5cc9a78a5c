"""The command line: parses, calls, prints.  Everything heavy is imported inside the commands."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

import drmguard
from drmguard.bench.commands import app as bench_app
from drmguard.errors import InputError

if TYPE_CHECKING:
    from drmguard.data.image_set import ImageSet
    from drmguard.models.load import LoadedModel
    from drmguard.search.loop import Progress

BAD_INPUT, STOPPED = 2, 130

app = typer.Typer(
    name="drmguard",
    help="Tells whether a vision model that predicts numbers hides a backdoor, and shows it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Make labelled images.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")


class TaskName(enum.StrEnum):
    """The tasks of :mod:`drmguard.tasks`."""

    gaze = "gaze"
    head_pose = "head-pose"
    regression = "regression"
    classification = "classification"


class RecipeName(enum.StrEnum):
    """The recipes of :func:`drmguard.scan`."""

    fast = "fast"
    paper = "paper"


class SearchName(enum.StrEnum):
    """The methods of :func:`drmguard.scan`."""

    auto = "auto"
    drmguard = "drmguard"
    mesa = "mesa"
    points = "points"
    shift = "shift"
    neural_cleanse = "neural-cleanse"
    feature_re = "feature-re"


class DeviceName(enum.StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class SplitName(enum.StrEnum):
    """Which part of the images to use."""

    all = "all"
    train = "train"
    benign = "benign"
    test = "test"


class MethodName(enum.StrEnum):
    """The methods of :func:`drmguard.repair_model`."""

    unlearning = "unlearning"
    fine_tuning = "fine-tuning"
    fine_pruning = "fine-pruning"
    anp = "anp"


class RenderedName(enum.StrEnum):
    """The embedded renderers."""

    gaze = "gaze"
    head_pose = "head-pose"


def main() -> None:
    """Run the command line; a user's mistake gives one sentence and exit code 2."""
    try:
        app()
    except InputError as error:
        fail(str(error))
    except SystemExit as end:
        if end.code == STOPPED:  # typer turns Ctrl-C into this
            print("stopped; scan and train go on where they were with --resume", file=sys.stderr)
        raise


def fail(message: str) -> NoReturn:
    """Print an error in a line and exit with code 2."""
    Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(f"error: {message}")
    sys.exit(BAD_INPUT)


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """Numbers separated by commas."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} must be numbers separated by commas, not {text!r}") from None


def _pixel_range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    low, dots, high = text.partition("..")
    try:
        if dots:
            return float(low), float(high)
    except ValueError:
        pass
    raise InputError(f"--pixel-range must be LOW..HIGH (0..1 or 0..255, say), not {text!r}")


def _size(text: str | None, option: str = "--resize") -> tuple[int, int] | None:
    if text is None:
        return None
    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise InputError(f"{option} must be HEIGHTxWIDTH (64x64, say), not {text!r}")
    return int(height), int(width)


def _named_arguments(pairs: list[str] | None, option: str) -> dict[str, Any]:
    """NAME=VALUE pairs; a value is a number, true, false, numbers with commas, or text."""
    arguments: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise InputError(f"{option} must be NAME=VALUE (width=0.25, say), not {pair!r}")
        values = [_value(part) for part in value.split(",")]
        numbers = len(values) > 1 and not any(isinstance(part, str) for part in values)
        arguments[name] = tuple(values) if numbers else _value(value)
    return arguments


def _value(text: str) -> bool | int | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """A bar on standard error for each stage, with the time left."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description:<27}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    ) as bars:
        numbers: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in numbers:
                numbers[stage] = bars.add_task(stage, total=total)
            bars.update(numbers[stage], completed=done)

        yield show


def _open(
    source: str,
    *,
    resize: str | None,
    count: int,
    size: int,
    image_seed: int,
    part: SplitName,
    split_seed: int,
    progress: Progress,
) -> ImageSet:
    from drmguard.data.image_set import split
    from drmguard.data.open_images import open_images

    images = open_images(
        source,
        resize=_size(resize),
        count=count,
        size=size,
        seed=image_seed,
        progress=lambda done, total: progress("reading images", done, total),
    )
    if part is SplitName.all:
        return images
    chosen: ImageSet = getattr(split(images, seed=split_seed), part.value)
    return chosen


def _load(
    path: Path,
    network: str | None,
    network_arg: list[str] | None,
    pixel_range: str | None,
    mean: str | None,
    std: str | None,
    layout: str | None,
    head: str | None,
) -> LoadedModel:
    from drmguard.models.load import load_model

    if layout not in (None, "NCHW", "NHWC"):
        raise InputError(f"--layout must be NCHW or NHWC, not {layout!r}")
    return load_model(
        path,
        network=network,
        network_arguments=_named_arguments(network_arg, "--network-arg") or None,
        pixel_range=_pixel_range(pixel_range),
        mean=_numbers(mean, "--mean"),
        std=_numbers(std, "--std"),
        layout=layout,  # type: ignore[arg-type]
        head=head,
    )


def _choose_threads(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


SourceHelp = (
    "CSV with a path column and label columns; .npz with images and labels; a folder of class "
    "folders or a .zip of one (FILE.zip:FOLDER); rendered:gaze, rendered:head-pose; or NAME:PATH "
    "of a published data set (see `drmguard data list`)."
)
Resize = Annotated[
    str | None, typer.Option(help="Resize all image files to HEIGHTxWIDTH.", show_default=False)
]
Count = Annotated[int, typer.Option("--render-count", help="Number of rendered images.")]
Size = Annotated[int, typer.Option("--render-size", help="Side of rendered images in pixels.")]
ImageSeed = Annotated[int, typer.Option("--render-seed", help="Seed of rendered images.")]
SplitSeed = Annotated[int, typer.Option(help="Seed of the 80/10/10 split.")]
Threads = Annotated[
    int | None, typer.Option(help="Processor threads; PyTorch's choice if left out.", min=1)
]
PixelRange = Annotated[
    str | None,
    typer.Option(help="What black and white are to the model: 0..1, 0..255, -1..1."),
]
Mean = Annotated[str | None, typer.Option(help="Subtracted per channel: 0.485,0.456,0.406.")]
Std = Annotated[str | None, typer.Option(help="Divided by per channel: 0.229,0.224,0.225.")]
Network = Annotated[str | None, typer.Option(help="Network, where the file does not name one.")]
NetworkArgument = Annotated[
    list[str] | None, typer.Option(help="Network argument NAME=VALUE; repeat.")
]
Layout = Annotated[str | None, typer.Option(help="NCHW or NHWC.")]
Head = Annotated[str | None, typer.Option(help="Last linear layer, where it is not found.")]
TaskOfModel = Annotated[
    TaskName | None, typer.Option(help="What the outputs mean; the file's own if left out.")
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"drmguard {drmguard.__version__}")
        raise typer.Exit


@app.command()
def scan(
    model: Annotated[Path, typer.Argument(help=".safetensors file, or .pt with a state dict.")],
    images: Annotated[str, typer.Option(help=SourceHelp)],
    task: TaskOfModel = None,
    split: Annotated[
        SplitName, typer.Option(help="Part of the images: benign is the defender's 10 %.")
    ] = SplitName.all,
    method: Annotated[
        SearchName | None,
        typer.Option(help="How to search; `drmguard methods` lists them. auto if left out."),
    ] = None,
    recipe: Annotated[
        RecipeName, typer.Option(help="fast, or as published; paper: drmguard and mesa alone.")
    ] = RecipeName.fast,
    constant: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE: another constant for DRMGuard's generator; repeat."),
    ] = None,
    trigger_size: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH of mesa's triggers for classifiers; 3x3.")
    ] = None,
    fixed_place: Annotated[
        bool,
        typer.Option(
            "--fixed-place", help="For mesa on classifiers: the trigger has a place of its own."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    repeats: Annotated[
        int, typer.Option(help="Scan from so many seeds; inconclusive where they disagree.")
    ] = 1,
    max_images: Annotated[
        int | None,
        typer.Option(
            help="Clean images used; 256 if left out, 128 of 128×128 or more, 2000 for paper."
        ),
    ] = None,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = DeviceName.auto,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            help="Clean model of the same kind, to take the p-value from; repeat, at least 3."
        ),
    ] = None,
    calibrate: Annotated[
        int,
        typer.Option(min=0, help="Train so many references on the images; at least 3; cached."),
    ] = 0,
    alpha: Annotated[float, typer.Option(help="False-positive rate that is accepted.")] = 0.05,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report; MODEL-scan if left out.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a stopped scan.")] = False,
    network: Network = None,
    network_arg: NetworkArgument = None,
    pixel_range: PixelRange = None,
    mean: Mean = None,
    std: Std = None,
    layout: Layout = None,
    head: Head = None,
    resize: Resize = None,
    render_count: Count = 10_000,
    render_size: Size = 64,
    render_seed: ImageSeed = 0,
    split_seed: SplitSeed = 0,
    threads: Threads = None,
    quiet: Annotated[bool, typer.Option(help="Print nothing but errors.")] = False,
    json_to: Annotated[
        str | None, typer.Option("--json", help="Also write report.json here; - is stdout.")
    ] = None,
) -> None:
    """Scan a model for a backdoor.

    Exit codes: 0 clean, 1 backdoored, 2 bad usage or input, 3 inconclusive.
    """
    from drmguard.report.console import print_summary
    from drmguard.scanning import scan as run_scan

    _choose_threads(threads)
    loaded, *references = (
        _load(path, network, network_arg, pixel_range, mean, std, layout, head)
        for path in (model, *(reference or ()))
    )
    folder = out or model.with_name(f"{model.stem}-scan")
    with _progress(quiet) as progress:
        image_set = _open(
            images,
            resize=resize,
            count=render_count,
            size=render_size,
            image_seed=render_seed,
            part=split,
            split_seed=split_seed,
            progress=progress,
        )
        report = run_scan(
            loaded,
            image_set,
            task.value if task else None,
            method=method.value if method else None,
            recipe=recipe.value,
            constants=_named_arguments(constant, "--constant"),
            trigger_size=_size(trigger_size, "--trigger-size"),
            fixed_place=fixed_place,
            seed=seed,
            repeats=repeats,
            max_images=max_images,
            device=device.value,
            references=references,
            calibrate=calibrate,
            alpha=alpha,
            source=images if split is SplitName.all else f"{images} ({split.value} split)",
            resume_folder=folder / "unfinished",
            resume=resume,
            progress=progress,
        )
    report.save(folder)
    if json_to == "-":
        sys.stdout.write(report.json())
    elif json_to is not None:
        from drmguard.atomic import write_text

        write_text(Path(json_to), report.json())
    if not quiet and json_to != "-":
        console = Console(soft_wrap=True, highlight=False)
        print_summary(report, console)
        console.print(f"  report       {folder / 'report.html'}", markup=False)
    raise typer.Exit(report.exit_code)


@app.command()
def train(
    data: Annotated[str, typer.Option(help=SourceHelp)],
    task: Annotated[TaskName, typer.Option(help="What the labels mean.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file.")],
    attack: Annotated[
        str | None, typer.Option(help="Plant a backdoor; `drmguard attacks` lists them.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Target vector in the task's unit: 0.3,-0.35; or a class number."),
    ] = None,
    poisoning_rate: Annotated[
        float | None, typer.Option(help="Share of poisoned images; the attack's own if left out.")
    ] = None,
    attack_arg: Annotated[
        list[str] | None,
        typer.Option(help="The attack's own argument NAME=VALUE; repeat. See `drmguard attacks`."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Model to fine-tune; its network and input format are kept."),
    ] = None,
    surrogate: Annotated[
        Path | None, typer.Option(help="Clean model for clean-label; trained first if left out.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="Network; `drmguard networks` lists them; resnet18.")
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(help="Factor on the network's channels; 0.25 for large networks, else 1."),
    ] = None,
    small_stem: Annotated[bool, typer.Option(help="3×3 stem for small images.")] = False,
    steps: Annotated[int | None, typer.Option(help="Training steps; 1500.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step; 64.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adam or sgd; adam.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At the start; 0.001.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="constant, cosine, step or half; cosine.")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="l1, l2 or cross-entropy.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of the optimizer; 0.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the passes: float32 or bfloat16; float32.")
    ] = None,
    augmentation: Annotated[
        str | None, typer.Option(help="none, crop-flip (classes only) or heavy; none.")
    ] = None,
    mean: Mean = "0.5",
    std: Std = "0.25",
    seed: Annotated[int, typer.Option(help="Of weights, batches and poisoned images.")] = 0,
    resume: Annotated[bool, typer.Option(help="Go on with a stopped training.")] = False,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = DeviceName.auto,
    resize: Resize = None,
    render_count: Count = 10_000,
    render_size: Size = 64,
    render_seed: ImageSeed = 0,
    split_seed: SplitSeed = 0,
    threads: Threads = None,
    quiet: Annotated[bool, typer.Option(help="Print nothing but errors.")] = False,
) -> None:
    """Train a model, clean or with a backdoor, and write it with its card.

    Trains on 80 % of the images and measures on the last 10 %; the 10 % between are the
    defender's (scan them with --split benign).  For a published data set (NAME:PATH) the papers'
    training settings take the place of those that are left out.
    """
    from drmguard.data.presets import PRESETS
    from drmguard.training import TrainingSettings
    from drmguard.training_plan import TrainingPlan, train_model

    _choose_threads(threads)
    options = {
        "steps": steps,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "loss": loss,
        "weight_decay": weight_decay,
        "precision": precision,
        "augmentation": augmentation,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    name = data.partition(":")[0]
    published = PRESETS[name].training if name in PRESETS else {}
    if start is not None and (network is not None or width is not None or small_stem):
        raise InputError("--start keeps that model's network; leave out --network and its settings")
    plan = TrainingPlan(
        task=task.value,
        network=network or "resnet18",
        width=width,
        small_stem=small_stem,
        mean=_numbers(mean, "--mean") or (),
        std=_numbers(std, "--std") or (),
        attack=attack,
        target=_numbers(target, "--target"),
        poisoning_rate=poisoning_rate,
        attack_arguments=_named_arguments(attack_arg, "--attack-arg"),
        split_seed=split_seed,
        settings=TrainingSettings(**published | given, seed=seed),
    )
    with _progress(quiet) as progress:
        image_set = _open(
            data,
            resize=resize,
            count=render_count,
            size=render_size,
            image_seed=render_seed,
            part=SplitName.all,
            split_seed=split_seed,
            progress=progress,
        )
        figures = train_model(
            plan,
            image_set,
            output,
            source=data,
            start=start,
            surrogate=surrogate,
            device=device.value,
            resume=resume,
            progress=progress,
        )
    if not quiet:
        _print_figures(output, figures)


@app.command()
def repair(
    model: Annotated[Path, typer.Argument(help=".safetensors file, or .pt with a state dict.")],
    images: Annotated[str, typer.Option(help=SourceHelp)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The repaired .safetensors.")],
    scan_folder: Annotated[
        Path | None,
        typer.Option("--scan", help="Report of a scan of the model; scanned first if left out."),
    ] = None,
    task: TaskOfModel = None,
    method: Annotated[MethodName, typer.Option(help="How to repair.")] = MethodName.unlearning,
    max_loss: Annotated[
        float, typer.Option(help="Write nothing if the clean error grows by more than this share.")
    ] = 0.1,
    scan_again: Annotated[bool, typer.Option(help="Scan the repaired model.")] = True,
    split: Annotated[
        SplitName, typer.Option(help="Part of the images: benign is the defender's 10 %.")
    ] = SplitName.all,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = DeviceName.auto,
    network: Network = None,
    network_arg: NetworkArgument = None,
    pixel_range: PixelRange = None,
    mean: Mean = None,
    std: Std = None,
    layout: Layout = None,
    head: Head = None,
    resize: Resize = None,
    render_count: Count = 10_000,
    render_size: Size = 64,
    render_seed: ImageSeed = 0,
    split_seed: SplitSeed = 0,
    threads: Threads = None,
    quiet: Annotated[bool, typer.Option(help="Print nothing but errors.")] = False,
) -> None:
    """Unlearn the trigger that a scan found, scan again, and write the repaired model.

    Beside it lie OUTPUT.repair.json and a page, OUTPUT.repair.html: clean error and error under
    the reversed trigger, before and after, on images that the repair did not train on, and both
    verdicts.
    """
    from drmguard.repairing import repair_model
    from drmguard.report.console import print_repair

    _choose_threads(threads)
    loaded = _load(model, network, network_arg, pixel_range, mean, std, layout, head)
    with _progress(quiet) as progress:
        image_set = _open(
            images,
            resize=resize,
            count=render_count,
            size=render_size,
            image_seed=render_seed,
            part=split,
            split_seed=split_seed,
            progress=progress,
        )
        done = repair_model(
            loaded,
            image_set,
            task.value if task else None,
            method=method.value,
            scan_folder=scan_folder,
            scan_again=scan_again,
            seed=seed,
            device=device.value,
            source=images if split is SplitName.all else f"{images} ({split.value} split)",
            progress=progress,
        )
    done.save(output, max_loss=max_loss)
    if not quiet:
        print_repair(done.record, Console(soft_wrap=True, highlight=False))
        print(f"  page         {output.with_suffix('.repair.html')}")


@app.command()
def measure(
    model: Annotated[Path, typer.Argument(help=".safetensors file, or .pt with a state dict.")],
    images: Annotated[str, typer.Option(help=SourceHelp)],
    trigger: Annotated[
        Path | None, typer.Option(help="A trigger's .safetensors file; RE alone if left out.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Target vector, where the trigger's file names none.")
    ] = None,
    task: TaskOfModel = None,
    split: Annotated[
        SplitName, typer.Option(help="Part of the images: test is what training measures on.")
    ] = SplitName.all,
    network: Network = None,
    network_arg: NetworkArgument = None,
    pixel_range: PixelRange = None,
    mean: Mean = None,
    std: Std = None,
    layout: Layout = None,
    head: Head = None,
    resize: Resize = None,
    render_count: Count = 10_000,
    render_size: Size = 64,
    render_seed: ImageSeed = 0,
    split_seed: SplitSeed = 0,
    threads: Threads = None,
) -> None:
    """Measure a model's error on images (RE) and under a trigger (AE, DAE, RAV, RNV)."""
    import torch

    from drmguard.attacks.attack import Backdoor
    from drmguard.card import measure as measure_model
    from drmguard.scanning import choose_task
    from drmguard.triggers.trigger_file import load_trigger

    _choose_threads(threads)
    loaded = _load(model, network, network_arg, pixel_range, mean, std, layout, head)
    image_set = _open(
        images,
        resize=resize,
        count=render_count,
        size=render_size,
        image_seed=render_seed,
        part=split,
        split_seed=split_seed,
        progress=lambda *_: None,
    )
    chosen = choose_task(loaded, task.value if task else None, image_set)
    backdoors = []
    if trigger is not None:
        found = load_trigger(trigger)
        given = _numbers(target, "--target")
        vector = found.target if given is None else torch.tensor(given)
        if vector is None:
            raise InputError(f"{trigger}: the file names no target; give one with --target")
        backdoors.append(Backdoor(found.trigger, vector, found.relative))
    loaded.victim.find_head(image_set.batch(slice(0, 2))[0])
    _print_figures(model, measure_model(loaded.victim, chosen, image_set, backdoors))


@app.command()
def methods() -> None:
    """List the methods of `drmguard scan --method`, and what each needs."""
    from drmguard.methods import METHODS

    for name, method in METHODS.items():
        print(f"{name}: {method.summary}\n    needs: {method.needs}")


@app.command()
def attacks() -> None:
    """List the attacks of `drmguard train --attack`, with their own arguments."""
    from drmguard.attacks.named import ATTACKS

    _print_signatures(ATTACKS, skip=1)


@app.command()
def networks() -> None:
    """List the networks that can be trained and scanned by name, with their arguments."""
    from drmguard.models.networks import NETWORKS

    _print_signatures(NETWORKS, skip=0)


def _print_signatures(functions: Mapping[str, Callable[..., Any]], skip: int) -> None:
    import inspect

    for name, function in functions.items():
        parameters = list(inspect.signature(function).parameters.values())[skip:]
        arguments = ", ".join(
            p.name if p.default is p.empty else f"{p.name}={p.default}" for p in parameters
        )
        summary = (inspect.getdoc(function) or "").partition("\n")[0]
        print(f"{name}: {summary}\n    {arguments}")


def _print_figures(model: Path, figures: Mapping[str, float | str]) -> None:
    shown = ", ".join(
        f"{name} {value:.4g}" for name, value in figures.items() if isinstance(value, float)
    )
    print(f"{model}: {shown} [{figures['error_unit']}]")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of models and reports.")] = Path(
        "drmguard-demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    quiet: Annotated[bool, typer.Option(help="Print the verdicts only.")] = False,
) -> None:
    """Render faces, train a clean and a backdoored gaze model, scan both, repair the second."""
    from drmguard.demo import Scanned, run_demo
    from drmguard.report.console import print_repair, print_summary

    console = Console(soft_wrap=True, highlight=False)
    say: Callable[[str], None] = (lambda _: None) if quiet else console.print
    for done in run_demo(out, seed=seed, say=say):
        if isinstance(done, Scanned):
            console.print(f"\n{done.name} model", style="bold")
            print_summary(done.report, console)
            console.print(f"  report       {done.folder / 'report.html'}", markup=False)
            continue
        console.print("")
        print_repair(done.record, console)
        console.print("  with the trigger that was really planted, on test images:")
        for name, meaning in (("AE", "to the attacker's target"), ("DAE", "to the truth")):
            before, after = (figures[name] for figures in (done.before, done.after))
            console.print(f"    error {meaning:<25} {before:.3g}° -> {after:.3g}°")
        console.print(f"  page         {done.path.with_suffix('.repair.html')}", markup=False)


@data_app.command("list")
def list_data_sets() -> None:
    """List the published data sets that can be read, and where they come from."""
    from drmguard.data.presets import PRESETS

    for name, preset in PRESETS.items():
        print(f"{name}: {preset.task}, {preset.labels}\n    {preset.source}")


@data_app.command()
def check(
    name: Annotated[str, typer.Argument(help="Name of a published data set.")],
    path: Annotated[Path, typer.Argument(help="Its folder or file.")],
    resize: Resize = None,
) -> None:
    """Read a published data set and say what was found and what is missing."""
    from drmguard.data.presets import describe_preset, read_preset

    with _progress(quiet=False) as progress:
        images = read_preset(
            name,
            path,
            resize=_size(resize),
            progress=lambda done, total: progress("reading images", done, total),
        )
    print("\n".join(describe_preset(name, images)))


@data_app.command()
def render(
    kind: Annotated[RenderedName, typer.Argument(help="What to render.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .npz file.")],
    count: Annotated[int, typer.Option(help="Number of images.")] = 1000,
    size: Annotated[int, typer.Option(help="Side in pixels, 16 to 224.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the images.")] = 0,
) -> None:
    """Render labelled images and write them as .npz."""
    import numpy as np

    from drmguard.atomic import write_atomically
    from drmguard.data.open_images import RENDERERS

    images = RENDERERS[kind.value](count, size=size, seed=seed)

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(
                file,
                images=images.images,
                labels=images.labels,
                label_names=np.array(images.label_names),
            )

    write_atomically(output, write)
    print(f"{output}: {count} images of {size}×{size}, labels {', '.join(images.label_names)}")
