"""Proximal Policy Optimization (PPO), clipped: Schulman et al. 2017, arXiv:1707.06347.

 1: input: policy parameters θ_0, value function parameters φ_0
 2: for k = 0, 1, 2, ... do
 3:   collect trajectories D_k = {τ_i} by running the policy π_{θ_k} in the environment
 4:   compute rewards-to-go R̂_t = r_t + γ R̂_{t+1}; after a trajectory's end, V_{φ_k} if it was cut, 0 if it terminated
 5:   compute advantages Â_t = Σ_l (γλ)^l δ_{t+l}, δ_t = r_t + γ V_{φ_k}(s_{t+1}) − V_{φ_k}(s_t), and normalise them
 6:   form L(θ) = mean min(ρ_t Â_t, clip(ρ_t, 1−ε, 1+ε) Â_t), ρ_t = π_θ(a_t|s_t) / π_{θ_k}(a_t|s_t)
 7:   update the policy by several steps of gradient ascent on L, by way of Adam
 8:   fit the value function by gradient descent on mean_{D_k} (V_φ(s_t) − R̂_t)²

The tricks: the clip, which takes away the gain from moving ρ_t beyond 1 ± ε, so that a batch serves for many steps;
normalised advantages. Changed against the paper: full-batch steps in place of minibatches. Left out: entropy bonus,
value clipping, normalised observations and rewards, gradient clipping, learning rate decay; and the original Spinning
Up's stop on KL: half as many steps without it do as well (docs/benchmarks.md). Under mpirun every process collects its
share of an epoch, and gradients and advantage statistics are averaged over all of them.

    python ppo.py --env-id Ant-v4 --seed 1
    mpirun -np 4 python ppo.py --env-id CartPole-v1
"""

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical, Independent, Normal

import logx


@dataclass
class Args:
    env_id: str = "HalfCheetah-v4"  # name of the Gymnasium environment
    seed: int = 0  # seed of all random numbers
    exp_name: str = Path(__file__).stem  # name of the experiment; the run's folder carries it
    total_timesteps: int = 1_000_000  # environment steps in all; the epoch then running is finished
    steps_per_epoch: int = 4_000  # steps from one update, log row and checkpoint to the next, over all processes
    max_episode_steps: int | None = None  # time limit instead of the environment's own
    hidden_sizes: tuple[int, ...] = (64, 64)  # units of each hidden layer
    gamma: float = 0.99  # discount factor γ
    resume: str | None = None  # folder of the run to go on with
    lam: float = 0.97  # λ of the advantages
    pi_lr: float = 3e-4  # learning rate of the policy
    vf_lr: float = 1e-3  # learning rate of the value function
    train_v_iters: int = 80  # gradient steps of the value function in an epoch
    clip_ratio: float = 0.2  # ε: beyond 1 ± ε the probability ratio gains nothing by moving
    train_pi_iters: int = 40  # gradient steps of the policy in an epoch

    def __post_init__(self):
        logx.check_range(self, 0, 1, "gamma", "lam")
        logx.check_range(self, 0, 2**32 - 1, "seed")
        logx.check_range(self, 0, np.inf, "pi_lr", "vf_lr", "train_v_iters", "clip_ratio")
        logx.check_range(self, 1, np.inf, "total_timesteps", "steps_per_epoch", "max_episode_steps", "hidden_sizes")
        logx.check_range(self, 1, np.inf, "train_pi_iters")


def make_env(args, render_mode=None):
    """The environment; a Box action is clipped to its bounds on the way in, and stored as it was sampled."""
    env = logx.make_env(args, render_mode)
    space = env.action_space
    if isinstance(space, gym.spaces.Discrete) and space.start == 0:
        return env
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
        return gym.wrappers.ClipAction(env)
    raise logx.Stop(f"ppo.py needs a flat Box or a Discrete space (from 0) of actions, not {space}; none here fits")


def mlp(sizes, activation):
    """A multilayer perceptron with the given layer sizes; no activation after the last layer."""
    layers = []
    for n_in, n_out in zip(sizes, sizes[1:]):
        layers += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*layers[:-1])


class GaussianActor(nn.Module):
    """π_θ for Box actions: states (..., obs_dim) -> independent normals (..., act_dim), σ the same everywhere."""

    def __init__(self, obs_dim, act_dim, hidden_sizes):
        super().__init__()
        self.net = mlp([obs_dim, *hidden_sizes, act_dim], nn.Tanh)
        self.log_std = nn.Parameter(torch.full((act_dim,), -0.5))

    def forward(self, s):
        return Independent(Normal(self.net(s), self.log_std.exp(), validate_args=False), 1)

    def noise(self, n):  # μ(s) plus a row of it is a sample of π_θ(·|s)
        return (torch.randn(n, len(self.log_std)) * self.log_std.detach().exp()).numpy()


class CategoricalActor(nn.Module):
    """π_θ for Discrete actions: states (..., obs_dim) -> a categorical distribution."""

    def __init__(self, obs_dim, n_actions, hidden_sizes):
        super().__init__()
        self.net = mlp([obs_dim, *hidden_sizes, n_actions], nn.Tanh)

    def forward(self, s):
        return Categorical(logits=self.net(s), validate_args=False)

    def noise(self, n):  # Gumbel's: where the logits plus a row of it are largest is a sample of π_θ(·|s)
        return -torch.empty(n, self.net[-1].out_features).exponential_().log().numpy()


class Critic(nn.Module):
    """V_φ: states (B, obs_dim) -> values (B,)."""

    def __init__(self, obs_dim, hidden_sizes):
        super().__init__()
        self.net = mlp([obs_dim, *hidden_sizes, 1], nn.Tanh)

    def forward(self, s):
        return self.net(s).squeeze(-1)  # with (B, 1), V − R̂ would silently become (B, B)


class ActorCritic(nn.Module):
    def __init__(self, observation_space, action_space, args):
        super().__init__()
        obs_dim = observation_space.shape[0]
        if isinstance(action_space, gym.spaces.Box):
            self.pi = GaussianActor(obs_dim, action_space.shape[0], args.hidden_sizes)
        else:
            self.pi = CategoricalActor(obs_dim, action_space.n, args.hidden_sizes)
        self.v = Critic(obs_dim, args.hidden_sizes)


class PathBuffer:
    """Steps t = 0, ..., T−1 of an epoch; d: s2 is terminal; end: a path ends with the step, terminated or cut."""

    def __init__(self, observation_space, action_space, size):
        self.s, self.s2 = (np.zeros((size, *observation_space.shape), np.float32) for _ in range(2))
        self.a = np.zeros((size, *action_space.shape), np.float32 if action_space.shape else np.int64)
        self.r, self.d, self.end = np.zeros(size), np.zeros(size, bool), np.zeros(size, bool)

    def store(self, t, s, a, r, s2, d, end):
        self.s[t], self.a[t], self.r[t], self.s2[t], self.d[t], self.end[t] = s, a, r, s2, d, end


def snapshot(pi):
    """(3) π_θ as it is now, (state, noise) -> action, of Linear and Tanh. NumPy: PyTorch is slow with one state."""
    layers = [None if type(f) is nn.Tanh else [x.detach().numpy().copy() for x in f.parameters()] for f in pi.net]

    def act(s, noise):
        for weights in layers:
            s = np.tanh(s) if weights is None else np.matvec(weights[0], s) + weights[1]
        return (s + noise).argmax() if isinstance(pi, CategoricalActor) else s + noise

    return act


def get_action(ac, s, deterministic=False):
    """(3) a ~ π_θ(·|s), or the likeliest if deterministic. State (obs_dim,) -> action (act_dim,) or ()."""
    return snapshot(ac.pi)(s, 0.0 if deterministic else ac.pi.noise(1)[0])


def compute_returns(r, v2, d, end, gamma):
    """(4) R̂_t = r_t + γ R̂_{t+1}; at a path's end R̂_{t+1} is V(s_{t+1}), or 0 if s_{t+1} is terminal. All (T,)."""
    ret, ahead = np.zeros(len(r)), 0.0
    for t in reversed(range(len(r))):
        if end[t]:
            ahead = 0.0 if d[t] else v2[t]
        ret[t] = ahead = r[t] + gamma * ahead
    return ret


def compute_advantages(r, v, v2, d, end, gamma, lam):
    """(5) Â_t = δ_t + γλ Â_{t+1} within a path, δ_t = r_t + γ V(s_{t+1}) − V(s_t), V(terminal) = 0. All (T,)."""
    delta = r + gamma * np.where(d, 0.0, v2) - v
    adv, ahead = np.zeros(len(r)), 0.0
    for t in reversed(range(len(r))):
        adv[t] = ahead = delta[t] + gamma * lam * (0.0 if end[t] else ahead)
    return adv


@torch.no_grad()
def compute_batch(ac, buf, args):
    """(4) (5) The epoch as a batch s, a, ret, adv, logp_old, evaluated in one pass by the policy that collected it."""
    s, a, s2 = (torch.as_tensor(x) for x in (buf.s, buf.a, buf.s2))
    v, v2 = ac.v(s).double().numpy(), ac.v(s2).double().numpy()  # at a path's end s2 is not the next row's s
    ret = compute_returns(buf.r, v2, buf.d, buf.end, args.gamma)  # (4)
    adv = compute_advantages(buf.r, v, v2, buf.d, buf.end, args.gamma, args.lam)  # (5)
    mean, std, _, _ = logx.stats(adv)
    adv = (adv - mean) / (std + 1e-8)
    ret, adv = torch.as_tensor(ret, dtype=torch.float32), torch.as_tensor(adv, dtype=torch.float32)
    return s, a, ret, adv, ac.pi(s).log_prob(a)


def compute_loss_pi(ac, batch, args):
    """(6) −mean min(ρ Â, clip(ρ, 1−ε, 1+ε) Â), ρ = π_θ(a|s) / π_{θ_k}(a|s). Batch of B -> scalar, and what to log."""
    s, a, _, adv, logp_old = batch
    pi = ac.pi(s)
    logp = pi.log_prob(a)
    ratio = (logp - logp_old).exp()
    clipped = ratio.clamp(1 - args.clip_ratio, 1 + args.clip_ratio)
    loss_pi = -torch.min(ratio * adv, clipped * adv).mean()
    clip_frac = (ratio != clipped).float()
    return loss_pi, {"values/kl": logp_old - logp, "values/entropy": pi.entropy(), "values/clip_frac": clip_frac}


def compute_loss_v(ac, batch):
    """(8) mean (V_φ(s) − R̂)². Batch of B -> scalar, and what to log."""
    s, _, ret, _, _ = batch
    v = ac.v(s)
    loss_v = ((v - ret) ** 2).mean()
    explained = 1 - (ret - v).var(correction=0) / (ret.var(correction=0) + 1e-8)
    return loss_v, {"losses/v": loss_v, "values/v": v, "values/explained_variance": explained}


def update_pi(ac, batch, args, pi_optimizer):
    """(6) (7) train_pi_iters steps of Adam. Returns what to log: the loss from before them, the rest from after."""
    loss_before, _ = compute_loss_pi(ac, batch, args)
    for _ in range(args.train_pi_iters):
        loss_pi, _ = compute_loss_pi(ac, batch, args)  # (6)
        pi_optimizer.zero_grad()
        loss_pi.backward()
        logx.average_gradients(ac.pi)
        pi_optimizer.step()  # (7)
    with torch.no_grad():
        loss_new, info = compute_loss_pi(ac, batch, args)
    return {"losses/pi": loss_before, "losses/delta_pi": loss_new - loss_before, **info}


def update_v(ac, batch, args, v_optimizer):
    """(8) train_v_iters steps of Adam. Returns what to log: from before the steps, and how they changed the loss."""
    _, info = compute_loss_v(ac, batch)
    for _ in range(args.train_v_iters):  # (8)
        loss_v, _ = compute_loss_v(ac, batch)
        v_optimizer.zero_grad()
        loss_v.backward()
        logx.average_gradients(ac.v)
        v_optimizer.step()
    loss_new, _ = compute_loss_v(ac, batch)
    return {**info, "losses/delta_v": loss_new - info["losses/v"]}


def train(args):
    """Trains an agent; returns the run's folder."""
    if args.steps_per_epoch % logx.size:
        raise logx.Stop(f"--steps-per-epoch {args.steps_per_epoch} cannot be shared evenly by {logx.size} processes")
    env, steps, seed = make_env(args), args.steps_per_epoch // logx.size, args.seed + 10_000 * logx.rank
    if steps < (env.spec.max_episode_steps or 0):
        logx.note("Note: episodes that an epoch's end cuts are not logged; a larger --steps-per-epoch cuts fewer")
    logx.setup(seed)
    env.reset(seed=seed)
    env.action_space.seed(seed)

    ac = ActorCritic(env.observation_space, env.action_space, args)  # (1)
    logx.broadcast(ac)
    pi_optimizer = torch.optim.Adam(ac.pi.parameters(), lr=args.pi_lr, fused=True)
    v_optimizer = torch.optim.Adam(ac.v.parameters(), lr=args.vf_lr, fused=True)
    buf = PathBuffer(env.observation_space, env.action_space, steps)

    columns = ["losses/pi", "losses/delta_pi", "values/kl", "values/entropy", "values/clip_frac"]
    columns += ["losses/v", "losses/delta_v", "values/v", "values/explained_variance"]
    logger = logx.Logger(args, __file__, columns, env, ac=ac, pi_optimizer=pi_optimizer, v_optimizer=v_optimizer)
    step = logger.step
    while step < args.total_timesteps:  # (2)
        end, act, noise = True, snapshot(ac.pi), ac.pi.noise(steps)  # the policy stands still for an epoch
        for t in range(steps):  # (3)
            if end:
                (s, _), ep_ret, ep_len = env.reset(), 0.0, 0
            a = act(s, noise[t])
            s2, r, d, truncated, _ = env.step(a)
            end = d or truncated
            buf.store(t, s, a, r, s2, d, end or t == steps - 1)
            s, ep_ret, ep_len = s2, ep_ret + r, ep_len + 1
            if end:
                logger.episode(step + (t + 1) * logx.size, ep_ret, ep_len)
        logx.check_finite(step, {"the reward": buf.r, "an observation": buf.s, "the observation after it": buf.s2})

        batch = compute_batch(ac, buf, args)  # (4) (5)
        logger.store(update_pi(ac, batch, args, pi_optimizer))  # (6) (7)
        logger.store(update_v(ac, batch, args, v_optimizer))  # (8)
        step += args.steps_per_epoch
        logger.end_epoch(step)
    return logger.dir


if __name__ == "__main__":
    logx.main(train, Args)
