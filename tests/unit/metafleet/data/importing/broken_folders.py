"""Builders of folders that are sound but for one thing."""

import json
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.folders import (
    CLASSES,
    class_folders,
    metadata,
    picture,
    sentence,
    shard,
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


def pipe(folder: Path) -> Path:
    class_folders(folder, items=2)
    os.mkfifo(folder / CLASSES[0] / "pipe.png")
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
