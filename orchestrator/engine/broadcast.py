"""Puts what workers fetch where they can fetch it: the plan once, each version of the state."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from contracts.blobs import BlobStore
from contracts.codec import WireDtype, content_digest, encode, narrow
from contracts.connections import Client
from contracts.host_cache import HostArea
from contracts.keys import RunKeys
from contracts.ledger import RUN_TTL_MS
from metafleet.params import MetaState, flatten_state
from metafleet.workload import WorkloadSpec

_KEPT_VERSIONS: Final = 3
_STATE_TTL_S: Final = 3600.0


@dataclass(slots=True)
class _Version:
    """Length of a version, and where it lies."""

    n_bytes: int
    is_here: bool = False
    is_stored: bool = False


class Broadcast:
    """The run's plan and the newest versions of its state.

    Versions are named by the digest of their bytes, so a version can never change under a worker,
    and the same state is stored once however many steps use it.

    Args:
        client: of the broker.
        blobs: the store that every host reaches.
        run: the run's uid.
        area: the run's files in this host's memory; None to do without.
        wire_dtype: how float32 tensors travel.
    """

    def __init__(
        self,
        client: Client,
        blobs: BlobStore,
        run: str,
        *,
        area: HostArea | None = None,
        wire_dtype: WireDtype = "float32",
    ) -> None:
        self._client, self._blobs, self._area = client, blobs, area
        self._keys, self._wire_dtype = RunKeys(run), wire_dtype
        self._versions: OrderedDict[str, _Version] = OrderedDict()
        self._plans: set[str] = set()

    def publish_plan(self, spec: WorkloadSpec) -> str:
        """Make a plan available; returns its digest."""
        text = json.dumps(spec.to_json(), sort_keys=True, allow_nan=False).encode()
        plan = content_digest(text)
        if plan not in self._plans:
            self._client.set(self._keys.plan(plan), text, px=RUN_TTL_MS)
            self._plans.add(plan)
        return plan

    def publish_state(self, state: MetaState, *, everywhere: bool = True) -> tuple[str, int]:
        """Make a state available; returns its digest and length.

        Args:
            state: the state.
            everywhere: workers of other hosts need it too; else this host's memory will do, if it
                has room.
        """
        encoded = encode(narrow(flatten_state(state), self._wire_dtype))
        version = encoded.digest()
        key, entry = self._keys.state(version), self._versions.get(version)
        if entry is None:
            entry = self._versions[version] = _Version(encoded.n_bytes)
        self._versions.move_to_end(version)
        if self._area is not None and not entry.is_here:
            seal = self._area.put(key, encoded.pieces, ttl_s=_STATE_TTL_S)
            entry.is_here = seal is not None
        if (everywhere or not entry.is_here) and not entry.is_stored:
            self._blobs.put(key, encoded.join(), ttl_s=_STATE_TTL_S)
            entry.is_stored = True
        while len(self._versions) > _KEPT_VERSIONS:
            self._forget(next(iter(self._versions)))
        return version, entry.n_bytes

    def invalidate(self) -> None:
        """Note that everything may be lost: publish again at the next call."""
        self._plans.clear()
        for entry in self._versions.values():
            entry.is_here = entry.is_stored = False

    def withdraw(self) -> None:
        """Delete every version and every plan."""
        for version in list(self._versions):
            self._forget(version)
        for plan in self._plans:
            self._client.delete(self._keys.plan(plan))

    def _forget(self, version: str) -> None:
        entry, key = self._versions.pop(version), self._keys.state(version)
        if self._area is not None:
            self._area.delete(key)
        self._blobs.delete(key, entry.n_bytes)
