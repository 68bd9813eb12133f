"""Exercise 2.2. The right numbers: double sums in NumPy; a critic whose numbers are read off its own network."""

import numpy as np
import torch

from checks.common import Missing, Wrong, compare, f32, require

RNG = np.random.default_rng(9)
Q, Q_NEXT, R = RNG.normal(size=(3, 4))
D = np.array([0.0, 1.0, 0.0, 0.0])
GAMMA = 0.9


def check_shapes(learner):
    """SHAPES of the broken code"""
    right = {"q": (4, 1), "y": (4, 4), "q - y": (4, 4)}
    given = learner.SHAPES if isinstance(learner.SHAPES, dict) else {}
    for name, shape in right.items():
        got = given.get(name)
        if got is None:
            raise Missing(f"that of {name} is not answered yet.")
        if not isinstance(got, tuple | list | torch.Size) or tuple(got) != shape:
            hints = {
                "q": "Print net(x).shape for a batch of 4: what does a last layer with one output return?",
                "y": "r is (4,), and what q_targ returns is not. NumPy's rule: "
                "shapes are aligned "
                "from the right, and an axis of 1 is repeated.",
                "q - y": "Shapes are aligned from the right, and an axis of 1 is repeated.",
            }
            raise Wrong(f"{name} does not have the shape {got}. {hints[name]}")


def numbers(learner):
    """The learner's loss on a batch of 4, and what is needed to compute it by hand."""
    torch.manual_seed(3)
    q, q_targ = learner.Critic(2, 1, 8), learner.Critic(2, 1, 8)
    s, s2, a = f32(RNG.normal(size=(4, 2))), f32(RNG.normal(size=(4, 2))), f32(RNG.normal(size=(4, 1)))
    y = learner.compute_targets(q_targ, lambda s: s[:, :1], f32(R), s2, f32(D), GAMMA)
    loss = learner.compute_loss_q(q, s, a, y)

    def by_hand(critic, s, a):
        return critic.net(torch.cat([s, a], dim=-1)).detach().double().numpy().ravel()

    return q(s, a), y, loss, by_hand(q, s, a), by_hand(q_targ, s2, s2[:, :1])


def double_loop(q, q_next, r, d, gamma):
    n = len(q)
    return sum((q[i] - (r[j] + gamma * (1 - d[j]) * q_next[i])) ** 2 for i in range(n) for j in range(n)) / n**2


def check_mended(learner):
    """the mended code"""
    q, y, loss, q_hand, q_next = numbers(learner)
    wrong = double_loop(q_hand, q_next, R, D, GAMMA)
    if torch.is_tensor(loss) and loss.ndim == 0 and abs(loss.item() - wrong) < 1e-5 * (1 + wrong):
        raise Missing("the loss of a batch is still that of the broken code.")
    target = R + GAMMA * (1 - D) * q_next
    compare("y", y, target, [(target[:, None], "y is a column now, (B, 1), and so is "
    "q: the numbers are right, but all else, "
            "rewards and logs, is (B,). Mend the critic instead.")], tensor=True)  # fmt: skip
    compare("Q(s, a)", q, q_hand, [(q_hand[:, None], "The critic still returns (B, 1). Mend "
    "it where the axis of 1 is born: "
            "whoever uses the critic next would fall into the same trap.")])  # fmt: skip
    compare(
        "the loss", loss, ((q_hand - target) ** 2).mean(), [(((q_hand - target) ** 2).sum(), "The mean, not the sum.")]
    )
    require(loss.requires_grad, "No gradient reaches the critic any more.")


def check_formula(learner):
    """broken_loss"""
    broken, pairs = double_loop(Q, Q_NEXT, R, D, GAMMA), [(i, j) for i in range(4) for j in range(4)]
    hints = {
        "right": "This is the right loss. The broken one compares each Q with the targets of other rows, too.",
        "sum": "This is the sum over i and j; the code takes the mean.",
        "rows": "The mean runs over all i and j: divide by B².",
        "q": "Which index has Q(s, a)? q is a column, so it goes with the row i, as the next value does; r "
        "and d go with the column j.",
        "mixed": "In y the next value is a column and r a row: the matrix y already mixes two rows of the batch.",
        "swapped": "In y the next value is the column: it has the index i, and r and d have j.",
    }
    z = R[None, :] + GAMMA * (1 - D[None, :]) * Q_NEXT[:, None]
    own = R + GAMMA * (1 - D) * Q_NEXT
    compare(
        "broken_loss",
        learner.broken_loss(Q, Q_NEXT, R, D, GAMMA),
        broken,
        [
            (np.mean((Q - own) ** 2), hints["right"]),
            (16 * broken, hints["sum"]),
            (4 * broken, hints["rows"]),
            (np.mean([(Q[j] - z[i, j]) ** 2 for i, j in pairs]), hints["q"]),
            (np.mean([(Q[i] - own[j]) ** 2 for i, j in pairs]), hints["mixed"]),
            (np.mean([(Q[i] - z[j, i]) ** 2 for i, j in pairs]), hints["swapped"]),
        ],
    )


PARTS = [check_shapes, check_mended, check_formula]
