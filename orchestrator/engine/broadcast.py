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

    def __init__(self, client: Client, blobs: BlobStore, run: str, spec: WorkloadSpec) -> None:
        self._client, self._blobs = client, blobs
        self._keys = RunKeys(run)
        self._plan_text = json.dumps(spec.to_json(), sort_keys=True, allow_nan=False).encode()
        self.plan = hashlib.sha256(self._plan_text).hexdigest()
        self._versions: OrderedDict[str, bytes] = OrderedDict()
        self._published: set[str] = set()

    def publish(self, state: MetaState) -> tuple[str, int]:
        """Make plan and state available; returns the state's sha256 and length."""
        data = encode_tensors(flatten_state(state))
        version = hashlib.sha256(data).hexdigest()
        self._versions[version] = data
        self._versions.move_to_end(version)
        if not self._published:
            self._client.set(self._keys.plan(self.plan), self._plan_text, px=RUN_TTL_MS)
        if version not in self._published:
            self._blobs.put(self._keys.state(version), data, ttl_s=_STATE_TTL_S)
            self._published.add(version)
        while len(self._versions) > _KEPT_VERSIONS:
            self._forget(next(iter(self._versions)))
        return version, len(data)

    def invalidate(self) -> None:
        """Note that Redis lost everything: publish again at the next call."""
        self._published.clear()

    def withdraw(self) -> None:
        """Delete every version and the plan."""
        for version in list(self._versions):
            self._forget(version)
        self._client.delete(self._keys.plan(self.plan))

    def _forget(self, version: str) -> None:
        n_bytes = len(self._versions.pop(version))
        self._published.discard(version)
        self._blobs.delete(self._keys.state(version), n_bytes)
