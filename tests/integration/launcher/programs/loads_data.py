"""A loop of one's own that loads its data by other processes, as most do."""

import sys

import torch
from torch.utils.data import DataLoader, Dataset

import trainer


class Numbers(Dataset):
    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((4,), index / 1e6)


def train(run: trainer.Run) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    run.state(model, optimizer)
    batches = iter(DataLoader(Numbers(), batch_size=2, num_workers=2, persistent_workers=True))
    for _step in run.steps(int(sys.argv[1])):
        loss = parallel(next(batches)).sum()
        loss.backward()
        run.log(loss=loss)
        optimizer.step()
        optimizer.zero_grad()


trainer.elastic(train)
