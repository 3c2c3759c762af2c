"""A batch over a Ray cluster of two nodes on this machine, whose workers and nodes die in mid-run."""

import json
import os
import signal

import pytest
from batch_help import batch, pantry_rows, predictions

from steergraph.agents.driving import make_engine
from steergraph.base.errors import InputError
from steergraph.evals.swebench.config import BatchConfig
from steergraph.evals.swebench.ray_pool import RayPool

pytestmark = pytest.mark.slow
NAMES = ("stock", "fridge", "shelf")
MODEL = {"model": "pocket", "deterministic": True}
STORE = 80 * 1024 * 1024


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERGRAPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE})
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def test_a_worker_and_a_node_die_and_nothing_is_lost(cluster, tmp_path):
    other = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    rows = pantry_rows(*NAMES)
    with make_engine(BatchConfig(uid="", **MODEL)) as engine:
        _, undisturbed = batch(tmp_path / "a", rows, engine=engine, samples=2, **MODEL)
        pools = []

        def over_ray(settings, folder):
            pools.append(RayPool(cluster.address, settings, folder.path, state=None, jobs=2, replicas=2))
            assert pools[0].info == engine.info
            return pools[0]

        killed = []

        def finished(record, before):
            if not killed:
                killed.append(next(iter(pools[0].pids.values())))
                os.kill(killed[0], signal.SIGKILL)
            elif len(killed) == 1:
                killed.append("node")
                cluster.remove_node(other, allow_graceful=False)

        _, folder = batch(tmp_path / "b", rows, engine=engine, samples=2, pool_of=over_ray, finished=finished, **MODEL)
        pools[0].__exit__(None, None, None)
    assert len(killed) == 2
    assert predictions(folder) == predictions(undisturbed)
    assert any(row["model_patch"] for row in predictions(folder))
    for row in rows:
        mine, theirs = (f.record("rag_baseline", row["instance_id"]) for f in (folder, undisturbed))
        assert [c["key"] for c in mine["candidates"]] == [c["key"] for c in theirs["candidates"]]
        for sample in (0, 1):
            at = folder.sample("rag_baseline", row["instance_id"], sample)
            assert json.loads((at / "trace.jsonl").read_text().splitlines()[-1])["event"] == "outcome"
    assert not list(folder.path.rglob("checkpoint.sqlite*"))


def test_a_replica_that_cannot_start_is_one_line(cluster, tmp_path):
    settings = BatchConfig(uid="u", model=str(tmp_path / "no-model"))
    with RayPool(cluster.address, settings, tmp_path, state=None, jobs=1, replicas=1) as pool:
        with pytest.raises(InputError, match=r"no replica can be started: .*no-model") as caught:
            _ = pool.info
        assert "\n" not in str(caught.value)


def test_where_the_folder_is_out_of_reach_the_trace_comes_back(cluster, tmp_path, monkeypatch):
    rows = pantry_rows("stock")

    def over_ray(settings, folder):
        elsewhere = tmp_path / "not-here"
        made.append(RayPool(cluster.address, settings, elsewhere, state=None, jobs=1, replicas=1))
        return made[0]

    made: list[RayPool] = []
    _, folder = batch(tmp_path / "r", rows, pool_of=over_ray, **MODEL)
    made[0].__exit__(None, None, None)
    at = folder.sample("rag_baseline", rows[0]["instance_id"], 0)
    events = [json.loads(line)["event"] for line in (at / "trace.jsonl").read_text().splitlines()]
    assert events[0] == "route" and events[-1] == "outcome"
    assert not (tmp_path / "not-here").exists()


def test_no_cluster_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"--ray 127\.0\.0\.1:1: no cluster there") as caught:
        RayPool("127.0.0.1:1", BatchConfig(uid="u"), tmp_path, state=None, jobs=1, replicas=1)
    assert "\n" not in str(caught.value)
