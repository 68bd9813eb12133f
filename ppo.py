"""Proximal Policy Optimization (PPO), clipped: Schulman et al. 2017, arXiv:1707.06347.

 1: input: policy parameters θ_0, value function parameters φ_0
 2: for k = 0, 1, 2, ... do
 3:   collect trajectories D_k = {τ_i} by running the policy π_{θ_k} in the environment
 4:   compute rewards-to-go R̂_t = r_t + γ R̂_{t+1}; at a trajectory's end, R̂_{t+1} is
      V_{φ_k}(s_{t+1}) if it was cut, 0 if it terminated
 5:   compute advantages Â_t = Σ_l (γλ)^l δ_{t+l}, δ_t = r_t + γ V_{φ_k}(s_{t+1}) − V_{φ_k}(s_t),
      and normalise them
 6:   form L(θ) = mean min(ρ_t Â_t, clip(ρ_t, 1−ε, 1+ε) Â_t), ρ_t = π_θ(a_t|s_t) / π_{θ_k}(a_t|s_t)
 7:   update the policy by several steps of gradient ascent on L, with Adam
 8:   fit the value function by gradient descent on mean_{D_k} (V_φ(s_t) − R̂_t)²

The tricks: the clip, which takes away the gain from moving ρ_t beyond 1 ± ε, so that one batch can
be reused for many steps; normalised advantages. Differences from the paper: full-batch steps in
place of minibatches. Left out: entropy bonus, value clipping, normalised observations and rewards,
gradient clipping, learning rate decay; and the original Spinning Up's stop on KL: half as many
steps without it do as well (docs/benchmarks.md). Under mpirun every process collects its share of
an epoch, and gradients and advantage statistics are averaged over all of them.

    python ppo.py --env-id Ant-v4 --seed 1
    mpirun -np 4 python ppo.py --env-id CartPole-v1
"""

# What `uv run` installs for this script
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "torch==2.14.1",
#     "numpy==2.4.6",
#     "gymnasium[classic-control,mujoco]==1.4.0",
#     "mujoco==3.15.0",
#     "mpi4py==4.1.2",
#     "mpich==5.0.2",
#     "tyro==1.0.17",
#     "tqdm==4.70.1",
#     "tensorboard==2.21.0",
#     "imageio==2.38.1",
#     "imageio-ffmpeg==0.8.1",
# ]
# ///

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
    env_id: str = "HalfCheetah-v4"  # Gymnasium environment
    env_kwargs: str = "{}"  # the environment's own arguments, as JSON
    seed: int = 0  # random seed
    exp_name: str = Path(__file__).stem  # experiment name, part of the run folder's name
    total_timesteps: int = 1_000_000  # total environment steps; the last epoch runs to its end
    steps_per_epoch: int = 4_000  # environment steps per update and log row, over all processes
    max_episode_steps: int | None = None  # time limit, in place of the environment's own
    hidden_sizes: tuple[int, ...] = (64, 64)  # units in each hidden layer
    gamma: float = 0.99  # discount factor γ
    resume: str | None = None  # run folder to resume
    compile: bool = False  # compile the updates; needs a C++ compiler; pays off after a few minutes
    lam: float = 0.97  # λ of generalised advantage estimation (GAE)
    pi_lr: float = 3e-4  # learning rate of the policy
    vf_lr: float = 1e-3  # learning rate of the value function
    train_v_iters: int = 80  # gradient steps of the value function per epoch
    clip_ratio: float = 0.2  # ε: the probability ratio is clipped to 1 ± ε
    train_pi_iters: int = 40  # gradient steps of the policy per epoch

    def __post_init__(self):
        logx.check_common(self)
        logx.check_range(self, 0, 1, "lam")
        logx.check_range(self, 0, np.inf, "pi_lr", "vf_lr", "train_v_iters", "clip_ratio")
        logx.check_range(self, 1, np.inf, "train_pi_iters")


def make_env(args, render_mode=None):
    """The environment, with Box actions in [−1, 1]; PathBuffer keeps them as they were sampled."""
    env = logx.make_env(args, render_mode)
    space = env.action_space
    if isinstance(space, gym.spaces.Discrete):
        return env
    if isinstance(space, gym.spaces.Box):
        return logx.rescale_actions(env, args.env_id)
    wrapper = "convert it with gymnasium.wrappers.TransformAction"
    raise logx.Stop(f"ppo.py needs a Box or Discrete space of actions, not {space}: {wrapper}")


def mlp(sizes, activation):
    """A multilayer perceptron with the given layer sizes; no activation after the last layer."""
    layers = []
    for n_in, n_out in zip(sizes, sizes[1:]):
        layers += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*layers[:-1])


class GaussianActor(nn.Module):
    """π_θ for Box actions: states (..., obs_dim) -> independent normals (..., act_dim)."""

    def __init__(self, obs_dim, act_dim, hidden_sizes):
        super().__init__()
        self.net = mlp([obs_dim, *hidden_sizes, act_dim], nn.Tanh)
        self.log_std = nn.Parameter(torch.full((act_dim,), -0.5))  # the same in every state

    def forward(self, s):
        return Independent(Normal(self.net(s), self.log_std.exp(), validate_args=False), 1)

    def noise(self, n):
        """(n, act_dim): the mean action plus a row of it is a sample of π_θ(·|s)."""
        return (torch.randn(n, len(self.log_std)) * self.log_std.detach().exp()).numpy()


class CategoricalActor(nn.Module):
    """π_θ for Discrete actions: states (..., obs_dim) -> a categorical distribution."""

    def __init__(self, obs_dim, n_actions, hidden_sizes):
        super().__init__()
        self.net = mlp([obs_dim, *hidden_sizes, n_actions], nn.Tanh)

    def forward(self, s):
        return Categorical(logits=self.net(s), validate_args=False)

    def noise(self, n):
        """(n, n_actions), Gumbel's: the largest of logits plus a row is a sample of π_θ(·|s)."""
        return -torch.empty(n, self.net[-1].out_features).exponential_().log().numpy()


class Critic(nn.Module):
    """V_φ: states (B, obs_dim) -> values (B,)."""

    def __init__(self, obs_dim, hidden_sizes):
        super().__init__()
        self.net = mlp([obs_dim, *hidden_sizes, 1], nn.Tanh)

    def forward(self, s):
        # with (B, 1), V − R̂ would silently become (B, B)
        return self.net(s).squeeze(-1)


class ActorCritic(nn.Module):
    """The policy and the value function."""

    def __init__(self, observation_space, action_space, args):
        super().__init__()
        obs_dim = observation_space.shape[0]
        if isinstance(action_space, gym.spaces.Box):
            self.pi = GaussianActor(obs_dim, action_space.shape[0], args.hidden_sizes)
        else:
            self.pi = CategoricalActor(obs_dim, action_space.n, args.hidden_sizes)
        self.v = Critic(obs_dim, args.hidden_sizes)


class PathBuffer:
    """Steps t = 0, ..., T−1 of an epoch. d: s2 is terminal; end: a path ends here, or is cut."""

    def __init__(self, observation_space, action_space, size):
        self.s = np.zeros((size, *observation_space.shape), np.float32)
        if isinstance(action_space, gym.spaces.Box):
            self.a = np.zeros((size, *action_space.shape), np.float32)
        else:
            self.a = np.zeros(size, np.int64)
        self.r = np.zeros(size)
        self.s2 = np.zeros((size, *observation_space.shape), np.float32)
        self.d = np.zeros(size, bool)
        self.end = np.zeros(size, bool)

    def store(self, t, s, a, r, s2, d, end):
        self.s[t] = s
        self.a[t] = a
        self.r[t] = r
        self.s2[t] = s2
        self.d[t] = d
        self.end[t] = end


def snapshot(pi):
    """(3) NumPy copy of the current policy, act(s, noise) -> a; much faster for single states."""
    layers = []
    for layer in pi.net:
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            weight = layer.weight.detach().numpy().copy()
            bias = layer.bias.detach().numpy().copy()
            layers.append((weight, bias))
        elif isinstance(layer, nn.Tanh):
            layers.append(None)
        else:
            raise logx.Stop(f"snapshot() copies Linear and Tanh only: add support for {layer}")

    def act(s, noise):
        for layer in layers:
            if layer is None:
                s = np.tanh(s)
            else:
                weight, bias = layer
                s = np.matvec(weight, s) + bias
        if isinstance(pi, CategoricalActor):
            return (s + noise).argmax()
        return s + noise

    return act


def get_action(ac, s, deterministic=False):
    """(3) a ~ π_θ(·|s), or the likeliest if deterministic. s (obs_dim,) -> a (act_dim,) or ()."""
    act = snapshot(ac.pi)
    if deterministic:
        return act(s, 0.0)
    return act(s, ac.pi.noise(1)[0])


def check_snapshot(pi, obs_dim):
    """Raises Stop unless snapshot() and noise() act as forward() says."""
    s = torch.randn(1000, obs_dim)
    noise = pi.noise(1000)
    act = snapshot(pi)
    a = np.array([act(s[i].numpy(), noise[i]) for i in range(1000)])
    with torch.no_grad():
        dist = pi(s)
    if isinstance(pi, GaussianActor):
        same = np.allclose(a - noise, dist.mean, atol=1e-3)
        same &= np.allclose(noise.std(axis=0), dist.stddev, rtol=0.2)
    else:
        scores = dist.logits.numpy() + noise
        same = np.allclose(scores[np.arange(1000), a], scores.max(axis=1), atol=1e-3)
    if not same:
        raise logx.Stop("snapshot() or noise() no longer matches forward(): change them together")


def compute_returns(r, v2, d, end, gamma):
    """(4) R̂_t = r_t + γ R̂_{t+1}. All (T,).

    At a path's last step R̂_{t+1} is V(s_{t+1}), or 0 if s_{t+1} is terminal.
    """
    ret = np.zeros(len(r))
    ahead = 0.0
    for t in reversed(range(len(r))):
        if end[t]:
            ahead = 0.0 if d[t] else v2[t]
        ahead = r[t] + gamma * ahead
        ret[t] = ahead
    return ret


def compute_advantages(r, v, v2, d, end, gamma, lam):
    """(5) Â_t = δ_t + γλ Â_{t+1}, δ_t = r_t + γ V(s_{t+1}) − V(s_t). All (T,).

    At a path's last step Â_{t+1} = 0; where s_{t+1} is terminal, V(s_{t+1}) = 0.
    """
    delta = r + gamma * np.where(d, 0.0, v2) - v
    adv = np.zeros(len(r))
    ahead = 0.0
    for t in reversed(range(len(r))):
        if end[t]:
            ahead = 0.0
        ahead = delta[t] + gamma * lam * ahead
        adv[t] = ahead
    return adv


@torch.no_grad()
def compute_batch(ac, buf, args):
    """(4) (5) The epoch as a batch s, a, ret, adv, logp_old, by the policy that collected it."""
    s = torch.as_tensor(buf.s)
    a = torch.as_tensor(buf.a)
    s2 = torch.as_tensor(buf.s2)
    v = ac.v(s).double().numpy()
    v2 = ac.v(s2).double().numpy()  # not v, shifted: at a path's end s2 is not the next row's s
    ret = compute_returns(buf.r, v2, buf.d, buf.end, args.gamma)  # (4)
    adv = compute_advantages(buf.r, v, v2, buf.d, buf.end, args.gamma, args.lam)  # (5)
    mean, std, _, _ = logx.stats(adv)
    adv = (adv - mean) / (std + 1e-8)  # (5)
    ret = torch.as_tensor(ret, dtype=torch.float32)
    adv = torch.as_tensor(adv, dtype=torch.float32)
    return s, a, ret, adv, ac.pi(s).log_prob(a)


def compute_loss_pi(ac, batch, args):
    """(6) −mean min(ρ Â, clip(ρ, 1−ε, 1+ε) Â), ρ = π_θ(a|s) / π_{θ_k}(a|s). Batch -> scalar, info.

    Where the min takes the clipped term, the gradient is 0: there is nothing to gain by moving on.
    """
    s, a, _, adv, logp_old = batch
    pi = ac.pi(s)
    logp = pi.log_prob(a)
    ratio = (logp - logp_old).exp()
    clipped = ratio.clamp(1 - args.clip_ratio, 1 + args.clip_ratio)
    loss_pi = -torch.min(ratio * adv, clipped * adv).mean()
    info = {"values/kl": logp_old - logp, "values/entropy": pi.entropy()}
    info["values/clip_frac"] = (ratio != clipped).float()
    return loss_pi, info


def compute_loss_v(ac, batch):
    """(8) mean (V_φ(s) − R̂)². Batch -> scalar, info."""
    s, _, ret, _, _ = batch
    v = ac.v(s)
    loss_v = ((v - ret) ** 2).mean()
    explained = 1 - (ret - v).var(correction=0) / (ret.var(correction=0) + 1e-8)
    return loss_v, {"losses/v": loss_v, "values/v": v, "values/explained_variance": explained}


@logx.compilable
def compute_grad_pi(ac, batch, args):
    """(6) The gradient of the policy's loss, kept in .grad."""
    loss_pi, _ = compute_loss_pi(ac, batch, args)  # (6)
    loss_pi.backward()


@logx.compilable
def compute_grad_v(ac, batch, args):
    """(8) The gradient of the value function's loss, kept in .grad."""
    loss_v, _ = compute_loss_v(ac, batch)  # (8)
    loss_v.backward()


def update_pi(ac, batch, args, pi_optimizer):
    """(6) (7) train_pi_iters steps of Adam.

    Returns what to log: the loss as it was before them, the rest as it is after them.
    """
    loss_old, _ = compute_loss_pi(ac, batch, args)
    for _ in range(args.train_pi_iters):
        pi_optimizer.zero_grad()
        compute_grad_pi(ac, batch, args)  # (6)
        logx.average_gradients(ac.pi)
        pi_optimizer.step()  # (7)

    with torch.no_grad():
        loss_new, info = compute_loss_pi(ac, batch, args)
    return {"losses/pi": loss_old, "losses/delta_pi": loss_new - loss_old, **info}


def update_v(ac, batch, args, v_optimizer):
    """(8) train_v_iters steps of Adam.

    Returns what to log: everything as it was before them, and how they changed the loss.
    """
    _, info = compute_loss_v(ac, batch)
    for _ in range(args.train_v_iters):  # (8)
        v_optimizer.zero_grad()
        compute_grad_v(ac, batch, args)
        logx.average_gradients(ac.v)
        v_optimizer.step()

    loss_new, _ = compute_loss_v(ac, batch)
    return {**info, "losses/delta_v": loss_new - info["losses/v"]}


@logx.closing
def train(args):
    """Trains an agent; returns the run's folder."""
    if args.steps_per_epoch % logx.size:
        shared = f"cannot be shared evenly by {logx.size} processes"
        raise logx.Stop(f"--steps-per-epoch {args.steps_per_epoch} {shared}")
    steps = args.steps_per_epoch // logx.size
    logx.setup(args)
    env = make_env(args)
    if steps < (logx.time_limit(env) or 0):
        logx.note(
            "Note: an epoch is shorter than the time limit; episodes that it cuts are not logged. "
            "A larger --steps-per-epoch cuts fewer."
        )
    logx.seed_training(env, args.seed)

    ac = ActorCritic(env.observation_space, env.action_space, args)  # (1)
    logx.broadcast(ac)
    check_snapshot(ac.pi, env.observation_space.shape[0])
    pi_optimizer = torch.optim.Adam(ac.pi.parameters(), lr=args.pi_lr, fused=True)
    v_optimizer = torch.optim.Adam(ac.v.parameters(), lr=args.vf_lr, fused=True)
    buf = PathBuffer(env.observation_space, env.action_space, steps)

    columns = ["losses/pi", "losses/delta_pi", "values/kl", "values/entropy", "values/clip_frac"]
    columns += ["losses/v", "losses/delta_v", "values/v", "values/explained_variance"]
    tracked = {"ac": ac, "pi_optimizer": pi_optimizer, "v_optimizer": v_optimizer}
    logger = logx.Logger(args, __file__, columns, env, tracked)
    step = logger.step
    while step < args.total_timesteps:  # (2)
        # the policy stands still for an epoch: copy it, and draw its noise, beforehand
        act = snapshot(ac.pi)
        noise = ac.pi.noise(steps)

        # collect an epoch, which begins with a reset
        end = True
        for t in range(steps):  # (3)
            if end:
                s, _ = env.reset()
                ep_ret, ep_len = 0.0, 0
            a = act(s, noise[t])
            s2, r, d, truncated, _ = env.step(a)
            end = d or truncated
            # d: terminated; a path that was cut still has a future
            buf.store(t, s, a, r, s2, d, end or t == steps - 1)
            s = s2
            ep_ret += r
            ep_len += 1
            if end:
                logger.episode(step + (t + 1) * logx.size, ep_ret, ep_len)
        logx.check_finite(step, {"the reward": buf.r, "an observation": buf.s2})

        # learn from it
        batch = compute_batch(ac, buf, args)  # (4) (5)
        logger.store(update_pi(ac, batch, args, pi_optimizer))  # (6) (7)
        logger.store(update_v(ac, batch, args, v_optimizer))  # (8)
        step += args.steps_per_epoch
        logger.end_epoch(step)
    return logger.dir


if __name__ == "__main__":
    logx.main(train, Args)
