"""The published data sets in exactly the layouts in which they come, small, good and broken."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from drmguard.data.biwi import euler_angles
from drmguard.data.open_images import open_images
from drmguard.data.presets import PRESETS, describe_preset, read_preset
from drmguard.errors import InputError
from drmguard.training import TrainingSettings

h5py = pytest.importorskip("h5py")
RANDOM = np.random.default_rng(0)


def pixels(*shape):
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.mark.parametrize("name", PRESETS)
def test_training_settings_of_the_papers_are_ours(name):
    TrainingSettings(**PRESETS[name].training)


@pytest.fixture
def mpii(tmp_path):
    for person in (0, 3):
        with h5py.File(tmp_path / f"p{person:02}.mat", "w") as file:
            images = np.zeros((5, 3, 448, 448), np.float32)
            images[:, 0] = 200  # blue comes first in the release
            labels = np.tile(np.arange(16, dtype=np.float64) / 10 + person, (5, 1))
            file["Data/data"], file["Data/label"] = images, labels
    return tmp_path


def test_mpii_face_gaze(mpii):
    images = open_images(f"mpiifacegaze:{mpii}")
    assert images.images.shape == (10, 3, 224, 224)
    assert (images.images[:, 2] == 200).all()
    assert (images.images[:, :2] == 0).all()
    assert images.labels[0].tolist() == pytest.approx([0, 0.1])
    assert images.labels[9].tolist() == pytest.approx([3, 3.1])
    assert images.groups.tolist() == [0] * 5 + [1] * 5
    lines = describe_preset("mpiifacegaze", images)
    assert "missing: 44,990 of the release's 45,000 images" in lines
    assert "missing: 13 of 15 people" in lines


def spoil_mpii(folder, how):
    with h5py.File(folder / "p03.mat", "r+") as file:
        if how == "labels":
            del file["Data/label"]
        elif how == "shape":
            del file["Data/data"]
            file["Data/data"] = np.zeros((5, 448, 448, 3))
        elif how == "range":
            file["Data/data"][...] = 0.5
    if how == "not hdf5":
        (folder / "p03.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    if how == "truncated":
        content = (folder / "p03.mat").read_bytes()
        (folder / "p03.mat").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("labels", "p03.mat: no array 'Data/label'"),
        ("shape", "do not fit"),
        ("range", "not from 0 to 255"),
        ("not hdf5", "not an HDF5"),
        ("truncated", "damaged"),
    ],
)
def test_broken_mpii(mpii, how, sentence):
    spoil_mpii(mpii, how)
    with pytest.raises(InputError, match=sentence):
        open_images(f"mpiifacegaze:{mpii}")


@pytest.fixture
def columbia(tmp_path):
    for person, vertical, horizontal in ((1, -10, 15), (2, 10, -5)):
        name = f"{person:04}_2m_0P_{vertical}V_{horizontal}H.jpg"
        save(tmp_path / f"{person:04}" / name, pixels(60, 50, 3))
    (tmp_path / "readme.txt").write_text("not an image")
    return tmp_path


def test_columbia_gaze(columbia):
    images = open_images(f"columbiagaze:{columbia}", resize=(40, 40))
    assert images.image_shape == (3, 40, 40)
    assert np.rad2deg(images.labels).tolist() == pytest.approx(np.array([[-10, 15], [10, -5]]))
    assert images.groups.tolist() == [1, 2]


def test_columbia_boxes(columbia):
    names = sorted(f.relative_to(columbia).as_posix() for f in columbia.rglob("*.jpg"))
    lines = ["path,left,top,right,bottom", *(f"{name},10,10,30,40" for name in names)]
    (columbia / "faces.csv").write_text("\n".join(lines))
    whole = np.asarray(Image.open(columbia / names[0]))
    images = open_images(f"columbiagaze:{columbia}", resize=(30, 20))
    assert np.array_equal(images.images[0], whole[10:40, 10:30].transpose(2, 0, 1))
    (columbia / "faces.csv").write_text("\n".join(lines[:2]))
    with pytest.raises(InputError, match="no box for 0002"):
        open_images(f"columbiagaze:{columbia}")
    (columbia / "faces.csv").write_text("path,left\n")
    with pytest.raises(InputError, match="the columns must be"):
        open_images(f"columbiagaze:{columbia}")


def test_a_whole_columbia_photograph_is_refused(columbia):
    save(columbia / "0001" / "0001_2m_-15P_0V_0H.jpg", pixels(20, 2100, 3))
    with pytest.raises(InputError, match="whole photograph"):
        open_images(f"columbiagaze:{columbia}")


CALIBRATION = """500 0 320
0 500 240
0 0 1

0 0 0 0

1 0 0
0 1 0
0 0 1

0 0 0

640 480
"""


def write_pose(path, rotation, center):
    rows = [" ".join(f"{v:.6f}" for v in row) + " " for row in rotation]
    path.write_text("\n".join([*rows, "", " ".join(str(v) for v in center), ""]))


@pytest.fixture
def biwi(tmp_path):
    folder = tmp_path / "hpdb" / "01"
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[190:290, 370:470, 1] = 255  # the head, centred on column 420, row 240
    save(folder / "frame_00003_rgb.png", frame)
    write_pose(folder / "frame_00003_pose.txt", np.eye(3), (200.0, 0.0, 1000.0))
    (folder / "rgb.cal").write_text(CALIBRATION)
    return tmp_path / "hpdb"


def test_biwi_is_cut_around_the_head(biwi):
    images = open_images(f"biwi:{biwi}")
    assert images.image_shape == (3, 112, 112)
    green = images.images[0, 1] > 128
    assert abs(np.flatnonzero(green.any(0)).mean() - 55.5) < 1.5
    assert abs(np.flatnonzero(green.any(1)).mean() - 55.5) < 1.5
    assert 0.4 < green.mean() < 0.6
    assert images.labels[0].tolist() == pytest.approx([0, 0, 0])


def test_biwi_angles():
    def about(axis, degrees):
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        a, b = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
        turn = np.eye(3)
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        return turn

    for place, axis in enumerate("yxz"):
        angles = euler_angles(about(axis, 20.0))
        assert [abs(value) for value in angles] == pytest.approx(
            [20.0 if k == place else 0.0 for k in range(3)], abs=1e-9
        )


def test_cropped_biwi(biwi, tmp_path):
    crop = tmp_path / "crops" / "02"
    save(crop / "frame_00010_rgb.png", pixels(90, 80, 3))
    write_pose(crop / "frame_00010_pose.txt", np.eye(3), (0, 0, 900.0))
    assert len(open_images(f"biwi:{tmp_path / 'crops'}")) == 1
    image, pose = pixels(4, 64, 64, 3), np.array([[10.0, -5, 3]] * 4)
    np.savez(tmp_path / "BIWI_train.npz", image=image, pose=pose, img_size=64)
    images = open_images(f"biwi:{tmp_path / 'BIWI_train.npz'}", resize=(64, 64))
    assert np.array_equal(images.images[1, 0], image[1, :, :, 2])
    assert images.labels.tolist() == pose.tolist()
    assert open_images(f"biwi:{tmp_path / 'BIWI_train.npz'}").image_shape == (3, 112, 112)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("frame_00003_pose.txt", None, "no pose file frame_00003_pose.txt"),
        ("frame_00003_pose.txt", "1 0 0", "3 numbers where 12 are needed"),
        ("frame_00003_pose.txt", "one two", "not numbers"),
        ("rgb.cal", None, "no rgb.cal"),
        ("frame_00003_rgb.png", "no image", "not a readable image"),
    ],
)
def test_broken_biwi(biwi, name, text, sentence):
    path = biwi / "01" / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        open_images(f"biwi:{biwi}")


@pytest.fixture
def pandora(tmp_path):
    for person, sequence in (("01", "base_1_ID01"), ("02", "free_1_ID02")):
        folder = tmp_path / person / sequence
        frames = [
            {
                "frame_num": number,
                "orientation": {"euler": {"yaw": 10.0 * number, "pitch": -2.0, "roll": 1.5}},
                "jointsRGB": [],
            }
            for number in (1, 2, 7)
        ]
        (folder / "faces").mkdir(parents=True)
        (folder / "data.json").write_text(json.dumps(frames))
        save(folder / "faces" / "000001.png", pixels(50, 40, 3))
        save(folder / "faces" / "000007_RGB.png", pixels(45, 40, 3))
    return tmp_path


def test_pandora(pandora):
    images = open_images(f"pandora:{pandora}")
    assert images.image_shape == (3, 112, 112)
    assert images.labels[:2].tolist() == [[10.0, -2.0, 1.5], [70.0, -2.0, 1.5]]
    assert images.groups.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "not readable JSON"), ('[{"frame_num": 1}]', "entry 0 has no frame_num")],
)
def test_broken_pandora(pandora, text, sentence):
    (pandora / "01" / "base_1_ID01" / "data.json").write_text(text)
    with pytest.raises(InputError, match=sentence):
        open_images(f"pandora:{pandora}")


def cifar_files(labels_key, names_key, meta, batches, classes, extra):
    """Files of both versions, with the same two images a batch."""
    python, binary, expected = {}, {}, []
    for batch in batches:
        data = pixels(2, 3072)
        labels = [1, classes - 1]
        content = {
            b"data": data,
            labels_key: labels,
            b"batch_label": b"x",
            b"filenames": [b"a.png"],
        }
        python[batch] = pickle.dumps(content, protocol=2)
        coarse = [[0]] * 2 if extra == 2 else [[]] * 2
        records = [
            bytes([*c, label]) + row.tobytes()
            for c, label, row in zip(coarse, labels, data, strict=True)
        ]
        binary[f"{batch}.bin"] = b"".join(records)
        expected.append(data.reshape(2, 3, 32, 32))
    names = [f"class{k}".encode() for k in range(classes)]
    python[meta] = pickle.dumps({names_key: names}, protocol=2)
    text = "fine_label_names.txt" if extra == 2 else f"{meta}.txt"
    binary[text] = b"\n".join(names) + b"\n"
    return python, binary, np.concatenate(expected)


CIFAR = {
    "cifar10": (
        *(b"labels", b"label_names", "batches.meta"),
        [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"],
        *(10, 1),
    ),
    "cifar100": (b"fine_labels", b"fine_label_names", "meta", ["train", "test"], 100, 2),
}


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("packed", [False, True])
def test_cifar(tmp_path, name, version, packed):
    python, binary, expected = cifar_files(*CIFAR[name])
    files = python if version == "python" else binary
    if packed:
        path = tmp_path / "cifar.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for file, content in files.items():
                member = tarfile.TarInfo(f"cifar/{file}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    else:
        path = tmp_path
        for file, content in files.items():
            (path / file).write_bytes(content)
    images = open_images(f"{name}:{path}")
    assert np.array_equal(images.images, expected)
    classes = CIFAR[name][4]
    assert images.labels[:2, 0].tolist() == [1, classes - 1]
    assert images.classes[1] == "class1"
    assert len(images.classes) == classes
    assert any("classes: 2 of" in line for line in describe_preset(name, images))


class Exploit:
    def __reduce__(self):
        return (eval, ("__import__('pathlib').Path('pwned').touch()",))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (pickle.dumps({b"data": Exploit(), b"labels": [1]}), "names builtins.eval"),
        (pickle.dumps({b"data": pixels(2, 3072), b"labels": [1]}), "no list of 2 labels"),
        (pickle.dumps({b"data": [1, 2], b"labels": [1]}), "not uint8"),
        (pickle.dumps([1, 2]), "holds list"),
        (b"\x80\x02}q", "not a readable CIFAR file"),
    ],
)
def test_broken_cifar(tmp_path, monkeypatch, content, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        open_images(f"cifar10:{tmp_path}")
    assert not (tmp_path / "pwned").exists()


def test_truncated_binary_cifar(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3000))
    with pytest.raises(InputError, match="not a multiple of a record"):
        open_images(f"cifar10:{tmp_path}")
    (tmp_path / "c.tar.gz").write_bytes(b"not a tar")
    with pytest.raises(InputError, match=r"not a \.tar\.gz"):
        open_images(f"cifar10:{tmp_path / 'c.tar.gz'}")


def test_csaw(tmp_path):
    path = tmp_path / "clean_validation_data.h5"
    data = pixels(6, 3, 55, 47)
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = data.astype(np.float64), np.arange(6.0) * 200
    images = open_images(f"csaw:{path}")
    assert np.array_equal(images.images, data)
    assert images.labels[5, 0] == 1000
    assert len(images.classes) == 1283
    with h5py.File(path, "r+") as file:
        file["data"][...] = file["data"][...] / 255
    with pytest.raises(InputError, match="not from 0 to 255"):
        open_images(f"csaw:{path}")


@pytest.mark.parametrize("name", PRESETS)
def test_nothing_there_says_where_to_get_it(tmp_path, name):
    with pytest.raises(InputError, match="does not exist"):
        read_preset(name, tmp_path / "nothing")
    if name != "csaw":
        with pytest.raises(InputError):
            read_preset(name, tmp_path)


def test_unknown_data_set(tmp_path):
    with pytest.raises(InputError, match="unknown data set"):
        read_preset("imagenet", tmp_path)
