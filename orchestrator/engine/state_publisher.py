"""Publishes blobs for workers: the plan once, and each version of the state."""

import logging
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from metafleet.contracts.blobs import BlobStore
from metafleet.contracts.codec import Encoded, WireDtype, content_digest, encode, narrow
from metafleet.contracts.connections import Client
from metafleet.contracts.host_area import HostArea
from metafleet.contracts.keys import RunKeys
from metafleet.contracts.ledger import RUN_TTL_MS
from metafleet.params import MetaState, flatten_state

if TYPE_CHECKING:  # slow to import, most runs need none
    from metafleet.orchestrator.engine.direct_server import DirectServer

log = logging.getLogger(__name__)

_KEPT_VERSIONS: Final = 3
_STATE_TTL_S: Final = 3600.0


@dataclass(slots=True)
class _Version:
    """A version: its length, its locations, and its state while that may be published again."""

    n_bytes: int
    may_return: bool = False
    """Whether it is named by its digest, so that the same state would get this name again."""
    is_here: bool = False
    is_stored: bool = False
    was_stored: bool = False
    """Whether it was ever put into the store, so that it must be deleted there."""
    state: MetaState | None = None


class StatePublisher:
    """The run's plan and the newest versions of its state.

    A version is the encoded state after one outer step. The bytes of a version do not change while
    a worker uses the version. In the blob store, the name of a version is the digest of its bytes.
    A version that is only in the memory of this host has a unique random name. A state that several
    steps use is published only once.

    Args:
        client: client of the broker.
        blobs: the store that every host reaches.
        run: the run's uid.
        area: the run's files in the shared memory of this host; None if shared memory is not used.
        wire_dtype: type to which float32 tensors are converted for sending.
        direct: serves states to workers on other hosts; None if direct transfers are not used. As
            long as the workers can reach this server, states are not put into the store.
    """

    def __init__(
        self,
        client: Client,
        blobs: BlobStore,
        run: str,
        *,
        area: HostArea | None = None,
        wire_dtype: WireDtype = "float32",
        direct: "DirectServer | None" = None,
    ) -> None:
        self._client, self._blobs, self._area = client, blobs, area
        self._direct, self._is_reached = direct, direct is not None
        self._keys, self._wire_dtype = RunKeys(run), wire_dtype
        self._versions: OrderedDict[str, _Version] = OrderedDict()
        self._held: dict[str, list[str]] = {}
        self._plans: set[str] = set()
        self._unwanted: dict[str, int] = {}
        """Keys and lengths of blobs still to be deleted from the store."""

    def publish_plan(self, text: bytes) -> str:
        """Publish a plan in the form that travels. Return its digest."""
        plan = content_digest(text)
        if plan not in self._plans:
            self._client.set(self._keys.plan(plan), text, px=RUN_TTL_MS)
            self._plans.add(plan)
        return plan

    def publish_state(
        self, state: MetaState, *, holder: str = "", everywhere: bool = True, here: bool = True
    ) -> tuple[str, int]:
        """Publish a state. Return the name and length of its version.

        Args:
            state: the state.
            holder: name under which the version is held. The version's memory is not reused until
                ``release`` is called with this name. If "", the version is not held.
            everywhere: whether workers on other hosts need the state too. If False, the state is
                put only into this host's memory, provided that this memory has room.
            here: whether workers on this host need the state.
        """
        version = self._find_published(state, everywhere=everywhere)
        if version is None:
            encoded = encode(narrow(flatten_state(state), self._wire_dtype))
            version = None if everywhere else self._put_here(uuid.uuid4().hex * 2, encoded)
            if version is None:
                version = self._put_everywhere(encoded, here=here)
            self._versions[version].state = state
        self._versions.move_to_end(version)
        if holder and version not in self._held.setdefault(holder, []):
            self._held[holder].append(version)
        self._tidy()
        return version, self._versions[version].n_bytes

    def release(self, holder: str) -> None:
        """Release the versions that ``holder`` held, because its jobs no longer use them."""
        if self._held.pop(holder, None):
            self._tidy()

    def _tidy(self) -> None:
        """Forget the oldest versions, except those that open steps still send."""
        wanted = {versions[-1] for versions in self._held.values()} | {
            next(reversed(self._versions))
        }
        unwanted = [version for version in self._versions if version not in wanted]
        for version in unwanted:
            self._versions[version].state = None
        for version in unwanted[: max(0, len(self._versions) - _KEPT_VERSIONS)]:
            self._forget(version)
        self._delete_unwanted()

    def _find_published(self, state: MetaState, *, everywhere: bool) -> str | None:
        for version, entry in reversed(self._versions.items()):
            is_there = entry.is_stored or (entry.is_here and not everywhere)
            if entry.state is state and is_there:
                return version
        return None

    def _put_here(self, version: str, encoded: Encoded) -> str | None:
        """Put a version into this host's memory. Return its name; None if there is no room."""
        if self._area is None:
            return None
        seal = self._area.put(self._keys.state(version), encoded.pieces, ttl_s=_STATE_TTL_S)
        if seal is None:
            return None
        self._versions.setdefault(version, _Version(encoded.n_bytes)).is_here = True
        return version

    def _put_everywhere(self, encoded: Encoded, *, here: bool) -> str:
        version = encoded.digest()
        entry = self._versions.setdefault(version, _Version(encoded.n_bytes, may_return=True))
        if here and not entry.is_here:
            self._put_here(version, encoded)
        if self._direct is not None:
            self._direct.offer(self._keys.state(version), encoded)
        if self._is_reached:
            entry.is_stored = True
        elif not entry.is_stored:
            entry.was_stored = True  # even if the answer is lost
            self._unwanted.pop(self._keys.state(version), None)
            self._blobs.put(self._keys.state(version), encoded.join(), ttl_s=_STATE_TTL_S)
            entry.is_stored = True
        return version

    def note_missed(self) -> None:
        """Record that a worker missed a state. If it was offered directly, use the store too."""
        if self._is_reached and any(entry.is_stored for entry in self._versions.values()):
            self._is_reached = False
            log.warning("workers do not reach this host directly: states go through the store, too")

    def invalidate(self) -> None:
        """Publish everything again at the next call, because it may be lost."""
        self._plans.clear()
        for entry in self._versions.values():
            entry.is_here = entry.is_stored = False

    def withdraw(self) -> None:
        """Delete every version and every plan."""
        for version in list(self._versions):
            self._forget(version)
        self._delete_unwanted()
        for plan in self._plans:
            self._client.delete(self._keys.plan(plan))

    def _forget(self, version: str) -> None:
        entry, key = self._versions.pop(version), self._keys.state(version)
        if self._direct is not None:
            self._direct.withdraw(key)
        if self._area is not None:
            if entry.may_return or any(version in held for held in self._held.values()):
                # delete it instead of reusing its memory: jobs may still use it, and if its name is
                # used again, a worker that has mapped it must not find another state in that map
                self._area.delete(key)
            else:
                self._area.set_free(key)
        if entry.was_stored:
            self._unwanted[key] = entry.n_bytes

    def _delete_unwanted(self) -> None:
        """Delete forgotten versions from the store. If this fails, the next call continues."""
        for key in list(self._unwanted):
            self._blobs.delete(key, self._unwanted[key])
            del self._unwanted[key]
