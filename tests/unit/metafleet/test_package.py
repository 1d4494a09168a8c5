import importlib
import subprocess
import sys
import tomllib

import metafleet
from tests.paths import REPOSITORY

BLOCK = """
import sys

class Blocked:
    names = {names!r}
    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
import metafleet
"""
IMPORT_ALL = """
for name in metafleet.__all__:
    getattr(metafleet, name)
import metafleet.workload
print("torch" in sys.modules, sorted(Blocked.names & set(sys.modules)))
"""
LEARN = """
import tempfile
from pathlib import Path
import torch
from metafleet import DATASETS, LEARNERS, META_TRAIN, MODELS, CounterRng, EpisodeShape, MetaLearner

torch.set_num_threads(1)
folder = Path(tempfile.mkdtemp())
assert len(LEARNERS) > 20 and len(MODELS) > 2 and len(DATASETS) > 3
source = metafleet.open_source({{"name": "sinusoid"}}, folder)
shape = EpisodeShape(n_way=0, k_shot=5, n_query=5)
episodes = [source.sample(META_TRAIN, shape, CounterRng(1, META_TRAIN, 1, i)) for i in range(3)]
module = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
meta = MetaLearner(module, "meta_sgd", inner_steps=2)
meta.optimize(episodes)
assert meta.adapt(episodes[0])(episodes[0].query.inputs["x"]).shape == (5, 1)
meta.save(folder / "meta.safetensors")
meta.load(folder / "meta.safetensors")
print(meta.evaluate(episodes).n_episodes, sorted(Blocked.names & set(sys.modules)))
"""
FOREIGN = {
    "PIL",
    "alembic",
    "celery",
    "click",
    "fontTools",
    "kombu",
    "matplotlib",
    "metafleet.contracts",
    "metafleet.db",
    "metafleet.orchestrator",
    "metafleet.workers",
    "psutil",
    "pydantic",
    "redis",
    "rich",
    "safetensors",
    "sqlalchemy",
}


def test_the_core_imports_where_only_torch_and_numpy_are_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", (BLOCK + IMPORT_ALL).format(names=FOREIGN)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "True []", done.stderr


def test_the_client_says_what_it_needs_where_only_the_core_is_installed() -> None:
    words = FOREIGN - {name for name in FOREIGN if name.startswith("metafleet.")}
    ask = """
try:
    metafleet.Client
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK.format(names=words) + ask],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == ("metafleet.Client needs redis; pip install 'metafleet[fleet]'\n"), (
        done.stderr
    )


def test_a_script_meta_learns_where_only_what_the_core_requires_is_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", (BLOCK + LEARN).format(names=FOREIGN - {"safetensors"})],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "3 []", done.stderr


def test_the_core_requires_three_packages() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names = [requirement.partition(">")[0] for requirement in project["dependencies"]]
    assert names == ["torch", "numpy", "safetensors"]


def test_importing_leaves_random_generators_and_threads_alone() -> None:
    script = (
        "import torch; s = torch.random.get_rng_state(); n = torch.get_num_threads()\n"
        "import metafleet.workload\n"
        "assert torch.equal(s, torch.random.get_rng_state()) and n == torch.get_num_threads()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_all_public_names_exist_and_are_sorted() -> None:
    assert len(set(metafleet.__all__)) == len(metafleet.__all__)
    for name in metafleet.__all__:
        value = getattr(metafleet, name)
        module = getattr(value, "__module__", "metafleet")
        assert module.partition(".")[0] in (
            "metafleet",
            "collections",
            "typing",
            "builtins",
            "types",
        )
    assert set(metafleet._MODULE_OF) == {*metafleet.__all__, *metafleet._OF_FLEET}


def test_every_module_imports_alone() -> None:
    for name in (
        "learners.registry",
        "models.registry",
        "workload",
        "reduction",
        "learners.summary",
    ):
        importlib.import_module(f"metafleet.{name}")
