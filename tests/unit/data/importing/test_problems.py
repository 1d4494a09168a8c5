"""Broken data of every kind: each gives its message and its place, all at once."""

import json
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from metafleet.data.importing.problems import KINDS
from tests.unit.data.importing.conftest import Examine
from tests.unit.data.importing.folders import (
    CLASSES,
    class_folders,
    drawing,
    huggingface,
    metadata,
    picture,
    sentence,
    shard,
    sound,
    write,
)

LATIN = "müller".encode("latin-1")


def rows(*extra: dict[str, Any], column: str = "file_name") -> Callable[[Path], Path]:
    """A sound metadata.jsonl of pictures, and these rows after its 24."""

    def build(folder: Path) -> Path:
        good = []
        for number, label in enumerate(CLASSES):
            for item in range(2):
                name = f"p/{number}-{item}.png"
                write(folder, {name: picture(10 * number + item)})
                good.append({column: name, "label": label})
        return metadata(folder, [*good, *extra])

    return build


def files(content: dict[str, bytes | str]) -> Callable[[Path], Path]:
    """Sound folders of classes, and these files."""
    return lambda folder: write(class_folders(folder, items=2), content)


def texts(header: bytes, *lines: bytes) -> Callable[[Path], Path]:
    """A manifest of sentences, sound but for these lines."""

    def build(folder: Path) -> Path:
        good = [f'"{sentence(n)}",{label}' for n, label in enumerate(2 * CLASSES)]
        text = b"\n".join([header, *(line.encode() for line in good), *lines]) + b"\n"
        return write(folder, {"texts.csv": text})

    return build


def member(name: str, content: bytes = b"x", *, link: bool = False) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        members = []
        for number, label in enumerate(2 * CLASSES):
            members += [(f"{number}.png", picture(number)), (f"{number}.cls", label.encode())]
        path = shard(folder / "a.tar", [*members, *([] if link else [(name, content)])])
        if link:
            with tarfile.open(path, "a") as archive:
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(info)
        return folder

    return build


def cut_tar(folder: Path) -> Path:
    path = member("x.txt", b"x")(folder) / "a.tar"
    os.truncate(path, 800)  # within the first picture
    return folder


def scattered(folder: Path) -> Path:
    members = [(f"{n}.png", picture(n)) for n in range(3)]
    shard(folder / "a.tar", [*members, ("0.cls", b"late")])
    return folder


def specification(content: Any) -> Callable[[Path], Path]:
    return lambda folder: write(folder, {"train.json": json.dumps(content)})


def cut_picture() -> bytes:
    return picture(1, side=64)[:700]


def big_picture() -> bytes:
    """The header of a PNG that promises 60000 x 60000 pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    size = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"0" * 99))


def two_splits(folder: Path) -> Path:
    for split in ("train", "val", "test"):
        names = [f"{split}{n}" for n in range(3)] + ["everywhere"]
        class_folders(folder, classes=names, items=2, prefix=f"{split}/")
    return folder


def odd_split(folder: Path) -> Path:
    return class_folders(two_splits(folder), classes=["x"], prefix="holdout/")


def dangling(folder: Path) -> Path:
    class_folders(folder, items=2)
    (folder / CLASSES[0] / "gone.png").symlink_to(folder / "nowhere.png")
    return folder


def circle(folder: Path) -> Path:
    class_folders(folder, items=2)
    (folder / CLASSES[0] / "again").symlink_to(folder / CLASSES[0], target_is_directory=True)
    return folder


def bad_name(folder: Path) -> Path:
    class_folders(folder, items=2)
    raw = os.fsencode(folder) + b"/" + LATIN
    os.mkdir(raw)
    write(folder, {"x.png": picture(1)})
    os.rename(folder / "x.png", raw + b"/x.png")
    return folder


@dataclass(frozen=True)
class Broken:
    """Data with one fault, the kind of problem, its place, a part of its message."""

    kind: str
    build: Callable[[Path], Path]
    where: str
    message: str
    options: dict[str, Any] = field(default_factory=dict)


KIND0 = CLASSES[0]
LINE = "metadata.jsonl:25"
BROKEN = {
    "an empty folder": Broken(
        "no-layout",
        lambda f: write(f, {".keep": ""}),
        "",
        "is an empty folder; expected a folder for each class",
    ),
    "an empty folder of a given layout": Broken(
        "no-layout",
        lambda f: write(f, {".keep": ""}),
        "",
        "is an empty folder; expected",
        {"layout": "webdataset"},
    ),
    "a folder of empty folders": Broken(
        "no-layout", lambda f: write(f, {"x/.keep": ""}), "", "no example"
    ),
    "files without classes": Broken(
        "no-layout", lambda f: write(f, {"a.png": picture(1)}), "", "has no layout that is known"
    ),
    "another layout than asked for": Broken(
        "no-layout", files({}), "", "not laid out as 'webdataset'", {"layout": "webdataset"}
    ),
    "a text file of no known suffix": Broken(
        "unknown-type", files({f"{KIND0}/notes.docx": "x"}), f"{KIND0}/notes.docx", "'.docx'"
    ),
    "an empty file": Broken(
        "empty-file", files({f"{KIND0}/x.png": b""}), f"{KIND0}/x.png", "has 0 bytes"
    ),
    "a link that leads nowhere": Broken(
        "missing-file", dangling, f"{KIND0}/gone.png", "link that leads nowhere"
    ),
    "a link in a circle": Broken(
        "unreadable-file", circle, f"{KIND0}/again", "link to a folder that it lies in"
    ),
    "a class whose name is not UTF-8": Broken("not-utf8", bad_name, "x.png", "is not UTF-8"),
    "a picture that is none": Broken(
        "bad-image", files({f"{KIND0}/x.png": b"hello"}), f"{KIND0}/x.png", "no picture"
    ),
    "a picture cut short": Broken(
        "bad-image", files({f"{KIND0}/x.png": cut_picture()}), f"{KIND0}/x.png", "damaged"
    ),
    "a picture that would fill the memory": Broken(
        "bad-image", files({f"{KIND0}/x.png": big_picture()}), f"{KIND0}/x.png", "60000"
    ),
    "a sound that is none": Broken(
        "bad-audio", files({f"{KIND0}/x.wav": b"hello"}), f"{KIND0}/x.wav", "cannot be read"
    ),
    "a sound without samples": Broken(
        "bad-audio", files({f"{KIND0}/x.wav": sound(1, seconds=0)}), f"{KIND0}/x.wav", "no samples"
    ),
    "a clip that is none": Broken(
        "bad-video", files({f"{KIND0}/x.mp4": b"hello" * 50}), f"{KIND0}/x.mp4", "cannot be read"
    ),
    "a text that is not UTF-8": Broken(
        "bad-text", files({f"{KIND0}/x.txt": LATIN}), f"{KIND0}/x.txt", "not UTF-8"
    ),
    "a text of white space": Broken(
        "bad-text", files({f"{KIND0}/x.txt": "  \n"}), f"{KIND0}/x.txt", "is empty"
    ),
    "a drawing without points": Broken(
        "bad-stroke",
        files({f"{KIND0}/x.json": "[]", f"{KIND0}/y.json": drawing(1)}),
        f"{KIND0}/x.json",
        "no strokes",
    ),
    "a class with one item": Broken(
        "small-class", files({"lone/x.png": picture(1)}), "class 'lone'", "has 1 sound items"
    ),
    "a class without a file": Broken(
        "small-class", files({"empty/.keep": ""}), "class 'empty'", "has no example"
    ),
    "too few classes": Broken(
        "small-split",
        lambda f: class_folders(f, classes=["a", "b", "c"], items=2),
        "meta_",
        "of 3 classes",
    ),
    "a class in two splits": Broken(
        "label-in-two-splits", two_splits, "class 'everywhere'", "2 in meta_val"
    ),
    "a folder beside those of splits": Broken(
        "unknown-split", odd_split, "holdout", "expected train, val or test"
    ),
    "splits asked for and not given": Broken(
        "unknown-split", files({}), "split", "no folder, file or column", {"split": "given"}
    ),
    "a column of another split": Broken(
        "unknown-split",
        rows({"file_name": "p/0-0.png", "label": "a", "split": "holdout"}),
        LINE,
        "'holdout'; expected train",
    ),
    "a missing file": Broken(
        "missing-file", rows({"file_name": "p/no.png", "label": "a"}), LINE, "'p/no.png'"
    ),
    "a path out of the folder": Broken(
        "outside-folder", rows({"file_name": "../x.png", "label": "a"}), LINE, "outside the folder"
    ),
    "an absolute path": Broken(
        "outside-folder", rows({"file_name": "/etc/passwd", "label": "a"}), LINE, "'/etc/passwd'"
    ),
    "a file in two rows": Broken(
        "duplicate-file",
        rows({"file_name": "p/0-0.png", "label": KIND0}),
        LINE,
        "is also in metadata.jsonl:1",
    ),
    "a sound in a column of pictures": Broken(
        "mixed-types",
        lambda f: rows({"file_name": "s.wav", "label": "a"})(write(f, {"s.wav": sound(1)})),
        LINE,
        "is audio in a column of image",
    ),
    "an empty label": Broken(
        "empty-label", rows({"file_name": "p/0-0.png", "label": ""}), LINE, ""
    ),
    "a label that is a list": Broken(
        "bad-label", rows({"file_name": "p/0-0.png", "label": [1]}), LINE, "is a list"
    ),
    "a label of two lines": Broken(
        "bad-label",
        lambda f: rows({"file_name": "q.png", "label": "a\nb"})(write(f, {"q.png": picture(1)})),
        LINE,
        "printable",
    ),
    "a row without anything": Broken("empty-item", rows({"label": "a"}), LINE, "has no file"),
    "a line that is not JSON": Broken(
        "bad-line",
        lambda f: write(
            rows()(f), {"metadata.jsonl": (f / "metadata.jsonl").read_text() + "{oops\n"}
        ),
        LINE,
        "is not JSON",
    ),
    "a line that is no object": Broken(
        "bad-line",
        lambda f: write(rows()(f), {"metadata.jsonl": (f / "metadata.jsonl").read_text() + "7\n"}),
        LINE,
        "is a int; expected a JSON object",
    ),
    "half of a character": Broken(
        "not-utf8",
        rows({"file_name": "p/0-0.png", "label": "a", "text": "\ud83d"}),
        LINE,
        "half of",
    ),
    "no column of labels": Broken(
        "no-label-column",
        lambda f: metadata(f, [{"file_name": "a.png", "kind": "x"}]),
        "metadata.jsonl",
        "'file_name', 'kind'",
    ),
    "no column of files": Broken(
        "no-file-column", lambda f: metadata(f, [{"label": "x"}]), "metadata.jsonl", "'label'"
    ),
    "a column that is not there": Broken(
        "unknown-column",
        rows(),
        "metadata.jsonl",
        "no column 'species', which --label names",
        {"label": "species"},
    ),
    "two columns of one name": Broken(
        "duplicate-column", texts(b"text,text"), "texts.csv:1", "two columns are called 'text'"
    ),
    "a line with too many fields": Broken(
        "bad-line", texts(b"text,label", b"a,b,c"), "texts.csv:26", "has 3 fields"
    ),
    "a line that is not UTF-8": Broken(
        "not-utf8", texts(b"text,label", LATIN + b",a"), "texts.csv:26", "save the file as UTF-8"
    ),
    "a quote that is never closed": Broken(
        "bad-line", texts(b"label,text", b'a,"b', b"c,d"), "texts.csv:26", "never closed"
    ),
    "an empty table": Broken(
        "unreadable-file", lambda f: write(f, {"t.csv": "\n \n"}), "t.csv", "is empty"
    ),
    "a text that is a list": Broken(
        "bad-text", rows({"file_name": "p/0-0.png", "text": ["x"], "label": "a"}), LINE, "is a list"
    ),
    "a path that is a table": Broken(
        "missing-file", rows({"file_name": {"path": ["x"]}, "label": "a"}), LINE, "is a dict"
    ),
    "a number that is none": Broken(
        "bad-number",
        lambda f: write(f, {"t.csv": "a,b,label\n1,2,x\n1,one,x\n"}),
        "t.csv:3",
        "'one' is no finite number",
        {"columns": {"table": "a,b"}},
    ),
    "a table with a row too wide": Broken(
        "bad-table",
        lambda f: metadata(
            f, [{"v": [1.0] * (2 + (n == 5)), "label": c} for n, c in enumerate(2 * CLASSES)]
        ),
        "metadata.jsonl:6",
        "3 numbers; expected 2",
        {"columns": {"table": "v"}},
    ),
    "a Parquet file that is none": Broken(
        "unreadable-file", lambda f: write(f, {"a.parquet": b"PAR1"}), "a.parquet", "Parquet"
    ),
    "a pickle in an archive": Broken("refused-member", member("9.pkl"), "a.tar/9.pkl", "pickle"),
    "a link in an archive": Broken("refused-member", member("9", link=True), "a.tar/9", "a link"),
    "a member out of the archive": Broken(
        "outside-folder", member("../9.png"), "a.tar/../9.png", "leads out"
    ),
    "an absolute member": Broken("outside-folder", member("/9.png"), "a.tar//9.png", "leads out"),
    "an archive cut short": Broken("unreadable-file", cut_tar, "a.tar", "ends within"),
    "an archive that is compressed": Broken(
        "unreadable-file", lambda f: write(f, {"a.tar": b"\x1f\x8b" * 600}), "a.tar", "uncompress"
    ),
    "members of a sample apart": Broken("split-sample", scattered, "a.tar/0", "side by side"),
    "a member twice": Broken(
        "duplicate-file", member("23.cls", b"another"), "a.tar/23.cls", "is in the archive twice"
    ),
    "two pictures in one place": Broken(
        "duplicate-file", member("23.jpg", picture(1)), "a.tar/23.jpg", "another image of sample"
    ),
    "a sample without a class": Broken(
        "empty-label", member("99.png", picture(9)), "a.tar/99", "has no class"
    ),
    "names and roots of different number": Broken(
        "bad-manifest",
        specification({"class_names": ["a", "b"], "class_roots": ["a"]}),
        "train.json",
        "2 class_names and 1 class_roots",
    ),
    "names that are no list": Broken(
        "bad-manifest", specification({"class_names": "a"}), "train.json", "expected lists"
    ),
    "a root that is not there": Broken(
        "missing-file",
        specification({"class_names": ["a"], "class_roots": ["data/a"]}),
        "train.json",
        "'data/a', which is no folder",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_are_named_with_their_place(
    name: str, tmp_path: Path, examine: Examine
) -> None:
    broken = BROKEN[name]
    folder = tmp_path / "folder"
    folder.mkdir()

    found = examine(broken.build(folder), **broken.options)

    matching = [p for p in found.problems if p.kind == broken.kind]
    assert matching, found.problems
    assert broken.where in matching[0].where
    assert broken.message in matching[0].message
    assert all("\n" not in str(problem) for problem in found.problems)
    assert not found.is_usable(skip_bad=False)


def test_these_are_most_kinds_of_problems_and_at_least_25_kinds_of_broken_data() -> None:
    tried = {broken.kind for broken in BROKEN.values()}

    assert len(BROKEN) >= 25
    assert set(KINDS) - tried == {"missing-package"}  # everything is installed here


def test_all_problems_are_found_at_once(tmp_path: Path, examine: Examine) -> None:
    folder = rows(
        {"file_name": "p/no.png", "label": "a"},
        {"file_name": "../x.png", "label": "a"},
        {"file_name": "p/1-1.png", "label": ""},
        {"file_name": "p/bad.png", "label": KIND0},
    )(tmp_path / "folder")
    write(folder, {"p/bad.png": b"hello"})

    found = examine(folder)

    assert [(p.kind, p.where) for p in found.problems] == [
        ("missing-file", "metadata.jsonl:25"),
        ("outside-folder", "metadata.jsonl:26"),
        ("empty-label", "metadata.jsonl:27"),
        ("bad-image", "metadata.jsonl:28"),
    ]


def test_what_is_broken_can_be_left_out(tmp_path: Path, examine: Examine) -> None:
    folder = huggingface(tmp_path / "folder")
    whole = examine(folder, split_seed=2)
    write(folder, {"p/10.png": b"hello", "s/21.wav": b"hello"})

    found = examine(folder, split_seed=2)

    assert [p.kind for p in found.problems] == ["bad-image", "bad-audio"]
    assert found.is_usable(skip_bad=True) and not found.is_usable(skip_bad=False)
    gone = {item.where for item in whole.items} - {item.where for item in found.items}
    assert gone == {"metadata.jsonl:4", "metadata.jsonl:8"}
    assert found.rows is not None
    assert len(found.rows) == len(found.items) == len(whole.items) - 2
