"""Users' folders: small pictures, sounds, drawings and sentences of made-up classes."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

OTHER_SEED = 2
"""Of splits: any other than the default."""
CLASSES = tuple(f"kind{number:02d}" for number in range(12))


def picture(number: int, *, side: int = 12) -> bytes:
    """A PNG of noise, different for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def sound(number: int, *, seconds: float = 0.1) -> bytes:
    """A WAV of a tone, different for each number."""
    times = np.arange(round(8000 * seconds)) / 8000
    wave = np.sin(2 * np.pi * (200 + 37 * number) * times)
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.5 * wave, 8000, format="WAV")
    return buffer.getvalue()


def clip(number: int) -> bytes:
    """An animated GIF of three frames."""
    frames = [Image.open(io.BytesIO(picture(100 * number + i))) for i in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:], duration=40)
    return buffer.getvalue()


def drawing(number: int) -> bytes:
    """Two pen strokes as JSON."""
    points = np.random.default_rng(number).random((2, 5, 2)).round(3)
    return json.dumps(points.tolist()).encode()


def sentence(number: int) -> str:
    return f"sentence number {number}, süß"


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    """Write files by their names relative to ``folder``."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def class_folders(
    folder: Path, *, classes: Sequence[str] = CLASSES, items: int = 3, prefix: str = ""
) -> Path:
    """<class>/<item>.png and .wav; of each class's last item there is no sound."""
    for number, name in enumerate(classes):
        for item in range(items):
            one = 10 * number + item
            write(folder, {f"{prefix}{name}/{item}.png": picture(one)})
            if item + 1 < items:
                write(folder, {f"{prefix}{name}/{item}.wav": sound(one)})
    return folder


def metadata(
    folder: Path, rows: Sequence[Mapping[str, object]], name: str = "metadata.jsonl"
) -> Path:
    return write(folder, {name: "".join(json.dumps(row) + "\n" for row in rows)})


def huggingface(folder: Path, *, items: int = 3) -> Path:
    """Rows with a picture, a sound and a sentence each."""
    rows = []
    for number, label in enumerate(CLASSES):
        for item in range(items):
            one = 10 * number + item
            write(folder, {f"p/{one}.png": picture(one), f"s/{one}.wav": sound(one)})
            rows.append(
                {
                    "image_file_name": f"p/{one}.png",
                    "audio_file_name": f"s/{one}.wav",
                    "text": sentence(one),
                    "label": label,
                }
            )
    return metadata(folder, rows)


def shard(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """A tar with these members, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def webdataset(folder: Path) -> Path:
    """Two shards of samples with a picture, a sound and a class each."""
    for part in range(2):
        members: list[tuple[str, bytes]] = []
        for number, label in enumerate(CLASSES):
            for item in range(2):
                key, one = f"s{part}-{number}-{item}", 100 * part + 10 * number + item
                members += [
                    (f"{key}.png", picture(one)),
                    (f"{key}.wav", sound(one)),
                    (f"{key}.cls", label.encode()),
                ]
        shard(folder / f"data-{part:03d}.tar", members)
    return folder
