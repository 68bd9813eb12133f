"""Deep Deterministic Policy Gradient (DDPG): Lillicrap et al. 2015, arXiv:1509.02971.

 1: input: policy parameters θ, Q-function parameters φ, empty replay buffer D
 2: copy the targets: θ_targ ← θ, φ_targ ← φ
 3: repeat
 4:   observe s and select a = clip(μ_θ(s) + ε, −1, 1), ε ~ N(0, σ²); uniformly random for the first
      start_steps
 5:   execute a in the environment
 6:   observe the reward r, the next state s', and d: whether s' is terminal
 7:   store (s, a, r, s', d) in D
 8:   when the episode ends, terminated or cut by its time limit:
 9:     if update_after steps have been made:
10:       for each step of the episode:
11:         sample a batch B = {(s, a, r, s', d)} from D
12:         compute the targets y = r + γ (1 − d) Q_{φ_targ}(s', μ_{θ_targ}(s'))
13:         update φ by one step of gradient descent on mean_B (Q_φ(s, a) − y)²
14:         update θ by one step of gradient ascent on mean_B Q_φ(s, μ_θ(s))
15:         update the targets: φ_targ ← ρ φ_targ + (1 − ρ) φ, θ_targ ← ρ θ_targ + (1 − ρ) θ
16:     reset the environment

Differences from the paper: uncorrelated Gaussian noise in place of an Ornstein-Uhlenbeck process;
gradient steps at the end of an episode instead of after every step; uniformly random actions at
first. Left out: batch normalisation, weight decay of Q, the action entering Q at its second layer,
the small last layers.

    python ddpg.py --env-id Ant-v4 --seed 1
    python ddpg.py --env-id Pendulum-v1 --total-timesteps 15000 --start-steps 1000
"""

# What `uv run` installs for this script
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "torch==2.14.1",
#     "numpy==2.4.6",
#     "gymnasium[classic-control,mujoco]==1.4.0",
#     "mujoco==3.15.0",
#     "tyro==1.0.17",
#     "tqdm==4.70.1",
#     "tensorboard==2.21.0",
#     "imageio==2.38.1",
#     "imageio-ffmpeg==0.8.1",
# ]
# ///

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
    env_id: str = "HalfCheetah-v4"  # Gymnasium environment
    env_kwargs: str = "{}"  # the environment's own arguments, as JSON
    seed: int = 0  # random seed
    exp_name: str = Path(__file__).stem  # experiment name, part of the run folder's name
    total_timesteps: int = 1_000_000  # total environment steps; the last episode runs to its end
    steps_per_epoch: int = 10_000  # environment steps between tests, log rows and checkpoints
    max_episode_steps: int | None = None  # time limit, in place of the environment's own
    hidden_sizes: tuple[int, ...] = (256, 256)  # units in each hidden layer
    gamma: float = 0.99  # discount factor γ
    resume: str | None = None  # run folder to resume
    compile: bool = False  # compile the updates; needs a C++ compiler; pays off after a few minutes
    replay_size: int = 1_000_000  # capacity of the replay buffer, in transitions
    polyak: float = 0.995  # ρ: share that the target networks keep in an update
    pi_lr: float = 1e-3  # learning rate of the policy
    q_lr: float = 1e-3  # learning rate of Q
    batch_size: int = 100  # transitions per batch
    start_steps: int = 10_000  # steps with uniformly random actions at the start
    update_after: int = 1_000  # episodes that end before this step bring no gradient steps
    num_test_episodes: int = 10  # deterministic test episodes per epoch
    act_noise: float = 0.1  # σ: standard deviation of the exploration noise; actions span [−1, 1]

    def __post_init__(self):
        logx.check_common(self)
        logx.check_range(self, 0, 1, "polyak")
        logx.check_range(self, 0, np.inf, "pi_lr", "q_lr")
        logx.check_range(self, 0, np.inf, "start_steps", "update_after", "num_test_episodes")
        logx.check_range(self, 1, 10**8, "replay_size", "batch_size")
        logx.check_range(self, 0, np.inf, "act_noise")


def make_env(args, render_mode=None):
    """The environment with actions in [−1, 1], so that nothing else needs to know its bounds."""
    env = logx.make_env(args, render_mode)
    space = env.action_space
    if not isinstance(space, gym.spaces.Box):
        raise logx.Stop(f"ddpg.py needs a Box of actions, not {space}; for Discrete, use ppo.py")
    if not logx.is_bounded(space).all():
        raise logx.Stop(f"ddpg.py needs actions with finite bounds, not {space}; ppo.py needs none")
    if logx.time_limit(env) is None:
        may_last = "has no time limit, so an episode may never end"
        raise logx.Stop(f"{args.env_id} {may_last}: set --max-episode-steps")
    return logx.rescale_actions(env, args.env_id)


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
        # with (B, 1), Q − y would silently become (B, B)
        return self.net(torch.cat([s, a], dim=-1)).squeeze(-1)


class ActorCritic(nn.Module):
    """The policy and the Q-function."""

    def __init__(self, observation_space, action_space, args):
        super().__init__()
        obs_dim = observation_space.shape[0]
        act_dim = action_space.shape[0]
        self.pi = Actor(obs_dim, act_dim, args.hidden_sizes)
        self.q = Critic(obs_dim, act_dim, args.hidden_sizes)
        self.act_noise = args.act_noise


class ReplayBuffer:
    """The last `capacity` transitions."""

    def __init__(self, obs_dim, act_dim, capacity):
        logx.check_memory(4 * capacity * (2 * obs_dim + act_dim + 2), "--replay-size")
        self.s = np.zeros((capacity, obs_dim), np.float32)
        self.a = np.zeros((capacity, act_dim), np.float32)
        self.r = np.zeros(capacity, np.float32)
        self.s2 = np.zeros((capacity, obs_dim), np.float32)
        self.d = np.zeros(capacity, np.float32)
        self.capacity = capacity
        self.n = 0  # transitions ever stored

    def store(self, s, a, r, s2, d):
        i = self.n % self.capacity  # when full, the oldest goes
        self.s[i] = s
        self.a[i] = a
        self.r[i] = r
        self.s2[i] = s2
        self.d[i] = d
        self.n += 1

    def sample(self, batch_size):
        """A batch s, a, r, s2, d of tensors, drawn uniformly with replacement."""
        stored = min(self.n, self.capacity)
        idx = torch.randint(stored, (batch_size,)).numpy()
        return [
            torch.as_tensor(x.take(idx, axis=0)) for x in (self.s, self.a, self.r, self.s2, self.d)
        ]

    def state_dict(self):
        """What was stored, for the checkpoint; the tensors share the arrays' memory."""
        stored = min(self.n, self.capacity)
        arrays = [x[:stored] for x in (self.s, self.a, self.r, self.s2, self.d)]
        return {"n": self.n, "data": [torch.as_tensor(x) for x in arrays]}

    def load_state_dict(self, state):
        self.n = state["n"]
        for x, saved in zip((self.s, self.a, self.r, self.s2, self.d), state["data"]):
            x[: len(saved)] = saved


@torch.no_grad()
def get_action(ac, s, deterministic=False):
    """(4) a = clip(μ_θ(s) + ε, −1, 1), no ε if deterministic. s (obs_dim,) -> a (act_dim,)."""
    a = ac.pi(torch.as_tensor(s))
    if not deterministic:
        a = (a + ac.act_noise * torch.randn_like(a)).clamp(-1, 1)
    return a.numpy()


@torch.no_grad()
def compute_targets(ac, ac_targ, batch, args):
    """(12) y = r + γ (1 − d) Q_{φ_targ}(s', μ_{θ_targ}(s')). Batch -> (B,)."""
    _, _, r, s2, d = batch
    q = ac_targ.q(s2, ac_targ.pi(s2))
    return r + args.gamma * (1 - d) * q


def compute_loss_q(ac, batch, y):
    """(13) mean_B (Q_φ(s, a) − y)². Batch, targets (B,) -> scalar, info."""
    s, a, _, _, _ = batch
    q = ac.q(s, a)
    loss_q = ((q - y) ** 2).mean()
    return loss_q, {"losses/q": loss_q, "values/q": q}


def compute_loss_pi(ac, batch, args):
    """(14) −mean_B Q_φ(s, μ_θ(s)). Batch -> scalar, info."""
    s = batch[0]
    loss_pi = -ac.q(s, ac.pi(s)).mean()
    return loss_pi, {"losses/pi": loss_pi}


@logx.compilable
def compute_grad_q(ac, ac_targ, batch, args):
    """(12) (13) The gradient of the loss of Q, kept in .grad. Returns what to log."""
    y = compute_targets(ac, ac_targ, batch, args)  # (12)
    loss_q, info = compute_loss_q(ac, batch, y)  # (13)
    loss_q.backward()
    return {name: x.detach() for name, x in info.items()}


@logx.compilable
def compute_grad_pi(ac, batch, args):
    """(14) The gradient of the policy's loss, kept in .grad of θ alone. Returns what to log."""
    loss_pi, info = compute_loss_pi(ac, batch, args)  # (14)
    loss_pi.backward(inputs=list(ac.pi.parameters()))
    return {name: x.detach() for name, x in info.items()}


def update_q(ac, ac_targ, batch, args, q_optimizer):
    """(12) (13) One gradient step of Q. Returns what to log."""
    q_optimizer.zero_grad()
    info = compute_grad_q(ac, ac_targ, batch, args)  # (12) (13)
    q_optimizer.step()
    return info


def update_pi(ac, batch, args, pi_optimizer):
    """(14) One gradient step of the policy. Returns what to log."""
    pi_optimizer.zero_grad()
    info = compute_grad_pi(ac, batch, args)  # (14)
    pi_optimizer.step()
    return info


@torch.no_grad()
def update_targets(ac, ac_targ, polyak):
    """(15) φ_targ ← ρ φ_targ + (1 − ρ) φ, and θ_targ alike."""
    for p, p_targ in zip(ac.parameters(), ac_targ.parameters()):
        p_targ.lerp_(p, 1 - polyak)


def evaluate(ac, env, args, step):
    """Plays deterministic episodes, seeded by args.seed and step alone. Returns what to log."""
    returns = []
    lengths = []
    with logx.separate_streams(env, args.seed, step):
        for _ in range(args.num_test_episodes):
            s, _ = env.reset()
            ep_ret, ep_len = 0.0, 0
            ended = False
            while not ended:
                a = get_action(ac, s, deterministic=True)
                s, r, d, truncated, _ = env.step(a)
                ended = d or truncated
                ep_ret += r
                ep_len += 1
            returns.append(ep_ret)
            lengths.append(ep_len)
    return {"eval/episodic_return": returns, "eval/episodic_length": lengths}


@logx.closing
def train(args):
    """Trains an agent; returns the run's folder."""
    if logx.size > 1:
        seeds = "for s in 1 2; do python ddpg.py --seed $s & done"
        raise logx.Stop(f"ddpg.py does not run under mpirun; for several seeds: {seeds}")
    logx.setup(args)
    env = make_env(args)
    test_env = None
    if args.num_test_episodes > 0:
        test_env = make_env(args)
    logx.seed_training(env, args.seed)
    obs_dim = env.observation_space.shape[0]
    act_dim = env.action_space.shape[0]

    ac = ActorCritic(env.observation_space, env.action_space, args)  # (1)
    pi_optimizer = torch.optim.Adam(ac.pi.parameters(), lr=args.pi_lr, fused=True)
    q_optimizer = torch.optim.Adam(ac.q.parameters(), lr=args.q_lr, fused=True)
    buf = ReplayBuffer(obs_dim, act_dim, args.replay_size)
    ac_targ = deepcopy(ac).requires_grad_(False)  # (2)

    columns = ["eval/episodic_return", "eval/episodic_length"]
    columns += ["losses/q", "losses/pi", "values/q"]
    tracked = {"ac": ac, "ac_targ": ac_targ, "buf": buf}
    tracked |= {"pi_optimizer": pi_optimizer, "q_optimizer": q_optimizer}
    logger = logx.Logger(args, __file__, columns, env, tracked)
    step = logger.step
    s, _ = env.reset()
    ep_ret, ep_len = 0.0, 0
    while step < args.total_timesteps or ep_len > 0:  # (3)
        # act, first at random
        if step < args.start_steps:  # (4)
            a = env.action_space.sample()
        else:
            a = get_action(ac, s)
        s2, r, d, truncated, _ = env.step(a)  # (5) (6)
        logx.check_finite(step, {"the reward": r, "an observation": [s2]})

        # d: terminated; a time limit ends the episode, too, but s2 still has a future
        buf.store(s, a, r, s2, d)  # (7)
        s = s2
        step += 1
        ep_ret += r
        ep_len += 1
        if not (d or truncated):  # (8)
            continue

        # learn: a gradient step for each step of the episode
        if step >= args.update_after:  # (9)
            for _ in range(ep_len):  # (10)
                batch = buf.sample(args.batch_size)  # (11)
                logger.store(update_q(ac, ac_targ, batch, args, q_optimizer))  # (12) (13)
                logger.store(update_pi(ac, batch, args, pi_optimizer))  # (14)
                update_targets(ac, ac_targ, args.polyak)  # (15)

        # log, and at the end of an epoch test
        logger.episode(step, ep_ret, ep_len)
        epoch_ends = step // args.steps_per_epoch > logger.step // args.steps_per_epoch
        if epoch_ends or step >= args.total_timesteps:
            if test_env is not None:
                logx.copy_statistics(env, test_env)
                logger.store(evaluate(ac, test_env, args, step))
            logger.end_epoch(step)
        s, _ = env.reset()  # (16)
        ep_ret, ep_len = 0.0, 0
    return logger.dir


if __name__ == "__main__":
    logx.main(train, Args)
