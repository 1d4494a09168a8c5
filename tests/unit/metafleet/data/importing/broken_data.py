"""Data with one fault each, and what is said of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.folders import (
    CLASSES,
    class_folders,
    drawing,
    metadata,
    picture,
    sound,
    write,
)
from tests.unit.metafleet.data.importing.broken_folders import (
    LATIN,
    bad_name,
    big_picture,
    circle,
    cut_picture,
    cut_tar,
    dangling,
    files,
    member,
    odd_split,
    pipe,
    rows,
    scattered,
    specification,
    texts,
    two_splits,
)


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
    "a pipe among pictures": Broken(
        "missing-file", pipe, f"{KIND0}/pipe.png", "is a pipe, a socket or a device"
    ),
    "a pipe that a row names": Broken(
        "missing-file",
        lambda f: rows({"file_name": "kind00/pipe.png", "label": "a"})(pipe(f)),
        LINE,
        "not there as a file: it is a folder, a pipe",
    ),
    "a file whose name differs in case": Broken(
        "missing-file",
        lambda f: rows({"file_name": "q/1.png", "label": "a"})(write(f, {"q/1.PNG": picture(1)})),
        LINE,
        "which is not there, but '1.PNG' is: mind upper and lower case",
    ),
    "a table in UTF-16": Broken(
        "not-utf8",
        lambda f: write(f, {"t.csv": "file_name,label\n1.png,a\n".encode("utf-16")}),
        "t.csv",
        "looks like UTF-16; save the file as UTF-8",
    ),
    "a table in UTF-16 without a mark": Broken(
        "not-utf8",
        lambda f: write(f, {"t.csv": "file_name,label\n1.png,a\n".encode("utf-16-be")}),
        "t.csv",
        "looks like UTF-16; save the file as UTF-8",
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
        "small-class",
        files({"lone/x.png": picture(1)}),
        "class 'lone'",
        "has 1 item without fault",
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
    "a folder next to those of splits": Broken(
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
    "no separator in any label": Broken(
        "no-separator", rows(), "folder", "no label holds '|'", {"label_separator": "|"}
    ),
    "no column of files": Broken(
        "no-file-column", lambda f: metadata(f, [{"label": "x"}]), "metadata.jsonl", "'label'"
    ),
    "a column of identifiers as pictures": Broken(
        "other-kind",
        rows(column="image_file_name"),
        "modality 'image'",
        "was asked for as image, and its column holds text",
        {"columns": {"image": "label"}, "label": "image_file_name"},
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
    "a series with a gap": Broken(
        "bad-series",
        lambda f: write(class_folders(f), {"kind00/0.csv": "1\n2\nnan\n4\n"}),
        "kind00/0.csv",
        "",
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
