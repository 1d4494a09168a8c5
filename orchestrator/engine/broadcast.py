"""Puts what workers fetch where they can fetch it: the plan once, each version of the state."""

import hashlib
import json
from collections import OrderedDict
from typing import Final

from contracts.blobs import BlobStore
from contracts.codec import encode_tensors
from contracts.connections import Client
from contracts.keys import RunKeys
from contracts.ledger import RUN_TTL_MS
from metafleet.params import MetaState, flatten_state
from metafleet.workload import WorkloadSpec

_KEPT_VERSIONS: Final = 3
_STATE_TTL_S: Final = 3600.0


class Broadcast:
    """The run's plan and the newest versions of its state.

    Versions are named by the sha256 of their bytes, so a version can never change under a worker,
    and the same state is stored once however many steps use it.
    """

    def __init__(self, client: Client, blobs: BlobStore, run: str) -> None:
        self._client, self._blobs = client, blobs
        self._keys = RunKeys(run)
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._plans: set[str] = set()

    def publish_plan(self, spec: WorkloadSpec) -> str:
        """Make a plan available; returns its sha256."""
        text = json.dumps(spec.to_json(), sort_keys=True, allow_nan=False).encode()
        plan = hashlib.sha256(text).hexdigest()
        if plan not in self._plans:
            self._client.set(self._keys.plan(plan), text, px=RUN_TTL_MS)
            self._plans.add(plan)
        return plan

    def publish_state(self, state: MetaState) -> tuple[str, int]:
        """Make a state available; returns its sha256 and length."""
        data = encode_tensors(flatten_state(state))
        version = hashlib.sha256(data).hexdigest()
        if version not in self._versions:
            self._blobs.put(self._keys.state(version), data, ttl_s=_STATE_TTL_S)
        self._versions[version] = len(data)
        self._versions.move_to_end(version)
        while len(self._versions) > _KEPT_VERSIONS:
            self._forget(next(iter(self._versions)))
        return version, len(data)

    def invalidate(self) -> None:
        """Note that Redis may have lost everything: publish again at the next call."""
        self._plans.clear()
        self._versions.clear()

    def withdraw(self) -> None:
        """Delete every version and every plan."""
        for version in list(self._versions):
            self._forget(version)
        for plan in self._plans:
            self._client.delete(self._keys.plan(plan))

    def _forget(self, version: str) -> None:
        n_bytes = self._versions.pop(version)
        self._blobs.delete(self._keys.state(version), n_bytes)
