"""The main job: a model and clean labelled images in, a verdict with its evidence out."""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import drmguard
from drmguard import metrics
from drmguard.atomic import write_text
from drmguard.calibration import Calibration, Null, calibrate, check_alpha
from drmguard.checkpoint import Checkpoints
from drmguard.data.image_set import ImageSet
from drmguard.data.open_images import open_images
from drmguard.errors import InputError
from drmguard.evidence import (
    Found,
    Searched,
    calibration_part,
    candidate_parts,
    class_parts,
    distribution_part,
    generator_part,
    heat_map_part,
    mask_parts,
    numbers,
    spread_part,
)
from drmguard.methods import METHODS, Examined, MethodName, Subject
from drmguard.models.load import LoadedModel, as_loaded
from drmguard.models.victim import Victim
from drmguard.references import cached_reference, train_references
from drmguard.report.report import Pictures, Report
from drmguard.report.schema import (
    CleanErrorPart,
    CostPart,
    DosePart,
    ImagesPart,
    ModelPart,
    ReportContent,
    RunRecord,
    TargetPart,
    VerdictPart,
)
from drmguard.search.benign import Benign, measure_benign
from drmguard.search.drmguard import fast_settings, paper_settings
from drmguard.search.loop import TRACED_OUTPUTS, Progress
from drmguard.search.passes import LARGE_SIDE
from drmguard.search.places import place_settings
from drmguard.search.spread_settings import spread_settings
from drmguard.search.switch import answers_at_dose
from drmguard.shipped_null import clean_models, shipped_null
from drmguard.tasks import Classification, Task, make_task
from drmguard.usual import Usual
from drmguard.verdict import Verdict, doubt, rank

Recipe = Literal["fast", "paper"]
MIN_IMAGES = 32
_IMAGES, _LARGE_IMAGES, _PAPER_IMAGES = 256, 128, 2000
_DOSES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
_PICTURES = 6
_DOSED, _PLOTTED, _SAMPLES = 96, 256, 8
# Images that tell whether something stands behind the last linear layer, output by output.
_WATCHED = 64


@dataclass(frozen=True)
class ScanSettings:
    """How to scan.

    Attributes:
        method: how to search (:data:`~drmguard.methods.METHODS`).
        recipe: ``fast``, or ``paper`` with the papers' own constants: of DRMGuard its generator,
            steps and threshold, of MESA its steps from random generators.
        constants: of DRMGuard's generator, by name, where they differ from the recipe's
            (:class:`~drmguard.search.drmguard.GeneratorSettings`).
        trigger_size: (height, width) of MESA's triggers for classifiers; 3×3 where None.
        fixed_place: whether MESA looks for a place of the trigger's own.
        seed: of everything random.
        max_images: clean images used, chosen at random by the seed; 256 where it is None, or 128
            from a side of 128 pixels on, or 2,000 for the paper recipe.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    method: MethodName = "auto"
    recipe: Recipe = "fast"
    constants: Mapping[str, Any] = field(default_factory=dict)
    trigger_size: tuple[int, int] | None = None
    fixed_place: bool = False
    seed: int = 0
    max_images: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"the method must be one of {', '.join(METHODS)}, not {self.method!r}")
        if self.recipe not in ("fast", "paper"):
            raise InputError(f"the recipe must be fast or paper, not {self.recipe!r}")
        if self.recipe == "paper" and self.method not in ("drmguard", "mesa"):
            raise InputError(
                f"the paper's recipe is that of drmguard or of mesa, not of {self.method}"
            )
        if self.trigger_size is not None and min(self.trigger_size) < 1:
            raise InputError(f"the trigger's size must be at least 1×1, not {self.trigger_size}")
        if self.constants and self.method != "drmguard":
            raise InputError(
                f"constants are those of the method drmguard, not of {self.method}, which would "
                "decide the same with any"
            )
        if self.fixed_place and (self.method != "mesa" or self.trigger_size is not None):
            raise InputError(
                "a fixed place is looked for by the method mesa alone, which then chooses the "
                "trigger's size itself"
            )
        if self.max_images is not None and self.max_images < MIN_IMAGES:
            raise InputError(
                f"the search needs at least {MIN_IMAGES} images, but --max-images is "
                f"{self.max_images}"
            )

    def torch_device(self) -> torch.device:
        """The device to compute on."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("device cuda was asked for, but PyTorch finds none; use --device cpu")
        return torch.device(self.device)


def scan(
    model: LoadedModel | Victim | nn.Module,
    images: ImageSet | str | Path,
    task: Task | str | None = None,
    *,
    method: MethodName | None = None,
    recipe: Recipe = "fast",
    constants: Mapping[str, Any] | None = None,
    trigger_size: tuple[int, int] | None = None,
    fixed_place: bool = False,
    seed: int = 0,
    repeats: int = 1,
    max_images: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    references: Sequence[LoadedModel | Victim | nn.Module] = (),
    calibrate: int = 0,
    alpha: float = 0.05,
    source: str | None = None,
    resume_folder: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Scan a model for a backdoor.

    The model keeps its bits, its mode and its hooks: the search works on a copy.

    Args:
        model: what :func:`drmguard.load_model` gave, a :class:`Victim`, or any module that takes
            images in [0, 1] as N×C×H×W (wrap it in a :class:`Victim` for another format).
        images: clean images with correct labels, or a source for
            :func:`~drmguard.data.open_images.open_images`.
        task: what the outputs mean; the model file's own where it is None.
        method: how to search, of :data:`~drmguard.methods.METHODS`; ``auto`` where None, or
            ``drmguard`` for the paper's recipe.
        recipe: ``fast`` or ``paper``.
        constants: for the method ``drmguard``: other constants than the recipe's, by name
            (:class:`~drmguard.search.drmguard.GeneratorSettings`): ``angle_weight=0`` leaves the
            angle term out, ``attention=False`` the attention map (Table 8).
        trigger_size: (height, width) of MESA's triggers for classifiers; 3×3 where None.
        fixed_place: MESA for classifiers: the trigger, of any shape, has a place of its own, which
            a heat map is to find.
        seed: of everything random; the same seed on the same machine gives the same report.
        repeats: scan so many times, each from the next seed; where the verdicts disagree, the
            whole is inconclusive.
        max_images: clean images used, chosen at random; 256, or 128 of large ones, where None.
        device: ``auto``, ``cpu`` or ``cuda``.
        references: clean models of the same kind, at least three: they are scanned alike, and the
            p-value is one under what they give.  Their scores are cached.
        calibrate: number of further references, trained on these images
            (:func:`~drmguard.references.train_references`).
        alpha: the rate at which clean models may be called backdoored: of the default method (but
            on classifiers of three classes or fewer), and of any with references.
        source: name of the images in the report.
        resume_folder: keeps the state of the work, so that a stopped scan can go on.
        resume: go on from ``resume_folder``.
        progress: called with (stage, steps done, steps).

    Raises:
        InputError: one sentence on what cannot be scanned, and what to do.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
    settings = ScanSettings(
        method=method or ("drmguard" if recipe == "paper" else "auto"),
        recipe=recipe,
        constants=constants or {},
        trigger_size=trigger_size,
        fixed_place=fixed_place,
        seed=seed,
        max_images=max_images,
        device=device,
    )
    loaded = as_loaded(model)
    if not isinstance(images, ImageSet):
        source = source or str(images)
        images = open_images(str(images))
    task = choose_task(loaded, task, images)
    source = source or "given in Python"
    check_alpha(alpha)
    if repeats < 1:
        raise InputError(f"a scan must be made at least once, not {repeats} times")
    null, origin = None, "given as references"
    if calibrate:
        origin = "given or trained on these images" if references else "trained on these images"
        trained = train_references(
            loaded, images, task, calibrate, device=settings.torch_device(), progress=progress
        )
        references = [*references, *trained]
    if references:
        null = _null(references, origin, images, task, settings, progress)
    works = [
        _Scan(loaded, images, task, dataclasses.replace(settings, seed=one), source, progress)
        for one in range(seed, seed + repeats)
    ]
    outcomes = []
    for work in works:
        if resume_folder is not None:
            part = f"seed-{work.settings.seed}"
            work.keep_state(resume_folder if repeats == 1 else resume_folder / part, resume)
        outcomes.append(work.run(null, alpha))
    for work in works:
        work.forget_state()
    if resume_folder is not None and resume_folder.is_dir() and not any(resume_folder.iterdir()):
        resume_folder.rmdir()
    outcome = _together(outcomes)
    run = RunRecord(
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - clock, 2),
        peak_memory_mib=round(peak_memory_mib(), 1),
        threads=torch.get_num_threads(),
        device=str(settings.torch_device()),
        machine=f"{platform.machine()} {platform.system()}",
        versions={"python": platform.python_version(), "torch": str(torch.__version__)},
    )
    return Report(run=run, **vars(outcome))


def _null(
    references: Sequence[LoadedModel | Victim | nn.Module],
    origin: str,
    images: ImageSet,
    task: Task,
    settings: ScanSettings,
    progress: Progress | None,
) -> Null:
    """What the same search gives for clean models."""
    suspicions = []
    for number, reference in enumerate(references, 1):
        name = f"reference {number} of {len(references)}"

        def named(stage: str, done: int, total: int, name: str = name) -> None:
            if progress is not None:
                progress(f"{name}: {stage}", done, total)

        work = _Scan(as_loaded(reference), images, task, settings, name, named)
        suspicions.append(work.standing())
    return Null(tuple(s for s in suspicions if s is not None), origin, usual_of(settings, task))


def usual_of(settings: ScanSettings, task: Task) -> Usual | None:
    """What is usual for clean models: of the default search, but on classifiers of few classes."""
    if settings.method != "auto" or not (task.is_regression or task.has_many_classes):
        return None
    return clean_models(task.num_outputs, classify=not task.is_regression).usual()


def peak_memory_mib() -> float:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def choose_task(loaded: LoadedModel, task: Task | str | None, images: ImageSet) -> Task:
    """The task that was given, completed from the images' names; or the model file's."""
    if task is None:
        if loaded.task is None:
            raise InputError("the model does not say its task; give one with --task")
        chosen = loaded.task
    elif isinstance(task, Task):
        chosen = task
    else:
        chosen = make_task(task, outputs=images.output_names, classes=images.class_names)
        stored = loaded.task
        if stored is not None:
            if stored.name != task:
                raise InputError(
                    f"{loaded.name}: the file says its task is {stored.name}, but --task is {task}"
                )
            chosen = stored
    chosen.check_labels(images.labels)
    return chosen


@dataclass(frozen=True)
class _Outcome:
    """What one scan gave: as :class:`~drmguard.report.report.Report` holds it."""

    content: ReportContent
    pictures: Pictures
    trigger: nn.Module
    target: Tensor
    second_trigger: nn.Module | None = None


def _together(outcomes: Sequence[_Outcome]) -> _Outcome:
    """Of several scans the most suspicious one, with the verdict on which all agree."""
    if len(outcomes) == 1:
        return outcomes[0]
    contents = [outcome.content for outcome in outcomes]
    ranks = [rank(one.verdict.decision, _standing(one)) for one in contents]
    speaking = outcomes[ranks.index(min(ranks))]
    verdict, cost = speaking.content.verdict, speaking.content.cost
    decisions = [one.verdict.decision for one in contents]
    agreed = verdict.decision if len(set(decisions)) == 1 else "inconclusive"
    reason = f"scanned from {len(outcomes)} seeds: {', '.join(decisions)}"
    costs = [one.cost for one in contents]
    content = speaking.content.model_copy(
        update={
            "verdict": verdict.model_copy(
                update={"decision": agreed, "reasons": (*verdict.reasons, reason)}
            ),
            "cost": cost.model_copy(
                update={
                    "steps": sum(one.steps for one in costs),
                    "image_passes": sum(one.image_passes for one in costs),
                }
            ),
        }
    )
    return dataclasses.replace(speaking, content=content)


def _standing(content: ReportContent) -> float | None:
    """What has the p-value, or else the suspicion."""
    calibration = content.calibration
    if calibration is None or calibration.standing is None:
        return content.verdict.suspicion
    return calibration.standing


class _Scan:
    """One scan at work."""

    def __init__(
        self,
        loaded: LoadedModel,
        images: ImageSet,
        task: Task,
        settings: ScanSettings,
        source: str,
        progress: Progress | None,
    ) -> None:
        self.loaded, self.images, self.task = loaded, images, task
        self.settings, self.source, self.progress = settings, source, progress
        self.device = settings.torch_device()
        self.usual = usual_of(settings, task)
        self.warnings: list[str] = []
        self.checkpoints: Checkpoints | None = None
        self.large = min(images.image_shape[1:]) >= LARGE_SIDE
        recipe = (
            paper_settings(task)
            if settings.recipe == "paper"
            else fast_settings(task, large=self.large)
        )
        self.generator_settings = recipe.changed(settings.constants)
        needed = max(MIN_IMAGES, self.generator_settings.batch_size)
        if len(images) < needed:
            raise InputError(
                f"too few images for the search: {len(images)} given, at least {needed} needed"
            )
        self.images_digest = images.digest()
        loaded.victim.input_format.check_channels(images.image_shape[0])
        self.sample, self.labels = self._sample()
        self.whole = self._freeze()
        self.victim = self._searched()
        self.place_settings = place_settings(images.image_shape)
        self.spread_settings = spread_settings(images.image_shape, is_regression=task.is_regression)

    def _sample(self) -> tuple[Tensor, Tensor]:
        usual = _LARGE_IMAGES if self.large else _IMAGES
        if self.settings.recipe == "paper":
            usual = _PAPER_IMAGES  # the paper searches on all of its benign set
        count = min(len(self.images), self.settings.max_images or usual)
        random = np.random.default_rng(self.settings.seed)
        rows = np.sort(random.permutation(len(self.images))[:count])
        images, labels = self.images.batch(rows)
        images = images.contiguous(memory_format=torch.channels_last)
        return images.to(self.device), labels.to(self.device)

    def _freeze(self) -> Victim:
        """A frozen copy of the victim whose outputs are those of the original."""
        victim = self.loaded.victim.frozen(self.device)
        first = self.sample[:8]
        try:
            with torch.no_grad():
                outputs = victim(first)
        except InputError:
            raise
        except Exception as error:
            # The model's own code failed on images of this size and layout.
            message = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise InputError(
                f"the model fails on images of shape {tuple(first.shape[1:])}: {message}; check "
                "the image size, the channels and --layout"
            ) from None
        if outputs.shape[1] != self.task.num_outputs:
            raise InputError(
                f"the model gives {outputs.shape[1]} outputs, but the task {self.task.name} has "
                f"{self.task.num_outputs} ({', '.join(self.task.output_names[:8])}); give the "
                "right --task"
            )
        return victim

    def _searched(self) -> Victim:
        """The frozen victim, or what of it lies in front of a bound, as a tanh."""
        before = None
        if self.task.is_regression:
            before = self.whole.before_bound(self.sample[:_WATCHED])
        if before is not None:
            self.warnings.append(
                "what the last linear layer gives goes through something else, a tanh or "
                "a change of unit, say; the search went in front of it"
            )
            return before
        if self.whole.find_head(self.sample[:8]) is None:
            self.warnings.append(
                "no linear layer produces the model's outputs, so the search went without angles "
                "in feature space (RAV); name it with --head where there is one"
            )
        self.whole.images_seen = 0
        return self.whole

    def keep_state(self, folder: Path, resume: bool) -> None:
        """Keep checkpoints in ``folder``, and go on from those in it where ``resume`` asks."""
        self.checkpoints = Checkpoints(folder, self._identity())
        if not resume:
            self.checkpoints.remove()

    def _identity(self) -> dict[str, Any]:
        """All that decides what the search gives."""
        return {
            "model": self.loaded.digest,
            "images": self.images_digest,
            "settings": dataclasses.asdict(self.settings),
            "task": self.task.settings(),
            "input": dataclasses.asdict(self.loaded.victim.input_format),
            "head": self.whole.head_name,
            "version": drmguard.__version__,
        }

    def standing(self) -> float | None:
        """How suspicious it is, kept in the user's cache folder: for reference models."""
        usual = None if self.usual is None else dataclasses.asdict(self.usual)
        path = cached_reference(self._identity() | {"usual": usual}, ".json")
        if path.is_file():
            known: float | None = json.loads(path.read_text(encoding="utf-8"))
            return known
        error = self._clean_error()
        if error.value >= error.constant:
            raise InputError(
                f"{self.source} ({self.loaded.name}) cannot be a clean reference: its error on the "
                f"clean images, {error.value:.4g} {error.unit}, is no better than a constant answer"
            )
        examined = self._examine(measure_benign(self.victim, self.task, self.sample))
        standing = examined.verdict.standing(self.usual)
        write_text(path, json.dumps(standing))
        return standing

    def _examine(self, benign: Benign) -> Examined:
        subject = Subject(
            victim=self.victim,
            task=self.task,
            benign=benign,
            generator=self.generator_settings,
            places=self.place_settings,
            spread=self.spread_settings,
            recipe=self.settings.recipe,
            trigger_size=self.settings.trigger_size or (3, 3),
            fixed_place=self.settings.fixed_place,
            usual=self.usual,
            seed=self.settings.seed,
            checkpoints=self.checkpoints,
            progress=self.progress,
        )
        return METHODS[self.settings.method].examine(subject)

    def forget_state(self) -> None:
        """Remove the checkpoints, since the work is done."""
        if self.checkpoints is not None:
            self.checkpoints.remove()

    def run(self, null: Null | None, alpha: float) -> _Outcome:
        """Search and judge."""
        benign = measure_benign(self.victim, self.task, self.sample)
        clean_error = self._clean_error()
        examined = self._examine(benign)
        verdict, found = examined.verdict, examined.found
        calibration, null = None, null or self._shipped_null(clean_error)
        if null is not None:
            verdict, calibration = calibrate(verdict, null, alpha)
        if clean_error.value >= clean_error.constant:
            verdict = doubt(
                verdict,
                f"the model's error on the clean images is {clean_error.value:.4g} "
                f"{clean_error.unit}, no better than always answering the median label "
                f"({clean_error.constant:.4g}): check --pixel-range, --mean, --std and the labels",
            )
        reversed_images = self._reversed(found)
        content = self._content(
            verdict, calibration, benign, found, clean_error, examined.searched, reversed_images
        )
        pictures = self._pictures(found, examined.searched, reversed_images)
        target = self._answer(benign, found)
        second = None if examined.second is None else examined.second.cpu()
        return _Outcome(content, pictures, found.trigger.cpu(), target.cpu(), second)

    def _shipped_null(self, clean_error: CleanErrorPart) -> Null | None:
        """The null that comes along, where there is one."""
        if self.usual is None:
            return None
        side, images = min(self.sample.shape[2:]), len(self.sample)
        error = clean_error.value / clean_error.constant if clean_error.constant else 0.0
        null, warning = shipped_null(self.task, side, images, error)
        self.warnings += [warning] if warning else []
        return null

    @torch.no_grad()
    def _outputs(self, images: Tensor) -> Tensor:
        return torch.cat([self.whole(chunk) for chunk in images.split(64)])

    def _answer(self, benign: Benign, found: Found) -> Tensor:
        """What the model gives with the trigger (d,)."""
        target = benign.responses(found.target)
        if self.victim is self.whole:
            return target
        return self.victim.bounded(target[None], self.sample[:1])[0]

    def _clean_error(self) -> CleanErrorPart:
        error = metrics.regression_error(self.task, self._outputs(self.sample), self.labels)
        if isinstance(self.task, Classification):
            counts = torch.bincount(self.labels[:, 0].long())
            constant = 1 - float(counts.max()) / len(self.labels)
        else:
            median = self.labels.median(0).values.expand_as(self.labels)
            constant = metrics.regression_error(self.task, median, self.labels)
        return CleanErrorPart(value=error, constant=constant, unit=self.task.error_unit)

    @torch.no_grad()
    def _reversed(self, found: Found) -> Tensor:
        """All sampled images with the trigger that the verdict speaks of."""
        if found.reverse is None:
            return torch.cat([found.trigger(chunk) for chunk in self.sample.split(64)])
        rows = torch.arange(len(self.sample))
        return torch.cat([found.reverse(part) for part in rows.split(64)])

    def _content(
        self,
        verdict: Verdict,
        calibration: Calibration | None,
        benign: Benign,
        found: Found,
        clean_error: CleanErrorPart,
        searched: Searched,
        reversed_images: Tensor,
    ) -> ReportContent:
        places = searched.places
        loaded, form = self.loaded, self.loaded.victim.input_format
        doses = self._dose_response(benign, found, reversed_images)
        settings = dataclasses.asdict(self.settings)
        for name, used, part in (
            ("generator", searched.generated, self.generator_settings),
            ("places", places, self.place_settings),
            ("spread", searched.spread, self.spread_settings),
        ):
            if used:
                settings[name] = dataclasses.asdict(part)
        return ReportContent(
            drmguard_version=drmguard.__version__,
            verdict=VerdictPart(
                search=verdict.search,
                decision=verdict.decision,
                score=verdict.score,
                backdoored_below=verdict.backdoored_below,
                clean_above=verdict.clean_above,
                threshold_source=verdict.source,
                reasons=(*verdict.reasons, *filter(None, [verdict.conclusion])),
                suspicion=verdict.suspicion,
                suspicions={str(k): value for k, value in verdict.suspicions.items()},
            ),
            calibration=calibration_part(calibration),
            target=TargetPart(
                names=self.task.output_names,
                unit=self.task.output_unit,
                values=numbers(self._answer(benign, found)),
                standardised=numbers(found.target),
            ),
            task=self.task.settings(),
            model=ModelPart(
                name=loaded.name,
                sha256=loaded.digest,
                network=loaded.network,
                parameters=sum(p.numel() for p in loaded.victim.module.parameters()),
                pixel_range=form.pixel_range,
                mean=form.mean,
                std=form.std,
                layout=form.layout,
                head=self.whole.head_name,
            ),
            images=ImagesPart(
                source=self.source,
                sha256=self.images_digest,
                count=len(self.images),
                used=len(self.sample),
                shape=self.images.image_shape,
            ),
            clean_error=clean_error,
            settings=settings,
            places=candidate_parts(places.candidates) if places else (),
            targets=candidate_parts(places.sent) if places else (),
            spread=tuple(spread_part(c) for c in searched.spread),
            generator=generator_part(searched.generated) if searched.generated else None,
            classes=class_parts(searched, self.task.output_names),
            masks=mask_parts(searched, self.task.output_names),
            distribution=distribution_part(searched),
            heat_map=heat_map_part(searched, self.task.output_names),
            dose_response=doses,
            cost=CostPart(
                steps=(len(searched.generated.trace) if searched.generated else 0)
                + (places.steps if places else 0)
                + sum(candidate.steps for candidate in searched.spread)
                + (len(searched.modelled.trace) if searched.modelled else 0)
                + searched.steps,
                image_passes=self.victim.images_seen,
            ),
            warnings=tuple(self.warnings),
        )

    @torch.no_grad()
    def _dose_response(
        self, benign: Benign, found: Found, reversed_images: Tensor
    ) -> tuple[DosePart, ...]:
        sample, stamped = self.sample[:_DOSED], reversed_images[:_DOSED]
        doses = []
        for dose in _DOSES:
            standardised = answers_at_dose(
                self.victim, self.task, benign, found.trigger, sample, stamped, dose
            )
            doses.append(
                DosePart(
                    dose=dose,
                    standardised_mean=numbers(standardised.mean(0)),
                    variance_ratio=float(metrics.variance(standardised).mean()),
                )
            )
        return tuple(doses)

    def _pictures(self, found: Found, searched: Searched, reversed_images: Tensor) -> Pictures:
        traced = min(TRACED_OUTPUTS, self.task.num_outputs)
        prefix = found.prefix
        return Pictures(
            benign=_bytes(self.sample[:_PICTURES]),
            reversed=_bytes(reversed_images[:_PICTURES]),
            trigger_mean=(reversed_images - self.sample).mean(0).cpu().numpy(),
            target_trace=np.array(
                [[row[f"{prefix}target.{j}"] for j in range(traced)] for row in found.trace],
                dtype=np.float32,
            ),
            collapse_trace=np.array(
                [row[f"{prefix}left"] for row in found.trace], dtype=np.float32
            ),
            before=self._outputs(self.sample[:_PLOTTED]).cpu().numpy(),
            after=self._outputs(reversed_images[:_PLOTTED]).cpu().numpy(),
            samples=_samples(searched),
            heat=None if searched.heat is None else searched.heat.heat.numpy(),
        )


def _samples(searched: Searched) -> list[Any]:
    """Patches drawn from each level of a distribution, as colours; opacity on black."""
    if searched.modelled is None:
        return []
    rows = []
    distribution = searched.modelled.distribution
    for number in range(len(distribution.weights)):
        patches = distribution.level(number).sample(_SAMPLES)
        if patches.shape[1] in (2, 4):
            patches = patches[:, :-1] * patches[:, -1:]
        rows.append(_bytes(patches))
    return rows


def _bytes(images: Tensor) -> Any:
    return (images * 255).round().to(torch.uint8).cpu().contiguous().numpy()
