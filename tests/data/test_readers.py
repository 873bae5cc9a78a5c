"""Readers on good files, and every way a file can be bad: each gives one sentence."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from drmguard.data import decode as decode_module
from drmguard.data import image_set as image_set_module
from drmguard.data.open_images import open_images
from drmguard.errors import InputError

RANDOM = np.random.default_rng(0)


def save_image(path, *, width=8, height=8, mode="RGB"):
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    pixels = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def table(tmp_path):
    """A good CSV of three images; tests spoil one line of it."""
    pixels = [save_image(tmp_path / f"{k}.png") for k in range(3)]
    lines = ["path,pitch,yaw,group", "0.png,0.1,0.2,ann", "1.png,-0.1,0.3,bob", "2.png,0,0,ann"]

    def write(line=None, text=None):
        if line is not None:
            lines[line - 1] = text
        (tmp_path / "faces.csv").write_text("\n".join(lines))
        return str(tmp_path / "faces.csv")

    return write, pixels


def test_csv(table):
    write, pixels = table
    images = open_images(write())
    assert images.image_shape == (3, 8, 8)
    assert np.array_equal(images.images[1], pixels[1].transpose(2, 0, 1))
    assert images.labels.tolist() == pytest.approx(np.array([[0.1, 0.2], [-0.1, 0.3], [0, 0]]))
    assert images.label_names == ("pitch", "yaw")
    assert images.groups.tolist() == [0, 1, 0]


def test_large_sets_are_memory_mapped(table, monkeypatch):
    write, pixels = table
    monkeypatch.setattr(image_set_module, "MEMORY_MAP_BYTES", 100)
    images = open_images(write())
    assert isinstance(images.images, np.memmap)
    assert np.array_equal(images.images[2], pixels[2].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("9.png,0.1,0.2,ann", r"line 3: no image '9.png'"),
        ("1.png,0.1,ann", r"line 3: 3 columns where the header has 4"),
        ("1.png,nan,0.2,ann", r"line 3: pitch is 'nan'"),
        ("1.png,inf,0.2,ann", r"line 3: pitch is 'inf'"),
        ("1.png,left,0.2,ann", r"line 3: pitch is 'left', not a number"),
    ],
)
def test_csv_faults_name_the_line(table, text, sentence):
    with pytest.raises(InputError, match=sentence):
        open_images(table[0](3, text))


def test_csv_without_lines_or_labels(tmp_path):
    path = tmp_path / "a.csv"
    for text, sentence in (
        ("", "empty"),
        ("path,a\n", "lists no image"),
        ("path\n1.png\n", "no label column"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=sentence):
            open_images(str(path))


def test_unreadable_and_truncated_images_name_file_and_line(table, tmp_path):
    write, _ = table
    good = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(good[: len(good) // 2])
    with pytest.raises(InputError, match=r"line 3 \(1.png\): the image is truncated"):
        open_images(write())
    (tmp_path / "1.png").write_bytes(b"not an image at all")
    with pytest.raises(InputError, match=r"line 3 \(1.png\): not a readable image"):
        open_images(write())


def test_images_of_different_sizes_are_resized_only_when_asked(table, tmp_path):
    write, _ = table
    save_image(tmp_path / "1.png", width=10, height=6)
    with pytest.raises(InputError, match="10×6"):
        open_images(write())
    assert open_images(write(), resize=(5, 7)).image_shape == (3, 5, 7)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(table, monkeypatch):
    monkeypatch.setattr(decode_module, "MAX_PIXELS", 50)
    with pytest.raises(InputError, match=r"line 2 .*bomb"):
        open_images(table[0]())


def test_deep_images_have_no_known_range(table, tmp_path):
    Image.fromarray(np.zeros((8, 8), np.int32)).save(tmp_path / "1.tif")
    with pytest.raises(InputError, match="8 bits"):
        open_images(table[0](3, "1.tif,0,0,ann"))


@pytest.fixture
def arrays():
    return {
        "images": RANDOM.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8),
        "labels": np.arange(10, dtype=np.float32).reshape(5, 2),
        "groups": np.array([3, 3, 7, 7, 9]),
    }


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_npz(tmp_path, arrays, compressed, first):
    wanted = arrays["images"].transpose(0, 3, 1, 2)
    if first:
        arrays["images"] = wanted
    path = tmp_path / "a.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    images = open_images(str(path))
    assert np.array_equal(images.images, wanted)
    assert images.groups.tolist() == [0, 0, 1, 1, 2]
    assert images.labels.shape == (5, 2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": None}, "no array 'images'"),
        ({"labels": None}, "no array 'labels'"),
        ({"images": np.zeros((5, 6, 7, 3), np.float32)}, "pixel range is not known"),
        ({"images": np.zeros((5, 6, 7), np.uint8)}, "must be N×H×W×C"),
        ({"images": np.zeros((5, 3, 7, 3), np.uint8)}, "cannot tell the channels"),
        ({"images": np.zeros((0, 6, 7, 3), np.uint8)}, "empty"),
        ({"labels": np.full((5, 1), np.nan)}, "NaN or infinite"),
        ({"labels": np.zeros((4, 1))}, "one row of labels an image"),
        ({"labels": np.array([{}] * 5, dtype=object)}, "pickled"),
        ({"labels": np.array(["a"] * 5)}, "not numbers"),
    ],
)
def test_npz_faults(tmp_path, arrays, change, sentence):
    arrays.update(change)
    path = tmp_path / "a.npz"
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(InputError, match=sentence):
        open_images(str(path))


def test_a_truncated_npz(tmp_path, arrays):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"truncated or not an \.npz"):
        open_images(str(path))


@pytest.fixture
def class_folders(tmp_path):
    for name in ("dog", "cat"):
        for k in range(2):
            save_image(tmp_path / "set" / name / f"{k}.png")
    return tmp_path / "set"


def test_class_folders_and_zips_read_the_same(class_folders, tmp_path):
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(class_folders.rglob("*.png")):
            file.write(path, f"train/{path.relative_to(class_folders)}")
    folder, zipped = open_images(str(class_folders)), open_images(f"{archive}:train")
    assert folder.classes == zipped.classes == ("cat", "dog")
    assert folder.labels[:, 0].tolist() == [0, 0, 1, 1]
    assert np.array_equal(folder.images, zipped.images)
    with pytest.raises(InputError, match=r"FILE\.zip:FOLDER"):
        open_images(str(archive))


def test_a_damaged_zip_and_an_empty_folder(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InputError, match="not a zip"):
        open_images(str(tmp_path / "a.zip"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images found"):
        open_images(str(tmp_path / "empty"))


@pytest.mark.parametrize("source", ["missing.csv", "rendered:hands", "images.xyz"])
def test_unknown_sources(tmp_path, source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images.xyz").write_text("")
    with pytest.raises(InputError):
        open_images(source)
