"""Exercise 1.8. The right numbers: the objective in NumPy, and its gradient by hand for each of the four corners."""

import numpy as np

from checks.common import compare, f32, require, short_run

EPS = 0.2
RATIO = np.array([1.5, 0.5, 1.5, 0.5, 1.1, 0.9])
ADV = np.array([2.0, 2.0, -2.0, -3.0, 1.0, -1.0])  # good and likelier, good and less likely, bad and likelier, ...
LOGP_OLD = np.array([-1.0, -2.0, -0.5, -1.5, -3.0, 0.5])
LOGP = LOGP_OLD + np.log(RATIO)


def objective(ratio, adv, low=1 - EPS, high=1 + EPS):
    return np.minimum(ratio * adv, np.clip(ratio, low, high) * adv)


def check_loss(learner):
    """ppo_loss"""
    clipped, right = np.clip(RATIO, 1 - EPS, 1 + EPS), -objective(RATIO, ADV).mean()
    diff = LOGP - LOGP_OLD
    compare(
        "ppo_loss",
        learner.ppo_loss(f32(LOGP), f32(LOGP_OLD), f32(ADV), EPS),
        right,
        [
            (-right, "The sign is the wrong way round: the objective is to grow, so the loss is its negative."),
            (-(clipped * ADV).mean(), "Only the clipped product is used. The minimum with "
            "ρ Â must stay: a bad action that "
             "has become likelier needs its way back."),
            (-(RATIO * ADV).mean(), "Nothing is clipped."),
            (-np.maximum(RATIO * ADV, clipped * ADV).mean(), "This takes the larger of "
             "the two, so the clip protects nothing: torch.min."),
            (np.minimum(-RATIO * ADV, -clipped * ADV).mean(), "The minus went inside the minimum, and turned it into a "
             "maximum: −min(x, y) is max(−x, −y)."),
            (-np.minimum(RATIO, clipped).__mul__(ADV).mean(), "The minimum is taken "
            "of the ratios. It belongs around the "
             "products with Â, whose sign matters."),
            (-objective(1 / RATIO, ADV).mean(), "The ratio is upside down: π_θ over π_old, exp(logp − logp_old)."),
            (-objective(diff, ADV).mean(), "logp − logp_old is the logarithm of the ratio: exp is missing."),
            (-objective(LOGP / LOGP_OLD, ADV).mean(), "The logarithms were divided. "
             "The ratio of the probabilities is exp(logp − logp_old)."),
            (-objective(RATIO, ADV, -EPS, EPS).mean(), "The ratio is clipped to ±ε. It is near "
            "1: clip it to 1 ± ε."),
            (-objective(RATIO, ADV, 0.0, 1 + EPS).mean(), "The ratio is clipped from above only: "
            "1 − ε is the other end."),
            (-objective(RATIO, ADV).sum(), "This is the sum over the batch; take the mean."),
            (-objective(RATIO, ADV), "One loss for each row came back: take the mean over the batch."),
        ],
        tensor=True,
    )  # fmt: skip


def check_gradient(learner):
    """the gradient of ppo_loss: where it is 0, and where not"""
    logp = f32(LOGP).requires_grad_()
    loss = learner.ppo_loss(logp, f32(LOGP_OLD), f32(ADV), EPS)
    require(
        getattr(loss, "requires_grad", False), "No gradient reaches logp: no detach(), no no_grad(), no NumPy here."
    )
    loss.backward()
    moves = np.array([0, 1, 1, 0, 1, 1])
    compare(
        "the gradient by logp",
        logp.grad,
        -moves * ADV * RATIO / 6,
        [(-ADV * RATIO / 6, "The gradient does not stop where the ratio has left 1 ± ε to the good side.")],
    )


def check_sizes(learner):
    """other ε, and a batch of one"""
    loss, fixed = learner.ppo_loss(f32(LOGP), f32(LOGP_OLD), f32(ADV), 0.6), -objective(RATIO, ADV).mean()
    hints = [(fixed, "ε is 0.2 whatever clip_ratio says.")]
    compare("ppo_loss with ε = 0.6", loss, -objective(RATIO, ADV, 0.4, 1.6).mean(), hints)
    compare("ppo_loss of one row", learner.ppo_loss(f32(LOGP[:1]), f32(LOGP_OLD[:1]), f32(ADV[:1]), EPS), -2.4)


def check_kl(learner):
    """approx_kl"""
    diff = LOGP - LOGP_OLD
    compare(
        "approx_kl",
        learner.approx_kl(f32(LOGP), f32(LOGP_OLD)),
        -diff.mean(),
        [
            (diff.mean(), "The sign is the wrong way round, and moving away gives a negative KL: log π_old − log π_θ."),
            (-diff, "One number for each row came back: take the mean."),
            (-diff.sum(), "This is the sum over the batch; take the mean."),
            (RATIO.mean(), "This is the mean ratio. The estimate is the mean of log π_old − log π_θ."),
            ((-diff * RATIO).mean(), "No weight is needed: the actions were drawn from π_old."),
            ((np.exp(LOGP_OLD) * -diff).mean(), "No weight is needed: the actions were drawn from π_old already."),
            ((diff**2).mean() / 2, "This is another estimate, ½ mean (log ρ)². Asked for is the plain one."),
            ((RATIO - 1 - diff).mean(), "This is another estimate, mean(ρ − 1 − log ρ). Asked for is the plain one."),
        ],
        tensor=True,
    )


PARTS = [check_loss, check_gradient, check_sizes, check_kl]


def train(learner):
    """PPO on CartPole with both functions."""

    def changes(ppo):
        given = ppo.compute_loss_pi

        def compute_loss_pi(ac, batch, args):
            s, a, _, adv, logp_old = batch
            logp = ac.pi(s).log_prob(a)
            loss, kl = learner.ppo_loss(logp, logp_old, adv, args.clip_ratio), learner.approx_kl(logp, logp_old)
            return loss, {**given(ac, batch, args)[1], "values/kl": kl}

        return {"compute_loss_pi": compute_loss_pi}

    args = dict(env_id="CartPole-v1", total_timesteps=40_000, steps_per_epoch=2_000, pi_lr=3e-3)
    return short_run("ppo", changes, bar=150, **args)
