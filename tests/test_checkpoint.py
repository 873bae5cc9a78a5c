import pytest
import torch

from drmguard.atomic import write_atomically, write_text
from drmguard.checkpoint import Checkpoint, Checkpoints
from drmguard.errors import InputError


def test_a_state_comes_back(tmp_path):
    checkpoint = Checkpoint(tmp_path / "a.checkpoint", {"seed": 1})
    assert checkpoint.load() is None
    checkpoint.save({"step": 3, "weights": torch.arange(3)})
    state = checkpoint.load()
    assert state["step"] == 3
    assert state["weights"].tolist() == [0, 1, 2]


def test_other_settings_are_refused(tmp_path):
    Checkpoint(tmp_path / "a.checkpoint", {"seed": 1}).save({"step": 3})
    with pytest.raises(InputError, match="other settings"):
        Checkpoint(tmp_path / "a.checkpoint", {"seed": 2}).load()


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "a.checkpoint"
    Checkpoint(path, {}).save({"step": 3})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        Checkpoint(path, {}).load()


def test_stages_are_removed_together(tmp_path):
    stages = Checkpoints(tmp_path / "state", {})
    stages.stage("one two").save({"step": 1})
    stages.remove()
    assert not (tmp_path / "state").exists()


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.json"
    write_text(path, "old")

    def interrupted(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupted)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
