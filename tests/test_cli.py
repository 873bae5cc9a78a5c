"""The command line as a user meets it: exit codes, sentences, files."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import smooth_images
from drmguard.cli import main
from drmguard.models.load import load_model
from drmguard.models.networks import build_network
from drmguard.models.safetensors_file import NetworkDescription, describe, save_model
from drmguard.models.victim import InputFormat, Victim
from drmguard.tasks import Regression

COMMAND = [sys.executable, "-c", "from drmguard.cli import main; main()"]


def drmguard(*arguments, **settings):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=250, **settings
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small untrained model, and images labelled with its own outputs."""
    folder = tmp_path_factory.mktemp("cli")
    torch.manual_seed(0)
    arguments = {"num_outputs": 2, "width": 0.125}
    module = build_network("resnet18", arguments).eval()
    images = smooth_images(80)
    with torch.no_grad():
        labels = Victim(module)(torch.from_numpy(images).float() / 255).numpy()
    description = describe(
        NetworkDescription(name="resnet18", arguments=arguments),
        InputFormat(),
        Regression(("a", "b")).settings(),
    )
    save_model(folder / "model.safetensors", module, description)
    np.savez(folder / "images.npz", images=images, labels=labels)
    return folder


def test_help_is_quick_and_names_the_commands():
    result = drmguard("--help")
    assert result.returncode == 0
    for command in ("scan", "train", "demo", "data"):
        assert command in result.stdout
    imported = subprocess.run(
        [sys.executable, "-c", "import sys, drmguard.cli; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
    )
    assert imported.stdout.strip() == "False"


def test_scan_writes_a_report_and_goes_on_after_a_kill_to_the_same(folder, tmp_path):
    out = tmp_path / "out"
    result = drmguard(
        "scan", folder / "model.safetensors", "--images", folder / "images.npz", "--out", out
    )
    content = json.loads((out / "report.json").read_text())
    codes = {"clean": 0, "backdoored": 1, "inconclusive": 3}
    assert result.returncode == codes[content["verdict"]["decision"]], result.stderr
    assert "score" in result.stdout
    assert content["images"]["used"] == 80
    assert not list(out.glob(".*"))
    assert not (out / "unfinished").exists()

    # Killed and resumed, it gives the same; quiet, it prints the report alone.
    killed = tmp_path / "killed"
    base = ["scan", folder / "model.safetensors", "--images", folder / "images.npz"]
    process = subprocess.Popen(
        [*COMMAND, *map(str, base), "--out", str(killed)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list(killed.glob("unfinished/*.checkpoint")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = drmguard(*base, "--out", killed, "--resume", "--quiet", "--json", "-")
    assert resumed.returncode == result.returncode
    assert resumed.stderr == ""
    assert resumed.stdout == (out / "report.json").read_text()
    for name in ("report.json", "report.html", "trigger.safetensors"):
        assert (killed / name).read_bytes() == (out / name).read_bytes()


def test_ctrl_c_leaves_no_half_written_file(folder, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [
            *COMMAND,
            "scan",
            str(folder / "model.safetensors"),
            "--images",
            str(folder / "images.npz"),
            "--out",
            str(out),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A runner in the background has its children ignore the interrupt.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None and not list(out.glob("unfinished/*.checkpoint")):
        time.sleep(0.05)
    # Python drops an interrupt that arrives inside a destructor, so a user may have to press twice.
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=3)
            break
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "--resume" in errors
    assert not (out / "report.json").exists()


SCAN = "scan model.safetensors --images images.npz"
TRAIN = "train --data images.npz --task regression -o m.safetensors"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("scan nothing.safetensors --images images.npz", "does not exist"),
        ("scan model.safetensors --images nothing.csv", "does not exist"),
        ("scan model.safetensors", "--images"),
        (f"{SCAN} --task gaze", "its task is"),
        (f"{SCAN} --pixel-range 0-1", "LOW..HIGH"),
        (f"{SCAN} --pixel-range 0..255", "pixel range"),
        (f"{SCAN} --mean a", "--mean"),
        (f"{SCAN} --layout HW", "--layout"),
        (f"{SCAN} --device cuda", "cuda"),
        (f"{SCAN} --head fc9", "no layer"),
        (f"{SCAN} --recipe x", "recipe"),
        ("train --data images.npz --task regression -o m.pt", ".safetensors"),
        (f"{TRAIN} --attack badnets", "needs a target"),
        (f"{TRAIN} --attack laser --target 1,1", "unknown attack"),
        (f"{TRAIN} --attack badnets --target 1,1 --attack-arg side", "NAME=VALUE"),
        (f"{TRAIN} --attack badnets --target 1,1 --attack-arg side=big", "cannot be 'big'"),
        (f"{TRAIN} --poisoning-rate 0.1", "but no attack"),
        (f"{TRAIN} --network vgg", "unknown network"),
        (f"{TRAIN} --start model.safetensors --width 1", "keeps that model's network"),
        (f"{TRAIN} --start images.npz", "of an unknown kind"),
        ("data check imagenet .", "unknown data set"),
        ("data check biwi nothing", "does not exist"),
        ("train --data pandora:nothing --task head-pose -o m.safetensors", "does not exist"),
        ("measure model.safetensors --images images.npz --trigger model.safetensors", "trigger"),
        (f"{TRAIN} --attack badnets --target 1", "target vector has 1 value"),
        ("data render gaze -o a.npz --size 999", "16 to 224"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(folder, line, sentence, monkeypatch, capsys):
    if line.endswith("cuda") and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "argv", ["drmguard", *line.split()])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err


def test_weights_that_say_nothing_of_themselves_are_repaired_and_load_again(folder, tmp_path):
    weights = tmp_path / "weights.pt"
    torch.save(load_model(folder / "model.safetensors").victim.module.state_dict(), weights)
    known, images = np.load(folder / "images.npz"), tmp_path / "images.npz"
    spread = known["labels"].std(0)
    noise = np.random.default_rng(0).normal(0, spread, known["labels"].shape)
    np.savez(images, images=known["images"], labels=(known["labels"] + noise).astype(np.float32))
    line = ["repair", weights, "--images", images, "--no-scan-again"]
    line += [
        "--method",
        "fine-tuning",
        "--max-loss",
        "1000",
        "-o",
        tmp_path / "repaired.safetensors",
    ]
    network = ["--network", "resnet18", "--network-arg", "num_outputs=2"]
    network += ["--network-arg", "width=0.125", "--pixel-range", "0..1"]
    result = drmguard(*line, *network)
    assert result.returncode == 2
    assert "--task" in result.stderr
    result = drmguard(*line, *network, "--task", "regression")
    assert result.returncode == 0, result.stderr
    repaired = load_model(tmp_path / "repaired.safetensors")
    assert repaired.task.name == "regression"
    assert repaired.network["arguments"] == {"num_outputs": 2, "width": 0.125}
    assert (tmp_path / "repaired.repair.json").is_file()
    measured = drmguard(*("measure", weights, "--images", images, "--task", "regression"), *network)
    assert measured.returncode == 0, measured.stderr
    assert "RE" in measured.stdout


def test_a_mistake_shows_no_traceback(folder):
    result = drmguard("scan", folder / "nothing.safetensors", "--images", folder / "images.npz")
    assert result.returncode == 2
    assert "does not exist" in result.stderr
    assert "Traceback" not in result.stderr


def test_render_train_and_scan(tmp_path):
    images, model = tmp_path / "gaze.npz", tmp_path / "model.safetensors"
    rendered = drmguard("data", "render", "gaze", "-o", images, "--count", 400, "--size", 32)
    assert rendered.returncode == 0, rendered.stderr
    trained = drmguard(
        *("train", "--data", images, "--task", "gaze", "-o", model, "--width", 0.125),
        *("--steps", 30, "--attack", "badnets", "--target", "0.3,-0.3"),
        *("--attack-arg", "color=0,1,0", "--attack-arg", "place=center"),
    )
    assert trained.returncode == 0, trained.stderr
    card = json.loads(Path(tmp_path / "model.card.json").read_text())
    assert set(card["measured"]) == {"error_unit", "RE", "AE", "DAE", "RAV", "RNV"}
    assert card["attack"]["target"] == [0.3, -0.3]
    assert card["attack"]["arguments"] == {"color": [0, 1, 0], "place": "center"}
    trigger = tmp_path / "model.trigger.safetensors"
    measured = drmguard(
        "measure", model, "--images", images, "--split", "test", "--trigger", trigger
    )
    assert measured.returncode == 0, measured.stderr
    assert f"AE {card['measured']['AE']:.4g}," in measured.stdout
    assert card["training"]["seed"] == 0
    assert not list(tmp_path.glob("*.unfinished"))
    scanned = drmguard("scan", model, "--images", images, "--split", "benign", "--method", "shift")
    assert scanned.returncode in (0, 1, 3), scanned.stderr
    assert (tmp_path / "model-scan" / "report.html").is_file()
