import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metafleet.data.registry import open_data, open_source
from metafleet.data.sets import omniglot_readers
from metafleet.data.sets.omniglot_readers import find_source
from metafleet.data.summary import no_progress
from metafleet.errors import DataCorruptError, DataMissingError

CHARACTERS = ("Greek/character01", "Greek/character02", "Oriya/character01")
SETS = {"background": CHARACTERS[:2], "evaluation": CHARACTERS[2:]}
N_DRAWERS = 3
RNG = np.random.default_rng(8)


@pytest.fixture
def small(monkeypatch):
    """Let Omniglot be three characters by three drawers."""
    monkeypatch.setattr(omniglot_readers, "CHARACTERS", CHARACTERS)
    monkeypatch.setattr(omniglot_readers, "N_DRAWERS", N_DRAWERS)
    monkeypatch.setattr(omniglot_readers, "N_DRAWINGS", len(CHARACTERS) * N_DRAWERS)


def make_png(side: int = 105) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RNG.random((side, side)) > 0.4).save(buffer, "PNG")
    return buffer.getvalue()


def make_strokes() -> bytes:
    lines = []
    for _ in range(2):
        xy = RNG.random((9, 2)) * 105
        lines += ["START", *(f"{x:.6f},{-y:.6f},{i * 20}" for i, (x, y) in enumerate(xy)), "BREAK"]
    return "\n".join(lines).encode()


def make_folder(root: Path, *, strokes: bool = False) -> Path:
    number = 700
    for part, characters in SETS.items():
        for character in characters:
            number += 1
            for drawer in range(1, N_DRAWERS + 1):
                name = f"{character}/{number:04d}_{drawer:02d}"
                write(root / f"images_{part}" / f"{name}.png", make_png())
                if strokes:
                    write(root / f"strokes_{part}" / f"{name}.txt", make_strokes())
    return root


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def zip_folder(folder: Path, root: Path) -> Path:
    root.mkdir(parents=True)
    for source in sorted(folder.iterdir()):
        with zipfile.ZipFile(root / f"{source.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(source.rglob("*")):
                archive.write(path, path.relative_to(folder))
    return root


def read(root: Path, *, strokes: bool = False):
    source = find_source(root)
    assert source is not None
    return source.read(strokes, no_progress)


def add_member(path: Path, name: str, data: bytes = b"x") -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, data)


def test_folders_and_zips_give_the_same_drawings(small, tmp_path):
    folder = make_folder(tmp_path / "folder", strokes=True)
    zips = zip_folder(folder, tmp_path / "zips")

    from_folder, from_zips = read(folder, strokes=True), read(zips, strokes=True)

    assert from_folder.images.shape == (9, 28, 28) and from_folder.images.std() > 10
    np.testing.assert_array_equal(from_folder.images, from_zips.images)
    np.testing.assert_array_equal(from_folder.strokes, from_zips.strokes)
    assert find_source(zips).has_strokes and read(zips).strokes is None


def test_ink_is_bright_and_averaged(small, tmp_path):
    folder = make_folder(tmp_path)
    path = folder / "images_background/Greek/character01/0701_01.png"
    ink = np.zeros((105, 105), bool)
    ink[:15, 30:45] = True  # 15 pixels are 4 of the small ones
    Image.fromarray(~ink).save(path)

    image = read(folder).images[0]

    expected = np.zeros((28, 28), np.uint8)
    expected[:4, 8:12] = 255
    np.testing.assert_array_equal(image, expected)


def test_strokes_are_upright_in_the_unit_square(small, tmp_path):
    folder = make_folder(tmp_path, strokes=True)
    path = folder / "strokes_background/Greek/character01/0701_01.txt"
    path.write_text("START\n0,-0,0\n105,-0,10\n105,-105,20\nBREAK\nSTART\n0,-105,30\nBREAK\n")

    strokes = read(folder, strokes=True).strokes[0]

    np.testing.assert_allclose(strokes[0], [0, 0, 0])
    np.testing.assert_allclose(strokes[61], [1, 1, 1], atol=1e-3)
    np.testing.assert_allclose(strokes[62:], [[0, 1, 0], [0, 1, 1]], atol=1e-3)


def test_torchvision_s_folder_is_found_with_or_without_its_parent(small, tmp_path):
    make_folder(tmp_path / "omniglot-py")

    from_root, from_folder = find_source(tmp_path), find_source(tmp_path / "omniglot-py")

    assert from_root.kind == from_folder.kind == "folder"
    assert from_root.fingerprint == from_folder.fingerprint


def test_the_fingerprint_of_zips_follows_their_content_not_their_place(small, tmp_path):
    zips = zip_folder(make_folder(tmp_path / "folder"), tmp_path / "zips")
    copy = Path(shutil.copytree(zips, tmp_path / "copy"))

    assert find_source(zips).fingerprint == find_source(copy).fingerprint
    add_member(copy / "images_background.zip", "more.txt")
    assert find_source(zips).fingerprint != find_source(copy).fingerprint


def test_clutter_of_archivers_is_skipped(small, tmp_path):
    zips = zip_folder(make_folder(tmp_path / "folder"), tmp_path / "zips")
    before = read(zips).images
    for name in ("__MACOSX/images_background/Greek/character01/0701_01.png", "a/.DS_Store"):
        add_member(zips / "images_background.zip", name, b"?" * 5000)

    np.testing.assert_array_equal(read(zips).images, before)


@pytest.mark.parametrize(
    "name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "C:/evil.png"]
)
def test_members_that_point_outside_are_refused(small, tmp_path, name):
    zips = zip_folder(make_folder(tmp_path / "folder"), tmp_path / "zips")
    add_member(zips / "images_background.zip", name)

    with pytest.raises(DataCorruptError, match="points outside the archive; get the official file"):
        read(zips)
    assert not list(tmp_path.rglob("evil.png"))


def test_links_and_giants_are_refused(small, tmp_path):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    for add, message in (
        (lambda archive: archive.writestr(link, "/etc/passwd"), "is a link"),
        (lambda archive: archive.writestr("bomb.png", bytes(2 << 20)), "has 2097152 bytes"),
    ):
        zips = zip_folder(make_folder(tmp_path / message / "f"), tmp_path / message / "z")
        with zipfile.ZipFile(zips / "images_evaluation.zip", "a", zipfile.ZIP_DEFLATED) as archive:
            add(archive)
        with pytest.raises(DataCorruptError, match=message):
            read(zips)


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_truncated_zip_is_named(small, tmp_path, keep):
    zips = zip_folder(make_folder(tmp_path / "folder"), tmp_path / "zips")
    path = zips / "images_background.zip"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])

    with pytest.raises(DataCorruptError, match=r"images_background\.zip is damaged.*get it again"):
        read(zips)


def test_a_flipped_bit_in_a_zip_is_named(small, tmp_path):
    zips = zip_folder(make_folder(tmp_path / "folder"), tmp_path / "zips")
    path = zips / "images_background.zip"
    data = bytearray(path.read_bytes())
    data[200] ^= 8  # in the first member's data
    path.write_bytes(data)

    with pytest.raises(DataCorruptError, match=r"0701_01\.png' cannot be read"):
        read(zips)


def test_a_missing_drawing_is_named(small, tmp_path):
    folder = make_folder(tmp_path)
    (folder / "images_evaluation/Oriya/character01/0703_02.png").unlink()

    with pytest.raises(
        DataCorruptError, match=r"has 8 of Omniglot's 9 .* Oriya/character01 by drawer 2"
    ):
        read(folder)


@pytest.mark.parametrize("data", [b"", b"not a picture", make_png(64), make_png()[:-30]])
def test_a_broken_picture_is_named(small, tmp_path, data):
    folder = make_folder(tmp_path)
    (folder / "images_background/Greek/character02/0702_03.png").write_bytes(data)

    with pytest.raises(DataCorruptError, match="image of Greek/character02 by drawer 3"):
        read(folder)


@pytest.mark.parametrize("text", ["", "START\nBREAK", "START\n1,2\nBREAK", "START\nnan,-1,0", "é"])
def test_broken_strokes_are_named(small, tmp_path, text):
    folder = make_folder(tmp_path, strokes=True)
    path = folder / "strokes_background/Greek/character02/0702_03.txt"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(DataCorruptError, match="strokes of Greek/character02 by drawer 3"):
        read(folder, strokes=True)


def test_half_of_omniglot_says_which_half_is_missing(small, tmp_path):
    folder = make_folder(tmp_path)
    shutil.rmtree(folder / "images_evaluation")

    with pytest.raises(DataMissingError, match=r"has images_background only; .* next to it"):
        find_source(folder)


def test_an_empty_folder_holds_nothing(tmp_path):
    assert find_source(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no zip at all", "no whole npz"), (b"", "no whole npz")],
)
def test_a_file_that_is_no_npz_is_refused(tmp_path, content, message):
    path = tmp_path / "omniglot.npz"
    path.write_bytes(content)

    with pytest.raises(DataCorruptError, match=message):
        read(path)


def test_an_npz_of_something_else_is_refused(small, tmp_path):
    path = tmp_path / "omniglot.npz"
    np.savez(path, other=np.zeros(3))
    with pytest.raises(DataCorruptError, match="cannot be read as Omniglot"):
        read(path)

    names = np.array(CHARACTERS)
    order, drawer = np.repeat(np.arange(3), 3), np.tile([1, 2, 3], 3)
    images = np.zeros((9, 28, 28), np.uint8)
    np.savez(path, character_names=names, character=order, drawer=drawer, images=images[:8])
    with pytest.raises(DataCorruptError, match=r"images are uint8 \(8, 28, 28\), expected"):
        read(path)

    np.savez(path, character_names=names, character=order[::-1], drawer=drawer, images=images)
    with pytest.raises(DataCorruptError, match="not in Omniglot's order"):
        read(path)

    objects = np.array([{}], dtype=object)
    np.savez(path, character_names=objects, character=order, drawer=drawer, images=images)
    with pytest.raises(DataCorruptError, match="cannot be read as Omniglot"):
        read(path)


def test_missing_data_say_in_one_line_how_to_get_them(tmp_path):
    with pytest.raises(DataMissingError, match="run `metafleet data prepare omniglot`") as caught:
        open_source({"name": "omniglot"}, tmp_path)
    assert "\n" not in str(caught.value)

    wanted = r"root='/no/such/place': it is not there; expected images_background"
    with pytest.raises(DataMissingError, match=wanted):
        open_data({"name": "omniglot", "root": "/no/such/place"}, tmp_path).prepare()


def test_a_run_reports_that_a_given_root_is_unused(small, tmp_path):
    open_data({"name": "omniglot"}, Path()).check_place()
    images = {"name": "omniglot", "root": str(make_folder(tmp_path / "images"))}
    open_data(images, Path()).check_place()

    (tmp_path / "empty").mkdir()
    for options, lacks in (
        ({"name": "omniglot", "root": str(tmp_path / "nowhere")}, "it is not there"),
        ({"name": "omniglot", "root": str(tmp_path / "empty")}, "it holds no Omniglot"),
        ({**images, "modalities": ["image", "stroke"]}, "it has no strokes"),
    ):
        with pytest.raises(DataMissingError, match=lacks) as caught:
            open_data(options, Path()).check_place()
        assert "\n" not in str(caught.value)


def test_missing_strokes_say_so(small, tmp_path):
    options = {
        "name": "omniglot",
        "root": str(make_folder(tmp_path / "x")),
        "modalities": ["stroke"],
    }

    with pytest.raises(DataMissingError, match="it has no strokes"):
        open_source(options, tmp_path)
