"""Checks of exercise 1.7. Right answer: which transitions are there, how often each is drawn."""

import numpy as np
import torch

from checks.common import Exercise, Wrong, require, short_run
from checks.td3 import PENDULUM

CAPACITY = 5
NAMES = ("s", "a", "r", "s2", "d")
HINTS = {
    r"out of (bounds|range)": (
        "The buffer is full, and does not wrap around: the next row is n % capacity."
    )
}


def row(i):
    """Transition number i, which every part of it tells."""
    s = np.float32([i, -i])
    a = np.float32([i, i, 0.5])
    s2 = np.float32([i + 0.5, i])
    return s, a, float(i), s2, i % 2 == 1


def filled(learner, n):
    buf = learner.ReplayBuffer(2, 3, CAPACITY)
    for i in range(n):
        buf.store(*row(i))
    return buf


def sample(buf, size):
    """A batch, checked for its types and shapes."""
    batch = buf.sample(size)
    require(batch is not None, "sample returns None. Is a `return` missing?")
    if not isinstance(batch, list | tuple) or len(batch) != 5:
        raise Wrong("sample should return five tensors, s, a, r, s2, d, in this order.")
    for name, x, shape in zip(NAMES, batch, ((size, 2), (size, 3), (size,), (size, 2), (size,))):
        require(
            torch.is_tensor(x),
            f"{name} of a batch should be a torch tensor, not {type(x).__name__}.",
        )
        if tuple(x.shape) == (size, 1) and shape == (size,):
            raise Wrong(
                f"{name} of a batch is (B, 1). It must be (B,), or Q − y will silently be (B, B)."
            )
        require(
            tuple(x.shape) == shape,
            f"{name} of a batch of {size} has shape {tuple(x.shape)}, and should have {shape}.",
        )
        require(x.dtype == torch.float32, f"{name} of a batch is {x.dtype}, and should be float32.")
    return batch


def rows_of(x):
    """The set of a tensor's rows."""
    return {tuple(numbers) for numbers in x.reshape(len(x), -1).tolist()}


def held(buf, size=2000):
    """{number of a transition: how often it was drawn}."""
    torch.manual_seed(0)
    np.random.seed(0)
    batch = sample(buf, size)
    if bool((batch[1][:, 2] == 0).any()):  # 0.5 in all that was stored
        raise Wrong(
            "Rows are drawn that were never written: is it off by one where it wraps? "
            "Is n % capacity the next row?"
        )
    numbers = [int(i) for i in batch[2]]
    for part, (name, x) in enumerate(zip(NAMES, batch)):
        stored = [torch.as_tensor(row(i)[part], dtype=torch.float32) for i in numbers]
        want = torch.stack(stored)
        if torch.equal(x, want):
            continue
        if rows_of(x) == rows_of(want):
            raise Wrong(
                f"{name} of a batch belongs to another transition than r. "
                "Draw the indices once, for all five."
            )
        raise Wrong(f"{name} of a batch is not what was stored.")
    return {i: numbers.count(i) for i in set(numbers)}


def check_partly(learner):
    """a buffer that is partly filled"""
    for n in (1, 3):
        drawn = set(held(filled(learner, n)))
        require(drawn <= set(range(n)), f"After {n} transitions, others were drawn.")
        if n > 1 and 0 in drawn:
            first_only = sample(filled(learner, 1), 50)[0]
            if torch.equal(first_only, torch.zeros(50, 2)):
                require(
                    drawn == set(range(n)),
                    f"After {n} transitions only {sorted(drawn)} are drawn (of 0 to {n - 1}).",
                )


def check_empty_rows(learner):
    """rows that were never written"""
    buf = learner.ReplayBuffer(2, 3, CAPACITY)
    for i in (6, 7, 8):  # none of them looks like an empty row
        buf.store(*row(i))
    batch = sample(buf, 500)
    numbers = {round(float(x), 3) for x in batch[2]}
    require(
        numbers <= {6.0, 7.0, 8.0},
        "Rows are drawn that were never written. Draw below min(n, capacity).",
    )
    require(
        numbers == {6.0, 7.0, 8.0},
        f"Of three transitions only {len(numbers)} are ever drawn: off by one in the bound?",
    )


def check_full(learner):
    """a buffer that is just full"""
    drawn = held(filled(learner, CAPACITY))
    missing = sorted(set(range(CAPACITY)) - set(drawn))
    if missing == [CAPACITY - 1]:
        raise Wrong(
            "The last row is never drawn: off by one. torch.randint(n, ...) already stops before n."
        )
    if missing:
        raise Wrong(
            f"{CAPACITY} transitions are stored, and number {missing[0]} is gone: "
            "off by one where it wraps?"
        )


def check_wrapped(learner):
    """a buffer that has wrapped around"""
    for n in (6, 13, 23):
        drawn = held(filled(learner, n))
        want = set(range(n - CAPACITY, n))
        if set(drawn) == set(range(CAPACITY)):
            raise Wrong(
                "When it is full, new transitions are dropped. "
                "They should overwrite the oldest: row n % capacity."
            )
        if set(drawn) == set(range(n)):
            raise Wrong(
                f"It keeps all {n} transitions, with a capacity of {CAPACITY}. "
                "New ones should overwrite the oldest."
            )
        if set(drawn) != want:
            old = sorted(set(drawn) - want)
            gone = sorted(want - set(drawn))
            raise Wrong(
                f"After {n} transitions it should hold numbers {n - CAPACITY} to {n - 1}. "
                f"Drawn, though gone: {old}; never drawn: {gone}. "
                "Off by one where it wraps: the next row is n % capacity."
            )
        counts = [drawn[i] for i in sorted(want)]
        require(
            min(counts) > 0.7 * 2000 / CAPACITY,
            f"The transitions are not equally likely: drawn {counts} times of 2000.",
        )


def check_replacement(learner):
    """batches larger than the buffer, and different ones"""
    buf = filled(learner, 4)
    try:
        one = sample(buf, 30)[2].tolist()
        two = sample(buf, 30)[2].tolist()
    except (ValueError, RuntimeError, IndexError) as e:
        text = f"A batch of 30 from 4 transitions fails ({e}). Draw with replacement."
        raise Wrong(text) from e
    require(
        one != two,
        "Two batches are the same: the indices are not random, or a seed is set in sample.",
    )


def check_copies(learner):
    """copies, not references"""
    buf = learner.ReplayBuffer(2, 3, CAPACITY)
    s = np.zeros(2, dtype=np.float32)
    a = np.zeros(3, dtype=np.float32)
    s2 = np.zeros(2, dtype=np.float32)
    buf.store(s, a, 1.0, s2, False)
    for x in (s, a, s2):
        x += 7  # like an environment that reuses its observation
    batch = sample(buf, 4)
    require(
        all(bool((batch[i] == 0).all()) for i in (0, 1, 3)),
        "When the caller's array changes, the stored transition changes, too. "
        "Keep a copy: x[row] = ..., or .copy().",
    )
    other = np.float32([5, 5])
    for _ in range(2 * CAPACITY):
        buf.store(other, np.zeros(3, dtype=np.float32), 1.0, other, False)
    require(
        bool((batch[0] == 0).all()),
        "A batch changes when its rows are overwritten later. Return copies, not views.",
    )


EXERCISE = Exercise(
    parts=[
        check_partly,
        check_empty_rows,
        check_full,
        check_wrapped,
        check_replacement,
        check_copies,
    ],
    hints=HINTS,
)


def train(learner):
    """SAC with the learner's buffer."""

    def changes(sac):
        class Buffer(learner.ReplayBuffer):
            def state_dict(self):
                return {}

        return {"ReplayBuffer": Buffer}

    return short_run("sac", changes, **PENDULUM, replay_size=5_000)
