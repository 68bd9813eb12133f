"""Exercise 1.3. The right numbers: linear Q-functions worked out in NumPy; statistics of the noise on the action."""

import numpy as np
import torch

from checks.common import Wrong, compare, f32, require, short_run

S = np.array([[1.0, 2.0], [-1.0, 0.5], [0.5, -1.0], [0.2, 0.1]])
A = np.array([[0.5, -0.5], [1.0, 0.25], [-1.0, 0.0], [0.3, 0.9]])
R, D = np.array([1.0, 2.0, -1.0, 0.5]), np.array([0.0, 1.0, 0.0, 1.0])
S2 = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.5], [-1.0, 0.3]])
Y = np.array([0.5, -1.0, 2.0, 1.5])
W = {"pi": np.array([[0.5, -0.25], [0.1, 0.3]]), "q1": np.array([1.0, -2.0, 3.0, 0.5])}
W["q2"] = np.array([-1.0, -1.0, 2.0, -0.5])


def mu(s):
    return np.tanh(s @ W["pi"].T)


def q(name, s, a):
    return np.hstack([s, a]) @ W[name] + 0.5


def networks():
    """pi, q1, q2 as functions of tensors, with parameters that would take a gradient."""
    w = {name: f32(x).requires_grad_() for name, x in W.items()}
    qs = [lambda s, a, w=w[name]: torch.cat([s, a], dim=-1) @ w + 0.5 for name in ("q1", "q2")]
    return lambda s: torch.tanh(s @ w["pi"].T), *qs, w


def check_targets(learner):
    """compute_targets, without noise"""
    pi, q1, q2, _ = networks()
    y = learner.compute_targets(pi, q1, q2, f32(R), f32(S2), f32(D), 0.9, 1e-9, 0.5)  # Normal(0, 0) is an error
    one, two = q("q1", S2, mu(S2)), q("q2", S2, mu(S2))
    least = np.minimum(one, two)
    compare(
        "compute_targets",
        y,
        R + 0.9 * (1 - D) * least,
        [
            (R + 0.9 * (1 - D) * np.maximum(one, two), "This takes the larger of the two Q. The smaller one is less "
             "easily fooled: torch.min."),
            (R + 0.9 * least, "Terminal states are bootstrapped: the factor (1 − d) is missing."),
            (R + 0.9 * D * least, "d is the wrong way round: what follows counts where d is 0, "
            "so the factor is (1 − d)."),
            (R + (1 - D) * least, "The discount γ is missing."),
            ((1 - D) * (R + 0.9 * least), "(1 − d) must not touch the reward: the last one counts as well."),
            (R + 0.9 * (1 - D) * one, "Only the first Q is used. TD3 takes the smaller of the two in each row."),
            (R + 0.9 * (1 - D) * two, "Only the second Q is used. TD3 takes the smaller of the two in each row."),
            (R + 0.9 * (1 - D) * (one + two) / 2, "This is the mean of the "
            "two Q. TD3 takes the smaller one."),
            (R + 0.9 * (1 - D) * least.min(), "The minimum runs over the whole batch. It is "
            "to be taken row by row, over "
             "the two Q: torch.min(x, y)."),
        ],
        tensor=True,
    )  # fmt: skip
    require(
        not y.requires_grad,
        "A gradient flows through the targets, and would pull them towards Q: torch.no_grad(), or detach().",
    )


def noisy_actions(learner, mean, target_noise, noise_clip):
    """The actions at which the learner's targets ask the Q-functions."""
    seen, n = [], len(mean)

    def ask(s, a):
        seen.append(a)
        return a[:, 0]

    zeros = torch.zeros(n)
    learner.compute_targets(
        lambda s: f32(mean), ask, ask, zeros, torch.zeros(n, 2), zeros, 0.9, target_noise, noise_clip
    )
    if len(seen) != 2 or not all(torch.is_tensor(a) and a.shape == (n, 2) for a in seen):
        raise Wrong("Each of the two target Q should be asked once, with actions (B, act_dim).")
    require(torch.equal(*seen), "The two Q are asked about different actions: the noise was drawn twice.")
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
        abs(np.corrcoef(noise.T)[0, 1]) < 0.9, "One number serves all dimensions of an action: torch.randn_like(a2)."
    )
    require(noise.min() < 0, "The noise is never negative. It should be Gaussian, torch.randn, not torch.rand.")
    hint = "The noise has standard deviation 1: target_noise, σ, is missing."
    require(not np.allclose(noise.std(axis=0), noise_std(1.0, 0.9), rtol=0.07), hint)
    compare("the standard deviation of the noise", noise.std(axis=0), np.full(2, 0.2), rtol=0.07)
    noise = noisy_actions(learner, np.zeros((1000, 2)), 0.2, 0.1)
    require(np.abs(noise).max() < 0.1001, "The noise is not clipped to ±noise_clip.")
    require(np.abs(noise).max() > 0.0999, "The noise should be clipped to ±noise_clip, not scaled, or drawn again.")
    a2 = noisy_actions(learner, np.tile([0.9, -0.9], (1000, 1)), 0.2, 0.5)
    require(
        np.abs(a2).max() <= 1, "With its noise the action leaves [−1, 1], where Q knows nothing: clip it once more."
    )
    require(
        np.abs(a2).min() < 0.89,
        "The whole action was clipped to ±noise_clip. That limit is the noise's; the action's is ±1.",
    )


def noise_std(sigma, c):
    """The standard deviation of clip(N(0, σ), −c, c)."""
    x = np.clip(sigma * np.random.default_rng(0).normal(size=100_000), -c, c)
    return np.full(2, x.std())


def check_loss_q(learner):
    """compute_loss_q"""
    _, q1, q2, w = networks()
    e1, e2 = q("q1", S, A) - Y, q("q2", S, A) - Y
    loss = learner.compute_loss_q(q1, q2, f32(S), f32(A), f32(Y))
    both = (e1**2).mean() + (e2**2).mean()
    crossed = sum(((x[:, None] - Y) ** 2).mean() for x in (e1 + Y, e2 + Y))
    compare(
        "compute_loss_q",
        loss,
        both,
        [
            ((e1**2).sum() + (e2**2).sum(), "This is the sum over the batch. The "
            "mean keeps the step from growing with B."),
            ((e1**2).mean(), "Only Q_1 is trained: add the loss of Q_2."),
            ((e2**2).mean(), "Only Q_2 is trained: add the loss of Q_1."),
            (both / 2, "There is a ½ too many: "
            "the two means of squares are added."),
            (e1.mean() + e2.mean(), "The squares are missing: errors of both signs cancel."),
            ((np.minimum(q("q1", S, A), q("q2", S, A)) - Y).__pow__(2).mean(), "The minimum belongs into the "
            "targets. Here "
             "each Q is fitted for itself."),
            (((e1 + e2) ** 2).mean(), "The errors of both Q are added before "
            "they are squared. Square each, then add."),
            (((e1 + e2) ** 2).mean() / 4, "Here the mean of both Q is fitted. Fit "
            "each for itself, and add the losses."),
            (crossed, "Every Q is compared with the targets of all rows: (B, 1) minus (B,) is "
             "(B, B). Print the shape of the difference."),
            (e1**2 + e2**2, "One loss for each row came back: take the mean over the batch."),
        ],
        tensor=True,
    )  # fmt: skip
    require(loss.requires_grad, "No gradient reaches the Q-functions: no detach(), no no_grad() here.")
    loss.backward()
    for name, e in (("q1", e1), ("q2", e2)):
        compare(f"the gradient by {name}'s weights", w[name].grad, 2 * e @ np.hstack([S, A]) / len(S))


def check_loss_pi(learner):
    """compute_loss_pi"""
    pi, q1, _, w = networks()
    loss = learner.compute_loss_pi(pi, q1, f32(S))
    value = q("q1", S, mu(S))
    compare(
        "compute_loss_pi",
        loss,
        -value.mean(),
        [
            (value.mean(), "The sign is the wrong way round: optimisers go down, and Q should go up."),
            (-value.sum(), "This is the sum over the batch; take the mean."),
            (-value, "One loss for each row came back: take the mean over the batch."),
            ((value**2).mean(), "No square here: Q itself is to grow."),
        ],
        tensor=True,
    )
    require(
        loss.requires_grad,
        "The loss has no gradient: it must flow through Q into the action, and on into the policy.",
    )
    loss.backward()
    require(
        w["pi"].grad is not None, "No gradient reaches the policy. Was its action detached, or made under no_grad()?"
    )
    by_a = W["q1"][2:] * (1 - mu(S) ** 2)
    compare("the gradient by the policy's weights", w["pi"].grad, -by_a.T @ S / len(S))


PARTS = [check_targets, check_noise, check_loss_q, check_loss_pi]


def train(learner):
    """TD3 with all three functions."""

    def changes(td3):
        def compute_targets(ac, ac_targ, batch, args):
            _, _, r, s2, d = batch
            qs = q_functions(ac_targ)
            return learner.compute_targets(ac_targ.pi, *qs, r, s2, d, args.gamma, args.target_noise, args.noise_clip)

        def compute_loss_q(ac, batch, y):
            s, a, _, _, _ = batch
            (q1, q2), loss = q_functions(ac), learner.compute_loss_q(*q_functions(ac), s, a, y)
            return loss, {"losses/q": loss, "values/q1": q1(s, a), "values/q2": q2(s, a)}

        def compute_loss_pi(ac, batch, args):
            loss = learner.compute_loss_pi(ac.pi, q_functions(ac)[0], batch[0])
            return loss, {"losses/pi": loss}

        return dict(compute_targets=compute_targets, compute_loss_q=compute_loss_q, compute_loss_pi=compute_loss_pi)

    return short_run("td3", changes, **PENDULUM)


def q_functions(ac):
    return [ac.q1, ac.q2] if hasattr(ac, "q1") else [lambda s, a, i=i: ac.q(s, a)[i] for i in (0, 1)]


PENDULUM = dict(env_id="Pendulum-v1", total_timesteps=8_000, steps_per_epoch=2_000, start_steps=1_000)
PENDULUM |= dict(hidden_sizes=(64, 64), column="eval/episodic_return", last=1, bar=-400)
