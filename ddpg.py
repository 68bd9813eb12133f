"""Deep Deterministic Policy Gradient (DDPG): Lillicrap et al. 2015, arXiv:1509.02971.

 1: input: policy parameters θ, Q-function parameters φ, empty replay buffer D
 2: copy the targets: θ_targ ← θ, φ_targ ← φ
 3: repeat
 4:   observe s and choose a = clip(μ_θ(s) + ε, −1, 1), ε ~ N(0, σ²); uniformly random for the first start_steps
 5:   execute a in the environment
 6:   observe the reward r, the next state s', and d: whether s' is terminal
 7:   store (s, a, r, s', d) in D
 8:   when the episode ends, terminated or cut by its time limit, reset the environment, and
 9:   if update_after steps have been made:
10:     for each step of the episode:
11:       sample a batch B = {(s, a, r, s', d)} from D
12:       compute the targets y = r + γ (1 − d) Q_{φ_targ}(s', μ_{θ_targ}(s'))
13:       update φ by one step of gradient descent on ∇_φ mean_B (Q_φ(s, a) − y)²
14:       update θ by one step of gradient ascent on ∇_θ mean_B Q_φ(s, μ_θ(s))
15:       update the targets: φ_targ ← ρ φ_targ + (1 − ρ) φ, θ_targ ← ρ θ_targ + (1 − ρ) θ

Changed against the paper: uncorrelated Gaussian noise in place of an Ornstein-Uhlenbeck process; gradient steps at the
end of an episode instead of after every step; uniformly random actions at first. Left out: batch normalisation, weight
decay of Q, the action entering Q at its second layer, the small last layers.

    python ddpg.py --env-id Ant-v4 --seed 1
    python ddpg.py --env-id Pendulum-v1 --total-timesteps 15000 --start-steps 1000
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import nn

import logx


@dataclass
class Args:
    env_id: str = "HalfCheetah-v4"  # name of the Gymnasium environment
    seed: int = 0  # seed of all random numbers
    exp_name: str = Path(__file__).stem  # name of the experiment; the run's folder carries it
    total_timesteps: int = 1_000_000  # environment steps in all; the episode then running is finished
    steps_per_epoch: int = 10_000  # steps from one test, log row and checkpoint to the next
    max_episode_steps: int | None = None  # time limit instead of the environment's own
    hidden_sizes: tuple[int, ...] = (256, 256)  # units of each hidden layer
    gamma: float = 0.99  # discount factor γ
    resume: str | None = None  # folder of the run to go on with
    replay_size: int = 1_000_000  # transitions the replay buffer holds
    polyak: float = 0.995  # ρ: the share that the targets keep of themselves in an update
    pi_lr: float = 1e-3  # learning rate of the policy
    q_lr: float = 1e-3  # learning rate of Q
    batch_size: int = 100  # transitions in a batch
    start_steps: int = 10_000  # steps with uniformly random actions at the start
    update_after: int = 1_000  # episodes that end before this step bring no gradient steps
    num_test_episodes: int = 10  # deterministic test episodes at the end of an epoch
    act_noise: float = 0.1  # σ: standard deviation of the exploration noise; actions span [−1, 1]

    def __post_init__(self):
        logx.check_range(self, 0, 1, "gamma", "polyak")
        logx.check_range(self, 0, 2**32 - 1, "seed")
        logx.check_range(self, 0, np.inf, "pi_lr", "q_lr", "start_steps", "update_after", "num_test_episodes")
        logx.check_range(self, 1, np.inf, "total_timesteps", "steps_per_epoch", "max_episode_steps", "hidden_sizes")
        logx.check_range(self, 1, 10**8, "replay_size", "batch_size")
        logx.check_range(self, 0, np.inf, "act_noise")


def make_env(args, render_mode=None):
    """The environment with actions rescaled to [−1, 1], so that nothing else needs to know its bounds."""
    env = logx.make_env(args, render_mode)
    space = env.action_space
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1 or not np.isfinite([space.low, space.high]).all():
        raise logx.Stop(f"ddpg.py needs a Box of actions with finite bounds, not {space}; ppo.py takes Discrete, too")
    if env.spec.max_episode_steps is None:
        raise logx.Stop(f"{args.env_id} has no time limit, so an episode may never end: set --max-episode-steps")
    return gym.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))


def mlp(sizes, activation):
    """A multilayer perceptron with the given layer sizes; no activation after the last layer."""
    layers = []
    for n_in, n_out in zip(sizes, sizes[1:]):
        layers += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*layers[:-1])


class Actor(nn.Module):
    """μ_θ: states (..., obs_dim) -> actions (..., act_dim) in [−1, 1]."""

    def __init__(self, obs_dim, act_dim, hidden_sizes):
        super().__init__()
        self.net = mlp([obs_dim, *hidden_sizes, act_dim], nn.ReLU)

    def forward(self, s):
        return torch.tanh(self.net(s))


class Critic(nn.Module):
    """Q_φ: states (B, obs_dim) and actions (B, act_dim) -> values (B,)."""

    def __init__(self, obs_dim, act_dim, hidden_sizes):
        super().__init__()
        self.net = mlp([obs_dim + act_dim, *hidden_sizes, 1], nn.ReLU)

    def forward(self, s, a):
        return self.net(torch.cat([s, a], dim=-1)).squeeze(-1)  # with (B, 1), Q − y would silently become (B, B)


class ActorCritic(nn.Module):
    def __init__(self, observation_space, action_space, args):
        super().__init__()
        obs_dim, act_dim = observation_space.shape[0], action_space.shape[0]
        self.pi = Actor(obs_dim, act_dim, args.hidden_sizes)
        self.q = Critic(obs_dim, act_dim, args.hidden_sizes)
        self.act_noise = args.act_noise


class ReplayBuffer:
    """The last `capacity` transitions; the arrays that fill it are views of the tensors that batches are drawn from."""

    def __init__(self, obs_dim, act_dim, capacity):
        self.data = [torch.empty(capacity, *shape) for shape in ((obs_dim,), (act_dim,), (), (obs_dim,), ())]
        self.views = [x.numpy() for x in self.data]
        self.n, self.capacity = 0, capacity  # n counts what was ever stored

    def store(self, s, a, r, s2, d):
        for view, x in zip(self.views, (s, a, r, s2, d)):
            view[self.n % self.capacity] = x
        self.n += 1

    def sample(self, batch_size):
        """A batch s, a, r, s2, d, drawn uniformly with replacement."""
        idx = torch.randint(min(self.n, self.capacity), (batch_size,))
        return [x[idx] for x in self.data]

    def state_dict(self):
        full = self.n >= self.capacity
        return {"n": self.n, "data": [x if full else x[: self.n].clone() for x in self.data]}  # a slice saves its whole

    def load_state_dict(self, state):
        self.n = state["n"]
        for x, saved in zip(self.data, state["data"]):
            x[: len(saved)] = saved


@torch.no_grad()
def get_action(ac, s, deterministic=False):
    """(4) a = clip(μ_θ(s) + ε, −1, 1), no ε if deterministic. State (obs_dim,) -> action (act_dim,)."""
    a = ac.pi(torch.as_tensor(s))
    if not deterministic:
        a = (a + ac.act_noise * torch.randn_like(a)).clamp(-1, 1)
    return a.numpy()


@torch.no_grad()
def compute_targets(ac, ac_targ, batch, args):
    """(12) y = r + γ (1 − d) Q_{φ_targ}(s', μ_{θ_targ}(s')). Batch of B -> (B,)."""
    _, _, r, s2, d = batch
    return r + args.gamma * (1 - d) * ac_targ.q(s2, ac_targ.pi(s2))


def compute_loss_q(ac, batch, y):
    """(13) mean_B (Q_φ(s, a) − y)². Batch of B and targets (B,) -> scalar, and what to log."""
    s, a, _, _, _ = batch
    q = ac.q(s, a)
    loss_q = ((q - y) ** 2).mean()
    return loss_q, {"losses/q": loss_q, "values/q": q}


def compute_loss_pi(ac, batch, args):
    """(14) −mean_B Q_φ(s, μ_θ(s)). Batch of B -> scalar, and what to log."""
    s = batch[0]
    loss_pi = -ac.q(s, ac.pi(s)).mean()
    return loss_pi, {"losses/pi": loss_pi}


@torch.no_grad()
def update_targets(ac, ac_targ, polyak):
    """(15) φ_targ ← ρ φ_targ + (1 − ρ) φ, and θ_targ alike."""
    for p, p_targ in zip(ac.parameters(), ac_targ.parameters()):
        p_targ.lerp_(p, 1 - polyak)


def evaluate(ac, env, args, step):
    """Returns and lengths of deterministic episodes; the seed depends on nothing but args.seed and step."""
    seed = int(np.random.SeedSequence([args.seed, step]).generate_state(1)[0])
    returns, lengths = [], []
    for _ in range(args.num_test_episodes):
        (s, _), seed = env.reset(seed=seed), None
        ended, ep_ret, ep_len = False, 0.0, 0
        while not ended:
            s, r, d, truncated, _ = env.step(get_action(ac, s, deterministic=True))
            ended, ep_ret, ep_len = d or truncated, ep_ret + r, ep_len + 1
        returns.append(ep_ret)
        lengths.append(ep_len)
    return {"eval/episodic_return": returns, "eval/episodic_length": lengths}


def train(args):
    """Trains an agent; returns the run's folder."""
    if logx.size > 1:
        raise logx.Stop("one process only; to run several seeds: for s in 1 2; do python ddpg.py --seed $s & done")
    env, test_env = make_env(args), make_env(args)
    logx.setup(args.seed)
    env.reset(seed=args.seed)
    env.action_space.seed(args.seed)

    ac = ActorCritic(env.observation_space, env.action_space, args)  # (1)
    pi_optimizer = torch.optim.Adam(ac.pi.parameters(), lr=args.pi_lr, fused=True)
    q_optimizer = torch.optim.Adam(ac.q.parameters(), lr=args.q_lr, fused=True)
    buf = ReplayBuffer(env.observation_space.shape[0], env.action_space.shape[0], args.replay_size)
    ac_targ = deepcopy(ac).requires_grad_(False)  # (2)

    columns = ["eval/episodic_return", "eval/episodic_length", "losses/q", "losses/pi", "values/q"]
    tracked = dict(ac=ac, ac_targ=ac_targ, pi_optimizer=pi_optimizer, q_optimizer=q_optimizer, buf=buf)
    logger = logx.Logger(args, __file__, columns, env, **tracked)
    step = logger.step
    (s, _), ep_ret, ep_len = env.reset(), 0.0, 0
    while step < args.total_timesteps or ep_len > 0:  # (3)
        a = get_action(ac, s) if step >= args.start_steps else env.action_space.sample()  # (4)
        s2, r, d, truncated, _ = env.step(a)  # (5) (6)
        logx.check_finite(step, {"the reward": r, "an observation": [s2]})
        buf.store(s, a, r, s2, d)  # (7)
        s, step, ep_ret, ep_len = s2, step + 1, ep_ret + r, ep_len + 1
        if not (d or truncated):  # (8)
            continue

        if step >= args.update_after:  # (9)
            for _ in range(ep_len):  # (10)
                batch = buf.sample(args.batch_size)  # (11)
                y = compute_targets(ac, ac_targ, batch, args)  # (12)
                loss_q, info = compute_loss_q(ac, batch, y)  # (13)
                logger.store(info)
                q_optimizer.zero_grad()
                loss_q.backward()
                q_optimizer.step()
                loss_pi, info = compute_loss_pi(ac, batch, args)  # (14)
                logger.store(info)
                pi_optimizer.zero_grad()
                loss_pi.backward(inputs=list(ac.pi.parameters()))  # φ is left alone
                pi_optimizer.step()
                update_targets(ac, ac_targ, args.polyak)  # (15)
        logger.episode(step, ep_ret, ep_len)
        if step // args.steps_per_epoch > logger.step // args.steps_per_epoch or step >= args.total_timesteps:
            logger.store(evaluate(ac, test_env, args, step))
            logger.end_epoch(step)
        (s, _), ep_ret, ep_len = env.reset(), 0.0, 0
    return logger.dir


if __name__ == "__main__":
    logx.main(train, Args)
