"""Checks of exercise 1.8. Right numbers: the objective in NumPy, its gradient by hand."""

import numpy as np

from checks.common import Exercise, compare, f32, has_gradient, require, short_run

EPS = 0.2
# actions that are good and likelier, good and less likely, bad and likelier, bad and less likely;
# and two whose ratio is inside 1 ± ε
RATIO = np.array([1.5, 0.5, 1.5, 0.5, 1.1, 0.9])
ADV = np.array([2.0, 2.0, -2.0, -3.0, 1.0, -1.0])
LOGP_OLD = np.array([-1.0, -2.0, -0.5, -1.5, -3.0, 0.5])
LOGP = LOGP_OLD + np.log(RATIO)


def objective(ratio, adv, low=1 - EPS, high=1 + EPS):
    return np.minimum(ratio * adv, np.clip(ratio, low, high) * adv)


def check_loss(learner):
    """ppo_loss"""
    got = learner.ppo_loss(f32(LOGP), f32(LOGP_OLD), f32(ADV), EPS)
    right = -objective(RATIO, ADV).mean()
    clipped = np.clip(RATIO, 1 - EPS, 1 + EPS)
    larger = np.maximum(RATIO * ADV, clipped * ADV)
    minus_inside = np.minimum(-RATIO * ADV, -clipped * ADV)
    smaller_ratio = np.minimum(RATIO, clipped)
    log_ratio = LOGP - LOGP_OLD
    hints = [
        (
            -right,
            "The sign is the wrong way round: the objective should grow, "
            "so the loss is its negative.",
        ),
        (
            -(clipped * ADV).mean(),
            "Only the clipped product is used. The minimum with ρ Â must stay: "
            "a bad action that has become likelier needs its way back.",
        ),
        (-(RATIO * ADV).mean(), "Nothing is clipped."),
        (
            -larger.mean(),
            "This takes the larger of the two, so the clip protects nothing: torch.min.",
        ),
        (
            minus_inside.mean(),
            "The minus went inside the minimum, and turned it into a maximum: "
            "−min(x, y) is max(−x, −y).",
        ),
        (
            -(smaller_ratio * ADV).mean(),
            "The minimum is taken of the ratios. "
            "It belongs around the products with Â, whose sign matters.",
        ),
        (
            -objective(1 / RATIO, ADV).mean(),
            "The ratio is upside down: π_θ over π_old, exp(logp − logp_old).",
        ),
        (
            -objective(log_ratio, ADV).mean(),
            "logp − logp_old is the logarithm of the ratio: exp is missing.",
        ),
        (
            -objective(LOGP / LOGP_OLD, ADV).mean(),
            "The logarithms were divided. The ratio of the probabilities is exp(logp − logp_old).",
        ),
        (
            -objective(RATIO, ADV, -EPS, EPS).mean(),
            "The ratio is clipped to ±ε. It is near 1: clip it to 1 ± ε.",
        ),
        (
            -objective(RATIO, ADV, 0.0, 1 + EPS).mean(),
            "The ratio is clipped from above only: 1 − ε is the other end.",
        ),
        (-objective(RATIO, ADV).sum(), "This is the sum over the batch; take the mean."),
        (
            -objective(RATIO, ADV),
            "One loss for each row came back: take the mean over the batch.",
        ),
    ]
    compare("ppo_loss", got, right, hints, tensor=True)


def check_gradient(learner):
    """the gradient of ppo_loss: where it is 0, and where not"""
    logp = f32(LOGP).requires_grad_()
    loss = learner.ppo_loss(logp, f32(LOGP_OLD), f32(ADV), EPS)
    require(
        has_gradient(loss), "No gradient reaches logp: no detach(), no no_grad(), no NumPy here."
    )
    loss.backward()
    moves = np.array([0, 1, 1, 0, 1, 1])
    everywhere = -ADV * RATIO / 6
    hint = "The gradient does not stop where the ratio has left 1 ± ε to the good side."
    compare("the gradient by logp", logp.grad, moves * everywhere, [(everywhere, hint)])


def check_sizes(learner):
    """other ε, and a batch of one"""
    loss = learner.ppo_loss(f32(LOGP), f32(LOGP_OLD), f32(ADV), 0.6)
    fixed = -objective(RATIO, ADV).mean()
    right = -objective(RATIO, ADV, 0.4, 1.6).mean()
    compare("ppo_loss with ε = 0.6", loss, right, [(fixed, "ε is 0.2 whatever clip_ratio says.")])
    loss = learner.ppo_loss(f32(LOGP[:1]), f32(LOGP_OLD[:1]), f32(ADV[:1]), EPS)
    compare("ppo_loss of one row", loss, -2.4)


def check_kl(learner):
    """approx_kl"""
    got = learner.approx_kl(f32(LOGP), f32(LOGP_OLD))
    log_ratio = LOGP - LOGP_OLD
    hints = [
        (
            log_ratio.mean(),
            "The sign is the wrong way round, and moving away gives a negative KL: "
            "log π_old − log π_θ.",
        ),
        (-log_ratio, "One number for each row came back: take the mean."),
        (-log_ratio.sum(), "This is the sum over the batch; take the mean."),
        (
            RATIO.mean(),
            "This is the mean ratio. The estimate is the mean of log π_old − log π_θ.",
        ),
        (
            (-log_ratio * RATIO).mean(),
            "No weight is needed: the actions were drawn from π_old.",
        ),
        (
            (np.exp(LOGP_OLD) * -log_ratio).mean(),
            "No weight is needed: the actions were drawn from π_old already.",
        ),
        (
            (log_ratio**2).mean() / 2,
            "This is another estimate, ½ mean (log ρ)². Use the plainest one.",
        ),
        (
            (RATIO - 1 - log_ratio).mean(),
            "This is another estimate, mean(ρ − 1 − log ρ). Use the plainest one.",
        ),
    ]
    compare("approx_kl", got, -log_ratio.mean(), hints, tensor=True)


EXERCISE = Exercise(parts=[check_loss, check_gradient, check_sizes, check_kl])


def train(learner):
    """PPO on CartPole with both functions."""

    def changes(ppo):
        given = ppo.compute_loss_pi

        def compute_loss_pi(ac, batch, args):
            s, a, _, adv, logp_old = batch
            logp = ac.pi(s).log_prob(a)
            loss = learner.ppo_loss(logp, logp_old, adv, args.clip_ratio)
            _, info = given(ac, batch, args)
            return loss, {**info, "values/kl": learner.approx_kl(logp, logp_old)}

        return {"compute_loss_pi": compute_loss_pi}

    return short_run(
        "ppo",
        changes,
        env_id="CartPole-v1",
        total_timesteps=40_000,
        steps_per_epoch=2_000,
        pi_lr=3e-3,
        bar=150,
    )
