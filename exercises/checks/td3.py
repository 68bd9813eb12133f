"""Checks of exercise 1.3. Right numbers: linear Q-functions in NumPy, statistics of the noise."""

import numpy as np
import torch

from checks.common import Exercise, Wrong, compare, f32, require, short_run

S = np.array([[1.0, 2.0], [-1.0, 0.5], [0.5, -1.0], [0.2, 0.1]])
A = np.array([[0.5, -0.5], [1.0, 0.25], [-1.0, 0.0], [0.3, 0.9]])
R = np.array([1.0, 2.0, -1.0, 0.5])
D = np.array([0.0, 1.0, 0.0, 1.0])
S2 = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.5], [-1.0, 0.3]])
Y = np.array([0.5, -1.0, 2.0, 1.5])
W = {
    "pi": np.array([[0.5, -0.25], [0.1, 0.3]]),
    "q1": np.array([1.0, -2.0, 3.0, 0.5]),
    "q2": np.array([-1.0, -1.0, 2.0, -0.5]),
}
PENDULUM = dict(
    env_id="Pendulum-v1",
    total_timesteps=8_000,
    steps_per_epoch=2_000,
    start_steps=1_000,
    hidden_sizes=(64, 64),
    column="eval/episodic_return",
    last=1,
    bar=-400,
)


def mu(s):
    return np.tanh(s @ W["pi"].T)


def q(name, s, a):
    return np.hstack([s, a]) @ W[name] + 0.5


def networks():
    """pi, q1, q2 as functions of tensors, and their weights, which take gradients."""
    w = {name: f32(x).requires_grad_() for name, x in W.items()}

    def pi(s):
        return torch.tanh(s @ w["pi"].T)

    def q1(s, a):
        return torch.cat([s, a], dim=-1) @ w["q1"] + 0.5

    def q2(s, a):
        return torch.cat([s, a], dim=-1) @ w["q2"] + 0.5

    return pi, q1, q2, w


def check_targets(learner):
    """compute_targets, without noise"""
    pi, q1, q2, _ = networks()
    tiny = 1e-9  # since Normal(0, 0) is an error
    y = learner.compute_targets(pi, q1, q2, f32(R), f32(S2), f32(D), 0.9, tiny, 0.5)
    one = q("q1", S2, mu(S2))
    two = q("q2", S2, mu(S2))
    least = np.minimum(one, two)
    go_on = 0.9 * (1 - D)
    hints = [
        (
            R + go_on * np.maximum(one, two),
            "This takes the larger of the two Q. The smaller one is less easily fooled: torch.min.",
        ),
        (R + 0.9 * least, "Terminal states are bootstrapped: the factor (1 − d) is missing."),
        (
            R + 0.9 * D * least,
            "d is the wrong way round: what follows counts where d is 0, so the factor is (1 − d).",
        ),
        (R + (1 - D) * least, "The discount γ is missing."),
        (
            (1 - D) * (R + 0.9 * least),
            "(1 − d) must not touch the reward: the last one counts as well.",
        ),
        (
            R + go_on * one,
            "Only the first Q is used. TD3 takes the smaller of the two in each row.",
        ),
        (
            R + go_on * two,
            "Only the second Q is used. TD3 takes the smaller of the two in each row.",
        ),
        (
            R + go_on * (one + two) / 2,
            "This is the mean of the two Q. TD3 takes the smaller one.",
        ),
        (
            R + go_on * least.min(),
            "The minimum runs over the whole batch. "
            "Take it row by row, over the two Q: torch.min(x, y).",
        ),
    ]
    compare("compute_targets", y, R + go_on * least, hints, tensor=True)
    require(
        not y.requires_grad,
        "A gradient flows through the targets, and would pull them towards Q: "
        "torch.no_grad(), or detach().",
    )


def noisy_actions(learner, mean, target_noise, noise_clip):
    """The actions at which the learner's targets ask the Q-functions."""
    n = len(mean)
    seen = []

    def pi(s):
        return f32(mean)

    def ask(s, a):
        seen.append(a)
        return a[:, 0]

    zeros = torch.zeros(n)
    s2 = torch.zeros(n, 2)
    learner.compute_targets(pi, ask, ask, zeros, s2, zeros, 0.9, target_noise, noise_clip)
    if len(seen) != 2 or not all(torch.is_tensor(a) and a.shape == (n, 2) for a in seen):
        raise Wrong("Each of the two target Q should be asked once, with actions (B, act_dim).")
    require(
        torch.equal(*seen),
        "The two Q are asked about different actions: the noise was drawn twice.",
    )
    return seen[0].detach().double().numpy()


def check_noise(learner):
    """the noise on the target's action"""
    noise = noisy_actions(learner, np.zeros((4000, 2)), 0.2, 0.9)
    require(noise.std() > 1e-6, "The target's action has no noise on it.")
    require(
        len(np.unique(noise[:, 0])) > 1,
        "One draw serves the whole batch. Each row needs its own: torch.randn_like(a2).",
    )
    require(
        abs(np.corrcoef(noise.T)[0, 1]) < 0.9,
        "One number serves all dimensions of an action: torch.randn_like(a2).",
    )
    require(
        noise.min() < 0,
        "The noise is never negative. It should be Gaussian: torch.randn, not torch.rand.",
    )
    require(
        not np.allclose(noise.std(axis=0), noise_std(1.0, 0.9), rtol=0.07),
        "The noise has standard deviation 1: target_noise, σ, is missing.",
    )
    std = noise.std(axis=0)
    compare("the standard deviation of the noise", std, np.full(2, 0.2), rtol=0.07)

    noise = noisy_actions(learner, np.zeros((1000, 2)), 0.2, 0.1)
    require(np.abs(noise).max() < 0.1001, "The noise is not clipped to ±noise_clip.")
    require(
        np.abs(noise).max() > 0.0999,
        "The noise should be clipped to ±noise_clip, not scaled or drawn again.",
    )

    a2 = noisy_actions(learner, np.tile([0.9, -0.9], (1000, 1)), 0.2, 0.5)
    require(
        np.abs(a2).max() <= 1,
        "With its noise the action leaves [−1, 1], where Q knows nothing: clip it once more.",
    )
    require(
        np.abs(a2).min() < 0.89,
        "The whole action was clipped to ±noise_clip. "
        "That limit is for the noise; the action's is ±1.",
    )


def noise_std(sigma, c):
    """The standard deviation of clip(N(0, σ), −c, c)."""
    x = np.clip(sigma * np.random.default_rng(0).normal(size=100_000), -c, c)
    return np.full(2, x.std())


def check_loss_q(learner):
    """compute_loss_q"""
    _, q1, q2, w = networks()
    v1 = q("q1", S, A)
    v2 = q("q2", S, A)
    e1 = v1 - Y
    e2 = v2 - Y
    loss = learner.compute_loss_q(q1, q2, f32(S), f32(A), f32(Y))
    both = (e1**2).mean() + (e2**2).mean()
    crossed = ((v1[:, None] - Y) ** 2).mean() + ((v2[:, None] - Y) ** 2).mean()
    of_minimum = ((np.minimum(v1, v2) - Y) ** 2).mean()
    hints = [
        (
            (e1**2).sum() + (e2**2).sum(),
            "This is the sum over the batch. The mean keeps the step from growing with B.",
        ),
        ((e1**2).mean(), "Only Q_1 is trained: add the loss of Q_2."),
        ((e2**2).mean(), "Only Q_2 is trained: add the loss of Q_1."),
        (both / 2, "There is a ½ too many: the two means of squares are added."),
        (e1.mean() + e2.mean(), "The squares are missing: errors of both signs cancel."),
        (of_minimum, "The minimum belongs in the targets. Here each Q is fitted by itself."),
        (
            ((e1 + e2) ** 2).mean(),
            "The errors of both Q are added before they are squared. Square each, then add.",
        ),
        (
            ((e1 + e2) ** 2).mean() / 4,
            "Here the mean of both Q is fitted. Fit each by itself, and add the losses.",
        ),
        (
            crossed,
            "Every Q is compared with the targets of all rows: (B, 1) minus (B,) is (B, B). "
            "Print the shape of the difference.",
        ),
        (e1**2 + e2**2, "One loss for each row came back: take the mean over the batch."),
    ]
    compare("compute_loss_q", loss, both, hints, tensor=True)
    require(
        loss.requires_grad, "No gradient reaches the Q-functions: no detach(), no no_grad() here."
    )
    loss.backward()
    for name, e in (("q1", e1), ("q2", e2)):
        slope = 2 * e @ np.hstack([S, A]) / len(S)
        compare(f"the gradient by {name}'s weights", w[name].grad, slope)


def check_loss_pi(learner):
    """compute_loss_pi"""
    pi, q1, _, w = networks()
    loss = learner.compute_loss_pi(pi, q1, f32(S))
    value = q("q1", S, mu(S))
    hints = [
        (
            value.mean(),
            "The sign is the wrong way round: optimisers go down, and Q should go up.",
        ),
        (-value.sum(), "This is the sum over the batch; take the mean."),
        (-value, "One loss for each row came back: take the mean over the batch."),
        ((value**2).mean(), "No square here: Q itself should grow."),
    ]
    compare("compute_loss_pi", loss, -value.mean(), hints, tensor=True)
    require(
        loss.requires_grad,
        "The loss has no gradient: it must flow through Q into the action, and on into the policy.",
    )
    loss.backward()
    require(
        w["pi"].grad is not None,
        "No gradient reaches the policy. Was its action detached, or made under no_grad()?",
    )
    by_action = W["q1"][2:] * (1 - mu(S) ** 2)
    compare("the gradient by the policy's weights", w["pi"].grad, -by_action.T @ S / len(S))


EXERCISE = Exercise(parts=[check_targets, check_noise, check_loss_q, check_loss_pi])


def train(learner):
    """TD3 with all three functions."""

    def changes(td3):
        def compute_targets(ac, ac_targ, batch, args):
            _, _, r, s2, d = batch
            q1, q2 = q_functions(ac_targ)
            return learner.compute_targets(
                ac_targ.pi, q1, q2, r, s2, d, args.gamma, args.target_noise, args.noise_clip
            )

        def compute_loss_q(ac, batch, y):
            s, a, _, _, _ = batch
            q1, q2 = q_functions(ac)
            loss = learner.compute_loss_q(q1, q2, s, a, y)
            return loss, {"losses/q": loss, "values/q1": q1(s, a), "values/q2": q2(s, a)}

        def compute_loss_pi(ac, batch, args):
            q1, _ = q_functions(ac)
            loss = learner.compute_loss_pi(ac.pi, q1, batch[0])
            return loss, {"losses/pi": loss}

        return dict(
            compute_targets=compute_targets,
            compute_loss_q=compute_loss_q,
            compute_loss_pi=compute_loss_pi,
        )

    return short_run("td3", changes, **PENDULUM)


def q_functions(ac):
    """The two Q-functions of an actor-critic, also where one module computes both."""
    if hasattr(ac, "q1"):
        return ac.q1, ac.q2

    def q1(s, a):
        return ac.q(s, a)[0]

    def q2(s, a):
        return ac.q(s, a)[1]

    return q1, q2
