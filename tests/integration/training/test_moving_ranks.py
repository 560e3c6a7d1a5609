"""A process that has another rank in the next generation takes that rank's part, and no other.

1. Two ranks train one step and are asked to leave at a boundary.
2. They enter the next generation of the same shape in the other order, and train to the end.
3. The weights are those of a run in which nobody moved.
"""

from __future__ import annotations

from tests.integration.training.jobs import mesh, write_job
from tests.workers import Pool, Workers, weights


def test_two_ranks_that_change_places_give_the_same_weights(tmp_path):
    job = write_job(tmp_path / "moving", **mesh(dp=2), train__steps=6)
    with Pool(tmp_path / "still") as pool:
        undisturbed = weights(
            pool.train(write_job(tmp_path / "job", **mesh(dp=2), train__steps=6), 2)
        )
    with Workers(2, tmp_path / "workers") as pair:
        first, second = pair.workers
        pair.enter(1, job)
        pair.until(lambda: first.last("step") is not None)
        for worker in pair.workers:
            worker.tell({"type": "boundary", "generation": 1, "reason": "a test", "save": False})
        pair.until(lambda: all(w.last("left") for w in pair.workers))
        assert [w.last("left")["reason"] for w in pair.workers] == ["boundary", "boundary"]
        pair.enter(2, job, who=[second, first])
        pair.until(lambda: all(w.last("finished") or w.last("failed") for w in pair.workers))
        assert second.last("entered")["source"] == "peers"
        assert weights([second.said]) == undisturbed
