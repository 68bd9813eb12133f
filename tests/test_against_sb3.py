"""The six scripts against Stable-Baselines3 and sb3-contrib: same weights and noise, same numbers.

A test runs a script's own train() and then SB3's own learn(), both in float64, on a small
environment whose action bounds are unequal, and whose episodes terminate, are truncated, or do both
on one step. Both start with the same weights. SB3 is given the random draws that ours made (noise,
and which rows a batch has), and computes everything else itself. Compared are the actions that the
environment receives, batches, targets, returns, advantages, log-probabilities, every loss, every
gradient and parameter at every step of every optimiser, target networks, and TRPO's search
direction and line search.

What differs between ours and SB3's, and why. The code below sets each point aside, unless it says
"not compared".

All six
- Precision: both use float32. Here both compute in float64, so that rounding hides nothing.
- Initial weights: SB3's on-policy networks begin orthogonal, and σ at 1. Here all begin with the
  same, larger ones.
- Learning rates: SB3 has one for all networks, and in A2C and PPO a single optimiser. Ours has one
  for each network.
DDPG, TD3, SAC
- Updates: SB3 makes one after every step, unless told to make them at an episode's end, as ours.
- First actions, not compared: SB3 has one number for the end of random actions and the start of
  updates, ours has two.
- Bounds: SB3 scales actions in its policies and its collection, ours in a wrapper. The numbers are
  the same.
- DDPG: SB3's is its TD3 with one critic and with the target's noise clipped to 0; ours has none.
- TD3's delay: SB3 counts updates, ours steps since the run began. The policy moves at the same
  updates, every second one, if the number of steps before the first update is even.
- SAC's critic loss: SB3 halves it. With Adam that makes no difference if its epsilon is halved too.
- SAC's log π(a|s): SB3 adds 1e-6 in log(1 − a² + 1e-6) to avoid log 0. Ours is written so that it
  needs nothing.
- SAC's order: SB3 steps α first, but uses the old α for the rest of the update. So does ours, which
  steps α last.
VPG (A2C in SB3), PPO, TRPO
- Bounds: SB3 only clips actions to them. Ours maps [−1, 1] to them; here SB3 gets an environment
  that does so, too.
- λ < 1: SB3 fits V to Â + V, the λ-returns; ours to rewards-to-go, as the pseudocode says. At λ = 1
  they are equal.
- Normalised advantages: SB3 divides by the sample's standard deviation, ours by the population's.
- Gradient clipping: SB3's A2C and PPO clip the norm over both networks. Ours does not clip.
- Optimisers: SB3's Adam has ε = 1e-5, ours torch's 1e-8. SB3's A2C has RMSprop, as in the paper.
- Critic: SB3's A2C and PPO add half its loss to the policy's, and step both together. Ours steps V
  by itself.
- Epochs, not compared: ours begin with a reset, SB3's in the episode that the last epoch cut.
- PPO's minibatches: SB3 takes 64 rows at a time, ours the whole epoch.
- TRPO's KL: sb3-contrib has KL(new ‖ old), ours KL(old ‖ new), as in the paper. At the old policy
  both have the same Hessian, so the step is the same, unless the line search tells them apart.
- TRPO's KL for Box actions: sb3-contrib takes the mean over the action's n dimensions, although the
  KL is their sum. So its δ and its damping count n-fold.
- TRPO's conjugate gradient: sb3-contrib starts at small noise, ours at 0. Both stop early once it
  has converged, sb3-contrib at an absolute residual, ours at a relative one; not compared.
"""

from collections import defaultdict
from contextlib import contextmanager
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from sb3_contrib import TRPO
from sb3_contrib.trpo import trpo as sb3_trpo
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.optimizer import register_optimizer_step_post_hook

import ddpg
import ppo
import sac
import td3
import trpo
import vpg

pytestmark = [
    pytest.mark.fast,
    pytest.mark.filterwarnings("ignore:overflow encountered in cast"),  # by a float64 Box
]

GAMMA, PI_LR, Q_LR, VF_LR = 0.97, 0.01, 0.02, 0.03
received = []  # the actions that reached the environment


class Tiny(gym.Env):
    """Terminates on steps 3, 13, 23, ..., counted over all episodes.

    The time limit of 5 truncates it on steps 8, 13, 18, 23, ...
    """

    observation_space = gym.spaces.Box(-1, 1, (3,))

    def __init__(self, render_mode=None, discrete=False):
        box = gym.spaces.Box(np.array([-1, -3.0]), np.array([2, 0.5]), dtype=np.float64)
        self.action_space, self.n = gym.spaces.Discrete(3) if discrete else box, 0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.s = np.sin(self.n + np.arange(3, dtype=np.float32))
        return self.s, {}

    def step(self, a):
        received.append(np.array(a))
        self.n += 1
        self.s = np.cos(2 * self.s[[1, 2, 0]] + np.resize(a, 3)).astype(np.float32)
        return self.s, float(1 - 2 * self.s[0] + self.s[1]), self.n % 10 == 3, False, {}


gym.register("Tiny-v0", Tiny, max_episode_steps=5)
gym.register("TinyDiscrete-v0", Tiny, max_episode_steps=5, kwargs={"discrete": True})


@pytest.fixture(autouse=True)
def float64(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # for runs/
    # SB3 casts observations to float32 here
    monkeypatch.setattr(
        "stable_baselines3.common.policies.preprocess_obs", lambda s, *_, **__: s.double()
    )
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def close(ours, theirs):
    ours, theirs = (torch.stack([torch.as_tensor(x) for x in xs]) for xs in (ours, theirs))
    assert ours.dtype in (torch.float64, torch.int64)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


def arrays_to_float64(buf):
    vars(buf).update(
        {name: x.astype(np.float64) for name, x in vars(buf).items() if isinstance(x, np.ndarray)}
    )


class Replay64(ReplayBuffer):
    """SB3's replay buffer in float64; it is told which rows to draw, and keeps its batches."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        arrays_to_float64(self)
        self.batches = []

    def sample(self, batch_size, env=None):
        self.batches.append(self._get_samples(next(self.rows).numpy(), env))
        return self.batches[-1]


class Rollout64(RolloutBuffer):
    """SB3's rollout buffer in float64."""

    def reset(self):
        super().reset()
        arrays_to_float64(self)

    def _get_samples(self, rows, env=None):  # as SB3's, but actions are not cast to float32
        names = ("observations", "actions", "values", "log_probs", "advantages", "returns")
        s, a, *rest = (torch.as_tensor(getattr(self, name)[rows]) for name in names)
        return RolloutBufferSamples(s, a, *(x.flatten() for x in rest))


def networks(model, targets=False):
    """SB3's parameters under our networks' names, in our order."""
    if hasattr(model, "rollout_buffer"):
        net, mlp = model.policy, model.policy.mlp_extractor
        log_std = [net.log_std] if hasattr(net, "log_std") else []
        pi = [*log_std, *mlp.policy_net.parameters(), *net.action_net.parameters()]
        return {"pi": pi, "v": [*mlp.value_net.parameters(), *net.value_net.parameters()]}
    critic = model.critic_target if targets else model.critic
    qs = [list(q.parameters()) for q in critic.q_networks]
    nets = dict(zip(["q"] if len(qs) == 1 else ["q1", "q2"], qs))
    if not isinstance(model, sb3.SAC):
        actor = model.actor_target if targets else model.actor
        return nets | {"pi": list(actor.parameters())}
    if targets:
        return nets
    # in ours the two heads are the halves of one layer
    pi = model.actor
    heads = [pi.mu.weight, pi.log_std.weight, pi.mu.bias, pi.log_std.bias]
    nets["pi"] = [*pi.latent_pi.parameters(), *heads]
    if model.log_ent_coef is not None:
        nets["log_alpha"] = [model.log_ent_coef]
    return nets


def parameters(ac, name):
    return [ac.log_alpha] if name == "log_alpha" else list(getattr(ac, name).parameters())


def copy_weights(model, ac):
    for name, params in networks(model).items():
        vector_to_parameters(parameters_to_vector(params), parameters(ac, name))
    return ac


def make_model(cls, env_id="Tiny-v0", **knobs):
    """SB3's algorithm in float64, with large weights and a learning rate for each network."""
    knobs |= dict(gamma=GAMMA, policy_kwargs={"net_arch": [8, 6]}, seed=0, device="cpu")
    env = gym.make(env_id)
    if cls in (sb3.A2C, sb3.PPO, TRPO) and isinstance(env.action_space, gym.spaces.Box):
        env = gym.wrappers.RescaleAction(env, -1.0, 1.0)
    model = cls("MlpPolicy", env, **knobs)
    model.env.buf_rews = model.env.buf_rews.astype(np.float64)
    for p in model.policy.parameters():
        p.data += 0.3 * torch.randn_like(p)
    model._update_learning_rate = lambda optimizers: None  # it would set the same for all
    if hasattr(model, "rollout_buffer"):  # one Adam with torch's epsilon, for A2C too
        pi, v = networks(model).values()
        groups = [{"params": pi, "lr": PI_LR}, {"params": v, "lr": VF_LR}]
        model.policy.optimizer = torch.optim.Adam(groups)
        return model
    for name, lr in [("actor", PI_LR), ("critic", Q_LR)]:
        getattr(model, name).optimizer.param_groups[0]["lr"] = lr
        if hasattr(model, name + "_target"):
            getattr(model, name + "_target").load_state_dict(getattr(model, name).state_dict())
    if getattr(model, "ent_coef_optimizer", None):
        model.ent_coef_optimizer.param_groups[0]["lr"] = PI_LR
    return model


def spy(m, owner, name):
    """Returns a list to which every call of owner.name will add its arguments and its result."""
    calls, f = [], getattr(owner, name)

    def wrapper(*args, **kwargs):
        result = f(*args, **kwargs)
        calls.append((*args, result))
        return result

    m.setattr(owner, name, wrapper)
    return calls


@contextmanager
def recording(m):
    """Keeps actions, losses, and each parameter's (gradient, value) at every optimiser step."""
    rec = SimpleNamespace(steps=defaultdict(list))

    def hook(optimizer, args, kwargs):
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    rec.steps[p].append(torch.stack([p.grad.flatten(), p.detach().flatten()]))

    received.clear()
    backward, handle = spy(m, torch.Tensor, "backward"), register_optimizer_step_post_hook(hook)
    try:
        yield rec
    finally:
        handle.remove()
    rec.actions, rec.losses = received.copy(), np.array([loss.item() for loss, _ in backward])


def history(rec, params):
    """For each step of a network, its gradient and its new value as one tensor (2, n)."""
    return [torch.cat(x, dim=1) for x in zip(*(rec.steps[p] for p in params), strict=True)]


class TorchSpy:
    """What a script sees as torch: float32 means float64, and random draws are kept."""

    float32 = torch.float64

    def __init__(self):
        self.noise, self.rows = [], []

    def __getattr__(self, name):
        return getattr(torch, name)

    def randn_like(self, x):
        self.noise.append(torch.randn_like(x))
        return self.noise[-1]

    def randn(self, *shape):
        noise = torch.randn(*shape)
        self.noise += noise  # a row for each action
        return noise

    def randint(self, n, shape):
        self.rows.append(torch.randint(n, shape))
        return self.rows[-1]


class NumpySpy:
    """What a script sees as numpy."""

    float32 = np.float64

    def __getattr__(self, name):
        return getattr(np, name)


def run_ours(script, model, **knobs):
    """Runs the script's train(), starting with the weights of SB3's model."""
    make_env, ActorCritic = script.make_env, script.ActorCritic

    def make_env64(args):
        return gym.wrappers.DtypeObservation(make_env(args), np.float64)

    with pytest.MonkeyPatch.context() as m, recording(m) as rec:
        rec.torch = TorchSpy()
        m.setattr(script, "torch", rec.torch)
        m.setattr(script, "np", NumpySpy())
        m.setattr(script, "make_env", make_env64)
        m.setattr(script, "ActorCritic", lambda *args: copy_weights(model, ActorCritic(*args)))
        m.setattr(script, "check_snapshot", lambda *args: None, raising=False)  # draws noise
        watched = "ActorCritic compute_targets compute_batch conjugate_gradient update_pi"
        for name in watched.split():
            if hasattr(script, name):
                setattr(rec, name, spy(m, script, name))
        script.train(script.Args(gamma=GAMMA, hidden_sizes=(8, 6), **knobs))
    rec.ac = rec.ActorCritic[0][-1]
    return rec


def run_theirs(model, ours):
    """Runs SB3's learn() with the random draws that ours made."""
    acting = iter([x for x in ours.torch.noise if x.ndim == 1])
    learning = [x for x in ours.torch.noise if x.ndim == 2]
    if isinstance(model, sb3.SAC):  # ours draws the noise of a' before that of a, SB3 after it
        learning = [x for a2, a in zip(learning[::2], learning[1::2]) for x in (a, a2)]
    learning, actions = iter(learning), iter(ours.actions)

    def standard_normal(shape, dtype, device):
        return next(acting if shape[0] == 1 else learning).reshape(shape)

    def target_noise(x, mu, sigma):
        return x.copy_(mu + sigma * next(learning))

    with pytest.MonkeyPatch.context() as m, recording(m) as rec:
        m.setattr("torch.distributions.normal._standard_normal", standard_normal)
        # of NormalActionNoise
        m.setattr(np.random, "normal", lambda mu, sigma: mu + sigma * next(acting).numpy())
        if type(model) is sb3.TD3:  # DDPG's is clipped to 0
            m.setattr(torch.Tensor, "normal_", target_noise)
        if type(model) is TRPO:  # the noise at which its conjugate gradient starts
            m.setattr(torch, "randn_like", torch.zeros_like)
        sample = "stable_baselines3.common.distributions.CategoricalDistribution.sample"
        m.setattr(sample, lambda self: torch.as_tensor(next(actions)).reshape(1))
        std = torch.Tensor.std
        m.setattr(torch.Tensor, "std", lambda x: std(x, correction=0))  # of the population
        rec.mse_loss = spy(m, torch.nn.functional, "mse_loss")
        rec.conjugate_gradient = spy(m, sb3_trpo, "conjugate_gradient_solver")
        model.learn(len(ours.actions), log_interval=None)
    assert not [*acting, *learning]
    return rec


@pytest.mark.parametrize(
    ("script", "cls", "knobs", "their_knobs"),
    [
        (ddpg, sb3.DDPG, {}, {}),
        (td3, sb3.TD3, {"target_noise": 0.4}, {"target_policy_noise": 0.4}),
        (sac, sb3.SAC, {"alpha": 0.3}, {"ent_coef": 0.3}),
        (sac, sb3.SAC, {"alpha": 0.3, "learn_alpha": True}, {"ent_coef": "auto_0.3"}),
    ],
    ids=["ddpg", "td3", "sac", "sac_learn_alpha"],
)
def test_off_policy(script, cls, knobs, their_knobs):
    n = 28  # steps, and updates
    knobs = knobs | dict(env_id="Tiny-v0", total_timesteps=n)
    knobs |= dict(start_steps=0, update_after=0, num_test_episodes=0)
    knobs |= dict(polyak=0.9, pi_lr=PI_LR, q_lr=Q_LR, batch_size=16, replay_size=100)
    their_knobs = their_knobs | dict(tau=1 - 0.9, batch_size=16)
    their_knobs |= dict(replay_buffer_class=Replay64, buffer_size=100)
    their_knobs |= dict(train_freq=(1, "episode"), gradient_steps=-1, learning_starts=0)
    if script is not sac:
        knobs["act_noise"] = 0.5
        their_knobs["action_noise"] = NormalActionNoise(np.zeros(2), np.full(2, 0.5), np.float64)
    model, half = make_model(cls, **their_knobs), 1.0
    if script is sac:
        model.actor.action_dist.epsilon = 0  # in log(1 − a² + ε)
        half = 0.5  # of the critic's loss
        model.critic.optimizer.param_groups[0]["eps"] *= half

    ours = run_ours(script, model, **knobs)
    model.replay_buffer.rows = iter(ours.torch.rows)
    theirs = run_theirs(model, ours)

    close(ours.actions, theirs.actions)
    assert model.replay_buffer.dones.sum() == 6 and model.replay_buffer.timeouts.sum() == 3
    assert len(ours.compute_targets) == n
    batches = model.replay_buffer.batches
    for (_, _, batch, _, _), x in zip(ours.compute_targets, batches, strict=True):
        their_batch = x.observations, x.actions, x.rewards, x.next_observations, x.dones
        for a, b in zip(batch, their_batch, strict=True):
            close(a, b.reshape(a.shape))
    # SB3 computes one loss for each critic
    targets = theirs.mse_loss[:: len(model.critic.q_networks)]
    close([y for *_, y in ours.compute_targets], [y.flatten() for _, y, _ in targets])

    losses = theirs.losses
    if "learn_alpha" in knobs:
        losses = np.roll(losses.reshape(n, 3), -1, axis=1).flatten()  # SB3 steps α first, ours last
    if script is sac:
        losses[:: len(losses) // n] /= half
    close(ours.losses, losses)
    for name, params in networks(model).items():
        x, y = history(ours, parameters(ours.ac, name)), history(theirs, params)
        assert len(x) == (n // 2 if script is td3 and name == "pi" else n)
        for grad, _ in y:
            grad /= half if name.startswith("q") else 1
        close(x, y)
    _, ac_targ, *_ = ours.compute_targets[0]
    for name, params in networks(model, targets=True).items():
        close(parameters_to_vector(parameters(ac_targ, name)), parameters_to_vector(params))

    env = script.make_env(script.Args(env_id="Tiny-v0"))
    for s in np.random.default_rng(0).normal(size=(10, 3)):
        a = script.get_action(ours.ac, s, deterministic=True)
        close(env.action(a), model.predict(s, deterministic=True)[0])


def test_sac_log_probability(monkeypatch):
    """Also where log σ leaves [−20, 2], but not where a² rounds to 1 and SB3 needs its epsilon."""
    model = make_model(sb3.SAC, buffer_size=1)
    model.actor.action_dist.epsilon = 0
    model.actor.log_std.weight.data *= 200
    args = sac.Args(hidden_sizes=(8, 6))
    ac = sac.ActorCritic(model.observation_space, model.action_space, args)
    copy_weights(model, ac)
    s, noise = torch.randn(500, 3), torch.randn(500, 2)
    monkeypatch.setattr(torch, "randn_like", lambda mu: noise)
    monkeypatch.setattr("torch.distributions.normal._standard_normal", lambda *_, **__: noise)
    (a, logp), (a_sb3, logp_sb3) = ac.pi(s), model.actor.action_log_prob(s)
    _, log_std = ac.pi.net(s).chunk(2, dim=-1)
    exact = (a.abs() < 1 - 1e-6).all(dim=1)
    assert (log_std[exact] > 2).any() and (log_std[exact] < -20).any()
    close(a, a_sb3)
    close(logp[exact], logp_sb3[exact])


@pytest.mark.parametrize("script", [vpg, ppo, trpo])
@pytest.mark.parametrize(
    ("env_id", "steps", "lam"),
    [
        ("Tiny-v0", 23, 1.0),
        ("Tiny-v0", 28, 1.0),
        ("Tiny-v0", 26, 0.9),
        ("TinyDiscrete-v0", 26, 1.0),
    ],
    ids=["terminated", "truncated", "cut", "discrete"],  # the epoch's last step
)
def test_on_policy(script, env_id, steps, lam):
    box, n = env_id == "Tiny-v0", 1 if script is vpg else 10
    dims = 2 if box else 1  # sb3-contrib's KL is smaller by this factor
    if script is vpg:
        cls, knobs = sb3.A2C, {}
        their_knobs = dict(use_rms_prop=False, normalize_advantage=True)
    elif script is ppo:
        cls, knobs = sb3.PPO, dict(train_pi_iters=n, clip_ratio=0.1)
        their_knobs = dict(n_epochs=n, clip_range=0.1, batch_size=steps)
    else:
        cls, knobs = TRPO, dict(delta=0.02, cg_iters=5)
        their_knobs = dict(target_kl=0.02 / dims, cg_damping=0.1 / dims, batch_size=steps)
        their_knobs |= dict(cg_max_steps=5, n_critic_updates=n)
    if script is not trpo:
        knobs |= dict(pi_lr=PI_LR)
        their_knobs |= dict(vf_coef=1, max_grad_norm=np.inf)
    knobs |= dict(env_id=env_id, total_timesteps=steps, steps_per_epoch=steps)
    knobs |= dict(lam=lam, vf_lr=VF_LR, train_v_iters=n)
    their_knobs |= dict(rollout_buffer_class=Rollout64, n_steps=steps, gae_lambda=lam)
    model = make_model(cls, env_id, **their_knobs)

    ours = run_ours(script, model, **knobs)
    theirs = run_theirs(model, ours)

    close(ours.actions, theirs.actions)
    assert not box or np.isin(ours.actions, [-1, 2, -3, 0.5]).any()  # some were clipped
    ((*_, (s, a, ret, adv, logp)),), buf = ours.compute_batch, model.rollout_buffer
    close(s, buf.observations)
    close(a.double(), buf.actions.reshape(a.shape))
    close(logp, buf.log_probs.flatten())
    close(adv, (buf.advantages.flatten() - buf.advantages.mean()) / (buf.advantages.std() + 1e-8))
    if lam == 1:  # else SB3's critic has other targets
        close(ret, buf.returns.flatten())
        close(ours.losses if script is trpo else ours.losses[:n] + ours.losses[n:], theirs.losses)
    for name, params in networks(model).items():
        if name == "v" and lam < 1:
            continue
        close(parameters_to_vector(parameters(ours.ac, name)), parameters_to_vector(params))
        if name == "v" or script is not trpo:
            x, y = history(ours, parameters(ours.ac, name)), history(theirs, params)
            assert len(x) == n
            close(x, y)
    if script is ppo:
        assert model.logger.name_to_value["train/clip_fraction"] > 0.1
    if script is trpo:
        ((_, g, _, x),), ((_, g_sb3, x_sb3),) = ours.conjugate_gradient, theirs.conjugate_gradient
        close(g, g_sb3)
        close(x, x_sb3 / dims)


@pytest.mark.parametrize(("tries", "backtracks"), [(10, 2), (2, 2)], ids=["success", "failure"])
def test_trpo_line_search(monkeypatch, tries, backtracks):
    """δ is so large that the first tries fail. SB3's KL is made KL(old ‖ new), summed."""
    kl = sb3_trpo.kl_divergence
    monkeypatch.setattr(sb3_trpo, "kl_divergence", lambda new, old: kl(old, new).sum(dim=1))
    their_knobs = dict(target_kl=20, cg_max_steps=5, line_search_max_iter=tries)
    their_knobs |= dict(rollout_buffer_class=Rollout64, n_steps=26, gae_lambda=1)
    their_knobs |= dict(n_critic_updates=1, batch_size=26)
    model = make_model(TRPO, **their_knobs)
    knobs = dict(delta=20, cg_iters=5, backtrack_iters=tries, train_v_iters=1, vf_lr=VF_LR, lam=1)
    knobs |= dict(env_id="Tiny-v0", total_timesteps=26, steps_per_epoch=26, seed=1)
    ours = run_ours(trpo, model, **knobs)
    run_theirs(model, ours)
    info, log = ours.update_pi[0][-1], model.logger.name_to_value
    assert info["values/backtracks"] == backtracks
    close([info["values/kl"]], [log["train/kl_divergence_loss"]])
    close([-info["losses/pi"] - info["losses/delta_pi"]], [log["train/policy_objective"]])
    theirs = parameters_to_vector(networks(model)["pi"])
    close(parameters_to_vector(ours.ac.pi.parameters()), theirs)


@pytest.mark.parametrize("script", [vpg, ppo, trpo])
@pytest.mark.parametrize("lam", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("last", ["terminated", "truncated", "cut"])
def test_gae(script, lam, last):
    """On random paths, against RolloutBuffer.compute_returns_and_advantage."""
    rng, n = np.random.default_rng(0), 60
    r, v, v2 = rng.normal(size=(3, n))
    end, d = rng.random((2, n)) < [[0.2], [0.5]]
    end[-1], d[-1] = True, last == "terminated"
    d &= end
    v2 = np.where(end, v2, np.append(v[1:], 0))
    truncated = end & ~d
    truncated[-1] = last == "truncated"

    space = gym.spaces.Box(-1, 1, (1,))
    buf = Rollout64(n, space, space, "cpu", lam, GAMMA)
    for t in range(n):
        # as SB3's collect_rollouts does at a time limit
        r_sb3 = r[t] + GAMMA * v2[t] * truncated[t]
        buf.add(np.zeros(1), np.zeros(1), r_sb3, end[t - 1], torch.tensor([v[t]]), torch.zeros(1))
    buf.compute_returns_and_advantage(torch.tensor(v2[-1:]), np.array([last != "cut"]))

    close(script.compute_advantages(r, v, v2, d, end, GAMMA, lam), buf.advantages.flatten())
    if lam == 1:
        close(script.compute_returns(r, v2, d, end, GAMMA), buf.returns.flatten())
