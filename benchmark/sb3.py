"""The reference: trains Stable-Baselines3's version of an algorithm with the settings of ours, and logs as ours does.

    python benchmark/sb3.py sac --env-id Hopper-v4 --seed 1      takes the knobs of sac.py, with the same defaults
    python benchmark/sb3.py ppo --env-id Hopper-v4 --defaults    SB3's own settings; of ours only env, seed and budget

TRPO is sb3-contrib's. VPG's nearest relative is A2C, which always runs with SB3's settings. What SB3 cannot express is
in docs/differences-from-sb3.md. It has one learning rate for all networks: --pi-lr, for TRPO --vf-lr. At its defaults
its DDPG and TD3 explore without noise.
"""

import importlib
import json
import sys
from dataclasses import make_dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import sb3_contrib
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise

import logx

TAKEN = {"total_timesteps", "steps_per_epoch", "max_episode_steps", "num_test_episodes"}  # with SB3's settings, too
IGNORED = {"ppo": {"vf_lr", "train_v_iters"}, "ddpg": {"q_lr"}, "td3": {"q_lr"}, "sac": {"q_lr"}}
CLASSES = {"vpg": sb3.A2C, "trpo": sb3_contrib.TRPO, "ppo": sb3.PPO, "ddpg": sb3.DDPG, "td3": sb3.TD3, "sac": sb3.SAC}
ON_POLICY = ("vpg", "trpo", "ppo")


def settings(algo, a, env):
    """Keyword arguments of SB3's class that give it the settings `a` of our script."""
    if a.defaults or algo == "vpg":
        return {}
    n = env.action_space.shape[0] if env.action_space.shape else 1
    if algo in ON_POLICY:
        net = dict(net_arch=list(a.hidden_sizes), ortho_init=False)
        if env.action_space.shape:
            net["log_std_init"] = -0.5
        kw = dict(n_steps=a.steps_per_epoch, batch_size=a.steps_per_epoch, gamma=a.gamma, gae_lambda=a.lam)
        if algo == "ppo":
            kw |= dict(learning_rate=a.pi_lr, n_epochs=a.train_pi_iters, clip_range=a.clip_ratio)
            return kw | dict(max_grad_norm=np.inf, policy_kwargs=net)
        kw |= dict(learning_rate=a.vf_lr, n_critic_updates=a.train_v_iters, cg_max_steps=a.cg_iters)
        kw |= dict(line_search_max_iter=a.backtrack_iters, line_search_shrinking_factor=a.backtrack_coeff)
        return kw | dict(target_kl=a.delta / n, cg_damping=a.damping_coeff / n, policy_kwargs=net)  # it averages over n
    net = dict(net_arch=list(a.hidden_sizes), n_critics=1 if algo == "ddpg" else 2)
    kw = dict(learning_rate=a.pi_lr, buffer_size=a.replay_size, batch_size=a.batch_size, tau=1 - a.polyak)
    kw |= dict(gamma=a.gamma, train_freq=(1, "episode"), gradient_steps=-1, policy_kwargs=net)
    kw |= dict(learning_starts=a.update_after - 1)  # SB3 updates above it, we from it on
    if algo == "sac":
        return kw | dict(ent_coef=f"auto_{a.alpha}" if a.learn_alpha else a.alpha)
    kw |= dict(action_noise=NormalActionNoise(np.zeros(n), np.full(n, a.act_noise)))
    if algo == "td3":
        kw |= dict(policy_delay=a.policy_delay, target_policy_noise=a.target_noise, target_noise_clip=a.noise_clip)
    return kw


def make_model(algo, a, env):
    """SB3's model on `env`, for arguments `a` of our script and `a.defaults`."""

    class Model(CLASSES[algo]):
        def _sample_action(self, learning_starts, action_noise=None, n_envs=1):
            if not a.defaults:  # SB3 has one number for updates and random actions, and adds noise to the latter
                learning_starts = a.start_steps
                action_noise = None if self.num_timesteps < a.start_steps else action_noise
            return super()._sample_action(learning_starts, action_noise, n_envs)

    return Model("MlpPolicy", Monitor(env), seed=a.seed, device="cpu", **settings(algo, a, env))


class Rows(BaseCallback):
    """Gives a Logger of ours the episodes; ends its epochs as ours do, the off-policy ones with test episodes."""

    def __init__(self, a, logger, evaluate=None):
        super().__init__()
        self.a, self.ours, self.evaluate = a, logger, evaluate

    def _on_step(self):
        for info in self.locals["infos"]:
            if "episode" in info:
                self.ours.episode(self.num_timesteps, info["episode"]["r"], info["episode"]["l"])
        if not self.evaluate and self.num_timesteps % self.a.steps_per_epoch == 0:
            self.ours.end_epoch(self.num_timesteps)
        return True

    def _on_rollout_start(self):  # the first moment after the updates of the episode before
        n, step = self.a.steps_per_epoch, self.num_timesteps
        if self.evaluate and (step // n > self.ours.step // n or step >= self.a.total_timesteps > self.ours.step):
            self.ours.store(self.evaluate(self.model, step))
            self.ours.end_epoch(step)

    _on_training_end = _on_rollout_start


def final_returns(get_action, env, seed, episodes=20):
    """Returns of whole episodes of the policy as it acts in training, at the end of an on-policy run."""
    returns = []
    for i in range(episodes):
        (s, _), ended = env.reset(seed=10_000 + 1_000 * seed + i), False
        returns.append(0.0)
        while not ended:
            s, r, d, truncated, _ = env.step(get_action(s))
            returns[-1], ended = returns[-1] + float(r), d or truncated
    return returns


def write_final(folder, returns):
    """Keeps them in the run's folder, in one move."""
    path = Path(folder, "final.json")
    path.with_suffix(".new").write_text(json.dumps(returns) + "\n")
    path.with_suffix(".new").replace(path)


def main(algo):
    script = importlib.import_module(algo)
    script.get_action = lambda model, s, deterministic: model.predict(s, deterministic=deterministic)[0]

    def train(a):
        if a.resume:
            raise logx.Stop("SB3's runs cannot be resumed")
        a.exp_name = f"{'sb3-defaults' if a.defaults else 'sb3'}-{algo}" if a.exp_name == algo else a.exp_name
        logx.setup(a.seed)
        make_env = logx.make_env if algo in ON_POLICY else script.make_env  # SB3 clips actions to finite bounds itself
        env, test_env = make_env(a), make_env(a)
        model = make_model(algo, a, env)
        columns = [] if algo in ON_POLICY else ["eval/episodic_return", "eval/episodic_length"]
        logger = logx.Logger(a, __file__, columns, env)
        path = Path(logger.dir, "config.json")
        made = json.loads(path.read_text()) | {m.__name__: m.__version__ for m in (sb3, sb3_contrib)}
        path.write_text(json.dumps(made, indent=2) + "\n")
        evaluate = None if algo in ON_POLICY else lambda model, step: script.evaluate(model, test_env, a, step)
        model.learn(a.total_timesteps, Rows(a, logger, evaluate))
        if algo in ON_POLICY:
            torch.manual_seed(a.seed)
            returns = final_returns(lambda s: model.predict(s)[0], test_env, a.seed)
            write_final(logger.dir, returns)
        return logger.dir

    fields = [("defaults", bool, False)]
    logx.main(train, make_dataclass("Args", fields, bases=(script.Args,)))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in CLASSES:
        print(f"usage: sb3.py {{{','.join(CLASSES)}}} [the script's flags] [--defaults]", file=sys.stderr)
        sys.exit(2)
    main(sys.argv.pop(1))
