import pytest
import torch
from torch import nn

from drmguard import checkpoint as checkpoint_module
from drmguard.checkpoint import Checkpoint
from drmguard.errors import InputError
from drmguard.search.loop import optimise
from drmguard.training import batch_rows


class Parabola:
    """Minimises (p − mean of the chosen numbers)²."""

    def __init__(self, patience=0, broken=False):
        self.trainable = nn.ParameterDict({"p": nn.Parameter(torch.zeros(()))})
        self.numbers = torch.linspace(1, 5, 40)
        self.patience, self.broken = patience, broken

    def parameter_groups(self):
        return [{"params": list(self.trainable.parameters()), "lr": 0.3}]

    def rate(self, step):
        return 1 / (1 + step / 20)

    def after_step(self):
        pass

    def settled(self, trace):
        return bool(self.patience) and trace[-1]["loss"] < 0.01

    def losses(self, rows, step):
        loss = (self.trainable["p"] - self.numbers[rows].mean()).square()
        yield loss * (float("nan") if self.broken else 1), {"loss": loss.item()}


def run(objective, steps=60, **more):
    return optimise(objective, victim=None, count=40, batch_size=8, steps=steps, seed=1, **more)


def test_it_finds_the_minimum_and_traces_every_step():
    objective = Parabola()
    result = run(objective, steps=200)
    assert objective.trainable["p"].item() == pytest.approx(3.0, abs=0.2)
    assert len(result.trace) == result.steps == 200


def test_it_stops_once_settled():
    assert run(Parabola(patience=1), steps=200).steps < 200


def test_stopped_and_resumed_is_the_same_as_straight(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "SECONDS_BETWEEN", 0.0)
    straight = Parabola()
    run(straight)

    class Killed(Exception):
        pass

    def kill(_, done, total):
        if done == 23:
            raise Killed

    path = tmp_path / "a.checkpoint"
    with pytest.raises(Killed):
        run(Parabola(), checkpoint=Checkpoint(path, {}), progress=kill)
    resumed = Parabola()
    result = run(resumed, checkpoint=Checkpoint(path, {}))
    assert result.steps == 60
    assert torch.equal(resumed.trainable["p"], straight.trainable["p"])
    # A finished stage is not run again.
    again = Parabola()
    assert run(again, checkpoint=Checkpoint(path, {})).steps == 60
    assert torch.equal(again.trainable["p"], straight.trainable["p"])


def test_a_run_after_another_goes_on_with_its_optimiser():
    def end(*parts, kept):
        objective, before = Parabola(), None
        objective.rate = lambda step: 1.0
        for steps in parts:
            whole = {"victim": None, "count": 40, "batch_size": 40, "steps": steps, "seed": 1}
            before = optimise(objective, **whole, after=before if kept else None)
        return objective.trainable["p"].item()

    straight = end(20, kept=True)
    assert end(8, 12, kept=True) == pytest.approx(straight, abs=1e-5)
    assert end(8, 12, kept=False) != pytest.approx(straight, abs=1e-3)


def test_a_loss_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match="not finite at step 1"):
        run(Parabola(broken=True))


def test_batches_cover_an_epoch_and_depend_on_seed_and_step_only():
    rows = [batch_rows(40, 8, step, seed=2) for step in range(5)]
    assert sorted(int(r) for batch in rows for r in batch) == list(range(40))
    assert (batch_rows(40, 8, 7, seed=2) == batch_rows(40, 8, 7, seed=2)).all()
    assert len(batch_rows(5, 8, 3, seed=0)) == 5
