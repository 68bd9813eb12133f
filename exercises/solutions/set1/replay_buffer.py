"""Exercise 1.7: a replay buffer that wraps around.

It keeps the last `capacity` transitions (s, a, r, s', d), overwrites the oldest when it is full,
and draws batches from everything it holds, each transition as likely as any other.

    python exercises/check.py replay_buffer
"""

import torch


class ReplayBuffer:
    def __init__(self, obs_dim, act_dim, capacity):
        """Room for `capacity` transitions; s, s2 (obs_dim,), a (act_dim,), r and d numbers."""
        shapes = [(obs_dim,), (act_dim,), (), (obs_dim,), ()]  # of s, a, r, s2, d
        self.data = [torch.zeros(capacity, *shape) for shape in shapes]
        self.capacity = capacity
        self.n = 0

    def store(self, s, a, r, s2, d):
        """Keeps a copy of one transition; d is a bool, r a number.

        s, a, s2: NumPy arrays, which the caller may change afterwards.
        """
        for x, new in zip(self.data, (s, a, r, s2, d)):
            x[self.n % self.capacity] = torch.as_tensor(new)
        self.n += 1

    def sample(self, batch_size):
        """A batch s, a, r, s2, d: float32 tensors of batch_size rows, drawn with replacement."""
        idx = torch.randint(min(self.n, self.capacity), (batch_size,))
        return [x[idx] for x in self.data]
