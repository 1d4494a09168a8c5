"""Where Omniglot is published, pinned to a commit and to every byte."""

from metafleet.data.prepared.download import RemoteFile

_BASE_URL = (
    "https://raw.githubusercontent.com/brendenlake/omniglot/"
    "057f034baf2ecb8530bc5710e5a23584d2a519cc/python/"
)
IMAGE_FILES = (
    RemoteFile(
        name="images_background.zip",
        url=_BASE_URL + "images_background.zip",
        n_bytes=9_464_212,
        sha256="ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
    ),
    RemoteFile(
        name="images_evaluation.zip",
        url=_BASE_URL + "images_evaluation.zip",
        n_bytes=6_462_886,
        sha256="1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
    ),
)
STROKE_FILES = (
    RemoteFile(
        name="strokes_background.zip",
        url=_BASE_URL + "strokes_background.zip",
        n_bytes=25_653_493,
        sha256="c1e445d158fd74b6adf81f1387ebe051f5a23923bdb0c16f539d6e707ce056d4",
    ),
    RemoteFile(
        name="strokes_evaluation.zip",
        url=_BASE_URL + "strokes_evaluation.zip",
        n_bytes=19_185_747,
        sha256="17185a39049e62d6e6a26070fa5c58e5ce7dbaff826a9f78595bdd7881d2070b",
    ),
)
