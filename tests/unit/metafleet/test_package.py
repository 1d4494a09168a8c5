import importlib
import subprocess
import sys

import metafleet

BLOCK_ALL_BUT_TORCH = """
import sys

class Blocked:
    names = {names!r}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
import metafleet
for name in metafleet.__all__:
    getattr(metafleet, name)
import metafleet.fingerprint
print("torch" in sys.modules, sorted(Blocked.names & set(sys.modules)))
"""
FOREIGN = {
    "PIL",
    "alembic",
    "celery",
    "click",
    "contracts",
    "db",
    "fontTools",
    "kombu",
    "matplotlib",
    "orchestrator",
    "psutil",
    "pydantic",
    "redis",
    "rich",
    "safetensors",
    "sqlalchemy",
    "workers",
}


def test_the_core_imports_where_only_torch_and_numpy_are_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCK_ALL_BUT_TORCH.format(names=FOREIGN)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "True []", done.stderr


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
    assert set(metafleet._MODULE_OF) == set(metafleet.__all__)


def test_every_module_imports_alone() -> None:
    for name in ("learners.registry", "models.registry", "workload", "reduction", "summary"):
        importlib.import_module(f"metafleet.{name}")
