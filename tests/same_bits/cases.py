"""Short runs that cover every family of learners, every modality and every execution on a CPU."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.folders import (
    CLASSES,
    clip,
    drawing,
    picture,
    sentence,
    sound,
)

ITEMS_PER_CLASS = 3
FOLDER = "same-bits"
_SHORT = (
    "outer.steps=4",
    "outer.meta_batch_size=4",
    "engine.episodes_per_job=2",
    "validation.every=2",
    "validation.episodes=4",
    "test.episodes=8",
    "test.baselines=false",
)
_GLYPHS = ("episodes.n_way=5", "episodes.k_shot=1", "episodes.n_query=2", "model.channels=8")
_FEW_STEPS = ("learner.inner_steps=2", "learner.inner_steps_eval=3")
_TRANSDUCTIVE = 'model.batch_norm="transductive"'
_FOLDER = (f"data.imported={FOLDER}", "episodes.n_way=2", _TRANSDUCTIVE)
_PARTS = f'data.parts=[{{name="glyphs"}},{{name="folder",imported="{FOLDER}",modalities=["text"]}}]'
_GATED = 'model.encoders={image={name="conv4",channels=8},text={name="ngram_bag"}}'
_CNP = ("learner.hidden=16",)


@dataclass(frozen=True)
class Case:
    """One run: an experiment of ``experiments/`` and what makes it small.

    Attributes:
        name: what the reference calls it.
        experiment: the file's name without its ending.
        special: as after ``--set``, in addition to those that make every case short.
    """

    name: str
    experiment: str
    special: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Return the file, relative to the root of a checkout."""
        return f"experiments/{self.experiment}.toml"

    def overrides(self) -> list[str]:
        """Return all that follows ``--set``."""
        glyphs = _GLYPHS if self.experiment.startswith("glyphs-") else ()
        return [*_SHORT, *glyphs, *self.special]

    def arguments(self) -> list[str]:
        """Return the arguments of ``metafleet`` that run it, less how."""
        return ["submit", self.path, "--json", *(f"--set={text}" for text in self.overrides())]


def _of_folder(modality: str, *more: str) -> Case:
    chosen = f'data.modalities=["{modality}"]'
    return Case(f"{modality} of a folder", "folder-protonet", (*_FOLDER, chosen, *more))


CASES: Sequence[Case] = (
    Case("maml", "sinusoid-maml"),
    Case("maml, constant memory", "sinusoid-maml", ("engine.execution=constant_memory",)),
    Case("maml, vmap", "sinusoid-maml", ("engine.execution=vmap",)),
    Case("maml, compiled", "sinusoid-maml", ("engine.execution=compiled",)),
    Case("maml, bfloat16", "sinusoid-maml", ("engine.precision=bfloat16",)),
    Case("maml, pipelined", "sinusoid-maml", ("engine.max_staleness=1",)),
    Case("maml, half the bytes", "sinusoid-maml", ("engine.wire_dtype=bfloat16",)),
    Case("maml, images", "glyphs-maml", _FEW_STEPS),
    Case("maml, images, vmap", "glyphs-maml", (*_FEW_STEPS, "engine.execution=vmap")),
    Case("anil", "glyphs-anil", _FEW_STEPS),
    Case("boil", "glyphs-boil"),
    Case("maml++", "glyphs-maml-plus-plus", (*_FEW_STEPS, "learner.epoch_steps=1")),
    Case("reptile", "glyphs-reptile", _FEW_STEPS),
    Case("imaml", "glyphs-imaml", ("learner.inner_steps=2", "learner.cg_steps=2")),
    Case("protomaml", "glyphs-protomaml", _FEW_STEPS),
    Case("protonet", "glyphs-protonet", ("episodes.meta_train.n_way=5",)),
    Case("matchingnet", "glyphs-matchingnet", ("episodes.meta_train.n_way=5",)),
    Case("relationnet", "glyphs-relationnet"),
    Case("r2d2", "glyphs-r2d2", ("episodes.meta_train.n_way=5",)),
    Case("metaoptnet", "glyphs-metaoptnet"),
    Case("sklearn head", "glyphs-random-forest", ("learner.params.n_estimators=3",)),
    Case("snail", "glyphs-snail", ("learner.filters=8", "episodes.n_way=2")),
    Case("meta-sgd", "sinusoid-meta-sgd"),
    Case("meta-curvature", "sinusoid-meta-curvature"),
    Case("cavia", "sinusoid-cavia"),
    Case("mmaml", "function-families-mmaml"),
    Case("cnp", "sinusoid-cnp", _CNP),
    Case("anp", "sinusoid-anp", (*_CNP, "learner.latent=8")),
    Case("mann", "sinusoid-mann", ("learner.units=16", "learner.slots=8")),
    _of_folder("image", "model.encoders.image.channels=8", 'model.encoders.image.name="conv4"'),
    _of_folder("audio"),
    _of_folder("video"),
    _of_folder("text"),
    _of_folder("stroke"),
    _of_folder("table"),
    Case("all modalities fused", "folder-protonet", (*_FOLDER, "episodes.missing_rate=0.3")),
    Case("a mixture", "mixture-maml", (_PARTS, _GATED, "episodes.n_way=2", *_FEW_STEPS)),
)


def files() -> dict[str, bytes | str]:
    """Return the files of a folder with every modality, by name."""
    found: dict[str, bytes | str] = {}
    for number, name in enumerate(CLASSES):
        for item in range(ITEMS_PER_CLASS):
            one = 10 * number + item
            found |= {
                f"{name}/{item}.png": picture(one, side=28),
                f"{name}/{item}.wav": sound(one),
                f"{name}/{item}.gif": clip(one),
                f"{name}/{item}.txt": sentence(one),
                f"{name}/{item}.json": drawing(one),
                f"{name}/{item}.csv": f"{number},{item},{one % 7}",
            }
    return found
