"""Checks of exercise 2.2. Right numbers: double sums in NumPy, over the critic's own values."""

import numpy as np
import torch

from checks.common import Exercise, Missing, Wrong, compare, f32, require

RNG = np.random.default_rng(9)
Q, Q_NEXT, R = RNG.normal(size=(3, 4))
D = np.array([0.0, 1.0, 0.0, 0.0])
GAMMA = 0.9
SHAPES = {"q": (4, 1), "y": (4, 4), "q - y": (4, 4)}
SHAPE_HINTS = {
    "q": "Print net(x).shape for a batch of 4: what does a last layer with one output return?",
    "y": (
        "r is (4,), and what q_targ returns is not. NumPy's rule: "
        "shapes are aligned from the right, and an axis of 1 is repeated."
    ),
    "q - y": "Shapes are aligned from the right, and an axis of 1 is repeated.",
}


def check_shapes(learner):
    """SHAPES of the broken code"""
    given = learner.SHAPES
    if not isinstance(given, dict):
        given = {}
    for name, shape in SHAPES.items():
        got = given.get(name)
        if got is None:
            raise Missing(f"that of {name} is not answered yet.")
        if not isinstance(got, tuple | list | torch.Size) or tuple(got) != shape:
            raise Wrong(f"{name} does not have the shape {got}. {SHAPE_HINTS[name]}")


def read_off(critic, s, a):
    """Q(s, a) from the critic's network, (B,), whatever shape the critic returns."""
    return critic.net(torch.cat([s, a], dim=-1)).detach().double().numpy().ravel()


def double_loop(q, q_next, r, d, gamma):
    """The loss of the broken code."""
    n = len(q)
    total = 0.0
    for i in range(n):
        for j in range(n):
            y = r[j] + gamma * (1 - d[j]) * q_next[i]
            total += (q[i] - y) ** 2
    return total / n**2


def check_fixed(learner):
    """the fixed code"""
    torch.manual_seed(3)
    critic = learner.Critic(2, 1, 8)
    target_critic = learner.Critic(2, 1, 8)
    s = f32(RNG.normal(size=(4, 2)))
    s2 = f32(RNG.normal(size=(4, 2)))
    a = f32(RNG.normal(size=(4, 1)))

    def pi(s):
        return s[:, :1]

    y = learner.compute_targets(target_critic, pi, f32(R), s2, f32(D), GAMMA)
    loss = learner.compute_loss_q(critic, s, a, y)
    q = read_off(critic, s, a)
    q_next = read_off(target_critic, s2, pi(s2))

    wrong = double_loop(q, q_next, R, D, GAMMA)
    is_number = torch.is_tensor(loss) and loss.ndim == 0
    if is_number and abs(loss.item() - wrong) < 1e-5 * (1 + wrong):
        raise Missing("the loss of a batch is still that of the broken code.")

    target = R + GAMMA * (1 - D) * q_next
    hint = (
        "y is a column now, (B, 1), and so is q: the numbers are right, "
        "but all else, rewards and logs, is (B,). Fix the critic instead."
    )
    compare("y", y, target, [(target[:, None], hint)], tensor=True)
    hint = (
        "The critic still returns (B, 1). Fix it where the axis of 1 is born: "
        "whoever uses the critic next would fall into the same trap."
    )
    compare("Q(s, a)", critic(s, a), q, [(q[:, None], hint)])
    squares = (q - target) ** 2
    compare("the loss", loss, squares.mean(), [(squares.sum(), "The mean, not the sum.")])
    require(loss.requires_grad, "No gradient reaches the critic any more.")


def check_formula(learner):
    """broken_loss"""
    got = learner.broken_loss(Q, Q_NEXT, R, D, GAMMA)
    broken = double_loop(Q, Q_NEXT, R, D, GAMMA)
    z = R[None, :] + GAMMA * (1 - D[None, :]) * Q_NEXT[:, None]
    own = R + GAMMA * (1 - D) * Q_NEXT
    hints = [
        (
            np.mean((Q - own) ** 2),
            "This is the right loss. "
            "The broken one compares each Q with the targets of other rows, too.",
        ),
        (16 * broken, "This is the sum over i and j; the code takes the mean."),
        (4 * broken, "The mean runs over all i and j: divide by B²."),
        (
            np.mean((Q[None, :] - z) ** 2),
            "Which index has Q(s, a)? q is a column, so it goes with the row i, "
            "as the next value does; r and d go with the column j.",
        ),
        (
            np.mean((Q[:, None] - own[None, :]) ** 2),
            "In y the next value is a column and r a row: "
            "the matrix y already mixes two rows of the batch.",
        ),
        (
            np.mean((Q[:, None] - z.T) ** 2),
            "In y the next value is the column: it has the index i, and r and d have j.",
        ),
    ]
    compare("broken_loss", got, broken, hints)


EXERCISE = Exercise(parts=[check_shapes, check_fixed, check_formula])
