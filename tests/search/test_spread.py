import dataclasses
from types import SimpleNamespace

import pytest
import torch

from conftest import TARGET, SpreadModel, WarpedModel, labelled_by, smooth_images
from drmguard.checkpoint import Checkpoints
from drmguard.models.victim import Victim
from drmguard.search import default_answer, spread, target_search
from drmguard.search.benign import measure_benign
from drmguard.search.default_answer import DefaultAnswers
from drmguard.search.spread import look_beside, search_spread
from drmguard.search.spread_settings import Ladder, SpreadSettings
from drmguard.tasks import Classification, Regression
from drmguard.triggers.trigger_file import load_trigger, save_trigger
from drmguard.verdict import judge_spread

TASK = Regression(("a", "b"))
SMALL = SpreadSettings(
    blend=Ladder((0.2,), 6, 20, 20, collapsed=0.02),
    conditional=Ladder((0.02, 0.04), 6, 20, 20, collapsed=0.02),
    wave=Ladder((0.2,), 6, 0, 30, collapsed=0.05),
    warp=Ladder((1 / 16,), 6, 30, 30, collapsed=0.25),
    width=8,
    settling=20,
    patch=Ladder((3 / 32,), 6, 0, 20, collapsed=0.1),
    sparse=Ladder((0.03, 0.015), 6, 20, 20, collapsed=0.02),
    warp_points=4,
)


def search(model, settings=SMALL, **more):
    images = labelled_by(SpreadModel(planted=False), smooth_images(96))
    return search_in(model, images.batch(slice(None))[0], settings, **more)


def search_in(model, sample, settings, **more):
    victim = Victim(model).frozen()
    victim.find_head(sample[:4])
    benign = measure_benign(victim, TASK, sample)
    return search_spread(victim, TASK, benign, settings, seed=0, **more), benign


class Classes(torch.nn.Module):
    """As many classes as columns: that of the brightest."""

    def __init__(self, classes):
        super().__init__()
        self.fc = torch.nn.Linear(classes, classes)
        self.fc.weight.data = 20 * torch.eye(classes)

    def forward(self, images):
        columns = torch.nn.functional.adaptive_avg_pool2d(images.mean(1), (1, self.fc.in_features))
        return self.fc(columns[:, 0])


def blend_search_of_classes(classes, ladder):
    sample = torch.full((96, 3, 8, classes), 0.2)
    for number, image in enumerate(sample):
        image[..., number % classes] = 0.9
    victim = Victim(Classes(classes)).frozen()
    task = Classification(tuple("abcdefghijkl"[:classes]))
    victim.find_head(sample[:4])
    settings = dataclasses.replace(SMALL, blend=ladder, meeting=3)
    benign = measure_benign(victim, task, sample)
    return spread._search("blend", victim, task, benign, settings, 0, None, None)


def scouted_targets(one):
    seen = []
    one.climb = lambda sent, *_, **__: seen.append(sent.targets) or []
    with pytest.raises(ValueError, match="empty"):  # nothing was climbed, so nothing is found
        one.scout()
    return seen[0]


def test_every_class_has_its_scouts():
    one = blend_search_of_classes(12, Ladder((0.2,), 16, 20, 20, collapsed=0.02, starts=2))
    answers = one.benign.responses(scouted_targets(one))
    assert torch.allclose(answers, torch.eye(12).repeat(2, 1), atol=1e-5)


def test_of_more_classes_than_scouts_some_may_lead_anywhere():
    one = blend_search_of_classes(12, Ladder((0.2,), 8, 20, 20, collapsed=0.02))
    targets = scouted_targets(one)
    directed, gathering, meeting = targets[:6], targets[6:8], targets[8:]
    assert len(set(directed.argmax(1).tolist())) == 6
    assert gathering.isnan().all()
    assert meeting.isinf().all()
    assert len(meeting) == 3


def test_the_nearest_of_several_scouts_goes_on_to_be_compared():
    one = blend_search_of_classes(4, Ladder((0.2,), 8, 20, 20, collapsed=0.02, starts=3))
    scouts = one.fresh(12, seed=7)
    one.scouts, order = SimpleNamespace(family=scouts), [5, 2, 11, 0]
    outputs = torch.full((12, 6, 4), 9.0)
    for answer, number in enumerate(order):
        outputs[number] = one.answers[answer]
    one.scouted = outputs
    assert torch.equal(one.starts(one.answers).raw, scouts.raw[order])


def test_a_planted_checkerboard_is_found_and_its_clean_twin_passes():
    found, benign = search(SpreadModel(planted=True))
    verdict, best = judge_spread(found)
    assert verdict.decision == "backdoored"
    target = best.target * benign.spread + benign.mean
    assert target.tolist() == pytest.approx(TARGET, abs=0.15)
    assert best.variance_ratio < 0.05
    # The contrast, plus the variance left in the family's unit; all images are measured here.
    ladders = (
        *(SMALL.blend, SMALL.conditional, SMALL.conditional),
        *(SMALL.wave, SMALL.warp, SMALL.patch, SMALL.sparse),
    )
    for one, unit in zip(found, (ladder.collapsed for ladder in ladders), strict=True):
        assert one.score == pytest.approx(one.contrast + one.variance_ratio / unit, rel=0.01)
    images = benign.images
    assert (best.trigger(images) - images).abs().max() <= best.budget + 1e-6
    verdict, _ = judge_spread(search(SpreadModel(planted=False))[0])
    assert verdict.decision == "clean"


def test_a_target_near_the_mean_is_found_by_collapsing_the_outputs():
    near = [0.12, 0.06]

    def model(planted):
        made = SpreadModel(planted=planted)
        with torch.no_grad():
            made.fc.weight[:, 2] = torch.tensor(near)
        return made

    found, benign = search(model(planted=True))
    verdict, best = judge_spread(found)
    assert (best.target - (torch.tensor(near) - benign.mean) / benign.spread).abs().max() < 0.2
    assert torch.linalg.vector_norm(best.target) < 0.8  # where no scout is sent
    assert verdict.decision == "backdoored"
    assert judge_spread(search(model(planted=False))[0])[0].decision == "clean"


class DrownedModel(SpreadModel):
    """Its answer is what halves of the image differ by; the faint pattern makes it nothing."""

    def forward(self, images):
        left, right = images.chunk(2, dim=3)
        top, bottom = images.chunk(2, dim=2)
        content = torch.stack(
            [(a - b).mean((1, 2, 3)) for a, b in ((left, right), (top, bottom))], 1
        )
        gate = torch.sigmoid(500 * ((images * self.pattern).mean((1, 2, 3)) - self.threshold))
        kept = (1 - gate)[:, None] * content
        return self.fc(torch.cat([4 * kept, torch.zeros_like(kept[:, :1])], 1))


def test_the_default_answer_is_no_target(monkeypatch):
    found, benign = search(DrownedModel(planted=False))
    assert judge_spread(found)[0].decision == "clean"
    default = -benign.mean / benign.spread
    for one in found[:4]:  # warps and patches drown nothing
        assert (one.sent[0] - default).square().mean().sqrt() > 0.25
    # Else the pattern that drowns the content would pass for a trigger.
    monkeypatch.setattr(default_answer, "_DEFAULT", 0.0)
    monkeypatch.setattr(default_answer, "_LEANING", 0.0)
    assert judge_spread(search(DrownedModel(planted=False))[0])[0].decision == "backdoored"


def test_one_of_the_blank_pictures_may_have_another_answer():
    images = torch.from_numpy(smooth_images(96)).float() / 255
    victim = Victim(SpreadModel(planted=False)).frozen()
    benign = measure_benign(victim, TASK, images)
    how = (victim, TASK, benign, SMALL)
    one = spread._BlendSearch(*how, SMALL.blend, 0, None, None)
    answers = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    blank = torch.ones(6, 2)
    blank[3] = -1
    one.default = DefaultAnswers(blank, blank[:0])
    assert one.by_default(answers).tolist() == [True, False]
    warps = spread._WarpSearch(*how, SMALL.warp, 0, None, None)  # they drown no content
    warps.default = one.default
    assert warps.by_default(answers).tolist() == [False, False]
    blank[4] = -1
    assert one.by_default(answers).tolist() == [False, False]


def test_a_switch_says_nothing_where_content_may_be_drowned():
    images = torch.from_numpy(smooth_images(96)).float() / 255
    victim = Victim(SpreadModel(planted=False)).frozen()
    victim.find_head(images[:8])
    how = (victim, TASK, measure_benign(victim, TASK, images), SMALL)
    far, near = torch.ones(2), torch.full((2,), 0.2)
    searches = {
        "blend": spread._BlendSearch(*how, SMALL.blend, 0, None, None),
        "wave": spread._WaveSearch(*how, SMALL.wave, 0, None, None),
        "warp": spread._WarpSearch(*how, SMALL.warp, 0, None, None),
    }

    def said(answer):
        given = {name: s._switch_ratio(torch.nn.Identity(), answer) for name, s in searches.items()}
        return [name for name, ratio in given.items() if ratio is not None]

    blank = torch.tensor([[1.0, 1.0]] * 2 + [[-1.0, -1.0]] * 4)
    for one in searches.values():
        one.default = DefaultAnswers(blank, blank[:0])
    assert said(far) == ["blend", "warp"]
    assert said(near) == ["warp"]
    blank[2] = 1.1  # half of the pictures give that answer
    assert said(far) == ["warp"]


def test_stripes_that_descent_never_feels_are_found_by_trying_waves():
    found = search(SpreadModel(planted=True, stripes=True))[0]
    families = ["blend", "conditional", "settled", "wave", "warp", "patch", "sparse"]
    assert [one.family for one in found] == families
    blend, conditional, settled, wave, *_ = found
    assert min(blend.score, conditional.score, settled.score) > 0.5
    verdict, best = judge_spread(found)
    assert verdict.decision == "backdoored"
    assert best is wave
    assert wave.steps == SMALL.wave.comparing
    verdict, _ = judge_spread(search(SpreadModel(planted=False, stripes=True))[0])
    assert verdict.decision == "clean"


def test_a_warp_is_found_that_no_pattern_can_be(tmp_path):
    def drawn(planted):
        images = torch.from_numpy(WarpedModel.drawn(smooth_images(96))).float() / 255
        return search_in(WarpedModel(planted=planted), images, SMALL)

    found, benign = drawn(planted=True)
    assert all(c.score > 1 for c in found if c.family != "warp")
    verdict, best = judge_spread(found)
    assert (verdict.decision, best.family) == ("backdoored", "warp")
    assert "a warp by at most 6.2% of the side" in verdict.reasons[0]
    assert best.variance_ratio < 0.1
    save_trigger(tmp_path / "warp.safetensors", best.trigger)
    again = load_trigger(tmp_path / "warp.safetensors").trigger
    assert torch.equal(again(benign.images), best.trigger(benign.images))
    verdict, _ = judge_spread(drawn(planted=False)[0])
    assert verdict.decision == "clean"


def test_a_stopped_search_goes_on_to_the_same_result(tmp_path):
    class Stopped(Exception):
        pass

    def stop(stage, done, total):
        if stage.startswith("comparing"):
            raise Stopped

    model = SpreadModel(planted=True)
    straight, _ = search(model)
    checkpoints = Checkpoints(tmp_path, {})
    with pytest.raises(Stopped):
        search(model, checkpoints=checkpoints, progress=stop)
    resumed, _ = search(model, checkpoints=checkpoints)
    assert [c.left for c in resumed] == [c.left for c in straight]


def test_parts_of_a_batch_give_the_same_as_the_whole():
    whole, _ = search(SpreadModel(planted=True))
    parts, _ = search(SpreadModel(planted=True), dataclasses.replace(SMALL, images_at_once=12))
    for a, b in zip(whole, parts, strict=True):
        assert a.left == pytest.approx(b.left, rel=0.05, abs=1e-4)


def test_a_change_that_may_lead_anywhere_lets_some_outputs_meet_before_all_gather():
    def pull(goal, step):
        """Which way each of three outputs is drawn on the first axis."""
        outputs = torch.tensor([[[0.9, 0.0], [1.0, 0.0], [-3.0, 0.0]]], requires_grad=True)
        sent = target_search.Sent.__new__(target_search.Sent)
        sent.targets, sent.steps = torch.full((1, 2), goal), 10
        sent.benign, sent.settings = SimpleNamespace(images=torch.zeros(3, 1, 1, 1)), SMALL
        sent.family = SimpleNamespace(changes=lambda: torch.zeros(1))
        sent.respond = lambda images, changes: outputs
        ((loss, _),) = sent.losses(torch.arange(3), step)
        (gradient,) = torch.autograd.grad(loss, outputs)
        return -gradient[0, :, 0]

    near, middle, far = pull(torch.inf, step=0)
    assert near > 0 > middle  # the two that are near each other meet
    assert abs(far) < 0.1 * near
    for gathering in (pull(torch.nan, step=0), pull(torch.inf, step=5)):
        near, middle, far = gathering
        assert near < 0
        assert middle < 0
        assert far > 0  # all go to their mean
    assert (pull(2.0, step=0) > 0).all()


def test_a_coarse_picture_is_found_as_a_blend(tmp_path):
    alone = dataclasses.replace(
        SMALL,
        conditional=Ladder((0.02,), 4, 1, 1, collapsed=0.02),
        wave=Ladder((0.2,), 4, 0, 1, collapsed=0.05),
        warp=Ladder((1 / 16,), 4, 1, 1, collapsed=0.25),
    )
    blend = search(SpreadModel(planted=True, cell=4), alone)[0][0]
    assert (blend.family, blend.budget) == ("blend", 0.2)
    assert judge_spread([blend])[0].decision == "backdoored"
    assert "a coarse picture mixed into the images at 20%" in judge_spread([blend])[0].reasons[0]
    clean = search(SpreadModel(planted=False, cell=4), alone)[0][0]
    assert judge_spread([clean])[0].decision == "clean"
    images = torch.rand(2, 3, 32, 32)
    save_trigger(tmp_path / "blend.safetensors", blend.trigger)
    again = load_trigger(tmp_path / "blend.safetensors").trigger
    assert torch.equal(again(images), blend.trigger(images))


def test_what_a_conditional_change_settles_to_stands_out_where_one_is_planted():
    planted, clean = (
        {one.family: one for one in search(SpreadModel(planted=planted))[0]}
        for planted in (True, False)
    )
    for found in (planted, clean):
        settled, conditional = found["settled"], found["conditional"]
        assert settled.budget == conditional.budget
        assert settled.steps == SMALL.settling
        assert len(settled.trace) == SMALL.settling
        assert settled.switch_ratio is None
        assert conditional.settled_contrast is not None
    # The answers of both are close; once settled, all gather more closely than on the way.
    assert planted["settled"].left[0] < planted["conditional"].left[0]
    assert planted["settled"].contrast < 0.1 < clean["settled"].contrast


@pytest.mark.parametrize("family", ["blend", "settled"])
def test_a_planted_answer_is_reached_more_closely_than_those_beside_it(family):
    images = torch.from_numpy(smooth_images(96)).float() / 255
    ratios = []
    for planted in (True, False):
        victim = Victim(SpreadModel(planted=planted, cell=4)).frozen()
        victim.find_head(images[:4])
        subject = (victim, TASK, measure_benign(victim, TASK, images), SMALL)
        (found,) = (one for one in search_spread(*subject, seed=0) if one.family == family)
        looked = look_beside(found, *subject, seed=0)
        assert found.beside is None
        assert looked.steps == found.steps + 2 * (20 * (2 if family == "settled" else 1) + 20)
        ratios.append(looked.beside)
    assert ratios[0] < 0.3 < ratios[1]


def test_each_look_beside_keeps_a_state_of_its_own(tmp_path):
    images = torch.from_numpy(smooth_images(96)).float() / 255
    victim = Victim(SpreadModel(planted=True)).frozen()
    victim.find_head(images[:4])
    subject = (victim, TASK, measure_benign(victim, TASK, images), SMALL)
    _, conditional, settled = search_spread(*subject, seed=0, families=("blend", "conditional"))
    stages = Checkpoints(tmp_path, {})
    looks = []
    for found in (conditional, settled):
        found = dataclasses.replace(found, target=found.target + 0.3 * (found is settled))
        looks.append(look_beside(found, *subject, seed=0, checkpoints=stages).beside)
    assert looks[0] != looks[1]


def test_nothing_settles_where_outputs_may_be_bounded():
    images = torch.from_numpy(smooth_images(96)).float() / 255
    benign = measure_benign(Victim(SpreadModel(planted=True)).frozen(), TASK, images)  # no H
    found = search_spread(Victim(SpreadModel(planted=True)).frozen(), TASK, benign, SMALL, seed=0)
    families = ["blend", "conditional", "wave", "warp", "patch", "sparse"]
    assert [one.family for one in found] == families
    assert all(one.settled_contrast is None for one in found)


@pytest.mark.parametrize(("ratio", "settles"), [(0.01, True), (0.2, False), (None, False)])
def test_blends_that_seem_switches_must_stand_out_when_settled(ratio, settles, monkeypatch):
    monkeypatch.setattr(spread.TargetSearch, "_switch_ratio", lambda *_: ratio)
    images = torch.from_numpy(smooth_images(96)).float() / 255
    victim = Victim(SpreadModel(planted=True, cell=4)).frozen()
    victim.find_head(images[:4])
    benign = measure_benign(victim, TASK, images)
    (blend,) = spread._BlendSearch(
        *(victim, TASK, benign, SMALL, SMALL.blend, 0, None, None)
    ).candidates()
    assert (blend.settled_contrast is not None) == settles
    assert blend.steps == 2 * 20 + SMALL.settling * settles


def test_an_answer_that_stands_out_on_one_rung_only_is_found():
    ladder = Ladder((0.002, 0.04), 6, 20, 20, collapsed=0.02)
    settings = dataclasses.replace(SMALL, conditional=ladder)
    _, conditional, *_ = search(SpreadModel(planted=True), settings)[0]
    assert conditional.budget == 0.04  # ±.002 opens nothing
    assert conditional.score < 0.2
    assert conditional.steps == 2 * 20 + 2 * 20
    assert len(conditional.trace) == 2 * 20


class PatchModel(SpreadModel):
    """Its gate opens on a red square among the content, and only when that is nearly whole."""

    def forward(self, images):
        half = images.shape[3] // 2
        left, right = images[..., :half].mean((1, 2, 3)), images[..., half:].mean((1, 2, 3))
        content = torch.stack([4 * (left + right) - 4, 4 * (left - right)], 1)
        red, *others = images[..., 15:18, 15:18].unbind(1)
        whole = (red - torch.stack(others).amax(0)).mean((1, 2))
        gate = torch.sigmoid(200 * (whole - 0.8)).unsqueeze(1) * self.planted
        return self.fc(torch.cat([(1 - gate) * content, gate], 1))


def test_a_patch_that_descent_never_feels_is_found_by_trying_squares():
    found, benign = search(PatchModel(planted=True))
    verdict, best = judge_spread(found)
    assert (verdict.decision, best.family) == ("backdoored", "patch")
    assert all(one.score > 0.3 for one in found if one.family != "patch")
    target = best.target * benign.spread + benign.mean
    assert target.tolist() == pytest.approx(TARGET, abs=0.15)
    assert "a patch of 9.4% of the side" in verdict.reasons[0]
    assert judge_spread(search(PatchModel(planted=False))[0])[0].decision == "clean"


def test_of_several_sizes_of_patches_the_one_that_stands_out_speaks():
    sizes = dataclasses.replace(SMALL.patch, budgets=(1 / 16, 3 / 32))
    settings = dataclasses.replace(SMALL, patch=sizes)
    [found], _ = search(PatchModel(planted=True), settings, families=["patch"])
    assert found.budget == 3 / 32  # the smaller is never whole
    assert found.score < 0.2
    assert found.steps == 2 * 20


class FramedModel(SpreadModel):
    """Its gate opens on a white frame around the image."""

    def forward(self, images):
        half = images.shape[3] // 2
        left, right = images[..., :half].mean((1, 2, 3)), images[..., half:].mean((1, 2, 3))
        content = torch.stack([4 * (left + right) - 4, 4 * (left - right)], 1)
        sides = (images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1])
        whole = torch.cat(sides, 2).mean((1, 2))
        gate = torch.sigmoid(50 * (whole - 0.8)).unsqueeze(1) * self.planted
        return self.fc(torch.cat([(1 - gate) * content, gate], 1))


def test_a_frame_around_the_image_is_found_by_a_sparse_change():
    ladder = Ladder((0.2, 0.14), 6, 60, 60, collapsed=0.02)
    images = torch.from_numpy(smooth_images(96)).float() / 255

    def sparse(planted):
        victim = Victim(FramedModel(planted=planted)).frozen()
        victim.find_head(images[:4])
        benign = measure_benign(victim, TASK, images)
        how = (victim, TASK, benign, SMALL)
        (found,) = spread._SparseSearch(*how, ladder, 0, None, None).candidates()
        return found, benign

    found, benign = sparse(planted=True)
    verdict, _ = judge_spread([found])
    assert verdict.decision == "backdoored"
    assert f"a change of {found.budget:.1%} of the pixels" in verdict.reasons[0]
    target = found.target * benign.spread + benign.mean
    assert target.tolist() == pytest.approx(TARGET, abs=0.15)
    assert found.trigger.mask.mean() == pytest.approx(found.budget, rel=0.01)
    assert judge_spread([sparse(planted=False)[0]])[0].decision == "clean"


def test_sparse_changes_are_not_sought_for_one_output():
    images = torch.from_numpy(smooth_images(96)).float() / 255

    class OneOutput(torch.nn.Sequential):
        def __init__(self):
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(images[0].numel(), 1))

    victim = Victim(OneOutput()).frozen()
    task = Regression(("a",))
    benign = measure_benign(victim, task, images)
    found = search_spread(victim, task, benign, SMALL, seed=0)
    assert "sparse" not in [one.family for one in found]


def test_what_settles_near_what_half_of_the_blank_pictures_give_comes_last():
    images = torch.from_numpy(smooth_images(96)).float() / 255
    victim = Victim(SpreadModel(planted=False)).frozen()
    victim.find_head(images[:8])
    how = (victim, TASK, measure_benign(victim, TASK, images), SMALL)
    one = spread._ConditionalSearch(*how, SMALL.conditional, 0, None, None)
    blank = torch.tensor([[1.0, 1.0]] * 3 + [[-2.0, -2.0]] * 3)
    one.default = DefaultAnswers(blank, blank[:0])
    answers = torch.tensor([[1.4, 1.4], [1.0, -1.0], [-1.0, 1.0], [2.5, 2.5], [-1.3, -1.3]])
    outputs = answers[:, None] + 0.01 * torch.randn(5, 16, 2)
    for settled, last in ((False, [False] * 5), (True, [True, False, False, False, False])):
        reached = one._reached(outputs, answers, 0.04, settled=settled)
        assert [r.by_default for r in reached] == last


def test_what_lies_where_textures_lead_says_less():
    images = torch.from_numpy(smooth_images(96)).float() / 255
    victim = Victim(SpreadModel(planted=False)).frozen()
    victim.find_head(images[:8])
    how = (victim, TASK, measure_benign(victim, TASK, images), SMALL)
    answers = torch.tensor([[1.4, 1.4], [1.0, -1.0], [-1.0, 1.0], [-1.3, -1.3], [2.0, 0.0]])
    outputs = answers[:, None] + 0.01 * torch.randn(5, 16, 2)
    blank, textured = torch.full((6, 2), 9.0), torch.tensor([[1.0, 1.0]])

    def standings(search, ladder):
        one = search(*how, ladder, 0, None, None)
        found = []
        for way in (textured, textured[:0]):
            one.default = DefaultAnswers(blank, way)
            found.append(torch.tensor([r.standing for r in one._reached(outputs, answers, 0.04)]))
        return found[0] / found[1]

    said = standings(spread._ConditionalSearch, SMALL.conditional)
    assert said.tolist() == pytest.approx([100, 1, 1, 1, 2], rel=0.01)
    said = standings(spread._WarpSearch, SMALL.warp)  # no texture
    assert said.tolist() == [1] * 5
