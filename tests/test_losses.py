"""The scripts' losses, targets, returns, updates and buffers against hand calculations."""

import io
import math
from copy import deepcopy
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from helpers import load

import ddpg
import logx
import ppo
import sac
import td3
import trpo
import vpg
from benchmark.scripts import OFF_POLICY, ON_POLICY

pytestmark = pytest.mark.fast


def siblings(*modules):
    return pytest.mark.parametrize("algo", modules, ids=lambda m: m.__name__)


on_policy, off_policy = siblings(*load(ON_POLICY)), siblings(*load(OFF_POLICY))
OBS, ACT, CHOICE = Box(-np.inf, np.inf, (2,)), Box(-1, 1, (2,)), Discrete(3)
RNG = np.random.default_rng  # each test seeds its own


def f32(x):
    return torch.tensor(x, dtype=torch.float32)


def f64(x):
    return torch.tensor(x, dtype=torch.float64)


def close(x, y, rtol=1e-5, atol=1e-6):
    """Equal shapes and nearly equal numbers; assert_allclose alone would broadcast."""
    x = x.detach() if torch.is_tensor(x) else x
    assert tuple(np.shape(x)) == np.shape(y)
    np.testing.assert_allclose(np.asarray(x), y, rtol=rtol, atol=atol)


def make_ac(algo, act=ACT, **kwargs):
    """An actor-critic without hidden layers: linear networks can be computed by hand."""
    return algo.ActorCritic(OBS, act, algo.Args(hidden_sizes=(), **kwargs))


@torch.no_grad()
def set_net(module, weight, bias):
    module.net[0].weight.copy_(torch.as_tensor(np.array(weight)))
    module.net[0].bias.copy_(torch.as_tensor(np.array(bias)))


def params_of(module):
    return [p.detach().clone() for p in module.parameters()]


def all_equal(xs, ys):
    return all(torch.equal(x, y) for x, y in zip(xs, ys, strict=True))


# Off-policy: targets and losses -------------------------------------------------------------------

S = np.array([[1.0, 2.0], [-1.0, 0.5], [0.5, -1.0]])
A = np.array([[0.5, -0.5], [1.0, 0.25], [-1.0, 0.0]])
R = np.array([1.0, 2.0, -1.0])
S2 = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.5]])
D = np.array([0.0, 1.0, 0.0])
BATCH = [f32(x) for x in (S, A, R, S2, D)]

PI_W, PI_B = np.array([[0.5, -0.25], [0.1, 0.3]]), np.array([0.2, -0.1])
Q1_W, Q1_B = np.array([1.0, -2.0, 3.0, 0.5]), 0.5  # of s[0], s[1], a[0], a[1]
Q2_W, Q2_B = np.array([-1.0, -1.0, 2.0, -0.5]), -0.25


def critics(ac):
    return [ac.q] if hasattr(ac, "q") else [ac.q1, ac.q2]


def set_by_hand(ac):
    rows = len(ac.pi.net[0].bias) - 2  # SAC's log σ: 0
    set_net(ac.pi, np.vstack([PI_W, np.zeros((rows, 2))]), np.append(PI_B, np.zeros(rows)))
    for q, weight, bias in zip(critics(ac), (Q1_W, Q2_W), (Q1_B, Q2_B)):
        set_net(q, [weight], [bias])
    return ac


def hand_mu(s):
    return np.tanh(s @ PI_W.T + PI_B)


def hand_q1(s, a):
    return np.hstack([s, a]) @ Q1_W + Q1_B


def hand_q2(s, a):
    return np.hstack([s, a]) @ Q2_W + Q2_B


@siblings(ddpg, td3)
def test_targets(algo):
    quiet = {"target_noise": 0.0} if algo is td3 else {}
    ac, ac_targ = make_ac(algo), set_by_hand(make_ac(algo))
    y = algo.compute_targets(ac, ac_targ, BATCH, algo.Args(gamma=0.9, **quiet))
    q1, q2 = hand_q1(S2, hand_mu(S2)), hand_q2(S2, hand_mu(S2))
    assert q1[0] < q2[0] and q1[2] > q2[2]  # each is the minimum once
    q = q1 if algo is ddpg else np.minimum(q1, q2)
    # row 1 terminated, the others bootstrap
    close(y, np.array([1 + 0.9 * q[0], 2.0, -1 + 0.9 * q[2]]))
    assert not y.requires_grad


def test_sac_targets():
    """The smaller of the two target Qs, at an action of the current policy, minus α log π."""
    a2, logp = f32([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]), f32([-1.5, 4.0, 0.5])
    seen = []

    def pi(s):
        seen.append(s)
        return a2, logp

    ac = SimpleNamespace(pi=pi, log_alpha=f32(math.log(0.2)))
    ac_targ = SimpleNamespace(q1=lambda s, a: f32([3.0, 5.0, 8.0]), q2=lambda s, a: 10 * a.sum(-1))
    y = sac.compute_targets(ac, ac_targ, BATCH, sac.Args(gamma=0.9))
    close(y, np.array([1 + 0.9 * (3 + 0.3), 2.0, -1 + 0.9 * (8 - 0.1)]))
    assert torch.equal(seen[0], BATCH[3]) and not y.requires_grad
    ac_targ.q1 = lambda s, a: f32([30.0, 50.0, 80.0])  # now q2 = 3, 7, 11 is the smaller
    y = sac.compute_targets(ac, ac_targ, BATCH, sac.Args(gamma=0.9))
    close(y, np.array([3.97, 2.0, -1 + 0.9 * 10.9]))


def test_sac_alpha():
    for learn in (False, True):
        log_alpha = make_ac(sac, alpha=0.2, learn_alpha=learn).log_alpha
        close(log_alpha, np.float32(math.log(0.2)))
        assert log_alpha.requires_grad == learn
    ac = make_ac(sac, alpha=0.0)  # no entropy bonus: log α = −∞ must not cause NaN
    assert ac.log_alpha.exp() == 0
    assert torch.isfinite(sac.compute_targets(ac, ac, BATCH, sac.Args())).all()
    assert torch.isfinite(sac.compute_loss_pi(ac, BATCH, sac.Args())[0])


def td3_noisy_actions(mu, **kwargs):
    seen = []

    def q(s, a):
        seen.append(a)
        return a[:, 0]

    n = len(mu)
    batch = [torch.zeros(n, *shape) for shape in ((2,), (2,), (), (2,), ())]
    ac_targ = SimpleNamespace(pi=lambda s: mu, q1=q, q2=q)
    y = td3.compute_targets(None, ac_targ, batch, td3.Args(gamma=0.5, **kwargs))
    # both Qs get the same action
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(y, 0.5 * seen[0][:, 0])
    return seen[0].double().numpy()


def test_td3_target_noise():
    torch.manual_seed(0)
    # clipped at 4.5 σ: as good as unclipped
    noise = td3_noisy_actions(torch.zeros(4000, 2), target_noise=0.2, noise_clip=0.9)
    np.testing.assert_allclose(noise.std(axis=0), 0.2, rtol=0.05)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.02)
    assert len(np.unique(noise)) > 7990  # a number for each row and each dimension
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.05
    assert abs(np.corrcoef(noise[1:, 0], noise[:-1, 0])[0, 1]) < 0.05


def test_td3_target_noise_is_clipped():
    torch.manual_seed(0)
    noise = td3_noisy_actions(torch.zeros(1000, 2), target_noise=0.2, noise_clip=0.1)
    np.testing.assert_allclose([noise.min(), noise.max()], [-0.1, 0.1], rtol=1e-6)
    # P(|N(0, 0.2)| > 0.1) = 0.62: clipped, not drawn again
    assert 0.5 < (np.abs(noise) > 0.0999).mean() < 0.7
    mu = torch.tensor([0.9, -0.9]).repeat(1000, 1)
    a2 = td3_noisy_actions(mu, target_noise=0.2, noise_clip=0.5)
    assert a2[:, 0].max() == 1 and a2[:, 1].min() == -1  # the action stays within its bounds
    assert a2[:, 0].min() >= 0.4 - 1e-6 and a2[:, 1].max() <= -0.4 + 1e-6


@off_policy
def test_loss_q(algo):
    ac, y = set_by_hand(make_ac(algo)), np.array([0.5, -1.0, 2.0])
    loss_q, info = algo.compute_loss_q(ac, BATCH, f32(y))
    names, qs = [("values/q", hand_q1(S, A))], [hand_q1(S, A)]
    if algo is not ddpg:
        names, qs = [("values/q1", qs[0]), ("values/q2", hand_q2(S, A))], [qs[0], hand_q2(S, A)]
    close(loss_q, sum(((q - y) ** 2).sum() / 3 for q in qs))
    close(info["losses/q"], sum(((q - y) ** 2).sum() / 3 for q in qs))
    for name, q in names:
        close(info[name], q)
    loss_q.backward()
    for critic, q in zip(critics(ac), qs):  # each Q has its own gradient, of the mean of squares
        grad = (2 * (q - y)[:, None] * np.hstack([S, A])).mean(axis=0)
        close(critic.net[0].weight.grad, grad[None])
    assert all(p.grad is None for p in ac.pi.parameters())


@off_policy
def test_critics_return_one_axis(algo):
    for q in critics(algo.ActorCritic(OBS, ACT, algo.Args(hidden_sizes=(4,)))):
        assert q(torch.zeros(5, 2), torch.zeros(5, 2)).shape == (5,)


@on_policy
@pytest.mark.parametrize("act", [ACT, CHOICE])
def test_shapes_on_policy(algo, act):
    ac = algo.ActorCritic(OBS, act, algo.Args(hidden_sizes=(4,)))
    pi = ac.pi(torch.zeros(5, 2))
    for x in (ac.v(torch.zeros(5, 2)), pi.log_prob(pi.sample()), pi.entropy()):
        assert x.shape == (5,)


@siblings(ddpg, td3)
def test_loss_pi_off_policy(algo):
    ac, mu = set_by_hand(make_ac(algo)), hand_mu(S)
    loss_pi, info = algo.compute_loss_pi(ac, BATCH, algo.Args())
    close(loss_pi, -hand_q1(S, mu).sum() / 3)  # of the first Q alone
    assert info["losses/pi"] is loss_pi
    loss_pi.backward()
    close(ac.pi.net[0].bias.grad, -(Q1_W[2:] * (1 - mu**2)).mean(axis=0))


def test_sac_loss_pi():
    a, logp = f32([[0.1], [0.2], [0.3]]).requires_grad_(), f32([-1.0, 2.0, 0.5]).requires_grad_()
    log_alpha = f32(math.log(0.5)).requires_grad_()
    ac = SimpleNamespace(pi=lambda s: (a, logp), log_alpha=log_alpha)
    ac.q1, ac.q2 = lambda s, a: 10 * a[:, 0], lambda s, a: 2 - 0 * a[:, 0]  # 1, 2, 3 and 2, 2, 2
    a.data[1] = 0.15  # 1.5: no tie
    loss_pi, info = sac.compute_loss_pi(ac, BATCH, sac.Args())
    close(loss_pi, (0.5 * -1 - 1 + 0.5 * 2 - 1.5 + 0.5 * 0.5 - 2) / 3)
    close(info["values/alpha"], np.float32(0.5))
    assert info["values/logp"] is logp
    loss_pi.backward()
    close(logp.grad, np.full(3, 0.5 / 3))  # down with log π: up with the entropy
    close(a.grad, np.array([[-10 / 3], [-10 / 3], [0.0]]))  # up with the smaller Q
    assert log_alpha.grad is None


def test_sac_loss_alpha():
    ac = SimpleNamespace(log_alpha=f32(-0.5).requires_grad_())
    logp = f32([3.0, 5.0, 1.0]).requires_grad_()
    loss = sac.compute_loss_alpha(ac, logp, 2)
    close(loss, 0.5 * (1 + 3 - 1) / 3)  # −log α (log π + H) with H = −2
    loss.backward()
    # the entropy −3 is below H = −2, and a step down this gradient raises α
    close(ac.log_alpha.grad, -1.0)
    assert logp.grad is None
    ac.log_alpha.grad = None
    sac.compute_loss_alpha(ac, f32([-3.0, -1.0]), 2).backward()
    close(ac.log_alpha.grad, 4.0)  # entropy 2 is above H: α falls


# SAC's squashed Gaussian --------------------------------------------------------------------------


def make_actor(mu, log_std):
    """An actor whose mean and log σ are the same in all states."""
    actor = sac.Actor(2, len(mu), ()).double()
    set_net(actor, np.zeros((2 * len(mu), 2)), [*mu, *log_std])
    return actor


def test_sac_logp():
    """Against the slope of P(a ≤ x) = Φ((artanh x − μ) / σ): no use of the script's formula."""
    mu, sigma = [0.3, -0.8], [0.5, 0.25]
    torch.manual_seed(0)
    a, logp = make_actor(mu, np.log(sigma))(torch.zeros(100, 2, dtype=torch.float64))
    assert a.shape == (100, 2) and logp.shape == (100,)

    def cdf(x, i):
        return 0.5 * math.erfc((mu[i] - math.atanh(x)) / (sigma[i] * math.sqrt(2)))

    def log_density(x, i, h=1e-5):
        return math.log((cdf(x + h, i) - cdf(x - h, i)) / (2 * h))

    want = np.array([log_density(x, 0) + log_density(y, 1) for x, y in a.tolist()])
    close(logp, want, rtol=1e-4, atol=1e-4)
    u = np.arctanh(a.detach().numpy())
    np.testing.assert_allclose(u.mean(axis=0), mu, atol=0.15)
    np.testing.assert_allclose(u.std(axis=0), sigma, rtol=0.2)
    assert abs(np.corrcoef(u.T)[0, 1]) < 0.2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("u", [0.0, 1.5, -3.0, 9.0, 20.0, -25.0, 30.0, -30.0])
def test_sac_logp_of_large_actions(u, dtype):
    """log(1 − tanh² u) = 2 log 2 − 2 log(eᵘ + e⁻ᵘ).

    Computed as it is usually written, the left side is −∞ from |u| = 20 on.
    """
    actor = make_actor([u, 0.5], [-1.0, 0.25]).to(dtype)
    a, logp = actor(torch.zeros(1, 2, dtype=dtype), deterministic=True)
    jacobian = sum(2 * math.log(2) - 2 * np.logaddexp(x, -x) for x in (u, 0.5))
    want = np.array([-math.log(2 * math.pi) + 1.0 - 0.25 - jacobian])
    close(logp, want, rtol=1e-5 if dtype.itemsize == 4 else 1e-12)
    close(a, np.tanh([[u, 0.5]]))
    logp.sum().backward()
    close(actor.net[0].bias.grad[:2], 2 * np.tanh([u, 0.5]), rtol=1e-4)  # −d/du log(1 − tanh² u)


def test_sac_logp_is_finite_for_any_log_std():
    for log_std in (-100.0, 100.0):
        actor = make_actor([30.0, -30.0], [log_std, log_std]).float()
        a, logp = actor(torch.zeros(50, 2))
        logp.sum().backward()
        assert torch.isfinite(logp).all()
        assert torch.isfinite(actor.net[0].bias.grad).all()
        assert (a.abs() <= 1).all()


# Off-policy: actions and target networks ----------------------------------------------------------


def actions_of(algo, ac, n=3000):
    torch.manual_seed(0)
    s = np.array([1.0, 2.0], dtype=np.float32)
    actions = np.array([algo.get_action(ac, s) for _ in range(n)])
    assert actions.shape == (n, 2) and actions.dtype == np.float32
    return actions.astype(float)


@off_policy
def test_get_action_deterministic(algo):
    ac = set_by_hand(make_ac(algo))
    for s in np.float32(S):
        close(algo.get_action(ac, s, deterministic=True), hand_mu(s).astype(np.float32))


@siblings(ddpg, td3)
def test_get_action_noise(algo):
    ac = make_ac(algo, act_noise=0.1)
    set_net(ac.pi, np.zeros((2, 2)), [0.0, 0.3])
    noise = actions_of(algo, ac) - np.tanh([0.0, 0.3])
    np.testing.assert_allclose(noise.std(axis=0), 0.1, rtol=0.05)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.01)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.06  # a number for each dimension
    wild = actions_of(algo, make_ac(algo, act_noise=5.0), n=200)
    assert wild.min() == -1 and wild.max() == 1
    quiet = actions_of(algo, set_by_hand(make_ac(algo, act_noise=0.0)), n=2)
    close(quiet, np.tile(hand_mu(np.array([1.0, 2.0])), (2, 1)))


def test_sac_get_action():
    ac = make_ac(sac)
    set_net(ac.pi, np.zeros((4, 2)), [0.3, -0.8, math.log(0.5), math.log(0.2)])
    u = np.arctanh(actions_of(sac, ac))
    np.testing.assert_allclose(u.mean(axis=0), [0.3, -0.8], atol=0.03)
    np.testing.assert_allclose(u.std(axis=0), [0.5, 0.2], rtol=0.05)
    assert abs(np.corrcoef(u.T)[0, 1]) < 0.06


@off_policy
def test_update_targets(algo):
    ac, ac_targ = make_ac(algo), make_ac(algo)
    with torch.no_grad():
        for i, (p, p_targ) in enumerate(zip(ac.parameters(), ac_targ.parameters())):
            p.fill_(2.0 + i)
            p_targ.fill_(10.0)
    before = params_of(ac)
    algo.update_targets(ac, ac_targ, 0.9)
    assert all_equal(params_of(ac), before)
    # SAC has no target policy
    kept = {"log_alpha", "pi.net.0.weight", "pi.net.0.bias"} if algo is sac else set()
    for i, (name, p_targ) in enumerate(ac_targ.named_parameters()):
        want = 10.0 if name in kept else 0.9 * 10 + 0.1 * (2 + i)
        close(p_targ, np.full(p_targ.shape, want))


# Off-policy: inside train() -----------------------------------------------------------------------


class Count(gym.Env):
    """Observes (episode number, step number); terminates with reward 1 at the fourth step."""

    observation_space = Box(-np.inf, np.inf, (2,))
    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, discrete=False, render_mode=None):
        self.action_space = CHOICE if discrete else ACT
        self.episode = 0
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return np.array([self.episode, 0], dtype=np.float32), {}

    def step(self, action):
        self.t += 1
        s = np.array([self.episode, self.t], dtype=np.float32)
        return s, float(self.t == 4), self.t == 4, False, {}


@pytest.fixture
def count(tmp_path, monkeypatch):
    """Count, registered under two names, and an empty folder for the runs."""
    monkeypatch.chdir(tmp_path)
    for name, discrete in (("Count-v0", False), ("CountDiscrete-v0", True)):
        kwargs = {"discrete": discrete}
        spec = gym.envs.registration.EnvSpec(name, entry_point=Count, kwargs=kwargs)
        monkeypatch.setitem(gym.registry, name, spec)


def small_args(algo, limit, **kwargs):
    fixed = dict(env_id="Count-v0", max_episode_steps=limit, total_timesteps=8, steps_per_epoch=8)
    fixed |= dict(hidden_sizes=(16,), batch_size=4, update_after=0, num_test_episodes=1)
    return algo.Args(**fixed | kwargs)


@off_policy
def test_policy_step_leaves_q_alone(algo, count, monkeypatch):
    """Between policy loss and target update, the policy changes, but not Q or its gradients."""
    loss_pi, update_targets, seen = algo.compute_loss_pi, algo.update_targets, []

    def grads_and_values(ac):
        qs = [p for q in critics(ac) for p in q.parameters()]
        return [p.grad.clone() for p in qs] + [p.detach().clone() for p in qs], params_of(ac.pi)

    def before(ac, batch, args):
        seen.append(grads_and_values(ac))
        return loss_pi(ac, batch, args)

    def after(ac, ac_targ, polyak):
        (q_before, pi_before), (q, pi) = seen[-1], grads_and_values(ac)
        assert any(x.abs().sum() > 0 for x in q)
        assert all_equal(q, q_before)
        assert not all_equal(pi, pi_before)
        assert all(p.grad is None for p in ac_targ.parameters())
        seen.append(None)
        update_targets(ac, ac_targ, polyak)

    monkeypatch.setattr(algo, "compute_loss_pi", before)
    monkeypatch.setattr(algo, "update_targets", after)
    algo.train(small_args(algo, 3, **({"learn_alpha": True} if algo is sac else {})))
    # 3 episodes of 3 steps. TD3 delays by a count over the whole run: the policy moves at steps 2,
    # 4, 6 and 8, not once in each episode.
    assert seen.count(None) == (4 if algo is td3 else 9)


@off_policy
@pytest.mark.parametrize("limit, length, terminal", [(3, 3, []), (4, 4, [3]), (9, 4, [3])])
def test_stored_transitions(algo, count, monkeypatch, limit, length, terminal):
    """d is true only where terminated; s' is the observation that followed, not a reset's."""
    store, rows = algo.ReplayBuffer.store, []

    def spy(buf, *row):
        rows.append(row)
        store(buf, *row)

    monkeypatch.setattr(algo.ReplayBuffer, "store", spy)
    algo.train(small_args(algo, limit, update_after=1000))
    for t, (s, _, r, s2, d) in enumerate(rows):
        i = t % length
        assert d == (i in terminal) and r == (i == 3)
        assert s[1] == i and s2[1] == i + 1 and s[0] == s2[0]


# Off-policy: the replay buffer --------------------------------------------------------------------


def row(i):
    s = np.float32([i, i + 0.25])
    a = np.float32([i + 0.5, -i])
    s2 = np.float32([i + 1, i + 1.25])
    return s, a, i + 0.125, s2, i % 2 == 1


def filled(algo, n, capacity):
    buf = algo.ReplayBuffer(2, 2, capacity)
    for i in range(n):
        buf.store(*row(i))
    return buf


@off_policy
@pytest.mark.parametrize(
    "n, held", [(1, [0]), (3, [0, 1, 2]), (5, [0, 1, 2, 3, 4]), (13, [8, 9, 10, 11, 12])]
)
def test_replay_buffer(algo, n, held):
    torch.manual_seed(0)
    buf = filled(algo, n, 5)
    batch = buf.sample(1000)
    assert [x.shape for x in batch] == [(1000, 2), (1000, 2), (1000,), (1000, 2), (1000,)]
    assert all(x.dtype == torch.float32 for x in batch)
    drawn = (batch[2] - 0.125).tolist()
    for i, *got in zip(drawn, *batch):
        for x, y in zip(got, row(i)):
            close(x, np.float32(y))  # the five belong to one transition
    assert sorted(set(drawn)) == held  # every row, and nothing else
    assert min(drawn.count(i) for i in held) > 0.7 * 1000 / len(held)  # uniformly


@off_policy
def test_replay_buffer_keeps_copies(algo):
    buf, s = algo.ReplayBuffer(2, 2, 5), np.zeros(2, dtype=np.float32)
    buf.store(s, s, 0.0, s, False)
    s += 1  # some environments reuse their observation's memory like this
    assert all(x.sum() == 0 for x in buf.sample(1))
    batch = buf.sample(1)
    buf.s[0] = 7  # a batch does not change when its rows are overwritten
    assert batch[0].sum() == 0


@off_policy
@pytest.mark.parametrize("n", [0, 2, 4, 5, 11])
def test_replay_buffer_state(algo, n):
    """Empty, partly filled, full or wrapped: a loaded buffer draws and overwrites the same rows."""
    buf, loaded, file = filled(algo, n, 4), algo.ReplayBuffer(2, 2, 4), io.BytesIO()
    torch.save(buf.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for i in range(n, n + 6):
        if i > 0:
            torch.manual_seed(i)
            batch = buf.sample(50)
            torch.manual_seed(i)
            assert all_equal(batch, loaded.sample(50))
        buf.store(*row(i))
        loaded.store(*row(i))


@off_policy
def test_replay_buffer_saves_no_empty_rows(algo):
    file = io.BytesIO()
    torch.save(filled(algo, 3, 10_000).state_dict(), file)
    assert len(file.getvalue()) < 10_000


# On-policy: returns and advantages ----------------------------------------------------------------


def by_sum(r, v, v2, d, end, gamma, lam):
    """Returns and advantages by definition: for each step, a sum over the rest of its path."""
    ret, adv = np.zeros(len(r)), np.zeros(len(r))
    for t in range(len(r)):
        last = next(i for i in range(t, len(r)) if end[i])
        tail = 0.0 if d[last] else v2[last]
        ret[t] = gamma ** (last - t + 1) * tail
        for i in range(t, last + 1):
            ahead = v[i + 1] if i < last else tail
            ret[t] += gamma ** (i - t) * r[i]
            adv[t] += (gamma * lam) ** (i - t) * (r[i] + gamma * ahead - v[i])
    return ret, adv


def random_paths(seed, size=40):
    rng = RNG(seed)
    r, v, v_end = rng.normal(size=(3, size))
    end = rng.random(size) < 0.25
    end[-1] = True
    d = end & (rng.random(size) < 0.5)
    v2 = np.append(v[1:], 0.0)
    v2[end] = 100 * v_end[end]  # large, so that a leak shows
    return r, v, v2, d, end


@on_policy
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("gamma, lam", [(0.9, 0.8), (1.0, 1.0), (0.99, 0.0), (0.0, 0.5)])
def test_returns_and_advantages(algo, seed, gamma, lam):
    r, v, v2, d, end = random_paths(seed)
    ret, adv = by_sum(r, v, v2, d, end, gamma, lam)
    close(algo.compute_returns(r, v2, d, end, gamma), ret, rtol=1e-9, atol=1e-9)
    close(algo.compute_advantages(r, v, v2, d, end, gamma, lam), adv, rtol=1e-9, atol=1e-9)


@on_policy
@pytest.mark.parametrize("d, tail", [(True, 0.0), (False, 100.0)])
def test_last_step_of_the_epoch(algo, d, tail):
    """If the path terminates there, nothing follows; if it is cut, V of the next observation."""
    r = np.array([1.0, 2.0, 3.0])
    v = np.array([10.0, 20.0, 30.0])
    v2 = np.array([20.0, 30.0, 100.0])
    ends = np.array([False, False, d]), np.array([False, False, True])
    ret = np.array([2.75 + tail / 8, 3.5 + tail / 4, 3 + tail / 2])
    close(algo.compute_returns(r, v2, *ends, 0.5), ret)
    delta = [1 + 10 - 10, 2 + 15 - 20, 3 + tail / 2 - 30]
    adv = np.array([delta[0] + delta[1] / 4 + delta[2] / 16, delta[1] + delta[2] / 4, delta[2]])
    close(algo.compute_advantages(r, v, v2, *ends, 0.5, 0.5), adv)


@on_policy
def test_nothing_leaks_across_a_path_end(algo):
    r, v, v2, d, end = random_paths(0)

    def both(r, v, v2):
        ret = algo.compute_returns(r, v2, d, end, 0.9)
        adv = algo.compute_advantages(r, v, v2, d, end, 0.9, 0.8)
        return np.stack([ret, adv])

    for first in np.flatnonzero(end[:-1]) + 1:  # of the next path
        later = 1000.0 * (np.arange(len(r)) >= first)
        same = both(r, v, v2) == both(r + later, v + later, v2 + later)
        assert same[:, :first].all() and not same[:, first:].any()


# On-policy: distributions by hand -----------------------------------------------------------------

MU_W, MU_B = np.array([[0.5, -0.25], [1.0, 0.75]]), np.array([0.1, -0.2])
LOG_STD = np.array([-0.5, 0.3])
LOGIT_W, LOGIT_B = np.array([[1.0, 0.5], [-0.5, 0.25], [0.0, -1.0]]), np.array([0.1, 0.0, -0.3])
V_W, V_B = np.array([2.0, -3.0]), 0.5
CHOICES = np.array([2, 0, 1])


def gaussian_logp(s, a, weight=MU_W, bias=MU_B, log_std=LOG_STD):
    """log N(a; μ, σ), summed over dimensions, and its derivatives with respect to μ and log σ."""
    z = (a - s @ weight.T - bias) / np.exp(log_std)
    logp = (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(axis=1)
    return logp, z / np.exp(log_std), z**2 - 1


def categorical_p(s):
    e = np.exp(s @ LOGIT_W.T + LOGIT_B)
    return e / e.sum(axis=1, keepdims=True)


def gaussian_ac(algo, dtype=torch.float32):
    ac = make_ac(algo).to(dtype)
    set_net(ac.pi, MU_W, MU_B)
    set_net(ac.v, [V_W], [V_B])
    ac.pi.log_std.data = torch.tensor(LOG_STD, dtype=dtype)
    return ac


def categorical_ac(algo):
    ac = make_ac(algo, CHOICE)
    set_net(ac.pi, LOGIT_W, LOGIT_B)
    set_net(ac.v, [V_W], [V_B])
    return ac


@on_policy
def test_gaussian(algo):
    pi = gaussian_ac(algo).pi(f32(S))
    close(pi.log_prob(f32(A)), gaussian_logp(S, A)[0])
    close(pi.entropy(), np.full(3, (0.5 + 0.5 * math.log(2 * math.pi) + LOG_STD).sum()))


@on_policy
def test_categorical(algo):
    pi, p = categorical_ac(algo).pi(f32(S)), categorical_p(S)
    close(pi.log_prob(torch.tensor(CHOICES)), np.log([p[0, 2], p[1, 0], p[2, 1]]))
    close(pi.entropy(), -(p * np.log(p)).sum(axis=1))


@on_policy
def test_get_action_gaussian(algo):
    # μ = 1.6, 5.3: outside the bounds, and not clipped
    ac, s = gaussian_ac(algo), np.array([4.0, 2.0])
    mu = s @ MU_W.T + MU_B
    close(algo.get_action(ac, np.float32(s), deterministic=True), mu)
    torch.manual_seed(0)
    a = np.array([algo.get_action(ac, np.float32(s)) for _ in range(3000)])
    assert a.shape == (3000, 2)
    np.testing.assert_allclose(a.mean(axis=0), mu, atol=0.06)
    np.testing.assert_allclose(a.std(axis=0), np.exp(LOG_STD), rtol=0.05)
    assert abs(np.corrcoef(a.T)[0, 1]) < 0.06


@on_policy
def test_get_action_categorical(algo):
    ac, s = categorical_ac(algo), np.float32([-0.5, -1.0])
    p = categorical_p(s.astype(float)[None])[0]
    a = algo.get_action(ac, s, deterministic=True)
    assert a.shape == () and a.dtype == np.int64 and a == p.argmax() != 0
    torch.manual_seed(0)
    counts = np.bincount([algo.get_action(ac, s) for _ in range(3000)], minlength=3)
    np.testing.assert_allclose(counts / 3000, p, atol=0.03)


# On-policy: the batch -----------------------------------------------------------------------------


@on_policy
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("last_d", [False, True])
def test_compute_batch(algo, discrete, last_d):
    """Three paths: one terminates, one is cut by a time limit, one ends with the epoch."""
    ac = categorical_ac(algo) if discrete else gaussian_ac(algo)
    rng = RNG(0)
    s, s2, r = rng.normal(size=(6, 2)), rng.normal(size=(6, 2)), rng.normal(size=6)
    a = rng.integers(3, size=6) if discrete else rng.normal(size=(6, 2))
    d, end = np.array([0, 1, 0, 0, 0, last_d], bool), np.array([0, 1, 0, 0, 1, 1], bool)
    s2[[0, 2, 3]] = s[[1, 3, 4]]
    s2[1] = 1e6  # the value of a terminal state must not be used
    buf = algo.PathBuffer(OBS, CHOICE if discrete else ACT, 6)
    # what an earlier epoch left in the buffer must not be used either
    for t in range(6):
        buf.store(t, 9 + 0 * s[t], a[t], r[t], s2[t], False, True)
    for t in range(6):
        buf.store(t, s[t], a[t], r[t], s2[t], d[t], end[t])
    args = algo.Args(gamma=0.9, lam=0.8)
    got = algo.compute_batch(ac, buf, args)

    ret, adv = by_sum(r, s @ V_W + V_B, s2 @ V_W + V_B, d, end, 0.9, 0.8)
    logp = np.log(categorical_p(s)[range(6), a]) if discrete else gaussian_logp(s, a)[0]
    for x, y in zip(got, (s, a, ret, (adv - adv.mean()) / adv.std(), logp), strict=True):
        close(x, y, rtol=1e-4, atol=1e-5)
    dtypes = [torch.float32] * 5
    if discrete:
        dtypes[1] = torch.int64
    assert [x.dtype for x in got] == dtypes
    assert abs(got[3].mean()) < 1e-6 and abs(got[3].std(correction=0) - 1) < 1e-5
    assert torch.equal(got[4], ac.pi(got[0]).log_prob(got[1]))
    assert not any(x.requires_grad for x in got)


@on_policy
@pytest.mark.parametrize("env_id", ["Count-v0", "CountDiscrete-v0"])
@pytest.mark.parametrize(
    "steps, limit, d, end",
    [(8, None, [3, 7], [3, 7]), (6, None, [3], [3, 5]), (7, 3, [], [2, 5, 6])],
)
def test_collected_epoch(algo, count, monkeypatch, env_id, steps, limit, d, end):
    """A termination on the last step counts; a cut path keeps the observation that followed."""
    compute_batch, bufs = algo.compute_batch, []

    def spy(ac, buf, args):
        bufs.append(deepcopy(buf))
        return compute_batch(ac, buf, args)

    monkeypatch.setattr(algo, "compute_batch", spy)
    epochs = dict(total_timesteps=2 * steps, steps_per_epoch=steps, max_episode_steps=limit)
    algo.train(algo.Args(env_id=env_id, **epochs, train_v_iters=1))
    assert len(bufs) == 2
    for buf in bufs:
        assert np.flatnonzero(buf.d).tolist() == d and np.flatnonzero(buf.end).tolist() == end
        starts = [0, *(np.array(end) + 1)][: len(end)]
        # each path, and each epoch, begins with a reset
        assert buf.s[starts, 1].tolist() == [0] * len(end)
        assert np.array_equal(buf.s2, buf.s + np.float32([0, 1]))


@on_policy
@pytest.mark.parametrize("env_id", ["Count-v0", "CountDiscrete-v0"])
def test_each_epoch_acts_by_its_own_policy(algo, count, monkeypatch, env_id):
    """Apart from noise, an epoch's actions are those of the policy that PyTorch has at its end."""
    compute_batch, weights = algo.compute_batch, []

    def noise(pi, n):
        return np.full((n, pi.net[-1].out_features), 0.5, np.float32)

    for actor in (algo.GaussianActor, algo.CategoricalActor):
        monkeypatch.setattr(actor, "noise", noise)

    def spy(ac, buf, args):
        out = ac.pi.net(torch.as_tensor(buf.s)).detach() + 0.5  # with 0, no gradient would reach μ
        close(buf.a, out if buf.a.ndim == 2 else out.argmax(dim=1), rtol=1e-5)
        weights.append(params_of(ac.pi))
        return compute_batch(ac, buf, args)

    monkeypatch.setattr(algo, "compute_batch", spy)
    monkeypatch.setattr(algo, "check_snapshot", lambda *args: None)  # it expects real noise
    knobs = dict(total_timesteps=24, steps_per_epoch=8, train_v_iters=1)
    if algo is not trpo:
        knobs["pi_lr"] = 0.01
    algo.train(algo.Args(env_id=env_id, **knobs))
    assert len(weights) == 3
    assert not all_equal(weights[0], weights[1])
    assert not all_equal(weights[1], weights[2])


@on_policy
def test_the_snapshot_takes_tanh_and_linear_in_any_order_and_refuses_other_layers(algo):
    ac, s, nn = gaussian_ac(algo), f32([1, -2]), torch.nn
    width = ac.pi.net[-1].out_features
    for net in ([*ac.pi.net, nn.Tanh()], ac.pi.net[::2], [*ac.pi.net, nn.Linear(width, width)]):
        ac.pi.net = nn.Sequential(*net)
        close(algo.snapshot(ac.pi)(s.numpy(), 0.0), ac.pi.net(s).detach())
    for layer in (nn.ReLU(), nn.LayerNorm(width), nn.Linear(width, width, bias=False)):
        ac.pi.net = nn.Sequential(*net, layer)
        with pytest.raises(logx.Stop, match="snapshot"):
            algo.snapshot(ac.pi)(s.numpy(), 0.0)


# On-policy: losses and updates --------------------------------------------------------------------

RET = np.array([1.0, -2.0, 0.5])
ADV = np.array([1.5, -0.5, -1.0])
LOGP_OLD = np.array([-2.0, -3.0, -2.5])


@on_policy
@pytest.mark.parametrize("discrete", [False, True])
def test_loss_pi_on_policy(algo, discrete):
    ac, a = (categorical_ac(algo), CHOICES) if discrete else (gaussian_ac(algo), A)
    logp = np.log(categorical_p(S)[range(3), a]) if discrete else gaussian_logp(S, a)[0]
    batch = f32(S), torch.tensor(a) if discrete else f32(a), f32(RET), f32(ADV), f32(LOGP_OLD)
    loss_pi, info = algo.compute_loss_pi(ac, batch, algo.Args())
    ratio = np.exp(logp - LOGP_OLD)
    terms = {
        "vpg": logp * ADV,
        "trpo": ratio * ADV,
        "ppo": np.minimum(ratio * ADV, np.clip(ratio, 0.8, 1.2) * ADV),
    }
    close(loss_pi, -terms[algo.__name__].mean())
    if discrete:
        entropy = -(categorical_p(S) * np.log(categorical_p(S))).sum(axis=1)
    else:
        entropy = np.full(3, 1 + math.log(2 * math.pi) + LOG_STD.sum())
    close(info["values/entropy"], entropy)
    if algo is not trpo:
        close(info["values/kl"], LOGP_OLD - logp)
    if algo is ppo:
        close(info["values/clip_frac"], ((ratio < 0.8) | (ratio > 1.2)).astype(float))


@pytest.mark.parametrize(
    "adv, ratio, loss, moves",
    [
        (2.0, 1.5, -2.4, False),  # good, and more likely by more than ε: nothing left to gain
        (2.0, 0.5, -1.0, True),  # good, but less likely: the clip must not stop the way back
        (-2.0, 1.5, 3.0, True),  # bad, but more likely: the same
        (-2.0, 0.5, 1.6, False),  # bad, and already less likely: nothing left to gain
        (2.0, 1.1, -2.2, True),
        (-2.0, 0.9, 1.8, True),
    ],
)
def test_ppo_clip(adv, ratio, loss, moves):
    ac = gaussian_ac(ppo)
    logp, by_mu, by_log_std = gaussian_logp(S[:1], A[:1])
    batch = [f32(x) for x in (S[:1], A[:1], RET[:1], [adv], logp - math.log(ratio))]
    loss_pi, _ = ppo.compute_loss_pi(ac, batch, ppo.Args(clip_ratio=0.2))
    close(loss_pi, loss)
    loss_pi.backward()
    close(ac.pi.net[0].bias.grad, -moves * adv * ratio * by_mu[0], rtol=1e-4)
    close(ac.pi.log_std.grad, -moves * adv * ratio * by_log_std[0], rtol=1e-4)


@on_policy
def test_loss_v(algo):
    ac = gaussian_ac(algo)
    v = S @ V_W + V_B
    loss_v, info = algo.compute_loss_v(ac, [f32(x) for x in (S, A, RET, ADV, LOGP_OLD)])
    close(loss_v, ((v - RET) ** 2).sum() / 3)
    close(info["values/v"], v)
    close(info["losses/v"], ((v - RET) ** 2).sum() / 3)
    close(info["values/explained_variance"], 1 - np.var(RET - v) / np.var(RET))


@on_policy
def test_update_v(algo):
    ac = gaussian_ac(algo, torch.float64)
    pi = params_of(ac.pi)
    args = algo.Args(train_v_iters=3)
    batch = [f64(x) for x in (S, A, RET, ADV, LOGP_OLD)]
    info = algo.update_v(ac, batch, args, torch.optim.SGD(ac.v.parameters(), lr=0.1))
    weight, bias, losses = V_W.copy(), V_B, []
    for _ in range(3):
        error = S @ weight + bias - RET
        losses.append((error**2).mean())
        weight, bias = weight - 0.1 * 2 * (error @ S) / 3, bias - 0.1 * 2 * error.mean()
    close(ac.v.net[0].weight, weight[None])
    close(ac.v.net[0].bias, np.array([bias]))
    close(info["losses/v"], losses[0])  # from before the steps
    close(info["values/v"], S @ V_W + V_B)
    close(info["losses/delta_v"], ((S @ weight + bias - RET) ** 2).mean() - losses[0])
    assert all_equal(params_of(ac.pi), pi)


def ascend(weights, s, a, by_logp, lr):
    """One step of gradient ascent on mean by_logp · log π(a|s)."""
    _, by_mu, by_log_std = gaussian_logp(s, a, *weights)
    by_mu, by_log_std = by_logp[:, None] * by_mu, by_logp[:, None] * by_log_std
    grads = by_mu.T @ s / len(s), by_mu.mean(axis=0), by_log_std.mean(axis=0)
    return [w + lr * g for w, g in zip(weights, grads)]


def check_pi(ac, weights):
    for x, y in zip((ac.pi.net[0].weight, ac.pi.net[0].bias, ac.pi.log_std), weights):
        close(x, y)


def gaussian_batch(size=50):
    s = RNG(0).normal(size=(size, 2))
    a = RNG(1).normal(size=(size, 2))
    adv = RNG(2).normal(size=size)
    logp_old = gaussian_logp(s, a)[0]
    return s, a, adv, logp_old, [f64(x) for x in (s, a, 0 * adv, adv, logp_old)]


def test_vpg_update_pi():
    ac = gaussian_ac(vpg, torch.float64)
    value = params_of(ac.v)
    s, a, adv, logp_old, batch = gaussian_batch()
    info = vpg.update_pi(ac, batch, vpg.Args(), torch.optim.SGD(ac.pi.parameters(), lr=0.1))
    weights = ascend((MU_W, MU_B, LOG_STD), s, a, adv, 0.1)
    logp = gaussian_logp(s, a, *weights)[0]
    check_pi(ac, weights)
    close(info["losses/pi"], -(logp_old * adv).mean())
    # of the policy after the step, as is the KL: not 0
    close(info["losses/delta_pi"], -((logp - logp_old) * adv).mean())
    close(info["values/kl"], logp_old - logp)
    close(info["values/entropy"], np.full(50, 1 + math.log(2 * math.pi) + weights[2].sum()))
    assert abs((logp_old - logp).mean()) > 1e-3 and all_equal(params_of(ac.v), value)


def test_ppo_update_pi():
    """No step is skipped, and the KL and clip fraction are those of the final policy."""
    ac, args = gaussian_ac(ppo, torch.float64), ppo.Args(train_pi_iters=20, clip_ratio=0.1)
    s, a, adv, logp_old, batch = gaussian_batch()
    info = ppo.update_pi(ac, batch, args, torch.optim.SGD(ac.pi.parameters(), lr=0.05))

    weights, clipped = (MU_W, MU_B, LOG_STD), []
    for _ in range(20):
        ratio = np.exp(gaussian_logp(s, a, *weights)[0] - logp_old)
        gains = np.where(adv > 0, ratio <= 1.1, ratio >= 0.9)
        weights = ascend(weights, s, a, gains * ratio * adv, 0.05)
        clipped.append(not gains.all())
    assert clipped == [False] + 19 * [True]  # the clip acts, so a stale ratio would show
    check_pi(ac, weights)
    logp = gaussian_logp(s, a, *weights)[0]
    ratio = np.exp(logp - logp_old)
    close(info["values/kl"], logp_old - logp)
    close(info["values/clip_frac"], abs(ratio - 1) > 0.1)
    loss_new = -np.minimum(ratio * adv, np.clip(ratio, 0.9, 1.1) * adv).mean()
    close(info["losses/pi"], -adv.mean())
    close(info["losses/delta_pi"], loss_new + adv.mean())
