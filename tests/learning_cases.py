"""Experiments made so small that a test trains them: a case for each learner.

A case is a file of ``experiments/`` and what makes it small.
"""

from dataclasses import dataclass

from metafleet.learners.registry import LEARNERS
from metafleet.orchestrator.config.experiment import ExperimentConfig
from tests.fleet import ROOT

SMALL = (
    "validation.every=0",
    "test.episodes=60",
    "test.baselines=true",
    "outer.meta_batch_size=8",
    "engine.episodes_per_job=4",
)
SMALL_GLYPHS = ("episodes.k_shot=1", "episodes.n_query=3", "episodes.n_way=5", "model.channels=16")
FAST = ("outer.steps=30", "outer.lr=0.005")
GENTLE = ("learner.inner_lr=0.1", "learner.inner_steps=3")
FEW_TREES = ("learner.params.n_estimators=10",)
BASELINES = {"nearest_prototype"}
"""Learners with nothing to learn; the test of a run judges them."""
NAMED = {name for name, it in LEARNERS.items() if getattr(it, "reads_class_text", False)}
"""Learners that need features of the names of classes.

test_text_heads.py checks them, and test_text_towers.py trains one.
"""
TWO_WAY = ("episodes.n_way=2",)
AMPLITUDES = (
    "outer.steps=30",
    "outer.lr=0.005",
    "outer.meta_batch_size=16",
    "test.episodes=200",
    # one phase: what is left to learn is how to read an amplitude
    "data.phase_max=0",
    "data.x_min=0",
    "data.x_max=3",
)


@dataclass(frozen=True)
class Case:
    """One experiment, made small.

    Attributes:
        experiment: name of its file.
        overrides: as after ``--set``, besides ``SMALL``.
    """

    experiment: str
    overrides: tuple[str, ...]

    def config(self) -> ExperimentConfig:
        shared = SMALL_GLYPHS if self.experiment.startswith("glyphs-") else ()
        path = ROOT / "experiments" / f"{self.experiment}.toml"
        return ExperimentConfig.load(path, [*SMALL, *shared, *self.overrides])

    @property
    def learner(self) -> str:
        return str(self.config().learner["name"])

    def __str__(self) -> str:
        return f"{self.experiment} {self.learner}"


CONFIGURED = (
    Case("glyphs-maml", (*FAST, *GENTLE, "outer.steps=50")),
    Case("glyphs-fomaml", (*FAST, *GENTLE, "outer.steps=50")),
    Case("glyphs-anil", (*FAST, "learner.inner_steps=3")),
    Case("glyphs-boil", FAST),
    Case("glyphs-maml-plus-plus", (*FAST, "learner.inner_steps=3", "learner.epoch_steps=5")),
    Case("glyphs-reptile", (*FAST, "outer.optimiser=adam", "learner.inner_steps_eval=8")),
    Case("glyphs-imaml", (*FAST, "learner.inner_steps=4", "learner.cg_steps=2")),
    Case("glyphs-protomaml", ("outer.steps=15", "learner.inner_steps=2")),
    Case("glyphs-protonet", ("outer.steps=15", "episodes.meta_train.n_way=10")),
    Case("glyphs-matchingnet", ("outer.steps=15", "episodes.meta_train.n_way=10")),
    Case("glyphs-relationnet", ("outer.steps=40",)),
    Case("glyphs-r2d2", ("outer.steps=15", "episodes.meta_train.n_way=10")),
    Case("glyphs-lrd2", ("outer.steps=15",)),
    Case("glyphs-metaoptnet", ("outer.steps=15",)),
    Case("glyphs-random-forest", ("outer.steps=15", "test.episodes=30", *FEW_TREES)),
    Case("glyphs-snail", ("outer.steps=100", "outer.lr=0.003", "learner.filters=16", *TWO_WAY)),
    Case("sinusoid-maml", (*FAST, "outer.steps=100")),
    Case("sinusoid-cavia", (*FAST, "outer.steps=100")),
    Case("function-families-mmaml", ("outer.steps=100", "outer.lr=0.002", "test.episodes=200")),
    Case("sinusoid-cnp", (*AMPLITUDES, "outer.steps=50", "learner.hidden=64")),
    Case("sinusoid-anp", (*AMPLITUDES, "learner.hidden=32", "learner.latent=8")),
    Case("sinusoid-mann", (*AMPLITUDES, "learner.units=32", "learner.slots=8")),
    Case("sinusoid-meta-sgd", (*FAST, "outer.steps=100")),
    Case("sinusoid-meta-curvature", (*FAST, "outer.steps=100")),
)
"""Those with a configuration of their own."""


def _without_configuration() -> list[Case]:
    """Return a case for each other learner, on the glyphs of a prototypical network."""
    trained = {case.learner for case in CONFIGURED}
    plain = ("episodes.meta_train.n_way=5", *FAST)
    return [
        Case("glyphs-protonet", (f"learner.name={name}", *plain))
        for name in LEARNERS
        if name not in trained | BASELINES | NAMED
    ]


CASES = (*CONFIGURED, *_without_configuration())
