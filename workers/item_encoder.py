"""Encodes the items of a job with a pretrained encoder whose weights are on this host."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from metafleet.cancellation import stop_if_unwanted
from metafleet.contracts.codec import decode_tensors
from metafleet.contracts.connections import Client
from metafleet.contracts.exchange import Exchange
from metafleet.contracts.job import InnerLoopJob
from metafleet.contracts.plan import ROWS, EncodingPlan
from metafleet.data.decoding.features import find_encoder
from metafleet.data.decoding.registry import import_kinds
from metafleet.encoders.base import PretrainedEncoder
from metafleet.encoders.own_encoder import import_encoders
from metafleet.encoders.runtime import one_thread_a_call
from metafleet.errors import BlobMissingError, ContractError, DataError, NumericsError
from metafleet.params import Params
from metafleet.workers.caches import RecentlyUsed, read_plan


class ItemEncoder:
    """Encodes items. Keeps a few encoders, because reading weights takes seconds."""

    def __init__(self, client: Client, *, allowed_packages: tuple[str, ...]) -> None:
        self._client, self._allowed_packages = client, allowed_packages
        self._encoders: RecentlyUsed[str, tuple[EncodingPlan, PretrainedEncoder]] = RecentlyUsed(2)

    def encode(self, job: InnerLoopJob, exchange: Exchange) -> Params:
        """Return the features of the job's items. The batches are the same as in a single process.

        Raises:
            ConfigError: the encoder is from a package that this worker does not allow.
            BlobMissingError: the plan or the items are not in the stores.
            DataError: the encoder, or this version of it, is not on this host.
            NumericsError: features are not finite.
        """
        plan, encoder = self._encoders.get(job.plan, lambda: self._find(job))
        items = _read_items(job, exchange, plan)
        rows = []
        with one_thread_a_call():
            for start in range(0, len(items), encoder.batch_items):
                stop_if_unwanted()
                rows.append(encoder.encode_part(items[start : start + encoder.batch_items]))
        found = np.ascontiguousarray(np.concatenate(rows), np.float32)
        if not np.isfinite(found).all():
            raise NumericsError(
                f"encoder {encoder.name!r} gave features that are not finite; check its weights"
            )
        return {ROWS: torch.from_numpy(found)}

    def _find(self, job: InnerLoopJob) -> tuple[EncodingPlan, PretrainedEncoder]:
        plan = EncodingPlan.from_bytes(read_plan(self._client, job))
        import_kinds([plan.encoder.kind], allowed_packages=self._allowed_packages)
        named = {"encoder": plan.encoder.encoder}
        import_encoders(named, allowed_packages=self._allowed_packages)
        encoder = find_encoder(plan.encoder)
        own = json.loads(json.dumps(encoder.identity()))
        if own != plan.identity:
            raise DataError(
                f"encoder {encoder.name!r} is another one on this worker: "
                f"{_difference(plan.identity, own)}; install the same on every host"
            )
        return plan, encoder


def _read_items(job: InnerLoopJob, exchange: Exchange, plan: EncodingPlan) -> Any:
    try:
        (ref,) = job.inputs
        data = exchange.get(ref, what=f"the items of {job.label}")
        return plan.unpack_items(decode_tensors(data, plan.items_schema(job.n_episodes)))
    except (ContractError, ValueError) as error:  # unusable, so treat them as missing
        raise BlobMissingError(str(error)) from error


def _difference(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    keys = sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))
    told = [f"{key} {found.get(key)!r:.80}, expected {wanted.get(key)!r:.80}" for key in keys]
    return "; ".join(told)
