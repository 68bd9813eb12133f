"""The reference: trains Stable-Baselines3's version of a script, and logs as the script does.

    python benchmark/sb3.py sac --env-id Hopper-v4 --seed 1      with our settings
    python benchmark/sb3.py ppo --env-id Hopper-v4 --defaults    with its own settings
    python benchmark/sb3.py ppo --help                           the flags

Takes the flags of the script, with the same defaults. With --defaults, only those count that say
what to run and how to test it: environment, seed, steps, epochs, episodes.

TRPO is sb3-contrib's. VPG's nearest relative is A2C, which always runs with its own settings. SB3
has one learning rate for all networks: it gets --pi-lr, TRPO's --vf-lr. With their own settings,
its DDPG and TD3 explore without noise. docs/differences-from-sb3.md lists what SB3 cannot express.
"""

import functools
import importlib
import json
import sys
from dataclasses import dataclass
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
from benchmark.scripts import ON_POLICY, SCRIPTS
from benchmark.terminal import replace_unprintable

CLASSES = {
    "vpg": sb3.A2C,
    "trpo": sb3_contrib.TRPO,
    "ppo": sb3.PPO,
    "ddpg": sb3.DDPG,
    "td3": sb3.TD3,
    "sac": sb3.SAC,
}

# arguments that count with SB3's own settings, too
TAKEN = {
    "env_kwargs",
    "total_timesteps",
    "steps_per_epoch",
    "max_episode_steps",
    "num_test_episodes",
}

# arguments of ours that SB3 cannot express
IGNORED = {
    "trpo": {"compile"},
    "ppo": {"compile", "vf_lr", "train_v_iters"},
    "ddpg": {"compile", "q_lr"},
    "td3": {"compile", "q_lr"},
    "sac": {"compile", "q_lr"},
}


# Settings -----------------------------------------------------------------------------------------


def settings(algo, a, env):
    """Keyword arguments that give SB3's class the settings `a` of our script."""
    if a.defaults or algo == "vpg":
        return {}
    if algo in ON_POLICY:
        return on_policy_settings(algo, a, env.action_space)
    return off_policy_settings(algo, a, env.action_space)


def on_policy_settings(algo, a, action_space):
    """The settings of TRPO or PPO."""
    networks = {"net_arch": list(a.hidden_sizes), "ortho_init": False}
    act_dim = 1
    if action_space.shape:
        networks["log_std_init"] = -0.5
        act_dim = action_space.shape[0]
    common = {
        "n_steps": a.steps_per_epoch,
        "batch_size": a.steps_per_epoch,
        "gamma": a.gamma,
        "gae_lambda": a.lam,
        "policy_kwargs": networks,
    }

    if algo == "ppo":
        return common | {
            "learning_rate": a.pi_lr,
            "n_epochs": a.train_pi_iters,
            "clip_range": a.clip_ratio,
            "max_grad_norm": np.inf,
        }
    return common | {
        "learning_rate": a.vf_lr,
        "n_critic_updates": a.train_v_iters,
        "cg_max_steps": a.cg_iters,
        "line_search_max_iter": a.backtrack_iters,
        "line_search_shrinking_factor": a.backtrack_coeff,
        # its KL is the mean over the action's dimensions, ours the sum
        "target_kl": a.delta / act_dim,
        "cg_damping": a.damping_coeff / act_dim,
    }


def off_policy_settings(algo, a, action_space):
    """The settings of DDPG, TD3 or SAC."""
    n_critics = 1 if algo == "ddpg" else 2
    common = {
        "learning_rate": a.pi_lr,
        "buffer_size": a.replay_size,
        "batch_size": a.batch_size,
        "tau": 1 - a.polyak,
        "gamma": a.gamma,
        "train_freq": (1, "episode"),
        "gradient_steps": -1,
        # it updates after more steps than this, we after this many
        "learning_starts": a.update_after - 1,
        "policy_kwargs": {"net_arch": list(a.hidden_sizes), "n_critics": n_critics},
    }

    if algo == "sac" and a.learn_alpha:
        return common | {"ent_coef": f"auto_{a.alpha}"}
    if algo == "sac":
        return common | {"ent_coef": a.alpha}

    act_dim = action_space.shape[0]
    noise = NormalActionNoise(np.zeros(act_dim), np.full(act_dim, a.act_noise))
    if algo == "ddpg":
        return common | {"action_noise": noise}
    return common | {
        "action_noise": noise,
        "policy_delay": a.policy_delay,
        "target_policy_noise": a.target_noise,
        "target_noise_clip": a.noise_clip,
    }


def make_env(algo, a):
    """The environment: our script's, or with SB3's own settings without its rescaled actions."""
    if algo == "vpg" or (algo in ON_POLICY and a.defaults):
        return logx.make_env(a)
    return importlib.import_module(algo).make_env(a)


def make_model(algo, a, env):
    """SB3's model on `env`, for arguments `a` of our script and `a.defaults`.

    It is not seeded: logx has seeded all random numbers as it does for our scripts.
    """

    class Model(CLASSES[algo]):
        def _sample_action(self, learning_starts, action_noise=None, n_envs=1):
            # SB3 has one number for the first updates and the last random actions, and adds noise
            # to these, too
            if not a.defaults:
                learning_starts = a.start_steps
                if self.num_timesteps < a.start_steps:
                    action_noise = None
            return super()._sample_action(learning_starts, action_noise, n_envs)

    kwargs = settings(algo, a, env)
    return Model("MlpPolicy", Monitor(env), device="cpu", **kwargs)


# Logging ------------------------------------------------------------------------------------------


class Rows(BaseCallback):
    """Passes SB3's episodes to a logx.Logger, and ends epochs when our scripts do.

    evaluate: (model, step) -> what to log of test episodes; None for the on-policy three.
    """

    def __init__(self, a, logger, evaluate=None):
        super().__init__()
        self.a = a
        # (BaseCallback has a `logger` of SB3's)
        self.ours = logger
        self.evaluate = evaluate

    def _on_step(self):
        for info in self.locals["infos"]:
            if "episode" in info:
                episode = info["episode"]
                self.ours.episode(self.num_timesteps, episode["r"], episode["l"])
        if not self.evaluate and self.num_timesteps % self.a.steps_per_epoch == 0:
            self.ours.end_epoch(self.num_timesteps)
        return True

    def _on_rollout_start(self):
        # the first moment after the updates that follow an episode
        if self.evaluate:
            self.end_off_policy_epoch()

    def _on_training_end(self):
        if self.evaluate:
            self.end_off_policy_epoch()

    def end_off_policy_epoch(self):
        """Tests the policy and ends the epoch, if one is over."""
        n = self.a.steps_per_epoch
        step = self.num_timesteps
        last = self.ours.step
        ends = step >= self.a.total_timesteps > last
        if step // n > last // n or ends:
            self.ours.store(self.evaluate(self.model, step))
            self.ours.end_epoch(step)


def final_returns(get_action, env, seed, episodes=20):
    """Returns of whole episodes after an on-policy run, with the policy as it acts in training."""
    returns = []
    for i in range(episodes):
        s, _ = env.reset(seed=10_000 + 1_000 * seed + i)
        ended = False
        ep_ret = 0.0
        while not ended:
            s, r, d, truncated, _ = env.step(get_action(s))
            ended = d or truncated
            ep_ret += float(r)
        returns.append(ep_ret)
    return returns


def write_final(folder, returns):
    """Writes the returns to the run folder's final.json. A kill leaves no half of it."""
    path = Path(folder, "final.json")
    new = path.with_suffix(".new")
    new.write_text(json.dumps(returns) + "\n", encoding="utf-8")
    new.replace(path)


def write_versions(folder):
    """Adds SB3's versions to the run's config.json."""
    path = Path(folder, "config.json")
    made = json.loads(path.read_text(encoding="utf-8"))
    for module in (sb3, sb3_contrib):
        made[module.__name__] = module.__version__
    path.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


# Training -----------------------------------------------------------------------------------------


def train(algo, a):
    """Trains SB3's version of a script with arguments `a`; returns the run's folder."""
    if a.resume:
        raise logx.Stop("SB3's runs cannot be resumed")
    if a.compile:
        raise logx.Stop("SB3's updates cannot be compiled")
    if a.exp_name == algo:
        a.exp_name = f"sb3-defaults-{algo}" if a.defaults else f"sb3-{algo}"
    logx.setup(a)
    if algo in ON_POLICY:
        return train_on_policy(algo, a)
    return train_off_policy(algo, a)


def train_on_policy(algo, a):
    """Trains, then plays the episodes of the score."""
    env = make_env(algo, a)
    test_env = make_env(algo, a)
    logx.seed_training(env, a.seed)
    model = make_model(algo, a, env)
    logger = logx.Logger(a, __file__, [], env, {})
    write_versions(logger.dir)
    model.learn(a.total_timesteps, Rows(a, logger))

    def get_action(s):
        action, _ = model.predict(s)
        return action

    logx.copy_statistics(env, test_env)
    torch.manual_seed(a.seed)
    write_final(logger.dir, final_returns(get_action, test_env, a.seed))
    return logger.dir


def train_off_policy(algo, a):
    """Trains, with tests by the script's own code."""
    script = importlib.import_module(algo)
    env = make_env(algo, a)
    test_env = None
    if a.num_test_episodes > 0:
        test_env = make_env(algo, a)
    logx.seed_training(env, a.seed)
    model = make_model(algo, a, env)
    columns = ["eval/episodic_return", "eval/episodic_length"]
    logger = logx.Logger(a, __file__, columns, env, {})
    write_versions(logger.dir)

    def get_action(model, s, deterministic):
        action, _ = model.predict(s, deterministic=deterministic)
        return action

    # evaluate() calls the script's get_action with what it is given as the actor-critic
    script.get_action = get_action

    def evaluate(model, step):
        if test_env is None:
            return {}
        logx.copy_statistics(env, test_env)
        return script.evaluate(model, test_env, a, step)

    model.learn(a.total_timesteps, Rows(a, logger, evaluate))
    return logger.dir


def main(algo):
    """Trains with the arguments on the command line."""
    script = importlib.import_module(algo)

    @dataclass
    class Args(script.Args):
        defaults: bool = False  # use SB3's own settings

    logx.main(logx.closing(functools.partial(train, algo)), Args)


if __name__ == "__main__":
    replace_unprintable()
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        sys.exit(0)
    if len(sys.argv) < 2 or sys.argv[1] not in SCRIPTS:
        choices = ",".join(SCRIPTS)
        usage = f"usage: sb3.py {{{choices}}} [the script's flags] [--defaults]"
        print(usage, file=sys.stderr)
        sys.exit(2)
    main(sys.argv.pop(1))
